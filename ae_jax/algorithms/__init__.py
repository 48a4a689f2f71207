"""One paper a file. `ALGORITHMS` is the list that the laws test and the command line offers."""

from collections.abc import Callable

from ..core import Algorithm
from .autoencoder import autoencoder
from .classifier import classifier
from .contractive import contractive
from .denoising import denoising
from .iwae import iwae
from .rbm import rbm
from .sparse import sparse
from .vae import vae

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {
    "autoencoder": autoencoder,
    "denoising": denoising,
    "sparse": sparse,
    "contractive": contractive,
    "vae": vae,
    "iwae": iwae,
    "classifier": classifier,
    "rbm": rbm,
}

__all__ = ["ALGORITHMS", "autoencoder", "classifier", "contractive", "denoising", "iwae", "rbm", "sparse", "vae"]
