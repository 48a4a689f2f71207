"""Dictionaries in SAELens' layout: what is written is read back, by its own reader too where it is installed."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax import networks
from ae_jax.algorithms import dictionary
from ae_jax.app import saelens
from ae_jax.core import Batch, address
from ae_jax.data import Standard, in_data_units
from ae_jax.errors import RunError
from ae_jax.objectives import dictionaries, sparsity

KEY = jax.random.key(0)
X = (np.random.default_rng(0).normal(size=(24, 6)) * 5 + 20).astype(np.float32)
STANDARD = Standard(np.asarray(0, np.float32), np.asarray(4, np.float32))
FORMS = (*sparsity.COUNTED, *sparsity.WEIGHED)


def trained(form, standard=STANDARD, **hyper):
    """A dictionary of a form, in data's own units, and its params; no number of these is as at the start."""
    hyper = ({"k": 3} if form in sparsity.COUNTED else {}) | hyper
    algorithm = dictionary(networks.linear((6,), 10), optax.sgd(0.1), form=form, **hyper)
    params = algorithm.init(KEY, Batch(jnp.asarray((X - np.asarray(standard.mean)) / np.asarray(standard.scale))))
    keys = iter(jax.random.split(address(KEY, form), 9))
    noisy = lambda a: a + 0.2 * jax.random.normal(next(keys), a.shape, a.dtype)
    groups = {g: jax.tree.map(noisy, params[g]) for g in ("encoder", "decoder", "gate") if g in params}
    if "threshold" in params:
        groups["threshold"] = jnp.abs(noisy(params["threshold"]))
    return in_data_units(algorithm, standard), params | groups


def outputs(algorithm, params, x=X):
    return np.asarray(algorithm.encode(params, x)), np.asarray(algorithm.reconstruct(params, x))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read_back_in_the_datas_own_units(tmp_path, form):
    algorithm, params = trained(form)
    files = saelens.save(tmp_path / "sae", params, form=form, k=3, standard=STANDARD)
    assert [path.name for path in files] == ["cfg.json", "sae_weights.safetensors"]
    again = outputs(*saelens.load(tmp_path / "sae"))
    for a, b in zip(outputs(algorithm, params), again, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)
    assert (again[0] > 0).any()


