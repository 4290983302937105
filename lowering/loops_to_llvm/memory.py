"""memref -> pointers and index arithmetic.

    %v = memref.load %m[%i, %j] : memref<?x8xf32>        a = getelementptr f32, m[i * 8 + j];  v = load a

Views (subview, view, reinterpret_cast, cast, expand_shape, collapse_shape) cost address arithmetic at most:
they make another `Buffer` over the same memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from xdsl.dialects import llvm, memref
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    BoolAttr,
    BytesAttr,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    IntAttr,
    IntegerAttr,
    IntegerType,
    MemRefType,
    SymbolRefAttr,
    TensorType,
    i8,
    i32,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue

from stepwell.dialects import host
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.upstream import core
from stepwell.dialects.upstream import llvm as upstream
from stepwell.dialects.upstream.core import like
from stepwell.lowering.loops_to_llvm.arithmetic import Handler, compare, splat
from stepwell.lowering.loops_to_llvm.builder import FunctionLowering
from stepwell.lowering.loops_to_llvm.support import call_intrinsic
from stepwell.lowering.loops_to_llvm.types import (
    POINTER,
    Buffer,
    Size,
    byte_size,
    is_bool,
    strides_of,
)

DYNAMIC = DYNAMIC_INDEX
STACK_ALIGNMENT = 64


def memref_type(value: SSAValue) -> MemRefType[Attribute]:
    """The type of a memref value."""
    kind = value.type
    if not isinstance(kind, MemRefType):
        raise UnsupportedError(f"{kind} is no ranked memref")
    return kind


def to_memory(lower: FunctionLowering, value: SSAValue) -> SSAValue:
    """A value as it lies in memory: i1 as a byte."""
    return lower.emit(llvm.ZExtOp, (value,), like(value.type, i8)) if is_bool(value.type) else value


def from_memory(lower: FunctionLowering, value: SSAValue, kind: Attribute) -> SSAValue:
    """The opposite: any byte but 0 is true."""
    return compare(lower, "ne", value, splat(lower, 0, value.type)) if is_bool(kind) else value


def load(lower: FunctionLowering, op: Operation) -> None:
    """memref.load, and vector.load: the result says how much."""
    buffer, result = lower.buffers[op.operands[0]], op.results[0]
    pointer = lower.address(buffer, op.operands[1:])
    kind = lower.types.memory(result.type)
    loaded = lower.load(pointer, kind, byte_size(buffer.element))
    lower.values[result] = from_memory(lower, loaded, result.type)


def store(lower: FunctionLowering, op: Operation) -> None:
    """memref.store and vector.store."""
    value, target, *indices = op.operands
    buffer = lower.buffers[target]
    stored = to_memory(lower, lower.value(value))
    lower.store(stored, lower.address(buffer, indices), byte_size(buffer.element))


def alloca(lower: FunctionLowering, op: Operation) -> None:
    """Stack memory of a static size, taken once at the function's entry, 64-byte aligned."""
    kind = memref_type(op.results[0])
    if op.operands or strides_of(kind) is not None:
        raise UnsupportedError(f"memref.alloca of {kind}: only static sizes without a layout")
    count = 1
    for size in kind.get_shape():
        count *= size
    pointer = lower.head_op(
        llvm.AllocaOp,
        (lower.integer(max(1, count)),),
        POINTER,
        {"elem_type": lower.types.memory(kind.element_type), "alignment": IntegerAttr(STACK_ALIGNMENT, i64)},
    )
    lower.buffers[op.results[0]] = lower.buffer(kind, pointer, iter(()))


def dim(lower: FunctionLowering, op: Operation) -> None:
    """One size, whose number must be known now."""
    position = lower.known.get(op.operands[1])
    if position is None:
        raise UnsupportedError("memref.dim with a dimension number computed at run time")
    size = lower.buffers[op.operands[0]].sizes[position]
    if isinstance(size, int):
        lower.known[op.results[0]] = size
    else:
        lower.values[op.results[0]] = size


def mixed(lower: FunctionLowering, op: Operation, name: str, dynamic: Iterator[SSAValue]) -> list[Size]:
    """A list of static and dynamic numbers (offsets, sizes, strides) of a view op."""
    static = cast("DenseArrayBase[IntegerType]", op.properties[name]).get_values()
    return [lower.index(next(dynamic)) if number == DYNAMIC else number for number in static]


