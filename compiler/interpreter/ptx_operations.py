"""What PTX's instructions on numbers compute, on numpy: one function per name, which gets the rest of the name.

Registers hold bits: unsigned numbers of 16, 32 or 64 bits, or bools. A function gets its operands as the type that
the instruction names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from stepwell.compiler.interpreter.values import Array
from stepwell.dialects.diagnostics import UnsupportedError

TYPES: Mapping[str, np.dtype[Any]] = {
    "pred": np.dtype(np.bool_), "f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16),
    "f32": np.dtype(np.float32), "f64": np.dtype(np.float64),
    **{f"{kind}{bits}": np.dtype(f"{'int' if kind == 's' else 'uint'}{bits}")
       for kind in "sub" for bits in (8, 16, 32, 64)},
}  # fmt: skip

Words = Sequence[str]
"""The name of an instruction without its first part, the type last."""

Function = Callable[..., Any]


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of the type have a fraction."""
    return dtype.kind == "f" or dtype == ml_dtypes.bfloat16


def _add(words: Words, a: Array, b: Array) -> Any:
    return _saturated(words, a + b)


def _sub(words: Words, a: Array, b: Array) -> Any:
    return a - b


def _mul(words: Words, a: Array, b: Array) -> Any:
    if is_float(a.dtype) or "lo" in words:
        return a * b
    bits = a.dtype.itemsize * 8
    if "wide" in words:
        wide = np.dtype(f"{'int' if a.dtype.kind == 'i' else 'uint'}{2 * bits}")
        return a.astype(wide) * b.astype(wide)
    exact = [(int(x) * int(y)) >> bits for x, y in zip(a, b, strict=True)]
    return np.array([x & ((1 << bits) - 1) for x in exact], np.dtype(f"uint{bits}")).view(a.dtype)


def _mad(words: Words, a: Array, b: Array, c: Array) -> Any:
    return _mul(words, a, b) + c


def _fma(words: Words, a: Array, b: Array, c: Array) -> Any:
    if a.dtype == np.float32:
        return _saturated(words, (a.astype(np.float64) * b + c).astype(np.float32))
    return _saturated(words, a * b + c)


def _saturated(words: Words, a: Array) -> Any:
    """Within 0 and 1, NaN as 0, where the instruction says `sat`."""
    return np.nan_to_num(np.clip(a, a.dtype.type(0), a.dtype.type(1))) if "sat" in words else a


def _truncated(a: Array, b: Array) -> Any:
    """The quotient rounded towards 0; by 0 all ones, as NVIDIA's GPUs give."""
    safe = np.where(b == 0, b.dtype.type(1), b)
    quotient = a // safe
    quotient = quotient + ((a - quotient * safe != 0) & ((a < 0) != (safe < 0))).astype(a.dtype)
    return np.where(b == 0, a.dtype.type(-1) if a.dtype.kind == "i" else a.dtype.type(np.iinfo(a.dtype).max), quotient)


def _div(words: Words, a: Array, b: Array) -> Any:
    return a / b if is_float(a.dtype) else _truncated(a, b)


def _rem(words: Words, a: Array, b: Array) -> Any:
    return a - _truncated(a, b) * b


def _extreme(of_numbers: Function, with_nan: Function) -> Function:
    def function(words: Words, a: Array, b: Array) -> Any:
        if not is_float(a.dtype):
            return np.maximum(a, b) if of_numbers is np.fmax else np.minimum(a, b)
        return with_nan(a, b) if "NaN" in words else of_numbers(a, b)

    return function


def _shift_left(words: Words, a: Array, count: Array) -> Any:
    bits = a.dtype.itemsize * 8
    return np.where(count < bits, a << np.minimum(count, bits - 1).astype(a.dtype), a.dtype.type(0))


def _shift_right(words: Words, a: Array, count: Array) -> Any:
    bits = a.dtype.itemsize * 8
    shifted = a >> np.minimum(count, bits - 1).astype(a.dtype)
    beyond = shifted if a.dtype.kind == "i" else a.dtype.type(0)
    return np.where(count < bits, shifted, beyond)


def _not(words: Words, a: Array) -> Any:
    return ~a


def _copysign(words: Words, sign: Array, magnitude: Array) -> Any:
    return np.copysign(magnitude, sign)


def _select(words: Words, a: Array, b: Array, condition: Array) -> Any:
    return np.where(condition, a, b)


ORDERED: Mapping[str, Function] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip


def _compare(words: Words, a: Array, b: Array) -> Any:
    word = words[0]
    if not is_float(a.dtype):
        return ORDERED[word](a, b)
    unordered = np.isnan(a) | np.isnan(b)
    if word in ("nan", "num"):
        return unordered if word == "nan" else ~unordered
    if word.endswith("u") and word[:-1] in ORDERED:
        return ORDERED[word[:-1]](a, b) | unordered
    return ORDERED[word](a, b) & ~unordered


def _test(words: Words, a: Array) -> Any:
    if words[0] == "infinite":
        return np.isinf(a)
    if words[0] == "finite":
        return np.isfinite(a)
    raise UnsupportedError(f"PTX testp.{words[0]} is not interpreted")


def _extract(words: Words, a: Array, start: Array, length: Array) -> Any:
    """bfe of unsigned numbers."""
    one = a.dtype.type(1)
    bits = a.dtype.itemsize * 8
    mask = np.where(length >= bits, ~a.dtype.type(0), (one << np.minimum(length, bits - 1).astype(a.dtype)) - one)
    return _shift_right(words, a, start) & mask


def _permute(words: Words, a: Array, b: Array, selector: Array) -> Any:
    """Four bytes of eight, by the nibbles of a selector (3 bits: which; the fourth: its sign in all bits)."""
    whole = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
    result = np.zeros(len(a), np.uint64)
    for place in range(4):
        nibble = (selector.astype(np.uint64) >> np.uint64(4 * place)) & np.uint64(15)
        byte = (whole >> ((nibble & np.uint64(7)) * np.uint64(8))) & np.uint64(255)
        signs = np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0))
        byte = np.where(nibble & np.uint64(8), signs, byte)
        result |= byte << np.uint64(8 * place)
    return result.astype(np.uint32)


def _count_ones(words: Words, a: Array) -> Any:
    return np.bitwise_count(a).astype(np.uint32)


def _leading_zeros(words: Words, a: Array) -> Any:
    bits = a.dtype.itemsize * 8
    return np.array([bits - int(x).bit_length() for x in a], np.uint32)


ROUNDINGS: Mapping[str, Function] = {
    "rmi": np.floor, "rpi": np.ceil, "rzi": np.trunc, "rni": np.rint,
}  # fmt: skip


def convert(words: Words, a: Array, target: np.dtype[Any]) -> Any:
    """cvt: `words` may have a rounding. Floats that do not fit an integer give its nearest one, NaN gives 0."""
    for word in words:
        if word in ROUNDINGS:
            a = ROUNDINGS[word](a)
    if is_float(target) or not is_float(a.dtype):
        return a.astype(target)
    limits = np.iinfo(target)
    wide = a.astype(np.float64)
    inside = np.where(np.isnan(wide) | (wide >= float(limits.max)) | (wide <= float(limits.min)), 0.0, wide)
    result = inside.astype(target)
    result = np.where(wide >= float(limits.max), target.type(limits.max), result)
    return np.where(wide <= float(limits.min), target.type(limits.min), result)


FUNCTIONS: Mapping[str, Function] = {
    "add": _add, "sub": _sub, "mul": _mul, "mad": _mad, "fma": _fma, "div": _div, "rem": _rem,
    "max": _extreme(np.fmax, np.maximum), "min": _extreme(np.fmin, np.minimum),
    "and": lambda words, a, b: a & b, "or": lambda words, a, b: a | b, "xor": lambda words, a, b: a ^ b,
    "not": _not, "shl": _shift_left, "shr": _shift_right, "bfe": _extract, "prmt": _permute,
    "abs": lambda words, a: np.abs(a), "neg": lambda words, a: -a, "copysign": _copysign,
    "sqrt": lambda words, a: np.sqrt(a), "rcp": lambda words, a: a.dtype.type(1) / a,
    "ex2": lambda words, a: np.exp2(a), "lg2": lambda words, a: np.log2(a),
    "rsqrt": lambda words, a: a.dtype.type(1) / np.sqrt(a), "tanh": lambda words, a: np.tanh(a),
    "popc": _count_ones, "clz": _leading_zeros,
    "setp": _compare, "testp": _test, "selp": _select,
}  # fmt: skip
"""By the first part of the name."""

ODD_OPERANDS: Mapping[tuple[str, int], str] = {
    ("shl", 1): "u32", ("shr", 1): "u32", ("bfe", 1): "u32", ("bfe", 2): "u32", ("selp", 2): "pred",
}  # fmt: skip
"""Operands whose type is not the instruction's."""
