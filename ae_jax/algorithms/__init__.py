"""One paper a file. `ALGORITHMS` is the list that the laws test and the command line offers."""

from collections.abc import Callable

from ..core import Algorithm
from .autoencoder import autoencoder
from .vae import vae

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {"autoencoder": autoencoder, "vae": vae}

__all__ = ["ALGORITHMS", "autoencoder", "vae"]
