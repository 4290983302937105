"""What an op on numbers is in CUDA C++: one expression each, by tables.

f16 and bf16 are computed in float and rounded after each op. Integers wrap: signed arithmetic goes by way of
unsigned types, where C++ promises it; index arithmetic never overflows.
"""

from __future__ import annotations

import math as numbers
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from xdsl.dialects import arith, math
from xdsl.dialects.builtin import (
    AnyFloat,
    BFloat16Type,
    Float16Type,
    Float32Type,
    Float64Type,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
)
from xdsl.ir import Attribute, Operation

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.upstream import core

INTEGERS = {1: "bool", 8: "signed char", 16: "short", 32: "int", 64: "long long"}
FLOATS: dict[type[Attribute], str] = {
    Float16Type: "__half", BFloat16Type: "__nv_bfloat16", Float32Type: "float", Float64Type: "double",
}  # fmt: skip
HALVES: dict[type[Attribute], tuple[str, str]] = {
    Float16Type: ("__half2float({})", "__float2half_rn({})"),
    BFloat16Type: ("__bfloat162float({})", "__float2bfloat16_rn({})"),
}
"""To float and back."""


def type_name(kind: Attribute) -> str:
    """A type in C++; index is what it is where nothing is known about its size."""
    if isinstance(kind, IndexType):
        return "long long"
    if isinstance(kind, IntegerType) and kind.width.data in INTEGERS:
        return INTEGERS[kind.width.data]
    found = FLOATS.get(type(kind))
    if found is None:
        raise UnsupportedError(f"type {kind} has no form in CUDA C++")
    return found


def unsigned_name(kind: Attribute) -> str:
    """The unsigned type of the same width."""
    return "unsigned " + type_name(kind).removeprefix("signed ")


def number(value: float, kind: Attribute) -> str:
    """A constant."""
    if isinstance(kind, IntegerType) and kind.width.data == 1:
        return "true" if value else "false"
    if isinstance(kind, (IntegerType, IndexType)):
        if value == -(2**63):
            return "(-9223372036854775807LL - 1)"
        text = f"{int(value)}LL" if isinstance(kind, IntegerType) and kind.width.data == 64 else str(int(value))
        return f"({text})" if value < 0 else text
    if type(kind) in HALVES:
        return HALVES[type(kind)][1].format(_float_text(value, True))
    return _float_text(value, isinstance(kind, Float32Type))


def _float_text(value: float, single: bool) -> str:
    if single and abs(value) <= 3.4028235677973366e38:
        value = cast("float", struct.unpack("<f", struct.pack("<f", value))[0])
    if not numbers.isfinite(value):
        bits = struct.unpack("<I" if single else "<Q", struct.pack("<f" if single else "<d", value))[0]
        return f"__int_as_float({bits:#x})" if single else f"__longlong_as_double({bits:#x}LL)"
    text = f"{value:.9g}" if single else repr(value)
    text = text if any(c in text for c in ".en") else text + ".0"
    text += "f" if single else ""
    return f"({text})" if numbers.copysign(1.0, value) < 0 else text


@dataclass(frozen=True)
class Context:
    """What an expression is made of: the operands' texts, and functions of the prelude that it needs."""

    op: Operation
    operands: Sequence[str]
    needs: set[str]

    @property
    def kind(self) -> Attribute:
        return self.op.results[0].type

    def wide(self, place: int) -> str:
        """An operand, half formats as float."""
        kind = type(self.op.operands[place].type)
        return HALVES[kind][0].format(self.operands[place]) if kind in HALVES else self.operands[place]

    def rounded(self, text: str) -> str:
        """A float result in the format that it has."""
        kind = type(self.kind)
        return HALVES[kind][1].format(text) if kind in HALVES else text

    def unsigned(self, place: int) -> str:
        """An integer operand as unsigned."""
        kind = self.op.operands[place].type
        return self.operands[place] if _is_bool(kind) else f"({unsigned_name(kind)}){self.operands[place]}"


Expression = Callable[[Context], str]


def _is_bool(kind: Attribute) -> bool:
    return isinstance(kind, IntegerType) and kind.width.data == 1


def _float_operator(sign: str) -> Expression:
    return lambda c: c.rounded(f"{c.wide(0)} {sign} {c.wide(1)}")