def subview(lower: FunctionLowering, op: Operation) -> None:
    """A rectangle of another memref; dimensions of size 1 may be dropped from the type."""
    source, result = lower.buffers[op.operands[0]], op.results[0]
    dynamic = iter(op.operands[1:])
    offsets, sizes, steps = (mixed(lower, op, f"static_{name}", dynamic) for name in ("offsets", "sizes", "strides"))
    start: Size = 0
    for offset, stride in zip(offsets, source.strides, strict=True):
        start = lower.add(start, lower.multiply(offset, stride))
    strides = [lower.multiply(step, stride) for step, stride in zip(steps, source.strides, strict=True)]
    pointer = lower.offset(source.pointer, start, lower.types.memory(source.element))
    kept = _kept_dimensions(op, sizes, memref_type(result).get_shape())
    view = Buffer(pointer, source.element, tuple(sizes[i] for i in kept), tuple(strides[i] for i in kept))
    lower.buffers[result] = view


def _kept_dimensions(op: Operation, sizes: Sequence[Size], shape: Sequence[int]) -> list[int]:
    """Which dimensions of a rank-reducing subview remain: sizes of 1 are dropped from the left."""
    kept: list[int] = []
    droppable = len(sizes) - len(shape)
    for i, size in enumerate(sizes):
        wanted = shape[len(kept)] if len(kept) < len(shape) else None
        if droppable and size == 1 and (wanted != 1 or wanted is None):
            droppable -= 1
        else:
            kept.append(i)
    while len(kept) > len(shape):
        ones = [i for i in kept if sizes[i] == 1]
        if not ones:
            raise UnsupportedError(f"{op.name}: the result's rank does not match its sizes")
        kept.remove(ones[0])
    return kept


def view(lower: FunctionLowering, op: Operation) -> None:
    """A typed piece of a byte buffer."""
    source, shift, *sizes = op.operands
    result = op.results[0]
    pointer = lower.offset(lower.buffers[source].pointer, lower.index(shift), i8)
    lower.buffers[result] = lower.buffer(memref_type(result), pointer, iter([lower.index(s) for s in sizes]))


def reinterpret_cast(lower: FunctionLowering, op: Operation) -> None:
    """The same memory under other sizes and strides; the offset counts from the source's first element."""
    source = lower.buffers[op.operands[0]]
    dynamic = iter(op.operands[1:])
    offsets, sizes, strides = (mixed(lower, op, f"static_{name}", dynamic) for name in ("offsets", "sizes", "strides"))
    pointer = lower.offset(source.pointer, offsets[0] if offsets else 0, lower.types.memory(source.element))
    lower.buffers[op.results[0]] = Buffer(pointer, source.element, tuple(sizes), tuple(strides))


def cast_(lower: FunctionLowering, op: Operation) -> None:
    """The same buffer; what the result's type knows statically is believed."""
    source = lower.buffers[op.operands[0]]
    kind = memref_type(op.results[0])
    shape, layout = kind.get_shape(), strides_of(kind)
    sizes = tuple(have if want < 0 else want for want, have in zip(shape, source.sizes, strict=True))
    strides = source.strides
    if layout is not None:
        strides = tuple(have if want is None else want for want, have in zip(layout, strides, strict=True))
    lower.buffers[op.results[0]] = Buffer(source.pointer, source.element, sizes, strides)


def rebase(lower: FunctionLowering, op: Operation) -> None:
    """The same memory from its first element on, promised to lie row by row where the type says so."""
    source = lower.buffers[op.operands[0]]
    plain = strides_of(memref_type(op.results[0])) is None
    strides = lower.row_major(source.sizes) if plain else source.strides
    lower.buffers[op.results[0]] = Buffer(source.pointer, source.element, source.sizes, strides)


def groups_of(op: Operation) -> list[list[int]]:
    """The reassociation of expand_shape and collapse_shape."""
    groups = cast("ArrayAttr[ArrayAttr[IntegerAttr[IntegerType]]]", op.properties["reassociation"])
    return [[number.value.data for number in group] for group in groups]


def expand_shape(lower: FunctionLowering, op: Operation) -> None:
    """One dimension seen as several: strides grow from the right within each group."""
    source, result = lower.buffers[op.operands[0]], op.results[0]
    sizes = mixed(lower, op, "static_output_shape", iter(op.operands[1:]))
    strides: list[Size] = [0] * len(sizes)
    for group, stride in zip(groups_of(op), source.strides, strict=True):
        step = stride
        for dimension in reversed(group):
            strides[dimension] = step
            step = lower.multiply(step, sizes[dimension])
    if not source.strides:
        strides = [1] * len(sizes)
    lower.buffers[result] = Buffer(source.pointer, source.element, tuple(sizes), tuple(strides))


def collapse_shape(lower: FunctionLowering, op: Operation) -> None:
    """Several dimensions seen as one: the stride is that of the innermost one that is not 1."""
    source, result = lower.buffers[op.operands[0]], op.results[0]
    sizes: list[Size] = []
    strides: list[Size] = []
    for group in groups_of(op):
        sizes.append(lower.product([source.sizes[i] for i in group]))
        inner = next((i for i in reversed(group) if source.sizes[i] != 1), group[-1])
        strides.append(source.strides[inner])
    lower.buffers[result] = Buffer(source.pointer, source.element, tuple(sizes), tuple(strides))


