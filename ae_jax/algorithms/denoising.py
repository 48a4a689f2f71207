"""Denoising autoencoders reconstruct the clean input from a corrupted one.

Vincent, Larochelle, Bengio & Manzagol (2008), ICML; Vincent et al. (2010), JMLR 11.
"""

import jax

from ..checks import Weight, checked
from ..core import Algorithm, Autoencoder, Batch, Key, Metrics, Optimizer, Params
from ..corruption import Corruption, CorruptionName, corrupted
from ..corruption import corruption as corruption_of
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..distributions.likelihoods import likelihood as likelihood_of
from ..objectives.regularized import regularized


@checked
def denoising(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    corruption: CorruptionName | Corruption = "masking",
    level: float | None = None,
    likelihood: LikelihoodName | Likelihood = "squared",
    weight_l2: Weight = 0.0,
) -> Algorithm:
    """Reconstruction of x from a corrupted copy, drawn afresh at each update; see `corruption` for the kinds.

    Codes, reconstructions and evaluation use the clean input; only the metric `denoising` corrupts.

    Args:
        net: the network, one head.
        optimizer: an optax optimizer.
        corruption: corruption of each input: masking (elements become 0), gaussian (noise is added),
            salt_and_pepper (elements become 0 or 1), patches (part of an image is erased), bar (an upright bar
            is erased), grey (colour is lost), low_resolution (shrunk and enlarged); or a function (x, key) -> x.
        level: fraction of elements (masking, salt_and_pepper), area (patches), width (bar) or colour (grey) that is
            lost; standard deviation of the noise in units of the data (gaussian); divisor of height and width, a whole
            number (low_resolution). Default: 0.25; 1 for grey, 2 for low_resolution.
        likelihood: squared (summed squared error), bernoulli (cross-entropy in nats, summed) or multinomial (words).
        weight_l2: weight of the sum of w^2 over all weights (not biases).
    """
    corrupt, p = corruption_of(corruption, level), likelihood_of(likelihood)
    clean = regularized(corrupted(net, corrupt), optimizer, likelihood, weight_l2=weight_l2)

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        key_clean, key_corrupt = jax.random.split(key)
        _, output = net.apply(params, corrupt(batch.x, key_corrupt))
        denoised = p.nll(params, output, batch.x)  # [B], what training minimises (2010, eq. 4)
        return clean.evaluate(params, batch, key_clean) | {"denoising": denoised}

    return clean._replace(evaluate=evaluate)
