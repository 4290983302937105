"""Scalar arithmetic as expressions: what op declarations write, arith and math operations as it comes out.

    lambda x: 0.5 * x * (1.0 + (x * SQRT_HALF).math("erf"))

A `Scalar` is an SSA value with its dtype and the place where its operations go. Bool is i1, uint8 is
unsigned; float16 and bfloat16 never appear: bodies compute them in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from xdsl.dialects import arith, math
from xdsl.dialects.builtin import Float64Type, FloatAttr, IndexType, IntegerAttr, IntegerType, LocationAttr
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Block, Operation, SSAValue

from stepwell.dialects import dtypes
from stepwell.dialects.dtypes import BOOL, FLOATING, INTEGER, DType
from stepwell.dialects.quick_ir import append, make
from stepwell.dialects.upstream import core

INDEX = IndexType()


class Emitter:
    """Appends operations to a block, all with one source location; equal constants are made once per block."""

    def __init__(self, block: Block, location: LocationAttr | None = None) -> None:
        self.block = block
        self.location = location
        self._constants: dict[tuple[object, Attribute, str], SSAValue] = {}

    def add(self, operation: Operation) -> Operation:
        if self.location is not None:
            operation.location = self.location
        append(self.block, operation)
        return operation

    def op(
        self,
        cls: type[Operation],
        operands: list[SSAValue],
        result_type: Attribute,
        properties: Mapping[str, Attribute] | None = None,
    ) -> SSAValue:
        """Append an operation with one result and give that result."""
        created = make(cls, operands, [result_type], properties or {})
        return self.add(created).results[0]

    def constant(self, value: int | float | bool, type_: Attribute) -> SSAValue:
        # repr tells 0.0 from -0.0 and 1 from True.
        key = (value, type_, repr(value))
        found = self._constants.get(key)
        if found is None:
            attribute: Attribute
            if isinstance(type_, IndexType):
                attribute = IntegerAttr(int(value), INDEX)
            elif type_ in _INTEGER_TYPES:
                width = _INTEGER_TYPES[type_]
                attribute = IntegerAttr(_wrap(int(value), width), cast(IntegerType, type_))
            else:
                attribute = FloatAttr(float(value), cast(Float64Type, type_))
            found = self._constants[key] = self.op(arith.ConstantOp, [], type_, {"value": attribute})
        return found


_INTEGER_TYPES = {
    d.builtin: 8 * d.itemsize if d.category == INTEGER else 1 for d in dtypes.ALL if d.category <= INTEGER
}


def _wrap(value: int, width: int) -> int:
    if width == 1:
        return -int(bool(value))
    value &= (1 << width) - 1
    return value - (1 << width) if value >> (width - 1) else value


_FLOAT: dict[str, type[Operation]] = {
    "add": arith.AddfOp,
    "sub": arith.SubfOp,
    "mul": arith.MulfOp,
    "div": arith.DivfOp,
}
_INT: dict[str, type[Operation]] = {
    "add": arith.AddiOp, "sub": arith.SubiOp, "mul": arith.MuliOp,
    "and": arith.AndIOp, "or": arith.OrIOp, "xor": arith.XOrIOp, "shl": arith.ShLIOp,
}  # fmt: skip
# Predicates of arith.cmpf (ordered, but une for !=), and of arith.cmpi signed and unsigned.
_COMPARE = {
    "eq": (1, 0, 0), "ne": (13, 1, 1), "lt": (4, 2, 6), "le": (5, 3, 7), "gt": (2, 4, 8), "ge": (3, 5, 9),
}  # fmt: skip
_NO_FASTMATH: dict[str, Attribute] = {"fastmath": arith.FastMathFlagsAttr("none")}
_ANY_ZERO: dict[str, Attribute] = {"fastmath": arith.FastMathFlagsAttr([FastMathFlag.NO_SIGNED_ZEROS])}
_NO_OVERFLOW: dict[str, Attribute] = {"overflowFlags": arith.IntegerOverflowAttr("none")}
_MATH: dict[str, type[Operation]] = {
    cls.name.removeprefix("math."): cls for cls in math.Math.operations if cls.name.startswith("math.")
}
_PREDICATE = {n: IntegerAttr(n, 64) for n in range(16)}

Operand = Any
"""Scalar, or a Python number that becomes a constant of the other operand's dtype."""


