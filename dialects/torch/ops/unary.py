"""Elementwise ops of one tensor, as a table: a row says what one element is, in IR and in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.declare import Array, RuntimeFault
from stepwell.dialects.torch.ops import samples
from stepwell.dialects.torch.ops.elementwise import Body, Choice, elementwise
from stepwell.dialects.torch.ops.promotion import boolean, floating, same
from stepwell.dialects.torch.scalar import Scalar


def unary(names: str, scalar: Body, reference: Callable[[Array], Any], inner: Choice = same, **options: Any) -> None:
    """Declare `name(Tensor self) -> Tensor` for each of the names (aliases share a row)."""
    for name in names.split():
        elementwise(
            f"aten::{name}(Tensor self) -> Tensor", scalar=scalar, reference=reference, inner=inner,
            **{"samples": samples.unary, "inplace": not name.startswith("special_"), "doc": f"{names.split()[0]} of every element.", **options},  # noqa: E501
        )  # fmt: skip


def vectorized(function: Callable[[float], float]) -> Callable[[Array], Array]:
    """A function of Python's math on arrays; NaN and infinities where it raises."""

    def one(x: float) -> float:
        try:
            return function(x)
        except OverflowError:
            return math.inf
        except ValueError:
            return math.nan

    return np.vectorize(one, otypes=[np.float64])


erf = vectorized(math.erf)
erfc = vectorized(math.erfc)


def _operation(name: str) -> Body:
    return lambda x: x.math(name)


# ------ math functions: floats stay, integers become the default float

_MATH: dict[str, tuple[str, Callable[[Array], Any]]] = {
    "exp": ("exp", np.exp), "exp2 special_exp2": ("exp2", np.exp2), "expm1 special_expm1": ("expm1", np.expm1),
    "log": ("log", np.log), "log2": ("log2", np.log2), "log10": ("log10", np.log10), "log1p special_log1p": ("log1p", np.log1p),
    "sqrt": ("sqrt", np.sqrt), "rsqrt": ("rsqrt", lambda x: 1 / np.sqrt(x)),
    "sin": ("sin", np.sin), "cos": ("cos", np.cos), "tan": ("tan", np.tan),
    "asin arcsin": ("asin", np.arcsin), "acos arccos": ("acos", np.arccos), "atan arctan": ("atan", np.arctan),
    "sinh": ("sinh", np.sinh), "cosh": ("cosh", np.cosh), "tanh": ("tanh", np.tanh),
    "asinh arcsinh": ("asinh", np.arcsinh), "acosh arccosh": ("acosh", np.arccosh), "atanh arctanh": ("atanh", np.arctanh),
    "erf special_erf": ("erf", erf),
}  # fmt: skip
for _names, (_name, _reference) in _MATH.items():
    unary(_names, _operation(_name), _reference, floating)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _complementary_error(x: Scalar) -> Scalar:
    """1 - erf x near zero, where that is exact enough; elsewhere Numerical Recipes' erfcc refined (7 digits)."""
    z = x.absolute()
    t = 1.0 / (0.5 * z + 1.0)
    series = _horner(t, _ERFC)
    tail = t * (-(z * z) + series).math("exp")
    small = 1.0 - x.math("erf")
    return z.compare("lt", 0.5).select(small, x.compare("lt", 0.0).select(2.0 - tail, tail))


_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223,
    0.17087277,
)  # fmt: skip
"""W. H. Press et al., Numerical Recipes in C, 2nd ed., section 6.2: erfc's Chebyshev fit, 1.2e-7 everywhere."""