def _wrapping(sign: str, on_bits: str) -> Expression:
    def write(c: Context) -> str:
        a, b = c.operands
        if isinstance(c.kind, IndexType):
            return f"{a} {sign} {b}"
        if _is_bool(c.kind):
            return f"{a} {on_bits} {b}"
        return f"({type_name(c.kind)})({c.unsigned(0)} {sign} {c.unsigned(1)})"

    return write


def _operator(sign: str) -> Expression:
    return lambda c: f"{c.operands[0]} {sign} {c.operands[1]}"


def _shift_left(c: Context) -> str:
    return f"({type_name(c.kind)})({c.unsigned(0)} << {c.operands[1]})"


def _unsigned_operator(sign: str) -> Expression:
    def write(c: Context) -> str:
        if isinstance(c.kind, IndexType):
            return f"{c.operands[0]} {sign} {c.operands[1]}"
        return f"({type_name(c.kind)})({c.unsigned(0)} {sign} {c.unsigned(1)})"

    return write


def _helper(name: str) -> Expression:
    def write(c: Context) -> str:
        c.needs.add(name)
        arguments = ", ".join(c.wide(place) for place in range(len(c.operands)))
        return c.rounded(f"{name}({arguments})")

    return write


def _function(name: str) -> Expression:
    """A function of CUDA's math library: `f` at the end of its name for float."""

    def write(c: Context) -> str:
        single = not isinstance(c.kind, Float64Type)
        arguments = ", ".join(c.wide(place) for place in range(len(c.operands)))
        return c.rounded(f"{name}{'f' if single else ''}({arguments})")

    return write


def _extreme(sign: str, signed: bool) -> Expression:
    def write(c: Context) -> str:
        a, b = c.operands
        test = f"{a} {sign} {b}" if signed else f"{c.unsigned(0)} {sign} {c.unsigned(1)}"
        return f"{test} ? {a} : {b}"

    return write


INTEGER_SIGNS = ("==", "!=", "<", "<=", ">", ">=", "<", "<=", ">", ">=")
FLOAT_SIGNS = ("", "==", ">", ">=", "<", "<=", "", "", "", "<=", "<", ">=", ">", "!=", "", "")
"""By the number of the predicate; the unordered ones are the opposite of an ordered one."""


def _compare_integers(c: Context) -> str:
    predicate = cast("IntegerAttr[Any]", c.op.properties["predicate"]).value.data
    unsigned = predicate >= 6 and not isinstance(c.op.operands[0].type, IndexType)
    a, b = (c.unsigned(0), c.unsigned(1)) if unsigned else c.operands
    return f"{a} {INTEGER_SIGNS[predicate]} {b}"


def _compare_floats(c: Context) -> str:
    predicate = cast("IntegerAttr[Any]", c.op.properties["predicate"]).value.data
    a, b = c.wide(0), c.wide(1)
    special = {
        0: "false", 6: f"{a} < {b} || {a} > {b}", 7: f"{a} == {a} && {b} == {b}", 8: f"!({a} < {b} || {a} > {b})",
        14: f"{a} != {a} || {b} != {b}", 15: "true",
    }  # fmt: skip
    if predicate in special:
        return special[predicate]
    text = f"{a} {FLOAT_SIGNS[predicate]} {b}"
    return f"!({text})" if 9 <= predicate <= 12 else text


def _cast(c: Context) -> str:
    return f"({type_name(c.kind)}){c.operands[0]}"


def _zero_extend(c: Context) -> str:
    return f"({type_name(c.kind)}){c.unsigned(0)}"


def _sign_extend(c: Context) -> str:
    return f"-({type_name(c.kind)}){c.operands[0]}" if _is_bool(c.op.operands[0].type) else _cast(c)


def _truncate(c: Context) -> str:
    return f"({c.operands[0]} & 1) != 0" if _is_bool(c.kind) else _cast(c)


def _float_to_integer(c: Context) -> str:
    return f"({type_name(c.kind)}){c.wide(0)}"


def _float_to_unsigned(c: Context) -> str:
    return f"({type_name(c.kind)})({unsigned_name(c.kind)}){c.wide(0)}"


def _to_float(operand: Callable[[Context], str]) -> Expression:
    def write(c: Context) -> str:
        name = "double" if isinstance(c.kind, Float64Type) else "float"
        return c.rounded(f"({name}){operand(c)}")

    return write