def copy(lower: FunctionLowering, op: Operation) -> None:
    """One block copy where both sides are without gaps, else loops. The two must not overlap."""
    source, target = (lower.buffers[operand] for operand in op.operands)
    if source.is_contiguous() and target.is_contiguous():
        total = lower.multiply(lower.product(source.sizes), byte_size(source.element))
        operands = (target.pointer, source.pointer, lower.size(total))
        lower.build(upstream.MemcpyOp, operands, (), {"isVolatile": BoolAttr.from_bool(False)})
        return
    _copy_dimension(lower, source, target, 0)


def _copy_dimension(lower: FunctionLowering, source: Buffer, target: Buffer, dimension: int) -> None:
    if dimension == len(source.sizes):
        kind, size = lower.types.memory(source.element), byte_size(source.element)
        lower.store(lower.load(source.pointer, kind, size), target.pointer, size)
        return

    def body(index: SSAValue) -> None:
        inner = [
            Buffer(
                lower.offset(b.pointer, lower.multiply(index, b.strides[dimension]), lower.types.memory(b.element)),
                b.element,
                b.sizes,
                b.strides,
            )
            for b in (source, target)
        ]
        _copy_dimension(lower, inner[0], inner[1], dimension + 1)

    from stepwell.lowering.loops_to_llvm.control import counted_loop

    counted_loop(lower, lower.size(source.sizes[dimension]), body)


def get_global(lower: FunctionLowering, op: Operation) -> None:
    """A constant table of the module."""
    name = cast("SymbolRefAttr", op.properties["name"])
    pointer = lower.head_op(llvm.AddressOfOp, (), POINTER, {"global_name": name})
    lower.buffers[op.results[0]] = lower.buffer(memref_type(op.results[0]), pointer, iter(()))


def lower_global(op: memref.GlobalOp, table: object) -> llvm.GlobalOp:
    """memref.global with a dense initial value -> a private constant."""
    kind = op.type
    value: Attribute | None = op.initial_value
    if not isinstance(kind, MemRefType) or not isinstance(value, DenseIntOrFPElementsAttr):
        raise UnsupportedError(f"memref.global @{op.sym_name.data} needs a dense initial value")
    count, element = len(value), _memory_element(kind.element_type)
    if element != kind.element_type:
        # bf16 lies in memory as its bits, i1 as a byte that is 0 or 1.
        data = bytes(byte & 1 for byte in value.data.data) if is_bool(kind.element_type) else value.data.data
        bits = cast("IntegerType", element)
        value = DenseIntOrFPElementsAttr(TensorType(bits, [count]), BytesAttr(data))
    array = llvm.LLVMArrayType(IntAttr(count), element)
    return llvm.GlobalOp(array, op.sym_name, "internal", constant=True, value=value, alignment=STACK_ALIGNMENT)


def _memory_element(kind: Attribute) -> Attribute:
    from stepwell.lowering.loops_to_llvm.types import TypeTable

    return TypeTable().memory(kind)


def assume_alignment(lower: FunctionLowering, op: Operation) -> None:
    """Unaligned accesses are as fast as aligned ones: nothing is made of the promise."""
    lower.buffers[op.results[0]] = lower.buffers[op.operands[0]]


def prefetch(lower: FunctionLowering, op: Operation) -> None:
    """memref.prefetch -> llvm.prefetch(address, write, locality, data)."""
    assert isinstance(op, core.PrefetchOp)
    pointer = lower.address(lower.buffers[op.memref], op.indices)
    numbers = (int(op.isWrite.value.data != 0), op.localityHint.value.data, int(op.isDataCache.value.data != 0))
    call_intrinsic(lower, "llvm.prefetch", (pointer, *(lower.integer(number, i32) for number in numbers)), None)


HANDLERS: dict[type[Operation], Handler] = {
    memref.LoadOp: load,
    memref.StoreOp: store,
    memref.AllocaOp: alloca,
    memref.DimOp: dim,
    memref.SubviewOp: subview,
    memref.ViewOp: view,
    memref.ReinterpretCastOp: reinterpret_cast,
    memref.CastOp: cast_,
    host.RebaseOp: rebase,
    memref.ExpandShapeOp: expand_shape,
    memref.CollapseShapeOp: collapse_shape,
    memref.CopyOp: copy,
    memref.GetGlobalOp: get_global,
    memref.AssumeAlignmentOp: assume_alignment,
    core.PrefetchOp: prefetch,
}
