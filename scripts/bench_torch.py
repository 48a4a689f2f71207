"""Sides of scripts/bench.py in PyTorch. Each function makes the work of one side on a device, "cpu" or "gpu".

The loops are the fastest plain loops that we know: data on the device, one shuffled index, fused Adam, no
synchronisation within an epoch.
"""

import itertools
import logging
import math
import tempfile
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from bench_data import BATCH, EXAMPLES, Work, dataset
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

Loss = Callable[[Any], Any]  # a batch -> the mean loss


def place(device: str) -> torch.device:
    """Sets up PyTorch like JAX's defaults, and returns its device."""
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU; nothing on a CPU
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda" if device == "gpu" else "cpu")


def images(device: str, shape: tuple[int, ...], examples: int = EXAMPLES) -> torch.Tensor:
    """The data set on the device."""
    return torch.from_numpy(dataset(shape, examples)).to(place(device))


def repeated(step: Callable[[], Any], units: int, device: str) -> Work:
    """The work of one step, which ends when the device has finished; its first number is the loss."""

    def call() -> float:
        value = step()
        if device == "gpu":
            torch.cuda.synchronize()
        return float(value.detach().ravel()[0])

    return Work(call, units)


def batches(data: torch.Tensor, batch: int = BATCH) -> Iterable[torch.Tensor]:
    """Batches of the data in a new random order."""
    order = torch.randperm(len(data), device=data.device)
    return (data[order[at : at + batch]] for at in range(0, len(data), batch))


# ------------------------------------------------------------------------------------------------- models


def stack(*widths: int, act: Any = nn.ReLU, last: bool = False) -> nn.Sequential:
    """Affine layers with an activation between them, and after the last one if `last`."""
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), act())]
    return nn.Sequential(*(layers if last else layers[:-1]))


def bernoulli(logits: Any, x: Any) -> Any:
    """-log p(x), summed over pixels, for each example and draw."""
    return F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)


def drawn(encoder: Any, x: Any, *samples: int) -> tuple[Any, Any, Any, Any]:
    """Draws of the code, their noise, mean and log-variance."""
    mean, logvar = encoder(x).chunk(2, -1)
    e = torch.randn((*samples, *mean.shape), device=x.device)
    return mean + torch.exp(0.5 * logvar) * e, e, mean, logvar


Penalty = Callable[[Any, Any, Any], Any]  # draws, means, log-variances -> a number


def kl(z: Any, mean: Any, logvar: Any) -> Any:
    """KL(q || N(0, I)), the mean over the batch."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum() / len(z)


def vae(penalty: Penalty = kl, *more: nn.Module) -> tuple[nn.Module, Loss]:
    """784-500-20 with ReLU and one draw; `penalty` is added to -log p(x), and `more` are its modules to learn."""
    encoder, decoder = stack(784, 500, 40), stack(20, 500, 784)

    def loss(x: Any) -> Any:
        z, _, mean, logvar = drawn(encoder, x)
        nll = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum") / len(x)
        return nll + penalty(z, mean, logvar)

    return nn.ModuleList([encoder, decoder, *more]), loss


def log_normal(z: Any, mean: Any, logvar: Any) -> Any:
    """log N(z; mean, exp(logvar)) of each dimension."""
    return -0.5 * (math.log(2 * math.pi) + logvar + (z - mean).square() * (-logvar).exp())


def beta_tc() -> tuple[nn.Module, Loss]:
    """The VAE with 6 times the total correlation, estimated by stratified weights."""

    def penalty(z: Any, mean: Any, logvar: Any) -> Any:
        each = log_normal(z[:, None], mean, logvar)  # [B, B, K]
        own = torch.eye(len(z), device=z.device)
        weight = torch.log(own / EXAMPLES + (1 - own) * (1 - 1 / EXAMPLES) / (len(z) - 1))
        joint = torch.logsumexp(weight + each.sum(-1), 1)
        marginals = torch.logsumexp(weight[..., None] + each, 1).sum(-1)
        log_p, log_q = (log_normal(z, *of).sum(-1) for of in ((0 * z, 0 * z), (mean, logvar)))
        return (log_q - joint + 6 * (joint - marginals) + marginals - log_p).mean()

    return vae(penalty)


def factor() -> tuple[nn.Module, Loss]:
    """The VAE with 10 times a critic's log-odds of its codes, and the critic's own loss on detached codes."""
    critic = stack(20, 256, 256, 1)

    def penalty(z: Any, mean: Any, logvar: Any) -> Any:
        fixed = {name: p.detach() for name, p in critic.named_parameters()}
        odds = torch.func.functional_call(critic, fixed, (z,)).mean()
        half = len(z) // 2
        first, other = z[:half].detach(), z[half:].detach()
        permuted = torch.gather(other, 0, torch.rand_like(other).argsort(0))
        judged = F.softplus(-critic(first)).mean() + F.softplus(critic(permuted)).mean()
        return kl(z, mean, logvar) + 10 * odds + judged

    return vae(penalty, critic)


def dip() -> tuple[nn.Module, Loss]:
    """The VAE with a penalty on the difference between the covariance of the means and the identity."""

    def penalty(z: Any, mean: Any, logvar: Any) -> Any:
        centred = mean - mean.mean(0)
        squares = (centred.T @ centred / len(z) - torch.eye(20, device=z.device)).square()
        return kl(z, mean, logvar) + 10 * squares.sum() + 90 * squares.trace()

    return vae(penalty)


def info() -> tuple[nn.Module, Loss]:
    """The VAE with half the KL and 99.5 times the MMD by seven multiquadric kernels."""
    scales = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

    def kernels(a: Any, b: Any) -> Any:
        d = (a[:, None] - b).square().sum(-1)
        return sum(2 * 20 * s / (2 * 20 * s + d) for s in scales)

    def penalty(z: Any, mean: Any, logvar: Any) -> Any:
        prior = torch.randn_like(z)
        within = sum((k.sum() - k.trace()) / (len(z) * (len(z) - 1)) for k in (kernels(z, z), kernels(prior, prior)))
        return 0.5 * kl(z, mean, logvar) + 99.5 * (within - 2 * kernels(z, prior).mean())

    return vae(penalty)


class Pseudo(nn.Module):
    """The pseudo-inputs of the prior, 500 images."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(500, 784))


