"""Trials of damage: `python scripts/trials.py` kills runs, flips bits of checkpoints, fills disks, and counts failures.

The runs train four members (convolutional, adversarial, an RBM with persistent chains, a VAE on a stream of shards),
each with two seeds in one folder. A kill is SIGKILL at a random moment between the opening of the folder and the last
checkpoint; after the kills a run must end with the bits of an uninterrupted run. A flip changes one random bit in the
files of a checkpoint; reading must give the same bits or an error. The full disk is a small tmpfs if this user may
mount one, else a limit on the size of a file. The script prints counts, and writes them to the file of --out. Its exit
status is 1 if any trial went wrong.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
MEMBERS = ("conv", "adversarial", "rbm", "stream")
SEEDS, BATCH = (0, 1), 16


# ------------------------------------------------------------------------------------------------ a run


def member(name: str) -> tuple[Any, Any, Any]:
    """A small algorithm, training set and validation set for a member."""
    import jax.numpy as jnp
    import numpy as np
    import optax

    from ae_jax import algorithms, data, networks
    from ae_jax.core import Batch

    images = np.random.default_rng(0).random((64, 8, 8, 1)).astype(np.float32)
    whole, held_out = Batch(jnp.asarray(images)), Batch(jnp.asarray(images[:16]))
    adam = optax.adam(1e-2)
    if name == "conv":
        return algorithms.autoencoder(networks.conv((8, 8, 1), 2, channels=(2,)), adam), whole, held_out
    if name == "adversarial":
        net = networks.mlp((8, 8, 1), 2, hidden=(8,))
        return algorithms.adversarial(net, adam, critic_widths=(8,)), whole, held_out
    if name == "rbm":
        return algorithms.rbm(networks.rbm((8, 8, 1), 6), optax.sgd(0.05), chains=4), whole, None
    read = lambda index: Batch(jnp.asarray(images[index]))
    blocks = np.array([[i, i + 8] for i in range(0, 64, 8)])
    source = data.Source(name="random images", shape=(8, 8, 1), blocks=blocks, read=read)
    net = networks.mlp((8, 8, 1), 2, hidden=(8,), heads=2, dropout=0.1)
    return algorithms.vae(net, adam), data.Stream(source, 32, 0), held_out


def trained(name: str, where: Path, epochs: int, keep: int = 3) -> int:
    """Trains a member in a folder, or goes on with its run; returns a checksum of the params."""
    from ae_jax.training import loop, provenance, run_folder

    algorithm, train_set, held_out = member(name)
    folder = run_folder.Folder(where)
    with folder.opened({"member": name, "epochs": epochs}, keep=keep):
        done = loop.train(
            algorithm,
            train_set,
            epochs=epochs,
            batch_size=BATCH,
            seeds=SEEDS,
            validation=held_out,
            folder=folder,
            every_epochs=1,
            every_minutes=0.0,  # saves between shards, too
            progress=False,
        )
    return provenance.checksum(done.params)


def child(connection: Any, name: str, where: Path, epochs: int, most: int | None) -> None:
    """Trains in a process of its own; sends "ready", then the checksum or the error. `most` limits a file's bytes."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    from ae_jax.errors import RunError
    from ae_jax.xla import cache

    cache.cache_compilations()
    if most is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    connection.send("ready")
    try:
        connection.send(trained(name, where, epochs))
    except (RunError, OSError) as error:
        connection.send(f"{type(error).__name__}: {error}")


class Child:
    """A process that runs `child`; it is ready when the constructor returns."""

    def __init__(self, name: str, where: Path, epochs: int, most: int | None = None):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["jax", "optax", "flax.linen", "orbax.checkpoint", "ae_jax.training.loop"])
        self._end, theirs = context.Pipe()
        self.process = context.Process(target=child, args=(theirs, name, where, epochs, most))
        self.process.start()
        theirs.close()
        self._end.recv()
        self.began = time.monotonic()

    def said(self, timeout: float = 600.0) -> int | str | None:
        """The checksum or the error; None if the process was killed or takes longer."""
        try:
            if self._end.poll(timeout):
                return self._end.recv()
            self.process.kill()
            return None
        except EOFError:
            return None
        finally:
            self.process.join()

    def kill(self, after: float) -> bool:
        """Kills the process after so many seconds; False if it had ended before."""
        alive = not self._end.poll(after)
        self.process.kill()
        self.process.join()
        return alive


