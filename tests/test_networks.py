"""Networks against closed forms, and convolution against independent references."""

import itertools
from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal

from ae_jax import networks
from ae_jax.core import Batch
from ae_jax.corruption import corrupted, masking
from ae_jax.networks import image_ops
from ae_jax.networks.image_ops import (
    convolve,
    convolve_transpose,
    fill_unpool,
    fold,
    max_pool,
    max_unpool,
    resize,
    unfold,
)

KEY = jax.random.key(0)
UPS = ("transpose", "nearest", "bilinear", "fill", "switch")
PYRAMIDS = [(d, u) for d, u in itertools.product(("stride", "pool"), UPS) if (d, u) != ("stride", "switch")]


# Most of a test here is compilation; without optimization it takes half as long.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def normal(seed, *shape):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


def images(*shape):
    return np.float32(np.random.default_rng(7).uniform(size=shape))


def built(net, x):
    """Params of a network's shapes without a run of its `init`: no bias is zero, so a lost one would show."""
    shapes = jax.eval_shape(net.init, KEY, Batch(x))
    return jax.tree.map(lambda p: normal(p.size, *p.shape) / np.prod(p.shape[:-1], initial=2) ** 0.5, shapes)


# ----------------------------------------------------------------------------------------------------- MLP


def numpy_mlp(group, x, activation, last=lambda h: h):
    h = np.asarray(x).reshape(len(x), -1)
    for i in range(len(group)):
        layer = jax.tree.map(np.asarray, group[f"layer_{i}"])
        h = (last if i == len(group) - 1 else activation)(h @ layer["kernel"] + layer["bias"])
    return h


@pytest.mark.parametrize("hidden", [(), (9,), (9, 8, 6)])
def test_mlp_is_symmetric_and_computes_its_layers(hidden):
    x = images(4, 5, 3, 1)
    net = networks.mlp((5, 3, 1), 2, hidden=hidden, heads=2, activation="tanh", code_activation="sigmoid")
    params = built(net, x)
    widths = {side: [params[side][f"layer_{i}"]["kernel"].shape for i in range(len(hidden) + 1)] for side in params}
    there, back = (15, *hidden, 4), (2, *reversed(hidden), 15)
    assert widths == {"encoder": list(itertools.pairwise(there)), "decoder": list(itertools.pairwise(back))}
    sigmoid = lambda h: 1 / (1 + np.exp(-h))
    code = numpy_mlp(params["encoder"], x, np.tanh, sigmoid)
    assert_allclose(net.encode(params, x), code, rtol=1e-5, atol=1e-6)
    output = numpy_mlp(params["decoder"], code[:, :2], np.tanh).reshape(x.shape)
    assert_allclose(net.decode(params, code[:, :2]), output, rtol=1e-5, atol=1e-6)


def test_mlp_may_go_back_another_way():
    net = networks.mlp((3, 2), 4, hidden=(9, 8), hidden_back=(5,))
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(net.init, KEY, Batch(jnp.zeros((1, 3, 2)))))
    widths = {
        group: [shapes[group][f"layer_{i}"]["kernel"] for i in range(n)]
        for group, n in (("encoder", 3), ("decoder", 2))
    }
    assert widths == {"encoder": [(6, 9), (9, 8), (8, 4)], "decoder": [(4, 5), (5, 6)]}
    with pytest.raises(ValueError, match="hidden_back cannot be"):
        networks.mlp((6,), 2, hidden=(4,), hidden_back=(), tied=True)


def test_orthogonal_kernels_are():
    kernel = networks.mlp((20,), 5, hidden=(), init="orthogonal").init(KEY, Batch(images(2, 20)))["encoder"]["layer_0"][
        "kernel"
    ]
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(5), atol=1e-5)


@pytest.mark.parametrize("hidden", [(), (9,), (9, 8, 6)])
def test_tied_decoder_is_the_transposed_encoder_at_any_depth(hidden):
    x = images(4, 10)
    net = networks.mlp((10,), 3, hidden=hidden, tied=True, activation="tanh")
    params = built(net, x)
    depth = len(hidden) + 1
    untied = {
        f"layer_{i}": {
            "kernel": params["encoder"][f"layer_{depth - 1 - i}"]["kernel"].T,
            "bias": params["decoder"][f"bias_{i}"],
        }
        for i in range(depth)
    }
    assert all(p.ndim == 1 for p in jax.tree.leaves(params["decoder"]))  # its own are the biases only
    z, output = net.apply(params, x)
    assert_allclose(z, numpy_mlp(params["encoder"], x, np.tanh), rtol=1e-5, atol=1e-6)
    assert_allclose(output, numpy_mlp(untied, z, np.tanh), rtol=1e-5, atol=1e-6)
    assert_array_equal(output, net.decode(params, z))


