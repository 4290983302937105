"""`expand-math`: math functions become arith, so that they are vectorised and need no libm.

One table, `EXPANSIONS`, relates each op to its expansion over `Lanes`; f16 and bf16 are computed in f32. What
LLVM has as an instruction (sqrt, floor, ceil, trunc, roundeven, fma, absf, copysign) stays. Coefficients and
promised errors are in `math_table`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from xdsl.context import Context
from xdsl.dialects import arith, func, gpu, math, scf
from xdsl.dialects.builtin import (
    BFloat16Type,
    Float16Type,
    IndexType,
    IntegerType,
    ModuleOp,
    VectorType,
    f32,
    f64,
)
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects.target import Target
from stepwell.dialects.upstream import core
from stepwell.dialects.upstream.core import like
from stepwell.dialects.walk import every_op
from stepwell.lowering.cpu import elementary
from stepwell.lowering.cpu.elementary import exp_flushed, exp_scaled, expm1, keep_tiny, log, log1p
from stepwell.lowering.cpu.lanes import Constants, Lanes
from stepwell.lowering.pass_ import Pass

Expansion = Callable[..., SSAValue]


# ------ hyperbolic functions


def tanh(b: Lanes, x: SSAValue) -> SSAValue:
    """A quotient of polynomials, where the format has one; else t / (t + 2) with t = exp(2|x|) - 1."""
    a = b.at_most(b.abs(x), b.format.tanh_high)
    if b.format.tanh is not None:
        z = b.mul(a, a)
        above, below = (b.polynomial(coefficients, z) for coefficients in b.format.tanh)
        return b.copysign(b.at_most(b.div(b.mul(a, above), below), 1.0), x)
    t = expm1(b, b.add(a, a))
    return keep_tiny(b, x, b.copysign(b.div(t, b.add(t, b.number(2.0))), x))


def sinh(b: Lanes, x: SSAValue) -> SSAValue:
    """Below 1 by exp(a) - 1, above as (exp(a) - exp(-a)) / 2; the halves are taken inside exp."""
    a = b.abs(x)
    t = expm1(b, b.at_most(a, 1.0))
    small = b.mul(b.number(0.5), b.add(t, b.div(t, b.add(t, b.number(1.0)))))
    large = b.sub(exp_scaled(b, a, -1), exp_scaled(b, b.neg(a), -1))
    return keep_tiny(b, x, b.copysign(b.select(b.less(a, b.number(1.0)), small, large), x))


def cosh(b: Lanes, x: SSAValue) -> SSAValue:
    """(exp(a) + exp(-a)) / 2."""
    a = b.abs(x)
    return b.add(exp_scaled(b, a, -1), exp_scaled(b, b.neg(a), -1))


def asinh(b: Lanes, x: SSAValue) -> SSAValue:
    """log1p(a + a^2 / (1 + sqrt(a^2 + 1))); for large a, log(a) + ln2."""
    one = b.number(1.0)
    a = b.abs(x)
    square = b.mul(a, a)
    inner = b.add(a, b.div(square, b.add(one, b.sqrt(b.add(square, one)))))
    return keep_tiny(b, x, b.copysign(_log_of_sum(b, a, inner), x))


def _log_of_sum(b: Lanes, a: SSAValue, inner: SSAValue) -> SSAValue:
    """log1p(inner), or log(a) + ln2 where a is so large that its square may overflow."""
    large = b.less(b.number(2.0 ** (b.format.mantissa // 2 + 2)), a)
    argument = b.select(large, b.sub(a, b.number(1.0)), inner)
    result = log1p(b, argument)
    return b.select(large, b.add(result, b.number(elementary.LN2)), result)


def acosh(b: Lanes, x: SSAValue) -> SSAValue:
    """log1p(t + sqrt(2t + t^2)) with t = x - 1; below 1 NaN."""
    t = b.sub(x, b.number(1.0))
    inner = b.add(t, b.sqrt(b.fma(t, t, b.add(t, t))))
    return b.select(b.less(x, b.number(1.0)), b.number(float("nan")), _log_of_sum(b, x, inner))


def atanh(b: Lanes, x: SSAValue) -> SSAValue:
    """log1p(2a / (1 - a)) / 2."""
    a = b.abs(x)
    inner = b.div(b.add(a, a), b.sub(b.number(1.0), a))
    return keep_tiny(b, x, b.copysign(b.mul(b.number(0.5), log1p(b, inner)), x))


# ------ error functions


def erf(b: Lanes, x: SSAValue) -> SSAValue:
    """An odd polynomial; for f32 up to where erf is 1, for f64 below 1, and above 1 - erfc."""
    magnitude = b.abs(x)
    a = b.at_most(magnitude, b.format.erf_high)
    result = b.mul(a, b.polynomial(b.format.erf, b.fma(a, a, b.number(-b.format.erf_center))))
    if b.format.bits == 32:
        result = b.at_most(result, 1.0)
    else:
        one = b.number(1.0)
        result = b.select(b.less(one, magnitude), b.sub(one, _erfc_positive(b, magnitude)), result)
    return b.copysign(result, x)


def _erfc_positive(b: Lanes, a: SSAValue) -> SSAValue:
    """exp(-a^2) P((a - K) / (a + K)) / (1 + 2a); a^2 with what its rounding lost."""
    a = b.at_most(a, b.format.erfc_high)
    center = b.number(b.format.erfc_center)
    t = b.div(b.sub(a, center), b.add(a, center))
    p = b.div(b.polynomial(b.format.erfc, t), b.fma(a, b.number(2.0), b.number(1.0)))
    square = b.mul(a, a)
    lost = b.fma(a, a, b.neg(square))
    return b.mul(exp_scaled(b, b.neg(square), 0, b.neg(lost)), p)


def erfc(b: Lanes, x: SSAValue) -> SSAValue:
    """For negative x, 2 - erfc(-x)."""
    positive = _erfc_positive(b, b.abs(x))
    return b.select(b.less(x, b.number(0.0)), b.sub(b.number(2.0), positive), positive)


# ------ powers and roots


def powf(b: Lanes, x: SSAValue, y: SSAValue) -> SSAValue:
    """exp(y log|x|) with the logarithm in more digits than the format: f32 in f64, f64 in two pieces."""
    if b.format.bits == 32:
        wide = b.other(f64)
        a, n = (wide.emit(arith.ExtFOp, (value,), wide.kind) for value in (b.abs(x), y))
        magnitude = b.emit(arith.TruncFOp, (exp_scaled(wide, wide.mul(n, log(wide, a))),), b.kind)
    else:
        magnitude = _power_of_positive(b, b.abs(x), y)
    return _power_special(b, x, y, magnitude)


def _power_of_positive(b: Lanes, a: SSAValue, y: SSAValue) -> SSAValue:
    """exp(y (H + L)) where H + L = log(a): e ln2 + 2s + (s^3 P(s^2) + what the quotient s lost)."""
    e, f = elementary._split(b, a)
    two = b.number(2.0)
    bottom = b.add(f, two)
    bottom_lost = b.sub(f, b.sub(bottom, two))
    s = b.div(f, bottom)
    rest = b.fma(b.neg(s), bottom, f)
    s_lost = b.div(b.fma(b.neg(s), bottom_lost, rest), bottom)
    z = b.mul(s, s)
    low = b.fma(b.mul(s, z), b.polynomial(b.format.log, z), b.add(s_lost, s_lost))
    low = b.fma(e, b.number(b.format.ln2[1]), low)
    first, second = b.mul(e, b.number(b.format.ln2[0])), b.add(s, s)
    high = b.add(first, second)
    back = b.sub(high, first)
    error = b.add(b.sub(first, b.sub(high, back)), b.sub(second, back))
    low = b.add(low, error)
    # y times what stays in `low` must be small against ln 2, so the pieces are made not to overlap.
    total = b.add(high, low)
    high, low = total, b.sub(low, b.sub(total, high))
    exact = b.both(b.less(a, b.number(inf)), b.less(b.number(0.0), a))
    high, low = b.select(exact, high, log(b, a)), b.select(exact, low, b.number(0.0))
    product = b.mul(y, high)
    lost = b.fma(y, low, b.fma(y, high, b.neg(product)))
    usual = b.less(b.abs(product), b.number(1000.0))
    return exp_scaled(b, product, 0, b.select(usual, lost, b.number(0.0)))


def _power_special(b: Lanes, x: SSAValue, y: SSAValue, magnitude: SSAValue) -> SSAValue:
    """Signs and the limits that C's pow has."""
    zero, one, infinity = b.number(0.0), b.number(1.0), b.number(inf)
    half = b.mul(y, b.number(0.5))
    whole = b.equal(b.trunc(y), y)
    odd = b.both(whole, b.compare("une", b.trunc(half), half))
    signed = b.is_set(b.bits(x), -(1 << (b.format.bits - 1)))
    result = b.select(b.both(signed, odd), b.neg(magnitude), magnitude)
    proper = b.both(b.less(x, zero), b.less(b.number(-inf), x))
    broken = b.both(proper, b.compare("one", b.trunc(y), y))
    result = b.select(broken, b.number(float("nan")), result)
    unit = b.both(b.equal(b.abs(x), one), b.equal(b.abs(y), infinity))
    result = b.select(unit, one, result)
    result = b.select(b.equal(x, one), one, result)
    return b.select(b.equal(y, zero), one, result)


