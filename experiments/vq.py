"""Discrete codes of MNIST by several quantisers: how much of a codebook is used, and what the code keeps.

49 symbols an image, each of about 2^9, from a small dense net (784-256-code and back, squared error). Vector
quantisation: van den Oord, Vinyals & Kavukcuoglu (2017), arXiv:1711.00937; residual: Zeghidour et al. (2021),
arXiv:2107.03312; rounded numbers (FSQ): Mentzer et al. (2023), arXiv:2309.15505; signs (LFQ): Yu et al. (2023),
arXiv:2310.05737; SimVQ: Zhu et al. (2024), arXiv:2411.02038; the rotation's gradient: Fifty et al. (2024),
arXiv:2410.06424.

    .venv/bin/python experiments/vq.py
    .venv/bin/python experiments/vq.py --full    # all 60,000 images, SimVQ and the rotation too
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Run, command, experiment, mapped, part

from ae_jax import networks, plots
from ae_jax.algorithms import vq_vae
from ae_jax.checks import check_choice
from ae_jax.distributions import quantisers as q
from ae_jax.evaluation import codes, rate

VQ, DEAD, LEARNED = "VQ with revival", "VQ without revival", "VQ by gradients"
SIMVQ, ROTATION = "SimVQ", "VQ with the rotation"
RESIDUAL, FIRST, FSQ = "residual VQ", "its first level alone", "FSQ"
LFQ, UNSURE = "LFQ with entropies", "LFQ without entropies"
REST, USED, EVEN, BITS = "error / variance", "symbols used, %", "perplexity", "entropy-coded, bits an image"
USUAL = (VQ, DEAD, LEARNED, RESIDUAL, FSQ, LFQ, UNSURE)
LEAST, BELOW = {FSQ: 90, LFQ: 80}, f"{FSQ}, {REST}, below 1.1 of {VQ}"
# Written before the first run; paired over seeds.
CLAIMS = {
    f"{LEARNED} minus {VQ}, {REST}": "moving averages keep more than a learned codebook",
    f"{VQ} minus {DEAD}, {EVEN}": "revival of dead vectors raises the perplexity",
    f"{VQ} minus {RESIDUAL}, {REST}": "two levels of half as many vectors keep more than one level",
    f"{FIRST} minus {VQ}, {REST}": "the first of these levels alone keeps less",
    f"{FSQ}, {USED} beyond {LEAST[FSQ]}": "rounded numbers use their symbols without revival",
    BELOW: "and lose at most a tenth more than VQ with revival",
    f"{LFQ}, {USED} beyond {LEAST[LFQ]}": "signs with the entropy term use their symbols",
    f"{LFQ} minus {UNSURE}, {EVEN}": "without it they use fewer",
}


class Arm(NamedTuple):
    """A quantiser of vectors of D numbers."""

    quantiser: q.Quantiser
    dimension: int


def arms(size: int, revival: float) -> dict[str, Arm]:
    """The quantisers by name; a symbol is one of `size`, of FSQ one of 512 for 512."""
    levels, bits = round(size ** (1 / 3)), (size - 1).bit_length()
    return {
        VQ: Arm(q.moving(size, least=revival), 4),
        DEAD: Arm(q.moving(size), 4),
        LEARNED: Arm(q.learned(size), 4),
        SIMVQ: Arm(q.simvq(size), 4),
        ROTATION: Arm(q.moving(size, least=revival, gradient="rotation"), 4),
        RESIDUAL: Arm(q.residual_codebooks(size // 2, least=revival), 4),
        FSQ: Arm(q.fsq((levels,) * 3), 3),
        LFQ: Arm(q.lfq(bits), bits),
        UNSURE: Arm(q.lfq(bits, entropy=0.0), bits),
    }


@experiment(
    title="Quantisers on {images:,} images of {data}: {places} symbols an image, each of about {size}",
    source="Mentzer et al. (2023), arXiv:2309.15505; van den Oord et al. (2017), arXiv:1711.00937",
    seeds=3,
    full={"images": 60000, "epochs": 40, "only": (*USUAL, SIMVQ, ROTATION)},
    notes=[
        "Use and perplexity are over all test images; of residual VQ, of its first level, whose codebook has half as "
        "many vectors. Error over variance is the squared error of test images over their variance. "
        "Entropy-coded: the length under the frequencies of each place's symbols in the training set.",
        "LFQ's commitment, 0.01, was chosen on 2,000 held-out training images after a first run: at 0.25, as codebooks "
        "have it, it used 30 % of its symbols and lost half of the variance, with and without entropies. "
        "Codebooks start as codes of training images, so that no vector dies here and revival changes nothing.",
    ],
)
def main(
    run: Run,
    *,
    images: int = 10000,  # training images
    epochs: int = 20,  # passes over them
    batch_size: int = 128,  # images in a step
    places: int = 49,  # vectors of an image
    size: int = 512,  # symbols, about
    hidden: int = 256,  # units of the layer before the code
    revival: float = 0.1,  # mean count in a batch below which a vector is drawn anew
    only: tuple[str, ...] = USUAL,  # the quantisers, by name
):
    """Trains the same net with each quantiser and measures what its symbols are used for."""
    train, test = run.data()
    train = part(train, images)
    variance = float(np.var(np.asarray(test.x), 0).sum())
    shown: dict[str, Any] = {"input": np.asarray(test.x[:10])}
    known = arms(size, revival)
    for name in only:
        check_choice("only", name, known)
    chosen = {name: known[name] for name in only}
    for name, (quantiser, dimension) in chosen.items():
        net = networks.mlp(train.x.shape[1:], places * dimension, hidden=(hidden,))
        how = {"quantiser": quantiser, "dimension": dimension, "likelihood": "squared"}
        algorithm = vq_vae(net, optax.adam(1e-3), **how)
        params = run.train(name, algorithm, train).params
        found = run.evaluate(algorithm, params, test)
        symbols_of = mapped(lambda params, x, algorithm=algorithm: in_parts(algorithm.symbols, params, x))
        learned, seen = (np.asarray(symbols_of(params, of.x)) for of in (train, test))  # [S, N, P L]
        levels = len(algorithm.alphabet)
        usage = [codes.usage(jnp.asarray(of[:, ::levels])) for of in seen]
        run.metrics[f"{name}, {REST}"] = np.asarray(found["squared_error"]) / variance
        run.metrics[f"{name}, {USED}"] = np.array([100 * int(u["symbols_used"]) / algorithm.alphabet[0] for u in usage])
        run.metrics[f"{name}, {EVEN}"] = np.array([float(u["perplexity"]) for u in usage])
        frequencies = [rate.frequencies(of, max(algorithm.alphabet)) for of in learned]
        lengths = [rate.code_length(of, known).mean() for of, known in zip(seen, frequencies, strict=True)]
        run.metrics[f"{name}, {BITS}"] = np.array(lengths)
        decode = mapped(lambda both, algorithm=algorithm: in_parts(algorithm.decode, *both))
        if name == RESIDUAL:
            first = [
                p[s[:, ::levels]].reshape(len(s), -1)
                for p, s in zip(params["codebook_0"]["vectors"], seen, strict=True)
            ]
            x = np.asarray(decode((params, jnp.stack(first))))
            run.metrics[f"{FIRST}, {REST}"] = np.square(x - np.asarray(test.x)).sum((2, 3, 4)).mean(1) / variance
        z = algorithm.encode(jax.tree.map(lambda p: p[0], params), test.x[:10])
        shown[name] = np.asarray(algorithm.decode(jax.tree.map(lambda p: p[0], params), z))
    ours, both = run.metrics, FSQ in chosen and VQ in chosen
    ours |= {f"{name}, {USED} beyond {n}": ours[f"{name}, {USED}"] - n for name, n in LEAST.items() if name in chosen}
    ours |= {BELOW: 1.1 * ours[f"{VQ}, {REST}"] - ours[f"{FSQ}, {REST}"]} if both else {}
    trained = {label.split(", ")[0] for label in ours}
    told = lambda label: label in ours or set(label.split(", ")[0].split(" minus ")) <= trained
    run.claims |= {label: text for label, text in CLAIMS.items() if told(label)}
    return lambda: plots.examples(np.stack(list(shown.values())), (0.0, 1.0), rows=tuple(shown))


def in_parts(fn: Any, params: Any, x: Any) -> Any:
    """`fn(params, x)` some 500 examples at a time."""
    return jax.lax.map(lambda one: fn(params, one[None])[0], x, batch_size=min(500, len(x)))


if __name__ == "__main__":
    command(main)
