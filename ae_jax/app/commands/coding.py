"""Codes, reconstructions, samples and exported programs of a run: `encode`, `decode`, `sample`, `export`."""

import csv
import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...algorithms import MEMBERS
from ...core import address
from ...data.disk import suffix, write_atomically, write_json, written
from ...errors import RunError, counted
from ...evaluation.samplers import SamplerName
from ...training.provenance import checksum
from .. import exports, index, plots, saelens
from .. import symbols as files_of_symbols
from ..files import (
    check_codes,
    check_folder,
    check_output,
    check_rows,
    check_suffix,
    read_codes,
    save_array,
    save_examples,
)
from ..symbols import SUFFIX
from . import examples, runs, sampling
from .runs import in_chunks


def encode(
    workdir: Path,
    source: str,
    out: Path,
    seed: int | None = None,
    resize: bool = False,
    part: examples.Part | None = None,
) -> np.ndarray:
    """Writes the codes [N, K] of all examples of a source (see `examples.read`) to .npy, .npz or .csv; returns them.

    A .npz has arrays `codes` and `names`, and `labels` and `classes` if the source has them. A .csv has a line for each
    example: name, label, and code z0, z1, ...
    """
    check_suffix(out, (".npy", ".npz", ".csv"))
    opened, found = _opened(workdir, source, out, seed, resize, part)
    codes = in_chunks(opened.in_data_units.encode, opened.params, found.x)
    if suffix(out) == ".csv":
        write_atomically(out, csv_of(codes, found).encode(errors="backslashreplace"))
    elif suffix(out) == ".npy":
        save_array(out, codes, "codes")
    else:
        labels = {} if found.labels is None else {"labels": found.labels}
        classes = {"classes": np.array(found.classes)} if found.classes else {}
        with written(out) as file:
            np.savez(file, allow_pickle=False, codes=codes, names=np.array(found.names), **labels, **classes)
    return codes


