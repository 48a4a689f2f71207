"""Seven estimators of a bound on log p(x): their gradients against exact ones, and three of them on MNIST.

A linear-Gaussian model knows log p(x) and its posterior, so the mean gradient of each estimator and its noise can be
compared with the truth: more samples make IWAE's bound tighter and its encoder's gradient noisier, as S^-1/2 (Rainforth
et al., 2018), while DReG's signal grows as S^1/2 (Tucker et al., 2018). Then a VAE, IWAE with 5 samples and DReG learn
binarised digits, and importance sampling measures what each model has learned.

    .venv/bin/python experiments/estimators.py
    .venv/bin/python experiments/estimators.py --full    # all of MNIST, 20 epochs
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Run, banded, command, experiment, mapped, part

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import importance, vae
from ae_jax.core import Algorithm, Batch, address
from ae_jax.distributions import likelihoods
from ae_jax.evaluation.codes import active_units, encode
from ae_jax.evaluation.likelihood import log_likelihood
from ae_jax.objectives.estimators import estimator
from ae_jax.objectives.latent import latent_model

NAMES = ("elbo", "stl", "iwae", "dreg", "miwae", "piwae", "ciwae")
ARMS = ("VAE", "IWAE", "DReG")
# Written before the first run.
CLAIMS = {
    "IWAE minus VAE minus 0.5, test log-likelihood, nats": "IWAE's model is better than the VAE's by half a nat",
    "IWAE minus VAE, active units": "IWAE uses more of its code",
    "0.2 minus distance of DReG from IWAE, test log-likelihood, nats": "DReG learns as good a model",
    "0.15 minus distance of IWAE's slope of the encoder's signal from -1/2": "more samples drown IWAE's encoder",
    "0.15 minus distance of DReG's slope of the encoder's signal from 1/2": "more samples help DReG's encoder",
    "0.15 minus distance of IWAE's slope of the decoder's signal from 1/2": "more samples help the decoder",
    "1e-4 minus DReG's gradient at the exact posterior": "DReG's encoder has no noise where it is done",
    "1e-4 minus STL's gradient at the exact posterior": "STL's encoder has no noise where it is done",
}
BETTER, ACTIVE, LEVEL, DROWNS, HELPS, DECODER, DONE, LANDED = CLAIMS


@experiment(
    title="Estimators of bounds: exact gradients, and VAE, IWAE-{samples} and DReG-{samples} on {data}",
    source="Burda et al. (2016), arXiv:1509.00519; Tucker et al. (2018), arXiv:1810.04152; Rainforth et al. (2018), "
    "arXiv:1802.04537",
    seeds=3,
    full={"images": 60000, "epochs": 20},
    claims=CLAIMS,
    notes=[
        "The exact model: 20 numbers x from 5 latents, the encoder's biases off their exact values by N(0, 0.03^2). "
        "Signal over noise is |mean| / standard deviation of one parameter's gradient over draws, its mean "
        "over parameters. The mean of both encoders is that of DReG's draws, which have the least noise. Slopes "
        "are those of log signal over log S, for S up to {largest}.",
        "MNIST's pixels are drawn anew from the grey values in every step, and once for the test set. The "
        "log-likelihood is by {weights} importance samples of each of {tested} test images.",
    ],
)
def main(
    run: Run,
    *,
    images: int = 10000,  # training images
    epochs: int = 20,  # passes over them
    samples: int = 5,  # draws of IWAE and DReG
    latents: int = 50,  # size of the code
    hidden: tuple[int, ...] = (300, 300),  # widths of the layers, each way
    batch_size: int = 100,  # examples in a step
    weights: int = 500,  # importance samples of the log-likelihood
    tested: int = 1000,  # test images
    draws: int = 4000,  # gradients of the exact model at each number of samples
    largest: int = 64,  # samples of the exact model, at most; a power of 2
):
    """Measures gradients on an exact model, and trains three members on MNIST."""
    sizes = [2**i for i in range(2, largest.bit_length())]
    signals = run.computed("exact model", mapped(partial(signals_of, sizes=sizes, draws=draws)), run.keys("exact"))
    slope = lambda kind: np.polyfit(np.log(sizes), np.log(np.asarray(signals[kind])).T, 1)[0]  # [seeds]
    run.metrics |= {
        "IWAE, slope of the encoder's signal": slope("iwae, encoder"),
        "DReG, slope of the encoder's signal": slope("dreg, encoder"),
        "IWAE, slope of the decoder's signal": slope("iwae, decoder"),
        DROWNS: 0.15 - np.abs(slope("iwae, encoder") + 0.5),
        HELPS: 0.15 - np.abs(slope("dreg, encoder") - 0.5),
        DECODER: 0.15 - np.abs(slope("iwae, decoder") - 0.5),
    }
    for name in NAMES:
        run.metrics[f"{name}, encoder's gradient at the exact posterior"] = np.asarray(signals[f"{name}, done"])
    run.metrics[DONE] = 1e-4 - run.metrics["dreg, encoder's gradient at the exact posterior"]
    run.metrics[LANDED] = 1e-4 - run.metrics["stl, encoder's gradient at the exact posterior"]

    whole, test_set = run.data()
    train_set = Batch(jnp.asarray(part(whole.x, images)))
    test_set = Batch(jnp.asarray(datasets.binarise(np.asarray(test_set.x[:tested]), seed=1)))
    net = networks.mlp(train_set.x.shape[1:], latents, hidden=hidden, heads=2, activation="tanh")
    adam = optax.adam(1e-3)
    many = partial(importance, net, adam, samples=samples)
    members: dict[str, Algorithm] = dict(zip(ARMS, (vae(net, adam), many(), many(estimator="dreg")), strict=True))
    for arm, algorithm in members.items():
        trained = run.train(arm, algorithm, train_set, transform=datasets.dynamic_binarise)
        measure = mapped(partial(measured, algorithm, samples=weights))
        found = run.computed(f"{arm}, measured", measure, (trained.params, run.keys("likelihood")), test_set)
        run.metrics[f"{arm}, test log-likelihood, nats"] = np.asarray(found["log_likelihood"])
        run.metrics[f"{arm}, active units"] = np.asarray(found["active_units"])
        run.metrics[f"{arm}, test bound by one draw, nats"] = run.evaluate(algorithm, trained.params, test_set)["elbo"]
    levels = [run.metrics[f"{arm}, test log-likelihood, nats"] for arm in ARMS]
    run.metrics[BETTER] = levels[1] - levels[0] - 0.5
    run.metrics[LEVEL] = 0.2 - np.abs(levels[2] - levels[1])
    return lambda: figure(sizes, signals, dict(zip(ARMS, levels, strict=True)))


def measured(algorithm: Algorithm, one, data: Batch, samples: int):
    """The log-likelihood of test images by importance sampling, and the active units. -> [] each."""
    params, key = one
    return {
        "log_likelihood": log_likelihood(algorithm, params, data, key, samples).mean(),
        "active_units": active_units(encode(algorithm, params, data.x)),
    }


def signals_of(key, sizes, draws):
    """On a linear-Gaussian model: signal over noise of gradients, [sizes]; and noise at the exact posterior, []."""
    sigma, latents, size = 0.5, 5, 20
    k_model, k_x, k_off, k_draw = (address(key, name) for name in ("model", "x", "off", "draws"))
    kernel = jax.random.normal(k_model, (latents, size))
    kernel = jnp.linalg.qr(kernel.T)[0].T  # orthonormal rows: the posterior's covariance is diagonal
    net = networks.linear((size,), latents, heads=2)
    model = latent_model(net, likelihoods.gaussian(sigma))
    precision = 1 + 1 / sigma**2
    gain = kernel.T / sigma**2 / precision
    layer = lambda kernel, bias: {"layer_0": {"kernel": kernel, "bias": bias}}
    exact = {
        "encoder": layer(
            jnp.concatenate([gain, jnp.zeros_like(gain)], 1),
            jnp.concatenate([jnp.zeros(latents), jnp.full(latents, -jnp.log(precision))]),
        ),
        "decoder": layer(kernel, jnp.zeros(size)),
    }
    x = jax.random.normal(k_x, (1, size)) * (1 + sigma**2) ** 0.5
    biases = exact["encoder"]["layer_0"]["bias"]
    off = exact | {
        "encoder": layer(exact["encoder"]["layer_0"]["kernel"], biases + 0.03 * jax.random.normal(k_off, biases.shape))
    }

    def gradients(params, path, name, samples, count):
        row = estimator(name, samples, samples // 2 if name in ("miwae", "piwae") else None, 0.05)

        def bound(biases, key):  # of the biases alone: 2K of the encoder, D of the decoder
            moved = {g: layer(params[g]["layer_0"]["kernel"], biases[g]) for g in biases}
            found = model.draw(moved, Batch(x), key, samples, train=True, estimator=row).bound
            assert found is not None
            return found.sum()

        biases = {g: params[g]["layer_0"]["bias"] for g in params}
        keys = jax.random.split(address(k_draw, path, name, samples), count)
        return jax.lax.map(lambda key: jax.grad(bound)(biases, key), keys, batch_size=250)  # each [count, ...]

    found = {"iwae, encoder": [], "dreg, encoder": [], "iwae, decoder": []}
    for samples in sizes:
        iwae, dreg = (gradients(off, "off", name, samples, draws) for name in ("iwae", "dreg"))
        signal = jnp.abs(dreg["encoder"].mean(0))
        for name, g in (("iwae", iwae), ("dreg", dreg)):
            found[f"{name}, encoder"].append((signal / g["encoder"].std(0)).mean())
        found["iwae, decoder"].append((jnp.abs(iwae["decoder"].mean(0)) / iwae["decoder"].std(0)).mean())
    done = {f"{n}, done": jnp.abs(gradients(exact, "exact", n, 4, 250)["encoder"]).mean() for n in NAMES}
    return {name: jnp.stack(values) for name, values in found.items()} | done


def figure(sizes, signals, levels):
    """Signal over noise by the number of samples, and the log-likelihood of each arm."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 3.6), dpi=100, layout="constrained")
    left, right = drawn.subplots(1, 2, width_ratios=(3, 2))
    for name in ("iwae, encoder", "dreg, encoder", "iwae, decoder"):
        banded(left, sizes, np.asarray(signals[name]).T, name)
    left.set(xscale="log", yscale="log", xlabel="samples", ylabel="signal over noise of a gradient")
    left.legend(frameon=False, fontsize=8)
    for i, values in enumerate(levels.values()):
        right.plot([i] * len(values), values, "o")
    right.set_xticks(range(len(levels)), levels)
    right.set(ylabel="test log-likelihood, nats", xlim=(-0.5, len(levels) - 0.5))
    return drawn


if __name__ == "__main__":
    command(main)