def vamp() -> tuple[nn.Module, Loss]:
    """784-500-20 with a prior of 500 pseudo-inputs; the KL by one draw."""
    pseudo = Pseudo()
    model, _ = vae(kl, pseudo)
    encoder, decoder = model[0], model[1]  # pyright: ignore

    def loss(x: Any) -> Any:
        z, _, mean, logvar = drawn(encoder, x)
        each = log_normal(z[:, None], *encoder(torch.sigmoid(pseudo.logits)).chunk(2, -1)).sum(-1)
        log_p = torch.logsumexp(each, 1) - math.log(500)
        return (bernoulli(decoder(z), x) + log_normal(z, mean, logvar).sum(-1) - log_p).mean()

    return model, loss


def iwae() -> tuple[nn.Module, Loss]:
    """784-200-50 with tanh, and 50 importance weights."""
    encoder, decoder = stack(784, 200, 100, act=nn.Tanh), stack(50, 200, 784, act=nn.Tanh)

    def loss(x: Any) -> Any:
        z, e, _, logvar = drawn(encoder, x, 50)
        log_w = -bernoulli(decoder(z), x) - 0.5 * (z.square() - e.square() - logvar).sum(-1)
        return -(torch.logsumexp(log_w, 0) - math.log(50)).mean()

    return nn.ModuleList([encoder, decoder]), loss


def vq() -> tuple[nn.Module, Loss]:
    """784-500-64, 8 vectors of 8 numbers, a codebook of 256 moving averages; the batch replaces dead vectors."""
    encoder, decoder = stack(784, 500, 64), stack(64, 500, 784)
    model = nn.ModuleList([encoder, decoder])
    start = torch.randn(256, 8)
    for name, value in {"vectors": start, "sum": start.clone(), "count": torch.ones(256)}.items():
        model.register_buffer(name, value)
    book: Any = model  # its buffers move with it to the device

    def loss(x: Any) -> Any:
        h = encoder(x)
        flat = h.detach().reshape(-1, 8)
        symbols = torch.cdist(flat, book.vectors).argmin(-1)
        z = book.vectors[symbols].reshape(h.shape)
        with torch.no_grad():
            hot = F.one_hot(symbols, 256).to(x.dtype)
            book.count.mul_(0.99).add_(hot.sum(0), alpha=0.01)
            book.sum.mul_(0.99).add_(hot.T @ flat, alpha=0.01)
            dead, fresh = (book.count < 0.01)[:, None], flat[torch.randint(len(flat), (256,), device=x.device)]
            book.sum.copy_(torch.where(dead, fresh, book.sum))
            book.count.copy_(torch.where(dead[:, 0], 1.0, book.count))
            book.vectors.copy_(book.sum / book.count[:, None])
        nll = F.binary_cross_entropy_with_logits(decoder(h + (z - h).detach()), x, reduction="sum")
        return (nll + 0.25 * (h - z).square().sum()) / len(x)

    return model, loss


