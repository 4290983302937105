"""Element sizes in memory, and the memref type of a tensor type."""

from __future__ import annotations

from xdsl.dialects.builtin import (
    BFloat16Type,
    ComplexType,
    Float16Type,
    Float32Type,
    Float64Type,
    IndexType,
    IntegerType,
    MemRefType,
    NoneAttr,
    StridedLayoutAttr,
    TensorType,
)
from xdsl.ir import Attribute

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.quick_ir import memref_type

FLOAT_BYTES: dict[type[Attribute], int] = {BFloat16Type: 2, Float16Type: 2, Float32Type: 4, Float64Type: 8}


def element_bytes(element: Attribute) -> int:
    """Bytes of one element in memory; i1 takes one. Raises UnsupportedError for what has no memory form."""
    if isinstance(element, IntegerType):
        return max(1, int(element.width.data) // 8)
    if isinstance(element, IndexType):
        return 8
    if isinstance(element, ComplexType):
        part: int = element_bytes(element.element_type)
        return 2 * part
    found = FLOAT_BYTES.get(type(element))
    if found is None:
        raise UnsupportedError(f"elements of type {element} have no form in memory")
    return found


def memref_of(kind: Attribute) -> MemRefType[Attribute]:
    """The row-major memref that holds a tensor of this type."""
    assert isinstance(kind, TensorType), kind
    return memref_type(kind.element_type, kind.get_shape())


def strided_of(element: Attribute, shape: tuple[int, ...]) -> MemRefType[Attribute]:
    """A memref of a shape anywhere in memory: all strides and the offset are dynamic."""
    layout = StridedLayoutAttr([None] * len(shape), None)
    return MemRefType(element, shape, layout)


def is_row_major(kind: MemRefType[Attribute]) -> bool:
    """Whether the type promises elements that lie row by row from the origin."""
    return isinstance(kind.layout, NoneAttr)
