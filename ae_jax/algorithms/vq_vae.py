"""Neural Discrete Representation Learning. van den Oord, Vinyals & Kavukcuoglu (2017), arXiv:1711.00937."""

from typing import Annotated

import jax
from jax import Array, lax

from ..checks import Amount, Count, Inside, checked, needs
from ..core import Algorithm, Autoencoder, Batch, Key, Loss, Metrics, Optimizer, Params, address, descend
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..distributions.likelihoods import likelihood as likelihood_of
from ..distributions.quantisers import CodebookName, codebook, perplexity
from ..objectives.recode import code_only
from ..objectives.terms import reconstruction


@checked
def vq_vae(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    size: Count = 256,
    dimension: Count | None = None,
    codebooks: CodebookName = "moving",
    commitment: Amount = 0.25,
    decay: Annotated[Inside, needs("codebooks", "moving")] = 0.99,
    least: Annotated[Amount, needs("codebooks", "moving")] = 0.01,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
) -> Algorithm:
    """A code of K / dimension vectors, each replaced by the nearest of a codebook; -log p(x) plus the codebook's cost.

    Gradients pass the replacement unchanged (straight through). Of maps [h, w, c] with `dimension` c, a vector is the
    channels of one place.

    Args:
        net: the network, one head.
        optimizer: an optax optimizer.
        size: vectors in the codebook, S.
        dimension: of a vector, D, which divides the network's latents K; None for 8, or for K where 8 does not.
        codebooks: moving, averages of what the vectors stand for; or learned, by gradient descent.
        commitment: weight of the cost that holds codes near their vectors, eq. (3).
        decay: of the moving averages, in one step.
        least: mean count in a batch below which a vector of a moving codebook is dead, and is drawn anew.
        likelihood: a name, or a `Likelihood`.
    Raises ValueError if `dimension` does not divide the latents.
    """
    p, eight = likelihood_of(likelihood, code_only(net)), 8 if net.latents % 8 == 0 else net.latents
    dimension = eight if dimension is None else dimension
    if net.latents % dimension:
        raise ValueError(f"dimension is {dimension}, which does not divide the code's {net.latents} latents")
    averages = {"decay": decay, "least": least} if codebooks == "moving" else {}
    q = codebook(size, codebooks, commitment=commitment, **averages)

    def init(key: Key, data: Batch) -> Params:
        params = net.init(address(key, "net"), data)
        some = data.x[: -(-4 * size * dimension // net.latents)]  # vectors enough to choose from
        h = net.encode(params, some).reshape(-1, dimension)
        return params | q.init(address(key, "codebook"), h) | p.init(address(key, "likelihood"), data)

    def quantised(params: Params, x: Array, key: Key | None) -> tuple[Array, Array, Array, Params]:
        key_net, key_book = (None, None) if key is None else jax.random.split(key)
        h = net.encode(params, x, key_net)  # [B, K]
        found = q.quantise(params, h.reshape(-1, dimension), key_book)
        vectors = found.vectors.reshape(h.shape)
        z = vectors if key is None else h + lax.stop_gradient(vectors - h)
        return z, found.symbols.reshape(len(x), -1), found.cost.reshape(len(x), -1).sum(-1), found.patch

    def terms(params: Params, batch: Batch, key: Key | None) -> tuple[Array, Array, Loss]:  # a key means training
        key_code, key_decoder = (None, None) if key is None else jax.random.split(key)
        z, symbols, cost, patch = quantised(params, batch.x, key_code)
        output = net.decode(params, z, key_decoder)
        nll = p.nll(params, output, batch.x)
        return output, symbols, Loss(nll + cost, {"reconstruction": nll, "commitment": cost}, patch)

    def loss(params: Params, batch: Batch, key: Key) -> Loss:
        _, symbols, result = terms(params, batch, key)
        return result._replace(metrics=result.metrics | {"batch_perplexity": perplexity(symbols, size, batch.x.dtype)})

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        output, _, result = terms(params, batch, None)
        return {"loss": result.value, **result.metrics, **reconstruction(p.mean(params, output), batch.x)}

    decode = lambda params, z: p.mean(params, net.decode(params, z))
    encode = lambda params, x: quantised(params, x, None)[0]
    return Algorithm(
        init=init,
        rule=descend(loss, optimizer, wrt=("encoder", "decoder", *(q.groups if q.learned else ()), *p.groups)),
        evaluate=evaluate,
        encode=encode,
        decode=decode,
        reconstruct=lambda params, x: decode(params, encode(params, x)),
        corrupt=net.corrupt,
        statistics=() if q.learned else q.groups,
        symbols=lambda params, x: quantised(params, x, None)[1],
        lookup=lambda params, symbols: q.lookup(params, symbols).reshape(len(symbols), -1),
    )
