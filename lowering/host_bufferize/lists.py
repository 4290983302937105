"""Lists in memory. A list is owned like a buffer from the heap, and grows in place (see `ownership`).

A list whose elements have one static size is two values: its elements one after another with room to grow,
`memref<?x(element)>`, and its length. Where sizes vary it is four: a flat `memref<?xT>` of elements, a table
`memref<?x(1 + rank)xi64>` with the start and the sizes of each, the length, and how much of the flat memory is in
use; setting an element of another size appends it and leaves the old one as waste.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import arith, memref, scf
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    IntegerAttr,
    MemRefType,
    StringAttr,
    TensorType,
    i1,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects import host
from stepwell.dialects.upstream import core
from stepwell.lowering.host_bufferize.elements import memref_of
from stepwell.lowering.host_bufferize.emitter import INDEX, Emitter
from stepwell.lowering.host_bufferize.views import subview_type

FIRST_CAPACITY = 8
"""Elements that a new list has room for."""

PREDICATES = {"eq": 0, "ne": 1, "slt": 2, "sle": 3, "sgt": 4, "sge": 5}


def element_type(kind: Attribute) -> Attribute:
    """What a list type holds."""
    assert isinstance(kind, host.ListType)
    return kind.element


def varies(kind: Attribute) -> bool:
    """Whether the elements of a list type have sizes of their own."""
    element = element_type(kind)
    return isinstance(element, TensorType) and DYNAMIC_INDEX in element.get_shape()


def part_types(kind: Attribute) -> list[Attribute]:
    """The types of the values that stand for a list."""
    element = element_type(kind)
    if not isinstance(element, TensorType):
        return [MemRefType(element, [DYNAMIC_INDEX]), INDEX]
    if not varies(kind):
        return [MemRefType(element.element_type, [DYNAMIC_INDEX, *element.get_shape()]), INDEX]
    table = MemRefType(i64, [DYNAMIC_INDEX, 1 + element.get_num_dims()])
    return [MemRefType(element.element_type, [DYNAMIC_INDEX]), table, INDEX, INDEX]


def taken(emit: Emitter, value: SSAValue, op: Operation) -> list[SSAValue]:
    """The parts of a list that `op` consumes; of a copy where the list is read later."""
    parts = emit.lists[value]
    if emit.owners.take(value, op):
        return list(parts)
    return [part if part.type == INDEX else emit.cloned(part) for part in parts]


# ------ small pieces


def compare(emit: Emitter, predicate: str, left: SSAValue, right: SSAValue) -> SSAValue:
    """An integer comparison."""
    properties = {"predicate": IntegerAttr(PREDICATES[predicate], i64)}
    return emit.add(core.CmpiOp.create(operands=[left, right], result_types=[i1], properties=properties))


def branch(
    emit: Emitter,
    condition: SSAValue,
    types: Sequence[Attribute],
    then: Callable[[], list[SSAValue]],
    otherwise: Sequence[SSAValue] = (),
) -> list[SSAValue]:
    """scf.if; the other branch yields what is known already."""
    emit.fence()
    with emit.into([]) as ops:
        values = then()
        emit.fence()
    blocks = [Block([*ops, scf.YieldOp(*values)]), Block([scf.YieldOp(*otherwise)])]
    op = scf.IfOp(condition, list(types), Region(blocks[0]), Region(blocks[1]))
    emit.add(op)
    return list(op.results)


def count(emit: Emitter, start: SSAValue, stop: SSAValue, body: Callable[[SSAValue], None]) -> None:
    """scf.for with step 1."""
    emit.fence()
    block = Block(arg_types=[INDEX])
    with emit.into([]) as ops:
        body(block.args[0])
        emit.fence()
    block.add_ops([*ops, scf.YieldOp()])
    emit.add(scf.ForOp(start, stop, emit.constant(1), [], Region(block)))


def raise_if(emit: Emitter, condition: SSAValue, exception: str, message: str) -> None:
    """Leave with an exception where the condition holds."""

    def leave() -> list[SSAValue]:
        properties = {"exception": StringAttr(exception), "message": StringAttr(message)}
        emit.add(host.RaiseOp.create(properties=properties))
        return []

    branch(emit, condition, [], leave)


def as_i64(emit: Emitter, value: SSAValue) -> SSAValue:
    return emit.add(core.IndexCastOp(value, i64))


def as_index(emit: Emitter, value: SSAValue) -> SSAValue:
    return emit.add(core.IndexCastOp(value, INDEX))


def position(emit: Emitter, index: SSAValue, length: SSAValue, message: str) -> SSAValue:
    """A Python index as a position in range. Raises IndexError at run time."""
    given = as_index(emit, emit.scalars[index])
    negative = compare(emit, "slt", given, emit.constant(0))
    shifted = emit.binary(arith.AddiOp, given, length)
    place = emit.add(core.SelectOp.create(operands=[negative, shifted, given], result_types=[INDEX]))
    low = compare(emit, "slt", place, emit.constant(0))
    high = compare(emit, "sge", place, length)
    raise_if(emit, emit.binary(arith.OrIOp, low, high), "builtins.IndexError", message)
    return place


def slot(emit: Emitter, elements: SSAValue, place: SSAValue) -> SSAValue:
    """The element at a position of a list of static sizes, as a row-major memref."""
    assert isinstance(elements.type, MemRefType)
    shape = list(elements.type.get_shape())[1:]
    element = elements.type.element_type
    offsets: list[SSAValue | int] = [place, *[0] * len(shape)]
    steps = [1] * (len(shape) + 1)
    kind = subview_type(elements.type, offsets, steps, shape, range(1, len(offsets)))
    part = emit.add(memref.SubviewOp.get(elements, offsets, [1, *shape], steps, kind))
    return emit.add(host.RebaseOp.create(operands=[part], result_types=[MemRefType(element, shape)]))


def rows(emit: Emitter, buffer: SSAValue, length: SSAValue) -> SSAValue:
    """The first rows of a buffer, as a row-major memref."""
    assert isinstance(buffer.type, MemRefType)
    shape = list(buffer.type.get_shape())[1:]
    element = buffer.type.element_type
    zeros, ones = [0] * (len(shape) + 1), [1] * (len(shape) + 1)
    kind = subview_type(buffer.type, zeros, ones, [DYNAMIC_INDEX, *shape])
    part = emit.add(memref.SubviewOp.get(buffer, zeros, [length, *shape], ones, kind))
    return emit.add(host.RebaseOp.create(operands=[part], result_types=[MemRefType(element, [DYNAMIC_INDEX, *shape])]))


def grown(emit: Emitter, buffer: SSAValue, used: SSAValue, wanted: SSAValue) -> SSAValue:
    """The buffer with room for `wanted` rows: itself, or one twice as large that has the `used` first rows."""
    capacity = emit.add(memref.DimOp(buffer, emit.constant(0)))

    def larger() -> list[SSAValue]:
        doubled = emit.binary(arith.MuliOp, wanted, emit.constant(2))
        fresh = emit.add(host.AllocOp.create(operands=[doubled], result_types=[buffer.type]))
        emit.copy(rows(emit, buffer, used), rows(emit, fresh, used))
        emit.free(buffer)
        return [fresh]

    return branch(emit, compare(emit, "sgt", wanted, capacity), [buffer.type], larger, [buffer])[0]


def store(emit: Emitter, number: SSAValue, buffer: SSAValue, place: SSAValue) -> None:
    """Write one number of a list of numbers."""

    def write() -> None:
        emit.add(memref.StoreOp.get(number, buffer, [place]))

    emit.by_thread_zero(write)


# ------ ops


def new(emit: Emitter, op: host.ListNewOp) -> None:
    emit.lists[op.result] = empty(emit, op.result.type)


def empty(emit: Emitter, kind: Attribute) -> list[SSAValue]:
    """An empty list with some room."""
    room, zero = emit.constant(FIRST_CAPACITY), emit.constant(0)
    return [
        zero if part == INDEX else emit.add(host.AllocOp.create(operands=[room], result_types=[part]))
        for part in part_types(kind)
    ]


def length(emit: Emitter, op: host.ListLengthOp) -> None:
    emit.scalars[op.result] = as_i64(emit, length_of(emit.lists[op.list]))


def length_of(parts: Sequence[SSAValue]) -> SSAValue:
    return parts[1] if len(parts) == 2 else parts[2]


def append(emit: Emitter, op: host.ListAppendOp) -> None:
    """Grow where needed, then write after the last element."""
    parts = taken(emit, op.list, op)
    if varies(op.list.type):
        emit.lists[op.result] = _append_varying(emit, parts, emit.buffers[op.value])
        return
    elements, used = parts
    after = emit.binary(arith.AddiOp, used, emit.constant(1))
    elements = grown(emit, elements, used, after)
    _write(emit, elements, used, op.value)
    emit.lists[op.result] = [elements, after]


def _write(emit: Emitter, elements: SSAValue, place: SSAValue, value: SSAValue) -> None:
    """Write one element of static size."""
    if isinstance(value.type, TensorType):
        emit.copy(emit.buffers[value], slot(emit, elements, place))
    else:
        number = emit.scalars[value]
        store(emit, number, elements, place)


def get(emit: Emitter, op: host.ListGetOp) -> None:
    """A copy of the element: the list may change while the element is in use."""
    parts = emit.lists[op.list]
    place = position(emit, op.index, length_of(parts), "list index out of range")
    _read(emit, parts, place, op.result)


def _read(emit: Emitter, parts: Sequence[SSAValue], place: SSAValue, result: SSAValue) -> None:
    if not isinstance(result.type, TensorType):
        emit.scalars[result] = emit.load(parts[0], [place])
        return
    if len(parts) == 4:
        emit.buffers[result] = emit.cloned(varying(emit, parts, place, memref_of(result.type)))
        return
    target = emit.buffers[result] = emit.target(result)
    emit.copy(slot(emit, parts[0], place), target)


def set_(emit: Emitter, op: host.ListSetOp) -> None:
    """Overwrite an element; one of another size goes behind all others."""
    parts = taken(emit, op.list, op)
    place = position(emit, op.index, length_of(parts), "list index out of range")
    if varies(op.list.type):
        parts = _store_varying(emit, parts, place, emit.buffers[op.value])
    else:
        _write(emit, parts[0], place, op.value)
    emit.lists[op.result] = parts


def pop(emit: Emitter, op: host.ListPopOp) -> None:
    """Read an element, then close the gap."""
    parts = taken(emit, op.list, op)
    old = length_of(parts)
    empty = compare(emit, "eq", old, emit.constant(0))
    raise_if(emit, empty, "builtins.IndexError", "pop from empty list")
    place = position(emit, op.index, old, "pop index out of range")
    _read(emit, parts, place, op.value)
    last = emit.binary(arith.SubiOp, old, emit.constant(1))
    one = emit.constant(1)
    shifted = parts[1] if len(parts) == 4 else parts[0]

    def close(i: SSAValue) -> None:
        following = emit.binary(arith.AddiOp, i, one)
        if isinstance(shifted.type, MemRefType) and shifted.type.get_num_dims() == 1:
            number = emit.load(shifted, [following])
            store(emit, number, shifted, i)
        else:
            emit.copy(slot(emit, shifted, following), slot(emit, shifted, i))

    count(emit, place, last, close)
    emit.lists[op.rest] = [*parts[:1], last] if len(parts) == 2 else [*parts[:2], last, parts[3]]


def elements(emit: Emitter, op: host.ListElementsOp) -> None:
    """A copy of what is in use of the list's memory."""
    parts = emit.lists[op.list]
    emit.buffers[op.result] = _rows_copied(emit, parts[0], parts[1] if len(parts) == 2 else parts[3])


