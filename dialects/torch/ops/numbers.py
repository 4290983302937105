"""Arithmetic on Python's own numbers: int (64 bits), float (IEEE double), bool.

Known numbers are computed by the shape rules, symbolic ints stay symbolic where they can, the rest becomes
scalar IR. Integers follow Python (floor division, sign of %) and wrap at 64 bits; floats follow IEEE as in
TorchScript, so 1.0 / 0.0 is inf.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stepwell.dialects import dtypes
from stepwell.dialects.torch.declare import (
    RuntimeFault,
    Sample,
    ScalarInfo,
    declare,
    is_constant,
    sample,
)
from stepwell.dialects.torch.linalg_builder import LinalgBuilder
from stepwell.dialects.torch.scalar import Scalar
from stepwell.dialects.torch.schema import parse_schema
from stepwell.dialects.torch.sizes import Dim, Size, at_least, bounds, maximum, minimum

Function = Callable[..., Any]
Body = Callable[..., Scalar]

FAULTS = (ArithmeticError, LookupError, ValueError, TypeError)


def folded(reference: Function, *arguments: Any) -> Any:
    """The reference's result at compile time; what Python raises becomes a RuntimeFault."""
    try:
        return reference(*arguments)
    except FAULTS as error:
        raise RuntimeFault(str(error), type(error).__name__) from error


def evaluated(*schemas: str, reference: Function, doc: str = "", **options: Any) -> None:
    """Declare ops on values that are known at compile time: the shape rule is the reference."""
    declare(
        *schemas, infer=lambda *a: folded(reference, *a), reference=reference, doc=doc, evaluate_only=True,
        source=f"{reference.__module__} ({schemas[0].partition('(')[0]})", **options,
    )  # fmt: skip


def wrapped(value: int) -> int:
    """As a signed 64-bit integer."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def truncated(value: float) -> int:
    """int(value) as C converts: what does not fit gives the smallest integer."""
    return int(value) if -(2.0**63) <= value < 2.0**63 else -(1 << 63)


def is_float(value: Any) -> bool:
    """Whether a rule's number is a float: known, unknown (ScalarInfo) or a Scalar."""
    if isinstance(value, ScalarInfo):
        return value.kind == "float"
    if isinstance(value, Scalar):
        return value.dtype.is_floating
    return isinstance(value, float)


def lifted(b: LinalgBuilder, values: Sequence[Any], always_float: bool = False) -> list[Scalar]:
    """Numbers as Scalars of one dtype: float64 if any of them is a float (or always), else int64."""
    dtype = dtypes.float64 if always_float or any(is_float(v) for v in values) else dtypes.int64
    return [b.scalar(v, dtype) for v in values]


_RESULT = {"int": dtypes.int64, "float": dtypes.float64, "bool": dtypes.bool_}


def number(
    *schemas: str,
    reference: Function,
    scalar: Body | None,
    symbolic: Function | None = None,
    samples: Sequence[Sequence[Any]] = (),
    doc: str = "",
    in_float: bool = False,
) -> None:
    """Declare overloads on numbers.

    reference: Python's function. scalar(b, *operands): the same on Scalars of one dtype (float64 always, if
    `in_float`); None where it only exists at compile time. symbolic: on ints and Dims, may give None.
    """
    for text in schemas:
        kind = parse_schema(text).returns[0].base
        _declare_number(text, kind, reference, scalar, symbolic, samples, doc, in_float)


def _declare_number(
    text: str,
    kind: str,
    reference: Function,
    scalar: Body | None,
    symbolic: Function | None,
    samples: Sequence[Sequence[Any]],
    doc: str,
    in_float: bool,
) -> None:
    formals = parse_schema(text).arguments

    def evaluate(*arguments: Any) -> Any:
        result = reference(*arguments)
        if kind == "float":
            return float(result)
        return wrapped(result) if type(result) is int else result

    def infer(*arguments: Any) -> Any:
        if is_constant(list(arguments)):
            return folded(evaluate, *arguments)
        if symbolic is not None and all(isinstance(a, (int, Dim)) for a in arguments):
            found = folded(symbolic, *arguments)
            if found is not None:
                return found
        if kind in ("Scalar", "number"):
            return ScalarInfo("float" if in_float or any(is_float(a) for a in arguments) else "int")
        return ScalarInfo(kind)

    def lower(b: LinalgBuilder, out: Any, *arguments: Any) -> Scalar:
        assert scalar is not None
        result = scalar(b, *lifted(b, arguments, in_float))
        return result.cast(_RESULT[kind]) if kind in _RESULT else result

    def own_samples() -> Iterator[Sample]:
        for values in samples:
            adapted = [_adapt(v, f.type.base) for v, f in zip(values, formals, strict=True)]
            if None not in adapted:
                yield sample(*adapted)

    declare(
        text,
        infer=infer,
        reference=evaluate,
        lower=lower if scalar is not None else None,
        evaluate_only=scalar is None,
        samples=own_samples,
        doc=doc,
        source=f"{__name__} ({text.partition('(')[0]})",
    )


