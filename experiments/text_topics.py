"""Topics read off a linear decoder: which words does each number of a document's code speak for?

After Hinton & Salakhutdinov (2006), Science 313:504, whose decoder is deep. Here it is one affine layer under a softmax
over words, and codes are in [0, 1], so that each row of its weights raises some words: a topic's ten are those it
raises most. How well the ten belong together is measured where nothing was learned, by their mean normalised pointwise
mutual information (NPMI; Bouma, 2009) over pairs in test documents: 1 is always together, 0 as by chance. Beside
them stand LSA's components, the ten largest loadings of the heavier sign, and ten words drawn at random.

    .venv/bin/python experiments/text_topics.py
    .venv/bin/python experiments/text_topics.py --full    # 100 epochs, 10 seeds
"""

import time

import jax.numpy as jnp
import numpy as np
import optax
from study import command, record

from ae_jax import core, networks
from ae_jax import data as datasets
from ae_jax.algorithms import denoising
from ae_jax.training.loop import train

# Written before the first run.
CLAIMS = {
    "NPMI of ten words: autoencoder minus random words": "a row of the decoder is a topic",
    "NPMI of ten words: autoencoder minus LSA": "and a better one than LSA's components",
}
WORDS = 10  # of a topic


def npmi(present: np.ndarray, words: np.ndarray) -> float:
    """Mean over topics and pairs of their words; present bool [N, W], words int [T, n]."""
    docs = len(present)
    found = []
    for topic in words:
        here = present[:, topic].astype(float)
        both, single = here.T @ here / docs, here.mean(0)
        for i, j in zip(*np.triu_indices(len(topic), 1), strict=True):
            if both[i, j] == 0:
                found.append(-1.0)  # its limit
            else:
                information = np.log(both[i, j] / (single[i] * single[j]))
                found.append(1.0 if both[i, j] == 1 else information / -np.log(both[i, j]))
    return float(np.mean(found))


def heavier(loadings: np.ndarray) -> np.ndarray:
    """The words of each component's heavier sign, loadings [T, W]. -> [T, WORDS]."""
    weight = lambda side: np.square(np.maximum(side, 0)).sum(1, keepdims=True)
    return np.argsort(-np.where(weight(loadings) >= weight(-loadings), loadings, -loadings), 1)[:, :WORDS]


def drawn_topics(seed: int, words: np.ndarray, topics: int) -> np.ndarray:
    """Topics of WORDS different words each, drawn at random. -> [T, WORDS]."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(words, WORDS, replace=False) for _ in range(topics)])


def main(
    *,
    seeds: int = 3,
    seed: int = 0,
    topics: int = 20,
    epochs: int = 30,
    words: int = 2000,
    hidden: tuple[int, ...] = (250,),
    masked: float = 0.5,
    batch_size: int = 128,
    full: bool = False,
    data: str = "reuters",
    out: str = "results",
):
    """Trains autoencoders with a linear decoder and reads topics off its rows.

    Args:
        seeds: how many runs.
        seed: the first of them; its topics are listed in the notes.
        topics: size of the code, and of LSA's.
        epochs: passes over the training documents.
        words: size of the vocabulary.
        hidden: widths of the encoder's layers before the code.
        masked: fraction of the words that are left out of the encoder's view in training.
        batch_size: documents in a step.
        full: 100 epochs and 10 seeds, whatever the other arguments say.
        data: what `ae_jax.data.load` takes; reuters, or a folder of text files.
        out: folder for the record.
    """
    seeds, epochs = (10, 100) if full else (seeds, epochs)
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    from sklearn.decomposition import TruncatedSVD

    counts = datasets.load(data, words=words, count_words=True)
    vocabulary = np.array(counts.vocabulary)
    logs = np.log1p(np.asarray(counts.train.x))
    present = np.asarray(counts.test.x) > 0
    seen = np.flatnonzero(present.sum(0) > 0)  # words of test documents; the others have no NPMI
    net = networks.mlp((len(vocabulary),), topics, hidden=hidden, hidden_back=(), code_activation="sigmoid")
    algorithm = denoising(net, optax.adam(1e-3), level=masked, likelihood="multinomial")
    print(f"{seeds} autoencoders of {topics} numbers with a linear decoder, {epochs} epochs")
    trained = train(algorithm, core.Batch(jnp.asarray(logs)), epochs=epochs, batch_size=batch_size, seeds=sweep)
    best = lambda rows: seen[np.argsort(-rows[:, seen], 1)[:, :WORDS]]
    # the decoder is affine under its softmax: a row is what one number adds to the logits
    eye = jnp.eye(topics + 1, topics, -1)  # the zeros first
    rows = [np.asarray(net.decode(trained.of(s), eye)) for s in sweep]
    found = [best(row[1:] - row[:1]) for row in rows]
    lsa = TruncatedSVD(topics, random_state=0).fit(logs)
    components = seen[heavier(np.asarray(lsa.components_)[:, seen])]
    drawn = [drawn_topics(s, seen, topics) for s in sweep]
    ours, chance = (np.array([npmi(present, w) for w in ws]) for ws in (found, drawn))
    theirs = np.full(seeds, npmi(present, components))
    listed = "; ".join(" ".join(vocabulary[topic[:6]]) for topic in found[0])
    return record(
        __file__,
        {
            "NPMI of ten words: autoencoder": ours,
            "NPMI of ten words: LSA": theirs,
            "NPMI of ten words: random words": chance,
            "NPMI of ten words: autoencoder minus random words": ours - chance,
            "NPMI of ten words: autoencoder minus LSA": ours - theirs,
        },
        title=f"Topics read off a linear decoder of {topics} numbers, {data}",
        source="after Hinton & Salakhutdinov (2006), Science 313:504; NPMI: Bouma (2009)",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        claims=CLAIMS,
        notes=[
            f"Topics of seed {seed}, six words each: {listed}.",
            "LSA's: " + "; ".join(" ".join(vocabulary[topic[:6]]) for topic in components) + ".",
            "Nothing was tuned: masking, rate and epochs are those of text_search. LSA has no seed.",
        ],
        out=out,
    )


if __name__ == "__main__":
    command(main)
