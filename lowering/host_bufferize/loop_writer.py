"""Writing the small kernels that memory itself needs, at the loops level: what copies and borders have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import arith, func, scf
from xdsl.dialects.builtin import IndexType, IntegerAttr, i1, i64
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects import host
from stepwell.dialects.upstream import core

INDEX = IndexType()
EQUAL = IntegerAttr(0, i64)


class LoopWriter:
    """Writes the body of one kernel; `ops` is where the next op goes, `head` what stands before all of them."""

    def __init__(self, arguments: Sequence[Attribute]) -> None:
        self.block = Block(arg_types=arguments)
        self.head: list[Operation] = []
        self.ops: list[Operation] = []
        self.constants: dict[int, SSAValue] = {}

    def first(self, op: Operation) -> SSAValue:
        """An op at the kernel's beginning; its result."""
        self.head.append(op)
        return op.results[0]

    def add(self, op: Operation) -> SSAValue:
        """An op here; its result."""
        self.ops.append(op)
        return op.results[0]

    def constant(self, value: int) -> SSAValue:
        """An index, once."""
        if value not in self.constants:
            self.constants[value] = self.first(arith.ConstantOp(IntegerAttr(value, INDEX)))
        return self.constants[value]

    def loop(
        self, start: SSAValue, stop: SSAValue, step: int, body: Callable[[SSAValue], None], shared: bool = False
    ) -> None:
        """A loop, shared among the threads or not."""
        block = Block(arg_types=[INDEX])
        stride = self.constant(step)
        ops = self.collect(lambda: body(block.args[0]))
        if shared:
            block.add_ops([*ops, scf.ReduceOp()])
            self.ops.append(scf.ParallelOp([start], [stop], [stride], Region(block)))
        else:
            block.add_ops([*ops, scf.YieldOp()])
            self.ops.append(scf.ForOp(start, stop, stride, [], Region(block)))

    def guard(self, body: Callable[[], None]) -> None:
        """What only thread 0 does; no barrier follows yet."""
        self.ops += by_thread_zero(self.collect(body), self.constant(0))

    def by_thread_zero(self, body: Callable[[], None]) -> None:
        """What only thread 0 does while the others wait."""
        self.guard(body)
        self.ops.append(host.BarrierOp())

    def collect(self, body: Callable[[], None]) -> list[Operation]:
        """The ops that are written meanwhile."""
        outer, self.ops = self.ops, []
        body()
        inner, self.ops = self.ops, outer
        return inner

    def finish(self) -> None:
        """Put everything into the block."""
        self.block.add_ops([*self.head, *self.ops, func.ReturnOp()])


def by_thread_zero(ops: Sequence[Operation], zero: SSAValue) -> list[Operation]:
    """Ops that only thread 0 executes; no barrier follows yet."""
    number = host.ThreadIdOp.create(result_types=[INDEX])
    first = core.CmpiOp.create(operands=[number.result, zero], result_types=[i1], properties={"predicate": EQUAL})
    branch = scf.IfOp(first.results[0], [], Region(Block([*ops, scf.YieldOp()])))
    return [number, first, branch]