@dataclass(frozen=True, eq=False)
class Scalar:
    """One scalar SSA value of a known dtype, with Python's operators."""

    value: SSAValue
    dtype: DType
    at: Emitter

    def lift(self, other: Operand) -> Scalar:
        """A Python number as a constant of this dtype; a Scalar as it is."""
        if isinstance(other, Scalar):
            return other
        return constant(self.at, other, self.dtype)

    def _binary(self, name: str, left: Operand, right: Operand) -> Scalar:
        a, b = self.lift(left), self.lift(right)
        if a.dtype != b.dtype:
            raise TypeError(f"{name} of {a.dtype} and {b.dtype}: cast first")
        if a.dtype.category == FLOATING:
            return self._make(self.at.op(_FLOAT[name], [a.value, b.value], a.value.type, _NO_FASTMATH))
        cls = _INT[name]
        flags = _NO_OVERFLOW if name in ("add", "sub", "mul", "shl") else None
        return self._make(self.at.op(cls, [a.value, b.value], a.value.type, flags))

    def _make(self, value: SSAValue, dtype: DType | None = None) -> Scalar:
        return Scalar(value, dtype or self.dtype, self.at)

    def __add__(self, other: Operand) -> Scalar:
        return self._binary("add", self, other)

    def __radd__(self, other: Operand) -> Scalar:
        return self._binary("add", other, self)

    def __sub__(self, other: Operand) -> Scalar:
        return self._binary("sub", self, other)

    def __rsub__(self, other: Operand) -> Scalar:
        return self._binary("sub", other, self)

    def __mul__(self, other: Operand) -> Scalar:
        return self._binary("mul", self, other)

    def __rmul__(self, other: Operand) -> Scalar:
        return self._binary("mul", other, self)

    def __truediv__(self, other: Operand) -> Scalar:
        return self._binary("div", self, other)

    def __rtruediv__(self, other: Operand) -> Scalar:
        return self._binary("div", other, self)

    def __and__(self, other: Operand) -> Scalar:
        return self._binary("and", self, other)

    def __or__(self, other: Operand) -> Scalar:
        return self._binary("or", self, other)

    def __xor__(self, other: Operand) -> Scalar:
        return self._binary("xor", self, other)

    def __lshift__(self, other: Operand) -> Scalar:
        return self._binary("shl", self, other)

    def __rshift__(self, other: Operand) -> Scalar:
        cls = arith.ShRSIOp if self.dtype.is_signed else arith.ShRUIOp
        return self._make(self.at.op(cls, [self.value, self.lift(other).value], self.value.type))

    def __neg__(self) -> Scalar:
        if self.dtype.category == FLOATING:
            return self._make(self.at.op(arith.NegfOp, [self.value], self.value.type, _NO_FASTMATH))
        return self._binary("sub", 0, self)

    def __invert__(self) -> Scalar:
        """Bitwise not of integers, logical not of bools."""
        return self._binary("xor", self, True if self.dtype.category == BOOL else -1)

    def compare(self, name: str, other: Operand) -> Scalar:
        """eq, ne, lt, le, gt, ge; comparisons with NaN are false except ne."""
        right = self.lift(other)
        if right.dtype != self.dtype:
            raise TypeError(f"{name} of {self.dtype} and {right.dtype}: cast first")
        float_, signed, unsigned = _COMPARE[name]
        if self.dtype.category == FLOATING:
            properties = {"predicate": _PREDICATE[float_], **_NO_FASTMATH}
            result = self.at.op(core.CmpfOp, [self.value, right.value], dtypes.bool_.builtin, properties)
        else:
            code = signed if self.dtype.is_signed else unsigned
            result = self.at.op(
                core.CmpiOp, [self.value, right.value], dtypes.bool_.builtin, {"predicate": _PREDICATE[code]}
            )
        return self._make(result, dtypes.bool_)

    def is_nan(self) -> Scalar:
        return self.compare("ne", self)

    def maximum(self, other: Operand, any_zero: bool = False) -> Scalar:
        """The larger one; NaN if either is NaN (torch.maximum). With `any_zero` it may be either of -0 and 0."""
        return self._extremum(other, any_zero, arith.MaximumfOp, arith.MaxSIOp, arith.MaxUIOp)

    def minimum(self, other: Operand, any_zero: bool = False) -> Scalar:
        """The smaller one; NaN if either is NaN (torch.minimum). With `any_zero` it may be either of -0 and 0."""
        return self._extremum(other, any_zero, arith.MinimumfOp, arith.MinSIOp, arith.MinUIOp)

    def _extremum(
        self, other: Operand, any_zero: bool, float_: type[Operation], signed: type[Operation], unsigned: type[Operation]
    ) -> Scalar:
        right = self.lift(other)
        if self.dtype.category == FLOATING:
            flags = _ANY_ZERO if any_zero else _NO_FASTMATH
            return self._make(self.at.op(float_, [self.value, right.value], self.value.type, flags))
        cls = signed if self.dtype.is_signed else unsigned
        return self._make(self.at.op(cls, [self.value, right.value], self.value.type))

    def select(self, then: Operand, otherwise: Operand) -> Scalar:
        """`then` where this bool holds, else `otherwise`; at least one of the two is a Scalar."""
        model = then if isinstance(then, Scalar) else otherwise
        a, b = model.lift(then), model.lift(otherwise)
        return a._make(self.at.op(core.SelectOp, [self.value, a.value, b.value], a.value.type))

    def math(self, name: str, *others: Operand) -> Scalar:
        """An operation of MLIR's math dialect by name: exp, log1p, tanh, powf, atan2, floor, absf, ..."""
        operands = [self.value, *(self.lift(o).value for o in others)]
        properties = {} if name in ("absi", "ipowi") else _NO_FASTMATH
        return self._make(self.at.op(_MATH[name], operands, self.value.type, dict(properties)))

    def absolute(self) -> Scalar:
        if self.dtype.category == FLOATING:
            return self.math("absf")
        return self.math("absi") if self.dtype.is_signed else self

    def truncated_divide(self, other: Operand) -> Scalar:
        """Division rounded towards zero (C's); floats are divided, then truncated."""
        if self.dtype.category == FLOATING:
            return self.__truediv__(other).math("trunc")
        if not self.dtype.is_signed:
            return self._make(self.at.op(arith.DivUIOp, [self.value, self.lift(other).value], self.value.type))
        right, negated = self._divisor(other)
        quotient = self._make(self.at.op(arith.DivSIOp, [self.value, right.value], self.value.type))
        return quotient if negated is None else negated.select(-self, quotient)

    def _divisor(self, other: Operand) -> tuple[Scalar, Scalar | None]:
        """A divisor for divsi and remsi, whose overflow (the smallest integer by -1) traps on x86: 1 in place of
        -1, and whether it was -1 (None: it is known and is not).
        """
        if not isinstance(other, Scalar) and other != -1:
            return self.lift(other), None
        right = self.lift(other)
        negated = right.compare("eq", -1)
        return negated.select(right.lift(1), right), negated

    def truncated_remainder(self, other: Operand) -> Scalar:
        """C's % (fmod): the sign is the dividend's."""
        right = self.lift(other)
        if self.dtype.category == FLOATING:
            return self._make(self.at.op(core.RemFOp, [self.value, right.value], self.value.type, _NO_FASTMATH))
        if not self.dtype.is_signed:
            return self._make(self.at.op(arith.RemUIOp, [self.value, right.value], self.value.type))
        divisor, _ = self._divisor(other)
        return self._make(self.at.op(arith.RemSIOp, [self.value, divisor.value], self.value.type))

    def remainder(self, other: Operand) -> Scalar:
        """Python's %: the sign is the divisor's."""
        right = self.lift(other)
        rest = self.truncated_remainder(other)
        if self.dtype.category == INTEGER and not self.dtype.is_signed:
            return rest
        wrong_sign = rest.compare("ne", 0) & (rest.compare("lt", 0) ^ right.compare("lt", 0))
        return wrong_sign.select(rest + right, rest)

    def floor_divide(self, other: Operand) -> Scalar:
        """Python's //: rounded down."""
        right = self.lift(other)
        if self.dtype.category == FLOATING:
            # As torch and Python: from the exact remainder, so that 6 // 0.1 is 59.
            rest = self.remainder(right)
            quotient = (self - rest) / right
            rounded = (quotient - quotient.math("floor")).compare("gt", 0.5)
            result = quotient.math("floor") + rounded.select(1.0, right.lift(0.0))
            return right.compare("eq", 0.0).select(self / right, result)
        quotient = self.truncated_divide(other)
        if not self.dtype.is_signed:
            return quotient
        rest = self - quotient * right
        down = rest.compare("ne", 0) & (rest.compare("lt", 0) ^ right.compare("lt", 0))
        return down.select(quotient - 1, quotient)

    def cast(self, to: DType) -> Scalar:
        """Conversion as torch's `to`: floats truncate, bool is `!= 0`, integers wrap."""
        source = self.dtype
        if source == to:
            return self
        if to.category == BOOL:
            return self.compare("ne", 0)
        if source.category <= INTEGER and to.category <= INTEGER:
            return self._make(self._resize(to), to)
        if source.category <= INTEGER:
            cls: type[Operation] = core.SIToFPOp if source.is_signed else core.UIToFPOp
        elif to.category <= INTEGER:
            # Through i64, so that uint8 of -1.0 wraps as it does in C on this route.
            if to.itemsize < 4:
                return self.cast(dtypes.int32).cast(to)
            cls = core.FPToSIOp
        else:
            cls = arith.ExtFOp if to.itemsize > source.itemsize else arith.TruncFOp
            if to.itemsize == source.itemsize:
                return self.cast(dtypes.float32).cast(to)
        return self._make(self.at.op(cls, [self.value], to.builtin), to)

    def _resize(self, to: DType) -> SSAValue:
        if to.itemsize == self.dtype.itemsize and self.dtype.category == INTEGER:
            return self.value
        if to.itemsize < self.dtype.itemsize:
            return self.at.op(arith.TruncIOp, [self.value], to.builtin)
        cls = arith.ExtSIOp if self.dtype.is_signed else arith.ExtUIOp
        return self.at.op(cls, [self.value], to.builtin)


def constant(at: Emitter, value: int | float | bool, dtype: DType) -> Scalar:
    """A constant of that dtype; floats given for integers are truncated."""
    return Scalar(at.constant(value, dtype.builtin), dtype, at)


def compute_dtype(dtype: DType) -> DType:
    """The dtype in which elements of `dtype` are computed: float32 for the 16-bit floats (torch's opmath)."""
    return dtypes.float32 if dtype in (dtypes.float16, dtypes.bfloat16) else dtype


def infinity(dtype: DType, sign: int = 1) -> int | float:
    """The largest (or smallest) value: +-inf for floats, the extreme of integers and bool."""
    if dtype.category == FLOATING:
        return sign * float("inf")
    if dtype.category == BOOL:
        return int(sign > 0)
    bits = 8 * dtype.itemsize
    if not dtype.is_signed:
        return (1 << bits) - 1 if sign > 0 else 0
    return (1 << (bits - 1)) - 1 if sign > 0 else -(1 << (bits - 1))
