"""Seven estimators of a bound on log p(x): their gradients against exact ones, and three of them on MNIST.

In a linear-Gaussian model log p(x) and the posterior are exact, and so the mean and noise of each estimator's gradient
can be judged. More samples make IWAE's bound tighter, but the signal over noise of its encoder's gradient falls as
S^-1/2 (Rainforth et al., 2018); DReG's grows as S^1/2 (Tucker et al., 2018). Then a VAE, IWAE with 5 samples and DReG
learn binarised digits, and importance sampling measures the log-likelihood of each model.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Published, Run, experiment, mapped, panels, part

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import importance, vae
from ae_jax.core import Algorithm, Batch, address
from ae_jax.distributions import likelihoods
from ae_jax.evaluation.codes import active_units, encode
from ae_jax.evaluation.likelihood import log_likelihood
from ae_jax.objectives.estimators import estimator
from ae_jax.objectives.latent import latent_model

NAMES = ("elbo", "stl", "iwae", "dreg", "miwae", "piwae", "ciwae")
LEVEL, USED = "test log-likelihood, nats", "active units"
LONG = 3280  # epochs of the paper
PUBLISHED = {
    "VAE": (-86.76, "Burda et al. (2016), table 1"),
    "IWAE": (-85.54, "Burda et al. (2016), table 1"),
    "DReG": (-84.90, "Tucker et al. (2018)"),
}
SLOPES = {"iwae, encoder": -0.5, "dreg, encoder": 0.5, "iwae, decoder": 0.5}  # of log signal over log S, in theory


def measured(algorithm: Algorithm, one, data: Batch, samples: int):
    """The log-likelihood of test images by importance sampling, and the active units. -> [] each."""
    params, key = one
    return {
        "log_likelihood": log_likelihood(algorithm, params, data, key, samples).mean(),
        "active_units": active_units(encode(algorithm, params, data.x)),
    }


def signals_of(key, sizes, draws):
    """On a linear-Gaussian model: signal over noise of gradients, [sizes]; and noise at the exact posterior, []."""
    sigma, latents, size = 0.5, 5, 20
    k_model, k_x, k_off, k_draw = (address(key, name) for name in ("model", "x", "off", "draws"))
    kernel = jax.random.normal(k_model, (latents, size))
    kernel = jnp.linalg.qr(kernel.T)[0].T  # orthonormal rows: the posterior's covariance is diagonal
    net = networks.linear((size,), latents, heads=2)
    model = latent_model(net, likelihoods.gaussian(sigma))
    precision = 1 + 1 / sigma**2
    gain = kernel.T / sigma**2 / precision
    layer = lambda kernel, bias: {"layer_0": {"kernel": kernel, "bias": bias}}
    exact = {
        "encoder": layer(
            jnp.concatenate([gain, jnp.zeros_like(gain)], 1),
            jnp.concatenate([jnp.zeros(latents), jnp.full(latents, -jnp.log(precision))]),
        ),
        "decoder": layer(kernel, jnp.zeros(size)),
    }
    x = jax.random.normal(k_x, (1, size)) * (1 + sigma**2) ** 0.5
    biases = exact["encoder"]["layer_0"]["bias"]
    off = exact | {
        "encoder": layer(exact["encoder"]["layer_0"]["kernel"], biases + 0.03 * jax.random.normal(k_off, biases.shape))
    }

    def gradients(params, path, name, samples, count):
        row = estimator(name, samples, samples // 2 if name in ("miwae", "piwae") else None, 0.05)

        def bound(biases, key):  # of the biases alone: 2K of the encoder, D of the decoder
            moved = {g: layer(params[g]["layer_0"]["kernel"], biases[g]) for g in biases}
            found = model.draw(moved, Batch(x), key, samples, train=True, estimator=row).bound
            assert found is not None
            return found.sum()

        biases = {g: params[g]["layer_0"]["bias"] for g in params}
        keys = jax.random.split(address(k_draw, path, name, samples), count)
        return jax.lax.map(lambda key: jax.grad(bound)(biases, key), keys, batch_size=250)  # each [count, ...]

    found = {"iwae, encoder": [], "dreg, encoder": [], "iwae, decoder": []}
    for samples in sizes:
        iwae, dreg = (gradients(off, "off", name, samples, draws) for name in ("iwae", "dreg"))
        signal = jnp.abs(dreg["encoder"].mean(0))
        for name, g in (("iwae", iwae), ("dreg", dreg)):
            found[f"{name}, encoder"].append((signal / g["encoder"].std(0)).mean())
        found["iwae, decoder"].append((jnp.abs(iwae["decoder"].mean(0)) / iwae["decoder"].std(0)).mean())
    done = {f"{n}, done": jnp.abs(gradients(exact, "exact", n, 4, 250)["encoder"]).mean() for n in NAMES}
    return {name: jnp.stack(values) for name, values in found.items()} | done


def adam(epochs: int, steps: int):
    """Adam at 1e-3; for 3,280 epochs that of Burda et al., whose rate falls tenfold over eight stages.

    The stages have 1, 3, 9, ..., 2187 epochs of `steps` steps.
    """
    if epochs != LONG:
        return optax.adam(1e-3)
    rates = [optax.constant_schedule(1e-4 * round(10 ** (1 - i / 7), 1)) for i in range(8)]
    ends = [steps * (3 ** (i + 1) - 1) // 2 for i in range(7)]
    return optax.adam(optax.join_schedules(rates, ends), b1=0.99, eps=1e-4)


def picture(sizes, signals, levels):
    """Signal over noise by the number of samples, a line a seed, and the log-likelihood of each arm."""
    figure, (left, right) = panels(9, 3.6, 1, 2, width_ratios=(3, 2))
    for i, name in enumerate(SLOPES):
        for s, values in enumerate(np.asarray(signals[name])):
            left.plot(sizes, values, "o-", color=f"C{i}", markersize=3, linewidth=1, label="" if s else name)
    left.set(xscale="log", yscale="log", xlabel="samples", ylabel="signal over noise of a gradient")
    left.set_xticks(sizes, sizes)
    left.minorticks_off()
    left.legend(frameon=False, fontsize=8)
    for i, values in enumerate(levels.values()):
        right.plot([i] * len(values), values, "o")
    right.set_xticks(range(len(levels)), levels)
    right.set(ylabel=LEVEL, xlim=(-0.5, len(levels) - 0.5))
    return figure


@experiment(
    title="Estimators of bounds: exact gradients, and VAE, IWAE-{samples} and DReG-{samples} on {data}",
    source="Burda et al. (2016), arXiv:1509.00519; Tucker et al. (2018), arXiv:1810.04152; Rainforth et al. (2018), "
    "arXiv:1802.04537",
    full={
        "images": 60000,
        "epochs": LONG,
        "hidden": (200, 200),
        "batch_size": 20,
        "weights": 5000,
        "tested": 10000,
    },
    # Written before the first run; paired over seeds.
    claims={
        f"IWAE minus VAE minus 0.5, {LEVEL}": "IWAE's model is better than the VAE's by half a nat",
        f"IWAE minus VAE, {USED}": "IWAE uses more of its code",
        f"0.2 minus distance of DReG from IWAE, {LEVEL}": "DReG learns as good a model",
        "0.15 minus distance of iwae, encoder, slope of the signal from -0.5": "more samples drown IWAE's encoder",
        "0.15 minus distance of dreg, encoder, slope of the signal from 0.5": "more samples help DReG's encoder",
        "0.15 minus distance of iwae, decoder, slope of the signal from 0.5": "more samples help the decoder",
        "1e-4 minus dreg's gradient at the exact posterior": "DReG's encoder has no noise where it is done",
        "1e-4 minus stl's gradient at the exact posterior": "STL's encoder has no noise where it is done",
    },
    notes=[
        "The exact model: 20 numbers x from 5 latents, the encoder's biases off their exact values by N(0, 0.03^2). "
        "Signal over noise is |mean| / standard deviation of one parameter's gradient over draws, its mean "
        "over parameters. The mean of both encoders is that of DReG's draws, which have the least noise. Slopes "
        "are those of log signal over log S, for S up to {largest}.",
        "MNIST's pixels are drawn anew from the grey values in every step, and once for the test set. The "
        "log-likelihood is by {weights} importance samples of each of {tested} test images.",
    ],
)
def main(
    run: Run,
    images: int = 10000,  # training images
    epochs: int = 20,  # passes over them; for 3,280 Adam's rate falls as in the paper
    samples: int = 5,  # draws of IWAE and DReG
    latents: int = 50,  # size of the code
    hidden: tuple[int, ...] = (300, 300),  # widths of the layers, each way
    batch_size: int = 100,  # examples in a step
    weights: int = 500,  # importance samples of the log-likelihood
    tested: int = 1000,  # test images
    draws: int = 4000,  # gradients of the exact model at each number of samples
    largest: int = 64,  # samples of the exact model, at most; a power of 2
):
    sizes = [2**i for i in range(2, largest.bit_length())]
    signals = run.computed("exact model", mapped(partial(signals_of, sizes=sizes, draws=draws)), run.keys("exact"))
    for kind, theory in SLOPES.items():
        slope = np.polyfit(np.log(sizes), np.log(np.asarray(signals[kind])).T, 1)[0]  # [S]
        run.metrics[f"{kind}, slope of the signal"] = slope
        label = f"0.15 minus distance of {kind}, slope of the signal from {theory}"
        run.metrics[label] = 0.15 - np.abs(slope - theory)
    for name in NAMES:
        run.metrics[f"{name}'s gradient at the exact posterior"] = np.asarray(signals[f"{name}, done"])
    for name in ("dreg", "stl"):
        label = f"{name}'s gradient at the exact posterior"
        run.metrics[f"1e-4 minus {label}"] = 1e-4 - run.metrics[label]

    train_set, test_set = run.data()
    train_set = Batch(jnp.asarray(part(train_set.x, images)))
    test_set = Batch(jnp.asarray(datasets.binarise(np.asarray(test_set.x[:tested]), seed=1)))
    net = networks.mlp(train_set.x.shape[1:], latents, hidden=hidden, heads=2, activation="tanh")
    optimizer, levels = adam(epochs, -(-len(train_set.x) // batch_size)), {}
    many = partial(importance, net, optimizer, samples=samples)
    for arm, algorithm in {"VAE": vae(net, optimizer), "IWAE": many(), "DReG": many(estimator="dreg")}.items():
        params = run.train(arm, algorithm, train_set, transform=datasets.dynamic_binarise).params
        measure = mapped(partial(measured, algorithm, samples=weights))
        found = run.computed(f"{arm}, measured", measure, (params, run.keys("likelihood")), test_set)
        levels[arm] = np.asarray(found["log_likelihood"])
        run.metrics |= {
            f"{arm}, {LEVEL}": levels[arm],
            f"{arm}, {USED}": np.asarray(found["active_units"]),
            f"{arm}, test bound by one draw, nats": run.evaluate(algorithm, params, test_set)["elbo"],
        }
    if (epochs, samples) == (LONG, 5):
        for arm, (value, paper) in PUBLISHED.items():
            run.published[f"{arm}, {LEVEL}"] = Published(value, f"{paper}: 3,280 epochs, 5,000 importance samples")
    run.metrics[f"IWAE minus VAE minus 0.5, {LEVEL}"] = levels["IWAE"] - levels["VAE"] - 0.5
    run.metrics[f"0.2 minus distance of DReG from IWAE, {LEVEL}"] = 0.2 - np.abs(levels["DReG"] - levels["IWAE"])
    return lambda: picture(sizes, signals, levels)