def csv_of(codes: np.ndarray, found: examples.Examples) -> str:
    """A .csv text: name, label (if the examples have labels), and code, with all digits of float32."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["name", *["label"] * (found.labels is not None), *(f"z{k}" for k in range(codes.shape[1]))])
    for i, (name, code) in enumerate(zip(found.names, codes, strict=True)):
        label = [] if found.labels is None else [class_name(int(found.labels[i]), found.classes)]
        lines.writerow([name, *label, *(f"{value:.9g}" for value in code)])
    return text.getvalue()


def class_name(label: int, classes: Sequence[str]) -> str:
    """The class name of a label, or its number if the class has no name; "" for no label."""
    return "" if label < 0 else str(classes[label]) if label < len(classes) else str(label)


def encode_symbols(
    workdir: Path,
    source: str,
    out: Path,
    seed: int | None = None,
    resize: bool = False,
    part: examples.Part | None = None,
) -> tuple[np.ndarray, str]:
    """Writes the symbols [N, P] of every example's code to a .symbols file (see `app.symbols`).

    Returns them, and a sentence on the sizes. Raises RunError for a run whose codes are not discrete.
    """
    check_suffix(out, (SUFFIX,))
    opened, (x, *_) = _opened(workdir, source, out, seed, resize, part)
    algorithm = opened.in_data_units
    assert algorithm.symbols is not None
    found = in_chunks(algorithm.symbols, opened.params, x)
    about = {"params": checksum(opened.params), "run": words_of(opened)}
    head = files_of_symbols.save(out, files_of_symbols.Symbols(found, algorithm.alphabet, about))
    bits = int(files_of_symbols.bits_of(found.shape[1], algorithm.alphabet).sum())
    of_floats = opened.standard is not None and not opened.standard.pixels
    kind, each = ("32-bit numbers", 32) if of_floats else ("8-bit values", 8)
    sizes = " and ".join(f"{size:,}" for size in dict.fromkeys(algorithm.alphabet))
    return found, (
        f"{found.shape} symbols, each one of {sizes}, written to {out}: {bits:,} bits an example, "
        f"{each * x[0].size / bits:.1f} times less than its {x[0].size:,} {kind}; {out.stat().st_size:,} bytes, "
        f"{head} of them the head"
    )


def _opened(
    workdir: Path, source: str, out: Path, seed: int | None, resize: bool, part: examples.Part | None
) -> tuple[runs.OpenRun, examples.Examples]:
    """The run and the examples of a source, after the checks of the output."""
    check_output(out, source)
    opened = runs.open_run(workdir, seed)
    check_output(out, *opened.sources)
    if suffix(out) == SUFFIX and not opened.algorithm.alphabet:
        raise RunError(
            f"{opened.settings.algorithm} has no symbols, its codes are numbers: leave --symbols out, or train vq_vae"
        )
    return opened, examples.read(opened, source, resize, part)


def decode_symbols(opened: runs.OpenRun, source: Path) -> np.ndarray:
    """The codes [N, K] of the symbols in a file. Raises RunError for symbols of another run."""
    found, algorithm = files_of_symbols.load(source), opened.algorithm
    if algorithm.lookup is None or found.about.get("params") != checksum(opened.params):
        whose = found.about.get("run", "another run")
        raise RunError(
            f"{source} has symbols of {whose}, and this is {words_of(opened)}, whose params differ: only the run that "
            "wrote symbols can read them"
        )
    return in_chunks(algorithm.lookup, opened.params, found.symbols)


def words_of(opened: runs.OpenRun) -> str:
    """A run in a few words."""
    return f"{opened.settings.algorithm} on {opened.settings.data} after epoch {opened.epoch}, seed {opened.seed}"


def decode(workdir: Path, source: str, out: Path, seed: int | None = None) -> np.ndarray:
    """Decodes the codes in a .npy, .npz or .csv file, or in a file of symbols, to examples [N, *shape].

    Writes them to .npy, .npz or .png (a grid of images, or a heat map of a table), and rows of a table also to .csv.
    """
    check_suffix(out, (".npy", ".npz", ".png", ".csv"))
    check_output(out, source)
    opened = runs.open_run(workdir, seed)
    check_output(out, *opened.sources)
    check_rows(out, opened.columns)
    runs.check_decodes(opened, workdir, "train another member, such as autoencoder")
    of_symbols = suffix(source) == SUFFIX
    codes = decode_symbols(opened, Path(source)) if of_symbols else read_codes(Path(source), opened.settings.latents)
    indexed = None if of_symbols else index.about(Path(source))
    if indexed is not None:
        theirs = indexed["run"]["settings"]
        if indexed.get("seed", opened.seed) != opened.seed:
            raise RunError(f"{source} is an index of seed {indexed['seed']}: give --seed {indexed['seed']}")
        own = opened.folder.config()["settings"]
        if indexed["params"] != checksum(opened.params) if "params" in indexed else theirs != own:
            raise RunError(
                f"{source} is an index of codes by other params ({theirs['algorithm']} on {theirs['data']}), which "
                "this run's decoder cannot read: if the run has learned since, make the index again by ae-jax index"
            )
    codes = check_codes(codes, opened.settings.latents, source)
    x = in_chunks(opened.in_data_units.decode, opened.params, codes)
    _save(opened, out, x)
    return x


def sample(
    workdir: Path,
    n: int,
    out: Path,
    seed: int | None = None,
    key: int = 0,
    draws: bool = False,
    sampler: SamplerName | None = None,
) -> tuple[np.ndarray, str]:
    """n new examples [n, *shape], and their description. Writes them as `decode` does.

    The same `key` draws the same examples. With `draws` the examples are drawn from p(x | z); otherwise they are means.
    With a `sampler` their codes are drawn from the prior that it fits to the run's codes, see `sampling.fitted`. Raises
    RunError for a run that has no such examples.
    """
    check_suffix(out, (".npy", ".npz", ".png", ".csv"))
    check_output(out)
    opened = runs.open_run(workdir, seed)
    check_output(out, *opened.sources)
    check_rows(out, opened.columns)
    if n < 1:
        raise RunError(f"n is {n}; it must be at least 1")
    if not 0 <= key < 2**32:
        raise RunError(f"key is {key}; it must be a number from 0 to 2^32 - 1 = {2**32 - 1}")
    algorithm, key_sampling = opened.in_data_units, address(jax.random.key(key), "sampling")
    if sampler is not None:
        if draws:
            raise RunError("--draws is of a member's own prior: leave it out, or --sampler")
        runs.check_decodes(opened, workdir, "train another member, such as autoencoder")
        fitted, codes = sampling.fitted(opened, sampler)
        z = np.asarray(sampling.draw(fitted, key_sampling, n, jnp.float32))
        x = in_chunks(algorithm.decode, opened.params, z)
        _save(opened, out, x)
        return x, f"decoded codes of the sampler {sampler}, {codes}{_caveat(opened)}"
    if algorithm.sample is None:
        raise RunError(
            f"{opened.settings.algorithm} is not a generative model: it has no distribution of codes. "
            "To draw samples, give --sampler gmm, which fits one to its codes; or train a member that has one, such as "
            "vae, vamp, made, rbm or an adversarial member."
        )
    make = algorithm.draw if draws else algorithm.sample
    if make is None:
        raise RunError(
            f"{opened.settings.algorithm} has no draws of examples, as its decoder gives no distribution of x: leave "
            "--draws out for decoded codes"
        )
    x = np.asarray(jax.jit(make, static_argnums=2)(opened.params, key_sampling, n))
    _save(opened, out, x)
    if make is algorithm.draw:
        return x, "draws of x"
    return x, "means of x, E[x | z] of drawn z" + ("" if algorithm.draw is None else "; --draws draws x itself")


def _save(opened: runs.OpenRun, out: Path, x: np.ndarray) -> None:
    """Writes examples by the suffix of `out`: an array, a .csv, a grid of images, or a heat map of a table."""
    if suffix(out) == ".png" and opened.columns:
        plots.save(plots.heat(opened.drawable(x)[None], [counted(len(x), "row")], opened.columns), out)
    else:
        save_examples(out, x, opened.columns)


def _caveat(opened: runs.OpenRun) -> str:
    """A warning on codes of a fitted sampler, for members with a codebook or that generate without codes; else ""."""
    name = opened.settings.algorithm
    if opened.algorithm.symbols is not None:
        return f"; {name} decodes vectors of its codebook, and these codes lie between them: expect poor examples"
    if name in [m.make.__name__ for m in MEMBERS if m.family in ("autoregressive", "energy")]:
        return f"; {name} draws examples itself, not from codes: leave --sampler out for its own"
    return ""


def export(workdir: Path, out: Path, seed: int | None = None) -> list[Path]:
    """Writes the encoder, and the decoder if it learned, as StableHLO for cpu, cuda and tpu; returns the paths.

    The programs contain the parameters and take any batch size. The loader and the README beside them
    (`exports.loader`, `exports.readme`) do not need this package.
    """
    opened = runs.open_run(workdir, seed)
    of_programs = [f"{name}.stablehlo" for name in exports.NAMES]
    check_folder(out, (*of_programs, exports.README, exports.LOADER, exports.SIGNATURE))
    exports.check_own(out)
    algorithm, code = opened.in_data_units, (opened.settings.latents,)
    parts: dict[str, Any] = {"encoder": algorithm.encode}
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {"encoder": (opened.shape, code)}
    if algorithm.decodes:
        parts["decoder"], shapes["decoder"] = algorithm.decode, (code, opened.shape)
    programs = {n: exported(functools.partial(fn, opened.params), shapes[n][0]) for n, fn in parts.items()}
    out.mkdir(parents=True, exist_ok=True)
    for name, program in programs.items():
        write_atomically(out / f"{name}.stablehlo", program)
    ends = {name: {"in": ["b", *taken], "out": ["b", *given]} for name, (taken, given) in shapes.items()}
    signature = {
        **{name: {**ends[name], "dtype": "float32"} for name in programs},
        "use": "jax.export.deserialize(open('encoder.stablehlo', 'rb').read()).call(x)",
        "jax": jax.__version__,
        "run": opened.folder.config(),
    }
    write_json(out / exports.SIGNATURE, signature)
    write_atomically(out / exports.LOADER, exports.loader(list(programs)).encode())
    real = opened.standard is not None and not opened.standard.pixels
    values = "the units of the training data" if real else "values in [0, 1]"
    if opened.vocabulary:
        kind = "counts" if opened.settings.data_options.get("count_words") else "shares"
        values = f"the {kind} of a document's words, in the order of `vocabulary` in `signature.json`"
    about = exports.readme(shapes, words_of(opened), jax.__version__, values)
    write_atomically(out / exports.README, about.encode(errors="backslashreplace"))
    names = (*(f"{name}.stablehlo" for name in programs), exports.README, exports.LOADER, exports.SIGNATURE)
    return [out / name for name in names]


def export_saelens(workdir: Path, out: Path, seed: int | None = None) -> list[Path]:
    """Writes a run's dictionary for SAELens, see `saelens.save`. Raises RunError for a run of another algorithm."""
    opened = runs.open_run(workdir, seed)
    name, hyper, latents = opened.settings.algorithm, opened.settings.hyper, opened.settings.latents
    if name != "dictionary":
        raise RunError(f"{workdir} trained {name}, and SAELens' layout is for dictionaries: leave --saelens out")
    form, k = hyper.get("form", "topk"), hyper.get("k") or -(-latents // 16)  # its default for None
    return saelens.save(out, opened.params, form=form, k=k, standard=opened.standard)


def exported(fn: Callable[[Any], Any], shape: tuple[int, ...]) -> bytes:
    """A function of float32 [b, *shape], for any batch size b, as StableHLO for cpu, cuda and tpu."""
    from jax import export as jax_export

    (b,) = jax_export.symbolic_shape("b")
    spec = jax.ShapeDtypeStruct((b, *shape), jnp.float32)
    made = lambda fn: jax_export.export(jax.jit(fn), platforms=("cpu", "cuda", "tpu"))(spec)
    try:
        program = made(fn)
    except Exception:  # fn needs a fixed batch size, as len(x) does: export fn of one example, mapped over the batch
        program = made(jax.vmap(lambda x: fn(x[None])[0]))
    return bytes(program.serialize())
