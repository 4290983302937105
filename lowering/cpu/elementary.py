"""exp, log and trigonometry in plain arithmetic: the cores that `expand_math` builds everything from.

Each function takes a `Lanes` (format and shape) and values, and gives a value. Accuracy: see `math_table.MATH`.
"""

from __future__ import annotations

from math import inf, pi, sqrt

from xdsl.dialects import arith
from xdsl.dialects.builtin import f32, f64
from xdsl.ir import SSAValue

from stepwell.dialects.upstream import core
from stepwell.dialects.upstream.core import like
from stepwell.lowering.cpu.lanes import Lanes

LOG2_E = 1.4426950408889634
LN2 = 0.6931471805599453


# ------ exponentials


def exp_scaled(b: Lanes, x: SSAValue, shift: int = 0, low: SSAValue | None = None) -> SSAValue:
    """2^shift * exp(x + low), over the full range.

    n = round(x / ln2); r = x - n ln2; exp(r) = 1 + r + r^2 P(r). The factor 2^n is applied in two halves where no
    instruction does it, so that results below the normal numbers come out gradually.
    """
    lowest, highest = b.format.exp_range
    x = b.at_least(b.at_most(x, highest - shift), lowest)
    n, integer = b.nearest(x, LOG2_E)
    r = b.fma(n, b.number(-b.format.ln2[0]), x)
    r = b.fma(n, b.number(-b.format.ln2[1]), r)
    if low is not None:
        r = b.add(r, low)
    value = _exp_reduced(b, r)
    if b.can_scale:
        return b.scaled(value, b.add(n, b.number(float(shift))) if shift else n)
    return scale(b, value, b.plus(integer, b.whole(shift)) if shift else integer)


def exp_flushed(b: Lanes, x: SSAValue) -> SSAValue:
    """exp(x) for x whose result does not overflow; 0 where it is below the normal numbers, each of which takes a
    processor a hundred cycles to make."""
    lowest = b.format.exp_normal_low
    given = x
    x = b.at_least(x, lowest)
    n, integer = b.nearest(x, LOG2_E)
    r = b.fma(n, b.number(-b.format.ln2[0]), x)
    r = b.fma(n, b.number(-b.format.ln2[1]), r)
    value = _exp_reduced(b, r)
    result = b.scaled(value, n) if b.can_scale else b.mul(value, b.power_of_two(integer))
    return b.select(b.less(given, b.number(lowest)), b.number(0.0), result)


def _exp_reduced(b: Lanes, r: SSAValue) -> SSAValue:
    """exp(r), |r| < ln2 / 2."""
    return b.fma(b.polynomial(b.format.exp, r), b.mul(r, r), b.add(r, b.number(1.0)))


def scale(b: Lanes, value: SSAValue, exponent: SSAValue) -> SSAValue:
    """value * 2^exponent, where that may leave the normal numbers."""
    half = b.right(exponent, 1)
    rest = b.minus(exponent, half)
    return b.mul(b.mul(value, b.power_of_two(half)), b.power_of_two(rest))


def exp2(b: Lanes, x: SSAValue) -> SSAValue:
    """2^x: the same, and n is x rounded."""
    low, high = (-(b.format.bias + b.format.mantissa + 2.0), b.format.bias + 2.0)
    x = b.at_least(b.at_most(x, high), low)
    n, integer = b.nearest(x, 1.0)
    value = _exp_reduced(b, b.mul(b.sub(x, n), b.number(LN2)))
    return b.scaled(value, n) if b.can_scale else scale(b, value, integer)


def expm1(b: Lanes, x: SSAValue) -> SSAValue:
    """exp(x) - 1 = 2 (2^(n-1) (exp(r) - 1) + (2^(n-1) - 1/2))."""
    given = x
    x = b.at_least(b.at_most(x, b.format.exp_range[1]), b.format.expm1_low)
    n, integer = b.nearest(x, LOG2_E)
    r = b.fma(n, b.number(-b.format.ln2[0]), x)
    r = b.fma(n, b.number(-b.format.ln2[1]), r)
    small = b.fma(b.polynomial(b.format.exp, r), b.mul(r, r), r)
    half_power = b.power_of_two(b.minus(integer, b.whole(1)))
    result = b.fma(half_power, small, b.sub(half_power, b.number(0.5)))
    return keep_tiny(b, given, b.add(result, result))


