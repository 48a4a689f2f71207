"""Params of another run to start from: for fine-tuning, for stages, for another set of data."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..core import Algorithm, Params
from ..errors import RunError
from . import loop, provenance
from .checkpoints import differing
from .run_folder import Folder


class Start(NamedTuple):
    """The start of every seed: `make` builds the algorithm whose `init` begins with the seed's given params."""

    params: Params  # groups, each leaf with a leading axis of seeds
    make: Callable[[Params], Algorithm]  # groups of one seed -> algorithm


class Origin(NamedTuple):
    """The params and the record of another run."""

    params: Params  # all groups, each leaf with a leading axis of the new run's seeds
    record: dict[str, Any]  # as config.json keeps it


def read(run: Path | str, seeds: Sequence[int], groups: Sequence[str] = (), seed: int | None = None) -> Origin:
    """The params of another run for the seeds of a new one.

    Args:
        run: the folder of the other run.
        seeds: of the new run.
        groups: the groups of params that the new run takes; () for all that it has.
        seed: the other run's seed for all new seeds. By default each new seed takes the same seed of the other run; if
            the other run has one seed only, all take it.

    Raises RunError for a folder without a run or without a finished epoch, and for seeds that the other run lacks or
    whose training failed.
    """
    folder = Folder(run)
    epoch, trained = loop.read(folder)
    if epoch == 0:
        raise RunError(f"{folder.path} has not ended its first epoch: train it before another run starts from it")
    if seed is not None:
        chosen = [seed] * len(seeds)
    elif len(trained.seeds) == 1:
        chosen = list(trained.seeds) * len(seeds)
    else:
        chosen = list(seeds)
    if lacking := [each for each in chosen if each not in trained.seeds]:
        raise RunError(
            f"{folder.path} has no seed {lacking[0]} to start from; it has the seeds {list(trained.seeds)}: name one "
            "for all, --from-seed N"
        )
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(trained.of(each) for each in chosen))
    record = {"run": str(folder.path), "groups": list(groups), "seed": seed, "seeds": chosen, "epoch": epoch}
    return Origin(params, record | {"checksum": provenance.checksum(params)})


def chosen(origin: Origin, own: Params, statistics: Sequence[str] = ()) -> Params:
    """The groups of the other run's params that the new run takes, in the new run's dtypes.

    Args:
        origin: the other run.
        own: the shapes and dtypes of the new run's params, of one seed.
        statistics: groups that the new run can measure. They are left out if their shapes differ, unless the origin
            names its groups.

    Raises RunError for groups that one of the two runs lacks, and for arrays of other shapes.
    """
    run, named, given = origin.record["run"], list(origin.record["groups"]), origin.params
    for group in named:
        for what, has in ((run, given), ("this run", own)):
            if group not in has:
                raise RunError(f"{what} has no group {group!r} of params; it has {', '.join(sorted(has))}")
    taken = {}
    for group in named or [group for group in given if group in own]:
        of_one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), given[group])
        told = differing({group: of_one}, {group: own[group]}, "there", "here")
        if told and group in statistics and not named:
            continue
        if told:
            raise RunError(
                f"the params of {run} do not fit this run: {told}. Give the same network and latents, or name the "
                f"groups that fit, --from {run}:GROUP,GROUP"
            )
        taken[group] = jax.tree.map(lambda a, like: jnp.asarray(a, like.dtype), given[group], own[group])
    if not taken:
        raise RunError(
            f"{run} has the params {', '.join(sorted(given))}, and this run {', '.join(sorted(own))}: none fit"
        )
    return taken
