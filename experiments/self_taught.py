"""Self-taught learning: features of digits that have no labels, for other digits that have.

UFLDL tutorial, exercise "Self-Taught Learning" (Raina et al., 2007, ICML): a sparse autoencoder of the digits 5 to 9,
then softmax regression on its features of the digits 0 to 4 of MNIST's training file, the first half to train and the
second to test.
"""

import jax.numpy as jnp
import numpy as np
import optax
from study import Published, Run, codes, experiment, feature_panels, features, mapped

from ae_jax import networks
from ae_jax.algorithms import sparse
from ae_jax.core import Batch
from ae_jax.evaluation.probes import fit_linear, predict_linear
from ae_jax.optimizers import repeated

# The tutorial's cost, 1/2 mean ||o - x||^2 + lambda/2 ||W||^2 + beta sum KL, is half of `sparse`'s, whose squared error
# is not halved: its weight is 2 beta, its weight_l2 lambda.
BETA, LAMBDA = 3.0, 3e-3
SOFTMAX_LAMBDA = 1e-4


def accuracy(z: np.ndarray, y: np.ndarray, half: int) -> float:
    """% of the second half that the tutorial's softmax regression on the first half gets right."""
    known, unknown = jnp.asarray(z[:half]), jnp.asarray(z[half:])
    fitted = fit_linear(
        known, jnp.asarray(y[:half]), int(y.max()) + 1, l2=SOFTMAX_LAMBDA * half, max_steps=100, standard=False
    )
    return 100 * float(np.mean(np.asarray(predict_linear(fitted, unknown)) == y[half:]))


@experiment(
    title="Self-taught learning: features of {data}'s digits 5 to 9 classify 0 to 4, {units} units",
    source="UFLDL tutorial, exercise Self-Taught Learning; Raina et al. (2007), ICML",
    full={"seeds": 5, "iterations": 400, "unlabelled": 29404},
    published={
        "accuracy, features, %": Published(98.3, "UFLDL, exercise Self-Taught Learning, step 5", 0.3),
        "accuracy, raw pixels, %": Published(96, "UFLDL, the same page", 1.0, "there: 'only around 96 %'"),
    },
    # Written before the first run.
    claims={
        "features minus raw pixels, beyond 1 point": "features of other digits beat raw pixels by more than one point",
        "features minus random features, %": "it is the learning and not the layer that helps",
    },
    notes=[
        "{iterations} iterations on {unlabelled} unlabelled images; the tutorial (and --full): 400 on 29,404.",
        "Weights begin at U(+-sqrt(6 / (hidden + visible))); the tutorial's bound has one more in the sum, a "
        "difference of 0.05 %. Softmax regression has weight decay 1e-4 and 100 iterations, as there, and a bias, "
        "which there it has not. Raw pixels depend on no seed. Random features: the same net, untrained.",
    ],
)
def main(
    run: Run,
    iterations: int = 150,  # of L-BFGS, each on all unlabelled images
    units: int = 200,  # size of the code
    target: float = 0.1,  # the mean activation that the penalty asks for
    unlabelled: int = 10000,  # how many of the digits 5 to 9 to learn from
):
    digits = run.data(labels=True).train
    images, labels = np.asarray(digits.x), np.asarray(digits.y)
    high, low = Batch(jnp.asarray(images[labels >= 5][:unlabelled])), labels < 5
    x, y, half = images[low], labels[low], int(low.sum()) // 2
    at_once = min(10, iterations)
    updates = iterations // at_once  # whole ones
    run.settings |= {"iterations": updates * at_once, "unlabelled": len(high.x)}  # what is run
    net = networks.mlp(x.shape[1:], units, hidden=(), code_activation="sigmoid", output_activation="sigmoid")
    lbfgs = repeated(optax.lbfgs(memory_size=20), at_once)
    # a batch is the whole set, so the penalty on mean activations is exact
    algorithm = sparse(net, lbfgs, penalty="kl_minibatch", target=target, weight=2 * BETA, weight_l2=LAMBDA)
    params = run.train("sparse", algorithm, high, epochs=updates, batch_size=len(high.x)).params
    untrained = mapped(algorithm.init)(run.keys("init"), high)
    seen = run.evaluate(algorithm, params, high)
    learned, drawn = (np.array([accuracy(z, y, half) for z in codes(algorithm, p, x)]) for p in (params, untrained))
    raw = accuracy(x.reshape(len(x), -1), y, half)
    run.metrics = {
        "accuracy, features, %": learned,
        "accuracy, raw pixels, %": raw,
        "accuracy, random features, %": drawn,
        "features minus raw pixels, beyond 1 point": learned - raw - 1,
        "features minus random features, %": learned - drawn,
        "tutorial's cost": seen["loss"] / 2,
        "mean activation": seen["activation"],
    }
    shown = {"Inputs that excite units: features of digits 5 to 9": features(params, x.shape[1:], 100)}
    return lambda: feature_panels(shown, columns=10)