def _adapt(value: Any, base: str) -> Any:
    """A sample's number for a schema type; None if it does not suit."""
    if base == "float":
        return float(value)
    if base == "int":
        return int(value) if value == value and abs(value) < 1e9 and int(value) == value else None
    return builtins.bool(value) if base == "bool" else value


def mixed(name: str, result: str, *, same: str | None = None, scalar: str | None = "Scalar", namespace: str = "aten") -> list[str]:
    """The five overloads of a binary op; `result` is the int one's type, `same` the floats' (default float)."""
    other = same or "float"
    texts = [
        f"{namespace}::{name}.int(int a, int b) -> {result}",
        f"{namespace}::{name}.float(float a, float b) -> {other}",
        f"{namespace}::{name}.int_float(int a, float b) -> {other}",
        f"{namespace}::{name}.float_int(float a, int b) -> {other}",
    ]
    return [*texts, f"{namespace}::{name}(Scalar a, Scalar b) -> {scalar}"] if scalar else texts


PAIRS = ((7, 3), (-7, 3), (7, -3), (0, 5), (2.5, 2), (-2.5, 0.5), (math.inf, 1), (math.nan, 1))


def _nonzero(b: LinalgBuilder, y: Scalar) -> Scalar:
    if not y.dtype.is_floating:
        b.require(y.compare("ne", 0), "ZeroDivisionError", "integer division or modulo by zero")
    return y


def _floor_divide(x: Any, y: Any) -> Any:
    if isinstance(x, int) and isinstance(y, int):
        return x // y
    return _float_divide(x, y, floor=True)


def _float_divide(x: float, y: float, floor: bool = False) -> float:
    if y == 0:
        return math.nan if x == 0 or x != x else math.copysign(math.inf, x) * math.copysign(1.0, y)
    quotient = x / y
    return float(math.floor(quotient)) if floor and math.isfinite(quotient) else quotient


def _remainder(x: Any, y: Any) -> Any:
    if isinstance(x, int) and isinstance(y, int):
        return x % y
    if y == 0 or math.isinf(x):
        return math.nan
    return x % y


def _never_zero(function: Function) -> Function:
    """Symbolic division, where the divisor cannot be zero; else the check at run time is needed."""

    def divide(x: Size, y: Size) -> Size | None:
        low, high = bounds(y)
        result: Size | None = function(x, y) if low > 0 or high < 0 or isinstance(y, int) else None
        return result

    return divide


_DIVIDE_ZERO = "integer division or modulo by zero"

