"""Straight-line ops: launches become calls, reshapes and slices become views, the rest loads and stores."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import arith, func, memref, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DenseArrayBase,
    MemRefType,
    NoneAttr,
    StridedLayoutAttr,
    TensorType,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue

from stepwell.dialects import host, tile
from stepwell.lowering.host_bufferize import lists
from stepwell.lowering.host_bufferize.elements import memref_of
from stepwell.lowering.host_bufferize.emitter import INDEX, Emitter
from stepwell.lowering.host_bufferize.parts import box_of
from stepwell.lowering.host_bufferize.places import Place
from stepwell.lowering.host_bufferize.sizes import kept_dimensions
from stepwell.lowering.host_bufferize.storage import contiguous
from stepwell.lowering.host_bufferize.views import known_strides, subview_type


def scalar_op(emit: Emitter, op: Operation) -> None:
    """An op on numbers: the same op on the new values."""
    clone = type(op).create(
        operands=[emit.scalars[operand] for operand in op.operands],
        result_types=[result.type for result in op.results],
        properties=dict(op.properties),
        attributes=dict(op.attributes),
    )
    emit.add(clone)
    emit.scalars.update(zip(op.results, clone.results, strict=True))


def constant(emit: Emitter, op: Operation) -> None:
    """Numbers stay; tensors were turned into arguments or module constants before (`Constants`)."""
    if not isinstance(op.results[0].type, TensorType):
        scalar_op(emit, op)


def launch(emit: Emitter, op: tile.LaunchOp) -> None:
    """A call of the kernel's function: its inputs, then the buffers for its results."""
    if op.outputs and op.outputs[0] in emit.storage.parts.borders:
        # Only the border is filled, when what it surrounds is there or comes.
        emit.buffers[op.outputs[0]] = emit.target(op.outputs[0])
        return
    inputs = [emit.buffers.get(value, emit.scalars.get(value)) for value in op.inputs]
    outputs = [place(emit, value) for value in op.outputs]
    passed = [*(value for value in inputs if value is not None), *outputs]
    call = func.CallOp(emit.kernels.strided(op.kernel.root_reference.data, passed), passed, [])
    taken = taken_over(emit, op)
    if any(operand >= 0 for operand in taken):
        call.attributes["inplace"] = DenseArrayBase.from_list(i64, taken)
    emit.add(call)
    emit.buffers.update(zip(op.outputs, outputs, strict=True))


def place(emit: Emitter, value: SSAValue) -> SSAValue:
    """Where a launch writes a result: its own memory, or a part of another tensor's."""
    into = emit.storage.parts.within.get(value)
    if into is None:
        return emit.target(value)
    whole = emit.target(into.result)
    border(emit, into, whole)
    assert isinstance(into.source.type, TensorType)
    part = subview(emit, whole, into, into.source.type)
    assert isinstance(part.type, MemRefType)
    kind, strides = memref_of(into.source.type), known_strides(part.type)
    if strides != known_strides(kind):
        kind = MemRefType(kind.element_type, kind.shape, StridedLayoutAttr(strides))
    return emit.add(host.RebaseOp.create(operands=[part], result_types=[kind]))


def border(emit: Emitter, op: tensor.InsertSliceOp, whole: SSAValue) -> None:
    """Fill what surrounds the part that is inserted, where nothing else has."""
    value, box = emit.storage.parts.borders.get(op.dest), box_of(op)
    if value is not None and box is not None:
        assert isinstance(whole.type, MemRefType)
        name = emit.copies.border(whole.type, box, value)
        emit.add(func.CallOp(name, [whole], []))


def taken_over(emit: Emitter, op: tile.LaunchOp) -> list[int]:
    """For each result of a launch: the operand whose memory it is written over, or -1."""
    cell = emit.storage.cell
    tensors = [(i, value) for i, value in enumerate(op.inputs) if isinstance(value.type, TensorType)]
    return [
        next((i for i, value in tensors if cell(value) is cell(result) and cell(value).place is not Place.HEAP), -1)
        for result in op.outputs
    ]


def empty(emit: Emitter, op: tensor.EmptyOp) -> None:
    emit.buffers[op.tensor] = emit.target(op.tensor)


def reshape(emit: Emitter, op: tensor.ExpandShapeOp | tensor.CollapseShapeOp) -> None:
    """Row-major memory under other sizes."""
    source, result = emit.buffers[op.src], op.result
    kind = memref_of(result.type)
    properties: dict[str, Attribute] = {"reassociation": op.reassociation}
    view: type[Operation] = memref.CollapseShapeOp
    sizes: list[SSAValue] = []
    if isinstance(op, tensor.ExpandShapeOp):
        view, sizes = memref.ExpandShapeOp, [emit.scalars[size] for size in op.dynamic_output_shape]
        properties["static_output_shape"] = op.static_output_shape
    shaped = view.create(operands=[source, *sizes], result_types=[kind], properties=properties)
    emit.buffers[result] = emit.add(shaped)


