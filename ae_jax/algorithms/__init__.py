"""One paper a file. `ALGORITHMS` is the list that the laws test and the command line offers."""

from collections.abc import Callable

from ..core import Algorithm
from .adversarial import adversarial
from .adversarial_labels import adversarial_labels
from .adversarial_style import adversarial_style
from .autoencoder import autoencoder
from .classifier import classifier
from .contractive import contractive
from .dec import dec
from .denoising import denoising
from .iwae import iwae
from .k_sparse import k_sparse
from .made import made
from .rbm import rbm
from .semantic_hashing import semantic_hashing
from .sparse import sparse
from .vae import vae

_ALL: tuple[Callable[..., Algorithm], ...] = (
    autoencoder,
    denoising,
    sparse,
    contractive,
    vae,
    iwae,
    classifier,
    dec,
    k_sparse,
    adversarial,
    adversarial_labels,
    adversarial_style,
    made,
    semantic_hashing,
    rbm,
)
ALGORITHMS: dict[str, Callable[..., Algorithm]] = {make.__name__: make for make in _ALL}

__all__ = ["ALGORITHMS", *ALGORITHMS]  # pyright: ignore[reportUnsupportedDunderAll]
