"""Learning rules as pairs of pure functions: the types and combinators of the whole library.

An optax optimizer is a pair `(init, update)`, and such pairs compose. A `Rule` is such a pair: it turns params, memory
and data into params and memory. A step, an epoch and a game of two players are `Rule`s, as *a dataset is a large
batch*. Keys are addresses, never state (see `address`), so any step of any seed can be replayed alone.
"""

import zlib
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .checks import Hyper, check_batch, check_batch_size, check_dtype, check_loss, check_optimizer, length
from .checks import Optimizer as Optimizer

Key = Array  # a typed key, jax.random.key(seed)
NAMES = 2**31  # numbers lie below, names at or above


def address(key: Key, *path: str | int | Array) -> Key:
    """The key at a path of names and numbers below `key`: `address(key, "epoch", 3, "step", 7)`.

    Each part of the path is one `jax.random.fold_in`; a name's number is the CRC-32 of its UTF-8 text with the highest
    bit set. In JAX `split(key)[i] == fold_in(key, i)`, so a number and a split may give the same key. A name gives
    another key than both, since numbers lie below 2^31: if a key has two uses, give each a name.

    Raises ValueError for a number outside [0, 2^31) that is not traced, TypeError for a part of another type.
    """
    for part in path:
        if isinstance(part, str):
            part = zlib.crc32(part.encode()) | NAMES
        elif isinstance(part, bool) or not jax.numpy.issubdtype(jax.numpy.result_type(part), jax.numpy.integer):
            raise TypeError(f"the address has the part {part!r}: give a name or a whole number")
        elif isinstance(part, int | np.integer) and not 0 <= part < NAMES:
            raise ValueError(f"the address has the number {part}: give one from 0 to {NAMES - 1}, or a name")
        key = jax.random.fold_in(key, part)
    return key


Params = dict[str, Any]  # named groups: "encoder", "decoder", "critic", "codebook", "rho", "chains"
Memory = Any  # a rule's state between updates: optimizer state, step counters
Metrics = dict[str, Any]
Init = Callable[[Key, "Batch"], Params]  # sees the dataset
Evaluate = Callable[[Params, "Batch", Key], Metrics]  # each metric [B, ...]


class Batch(NamedTuple):
    """Examples; a dataset is a large `Batch`."""

    x: Array  # [B, ...]
    y: Array | None = None  # [B], labels; None without labels


class Loss(NamedTuple):
    """The result of a loss function. The mean over examples is taken in one place only: `descend`."""

    value: Array  # [B] or []
    metrics: Metrics = {}  # each [B] or []
    patch: Params = {}  # groups to overwrite instead of descending them: codebooks, chains, statistics


class Rule(NamedTuple):
    """A learning rule: `init` gives its memory, `update` learns from a batch."""

    init: Callable[[Params], Memory]
    update: Callable[[Params, Memory, Batch, Key], tuple[Params, Memory, Metrics]]


class Net(NamedTuple):
    """A network as a pair of pure functions. A critic is a `Net`; an encoder and a decoder make an `Autoencoder`."""

    init: Callable[[Key, Array], Any]  # (key, inputs [B, ...]) -> params
    apply: Callable[[Any, Array], Array]  # (params, inputs [B, ...]) -> [B, ...]


class Autoencoder(NamedTuple):
    """A network as pure functions. A key given to `encode`, `decode` or `apply` means *training*: dropout and
    corruption act; without one they are deterministic. Output is raw: an `Algorithm` maps it to data space.
    """

    shape: tuple[int, ...]  # of one example, without the batch axis
    latents: int  # K, the size of a code
    init: Init  # groups "encoder" and "decoder"
    encode: Callable[..., Array]  # (params, x [B, *shape], key=None) -> [B, heads * K]
    decode: Callable[..., Array]  # (params, z [B, K], key=None) -> output [B, *shape], logits for Bernoulli
    apply: Callable[..., tuple[Array, Array]]  # (params, x, key=None) -> (code, output), in one pass
    # The Jacobian of an encoder s(xW + b), s elementwise: (params, x) -> (W [D, K], s'(xW + b) [B, K]); else None.
    layer: Callable[[Params, Array], tuple[Array, Array]] | None = None
    corrupt: Callable[[Array, Key], Array] | None = None  # (x, key) -> x, applied before `encode` in training
    activation: str | None = None  # the name of the code's activation; None if unknown
    output: str | None = None  # the name of the output's activation; None if unknown
    side_information: str = ""  # in words, what `apply` decodes in addition to the code; "" for nothing
    outputs: int = 1  # numbers for each number of x; above 1 an output is [B, *shape, outputs]
    trained: bool = False  # whether `init` gives a trained encoder, which replaces pretraining


