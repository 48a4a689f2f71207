"""Clusters of codes: k-means on pixels, on an autoencoder's codes, and deep embedded clustering, on MNIST.

Xie, Girshick & Farhadi (2016), ICML, arXiv:1511.06335 (DEC); Guo, Gao, Liu & Yin (2017), IJCAI (IDEC). The net is
theirs, 784-500-500-2000-10, rectified, linear code; pretraining is a plain autoencoder by Adam. Labels are used for
the scores alone, which are measured, as in the papers, on the images that were clustered.

    .venv/bin/python experiments/clustering.py
    .venv/bin/python experiments/clustering.py --full    # all 70,000 images, 10 seeds
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Published, Run, command, experiment, mapped

from ae_jax import core, networks
from ae_jax.algorithms import autoencoder, dec
from ae_jax.evaluation.clustering import kmeans, scores
from ae_jax.evaluation.codes import encode
from ae_jax.training import stages

# Written before the first run, in points of accuracy; paired over seeds.
CLAIMS = {
    "codes minus pixels, accuracy, %": "k-means does better on an autoencoder's codes than on pixels",
    "DEC minus codes, accuracy, %": "DEC betters the clusters it starts from",
    "IDEC minus codes, accuracy, %": "so does IDEC, which keeps its decoder",
}
WHERE = "of all 70,000 images, as remembered: Xie et al. (2016), table 2; IDEC: Guo et al. (2017), table 1"
PUBLISHED = {
    f"{name}, accuracy, %": Published(value, WHERE)
    for name, value in {"pixels": 53.49, "codes": 81.84, "DEC": 84.30, "IDEC": 88.06}.items()
}


def recipe(key, x, net, epochs: int, passes: int, batch_size: int):
    """A whole run, a pure function of its key: params and labels of each stage. x [N, 28, 28, 1]."""
    key_pixels, key_net, key_codes, key_dec, key_idec = jax.random.split(key, 5)
    data = core.Batch(x)
    pixels = kmeans(key_pixels, x.reshape(len(x), -1), 10, starts=3).labels
    base = autoencoder(net, optax.adam(1e-3))
    pretrained, _ = core.fit(base.init, core.epoch(base, batch_size), data, key_net, epochs)
    z = encode(base, pretrained, x)
    found = kmeans(key_codes, z, 10)
    labels, codes = {"pixels": pixels, "codes": found.labels}, {"codes": z}
    refined = {
        "DEC": (dec(net, optax.sgd(0.01, 0.9), clusters=10), key_dec),
        "IDEC": (dec(net, optax.sgd(0.01, 0.9), clusters=10, weight=10 / x[0].size), key_idec),
    }
    for name, (algorithm, key_run) in refined.items():
        start = stages.resume(algorithm.init, pretrained | {"centres": found.centres})
        params, _ = core.fit(start, core.epoch(algorithm, 256), data, key_run, passes)
        codes[name] = encode(algorithm, params, x)
        labels[name] = jnp.square(codes[name][:, None] - params["centres"]).sum(-1).argmin(-1)
    return labels, codes


@experiment(
    title="Clusters of {images} images, {data}, against their labels",
    source="Xie, Girshick & Farhadi (2016), ICML; Guo, Gao, Liu & Yin (2017), IJCAI",
    seeds=3,
    full={"seeds": 10, "images": 70000},
    published=PUBLISHED,
    claims=CLAIMS,
    notes=[
        "Pretraining is by Adam, all layers at once, where the paper's is layer by layer with dropout. The picture "
        "shows the codes of the first seed in their two principal directions, coloured by label."
    ],
)
def main(
    run: Run,
    *,
    images: int = 10000,  # how many are clustered, of train and test in this order
    epochs: int = 30,  # passes of pretraining
    passes: int = 20,  # of DEC and IDEC, whose targets are fixed anew before each
    hidden: tuple[int, ...] = (500, 500, 2000),  # widths of the encoder's layers before the code of 10
    batch_size: int = 256,  # examples in a step of pretraining
):
    """Clusters images without their labels, and compares the clusters with them."""
    parts = run.data(labels=True)
    x = jnp.asarray(np.concatenate([np.asarray(d.x) for d in parts])[:images])
    y = np.concatenate([np.asarray(d.y) for d in parts])[:images]
    net = networks.mlp(x.shape[1:], 10, hidden=hidden)
    whole = mapped(lambda key, x: recipe(key, x, net, epochs, passes, batch_size))
    # one program, a seed at a time, so that a stopped experiment repeats one seed at most
    found = [run.computed(f"seed {s}", whole, key[None], x) for s, key in zip(run.seeds, run.keys(), strict=True)]
    labels = {name: np.concatenate([of[name] for of, _ in found]) for name in found[0][0]}
    for name, of in labels.items():
        measured = [scores(one, y) for one in of]
        for score, label in (("accuracy", "accuracy, %"), ("nmi", "NMI, %"), ("ari", "ARI, %")):
            run.metrics[f"{name}, {label}"] = np.array([100 * m[score] for m in measured])
    return lambda: picture(run.metrics, {name: np.asarray(z[0]) for name, z in found[0][1].items()}, y)


def picture(metrics, codes, y):
    """The first seed's codes in their two principal directions, coloured by label."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), dpi=100, layout="constrained")
    for axes, (name, z) in zip(figure.subplots(1, len(codes)), codes.items(), strict=True):
        flat = z[:3000] - z.mean(0)
        plane = flat @ np.linalg.svd(flat, full_matrices=False)[2][:2].T
        axes.scatter(*plane.T, c=y[:3000], s=3, cmap="tab10")
        axes.set(title=f"{name}: {metrics[f'{name}, accuracy, %'][0]:.1f} %", xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    command(main)
