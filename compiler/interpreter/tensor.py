"""`tensor`: whole-array values. A view is as good as a copy, since no value is ever written."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from xdsl.dialects import tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, TensorType
from xdsl.ir import Attribute, Operation

from stepwell.compiler.interpreter.rules import Evaluate, Fault, emitter, rule, unsupported
from stepwell.compiler.interpreter.translate import Writer
from stepwell.compiler.interpreter.values import Array, dtype_of, element_of, poison, static_shape


def mixed(static: DenseArrayBase[Any], marker: int = DYNAMIC_INDEX) -> list[int | None]:
    """A static list of a mixed static and dynamic one; None where an operand gives the value."""
    return [None if value == marker else int(value) for value in static.get_values()]


def fill_in(static: list[int | None], dynamic: Any) -> list[int]:
    """The whole list, its gaps filled in order from the iterator `dynamic`."""
    return [int(next(dynamic)) if value is None else value for value in static]


def check_index(position: Any, size: int, dimension: int) -> None:
    """Raise Fault unless 0 <= position < size, for a number or every element of an array."""
    if isinstance(position, np.ndarray):
        if not position.size:
            return
        low, high = position.min(), position.max()
    else:
        low = high = position
    if low < 0 or high >= size:
        raise Fault(f"index {low if low < 0 else high} is out of bounds for dimension {dimension} of size {size}")


@rule("tensor.empty")
def empty(op: tensor.EmptyOp) -> Evaluate:
    type = op.tensor.type
    dtype = dtype_of(element_of(type))
    return lambda *sizes: poison(dtype, static_shape(type, sizes))


@rule("tensor.splat")
def splat(op: tensor.SplatOp) -> Evaluate:
    type = op.result.type
    dtype = dtype_of(element_of(type))
    return lambda value, *sizes: np.full(static_shape(type, sizes), value, dtype)


@rule("tensor.from_elements")
def from_elements(op: tensor.FromElementsOp) -> Evaluate:
    type = op.result.type
    dtype, shape = dtype_of(element_of(type)), static_shape(type)
    return lambda *elements: np.array(elements, dtype).reshape(shape)


@rule("tensor.dim", "memref.dim")
def dim(op: tensor.DimOp) -> Evaluate:
    def size(source: Any, index: int) -> int:
        shape = source.shape if isinstance(source, np.ndarray) else source.sizes
        check_index(index, len(shape), 0)
        return int(shape[index])

    return size


@rule("tensor.rank")
def rank(op: Operation) -> Evaluate:
    return lambda source: source.ndim


@rule("tensor.extract")
def extract(op: tensor.ExtractOp) -> Evaluate:
    """One element, or in a structured op's body one per lane."""
    is_index = op.result.type.name == "index"

    def read(source: Array, *indices: Any) -> Any:
        for dimension, (position, size) in enumerate(zip(indices, source.shape, strict=True)):
            check_index(position, size, dimension)
        value = source[indices]
        return int(value) if is_index and not isinstance(value, np.ndarray) else value

    return read


@rule("tensor.insert")
def insert(op: tensor.InsertOp) -> Evaluate:
    def write(value: Any, target: Array, *indices: int) -> Array:
        for dimension, (position, size) in enumerate(zip(indices, target.shape, strict=True)):
            check_index(position, size, dimension)
        result = target.copy()
        result[indices] = value
        return result

    return write


@rule("tensor.cast")
def cast(op: tensor.CastOp) -> Evaluate:
    type = op.dest.type
    return lambda source: checked(source, type)


def checked(array: Array, type: Attribute) -> Array:
    """The array, once its shape is that of `type` where `type` says it. Raises Fault otherwise."""
    assert isinstance(type, TensorType)
    shape = type.get_shape()
    if len(shape) != array.ndim or any(
        want not in (DYNAMIC_INDEX, have) for want, have in zip(shape, array.shape, strict=True)
    ):
        raise Fault(f"a tensor of shape {list(array.shape)} is no {type}")
    return array


