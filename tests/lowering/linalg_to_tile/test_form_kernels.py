"""form-kernels: which kernels come out, and that the numbers stay."""

from collections import Counter

import numpy as np
import pytest

from stepwell.dialects.tile import KernelOp, LaunchOp
from stepwell.lowering.analysis.registers import convolution_tile, register_tile, streams
from stepwell.lowering.linalg.canonicalize import Canonicalize
from stepwell.lowering.linalg.cse import Cse
from stepwell.lowering.linalg.dce import Dce
from stepwell.lowering.linalg.fuse_elementwise import FuseElementwise
from stepwell.lowering.linalg_to_tile import FormKernels


@pytest.fixture
def form(check, target):
    """Run everything up to kernels; the module."""
    passes = (Canonicalize(), Cse(), Dce(), FuseElementwise(), Canonicalize(), Cse(), Dce(), FormKernels(target))
    return lambda module, *arguments, **options: check(
        module, passes, *arguments, **({"rtol": 1e-5, "atol": 1e-6} | options)
    )


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def templates(module):
    return Counter(op.template for op in module.ops if isinstance(op, KernelOp))


def launches(module):
    return sum(isinstance(op, LaunchOp) for op in module.walk())


def relu(b, x):
    return b.elementwise(lambda e: e.maximum(0.0), x, dtype=x.dtype)


def add(b, x, y):
    return b.elementwise(lambda p, q: p + q, x, y, dtype=x.dtype)


def test_matmul_takes_its_epilogue(graph, form):
    g = graph(x=(6, 8), w=(8, 5), bias=(5,))
    y = relu(g.builder, add(g.builder, g.product(g["x"], g["w"], "mk,kn->mn"), g["bias"]))
    module = form(g.returns(y), array(6, 8), array(8, 5, seed=1), array(5, seed=2))
    assert templates(module) == {"matmul": 1}
    assert not any(op.name.startswith("linalg") for f in module.ops if f.name == "func.func" for op in f.walk())


def test_a_result_that_is_also_read_elsewhere_ends_the_kernel(graph, form):
    g = graph(x=(6, 8), w=(8, 5))
    y = g.product(g["x"], g["w"], "mk,kn->mn")
    module = form(g.returns(relu(g.builder, y), y), array(6, 8), array(8, 5, seed=1))
    assert templates(module) == {"matmul": 1, "map": 1}


def test_softmax_is_one_kernel(graph, form):
    g = graph(x=(4, 3, 7))
    module = form(g.returns(g.softmax(g["x"])), array(4, 3, 7))
    assert templates(module) == {"rows": 1}


def test_residual_and_layer_norm_are_one_kernel_with_two_results(graph, form):
    g = graph(x=(4, 7), y=(4, 7), s=(7,), t=(7,))
    total = add(g.builder, g["x"], g["y"])
    normal = g.layer_norm(total, g["s"], g["t"])
    module = form(g.returns(add(g.builder, normal, total), total), *(array(4, 7, seed=i) for i in range(2)),
                  array(7, seed=3), array(7, seed=4))  # fmt: skip
    assert templates(module) == {"rows": 1}
    (launch,) = [op for op in module.walk() if isinstance(op, LaunchOp)]
    assert len(launch.results) == 2


def test_equal_kernels_are_shared(graph, form):
    g = graph(x=(6, 8), v=(8, 8), w=(8, 8))
    y = g.product(relu(g.builder, g.product(g["x"], g["v"], "mk,kn->mn")), g["w"], "mk,kn->mn")
    module = form(g.returns(relu(g.builder, y)), array(6, 8), array(8, 8, seed=1), array(8, 8, seed=2))
    assert templates(module) == {"matmul": 1} and launches(module) == 2


def test_dynamic_sizes(graph, form):
    g = graph(x=("n", 8), w=(8, 5), bias=(5,))
    b = g.builder
    y = g.softmax(add(b, g.product(g["x"], g["w"], "mk,kn->mn"), g["bias"]))
    module = form(g.returns(y), array(3, 8), array(8, 5, seed=1), array(5, seed=2))
    assert templates(module) == {"matmul": 1, "rows": 1}


def test_several_results_over_one_space(graph, form):
    g = graph(x=(6, 8), y=(6, 8))
    b, x, y = g.builder, g["x"], g["y"]
    p = b.elementwise(lambda a, c: (a * c).math("exp"), x, y, dtype=x.dtype)
    q = b.elementwise(lambda a: a.math("tanh"), p, dtype=x.dtype)
    r = b.elementwise(lambda a, c: a - c, x, p, dtype=x.dtype)
    module = form(g.returns(p, q, r), array(6, 8), array(6, 8, seed=1))
    assert templates(module) == {"map": 1} and launches(module) == 1


