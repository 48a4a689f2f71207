"""A contractive autoencoder against a plain one of the same size: how far noise on the input moves the code.

Rifai, Vincent, Muller, Glorot & Bengio (2011), ICML. The network is that of the contractive tutorial on
deeplearning.net, here with Adam and batches of 128.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Run, codes, experiment, feature_panels, features, mapped, part, probe_errors

from ae_jax import networks
from ae_jax.algorithms import autoencoder, contractive
from ae_jax.core import Algorithm
from ae_jax.evaluation.codes import encode, jacobian_norm


def shift(algorithm: Algorithm, params, key, x, noise: float):
    """How far Gaussian noise on the input moves the code, as a fraction of the codes' own spread. -> []."""
    z = encode(algorithm, params, x)
    noisy = encode(algorithm, params, x + noise * jax.random.normal(key, x.shape, x.dtype))
    mean_square = lambda d: jnp.square(d).sum(-1).mean()
    return jnp.sqrt(mean_square(noisy - z) / mean_square(z - z.mean(0)))


@experiment(
    title="Contractive against plain autoencoder, {units} units, {data}: how codes bear small noise",
    source="Rifai, Vincent, Muller, Glorot & Bengio (2011), ICML",
    seeds=4,
    full={"seeds": 10, "epochs": 20, "labelled": 60000},
    # Written before the first run. Differences are paired: a seed gives both nets the same start and batches.
    claims={
        "plain minus contractive, Jacobian norm": "the penalty makes the encoder flatter on test images",
        "plain minus contractive, code shift by noise": "the code moves less, measured by the spread of codes",
        "plain minus contractive, probe error, %": "a linear classifier does better on the contractive net's codes",
    },
    notes=[
        "Jacobian norm: mean Frobenius norm over 1000 test images (other measures: the whole test set). Code "
        "shift: ||f(x + e) - f(x)|| for Gaussian noise of standard deviation {noise:g}, root mean square, over "
        "the codes' root mean square distance from their mean. Saturated: below 0.05 or above 0.95.",
        "The probe is a logistic regression on standardised codes of {labelled} training images; the paper "
        "fine-tunes a classifier instead, so its error rates stand for another protocol.",
    ],
)
def main(
    run: Run,
    epochs: int = 6,  # passes over the training set
    units: int = 500,  # size of the code
    weight: float = 0.1,  # of the squared Frobenius norm of the encoder's Jacobian
    noise: float = 0.1,  # standard deviation of the noise in this measure, in units of the pixels' range
    batch_size: int = 128,  # examples in a step
    labelled: int = 10000,  # training images whose labels the linear classifiers see
):
    train_set, test_set = run.data()
    shape, adam, shown = train_set.x.shape[1:], optax.adam(1e-3), {}
    net = networks.mlp(shape, units, hidden=(), code_activation="sigmoid", tied=True, init="sigmoid_uniform")
    for name, algorithm in {
        "plain": autoencoder(net, adam, likelihood="bernoulli"),
        "contractive": contractive(net, adam, weight=weight, penalty="closed"),
    }.items():
        params = run.train(name, algorithm, train_set).params
        z = codes(algorithm, params, test_set.x)
        norm = mapped(lambda p, x, a=algorithm: jacobian_norm(lambda x: a.encode(p, x), x).mean())
        moved = mapped(lambda of, x, a=algorithm: shift(a, of[0], of[1], x, noise))
        run.metrics |= {
            f"{name}, Jacobian norm": np.asarray(norm(params, test_set.x[:1000])),
            f"{name}, code shift by noise": np.asarray(moved((params, run.keys("noise")), test_set.x)),
            f"{name}, probe error, %": probe_errors(algorithm, params, part(train_set, labelled), test_set),
            f"{name}, saturated units, %": 100 * np.mean((z < 0.05) | (z > 0.95), (1, 2)),
            f"{name}, test squared error": run.evaluate(algorithm, params, test_set)["squared_error"],
        }
        shown[name] = features(params, shape, 36)
    return lambda: feature_panels(shown, columns=6)
