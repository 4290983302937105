"""sink-reshapes and absorb-transposes: what stood between a contraction and its reader is gone."""

import numpy as np
import pytest
from xdsl.dialects.func import FuncOp
from xdsl.dialects.linalg.ops import GenericOp

from stepwell.dialects.tile import KernelOp
from stepwell.lowering.linalg import SIMPLIFY, AbsorbTransposes, SinkReshapes, passes, structure
from stepwell.lowering.linalg_to_tile import FormKernels


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def kernels(module):
    return sorted(op.template for op in module.ops if isinstance(op, KernelOp))


def test_epilogue_on_the_other_side_of_an_expand(graph, check, target):
    g = graph(x=(6, 8), w=(8, 8), r=(2, 3, 8), bias=(8,))
    b = g.builder
    y = b.reshape(g.product(g["x"], g["w"], "mk,kn->mn"), [2, 3, 8])
    y = b.elementwise(lambda p, q: p + q, y, g["bias"], dtype=y.dtype)
    y = b.elementwise(lambda p, q: (p + q).maximum(0.0), y, g["r"], dtype=y.dtype)
    module = check(g.returns(y), (*passes(target), FormKernels(target)), array(6, 8), array(8, 8, seed=1),
                   array(2, 3, 8, seed=2), array(8, seed=3), rtol=1e-5, atol=1e-6)  # fmt: skip
    assert kernels(module) == ["matmul"]


def test_elementwise_over_a_collapse(graph, check):
    g = graph(x=(2, 3, 4), s=(12,))
    b = g.builder
    y = b.elementwise(lambda p: p.math("tanh"), g["x"], dtype=g["x"].dtype)
    y = b.elementwise(lambda p, q: p + q, b.reshape(y, [2, 12]), g["s"], dtype=y.dtype)
    module = check(g.returns(y), SIMPLIFY, array(2, 3, 4), array(12), rtol=1e-6)
    assert sum(isinstance(op, GenericOp) for op in module.walk()) == 1


def test_an_operand_that_is_broadcast_inside_a_group_forbids_it(graph, check):
    g = graph(x=(6, 8), s=(2, 1, 8))
    b = g.builder
    y = b.reshape(b.elementwise(lambda p: p.math("tanh"), g["x"], dtype=g["x"].dtype), [2, 3, 8])
    y = b.elementwise(lambda p, q: p + q, y, g["s"], dtype=y.dtype)
    before = check(g.returns(y), (SinkReshapes(),), array(6, 8), array(2, 1, 8))
    assert sum(isinstance(op, GenericOp) for op in before.walk()) == 2


def test_attention_needs_no_transposes(graph, check, target):
    g = graph(x=(2, 6, 8), wq=(8, 8), wk=(8, 8), wv=(8, 8), wo=(8, 8))
    b = g.builder

    def heads(weight):
        flat = b.reshape(g["x"], [12, 8])
        return b.transpose(b.reshape(g.product(flat, weight, "mk,kn->mn"), [2, 6, 2, 4]), [0, 2, 1, 3])

    q, k, v = heads(g["wq"]), heads(g["wk"]), heads(g["wv"])
    scores = g.product(q, b.transpose(k, [0, 1, 3, 2]), "bhmk,bhkn->bhmn")
    scores = b.elementwise(lambda e: e * 0.5, scores, dtype=scores.dtype)
    context = g.product(g.softmax(scores), v, "bhmk,bhkn->bhmn")
    merged = b.reshape(b.transpose(context, [0, 2, 1, 3]), [12, 8])
    out = b.reshape(g.product(merged, g["wo"], "mk,kn->mn"), [2, 6, 8])
    out = b.elementwise(lambda p, r: p + r, out, g["x"], dtype=out.dtype)
    module = check(g.returns(out), (*passes(target), FormKernels(target)), array(2, 6, 8),
                   *(array(8, 8, seed=i) for i in range(1, 5)), rtol=1e-4, atol=1e-5)  # fmt: skip
    assert kernels(module) == ["attention", "matmul", "matmul"]
    assert not any(structure.is_data_movement(op) for op in module.walk() if isinstance(op, GenericOp))