def vq_library() -> tuple[nn.Module, Loss]:
    """`vq` with the quantiser of vector-quantize-pytorch."""
    from vector_quantize_pytorch import VectorQuantize  # pyright: ignore

    book: Any = VectorQuantize(8, 256, decay=0.99, commitment_weight=0.25, threshold_ema_dead_code=0.01)
    encoder, decoder = stack(784, 500, 64), stack(64, 500, 784)

    def loss(x: Any) -> Any:
        h = encoder(x)
        z, _, cost = book(h.reshape(len(x), 8, 8))
        nll = F.binary_cross_entropy_with_logits(decoder(z.reshape(h.shape)), x, reduction="sum") / len(x)
        return nll + 64 * cost.sum()  # its cost is a mean over numbers

    return nn.ModuleList([encoder, decoder, book]), loss


def fsq() -> tuple[nn.Module, Loss]:
    """784-500-64, 16 vectors of 4 numbers rounded to 8, 5, 5 and 5 levels."""
    encoder, decoder = stack(784, 500, 64), stack(64, 500, 784)
    levels = torch.tensor([8, 5, 5, 5] * 16)

    def loss(x: Any) -> Any:
        half, offset = (levels - 1) * (1 + 1e-3) / 2, torch.where(levels % 2 == 0, 0.5, 0.0)
        bounded = torch.tanh(encoder(x) + torch.atanh(offset / half)) * half - offset
        z = (bounded + (bounded.round() - bounded).detach()) / (levels // 2)
        return F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum") / len(x)

    return nn.ModuleList([encoder, decoder]), loss


def topk() -> tuple[nn.Module, Loss]:
    """256-2048, the 32 largest units, decoder rows of norm 1: gradients lose their part along each row, and each step
    begins by normalising the rows.

    It has no AuxK, which ae_jax computes at every step; no unit is dead in this case.
    """
    encoder, decoder = nn.Linear(256, 2048), nn.Linear(2048, 256)
    model = nn.ModuleList([encoder, decoder])
    model.register_buffer("idle", torch.zeros(2048))
    state: Any = model

    def unit() -> None:
        with torch.no_grad():
            decoder.weight.div_(decoder.weight.norm(dim=0, keepdim=True))

    def tangent(g: Any) -> Any:
        w = decoder.weight.detach()
        return g - (g * w).sum(0, keepdim=True) * w

    unit()
    decoder.weight.register_hook(tangent)

    def loss(x: Any) -> Any:
        unit()
        a = F.relu(encoder(x - decoder.bias))
        value, place = a.topk(32, dim=-1)
        z = torch.zeros_like(a).scatter(-1, place, value)
        with torch.no_grad():
            state.idle.add_(len(x)).mul_((z > 0).sum(0) == 0)
        return (decoder(z) - x).square().sum() / len(x)

    return model, loss


def deep() -> tuple[nn.Module, Loss]:
    """784-1000-500-250-30 and back, with ReLU except for the code."""
    model = nn.Sequential(stack(784, 1000, 500, 250, 30), stack(30, 250, 500, 1000, 784))
    return model, lambda x: F.binary_cross_entropy_with_logits(model(x), x, reduction="sum") / len(x)


def conv(size: int, *maps: int, code: int, last: bool = False) -> tuple[nn.Module, Loss]:
    """Strided 3x3 convolutions, a code, and back. PyTorch's transposed layers start larger: the loss falls sooner."""
    places = size // 2 ** (len(maps) - 1)
    down = [part for a, b in pairwise(maps) for part in (nn.Conv2d(a, b, 3, 2, 1), nn.ReLU())]
    up = [(nn.ReLU(), nn.ConvTranspose2d(b, a, 3, 2, 1, output_padding=1)) for a, b in reversed([*pairwise(maps)])]
    flat = maps[-1] * places**2
    middle = (nn.Flatten(), nn.Linear(flat, code), nn.Linear(code, flat))
    shaped = (nn.Unflatten(1, (maps[-1], places, places)), *(part for pair in up for part in pair))
    layout = torch.channels_last if last else torch.contiguous_format
    model = nn.Sequential(*down, *middle, *shaped).to(memory_format=layout)  # pyright: ignore

    def loss(x: Any) -> Any:
        x = x.contiguous(memory_format=layout)
        return (model(x) - x).square().sum() / len(x)

    return model, loss


# name: shape of an example, channels last? -> modules and loss; bench_jax.MODELS has the same
MODELS: dict[str, tuple[tuple[int, ...], Callable[[bool], tuple[nn.Module, Loss]]]] = {
    "vae": ((784,), lambda last: vae()),
    "deep": ((784,), lambda last: deep()),
    "iwae": ((784,), lambda last: iwae()),
    "beta-tc": ((784,), lambda last: beta_tc()),
    "factor": ((784,), lambda last: factor()),
    "dip": ((784,), lambda last: dip()),
    "info": ((784,), lambda last: info()),
    "vamp": ((784,), lambda last: vamp()),
    "vq": ((784,), lambda last: vq()),
    "vq-library": ((784,), lambda last: vq_library()),
    "fsq": ((784,), lambda last: fsq()),
    "topk": ((256,), lambda last: topk()),
    "conv": ((1, 28, 28), lambda last: conv(28, 1, 32, 64, code=32, last=last)),
    "conv64": ((3, 64, 64), lambda last: conv(64, 3, 32, 64, 128, code=64, last=last)),
}


# ----------------------------------------------------------------------------------------------- training


def training(
    device: str,
    model: str,
    batch: int = BATCH,
    examples: int = EXAMPLES,
    compiled: str = "",
    last: bool = False,
    fused: bool = True,
    loader: bool = False,
) -> Work:
    """An epoch in a plain loop.

    `compiled` is a mode of torch.compile for the loss. `last`: channels last. `loader`: as in PyTorch's examples, with
    a DataLoader and with every loss read.
    """
    shape, make = MODELS[model]
    data = images(device, shape, examples)
    modules, loss_of = make(last)
    modules.to(data.device)
    loss_of = torch.compile(loss_of, mode=compiled) if compiled else loss_of
    optimizer = torch.optim.Adam(modules.parameters(), lr=1e-3, fused=fused or None)  # None: PyTorch's default
    loaded = DataLoader(TensorDataset(data.cpu()), batch_size=batch, shuffle=True)

    def call() -> float:
        total = torch.zeros((), device=data.device)
        for x in (x.to(data.device) for (x,) in loaded) if loader else batches(data, batch):
            loss = loss_of(x)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item() if loader else loss.detach()
        return float(total) * batch / examples

    return Work(call, examples)


def dictionary_learning(device: str, batch: int) -> Work:
    """The trainer of dictionary_learning on the model of `topk`; it also clips gradients and reads every loss."""
    from dictionary_learning.trainers.top_k import TopKTrainer  # pyright: ignore

    trainer = TopKTrainer(10**6, 256, 2048, 32, layer=0, lm_name="none", lr=1e-3, device=device)
    data, steps = images(device, (256,)), itertools.count()

    def call() -> float:
        return sum(trainer.update(next(steps), x) for x in batches(data, batch)) * batch / EXAMPLES

    return Work(call, EXAMPLES)


def sparse(device: str, compiled: bool = False) -> Work:
    """784-200 with rho, the mean activation, over the whole set before the pass. A minibatch uses the KL linearised at
    rho, and then encodes the batch again to update rho by the change of its activations, as ae_jax does.
    """
    data = images(device, (784,))
    encoder, decoder = nn.Linear(784, 200).to(data.device), nn.Linear(200, 784).to(data.device)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)
    code = lambda x: torch.sigmoid(encoder(x))

    def loss_of(x: Any, rho: Any) -> Any:
        h, r = code(x), rho.clamp(1e-4, 1 - 1e-4)
        kl = 0.05 * torch.log(0.05 / r) + 0.95 * torch.log(0.95 / (1 - r))
        penalty = (kl + (r - 0.05) / (r * (1 - r)) * (h - rho)).sum(-1)
        return ((decoder(h) - x).square().sum(-1) + 3.0 * penalty).mean(), h.detach().mean(0)

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def call() -> float:
        with torch.no_grad():
            rho = torch.stack([code(part).sum(0) for part in data.split(1000)]).sum(0) / EXAMPLES
        total = torch.zeros((), device=data.device)
        for x in batches(data):
            loss, before = loss_of(x, rho)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                rho = code(x).mean(0) + 0.99 * (rho - before)
                total += loss
        return float(total) * BATCH / EXAMPLES

    return Work(call, EXAMPLES)