def _horner(x: Scalar, coefficients: tuple[float, ...]) -> Scalar:
    result = x.lift(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = result * x + coefficient
    return result


unary("sigmoid special_expit", lambda x: 1.0 / ((-x).math("exp") + 1.0), _sigmoid, floating)
unary("erfc special_erfc", _complementary_error, erfc, floating, tolerance=2e-6)
unary("reciprocal", lambda x: 1.0 / x, lambda x: 1 / x, floating)
unary("deg2rad", lambda x: x * (math.pi / 180), lambda x: x * (math.pi / 180), floating)
unary("rad2deg", lambda x: x * (180 / math.pi), lambda x: x * (180 / math.pi), floating)


def _sinc(x: Scalar) -> Scalar:
    angle = x * math.pi
    return x.compare("eq", 0.0).select(1.0, angle.math("sin") / angle)


unary("sinc", _sinc, np.sinc, floating)


# ------ the dtype stays


def not_bool(what: str) -> Callable[[DType], None]:
    def refuse(dtype: DType) -> None:
        if dtype.category == dtypes.BOOL:
            raise RuntimeFault(what)

    return refuse


_NEGATION = "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, use the `~` or `logical_not()` operator instead."  # noqa: E501

unary("abs absolute", lambda x: x.absolute() if x.dtype.category else x, np.abs)
unary("neg negative", lambda x: -x, np.negative, refuse=not_bool(_NEGATION))
unary("square", lambda x: x * x, np.square, refuse=not_bool('"square" is not supported for Bool'))
unary("relu", lambda x: x.maximum(0), lambda x: np.maximum(x, 0), refuse=not_bool("Boolean inputs not supported for relu"))


def rounding(names: str, operation: str, reference: Callable[[Array], Any]) -> None:
    """Integers are their own roundings."""
    unary(
        names, lambda x: x.math(operation) if x.dtype.is_floating else x,
        lambda x: reference(x) if x.dtype.kind == "f" else x,
    )  # fmt: skip


rounding("floor", "floor", np.floor)
rounding("ceil", "ceil", np.ceil)
rounding("trunc fix", "trunc", np.trunc)
rounding("round", "roundeven", np.rint)
unary("frac", lambda x: x - x.math("trunc"), lambda x: x - np.trunc(x), samples=samples.unary_floats)


def _sign(x: Scalar) -> Scalar:
    if x.dtype.category == dtypes.BOOL:
        return x
    up = x.compare("gt", 0).cast(x.dtype)
    return up - x.compare("lt", 0).cast(x.dtype) if x.dtype.is_signed else up


def _numpy_sign(x: Array) -> Array:
    """NaN has sign 0."""
    return np.asarray((x > 0).astype(np.int8) - (x < 0).astype(np.int8))


unary("sign sgn", _sign, _numpy_sign)


def _not(x: Scalar) -> Scalar:
    return ~x


unary("bitwise_not", _not, np.invert, samples=lambda: (s for s in samples.unary() if s.arguments[0].dtype.kind in "iub"))


# ------ questions: the result is bool



def _classify(name: str, scalar: Body, reference: Callable[[Array], Any], **options: Any) -> None:
    """Of floats only: integers are finite numbers."""
    unary(
        name, lambda x: scalar(x) if x.dtype.is_floating else _integer_answer(x, name), reference, result=boolean,
        inplace=False, **options,
    )  # fmt: skip


def _integer_answer(x: Scalar, name: str) -> Scalar:
    return x.compare("eq" if name == "isfinite" else "ne", x)


_classify("isnan", lambda x: x.is_nan(), np.isnan)
_classify("isinf", lambda x: x.absolute().compare("eq", math.inf), np.isinf)
_classify("isfinite", lambda x: x.absolute().compare("lt", math.inf), np.isfinite)
_classify("isposinf", lambda x: x.compare("eq", math.inf), lambda x: x == np.inf)
_classify("isneginf", lambda x: x.compare("eq", -math.inf), lambda x: x == -np.inf)


def _signbit(x: Scalar) -> Scalar:
    if x.dtype.is_floating:
        return x.lift(1.0).math("copysign", x).compare("lt", 0)
    return x.compare("lt", 0) if x.dtype.is_signed else x.compare("ne", x)


unary("signbit", _signbit, lambda x: np.signbit(x) if x.dtype.kind == "f" else x < 0, result=boolean, inplace=False)
unary("logical_not", lambda x: x.compare("eq", 0), lambda x: x == 0, result=boolean)

__all__ = ["erf", "erfc", "rounding", "unary", "vectorized"]