# --------------------------------------------------------------------------------------------- the trials


def kills(name: str, where: Path, n: int, epochs: int, rng: random.Random) -> dict[str, int]:
    """Counts for runs that are killed n times in all; each is started again until it ends."""
    took, right = float("inf"), None
    for i in range(2):  # the first one compiles
        whole = Child(name, where / f"whole-{i}", epochs)
        right, took = whole.said(), min(took, time.monotonic() - whole.began)
    counts = {"kills": 0, "runs": 0, "other bits": 0, "errors": 0}
    while counts["kills"] < n:
        folder = where / f"killed-{counts['runs']}"
        while True:
            process = Child(name, folder, epochs)
            if counts["kills"] < n and process.kill(rng.uniform(0.0, took)):
                counts["kills"] += 1
                continue
            found = process.said()
            if found is not None:
                break
        counts["runs"] += 1
        counts["errors"] += isinstance(found, str)
        counts["other bits"] += isinstance(found, int) and found != right
        shutil.rmtree(folder)
    return counts


def flips(name: str, where: Path, n: int, rng: random.Random) -> dict[str, int]:
    """Counts for flips of one bit of the newest checkpoint, in large and small files alike."""
    import jax
    import numpy as np

    from ae_jax.errors import RunError
    from ae_jax.training import run_folder

    trained(name, where, 2, keep=1)
    folder = run_folder.Folder(where)
    right = folder.params()
    (newest,) = (path for path in (where / "checkpoints").iterdir() if path.name.isdecimal())
    files = [path for path in sorted(newest.rglob("*")) if path.is_file() and path.stat().st_size]
    counts = {"flips": 0, "refused": 0, "same bits": 0, "other bits": 0}
    for i in range(n):
        sizes = [path.stat().st_size for path in files] if i % 2 else None
        (path,) = rng.choices(files, sizes)
        content = path.read_bytes()
        place = rng.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :])
        counts["flips"] += 1
        try:
            found = folder.params()
        except RunError:
            counts["refused"] += 1
        else:
            leaves = zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True)
            same = all(np.array_equal(a, b, equal_nan=True) for a, b in leaves)
            counts["same bits" if same else "other bits"] += 1
        path.write_bytes(content)
    return counts


@contextlib.contextmanager
def small_disk(where: Path, size: str) -> Iterator[Callable[[str], bool] | None]:
    """Mounts a tmpfs of that size at a folder; yields a function that mounts it again with other options.

    Yields None if this user may not mount one.
    """
    where.mkdir(parents=True)
    mount = lambda *options: subprocess.run(["mount", *options, str(where)], capture_output=True).returncode == 0
    mounted = bool(shutil.which("mount")) and mount("-t", "tmpfs", "-o", f"size={size}", "none")
    try:
        yield (lambda options: mount("-o", f"remount,{options}")) if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(where)], check=False)


def full_disk(name: str, where: Path, epochs: int, right: int) -> dict[str, int]:
    """Counts for a run on a disk that fills up, and then has room."""
    counts = {"trials": 1, "told": 0, "went on to the same bits": 0, "on a tmpfs": 0}
    with small_disk(where / "disk", "96k") as again:
        counts["on a tmpfs"] = int(again is not None)
        folder = where / "disk" / "run"
        said = Child(name, folder, epochs, None if again else 12_000).said()
        counts["told"] = int(
            isinstance(said, str) and ("No space" in said or "too large" in said or "RESOURCE" in said)
        )
        if again:
            again("size=64m")
        counts["went on to the same bits"] = int(Child(name, folder, epochs).said() == right)
    return counts