def rbm(device: str, compiled: bool = False) -> Work:
    """784-500 by CD-1, with statistics computed by hand, without autograd."""
    data = images(device, (784,))
    weights, hidden, visible = (torch.zeros(size, device=data.device) for size in ((784, 500), (500,), (784,)))
    weights.normal_(0, 0.01)

    def learn(v: Any) -> Any:
        h = torch.sigmoid(v @ weights + hidden)
        logits = torch.bernoulli(h) @ weights.T + visible
        dream = torch.sigmoid(logits)
        again = torch.sigmoid(dream @ weights + hidden)
        weights.add_(v.T @ h - dream.T @ again, alpha=0.1 / BATCH)
        hidden.add_((h - again).mean(0), alpha=0.1)
        visible.add_((v - dream).mean(0), alpha=0.1)
        return F.binary_cross_entropy_with_logits(logits, v, reduction="sum")

    learn = torch.compile(learn) if compiled else learn

    @torch.no_grad()
    def epoch() -> Any:
        return torch.stack([learn(x) for x in batches(data)]).sum() / EXAMPLES

    return repeated(epoch, EXAMPLES, device)


def pythae_vae(device: str) -> Work:
    """An epoch of pythae's trainer with its VAE, and the networks and likelihood of `vae`."""
    from pythae.data.datasets import BaseDataset  # pyright: ignore
    from pythae.models import VAE, VAEConfig  # pyright: ignore
    from pythae.models.base.base_utils import ModelOutput  # pyright: ignore
    from pythae.models.nn import BaseDecoder, BaseEncoder  # pyright: ignore
    from pythae.trainers import BaseTrainer, BaseTrainerConfig  # pyright: ignore

    logging.disable(logging.CRITICAL)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = stack(784, 500, 40)

        def forward(self, x: Any) -> Any:
            mean, logvar = self.layers(x.reshape(len(x), -1)).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=logvar)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(stack(20, 500, 784), nn.Sigmoid())

        def forward(self, z: Any) -> Any:
            return ModelOutput(reconstruction=self.layers(z).reshape(len(z), 1, 28, 28))

    data = images("cpu", (1, 28, 28))
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce")
    training = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(),  # required; without saving steps it stays empty
        num_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=1e-3,
        no_cuda=device == "cpu",
    )
    known = BaseDataset(data, torch.zeros(len(data)))
    trainer = BaseTrainer(VAE(config, Encoder(), Decoder()), known, training_config=training)
    trainer.prepare_training()
    return Work(lambda: float(trainer.train_step(1)), EXAMPLES)


