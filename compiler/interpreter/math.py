"""`math`: computed in float64 and rounded once, so f32, f16 and bf16 results are (all but) correctly rounded."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from xdsl.ir import Operation

from stepwell.compiler.interpreter.arith import Integers, converted, result_element
from stepwell.compiler.interpreter.rules import Evaluate, Fault, rule
from stepwell.compiler.interpreter.values import Array, dtype_of

WIDE = np.dtype(np.float64)
SMALLEST_NORMAL = float(np.finfo(np.float32).smallest_normal)


def erf(x: Any) -> Any:
    """The error function, elementwise, by the C library's erf."""
    array = np.asarray(x, WIDE)
    return np.fromiter(map(math.erf, array.ravel().tolist()), WIDE, array.size).reshape(array.shape)[()]


def round_half_away(x: Any) -> Any:
    """Round to nearest, ties away from zero."""
    whole = np.trunc(x)
    return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(1.0, x), np.copysign(whole, x))[()]


ROUNDED_ONCE: dict[str, Evaluate] = {
    "acos": np.arccos, "acosh": np.arccosh, "asin": np.arcsin, "asinh": np.arcsinh, "atan": np.arctan,
    "atanh": np.arctanh, "atan2": np.arctan2, "cbrt": np.cbrt, "cos": np.cos, "cosh": np.cosh, "erf": erf,
    "erfc": lambda x: np.vectorize(math.erfc, otypes=[WIDE])(x)[()],
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log10": np.log10, "log1p": np.log1p,
    "log2": np.log2, "powf": np.power, "rsqrt": lambda x: 1.0 / np.sqrt(x), "sin": np.sin, "sinh": np.sinh,
    "sqrt": np.sqrt, "tan": np.tan, "tanh": np.tanh,
}  # fmt: skip
"""Functions whose value must be rounded to the type."""

EXACT: dict[str, Evaluate] = {
    "absf": np.abs, "ceil": np.ceil, "copysign": np.copysign, "floor": np.floor, "round": round_half_away,
    "roundeven": np.rint, "trunc": np.trunc,
}  # fmt: skip
"""Functions whose value the type holds exactly."""


def through_float64(function: Evaluate, dtype: np.dtype[Any]) -> Evaluate:
    """`function` of float64 as one of `dtype`."""
    if dtype == WIDE:
        return function
    return lambda *values: converted(function(*[converted(value, WIDE) for value in values]), dtype)


def _declare(name: str, function: Evaluate) -> None:
    rule(f"math.{name}")(lambda op: through_float64(function, dtype_of(result_element(op))))


for _name, _function in (ROUNDED_ONCE | EXACT).items():
    _declare(_name, _function)


PREDICATES: dict[str, Evaluate] = {
    "isnan": lambda x: x != x,
    "isinf": lambda x: abs(x) == np.inf,
    "isfinite": lambda x: abs(x) < np.inf,
}


def _declare_predicate(name: str, function: Evaluate) -> None:
    rule(f"math.{name}")(lambda op: function)


for _name, _function in PREDICATES.items():
    _declare_predicate(_name, _function)


def add_round_to_odd(a: Any, b: Any) -> Any:
    """a + b in float64, rounded to odd: an inexact sum keeps a set last bit, so that rounding it again to fewer
    bits is as if done once (Boldo and Melquiond, Emulation of FMA, 2008)."""
    total = np.asarray(a + b)
    part = total - a
    error = np.asarray((a - (total - part)) + (b - part))
    bits = total.view(np.int64)
    inexact = (error != 0) & (bits & 1 == 0) & np.isfinite(total)
    towards = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(inexact, bits + towards, bits).view(WIDE)[()]


def _two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """a * b as an unevaluated sum (Dekker, with Veltkamp's split)."""

    def split(x: Any) -> tuple[Any, Any]:
        scaled = x * 134217729.0
        high = scaled - (scaled - x)
        return high, x - high

    product = a * b
    (a1, a2), (b1, b2) = split(a), split(b)
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