def rsqrt(b: Lanes, x: SSAValue) -> SSAValue:
    return b.div(b.number(1.0), b.sqrt(x))


def cbrt(b: Lanes, x: SSAValue) -> SSAValue:
    """A guess from a third of the bits, then Halley's iteration on quarters, which do not overflow."""
    a = b.abs(x)
    small = b.less(a, b.number(b.format.tiny))
    scaled = b.select(small, b.mul(a, b.number(2.0**54)), a)
    third = b.mul(b.from_whole(b.bits(scaled)), b.number(1 / 3))
    guess = b.emit(core.FPToSIOp, (third,), b.integer)
    t = b.floats(b.plus(guess, b.whole(b.format.cbrt_bias)))
    quarter = b.mul(scaled, b.number(0.25))
    for _ in range(b.format.cbrt_steps):
        cube = b.mul(b.mul(t, t), b.mul(t, b.number(0.25)))
        step = b.div(b.sub(cube, quarter), b.fma(b.number(2.0), cube, quarter))
        t = b.fma(b.neg(t), step, t)
    t = b.select(small, b.mul(t, b.number(2.0**-18)), t)
    ordinary = b.both(b.less(b.number(0.0), a), b.less(a, b.number(inf)))
    return b.select(ordinary, b.copysign(t, x), x)


