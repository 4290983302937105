"""`distribute`: parallel loops become each thread's share of them.

    scf.parallel (%i) = (%a) to (%b) step (%s) { work }
 =>
    n = ceil((b - a) / s); chunk = ceil(n / threads); first = min(thread * chunk, n); last = min(first + chunk, n)
    scf.for %i = a + first * s to a + last * s step s { work }        (attribute host.chunk)
    host.barrier                                                        (see `barriers` for those that go)

Only outermost loops of one dimension are divided, contiguously; which thread does what changes no result. A
loop nested in another parallel loop, or in a chunk, stays and runs in sequence. The attribute says "divided", or
"single" where thread 0 does all: a loop of one iteration, or one that is marked host.alone. A program with single
ones only is run by one thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, scf
from xdsl.dialects.builtin import IndexType, IntegerAttr, ModuleOp
from xdsl.ir import Operation, Region, SSAValue

from stepwell.dialects import host
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.walk import every_op
from stepwell.lowering.cpu.barriers import drop_barriers
from stepwell.lowering.pass_ import Pass

INDEX = IndexType()


def distribute(module: ModuleOp) -> None:
    """Divide every outermost scf.parallel among the threads, in place, with no more barriers than are needed.

    Raises UnsupportedError for a parallel loop of several dimensions or with reductions.
    """
    found = [op for op in every_op(module) if type(op) is scf.ParallelOp and not _inside_parallel(op)]
    for op in found:
        _divide(op)
    drop_barriers(module)


def _inside_parallel(op: Operation) -> bool:
    parent = op.parent_op()
    while parent is not None:
        if isinstance(parent, scf.ParallelOp) or host.CHUNK in parent.attributes:
            return True
        parent = parent.parent_op()
    return False


def _divide(op: scf.ParallelOp) -> None:
    if len(op.lowerBound) != 1 or op.results or op.initVals:
        raise UnsupportedError("distribute: an outermost scf.parallel has one dimension and no reductions")
    (first,), (last,), (step,) = op.lowerBound, op.upperBound, op.step
    alone = host.ALONE in op.attributes
    shared = host.SINGLE if alone or _single(first, last, step) else host.DIVIDED
    write = _Writer(op)
    one = write.constant(1)
    trips = write(arith.CeilDivSIOp, write(arith.SubiOp, last, first), step)
    trips = write(arith.MaxSIOp, trips, write.constant(0))
    if alone:
        share = trips
    else:
        threads = write.ask(host.ThreadCountOp)
        share = write(arith.DivSIOp, write(arith.AddiOp, trips, write(arith.SubiOp, threads, one)), threads)
    begin = write(arith.MinSIOp, write(arith.MuliOp, write.ask(host.ThreadIdOp), share), trips)
    end = write(arith.MinSIOp, write(arith.AddiOp, begin, share), trips)
    bounds = [write(arith.AddiOp, first, write(arith.MuliOp, number, step)) for number in (begin, end)]
    body = op.body.block
    op.body.detach_block(body)
    terminator = body.last_op
    if terminator is not None:
        body.erase_op(terminator)
    body.add_op(scf.YieldOp())
    loop = scf.ForOp.create(
        operands=(*bounds, step), regions=[Region(body)], attributes={host.CHUNK: shared}, location=op.location
    )
    block = op.parent
    assert block is not None
    block.insert_ops_before([*write.ops, loop, host.BarrierOp.create(location=op.location)], op)
    block.erase_op(op)


def _single(first: SSAValue, last: SSAValue, step: SSAValue) -> bool:
    """Whether a loop is known to have at most one iteration."""
    known: list[int] = []
    for value in (first, last, step):
        owner = value.owner
        if not isinstance(owner, arith.ConstantOp) or not isinstance(owner.value, IntegerAttr):
            return False
        known.append(owner.value.value.data)
    return known[1] - known[0] <= known[2]


class _Writer:
    """Writes index arithmetic."""

    def __init__(self, op: Operation) -> None:
        self.location = op.location
        self.ops: list[Operation] = []

    def __call__(self, kind: type[Operation], left: SSAValue, right: SSAValue) -> SSAValue:
        flagged = kind in (arith.AddiOp, arith.SubiOp, arith.MuliOp)
        properties = {"overflowFlags": arith.IntegerOverflowAttr("none")} if flagged else {}
        op = kind.create(operands=(left, right), result_types=(INDEX,), properties=properties, location=self.location)
        self.ops.append(op)
        return op.results[0]

    def constant(self, value: int) -> SSAValue:
        op = arith.ConstantOp.create(result_types=(INDEX,), properties={"value": IntegerAttr(value, INDEX)})
        self.ops.append(op)
        return op.results[0]

    def ask(self, kind: type[Operation]) -> SSAValue:
        op = kind.create(result_types=(INDEX,), location=self.location)
        self.ops.append(op)
        return op.results[0]


@dataclass(frozen=True)
class Distribute(Pass):
    """Give each thread its share of every parallel loop, with a barrier after, but between kernels of thread 0.
    After: no scf.parallel is outermost."""

    name = "distribute"

    def apply(self, module: ModuleOp, context: Context) -> None:
        distribute(module)
