"""Samplers of a run: fitted once to the codes of its training data, and kept in its folder."""

import io
import json
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ...core import Params, address
from ...data.disk import written
from ...distributions.priors import Prior
from ...errors import RunError, first_line
from ...evaluation.samplers import SAMPLERS, Fitted, SamplerName, prior_of
from ...training import checkpoints, provenance, run_folder
from . import runs
from .loading import drawn_once

VERSION = 1  # of the layout of the files


def place_of(folder: run_folder.Folder, name: str, seed: int) -> Path:
    """The file of a sampler, beside the run's checkpoints."""
    return folder.path / "samplers" / f"{name}-{seed}.npz"


def save(path: Path, params: Params, about: dict[str, Any]) -> None:
    """Writes a sampler's params and the facts of its fit, with a checksum of both; whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    arrays = {f"params/{name}": np.asarray(leaf) for name, leaf in checkpoints.by_name(params).items()}
    about = {"version": VERSION, **about, "arrays": checkpoints.described(arrays)}
    with written(path) as file:
        np.savez(file, allow_pickle=False, about=json.dumps(about | {"seal": checkpoints.seal(about)}), **arrays)


def read(path: Path) -> tuple[Params, dict[str, Any]]:
    """A sampler's params, and the facts of its fit. Raises RunError for a file that is damaged or newer."""
    params: Params = {}
    content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        about = json.loads(str(arrays.pop("about")))
        seal = about.pop("seal")
        if seal != checkpoints.seal(about) or about["arrays"] != checkpoints.described(arrays):
            raise ValueError("its checksum does not match")
    except Exception as error:  # NumPy and zipfile raise errors of many kinds
        raise RunError(
            f"{path} is damaged ({first_line(error)}): remove it, and the same command fits the sampler again"
        ) from None
    if about["version"] > VERSION:
        raise RunError(f"{path} is of a newer ae_jax: use that version, or remove the file to fit the sampler again")
    for name, array in arrays.items():
        *groups, last = name.split("/")[1:]
        inside = params
        for group in groups:
            inside = inside.setdefault(group, {})
        inside[last] = jnp.asarray(array)
    return params, about


def fitted(opened: runs.OpenRun, name: SamplerName) -> tuple[Fitted, str]:
    """The sampler of that name for one seed of a run, (params, prior), and a description of its fit.

    If the run's folder has no such sampler, it is fitted with the key `address(jax.random.key(seed), "sampler", name)`.
    Raises RunError for a sampler in the folder that was fitted to other params of the run.
    """
    path, mine = place_of(opened.folder, name, opened.seed), provenance.checksum(opened.params)
    if path.exists():
        params, about = read(path)
        if about["params"] != mine:
            raise RunError(
                f"{path} was fitted to codes of another checkpoint (epoch {about['epoch']}; the run's params are now "
                f"those of epoch {opened.epoch}): remove it, and the same command fits the sampler again"
            )
        return (params, prior_of(name, opened.settings.latents)), described(name, about["codes"])
    x = np.asarray(drawn_once(opened.settings, runs.load_own(opened)).train.x)
    codes = runs.in_chunks(opened.algorithm.encode, opened.params, x)
    try:
        params, prior = SAMPLERS[name](codes, address(jax.random.key(opened.seed), "sampler", name))
    except ValueError as error:
        raise RunError(f"the sampler {name} cannot be fitted to this run: {error}") from None
    save(path, params, {"params": mine, "epoch": opened.epoch, "codes": len(x)})
    return (params, prior), described(name, len(x))


def described(name: str, codes: int) -> str:
    """The fit of a sampler in words; `codes` is the number of codes."""
    return (
        "N(0, I), not fitted to the codes"
        if name == "normal"
        else f"fitted to the codes of {codes:,} training examples"
    )


def kept(folder: run_folder.Folder, seed: int, params: Params, size: int) -> dict[SamplerName, Fitted]:
    """The samplers in a run's folder that were fitted to these params; unreadable files are left out."""
    found: dict[SamplerName, Fitted] = {}
    mine = provenance.checksum(params)
    names: tuple[SamplerName, ...] = get_args(SamplerName)
    for name in names:
        path = place_of(folder, name, seed)
        if not path.exists():
            continue
        try:
            own, about = read(path)
        except RunError:
            continue
        if about["params"] == mine:
            found[name] = own, prior_of(name, size)
    return found


def draw(fitted: tuple[Params, Prior], key: Any, n: int, dtype: Any) -> Any:
    """n codes of a sampler. -> [n, K]."""
    params, prior = fitted
    return jax.jit(lambda params, key: prior.draw(params, key, n, dtype))(params, key)