def round_away(b: Lanes, x: SSAValue) -> SSAValue:
    """To the nearest whole number, halves away from zero: add the largest number below 1/2, and cut."""
    below_half = 0.5 - 2.0 ** -(b.format.mantissa + 2)
    return b.trunc(b.add(x, b.copysign(b.number(below_half), x)))


EXPANSIONS: dict[type[Operation], Expansion] = {
    math.ExpOp: exp_scaled,
    math.Exp2Op: elementary.exp2,
    math.ExpM1Op: expm1,
    math.LogOp: log,
    math.Log2Op: elementary.log2_,
    math.Log10Op: elementary.log10,
    math.Log1pOp: log1p,
    math.SinOp: elementary.sin,
    math.CosOp: elementary.cos,
    math.TanOp: elementary.tan,
    math.AtanOp: elementary.atan,
    math.Atan2Op: elementary.atan2,
    math.AsinOp: elementary.asin,
    math.AcosOp: elementary.acos,
    math.TanhOp: tanh,
    math.SinhOp: sinh,
    math.CoshOp: cosh,
    math.AsinhOp: asinh,
    math.AcoshOp: acosh,
    math.AtanhOp: atanh,
    math.ErfOp: erf,
    core.ErfcOp: erfc,
    math.PowFOp: powf,
    math.RsqrtOp: rsqrt,
    math.CbrtOp: cbrt,
    math.RoundOp: round_away,
}
"""Each op and the function that writes it; operands are floats of one format."""


APPROXIMATE = arith.FastMathFlagsAttr([FastMathFlag.NO_INFS, FastMathFlag.APPROX_FUNC])
"""The flags of an exp that neither gives infinity nor has to give numbers below the normal ones."""


# ------ the pass


def expand_math(module: ModuleOp, target: Target | None = None) -> None:
    """Replace every op of EXPANSIONS, math.fpowi and math.ipowi, in place; for a CPU with instructions of its own."""
    for op in list(every_op(module)):
        if isinstance(op, (func.FuncOp, gpu.FuncOp)) and op.body.blocks:
            _expand_function(op, target)


def _expand_function(function: func.FuncOp | gpu.FuncOp, target: Target | None) -> None:
    constants: Constants = {}
    head: list[Operation] = []
    for op in list(every_op(function)):
        kind = type(op)
        if kind is math.ExpOp and op.properties.get("fastmath") == APPROXIMATE:
            _replace(op, exp_flushed, head, constants, target)
        elif kind in EXPANSIONS:
            _replace(op, EXPANSIONS[kind], head, constants, target)
        elif kind is math.FPowIOp:
            _replace(op, _fpowi, head, constants, target)
        elif kind is math.IPowIOp:
            _integer_power(op)
    entry = function.body.blocks[0]
    if head and entry.first_op is not None:
        entry.insert_ops_before(head, entry.first_op)


def _fpowi(b: Lanes, x: SSAValue, n: SSAValue) -> SSAValue:
    """powf with the exponent as a float (exact up to 2^24 in f32)."""
    return powf(b, x, b.from_whole(n) if n.type != b.kind else n)