def _float_cast(c: Context) -> str:
    if isinstance(c.kind, Float64Type):
        return f"(double){c.wide(0)}"
    narrowed = f"(float){c.wide(0)}" if isinstance(c.op.operands[0].type, Float64Type) else c.wide(0)
    return c.rounded(narrowed)


BITCASTS: Mapping[tuple[str, str], str] = {
    ("float", "int"): "__float_as_int({})", ("int", "float"): "__int_as_float({})",
    ("double", "long long"): "__double_as_longlong({})", ("long long", "double"): "__longlong_as_double({})",
    ("__half", "short"): "__half_as_short({})", ("short", "__half"): "__short_as_half({})",
    ("__nv_bfloat16", "short"): "__bfloat16_as_short({})", ("short", "__nv_bfloat16"): "__short_as_bfloat16({})",
}  # fmt: skip


def _bitcast(c: Context) -> str:
    names = type_name(c.op.operands[0].type), type_name(c.kind)
    return c.operands[0] if names[0] == names[1] else BITCASTS[names].format(c.operands[0])


def _select(c: Context) -> str:
    return "{} ? {} : {}".format(*c.operands)


def _negate(c: Context) -> str:
    return c.rounded(f"-{c.wide(0)}")


def _classify(text: str) -> Expression:
    return lambda c: text.format(c.wide(0))


def _int_function(names: tuple[str, str], least: int = 32) -> Expression:
    def write(c: Context) -> str:
        bits = 64 if isinstance(c.kind, IndexType) else cast("IntegerType", c.kind).width.data
        if bits < least:
            raise UnsupportedError(f"{c.op.name} on {c.kind} has no form in CUDA C++")
        return f"({type_name(c.kind)}){names[bits == 64]}({c.operands[0]})"

    return write


def _absolute(c: Context) -> str:
    return f"{c.operands[0]} < 0 ? ({type_name(c.kind)})(0 - {c.unsigned(0)}) : {c.operands[0]}"


def _power(c: Context) -> str:
    single = not isinstance(c.kind, Float64Type)
    name = "float" if single else "double"
    return c.rounded(f"pow{'f' if single else ''}({c.wide(0)}, ({name}){c.operands[1]})")


_FUNCTIONS: dict[type[Operation], str] = {
    math.ExpOp: "exp", math.Exp2Op: "exp2", math.ExpM1Op: "expm1", math.LogOp: "log", math.Log2Op: "log2",
    math.Log10Op: "log10", math.Log1pOp: "log1p", math.SinOp: "sin", math.CosOp: "cos", math.TanOp: "tan",
    math.AtanOp: "atan", math.Atan2Op: "atan2", math.AsinOp: "asin", math.AcosOp: "acos", math.TanhOp: "tanh",
    math.SinhOp: "sinh", math.CoshOp: "cosh", math.AsinhOp: "asinh", math.AcoshOp: "acosh",
    math.AtanhOp: "atanh", math.ErfOp: "erf", core.ErfcOp: "erfc", math.PowFOp: "pow", math.RsqrtOp: "rsqrt",
    math.CbrtOp: "cbrt", math.RoundOp: "round", math.SqrtOp: "sqrt", math.AbsFOp: "fabs", math.FloorOp: "floor",
    math.CeilOp: "ceil", math.TruncOp: "trunc", math.RoundEvenOp: "rint", math.CopySignOp: "copysign",
    math.FmaOp: "fma", arith.MaxnumfOp: "fmax", arith.MinnumfOp: "fmin", core.RemFOp: "fmod",
}  # fmt: skip