class Heads(NamedTuple):
    """In the annotation of an algorithm's network: the output that its encoder must have."""

    number: int  # vectors of size K
    activation: str = "linear"  # of these vectors
    network: str = "mlp"  # the default network, a name in `networks.NETWORKS`
    single: tuple[str, str] | None = None  # an option of the algorithm, and its value with which one head is enough


SigmoidAutoencoder = Annotated[Autoencoder, Heads(1, "sigmoid")]  # activations in [0, 1]


class Algorithm(NamedTuple):
    """A paper's contribution: the start, one step of learning, and the uses of the trained model."""

    init: Init
    rule: Rule  # on a minibatch
    evaluate: Evaluate  # each [B]; it cannot compare examples: `evaluate_each` and `average` give it one at a time
    encode: Callable[[Params, Array], Array]  # x [B, *shape] -> deterministic code [B, K]
    decode: Callable[[Params, Array], Array]  # code [B, K] -> data space [B, *shape]
    reconstruct: Callable[[Params, Array], Array]  # x -> data space, through the code (and switches, if any)
    sample: Callable[[Params, Key, int], Array] | None = None  # n new examples [n, *shape]: E[x | z] where z is a code
    draw: Callable[[Params, Key, int], Array] | None = None  # n draws of x itself, with the noise of p(x | z)
    # (params, x, key) -> a draw of p(x | z) and its mean, of z ~ q(z | x), each [B, *shape]
    transition: Callable[[Params, Array, Key], tuple[Array, Array]] | None = None
    log_weight: Callable[[Params, Batch, Key], Array] | None = None  # log p(x, z) - log q(z | x), z ~ q, [B]
    moments: Callable[[Params, Array], Array] | None = None  # x -> mean and log-variance of q(z | x), Gaussian, [B, 2K]
    prior: Any = None  # p(z) of a member that draws codes, a `distributions.priors.Prior`
    check: Callable[[Any, str], None] | None = None  # (x, its description): raises ValueError for data of another kind
    before: Rule | None = None  # on the whole dataset, before each pass over it: statistics
    corrupt: Callable[[Array, Key], Array] | None = None  # the corruption that training sees, if any
    statistics: tuple[str, ...] = ()  # the groups of params that are measured or drawn, not learned
    decodes: bool = True  # False: the decoder learns nothing, so nothing decoded is measured, shown or written
    compares: bool = False  # its loss compares the examples of a batch, so batches of one example are refused
    classes: int | None = None  # learns from labels 0 to classes - 1; None: learns without labels
    predict: Callable[[Params, Array], Array] | None = None  # x -> its class or cluster, [B] integers
    symbols: Callable[[Params, Array], Array] | None = None  # x -> the symbols of its code, [B, P] integers
    lookup: Callable[[Params, Array], Array] | None = None  # symbols [B, P] -> the code that they stand for, [B, K]
    alphabet: tuple[int, ...] = ()  # [L]: symbol p of a code is below alphabet[p % L]; () without symbols


class Descent(NamedTuple):
    """Memory of `descend`."""

    step: Array  # [] int32, updates made so far
    optimizer: Any


LABELLED = "labelled"  # a metric: 1 for an example with a label, else 0; beside it, means are over labelled examples


def means(metrics: Metrics, mean: Callable[[Any], Any] = jnp.mean) -> Metrics:
    """`mean` of every metric. Metrics beside `LABELLED` are means over the labelled examples, or 0 without any.

    A mean over batches then weights each batch by the number of its labelled examples.
    """
    return of_labelled(jax.tree.map(mean, shares(metrics)))


def shares(metrics: Metrics) -> Metrics:
    """The metrics times `LABELLED`, if present. `of_labelled` turns their means into means over labelled examples."""
    known = metrics.get(LABELLED)
    return metrics if known is None else {k: m if k == LABELLED else m * known for k, m in metrics.items()}


def of_labelled(mean: Metrics) -> Metrics:
    """The means of `shares` divided by the mean of `LABELLED`, if they have it: the inverse of `shares`."""
    known = mean.get(LABELLED)
    return mean if known is None else {k: m if k == LABELLED else m / (known + (known == 0)) for k, m in mean.items()}