def test_each_dimension_may_have_a_scale_of_its_own(tmp_path):
    standard = Standard(X.mean(0), X.std(0))
    algorithm, params = trained("topk", standard)
    saelens.save(tmp_path, params, k=3, standard=standard)
    for a, b in zip(outputs(algorithm, params), outputs(*saelens.load(tmp_path)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


def test_the_files_are_those_that_saelens_documents(tmp_path):
    for form, names in {
        "l1": {"W_enc", "b_enc", "W_dec", "b_dec"},
        "topk": {"W_enc", "b_enc", "W_dec", "b_dec"},
        "gated": {"W_enc", "b_gate", "b_mag", "r_mag", "W_dec", "b_dec"},
        "batch_topk": {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"},
    }.items():
        saelens.save(tmp_path, trained(form)[1], form=form, k=3)
        found = saelens.unpacked((tmp_path / "sae_weights.safetensors").read_bytes())
        assert set(found) == names
        assert found["W_enc"].shape == found["W_dec"].T.shape == (6, 10)
        config = json.loads((tmp_path / "cfg.json").read_text())
        assert config["architecture"] == saelens.ARCHITECTURES[form]
        assert (config["d_in"], config["d_sae"], config.get("k")) == (6, 10, 3 if form == "topk" else None)


@pytest.mark.parametrize("form", FORMS)
def test_saelens_reads_what_is_written_and_computes_the_same(tmp_path, form):
    torch = pytest.importorskip("torch")
    sae_lens = pytest.importorskip("sae_lens", reason="pip install sae-lens")
    algorithm, params = trained(form)
    saelens.save(tmp_path, params, form=form, k=3, standard=STANDARD)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    with torch.no_grad():
        z = theirs.encode(torch.from_numpy(X))
        made = z.numpy(), theirs.decode(z).numpy()
    for a, b in zip(outputs(algorithm, params), made, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


def test_training_files_of_batchtopk_and_norms_that_are_not_folded_are_read(tmp_path):
    algorithm, params = trained("batch_topk", Standard(np.float32(0), np.float32(1)))
    saelens.save(tmp_path, params, form="batch_topk")
    found = saelens.unpacked((tmp_path / "sae_weights.safetensors").read_bytes())
    threshold, lengths = found.pop("threshold")[:1], np.linspace(0.5, 2, 10, dtype=np.float32)
    rows = np.linalg.norm(found["W_dec"], axis=1)  # SAELens compares activations times the rows' lengths
    found["W_dec"] = found["W_dec"] / rows[:, None] * lengths[:, None]
    found |= {"W_enc": found["W_enc"] / lengths, "b_enc": found["b_enc"] / lengths, "topk_threshold": threshold}
    (tmp_path / "sae_weights.safetensors").write_bytes(saelens.packed(found))
    config = json.loads((tmp_path / "cfg.json").read_text())
    config |= {"architecture": "batchtopk", "rescale_acts_by_decoder_norm": True}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    z, _ = outputs(*saelens.load(tmp_path))
    np.testing.assert_allclose(z, outputs(algorithm, params)[0], rtol=1e-4, atol=1e-4)


def test_16_bits_are_read(tmp_path):
    a = np.asarray([1.5, -2, 0.25], np.float32)
    for dtype, content in {
        "F16": a.astype("<f2").tobytes(),
        "BF16": (a.view(np.uint32) >> 16).astype("<u2").tobytes(),
    }.items():
        header = json.dumps({"w": {"dtype": dtype, "shape": [3], "data_offsets": [0, 6]}}).encode()
        np.testing.assert_array_equal(saelens.unpacked(len(header).to_bytes(8, "little") + header + content)["w"], a)


def test_it_refuses_what_it_cannot_read_or_write(tmp_path):
    _, params = trained("topk")
    with pytest.raises(ValueError, match="k is None: say how many units"):
        saelens.save(tmp_path / "a", params)
    assert not (tmp_path / "a").exists()
    _, transcoder = trained("topk", inputs=2)
    kernel = transcoder["encoder"]["layer_0"]["kernel"].at[2:].set(0)
    half = dictionaries.with_rows(transcoder, lambda w: w.at[:, :2].set(0))
    half["encoder"] = {"layer_0": {**half["encoder"]["layer_0"], "kernel": kernel}}
    with pytest.raises(ValueError, match="reads a part of x and gives another"):
        saelens.save(tmp_path / "a", half, k=3)
    with pytest.raises(RunError, match="cannot be read as a dictionary of SAELens"):
        saelens.load(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cfg.json").write_text(json.dumps({"architecture": "topk", "metadata": {}}))
    with pytest.raises(RunError, match=r"has a cfg\.json that ae_jax did not write"):
        saelens.save(tmp_path / "other", params, k=3)
    saelens.save(tmp_path, params, k=3)
    config = json.loads((tmp_path / "cfg.json").read_text())
    for change, told in (
        ({"architecture": "temporal"}, "architecture 'temporal'; read are standard"),
        ({"normalize_activations": "layer_norm"}, "normalises activations by 'layer_norm'"),
        ({"architecture": "gated"}, "no dictionary of the architecture gated: KeyError"),
    ):
        (tmp_path / "cfg.json").write_text(json.dumps(config | change))
        with pytest.raises(RunError, match=told):
            saelens.load(tmp_path)
    (tmp_path / "cfg.json").write_text("[]")
    with pytest.raises(RunError, match=r"cfg\.json is a list and no object"):
        saelens.load(tmp_path)
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    whole = (tmp_path / "sae_weights.safetensors").read_bytes()
    (tmp_path / "sae_weights.safetensors").write_bytes(whole[:-4])
    with pytest.raises(RunError, match="cut short"):
        saelens.load(tmp_path)
