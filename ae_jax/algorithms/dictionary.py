"""Scaling and evaluating sparse autoencoders. Gao et al. (2024), arXiv:2406.04093; other forms: `objectives.sparsity`.
Each example is a weighted sum of a few vectors of a dictionary: rows of one linear decoder, mostly of length 1.
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
    """Squared error of x_hat = z D + b with sparse codes z = s(W (x - b) + c), plus the penalty of the form s.

    x is real; the papers scale its mean squared norm to its dimension, as `data.load(..., range="normalised")` does.

    Args:
        net: a linear encoder and a linear decoder, not tied, such as `networks.linear`; b is the decoder's bias.
        optimizer: an optax optimizer.
        form: topk keeps the k largest units; batch_topk and matryoshka k on average; others have a penalty.
        k: number of active units of an example; None for a sixteenth of all units, 32 of 512.
        weight: weight of the penalty: the sum of z (l1), z times row lengths (april), gates or active units (jumprelu).
        bandwidth: jumprelu: width of the kernel that gives the threshold its gradient, and the initial threshold.
        widths: matryoshka: rising sizes of the prefixes that reconstruct alone; () doubles from a sixteenth of units.
        auxiliary: weight of AuxK: dead units' error in fitting the residual, scaled from its variance to the data's.
        auxiliary_k: number of dead units in AuxK; None for half of the data's dimensions, as in the paper.
        resample: restart dead units at badly reconstructed examples, with the optimizer's moments of them at 0.
        dead_after: a unit is dead once this number of training examples in a row has not activated it.
        inputs: transcoder: the encoder reads the first `inputs` numbers, the decoder gives the others; None: all.

    Raises ValueError for `k`, `auxiliary_k` or `inputs` that are too large. `init` raises it for other layers.
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
