"""Files are written whole or not at all, and nothing that lies beside them is touched."""

import errno
import json
import os
import stat
import threading

import numpy as np
import pytest

from ae_jax.data import disk
from ae_jax.data.disk import write_atomically, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_neighbour_with_a_likely_temporary_name_is_kept(tmp_path):
    neighbours = ["x.npy.tmp", ".x.npy.tmp", "x.npy~"]
    for name in neighbours:
        (tmp_path / name).write_text("mine")
    write_atomically(tmp_path / "x.npy", b"new")
    assert names(tmp_path) == sorted([*neighbours, "x.npy"])
    assert {(tmp_path / name).read_text() for name in neighbours} == {"mine"}


def test_a_link_keeps_and_its_target_is_written(tmp_path):
    (tmp_path / "large").mkdir()
    target, link, chain = tmp_path / "large" / "x", tmp_path / "x", tmp_path / "y"
    link.symlink_to(target)  # dangles until it is written
    chain.symlink_to("x")
    for content in (b"first", b"second"):
        write_atomically(chain, content)
        assert link.is_symlink()
        assert chain.is_symlink()
        assert target.read_bytes() == content
    assert names(tmp_path / "large") == ["x"]


def test_permissions_are_the_files_own_or_those_of_the_umask(tmp_path):
    path, mode = tmp_path / "x", lambda: stat.S_IMODE(path.stat().st_mode)
    before = os.umask(0o027)
    try:
        write_atomically(path, b"1")
        assert mode() == 0o640
        path.chmod(0o604)
        write_atomically(path, b"2")
        assert mode() == 0o604
    finally:
        os.umask(before)


def test_a_name_as_long_as_the_file_system_takes(tmp_path):
    write_atomically(tmp_path / ("n" * 255), b"x")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"x"


def write_and_raise(path, error):
    with disk.written(path) as file:
        file.write(b"half")
        if error is not None:
            raise error


@pytest.mark.parametrize("when", ["write", "fsync"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, when):
    path = tmp_path / "x"
    path.write_text("old")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if when == "fsync":

        def fsync(descriptor):
            raise full

        monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left") as told:
        write_and_raise(path, full if when == "write" else None)
    assert told.value.filename == str(path)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_an_interrupt_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(tmp_path / "x", KeyboardInterrupt())
    assert names(tmp_path) == []


def test_file_and_folder_are_flushed_in_that_order_around_the_rename(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    kind = lambda descriptor: "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append(kind(descriptor)), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), replace(*names)))
    write_atomically(tmp_path / "x", b"x")
    assert done == ["file", "rename", "folder"]


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def of_files(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files)
    write_atomically(tmp_path / "x", b"x")
    assert (tmp_path / "x").read_bytes() == b"x"


def test_many_writers_of_one_file_leave_one_of_their_contents(tmp_path):
    contents = [bytes([i]) * 100_000 for i in range(8)]

    def write(content):
        for _ in range(5):
            write_atomically(tmp_path / "x", content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "x").read_bytes() in contents
    assert names(tmp_path) == ["x"]


def test_what_is_no_file_is_written_to_and_a_folder_is_refused(tmp_path):
    write_atomically("/dev/null", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(IsADirectoryError) as told:
        write_atomically(tmp_path, b"x")
    assert told.value.filename == str(tmp_path)
    with pytest.raises(FileNotFoundError) as told:
        write_atomically(tmp_path / "no" / "x", b"x")
    assert told.value.filename == str(tmp_path / "no" / "x")


def test_json_has_null_for_what_is_not_finite(tmp_path):
    content = {"a": [float("nan"), 1.5, np.float64("inf")], "b": {"c": (-float("inf"), True, None, "NaN")}}
    write_json(tmp_path / "x.json", content)

    def refuse(word):
        raise AssertionError(word)

    read = json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)
    assert read == {"a": [None, 1.5, None], "b": {"c": [None, True, None, "NaN"]}}


def test_what_a_kill_left_long_ago_is_removed_and_nothing_else(tmp_path):
    old, new, other = (tmp_path / name for name in (".ae_jax-01.tmp", ".ae_jax-02.tmp", "x.tmp"))
    for path in (old, new, other):
        path.write_text("")
        os.utime(path, (0, 0)) if path != new else None
    disk.clean(tmp_path)
    assert names(tmp_path) == sorted([new.name, other.name])