def merge_metrics(*parts: Metrics) -> Metrics:
    """The metrics of all parts. Raises ValueError for two metrics of the same name."""
    names = [name for part in parts for name in part]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two metrics are called {sorted(twice)}: give one another name, as by descend(name=...)")
    return {name: value for part in parts for name, value in part.items()}


def descend(
    loss: Callable[..., Loss], optimizer: Optimizer, *, wrt: tuple[str, ...] | None = None, name="loss", **hyper: Hyper
) -> Rule:
    """Gradient descent on the mean of `loss(params, batch, key, **hyper) -> Loss`.

    `wrt` names the groups of params that learn (default: all), `name` the metric that reports the mean loss. A
    hyperparameter may be a schedule over this rule's updates; its value is then a metric too. L-BFGS works as well.
    Raises TypeError unless `optimizer` is one, ValueError for unknown groups and metrics that are neither [B] nor [].
    """
    from optax import apply_updates, with_extra_args_support  # only where something learns

    optimizer = with_extra_args_support(check_optimizer(optimizer))

    def chosen_of(params: Params) -> Params:
        if missing := set(wrt or ()) - set(params):
            raise ValueError(f"wrt names {sorted(missing)}, but the params have the groups {sorted(params)}")
        return {group: params[group] for group in (params if wrt is None else wrt)}

    def update(params: Params, memory: Descent, batch: Batch, key: Key):
        scheduled = {k: jnp.asarray(h(memory.step)) for k, h in hyper.items() if callable(h)}

        def objective(chosen: Params) -> tuple[Array, Loss]:
            result = check_loss(name, loss({**params, **chosen}, batch, key, **{**hyper, **scheduled}))
            return jnp.mean(result.value), result

        chosen = chosen_of(params)
        (value, result), gradient = jax.value_and_grad(objective, has_aux=True)(chosen)
        line_search = {"value": value, "grad": gradient, "value_fn": lambda c: objective(c)[0]}
        updates, state = optimizer.update(gradient, memory.optimizer, chosen, **line_search)
        stepped: Any = apply_updates(chosen, updates)
        metrics = {name: value}, means(result.metrics), scheduled
        return {**params, **stepped, **result.patch}, Descent(memory.step + 1, state), merge_metrics(*metrics)

    return Rule(lambda p: Descent(jnp.zeros((), jnp.int32), optimizer.init(check_dtype(chosen_of(p)))), update)


def assign(fn: Callable[[Params, Batch, Key], Params]) -> Rule:
    """Overwrites groups: `params | fn(params, batch, key)`. For projections and statistics."""
    return Rule(lambda params: (), lambda params, memory, batch, key: (params | fn(params, batch, key), memory, {}))


def chain(*rules: Rule) -> Rule:
    """The rules in order on the same batch, rule i with `address(key, i)`: players of a game, statistics first."""

    def update(params: Params, memory: Memory, batch: Batch, key: Key):
        after, metrics = [], {}
        for i, (rule, m) in enumerate(zip(rules, memory, strict=True)):
            params, m, new = rule.update(params, m, batch, address(key, i))
            metrics = merge_metrics(metrics, new)
            after.append(m)
        return params, tuple(after), metrics

    return Rule(lambda params: tuple(rule.init(params) for rule in rules), update)


def augment(rule: Rule, fn: Callable[[Batch, Key], Batch]) -> Rule:
    """The rule on `fn(batch, key)`: fresh binarisation, crops, corruption of labels."""

    def update(params: Params, memory: Memory, batch: Batch, key: Key):
        key_fn, key_rule = jax.random.split(key)
        return rule.update(params, memory, fn(batch, key_fn), key_rule)

    return Rule(rule.init, update)


def _scan(rule: Rule, params: Params, memory: Memory, batch: Callable[[Array], Batch], key: Key, times: int):
    """`times` updates, number t on `batch(t)` with `address(key, t)`; metrics gain a leading axis."""
    if times < 1:
        raise ValueError(f"the number of updates is {times}; it must be at least 1")

    def step(carry: tuple[Params, Memory], t: Array):
        params, memory, metrics = rule.update(*carry, batch(t), address(key, t))
        return (params, memory), metrics

    (params, memory), metrics = lax.scan(step, (params, memory), jnp.arange(times))
    return params, memory, metrics


