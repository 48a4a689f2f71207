"""Scaling and evaluating sparse autoencoders. Gao et al. (2024), arXiv:2406.04093; other forms: `objectives.sparsity`.
Each example is a sum of a few units of a dictionary: vectors, mostly of length 1, the rows of one linear decoder.
"""

from functools import partial
from math import ceil, prod
from typing import Annotated

import jax.numpy as jnp
import optax
from jax import Array, lax

from ..checks import COUNT, LATE, Amount, Count, Positive, Weight, Width, check_optimizer, checked, final_value, needs
from ..core import Algorithm, Batch, Key, Loss, Metrics, Optimizer, Params, chain, descend
from ..objectives import dictionaries as d
from ..objectives.sparsity import COUNTED, START, WEIGHED, FormName, form_of
from ..objectives.terms import reconstruction


@checked
def dictionary(
    net: d.DictionaryAutoencoder,
    optimizer: Optimizer,
    *,
    form: FormName = "topk",
    k: Annotated[int | None, COUNT, needs("form", *COUNTED)] = None,
    weight: Annotated[Weight, needs("form", *WEIGHED)] = 1.0,
    bandwidth: Annotated[Positive, needs("form", "jumprelu")] = 0.05,
    widths: Annotated[Width, needs("form", "matryoshka")] = (),
    auxiliary: Annotated[Amount, needs("form", *COUNTED)] = 1 / 32,
    auxiliary_k: Annotated[int | None, COUNT, needs("form", *COUNTED)] = None,
    resample: bool = False,
    dead_after: Count = 10_000_000,
    inputs: Annotated[int | None, COUNT] = None,
) -> Algorithm:
    """Squared error of a sum of few units, z = s(W (x - b) + c), x_hat = z D + b, and the form's penalty.

    It takes real values; the papers' have a mean squared norm of D, as `data.load(..., range="normalised")` gives.

    Args:
        net: one linear layer each way, not tied, such as `networks.linear`; b is the decoder's bias.
        optimizer: an optax optimizer.
        form: topk keeps the k largest units; batch_topk and matryoshka k on average; others have a penalty.
        k: units that an example activates; None for a sixteenth of them, 32 of 512.
        weight: of the penalty: the sum of z, or of gated's gates, or the count of jumprelu's active units.
        bandwidth: width of the kernel that gives jumprelu's threshold its gradient, and that threshold at the start.
        widths: units of each prefix that reconstructs alone, rising; () for doubling from a sixteenth of the units.
        auxiliary: weight of AuxK: the dead units' error in fitting the residual, over its variance, times the data's.
        auxiliary_k: dead units in that sum; None for half of the data's dimensions, as in the paper.
        resample: dead units start anew at badly reconstructed examples, and the optimizer's moments of them at 0.
        dead_after: training examples after which a unit that none of them activated is dead.
        inputs: the encoder reads so many numbers of an example, the decoder gives the others: a transcoder; None: all.

    Raises ValueError for more units or inputs than there are. `init` raises it for a network of other layers.
    """
    net, read = d.checked_net(net), d.reads(net, inputs)
    k = ceil(net.latents / 16) if k is None else k
    helping = min(ceil(prod(net.shape) / 2), net.latents) if auxiliary_k is None else auxiliary_k
    for name, count in (("k", k), ("auxiliary_k", helping)):
        if count > net.latents:
            raise ValueError(f"{name} is {count}; it must be at most the code's {net.latents} units")
    s, final = form_of(form, net.latents, k, widths, bandwidth), final_value(weight)
    seen, terms = partial(d.before, net, read=read), partial(d.terms, net, s, read=read)
    encode = lambda params, x: s.code(params, seen(params, x), False)
    whole = lambda x, x_hat: x_hat if read is None else jnp.where(read[None], x, x_hat)
    reconstruct = lambda params, x: whole(x, net.decode(params, encode(params, x)))

    def init(key: Key, data: Batch) -> Params:
        params = d.start(net, key, data, read)
        return params | s.init(seen(params, data.x[:: ceil(len(data.x) / START)]))

    def loss(params: Params, batch: Batch, key: Key, weight: float | Array) -> Loss:
        a, z, rest, (value, metrics, _) = terms(params, batch.x, key, weight)
        waited, dead = jnp.minimum(params["idle"], LATE) + len(z), params["idle"] >= dead_after
        metrics = metrics | {"dead_share": dead.mean(dtype=z.dtype)}
        if form in COUNTED:
            metrics["auxiliary"] = d.auxiliary(params, a, lax.stop_gradient(rest), dead, helping)
            value = value + auxiliary * params["variance"] * metrics["auxiliary"]
        return Loss(value, metrics, {"idle": jnp.where((z > 0).any(0), 0, waited)} | s.follow(params, z))

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        _, z, _, (value, metrics, _) = terms(params, batch.x, None, final)
        dead = jnp.full_like(value, (params["idle"] >= dead_after).mean(dtype=value.dtype))
        metrics = metrics | {"dead_share": dead, "fvu": metrics["reconstruction"] / params["variance"]}
        return {"loss": value, **metrics, **reconstruction(whole(batch.x, net.decode(params, z)), batch.x)}

    optimizer = optax.chain(d.tangent(s.unit_rows), check_optimizer(optimizer))
    learn = descend(loss, optimizer, wrt=("encoder", "decoder", *s.learned), weight=weight)
    learn = d.resampling(learn, s, optimizer, reconstruct, dead_after, read) if resample else learn
    return Algorithm(
        init=init,
        rule=chain(learn, d.bounded(s)),
        evaluate=evaluate,
        encode=encode,
        decode=net.decode,
        reconstruct=reconstruct,
        corrupt=net.corrupt,
        statistics=("idle", "variance", *s.followed),
    )