def read_only(name: str, where: Path, epochs: int) -> dict[str, int]:
    """Counts for a run in a folder without write permission: an error must say so, and the folder must not change."""
    counts = {"trials": 0, "told": 0, "unchanged": 0}
    with small_disk(where / "disk", "64m") as again:
        folder = where / "disk" / "run"
        Child(name, folder, 1).said()
        content = lambda: {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        before = content()
        closed = again("ro") if again else os.geteuid() != 0
        if not again and closed:
            os.chmod(folder, 0o500)
            for path in [*folder.rglob("*")]:
                os.chmod(path, 0o500 if path.is_dir() else 0o400)
        if closed:
            said = Child(name, folder, 1).said()
            counts = {"trials": 1, "told": int(isinstance(said, str)), "unchanged": int(content() == before)}
        if not again and closed:
            for path in [folder, *folder.rglob("*")]:
                os.chmod(path, 0o700)
    return counts


def two_processes(name: str, where: Path, epochs: int, right: int) -> dict[str, int]:
    """Counts for two runs started in one folder: one of them trains, the other is refused or comes after it."""
    pair = [Child(name, where / "run", epochs) for _ in range(2)]
    found = [process.said() for process in pair]
    refused = sum(isinstance(said, str) and "in use" in said for said in found)
    return {"trials": 1, "refused": refused, "same bits": sum(said == right for said in found)}


def wrong(record: dict[str, dict[str, dict[str, int]]]) -> list[str]:
    """The failures in a record, a line for each."""
    lines = []
    for name, trials in record.items():
        for trial, counts in trials.items():
            bad = counts.get("other bits", 0) + counts.get("errors", 0) if trial in ("kills", "flips") else 0
            if trial in ("full disk", "read-only folder"):
                bad = sum(counts["trials"] - counts[key] for key in counts if key not in ("trials", "on a tmpfs"))
            if trial == "two processes":
                bad = 2 * counts["trials"] - counts["refused"] - counts["same bits"] + (counts["same bits"] == 0)
            lines += [f"{name}, {trial}: {counts}"] if bad else []
    return lines


def trials(members: tuple[str, ...], n_kills: int, n_flips: int, epochs: int, seed: int = 0) -> dict[str, Any]:
    """The counts by member and trial; kills and flips are divided among the members."""
    record: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as base:
        for i, name in enumerate(members):
            rng, where = random.Random(f"{seed} {name}"), Path(base) / name
            share = lambda n, i=i: n // len(members) + (i < n % len(members))
            right = Child(name, where / "right", epochs).said()
            assert isinstance(right, int), right
            record[name] = {
                "kills": kills(name, where / "kills", share(n_kills), epochs, rng),
                "flips": flips(name, where / "flips", share(n_flips), rng),
                "full disk": full_disk(name, where / "full", epochs, right),
                "read-only folder": read_only(name, where / "read", 1),
                "two processes": two_processes(name, where / "two", epochs, right),
            }
            for trial, counts in record[name].items():
                print(f"{name:<12} {trial:<17} {', '.join(f'{n} {what}' for what, n in counts.items())}", flush=True)
    return record


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="in all; default 100")
    parser.add_argument("--flips", type=int, default=100, help="in all; default 100")
    parser.add_argument("--epochs", type=int, default=20, help="of every run; default 20")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the bits")
    parser.add_argument("--members", nargs="+", choices=MEMBERS, default=list(MEMBERS))
    parser.add_argument("--out", type=Path, help="write the counts here, as JSON: results/trials.json")
    arguments = parser.parse_args()
    record = trials(tuple(arguments.members), arguments.kills, arguments.flips, arguments.epochs, arguments.seed)
    total = lambda trial, what: sum(counts[trial].get(what, 0) for counts in record.values())
    print(
        f"{total('kills', 'kills')} kills: {total('kills', 'other bits')} runs with other bits; "
        f"{total('flips', 'flips')} flips: {total('flips', 'refused')} refused, "
        f"{total('flips', 'other bits')} with other bits"
    )
    if arguments.out is not None:
        from ae_jax.data.disk import write_json
        from ae_jax.training import provenance

        options = {"kills": arguments.kills, "flips": arguments.flips, "epochs": arguments.epochs}
        write_json(arguments.out, {**options, "seed": arguments.seed, **provenance.circumstances(), "members": record})
    if bad := wrong(record):
        sys.exit("\n".join(["went wrong:", *bad]))


if __name__ == "__main__":
    main()