def test_two_reductions_of_one_tensor(graph, form):
    g = graph(x=(6, 8))
    b = g.builder
    low = b.reduce(lambda a, e: a.minimum(e), np.inf, g["x"], [0, 1])
    high = b.reduce(lambda a, e: a.maximum(e), -np.inf, g["x"], [0, 1])
    module = form(g.returns(low, high), array(6, 8))
    assert templates(module) == {"rows": 1} and launches(module) == 1


def test_readers_between_close_a_group(graph, form):
    """A reshape of the first result is read by the matmul, whose result the third op needs: two kernels."""
    g = graph(x=(6, 8), w=(8, 8))
    b = g.builder
    p = b.elementwise(lambda a: a.math("exp"), g["x"], dtype=g["x"].dtype)
    q = g.product(p, g["w"], "mk,kn->mn")
    r = b.elementwise(lambda a, c: (a * c).math("sin"), p, q, dtype=p.dtype)
    s = g.softmax(add(b, r, p))
    module = form(g.returns(r, s), array(6, 8), array(8, 8, seed=1))
    assert templates(module)["matmul"] == 1


def test_fills_slices_and_gathers(graph, form):
    g = graph(x=(6, 8))
    b = g.builder
    zeros = b.fill(0.5, [2, 8], g["x"].dtype)
    whole = b.concatenate([g["x"], zeros, relu(b, b.slice(g["x"], [1, 0], [3, 8], [1, 1]))], 0)
    module = form(g.returns(whole), array(6, 8))
    assert templates(module) == {"map": 2}


def test_convolution_and_pooling(graph, form):
    g = graph(x=(1, 4, 9, 9), w=(6, 4, 3, 3))
    y = relu(g.builder, g.convolution(g["x"], g["w"], 2, 1))
    module = form(g.returns(g.pooling(y, 2, 1)), array(1, 4, 9, 9), array(6, 4, 3, 3, seed=1))
    assert templates(module)["window"] == 1 and launches(module) == 3


def test_kernels_inside_loops(check, target):
    text = """func.func @f(%x : tensor<4x5xf32>, %n : index) -> tensor<4x5xf32> attributes {host.entry} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %two = arith.constant 2.0 : f32
      %r = scf.for %i = %c0 to %n step %c1 iter_args(%v = %x) -> (tensor<4x5xf32>) {
        %k = arith.index_cast %i : index to i64
        %s = arith.sitofp %k : i64 to f32
        %e = tensor.empty() : tensor<4x5xf32>
        %w = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
            iterator_types = ["parallel", "parallel"]} ins(%v : tensor<4x5xf32>) outs(%e : tensor<4x5xf32>) {
          ^bb0(%a: f32, %o: f32):
            %p = arith.mulf %a, %two : f32
            %q = arith.addf %p, %s : f32
            linalg.yield %q : f32
        } -> tensor<4x5xf32>
        scf.yield %w : tensor<4x5xf32>
      }
      func.return %r : tensor<4x5xf32>
    }"""
    module = check(text, [FormKernels(target)], array(4, 5), 3)
    (kernel,) = [op for op in module.ops if isinstance(op, KernelOp)]
    assert [str(t) for t in kernel.function_type.inputs] == ["tensor<4x5xf32>", "f32"]


@pytest.mark.parametrize(
    ("rows", "columns", "lanes", "registers", "expected"),
    [(512, 512, 8, 16, (6, 2)), (512, 512, 16, 32, (14, 2)), (1, 512, 8, 16, (1, 6))],
)
def test_register_tiles(rows, columns, lanes, registers, expected):
    height, vectors = register_tile(rows, columns, lanes, registers)
    assert height * vectors + vectors + 1 <= registers
    assert vectors == expected[1] and abs(height - expected[0]) <= 1


@pytest.mark.parametrize(
    ("rows", "depth", "expected"),
    [(1, 768, 8), (1, 4096, 8), (4, 4096, 1), (8, 1024, 8), (8, 768, 8), (9, 768, 1), (2, 3, 1), (0, 0, 1)],
)
def test_a_weight_comes_in_several_streams_where_few_rows_wait_for_it(rows, depth, expected):
    """Not where the parts' lines of A would share sets of the cache."""
    assert streams(rows, depth, 4) == expected


def test_convolution_tiles():
    assert convolution_tile(56, 8, 1, 16) == (4, 2) or convolution_tile(56, 8, 1, 16) == (5, 2)
    for columns in (7, 14, 28, 56, 112):
        width, count = convolution_tile(columns, 4, 1, 16)
        assert width * count + count + 1 <= 16
