"""Clusters of codes: k-means on pixels, on an autoencoder's codes, and deep embedded clustering, on MNIST.

Xie, Girshick & Farhadi (2016), ICML, arXiv:1511.06335 (DEC); Guo, Gao, Liu & Yin (2017), IJCAI (IDEC). The net is
theirs, 784-500-500-2000-10, rectified, linear code; pretraining is a plain autoencoder by Adam. Labels are used for
the scores alone, which are measured, as in the papers, on the images that were clustered.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Published, Run, experiment, of_seed, panels, scattered

from ae_jax import core, networks
from ae_jax.algorithms import autoencoder, dec
from ae_jax.app import plots
from ae_jax.evaluation.clustering import kmeans, scores
from ae_jax.evaluation.codes import encode
from ae_jax.training import stages


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


def picture(metrics, codes, y):
    """The first seed's codes in their two principal directions, coloured by label."""
    figure, all_axes = panels(12, 4.2, 1, len(codes))
    for axes, (name, z) in zip(all_axes, codes.items(), strict=True):
        points = plots.plane(z[:3000]).coordinates(z[:3000])
        scattered(axes, points, y[:3000], title=f"{name}: {metrics[f'{name}, accuracy, %'][0]:.1f} %")
    return figure


@experiment(
    title="Clusters of {images} images, {data}, against their labels",
    source="Xie, Girshick & Farhadi (2016), ICML; Guo, Gao, Liu & Yin (2017), IJCAI",
    full={"seeds": 10, "images": 70000},
    published={"DEC, accuracy, %": Published(84.30, "Xie et al. (2016), table 2, all 70,000 images")},
    # Written before the first run, in points of accuracy; paired over seeds.
    claims={
        "codes minus pixels, accuracy, %": "k-means does better on an autoencoder's codes than on pixels",
        "DEC minus codes, accuracy, %": "DEC betters the clusters it starts from",
        "IDEC minus codes, accuracy, %": "so does IDEC, which keeps its decoder",
    },
    notes=[
        "Pretraining is by Adam, all layers at once, where the paper's is layer by layer with dropout. The picture "
        "shows the codes of the first seed in their two principal directions, coloured by label."
    ],
)
def main(
    run: Run,
    images: int = 10000,  # how many are clustered, of train and test in this order
    epochs: int = 30,  # passes of pretraining
    passes: int = 20,  # of DEC and IDEC, whose targets are fixed anew before each
    hidden: tuple[int, ...] = (500, 500, 2000),  # widths of the encoder's layers before the code of 10
    batch_size: int = 256,  # examples in a step of pretraining
):
    parts = run.data(labels=True)
    x = jnp.asarray(np.concatenate([np.asarray(d.x) for d in parts])[:images])
    y = np.concatenate([np.asarray(d.y) for d in parts])[:images]
    net = networks.mlp(x.shape[1:], 10, hidden=hidden)
    whole = lambda key, x: recipe(key, x, net, epochs, passes, batch_size)
    labels, codes = run.each("all stages", whole, run.keys(), x)
    for name, of in labels.items():
        measured = [scores(one, y) for one in of]
        for score, label in (("accuracy", "accuracy, %"), ("nmi", "NMI, %"), ("ari", "ARI, %")):
            run.metrics[f"{name}, {label}"] = np.array([100 * m[score] for m in measured])
    return lambda: picture(run.metrics, of_seed(codes), y)
