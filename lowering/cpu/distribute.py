"""`distribute`: parallel loops become each thread's shares of them.

    scf.parallel (%i) = (%a) to (%b) step (%s) { work }
 =>
    n = ceil((b - a) / s); region = ceil(n / threads); small = max(region / 8, 1); pieces = min(region / 2, 4)
    first = thread * region; last = first + region - pieces * small
    scf.while (share = -1, first, last) : share < pieces * threads {
      scf.for %i = first to last { work }                               (attribute host.chunk)
      share = host.next_share; first, last = piece share / threads of the region of thread share % threads
    }
    host.barrier                                                        (see `barriers` for those that go)

Each thread begins with the larger part of a contiguous region of its own; the rest of all regions is left in small
pieces to whoever comes first, so that a thread that is slowed down does not hold up the others. Which thread does
what changes no result. Only outermost loops of one dimension are divided. A loop nested in another parallel loop, or
in a chunk, stays and runs in sequence. The attribute says "divided", or "single" where thread 0 does all: a loop of
one iteration, or one that is marked host.alone. A program with single ones only is run by one thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, scf
from xdsl.dialects.builtin import IndexType, IntegerAttr, ModuleOp, StringAttr, i1, i64
from xdsl.ir import Block, Operation, Region, SSAValue

from stepwell.dialects import host
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.quick_ir import NOTHING, index_attribute, make
from stepwell.dialects.upstream import core
from stepwell.dialects.walk import every_op
from stepwell.lowering.cpu.barriers import drop_barriers
from stepwell.lowering.pass_ import Pass

INDEX = IndexType()
LESS = IntegerAttr(2, i64)
NO_OVERFLOW = {"overflowFlags": arith.IntegerOverflowAttr("none")}

PIECES, PIECE = 4, 8
"""How many small pieces of each thread's region are left to whoever comes first, and which part of it one of them is."""


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
    write = _Writer(op)
    if host.ALONE in op.attributes or _single(op.lowerBound[0], op.upperBound[0], op.step[0]):
        _for_thread_zero(op, write)
    else:
        _in_shares(op, write)
    block = op.parent
    assert block is not None
    block.insert_ops_before([*write.ops, host.BarrierOp.create(location=op.location)], op)
    block.erase_op(op)


def _for_thread_zero(op: scf.ParallelOp, write: _Writer) -> None:
    """All iterations for thread 0, none for the others."""
    (first,), (last,) = op.lowerBound, op.upperBound
    others = write(arith.MinSIOp, write.ask(host.ThreadIdOp), write.constant(1))
    length = write(arith.MaxSIOp, write(arith.SubiOp, last, first), write.constant(0))
    begin = write(arith.AddiOp, first, write(arith.MuliOp, others, length))
    write.ops.append(_chunk(op, begin, last, host.SINGLE))


def _in_shares(op: scf.ParallelOp, write: _Writer) -> None:
    """A thread's own share, then such as nobody has taken."""
    (first,), (last,), (step,) = op.lowerBound, op.upperBound, op.step
    one = write.constant(1)
    trips = write(arith.MaxSIOp, write(arith.CeilDivSIOp, write(arith.SubiOp, last, first), step), write.constant(0))
    threads, thread = write.ask(host.ThreadCountOp), write.ask(host.ThreadIdOp)
    region = write(arith.CeilDivSIOp, trips, threads)
    small = write(arith.MaxSIOp, write(arith.DivSIOp, region, write.constant(PIECE)), one)
    left = write(arith.MinSIOp, write(arith.DivSIOp, region, write.constant(2)), write.constant(PIECES))
    # One thread takes everything at once.
    left = write(arith.MuliOp, left, write(arith.MinSIOp, write(arith.SubiOp, threads, one), one))
    large = write(arith.SubiOp, region, write(arith.MuliOp, left, small))
    shares = write(arith.MuliOp, left, threads)

    def bounds(write: _Writer, begin: SSAValue, size: SSAValue) -> tuple[SSAValue, SSAValue]:
        end = write(arith.AddiOp, begin, size)
        numbers = (write(arith.MinSIOp, number, trips) for number in (begin, end))
        begin, end = (write(arith.AddiOp, first, write(arith.MuliOp, number, step)) for number in numbers)
        return begin, end

    own = bounds(write, write(arith.MuliOp, thread, region), large)
    before, after = Block(arg_types=[INDEX] * 3), Block(arg_types=[INDEX] * 2)
    test = core.CmpiOp.create(operands=(before.args[0], shares), result_types=[i1], properties={"predicate": LESS})
    before.add_ops([test, scf.ConditionOp(test.results[0], *before.args[1:])])
    inside = _Writer(op)
    begin, end = after.args
    inside.ops.append(_chunk(op, begin, end, host.DIVIDED))
    number = inside(arith.MinSIOp, inside.ask(host.NextShareOp), shares)
    owner, piece = (inside(kind, number, threads) for kind in (arith.RemSIOp, arith.DivSIOp))
    offset = inside(arith.AddiOp, large, inside(arith.MuliOp, piece, small))
    following = bounds(inside, inside(arith.AddiOp, inside(arith.MuliOp, owner, region), offset), small)
    after.add_ops([*inside.ops, scf.YieldOp(number, *following)])
    inits = (write.constant(-1), *own)
    write.ops.append(scf.WhileOp(inits, [INDEX] * 2, Region(before), Region(after)))


def _chunk(op: scf.ParallelOp, begin: SSAValue, end: SSAValue, shared: StringAttr) -> scf.ForOp:
    """The loop's body over a part of its iterations."""
    body = op.body.block
    op.body.detach_block(body)
    terminator = body.last_op
    if terminator is not None:
        body.erase_op(terminator)
    body.add_op(scf.YieldOp())
    return scf.ForOp.create(
        operands=(begin, end, op.step[0]),
        regions=[Region(body)],
        attributes={host.CHUNK: shared},
        location=op.location,
    )


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
        op = make(kind, (left, right), (INDEX,), NO_OVERFLOW if flagged else NOTHING, location=self.location)
        self.ops.append(op)
        return op.results[0]

    def constant(self, value: int) -> SSAValue:
        op = make(arith.ConstantOp, (), (INDEX,), {"value": index_attribute(value)})
        self.ops.append(op)
        return op.results[0]

    def ask(self, kind: type[Operation]) -> SSAValue:
        op = make(kind, (), (INDEX,), location=self.location)
        self.ops.append(op)
        return op.results[0]


@dataclass(frozen=True)
class Distribute(Pass):
    """Give each thread its share of every parallel loop, with a barrier after, but between kernels of thread 0.
    After: no scf.parallel is outermost."""

    name = "distribute"

    def apply(self, module: ModuleOp, context: Context) -> None:
        distribute(module)
