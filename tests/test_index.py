"""An index file: its parts belong together, or it is refused."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from ae_jax.app import cli, index
from ae_jax.app.commands import coding
from ae_jax.errors import RunError

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def made():
    """An index whose encoder takes the mean of each row of 2x3 images."""
    x = RNG.random((5, 2, 3), dtype=np.float32)
    about = {"shape": [2, 3], "resize": False, "vocabulary": [], "run": {"settings": {"lr": 1e-3}}}
    program = coding.exported(lambda x: jnp.mean(x, -1), (2, 3))
    return index.Index(program, x.mean(-1), np.array([f"caf\udce9 {i}" for i in range(5)]), about)


@pytest.fixture
def path(made, tmp_path):
    index.save(made, tmp_path / "i.npz")
    return tmp_path / "i.npz"


def parts(path):
    with np.load(path) as file:
        return dict(file)


def test_an_index_comes_back_as_it_was(made, path):
    found = index.load(path)
    assert found.encoder == made.encoder
    np.testing.assert_array_equal(found.codes, made.codes)
    assert list(found.names) == list(made.names)
    assert found.about == made.about == index.about(path)
    assert list(path.parent.iterdir()) == [path]


def test_a_number_that_is_none_is_null(made, tmp_path):
    index.save(made._replace(about=made.about | {"loss": float("nan"), "n": np.float32(2)}), tmp_path / "i.npz")

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    assert json.loads(str(parts(tmp_path / "i.npz")["about"]), parse_constant=refuse)["loss"] is None
    assert index.load(tmp_path / "i.npz").about["n"] == 2


@pytest.mark.parametrize("part", index.PARTS)
def test_a_part_that_was_changed_is_refused(part, made, path):
    changed = parts(path)
    other = index.Index(made.encoder + b"x", made.codes + 1, made.names[::-1], made.about | {"seed": 1})
    changed[part] = {
        "encoder": np.frombuffer(other.encoder, np.uint8),
        "codes": other.codes,
        "names": other.names,
        "about": np.array(json.dumps(other.about)),
        "sha256": np.array("0" * 64),
    }[part]
    np.savez(path, **changed)
    for read in (index.load, index.about):
        with pytest.raises(RunError, match=r"damaged or changed.* make it again"):
            read(path)
    del changed[part]
    np.savez(path, **changed)
    with pytest.raises(RunError, match=f"not an index of this version .it lacks {part}."):
        index.load(path)


def test_no_flipped_bit_is_searched(made, path):
    whole = path.read_bytes()
    for at in RNG.integers(0, len(whole), 60):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        try:
            found = index.load(path)
        except RunError as error:
            assert str(path) in str(error)  # noqa: PT017
            continue
        assert index.checksum(found) == index.checksum(made)  # a bit that says nothing of the parts: a date


def test_a_file_that_is_cut_is_refused(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 15):
        path.write_bytes(whole[:length])
        with pytest.raises(RunError, match="is not an index"):
            index.load(path)
        assert index.about(path) is None


def test_codes_that_are_no_numbers_are_not_searched(made, tmp_path):
    index.save(made._replace(codes=np.full((5, 2), np.nan, np.float32)), tmp_path / "i.npz")
    with pytest.raises(RunError, match="NaN or infinite"):
        index.load(tmp_path / "i.npz")


def test_the_help_says_that_an_index_is_a_program(capsys):
    with pytest.raises(SystemExit):
        cli.dispatch(["search", "--help"])
    assert "searching runs it" in " ".join(capsys.readouterr().out.split())