def cast(emit: Emitter, op: tensor.CastOp) -> None:
    assert isinstance(op.dest.type, TensorType)
    emit.buffers[op.dest] = emit.add(memref.CastOp.get(emit.buffers[op.source], memref_of(op.dest.type)))


def dim(emit: Emitter, op: tensor.DimOp) -> None:
    """A size that is known by now; else it is read from the memref."""
    size = emit.sizes.scalar(op.result)
    if emit.sizes.at_entry(size):
        emit.scalars[op.result] = emit.size(size)
    else:
        emit.scalars[op.result] = emit.add(memref.DimOp(emit.buffers[op.source], emit.scalars[op.index]))


# ------ slices


def subview(
    emit: Emitter, buffer: SSAValue, op: tensor.ExtractSliceOp | tensor.InsertSliceOp, shape: TensorType[Attribute]
) -> SSAValue:
    """The part of a memref that a slice op means, in its rank-reduced form, with a strided layout."""
    assert isinstance(buffer.type, MemRefType)
    kept = kept_dimensions(op.static_sizes, shape)
    offsets, steps = op.static_offsets.get_values(), op.static_strides.get_values()
    result = subview_type(buffer.type, offsets, steps, shape.get_shape(), kept)
    view = memref.SubviewOp(
        buffer,
        [emit.scalars[value] for value in op.offsets],
        [emit.scalars[value] for value in op.sizes],
        [emit.scalars[value] for value in op.strides],
        op.static_offsets,
        op.static_sizes,
        op.static_strides,
        result,
    )
    return emit.add(view)


def extract_slice(emit: Emitter, op: tensor.ExtractSliceOp) -> None:
    """A view where the slice has no gaps, else a copy of it."""
    assert isinstance(op.result.type, TensorType)
    part = subview(emit, emit.buffers[op.source], op, op.result.type)
    if contiguous(op, emit.sizes):
        kind = memref_of(op.result.type)
        emit.buffers[op.result] = emit.add(host.RebaseOp.create(operands=[part], result_types=[kind]))
        return
    target = emit.buffers[op.result] = emit.target(op.result)
    emit.copy(part, target)


def insert_slice(emit: Emitter, op: tensor.InsertSliceOp) -> None:
    """Into the destination itself where nobody reads it later, else into a copy of it."""
    source, dest = emit.buffers[op.source], emit.buffers[op.dest]
    if emit.storage.in_place(op.dest, op.result):
        target = dest
        if emit.storage.parts.within.get(op.source) is op:
            emit.buffers[op.result] = target
            return
        border(emit, op, target)
    else:
        target = emit.target(op.result)
        if not isinstance(op.dest.owner, tensor.EmptyOp):
            emit.copy(dest, target)
    emit.buffers[op.result] = target
    assert isinstance(op.source.type, TensorType)
    emit.copy(source, subview(emit, target, op, op.source.type))


# ------ single elements


def extract(emit: Emitter, op: tensor.ExtractOp) -> None:
    foreign = emit.storage.cell(op.tensor).place is Place.FOREIGN
    indices = [emit.scalars[index] for index in op.indices]
    emit.scalars[op.result] = emit.load(emit.buffers[op.tensor], indices, foreign)


def from_elements(emit: Emitter, op: tensor.FromElementsOp) -> None:
    """Stores of all elements, in row-major order."""
    target = emit.buffers[op.result] = emit.target(op.result)
    assert isinstance(op.result.type, TensorType)
    store_all(emit, [emit.scalars[value] for value in op.elements], target, op.result.type.get_shape())


def store_all(emit: Emitter, values: Sequence[SSAValue], target: SSAValue, shape: Sequence[int]) -> None:
    """Store numbers one after another into a memref of static shape."""
    positions: list[list[SSAValue]] = [[]]
    for size in shape:
        positions = [[*position, emit.constant(i)] for position in positions for i in range(size)]

    def stores() -> None:
        for value, position in zip(values, positions, strict=True):
            emit.add(memref.StoreOp.get(value, target, position))

    if values:
        emit.by_thread_zero(stores)


def undefined(emit: Emitter, op: host.UndefinedOp) -> None:
    """Numbers stay undefined; a tensor that nobody reads gets memory, but nothing in it."""
    kind = op.result.type
    if isinstance(kind, host.ListType):
        emit.lists[op.result] = lists.empty(emit, kind)
    elif not isinstance(kind, TensorType):
        scalar_op(emit, op)
    elif emit.storage.cell(op.result).place is Place.HEAP:
        sizes = [emit.constant(0) for size in kind.get_shape() if size == DYNAMIC_INDEX]
        emit.buffers[op.result] = emit.add(host.AllocOp.create(operands=sizes, result_types=[memref_of(kind)]))
    else:
        emit.buffers[op.result] = emit.target(op.result)


__all__ = ["INDEX", "ArrayAttr", "NoneAttr", "arith"]
