"""pack-weights: constant right factors in panels, with their epilogue."""

import numpy as np
import pytest
from xdsl.dialects.builtin import TensorType
from xdsl.dialects.func import FuncOp

from stepwell.dialects.tile import KernelOp
from stepwell.lowering.linalg import passes
from stepwell.lowering.linalg.pack_weights import panel_width
from stepwell.lowering.linalg_to_tile import FormKernels


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def linear(g, x, w, bias, spec):
    b = g.builder
    y = g.product(x, w, spec)
    return b.elementwise(lambda p, q: (p + q).maximum(0.0), y, bias, dtype=y.dtype)


@pytest.mark.parametrize(("rows", "spec"), [(20, "mk,nk->mn"), (20, "mk,kn->mn"), (1, "mk,nk->mn"), ("n", "mk,nk->mn")])
@pytest.mark.parametrize("columns", [32, 24, 33, 55, 10, 3])
def test_linear(graph, check, target, rows, columns, spec):
    g = graph(x=(rows, 12))
    shape = (columns, 12) if "nk" in spec else (12, columns)
    y = linear(g, g["x"], g.weight("w", *shape), g.weight("b", columns), spec)
    data = {"w": array(*shape, seed=1), "b": array(columns, seed=2)}
    x = array(3 if rows == "n" else rows, 12)
    module = check(g.returns(y), (*passes(target), FormKernels(target)), x, resources=data, rtol=1e-4, atol=1e-5)
    kernels = {op.sym_name.data: op for op in module.ops if isinstance(op, KernelOp)}
    entry = next(op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == "f")
    (launch,) = [op for op in entry.walk() if op.name == "tile.launch"]
    kernel = kernels[launch.kernel.string_value()]
    assert kernel.template == "matmul"
    packed = columns > 10
    assert (kernel.size("pack_b") == 0) == packed
    shape = (-(-columns // kernel.size("nr")), 12, kernel.size("nr")) if packed else (12, columns)
    assert shape in [t.get_shape() for t in kernel.function_type.inputs if isinstance(t, TensorType)]


def test_two_layers_and_a_reader_of_both(graph, check, target):
    g = graph(x=(6, 16))
    b = g.builder
    data = {"w": array(32, 16, seed=1), "b": array(32, seed=2), "v": array(16, 32, seed=3), "c": array(16, seed=4)}
    h = linear(g, g["x"], g.weight("w", 32, 16), g.weight("b", 32), "mk,nk->mn")
    y = linear(g, h, g.weight("v", 16, 32), g.weight("c", 16), "mk,nk->mn")
    y = b.elementwise(lambda p, q: p + q, y, g["x"], dtype=y.dtype)
    y = g.layer_norm(y, b.fill(1.0, [16], y.dtype), b.fill(0.0, [16], y.dtype))
    module = check(g.returns(y, h), (*passes(target), FormKernels(target)), array(6, 16), resources=data,
                   rtol=1e-3, atol=1e-4)  # fmt: skip
    assert sorted(op.template for op in module.ops if isinstance(op, KernelOp)) == [
        "map",
        "map",
        "matmul",
        "matmul",
        "rows",
    ]


def test_panels():
    assert panel_width(128, 768, 8, 16) == 16
    assert panel_width(128, 1000, 8, 16) == 16, "the last one is filled up"
    assert panel_width(128, 768, 16, 32) == 32
    assert panel_width(1, 1000, 16, 32) == 48, "1008 columns are read: any other width would read more"
    assert panel_width(128, 3, 16, 32) == 16
