"""Making and placing ops without the work that `Operation.create` and `Block.add_op` repeat for every op.

`make(kind, ...)` gives what `kind.create(...)` gives, `append(block, op)` does what `block.add_op(op)` does, in less
time: defaults of properties are looked up once per class, and a new op is not searched for the block that
it is put into. Passes that write thousands of ops use them; the fields set here are those of the pinned xDSL release.
Making an attribute costs as much as making an op, so frequent ones are made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from xdsl.dialects.builtin import (
    UNKNOWN_LOC,
    DenseArrayBase,
    IndexType,
    IntegerAttr,
    IntegerType,
    LocationAttr,
    MemRefType,
    TensorType,
    i32,
)
from xdsl.ir import Attribute, Block, Operation, OpResult, Region, SSAValue, SSAValues, Use
from xdsl.irdl import IRDLOperation, OptionalDef

Made = TypeVar("Made", bound=Operation)

_Defaults = tuple[tuple[tuple[str, Attribute], ...], tuple[tuple[str, Attribute], ...]]
_defaults: dict[type[Operation], _Defaults] = {}

NOTHING: Mapping[str, Attribute] = {}
INDEX = IndexType()


def make(
    kind: type[Made],
    operands: Sequence[SSAValue] = (),
    result_types: Sequence[Attribute] = (),
    properties: Mapping[str, Attribute] = NOTHING,
    *,
    attributes: Mapping[str, Attribute] = NOTHING,
    location: LocationAttr | None = None,
    successors: Sequence[Block] = (),
    regions: Sequence[Region] = (),
) -> Made:
    """An op of a class, not yet in a block; nothing is verified."""
    op = kind.__new__(kind)
    op.properties = dict(properties)
    op.attributes = dict(attributes)
    op.location = UNKNOWN_LOC if location is None else location
    if operands:
        op._operands = SSAValues(operands)
        op._operand_uses = _use(op, operands)
    if result_types:
        op.results = SSAValues([OpResult(kind, op, number) for number, kind in enumerate(result_types)])
    if successors:
        op._successors = tuple(successors)
        op._successor_uses = _use(op, successors)
    for region in regions:
        op.add_region(region)
    found = _defaults.get(kind)
    if found is None:
        found = _defaults[kind] = _defaults_of(kind)
    for name, default in found[0]:
        op.properties.setdefault(name, default)
    for name, default in found[1]:
        op.attributes.setdefault(name, default)
    return op


def _use(op: Operation, used: Sequence[Any]) -> tuple[Use, ...]:
    """Enter an op among the uses of values or blocks."""
    uses = []
    for number, value in enumerate(used):
        first = value.first_use
        use = Use(op, number, None, first)
        if first is not None:
            first._prev_use = use
        value.first_use = use
        uses.append(use)
    return tuple(uses)


def _defaults_of(kind: type[Operation]) -> _Defaults:
    """The properties and attributes that an op of a class has where none are given."""
    if not issubclass(kind, IRDLOperation):
        return (), ()
    definition = kind.get_irdl_definition()
    properties, attributes = (
        tuple(
            (name, found.default_value)
            for name, found in declared.items()
            if not isinstance(found, OptionalDef) and found.default_value is not None
        )
        for declared in (definition.properties, definition.attributes)
    )
    return properties, attributes


def append(block: Block, op: Operation) -> None:
    """Put an op that is in no block at the end of one."""
    assert op.parent is None
    last = block._last_op
    if last is None:
        block._first_op = op
    else:
        last._next_op = op
        op._prev_op = last
    block._last_op = op
    op.parent = block


def append_all(block: Block, ops: Iterable[Operation]) -> None:
    """Put ops that are in no block at the end of one."""
    for op in ops:
        append(block, op)


@cache
def index_attribute(value: int) -> IntegerAttr[IndexType]:
    """A number of type index."""
    return IntegerAttr(value, INDEX)


@cache
def memref_type(element: Attribute, shape: tuple[int, ...]) -> MemRefType[Attribute]:
    """A row-major memref."""
    return MemRefType(element, shape)


@cache
def tensor_type(element: Attribute, shape: tuple[int, ...]) -> TensorType[Attribute]:
    """A tensor."""
    return TensorType(element, shape)


@cache
def segments(*sizes: int) -> DenseArrayBase[IntegerType]:
    """The sizes of operand groups."""
    return DenseArrayBase.from_list(i32, sizes)
