"""Elementwise ops of two operands: arithmetic, comparison, bits, extrema. Tables over elementwise.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.declare import Array, RuntimeFault, Sample, TensorInfo, declare, sample
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops import samples
from stepwell.dialects.torch.ops.dimensions import broadcast_sizes
from stepwell.dialects.torch.ops.elementwise import Body, Choice, as_dtype, elementwise
from stepwell.dialects.torch.ops.promotion import boolean, facts, floating, numpy_compute, promoted, same, scalar_dtype
from stepwell.dialects.torch.ops.samples import integers, normal
from stepwell.dialects.torch.scalar import Scalar, compute_dtype

_PAIR = ("Tensor(Tensor self, Tensor other)", "Scalar(Tensor self, Scalar other)")


def _mixed_samples() -> Iterator[Sample]:
    yield from samples.binary()
    yield from samples.with_scalar()


def _fitting(text: str, of_tensors: Callable[[], Any], of_scalars: Callable[[], Any]) -> Callable[[], Any]:
    return of_scalars if "Scalar other" in text or "Scalar exponent" in text or "Scalar m" in text else of_tensors


def binary(
    names: str,
    scalar: Body,
    reference: Callable[..., Any],
    inner: Choice = same,
    *,
    overloads: tuple[str, ...] = _PAIR,
    of_tensors: Callable[[], Any] = samples.binary,
    of_scalars: Callable[[], Any] = samples.with_scalar,
    **options: Any,
) -> None:
    """Declare `name.overload -> Tensor` for names that mean the same and for every overload."""
    for name in names.split():
        for overload in overloads:
            head = f"aten::{name}" + ("" if overload.startswith("(") else ".")
            elementwise(
                f"{head}{overload} -> Tensor", scalar=scalar, reference=reference, inner=inner,
                **{"inplace": True, "doc": f"{names.split()[0]} of every pair of elements.",
                   "samples": _fitting(overload, of_tensors, of_scalars), **options},
            )  # fmt: skip


# ------ sums: self + alpha * other


def _scaled(names: str, combine: Callable[[Any, Any], Any] | None, **options: Any) -> None:
    """add, sub: with a factor for the second operand, an int for integers. rsub (None): sub with operands swapped."""
    for name in names.split():
        for star, overload in (("*, ", "Tensor(Tensor self, Tensor other, "), ("", "Scalar(Tensor self, Scalar other, ")):
            text = f"aten::{name}.{overload}{star}Scalar alpha=1) -> Tensor"
            _declare_scaled(text, combine or (lambda x, y: x - y), combine is None, options)


def _declare_scaled(text: str, combine: Callable[[Any, Any], Any], swap: bool, options: dict[str, Any]) -> None:
    refuses_bool = not text.startswith("aten::add")

    def infer(x: TensorInfo, y: Any, alpha: Any) -> TensorInfo:
        dtype = promoted(x, y)
        if refuses_bool and dtypes.bool_ in (x.dtype, y.dtype if isinstance(y, TensorInfo) else scalar_dtype(y)):
            raise RuntimeFault(_SUBTRACTION)
        if isinstance(alpha, float) and dtype.category < dtypes.FLOATING:
            raise RuntimeFault("For integral input tensors, argument alpha must not be a floating point number.")
        return TensorInfo(broadcast_sizes(x.sizes, y.sizes) if isinstance(y, TensorInfo) else x.sizes, dtype)

    def reference(x: Array, y: Any, alpha: Any) -> Array:
        out = infer(facts(x), facts(y), alpha).dtype
        computing = numpy_compute(out)
        with np.errstate(all="ignore"):
            left, right = (np.asarray(v).astype(computing) for v in ((y, x) if swap else (x, y)))
            if out.category == dtypes.BOOL:
                return np.asarray(left | (right & bool(alpha)))
            return as_dtype(np.asarray(combine(left, right * np.asarray(alpha).astype(computing))), out)

    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, y: Any, alpha: Any) -> Tensor:
        if out.dtype.category == dtypes.BOOL:
            return b.elementwise(lambda p, q, a: p | (q & a), x, y, alpha, dtype=out.dtype, sizes=out.sizes)
        x, y = (y, x) if swap else (x, y)
        if not isinstance(alpha, Scalar) and alpha == 1:
            return b.elementwise(combine, x, y, dtype=out.dtype, sizes=out.sizes)
        return b.elementwise(lambda p, q, a: combine(p, q * a), x, y, alpha, dtype=out.dtype, sizes=out.sizes)

    declare(
        text, infer=infer, reference=reference, lower=lower, source=f"{__name__} ({text.partition('(')[0]})",
        samples=(_scaled_samples if text.startswith("aten::add") else _float_scaled_samples)
        if "Tensor other" in text
        else _scaled_scalar_samples,
        **options,
    )  # fmt: skip


_SUBTRACTION = "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a mask, use the `~` or `logical_not()` operator instead."  # noqa: E501


def _scaled_samples() -> Iterator[Sample]:
    yield from samples.binary()
    yield sample(normal(2, 3), normal(3), alpha=2)
    yield sample(integers(2, 3), np.array([True, False, True]), alpha=3)


def _float_scaled_samples() -> Iterator[Sample]:
    yield from samples.binary()
    yield sample(normal(2, 3), normal(3), alpha=2)


def _scaled_scalar_samples() -> Iterator[Sample]:
    yield from samples.with_scalar()
    yield sample(normal(2, 3), 1.5, 2)


_scaled("add", lambda x, y: x + y, doc="self + alpha * other", inplace=True)
_scaled("sub subtract", lambda x, y: x - y, doc="self - alpha * other", inplace=True)
_scaled("rsub", None, doc="other - alpha * self")



# ------ products and quotients


def _times(x: Scalar, y: Scalar) -> Scalar:
    return x & y if x.dtype.category == dtypes.BOOL else x * y


binary("mul multiply", _times, lambda x, y: x * y)
binary("div divide true_divide", lambda x, y: x / y, lambda x, y: x / y, floating)


def _numpy_floor_divide(x: Array, y: Array) -> Array:
    """Integers: rounded down. Floats as torch: from the exact remainder, but x / 0 stays infinite or NaN."""
    if x.dtype.kind != "f":
        if np.any(y == 0):
            raise RuntimeError("ZeroDivisionError")
        return np.asarray(np.floor_divide(x, y))
    return np.asarray(np.where(y == 0, x / y, np.floor_divide(x, y)))


def _numpy_truncate_divide(x: Array, y: Array) -> Array:
    if x.dtype.kind != "f":
        if np.any(y == 0):
            raise RuntimeError("ZeroDivisionError")
        return np.asarray(x - np.fmod(x, y)) // y
    return np.asarray(np.trunc(x / y))


_MODES: dict[str | None, tuple[Body, Callable[..., Any], Choice]] = {
    None: (lambda x, y: x / y, lambda x, y: x / y, floating),
    "floor": (lambda x, y: x.floor_divide(y), _numpy_floor_divide, same),
    "trunc": (lambda x, y: x.truncated_divide(y), _numpy_truncate_divide, same),
}


def guard_divisor(b: LinalgBuilder, y: Any, dtype: DType) -> None:
    """Integer division by zero is an error at run time (floats give infinities)."""
    if dtype.category >= dtypes.FLOATING:
        return
    if isinstance(y, Tensor):
        zero = b.any_of(y, lambda e: e.compare("eq", 0))
        b.require(~zero, "RuntimeError", "ZeroDivisionError")
    elif not isinstance(y, (int, float)):
        b.require(b.scalar(y, dtypes.int64).compare("ne", 0), "RuntimeError", "ZeroDivisionError")
    elif y == 0:
        b.require(b.scalar(False), "RuntimeError", "ZeroDivisionError")


def _division(text: str) -> None:
    def infer(x: TensorInfo, y: Any, mode: str | None = "floor") -> TensorInfo:
        if mode not in _MODES:
            raise RuntimeFault(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{mode}'")
        sizes = broadcast_sizes(x.sizes, y.sizes) if isinstance(y, TensorInfo) else x.sizes
        return TensorInfo(sizes, _MODES[mode][2](promoted(x, y)))

    def reference(x: Array, y: Any, mode: str | None = "floor") -> Array:
        out = infer(facts(x), facts(y), mode).dtype
        computing = numpy_compute(out)
        with np.errstate(all="ignore"):
            return as_dtype(
                np.asarray(_MODES[mode][1](np.asarray(x).astype(computing), np.asarray(y).astype(computing))), out
            )

    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, y: Any, mode: str | None = "floor") -> Tensor:
        guard_divisor(b, y, out.dtype)
        return b.elementwise(_MODES[mode][0], x, y, dtype=out.dtype, sizes=out.sizes)

    declare(
        text, infer=infer, reference=reference, lower=lower, source=f"{__name__} ({text.partition('(')[0]})",
        samples=_division_samples(text), inplace="Tensor" if text.startswith("aten::floor_divide(") else True, doc="Division, rounded as the mode says (floor_divide: down).",  # noqa: E501
    )  # fmt: skip


def _division_samples(text: str) -> Callable[[], Iterator[Sample]]:
    def make() -> Iterator[Sample]:
        modes: list[dict[str, Any]] = [{}]
        if "rounding_mode" in text:
            modes = [{"rounding_mode": m} for m in ("floor", "trunc", None)]
        for mode in modes:
            if "Scalar other" in text:
                yield sample(normal(2, 3), 0.3, **mode)
                yield sample(integers(6), -3, **mode)
            else:
                yield from (Sample(s.arguments, mode) for s in samples.binary_integers())
                yield sample(normal(2, 3), normal(3, seed=1), **mode)
                yield sample(samples.SPECIAL, np.array(2.0, np.float32), **mode)

    return make


for _name in ("div", "divide"):
    _division(f"aten::{_name}.Tensor_mode(Tensor self, Tensor other, *, str? rounding_mode) -> Tensor")
    _division(f"aten::{_name}.Scalar_mode(Tensor self, Scalar other, *, str? rounding_mode) -> Tensor")
_division("aten::floor_divide(Tensor self, Tensor other) -> Tensor")
_division("aten::floor_divide.Scalar(Tensor self, Scalar other) -> Tensor")


def _remainder(names: str, scalar: Body, reference: Callable[..., Any], overloads: tuple[str, ...], what: str) -> None:
    def refused(x: Array, y: Array) -> Any:
        if x.dtype.kind != "f" and np.any(y == 0):
            raise RuntimeError("ZeroDivisionError")
        return reference(x, y)

    for overload in overloads:
        text = f"aten::{names}.{overload} -> Tensor"

        def infer(x: Any, y: Any) -> TensorInfo:
            shapes = [v.sizes for v in (x, y) if isinstance(v, TensorInfo)]
            return TensorInfo(broadcast_sizes(*shapes), promoted(x, y))

        def evaluate(x: Any, y: Any) -> Array:
            out = promoted(x, y)
            computing = numpy_compute(out)
            with np.errstate(all="ignore"):
                return as_dtype(np.asarray(refused(np.asarray(x).astype(computing), np.asarray(y).astype(computing))), out)

        def lower(b: LinalgBuilder, out: TensorInfo, x: Any, y: Any) -> Tensor:
            guard_divisor(b, y, out.dtype)
            return b.elementwise(scalar, x, y, dtype=out.dtype, sizes=out.sizes)

        declare(
            text, infer=infer, reference=evaluate, lower=lower, doc=what, inplace="Tensor self" in overload,
            samples=_remainder_samples(overload), source=f"{__name__} (aten::{names})",
        )  # fmt: skip


def _remainder_samples(overload: str) -> Callable[[], Iterator[Sample]]:
    def make() -> Iterator[Sample]:
        if "Scalar self" in overload:
            yield sample(7, np.array([2, -3]))
            yield sample(7.5, np.array([2, -3]))
        elif "Scalar other" in overload:
            yield sample(normal(2, 3), 0.3)
            yield sample(integers(6), -3)
            yield sample(samples.SPECIAL, 2.0)
        else:
            yield from samples.binary_integers()
            yield sample(normal(2, 3), normal(3, seed=1))

    return make


_remainder(
    "remainder", lambda x, y: x.remainder(y), np.remainder,
    (*_PAIR, "Scalar_Tensor(Scalar self, Tensor other)"), "Python's %: the sign is other's.",
)  # fmt: skip
_remainder("fmod", lambda x, y: x.truncated_remainder(y), np.fmod, _PAIR, "C's fmod: the sign is self's.")


# ------ comparison and logic: the result is bool


def _comparing(name: str) -> Body:
    return lambda x, y: x.compare(name, y)


_COMPARISONS: dict[str, Callable[..., Any]] = {
    "eq": np.equal, "ne not_equal": np.not_equal, "lt less": np.less, "le less_equal": np.less_equal,
    "gt greater": np.greater, "ge greater_equal": np.greater_equal,
}  # fmt: skip
for _names, _reference in _COMPARISONS.items():
    binary(_names, _comparing(_names.split()[0]), _reference, result=boolean, of_tensors=samples.binary)


def _truth(combine: Callable[[Scalar, Scalar], Scalar]) -> Body:
    return lambda x, y: combine(x.cast(dtypes.bool_), y.cast(dtypes.bool_))


_TENSORS = ("(Tensor self, Tensor other)",)
binary("logical_and", _truth(lambda x, y: x & y), np.logical_and, overloads=_TENSORS, result=boolean)
binary("logical_or", _truth(lambda x, y: x | y), np.logical_or, overloads=_TENSORS, result=boolean)
binary("logical_xor", _truth(lambda x, y: x ^ y), np.logical_xor, overloads=_TENSORS, result=boolean)


# ------ bits


def _no_floats(dtype: DType) -> None:
    if dtype.category >= dtypes.FLOATING:
        raise RuntimeFault(f'"bitwise" is not implemented for \'{dtype.title}\'')


def _bit_scalars() -> Iterator[Sample]:
    yield sample(integers(2, 3), 3)
    yield sample(np.array([True, False]), True)


def _bit_tensors() -> Iterator[Sample]:
    yield from samples.binary_integers()
    yield sample(np.array([True, False, True]), np.array([[True], [False]]))


_BITS: dict[str, tuple[Body, Callable[..., Any]]] = {
    "and": (lambda x, y: x & y, np.bitwise_and),
    "or": (lambda x, y: x | y, np.bitwise_or),
    "xor": (lambda x, y: x ^ y, np.bitwise_xor),
}
for _name, (_body, _reference) in _BITS.items():
    for _full, _inplace in ((f"bitwise_{_name}", True), (f"__{_name}__", False)):
        binary(
            _full, _body, _reference, of_tensors=_bit_tensors, of_scalars=_bit_scalars, refuse=_no_floats,
            inplace=_inplace,
        )  # fmt: skip


def _shift_tensors() -> Iterator[Sample]:
    yield sample(integers(2, 3), integers(3, low=0, high=5))


def _shift_scalars() -> Iterator[Sample]:
    yield sample(integers(2, 3), 3)


for _name, _body, _reference in (
    ("left", lambda x, y: x << y, np.left_shift), ("right", lambda x, y: x >> y, np.right_shift),
):  # fmt: skip
    for _full, _pair in (
        (f"bitwise_{_name}_shift", ("Tensor(Tensor self, Tensor other)", "Tensor_Scalar(Tensor self, Scalar other)")),
        (f"__{_name[0]}shift__", _PAIR),
    ):
        binary(
            _full, _body, _reference, overloads=_pair, of_tensors=_shift_tensors, of_scalars=_shift_scalars,
            refuse=_no_floats, inplace=_full[0] == "b",
        )  # fmt: skip


# ------ extrema and the rest

binary("maximum", lambda x, y: x.maximum(y), np.maximum, overloads=_TENSORS, inplace=False)
binary("minimum", lambda x, y: x.minimum(y), np.minimum, overloads=_TENSORS, inplace=False)
binary("max", lambda x, y: x.maximum(y), np.maximum, overloads=("other(Tensor self, Tensor other)",), inplace=False)
binary("min", lambda x, y: x.minimum(y), np.minimum, overloads=("other(Tensor self, Tensor other)",), inplace=False)


def _ignoring_nan(choose: str) -> Body:
    """fmax, fmin: the number where one of the two is NaN."""

    def body(x: Scalar, y: Scalar) -> Scalar:
        chosen = x.maximum(y) if choose == "max" else x.minimum(y)
        if not x.dtype.is_floating:
            return chosen
        return x.is_nan().select(y, y.is_nan().select(x, chosen))

    return body


binary("fmax", _ignoring_nan("max"), np.fmax, overloads=_TENSORS, inplace=False)
binary("fmin", _ignoring_nan("min"), np.fmin, overloads=_TENSORS, inplace=False)
binary("atan2 arctan2", lambda x, y: x.math("atan2", y), np.arctan2, floating, overloads=_TENSORS)
binary(
    "hypot", lambda x, y: (x * x + y * y).math("sqrt"), lambda x, y: np.sqrt(x * x + y * y), overloads=_TENSORS,
    of_tensors=lambda: [sample(normal(2, 3), normal(3, seed=1))],
)  # fmt: skip
binary("copysign", lambda x, y: x.math("copysign", y), np.copysign, floating)


def _xlogy(x: Scalar, y: Scalar) -> Scalar:
    return y.is_nan().select(y, x.compare("eq", 0.0).select(0.0, x * y.math("log")))


def _numpy_xlogy(x: Array, y: Array) -> Array:
    return np.asarray(np.where(np.isnan(y), y, np.where(x == 0, 0, x * np.log(y))))


binary(
    "xlogy", _xlogy, _numpy_xlogy, floating,
    overloads=("Tensor(Tensor self, Tensor other)", "Scalar_Other(Tensor self, Scalar other)"),
)  # fmt: skip


_INFINITIES = np.array([np.inf, -np.inf], np.float32)


def _logaddexp(x: Scalar, y: Scalar) -> Scalar:
    high = x.maximum(y)
    apart = (-((x - y).absolute())).math("exp").math("log1p")
    same_infinity = x.compare("eq", y) & x.absolute().compare("eq", math.inf)
    return same_infinity.select(x, high + apart)


binary(
    "logaddexp", _logaddexp, np.logaddexp, overloads=_TENSORS, inplace=False,
    of_tensors=lambda: [sample(normal(2, 3), normal(3)), sample(_INFINITIES, _INFINITIES)],
)  # fmt: skip
binary("heaviside", lambda x, y: x.compare("eq", 0).select(y, x.compare("gt", 0).cast(x.dtype)), np.heaviside,
       overloads=("(Tensor self, Tensor values)",), of_tensors=lambda: [sample(normal(2, 3), normal(3))])  # fmt: skip


# ------ powers: small constant exponents become products


def _power_body(exponent: Any) -> Callable[..., Scalar]:
    """x ** exponent for one known number: torch computes squares, cubes and roots this way too."""
    if exponent == 0:
        return lambda x: x.lift(1)
    if exponent == 1:
        return lambda x: x
    if exponent == 2:
        return lambda x: _times(x, x)
    if exponent == 3:
        return lambda x: x * x * x
    if exponent == 0.5:
        return lambda x: x.math("sqrt")
    if exponent == -0.5:
        return lambda x: x.math("rsqrt")
    if exponent == -1:
        return lambda x: 1.0 / x
    if exponent == -2:
        return lambda x: 1.0 / (x * x)
    return lambda x: _power(x, x.lift(exponent))


def _power(x: Scalar, y: Scalar) -> Scalar:
    if x.dtype.is_floating:
        return x.math("powf", y)
    return x.math("ipowi", y) if x.dtype.category == dtypes.INTEGER else ~y | x


_NEGATIVE_POWER = "Integers to negative integer powers are not allowed."


def _power_of(text: str) -> None:
    def infer(x: Any, y: Any) -> TensorInfo:
        dtype = promoted(x, y)
        if dtype.category == dtypes.INTEGER and isinstance(y, int) and y < 0:
            raise RuntimeFault(_NEGATIVE_POWER)
        return TensorInfo(broadcast_sizes(*(v.sizes for v in (x, y) if isinstance(v, TensorInfo))), dtype)

    def reference(x: Any, y: Any) -> Array:
        out = promoted(x, y)
        computing = numpy_compute(out)
        left, right = np.asarray(x).astype(computing), np.asarray(y).astype(computing)
        if out.category == dtypes.INTEGER:
            if not isinstance(y, np.ndarray) and y < 0:
                raise RuntimeError(_NEGATIVE_POWER)
            return _integer_power(left, right)
        with np.errstate(all="ignore"):
            return as_dtype(np.asarray(left | ~right if out.category == dtypes.BOOL else np.power(left, right)), out)

    def lower(b: LinalgBuilder, out: TensorInfo, x: Any, y: Any) -> Tensor:
        inner = compute_dtype(out.dtype)
        if isinstance(y, (int, float)) and not isinstance(y, bool):
            return b.elementwise(_power_body(y), x, dtype=out.dtype, sizes=out.sizes, compute=inner)
        return b.elementwise(_power, x, y, dtype=out.dtype, sizes=out.sizes, compute=inner)

    declare(
        text, infer=infer, reference=reference, lower=lower, samples=_power_samples(text), doc="self ** exponent",
        inplace=text.partition("(")[0].rpartition("_")[2] if "Tensor self" in text else False,
        source=f"{__name__} ({text.partition('(')[0]})",
    )  # fmt: skip


def _integer_power(x: Array, y: Array) -> Array:
    """Negative exponents in a tensor give 1 / x truncated: 0, but 1 for 1 and +-1 for -1."""
    with np.errstate(all="ignore"):
        powers = np.power(x, np.maximum(y, 0))
    unit = np.where(x == 1, 1, np.where(x == -1, np.where(y % 2 == 0, 1, -1), 0))
    return np.asarray(np.where(y < 0, unit, powers).astype(x.dtype))


def _power_samples(text: str) -> Callable[[], Iterator[Sample]]:
    def make() -> Iterator[Sample]:
        positive = np.abs(normal(2, 3)) + np.float32(0.1)
        if "Scalar self" in text:
            yield sample(2, normal(2, 3))
            yield sample(2.5, np.array([1, 2]))
        elif "Scalar exponent" in text:
            for exponent in (0, 1, 2, 3, 0.5, -1, 2.5, -0.5, -2):
                yield sample(positive, exponent)
            yield sample(samples.SPECIAL, 2)
            yield sample(integers(2, 3), 2)
            yield sample(integers(2, 3, low=1), 0.5)
        else:
            yield sample(positive, normal(3))
            yield sample(integers(2, 3), np.array([0, 2, 3]))

    return make


for _text in (
    "aten::pow.Tensor_Scalar(Tensor self, Scalar exponent) -> Tensor",
    "aten::pow.Tensor_Tensor(Tensor self, Tensor exponent) -> Tensor",
):
    _power_of(_text)
_power_of("aten::pow.Scalar(Scalar self, Tensor exponent) -> Tensor")

__all__ = ["binary", "guard_divisor"]
