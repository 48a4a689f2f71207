"""Neural Discrete Representation Learning. van den Oord, Vinyals & Kavukcuoglu (2017), arXiv:1711.00937."""

from typing import Annotated

import jax
from jax import Array

from ..checks import NOT_NEGATIVE, PORTION, Amount, Count, Inside, checked, needs
from ..core import Algorithm, Autoencoder, Batch, Key, Loss, Metrics, Optimizer, Params, address, descend
from ..distributions import likelihoods, quantisers
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..distributions.quantisers import CODEBOOKS, LEVELS, SIGNS, GradientName, Quantised, Quantiser, QuantiserName
from ..objectives.recode import code_only
from ..objectives.terms import reconstruction


@checked
def vq_vae(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    quantiser: QuantiserName | Quantiser = "moving",
    dimension: Count | None = None,
    size: Annotated[Count, needs("quantiser", *CODEBOOKS)] = 256,
    commitment: Annotated[float | None, NOT_NEGATIVE, needs("quantiser", *CODEBOOKS, *SIGNS)] = None,
    gradient: Annotated[GradientName, needs("quantiser", *CODEBOOKS)] = "straight",
    decay: Annotated[Inside, needs("quantiser", "moving", "residual")] = 0.99,
    least: Annotated[Amount, needs("quantiser", "moving", "residual")] = 0.01,
    depth: Annotated[Count, needs("quantiser", "residual")] = 2,
    drop: Annotated[float, PORTION, needs("quantiser", "residual")] = 0.0,
    levels: Annotated[tuple[int, ...], LEVELS, needs("quantiser", "fsq")] = (8, 5, 5, 5),
    entropy: Annotated[Amount, needs("quantiser", *SIGNS)] = 0.1,
    sharpness: Annotated[Amount, needs("quantiser", *SIGNS)] = 1.0,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
) -> Algorithm:
    """A code of K / dimension vectors, each quantised to one of a finite set; -log p(x | z) plus the quantiser's cost.

    The quantiser defines the gradient through it, mostly straight through. In a code of maps [h, w, c] with
    `dimension` c, a vector is the channels of one place.

    Args:
        net: the network, one head.
        optimizer: an optax optimizer.
        quantiser: nearest vector of a codebook: moving averages (moving), learned, or a learned map of fixed vectors
            (simvq); a sum of several (residual); rounded numbers (fsq); signs (lfq), on the sphere (spherical).
        dimension: size of a vector, D, which divides the network's latents K; None for 8, or K if 8 does not divide it.
        size: number of vectors in a codebook, S.
        commitment: weight of the squared distance of codes from their vectors, eq. (3); None: 0.25, or 0.01 for signs.
        gradient: straight (straight through) or rotation (by the rotation that takes a code to its vector).
        decay: decay of the moving averages in one step.
        least: a vector of a moving codebook whose average count in a batch is smaller is dead, and is drawn anew.
        depth: number of codebooks of residual; each gives a vector one symbol.
        drop: residual: fraction of the steps that use only the first codebooks, a random number of them.
        levels: fsq: number of levels of each of the D numbers of a vector, at least 3.
        entropy: signs: weight of H(c | h) - H(c), which makes codes confident and evenly used.
        sharpness: signs: sharpness of p(c | h), which is proportional to exp(2 sharpness h.c).
        likelihood: a name, or a `Likelihood`.
    """
    p = likelihoods.likelihood(likelihood, code_only(net))
    options = {"size": size, "commitment": commitment, "gradient": gradient, "decay": decay, "least": least}
    options |= {"depth": depth, "drop": drop, "levels": levels, "entropy": entropy, "sharpness": sharpness}
    q = quantisers.of_codes(quantiser, net.latents, dimension, **options)

    def init(key: Key, data: Batch) -> Params:
        params = net.init(address(key, "net"), data)
        h = net.encode(params, data.x[: -(-4 * max(q.sizes) * q.dimension // net.latents)])  # vectors enough to choose
        return params | q.init(address(key, "codebook"), h) | p.init(address(key, "likelihood"), data)

    def quantised(params: Params, x: Array, key: Key | None) -> Quantised:  # a key means training
        key_net, key_book = (None, None) if key is None else jax.random.split(key)
        return q.quantise(params, net.encode(params, x, key_net), key_book)

    def terms(params: Params, batch: Batch, key: Key | None) -> tuple[Array, Loss]:
        key_code, key_decoder = (None, None) if key is None else jax.random.split(key)
        z, symbols, cost, patch = quantised(params, batch.x, key_code)
        output = net.decode(params, z, key_decoder)
        nll = p.nll(params, output, batch.x)
        used = {} if key is None else {"batch_perplexity": quantisers.perplexities(symbols, q.sizes, nll.dtype).mean()}
        return output, Loss(nll + cost, {"reconstruction": nll, "commitment": cost} | used, patch)

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        output, result = terms(params, batch, None)
        x_hat = p.reconstruction(params, output, batch.x)
        return {"loss": result.value, **result.metrics, **reconstruction(x_hat, batch.x)}

    encode = lambda params, x: quantised(params, x, None).vectors
    return Algorithm(
        init=init,
        rule=descend(lambda *given: terms(*given)[1], optimizer, wrt=("encoder", "decoder", *q.learned, *p.groups)),
        evaluate=evaluate,
        encode=encode,
        decode=lambda params, z: p.mean(params, net.decode(params, z)),
        reconstruct=lambda params, x: p.reconstruction(params, net.decode(params, encode(params, x)), x),
        check=p.check,
        corrupt=net.corrupt,
        statistics=(*q.measured, *p.measured),
        symbols=lambda params, x: quantised(params, x, None).symbols,
        lookup=q.lookup,
        alphabet=q.sizes,
    )
