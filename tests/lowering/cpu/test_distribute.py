"""A parallel loop becomes each thread's shares of it, and a barrier."""

from itertools import permutations

import numpy as np
import pytest
from xdsl.dialects.builtin import UnitAttr
from xdsl.parser import Parser

from stepwell.compiler.interpreter.machine import Machine
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
def test_each_thread_gets_shares() -> None:
    module = Parser(context(), PROGRAM).parse_module()
    distribute(module)
    module.verify()
    text = str(module)
    names = [op.name for op in module.walk()]
    assert names.count("host.thread_id") == names.count("host.thread_count") == names.count("host.next_share") == 1
    assert "scf.parallel" not in names
    inside = next(op for op in module.walk() if op.name == "scf.for")
    assert inside.parent_op().name == "scf.while"
    assert inside.next_op is not None and inside.next_op.name == "host.next_share"
    assert text.rindex("host.barrier") > text.rindex("scf.yield")


VISITS = """
func.func @f(%x: memref<200xi64>, %first: index, %last: index, %step: index) {
  "scf.parallel"(%first, %last, %step) <{operandSegmentSizes = array<i32: 1, 1, 1, 0>}> ({
  ^bb0(%i: index):
    %v = memref.load %x[%i] : memref<200xi64>
    %n = host.thread_id : index
    %one = arith.constant 1 : i64
    %w = arith.addi %v, %one : i64
    memref.store %w, %x[%i] : memref<200xi64>
    scf.reduce
  }) : (index, index, index) -> ()
  func.return
}
"""


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_every_iteration_is_done_once_whoever_comes_first(threads: int) -> None:
    module = Parser(context(), VISITS).parse_module()
    distribute(module)
    machine = Machine(module)
    orders = list(permutations(range(threads)))
    for trips in (*range(0, 36), 97, 180):
        for first, step in ((0, 1), (3, 1), (2, 5)):
            last = min(200, first + trips * step - (step > 1))
            done = np.zeros(200, np.int64)
            machine.call("f", [done, first, last, step], threads=threads, order=orders[trips % len(orders)])
            expected = np.zeros(200, np.int64)
            expected[first : max(first, last) : step] = 1
            np.testing.assert_array_equal(done, expected)


def test_a_thread_begins_with_a_region_of_its_own() -> None:
    """With the interpreter's turns the first thread takes all that is left: half of the other's region is not."""
    text = VISITS.replace("arith.addi %v, %one : i64", "arith.index_cast %n : index to i64")
    module = Parser(context(), text).parse_module()
    distribute(module)
    for order in ([0, 1], [1, 0]):
        done = np.zeros(200, np.int64)
        Machine(module).call("f", [done, 0, 160, 1], threads=2, order=order)
        owners = done[:160].tolist()
        assert owners[:40] == [0] * 40 and owners[80:120] == [1] * 40
        assert owners[40:80] == [order[0]] * 40 and owners[120:] == [order[0]] * 40


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
    assert names.count("host.thread_id") == 1 and "host.next_share" not in names and "host.thread_count" not in names