EXPRESSIONS: dict[type[Operation], Expression] = {
    **{op: _function(name) for op, name in _FUNCTIONS.items()},
    arith.AddfOp: _float_operator("+"), arith.SubfOp: _float_operator("-"),
    arith.MulfOp: _float_operator("*"), arith.DivfOp: _float_operator("/"), arith.NegfOp: _negate,
    arith.MaximumfOp: _helper("maximum"), arith.MinimumfOp: _helper("minimum"),
    arith.AddiOp: _wrapping("+", "^"), arith.SubiOp: _wrapping("-", "^"), arith.MuliOp: _wrapping("*", "&"),
    arith.AndIOp: _operator("&"), arith.OrIOp: _operator("|"), arith.XOrIOp: _operator("^"),
    arith.ShLIOp: _shift_left, arith.ShRSIOp: _operator(">>"), arith.ShRUIOp: _unsigned_operator(">>"),
    arith.DivSIOp: _operator("/"), arith.RemSIOp: _operator("%"),
    arith.DivUIOp: _unsigned_operator("/"), arith.RemUIOp: _unsigned_operator("%"),
    arith.FloorDivSIOp: _helper("floor_divide"), arith.CeilDivSIOp: _helper("ceil_divide"),
    arith.MaxSIOp: _extreme(">", True), arith.MinSIOp: _extreme("<", True),
    arith.MaxUIOp: _extreme(">", False), arith.MinUIOp: _extreme("<", False),
    core.CmpiOp: _compare_integers, core.CmpfOp: _compare_floats, core.SelectOp: _select,
    arith.CmpiOp: _compare_integers, arith.CmpfOp: _compare_floats, arith.SelectOp: _select,
    core.ExtSIOp: _sign_extend, core.ExtUIOp: _zero_extend, core.TruncIOp: _truncate,
    arith.ExtSIOp: _sign_extend, arith.ExtUIOp: _zero_extend, arith.TruncIOp: _truncate,
    core.IndexCastOp: _cast, arith.IndexCastOp: _cast, core.IndexCastUIOp: _zero_extend,
    core.FPToSIOp: _float_to_integer, core.FPToUIOp: _float_to_unsigned,
    arith.FPToSIOp: _float_to_integer, arith.FPToUIOp: _float_to_unsigned,
    core.SIToFPOp: _to_float(lambda c: c.operands[0]), core.UIToFPOp: _to_float(lambda c: c.unsigned(0)),
    arith.SIToFPOp: _to_float(lambda c: c.operands[0]), arith.UIToFPOp: _to_float(lambda c: c.unsigned(0)),
    arith.ExtFOp: _float_cast, arith.TruncFOp: _float_cast, arith.BitcastOp: _bitcast,
    core.IsNaNOp: _classify("isnan({})"), core.IsInfOp: _classify("isinf({})"),
    core.IsFiniteOp: _classify("isfinite({})"),
    math.AbsIOp: _absolute, math.CtPopOp: _int_function(("__popc", "__popcll")),
    math.CountLeadingZerosOp: _int_function(("__clz", "__clzll")),
    math.FPowIOp: _power, math.IPowIOp: _helper("integer_power"),
}  # fmt: skip
"""Every op on numbers that a kernel may have."""

PRELUDE: Mapping[str, str] = {
    "maximum": """template <typename T> __device__ inline T maximum(T a, T b) {
  return a != a ? a : b != b ? b : a > b ? a : b > a ? b : a + b == 0 && !signbit(a) ? a : b;
}""",
    "minimum": """template <typename T> __device__ inline T minimum(T a, T b) {
  return a != a ? a : b != b ? b : a < b ? a : b < a ? b : a + b == 0 && signbit(a) ? a : b;
}""",
    "floor_divide": """template <typename T> __device__ inline T floor_divide(T a, T b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}""",
    "ceil_divide": """template <typename T> __device__ inline T ceil_divide(T a, T b) {
  return a / b + (a % b != 0 && (a < 0) == (b < 0));
}""",
    "integer_power": """template <typename T> __device__ inline T integer_power(T base, T exponent) {
  if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent & 1 ? -1 : 1) : 0;
  T result = 1;
  for (; exponent; exponent >>= 1, base *= base)
    if (exponent & 1) result *= base;
  return result;
}""",
    "Vector": """template <typename T, int n> struct alignas(sizeof(T) * n) Vector { T at[n]; };""",
}
"""What some expressions need, by name."""


def constant_of(op: Operation) -> str | None:
    """The text of a constant op, else None."""
    if not isinstance(op, arith.ConstantOp):
        return None
    value = op.value
    if isinstance(value, (IntegerAttr, FloatAttr)):
        return number(value.value.data, op.result.type)
    raise UnsupportedError(f"a constant {value} has no form in CUDA C++")


def is_float(kind: Attribute) -> bool:
    """Whether this is a number with a fraction."""
    return isinstance(kind, AnyFloat)
