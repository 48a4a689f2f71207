"""Dictionaries in the layout of SAELens: cfg.json and sae_weights.safetensors, as `SAE.load_from_disk` reads them.

    saelens.save("sae", run.params, form="topk", k=32, standard=standard)
    algorithm, params = saelens.load("sae")

SAELens' W_enc [D, K], b_enc [K], W_dec [K, D] and b_dec [D] are W, c, D and b here: the code encodes x - b_dec. SAELens
does not scale data, so its weights are for data in their own units.
"""

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..algorithms import dictionary
from ..core import Algorithm, Params
from ..data import Standard
from ..data.disk import write_atomically, write_json
from ..errors import RunError
from ..networks import linear
from ..objectives.sparsity import FormName, centre, rows
from .files import check_folder

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
# SAELens keeps a trained BatchTopK, and a Matryoshka BatchTopK, as a JumpReLU whose units share one threshold
ARCHITECTURES = {
    "l1": "standard",
    "april": "standard",
    "gated": "gated",
    "topk": "topk",
    "batch_topk": "jumprelu",
    "matryoshka": "jumprelu",
    "jumprelu": "jumprelu",
}
FORMS = {
    "standard": "l1",
    "gated": "gated",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "batchtopk": "jumprelu",
    "matryoshka_batchtopk": "jumprelu",
}
LENGTH = 8  # bytes that hold the length of a safetensors file's header
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def save(
    folder: str | os.PathLike[str],
    params: Params,
    *,
    form: FormName = "topk",
    k: int | None = None,
    standard: Standard | None = None,
) -> list[Path]:
    """Writes a dictionary's params, of one seed, for SAELens; returns the paths of its two files.

    Args:
        folder: a new folder, or one without these two files, or with those of an earlier call.
        params: of `dictionary`, in the units of learning.
        form: of the dictionary.
        k: the number of active units, for topk.
        standard: the units of learning, if these differ from the data's own.

    Raises RunError for a folder with such files of another program, and ValueError for topk without k.
    """
    if form == "topk" and k is None:
        raise ValueError("k is None: say how many units the topk dictionary keeps, as in the settings of its run")
    folder = Path(folder)
    check_folder(folder, (CONFIG, WEIGHTS))
    check_own(folder)
    layer, (mean, scale) = params["encoder"]["layer_0"], (0.0, 1.0) if standard is None else standard[:2]
    mean, scale = (np.broadcast_to(np.asarray(a, np.float32).ravel(), centre(params).shape) for a in (mean, scale))
    w, d = np.asarray(layer["kernel"]), np.asarray(rows(params))
    if not (np.abs(w).sum(1).all() and np.abs(d).sum(0).all()):
        raise ValueError("this dictionary reads a part of x and gives another: SAELens' layout has no transcoder of it")
    found: dict[str, Any] = {
        "W_enc": w / scale[:, None],
        "W_dec": d * scale[None],
        "b_dec": np.asarray(centre(params)) * scale + mean,
    }
    architecture = ARCHITECTURES[form]
    if architecture == "gated":
        gate = params["gate"]
        found |= {"b_gate": layer["bias"], "r_mag": gate["scale"], "b_mag": gate["bias"]}
    else:
        found["b_enc"] = layer["bias"]
    if architecture == "jumprelu":
        found["threshold"] = np.broadcast_to(params["threshold"], layer["bias"].shape)
    config = {
        "d_in": d.shape[1],
        "d_sae": d.shape[0],
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **({"k": k, "rescale_acts_by_decoder_norm": False} if architecture == "topk" else {}),
        "architecture": architecture,
        "metadata": {"sae_lens_version": "6.0.0", "form": form, "made_by": "ae_jax"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, config)  # first: `check_own` knows an interrupted export by it
    write_atomically(folder / WEIGHTS, packed({name: np.asarray(a, np.float32) for name, a in found.items()}))
    return [folder / CONFIG, folder / WEIGHTS]


def check_own(folder: Path) -> None:
    """Raises RunError where the folder has a dictionary that `save` did not write."""
    there = [name for name in (CONFIG, WEIGHTS) if (folder / name).exists()]
    try:
        own = json.loads((folder / CONFIG).read_text("utf-8"))["metadata"]["made_by"] == "ae_jax"
    except (OSError, ValueError, KeyError, TypeError):
        own = False
    if there and not own:
        raise RunError(f"{folder} has a {there[0]} that ae_jax did not write: name another folder")


def load(folder: str | os.PathLike[str]) -> tuple[Algorithm, Params]:
    """A dictionary that SAELens, or `save`, wrote: an algorithm that encodes and decodes with it, and its params.

    Architectures are standard, gated, topk and jumprelu, and the training form of batchtopk. Raises RunError for other
    architectures, for a dictionary that normalises its inputs, and for files that are missing or damaged.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"{CONFIG} is a {type(config).__name__} and no object of settings")
        found = unpacked((folder / WEIGHTS).read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{folder} cannot be read as a dictionary of SAELens ({error})") from error
    architecture = config.get("architecture")
    if architecture not in FORMS:
        raise RunError(f"{folder} has the architecture {architecture!r}; read are {', '.join(FORMS)}")
    if (kind := config.get("normalize_activations", "none")) != "none":
        raise RunError(f"{folder} normalises activations by {kind!r}: fold that into its weights by SAELens first")
    try:
        return _opened(config, found, architecture)
    except (KeyError, ValueError, TypeError) as error:
        raise RunError(f"{folder} is no dictionary of the architecture {architecture}: {error!r}") from error


def _opened(config: dict[str, Any], found: dict[str, np.ndarray], architecture: str) -> tuple[Algorithm, Params]:
    w, d, b = found["W_enc"], found["W_dec"], found["b_dec"]
    c = found["b_gate" if architecture == "gated" else "b_enc"]
    shapes = {"W_enc": w.shape[::-1], "W_dec": d.shape, "bias and b_dec": (*c.shape, *b.shape)}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"its shapes do not fit: {shapes}")
    if config.get("rescale_acts_by_decoder_norm") and architecture != "jumprelu":  # scales as if rows had length 1
        lengths = np.linalg.norm(d, axis=1)
        w, c, d = w * lengths[None], c * lengths, d / lengths[:, None]
    if not config.get("apply_b_dec_to_input", True):
        c = c + b @ w
    params: Params = {
        "encoder": {"layer_0": {"kernel": w, "bias": c}},
        "decoder": {"layer_0": {"kernel": d, "bias": b}},
        "idle": np.zeros(len(d), np.int32),
        "variance": np.ones((), d.dtype),
    }
    if architecture == "gated":
        shift = 0 if config.get("apply_b_dec_to_input", True) else (b @ w) * np.exp(found["r_mag"])
        params["gate"] = {"scale": found["r_mag"], "bias": found["b_mag"] + shift}
    if FORMS[architecture] == "jumprelu":
        threshold = found["topk_threshold"] if "topk_threshold" in found else found["threshold"]
        params["threshold"] = np.broadcast_to(threshold, c.shape).astype(c.dtype)
    form: Any = FORMS[architecture]
    hyper: dict[str, Any] = {"k": int(config["k"])} if form == "topk" else {}
    net = linear((d.shape[1],), len(d))
    return dictionary(net, optax.set_to_zero(), form=form, **hyper), jax.tree.map(jnp.asarray, params)


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays of float32 as a safetensors file."""
    header, data = {}, b""
    for name, a in arrays.items():
        content = np.ascontiguousarray(a, "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the data are aligned
    return len(text).to_bytes(LENGTH, "little") + text + data


def unpacked(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, as float32 or float64. Raises ValueError for another file."""
    start = LENGTH + int.from_bytes(content[:LENGTH], "little")
    if len(content) < start:
        raise ValueError("its weights are cut short")
    header, found = json.loads(content[LENGTH:start]), {}
    for name, of in header.items():
        if name == "__metadata__":
            continue
        first, last = (start + n for n in of["data_offsets"])
        if of["dtype"] == "BF16":  # the upper half of a float32
            a = (np.frombuffer(content[first:last], "<u2").astype(np.uint32) << 16).view(np.float32)
        elif of["dtype"] in TYPES:
            a = np.frombuffer(content[first:last], TYPES[of["dtype"]])
        else:
            raise ValueError(f"{name} is {of['dtype']}, and weights are floats")
        if a.size != np.prod(of["shape"], dtype=int):
            raise ValueError(f"{name} is cut short")
        found[name] = a.reshape(of["shape"]).astype(np.float64 if of["dtype"] == "F64" else np.float32)
    return found
