"""What lies in the last block of channels beyond the last channel.

A tensor whose channels do not fill their blocks carries elements that nobody asked for. What they are is followed from
op to op: packing makes them 0, an elementwise op makes of numbers that are known a number that is known. A convolution
that sums over channels needs zeros there (0 * inf would not be 0); its own results get them by a mask:

    %m = linalg.generic (%x) { c = index(1) * b + index(last); yield c < channels ? %x : 0 }
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from xdsl.dialects import arith
from xdsl.dialects.builtin import AnyFloat, IntegerAttr, TensorType, i1, i64
from xdsl.dialects.linalg.ops import GenericOp, IndexOp, YieldOp
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineMap

from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.blocking import empty
from stepwell.lowering.linalg.edit import INDEX, Editor, constant_number
from stepwell.lowering.linalg.generics import PARALLEL, filled_with, generic
from stepwell.lowering.linalg.scalars import FOLDS
from stepwell.lowering.linalg.shapes import shape_of

Number = int | float | None
"""What the elements beyond the last channel are; None where they are not known, or not all the same."""


def masked(value: SSAValue, channel: int, channels: int, edit: Editor) -> SSAValue:
    """A blocked tensor with zeros beyond the last channel; the block is its last dimension."""
    shape = shape_of(value)
    rank, kind = len(shape), value.type
    assert isinstance(kind, TensorType)
    block = Block(arg_types=[kind.element_type, kind.element_type])
    end = YieldOp.create(operands=[])
    block.add_op(end)
    inside = Editor(end)
    outer, inner = (inside.add(IndexOp, (), INDEX, {"dim": IntegerAttr(d, i64)}) for d in (channel, rank - 1))
    plain = {"overflowFlags": arith.IntegerOverflowAttr("none")}
    start = inside.add(arith.MuliOp, (outer, inside.index(shape[-1])), INDEX, plain)
    number = inside.add(arith.AddiOp, (start, inner), INDEX, plain)
    less = {"predicate": IntegerAttr(2, i64)}
    belongs = inside.add(arith.CmpiOp, (number, inside.index(channels)), i1, less)
    zero = inside.number(0, kind.element_type)
    end.operands = [inside.add(arith.SelectOp, (belongs, block.args[0], zero), kind.element_type)]
    identity = AffineMap.identity(rank)
    target = empty(shape, value, range(rank), edit)
    op = generic([value], [target], [identity, identity], [PARALLEL] * rank, Region(block), [kind], edit.at.location)
    return edit.insert(op).results[0]


def results_beyond(op: GenericOp, beyond: Sequence[Number]) -> list[Number]:
    """What a blocked op's results are beyond the last channel, given what its operands are there.

    The start of a reduction that is a fill counts as what it is filled with.
    """
    count = len(op.results)
    given = list(beyond[:-count]) + [filled_with(value) for value in op._operands[-count:]]
    found = _evaluate(op, given)
    if structure.is_parallel(op):
        return found
    # The same however often: once more must change nothing.
    again = _evaluate(op, given[:-count] + found)
    return [a if a == b else None for a, b in zip(found, again, strict=True)]


def _evaluate(op: GenericOp, given: Sequence[Number]) -> list[Number]:
    """What the body yields where its arguments are these numbers (None: anything)."""
    source = structure.body(op)
    block = Block(arg_types=source.arg_types)
    end = YieldOp.create(operands=[])
    block.add_op(end)
    edit = Editor(end, FOLDS)
    values: dict[SSAValue, SSAValue] = {}
    for argument, other, number in zip(source.args, block.args, given, strict=True):
        known = number is not None and isinstance(argument.type, AnyFloat)
        values[argument] = edit.number(number, argument.type) if known and number is not None else other
    for inner in source.ops:
        if inner is source.last_op:
            break
        if inner.regions or isinstance(inner, IndexOp) or len(inner.results) != 1:
            return [None] * len(op.results)
        values[inner.results[0]] = _folded(inner, values, edit)
    found = [constant_number(values.get(value, value)) for value in structure.yielded(op)]
    return [None if number is None or isnan(number) else number for number in found]


def _folded(op: Operation, values: dict[SSAValue, SSAValue], edit: Editor) -> SSAValue:
    operands = [values.get(value, value) for value in op._operands]
    return edit.add(type(op), operands, op.results[0].type, op.properties)
