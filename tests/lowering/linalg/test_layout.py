"""choose-layout and hoist-constants: convolutions on blocked channels with filters packed at load time."""

import numpy as np
import pytest
from xdsl.dialects.func import FuncOp
from xdsl.dialects.linalg.ops import GenericOp

from stepwell.dialects.tile import KernelOp
from stepwell.lowering.linalg import HoistConstants, passes, structure
from stepwell.lowering.linalg.choose_layout import choose_block
from stepwell.lowering.linalg_to_tile import FormKernels


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def compiled(check, target):
    """All passes; the module."""
    steps = (*passes(target), FormKernels(target))
    return lambda module, *arguments, **options: check(
        module, steps, *arguments, **({"rtol": 1e-4, "atol": 1e-4} | options)
    )


def launched(module, function="f"):
    """The templates of the kernels that a function launches, in order."""
    kernels = {op.sym_name.data: op.template for op in module.ops if isinstance(op, KernelOp)}
    (found,) = [op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == function]
    return [kernels[op.kernel.string_value()] for op in found.walk() if op.name == "tile.launch"]


def relu(b, x):
    return b.elementwise(lambda e: e.maximum(0.0), x, dtype=x.dtype)


def norm(b, x, mean, deviation):
    """What is left of a batch norm, by channel."""
    by_channel = [b.reshape(v, [v.sizes[0], 1, 1]) for v in (mean, deviation)]
    return b.elementwise(lambda e, m, d: (e - m) / (d + 1e-5).math("sqrt"), x, *by_channel, dtype=x.dtype)


def weights(g, **shapes):
    arrays = {name: np.abs(array(*shape, seed=i)) for i, (name, shape) in enumerate(shapes.items())}
    return [g.weight(name, *shape) for name, shape in shapes.items()], arrays


def test_a_residual_network_stays_blocked(graph, compiled):
    g = graph(x=(1, 3, 12, 12))
    b = g.builder
    (w0, w1, w2, m, d), data = weights(g, w0=(16, 3, 3, 3), w1=(16, 16, 3, 3), w2=(16, 16, 1, 1), m=(16,), d=(16,))
    x = relu(b, norm(b, g.convolution(g["x"], w0, 2, 1), m, d))
    y = relu(b, norm(b, g.convolution(x, w1, 1, 1), m, d))
    y = g.convolution(y, w2)
    y = relu(b, b.elementwise(lambda p, q: p + q, y, x, dtype=y.dtype))
    mean = b.reduce(lambda a, e: a + e, 0, g.pooling(y, 2, 2), [2, 3])
    module = compiled(g.returns(mean), array(1, 3, 12, 12), resources=data)
    # Filling the padding of the image and of x are maps; nothing is packed or unpacked at run time.
    assert [t for t in launched(module) if t != "map"] == ["conv", "conv", "conv", "window", "nest"]
    assert launched(module).count("map") == 2
    assert len(launched(module, "prepare")) >= 3


def test_depthwise_and_concatenation(graph, compiled):
    g = graph(x=(1, 16, 8, 8))
    b = g.builder
    (w0, w1), data = weights(g, w0=(16, 1, 3, 3), w1=(8, 32, 1, 1))
    x = relu(b, g.convolution(g["x"], w0, 1, 1, groups=16))
    x = g.convolution(b.concatenate([x, b.slice(x, [0, 0, 0, 0], [1, 16, 8, 8], [1, 1, 1, 1])], 1), w1)
    module = compiled(g.returns(x), array(1, 16, 8, 8), resources=data)
    assert {"depthwise", "conv"} <= set(launched(module))


def test_an_argument_is_padded_in_blocked_layout(graph, compiled):
    """Not padded first and then copied to blocks: the blocked image is written where its border is."""
    g = graph(x=(2, 16, 7, 9))
    (w0, w1), data = weights(g, w0=(16, 1, 3, 3), w1=(32, 16, 3, 3))
    x = relu(g.builder, g.convolution(g["x"], w0, 2, 1, groups=16))
    module = compiled(g.returns(x, g.convolution(g["x"], w1, 1, 1)), array(2, 16, 7, 9), resources=data)
    insertions = [op for op in module.walk() if op.name == "tensor.insert_slice"]
    assert insertions and all(op.results[0].type.get_num_dims() == 5 for op in insertions)


def test_concatenation_with_channels_that_fill_no_block(graph, compiled):
    g = graph(x=(1, 3, 8, 8))
    (w,), data = weights(g, w=(16, 3, 1, 1))
    y = g.builder.concatenate([g.convolution(g["x"], w), g["x"]], 1)
    assert "conv" in launched(compiled(g.returns(relu(g.builder, y)), array(1, 3, 8, 8), resources=data))


def test_channels_that_fill_no_block_stay_plain(graph, compiled):
    g = graph(x=(1, 5, 6, 6))
    (w,), data = weights(g, w=(5, 5, 3, 3))
    module = compiled(g.returns(g.convolution(g["x"], w)), array(1, 5, 6, 6), resources=data)
    assert launched(module) == ["nest"]
    assert not any(isinstance(op, FuncOp) and op.sym_name.data == "prepare" for op in module.ops)


def test_dynamic_batch(graph, compiled):
    g = graph(x=("n", 8, 6, 6))
    b = g.builder
    (w,), data = weights(g, w=(16, 8, 3, 3))
    y = relu(b, g.convolution(relu(b, g["x"]), w))
    module = compiled(g.returns(g.pooling(y, 2, 2)), array(2, 8, 6, 6), resources=data)
    assert "conv" in launched(module)


def test_one_dimensional_convolution(graph, compiled):
    g = graph(x=(1, 8, 1, 20))
    (w,), data = weights(g, w=(16, 8, 1, 3))
    module = compiled(g.returns(g.convolution(g["x"], w)),
                      array(1, 8, 1, 20), resources=data)  # fmt: skip
    assert "conv" in launched(module)


