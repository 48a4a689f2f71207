"""How well codes tell labels: multinomial logistic regression and nearest neighbours, fitted on the
codes of train and scored on those of test. Both are deterministic.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..checks import NOT_NEGATIVE, check_finite, labelled
from ..distributions.distances import exponent
from .retrieval import nearest


class Probe(NamedTuple):
    """A fitted multinomial logistic regression on codes less their `mean`, over their `scale`."""

    weights: Array  # [K, C]
    bias: Array  # [C]
    mean: Array  # [K]
    scale: Array  # [K]
    steps: Array  # [], of L-BFGS
    gradient: Array  # [], the largest entry of the mean loss's gradient where it stopped


def standardise(codes: Array) -> tuple[Array, Array]:
    """(mean, scale) of each unit; one that does not vary, rounding apart, has its largest magnitude as scale, or 1.

    Codes have any size and distance from zero: differences from the first code, over the largest of them, are squared.
    [N, K] -> [K], [K].
    """
    moved = codes - codes[0]
    size = jnp.abs(moved).max(0)
    part = moved / jnp.where(size > 0, size, 1)
    centre = part.mean(0)
    std = size * jnp.sqrt(jnp.square(part - centre).mean(0))
    largest = jnp.abs(codes).max(0)
    rounding = 2 * jnp.finfo(codes.dtype).eps * largest  # two to four steps between neighbouring floats
    return codes[0] + size * centre, jnp.where(std > rounding, std, jnp.where(largest > 0, largest, 1))


@partial(jax.jit, static_argnames=("classes", "max_steps", "standard"))
@jax.default_matmul_precision("highest")
def fit_linear(
    codes: Array,
    labels: Array,
    classes: int,
    l2: float = 1.0,
    tolerance: float = 1e-6,
    max_steps: int = 1000,
    standard: bool = True,
) -> Probe:
    """The minimum of sum_i cross-entropy_i + l2 / 2 ||W||^2 by L-BFGS, from zero.

    It is scikit-learn's LogisticRegression with C = 1 / l2, after its StandardScaler if `standard`. Stops where no
    entry of the mean loss's gradient exceeds `tolerance`, where rounding lets no step make progress, or after
    `max_steps`.

    Args:
        codes: [N, K].
        labels: [N], integers from 0 to classes - 1.
        classes: how many there are, C.
        l2: strength of the penalty on weights (not biases), in the units of the summed loss.
        tolerance: on the gradient.
        max_steps: of L-BFGS.
        standard: standardise the codes first; else they are taken as they are.
    """
    import optax  # where it is used: a search loads this package

    mean, scale = standardise(codes) if standard else (jnp.zeros_like(codes[0]), jnp.ones_like(codes[0]))
    x = (codes - mean) / scale
    target = jax.nn.one_hot(labels, classes, dtype=x.dtype)

    def objective(p: tuple[Array, Array]) -> Array:
        weights, bias = p
        nll = optax.softmax_cross_entropy(x @ weights + bias, target)
        return nll.mean() + l2 / (2 * len(x)) * jnp.square(weights).sum()

    solver = optax.lbfgs(memory_size=20)
    gradient_of = optax.value_and_grad_from_state(objective)

    def largest(tree: Any) -> Array:
        return jnp.max(jnp.stack([jnp.abs(leaf).max() for leaf in jax.tree.leaves(tree)]))

    def going(carry) -> Array:
        _, _, step, gradient, moved = carry
        return (step < max_steps) & (gradient > tolerance) & moved

    def improve(carry):
        p, state, step, _, _ = carry
        value, gradient = gradient_of(p, state=state)
        updates, state = solver.update(gradient, state, p, value=value, grad=gradient, value_fn=objective)
        p: Any = optax.apply_updates(p, updates)
        return p, state, step + 1, largest(optax.tree.get(state, "grad")), largest(updates) > 0

    zero: Any = jnp.zeros((x.shape[1], classes), x.dtype), jnp.zeros((classes,), x.dtype)
    begin = zero, solver.init(zero), jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf, x.dtype), jnp.asarray(True)
    (weights, bias), _, steps, gradient, _ = lax.while_loop(going, improve, begin)
    return Probe(weights=weights, bias=bias, mean=mean, scale=scale, steps=steps, gradient=gradient)


@jax.jit
def predict_linear(probe: Probe, codes: Array) -> Array:
    """The most probable class. [N, K] -> [N]."""
    return jnp.argmax((codes - probe.mean) / probe.scale @ probe.weights + probe.bias, -1)


@partial(jax.jit, static_argnames=("neighbours", "classes"))
def predict_knn(train: Array, labels: Array, codes: Array, neighbours: int, classes: int) -> Array:
    """The class of most of the nearest `neighbours` training codes, Euclidean; of equals, the smallest class.

    Args:
        train: [N, K].
        labels: [N], integers from 0 to classes - 1.
        codes: [M, K], to be classified.
        neighbours: how many vote.
        classes: how many there are.

    Returns:
        [M], classes.
    """
    up = -exponent(train)  # squares of small codes are 0
    near, _ = nearest(jnp.ldexp(train, up), jnp.ldexp(codes, up), neighbours)
    return jax.vmap(lambda votes: jnp.argmax(jnp.bincount(votes, length=classes)))(labels[near])


def linear_probe(train: Array, train_y: Any, test: Array, test_y: Any, *, l2: float = 1.0) -> float:
    """Accuracy on test of `fit_linear` on train. Codes [N, K], labels [N] of integers from 0, or strings.

    An example with a label below 0 does not count. Raises ValueError if train or test have no labels from 0 on, and for
    codes that are not finite.
    """
    NOT_NEGATIVE.check("l2", l2)
    (train, train_y), (test, test_y) = _known(train, train_y), _known(test, test_y)
    train_y, test_y, classes = _classes(train_y, test_y)
    probe = fit_linear(train, train_y, classes, l2)
    return float(jnp.mean(predict_linear(probe, test) == test_y))


def knn_accuracy(train: Array, train_y: Any, test: Array, test_y: Any, *, neighbours: int = 5) -> float:
    """Accuracy on test of `predict_knn` from train. Arguments and errors are those of `linear_probe`."""
    (train, train_y), (test, test_y) = _known(train, train_y), _known(test, test_y)
    train_y, test_y, classes = _classes(train_y, test_y)
    return float(jnp.mean(predict_knn(train, train_y, test, neighbours, classes) == test_y))


def _known(codes: Array, y: Any) -> tuple[Array, np.ndarray]:
    """The codes and labels of examples that have a label."""
    y = np.asarray(y)
    if y.ndim != 1 or len(y) != len(codes):
        raise ValueError(f"labels have the shape {y.shape}; give one for each of {len(codes)} examples, [N]")
    check_finite(codes=codes)
    known = labelled(y)
    if not known.any():
        raise ValueError(f"none of {len(y)} examples has a label (all are below 0): give labels from 0")
    return (codes, y) if known.all() else (codes[np.flatnonzero(known)], y[known])


def _classes(train_y: np.ndarray, test_y: np.ndarray) -> tuple[Array, Array, int]:
    """Labels as places among the classes of train; one that train lacks becomes -1, which nobody predicts."""
    known, train_index = np.unique(train_y, return_inverse=True)
    test_index = np.minimum(np.searchsorted(known, test_y), len(known) - 1)
    test_index = np.where(known[test_index] == test_y, test_index, -1)
    return jnp.asarray(train_index), jnp.asarray(test_index), len(known)
