"""winograd: which convolutions are rewritten, what they become, and that the numbers stay."""

from dataclasses import replace

import numpy as np
import pytest
from xdsl.dialects.linalg.ops import GenericOp

from stepwell.dialects.tile import KernelOp
from stepwell.lowering.linalg import passes
from stepwell.lowering.linalg.winograd_form import input_transform, is_product, output_transform
from stepwell.lowering.linalg_to_tile import FormKernels


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network(graph, channels=32, filters=32, size=(12, 12), batch=1, padding=1, stride=1, kernel=3):
    """A convolution with a bias and relu between two of 1 x 1."""
    g = graph(x=(batch, 8, *size))
    b = g.builder
    x = g.convolution(g["x"], g.weight("p", channels, 8, 1, 1))
    y = g.convolution(x, g.weight("w", filters, channels, kernel, kernel), stride, padding)
    bias = b.reshape(g.weight("s", filters), [filters, 1, 1])
    y = b.elementwise(lambda e, s: (e + s).maximum(0.0), y, bias, dtype=y.dtype)
    y = g.convolution(y, g.weight("q", 8, filters, 1, 1))
    data = {
        "p": array(channels, 8, 1, 1, seed=4) / 3, "w": array(filters, channels, kernel, kernel, seed=1) / 17,
        "s": array(filters, seed=2), "q": array(8, filters, 1, 1, seed=5) / 6,
    }  # fmt: skip
    return g.returns(y), array(1 if batch == "n" else batch, 8, *size, seed=3), data


def steps_of(module):
    """How many input transforms, products and output transforms there are."""
    ops = [op for op in module.walk() if isinstance(op, GenericOp)]
    found = (input_transform, is_product, output_transform)
    return [sum(bool(step(op)) for op in ops) for step in found]


def run(check, target, module, x, data):
    return check(module, (*passes(target), FormKernels(target)), x, resources=data, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [
    {}, {"padding": 0}, {"padding": 2}, {"size": (11, 13)}, {"size": (5, 21)}, {"batch": 2},
    {"channels": 16, "filters": 24, "size": (17, 9)},
])  # fmt: skip
def test_a_convolution_becomes_one_kernel(graph, check, target, options):
    module = run(check, target, *network(graph, **options))
    assert steps_of(module) == [1, 1, 1]
    (kernel,) = [op for op in module.ops if isinstance(op, KernelOp) and op.template == "winograd"]
    # The border of the image, bias and relu are inside, and the matrices are no arguments.
    bordered = any(op.name == "tensor.insert_slice" for op in kernel.body.block.ops)
    assert bordered or options.get("padding") == 0
    assert kernel.size("blocks") > 0 and all(type.get_num_dims() in (2, 5, 6) for type in kernel.function_type.inputs)


@pytest.mark.parametrize("options", [
    {"kernel": 1, "padding": 0}, {"kernel": 5}, {"stride": 2}, {"channels": 3}, {"filters": 5},
    {"size": (3, 3), "padding": 0}, {"batch": "n"},
])  # fmt: skip
def test_what_stays_direct(graph, target, options):
    module, _, _ = network(graph, **options)
    for step in passes(target):
        step.apply(module, None)
    assert steps_of(module) == [0, 0, 0]


def test_filters_that_are_no_constants_stay_direct(graph, target):
    g = graph(x=(1, 32, 12, 12), w=(32, 32, 3, 3))
    module = g.returns(g.convolution(g["x"], g["w"], 1, 1))
    for step in passes(target):
        step.apply(module, None)
    assert steps_of(module) == [0, 0, 0]


def test_a_target_without_winograd_is_direct(graph, target):
    module, _, _ = network(graph)
    for step in passes(replace(target, winograd=False)):
        step.apply(module, None)
    assert steps_of(module) == [0, 0, 0]


def test_filters_are_transformed_at_load_time(graph, target):
    module, _, _ = network(graph)
    for step in passes(target):
        step.apply(module, None)
    entry = next(op for op in module.ops if op.sym_name.data == "f")
    assert "tensor<6x6x4x4x8x8xf32> {host.kind" in str(entry)


def test_two_convolutions_of_one_image_are_two_kernels(graph, check, target):
    g = graph(x=(1, 32, 12, 12))
    b = g.builder
    x = b.elementwise(lambda e: e.maximum(0.0), g.convolution(g["x"], g.weight("p", 32, 32, 1, 1)), dtype=g["x"].dtype)
    y, z = (g.convolution(x, g.weight(name, 32, 32, 3, 3), 1, 1) for name in "uv")
    data = {"p": array(32, 32, 1, 1), "u": array(32, 32, 3, 3, seed=1), "v": array(32, 32, 3, 3, seed=2)}
    module = run(check, target, g.returns(y, z), array(1, 32, 12, 12, seed=3) / 6, data)
    launches = [op.kernel.string_value() for op in module.walk() if op.name == "tile.launch"]
    assert sum(name.startswith("winograd") for name in launches) == 2


def test_channels_of_zeros_are_no_border(graph, check, target):
    g = graph(x=(1, 8, 12, 12))
    b = g.builder
    x = g.convolution(g["x"], g.weight("p", 16, 8, 1, 1))
    y = g.convolution(b.pad(x, [0, 8, 1, 1], [0, 8, 1, 1], 0.0), g.weight("w", 32, 32, 3, 3))
    data = {"p": array(16, 8, 1, 1) / 3, "w": array(32, 32, 3, 3, seed=1) / 17}
    module = run(check, target, g.returns(y), array(1, 8, 12, 12, seed=3), data)
    (kernel,) = [op for op in module.ops if isinstance(op, KernelOp) and op.template == "winograd"]
    assert not any(op.name == "tensor.insert_slice" for op in kernel.body.block.ops)


def test_the_text_of_the_steps(graph, target):
    module, _, _ = network(graph)
    for step in passes(target):
        step.apply(module, None)
    text = str(module)
    for expected in (
        "affine_map<(d0, d1, d2, d3, d4, d5, d6, d7, d8) -> (d2, d3, ((d4 * 4) + d7), ((d5 * 4) + d8), d6)>",
        "affine_map<(d0, d1, d2, d3, d4, d5, d6) -> ((d2 mod 4), d5)>",
        "affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d5, d6, d0, d1, (d2 floordiv 4), (d3 floordiv 4), d4)>",
        "dense<[[1.265625, 0.000000e+00, -2.812500e+00, 0.000000e+00, 1.000000e+00, 0.000000e+00]",
    ):
        assert expected in text


def test_text_is_recognised_again(graph, target, parse):
    module, _, _ = network(graph)
    for step in passes(target):
        step.apply(module, None)
    again = parse(str(module))
    assert str(again) == str(module) and steps_of(again) == [1, 1, 1]
