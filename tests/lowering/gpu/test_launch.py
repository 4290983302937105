"""The interpreter of launches says so where a kernel would only sometimes be right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from xdsl.dialects import gpu, memref, scf

from stepwell.compiler.interpreter import InterpreterError
from stepwell.compiler.interpreter.gpu import launch
from stepwell.lowering.gpu import device, functions_of, geometry, lower_kernels


@pytest.fixture
def product(graph: Any, formed: Any) -> gpu.FuncOp:
    """A product with two slices: shared memory, barriers, a loop."""
    g = graph(a=(20, 32), b=(32, 64))
    module, notes = lower_kernels(formed(g.returns(g.product(g["a"], g["b"], "mk,kn->mn"))), device())
    assert not notes
    return functions_of(module)[-1]


def run(function: gpu.FuncOp) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((20, 32), np.float32), rng.random((32, 64), np.float32)
    result = np.zeros((20, 64), np.float32)
    launch(function, [a, b], [result])
    np.testing.assert_allclose(result, a @ b, rtol=1e-5)


def erase(function: gpu.FuncOp, kind: type, number: int) -> None:
    found = [op for op in function.walk() if isinstance(op, kind)]
    block = found[number].parent
    assert block is not None
    block.erase_op(found[number])


def test_a_whole_kernel_runs(product: gpu.FuncOp) -> None:
    run(product)


@pytest.mark.parametrize("number", [0, 1])
def test_a_missing_barrier_is_found(product: gpu.FuncOp, number: int) -> None:
    erase(product, gpu.BarrierOp, number)
    with pytest.raises(InterpreterError, match=r"since the last barrier"):
        run(product)


def test_a_barrier_that_not_all_reach_is_found(product: gpu.FuncOp) -> None:
    barrier = next(op for op in product.walk() if isinstance(op, gpu.BarrierOp))
    guard = next(op for op in product.walk() if isinstance(op, scf.IfOp))
    barrier.detach()
    block = guard.regions[0].block
    assert block.first_op is not None
    block.insert_op_before(barrier, block.first_op)
    with pytest.raises(InterpreterError, match=r"not all threads reach|since the last barrier"):
        run(product)


def test_a_missing_store_is_found(graph: Any, formed: Any) -> None:
    g = graph(x=(100, 30))
    module, _ = lower_kernels(formed(g.returns(g.softmax(g["x"]))), device())
    (function,) = functions_of(module)
    erase(function, memref.StoreOp, 0)
    with pytest.raises(InterpreterError, match="is not written"):
        launch(function, [np.ones((100, 30), np.float32)], [np.zeros((100, 30), np.float32)])


def test_too_few_blocks_are_found(graph: Any, formed: Any) -> None:
    g = graph(x=(1001,))
    module, _ = lower_kernels(formed(g.returns(g.builder.elementwise(lambda e: -e, g["x"], dtype=g["x"].dtype))), device())
    (function,) = functions_of(module)
    function.attributes[geometry.GRID] = geometry.ArrayAttr([geometry.StringAttr("0")])
    with pytest.raises(InterpreterError, match="element 0 of result 0 is not written"):
        launch(function, [np.ones(1001, np.float32)], [np.zeros(1001, np.float32)])
