"""The objectives, samplers and metrics of other libraries, each with ours; scripts/table.py renders docs/coverage.md.

A `Row` names ours in the form to type: a member and its options after `ae-jax train`, `sample --sampler NAME`, or a
function of the package with its module. tests/test_coverage.py checks that each of them exists.
"""

from collections.abc import Iterable
from typing import NamedTuple

SAMPLE = "sample --sampler "


class Row(NamedTuple):
    """An objective, sampler or metric of another library."""

    theirs: str  # its name in that library
    ours: tuple[str, ...] = ()  # (): ae_jax does not have it yet
    note: str = ""  # the difference, if any
    awaits: str = ""  # a future member or sampler; once it is in the registry, `ours` must name it


class Peer(NamedTuple):
    """A library with its list."""

    title: str
    read: str  # the version that the list was read in
    rows: tuple[Row, ...]


PYTHAE = (
    Row("AE", ("autoencoder",)),
    Row("VAE", ("vae",)),
    Row("BetaVAE", ("vae --beta 4",)),
    Row(
        "DisentangledBetaVAE",
        ("vae --beta 1000 --capacity 25 --capacity-steps 100000",),
        "|mean KL - C|, the paper's; there the mean of |KL - C| over the examples",
    ),
    Row("FactorVAE", ("factor_vae",), "a critic of one logit; there of two, half of the batch to each player"),
    Row(
        "BetaTCVAE",
        ("beta_tc_vae", "beta_tc_vae --sampling weighted"),
        "its stratified weights put 1/N in the first column, not on the diagonal",
    ),
    Row("IWAE", ("importance",)),
    Row("MIWAE", ("importance --estimator miwae --samples 64 --groups 8",), "it swaps the two numbers of draws"),
    Row("PIWAE", ("importance --estimator piwae --samples 64 --groups 8",), "it swaps the two numbers of draws"),
    Row("CIWAE", ("importance --estimator ciwae --beta 0.05",)),
    Row("INFOVAE_MMD", ("info_vae",)),
    Row("WAE_MMD", ("info_vae --posterior delta --likelihood squared",)),
    Row("Adversarial_AE", ("adversarial",), "a deterministic code; there a Gaussian one"),
    Row("VAMP", ("vamp",)),
    Row(
        "VQVAE",
        ("vq_vae",),
        "its quantiser's losses are means over numbers, in later commits sums over the batch; unused vectors diverge",
    ),
    Row("HRQVAE", ("vq_vae --quantiser residual --drop 0.5",), "residual codebooks, without its Gumbel-softmax"),
    Row(
        "RAE_L2",
        ("autoencoder --code-l2 0.001 --weight-l2 1e-6",),
        "the weights of both halves decay, there the decoder's alone; `--code-l2` is half of its `embedding_weight`",
        awaits="rae",
    ),
    Row("RAE_GP", awaits="rae"),
    Row("VAEGAN", awaits="vae_gan"),
    Row("MSSSIM_VAE", awaits="perceptual"),
    Row("VAE_LinNF", awaits="flow_vae"),
    Row("VAE_IAF", awaits="flow_vae"),
    Row("SVAE", awaits="sphere"),
    Row("PoincareVAE", awaits="poincare"),
    Row("HVAE", awaits="hamiltonian"),
    Row("RHVAE", awaits="riemannian"),
)
PYTHAE_SAMPLERS = (
    Row("NormalSampler", (SAMPLE + "normal",)),
    Row("GaussianMixtureSampler", (SAMPLE + "gmm",)),
    Row("MAFSampler", (SAMPLE + "maf",)),
    Row("VAMPSampler", ("vamp",), "the member's own draws; there components come in order, with a tanh added"),
    Row("IAFSampler", awaits="iaf"),
    Row("TwoStageVAESampler", awaits="two_stage"),
    Row("HypersphereUniformSampler", awaits="hypersphere"),
    Row("PoincareDiskSampler", awaits="poincare"),
    Row("PixelCNNSampler", awaits="autoregressive"),
    Row("RHVAESampler", awaits="riemannian"),
)
ON_FACTORS = "evaluation.disentanglement."
DISENTANGLEMENT = (
    Row("beta_vae", (ON_FACTORS + "beta_vae_score",)),
    Row("factor_vae", (ON_FACTORS + "factor_vae_score",)),
    Row("mig", (ON_FACTORS + "mig",)),
    Row("dci", (ON_FACTORS + "dci",)),
    Row(
        "sap_score",
        (ON_FACTORS + "sap", ON_FACTORS + "sap_accuracy"),
        "by squared correlation; for factors without order, by the accuracy of a linear SVM",
    ),
    Row("modularity_explicitness", (ON_FACTORS + "modularity", ON_FACTORS + "explicitness")),
    Row("udr", (ON_FACTORS + "udr",)),
    Row(
        "unsupervised_metrics",
        (
            "evaluation.aggregate.gaussian_total_correlation",
            "evaluation.aggregate.gaussian_wasserstein_correlation",
            ON_FACTORS + "shared_information",
        ),
        "it also gives the Wasserstein correlation before division by the trace",
    ),
    Row("downstream_task", ("evaluation.probes.linear_probe", "evaluation.probes.knn_accuracy"), "one label at a time"),
    Row("irs", (ON_FACTORS + "irs",), "its `num_active_dims` is a sum of codes, not a count"),
    Row("unified_scores"),
    Row("strong_downstream_task"),
    Row(
        "reduced_downstream_task",
        (ON_FACTORS + "reduced_informativeness",),
        "R^2 of regressors; there accuracies of classifiers",
    ),
    Row("fairness"),
)
SAELENS = (
    Row("standard", ("dictionary --form april",), "`--form l1` is the older form, whose rows have length 1"),
    Row("gated", ("dictionary --form gated",), "no gradient of the auxiliary term in the decoder; there it has one"),
    Row("topk", ("dictionary --form topk",)),
    Row("batchtopk", ("dictionary --form batch_topk",)),
    Row("matryoshka_batchtopk", ("dictionary --form matryoshka",)),
    Row("jumprelu", ("dictionary --form jumprelu",)),
    Row("transcoder", ("dictionary --form april --inputs 64",)),
    Row("jumprelu_transcoder", ("dictionary --form jumprelu --inputs 64",)),
    Row("skip_transcoder"),
    Row("jumprelu_skip_transcoder"),
    Row("abstopk"),
    Row("temporal"),
    Row("matching_pursuit"),
)
OF_CODES = "a prior or sampler of codes; there of data, too"
ARTIFEX = (
    Row("VAE", ("vae",)),
    Row("BetaVAE", ("vae --beta 4",), "there the KL is a mean over the code's numbers, beside nats summed over pixels"),
    Row("BetaVAEWithCapacity", ("vae --beta 1000 --capacity 25 --capacity-steps 100000",)),
    Row("VQVAE", ("vq_vae",)),
    Row("ConditionalVAE", awaits="conditional"),
    Row("RealNVP", ("vae --prior realnvp",), OF_CODES),
    Row("MAF", ("vae --prior maf", SAMPLE + "maf"), OF_CODES),
    Row("MADE", ("made",)),
    Row("IAF", awaits="iaf"),
    Row("Glow", awaits="glow"),
    Row("NeuralSplineFlow"),
    Row("PixelCNN", awaits="autoregressive"),
    Row("FrechetInceptionDistance", ("evaluation.samples.frechet_distance",), "on features of your own extractor"),
    Row("PrecisionRecall", ("evaluation.samples.support",)),
    Row("DensityPrecisionRecall", ("evaluation.samples.support",)),
    Row("maximum_mean_discrepancy", ("evaluation.samples.squared_mmd",)),
    Row("InceptionScore"),
)
PEERS = (
    Peer("Objectives of pythae", "version 0.1.2; HRQVAE is in its repository alone", PYTHAE),
    Peer("Samplers of pythae", "version 0.1.2", PYTHAE_SAMPLERS),
    Peer("Metrics of disentanglement_lib", "commit 86a644d", DISENTANGLEMENT),
    Peer("Architectures of SAELens", "version 6.54.12", SAELENS),
    Peer(
        "Autoencoders, flows and metrics of artifex",
        "commit 04d256c; without its GANs, diffusion and geometric models, which are no autoencoders",
        ARTIFEX,
    ),
)


def member_of(ours: str) -> str:
    """The member at the start of a command line; "" for a function or a sampler."""
    name = ours.split()[0]
    return "" if "." in name or ours.startswith(SAMPLE) else name


def shown(ours: str) -> str:
    """An entry of `Row.ours` as a link from a page of docs."""
    if ours.startswith(SAMPLE):
        place = "evaluation/samplers"
    else:
        place = f"algorithms/{member}" if (member := member_of(ours)) else ours.rpartition(".")[0].replace(".", "/")
    return f"[`{ours}`](../ae_jax/{place}.py)"


def counted(rows: Iterable[Row]) -> str:
    """A text on the number of rows that ae_jax has."""
    rows = list(rows)
    return f"{sum(bool(row.ours) for row in rows)} of {len(rows)} are here"
