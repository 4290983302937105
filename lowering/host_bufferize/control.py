"""Control flow: tensors of planned size stay in their cells and are carried by nothing; only numbers, lists and
buffers from the heap pass through `scf` as values.

What a region gives its tensors away to (the carried memory of a loop, the result of an `if`) is the same cell
where `Storage` could arrange that. Where not, elements are copied at the yield, all at once in effect: values
whose memory another move of the same yield overwrites are first copied aside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import func, memref, scf
from xdsl.dialects.builtin import IndexType, TensorType
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects import host
from stepwell.lowering.host_bufferize import lists
from stepwell.lowering.host_bufferize.elements import memref_of
from stepwell.lowering.host_bufferize.emitter import Emitter
from stepwell.lowering.host_bufferize.places import Place
from stepwell.lowering.host_bufferize.storage import moves

Walk = Callable[[Emitter, Block], None]


def carried_types(emit: Emitter, value: SSAValue) -> list[Attribute]:
    """The types of what stands for a value at the edge of a region; none for planned memory."""
    kind = value.type
    if isinstance(kind, host.ListType):
        return lists.part_types(kind)
    if not isinstance(kind, TensorType):
        return [kind]
    return [memref_of(kind)] if emit.storage.cell(value).place is Place.HEAP else []


def bind(emit: Emitter, value: SSAValue, given: list[SSAValue]) -> None:
    """Make a value known that enters a region or leaves one; takes its parts from the front of `given`."""
    if isinstance(value.type, host.ListType):
        emit.lists[value] = [given.pop(0) for _ in lists.part_types(value.type)]
    elif not isinstance(value.type, TensorType):
        emit.scalars[value] = given.pop(0)
    elif emit.storage.cell(value).place is Place.HEAP:
        emit.buffers[value] = given.pop(0)
    else:
        emit.buffers[value] = emit.target(value)


def give(emit: Emitter, op: Operation, pairs: Sequence[tuple[SSAValue, SSAValue]]) -> list[SSAValue]:
    """Move values to what takes them over at `op`; what must be passed as SSA values is returned."""
    passed: list[SSAValue] = []
    copies: list[tuple[SSAValue, SSAValue]] = []
    for index, (source, target) in enumerate(pairs):
        if isinstance(source.type, host.ListType):
            passed += lists.taken(emit, source, op)
        elif not isinstance(source.type, TensorType):
            passed.append(emit.scalars[source])
        elif emit.storage.cell(target).place is Place.HEAP:
            passed.append(taken(emit, source, target, op))
        elif not emit.storage.in_place(source, target) and not isinstance(source.owner, host.UndefinedOp):
            buffer = emit.buffers[source]
            aside = emit.storage.aside.get((op, index))
            if aside is not None:
                kind = memref_of(target.type)
                assert emit.arena is not None
                space = emit.add(memref.ViewOp(emit.arena, emit.offsets[aside], emit.dynamic_sizes(target), kind))
                emit.copy(buffer, space)
                buffer = space
            copies.append((buffer, target))
    for buffer, target in copies:
        emit.copy(buffer, emit.target(target))
    return passed


def taken(emit: Emitter, source: SSAValue, target: SSAValue, op: Operation) -> SSAValue:
    """A tensor as a heap buffer that the taker owns: moved where this is its last use, else copied."""
    buffer = emit.buffers[source]
    kind = memref_of(target.type)
    if not emit.owners.take(source, op):
        buffer = emit.cloned(buffer)
    return buffer if buffer.type == kind else emit.add(memref.CastOp.get(buffer, kind))


def region(emit: Emitter, block: Block, leading: Sequence[Attribute], walk: Walk) -> Block:
    """The new block for an old one: its arguments bound, its ops and its terminator emitted."""
    entering = block.args[len(leading) :]
    types = [kind for value in entering for kind in carried_types(emit, value)]
    fresh = Block(arg_types=[*leading, *types])
    for old, new in zip(block.args[: len(leading)], fresh.args, strict=False):
        emit.scalars[old] = new
    with emit.into([]) as ops:
        given: list[SSAValue] = list(fresh.args[len(leading) :])
        for value in entering:
            bind(emit, value, given)
        walk(emit, block)
    fresh.add_ops(ops)
    return fresh


def bind_results(emit: Emitter, old: Operation, new: Operation) -> None:
    """Add the new op, and make the old op's results known."""
    emit.add(new)
    given: list[SSAValue] = list(new.results)
    for value in old.results:
        bind(emit, value, given)


def for_(emit: Emitter, op: scf.ForOp, walk: Walk) -> None:
    """A loop: initial values are moved into the carried memory, then the body yields into it again."""
    inits = give(emit, op, list(zip(op.iter_args, op.body.block.args[1:], strict=True)))
    emit.fence()
    bounds = [emit.scalars[value] for value in (op.lb, op.ub, op.step)]
    body = region(emit, op.body.block, [op.lb.type], walk)
    bind_results(emit, op, scf.ForOp(bounds[0], bounds[1], bounds[2], inits, Region(body)))


def while_(emit: Emitter, op: scf.WhileOp, walk: Walk) -> None:
    """The same with a condition: what the condition passes on goes to the body and to the results alike."""
    inits = give(emit, op, list(zip(op.arguments, op.before_region.block.args, strict=True)))
    emit.fence()
    before = region(emit, op.before_region.block, [], walk)
    after = region(emit, op.after_region.block, [], walk)
    types = [kind for value in op.results for kind in carried_types(emit, value)]
    bind_results(emit, op, scf.WhileOp(inits, types, Region(before), Region(after)))


def if_(emit: Emitter, op: scf.IfOp, walk: Walk) -> None:
    """Both branches leave their tensors in the memory of the result."""
    types = [kind for value in op.results for kind in carried_types(emit, value)]
    emit.fence()
    branches = [
        Region(region(emit, part.block, [], walk)) if part.blocks else Region()
        for part in (op.true_region, op.false_region)
    ]
    bind_results(emit, op, scf.IfOp(emit.scalars[op.cond], types, branches[0], branches[1]))


def yield_(emit: Emitter, op: scf.YieldOp) -> None:
    values = give(emit, op, list(moves(op)))
    free_left(emit, op)
    emit.fence()
    emit.add(scf.YieldOp(*values))


def condition(emit: Emitter, op: scf.ConditionOp) -> None:
    values = give(emit, op, list(moves(op)))
    free_left(emit, op)
    emit.fence()
    emit.add(scf.ConditionOp(emit.scalars[op.condition], *values))


def free_left(emit: Emitter, place: Operation | Block) -> None:
    """Free what nobody uses after an op, or at all."""
    for value in emit.owners.left_after(place):
        if isinstance(value.type, host.ListType):
            for part in emit.lists[value]:
                if not isinstance(part.type, IndexType):
                    emit.free(part)
        else:
            emit.free(emit.buffers[value])


__all__ = ["bind", "condition", "for_", "func", "give", "if_", "while_", "yield_"]
