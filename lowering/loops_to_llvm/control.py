"""scf -> blocks. Loops are turned round at once (test at the end), which is the form that LLVM wants:

scf.for %i = %a to %b step %s iter_args(%x = %x0)         if a < b goto body(a, x0) else goto exit(x0)
                                                    body(i, x): ...; n = i + s
                                                                if n < b goto body(n, y) else goto exit(y)
                                                    exit(r):
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from xdsl.dialects import llvm, scf
from xdsl.dialects.builtin import DenseArrayBase, DenseIntElementsAttr, IntegerType, VectorType, i32, i64
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects import host
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.upstream import llvm as upstream
from stepwell.lowering.loops_to_llvm.arithmetic import Handler
from stepwell.lowering.loops_to_llvm.builder import NO_WRAP, FunctionLowering


def walk(lower: FunctionLowering, block: Block) -> Operation | None:
    """Lower a block's ops up to its terminator, which is given back; None where the end is never reached."""
    handlers = lower.module.handlers
    for op in block.ops:
        handler = handlers.get(type(op))
        if handler is None:
            if isinstance(op, (scf.YieldOp, scf.ConditionOp, scf.ReduceOp)):
                return op
            raise UnsupportedError(f"{op.name} has no lowering from loops to llvm")
        lower.location = op.location
        handler(lower, op)
        if lower.block is None:
            return None
    return None


def flatten_all(lower: FunctionLowering, values: Sequence[SSAValue], kinds: Sequence[Attribute]) -> list[SSAValue]:
    """The llvm values that carry several values of the loops level."""
    return [part for value, kind in zip(values, kinds, strict=True) for part in lower.flatten(value, kind)]


def define_all(lower: FunctionLowering, originals: Sequence[SSAValue], block: Block, skip: int = 0) -> None:
    """Let block arguments stand for values of the loops level."""
    parts = iter(block.args[skip:])
    for original in originals:
        lower.unflatten(original, parts)


def flat(lower: FunctionLowering, kinds: Sequence[Attribute]) -> list[Attribute]:
    """The llvm types of several types."""
    return [part for kind in kinds for part in lower.flat_types(kind)]


def kinds_of(values: Sequence[SSAValue]) -> list[Attribute]:
    return [value.type for value in values]


def lower_for(lower: FunctionLowering, op: Operation) -> None:
    """scf.for. As a thread's chunk, it is where a raise inside leaves to, before the barrier."""
    first, last, step, *initial = op.operands
    induction, *carried = op.regions[0].block.args
    kinds, index_kind = kinds_of(op.results), lower.types.value(induction.type)
    carried_types = flat(lower, kinds)
    body, done = lower.new_block([index_kind, *carried_types]), lower.new_block(carried_types)
    start = flatten_all(lower, initial, kinds)
    bound, stride, begin = lower.value(last), lower.value(step), lower.value(first)
    if first in lower.known and last in lower.known and lower.known[first] < lower.known[last]:
        lower.branch(body, [begin, *start])
    else:
        lower.branch_if(lower.compare("slt", begin, bound), body, done, [begin, *start], start)
    outer_leave = lower.leave
    if host.CHUNK in op.attributes:
        lower.leave = done
        # One iteration is nothing to share: a program of such loops only is not worth a team.
        lower.module.frame.parallel |= op.attributes[host.CHUNK] == host.DIVIDED
    with lower.scope():
        lower.start(body)
        lower.values[induction] = body.args[0]
        define_all(lower, carried, body, skip=1)
        end = walk(lower, op.regions[0].block)
        if lower.block is not None:
            next_values = flatten_all(lower, end.operands, kinds) if end is not None else []
            following = (
                lower.size(lower.add(body.args[0], stride)) if index_kind == i64 else _plus(lower, body.args[0], stride)
            )
            again = lower.compare("slt", following, bound)
            lower.branch_if(again, body, done, [following, *next_values], next_values)
    lower.leave = outer_leave
    lower.start(done)
    define_all(lower, op.results, done)


def _plus(lower: FunctionLowering, left: SSAValue, right: SSAValue) -> SSAValue:
    return lower.emit(llvm.AddOp, (left, right), left.type, NO_WRAP)


def counted_loop(lower: FunctionLowering, count: SSAValue, body: Callable[[SSAValue], None]) -> None:
    """A loop from 0 to count that the lowering itself needs."""
    inner, done = lower.new_block([i64]), lower.new_block()
    zero = lower.integer(0)
    lower.branch_if(lower.compare("slt", zero, count), inner, done, [zero])
    with lower.scope():
        lower.start(inner)
        body(inner.args[0])
        following = lower.size(lower.add(inner.args[0], 1))
        lower.branch_if(lower.compare("slt", following, count), inner, done, [following])
    lower.start(done)


