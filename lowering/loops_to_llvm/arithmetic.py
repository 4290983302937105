"""arith and math on scalars and vectors -> llvm instructions and intrinsics that never become calls to libm.

Float flags: only `contract` and `reassoc` are kept. Conversions to f16 and bf16 round through f32, as torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import isnan
from typing import Any

from xdsl.dialects import arith, llvm, math, vector
from xdsl.dialects.builtin import (
    BoolAttr,
    DenseIntOrFPElementsAttr,
    Float16Type,
    Float32Type,
    Float64Type,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    MemRefType,
    VectorType,
    f32,
    i1,
    i16,
    i32,
    i64,
)
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Operation, SSAValue

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.upstream import core
from stepwell.dialects.upstream import llvm as upstream
from stepwell.dialects.upstream.core import like
from stepwell.lowering.loops_to_llvm.builder import NO_PROPERTIES, WRAPS, FunctionLowering, Properties, predicate
from stepwell.lowering.loops_to_llvm.types import Size, byte_size, is_bfloat16

Handler = Callable[[FunctionLowering, Operation], None]

KEPT_FLAGS = (FastMathFlag.ALLOW_CONTRACT, FastMathFlag.REASSOC, FastMathFlag.NO_SIGNED_ZEROS)
STRICT = llvm.FastMathAttr(None)
_FLAGS: dict[tuple[bool, ...], llvm.FastMathAttr] = {
    kept: llvm.FastMathAttr([flag for flag, on in zip(KEPT_FLAGS, kept, strict=True) if on] or None)
    for kept in product((False, True), repeat=len(KEPT_FLAGS))
}
STRICT_PROPERTIES: Properties = {"fastmathFlags": STRICT}
EXACT: Properties = {}


def flags_of(op: Operation) -> llvm.FastMathAttr:
    """The float flags of an arith, math or vector op that we keep."""
    given = op.properties.get("fastmath")
    if not isinstance(given, arith.FastMathFlagsAttr) or not given.data:
        return STRICT
    return _FLAGS[tuple(flag in given.data for flag in KEPT_FLAGS)]


def element_of(kind: Attribute) -> Attribute:
    """A vector's element type, or the type itself."""
    return kind.element_type if isinstance(kind, VectorType) else kind


def width(kind: Attribute) -> int:
    """Bits of an integer or index type, or of a vector's elements."""
    element = element_of(kind)
    return element.width.data if isinstance(element, IntegerType) else 64


def is_integral(kind: Attribute) -> bool:
    """Integers, index, and vectors of them."""
    return isinstance(element_of(kind), (IntegerType, IndexType))


# ------ constants


def constant(lower: FunctionLowering, op: Operation) -> None:
    """arith.constant: integers known as such; floats and vectors as llvm constants."""
    result, value = op.results[0], op.properties["value"]
    if isinstance(value, IntegerAttr):
        lower.known[result] = value.value.data
    elif isinstance(value, FloatAttr) and is_bfloat16(result.type):
        lower.known[result] = _bfloat16_bits(value.value.data)
    elif isinstance(value, FloatAttr):
        lower.values[result] = lower.number(value.value.data, result.type)
    elif isinstance(value, DenseIntOrFPElementsAttr) and isinstance(result.type, VectorType):
        lower.values[result] = dense(lower, result.type, value)
    else:
        raise UnsupportedError(f"a constant of type {result.type} cannot become native code")


def dense(lower: FunctionLowering, kind: VectorType[Attribute], value: Any) -> SSAValue:
    """A vector constant (value: DenseIntOrFPElementsAttr); one op per type and bytes."""
    target = lower.types.value(kind)
    if is_bfloat16(kind):
        value = elements(target, [_bfloat16_bits(number) for number in value.get_values()])
    elif target is not kind:
        value = elements(target, value.get_values())
    return lower.constant(target, value, (value.data.data, value.is_splat()))


def elements(kind: Any, values: Sequence[Any]) -> Attribute:
    """A dense attribute of a vector type."""
    return DenseIntOrFPElementsAttr.from_list(kind, values)


def splat(lower: FunctionLowering, value: int | float, kind: Attribute) -> SSAValue:
    """A constant of an llvm type, all lanes equal where it is a vector."""
    if isinstance(kind, VectorType):
        return lower.constant(kind, elements(kind, [value]), ("splat", repr(value)))
    return lower.integer(int(value), kind) if isinstance(kind, IntegerType) else lower.number(value, kind)


