"""Checkpoints: a change of any bit is told, and nothing else is called damage."""

import builtins
import errno
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import same_bits

from ae_jax.core import Batch, Descent
from ae_jax.errors import RunError
from ae_jax.training import checkpoints, compiled, provenance, run_folder


def state(scale=1.0, groups=("encoder",)):
    """The state of two seeds, made by hand: nothing is trained or compiled."""
    params = {group: {"kernel": scale * jnp.arange(12.0).reshape(2, 2, 3) + 0.1} for group in groups}
    memory = Descent(step=jnp.full(2, 7), optimizer=jax.vmap(optax.adam(0.1).init)(params))
    one = jnp.ones(2)
    fields = {name: one for name in compiled.State._fields} | {"best_epoch": jnp.array([3, 4])}
    return compiled.State(
        **fields | {"params": params, "memory": memory, "best": {}, "active": jnp.array([True, False])}
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = run_folder.Folder(tmp_path_factory.mktemp("whole") / "run")
    folder.shards = 3
    with folder.opened({"lr": 0.1}):
        folder.save(1, state(1.0))
        folder.save(4, state(2.0), {"shard": 2, "sums": {"loss": [0.5, float("nan")]}, "seconds": 0.25})
    return folder.path


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of `whole`, with checkpoints 3 (epoch 1 of three shards) and 14 (epoch 4 and two shards)."""
    shutil.copytree(whole, tmp_path / "run")
    folder = run_folder.Folder(tmp_path / "run")
    folder.shards = 3
    return folder


def files(folder, number=14):
    return [p for p in sorted((folder.path / "checkpoints" / str(number)).rglob("*")) if p.is_file()]


def flips(size, rng, most=24):
    """Some bits of a file, each as (place, mask): of a small file its ends and others."""
    places = np.unique(np.concatenate([[0, size - 1], rng.integers(0, size, most)]))
    return [(int(place), 1 << int(bit)) for place, bit in zip(places, rng.integers(0, 8, len(places)), strict=True)]


def flipped(path, place, mask):
    content = bytearray(path.read_bytes())
    content[place] ^= mask
    path.write_bytes(bytes(content))


def test_what_is_written_is_what_is_read(folder):
    for found in (folder.params(), folder.restore(state())):
        assert found[0] == 4
        assert same_bits(found[1].params, state(2.0).params)
        assert same_bits(found[1].best_epoch, state().best_epoch)
    assert same_bits(folder.restore(state())[1], state(2.0))
    assert folder.partial == {"shard": 2, "sums": {"loss": [0.5, None]}, "seconds": 0.25}


def test_no_flipped_bit_of_any_file_gives_another_number_without_a_word(folder):
    """Every file of a checkpoint, those with the epoch and the place in it too."""
    rng, told, right = np.random.default_rng(0), 0, None
    place = folder.path / "checkpoints"
    for path in files(folder):
        content = path.read_bytes()
        for at, mask in flips(len(content), rng):
            broken = bytearray(content)
            broken[at] ^= mask
            path.write_bytes(bytes(broken))
            try:
                tree, about = checkpoints.read(place, 14)
            except checkpoints.Damaged:
                told += 1
                continue
            right = checkpoints.read(place, 14) if right is None else right
            assert same_bits(tree, state(2.0)._asdict()), (path, at, mask)
            assert about["epoch"] == 4
            assert about["partial"] == {"shard": 2, "sums": {"loss": [0.5, None]}, "seconds": 0.25}
        path.write_bytes(content)
    assert told > 100


def test_both_ways_of_reading_refuse_a_flipped_bit(folder, capsys):
    largest = max(files(folder), key=lambda path: path.stat().st_size)
    flipped(largest, largest.stat().st_size // 2, 64)
    with pytest.raises(RunError, match=r"14 is damaged.*goes on from the one before"):
        folder.params()
    e, found = folder.restore(state())
    assert (e, folder.partial) == (1, {})
    assert same_bits(found, state(1.0))
    assert "epoch 4 is damaged" in capsys.readouterr().err
    assert (folder.path / "damaged-checkpoint-14").is_dir()
    assert folder.params()[0] == 1  # as the message says


@pytest.mark.parametrize("name", ["meta.json", "state/manifest.ocdbt", "state/_METADATA"])
@pytest.mark.parametrize("how", ["missing", "empty", "half"])
def test_files_that_are_cut_or_gone_are_damage(folder, name, how):
    path = folder.path / "checkpoints" / "14" / name
    content = path.read_bytes()
    path.write_bytes({"half": content[: len(content) // 2]}.get(how, b""))
    if how == "missing":
        path.unlink()
    assert folder.restore(state())[0] == 1


def test_a_second_damaged_checkpoint_of_the_same_number_is_moved_beside_the_first(folder):
    (folder.path / "damaged-checkpoint-14" / "state").mkdir(parents=True)
    flipped(files(folder)[-1], 5, 1)
    assert folder.restore(state())[0] == 1
    assert (folder.path / "damaged-checkpoint-14-2" / "meta.json").exists()


def test_where_all_are_damaged_the_next_start_begins_anew_and_arrives(folder):
    for number in (3, 14):
        flipped(folder.path / "checkpoints" / str(number) / "meta.json", 9, 2)
    with pytest.raises(RunError, match="train from the beginning"):
        folder.restore(state())
    with folder.opened({"lr": 0.1}):
        assert folder.restore(state()) is None


ERRORS = [errno.ESTALE, errno.EACCES, errno.EIO, errno.EMFILE, errno.ENOSPC]


@pytest.mark.parametrize("number", ERRORS, ids=[errno.errorcode[n] for n in ERRORS])
def test_an_error_of_the_system_is_told_and_nothing_is_moved(folder, monkeypatch, number):
    before = {path: path.read_bytes() for path in files(folder)}
    opened = builtins.open

    def refusing(path, *args, **kwargs):
        if "checkpoints" in str(path) and str(path).endswith("manifest.ocdbt"):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", refusing)
        for use in (lambda: folder.restore(state()), folder.params):
            with pytest.raises(RunError, match=os.strerror(number)) as told:
                use()
            assert "damaged" not in str(told.value)
            assert "stays in place" in str(told.value)
    assert {path: path.read_bytes() for path in files(folder)} == before
    assert folder.restore(state())[0] == 4  # as the message says


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no room"),
        OSError(errno.ESTALE, os.strerror(errno.ESTALE)),
        ValueError("RESOURCE_EXHAUSTED: out of memory while allocating"),
        ValueError("what a library says of a whole file"),
    ],
    ids=["memory", "stale", "device", "library"],
)
def test_what_a_library_says_of_whole_files_is_no_damage(folder, monkeypatch, error):
    import orbax.checkpoint as ocp

    def failing(*_, **__):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(ocp.StandardCheckpointer, "restore", failing)
        for use in (lambda: folder.restore(state()), folder.params):
            with pytest.raises(RunError, match="stays in place") as told:
                use()
            assert "damaged" not in str(told.value)
    assert folder.restore(state())[0] == 4


def test_a_checkpoint_of_another_structure_is_told_in_names_and_left(folder):
    with pytest.raises(RunError, match="its structure differs from this run's") as told:
        folder.restore(state(groups=("encoder", "critic")))
    assert "params/critic/kernel: nothing there, float32[2, 2, 3] now" in str(told.value)
    assert folder.restore(state())[0] == 4


def test_checkpoints_that_cannot_be_listed_are_not_thought_gone(folder, monkeypatch):
    def stale(self):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", stale)
        with pytest.raises(RunError, match="Stale file handle"):
            folder.restore(state())


# ------------------------------------------------------------------------------------------------ schema


def aged(folder):
    """The newest checkpoint as schema 1 has it; a seed could not fail alone."""
    place = folder.path / "checkpoints" / "14"
    fields = {name: leaves for name, leaves in state(2.0)._asdict().items() if name != "failed"}
    checkpoints.save(place.parent, 14, fields, {}, 3, "0123")
    (place / "meta.json").unlink()
    old = {"epoch": 4, "checksum": provenance.checksum(tuple(fields.values())), "partial": {"shard": 2, "sums": {}}}
    (place / "meta").mkdir()
    (place / "meta" / "metadata").write_text(json.dumps(old))
    (place / "_CHECKPOINT_METADATA").write_text("{}")
    config = json.loads((folder.path / "config.json").read_text())
    del config["schema"], config["seal"]
    (folder.path / "config.json").write_text(json.dumps(config))
    return place


def test_a_folder_of_schema_1_opens_and_is_checked_too(folder):
    place = aged(folder)
    for found in (folder.params(), folder.restore(state())):
        assert found[0] == 4
        assert same_bits(found[1].params, state(2.0).params)
        assert np.array_equal(found[1].failed, [0, 0])
    with folder.opened({"lr": 0.1}):
        pass
    (data,) = [path for path in (place / "state" / "d").iterdir() if path.is_file()]
    content, rng = data.read_bytes(), np.random.default_rng(1)
    for at, mask in flips(len(content), rng, 12):
        data.write_bytes(content)
        flipped(data, at, mask)
        try:
            found = folder.params()
        except RunError:
            continue
        assert same_bits(found[1].params, state(2.0).params)


def test_an_error_of_the_system_is_no_damage_in_schema_1_either(folder, monkeypatch):
    import orbax.checkpoint as ocp

    def failing(*_, **__):
        raise ValueError("UNKNOWN: Error reading d/0123: Stale file handle [OS error 116]")

    aged(folder)
    with monkeypatch.context() as patched:
        patched.setattr(ocp.StandardCheckpointer, "restore", failing)
        with pytest.raises(RunError, match="stays in place"):
            folder.restore(state())
    assert folder.restore(state())[0] == 4


def test_what_a_newer_version_wrote_is_refused_and_left(folder):
    path = folder.path / "checkpoints" / "14" / "meta.json"
    about = json.loads(path.read_text())
    del about["seal"]
    about["version"] = checkpoints.VERSION + 1
    path.write_text(json.dumps(about | {"seal": checkpoints.seal(about)}))
    for use in (lambda: folder.restore(state()), folder.params):
        with pytest.raises(RunError, match="newer ae_jax"):
            use()
    assert path.exists()
    config = folder.path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"schema": run_folder.SCHEMA + 1}))
    for use in (folder.config, lambda: folder.opened({"lr": 0.1}).__enter__()):
        with pytest.raises(RunError, match="newer ae_jax"):
            use()


# ----------------------------------------------------------------------------------------------- writing


def test_a_full_disk_is_told_and_the_older_checkpoints_stay(folder, monkeypatch):
    fsync = os.fsync

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with folder.opened({"lr": 0.1}):
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"could not be written.*No space left"):
            folder.save(5, state())
        monkeypatch.setattr(os, "fsync", fsync)
        assert sorted(path.name for path in (folder.path / "checkpoints").iterdir()) == ["14", "3"]
        folder.save(5, state(5.0))
        assert folder.restore(state())[0] == 5


def test_only_the_newest_are_kept_and_never_none(folder):
    with folder.opened({"lr": 0.1}, keep=2):
        folder.save(5, state())
        folder.save(6, state())
    assert checkpoints.numbers(folder.path / "checkpoints") == [15, 18]
    for keep in (0, -1):
        with pytest.raises(ValueError, match=rf"keep is {keep}; .*at least 1"), folder.opened({"lr": 0.1}, keep=keep):
            pass
    assert checkpoints.numbers(folder.path / "checkpoints") == [15, 18]


def test_what_a_kill_left_behind_is_removed_at_the_next_start(folder):
    left = [".ae_jax-0123.tmp", "5.orbax-checkpoint-tmp-0123"]
    for name in left:
        (folder.path / "checkpoints" / name / "state").mkdir(parents=True)
    assert folder.restore(state())[0] == 4
    with folder.opened({"lr": 0.1}):
        assert sorted(path.name for path in (folder.path / "checkpoints").iterdir()) == ["14", "3"]


def test_names_of_arrays_do_not_depend_on_what_holds_them():
    as_dicts = {"memory": [{"count": 1, "mu": {"a/b": 2}}]}
    tuples = Batch(x={"memory": (optax.ScaleByAdamState(count=1, mu={"a/b": 2}, nu=None),)})
    assert checkpoints.by_name(as_dicts) == {"memory/0/count": 1, "memory/0/mu/a//b": 2}
    assert checkpoints.by_name(tuples) == {"x/memory/0/count": 1, "x/memory/0/mu/a//b": 2}