# ----------------------------------------------------------------------------------------- one step each


def likelihood(device: str, compiled: bool = False) -> Work:
    """log p(x) of 100 examples by 10 times 50 importance samples of the untrained VAE."""
    x = images(device, (784,), 100)
    encoder, decoder = vae()[0].to(x.device)  # pyright: ignore

    def log_weights() -> Any:
        z, e, _, logvar = drawn(encoder, x, 50)
        return -bernoulli(decoder(z), x) - 0.5 * (z.square() - e.square() - logvar).sum(-1)

    log_weights = torch.compile(log_weights) if compiled else log_weights

    @torch.no_grad()
    def step() -> Any:
        return (torch.logsumexp(torch.cat([log_weights() for _ in range(10)]), 0) - math.log(500)).mean()

    return repeated(step, 100, device)


def evaluation(device: str, compiled: bool = False) -> Work:
    """The loss of the VAE and the errors of its reconstructions over the data set, 1,000 examples at a time."""
    data = images(device, (784,))
    encoder, decoder = vae()[0].to(data.device)  # pyright: ignore

    def metrics(x: Any) -> Any:  # as ours: decodes the code's mean, and a draw for the loss
        z, _, mean, logvar = drawn(encoder, x)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum()
        output = torch.sigmoid(decoder(mean))
        squared, p = (output - x).square().sum(-1), output.clip(1e-6, 1 - 1e-6)
        entropy = -(x * p.log() + (1 - x) * torch.log1p(-p)).sum(-1)
        nll = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        return torch.stack([(nll + kl) / len(x), squared.mean(), squared.mean() / 784, entropy.mean()])

    metrics = torch.compile(metrics) if compiled else metrics

    @torch.no_grad()
    def step() -> Any:
        return torch.stack([metrics(part) * len(part) for part in data.split(1000)]).sum(0) / EXAMPLES

    return repeated(step, EXAMPLES, device)


