"""Pretraining: members that fine-tune or cluster codes begin as a plain autoencoder.

Hinton & Salakhutdinov (2006), Science 313; Xie, Girshick & Farhadi (2016), ICML, section 3.2: k-means on the codes.
"""

from ..core import Autoencoder, Init, Optimizer, epoch, fit
from ..distributions.likelihoods import Likelihood, LikelihoodName
from .regularized import regularized

BATCH = 128  # examples in a step of pretraining


def pretrained(net: Autoencoder, optimizer: Optimizer, likelihood: LikelihoodName | Likelihood, epochs: int) -> Init:
    """The network's `init`, followed by `epochs` passes of plain reconstruction over the data of init.

    It is a pure function of key and data, as any init. `training.train` saves a long start as epoch 0, and no
    resumed run repeats it. The optimizer starts anew afterwards. With 0 epochs there is none.

    Raises ValueError for negative epochs.
    """
    if epochs < 0:
        raise ValueError(f"pretrain_epochs is {epochs}; give a number of passes, or 0 for no pretraining")
    base = regularized(net, optimizer, likelihood)
    if epochs == 0:
        return base.init
    return lambda key, data: fit(base.init, epoch(base, BATCH), data, key, epochs)[0]