def table(emit: Emitter, op: host.ListTableOp) -> None:
    """A copy of the table's rows in use."""
    parts = emit.lists[op.list]
    emit.buffers[op.result] = _rows_copied(emit, parts[1], parts[2])


def _rows_copied(emit: Emitter, buffer: SSAValue, used: SSAValue) -> SSAValue:
    made = emit.add(host.AllocOp.create(operands=[used], result_types=[buffer.type]))
    emit.copy(rows(emit, buffer, used), made)
    return made


# ------ elements of varying sizes


def _append_varying(emit: Emitter, parts: list[SSAValue], value: SSAValue) -> list[SSAValue]:
    flat, table, used, top = parts
    after = emit.binary(arith.AddiOp, used, emit.constant(1))
    table = grown(emit, table, used, after)
    flat, table, _, top = _store_varying(emit, [flat, table, used, top], used, value)
    return [flat, table, after, top]


def sizes_of(emit: Emitter, value: SSAValue) -> tuple[SSAValue, list[SSAValue]]:
    """How many elements a memref has, and its sizes."""
    assert isinstance(value.type, MemRefType)
    sizes = [
        emit.add(memref.DimOp(value, emit.constant(axis))) if size == DYNAMIC_INDEX else emit.constant(size)
        for axis, size in enumerate(value.type.get_shape())
    ]
    total = emit.constant(1)
    for size in sizes:
        total = emit.binary(arith.MuliOp, total, size)
    return total, sizes


