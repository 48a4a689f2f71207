"""One paper a file. `ALGORITHMS` is the list that the laws test and the command line offers."""

from collections.abc import Callable

from ..core import Algorithm
from .autoencoder import autoencoder
from .contractive import contractive
from .denoising import denoising
from .iwae import iwae
from .made import made
from .sparse import sparse
from .vae import vae

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {
    "autoencoder": autoencoder,
    "denoising": denoising,
    "sparse": sparse,
    "contractive": contractive,
    "vae": vae,
    "iwae": iwae,
    "made": made,
}

__all__ = ["ALGORITHMS", "autoencoder", "contractive", "denoising", "iwae", "made", "sparse", "vae"]