def _bfloat16_bits(value: float) -> int:
    """Round to nearest even, as a signed 16-bit integer."""
    import ml_dtypes
    import numpy as np

    return int(np.array(value, dtype=ml_dtypes.bfloat16).view(np.int16))


# ------ integers


def integer_binary(kind: type[Operation], properties: Properties = NO_PROPERTIES) -> Handler:
    """An op that is the same instruction in llvm."""

    def handle(lower: FunctionLowering, op: Operation) -> None:
        left, right = op.operands
        result = op.results[0]
        lower.values[result] = lower.emit(
            kind, (lower.value(left), lower.value(right)), lower.types.value(result.type), properties
        )

    return handle


def _folding(fold: Callable[[FunctionLowering, Size, Size], Size], plain: Handler) -> Handler:
    """On index scalars, arithmetic that folds; else the instruction."""

    def handle(lower: FunctionLowering, op: Operation) -> None:
        result = op.results[0]
        if not isinstance(result.type, IndexType):
            plain(lower, op)
            return
        left, right = op.operands
        folded = fold(lower, lower.index(left), lower.index(right))
        if isinstance(folded, int):
            lower.known[result] = folded
        else:
            lower.values[result] = folded

    return handle


def floor_division(lower: FunctionLowering, op: Operation) -> None:
    """q = a / b; one less where the remainder is not zero and its sign differs from b's."""
    _rounded_division(lower, op, up=False)


def ceil_division(lower: FunctionLowering, op: Operation) -> None:
    """q = a / b; one more where the remainder is not zero and its sign is b's."""
    _rounded_division(lower, op, up=True)


def _rounded_division(lower: FunctionLowering, op: Operation, up: bool) -> None:
    left, right = (lower.value(operand) for operand in op.operands)
    kind, boolean = left.type, like(left.type, i1)
    quotient = lower.emit(llvm.SDivOp, (left, right), kind)
    rest = lower.emit(llvm.SRemOp, (left, right), kind)
    zero = splat(lower, 0, kind)
    inexact = compare(lower, "ne", rest, zero)
    signs = lower.emit(llvm.XOrOp, (rest, right), kind)
    adjust = compare(lower, "sge" if up else "slt", signs, zero)
    adjust = lower.emit(llvm.AndOp, (inexact, adjust), boolean)
    one = lower.emit(llvm.ZExtOp, (adjust,), kind)
    lower.values[op.results[0]] = lower.emit(llvm.AddOp if up else llvm.SubOp, (quotient, one), kind)


def ceil_division_unsigned(lower: FunctionLowering, op: Operation) -> None:
    """a / b, one more where a remainder is left."""
    left, right = (lower.value(operand) for operand in op.operands)
    quotient = lower.emit(llvm.UDivOp, (left, right), left.type)
    rest = lower.emit(llvm.URemOp, (left, right), left.type)
    one = lower.emit(llvm.ZExtOp, (compare(lower, "ne", rest, splat(lower, 0, left.type)),), left.type)
    lower.values[op.results[0]] = lower.emit(llvm.AddOp, (quotient, one), left.type)


def extended_multiply(extend: type[Operation]) -> Handler:
    """arith.mul?i_extended: the low and the high half of the double-width product."""

    def handle(lower: FunctionLowering, op: Operation) -> None:
        left, right = (lower.value(operand) for operand in op.operands)
        bits = width(left.type)
        wide = like(left.type, IntegerType(2 * bits))
        factors = [lower.emit(extend, (factor,), wide) for factor in (left, right)]
        product = lower.emit(llvm.MulOp, factors, wide)
        high = lower.emit(llvm.LShrOp, (product, splat(lower, bits, wide)), wide)
        for result, value in zip(op.results, (product, high), strict=True):
            lower.values[result] = lower.emit(llvm.TruncOp, (value,), left.type)

    return handle


def compare(lower: FunctionLowering, keyword: str, left: SSAValue, right: SSAValue) -> SSAValue:
    """icmp on scalars or vectors."""
    return lower.emit(llvm.ICmpOp, (left, right), like(left.type, i1), predicate(keyword))


