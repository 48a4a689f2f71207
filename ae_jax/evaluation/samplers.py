"""Samplers: priors fitted to the codes of a trained model, with which any decoder makes new examples.

Each sampler is a function (codes [N, K], key) -> (params, `Prior`). Ghosh et al. (2020), arXiv:1903.12436, fit a
mixture of Gaussians to the codes of plain autoencoders. The flow is the MAF of Papamakarios et al. (2017),
arXiv:1705.07057.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ..checks import COUNT, check_choice
from ..core import Batch, Key, Loss, Params, address, descend, sweep
from ..distributions import flows, priors
from ..distributions.priors import Prior
from ..objectives.pretraining import fit_best
from .clustering import kmeans

SamplerName = Literal["normal", "gaussian", "gmm", "maf"]
Fitted = tuple[Params, Prior]

RIDGE = 1e-6  # added to variances, as a fraction of their mean, because a unit that never changes has variance 0
UPDATES, BATCH, LONGEST = 3000, 256, 300  # of the flow: steps, codes in a step, passes at most
HELD_OUT = 10  # one code in so many is held out, to choose the flow's best pass


def prior_of(name: SamplerName, size: int) -> Prior:
    """The prior over codes with `size` units, whose params the sampler of that name fits.

    Raises ValueError for another name.
    """
    check_choice("sampler", name, get_args(SamplerName))
    if name == "maf":
        return priors.flowed(flows.whitened(flows.maf(size), size), size)
    return priors.normal(size) if name == "normal" else priors.mixture(size, 1 if name == "gaussian" else 10, full=True)


def checked(codes: Any, least: int = 2) -> np.ndarray:
    """The codes on the host. Raises ValueError unless they are at least `least` codes [N, K] of finite floats."""
    z = np.asarray(codes)
    if z.ndim != 2 or len(z) < least or not np.issubdtype(z.dtype, np.floating):
        raise ValueError(f"the codes are {z.dtype} {z.shape}; give at least {least} codes [N, K] of floats")
    if not np.isfinite(z).all():
        raise ValueError("some codes are NaN or infinite, and no sampler can be fitted to them: look at the encoder")
    return z


def check_key(key: Any) -> None:
    """Raises TypeError for a number in place of a key."""
    if isinstance(key, int | np.integer):
        raise TypeError(f"key is {key}; give a key, such as jax.random.key({key})")


def normal(codes: Any, key: Key) -> Fitted:
    """N(0, I), not fitted to the codes. It is the prior of most variational members. Uses no key."""
    return {}, prior_of("normal", checked(codes, 1).shape[1])


def moments(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean [K] and covariance [K, K] (1/N) in float64, and the number that `RIDGE` adds to each variance."""
    mean = z.mean(0, dtype=np.float64)
    moved = z - mean
    covariance = moved.T @ moved / len(z)
    spread = float(np.trace(covariance)) / len(covariance)
    return mean, covariance, RIDGE * spread if spread > 0 else 1e-12


def gaussian(codes: Any, key: Key) -> Fitted:
    """N(m, S) with the codes' mean m and covariance S. Uses no key."""
    z = checked(codes)
    mean, covariance, ridge = moments(z)
    root = np.linalg.cholesky(covariance + ridge * np.eye(len(mean)))
    own = {"logits": np.zeros(1), "mean": mean[None], "root": root[None]}
    return {"mixture": {name: jnp.asarray(a, z.dtype) for name, a in own.items()}}, prior_of("gaussian", z.shape[1])


def gmm(codes: Any, key: Key, components: int = 10) -> Fitted:
    """A mixture of Gaussians, each with its own covariance, by scikit-learn's EM from the clusters of k-means.

    Raises ValueError for fewer codes than components, and for codes that are not finite.
    """
    from sklearn.mixture import GaussianMixture

    COUNT.check("components", components)
    check_key(key)
    z = checked(codes, max(2, components))
    _, covariance, ridge = moments(z)
    labels = np.asarray(kmeans(key, jnp.asarray(z), components, starts=3).labels)
    weights, means, precisions = [], [], []
    for c in range(components):
        own = z[labels == c]
        mean, within, _ = moments(own) if len(own) > 1 else (z.mean(0, dtype=np.float64), covariance, 0)
        weights.append(max(len(own), 1))
        means.append(mean)
        precisions.append(np.linalg.inv(within + ridge * np.eye(len(mean))))
    model: Any = GaussianMixture(
        components,
        reg_covar=ridge,
        max_iter=200,
        weights_init=np.asarray(weights) / sum(weights),
        means_init=np.asarray(means),
        precisions_init=np.asarray(precisions),
        init_params="random_from_data",  # its own k-means sums in the order of its threads
        random_state=0,
    ).fit(z.astype(np.float64))
    roots = np.linalg.cholesky(model.covariances_)
    own = {"logits": np.log(np.maximum(model.weights_, 1e-30)), "mean": model.means_, "root": roots}
    params = {"mixture": {name: jnp.asarray(a, z.dtype) for name, a in own.items()}}
    return params, priors.mixture(z.shape[1], components, full=True)


def maf(codes: Any, key: Key) -> Fitted:
    """A masked autoregressive flow on codes whitened by `gaussian`, and the params of its best pass.

    A tenth of the codes is held out to choose the pass. Raises ValueError for fewer than 10 codes, and for codes that
    are not finite.
    """
    check_key(key)
    z = checked(codes, HELD_OUT)
    size, start = z.shape[1], gaussian(z, key)[0]["mixture"]
    own = {name: start[name][0] for name in ("mean", "root")}
    white = jax.scipy.linalg.solve_triangular(own["root"], (z - own["mean"][None]).T, lower=True).T
    mixed = jax.random.permutation(address(key, "held out"), white)
    held, train = jnp.split(mixed, [len(z) // HELD_OUT])
    passes = min(LONGEST, -(-UPDATES // -(-len(train) // BATCH)))
    return {"flow": {"flow": _trained(train, held, address(key, "flow"), passes), **own}}, prior_of("maf", size)


@partial(jax.jit, static_argnames="passes")
def _trained(train: Array, held: Array, key: Key, passes: int) -> Params:
    """A flow's params after the best of `passes` passes, by -log p of the held-out points.

    They are all 0, the identity, if no pass is better than N(0, I).
    """
    prior = priors.flowed(flows.maf(train.shape[1]), train.shape[1])
    log_prob: Any = prior.log_prob
    steps = passes * -(-len(train) // BATCH)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, steps))
    rule = sweep(descend(lambda params, batch, key: Loss(-log_prob(params, batch.x)), optimizer), BATCH)
    score = lambda params: -log_prob(params, held).mean()
    params, history = fit_best(prior.init, rule, Batch(train), key, passes, score)
    normal: Any = priors.normal(train.shape[1]).log_prob
    better = jnp.nanmin(history["score"]) < -normal({}, held).mean()
    return jax.tree.map(lambda p: jnp.where(better, p, 0), params)["flow"]


SAMPLERS: dict[SamplerName, Callable[[Any, Key], Fitted]] = {
    "normal": normal,
    "gaussian": gaussian,
    "gmm": gmm,
    "maf": maf,
}