def encoder_of(device: str, widths: tuple[int, ...]) -> tuple[torch.Tensor, nn.Module, dict[str, Any]]:
    """A batch, affine layers with sigmoids, and their params."""
    x = images(device, (784,), BATCH)
    net = stack(*widths, act=nn.Sigmoid, last=True).to(x.device)
    return x, net, {name: p.detach() for name, p in net.named_parameters()}


def gradient(penalty: Callable[[Any], Any], params: Any, device: str, compiled: bool) -> Work:
    """Value of a penalty, and its gradient in the params, by `torch.func`."""
    run = torch.func.grad_and_value(penalty)
    run = torch.compile(run) if compiled else run
    return repeated(lambda: run(params)[1], BATCH, device)


def contraction(
    device: str, way: str, widths: tuple[int, ...], chunk: int | None = None, compiled: bool = False
) -> Work:
    """Value and gradient of the mean contractive penalty of a batch, by `torch.func.jacrev` or `jacfwd`."""
    x, net, params = encoder_of(device, widths)

    def penalty(params: Any) -> Any:
        encode = lambda x: torch.func.functional_call(net, params, (x,))
        square = lambda x: getattr(torch.func, way)(encode)(x).square().sum()
        return torch.func.vmap(square, chunk_size=chunk)(x).mean()

    return gradient(penalty, params, device, compiled)


def signs(z: Any) -> Any:
    """Random signs."""
    return torch.randint(0, 2, z.shape, device=z.device) * 2.0 - 1


def hutchinson(device: str, widths: tuple[int, ...]) -> Work:
    """Hutchinson's estimate: a random vector for each example pulled back through the encoder, and its gradient."""
    x, net, _ = encoder_of(device, widths)
    x.requires_grad_()

    def step() -> Any:
        net.zero_grad(set_to_none=True)
        z = net(x)
        (back,) = torch.autograd.grad(z, x, signs(z), create_graph=True)
        value = back.square().sum() / BATCH
        value.backward(inputs=list(net.parameters()))
        return value

    return repeated(step, BATCH, device)


def hutchinson_func(device: str, widths: tuple[int, ...], compiled: bool = False) -> Work:
    """`hutchinson` by `torch.func`, since torch.compile refuses gradients of autograd's gradients."""
    x, net, params = encoder_of(device, widths)

    def penalty(params: Any) -> Any:
        z, back, *_ = torch.func.vjp(lambda x: torch.func.functional_call(net, params, (x,)), x)
        return back(signs(z))[0].square().sum() / BATCH

    return gradient(penalty, params, device, compiled)


def closed(device: str, compiled: bool = False) -> Work:
    """The penalty's closed form for one sigmoid layer, by autograd."""
    x, net, _ = encoder_of(device, (784, 500))
    layer = net[0]  # pyright: ignore

    def penalty(x: Any) -> Any:
        h = torch.sigmoid(layer(x))
        return ((h * (1 - h)).square() @ layer.weight.square().sum(1)).mean()

    penalty = torch.compile(penalty) if compiled else penalty

    def step() -> Any:
        layer.zero_grad(set_to_none=True)
        value = penalty(x)
        value.backward()
        return value

    return repeated(step, BATCH, device)


# ----------------------------------------------------------------------------------- the machine's limits


def product(device: str) -> Work:
    """One square float32 product; the unit is an operation."""
    n = 2048 if device == "cpu" else 8192
    a, b = torch.randn((2, n, n), device=place(device))
    return repeated(lambda: a @ b, 2 * n**3, device)


def layer(device: str) -> Work:
    """The product of a batch of 128 with a layer 784-500, 50 times; the unit is an operation."""
    a, b = torch.randn((BATCH, 784), device=place(device)), torch.randn((784, 500), device=place(device))
    out = torch.empty((BATCH, 500), device=a.device)

    def step() -> Any:
        for _ in range(50):
            torch.mm(a, b, out=out)
        return out

    return repeated(step, 50 * 2 * BATCH * 784 * 500, device)
