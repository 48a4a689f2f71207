"""Means of metrics over examples, batches and shards: over all examples, or over those that have a label."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Metrics = dict[str, Any]

LABELLED = "labelled"  # a metric: the examples with a label, 0 or 1 each; the metrics beside it are means over these


def means(metrics: Metrics, mean: Callable[[Any], Any] = jnp.mean) -> Metrics:
    """`mean` of every metric; beside the metric `LABELLED`, that over the labelled examples alone, 0 if there are none.

    A mean over batches then counts each batch by its labelled examples.
    """
    return of_labelled(jax.tree.map(mean, shares(metrics)))


def shares(metrics: Metrics) -> Metrics:
    """Metrics that any mean over examples may add up; `of_labelled` of the mean gives the mean over the labelled."""
    known = metrics.get(LABELLED)
    return metrics if known is None else {k: m if k == LABELLED else m * known for k, m in metrics.items()}


def of_labelled(mean: Metrics) -> Metrics:
    """The inverse of `shares`, after a mean over examples."""
    known = mean.get(LABELLED)
    some = None if known is None else known + (known == 0)
    return mean if some is None else {k: m if k == LABELLED else m / some for k, m in mean.items()}