def keep_tiny(b: Lanes, x: SSAValue, result: SSAValue) -> SSAValue:
    """x itself where it is so small that f(x) = x: keeps -0 and the smallest numbers."""
    tiny = b.less(b.abs(x), b.number(2.0 ** -(b.format.mantissa + 2)))
    return b.select(tiny, x, result)


# ------ logarithms


def _split(b: Lanes, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    """x = 2^e m with m in sqrt(1/2) .. sqrt(2): (e, m - 1). Numbers below the normal ones are scaled first."""
    form = b.format
    shift = form.mantissa + 2
    small = b.less(x, b.number(form.tiny))
    x = b.select(small, b.mul(x, b.number(2.0**shift)), x)
    bits = b.bits(x)
    root_half = {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}[form.bits]
    integer = b.right(b.minus(bits, b.whole(root_half)), form.mantissa)
    m = b.floats(b.minus(bits, b.left(integer, form.mantissa)))
    e = b.from_whole(integer)
    e = b.select(small, b.sub(e, b.number(float(shift))), e)
    return e, b.sub(m, b.number(1.0))


def _log_reduced(b: Lanes, f: SSAValue, extra: SSAValue | None = None) -> SSAValue:
    """log(1 + f) - f (+ extra), to be added to f."""
    square = b.mul(f, f)
    if b.format.bits == 32:
        y = b.mul(b.mul(f, square), b.polynomial(b.format.log, f))
        y = y if extra is None else b.add(y, extra)
        return b.fma(square, b.number(-0.5), y)
    s = b.div(f, b.add(f, b.number(2.0)))
    z = b.mul(s, s)
    half_square = b.mul(b.number(0.5), square)
    tail = b.mul(s, b.fma(z, b.polynomial(b.format.log, z), half_square))
    tail = tail if extra is None else b.add(tail, extra)
    return b.sub(tail, half_square)


def log(b: Lanes, x: SSAValue) -> SSAValue:
    """e ln2 + log(1 + f)."""
    e, f = _split(b, x)
    y = _log_reduced(b, f, b.mul(e, b.number(b.format.ln2[1])))
    return log_special(b, x, b.fma(e, b.number(b.format.ln2[0]), b.add(f, y)))


def log_special(b: Lanes, x: SSAValue, result: SSAValue) -> SSAValue:
    """The values at 0, infinity, NaN and for negative numbers."""
    result = b.select(b.less(x, b.number(inf)), result, x)
    result = b.select(b.compare("ult", x, b.number(0.0)), b.number(float("nan")), result)
    return b.select(b.equal(x, b.number(0.0)), b.number(-inf), result)


def log_base(b: Lanes, x: SSAValue, factor: tuple[float, float], of_two: tuple[float, float]) -> SSAValue:
    """log to another base: (f + y) * factor + e * of_two, where factor and of_two come in two pieces each."""
    e, f = _split(b, x)
    y = _log_reduced(b, f)
    low = b.mul(y, b.number(factor[1]))
    low = b.fma(f, b.number(factor[1]), low)
    low = b.fma(e, b.number(of_two[1]), low)
    low = b.fma(y, b.number(factor[0]), low)
    low = b.fma(f, b.number(factor[0]), low)
    return log_special(b, x, b.fma(e, b.number(of_two[0]), low))


def log2_(b: Lanes, x: SSAValue) -> SSAValue:
    return log_base(b, x, (1.0, LOG2_E - 1.0), (1.0, 0.0))


def log10(b: Lanes, x: SSAValue) -> SSAValue:
    return log_base(b, x, (0.43359375, 7.00731903251827651129e-4), (0.30078125, 2.48745663981195213739e-4))


def log1p(b: Lanes, x: SSAValue) -> SSAValue:
    """log(u) + (x - (u - 1)) / u with u = 1 + x rounded."""
    one = b.number(1.0)
    u = b.add(x, one)
    big = b.less(one, x)
    lost = b.select(big, b.sub(one, b.sub(u, x)), b.sub(x, b.sub(u, one)))
    result = b.add(log(b, u), b.div(lost, u))
    result = b.select(b.less(x, b.number(inf)), result, x)
    result = b.select(b.equal(u, b.number(0.0)), b.number(-inf), result)
    return keep_tiny(b, x, result)


# ------ circular functions


def _reduce(b: Lanes, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    """x = r + k pi/2: (r, k), |r| <= pi/4; for large f32 in f64, and NaN for r beyond 2^50."""
    r, k = _reduce_here(b, x)
    magnitude = b.abs(x)
    if b.format.bits == 32:
        large = b.less(b.number(b.format.trig_limit), magnitude)

        def in_f64() -> list[SSAValue]:
            wide = b.other(f64)
            extended = wide.emit(arith.ExtFOp, (x,), wide.kind)
            wide_r, wide_k = _reduce_here(wide, extended)
            narrow = b.emit(arith.TruncFOp, (wide_r,), like(b.kind, f32))
            # Lane by lane: what a number gives must not depend on its neighbours.
            whole = b.emit(core.TruncIOp, (wide_k,), b.integer)
            return [b.select(large, narrow, r), b.select(large, whole, k)]

        r, k = b.where_any(large, in_f64, (r, k))
    beyond = b.less(b.number(2.0**50), magnitude)
    return b.select(beyond, b.number(float("nan")), r), k


def _reduce_here(b: Lanes, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    n, k = b.nearest(x, 2 / pi)
    r = x
    for piece in b.format.half_pi:
        r = b.fma(n, b.number(-piece), r)
    return r, k


def _sin_cos(b: Lanes, r: SSAValue) -> tuple[SSAValue, SSAValue]:
    """(sin r, cos r), |r| <= pi/4."""
    z = b.mul(r, r)
    sine = b.fma(b.mul(r, z), b.polynomial(b.format.sin, z), r)
    cosine = b.fma(b.mul(z, z), b.polynomial(b.format.cos, z), b.fma(z, b.number(-0.5), b.number(1.0)))
    return sine, cosine


def _flip(b: Lanes, value: SSAValue, k: SSAValue, bit: int) -> SSAValue:
    """-value where a bit (1 or 2) of k is set."""
    sign = b.left(b.masked(k, bit), b.format.bits - bit.bit_length())
    return b.floats(b.whole_op(arith.XOrIOp, b.bits(value), sign))


def sin(b: Lanes, x: SSAValue) -> SSAValue:
    r, k = _reduce(b, x)
    sine, cosine = _sin_cos(b, r)
    return keep_tiny(b, x, _flip(b, b.select(b.is_set(k, 1), cosine, sine), k, 2))


def cos(b: Lanes, x: SSAValue) -> SSAValue:
    r, k = _reduce(b, x)
    sine, cosine = _sin_cos(b, r)
    return _flip(b, b.select(b.is_set(k, 1), sine, cosine), b.plus(k, b.whole(1)), 2)


def tan(b: Lanes, x: SSAValue) -> SSAValue:
    r, k = _reduce(b, x)
    sine, cosine = _sin_cos(b, r)
    odd = b.is_set(k, 1)
    ratio = b.div(b.select(odd, cosine, sine), b.select(odd, sine, cosine))
    return keep_tiny(b, x, _flip(b, ratio, k, 1))


def _atan_parts(b: Lanes, t: SSAValue) -> SSAValue:
    """atan(t) for |t| <= tan(pi/8)."""
    z = b.mul(t, t)
    return b.fma(b.mul(t, z), b.polynomial(b.format.atan, z), t)


def _pieces(b: Lanes, multiple: float) -> tuple[float, float]:
    """multiple * pi/2 in two pieces."""
    return multiple * b.format.half_pi[0], multiple * b.format.half_pi[1]


def atan(b: Lanes, x: SSAValue) -> SSAValue:
    """Above tan(3 pi/8) by -1/x, above tan(pi/8) by (x - 1) / (x + 1)."""
    one, zero = b.number(1.0), b.number(0.0)
    a = b.abs(x)
    big, middle = b.less(b.number(sqrt(2) + 1), a), b.less(b.number(sqrt(2) - 1), a)
    top = b.select(big, b.number(-1.0), b.select(middle, b.sub(a, one), a))
    bottom = b.select(big, a, b.select(middle, b.add(a, one), one))
    t = b.div(top, bottom)
    base = [
        b.select(big, b.number(half), b.select(middle, b.number(quarter), zero))
        for half, quarter in zip(_pieces(b, 1.0), _pieces(b, 0.5), strict=True)
    ]
    result = b.add(base[0], b.add(_atan_parts(b, t), base[1]))
    return keep_tiny(b, x, b.copysign(result, x))


def atan2(b: Lanes, y: SSAValue, x: SSAValue) -> SSAValue:
    """The angle of (x, y): atan of the smaller over the larger, then by octant."""
    one, zero, half = b.number(1.0), b.number(0.0), b.number(0.5)
    up, along = b.abs(y), b.abs(x)
    steep = b.less(along, up)
    large, small = b.select(steep, up, along), b.select(steep, along, up)
    infinite = b.equal(small, b.number(inf))
    large, small = b.select(infinite, one, large), b.select(infinite, one, small)
    large = b.select(b.equal(large, zero), one, large)
    middle = b.less(b.mul(large, b.number(sqrt(2) - 1)), small)
    top = b.select(middle, b.sub(b.mul(small, half), b.mul(large, half)), small)
    bottom = b.select(middle, b.fma(large, half, b.mul(small, half)), large)
    angle = _atan_parts(b, b.div(top, bottom))
    quarter = _pieces(b, 0.5)
    angle = b.add(angle, b.select(middle, b.number(quarter[1]), zero))
    angle = b.add(angle, b.select(middle, b.number(quarter[0]), zero))
    for condition, multiple in ((steep, 1.0), (b.is_set(b.bits(x), -(1 << (b.format.bits - 1))), 2.0)):
        high, low = _pieces(b, multiple)
        turned = b.sub(b.number(high), b.sub(angle, b.number(low)))
        angle = b.select(condition, turned, angle)
    unordered = b.compare("uno", x, y)
    return b.select(unordered, b.add(x, y), b.copysign(angle, y))


def _asin_parts(b: Lanes, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    """(whether |x| > 1/2, asin of |x|, or of sqrt((1 - |x|) / 2) there)."""
    a = b.abs(x)
    big = b.less(b.number(0.5), a)
    z = b.select(big, b.mul(b.sub(b.number(1.0), a), b.number(0.5)), b.mul(a, a))
    s = b.select(big, b.sqrt(z), a)
    return big, b.fma(b.mul(s, z), b.polynomial(b.format.asin, z), s)


def asin(b: Lanes, x: SSAValue) -> SSAValue:
    big, p = _asin_parts(b, x)
    high, low = _pieces(b, 1.0)
    folded = b.sub(b.number(high), b.sub(b.add(p, p), b.number(low)))
    return keep_tiny(b, x, b.copysign(b.select(big, folded, p), x))


def acos(b: Lanes, x: SSAValue) -> SSAValue:
    big, p = _asin_parts(b, x)
    double = b.add(p, p)
    high, low = _pieces(b, 2.0)
    negative = b.less(x, b.number(0.0))
    outer = b.select(negative, b.sub(b.number(high), b.sub(double, b.number(low))), double)
    high, low = _pieces(b, 1.0)
    inner = b.sub(b.number(high), b.sub(b.copysign(p, x), b.number(low)))
    return b.select(big, outer, inner)
