"""One paper a file. `MEMBERS` lists the members and their defaults for the command line and the tests of the laws."""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any, NamedTuple

from ..core import Algorithm
from .adversarial import adversarial
from .adversarial_labels import adversarial_labels
from .adversarial_style import adversarial_style
from .autoencoder import autoencoder
from .beta_tc_vae import beta_tc_vae
from .classifier import classifier
from .contractive import contractive
from .dec import dec
from .denoising import denoising
from .dictionary import dictionary
from .dip_vae import dip_vae
from .factor_vae import factor_vae
from .importance import importance
from .info_vae import info_vae
from .k_sparse import k_sparse
from .made import made
from .rbm import rbm
from .semantic_hashing import semantic_hashing
from .sparse import sparse
from .vade import vade
from .vae import vae
from .vamp import vamp
from .vq_vae import vq_vae

LONGEST = 1000  # the largest default number of epochs, reached on small datasets


class Defaults(NamedTuple):
    """A member's defaults on the command line."""

    why: str  # the paper or the held-out trial behind the values
    latents: int = 10
    updates: int = 5000  # steps of the whole run; see `epochs`
    batch_size: int = 128
    lr: float = 1e-3  # learning rate of Adam
    network: Mapping[str, Any] = {}  # options of the member's own network
    hyper: Mapping[str, Any] = {}  # hyperparameters that differ from the member's signature
    pretraining: int = 0  # steps of pretraining, for a member with `pretrain_epochs`

    def epochs(self, examples: int, batch_size: int, updates: int | None = None) -> int:
        """The passes over the examples that make `updates` steps (default: the member's), at most LONGEST."""
        steps = ceil(examples / batch_size)
        return min(ceil((self.updates if updates is None else updates) / steps), LONGEST)


class Member(NamedTuple):
    """An algorithm, its defaults and the family that the documentation lists it in."""

    make: Callable[..., Algorithm]
    defaults: Defaults
    family: str


ONE_LAYER = {"hidden": ()}

MEMBERS: tuple[Member, ...] = (
    Member(
        autoencoder,
        Defaults("trial: explained variance .89 of held-out digits; 3000 steps do as well as 5000."),
        family="plain",
    ),
    Member(
        denoising,
        Defaults("trial: explained variance .87 of held-out digits; a quarter of the pixels, Vincent et al. (2008)."),
        family="robust",
    ),
    Member(
        sparse,
        Defaults(
            "UFLDL's exercise on MNIST: one layer each way, 196 units, a target of 0.1. Trial: at a weight of 1 "
            "held-out digits keep .96 of their variance, and every unit's mean is its target; at 3 they keep .91.",
            196,
            network=ONE_LAYER,
            hyper={"target": 0.1, "weight": 1.0},
        ),
        family="sparse",
    ),
    Member(
        contractive,
        Defaults(
            "Rifai et al. (2011): a weight of 0.1. Trial: explained variance .87 of held-out digits; at a weight of "
            "1, .81.",
            updates=3000,
        ),
        family="robust",
    ),
    Member(
        vae,
        Defaults("trial: after 5000 steps the bound on held-out digits is within 0.2 nats of its best."),
        family="variational",
    ),
    Member(importance, Defaults("as vae; IWAE of 5 samples, as in Burda et al. (2016)."), family="variational"),
    Member(beta_tc_vae, Defaults("as vae; a weight of 6, as in Chen et al. (2018)."), family="variational"),
    Member(
        factor_vae,
        Defaults(
            "as vae. Trial: at a weight of 10, explained variance .64 of held-out digits and no total correlation."
        ),
        family="variational",
    ),
    Member(
        dip_vae,
        Defaults(
            "as vae, the form and weights of DIP-VAE-I. Trial: explained variance .71 of held-out digits; .58 by "
            "DIP-VAE-II."
        ),
        family="variational",
    ),
    Member(
        info_vae,
        Defaults(
            "as vae, half of the KL. Trial: explained variance .62 of held-out digits, .70 without the KL, .79 by a "
            "delta posterior."
        ),
        family="variational",
    ),
    Member(vamp, Defaults("as vae; 500 pseudo-inputs, as in Tomczak & Welling (2018)."), family="variational"),
    Member(
        vq_vae,
        Defaults("a code of 8 vectors of 8 numbers, each one of 256: 64 bits.", 64),
        family="discrete",
    ),
    Member(
        classifier,
        Defaults(
            "Hinton & Salakhutdinov (2006) pretrain, then fine-tune for few passes; trial: .99 of held-out digits are "
            "right, .97 without pretraining.",
            updates=2000,
            pretraining=3000,
        ),
        family="labels",
    ),
    Member(
        dec,
        Defaults(
            "Xie et al. (2016): pretrain, and have as many latents as clusters. Trial: with a weight of 0.02 "
            "clusters of held-out digits agree with the labels (NMI .90) as without (.86), and .63 of the variance is "
            "kept, not .09.",
            updates=2000,
            pretraining=3000,
            hyper={"weight": 0.02},
        ),
        family="labels",
    ),
    Member(
        vade,
        Defaults(
            "Jiang et al. (2017): pretrain. Trial: clusters of held-out digits agree with the labels (NMI .77).",
            pretraining=3000,
        ),
        family="labels",
    ),
    Member(
        k_sparse,
        Defaults(
            "Makhzani & Frey (2013): one linear layer and tied weights. A tenth of the units, 26, is about the paper's "
            "25; trial: .97 of held-out digits at a rate of 0.003, .96 at 0.001; 13 of 128 keep .91.",
            256,
            lr=3e-3,
            network={"hidden": (), "tied": True},
        ),
        family="sparse",
    ),
    Member(
        dictionary,
        Defaults(
            "Gao et al. (2024): 32 units. Theirs are dead after 10 million tokens, more than small sets have.",
            512,
            hyper={"dead_after": 10_000},
        ),
        family="sparse",
    ),
    Member(
        adversarial,
        Defaults("trial: explained variance .75 of held-out digits, and codes near their prior."),
        family="adversarial",
    ),
    Member(adversarial_labels, Defaults("the code is ten classes and a style of ten.", 20), family="adversarial"),
    Member(adversarial_style, Defaults("the code is ten classes and a style of ten.", 20), family="adversarial"),
    Member(
        made,
        Defaults(
            "Germain et al. (2015): one hidden layer of 500. Trial: a layer more gains nothing on held-out digits.",
            500,
            network=ONE_LAYER,
        ),
        family="autoregressive",
    ),
    Member(
        semantic_hashing,
        Defaults(
            "32 bits and logistic units: Salakhutdinov & Hinton (2009). Trial: no bit is stuck on held-out digits and "
            "MNIST, .79 and .64 explained after 5000 steps; of MNIST's, 22 are with rectified units, 4 with tanh.",
            32,
            network={"activation": "sigmoid"},
        ),
        family="discrete",
    ),
    Member(
        rbm,
        Defaults("trial: 128 units at 0.003 keep .90 of held-out digits, at 0.001 .87.", 128, lr=3e-3),
        family="energy",
    ),
)
ALGORITHMS: dict[str, Callable[..., Algorithm]] = {member.make.__name__: member.make for member in MEMBERS}
DEFAULTS: dict[str, Defaults] = {member.make.__name__: member.defaults for member in MEMBERS}

FORMER = {"iwae": "importance"}  # earlier names of members, which older runs have; the options are unchanged
iwae = importance

__all__ = ["ALGORITHMS", "DEFAULTS", "FORMER", "MEMBERS", "Defaults", "Member", *ALGORITHMS, *FORMER]  # pyright: ignore[reportUnsupportedDunderAll]
