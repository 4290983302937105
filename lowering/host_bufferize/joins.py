"""`host.list_concat` and `host.list_stack`: every element copied to its place in one new buffer."""

from __future__ import annotations

from xdsl.dialects import arith, memref, scf
from xdsl.dialects.builtin import DYNAMIC_INDEX, MemRefType, TensorType
from xdsl.ir import Attribute, Block, Region, SSAValue

from stepwell.dialects import host
from stepwell.lowering.host_bufferize import lists
from stepwell.lowering.host_bufferize.elements import memref_of
from stepwell.lowering.host_bufferize.emitter import INDEX, Emitter
from stepwell.lowering.host_bufferize.views import subview_type

EMPTY = {
    host.ListConcatOp: "torch.cat(): expected a non-empty list of Tensors",
    host.ListStackOp: "stack expects a non-empty TensorList",
}
UNEQUAL = {
    host.ListConcatOp: "Sizes of tensors must match except in the dimension of torch.cat",
    host.ListStackOp: "stack expects each tensor to be equal size",
}

Join = host.ListConcatOp | host.ListStackOp


def join(emit: Emitter, op: Join) -> None:
    """Sizes first (and that they agree), then one strided copy per element."""
    parts = emit.lists[op.list]
    element = lists.element_type(op.list.type)
    assert isinstance(element, TensorType) and isinstance(op.result.type, TensorType)
    length, dim = lists.length_of(parts), op.dim.value.data
    stacks = isinstance(op, host.ListStackOp)
    empty = lists.compare(emit, "eq", length, emit.constant(0))
    lists.raise_if(emit, empty, "builtins.RuntimeError", EMPTY[type(op)])
    kind = memref_of(element)
    first = _element_sizes(emit, parts, emit.constant(0), kind)
    along = emit.constant(1) if stacks else first[dim]
    total = emit.binary(arith.MuliOp, length, along)
    if len(parts) == 4:
        total = _agreed(emit, op, parts, kind, first, length, None if stacks else dim)
    sizes = [*first[:dim], total, *first[dim if stacks else dim + 1 :]]
    made = memref_of(op.result.type)
    dynamic = [size for size, static in zip(sizes, made.get_shape(), strict=True) if static == DYNAMIC_INDEX]
    result = emit.add(host.AllocOp.create(operands=dynamic, result_types=[made]))
    emit.buffers[op.result] = result
    _copy_all(emit, parts, kind, result, sizes, length, dim, stacks)


def _element(emit: Emitter, parts: list[SSAValue], place: SSAValue, kind: MemRefType[Attribute]) -> SSAValue:
    return lists.slot(emit, parts[0], place) if len(parts) == 2 else lists.varying(emit, parts, place, kind)


def _element_sizes(
    emit: Emitter, parts: list[SSAValue], place: SSAValue, kind: MemRefType[Attribute]
) -> list[SSAValue]:
    """The sizes of one element, from its type or from the table."""
    if len(parts) == 2:
        return [emit.constant(size) for size in kind.get_shape()]
    return [
        lists.as_index(emit, emit.load(parts[1], [place, emit.constant(1 + axis)]))
        for axis in range(kind.get_num_dims())
    ]


def _agreed(
    emit: Emitter,
    op: Join,
    parts: list[SSAValue],
    kind: MemRefType[Attribute],
    first: list[SSAValue],
    length: SSAValue,
    dim: int | None,
) -> SSAValue:
    """Check that all elements fit together; the size of the result along the joined dimension."""
    emit.fence()
    block = Block(arg_types=[INDEX, INDEX])
    place, so_far = block.args
    with emit.into([]) as ops:
        sizes = _element_sizes(emit, parts, place, kind)
        for axis, (size, wanted) in enumerate(zip(sizes, first, strict=True)):
            if axis != dim:
                differs = lists.compare(emit, "ne", size, wanted)
                lists.raise_if(emit, differs, "builtins.RuntimeError", UNEQUAL[type(op)])
        more = emit.constant(1) if dim is None else sizes[dim]
        total = emit.binary(arith.AddiOp, so_far, more)
        emit.fence()
    block.add_ops([*ops, scf.YieldOp(total)])
    zero = emit.constant(0)
    return emit.add(scf.ForOp(zero, length, emit.constant(1), [zero], Region(block)))


def _copy_all(
    emit: Emitter,
    parts: list[SSAValue],
    kind: MemRefType[Attribute],
    result: SSAValue,
    sizes: list[SSAValue],
    length: SSAValue,
    dim: int,
    stacks: bool,
) -> None:
    """Copy each element to its stretch of the result along `dim`."""
    emit.fence()
    block = Block(arg_types=[INDEX, INDEX])
    place, offset = block.args
    rank = len(sizes)
    with emit.into([]) as ops:
        element = _element(emit, parts, place, kind)
        own = lists.sizes_of(emit, element)[1]
        extent: list[SSAValue | int] = list(own)
        shape = list(kind.get_shape())
        for axis, static in enumerate(shape):
            if static != DYNAMIC_INDEX:
                extent[axis] = static
        if stacks:
            extent.insert(dim, 1)
        offsets: list[SSAValue | int] = [0] * rank
        offsets[dim] = offset
        assert isinstance(result.type, MemRefType)
        kept = [axis for axis in range(rank) if not (stacks and axis == dim)]
        part = subview_type(result.type, offsets, [1] * rank, shape, kept)
        view = memref.SubviewOp.get(result, offsets, extent, [1] * rank, part)
        emit.copy(element, emit.add(view))
        more = emit.constant(1) if stacks else own[dim]
        following = emit.binary(arith.AddiOp, offset, more)
        emit.fence()
    block.add_ops([*ops, scf.YieldOp(following)])
    zero = emit.constant(0)
    emit.add(scf.ForOp(zero, length, emit.constant(1), [zero], Region(block)))