def comparison(kind: type[Operation]) -> Handler:
    """arith.cmpi and cmpf: the predicates have the same numbers."""

    def handle(lower: FunctionLowering, op: Operation) -> None:
        left, right = (lower.value(operand) for operand in op.operands)
        properties = {"predicate": op.properties["predicate"]}
        if kind is upstream.FCmpOp:
            properties["fastmathFlags"] = STRICT
        lower.values[op.results[0]] = lower.emit(kind, (left, right), like(left.type, i1), properties)

    return handle


def select(lower: FunctionLowering, op: Operation) -> None:
    """arith.select; of memrefs, part by part."""
    condition, left, right = op.operands
    result = op.results[0]
    test = lower.value(condition)

    def choose(a: SSAValue, b: SSAValue) -> SSAValue:
        return lower.emit(upstream.SelectOp, (test, a, b), a.type, STRICT_PROPERTIES)

    if isinstance(result.type, MemRefType):
        parts = zip(lower.flatten(left, result.type), lower.flatten(right, result.type), strict=True)
        lower.unflatten(result, iter([choose(a, b) for a, b in parts]))
    else:
        lower.values[result] = choose(lower.value(left), lower.value(right))


# ------ floats


def float_op(kind: type[Operation]) -> Handler:
    """An op on floats that is one instruction or intrinsic in llvm."""

    def handle(lower: FunctionLowering, op: Operation) -> None:
        result = op.results[0]
        refuse_bfloat16(op)
        operands = [lower.value(operand) for operand in op.operands]
        lower.values[result] = lower.emit(
            kind, operands, lower.types.value(result.type), {"fastmathFlags": flags_of(op)}
        )

    return handle


def extremum(kind: type[Operation], keyword: str) -> Handler:
    """arith.maximumf and minimumf: NaN where either operand is one.

    x86's own instructions give their second operand where one of both is NaN: with a number as the first one, that is
    what is wanted, in one instruction. Of two zeros they give the second too, as torch's vectors do.
    """
    plain = float_op(kind)

    def handle(lower: FunctionLowering, op: Operation) -> None:
        numbers = [value for value in op.operands if _is_number(value)]
        if lower.module.target.architecture != "x86_64" or not numbers or not _is_wide(op.results[0].type):
            plain(lower, op)
            return
        number = lower.value(numbers[0])
        other = lower.value(op.operands[1] if op.operands[0] is numbers[0] else op.operands[0])
        properties = {
            "predicate": IntegerAttr(llvm.FCmpPredicateFlag(keyword).to_int(), i64), "fastmathFlags": STRICT,
        }  # fmt: skip
        test = lower.emit(upstream.FCmpOp, (number, other), like(number.type, i1), properties)
        lower.values[op.results[0]] = lower.emit(
            upstream.SelectOp, (test, number, other), number.type, STRICT_PROPERTIES
        )

    return handle


def _is_wide(kind: Attribute) -> bool:
    """Whether x86 compares floats of a type itself."""
    return isinstance(element_of(kind), (Float32Type, Float64Type))


def _is_number(value: SSAValue) -> bool:
    """Whether a float, or every lane of a vector, is a constant that is no NaN."""
    op = value.owner
    if isinstance(op, vector.BroadcastOp):
        op = op.operands[0].owner
    if not isinstance(op, arith.ConstantOp):
        return False
    if isinstance(op.value, DenseIntOrFPElementsAttr):
        return not any(isnan(number) for number in op.value.get_values())
    return isinstance(op.value, FloatAttr) and not isnan(op.value.value.data)


def refuse_bfloat16(op: Operation) -> None:
    """bf16 is only stored and converted; arithmetic on it is written in f32."""
    if any(is_bfloat16(value.type) for value in (*op.operands, *op.results)):
        raise UnsupportedError(f"{op.name} on bf16 cannot become native code: compute in f32")


def fused_multiply_add(lower: FunctionLowering, op: Operation) -> None:
    """One fused instruction where the target has it, else two (never libm's fma)."""
    a, b, c = (lower.value(operand) for operand in op.operands)
    if lower.module.target.has_fma:
        value = lower.emit(llvm.FMAOp, (a, b, c), a.type, STRICT_PROPERTIES)
    else:
        product = lower.emit(llvm.FMulOp, (a, b), a.type, STRICT_PROPERTIES)
        value = lower.emit(llvm.FAddOp, (product, c), a.type, STRICT_PROPERTIES)
    lower.values[op.results[0]] = value


