"""Mixed precision: few bits within the network, float32 everywhere else, and the same losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from probes import bars

from ae_jax import data, networks
from ae_jax.algorithms import ALGORITHMS
from ae_jax.core import Batch
from ae_jax.training import loop
from ae_jax.training.settings import Settings, build, heads

pytestmark = pytest.mark.optimised  # rounding

BARS = bars()


def settings(**changes):
    given = dict(algorithm="vae", network="mlp", data="digits", latents=8, epochs=3, batch_size=32, seeds=(0,))
    return Settings(**(given | {"network_options": {"hidden": (64,)}} | changes))


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_multiplies_in_bfloat16_and_keeps_float32(name):
    chosen = settings(algorithm=name, network=heads(name).network, network_options={}, precision="bfloat16")
    algorithm = build(chosen, BARS.x.shape[1:], len(BARS.x))

    def step(key):
        params = algorithm.init(key, BARS)
        return params, algorithm.rule.update(params, algorithm.rule.init(params), Batch(BARS.x[:32], BARS.y[:32]), key)

    params, (after, memory, metrics) = jax.eval_shape(step, jax.random.key(0))
    kind = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)
    assert kind(after) == kind(params)
    floats = [
        leaf.dtype for leaf in jax.tree.leaves((after, memory, metrics)) if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    assert set(floats) == {jnp.dtype("float32")}
    assert "bf16" in str(jax.make_jaxpr(step)(jax.random.key(0)))
    measured = lambda params, key: algorithm.evaluate(params, Batch(BARS.x[:4], BARS.y[:4]), key)
    assert "bf16" not in str(jax.make_jaxpr(measured)(params, jax.random.key(0)))


NETS = {
    "mlp": lambda: networks.mlp((4, 4, 1), 6, hidden=(8,)),
    "tied": lambda: networks.mlp((4, 4, 1), 6, hidden=(8,), tied=True, dropout=0.1),
    "rbm": lambda: networks.rbm((4, 4, 1), 6),
    "conv": lambda: networks.conv((4, 4, 1), 6, channels=(4,)),
    "switches": lambda: networks.conv((4, 4, 1), 6, channels=(4,), down="pool", up="switch"),
    "stack": lambda: networks.stack([networks.mlp((4, 4, 1), 8), networks.mlp((8,), 6)]),
}


@pytest.mark.parametrize("name", NETS)
def test_every_network_rounded_is_itself_to_eight_bits(name):
    net, key = NETS[name](), jax.random.key(1)
    few = networks.rounded(net)
    batch = Batch(BARS.x[:8])

    def compute(params):
        def one(n):
            loss = lambda params: jnp.square(n.apply(params, batch.x, key)[1] - batch.x).sum() / 8
            value, gradient = jax.value_and_grad(loss)(params)
            codes = n.encode(params, batch.x)
            return codes, n.decode(params, net.encode(params, batch.x)), value, ravel_pytree(gradient)[0]

        return one(few), one(net)

    params = net.init(jax.random.key(0), batch)
    found, expected = jax.jit(compute, compiler_options={"xla_backend_optimization_level": 0})(params)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == jnp.float32
        assert np.linalg.norm(a - b) < 0.03 * np.linalg.norm(b)
    assert not np.array_equal(found[0], expected[0])


def test_sums_are_accumulated_in_float32():
    """A running sum of ones in bfloat16 would stay at 256."""
    net = networks.rounded(networks.mlp((1024,), 2, hidden=()))
    x, weights = jnp.ones((512, 1024)), jnp.ones((512, 2))  # arguments, or sums of constants would be simplified
    params = jax.tree.map(jnp.ones_like, net.init(jax.random.key(0), Batch(x)))
    loss = lambda params, x, weights: (weights * net.encode(params, x)).sum()
    codes, gradient = jax.jit(lambda p, x, weights: (net.encode(p, x), jax.grad(loss)(p, x, weights)))(
        params, x, weights
    )
    np.testing.assert_allclose(codes, 1025, rtol=2**-8)  # over the inputs, and the bias
    for leaf in jax.tree.leaves(gradient["encoder"]):
        np.testing.assert_allclose(leaf, 512, rtol=2**-8)  # over the batch


@pytest.mark.slow
def test_losses_agree_with_float32():
    train, _ = data.load("digits")
    curves = {}
    for precision in ("float32", "bfloat16"):
        algorithm = build(settings(precision=precision), train.x.shape[1:], 1200)
        held_out = Batch(train.x[1200:])
        trained = loop.train(algorithm, Batch(train.x[:1200]), epochs=3, validation=held_out, progress=False)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(trained.params))
        curves[precision] = [row[part]["loss"][0] for row in trained.history for part in ("train", "validation")]
    assert curves["bfloat16"] != curves["float32"]
    np.testing.assert_allclose(curves["bfloat16"], curves["float32"], rtol=0.01)
    assert curves["float32"][-1] < 0.95 * curves["float32"][1]  # it learns


def test_unknown_precision():
    with pytest.raises(ValueError, match="precision is 'float8'; it must be one of float32, bfloat16"):
        build(settings(precision="float8"), (8, 8, 1), 100)