def test_tied_weights_learn_from_both_sides():
    x = images(4, 6)
    net = networks.mlp((6,), 2, hidden=(), tied=True)
    params = built(net, x)
    slope = jax.grad(lambda p: jnp.square(net.apply(p, x)[1] - x).sum())(params)["encoder"]["layer_0"]["kernel"]
    w, b, c = params["encoder"]["layer_0"]["kernel"], params["encoder"]["layer_0"]["bias"], params["decoder"]["bias_0"]
    z = x @ w + b
    error = 2 * (z @ w.T + c - x)
    assert_allclose(slope, x.T @ (error @ w) + error.T @ z, rtol=1e-4, atol=1e-5)


def test_linear_has_no_nonlinearity():
    net = networks.linear((6,), 3)
    x, y = images(4, 6), normal(1, 4, 6)
    params = built(net, x)
    f = lambda x: net.apply(params, x)[1]
    assert_allclose(f(2 * x - 3 * y), 2 * f(x) - 3 * f(y) + 2 * f(0 * x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("code", ["linear", "sigmoid", "tanh", "softplus", jnp.sin])
def test_layer_is_the_true_jacobian(code, tied):
    x = images(3, 2, 2, 2)
    net = networks.mlp((2, 2, 2), 3, hidden=(), code_activation=code, tied=tied)
    params = built(net, x)
    weight, slope = net.layer(params, x)  # type: ignore[misc]
    jacobian = jax.vmap(jax.jacfwd(lambda one: net.encode(params, one[None])[0]))(x).reshape(3, 3, 8)  # [B, K, D]
    assert_allclose(jnp.einsum("dk,bk->bkd", weight, slope), jacobian, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("code", [jax.nn.softmax, lambda h: h - h.mean(-1, keepdims=True), lambda h: h[:, ::-1]])
def test_layer_is_absent_where_units_of_a_code_depend_on_each_other(code):
    assert networks.mlp((8,), 3, hidden=(), code_activation=code).layer is None


def test_layer_is_absent_where_the_encoder_is_deeper():
    assert networks.mlp((8,), 3, hidden=(4,)).layer is None
    assert networks.conv((8, 8, 1), 3).layer is None


# ----------------------------------------------------------------------------------------------- every kind

KINDS = {
    "mlp": lambda **k: networks.mlp((6, 5, 2), 3, hidden=(40,), **k),
    "tied": lambda **k: networks.mlp((6, 5, 2), 3, hidden=(40,), tied=True, **k),
    **{f"conv {d} {u}": lambda d=d, u=u, **k: networks.conv((6, 5, 2), 3, down=d, up=u, channels=(6, 8), **k)
       for d, u in (("stride", "transpose"), ("pool", "switch"))},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_with_a_key_only(kind):
    x = images(4, 6, 5, 2)
    net, plain = KINDS[kind](dropout=0.5), KINDS[kind]()
    params = built(net, x)
    for still, dropping in zip(jit(plain.apply)(params, x), jit(net.apply)(params, x), strict=True):
        assert_array_equal(still, dropping)
    apply, decode = jit(net.apply), jit(net.decode)
    one, again, other = (apply(params, x, jax.random.key(s)) for s in (1, 1, 2))
    for a, b, c in zip(one, again, other, strict=True):
        assert_array_equal(a, b)
        assert not np.allclose(a, c)
    outputs = [decode(params, x[:, :3, 0, 0], jax.random.key(s)) for s in (1, 2)]
    assert not np.allclose(*outputs)  # in the decoder too
    for a, b in zip(jit(plain.apply)(params, x, KEY), jit(plain.apply)(params, x), strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_code_dropout_zeroes_or_scales(kind):
    x = images(64, 6, 5, 2)
    net = KINDS[kind](code_dropout=0.25)
    params = built(net, x)
    whole, dropped = jit(lambda: (net.encode(params, x), net.encode(params, x, KEY)))()
    kept = dropped != 0
    assert_allclose(dropped, jnp.where(kept, whole / 0.75, 0), rtol=1e-5)
    assert 0.6 < kept.mean() < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_output_and_code_activations(kind):
    x = images(4, 6, 5, 2)
    plain, bent = KINDS[kind](), KINDS[kind](code_activation=jnp.sin, output_activation="sigmoid")
    params = built(plain, x)
    z = normal(1, 4, 3)
    code, output = jit(lambda: (plain.encode(params, x), plain.decode(params, z)))()
    bent_code, bent_output = jit(lambda: (bent.encode(params, x), bent.decode(params, z)))()
    assert_allclose(bent_code, jnp.sin(code), rtol=1e-5, atol=1e-6)
    assert_allclose(bent_output, jax.nn.sigmoid(output), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_float64_data_give_float64_throughout(kind):
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 6, 5, 2)))
        net = KINDS[kind](init="uniform")
        params = jit(net.init)(KEY, Batch(x))
        outputs = jax.eval_shape(lambda: (net.apply(params, x), net.decode(params, x[:, :3, 0, 0])))
        assert {a.dtype for a in jax.tree.leaves((params, outputs))} == {jnp.dtype("float64")}


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_shapes_are_told(kind):
    net = KINDS[kind]()
    x = images(4, 6, 5, 2)
    params = built(net, x)
    for wrong in (x[:, :5], x[0], x.reshape(4, -1)):
        with pytest.raises(ValueError, match="takes"):
            net.encode(params, wrong)
        with pytest.raises(ValueError, match="takes"):
            net.init(KEY, Batch(wrong))
    with pytest.raises(ValueError, match="decodes codes"):
        net.decode(params, normal(0, 4, 7))
    with pytest.raises(ValueError, match="floating point"):
        jax.eval_shape(net.init, KEY, Batch(np.uint8(255 * x)))


@pytest.mark.parametrize("make", [networks.mlp, networks.conv])
@pytest.mark.parametrize("wrong", [{"latents": 0}, {"hidden": (4, 0)}, {"activation": "rely"}, {"init": "glorious"}])
def test_wrong_names_and_widths_are_told(make, wrong):
    with pytest.raises(ValueError, match=r"must be|at least 1"):
        make(**{"shape": (4, 4, 1), "latents": 2, **wrong}).init(KEY, Batch(images(2, 4, 4, 1)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shape": (16,)}, "takes images"),
        ({"down": "sideways"}, "down is 'sideways'"),
        ({"up": "down"}, "up is 'down'"),
        ({"up": "switch"}, 'down="pool"'),
        ({"channels": ()}, "at least one level"),
        ({"channels": (3, 0)}, "at least 1"),
        ({"kernel": 0}, "at least 1"),
        ({"stride": 0}, "at least 1"),
    ],
)
def test_wrong_pyramids_are_told(wrong, message):
    with pytest.raises(ValueError, match=message):
        networks.conv(**{"shape": (4, 4, 1), "latents": 2, **wrong})


def test_tied_weights_need_one_head():
    with pytest.raises(ValueError, match="one head"):
        networks.mlp((4,), 2, heads=2, tied=True)


# --------------------------------------------------------------------------------------------- initialisers


@pytest.mark.parametrize(
    ("init", "bound"),
    [
        ("glorot", lambda i, o: np.sqrt(6 / (i + o))),
        ("uniform", lambda i, o: 1 / np.sqrt(i)),
        ("sigmoid_uniform", lambda i, o: 4 * np.sqrt(6 / (i + o))),
    ],
)
def test_uniform_initialisers_fill_their_range(init, bound):
    x = images(2, 20, 20, 2)
    dense = networks.mlp((20, 20, 2), 5, hidden=(60,), init=init)
    level = networks.conv((20, 20, 2), 5, channels=(30,), kernel=5, init=init)
    dense, level = (jit(net.init)(KEY, Batch(x))["encoder"] for net in (dense, level))
    for layer, fan_in, fan_out in ((dense["layer_0"], 800, 60), (level["level_0"], 25 * 2, 25 * 30)):
        limit = bound(fan_in, fan_out)
        assert 0.98 * limit < jnp.abs(layer["kernel"]).max() <= limit
        assert_allclose(layer["kernel"].std(), limit / np.sqrt(3), rtol=0.05)
        if init == "uniform":  # PyTorch's default draws the biases from the same range
            assert 0.8 / np.sqrt(fan_in) < jnp.abs(layer["bias"]).max() <= 1 / np.sqrt(fan_in)
        else:
            assert not layer["bias"].any()


def test_he_has_its_standard_deviation():
    params = networks.mlp((400,), 5, hidden=(60,), init="he").init(KEY, Batch(images(2, 400)))
    assert_allclose(params["encoder"]["layer_0"]["kernel"].std(), np.sqrt(2 / 400), rtol=0.03)


# ---------------------------------------------------------------------------------------------- convolution

LOWERINGS = ("gemm", "native")
KERNELS = [(1, 1), (2, 2), (3, 3), (4, 4), (2, 3), (5, 5)]


@pytest.fixture
def lower(monkeypatch):
    """lower("gemm") or lower("native") for what is traced from here on, whatever the platform."""
    chosen = {"gemm": lambda cpu, default: cpu, "native": lambda cpu, default: default}
    return lambda name: monkeypatch.setattr(image_ops, "_by_platform", chosen[name])


def numpy_convolve(x, kernel, stride, padding):
    """By definition, output pixel by output pixel, in float64."""
    x, kernel = np.float64(x), np.float64(kernel)
    (kh, kw), (height, width) = kernel.shape[:2], x.shape[1:3]
    if padding == "SAME":
        down = max((-(-height // stride) - 1) * stride + kh - height, 0)
        right = max((-(-width // stride) - 1) * stride + kw - width, 0)
        x = np.pad(x, ((0, 0), (down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0)))
    rows, columns = range(0, x.shape[1] - kh + 1, stride), range(0, x.shape[2] - kw + 1, stride)
    out = [[np.tensordot(x[:, i : i + kh, j : j + kw], kernel, 3) for j in columns] for i in rows]
    return np.moveaxis(np.array(out), 2, 0)


def close(got, want):
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=2e-5, atol=2e-5 * np.abs(b).max()), got, want)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("channels", "features"), [(2, 3), (3, 2)])  # both ways through the matrix product
def test_convolution_is_its_definition(lower, stride, padding, channels, features):
    x = normal(0, 2, 7, 8, channels)
    kernels = [normal(i, *k, channels, features) for i, k in enumerate(KERNELS)]
    want = [numpy_convolve(x, k, stride, padding) for k in kernels]
    for name in LOWERINGS:
        lower(name)
        close(jit(lambda x, ks: [convolve(x, k, stride, padding) for k in ks])(x, kernels), want)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_lowerings_have_the_same_gradients(lower, stride, padding):
    size = (7, 8)

    def gradients(x, y, ks):
        there = lambda x, k: jnp.sin(convolve(x, k, stride, padding)).sum()
        back = lambda y, k: jnp.sin(convolve_transpose(y, k, size, stride, padding)).sum()
        return [(jax.grad(there, (0, 1))(a, k), jax.grad(back, (0, 1))(b, k)) for a, b, k in zip(x, y, ks, strict=True)]

    ks = [normal(i, *k, 2 + i % 2, 3 - i % 2) for i, k in enumerate(KERNELS)]  # more features, more channels, in turn
    x = [normal(50 + i, 2, *size, k.shape[2]) for i, k in enumerate(ks)]
    y = [
        normal(90 + i, *numpy_convolve(a, k, stride, padding).shape) for i, (a, k) in enumerate(zip(x, ks, strict=True))
    ]
    results = []
    for name in LOWERINGS:
        lower(name)
        results.append(jit(gradients)(x, y, ks))
    close(*results)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_convolution_is_the_transpose_and_the_zero_stuffed_convolution(lower, stride, padding):
    size = (7, 8)
    kernels = [normal(i, *window, 2, 3) for i, window in enumerate(KERNELS)]
    ys, want = [], []
    for i, kernel in enumerate(kernels):
        window = kernel.shape[:2]
        pads = lax.padtype_to_pads(size, window, (stride, stride), padding)
        y = normal(50 + i, *numpy_convolve(np.zeros((2, *size, 2)), kernel, stride, padding).shape)
        # Zeros between the pixels of y; around them, what makes a VALID convolution end at `size`.
        stuffed = np.zeros((2, (y.shape[1] - 1) * stride + 1, (y.shape[2] - 1) * stride + 1, 3))
        stuffed[:, ::stride, ::stride] = y
        edges = [
            (k - 1 - before, n + before - length)
            for k, n, (before, _), length in zip(window, size, pads, stuffed.shape[1:3], strict=True)
        ]
        stuffed = np.pad(stuffed, ((0, 0), *edges, (0, 0)))
        ys.append(y)
        want.append(numpy_convolve(stuffed, kernel[::-1, ::-1].swapaxes(2, 3), 1, "VALID"))

    def both(ys, kernels):
        there = [lambda x, k=k: convolve(x, k, stride, padding) for k in kernels]
        back = [convolve_transpose(y, k, size, stride, padding) for y, k in zip(ys, kernels, strict=True)]
        x = jnp.zeros((2, *size, 2))
        return back, [jax.linear_transpose(f, x)(y)[0] for f, y in zip(there, ys, strict=True)]

    for name in LOWERINGS:
        lower(name)
        close(jit(both)(ys, kernels), (want, want))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [(1, 1), (2, 3), (5, 4)])
def test_fold_is_the_transpose_of_unfold(stride, window):
    pads = ((0, 2), (1, 0))
    apart = lambda x: unfold(x, window, stride, pads)
    x = jnp.round(9 * normal(0, 2, 6, 7, 3))  # whole numbers: sums are exact
    patches = jnp.round(9 * normal(1, *jax.eval_shape(apart, x).shape))
    rows, image, transpose = jit(
        lambda: (apart(x), fold(patches, window, (6, 7), stride, pads), jax.linear_transpose(apart, x)(patches)[0])
    )()
    assert (rows * patches).sum() == (x * image).sum()
    assert_array_equal(image, transpose)


def test_convolution_under_every_transformation(lower):
    x, kernel, stride = normal(0, 3, 7, 6, 2), normal(1, 3, 3, 2, 4), 2
    many = jnp.stack([kernel, -2 * kernel])

    def everything(x, kernel, many):
        def f(x, kernel):
            return convolve_transpose(jnp.tanh(convolve(x, kernel, stride)), kernel, (7, 6), stride)

        loss = lambda x, kernel: jnp.square(f(x, kernel)).sum()

        def step(kernel, _):
            return kernel - 1e-4 * jax.grad(loss, 1)(x, kernel), loss(x, kernel)

        return {
            "value": f(x, kernel),
            "over kernels": jax.vmap(f, (None, 0))(x, many),
            "over both": jax.vmap(jax.grad(loss, 1))(jnp.stack([x, x + 1]), many),
            "forward": jax.jacfwd(loss, 1)(x, kernel),
            "an example": jax.vmap(jax.jacfwd(lambda one: f(one[None], kernel)[0]))(x),
            "reverse": jax.vmap(jax.jacrev(lambda one: f(one[None], kernel)[0]))(x),
            "curvature": jax.jvp(jax.grad(loss, 1), (x, kernel), (x, kernel))[1],
            "scan": lax.scan(step, kernel, None, length=3),
            "checkpoint": jax.grad(jax.checkpoint(loss), 1)(x, kernel),
        }

    as_shipped = jax.jit(everything)(x, kernel, many)
    close(as_shipped["forward"], jax.grad(lambda k: jnp.square(as_unrolled(x, k)).sum())(kernel))
    close(as_shipped["an example"], as_shipped["reverse"])
    for name in LOWERINGS:
        lower(name)
        close(as_shipped, jit(everything)(x, kernel, many))


def as_unrolled(x, kernel):
    """The function of the test above by way of lax alone."""
    axes = ("NHWC", "HWIO", "NHWC")
    conv = lambda x: lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=axes)
    return jax.linear_transpose(conv, x)(jnp.tanh(conv(x)))[0]


def test_export_chooses_the_lowering_of_each_platform():
    net = networks.conv((7, 6, 2), 3, channels=(4,), down="pool")
    x = images(3, 7, 6, 2)
    params = built(net, x)

    @jax.jit
    def gradient(params, x):
        return jax.grad(lambda params: jnp.square(net.apply(params, x)[1] - x).sum())(params)

    symbolic = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("b"), 7, 6, 2), jnp.float32)
    convolutions = {}
    for platforms in (("cpu",), ("cuda",), ("cpu", "cuda")):
        exported = jax.export.export(gradient, platforms=platforms)(params, symbolic)
        convolutions[platforms] = exported.mlir_module().count("stablehlo.convolution")
        if "cpu" in platforms:  # the batch size is left open
            close(jax.export.deserialize(exported.serialize()).call(params, x), gradient(params, x))
    assert convolutions["cpu",] == 0
    assert convolutions["cuda",] > 0
    assert convolutions["cpu", "cuda"] > 0


@pytest.mark.parametrize(("down", "up"), PYRAMIDS)
def test_every_pyramid_exports_with_an_open_batch(down, up):
    net = networks.conv((7, 5, 1), 2, channels=(4, 4), down=down, up=up)
    params = jax.eval_shape(net.init, KEY, Batch(images(1, 7, 5, 1)))
    symbolic = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("b"), 7, 5, 1), jnp.float32)
    exported = jax.export.export(jax.jit(net.apply), platforms=("cpu", "cuda", "tpu"))(params, symbolic)
    assert [str(a.shape[0]) for a in exported.out_avals] == ["b", "b"]