def reshaped(array: Array, shape: tuple[int, ...]) -> Array:
    """The same elements in another shape. Raises Fault where the counts differ."""
    if int(np.prod(shape)) != array.size:
        raise Fault(f"{array.size} elements do not fill the shape {list(shape)}")
    return array.reshape(shape)


def groups_of(op: Operation) -> list[list[int]]:
    """The reassociation of an expand or collapse: for each dimension of the smaller shape those of the larger."""
    reassociation: Any = op.properties["reassociation"]
    return [[int(dimension.value.data) for dimension in group] for group in reassociation]


def collapsed_sizes(shape: tuple[int, ...], groups: list[list[int]]) -> tuple[int, ...]:
    """The sizes after each group of dimensions becomes one."""
    return tuple(int(np.prod([shape[dimension] for dimension in group])) for group in groups)


@rule("tensor.collapse_shape")
def collapse_shape(op: tensor.CollapseShapeOp) -> Evaluate:
    groups, type = groups_of(op), op.result.type
    return lambda source: checked(source.reshape(collapsed_sizes(source.shape, groups)), type)


@rule("tensor.expand_shape")
def expand_shape(op: tensor.ExpandShapeOp) -> Evaluate:
    groups, sizes, type = groups_of(op), mixed(op.static_output_shape), op.result.type

    def expand(source: Array, *dynamic: int) -> Array:
        shape = tuple(fill_in(sizes, iter(dynamic)))
        if collapsed_sizes(shape, groups) != source.shape:
            raise Fault(f"shape {list(source.shape)} does not expand to {list(shape)} by {groups}")
        return checked(source.reshape(shape), type)

    return expand


@rule("tensor.reshape")
def reshape(op: tensor.ReshapeOp) -> Evaluate:
    type = op.result.type
    return lambda source, shape: checked(reshaped(source, tuple(int(size) for size in shape)), type)


class Slice:
    """The offsets, sizes and strides of a slice or subview op; `regions` of it are read and written by numpy
    slices."""

    def __init__(self, op: Operation) -> None:
        properties: Any = op.properties
        self.parts = [mixed(properties[f"static_{part}"]) for part in ("offsets", "sizes", "strides")]

    def resolve(self, dynamic: Any) -> tuple[list[int], list[int], list[int]]:
        """Offsets, sizes, strides, the gaps filled from the op's dynamic operands."""
        values = iter(dynamic)
        offsets, sizes, strides = (fill_in(part, values) for part in self.parts)
        return offsets, sizes, strides

    def of(self, shape: tuple[int, ...], dynamic: Any) -> tuple[slice, ...]:
        """The numpy slices. Raises Fault where the slice leaves `shape`."""
        offsets, sizes, strides = self.resolve(dynamic)
        self.check(offsets, sizes, strides, shape)
        slices = []
        for offset, size, stride in zip(offsets, sizes, strides, strict=True):
            stop = offset + (size - 1) * stride + (1 if stride > 0 else -1)
            slices.append(slice(offset, None if stop < 0 else stop, stride or 1) if size else slice(0, 0))
        return tuple(slices)

    def check(self, offsets: list[int], sizes: list[int], strides: list[int], shape: tuple[int, ...]) -> None:
        """Raise Fault where the slice leaves `shape`."""
        for dimension, (offset, size, stride, limit) in enumerate(zip(offsets, sizes, strides, shape, strict=True)):
            last = offset + (size - 1) * stride
            if size < 0 or offset < 0 or offset > limit or (size and not 0 <= last < limit):
                raise Fault(
                    f"{size} elements from {offset} with stride {stride} leave dimension {dimension} of size {limit}"
                )