def test_transposed_result_with_dynamic_sizes(graph, check):
    g = graph(x=("n", 6, 8), y=("n", 8, 4))
    b = g.builder
    y = b.transpose(g.product(g["x"], g["y"], "bmk,bkn->bmn"), [1, 0, 2])
    module = check(g.returns(y), (AbsorbTransposes(), *SIMPLIFY), array(3, 6, 8), array(3, 8, 4), rtol=1e-5)
    (op,) = [op for op in module.walk() if isinstance(op, GenericOp)]
    assert structure.contraction(op) is not None


def test_epilogue_with_a_batch_of_one(graph, check, target):
    g = graph(x=(1, 6, 8), w=(8, 8), bias=(8,))
    b = g.builder
    y = b.reshape(g.product(b.reshape(g["x"], [6, 8]), g["w"], "mk,kn->mn"), [1, 6, 8])
    y = b.elementwise(lambda p, q: p + q, y, g["bias"], dtype=y.dtype)
    y = b.elementwise(lambda p, q: (p + q).math("tanh"), y, g["x"], dtype=y.dtype)
    module = check(g.returns(y), (*passes(target), FormKernels(target)), array(1, 6, 8), array(8, 8, seed=1),
                   array(8, seed=3), rtol=1e-5, atol=1e-6)  # fmt: skip
    assert kernels(module) == ["matmul"]


@pytest.mark.parametrize("batch", [2, "n"])
def test_attention_with_heads_flattened_into_the_batch(graph, check, target, batch):
    """As torch's own multi-head attention does it: one product for q, k and v, slices, bmm over batch * heads."""
    g = graph(x=(batch, 6, 8))
    b = g.builder
    n = g["x"].sizes[0]
    flat = b.reshape(g["x"], [n * 6, 8])
    qkv = b.reshape(g.product(flat, g.weight("w", 24, 8), "mk,nk->mn"), [n, 6, 24])

    def heads(number, order):
        part = b.reshape(b.slice(qkv, [0, 0, 8 * number], [n, 6, 8], [1, 1, 1]), [n, 6, 2, 4])
        moved = b.transpose(part, order)
        return b.reshape(moved, [n * 2, *moved.sizes[2:]])

    scores = g.product(heads(0, [0, 2, 1, 3]), heads(1, [0, 2, 3, 1]), "bmk,bkn->bmn")
    scores = b.reshape(g.softmax(b.reshape(scores, [n, 2, 6, 6])), [n * 2, 6, 6])
    context = b.reshape(g.product(scores, heads(2, [0, 2, 1, 3]), "bmk,bkn->bmn"), [n, 2, 6, 4])
    merged = b.reshape(b.transpose(context, [0, 2, 1, 3]), [n * 6, 8])
    out = b.reshape(g.product(merged, g.weight("v", 8, 8), "mk,nk->mn"), [n, 6, 8])
    data = {"w": array(24, 8, seed=1), "v": array(8, 8, seed=2)}
    module = check(g.returns(out), (*passes(target), FormKernels(target)), array(2, 6, 8), resources=data,
                   rtol=1e-4, atol=1e-5)  # fmt: skip
    if batch == 2:
        entry = next(op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == "f")
        launched = [op.kernel.string_value().split("_")[0] for op in entry.walk() if op.name == "tile.launch"]
        assert launched == ["matmul", "attention", "matmul"]
        assert not any(op.name == "tensor.extract_slice" for op in entry.walk())


def test_slices_of_columns_with_dynamic_rows(graph, check):
    g = graph(x=("n", 12))
    b = g.builder
    n = g["x"].sizes[0]
    left, right = (b.slice(g["x"], [0, at], [n, 6], [1, 1]) for at in (0, 6))
    y = b.elementwise(lambda p, q: p * q.math("tanh"), left, right, dtype=left.dtype)
    module = check(g.returns(y), SIMPLIFY, array(5, 12), rtol=1e-6)
    assert not any(op.name == "tensor.extract_slice" for op in module.walk())