def lower_parallel(lower: FunctionLowering, op: Operation) -> None:
    """An scf.parallel that was not distributed: nested sequential loops."""
    if op.results:
        raise UnsupportedError("scf.parallel with reductions: sum per chunk and combine after a barrier")
    body = op.regions[0].block
    rank = len(body.args)
    bounds = [op.operands[i * rank : (i + 1) * rank] for i in range(3)]

    def nest(dimension: int) -> None:
        if dimension == rank:
            walk(lower, body)
            return
        first, last, step = (lower.value(bound[dimension]) for bound in bounds)
        inner, done = lower.new_block([i64]), lower.new_block()
        lower.branch_if(lower.compare("slt", first, last), inner, done, [first])
        with lower.scope():
            lower.start(inner)
            lower.values[body.args[dimension]] = inner.args[0]
            nest(dimension + 1)
            if lower.block is not None:
                following = lower.size(lower.add(inner.args[0], step))
                lower.branch_if(lower.compare("slt", following, last), inner, done, [following])
        lower.start(done)

    nest(0)


def lower_if(lower: FunctionLowering, op: Operation) -> None:
    """scf.if; a branch that raised yields nothing, and where both did, what follows is dead."""
    kinds = kinds_of(op.results)
    then_region, else_region = op.regions
    done = lower.new_block(flat(lower, kinds))
    then = lower.new_block()
    otherwise = lower.new_block() if else_region.blocks else done
    lower.branch_if(lower.value(op.operands[0]), then, otherwise)
    reached = otherwise is done
    for block, region in ((then, then_region), (otherwise, else_region)):
        if block is done:
            continue
        with lower.scope():
            lower.start(block)
            reached |= _yield_to(lower, region, kinds, done)
    _join(lower, op, done, reached)


def _yield_to(lower: FunctionLowering, region: Region, kinds: Sequence[Attribute], done: Block) -> bool:
    """Lower a region and jump to `done` with what it yields; False where its end is never reached."""
    end = walk(lower, region.block)
    if lower.block is None:
        return False
    lower.branch(done, flatten_all(lower, end.operands, kinds) if end is not None else [])
    return True


def _join(lower: FunctionLowering, op: Operation, done: Block, reached: bool) -> None:
    if not reached:
        lower.block = None
        return
    lower.start(done)
    define_all(lower, op.results, done)


def lower_while(lower: FunctionLowering, op: Operation) -> None:
    """scf.while: `before` decides and hands values to `after` or to the results."""
    before, after = (region.block for region in op.regions)
    head = lower.new_block(flat(lower, kinds_of(before.args)))
    kinds = kinds_of(op.results)
    body, done = lower.new_block(flat(lower, kinds)), lower.new_block(flat(lower, kinds))
    lower.branch(head, flatten_all(lower, op.operands, kinds_of(before.args)))
    with lower.scope():
        lower.start(head)
        define_all(lower, before.args, head)
        end = walk(lower, before)
        if lower.block is None or end is None:
            return
        passed = flatten_all(lower, end.operands[1:], kinds)
        lower.branch_if(lower.value(end.operands[0]), body, done, passed, passed)
        lower.start(body)
        define_all(lower, after.args, body)
        end = walk(lower, after)
        if lower.block is not None and end is not None:
            lower.branch(head, flatten_all(lower, end.operands, kinds_of(before.args)))
    lower.start(done)
    define_all(lower, op.results, done)


def lower_switch(lower: FunctionLowering, op: Operation) -> None:
    """scf.index_switch -> llvm.switch."""
    kinds = kinds_of(op.results)
    done = lower.new_block(flat(lower, kinds))
    cases = list(cast("DenseArrayBase[IntegerType]", op.properties["cases"]).get_values())
    targets = [lower.new_block() for _ in op.regions]
    properties: dict[str, Attribute] = {
        "case_operand_segments": DenseArrayBase.from_list(i32, [0] * len(cases)),
        "operandSegmentSizes": DenseArrayBase.from_list(i32, [1, 0, 0]),
    }
    if cases:
        properties["case_values"] = DenseIntElementsAttr.from_list(VectorType(i64, [len(cases)]), cases)
    lower.build(upstream.SwitchOp, (lower.value(op.operands[0]),), (), properties, targets)
    reached = False
    for target, region in zip(targets, op.regions, strict=True):
        with lower.scope():
            lower.start(target)
            reached |= _yield_to(lower, region, kinds, done)
    _join(lower, op, done, reached)


def execute_region(lower: FunctionLowering, op: Operation) -> None:
    """scf.execute_region of one block."""
    if len(op.regions[0].blocks) != 1:
        raise UnsupportedError("scf.execute_region of several blocks")
    end = walk(lower, op.regions[0].block)
    if lower.block is not None and end is not None:
        parts = iter(flatten_all(lower, end.operands, kinds_of(op.results)))
        for result in op.results:
            lower.unflatten(result, parts)


HANDLERS: dict[type[Operation], Handler] = {
    scf.ForOp: lower_for,
    scf.ParallelOp: lower_parallel,
    scf.IfOp: lower_if,
    scf.WhileOp: lower_while,
    scf.IndexSwitchOp: lower_switch,
    scf.ExecuteRegionOp: execute_region,
}