def repeat(rule: Rule, times: int) -> Rule:
    """`times` updates of the rule on one batch, update t with `address(key, t)`; metrics are means over the updates."""

    def update(params: Params, memory: Memory, batch: Batch, key: Key):
        params, memory, metrics = _scan(rule, params, memory, lambda t: batch, key, times)
        return params, memory, means(metrics, lambda m: m.mean(0))

    return Rule(rule.init, update)


def batches(data: Batch, key: Key, batch_size: int, sharding: jax.sharding.Sharding | None = None):
    """(batch, size, steps, rest) of a pass: `batch(t, length)` is batch t; `steps` of `size` examples, then `rest`."""
    steps, rest = divmod(length(data), size := min(batch_size, len(data.x)))
    order = jax.random.permutation(address(key, "order"), len(data.x))

    def batch(t: Array | int, length: int) -> Batch:
        index = lax.dynamic_slice_in_dim(order, t * size, length)
        picked = jax.tree.map(lambda a: jnp.take(a, index, axis=0, mode="clip"), data)
        return lax.with_sharding_constraint(picked, sharding) if sharding and length == batch_size else picked

    return batch, size, steps, rest


def sweep(rule: Rule, batch_size: int, sharding: jax.sharding.Sharding | None = None) -> Rule:
    """One pass over a dataset, shuffled by the key: a rule on batches becomes a rule on datasets. Every example is used
    once; a last, shorter batch counts by its size in the metrics. `address(key, "order")` draws the order, step t has
    `address(key, "step", t)`. `sharding` lays full batches over devices. Raises ValueError for a batch size below 1.
    """
    check_batch_size(batch_size)

    def update(params: Params, memory: Memory, data: Batch, key: Key):
        (batch, size, steps, rest), key_steps = batches(data, key, batch_size, sharding), address(key, "step")
        params, memory, metrics = _scan(rule, params, memory, lambda t: batch(t, size), key_steps, steps)
        metrics = jax.tree.map(lambda m: m.mean(0), shares(metrics))
        if rest:
            params, memory, last = rule.update(params, memory, batch(steps, rest), address(key_steps, steps))
            metrics = jax.tree.map(lambda m, n: m + (n - m) * rest / len(data.x), metrics, shares(last))
        return params, memory, of_labelled(metrics)

    return Rule(rule.init, update)


def epoch(algorithm: Algorithm, batch_size: int, sharding: jax.sharding.Sharding | None = None) -> Rule:
    """An epoch, a rule on a dataset: statistics, if any, then a sweep. Raises ValueError for too small a batch size."""
    one = sweep(algorithm.rule, check_batch_size(batch_size, algorithm.compares), sharding)
    return one if algorithm.before is None else chain(algorithm.before, one)


def start(init: Init, rule: Rule, data: Batch, key: Key) -> tuple[Params, Memory, Key]:
    """A run's params, drawn with `address(key, "init")`, its memory, and its epochs' key, `address(key, "epoch")`."""
    check_batch(data)
    params = init(address(key, "init"), data)
    return params, rule.init(params), address(key, "epoch")


def fit(init: Init, rule: Rule, data: Batch, key: Key, epochs: int) -> tuple[Params, Metrics]:
    """A whole run as a pure function: params, and each metric [epochs]. `rule` learns from datasets, see `epoch`."""
    params, memory, key_epochs = start(init, rule, data, key)
    params, _, history = _scan(rule, params, memory, lambda e: data, key_epochs, epochs)
    return params, history


def evaluate_each(evaluate: Evaluate, params: Params, data: Batch, key: Key, batch_size: int = 500, first=0) -> Metrics:
    """`evaluate` on every example by itself: each metric [N, ...]. Example i, counted from `first`, has
    `address(key, "example", i)`. `batch_size` examples run at once; it changes only the memory needed.
    """
    key_examples = address(key, "example")

    def one(example: tuple[Array, Batch]) -> Metrics:
        batch = jax.tree.map(lambda a: a[None], example[1])
        return jax.tree.map(lambda m: m[0], evaluate(params, batch, address(key_examples, example[0])))

    return lax.map(one, (first + jnp.arange(length(data)), data), batch_size=min(batch_size, len(data.x)))


def average(evaluate: Evaluate, params: Params, data: Batch, key: Key, batch_size: int = 500, first=0) -> Metrics:
    """The mean of every metric over a dataset: each [...]. `batch_size` does not change it. See `LABELLED`."""
    return means(evaluate_each(evaluate, params, data, key, batch_size, first), lambda m: m.mean(0))
