"""The one way in which the linalg passes create, replace and remove ops.

An `Editor` stands before an op and inserts there; new ops take that op's location. When it is given a fold table,
what it adds is folded at once, so that a pass that walks forward never has to come back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from xdsl.dialects import arith
from xdsl.dialects.builtin import (
    UNKNOWN_LOC,
    ArrayAttr,
    FloatAttr,
    FusedLoc,
    IndexType,
    IntegerAttr,
    IntegerType,
    LocationAttr,
    NoneAttr,
    UnknownLoc,
)
from xdsl.ir import Attribute, Block, Operation, SSAValue

from stepwell.dialects.quick_ir import NOTHING, index_attribute, make

Replacement = SSAValue | Sequence[SSAValue]
Fold = Callable[[Operation, "Editor"], Replacement | None]
"""What an op's results are, if they can be had without the op; None where they cannot.
A fold may insert ops through the editor, and may change the op itself and return None."""

INDEX = IndexType()
I1 = IntegerType(1)
ONE_BIT = 1


class Editor:
    """Inserts ops before `at`. `folds` maps op names to their folds."""

    def __init__(self, at: Operation, folds: Mapping[str, Fold] | None = None) -> None:
        self.at = at
        self.folds: Mapping[str, Fold] = {} if folds is None else folds

    def insert(self, op: Operation) -> Operation:
        """Put an op without a place before `at`."""
        block = self.at.parent
        assert block is not None
        block.insert_op_before(op, self.at)
        return op

    def add(
        self,
        op_type: type[Operation],
        operands: Sequence[SSAValue],
        result_type: Attribute,
        properties: Mapping[str, Attribute] | None = None,
    ) -> SSAValue:
        """The (folded) result of a new op with one result."""
        op = make(op_type, operands, (result_type,), properties or NOTHING, location=self.at.location)
        self.insert(op)
        fold = self.folds.get(op.name)
        if fold is None:
            return op.results[0]
        found = fold(op, Editor(op, self.folds))
        if found is None:
            return op.results[0]
        value = found if isinstance(found, SSAValue) else found[0]
        remove(op)
        return value

    def constant(self, value: Attribute, type: Attribute) -> SSAValue:
        """An arith.constant of an attribute."""
        op = make(arith.ConstantOp, (), (type,), {"value": value}, location=self.at.location)
        return self.insert(op).results[0]

    def index(self, value: int) -> SSAValue:
        """A constant of type index."""
        return self.constant(index_attribute(value), INDEX)

    def number(self, value: int | float | bool, type: Attribute) -> SSAValue:
        """A constant of an integer, index or floating type."""
        return self.constant(scalar_attribute(value, type), type)


def scalar_attribute(value: int | float | bool, type: Attribute) -> Attribute:
    """The attribute of a number: integers wrap, floats round to the type."""
    if isinstance(type, IntegerType):
        width = type.width.data
        wrapped = int(value) & ((1 << width) - 1)
        return IntegerAttr(wrapped - (1 << width) if wrapped >> (width - 1) else wrapped, type)
    if isinstance(type, IndexType):
        return IntegerAttr(int(value), type)
    return FloatAttr(float(value), type)  # type: ignore[call-overload, no-any-return]


def constant_attribute(value: SSAValue) -> Attribute | None:
    """The attribute behind a value that an arith.constant made."""
    owner = value.owner
    return owner.properties["value"] if isinstance(owner, arith.ConstantOp) else None


def constant_number(value: SSAValue) -> int | float | None:
    """The number behind a constant scalar; i1 is 0 or 1. None for everything else."""
    attribute = constant_attribute(value)
    if isinstance(attribute, IntegerAttr):
        number: int = attribute.value.data
        return number & ONE_BIT if attribute.type == I1 else number
    return attribute.value.data if isinstance(attribute, FloatAttr) else None


def constant_integer(value: SSAValue) -> int | None:
    """The number behind a constant integer or index."""
    found = constant_number(value)
    return found if isinstance(found, int) else None


def replace(op: Operation, values: Replacement) -> None:
    """Use `values` instead of the op's results, and remove the op."""
    if isinstance(values, SSAValue):
        op.results[0].replace_all_uses_with(values)
    else:
        for result, value in zip(op.results, values, strict=True):
            result.replace_all_uses_with(value)
    remove(op)


def remove(op: Operation) -> None:
    """Take an op that nobody uses out of its block for good."""
    assert op.parent is not None
    op.parent.erase_op(op)


def inline(block: Block, arguments: Sequence[SSAValue], before: Operation) -> tuple[SSAValue, ...]:
    """Move a block's ops before an op, with values for its arguments; what its terminator yields.

    The block is left with its terminator only.
    """
    for argument, value in zip(block.args, arguments, strict=True):
        argument.replace_all_uses_with(value)
    terminator = block.last_op
    target = before.parent
    assert terminator is not None and target is not None
    op = block.first_op
    while op is not None and op is not terminator:
        following = op.next_op
        block.detach_op(op)
        target.insert_op_before(op, before)
        op = following
    return terminator._operands


def fused_location(*locations: LocationAttr) -> LocationAttr:
    """One location for an op made of several: their union, without what is unknown."""
    parts: list[Attribute] = []
    for location in locations:
        for part in location.locations.data if isinstance(location, FusedLoc) else (location,):  # type: ignore[attr-defined]
            if not isinstance(part, UnknownLoc) and part not in parts:
                parts.append(part)
    if not parts:
        return UNKNOWN_LOC
    return parts[0] if len(parts) == 1 else FusedLoc(ArrayAttr(parts), NoneAttr())  # type: ignore[return-value]