def _replace(
    op: Operation, expansion: Expansion, head: list[Operation], constants: Constants, target: Target | None
) -> None:
    """Write an expansion in front of an op and let its result take the op's place."""
    result = op.results[0]
    element = result.type.element_type if isinstance(result.type, VectorType) else result.type
    half = isinstance(element, (Float16Type, BFloat16Type))
    lanes = Lanes(like(result.type, f32) if half else result.type, head, constants, op.location, target)
    operands = [
        lanes.emit(arith.ExtFOp, (value,), lanes.kind) if half and not _is_integer(value.type) else value
        for value in op.operands
    ]
    value = expansion(lanes, *operands)
    if half:
        value = lanes.emit(arith.TruncFOp, (value,), result.type)
    block = op.parent
    assert block is not None
    block.insert_ops_before(lanes.ops, op)
    result.replace_all_uses_with(value)
    block.erase_op(op)


def _is_integer(kind: Attribute) -> bool:
    element = kind.element_type if isinstance(kind, VectorType) else kind
    return isinstance(element, (IntegerType, IndexType))


def _integer_power(op: Operation) -> None:
    """math.ipowi by repeated squaring:

        r = 1; for each bit: { r = bit of n ? r * x : r; x = x * x }

    A negative exponent gives 1 for 1, a sign for -1, and 0 for all else.
    """
    base, exponent = op.operands
    kind = op.results[0].type
    element = kind.element_type if isinstance(kind, VectorType) else kind
    assert isinstance(element, IntegerType)
    writer = _Whole(kind, op)
    zero, one = writer.constant(0), writer.constant(1)
    bits = element.width.data
    index = [writer.index(value) for value in (0, bits, 1)]
    body = Block(arg_types=(IndexType(), kind, kind, kind))
    _, result, square, rest = body.args
    inner = _Whole(kind, None)
    odd = inner.compare("ne", inner.emit(arith.AndIOp, rest, one), zero)
    product = inner.emit(arith.MuliOp, result, square)
    chosen = inner.select(odd, product, result)
    squared = inner.emit(arith.MuliOp, square, square)
    shifted = inner.emit(arith.ShRUIOp, rest, one)
    body.add_ops([*inner.ops, scf.YieldOp.create(operands=(chosen, squared, shifted))])
    loop = scf.ForOp.create(
        operands=(*index, one, base, exponent), result_types=(kind, kind, kind), regions=[Region(body)]
    )
    writer.ops.append(loop)
    minus_one = writer.constant(-1)
    is_odd = writer.compare("ne", writer.emit(arith.AndIOp, exponent, one), zero)
    sign = writer.select(is_odd, minus_one, one)
    inverse = writer.select(writer.compare("eq", base, minus_one), sign, zero)
    inverse = writer.select(writer.compare("eq", base, one), one, inverse)
    value = writer.select(writer.compare("slt", exponent, zero), inverse, loop.results[0])
    block = op.parent
    assert block is not None
    block.insert_ops_before(writer.ops, op)
    op.results[0].replace_all_uses_with(value)
    block.erase_op(op)


class _Whole:
    """Writes integer arithmetic of one type."""

    def __init__(self, kind: Attribute, op: Operation | None) -> None:
        self.kind, self.location = kind, op.location if op is not None else None
        self.ops: list[Operation] = []

    def _add(self, op: Operation) -> SSAValue:
        self.ops.append(op)
        return op.results[0]

    def constant(self, value: int) -> SSAValue:
        from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, IntegerAttr

        attribute = (
            DenseIntOrFPElementsAttr.from_list(self.kind, [value])
            if isinstance(self.kind, VectorType)
            else IntegerAttr(value, self.kind)  # type: ignore[call-overload]
        )
        return self._add(arith.ConstantOp.create(result_types=(self.kind,), properties={"value": attribute}))

    def index(self, value: int) -> SSAValue:
        return self._add(arith.ConstantOp.from_int_and_width(value, IndexType()))

    def emit(self, op: type[Operation], a: SSAValue, b: SSAValue) -> SSAValue:
        flags = {"overflowFlags": arith.IntegerOverflowAttr("none")} if op is arith.MuliOp else {}
        return self._add(
            op.create(operands=(a, b), result_types=(self.kind,), properties=flags, location=self.location)
        )

    def compare(self, predicate: str, a: SSAValue, b: SSAValue) -> SSAValue:
        from stepwell.lowering.cpu.lanes import INT

        kind = like(self.kind, IntegerType(1))
        return self._add(
            core.CmpiOp.create(operands=(a, b), result_types=(kind,), properties={"predicate": INT[predicate]})
        )

    def select(self, condition: SSAValue, a: SSAValue, b: SSAValue) -> SSAValue:
        return self._add(core.SelectOp.create(operands=(condition, a, b), result_types=(self.kind,)))


@dataclass(frozen=True)
class ExpandMath(Pass):
    """Write math functions as polynomials over arith. After: no math op is left that would call libm."""

    name = "expand-math"
    target: Target | None = None

    def apply(self, module: ModuleOp, context: Context) -> None:
        expand_math(module, self.target)