def classify(keyword: str, magnitude: float | None) -> Handler:
    """math.isnan (x is unordered with itself), isinf and isfinite (|x| against infinity)."""

    def handle(lower: FunctionLowering, op: Operation) -> None:
        refuse_bfloat16(op)
        value = lower.value(op.operands[0])
        other = value
        if magnitude is not None:
            value = lower.emit(llvm.FAbsOp, (value,), value.type, STRICT_PROPERTIES)
            other = splat(lower, magnitude, value.type)
        number = llvm.FCmpPredicateFlag(keyword).to_int()
        properties = {"predicate": IntegerAttr(number, i64), "fastmathFlags": STRICT}
        lower.values[op.results[0]] = lower.emit(upstream.FCmpOp, (value, other), like(value.type, i1), properties)

    return handle


def with_flag(kind: type[Operation], name: str, value: bool) -> Handler:
    """An integer intrinsic with a yes-or-no parameter."""

    def handle(lower: FunctionLowering, op: Operation) -> None:
        operand = lower.value(op.operands[0])
        properties: Properties = {name: BoolAttr.from_bool(value)} if name else NO_PROPERTIES
        lower.values[op.results[0]] = lower.emit(kind, (operand,), operand.type, properties)

    return handle


# ------ conversions


def resize(lower: FunctionLowering, value: SSAValue, kind: Attribute, signed: bool) -> SSAValue:
    """An integer (vector) in another width."""
    have, want = width(value.type), width(kind)
    if have == want:
        return value
    if have > want:
        return lower.emit(llvm.TruncOp, (value,), kind)
    return lower.emit(llvm.SExtOp if signed else llvm.ZExtOp, (value,), kind)


def integer_cast(signed: bool) -> Handler:
    """extsi, extui, trunci, index_cast, index_castui."""

    def handle(lower: FunctionLowering, op: Operation) -> None:
        operand, result = op.operands[0], op.results[0]
        if operand in lower.known and isinstance(result.type, (IndexType, IntegerType)):
            lower.known[result] = _fit(lower.known[operand], width(operand.type), width(result.type), signed)
            return
        lower.values[result] = resize(lower, lower.value(operand), lower.types.value(result.type), signed)

    return handle


def _fit(value: int, have: int, want: int, signed: bool) -> int:
    """What an integer constant is after extension or truncation, as a signed number (i1: 0 or 1)."""
    if have < want:
        value &= (1 << have) - 1
        return value - (1 << have) if signed and value >> (have - 1) else value
    value &= (1 << want) - 1
    return value - (1 << want) if want > 1 and value >> (want - 1) else value


def float_to_integer(kind: type[Operation]) -> Handler:
    """Out of range gives some fixed number (not poison)."""

    def handle(lower: FunctionLowering, op: Operation) -> None:
        value = widen(lower, lower.value(op.operands[0]), op.operands[0].type)
        result = lower.types.value(op.results[0].type)
        converted = lower.emit(kind, (value,), result)
        lower.values[op.results[0]] = lower.emit(upstream.FreezeOp, (converted,), result)

    return handle


def integer_to_float(kind: type[Operation]) -> Handler:
    """Exact or rounded; to half formats through f32."""

    def handle(lower: FunctionLowering, op: Operation) -> None:
        value, result = lower.value(op.operands[0]), op.results[0].type
        half = byte_size(element_of(result)) == 2
        converted = lower.emit(kind, (value,), like(value.type, f32) if half else result)
        lower.values[op.results[0]] = narrow(lower, converted, result)

    return handle


def float_cast(lower: FunctionLowering, op: Operation) -> None:
    """extf and truncf between any two float types."""
    operand, result = op.operands[0], op.results[0]
    lower.values[result] = narrow(lower, widen(lower, lower.value(operand), operand.type), result.type)


def widen(lower: FunctionLowering, value: SSAValue, kind: Attribute) -> SSAValue:
    """f16 and bf16 as f32; other floats as they are."""
    single = like(kind, f32)
    if is_bfloat16(kind):
        bits = lower.emit(llvm.ZExtOp, (value,), like(kind, i32))
        bits = lower.emit(llvm.ShlOp, (bits, splat(lower, 16, bits.type)), bits.type)
        return lower.emit(llvm.BitcastOp, (bits,), single)
    if isinstance(element_of(kind), Float16Type):
        _require_half(lower)
        return lower.emit(llvm.FPExtOp, (value,), single)
    return value


