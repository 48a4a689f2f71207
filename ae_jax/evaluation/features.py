"""Metrics of samples, by an extractor's features of samples and of examples; and the cost of drawing samples."""

import warnings
import zlib
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import pca
from .samples import frechet_distance, squared_mmd, support

FEATURES = 64  # principal components, or hidden units of the classifier
LARGEST = 4096  # dimensions of an example, at most, for which a classifier is fitted within seconds
PASSES, RATE, EXAMPLES = 10, 0.01, 3000  # of the classifier's training
FEWEST = 100  # examples, at least, on either side
WORK = 2e10  # multiply-adds, at most, of drawing the samples: some seconds on two cores


class Extractor(NamedTuple):
    """A function from examples to features, fitted to training examples."""

    name: str  # in the names of metrics
    features: Callable[[Any], np.ndarray]  # x [N, *shape] -> [N, F]
    checksum: str  # of its params: scores compare only where it is the same


def checksum(arrays: Sequence[Any]) -> str:
    """The CRC-32 of arrays, eight hexadecimal digits."""
    value = 0
    for array in arrays:
        value = zlib.crc32(np.ascontiguousarray(array).tobytes(), value)
    return f"{value:08x}"


def extractor(x: Any, y: Any = None) -> Extractor:
    """`classifier` for examples x [N, *shape] with labels y [N]; else `principal`.

    `principal` is also taken for labels of one class, and for examples with more than `LARGEST` dimensions.
    """
    labels = None if y is None else np.asarray(y)
    if labels is None or labels.ndim != 1 or len(np.unique(labels)) < 2 or prod(x.shape[1:]) > LARGEST:
        return principal(x)
    return classifier(x, labels)


def principal(x: Any) -> Extractor:
    """The first principal components of x [N, *shape], at most `FEATURES`, as an extractor."""
    fitted = pca.fit(jnp.asarray(x), FEATURES)
    return Extractor(
        f"pca={len(fitted.components)}",
        lambda x: np.asarray(pca.encode(fitted, jnp.asarray(x))),
        checksum([fitted.mean, fitted.components]),
    )


def classifier(x: Any, y: np.ndarray) -> Extractor:
    """The hidden layer of scikit-learn's perceptron for the labels: `FEATURES` rectified units, seed 0.

    It is fitted to at most `EXAMPLES` examples, evenly spaced.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    at = np.unique(np.linspace(0, len(x) - 1, min(len(x), EXAMPLES)).astype(int))
    flat = lambda x: np.asarray(x, np.float32).reshape(len(x), -1)
    options: Any = {"learning_rate_init": RATE, "max_iter": PASSES, "random_state": 0}
    options |= {"batch_size": min(128, len(at))}
    model: Any = MLPClassifier((FEATURES,), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few passes are enough for features
        model.fit(flat(np.asarray(x)[at]), np.asarray(y)[at])
    kernel, bias = model.coefs_[0], model.intercepts_[0]
    hidden = lambda x: np.maximum(flat(x) @ kernel + bias, 0)
    return Extractor(f"classifier={FEATURES}", hidden, checksum([kernel, bias]))


class Judge(NamedTuple):
    """The features that samples are compared with."""

    by: Extractor
    real: np.ndarray  # of test examples, [N, F]
    beside: dict[str, float] = {}  # scores of as many training examples: about the best that samples can reach

    def named(self, name: str) -> str:
        """The name of a score, with the extractor and the number of examples on either side."""
        return f"{name} ({self.by.name}, n={len(self.real)})"

    def scores(self, samples: np.ndarray) -> dict[str, float]:
        """The scores of N samples, by name; none for samples that are not finite."""
        if not np.isfinite(samples).all():
            return {}
        return {self.named(name): value for name, value in scores(self.real, self.by.features(samples)).items()}


def judge(x: Any, y: Any, real: Any, other: Any) -> Judge:
    """The judge whose features are fitted to training examples x [N, *shape] with labels y [N] or None.

    `real` are the test examples to compare with. `other` are training examples, scored as if they were samples; they
    need as many examples as `real`.
    """
    by = extractor(x, y)
    found = Judge(by, by.features(real))
    if len(other) < len(real):
        return found
    values = scores(found.real, by.features(other))
    beside = {f"train {found.named(name)}": values[name] for name in ("frechet_distance", "squared_mmd")}
    return found._replace(beside=beside)


def scores(real: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """Every score of samples, by features of examples [N, F] and of samples [M, F]; N and M are above 5."""
    spread = np.median(np.linalg.norm(real[::2][: len(real) // 2] - real[1::2], axis=1))  # of pairs
    widths = [float(spread) * factor for factor in (0.5, 1.0, 2.0)] if spread > 0 else [1.0]
    near = support(real, made)
    return {
        "frechet_distance": frechet_distance(real, made),
        "squared_mmd": float(squared_mmd(jnp.asarray(real), jnp.asarray(made), widths)),
        **{f"sample_{name}": value for name, value in near._asdict().items()},
    }


def work(fn: Callable[..., Any], *arguments: Any) -> float:
    """The number of multiply-adds in a function's matrix products and convolutions, loops included."""
    return _work(jax.make_jaxpr(fn)(*arguments).jaxpr)


def _work(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        kind, params = equation.primitive.name, equation.params
        if kind == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += prod(equation.outvars[0].aval.shape) * prod(shape[i] for i in contracted)
        elif kind == "conv_general_dilated":
            kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
            outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
            total += prod(out) * prod(kernel) / outputs
        inside = [getattr(part, "jaxpr", part) for part in jax.tree.leaves(list(params.values()), is_leaf=_is_jaxpr)]
        total += params.get("length", 1) * sum(_work(part) for part in inside if hasattr(part, "eqns"))
    return total


def _is_jaxpr(part: Any) -> bool:
    return hasattr(part, "eqns") or hasattr(part, "jaxpr")
