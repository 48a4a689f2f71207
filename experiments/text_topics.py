"""Topics read off a linear decoder: which words does each number of a document's code raise?

After Hinton & Salakhutdinov (2006), Science 313:504, whose decoder is deep. Here it is one affine layer under a softmax
over words, and codes are in [0, 1], so that each row of its weights raises some words. A topic has the ten words
that its row raises most. Its measure is the mean normalised pointwise mutual information (NPMI; Bouma, 2009) over pairs
of its words in test documents: 1 is always together, 0 as by chance. The baselines are LSA's components.
"""

import jax.numpy as jnp
import numpy as np
import optax
from study import Run, experiment

from ae_jax import networks
from ae_jax.algorithms import denoising
from ae_jax.core import Batch

WORDS = 10  # of a topic


def npmi(present: np.ndarray, words: np.ndarray) -> float:
    """Mean over topics and pairs of their words; present bool [N, W], words int [T, n]."""
    found = []
    for topic in words:
        here, pairs = present[:, topic].astype(float), np.triu_indices(len(topic), 1)
        both, apart = (here.T @ here / len(present))[pairs], np.outer(here.mean(0), here.mean(0))[pairs]
        with np.errstate(divide="ignore", invalid="ignore"):
            information = np.log(both / apart) / -np.log(both)
        found.append(np.where(both == 0, -1.0, np.where(both == 1, 1.0, information)))  # the limits
    return float(np.mean(found))


def heavier(loadings: np.ndarray) -> np.ndarray:
    """The largest words of each component, on the sign with more squared weight. loadings [T, W] -> [T, WORDS]."""
    weight = lambda side: np.square(np.maximum(side, 0)).sum(1, keepdims=True)
    return np.argsort(-np.where(weight(loadings) >= weight(-loadings), loadings, -loadings), 1)[:, :WORDS]


def drawn_topics(seed: int, words: np.ndarray, topics: int) -> np.ndarray:
    """Topics of WORDS different words each, drawn at random. -> [T, WORDS]."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(words, WORDS, replace=False) for _ in range(topics)])


@experiment(
    title="Topics read off a linear decoder of {topics} numbers, {data}",
    source="after Hinton & Salakhutdinov (2006), Science 313:504; NPMI: Bouma (2009)",
    data="reuters",
    full={"seeds": 10, "epochs": 100},
    # Written before the first run.
    claims={
        "NPMI of ten words: autoencoder minus random words": "a row of the decoder is a topic",
        "NPMI of ten words: autoencoder minus LSA": "and a better one than LSA's components",
    },
    notes=[
        "Topics of seed {seed}, six words each: {ours}.",
        "LSA's: {theirs}.",
        "Nothing was tuned: masking, rate and epochs are those of text_search. LSA has no seed.",
    ],
)
def main(
    run: Run,
    topics: int = 20,  # size of the code, and of LSA's
    epochs: int = 30,  # passes over the training documents
    words: int = 2000,  # size of the vocabulary
    hidden: tuple[int, ...] = (250,),  # widths of the encoder's layers before the code
    masked: float = 0.5,  # fraction of the words that are left out of the encoder's view in training
    batch_size: int = 128,  # documents in a step
):
    from sklearn.decomposition import TruncatedSVD

    counts = run.data(words=words, count_words=True)
    logs, present = np.log1p(np.asarray(counts.train.x)), np.asarray(counts.test.x) > 0
    seen = np.flatnonzero(present.sum(0) > 0)  # words of test documents; the others have no NPMI
    net = networks.mlp(logs.shape[1:], topics, hidden=hidden, hidden_back=(), code_activation="sigmoid")
    algorithm = denoising(net, optax.adam(1e-3), level=masked, likelihood="multinomial")
    trained = run.train("linear decoder", algorithm, Batch(jnp.asarray(logs)))
    best = lambda rows: seen[np.argsort(-rows[:, seen], 1)[:, :WORDS]]
    # the decoder is affine under its softmax: a row is what one number adds to the logits
    eye = jnp.eye(topics + 1, topics, -1)  # the first code is zero
    rows = [np.asarray(net.decode(trained.of(s), eye)) for s in run.seeds]
    found = [best(row[1:] - row[:1]) for row in rows]
    lsa = TruncatedSVD(topics, random_state=0).fit(logs)
    components = seen[heavier(np.asarray(lsa.components_)[:, seen])]
    drawn = [drawn_topics(s, seen, topics) for s in run.seeds]
    for name, of in {"autoencoder": found, "LSA": [components] * len(found), "random words": drawn}.items():
        run.metrics[f"NPMI of ten words: {name}"] = np.array([npmi(present, one) for one in of])
    listed = lambda of: "; ".join(" ".join(counts.vocabulary[i] for i in topic[:6]) for topic in of)
    run.facts = {"ours": listed(found[0]), "theirs": listed(components)}
