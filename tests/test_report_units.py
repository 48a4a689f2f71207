"""The report of codes with few active units: densities, the trade of L0 for FVU, and the examples of each unit."""

from types import SimpleNamespace

import jax
import numpy as np
from probes import of_functions

from ae_jax.app.report import findings, gather, sections
from ae_jax.core import Batch

RNG = np.random.default_rng(0)
W = np.linalg.qr(RNG.normal(size=(6, 6)))[0].astype(np.float32)
Z = ((RNG.random((60, 6)) < [0.0, 0.02, 0.1, 0.2, 0.4, 0.9]) * RNG.uniform(1, 2, (60, 6))).astype(np.float32)


def model(**changes):
    """An algorithm whose codes of x are those that made it."""
    return of_functions(lambda x: jax.numpy.where(x @ W.T > 0.5, x @ W.T, 0), lambda z: z @ W, **changes)


def found(algorithm, y=None):
    data = SimpleNamespace(test=Batch(Z @ W, y))
    return gather("a title", {}, {}, [], algorithm, {}, data, jax.random.key(0))


def test_a_sparse_code_is_shown_by_its_units():
    y = np.arange(60) % 3
    f = found(model(), y)
    a = f.active
    np.testing.assert_allclose(a.density, (Z > 0).mean(0), atol=1e-6)
    np.testing.assert_array_equal(a.counts, (Z > 0).sum(1))
    assert a.density[a.units].tolist() == sorted(a.density[a.density > 0], reverse=True)  # without the dead unit
    for unit, index, x in zip(a.units, a.examples, a.originals, strict=True):
        wanted = np.argsort(-Z[:, unit])[: min(8, (Z[:, unit] > 0).sum())]
        np.testing.assert_array_equal(index, wanted)
        np.testing.assert_array_equal(x, (Z @ W)[index])
    assert a.kept[0] == 1
    assert a.kept[-1] == a.counts.max()
    assert (np.diff(a.fvu) < 0).all()
    assert a.fvu[-1] < 1e-5
    shown = list(sections._active(f))
    assert [p.name for p in shown[:-1]] == ["density", "active_units", "l0_fvu"]
    dead = int((Z == 0).all(0).sum())
    assert f"{dead} of 6 units are dead" in shown[0].caption
    first = int(a.examples[0][0])
    assert shown[-1].rows[0][3].startswith(f"{first} ({first % 3})")
    for picture in shown[:-1]:
        picture.draw()


def test_dense_codes_bits_and_decoders_that_see_more_than_the_code():
    assert not findings.sparse(RNG.random((20, 5)))
    assert not findings.sparse(-Z)
    assert not findings.sparse((Z > 1.5).astype(np.float32))
    assert findings.sparse(Z)
    dense = model(encode=lambda params, x: x @ W.T + 9)
    assert found(dense).active is None
    f = found(model(reconstruct=lambda params, x: x + 1))
    assert not len(f.active.fvu)
    assert [getattr(p, "name", "") for p in sections._active(f)] == ["density", "active_units", ""]