@pytest.mark.parametrize("make", [networks.mlp, networks.linear])
def test_dense_networks_export_with_an_open_batch(make):
    net = make((4, 3, 1), 2)
    x = images(5, 4, 3, 1)
    params = built(net, x)
    symbolic = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("b"), 4, 3, 1), jnp.float32)
    close(jax.export.export(jit(net.apply))(params, symbolic).call(params, x), net.apply(params, x))


def test_convolution_tells_what_does_not_fit():
    x, kernel = normal(0, 2, 4, 4, 3), normal(1, 3, 3, 3, 5)
    with pytest.raises(ValueError, match="must be"):
        convolve(x[..., :2], kernel)
    with pytest.raises(ValueError, match="does not fit"):
        convolve(x[:, :2], kernel, padding="VALID")
    with pytest.raises(ValueError, match="must be"):
        convolve_transpose(x, kernel, (4, 4))
    with pytest.raises(ValueError, match=r"gives \[B, 2, 2, O\]"):
        convolve_transpose(normal(0, 2, 4, 4, 5), kernel, (4, 4), 2)


# ------------------------------------------------------------------------- pooling, unpooling and resizing


@pytest.mark.parametrize("size", [(6, 4), (7, 5), (1, 2), (5, 9)])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_pooling_takes_the_maximum_and_remembers_where(size, block):
    x = normal(0, 2, *size, 3) - 5  # all negative: padding must not win
    pooled, switches = jit(max_pool, static_argnums=1)(x, block)
    want = np.array(
        [
            [np.asarray(x)[:, i : i + block, j : j + block].max((1, 2)) for j in range(0, size[1], block)]
            for i in range(0, size[0], block)
        ]
    )
    assert_array_equal(pooled, np.moveaxis(want, 2, 0))
    b, i, j, c = np.indices(pooled.shape)
    assert_array_equal(x[b, i * block + switches // block, j * block + switches % block, c], pooled)


@pytest.mark.parametrize("size", [(6, 4), (7, 5), (5, 9)])
@pytest.mark.parametrize("block", [2, 3])
def test_unpooling_at_switches_undoes_pooling(size, block):
    x = images(2, *size, 3)
    pooled, switches = jit(max_pool, static_argnums=1)(x, block)
    spread = jit(lambda: max_unpool(pooled, switches, size, block))()
    assert_array_equal(spread, jnp.where(spread == x, x, 0))  # each value where it came from, zeros elsewhere
    assert (spread != 0).sum() == pooled.size
    back, again, gradient = jit(
        lambda: (*max_pool(spread, block), jax.grad(lambda x: (max_pool(x, block)[0] * pooled).sum())(x))
    )()
    assert_array_equal(back, pooled)
    assert_array_equal(again, switches)
    # Unpooling is the transpose of pooling at given switches, hence pooling's gradient.
    assert_array_equal(gradient, spread)


def test_ties_go_to_one_place_only():
    x = jnp.ones((1, 4, 6, 2))
    pooled, switches = max_pool(x, 2)
    assert not switches.any()
    assert max_unpool(pooled, switches, (4, 6), 2).sum() == pooled.size
    gradient = jax.grad(lambda x: max_pool(x, 2)[0].sum())(x)
    assert_array_equal(gradient[0, :, :, 0], np.tile([[1, 0], [0, 0]], (2, 3)))


def test_pooling_does_not_hide_a_nan():
    x = jnp.zeros((1, 5, 5, 1)).at[0, 4, 4, 0].set(jnp.nan).at[0, 1, 1, 0].set(jnp.nan)
    assert_array_equal(jnp.isnan(max_pool(x, 2)[0])[0, :, :, 0], np.diag([True, False, True]))


@pytest.mark.parametrize(("size", "block"), [((6, 4), 2), ((5, 3), 2), ((7, 8), 3)])
def test_fill_repeats_each_value_over_its_block(size, block):
    y = normal(0, 2, -(-size[0] // block), -(-size[1] // block), 3)
    want = np.kron(np.asarray(y), np.ones((1, block, block, 1)))[:, : size[0], : size[1]]
    assert_array_equal(fill_unpool(y, size, block), want)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [(6, 4), (5, 3), (3, 2), (7, 9)])
def test_resize_is_that_of_images(method, size):
    y = normal(0, 2, 3, 2, 4)
    got, want = jit(lambda y: (resize(y, size, method), jax.image.resize(y, (2, *size, 4), method, antialias=False)))(y)
    close(got, want)
    if method == "nearest" and size == (6, 4):
        assert_array_equal(got, fill_unpool(y, size, 2))


# ------------------------------------------------------------------------------------------------- pyramids


@pytest.mark.parametrize(("down", "up"), PYRAMIDS)
def test_pyramids_give_the_shape_back(down, up):
    for shape, kernel, stride in (((8, 8, 1), 3, 2), ((7, 13, 3), 4, 2), ((1, 5, 2), 5, 3), ((11, 6, 4), 1, 3)):
        net = networks.conv(shape, 3, channels=(4, 5, 6), kernel=kernel, stride=stride, down=down, up=up)

        def use(key, x, net=net):
            params = net.init(key, Batch(x))
            z, output = net.apply(params, x)
            return params, z, output, net.decode(params, z)

        params, z, output, decoded = jax.eval_shape(use, KEY, images(2, *shape))
        assert (z.shape, output.shape, decoded.shape) == ((2, 3), (2, *shape), (2, *shape))
        features = {side: [params[side][f"level_{i}"]["kernel"].shape[2:] for i in range(3)] for side in params}
        there = list(itertools.pairwise((shape[2], 4, 5, 6)))
        assert features == {"encoder": there, "decoder": [pair[::-1] for pair in there]}


@pytest.mark.parametrize(
    ("down", "up"), [("stride", "transpose"), ("stride", "bilinear"), ("pool", "nearest"), ("pool", "switch")]
)
def test_lowerings_agree_in_a_whole_autoencoder(lower, down, up):
    net = networks.conv((7, 5, 2), 3, channels=(4, 5), down=down, up=up, hidden=(8,))
    x = images(3, 7, 5, 2)
    params = built(net, x)
    loss = lambda params, x: jnp.square(net.apply(params, x)[1] - x).sum()
    results = []
    for name in LOWERINGS:
        lower(name)
        results.append(jit(lambda params, x: jax.value_and_grad(loss)(params, x))(params, x))
    close(*results)
    assert all(g.any() for g in jax.tree.leaves(results[0][1]))  # every parameter learns


def test_jacobian_of_an_encoder():
    """Forward (the contractive penalty's way), backward, and by central differences."""
    net = networks.conv((7, 5, 2), 3, channels=(4, 5), activation="tanh")
    x, along, h = images(7, 5, 2), normal(0, 7, 5, 2), 1e-6
    with jax.enable_x64(True):
        params, x, along = jax.tree.map(np.float64, (built(net, x[None]), x, along))
        encode = lambda one: net.encode(params, one[None])[0]
        derivatives = lambda x: (jax.jacfwd(encode)(x), jax.jacrev(encode)(x))
        difference = lambda x: (encode(x + h * along) - encode(x - h * along)) / (2 * h)
        (forward, backward), slope = jax.device_get(jit(lambda x: (derivatives(x), difference(x)))(x))
    assert_allclose(forward, backward, rtol=1e-12, atol=1e-14)
    assert_allclose(np.einsum("khwc,hwc->k", forward, along), slope, rtol=1e-6)


@pytest.mark.parametrize("up", UPS)
def test_only_switches_tell_the_decoder_more_than_the_code(up):
    net = networks.conv((6, 5, 1), 3, channels=(4,), down="pool", up=up)
    x = images(3, 6, 5, 1)
    params = built(net, x)
    z, output = jit(net.apply)(params, x)
    same = np.allclose(output, jit(net.decode)(params, z), atol=1e-6)
    assert same == (up != "switch")


def test_switches_put_each_maximum_back():
    """One level whose convolutions and dense layers are identities: the maxima, where they were."""
    net = networks.conv((4, 6, 1), 6, channels=(1,), kernel=1, down="pool", up="switch")
    x = images(3, 4, 6, 1)
    one = {"kernel": jnp.ones((1, 1, 1, 1)), "bias": jnp.zeros(1)}
    same = {"dense": {"layer_0": {"kernel": jnp.eye(6), "bias": jnp.zeros(6)}}, "level_0": one}
    params = {"encoder": same, "decoder": same}
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, net.init(KEY, Batch(x)))
    pooled, switches = max_pool(x, 2)
    z, output = jit(net.apply)(params, x)
    assert_array_equal(z, pooled.reshape(3, 6))
    assert_array_equal(output, max_unpool(pooled, switches, (4, 6), 2))
    corner = jnp.zeros_like(x).at[:, ::2, ::2].set(pooled)  # a code alone: the first place of each block
    assert_array_equal(net.decode(params, z), corner)


def test_without_dense_layers_the_code_is_the_last_maps_wherever_they_lie():
    """An image moved by the stride has the same code, moved by one place."""
    net = networks.conv((12, 8, 2), 6 * 4 * 5, channels=(5,), dense=False)
    x = np.zeros((1, 12, 8, 2), np.float32)
    x[:, 3:7, 2:5] = images(1, 4, 3, 2)
    params = built(net, x)
    params["encoder"]["level_0"]["bias"] *= 0
    assert "dense" not in params["encoder"] | params["decoder"]
    here, there = (np.asarray(net.encode(params, a)).reshape(6, 4, 5) for a in (x, np.roll(x, (2, 2), (1, 2))))
    assert here.any()
    assert_allclose(there, np.roll(here, (1, 1), (0, 1)), atol=1e-6)
    for wrong in ({"latents": 9}, {"hidden": (3,)}, {"heads": 2}, {"code_activation": "sigmoid"}):
        with pytest.raises(ValueError, match="latents=120"):
            networks.conv((12, 8, 2), **{"latents": 120, "channels": (5,), "dense": False} | wrong)


@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_a_residual_network_corrects_the_input_that_it_sees(kind):
    plain = networks.mlp((6, 5, 1), 3) if kind == "mlp" else networks.conv((6, 5, 1), 3, channels=(4,))
    made = networks.residual(plain) if kind == "mlp" else networks.conv((6, 5, 1), 3, channels=(4,), residual=True)
    x = images(3, 6, 5, 1)
    params = built(plain, x)
    (z, correction), (z_made, output) = plain.apply(params, x), made.apply(params, x)
    assert_array_equal(z_made, z)
    assert_array_equal(output, x + correction)
    assert_array_equal(made.decode(params, z), plain.decode(params, z))
    gone = corrupted(made, masking(1.0))
    assert_allclose(gone.apply(params, x, KEY)[1], plain.apply(params, 0 * x)[1], atol=1e-6)
    assert_array_equal(gone.apply(params, x)[1], output)  # and without a key nothing is corrupted


def test_what_puts_codes_together_refuses_a_network_of_more_than_the_code():
    plain, more = networks.mlp((6,), 3), networks.residual(networks.mlp((6,), 3))
    for nets in ((plain, more), (more, plain)):
        with pytest.raises(ValueError, match="residual"):
            networks.join(*nets)
    with pytest.raises(ValueError, match="residual"):
        networks.stack([more])


def test_corruption_comes_once_and_last():
    noisy = corrupted(networks.mlp((6,), 3), masking(0.5))
    for wrong, told in (
        (lambda: corrupted(noisy, masking(0.1)), "corrupts its input already"),
        (lambda: networks.residual(noisy), r"corrupted\(residual\(net\)"),
        (lambda: networks.stack([noisy]), "corrupt the stack"),
    ):
        with pytest.raises(ValueError, match=told):
            wrong()


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, 50])
@pytest.mark.parametrize("where", ["dropout", "code_dropout"])
def test_a_rate_of_dropout_is_a_probability(where, rate):
    for make, shape in ((networks.mlp, (6,)), (networks.conv, (6, 6, 1))):
        with pytest.raises(ValueError, match=f"{where} is {rate}"):
            make(shape, 3, **{where: rate})