def test_what_depends_on_weights_is_prepared_once(graph, check):
    g = graph(x=(4, 6))
    b = g.builder
    (w, s), data = weights(g, w=(5, 6), s=(5,))
    scaled = b.elementwise(lambda p, q: p * q.math("exp"), b.transpose(w, [1, 0]), s, dtype=w.dtype)
    y = g.product(g["x"], scaled, "mk,kn->mn")
    module = check(g.returns(y), (HoistConstants(),), array(4, 6), resources=data, rtol=1e-6)
    entry, prepare = sorted((op for op in module.ops), key=lambda f: f.sym_name.data)
    assert prepare.sym_name.data == "prepare" and sum(isinstance(op, GenericOp) for op in entry.walk()) == 1
    assert "prepared.0" in str(entry.arg_attrs) and "dense_resource" not in str(entry)
    (op,) = [op for op in entry.walk() if isinstance(op, GenericOp)]
    assert structure.contraction(op) is not None


def test_a_broadcast_of_weights_is_not_stored(graph, check):
    g = graph(x=(400, 600))
    b = g.builder
    (s,), data = weights(g, s=(600,))
    wide = b.expand(s, [400, 600])
    y = b.elementwise(lambda p, q: p + q, g["x"], wide, dtype=wide.dtype)
    module = check(g.returns(y), (HoistConstants(),), array(400, 600), resources=data)
    assert len(list(module.ops)) == 1


def test_the_block_is_the_one_with_which_all_takes_least_time(graph):
    def blocks(first, second):
        g = graph(x=(1, 16, 10, 10))
        (w0, w1), _ = weights(g, w0=(first, 16, 3, 3), w1=(second, first, 1, 1))
        module = g.returns(g.convolution(g.convolution(g["x"], w0), w1))
        return [choose_block(module, widest) for widest in (4, 8, 16)]

    # 24 channels take two blocks of 16, which is less than three of 8 in half-filled vectors.
    assert blocks(24, 32) == [4, 8, 16] and blocks(64, 6) == [4, 8, 16]
    assert blocks(8, 8) == [4, 8, 8] and blocks(4, 4) == [4, 4, 4]


def residual(g, data_for, channels, function):
    """Three convolutions by 1x1 and 3x3, with something between them."""
    b = g.builder
    (w0, w1, w2), data = data_for(g, w0=(channels, 16, 1, 1), w1=(channels, channels, 3, 3), w2=(16, channels, 1, 1))
    x = function(b, g.convolution(g["x"], w0))
    y = b.elementwise(lambda p, q: p + q, function(b, g.convolution(x, w1, 1, 1)), x, dtype=x.dtype)
    return g.returns(g.convolution(y, w2)), data


FUNCTIONS = {
    "relu": relu,
    # Not 0 at 0, and not even finite: what fills the last block must not reach what is asked for.
    "exp": lambda b, x: b.elementwise(lambda e: (e * 0.01).math("exp"), x, dtype=x.dtype),
    "reciprocal": lambda b, x: b.elementwise(lambda e: 1.0 / e, x, dtype=x.dtype),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("channels", [7, 12, 22])
def test_blocks_that_are_not_full_change_nothing(graph, compiled, channels, function):
    module, data = residual(graph(x=(2, 16, 6, 6)), weights, channels, FUNCTIONS[function])
    x = np.abs(array(2, 16, 6, 6)) + 0.5
    lowered = compiled(module, x, resources=data)
    assert sum(template in ("conv", "winograd") for template in launched(lowered)) == 3
    # Zeros beyond the last channel: after each convolution that makes some, and before one that sums over others.
    selects = str(lowered).count("arith.select")
    assert selects == 2 if function == "relu" else selects > 2


def test_infinities_stay_where_they_are(graph, compiled):
    """0 * inf beyond the last channel would be a NaN in all channels of the next convolution."""
    module, data = residual(graph(x=(1, 16, 4, 4)), weights, 12, lambda b, x: b.elementwise(
        lambda e: e.maximum(0.0).minimum(6.0), x, dtype=x.dtype))  # fmt: skip
    x = array(1, 16, 4, 4)
    x[0, 3, 1, 2] = np.inf
    compiled(module, x, resources=data)


def test_poolings_and_paddings_of_blocks_that_are_not_full(graph, compiled):
    g = graph(x=(1, 16, 9, 9))
    b = g.builder
    (w0, w1, w2), data = weights(g, w0=(12, 16, 1, 1), w1=(12, 1, 3, 3), w2=(16, 12, 1, 1))
    x = g.convolution(g["x"], w0)
    x = g.convolution(b.pad(x, [0, 0, 1, 1], [0, 0, 1, 1], 0.5), w1, groups=12)
    x = g.pooling(b.pad(x, [0, 0, 1, 1], [0, 0, 1, 1], -np.inf), 3, 2)
    module = compiled(g.returns(g.convolution(x, w2)), array(1, 16, 9, 9), resources=data)
    assert {"conv", "depthwise", "window"} <= set(launched(module))


def test_channels_of_blocks_that_are_not_full_are_joined_and_parted(graph, compiled):
    g = graph(x=(1, 16, 6, 6))
    b = g.builder
    (w0, w1), data = weights(g, w0=(12, 16, 1, 1), w1=(16, 20, 1, 1))
    x = g.convolution(g["x"], w0)
    part = b.slice(x, [0, 4, 0, 0], [1, 8, 6, 6], [1, 1, 1, 1])
    module = compiled(g.returns(g.convolution(b.concatenate([x, part], 1), w1)), array(1, 16, 6, 6), resources=data)
    assert launched(module).count("conv") == 2
