"""What stands for a value of each type, the same at every level.

    iN                  numpy scalar of the smallest signed container (i1: numpy or Python bool)
    index               Python int, unbounded: no program may rely on an index that wraps
    f16 bf16 f32 f64    numpy scalar (bf16 of ml_dtypes), so that each operation rounds to its type
    complex<f32|f64>    numpy scalar
    tensor, vector      numpy array, never written once it is a value
    memref              MemRef: a view of a shared buffer

Inside `linalg.generic` the "scalars" are arrays over the iteration space, so every scalar rule takes arrays too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.lib.stride_tricks import as_strided
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    BFloat16Type,
    ComplexType,
    Float16Type,
    Float32Type,
    Float64Type,
    IndexType,
    IntegerType,
    MemRefType,
    ShapedType,
    TensorType,
    VectorType,
)
from xdsl.ir import Attribute

from stepwell.compiler.interpreter.rules import Fault
from stepwell.dialects.diagnostics import UnsupportedError

Array = np.ndarray[Any, Any]

FLOATS: dict[type[Attribute], np.dtype[Any]] = {
    Float16Type: np.dtype(np.float16),
    BFloat16Type: np.dtype(ml_dtypes.bfloat16),
    Float32Type: np.dtype(np.float32),
    Float64Type: np.dtype(np.float64),
}
BYTES = np.dtype(np.uint8)


@cache
def dtype_of(element: Attribute) -> np.dtype[Any]:
    """The numpy dtype of an element type. Raises UnsupportedError for a type without one."""
    if isinstance(element, IntegerType):
        return integer_dtype(element.width.data)
    if isinstance(element, IndexType):
        return np.dtype(np.int64)
    found = FLOATS.get(type(element))
    if found is not None:
        return found
    if isinstance(element, ComplexType):
        return np.dtype(np.complex64 if isinstance(element.element_type, Float32Type) else np.complex128)
    raise UnsupportedError(f"no numpy dtype stands for the type {element}")


def integer_dtype(width: int) -> np.dtype[Any]:
    """The signed container of a width: bool for 1, else the next of 8, 16, 32, 64 bits."""
    if width == 1:
        return np.dtype(np.bool_)
    for size in (8, 16, 32, 64):
        if width <= size:
            return np.dtype(f"int{size}")
    raise UnsupportedError(f"the interpreter holds integers of up to 64 bits, not i{width}")


def element_of(type: Attribute) -> Attribute:
    """The element type of a shaped type, or the type itself."""
    if isinstance(type, (TensorType, VectorType, MemRefType)):
        return type.element_type  # type: ignore[no-any-return]
    return type


def static_shape(type: Attribute, dynamic: Sequence[Any] = ()) -> tuple[int, ...]:
    """The sizes of a shaped type, its `?` filled in order from `dynamic`. Raises Fault on a negative size."""
    assert isinstance(type, ShapedType)
    given = iter(dynamic)
    sizes = tuple(int(next(given)) if size < 0 else size for size in type.get_shape())
    if any(size < 0 for size in sizes):
        raise Fault(f"negative size in {sizes}")
    return sizes


def poison(dtype: np.dtype[Any], shape: tuple[int, ...] = ()) -> Array:
    """An array of values that show when they are used: NaN, or 0xA5 bytes; true for bool."""
    if dtype.kind in "iu":
        return np.full(shape, 0xA5, BYTES)[..., None].repeat(dtype.itemsize, -1).view(dtype)[..., 0]
    if dtype.kind == "b":
        return np.ones(shape, dtype)
    return np.full(shape, np.nan, dtype)


def scalar_of(type: Attribute, value: Any) -> Any:
    """The scalar value of `type` for a Python or numpy number (wrapped or rounded to the type)."""
    if isinstance(type, IndexType):
        return int(value)
    dtype = dtype_of(type)
    if dtype.kind == "b":
        return np.bool_(int(value) & 1)
    if isinstance(type, IntegerType):
        width = type.width.data
        return dtype.type(((int(value) + (1 << (width - 1))) & ((1 << width) - 1)) - (1 << (width - 1)))
    return dtype.type(value)


class MemRef:
    """A strided view of memory: `array` is the view, `memory` (bytes) what it looks into.

    `offset` and `strides` count elements of `dtype`. Several MemRefs over one memory alias, as they do in a machine.
    Raises Fault where the view would leave the memory.
    """

    __slots__ = ("array", "memory", "offset")

    def __init__(
        self, memory: Array, dtype: np.dtype[Any], offset: int, sizes: Sequence[int], strides: Sequence[int]
    ) -> None:
        step = dtype.itemsize
        try:
            self.array: Array = np.ndarray(
                tuple(sizes), dtype, memory.data, offset * step, tuple([stride * step for stride in strides])
            )
        except (ValueError, TypeError):
            raise Fault(
                f"a view with offset {offset}, sizes {list(sizes)} and strides {list(strides)} of {dtype}"
                f" leaves its memory of {len(memory)} bytes"
            ) from None
        self.memory = memory
        self.offset = offset

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.array.dtype
        return dtype

    @property
    def sizes(self) -> tuple[int, ...]:
        sizes: tuple[int, ...] = self.array.shape
        return sizes

    @property
    def strides(self) -> tuple[int, ...]:
        step = self.array.itemsize
        return tuple(stride // step for stride in self.array.strides)

    def moved(self, offset: int, sizes: Sequence[int], strides: Sequence[int]) -> MemRef:
        """Another view of the same memory and dtype."""
        return MemRef(self.memory, self.array.dtype, offset, sizes, strides)

    def __repr__(self) -> str:
        return f"MemRef({self.dtype}, offset {self.offset}, sizes {self.sizes}, strides {self.strides})"


def row_major(sizes: Sequence[int]) -> tuple[int, ...]:
    """The strides of a contiguous array of these sizes, in elements."""
    strides, step = [], 1
    for size in reversed(sizes):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def allocate(dtype: np.dtype[Any], sizes: tuple[int, ...], alignment: int = 64) -> MemRef:
    """New contiguous memory full of poison, aligned to `alignment` bytes."""
    length = math.prod(sizes) * dtype.itemsize
    room = np.empty(length + alignment, BYTES)
    start = -room.ctypes.data % alignment
    memory = room[start : start + length]
    memory.view(dtype)[...] = poison(dtype)
    return MemRef(memory, dtype, 0, sizes, row_major(sizes))


def memref_over(array: Array) -> MemRef:
    """The MemRef that shares an array's memory. Raises ValueError for strides that are no whole elements."""
    item = array.itemsize
    if array.flags.c_contiguous:
        memory = array.reshape(-1).view(BYTES)
        return MemRef(memory, array.dtype, 0, array.shape, row_major(array.shape))
    if any(stride < 0 or stride % item for stride in array.strides):
        raise ValueError(f"no memref has the byte strides {array.strides} of this {array.dtype} array")
    strides = tuple(stride // item for stride in array.strides)
    extent = 1 + sum((size - 1) * stride for size, stride in zip(array.shape, strides, strict=True))
    flat = as_strided(array, (extent if array.size else 0,), (item,))
    return MemRef(flat.view(BYTES), array.dtype, 0, array.shape, strides)


def from_outside(value: Any, type: Attribute) -> Any:
    """An argument as the value of `type`: arrays are checked against shape and dtype, numbers are converted.

    Raises TypeError or ValueError that says what was expected.
    """
    if isinstance(type, (TensorType, VectorType, MemRefType)):
        if isinstance(value, MemRef):
            return value
        dtype, shape = dtype_of(type.element_type), type.get_shape()
        array = np.asarray(value)
        if array.dtype == np.uint8 and dtype == np.int8:
            array = array.view(np.int8)
        if array.dtype != dtype:
            raise TypeError(f"expected a {dtype} array for {type}, got {array.dtype}")
        if array.ndim != len(shape) or any(
            want not in (DYNAMIC_INDEX, have) for want, have in zip(shape, array.shape, strict=True)
        ):
            raise ValueError(f"expected the shape of {type}, got {array.shape}")
        return memref_over(array) if isinstance(type, MemRefType) else array
    if isinstance(type, (IntegerType, IndexType, *FLOATS, ComplexType)):
        return scalar_of(type, value)
    return value


def to_outside(value: Any) -> Any:
    """A result for the caller: memrefs as arrays, scalars as Python's own numbers."""
    if isinstance(value, MemRef):
        return value.array
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return [to_outside(item) for item in value]
    return value