def fused_multiply_add(a: Any, b: Any, c: Any) -> Any:
    """a * b + c rounded once."""
    dtype = np.asarray(a).dtype
    if dtype != WIDE:
        wide = [converted(value, WIDE) for value in (a, b, c)]
        if dtype == np.float32:
            # Twice rounded is once rounded unless float64's answer lies halfway between two of f32's.
            total = np.asarray(wide[0] * wide[1] + wide[2])
            halfway = (total.view(np.int64) & 0x1FFFFFFF) == 0x10000000
            if not (halfway | (np.abs(total) < SMALLEST_NORMAL)).any():
                return total.astype(dtype)[()]
        return converted(add_round_to_odd(wide[0] * wide[1], wide[2]), dtype)
    high, low = _two_product(a, b)
    middle_high, middle_low = _two_sum(c, low)
    total, error = _two_sum(high, middle_high)
    plain = a * b + c
    exact = total + add_round_to_odd(middle_low, error)
    # Plain where it must be for infinities and the sign of zero.
    result = np.atleast_1d(np.where(np.isfinite(total) & (exact != 0), exact, plain))
    # Where parts of the product under- or overflow, the sum of parts is not the product.
    size = np.abs(high)
    doubtful = np.isfinite(a) & np.isfinite(b) & np.isfinite(c) & (a != 0) & (b != 0)
    doubtful &= (size < 2.0**-900) | (size > 2.0**960) | (np.abs(a) > 2.0**960) | (np.abs(b) > 2.0**960)
    for place in np.argwhere(np.atleast_1d(doubtful)):
        at = tuple(place)
        result[at] = _exact_fma(*[float(np.broadcast_to(value, result.shape)[at]) for value in (a, b, c)])
    return result.reshape(np.shape(exact))[()]


def _exact_fma(a: float, b: float, c: float) -> float:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if not exact:
        return a * b + c
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@rule("math.fma", "vector.fma")
def fma(op: Operation) -> Evaluate:
    return fused_multiply_add


@rule("x86vector.avx512.mask.scalef")
def scalef(op: Operation) -> Evaluate:
    dtype = dtype_of(result_element(op))

    def evaluate(value: Any, power: Any, other: Any, mask: Any, rounding: Any) -> Any:
        chosen = (int(mask) >> np.arange(len(value))) & 1 != 0
        exponent = np.nan_to_num(np.clip(np.floor(power.astype(WIDE)), -4200, 4200)).astype(np.int32)
        return np.where(chosen, converted(np.ldexp(value.astype(WIDE), exponent), dtype), other)

    return evaluate


# Integers.


@rule("math.absi")
def absi(op: Operation) -> Evaluate:
    kind = Integers(result_element(op))
    return lambda value: kind.back(abs(kind.signed(value)))


@rule("math.ctpop")
def ctpop(op: Operation) -> Evaluate:
    kind = Integers(result_element(op))
    return lambda value: kind.back(_count_ones(kind.unsigned(value)))


@rule("math.ctlz")
def ctlz(op: Operation) -> Evaluate:
    kind = Integers(result_element(op))

    def count(value: Any) -> Any:
        bits = kind.unsigned(value)
        shift = 1
        while shift < kind.width:
            bits = bits | (bits >> shift)
            shift *= 2
        return kind.back(kind.width - _count_ones(bits))

    return count


@rule("math.cttz")
def cttz(op: Operation) -> Evaluate:
    kind = Integers(result_element(op))

    def count(value: Any) -> Any:
        bits = kind.unsigned(value)
        return kind.back(_count_ones(~bits & (bits - bits.dtype.type(1)) & bits.dtype.type(kind.mask)))

    return count


def _count_ones(bits: Any) -> Any:
    return np.bitwise_count(bits).astype(np.int64)


def integer_power(base: Any, exponent: Any) -> Any:
    """base ** exponent, wrapping; a negative exponent gives 1 / power truncated, and 0 to it is an error."""
    base, exponent = np.asarray(base), np.asarray(exponent)
    negative = exponent < 0
    if bool(np.any(negative & (base == 0))):
        raise Fault("0 to a negative power")
    powers: Array = np.power(base, np.where(negative, 0, exponent).astype(base.dtype))
    sign = np.where(exponent & 1 == 1, base, base * base)
    unit = np.where((base == 1) | (base == -1), sign, 0)
    return np.where(negative, unit, powers).astype(base.dtype)[()]


rule("math.ipowi")(lambda op: integer_power)


@rule("math.fpowi")
def fpowi(op: Operation) -> Evaluate:
    return through_float64(np.power, dtype_of(result_element(op)))