def kept_dimensions(op: Operation, sizes: list[int | None], target: Attribute) -> list[int]:
    """The dimensions that a rank-reducing result type keeps: the others are of the static size 1.

    `sizes` are the op's static sizes, None where dynamic. Raises UnsupportedError where the type does not fit.
    """
    shape = target.get_shape()  # type: ignore[attr-defined]
    units = [dimension for dimension, size in enumerate(sizes) if size == 1]
    for exact in (True, False):
        for dropped in itertools.combinations(units, len(sizes) - len(shape)):
            kept = [dimension for dimension in range(len(sizes)) if dimension not in dropped]
            pairs = [(sizes[dimension], None if size < 0 else size) for dimension, size in zip(kept, shape, strict=True)]
            if all(have == want or (not exact and None in (have, want)) for have, want in pairs):
                return kept
    raise unsupported(op, f"the sizes {sizes} do not reduce to {target}")


@rule("tensor.extract_slice")
def extract_slice(op: tensor.ExtractSliceOp) -> Evaluate:
    where, type = Slice(op), op.result.type
    kept = kept_dimensions(op, where.parts[1], type)

    def read(source: Array, *dynamic: int) -> Array:
        part = source[where.of(source.shape, dynamic)]
        return checked(part.reshape([part.shape[dimension] for dimension in kept]), type)

    return read


@rule("tensor.insert_slice")
def insert_slice(op: tensor.InsertSliceOp) -> Evaluate:
    where = Slice(op)

    def write(source: Array, target: Array, *dynamic: int) -> Array:
        result = target.copy()
        place = where.of(target.shape, dynamic)
        hole = result[place]
        if source.size != hole.size:
            raise Fault(f"a tensor of shape {list(source.shape)} does not fill a slice of {list(hole.shape)}")
        result[place] = source.reshape(hole.shape)
        return result

    return write


@rule("tensor.concat")
def concat(op: tensor.ConcatOp) -> Evaluate:
    axis, type = op.dim.value.data, op.result.type
    return lambda *parts: checked(np.concatenate(parts, axis), type)


@emitter("tensor.pad")
def pad(writer: Writer, op: tensor.PadOp) -> None:
    low, high = mixed(op.static_low), mixed(op.static_high)
    vectorised, writer.vectorised = writer.vectorised, True
    value = writer.callable_region(op.region.block)
    writer.vectorised = vectorised

    def padded(fill: Any, source: Array, *dynamic: int) -> Array:
        given = iter(dynamic)
        before, after = fill_in(low, given), fill_in(high, given)
        shape = tuple(sum(parts) for parts in zip(source.shape, before, after, strict=True))
        if any(size < 0 for size in shape):
            raise Fault(f"padding {list(source.shape)} by {before} and {after} leaves nothing")
        positions = np.indices(shape, sparse=True) if shape else ()
        result = np.empty(shape, source.dtype)
        result[...] = fill(*positions)[0]
        # A negative padding crops.
        inner = tuple(
            slice(max(-first, 0), size + min(last, 0))
            for first, last, size in zip(before, after, source.shape, strict=True)
        )
        target = tuple(
            slice(max(first, 0), size - max(last, 0))
            for first, last, size in zip(before, after, shape, strict=True)
        )
        result[target] = source[inner]
        return result

    arguments = ", ".join([value, *[writer.name(operand) for operand in op.operands]])
    writer.line(f"{writer.define(op.result)} = {writer.constant(padded)}({arguments})")


@emitter("tensor.generate")
def generate(writer: Writer, op: Operation) -> None:
    """A tensor from a function of the indices."""
    type = op.results[0].type
    dtype = dtype_of(element_of(type))
    vectorised, writer.vectorised = writer.vectorised, True
    body = writer.callable_region(op.regions[0].block)
    writer.vectorised = vectorised

    def generated(element: Any, *sizes: int) -> Array:
        shape = static_shape(type, sizes)
        result = np.empty(shape, dtype)
        result[...] = element(*(np.indices(shape, sparse=True) if shape else ()))[0]
        return result

    arguments = ", ".join([body, *[writer.name(operand) for operand in op.operands]])
    writer.line(f"{writer.define(op.results[0])} = {writer.constant(generated)}({arguments})")