def _store_varying(emit: Emitter, parts: list[SSAValue], place: SSAValue, value: SSAValue) -> list[SSAValue]:
    """Put an element behind all others and enter it in the table."""
    flat, table, used, top = parts
    total, sizes = sizes_of(emit, value)
    after = emit.binary(arith.AddiOp, top, total)
    flat = grown(emit, flat, top, after)
    numbers = [as_i64(emit, number) for number in [top, *sizes]]

    def enter() -> None:
        for column, number in enumerate(numbers):
            emit.add(memref.StoreOp.get(number, table, [place, emit.constant(column)]))

    emit.by_thread_zero(enter)
    assert isinstance(value.type, MemRefType)
    emit.copy(value, _piece(emit, flat, top, total, sizes, value.type))
    return [flat, table, used, after]


def varying(emit: Emitter, parts: Sequence[SSAValue], place: SSAValue, kind: MemRefType[Attribute]) -> SSAValue:
    """The element at a position, as the table says."""
    columns = [
        as_index(emit, emit.load(parts[1], [place, emit.constant(column)])) for column in range(1 + kind.get_num_dims())
    ]
    total = emit.constant(1)
    for size in columns[1:]:
        total = emit.binary(arith.MuliOp, total, size)
    return _piece(emit, parts[0], columns[0], total, columns[1:], kind)


def _piece(
    emit: Emitter,
    flat: SSAValue,
    start: SSAValue,
    total: SSAValue,
    sizes: Sequence[SSAValue],
    kind: MemRefType[Attribute],
) -> SSAValue:
    """A stretch of flat memory under the sizes of an element."""
    assert isinstance(flat.type, MemRefType)
    line = subview_type(flat.type, [start], [1], [DYNAMIC_INDEX])
    part = emit.add(memref.SubviewOp.get(flat, [start], [total], [1], line))
    based = emit.add(
        host.RebaseOp.create(operands=[part], result_types=[MemRefType(kind.element_type, [DYNAMIC_INDEX])])
    )
    mixed: list[SSAValue | int] = [
        size if static == DYNAMIC_INDEX else static for size, static in zip(sizes, kind.get_shape(), strict=True)
    ]
    return emit.reinterpreted(based, mixed, kind)