def narrow(lower: FunctionLowering, value: SSAValue, kind: Attribute) -> SSAValue:
    """An f32 or f64 value rounded or extended to any float type."""
    have, want = byte_size(element_of(value.type)), byte_size(element_of(kind))
    if have == want:
        return value
    if have < want:
        return lower.emit(llvm.FPExtOp, (value,), kind)
    single = like(kind, f32)
    if isinstance(element_of(value.type), Float64Type):
        value = lower.emit(llvm.FPTruncOp, (value,), single)
    if is_bfloat16(kind):
        return _round_to_bfloat16(lower, value, kind)
    if want == 2:
        _require_half(lower)
        return lower.emit(llvm.FPTruncOp, (value,), kind)
    return value


def _round_to_bfloat16(lower: FunctionLowering, value: SSAValue, kind: Attribute) -> SSAValue:
    """bits + 0x7fff + (lowest kept bit), high half; a NaN stays one (quiet)."""
    integer = like(kind, i32)
    bits = lower.emit(llvm.BitcastOp, (value,), integer)
    sixteen = splat(lower, 16, integer)
    high = lower.emit(llvm.LShrOp, (bits, sixteen), integer)
    odd = lower.emit(llvm.AndOp, (high, splat(lower, 1, integer)), integer)
    rounded = lower.emit(llvm.AddOp, (bits, splat(lower, 0x7FFF, integer)), integer)
    rounded = lower.emit(llvm.AddOp, (rounded, odd), integer)
    rounded = lower.emit(llvm.LShrOp, (rounded, sixteen), integer)
    quiet = lower.emit(llvm.OrOp, (high, splat(lower, 0x40, integer)), integer)
    number = llvm.FCmpPredicateFlag("uno").to_int()
    is_nan = lower.emit(
        upstream.FCmpOp,
        (value, value),
        like(kind, i1),
        {"predicate": IntegerAttr(number, i64), "fastmathFlags": STRICT},
    )
    chosen = lower.emit(upstream.SelectOp, (is_nan, quiet, rounded), integer, STRICT_PROPERTIES)
    return lower.emit(llvm.TruncOp, (chosen,), like(kind, i16))


def _require_half(lower: FunctionLowering) -> None:
    if not lower.module.target.has_half_conversion:
        raise UnsupportedError(f"the target {lower.module.target.cpu} cannot convert f16 in hardware")


def bitcast(lower: FunctionLowering, op: Operation) -> None:
    """The same bits as another type."""
    value, kind = lower.value(op.operands[0]), lower.types.value(op.results[0].type)
    same = value.type == kind
    lower.values[op.results[0]] = value if same else lower.emit(llvm.BitcastOp, (value,), kind)


