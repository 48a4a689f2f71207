"""Probes: how well labels can be predicted from codes, by multinomial logistic regression and nearest neighbours.

Both are fitted on the codes of train and scored on the codes of test; both are deterministic.
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
    """A fitted multinomial logistic regression on (codes - mean) / scale."""

    weights: Array  # [K, C]
    bias: Array  # [C]
    mean: Array  # [K]
    scale: Array  # [K]
    steps: Array  # [], of L-BFGS
    gradient: Array  # [], the largest magnitude in the mean loss's gradient at the end


def standardise(codes: Array) -> tuple[Array, Array]:
    """(mean, scale) of each unit, where the scale is the standard deviation. [N, K] -> [K], [K].

    The scale of a unit that varies only by rounding is its largest magnitude, or 1 if that is 0. Codes may have any
    size and distance from zero: what is squared are differences from the first code, divided by the largest of them.
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

    It is scikit-learn's LogisticRegression with C = 1 / l2, after its StandardScaler if `standard`. It stops if no
    entry of the mean loss's gradient exceeds `tolerance`, if rounding allows no further step, or after `max_steps`.

    Args:
        codes: [N, K].
        labels: [N], integers from 0 to classes - 1.
        classes: the number of classes, C.
        l2: strength of the penalty on weights (not biases), in the units of the summed loss.
        tolerance: the largest magnitude in the gradient at which it stops.
        max_steps: the largest number of steps of L-BFGS.
        standard: whether to standardise the codes first.
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
    """The most frequent class among the nearest `neighbours` training codes, by Euclidean distance.

    Of classes with equally many votes it is the smallest.

    Args:
        train: [N, K].
        labels: [N], integers from 0 to classes - 1.
        codes: [M, K], to be classified.
        neighbours: the number of training codes that vote.
        classes: the number of classes.

    Returns:
        [M], classes.
    """
    up = -exponent(train)  # without it squares of small codes round to 0
    near, _ = nearest(jnp.ldexp(train, up), jnp.ldexp(codes, up), neighbours)
    return jax.vmap(lambda votes: jnp.argmax(jnp.bincount(votes, length=classes)))(labels[near])


def linear_probe(train: Array, train_y: Any, test: Array, test_y: Any, *, l2: float = 1.0) -> float:
    """The accuracy on test of `fit_linear` on train. Codes [N, K]; labels [N], integers from 0 or strings.

    Examples with a label below 0 do not count. Raises ValueError for labels of another shape, if train or test has no
    label from 0 on, for codes that are not finite, and for a negative l2.
    """
    NOT_NEGATIVE.check("l2", l2)
    (train, train_y), (test, test_y) = _known(train, train_y), _known(test, test_y)
    train_y, test_y, classes = _classes(train_y, test_y)
    probe = fit_linear(train, train_y, classes, l2)
    return float(jnp.mean(predict_linear(probe, test) == test_y))


def knn_accuracy(train: Array, train_y: Any, test: Array, test_y: Any, *, neighbours: int = 5) -> float:
    """The accuracy on test of `predict_knn` from train. Arguments and errors are those of `linear_probe`.

    Raises ValueError also for less than one neighbour, and for more than train has codes with a label.
    """
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
    """(train labels, test labels, number of classes), with labels as numbers of the classes of train.

    A test label that train lacks becomes -1, which is never predicted.
    """
    known, train_index = np.unique(train_y, return_inverse=True)
    test_index = np.minimum(np.searchsorted(known, test_y), len(known) - 1)
    test_index = np.where(known[test_index] == test_y, test_index, -1)
    return jnp.asarray(train_index), jnp.asarray(test_index), len(known)