@pytest.mark.parametrize("make", [networks.mlp, networks.conv])
def test_whole_numbers_are_no_images(make):
    net = make((8, 8, 1), 3)
    params = built(net, images(2, 8, 8, 1))
    with pytest.raises(ValueError, match="uint8; networks take floating point"):
        net.encode(params, jnp.zeros((2, 8, 8, 1), jnp.uint8))


def test_networks_tell_what_codes_and_outputs_have_gone_through():
    net = networks.mlp((6,), 3, code_activation=jnp.tanh, output_activation="sigmoid")
    assert (net.activation, net.output) == ("tanh", "sigmoid")
    assert networks.mlp((6,), 3, output_activation=jnp.sin).output is None  # nobody knows
    maps = networks.conv((4, 4, 1), 8, channels=(2,), dense=False, activation="sigmoid")
    assert (maps.activation, maps.output) == ("sigmoid", "linear")
    both = networks.stack([networks.mlp((6,), 3, output_activation="sigmoid"), networks.mlp((3,), 2)])
    assert (both.activation, both.output) == ("linear", "sigmoid")
    assert networks.join(networks.mlp((6,), 3), net).output == "sigmoid"


def test_a_stack_has_the_outputs_of_its_bottom_and_is_trained_where_all_are():
    low, high = networks.mlp((6,), 3, outputs=2), networks.mlp((3,), 2)
    both, x = networks.stack([low, high]), images(4, 6)
    params = built(both, x)
    assert both.decode(params, both.encode(params, x)).shape == (4, 6, both.outputs) == (4, 6, 2)
    assert not both.trained
    given = [networks.trained(net, part) for net, part in zip((low, high), networks.layers_of(params), strict=True)]
    assert networks.stack(given).trained
    assert not networks.stack([given[0], high]).trained
    with pytest.raises(ValueError, match="network 1 emits 2 outputs for each number of a code"):
        networks.stack([networks.mlp((6,), 3), networks.mlp((3,), 2, outputs=2)])


