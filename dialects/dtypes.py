"""The dtypes: one table that relates torch's names and codes, numpy's types and the types of each level.

Promotion follows torch's documented rules (categories bool < integer < floating < complex; a Python scalar
or a 0-dimensional tensor raises the category but never the width within it).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from xdsl.dialects.builtin import (
    BFloat16Type,
    ComplexType,
    Float16Type,
    Float32Type,
    Float64Type,
    IntegerType,
    Signedness,
    i1,
)
from xdsl.ir import Attribute

BOOL, INTEGER, FLOATING, COMPLEX = range(4)
"""Categories, in the order in which promotion raises them."""


@dataclass(frozen=True)
class DType:
    """One element type.

    `name` is torch's (`float32`), `code` torch's ScalarType number as archives store it, `numpy` the array
    dtype, `torch` the type at the torch level (`si64`), `builtin` the signless type from linalg down (`i64`),
    `storage` the class name that archives give to its storages (`FloatStorage`).
    """

    name: str
    code: int
    numpy: np.dtype[Any]
    torch: Attribute
    builtin: Attribute
    category: int
    storage: str

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return int(self.numpy.itemsize)

    @property
    def title(self) -> str:
        """The name in torch's messages: Float, Long, BFloat16."""
        return self.storage.removesuffix("Storage")

    @property
    def is_floating(self) -> bool:
        return self.category == FLOATING

    @property
    def is_integral(self) -> bool:
        """True for integers, not for bool."""
        return self.category == INTEGER

    @property
    def is_signed(self) -> bool:
        return self.name != "uint8" and self.category != BOOL

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"stepwell.{self.name}"


def _signed(width: int) -> Attribute:
    return IntegerType(width, Signedness.SIGNED)


uint8 = DType(
    "uint8",
    0,
    np.dtype(np.uint8),
    IntegerType(8, Signedness.UNSIGNED),
    IntegerType(8),
    INTEGER,
    "ByteStorage",
)
int8 = DType("int8", 1, np.dtype(np.int8), _signed(8), IntegerType(8), INTEGER, "CharStorage")
int16 = DType("int16", 2, np.dtype(np.int16), _signed(16), IntegerType(16), INTEGER, "ShortStorage")
int32 = DType("int32", 3, np.dtype(np.int32), _signed(32), IntegerType(32), INTEGER, "IntStorage")
int64 = DType("int64", 4, np.dtype(np.int64), _signed(64), IntegerType(64), INTEGER, "LongStorage")
float16 = DType("float16", 5, np.dtype(np.float16), Float16Type(), Float16Type(), FLOATING, "HalfStorage")
float32 = DType("float32", 6, np.dtype(np.float32), Float32Type(), Float32Type(), FLOATING, "FloatStorage")
float64 = DType("float64", 7, np.dtype(np.float64), Float64Type(), Float64Type(), FLOATING, "DoubleStorage")
complex64 = DType(
    "complex64",
    9,
    np.dtype(np.complex64),
    ComplexType(Float32Type()),
    ComplexType(Float32Type()),
    COMPLEX,
    "ComplexFloatStorage",
)
complex128 = DType(
    "complex128",
    10,
    np.dtype(np.complex128),
    ComplexType(Float64Type()),
    ComplexType(Float64Type()),
    COMPLEX,
    "ComplexDoubleStorage",
)
bool_ = DType("bool", 11, np.dtype(np.bool_), i1, i1, BOOL, "BoolStorage")
bfloat16 = DType(
    "bfloat16", 15, np.dtype(ml_dtypes.bfloat16), BFloat16Type(), BFloat16Type(), FLOATING, "BFloat16Storage"
)

ALL: tuple[DType, ...] = (
    uint8, int8, int16, int32, int64, float16, float32, float64, complex64, complex128, bool_, bfloat16,
)  # fmt: skip

BY_NAME = {d.name: d for d in ALL} | {
    "float": float32, "double": float64, "half": float16, "long": int64, "int": int32, "short": int16,
    "char": int8, "byte": uint8, "cfloat": complex64, "cdouble": complex128,
}  # fmt: skip
BY_CODE = {d.code: d for d in ALL}
BY_TORCH_TYPE = {d.torch: d for d in ALL}
BY_NUMPY = {d.numpy: d for d in ALL}
BY_STORAGE = {d.storage: d for d in ALL}

DEFAULT = float32
"""torch.get_default_dtype() of a fresh process."""


def from_numpy(dtype: np.dtype[Any]) -> DType:
    """The DType of a numpy dtype; TypeError names the dtype when torch has no counterpart."""
    found = BY_NUMPY.get(dtype.newbyteorder("="))
    if found is None:
        raise TypeError(f"numpy dtype {dtype} has no counterpart among torch's dtypes")
    return found


_WIDTHS = {
    BOOL: (bool_,),
    INTEGER: (int8, int16, int32, int64),
    FLOATING: (float16, float32, float64),
    COMPLEX: (complex64, complex128),
}


@cache
def promote(a: DType, b: DType) -> DType:
    """torch.promote_types: the smallest dtype that both convert to.

    uint8 with a signed integer gives the next wider signed one; float16 with bfloat16 gives float32.
    """
    if a == b:
        return a
    if a.category != b.category:
        low, high = (a, b) if a.category < b.category else (b, a)
        if high.category == COMPLEX and low == float64:
            return complex128
        return high
    if a.category == INTEGER and uint8 in (a, b):
        other = b if a == uint8 else a
        return int16 if other == int8 else other
    if {a, b} == {float16, bfloat16}:
        return float32
    if bfloat16 in (a, b):
        return b if a == bfloat16 else a
    order = _WIDTHS[a.category]
    return order[max(order.index(a), order.index(b))]


def of_scalar(value: object) -> DType:
    """The dtype that a Python scalar stands for in promotion (bool, int64, the default float, complex64)."""
    if isinstance(value, bool):
        return bool_
    if isinstance(value, int):
        return int64
    if isinstance(value, float):
        return DEFAULT
    if isinstance(value, complex):
        return complex64
    raise TypeError(f"a {type(value).__name__} is no number")


def result_type(dimensioned: list[DType], zero_dim: list[DType], scalars: list[DType]) -> DType:
    """torch.result_type: tensors with dimensions decide; 0-dim tensors, then Python scalars, only raise the
    category. A scalar that raises a category brings its default width (an int tensor + 1.5 is float32).
    """
    current: DType | None = None
    for group in (dimensioned, zero_dim, scalars):
        if not group:
            continue
        combined = group[0]
        for dtype in group[1:]:
            combined = promote(combined, dtype)
        if current is None:
            current = combined
        elif combined.category > current.category:
            current = promote(current, combined) if group is not scalars else _raise(current, combined)
    if current is None:
        raise TypeError("result_type needs at least one operand")
    return current


def _raise(current: DType, scalar: DType) -> DType:
    if scalar.category == COMPLEX and current == float64:
        return complex128
    return scalar
