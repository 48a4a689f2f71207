"""An overcomplete code needs sparsity: more units than inputs, with no penalty, with L1, and with KL.

Ng, "Sparse autoencoder", CS294A lecture notes and UFLDL tutorial. MNIST at half its resolution (14x14, the mean of
each four pixels) and 400 logistic units: twice as many as there are inputs, so that reconstruction alone asks nothing
of the code.
"""

import jax.numpy as jnp
import numpy as np
import optax
from study import Run, codes, experiment, feature_panels, features, part, probe_errors

from ae_jax import networks
from ae_jax.algorithms import sparse
from ae_jax.core import Batch

ACTIVE = 0.1  # a unit below this is inactive


def halved(batch: Batch) -> Batch:
    """Images at half their resolution, the mean of each four pixels. x [N, H, W, C] -> [N, H/2, W/2, C]."""
    n, height, width, channels = batch.x.shape
    return batch._replace(x=jnp.asarray(batch.x).reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4)))


@experiment(
    title="Overcomplete codes, {units} units for {pixels} pixels of {data}: plain, L1 and KL",
    source="Ng, Sparse autoencoder (CS294A lecture notes; UFLDL)",
    full={"seeds": 10, "epochs": 50, "images": 60000},
    # Written before the first full run. The penalties' weights were chosen by probe errors on training images that were
    # not trained on: l1 from 0.03 and 0.1; kl and target from (0.1, 0.05), (0.3, 0.05), (1, 0.05), (3, 0.05),
    # (0.3, 0.1), (1, 0.1) and (0.3, 0.2), among those that leave most units below `ACTIVE`.
    claims={
        "active units, plain minus L1, %": "L1 leaves most units of an image at rest",
        "active units, plain minus KL, %": "so does the KL penalty",
        "probe error, plain minus L1, %": "a linear classifier does better on L1's codes",
        "probe error, plain minus KL, %": "and on those of KL",
    },
    notes=[
        f"Measured on test images. Active: above {ACTIVE:g}. The probe is a logistic regression on standardised "
        "codes of {trained} training images. The lecture notes give no numbers.",
    ],
)
def main(
    run: Run,
    epochs: int = 10,  # passes over the training images
    units: int = 400,  # size of the code
    l1: float = 0.1,  # weight of the summed activations
    kl: float = 0.3,  # weight of the KL penalty on mean activations
    target: float = 0.05,  # the mean activation that the KL asks for
    weight_l2: float = 1e-3,  # of the squared weights, in all nets: else a small code times large weights evades L1
    images: int = 5000,  # how many to train on, and whose labels the linear classifiers see
    batch_size: int = 100,  # examples in a step
):
    train_set, test_set = (halved(d) for d in run.data())
    train_set = part(train_set, images)
    shape, adam, shown = train_set.x.shape[1:], optax.adam(1e-3), {}
    net = networks.mlp(shape, units, hidden=(), code_activation="sigmoid")
    for name, algorithm in {
        "plain": sparse(net, adam, penalty="l1", weight=0.0, weight_l2=weight_l2),
        "L1": sparse(net, adam, penalty="l1", weight=l1, weight_l2=weight_l2),
        "KL": sparse(net, adam, target=target, weight=kl, weight_l2=weight_l2),
    }.items():
        params = run.train(name, algorithm, train_set).params
        z = codes(algorithm, params, test_set.x)
        run.metrics |= {
            f"active units, {name}, %": 100 * np.mean(z > ACTIVE, (1, 2)),
            f"mean activation, {name}": z.mean((1, 2)),
            f"probe error, {name}, %": probe_errors(algorithm, params, train_set, test_set),
            f"test squared error, {name}": run.evaluate(algorithm, params, test_set)["squared_error"],
        }
        shown[name] = features(params, shape, 64)
    run.facts = {"pixels": train_set.x[0].size, "trained": len(train_set.x)}
    return lambda: feature_panels(shown)
