"""Stacked denoising against stacked plain autoencoders, as the start of a classifier of the harder forms of MNIST.

Vincent, Larochelle, Lajoie, Bengio & Manzagol (2010), JMLR 11, table 3. Three layers of logistic units, tied weights,
cross-entropy; each trained greedily, on the clean codes of the one below, with its own masking noise (none: SAE-3);
then a softmax on top and the whole fine-tuned, of the epoch with the least error on the validation set. Here with
Adam and small batches, on variants made anew (`ae_jax.data.variants`). The photographs are those of BSDS500.

    .venv/bin/python experiments/stacked_denoising.py
    .venv/bin/python experiments/stacked_denoising.py --full    # near the paper's protocol, for a GPU
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from study import Published, command, keys, mapped, record, with_labels

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import classifier, denoising
from ae_jax.app import plots
from ae_jax.core import Batch, address, average, epoch
from ae_jax.evaluation.codes import encode
from ae_jax.training import stages

# The fraction masked is the one that the paper chose for each variant; nothing here was chosen on it.
LEVELS: dict[datasets.Variant, float] = {
    "basic": 0.10,
    "rot": 0.25,
    "bg_rand": 0.40,
    "bg_img": 0.25,
    "bg_img_rot": 0.25,
}
HARD = tuple(LEVELS)[1:]
WHERE = "Vincent et al. (2010), table 3"
NOTE = "1000 to 3000 units, up to 300 epochs, 50,000 other test images"
# Written before the first run. Only `basic` is the paper's problem but for the choice of images; within 1.5 there.
PUBLISHED = {
    f"{kind}, {name}, test error, %": Published(value, WHERE, 1.5 if kind == "basic" else None, NOTE)
    for kind, values in {
        "basic": (2.84, 3.46),
        "rot": (9.53, 10.30),
        "bg_rand": (10.30, 11.28),
        "bg_img": (16.68, 23.00),
        "bg_img_rot": (43.76, 51.93),
    }.items()
    for name, value in zip(("SDAE-3", "SAE-3"), values, strict=True)
}
# Differences are paired: a seed gives all nets the same start and the same batches.
CLAIMS = {
    f"{kind}, SAE-3 minus SDAE-3, test error, %": f"denoising layers make the better start of a classifier on {kind}"
    for kind in HARD
} | {
    "random start minus SDAE-3, test error, %, mean of all": "it is better than no pretraining at all",
    "linear SVM, pixels minus top features of SDAE-3, test error, %, mean of all": "its codes, never tuned to labels, "
    "are nearer to linearly separable than the images are",
}


def main(
    *,
    seeds: int = 4,
    seed: int = 0,
    units: int = 400,
    layers: int = 3,
    pretraining: int = 8,
    epochs: int = 6,
    pretraining_rate: float = 4e-3,
    learning_rate: float = 1e-3,
    batch_size: int = 50,
    count: int = 10000,
    tested: int = 10000,
    separated: int = 2000,
    kinds: tuple[datasets.Variant, ...] = tuple(LEVELS),
    data: str = "mnist",
    photographs: str = "../shared/data/bsds500",
    on_validation: bool = False,
    full: bool = False,
    out: str = "results",
):
    """Trains stacks of denoising and of plain autoencoders, fine-tunes them, and compares their test errors.

    Args:
        seeds: how many runs of each kind on each variant.
        seed: the first of them.
        units: in each layer.
        layers: how many.
        pretraining: passes over the training set for each layer.
        epochs: of fine-tuning, of which the validation set chooses the best.
        pretraining_rate: of Adam, for the layers.
        learning_rate: of Adam, for fine-tuning.
        batch_size: examples in a step.
        count: training images; a fifth as many more are for validation.
        tested: test images.
        separated: training images that the linear SVMs see.
        kinds: the variants: basic, rot, bg_rand, bg_img, bg_img_rot.
        data: what `ae_jax.data.load` takes, grey images with labels.
        photographs: a folder of photographs with folders train and test in it.
        on_validation: measure on the validation set instead of the test set: for choosing rates.
        full: near the paper's protocol instead: 1000 units, 30 + 50 epochs, 50,000 test images, batches of 20.
        out: folder for the record.
    """
    if full:
        units, pretraining, epochs, tested, batch_size, separated = 1000, 30, 50, 50000, 20, 10000
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    source = with_labels(datasets.load(data))
    widths = (source.train.x.shape[1:], *[(units,)] * layers)
    nets = [
        networks.mlp(shape, units, hidden=(), code_activation="sigmoid", tied=True, init="sigmoid_uniform")
        for shape in widths[:-1]
    ]
    stack = networks.stack(nets, between="sigmoid")
    tuned = classifier(stack, optax.adam(learning_rate), classes=len(np.unique(np.asarray(source.train.y))))
    rule = epoch(tuned, batch_size)

    def error(params, batch):
        return average(lambda *a: {"error": tuned.evaluate(*a)["error"]}, params, batch, jax.random.key(0))["error"]

    def pretrain(key, level, train):
        # the level is an argument, so that one program makes every stack: at 0 it is a plain one
        mask = lambda x, key: x * jax.random.bernoulli(key, 1 - level, x.shape).astype(x.dtype)
        greedy = [denoising(net, optax.adam(pretraining_rate), corruption=mask, likelihood="bernoulli") for net in nets]
        trained, histories = stages.greedy(greedy, train, key, epochs=pretraining, batch_size=batch_size)
        return networks.stacked(trained), jnp.stack([history["loss"][-1] for history in histories])

    def finetune(init, key, train, validation, test):
        score = lambda params: error(params, validation)
        params, history = stages.fit_best(init, rule, train, key, epochs, score)
        return {"error": 100 * error(params, test), "epoch": 1 + jnp.argmin(history["score"]), "nll": history["nll"]}

    def pretrained(key, level, train, validation, test):
        params, losses = pretrain(address(key, "pretraining"), level, train)
        result = finetune(stages.resume(tuned.init, params), address(key, "tuning"), train, validation, test)
        return result, params, losses

    def from_scratch(key, train, validation, test):
        return finetune(tuned.init, address(key, "tuning"), train, validation, test)

    run, random_run = mapped(pretrained), mapped(from_scratch)
    features = jax.jit(lambda params, x: encode(tuned, params, x))
    seen = "rot" if "rot" in kinds else kinds[-1]  # whose filters are shown
    metrics, shown, filters, codes = {}, {}, {}, []
    for kind in kinds:
        made = datasets.variant(source, kind, photographs=photographs, count=count, test_count=tested)
        assert made.validation is not None
        test = made.validation if on_validation else made.test
        parts = [jax.tree.map(jnp.asarray, batch) for batch in (made.train, made.validation, test)]
        shown[kind] = made.train.x[:10]
        for name, masked in (("SDAE-3", LEVELS[kind]), ("SAE-3", 0.0)):
            result, params, losses = jax.block_until_ready(run(keys(sweep), jnp.asarray(masked), *parts))
            told = f"{kind}, {name}: {np.mean(result['error']):.2f} % in error, epochs {result['epoch'].tolist()}"
            print(f"{time.perf_counter() - began:4.0f} s  {told}, layers' losses {losses.mean(0).tolist()}", flush=True)
            metrics[f"{kind}, {name}, test error, %"] = np.asarray(result["error"])
            if kind == seen:
                kernel = np.asarray(params["encoder"]["0"]["layer_0"]["kernel"][0])  # [D, units]
                filters[f"{name}, {seen}"] = kernel.T[:50].reshape(-1, *widths[0])
            if name == "SDAE-3":
                codes = [[features(of(params, i), b.x) for b in (parts[0], parts[2])] for i in range(seeds)]
        result = random_run(keys(sweep), *parts)
        metrics[f"{kind}, random start, test error, %"] = np.asarray(result["error"])
        raw = separation_error(parts[0], parts[2], separated)
        separate = [separation_error(parts[0]._replace(x=a), parts[2]._replace(x=b), separated) for a, b in codes]
        metrics[f"{kind}, linear SVM on pixels, test error, %"] = np.full(seeds, raw)
        metrics[f"{kind}, linear SVM on top features of SDAE-3, test error, %"] = np.array(separate)
        told = f"random start {np.mean(result['error']):.2f}, SVM on pixels {raw:.2f}, on codes {np.mean(separate):.2f}"
        print(f"{time.perf_counter() - began:4.0f} s  {kind}, {told}", flush=True)

    ours = lambda kind, name: metrics[f"{kind}, {name}, test error, %"]
    for kind in kinds:
        metrics[f"{kind}, SAE-3 minus SDAE-3, test error, %"] = ours(kind, "SAE-3") - ours(kind, "SDAE-3")
    for label, better, worse in (
        ("random start minus SDAE-3", "SDAE-3", "random start"),
        (
            "linear SVM, pixels minus top features of SDAE-3",
            "linear SVM on top features of SDAE-3",
            "linear SVM on pixels",
        ),
    ):
        gaps = np.mean([ours(kind, worse) - ours(kind, better) for kind in kinds], 0)
        metrics[f"{label}, test error, %, mean of all"] = gaps
    told_of = lambda said: {label: text for label, text in said.items() if label in metrics}
    return record(
        __file__,
        metrics,
        title=f"Stacked denoising against stacked plain autoencoders, 3 x {units} units, on variants of {data}",
        source="Vincent, Larochelle, Lajoie, Bengio & Manzagol (2010), JMLR 11",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        published=told_of(PUBLISHED) if data == "mnist" and not on_validation else {},
        claims=told_of(CLAIMS),
        notes=[
            f"{layers} layers of {units} units, {pretraining} epochs a layer and {epochs} of fine-tuning with Adam; "
            "the paper chose among 1000 to 3000 units and up to 300 epochs for each variant and each kind of net.",
            "Chosen on the validation set of bg_img in eight trials of 2000 to 4000 images, 300 to 400 units, 1 or 2 "
            "seeds and one setting for both kinds of stack: rates 4e-3 (1e-3 was tried) for the layers and 1e-3 (5e-4) "
            "for fine-tuning, numbers of epochs, and the start (a quarter of it leaves the net from a random start at "
            "69 % in error). In two of the smallest trials the plain stack was ahead. Other variants chose nothing.",
            "The variants are made anew from all of MNIST, the photographs are those of BSDS500 and not the paper's, "
            "and a digit lies on its background by the larger value: bg_img and bg_img_rot are alike in kind only.",
            f"All seeds have the same images, {tested} of them to test on; intervals are over starts and batches.",
        ],
        figure=lambda: picture(shown, filters),
        out=out,
    )


def of(params, i):
    """One seed's params."""
    return jax.tree.map(lambda a: a[i], params)


def separation_error(train: Batch, test: Batch, count: int) -> float:
    """Test error in % of a linear SVM on `count` training examples, each feature standardised."""
    flat = lambda x: np.asarray(x, np.float64).reshape(len(x), -1)
    scaler = StandardScaler().fit(flat(train.x[:count]))
    svm = LinearSVC(C=0.01, tol=1e-2, random_state=0)
    svm.fit(scaler.transform(flat(train.x[:count])), np.asarray(train.y)[:count])
    return 100 * float(np.mean(svm.predict(scaler.transform(flat(test.x))) != np.asarray(test.y)))


def picture(shown, filters):
    """Ten images of each variant; below them first-layer filters of both stacks, before fine-tuning."""
    rows = [*shown, *(name if i == 0 else "" for name in filters for i in range(2))]
    scale = lambda w: 0.5 + 0.5 * w / np.abs(w).max((1, 2, 3), keepdims=True)
    cells = [np.stack(list(shown.values())), *(scale(w)[:20].reshape(2, 10, *w.shape[1:]) for w in filters.values())]
    return plots.examples(np.concatenate(cells), (0.0, 1.0), rows=rows)


if __name__ == "__main__":
    command(main)