# -------------------------------------------------------------------------------------------- modules of one's own


class Own(nn.Module):
    """An encoder without `train`: layer norm, and what else is asked of it."""

    width: int = 3
    batch_norm: bool = False

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(self.width)(x.reshape(len(x), -1))
        return nn.BatchNorm(use_running_average=False)(h) if self.batch_norm else nn.LayerNorm()(h)


class Noise(nn.Module):
    """Draws from a stream of its own name, in training; always where it does not ask."""

    always: bool = False

    @nn.compact
    def __call__(self, x, train: bool):
        h = nn.Dense(3)(x)
        return h + jax.random.normal(self.make_rng("noise"), h.shape) if train or self.always else h


def test_modules_need_no_train_and_may_draw_from_any_stream():
    x = images(5, 8)
    sequence = nn.Sequential([nn.Dense(6), nn.tanh, nn.Dense(8)])
    net = networks.pair(Own(), sequence, (8,), 3)
    params = net.init(KEY, Batch(x))
    z, output = net.apply(params, x, KEY)
    assert_array_equal(output, sequence.apply({"params": params["decoder"]}, z))
    noisy = networks.pair(Noise(), sequence, (8,), 3)
    params = noisy.init(KEY, Batch(x))
    assert (noisy.encode(params, x, KEY) != noisy.encode(params, x)).all()


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        (Own(batch_norm=True), nn.Dense(8), "the encoder keeps batch_stats .* nn.LayerNorm"),
        (Own(width=4), nn.Dense(8), r"the encoder makes \(1, 4\) of \(1, 8\); wanted: codes .* latents is 3"),
        (Own(), nn.Dense(7), r"the decoder makes \(1, 7\) .* wanted: 8 numbers"),
        (Noise(always=True), nn.Dense(8), "the encoder draws random numbers outside training .*noise"),
    ],
)
def test_modules_that_do_not_fit_are_told_at_init(encoder, decoder, message):
    with pytest.raises(ValueError, match=message):
        networks.pair(encoder, decoder, (8,), 3).init(KEY, Batch(images(5, 8)))


def test_joined_networks_are_the_encoder_of_one_and_the_decoder_of_the_other():
    x = images(5, 6, 4, 1)
    down = corrupted(networks.mlp((6, 4, 1), 3, hidden=(), code_activation="tanh"), masking(1.0))
    back = networks.mlp((6, 4, 1), 3, hidden=(7,))
    net = networks.join(down, back)
    params = net.init(KEY, Batch(x))
    z, output = net.apply(params, x)
    assert_array_equal(z, down.encode(params, x))
    assert_array_equal(output, back.decode(params, z))
    assert_array_equal(net.apply(params, x, KEY)[0], down.encode(params, 0 * x))
    assert net.activation == "tanh"
    with pytest.raises(ValueError, match="must be for the same"):
        networks.join(down, networks.mlp((6, 4, 1), 2))
    with pytest.raises(ValueError, match="the decoder is tied"):
        networks.join(down, networks.mlp((6, 4, 1), 3, tied=True)).init(KEY, Batch(x))
