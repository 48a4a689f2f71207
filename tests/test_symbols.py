"""Symbols of discrete codes: their file, and the commands that write and read it."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax import algorithms, networks
from ae_jax.app import cli, report, symbols
from ae_jax.app.commands import coding, runs
from ae_jax.app.report import sections
from ae_jax.core import Batch
from ae_jax.errors import RunError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("alphabet", [(2,), (256,), (257,), (1000, 3), (2**31 - 1, 2, 5)])
@pytest.mark.parametrize("count", [1, 7, 9])
def test_symbols_come_back_from_as_few_bits_as_they_need(alphabet, count, monkeypatch):
    monkeypatch.setattr(symbols, "ROWS", 8)  # several parts, the last of them short
    most = np.resize(alphabet, 6)
    given = RNG.integers(0, most, (count, 6)).astype(np.int32)
    given[0], given[-1, :3] = most - 1, 0
    bits = symbols.bits_of(6, alphabet)
    np.testing.assert_array_equal(bits, np.ceil(np.log2(most)))
    packed = symbols.pack(given, bits)
    assert len(packed) == -(-count * int(bits.sum()) // 8)
    np.testing.assert_array_equal(symbols.unpack(packed, count, bits), given)
    text = "".join(f"{s:0{b}b}" for row in given for s, b in zip(row, bits, strict=True))
    assert packed == int(text.ljust(8 * len(packed), "0"), 2).to_bytes(len(packed), "big")  # the highest bit first


def written(path, given=((1, 2), (0, 4)), alphabet=(5,), **about):
    symbols.save(path, symbols.Symbols(np.array(given, np.int32), alphabet, about))
    return path.read_bytes()


def test_a_file_says_what_its_symbols_are_of(tmp_path):
    path = tmp_path / "a.symbols"
    whole = written(path, run="some run", params=7)
    found = symbols.load(str(path))
    np.testing.assert_array_equal(found.symbols, [[1, 2], [0, 4]])
    assert (found.alphabet, found.about) == ((5,), {"run": "some run", "params": 7})
    assert whole[-2:] == bytes([0b00101000, 0b01000000])  # 001 010 000 100
    for place in range(len(whole)):  # any bit that flips is seen, and the file is never taken for another's
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(bytes(damaged))
        with pytest.raises(RunError, match=r"is damaged|is not a file of symbols"):
            symbols.load(path)
    for cut in (0, 5, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(RunError, match=r"is damaged|is not a file of symbols"):
            symbols.load(path)


def test_foreign_files_and_symbols_out_of_range_are_refused(tmp_path):
    path = tmp_path / "a.symbols"
    with pytest.raises(RunError, match=r"there is no file .*--symbols writes one"):
        symbols.load(path)
    np.save(tmp_path / "a.npy", np.zeros(3))
    path.write_bytes((tmp_path / "a.npy").read_bytes())
    with pytest.raises(RunError, match="is not a file of symbols of this version"):
        symbols.load(path)
    written(path, [[1, 7]])  # three bits hold 7
    with pytest.raises(RunError, match=r"has the symbol 7 \(place 1 of example 0\); symbols there are from 0 to 4"):
        symbols.load(path)
    header = {"shape": [9, 9], "alphabet": [5]}  # a header that its bits do not fit
    head = json.dumps(header | {"checksum": symbols._checksum(header, b"xx")}).encode()
    path.write_bytes(symbols.MAGIC + head + b"\nxx")
    with pytest.raises(RunError, match=r"is damaged .2 bytes are not 9 examples of 9 symbols"):
        symbols.load(path)


# -------------------------------------------------------------------------------------------------- commands

NET = networks.mlp((4, 4, 1), 6, hidden=(8,))
X = RNG.random((11, 4, 4, 1)).astype(np.float32)


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """A run of an algorithm that has learned nothing, without a folder."""

    def make(algorithm, name="vq_vae"):
        params = algorithm.init(jax.random.key(0), Batch(jnp.asarray(X)))
        settings = SimpleNamespace(algorithm=name, data="some", data_options={}, latents=6, binarise=None)
        run = SimpleNamespace(
            algorithm=algorithm,
            in_data_units=algorithm,
            params=params,
            settings=settings,
            columns=(),
            seed=0,
            epoch=3,
            shape=(4, 4, 1),
            sources=(),
            vocabulary=(),
            standard=None,
        )
        monkeypatch.setattr(runs, "open_run", lambda workdir, seed=None: run)
        return run

    np.save(tmp_path / "x.npy", X)
    monkeypatch.chdir(tmp_path)
    return make


def vq(**options):
    return algorithms.vq_vae(NET, optax.sgd(0.1), **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"quantiser": "fsq", "levels": (5, 3, 4)},
            "each one of 60, .* 12 bits an example, 10.7 times",
        ),
        ({"quantiser": "residual", "size": 5, "dimension": 2}, "(11, 6) symbols, each one of 5, .* 18 bits an example"),
    ],
)
def test_images_of_symbols_are_the_reconstructions_bit_for_bit(opened, options, told, capsys, tmp_path):
    run = opened(vq(**options))
    cli.dispatch(["encode", "run", "x.npy", "z.symbols", "--symbols"])
    said = capsys.readouterr().out
    for part in told.split(" .* "):
        assert part in said
    size = (tmp_path / "z.symbols").stat().st_size
    assert f"{size:,} bytes" in said
    cli.dispatch(["decode", "run", "z.symbols", "back.npy"])
    whole = jax.jit(run.algorithm.reconstruct)(run.params, X)
    np.testing.assert_array_equal(np.load(tmp_path / "back.npy"), whole)


def test_symbols_of_another_run_are_refused(opened):
    run = opened(vq(quantiser="lfq", dimension=3))
    coding.encode_symbols(coding.Path("run"), "x.npy", coding.Path("z.symbols"))
    run.params = jax.tree.map(lambda a: a + 1e-6, run.params)
    run.epoch = 4
    with pytest.raises(RunError, match=r"of vq_vae on some after epoch 3, seed 0, and this is .* epoch 4, seed 0"):
        coding.decode(coding.Path("run"), "z.symbols", coding.Path("back.npy"))


def test_a_code_of_numbers_has_no_symbols(opened):
    opened(algorithms.autoencoder(NET, optax.sgd(0.1)), "autoencoder")
    with pytest.raises(RunError, match="autoencoder has no symbols, its codes are numbers: leave --symbols out"):
        coding.encode_symbols(coding.Path("run"), "x.npy", coding.Path("z.symbols"))
    with pytest.raises(RunError, match=r"z.npy ends in '.npy'; this command writes .symbols"):
        coding.encode_symbols(coding.Path("run"), "x.npy", coding.Path("z.npy"))


# ---------------------------------------------------------------------------------------------------- report


@pytest.mark.parametrize("quantiser", ["moving", "residual"])
def test_the_report_shows_how_often_symbols_occur_and_what_the_commonest_do(quantiser, tmp_path):
    algorithm = vq(quantiser=quantiser, size=4, dimension=2)
    sets = SimpleNamespace(train=Batch(jnp.asarray(X)), test=Batch(jnp.asarray(X)))
    params = algorithm.init(jax.random.key(0), sets.train)
    found = report.gather("t", {}, {}, [], algorithm, params, sets, jax.random.key(1))
    assert found.symbols is not None
    assert algorithm.symbols is not None
    levels = len(algorithm.alphabet)
    first = np.asarray(algorithm.symbols(params, sets.test.x))[:, ::levels]
    known, count = np.unique(first, return_counts=True)
    assert (len(found.symbols.shares), found.symbols.sizes) == (levels, algorithm.alphabet)
    np.testing.assert_allclose(found.symbols.shares[0], np.sort(count)[::-1] / first.size)
    use = found.symbols.uses[0]
    assert count[known == use.symbol] == count.max()
    there = first[:, use.place] == use.symbol
    assert there.sum() == (first == use.symbol).sum(0).max()
    assert use.share == there.mean()
    assert all((X[there] == x).all((1, 2, 3)).any() for x in use.examples)  # each has the symbol there
    z = np.asarray(algorithm.encode(params, sets.test.x))
    mean, place = z.mean(0), slice(2 * use.place, 2 * use.place + 2)
    changed = mean.copy()
    changed[place] = z[there, place].mean(0)
    effect = algorithm.decode(params, changed[None]) - algorithm.decode(params, mean[None])
    np.testing.assert_allclose(np.asarray(use.effect), effect[0], atol=1e-6)
    text = report.write(found, tmp_path).read_text()
    assert {"symbols.png", "symbol_use.png"} <= {file.name for file in (tmp_path / "pictures").iterdir()}
    assert f"{len(known)} of 4" in text
    flat = use._replace(examples=use.examples.reshape(-1, 16), effect=np.arange(16))
    documents = found._replace(symbols=found.symbols._replace(uses=[flat]), vocabulary=tuple("abcdefghijklmnop"))
    told = sections._symbols(documents)
    assert next(picture for picture in told if isinstance(picture, sections.Listing)).rows[0][3].startswith("p, o, n")