number(
    *mixed("add", "int"), reference=lambda x, y: x + y, symbolic=lambda x, y: x + y,
    scalar=lambda b, x, y: x + y, samples=PAIRS, doc="a + b",
)  # fmt: skip
number(
    *mixed("sub", "int"), reference=lambda x, y: x - y, symbolic=lambda x, y: x - y,
    scalar=lambda b, x, y: x - y, samples=PAIRS, doc="a - b",
)  # fmt: skip
number(
    *mixed("mul", "int"), reference=lambda x, y: x * y, symbolic=lambda x, y: x * y,
    scalar=lambda b, x, y: x * y, samples=PAIRS, doc="a * b",
)  # fmt: skip
number(
    "aten::div.int(int a, int b) -> float", "aten::div.float(float a, float b) -> float",
    "aten::div(Scalar a, Scalar b) -> float", reference=_float_divide,
    scalar=lambda b, x, y: x / y, in_float=True, samples=(*PAIRS, (1, 0), (-1, 0), (0, 0)), doc="True division.",
)  # fmt: skip
number(
    *mixed("floordiv", "int"), reference=_floor_divide, symbolic=_never_zero(lambda x, y: x // y),
    scalar=lambda b, x, y: x.floor_divide(_nonzero(b, y)) if not x.dtype.is_floating else (x / y).math("floor"),
    samples=PAIRS, doc="a // b, rounded down; floats are divided first, as in TorchScript.",
)  # fmt: skip
number(
    *mixed("remainder", "int"), reference=_remainder, symbolic=_never_zero(lambda x, y: x % y),
    scalar=lambda b, x, y: x.remainder(_nonzero(b, y)), samples=PAIRS, doc="a % b; the sign is b's.",
)  # fmt: skip
number(
    *mixed("fmod", "float", scalar="float"),
    reference=lambda x, y: math.fmod(x, y) if y != 0 and not math.isinf(x) else math.nan,
    scalar=lambda b, x, y: x.truncated_remainder(y), in_float=True, samples=PAIRS, doc="C's fmod; the sign is a's.",
)  # fmt: skip
number(
    *mixed("mathremainder", "float", scalar="float"), reference=math.remainder, scalar=None,
    samples=PAIRS[:6], doc="The IEEE remainder.",
)  # fmt: skip


def _power(x: float, y: float) -> float:
    try:
        result = math.pow(x, y)
    except OverflowError:
        return -math.inf if x < 0 and y % 2 == 1 else math.inf
    except ValueError:
        return math.inf if x == 0 else math.nan
    return result


number(
    *[t.replace("pow(Scalar", "pow.Scalar_Scalar(Scalar") for t in mixed("pow", "float", scalar="float")],
    reference=_power, scalar=lambda b, x, y: x.math("powf", y), in_float=True,
    samples=((2, 3), (2, -1), (2.5, 2), (-8, 3), (0, 0)), doc="a ** b, always a float, as in TorchScript.",
)  # fmt: skip
number(
    *mixed("copysign", "float", scalar="float"), reference=math.copysign,
    scalar=lambda b, x, y: x.math("copysign", y), in_float=True, samples=PAIRS[:7], doc="|a| with b's sign.",
)  # fmt: skip
number(
    *[t.replace("atan2(Scalar", "atan2.Scalar_Scalar(Scalar") for t in mixed("atan2", "float", scalar="float")],
    reference=math.atan2, scalar=lambda b, x, y: x.math("atan2", y), in_float=True, samples=PAIRS,
    doc="The angle of the point (b, a).",
)  # fmt: skip
number("aten::gcd.int(int a, int b) -> int", reference=math.gcd, scalar=None, samples=((12, 18),), doc="math.gcd")


# ------ extrema: prim::min and prim::max


def _extremum(name: str, choose: Function, symbolic: Function, body: Body) -> None:
    number(
        *mixed(name, "int", namespace="prim"), symbolic=symbolic,
        reference=lambda x, y: float(choose(x, y)) if isinstance(x, float) or isinstance(y, float) else choose(x, y),
        scalar=lambda b, x, y: body(x, y), samples=PAIRS[:7], doc=f"{name}(a, b)",
    )  # fmt: skip
    evaluated(
        *(f"prim::{name}.{t}_list({t}[] l, {t}[] r) -> {t}[]" for t in ("int", "float", "bool")),
        reference=choose, doc=f"{name} of two lists",
    )  # fmt: skip
    for kind in ("int", "float", "bool"):
        _list_extremum(name, kind, choose, symbolic)


def _list_extremum(name: str, kind: str, choose: Function, symbolic: Function) -> None:
    def infer(values: list[Any]) -> Any:
        if is_constant(values):
            return folded(choose, values)
        if kind == "int" and all(isinstance(v, (int, Dim)) for v in values):
            result = values[0]
            for value in values[1:]:
                result = symbolic(result, value)
            return result
        return ScalarInfo(kind)

    def lower(b: LinalgBuilder, out: Any, values: list[Any]) -> Scalar:
        scalars = [b.scalar(v, _RESULT[kind]) for v in values]
        result = scalars[0]
        for value in scalars[1:]:
            result = result.maximum(value) if name == "max" else result.minimum(value)
        return result

    declare(
        f"prim::{name}.self_{kind}({kind}[] self) -> {kind}", infer=infer, reference=choose, lower=lower,
        doc=f"{name} of a list", samples=lambda: [sample([_adapt(v, kind) for v in (3, 1, 2)])],
        source=f"{__name__} (prim::{name})",
    )  # fmt: skip


# Python's max(a, b) keeps a unless b is larger, which decides for NaN.
_extremum("max", max, maximum, lambda x, y: y.compare("gt", x).select(y, x))
_extremum("min", min, minimum, lambda x, y: y.compare("lt", x).select(y, x))


# ------ comparison


def decide(operator: str, x: Size, y: Size) -> bool | None:
    """Whether `x operator y` holds for all values of the symbols, for none (False), or neither (None)."""
    if operator in ("eq", "ne"):
        if x == y:
            return operator == "eq"
        (low, high), (least, most) = bounds(x), bounds(y)
        difference = bounds(x - y)
        apart = high < least or most < low or difference[0] > 0 or difference[1] < 0
        return operator == "ne" if apart else None
    if operator in ("gt", "le"):
        x, y = y, x
    # lt(x, y) is certain if y >= x + 1; ge(x, y) is its opposite.
    less = True if at_least(y, x + 1) else False if at_least(x, y) else None
    if less is None:
        return None
    return less if operator in ("lt", "gt") else not less


_PYTHON: dict[str, Function] = {
    "eq": lambda x, y: x == y, "ne": lambda x, y: x != y, "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y, "gt": lambda x, y: x > y, "ge": lambda x, y: x >= y,
}  # fmt: skip


def _symbolic_comparison(name: str) -> Function:
    return lambda x, y: decide(name, x, y)


def _compare(name: str) -> Body:
    return lambda b, x, y: x.compare(name, y)


for _name, _function in _PYTHON.items():
    number(
        *mixed(_name, "bool", same="bool", scalar="bool"), reference=_function,
        symbolic=_symbolic_comparison(_name), scalar=_compare(_name), samples=(*PAIRS, (3, 3)), doc=f"Python's {_name}",
    )  # fmt: skip
for _name in ("eq", "ne"):
    number(
        f"aten::{_name}.bool(bool a, bool b) -> bool", reference=_PYTHON[_name], scalar=_compare(_name),
        samples=((True, True), (True, False)), doc=f"Python's {_name}",
    )  # fmt: skip


# ------ bits and logic

_BITS: dict[str, tuple[Function, Body]] = {
    "and": (lambda x, y: x & y, lambda b, x, y: x & y),
    "or": (lambda x, y: x | y, lambda b, x, y: x | y),
    "xor": (lambda x, y: x ^ y, lambda b, x, y: x ^ y),
}
for _name, (_function, _body) in _BITS.items():
    number(
        f"aten::__{_name}__.bool(bool a, bool b) -> bool", f"aten::__{_name}__.int(int a, int b) -> int",
        reference=_function, scalar=_body, samples=((1, 0), (1, 1), (6, 3)), doc=f"bitwise {_name}",
    )  # fmt: skip
number(
    "aten::__lshift__.int(int a, int b) -> int", reference=lambda x, y: x << y, scalar=lambda b, x, y: x << y,
    samples=((3, 2),), doc="a << b",
)  # fmt: skip
number(
    "aten::__rshift__.int(int a, int b) -> int", reference=lambda x, y: x >> y, scalar=lambda b, x, y: x >> y,
    samples=((-9, 1),), doc="a >> b",
)  # fmt: skip
number(
    "aten::__not__(bool self) -> bool", reference=lambda x: not x,
    scalar=lambda b, x: x.compare("eq", 0), samples=((True,), (False,)), doc="not self",
)  # fmt: skip


# ------ one operand


def _symbolic_abs(x: Size) -> Size:
    return maximum(x, -x)


number(
    "aten::neg.int(int a) -> int", "aten::neg.float(float a) -> float", "aten::neg.Scalar(Scalar a) -> Scalar",
    reference=lambda x: -x, symbolic=lambda x: -x, scalar=lambda b, x: -x, samples=((3,), (-2.5,)), doc="-a",
)  # fmt: skip
number(
    "prim::abs.int(int a) -> int", "prim::abs.float(float a) -> float", "prim::abs.Scalar(Scalar a) -> Scalar",
    reference=abs, symbolic=_symbolic_abs, scalar=lambda b, x: x.absolute(), samples=((3,), (-2.5,), (-4,)),
    doc="abs(a)",
)  # fmt: skip
number(
    "aten::floor.int(int a) -> int", "aten::ceil.int(int a) -> int", reference=lambda x: x, symbolic=lambda x: x,
    scalar=lambda b, x: x, samples=((3,),), doc="An int is its own floor and ceiling.",
)  # fmt: skip


def _rounded(function: Callable[[float], int]) -> Callable[[float], int]:
    return lambda x: function(x) if -(2.0**63) <= x < 2.0**63 else -(1 << 63)


for _name, _function in (("floor", math.floor), ("ceil", math.ceil)):
    number(
        f"aten::{_name}.float(float a) -> int", reference=_rounded(_function),
        scalar=(lambda n: lambda b, x: x.math(n))(_name), samples=((2.5,), (-2.5,)), doc=f"math.{_name}",
    )  # fmt: skip
    number(
        f"aten::{_name}.Scalar(Scalar a) -> Scalar",
        reference=(lambda f: lambda x: f(x) if isinstance(x, float) else x)(_rounded(_function)),
        scalar=(lambda n: lambda b, x: x.math(n) if x.dtype.is_floating else x)(_name),
        samples=((3,),), doc=f"math.{_name}",
    )  # fmt: skip
number(
    "aten::round.int(int a) -> float", "aten::round.float(float a) -> float", "aten::round.Scalar(Scalar a) -> Scalar",
    reference=lambda x: float(round(x)) if math.isfinite(x) else x, scalar=lambda b, x: x.math("roundeven"), in_float=True,
    samples=((2.5,), (3.5,), (-0.4,)), doc="To the nearest integer, halves to even, as a float (TorchScript's rule).",
)  # fmt: skip


def _ieee(function: Callable[[float], float], at_edge: float) -> Callable[[float], float]:
    """Python's function with IEEE's answers instead of exceptions."""

    def evaluate(x: float) -> float:
        try:
            return function(x)
        except OverflowError:
            return math.inf
        except ValueError:
            return at_edge if x == 0 or abs(x) == 1 else math.nan

    return evaluate


# Name: Python's function, math's operation (None: only at compile time), value where Python raises at an edge.
_MATH: dict[str, tuple[Callable[[float], float], str | None, float]] = {
    "sqrt": (math.sqrt, "sqrt", math.nan), "exp": (math.exp, "exp", math.inf),
    "expm1": (math.expm1, "expm1", math.inf), "log": (math.log, "log", -math.inf),
    "log10": (math.log10, "log10", -math.inf), "log1p": (math.log1p, "log1p", -math.inf),
    "sin": (math.sin, "sin", math.nan), "cos": (math.cos, "cos", math.nan), "tan": (math.tan, "tan", math.nan),
    "asin": (math.asin, "asin", math.nan), "acos": (math.acos, "acos", math.nan),
    "atan": (math.atan, "atan", math.nan), "sinh": (math.sinh, "sinh", math.inf), "cosh": (math.cosh, "cosh", math.inf),
    "tanh": (math.tanh, "tanh", math.nan), "asinh": (math.asinh, None, math.nan),
    "acosh": (math.acosh, None, math.nan), "atanh": (math.atanh, None, math.inf), "erf": (math.erf, "erf", math.nan),
    "erfc": (math.erfc, None, math.nan), "gamma": (math.gamma, None, math.inf), "lgamma": (math.lgamma, None, math.inf),
    "fabs": (math.fabs, "absf", math.nan),
}  # fmt: skip


def _unary_schemas(name: str) -> list[str]:
    return [
        f"aten::{name}.int(int a) -> float", f"aten::{name}.float(float a) -> float",
        f"aten::{name}.Scalar(Scalar a) -> Scalar",
    ]  # fmt: skip


def _math_body(operation: str | None) -> Body | None:
    return None if operation is None else lambda b, x: x.math(operation)


for _name, (_math_function, _operation, _edge) in _MATH.items():
    number(
        *_unary_schemas(_name), reference=_ieee(_math_function, _edge), scalar=_math_body(_operation), in_float=True,
        samples=((0,), (1,), (0.5,), (2.5,), (-0.25,)), doc=f"math.{_name}, with IEEE's results outside its domain.",
    )  # fmt: skip
number(
    *_unary_schemas("degrees"), reference=math.degrees, scalar=lambda b, x: x * (180.0 / math.pi), in_float=True,
    samples=((1,), (0.5,)), doc="Radians to degrees.",
)  # fmt: skip
number(
    *_unary_schemas("radians"), reference=math.radians, scalar=lambda b, x: x * (math.pi / 180.0), in_float=True,
    samples=((1,), (0.5,)), doc="Degrees to radians.",
)  # fmt: skip
number("aten::factorial.int(int a) -> int", reference=math.factorial, scalar=None, samples=((5,),), doc="a!")
number(
    "aten::isnan.float(float a) -> bool", reference=math.isnan, scalar=lambda b, x: x.is_nan(),
    samples=((1.0,), (math.nan,)), doc="math.isnan",
)  # fmt: skip
number(
    "aten::isinf.float(float a) -> bool", reference=math.isinf,
    scalar=lambda b, x: x.absolute().compare("eq", math.inf), samples=((1.0,), (-math.inf,)), doc="math.isinf",
)  # fmt: skip
number(
    "aten::isfinite.float(float a) -> bool", reference=math.isfinite,
    scalar=lambda b, x: x.absolute().compare("lt", math.inf), samples=((1.0,), (math.nan,)), doc="math.isfinite",
)  # fmt: skip
_LOGARITHM = (
    "aten::log.int_int(int a, int b) -> float", "aten::log.float_float(float a, float b) -> float",
    "aten::log.int_float(int a, float b) -> float", "aten::log.float_int(float a, int b) -> float",
    "aten::log.Scalar_Scalar(Scalar a, Scalar b) -> float",
)  # fmt: skip
number(
    *_LOGARITHM, reference=lambda x, y: _float_divide(_ieee(math.log, -math.inf)(x), _ieee(math.log, -math.inf)(y)),
    scalar=lambda b, x, y: x.math("log") / y.math("log"), in_float=True, samples=((8, 2), (2.5, 3)),
    doc="The logarithm of a to the base b.",
)  # fmt: skip


# ------ conversion

number(
    "aten::Int.float(float a) -> int", "aten::Int.bool(bool a) -> int", "aten::Int.Scalar(Scalar a) -> int",
    reference=lambda x: truncated(x) if isinstance(x, float) else int(x),
    symbolic=lambda x: x if isinstance(x, Dim) else None, scalar=lambda b, x: x,
    samples=((2.7,), (-2.7,), (True,)), doc="int(a), towards zero",
)  # fmt: skip
number(
    "aten::Float.int(int a) -> float", "aten::Float.bool(bool a) -> float", "aten::Float.Scalar(Scalar a) -> float",
    reference=float, scalar=lambda b, x: x, in_float=True, samples=((3,), (True,)), doc="float(a)",
)  # fmt: skip
number(
    "aten::Bool.int(int a) -> bool", "aten::Bool.float(float a) -> bool", reference=bool,
    symbolic=lambda x: decide("ne", x, 0), scalar=lambda b, x: x.compare("ne", 0), samples=((3,), (0,)),
    doc="bool(a)",
)  # fmt: skip


# ------ the positions of a stepped range


def _range_length(low: int, high: int, step: int) -> int:
    if step == 0:
        raise ValueError("range() arg 3 must not be zero")
    return len(range(low, high, step))


def _symbolic_length(low: Size, high: Size, step: Size) -> Size | None:
    first, last = bounds(step)
    if first > 0:
        return maximum((high - low + step - 1) // step, 0)
    return maximum((low - high - step - 1) // -step, 0) if last < 0 else None


def _length_body(b: LinalgBuilder, low: Scalar, high: Scalar, step: Scalar) -> Scalar:
    b.require(step.compare("ne", 0), "ValueError", "range() arg 3 must not be zero")
    up = (high - low + step - 1).floor_divide(step)
    down = (low - high - step - 1).floor_divide(-step)
    return step.compare("gt", 0).select(up, down).maximum(0)


number(
    "aten::__range_length(int lo, int hi, int step) -> int", reference=_range_length, symbolic=_symbolic_length,
    scalar=_length_body, samples=((0, 10, 3), (10, 0, -3), (5, 5, 1), (3, 0, 1)), doc="len(range(lo, hi, step))",
)  # fmt: skip
number(
    "aten::__derive_index(int index, int start, int step) -> int", reference=lambda i, start, step: start + i * step,
    symbolic=lambda i, start, step: start + i * step, scalar=lambda b, i, start, step: start + i * step,
    samples=((3, 10, -2),), doc="range(start, ..., step)[index]",
)  # fmt: skip


