"""Text search: codes of a deep autoencoder against latent semantic analysis, on Reuters-21578.

Hinton & Salakhutdinov (2006), Science 313:504, fig. 4, searched RCV1-v2, which cannot be had here; so an ordering is
what can be compared. Documents are bags of 2000 words; each test document is a query among the other test documents,
and one with a topic in common is relevant. LSA is a truncated SVD of log(1 + counts); both rank by the cosine.

    NLTK_DATA=../shared/data/nltk_data python experiments/text_search.py
"""

import time

import jax.numpy as jnp
import numpy as np
import optax

from ae_jax import core, networks
from ae_jax import data as datasets
from ae_jax.algorithms import autoencoder
from ae_jax.evaluation import retrieval
from ae_jax.experiment import banded, codes, record
from ae_jax.run import train

CUTS = (1, 3, 7, 15, 31, 63, 127, 255, 511, 1023)  # documents retrieved, as in figure 4
# Written before the first run: the paper's ordering, at the cuts' mean precision.
CLAIMS = {
    "autoencoder-10 minus LSA-10, mean precision, %": "ten learned numbers find more than ten of LSA's",
    "autoencoder-10 minus LSA-50, mean precision, %": "ten learned numbers find more than fifty of LSA's",
    "autoencoder-2 minus LSA-2, mean precision, %": "so do two",
}


def precision(z: np.ndarray, topics: np.ndarray) -> np.ndarray:
    """Mean precision at each of `CUTS` over all queries, by the cosine of codes [N, K]; topics bool [N, T]. -> [10]."""
    unit = np.asarray(retrieval.unit(jnp.asarray(z)))
    shared = topics.astype(np.float32) @ topics.T.astype(np.float32) > 0
    totals = np.zeros(len(CUTS))
    for i in range(0, len(z), 500):
        likeness = unit[i : i + 500] @ unit.T
        likeness[np.arange(len(likeness)), np.arange(i, i + len(likeness))] = -np.inf  # a query is not among the found
        order = np.argsort(-likeness, axis=1, kind="stable")[:, : max(CUTS)]
        relevant = np.take_along_axis(shared[i : i + 500], order, 1)
        totals += [retrieval.precision_at(relevant, min(cut, len(z) - 1)).sum() for cut in CUTS]
    return 100 * totals / len(z)


def main(
    *,
    seeds: int = 3,
    seed: int = 0,
    epochs: int = 50,
    words: int = 2000,
    hidden: tuple[int, ...] = (500, 250, 125),
    batch_size: int = 128,
    topics_shown: int = 5,
    data: str = "reuters",
    out: str = "results",
):
    """Trains autoencoders of 10 and of 2 numbers on the training documents and searches the test documents.

    Args:
        seeds: how many runs of each.
        seed: the first of them.
        epochs: passes over the training documents.
        words: size of the vocabulary.
        hidden: widths of the encoder's layers before the code.
        batch_size: documents in a step.
        topics_shown: how many of the commonest topics the maps colour.
        data: what `ae_jax.data.load` takes; documents with topics: reuters, or a folder with a folder for each.
        out: folder for the record.
    """
    from matplotlib.figure import Figure
    from sklearn.decomposition import TruncatedSVD

    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    counts = datasets.load(data, words=words, count_words=True)
    words = len(counts.vocabulary)
    if counts.factors is not None:
        topics, names = counts.factors[1] > 0, counts.factor_names
    elif counts.test.y is not None:
        topics, names = np.eye(len(counts.classes), dtype=bool)[np.asarray(counts.test.y)], counts.classes
    else:
        raise ValueError(f"{data} has documents without topics; give each topic's its own folder")
    probability = lambda x: x / np.maximum(x.sum(1, keepdims=True), 1)
    train_set, test_set = (core.Batch(jnp.asarray(probability(np.asarray(part.x)))) for part in counts)
    learned, held_out = datasets.validation_split(train_set, 0.1, seed=0)  # which chooses each seed's epoch
    print(counts)

    curves: dict[str, np.ndarray] = {}
    maps: dict[str, np.ndarray] = {}
    for latents in (10, 2):
        print(f"{seeds} autoencoders of {latents} numbers, {epochs} epochs")
        net = networks.mlp((words,), latents, hidden=hidden, activation="relu")
        algorithm = autoencoder(net, optax.adam(1e-3), likelihood="multinomial")
        params = train(
            algorithm, learned, epochs=epochs, batch_size=batch_size, seeds=sweep, validation=held_out
        ).params
        found = codes(algorithm, params, test_set.x)  # [S, N, K]
        curves[f"autoencoder-{latents}"] = np.stack([precision(z, topics) for z in found])
        maps[f"autoencoder-{latents}"] = found[0]
    logs = [np.log1p(np.asarray(part.x)) for part in counts]
    for components in (2, 10, 50):
        print(f"LSA of {components}")
        lsa = TruncatedSVD(components, random_state=0).fit(logs[0])
        maps[f"LSA-{components}"] = lsa.transform(logs[1])
        curves[f"LSA-{components}"] = np.tile(precision(maps[f"LSA-{components}"], topics), (seeds, 1))

    metrics = {f"{name}, mean precision, %": values.mean(1) for name, values in curves.items()}
    metrics |= {f"{name}, precision at 1, %": values[:, 0] for name, values in curves.items()}
    for a, b in (("autoencoder-10", "LSA-10"), ("autoencoder-10", "LSA-50"), ("autoencoder-2", "LSA-2")):
        metrics[f"{a} minus {b}, mean precision, %"] = curves[a].mean(1) - curves[b].mean(1)

    figure = Figure(figsize=(13, 4.2), dpi=100, layout="constrained")
    axes = figure.subplots(1, 3)
    for name, values in curves.items():
        banded(axes[0], CUTS, values.T, name)
    axes[0].set(xscale="log", xlabel="documents retrieved", ylabel="precision, %")
    axes[0].legend(fontsize=8)
    common = np.argsort(-topics.sum(0))[:topics_shown]
    only = topics[:, common].sum(1) == 1  # documents of one of these topics
    label = topics[:, common].argmax(1)
    for ax, name in zip(axes[1:], ("autoencoder-2", "LSA-2"), strict=True):
        for i, topic in enumerate(common):
            chosen = only & (label == i)
            ax.scatter(*maps[name][chosen, :2].T, s=3, color=f"C{i}", label=names[topic])
        ax.set(title=name, xticks=[], yticks=[])
    axes[1].legend(markerscale=4, fontsize=8)
    return record(
        __file__,
        metrics,
        title="Text search on Reuters-21578: a deep autoencoder's codes against LSA",
        source="Hinton & Salakhutdinov (2006), Science 313:504, fig. 4",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        claims=CLAIMS,
        notes=[
            f"Mean precision: over {', '.join(map(str, CUTS))} documents retrieved and all test documents as "
            "queries. A tenth of the training documents chooses each run's epoch. Rectified "
            "units, no pretraining and Adam, where the paper has pretrained logistic units. LSA "
            "has no seed: its values are repeated."
        ],
        figure=figure,
        out=out,
    )


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
