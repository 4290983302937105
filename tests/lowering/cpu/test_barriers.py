"""Between kernels that thread 0 does alone there is no barrier; wherever somebody else could look, there is one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.parser import Parser

import stepwell
from stepwell.compiler.backends.target import host as this_machine
from stepwell.dialects import context
from stepwell.lowering.cpu.distribute import distribute
from stepwell.runtime import threads

KERNELS = """
func.func private @alone(%x: memref<8xf32>) {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %c1 = arith.constant 1 : index
  "scf.parallel"(%c0, %c8, %c1) <{operandSegmentSizes = array<i32: 1, 1, 1, 0>}> ({
  ^bb0(%i: index):
    %v = memref.load %x[%i] : memref<8xf32>
    memref.store %v, %x[%i] : memref<8xf32>
    scf.reduce
  }) {host.alone} : (index, index, index) -> ()
  func.return
}
func.func private @all(%x: memref<8xf32>) {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %c1 = arith.constant 1 : index
  "scf.parallel"(%c0, %c8, %c1) <{operandSegmentSizes = array<i32: 1, 1, 1, 0>}> ({
  ^bb0(%i: index):
    %v = memref.load %x[%i] : memref<8xf32>
    memref.store %v, %x[%i] : memref<8xf32>
    scf.reduce
  }) : (index, index, index) -> ()
  func.return
}
"""
ALONE = "func.call @alone(%x) : (memref<8xf32>) -> ()"
ALL = "func.call @all(%x) : (memref<8xf32>) -> ()"
LOAD = "%v{} = memref.load %x[%c0] : memref<8xf32>"
LOCAL = "%y{} = arith.addi %c0, %c0 : index"


def distributed(*body: str) -> tuple[ModuleOp, list[str]]:
    """The module, and what the entry does in order: alone, all, barrier, load, loop."""
    lines = "\n".join(line.format(n) for n, line in enumerate(body))
    text = f"""{KERNELS}
    func.func @f(%x: memref<8xf32>) attributes {{host.entry}} {{
      %c0 = arith.constant 0 : index
      {lines}
      func.return
    }}"""
    module = Parser(context(), text).parse_module()
    distribute(module)
    module.verify()
    entry = next(op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == "f")
    words = {"host.barrier": "barrier", "memref.load": "load"}
    return module, [
        op.callee.root_reference.data if op.name == "func.call" else words[op.name]  # type: ignore[attr-defined]
        for op in entry.walk()
        if op.name == "func.call" or op.name in words
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ((ALONE, ALONE, ALONE), "alone alone alone barrier"),
        ((ALONE, LOCAL, ALONE), "alone alone barrier"),
        ((ALONE, ALL, ALONE), "alone barrier all alone barrier"),
        ((ALONE, LOAD, ALONE), "alone barrier load alone barrier"),
        ((ALL, ALL), "all all"),
    ],
)
def test_a_barrier_stands_where_others_could_look(body: tuple[str, ...], expected: str) -> None:
    module, done = distributed(*body)
    assert done == expected.split()
    barriers = {
        op.sym_name.data: sum(inner.name == "host.barrier" for inner in op.walk())
        for op in module.ops
        if isinstance(op, FuncOp)
    }
    assert barriers["alone"] == 0 and barriers["all"] == 1


def test_two_threads_give_the_bits_of_one_in_a_loop_of_small_and_large_kernels() -> None:
    """Products that are shared, cells that are not, again and again."""

    def recurrence(x: stepwell.Tensor, w: stepwell.Tensor, steps: int) -> stepwell.Tensor:
        h = x[:1] * 1.0
        total = x * 0.0
        for _i in range(steps):
            h = (h @ w).tanh()
            h = h / (1.0 + h.abs().max())
            total = (total + (x + h) @ w).sigmoid()
        return total + h

    random = np.random.default_rng(0)
    x, w = random.standard_normal((96, 512), dtype=np.float32), random.standard_normal((512, 512), dtype=np.float32)
    scripted = stepwell.compile(recurrence, target=replace(this_machine(), cores=2))
    before = threads.get_num_threads()
    try:
        threads.set_num_threads(1)
        want = scripted(x, w, 12)
        assert scripted._method.last.native.layout.parallel
        threads.set_num_threads(2)
        for _ in range(15):
            assert scripted(x, w, 12).tobytes() == want.tobytes()
    finally:
        threads.set_num_threads(before)
