"""What a type of the loops level is in the llvm dialect, and what of a memref is kept at run time.

index is i64. bf16 is stored and passed as its bits, i16: no back-end but a few knows the type. i1 is i1 as a
value and one byte (0 or 1) in memory. A memref is no single value: see `Buffer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from xdsl.dialects import llvm
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    BFloat16Type,
    Float16Type,
    Float32Type,
    Float64Type,
    IndexType,
    IntegerType,
    MemRefType,
    NoneAttr,
    VectorType,
    i8,
    i16,
    i64,
)
from xdsl.ir import Attribute, SSAValue

from stepwell.dialects.diagnostics import UnsupportedError

POINTER = llvm.LLVMPointerType()

Size = int | SSAValue
"""A number known now, or an i64 value at run time."""


@dataclass(frozen=True)
class Buffer:
    """A memref: where its element [0, ..., 0] lies, and its sizes and strides (in elements)."""

    pointer: SSAValue
    element: Attribute
    sizes: tuple[Size, ...]
    strides: tuple[Size, ...]

    def is_contiguous(self) -> bool:
        """Whether the elements are known to lie row by row without gaps."""
        expected: Size = 1
        for size, stride in zip(reversed(self.sizes), reversed(self.strides), strict=True):
            if size == 1:
                continue
            if stride != expected:
                return False
            expected = size * expected if isinstance(size, int) and isinstance(expected, int) else -1
        return True


class TypeTable:
    """Converts types; asks each attribute object only once, as hashing attributes is slow."""

    def __init__(self) -> None:
        self._values: dict[int, tuple[Attribute, Attribute]] = {}
        self._memory: dict[int, tuple[Attribute, Attribute]] = {}

    def value(self, kind: Attribute) -> Attribute:
        """The llvm type of an SSA value."""
        found = self._values.get(id(kind))
        if found is None:
            found = self._values[id(kind)] = (kind, _value_type(kind))
        return found[1]

    def memory(self, kind: Attribute) -> Attribute:
        """The llvm type of the same value in memory: i1 takes a byte."""
        found = self._memory.get(id(kind))
        if found is None:
            found = self._memory[id(kind)] = (kind, _memory_type(self.value(kind)))
        return found[1]


def _value_type(kind: Attribute) -> Attribute:
    match kind:
        case IndexType():
            return i64
        case BFloat16Type():
            return i16
        case IntegerType() | Float16Type() | Float32Type() | Float64Type() | llvm.LLVMPointerType():
            return kind
        case VectorType():
            if kind.get_num_dims() != 1 or kind.get_num_scalable_dims():
                raise UnsupportedError(f"{kind}: only vectors of one fixed dimension become LLVM vectors")
            element = _value_type(kind.element_type)
            return kind if element is kind.element_type else VectorType(element, kind.shape)
    raise UnsupportedError(f"type {kind} has no form in LLVM")


def _memory_type(kind: Attribute) -> Attribute:
    if isinstance(kind, IntegerType) and kind.width.data == 1:
        return i8
    if isinstance(kind, VectorType) and (element := _memory_type(kind.element_type)) is not kind.element_type:
        return VectorType(element, kind.shape)
    return kind


def byte_size(kind: Attribute) -> int:
    """Bytes that a value of this (memory or value) type takes in memory."""
    match kind:
        case IndexType():
            return 8
        case IntegerType():
            return max(1, int(kind.width.data) // 8)
        case BFloat16Type() | Float16Type():
            return 2
        case Float32Type():
            return 4
        case Float64Type() | llvm.LLVMPointerType():
            return 8
        case VectorType():
            return byte_size(kind.element_type) * int(prod(kind.get_shape()))
    raise UnsupportedError(f"type {kind} has no size in memory")


def is_bfloat16(kind: Attribute) -> bool:
    """Whether this is bf16, or a vector of it (held as i16)."""
    return isinstance(kind.element_type if isinstance(kind, VectorType) else kind, BFloat16Type)


def is_bool(kind: Attribute) -> bool:
    """Whether this is i1, or a vector of it (held as bytes in memory)."""
    element = kind.element_type if isinstance(kind, VectorType) else kind
    return isinstance(element, IntegerType) and element.width.data == 1


def strides_of(kind: MemRefType[Attribute]) -> tuple[int | None, ...] | None:
    """A layout's strides (None: dynamic), or None for the row-major layout without gaps.

    Raises UnsupportedError for layouts that are not strided.
    """
    if isinstance(kind.layout, NoneAttr):
        return None
    strides = kind.get_strides()
    if strides is None:
        raise UnsupportedError(f"{kind}: only strided layouts can be addressed")
    return tuple(strides)


def dynamic_parts(kind: MemRefType[Attribute]) -> tuple[list[int], list[int]]:
    """Which sizes and which strides of a memref are only known at run time (as dimension numbers)."""
    sizes = [i for i, size in enumerate(kind.get_shape()) if size == DYNAMIC_INDEX]
    strides = [i for i, stride in enumerate(strides_of(kind) or ()) if stride is None]
    return sizes, strides
