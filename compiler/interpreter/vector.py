"""`vector`: numpy arrays of fixed shape. Loads and stores stay within their memref, lane by lane where masked."""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np
from xdsl.dialects import vector
from xdsl.dialects.builtin import DYNAMIC_INDEX, IndexType, VectorType
from xdsl.ir import Attribute, Operation

from stepwell.compiler.interpreter.arith import Integers, greater, lesser, maximum, minimum
from stepwell.compiler.interpreter.memref import check_indices
from stepwell.compiler.interpreter.rules import Evaluate, Fault, rule, unsupported
from stepwell.compiler.interpreter.tensor import check_index, fill_in, mixed
from stepwell.compiler.interpreter.values import Array, MemRef, dtype_of, element_of, poison


def block(source: MemRef, indices: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """The part of a memref that a vector of `shape` covers from `indices` on. Raises Fault where it leaves it."""
    leading = len(indices) - len(shape)
    place: list[Any] = []
    for dimension, (start, size) in enumerate(zip(indices, source.sizes, strict=True)):
        length = 1 if dimension < leading else shape[dimension - leading]
        check_index(start, size, dimension)
        if start + length > size:
            raise Fault(f"{length} lanes from {start} leave dimension {dimension} of size {size}")
        place.append(start if dimension < leading else slice(start, start + length))
    part: Array = source.array[tuple(place)]
    return part


def lanes_of(source: MemRef, indices: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """`block`, fast where a vector of one dimension lies inside."""
    array = source.array
    stop = indices[-1] + shape[-1]
    if len(shape) != 1 or min(indices) < 0 or stop > array.shape[-1]:
        return block(source, indices, shape)
    place: tuple[int | slice, ...] = (*indices[:-1], slice(indices[-1], stop))
    row: Array = array[place]
    return row


def shape_of(type: Attribute) -> tuple[int, ...]:
    """The shape of a vector type. Scalable vectors have none."""
    assert isinstance(type, VectorType)
    return type.get_shape()


@rule("vector.load")
def load(op: vector.LoadOp) -> Evaluate:
    shape = shape_of(op.result.type)
    return lambda source, *indices: lanes_of(source, indices, shape).copy()


@rule("vector.store")
def store(op: vector.StoreOp) -> Evaluate:
    shape = shape_of(op.vector.type)

    def write(value: Array, target: MemRef, *indices: int) -> None:
        lanes_of(target, indices, shape)[...] = value

    return write


def active_lanes(source: MemRef, indices: tuple[int, ...], mask: Array) -> tuple[Array, Array] | None:
    """The row of a masked access and the places of the lanes that are on; None where none is.

    Raises Fault where such a lane is outside the memref.
    """
    lanes = np.flatnonzero(mask)
    if not lanes.size:
        return None
    places = lanes + indices[-1]
    check_indices(source, (*indices[:-1], int(places[0])))
    check_indices(source, (*indices[:-1], int(places[-1])))
    return source.array[indices[:-1]], places


@rule("vector.maskedload")
def masked_load(op: vector.MaskedLoadOp) -> Evaluate:
    def read(source: MemRef, *rest: Any) -> Array:
        *indices, mask, otherwise = rest
        result: Array = np.array(otherwise)
        active = active_lanes(source, tuple(indices), mask)
        if active is not None:
            row, places = active
            result[mask] = row[places]
        return result

    return read


@rule("vector.maskedstore")
def masked_store(op: vector.MaskedStoreOp) -> Evaluate:
    def write(target: MemRef, *rest: Any) -> None:
        *indices, mask, value = rest
        active = active_lanes(target, tuple(indices), mask)
        if active is not None:
            row, places = active
            row[places] = value[mask]

    return write


def _scattered(source: MemRef, indices: tuple[int, ...], offsets: Array, mask: Array) -> tuple[Array, Array]:
    places = offsets[mask].astype(np.int64) + indices[-1]
    check_indices(source, (*indices[:-1], 0) if source.sizes[-1] else indices)
    check_index(places, source.sizes[-1], len(indices) - 1)
    return source.array[indices[:-1]], places


@rule("vector.gather")
def gather(op: Operation) -> Evaluate:
    def read(source: MemRef, *rest: Any) -> Array:
        *indices, offsets, mask, otherwise = rest
        result: Array = np.array(otherwise)
        if mask.any():
            row, places = _scattered(source, tuple(indices), offsets, mask)
            result[mask] = row[places]
        return result

    return read


@rule("vector.scatter")
def scatter(op: Operation) -> Evaluate:
    def write(target: MemRef, *rest: Any) -> None:
        *indices, offsets, mask, value = rest
        if mask.any():
            row, places = _scattered(target, tuple(indices), offsets, mask)
            for place, element in zip(places, value[mask], strict=True):
                row[place] = element

    return write


@rule("vector.step")
def step(op: Operation) -> Evaluate:
    positions = np.arange(shape_of(op.results[0].type)[0])
    return lambda: positions


@rule("vector.from_elements")
def from_elements(op: Operation) -> Evaluate:
    kind = op.results[0].type
    dtype, shape = dtype_of(element_of(kind)), shape_of(kind)
    return lambda *elements: np.array(elements, dtype).reshape(shape)


@rule("vector.broadcast")
def broadcast(op: vector.BroadcastOp) -> Evaluate:
    shape, dtype = shape_of(op.vector.type), dtype_of(element_of(op.vector.type))
    if isinstance(op.source.type, VectorType):
        return lambda source: np.broadcast_to(source, shape)
    return lambda source: np.full(shape, source, dtype)


@rule("vector.create_mask")
def create_mask(op: vector.CreateMaskOp) -> Evaluate:
    shape = shape_of(op.mask_vector.type)

    def mask(*sizes: int) -> Array:
        lanes = [np.arange(length) < size for length, size in zip(shape, sizes, strict=True)]
        return functools.reduce(np.logical_and.outer, lanes)

    return mask


@rule("vector.bitcast")
def bitcast(op: vector.BitcastOp) -> Evaluate:
    source, target = dtype_of(element_of(op.source.type)), dtype_of(element_of(op.result.type))
    if source != target and "b" in (source.kind, target.kind):
        raise unsupported(op, "bits of i1 are not packed here")
    return lambda value: np.ascontiguousarray(value).view(target)


@rule("vector.shape_cast")
def shape_cast(op: Operation) -> Evaluate:
    shape = shape_of(op.results[0].type)
    return lambda value: value.reshape(shape)


def _position(op: Any) -> Any:
    """A function from the dynamic positions to a numpy index, checked against the vector."""
    static = mixed(op.static_position, DYNAMIC_INDEX)

    def place(value: Array, dynamic: tuple[int, ...]) -> tuple[int, ...]:
        position = tuple(fill_in(static, iter(dynamic)))
        for dimension, (at, size) in enumerate(zip(position, value.shape, strict=False)):
            check_index(at, size, dimension)
        return position

    return place


@rule("vector.extract")
def extract(op: vector.ExtractOp) -> Evaluate:
    place, is_index = _position(op), isinstance(op.result.type, IndexType)

    def read(value: Array, *dynamic: int) -> Any:
        element = value[place(value, dynamic)]
        return int(element) if is_index else element

    return read


@rule("vector.insert")
def insert(op: vector.InsertOp) -> Evaluate:
    place = _position(op)

    def write(value: Any, target: Array, *dynamic: int) -> Array:
        result: Array = np.array(target)
        result[place(result, dynamic)] = value
        return result

    return write


@rule("vector.shuffle")
def shuffle(op: vector.ShuffleOp) -> Evaluate:
    lanes = np.array(op.mask.get_values(), np.int64)
    undefined = lanes < 0

    def pick(first: Array, second: Array) -> Array:
        both = np.concatenate([np.atleast_1d(first), np.atleast_1d(second)])
        result = both[np.where(undefined, 0, lanes)]
        if undefined.any():
            result[undefined] = poison(result.dtype)
        return result

    return pick


COMBINING = {
    "add": operator.add, "mul": operator.mul, "and": operator.and_, "or": operator.or_, "xor": operator.xor,
    "minsi": lesser, "maxsi": greater, "minnumf": np.fmin, "maxnumf": np.fmax, "minimumf": minimum,
    "maximumf": maximum,
}  # fmt: skip
UNSIGNED = {"minui": lesser, "maxui": greater}


@rule("vector.reduction")
def reduction(op: vector.ReductionOp) -> Evaluate:
    """In lane order, from the accumulator on where there is one."""
    kind, element = str(op.kind.data), element_of(op.vector.type)
    combine: Any
    if kind in UNSIGNED:
        integers, plain = Integers(element), UNSIGNED[kind]

        def combine(a: Any, b: Any) -> Any:
            return integers.back(plain(integers.unsigned(a), integers.unsigned(b)))
    elif dtype_of(element).kind == "b" and kind in ("add", "mul", "minsi", "maxsi"):
        combine = {"add": operator.xor, "mul": operator.and_, "minsi": operator.or_, "maxsi": operator.and_}[kind]
    else:
        combine = COMBINING[kind]

    def reduce(lanes: Array, start: Any = None) -> Any:
        return functools.reduce(combine, lanes) if start is None else functools.reduce(combine, lanes, start)

    return reduce


def _transfer_shape(op: Any, type: Attribute) -> tuple[int, ...]:
    if not op.permutation_map.data.is_minor_identity() or len(op.operands) > len(op.indices) + 2:
        raise unsupported(op, "only unmasked transfers along the last dimensions are executed")
    return shape_of(type)


def _overlap(sizes: tuple[int, ...], indices: tuple[int, ...], shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Which part of the memory a transfer covers, and which part of the vector that is."""
    leading = len(indices) - len(shape)
    memory: list[Any] = list(indices[:leading])
    lanes = []
    for start, size, length in zip(indices[leading:], sizes[leading:], shape, strict=True):
        count = max(0, min(length, size - start))
        memory.append(slice(start, start + count))
        lanes.append(slice(0, count))
    return tuple(memory), tuple(lanes)


@rule("vector.transfer_read")
def transfer_read(op: vector.TransferReadOp) -> Evaluate:
    shape, dtype = _transfer_shape(op, op.result.type), dtype_of(element_of(op.result.type))

    def read(source: Any, *rest: Any) -> Array:
        *indices, padding = rest
        array = source.array if isinstance(source, MemRef) else source
        result = np.full(shape, padding, dtype)
        memory, lanes = _overlap(array.shape, tuple(indices), shape)
        result[lanes] = array[memory]
        return result

    return read


@rule("vector.transfer_write")
def transfer_write(op: vector.TransferWriteOp) -> Evaluate:
    shape = _transfer_shape(op, op.vector.type)

    def write(value: Array, target: Any, *indices: int) -> Any:
        array = target.array if isinstance(target, MemRef) else target.copy()
        memory, lanes = _overlap(array.shape, indices, shape)
        array[memory] = value[lanes]
        return array

    return write


@rule("vector.print")
def show(op: vector.PrintOp) -> Evaluate:
    return print
