"""`memref`: views of shared memory. What leaves a memref or its memory is an error that names the op."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from xdsl.dialects import memref
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, IndexType, MemRefType, NoneAttr
from xdsl.ir import Operation

from stepwell.compiler.interpreter.arith import constant_array
from stepwell.compiler.interpreter.rules import Evaluate, Fault, emitter, rule, unsupported
from stepwell.compiler.interpreter.tensor import (
    Slice,
    check_index,
    collapsed_sizes,
    fill_in,
    groups_of,
    kept_dimensions,
    mixed,
)
from stepwell.compiler.interpreter.translate import Writer
from stepwell.compiler.interpreter.values import (
    MemRef,
    allocate,
    dtype_of,
    element_of,
    memref_over,
    poison,
    row_major,
    static_shape,
)


def check_indices(source: MemRef, indices: tuple[int, ...]) -> None:
    """Raise Fault unless the indices lie within the memref."""
    for dimension, (position, size) in enumerate(zip(indices, source.sizes, strict=True)):
        check_index(position, size, dimension)


@rule("memref.load")
def load(op: memref.LoadOp) -> Evaluate:
    is_index = isinstance(op.res.type, IndexType)

    def read(source: MemRef, *indices: int) -> Any:
        # numpy itself refuses what is too large.
        if indices and min(indices) < 0:
            check_indices(source, indices)
        value = source.array[indices]
        return int(value) if is_index else value

    return read


@rule("memref.store")
def store(op: memref.StoreOp) -> Evaluate:
    def write(value: Any, target: MemRef, *indices: int) -> None:
        if indices and min(indices) < 0:
            check_indices(target, indices)
        target.array[indices] = value

    return write


ATOMICS = {
    0: np.add, 1: np.add, 2: lambda old, new: new, 3: np.maximum, 4: np.maximum, 6: np.minimum, 7: np.minimum,
    9: np.multiply, 10: np.multiply, 11: np.bitwise_or, 12: np.bitwise_and,
}  # fmt: skip
"""By arith.AtomicRMWKind: addf addi assign maximumf maxs minimumf mins mulf muli ori andi."""


@rule("memref.atomic_rmw")
def atomic_rmw(op: memref.AtomicRMWOp) -> Evaluate:
    kind = op.kind.value.data
    if kind not in ATOMICS:
        raise unsupported(op, f"kind {kind}")
    combine: Any = ATOMICS[kind]

    def update(value: Any, target: MemRef, *indices: int) -> Any:
        check_indices(target, indices)
        target.array[indices] = combine(target.array[indices], value)
        return target.array[indices]

    return update


@rule("memref.alloc", "memref.alloca")
def alloc(op: memref.AllocOp) -> Evaluate:
    type = op.memref.type
    dtype = dtype_of(element_of(type))
    alignment = max(64, op.alignment.value.data if op.alignment else 0)
    return lambda *sizes: allocate(dtype, static_shape(type, sizes), alignment)


@rule("memref.dealloc")
def dealloc(op: memref.DeallocOp) -> Evaluate:
    return spoil


def spoil(source: MemRef) -> None:
    """Fill the memory of a memref that is given back with poison, so that a later use shows."""
    source.array[...] = poison(source.dtype)


@rule("memref.copy")
def copy(op: memref.CopyOp) -> Evaluate:
    def copied(source: MemRef, target: MemRef) -> None:
        if source.sizes != target.sizes:
            raise Fault(f"sizes {list(source.sizes)} are copied to {list(target.sizes)}")
        target.array[...] = source.array

    return copied


@rule("memref.cast", "memref.memory_space_cast")
def cast(op: memref.CastOp) -> Evaluate:
    type = op.dest.type
    return lambda source: checked(source, type)


def checked(source: MemRef, type: Any) -> MemRef:
    """The memref, once sizes, offset and strides are what `type` states. Raises Fault otherwise."""
    if isinstance(type, MemRefType):
        strides = type.get_strides() or ()
        stated = [*type.get_shape(), *[None if stride is None else stride for stride in strides]]
        actual = [*source.sizes, *source.strides]
        sizes = len(source.sizes)
        for place, (want, have) in enumerate(zip(stated, actual, strict=True)):
            # The stride of a dimension of size 1 is never used.
            if want is None or want < 0 or want == have or (place >= sizes and source.sizes[place - sizes] <= 1):
                continue
            if place < sizes or 0 not in source.sizes:
                raise Fault(f"a memref of sizes {list(source.sizes)} and strides {list(source.strides)} is no {type}")
    return source


@rule("memref.subview")
def subview(op: memref.SubviewOp) -> Evaluate:
    where, type = Slice(op), op.result.type
    kept = kept_dimensions(op, where.parts[1], type)

    def view(source: MemRef, *dynamic: int) -> MemRef:
        offsets, sizes, steps = where.resolve(dynamic)
        where.check(offsets, sizes, steps, source.sizes)
        strides = source.strides
        offset = source.offset + sum(first * stride for first, stride in zip(offsets, strides, strict=True))
        strides = tuple(stride * step for stride, step in zip(strides, steps, strict=True))
        return checked(source.moved(offset, [sizes[d] for d in kept], [strides[d] for d in kept]), type)

    return view


@rule("memref.view")
def view(op: memref.ViewOp) -> Evaluate:
    type = op.results[0].type
    dtype = dtype_of(element_of(type))

    def typed(source: MemRef, start: int, *sizes: int) -> MemRef:
        shape = static_shape(type, sizes)
        check_index(start, len(source.memory) - source.offset + 1, 0)
        room = source.memory[source.offset + start : source.offset + source.array.size]
        return MemRef(room, dtype, 0, shape, row_major(shape))

    return typed


@rule("memref.reinterpret_cast")
def reinterpret_cast(op: memref.ReinterpretCastOp) -> Evaluate:
    parts, type = Slice(op), op.result.type

    def view(source: MemRef, *dynamic: int) -> MemRef:
        offsets, sizes, strides = parts.resolve(dynamic)
        if source.offset:
            # MLIR counts from the memory's beginning, native code here from the source's first element.
            raise Fault("the source is itself a view that does not begin where its memory does")
        return checked(source.moved(offsets[0], sizes, strides), type)

    return view


@rule("host.rebase")
def rebase(op: Operation) -> Evaluate:
    kind = op.results[0].type
    strided = isinstance(kind, MemRefType) and not isinstance(kind.layout, NoneAttr)

    def view(source: MemRef) -> MemRef:
        if not strided and not source.array.flags.c_contiguous:
            raise Fault(f"sizes {list(source.sizes)} with strides {list(source.strides)} do not lie row by row")
        memory = source.memory[source.offset * source.dtype.itemsize :]
        return MemRef(memory, source.dtype, 0, source.sizes, source.strides if strided else row_major(source.sizes))

    return view


def collapsed(source: MemRef, groups: list[list[int]]) -> MemRef:
    """Each group of dimensions as one. Raises Fault where the elements of a group are not evenly spaced."""
    sizes = collapsed_sizes(source.sizes, groups)
    strides = []
    for group in groups:
        used = [dimension for dimension in group if source.sizes[dimension] != 1]
        for outer, inner in itertools.pairwise(used):
            if 0 not in sizes and source.strides[outer] != source.strides[inner] * source.sizes[inner]:
                raise Fault(f"dimensions {group} of strides {list(source.strides)} do not collapse")
        strides.append(source.strides[used[-1]] if used else 1)
    return source.moved(source.offset, sizes, strides)


@rule("memref.collapse_shape")
def collapse_shape(op: memref.CollapseShapeOp) -> Evaluate:
    groups, type = groups_of(op), op.result.type
    return lambda source: checked(collapsed(source, groups), type)


@rule("memref.expand_shape")
def expand_shape(op: memref.ExpandShapeOp) -> Evaluate:
    groups, static, type = groups_of(op), mixed(op.static_output_shape), op.result.type

    def expand(source: MemRef, *dynamic: int) -> MemRef:
        sizes = fill_in(static, iter(dynamic))
        if collapsed_sizes(tuple(sizes), groups) != source.sizes:
            raise Fault(f"sizes {list(source.sizes)} do not expand to {sizes} by {groups}")
        strides: list[int] = []
        for group, stride in zip(groups, source.strides, strict=True):
            inner = row_major([sizes[dimension] for dimension in group])
            strides += [step * stride for step in inner]
        return checked(source.moved(source.offset, sizes, strides), type)

    return expand


@rule("memref.rank")
def rank(op: memref.RankOp) -> Evaluate:
    return lambda source: len(source.sizes)


@rule("memref.assume_alignment")
def assume_alignment(op: memref.AssumeAlignmentOp) -> Evaluate:
    alignment = op.alignment.value.data

    def aligned(source: MemRef) -> MemRef:
        if source.array.ctypes.data % alignment:
            raise Fault(f"the memory is not aligned to {alignment} bytes")
        return source

    return aligned


@rule("memref.extract_strided_metadata")
def extract_strided_metadata(op: memref.ExtractStridedMetaDataOp) -> Evaluate:
    return lambda source: (source.moved(0, (), ()), source.offset, *source.sizes, *source.strides)


@rule("memref.extract_aligned_pointer_as_index")
def extract_pointer(op: memref.ExtractAlignedPointerAsIndexOp) -> Evaluate:
    return lambda source: source.memory.ctypes.data


@rule("memref.prefetch")
def prefetch(op: Operation) -> Evaluate:
    """Nothing is read, but what is not in the memref has no address."""
    return lambda source, *indices: check_indices(source, indices)


@emitter("memref.alloca_scope")
def alloca_scope(writer: Writer, op: memref.AllocaScopeOp) -> None:
    targets = [writer.define(result) for result in op.results]
    last = writer.body(op.scope.block)
    writer.assign(targets, [writer.name(value) for value in last.operands])


@emitter("memref.get_global")
def get_global(writer: Writer, op: memref.GetGlobalOp) -> None:
    machine, symbol = writer.machine, op.name_.root_reference.data
    if symbol not in machine.globals:
        declared = machine.symbol(symbol)
        if not isinstance(declared, memref.GlobalOp):
            raise unsupported(op, f"@{symbol} is no memref.global")
        machine.globals[symbol] = writer.constant(_global(declared, machine.resources))
    writer.alias(op.memref, machine.globals[symbol])


def _global(op: memref.GlobalOp, resources: Any) -> MemRef:
    type: Any = op.type
    if isinstance(op.initial_value, DenseIntOrFPElementsAttr):
        return memref_over(np.array(constant_array(op, op.initial_value, resources)))
    return allocate(dtype_of(type.element_type), type.get_shape())
