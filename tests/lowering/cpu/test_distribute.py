"""A parallel loop becomes this thread's share of it, and a barrier."""

import pytest
from xdsl.dialects.builtin import UnitAttr
from xdsl.parser import Parser

from stepwell.dialects import context
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.lowering.cpu.distribute import distribute

PROGRAM = """
func.func private @k(%x: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c4 = arith.constant 4 : index
  "scf.parallel"(%c0, %n, %c4) <{operandSegmentSizes = array<i32: 1, 1, 1, 0>}> ({
  ^bb0(%i: index):
    %v = memref.load %x[%i] : memref<?xf32>
    memref.store %v, %x[%i] : memref<?xf32>
    scf.reduce
  }) : (index, index, index) -> ()
  func.return
}
"""
EXPECTED = """
    scf.for %i = %15 to %17 step %c4 {
      %v = memref.load %x[%i] : memref<?xf32>
      memref.store %v, %x[%i] : memref<?xf32>
    } {host.chunk = "divided"}
    host.barrier
    func.return
"""


def test_each_thread_gets_a_share() -> None:
    module = Parser(context(), PROGRAM).parse_module()
    distribute(module)
    module.verify()
    text = str(module)
    assert EXPECTED in text
    names = [op.name for op in module.walk()]
    assert names.count("host.thread_id") == names.count("host.thread_count") == 1
    assert "scf.parallel" not in names


def test_loops_of_two_dimensions_are_refused() -> None:
    text = PROGRAM.replace("(%c0, %n, %c4)", "(%c0, %c0, %n, %n, %c4, %c4)").replace("1, 1, 1, 0", "2, 2, 2, 0")
    text = text.replace("^bb0(%i: index)", "^bb0(%i: index, %j: index)").replace(
        "(index, index, index)", "(index, index, index, index, index, index)"
    )
    with pytest.raises(UnsupportedError, match="one dimension"):
        distribute(Parser(context(), text).parse_module())


def test_a_single_iteration_is_marked() -> None:
    module = Parser(context(), PROGRAM.replace("(%c0, %n, %c4)", "(%c0, %c4, %c4)")).parse_module()
    distribute(module)
    assert 'host.chunk = "single"' in str(module)


def test_what_is_for_one_thread_is_done_by_the_first() -> None:
    module = Parser(context(), PROGRAM).parse_module()
    loop = next(op for op in module.walk() if op.name == "scf.parallel")
    loop.attributes["host.alone"] = UnitAttr()
    distribute(module)
    module.verify()
    names = [op.name for op in module.walk()]
    assert 'host.chunk = "single"' in str(module)
    assert names.count("host.thread_id") == 1 and "host.thread_count" not in names
