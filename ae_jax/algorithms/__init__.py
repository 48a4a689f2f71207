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

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {
    "autoencoder": autoencoder,
    "denoising": denoising,
    "sparse": sparse,
    "contractive": contractive,
    "vae": vae,
    "iwae": iwae,
    "classifier": classifier,
    "dec": dec,
    "k_sparse": k_sparse,
    "adversarial": adversarial,
    "adversarial_labels": adversarial_labels,
    "adversarial_style": adversarial_style,
    "made": made,
    "semantic_hashing": semantic_hashing,
    "rbm": rbm,
}

__all__ = [
    "ALGORITHMS",
    "adversarial",
    "adversarial_labels",
    "adversarial_style",
    "autoencoder",
    "classifier",
    "contractive",
    "dec",
    "denoising",
    "iwae",
    "k_sparse",
    "made",
    "rbm",
    "semantic_hashing",
    "sparse",
    "vae",
]