_INTEGER: dict[type[Operation], tuple[type[Operation], Properties]] = {
    arith.AddiOp: (llvm.AddOp, WRAPS),
    arith.SubiOp: (llvm.SubOp, WRAPS),
    arith.MuliOp: (llvm.MulOp, WRAPS),
    arith.ShLIOp: (llvm.ShlOp, WRAPS),
    arith.DivSIOp: (llvm.SDivOp, EXACT),
    arith.DivUIOp: (llvm.UDivOp, EXACT),
    arith.RemSIOp: (llvm.SRemOp, EXACT),
    arith.RemUIOp: (llvm.URemOp, EXACT),
    arith.ShRSIOp: (llvm.AShrOp, EXACT),
    arith.ShRUIOp: (llvm.LShrOp, EXACT),
    arith.AndIOp: (llvm.AndOp, EXACT),
    arith.OrIOp: (llvm.OrOp, EXACT),
    arith.XOrIOp: (llvm.XOrOp, EXACT),
    arith.MinSIOp: (upstream.INTRINSICS["llvm.intr.smin"], EXACT),
    arith.MaxSIOp: (upstream.INTRINSICS["llvm.intr.smax"], EXACT),
    arith.MinUIOp: (upstream.INTRINSICS["llvm.intr.umin"], EXACT),
    arith.MaxUIOp: (upstream.INTRINSICS["llvm.intr.umax"], EXACT),
}
_FLOAT: dict[type[Operation], type[Operation]] = {
    arith.AddfOp: llvm.FAddOp,
    arith.SubfOp: llvm.FSubOp,
    arith.MulfOp: llvm.FMulOp,
    arith.DivfOp: llvm.FDivOp,
    arith.NegfOp: llvm.FNegOp,
    arith.MaxnumfOp: llvm.VectorFMaxOp,
    arith.MinnumfOp: llvm.VectorFMinOp,
    core.RemFOp: llvm.FRemOp,
    math.SqrtOp: llvm.FSqrtOp,
    math.AbsFOp: llvm.FAbsOp,
    math.FloorOp: llvm.FFloorOp,
    math.CeilOp: llvm.FCeilOp,
    math.TruncOp: upstream.INTRINSICS["llvm.intr.trunc"],
    math.RoundEvenOp: upstream.INTRINSICS["llvm.intr.roundeven"],
    math.CopySignOp: llvm.FCopySignOp,
}
_CASTS: dict[type[Operation], Handler] = {
    core.ExtSIOp: integer_cast(True),
    core.ExtUIOp: integer_cast(False),
    core.TruncIOp: integer_cast(True),
    core.IndexCastOp: integer_cast(True),
    core.IndexCastUIOp: integer_cast(False),
    core.FPToSIOp: float_to_integer(upstream.FPToSIOp),
    core.FPToUIOp: float_to_integer(upstream.FPToUIOp),
    core.SIToFPOp: integer_to_float(llvm.SIToFPOp),
    core.UIToFPOp: integer_to_float(upstream.UIToFPOp),
    core.SelectOp: select,
    core.CmpiOp: comparison(llvm.ICmpOp),
    core.CmpfOp: comparison(upstream.FCmpOp),
    arith.ExtFOp: float_cast,
    arith.TruncFOp: float_cast,
    arith.BitcastOp: bitcast,
}
_SAME_OPS: dict[type[Operation], type[Operation]] = {
    arith.ExtSIOp: core.ExtSIOp,
    arith.ExtUIOp: core.ExtUIOp,
    arith.TruncIOp: core.TruncIOp,
    arith.IndexCastOp: core.IndexCastOp,
    arith.FPToSIOp: core.FPToSIOp,
    arith.FPToUIOp: core.FPToUIOp,
    arith.SIToFPOp: core.SIToFPOp,
    arith.UIToFPOp: core.UIToFPOp,
    arith.SelectOp: core.SelectOp,
    arith.CmpiOp: core.CmpiOp,
    arith.CmpfOp: core.CmpfOp,
}
"""xDSL's own classes for ops that `upstream` widens."""

_plain: dict[type[Operation], Handler] = {source: integer_binary(*target) for source, target in _INTEGER.items()}

HANDLERS: dict[type[Operation], Handler] = {
    arith.ConstantOp: constant,
    **_plain,
    arith.AddiOp: _folding(FunctionLowering.add, _plain[arith.AddiOp]),
    arith.SubiOp: _folding(FunctionLowering.subtract, _plain[arith.SubiOp]),
    arith.MuliOp: _folding(FunctionLowering.multiply, _plain[arith.MuliOp]),
    arith.FloorDivSIOp: floor_division,
    arith.CeilDivSIOp: ceil_division,
    arith.CeilDivUIOp: ceil_division_unsigned,
    arith.MulSIExtendedOp: extended_multiply(llvm.SExtOp),
    arith.MulUIExtendedOp: extended_multiply(llvm.ZExtOp),
    **{source: float_op(target) for source, target in _FLOAT.items()},
    arith.MaximumfOp: extremum(upstream.INTRINSICS["llvm.intr.maximum"], "ogt"),
    arith.MinimumfOp: extremum(upstream.INTRINSICS["llvm.intr.minimum"], "olt"),
    math.FmaOp: fused_multiply_add,
    math.AbsIOp: with_flag(upstream.AbsOp, "is_int_min_poison", False),
    math.CtPopOp: with_flag(upstream.INTRINSICS["llvm.intr.ctpop"], "", False),
    math.CountLeadingZerosOp: with_flag(upstream.INTRINSICS["llvm.intr.ctlz"], "is_zero_poison", False),
    math.CountTrailingZerosOp: with_flag(upstream.INTRINSICS["llvm.intr.cttz"], "is_zero_poison", False),
    core.IsNaNOp: classify("uno", None),
    core.IsInfOp: classify("oeq", float("inf")),
    core.IsFiniteOp: classify("olt", float("inf")),
    **_CASTS,
    **{theirs: _CASTS[ours] for theirs, ours in _SAME_OPS.items()},
}
