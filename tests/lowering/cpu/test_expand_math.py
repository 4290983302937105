"""Every math function against a reference of more digits, where it is promised to be accurate and at its edges."""

import math as python_math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.math import Math
from xdsl.parser import Parser

from stepwell.compiler.backends import jit
from stepwell.compiler.backends.target import host
from stepwell.dialects import context
from stepwell.lowering.cpu.expand_math import EXPANSIONS, expand_math
from stepwell.lowering.cpu.math_table import MATH
from stepwell.runtime.function import NativeFunction

Reference = Callable[[Any], Any]
Wide = np.longdouble


def each(function: Callable[[float], float]) -> Reference:
    return lambda x: np.array([function(float(value)) for value in x], Wide)


REFERENCES: dict[str, Reference] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "tanh": np.tanh, "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "sin": np.sin, "cos": np.cos, "tan": np.tan, "atan": np.arctan,
    "asin": np.arcsin, "acos": np.arccos, "erf": each(python_math.erf), "erfc": each(python_math.erfc),
    "rsqrt": lambda x: 1 / np.sqrt(x), "cbrt": np.cbrt,
    "round": lambda x: np.trunc(x + np.copysign(Wide(0.5), x)),
}  # fmt: skip
FORMATS = {"f32": np.float32, "f64": np.float64}
EDGES = (
    0.0, 1.0, 0.5, np.inf, np.nan, 1e-45, 1e-40, 1e-38, 3e38, 87.3, 88.7, 89.0, 100.0, 103.9, 104.1, 150.0, 127.5, 128.0,
    709.7, 710.0, 745.0, 746.0, 1023.9, 1024.0, 1074.0, np.pi / 2, np.pi, 2.0**20, 2.0**30, 5e-324, 1e-310, 1.7e308,
)  # fmt: skip


def program(op: str, element: str, operands: int = 1, lanes: int = 8) -> NativeFunction:
    """y[i] = op(x[i], ...) over vectors, or over numbers where lanes is 1."""
    kind = element if lanes == 1 else f"vector<{lanes}x{element}>"
    names = "abc"[:operands]
    arguments = ", ".join(f"%{name}: memref<?x{element}>" for name in names)
    access = "memref.load %{0}[%i] : memref<?x{1}>" if lanes == 1 else "vector.load %{0}[%i] : memref<?x{1}>, {2}"
    loads = "\n".join(f"%v{name} = {access.format(name, element, kind)}" for name in names)
    store = "memref.store %w, %y[%i] : memref<?x{0}>" if lanes == 1 else "vector.store %w, %y[%i] : memref<?x{0}>, {1}"
    text = f"""
    func.func @forward({arguments}, %y: memref<?x{element}> {{host.kind = "output", host.shape = ["0.0"]}}) {{
      %c0 = arith.constant 0 : index
      %step = arith.constant {lanes} : index
      %n = memref.dim %a, %c0 : memref<?x{element}>
      scf.for %i = %c0 to %n step %step {{
        {loads}
        %w = {op} {", ".join(f"%v{name}" for name in names)} : {kind}
        {store.format(element, kind)}
      }}
      func.return
    }}"""
    module = Parser(context(), text).parse_module()
    module.verify()
    expand_math(module, host())
    module.verify()
    assert not [inner.name for inner in module.walk() if type(inner) in EXPANSIONS]
    return jit.build(module)


def samples(dtype: Any, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    limit = np.finfo(dtype).maxexp * 0.3
    parts = [
        10.0 ** rng.uniform(-limit, limit, 3000), rng.uniform(0, 1, 3000), rng.uniform(0, 10, 3000),
        rng.uniform(0, 110 if dtype is np.float32 else 760, 3000), rng.uniform(0.9, 1.1, 2000), np.array(EDGES),
    ]  # fmt: skip
    with np.errstate(over="ignore"):
        x = np.concatenate([*parts, *(-part for part in parts)]).astype(dtype)
    return x[: len(x) // 8 * 8]


def check(got: Any, expected: Any, dtype: Any, allowed: float, x: Any) -> None:
    """Errors in ulp for normal results; the same NaN and infinities; tiny results within a few steps."""
    tiny = np.finfo(dtype).tiny
    rounded = expected.astype(dtype)
    special = ~np.isfinite(rounded)
    edge = np.isinf(rounded) & (np.abs(expected) < Wide(np.finfo(dtype).max) * (1 + 4 * Wide(np.finfo(dtype).eps)))
    np.testing.assert_array_equal(got[special & ~edge], rounded[special & ~edge])
    assert np.isfinite(got[~special]).all(), x[~special][~np.isfinite(got[~special])]
    normal = ~special & (np.abs(expected) >= tiny)
    error = np.abs(got[normal].astype(Wide) - expected[normal]) / np.spacing(np.abs(rounded[normal]))
    worst = int(error.argmax())
    assert error[worst] <= allowed, f"{float(error[worst])} ulp at {x[normal][worst]!r}"
    small = ~special & ~normal
    assert (np.abs(got[small].astype(Wide) - expected[small]) <= 4 * np.finfo(dtype).smallest_subnormal).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("element", FORMATS)
@pytest.mark.parametrize("name", REFERENCES)
def test_error_is_as_promised(name: str, element: str) -> None:
    dtype = FORMATS[element]
    x = samples(dtype, np.random.default_rng(1))
    if name in ("sin", "cos", "tan"):
        x = x[np.abs(x) <= 2.0**50]
        x = x[: len(x) // 8 * 8]
    allowed = getattr(MATH[f"math.{name}"], element)
    (got,) = program(f"math.{name}", element)(x)
    check(got, REFERENCES[name](x.astype(Wide)), dtype, allowed, x)
    if name in (
        "sin",
        "tan",
        "tanh",
        "asin",
        "atan",
        "expm1",
        "log1p",
        "erf",
        "sinh",
        "asinh",
        "atanh",
        "cbrt",
        "round",
    ):
        assert np.signbit(got[(x == 0) & np.signbit(x)]).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("element", FORMATS)
def test_power(element: str) -> None:
    dtype = FORMATS[element]
    rng = np.random.default_rng(2)
    special = np.array([0.0, -0.0, 1, -1, 2, -2, 3, 0.5, -0.5, np.inf, -np.inf, np.nan, 1e-40, -7, 1e30, 33], dtype)
    pairs = np.array([(a, b) for a in special for b in special], dtype)
    x = np.concatenate([pairs[:, 0], rng.uniform(0, 10, 4000), 10.0 ** rng.uniform(-30, 30, 4000)]).astype(dtype)
    y = np.concatenate([pairs[:, 1], rng.uniform(-20, 20, 8000)]).astype(dtype)
    (got,) = program("math.powf", element, 2)(x, y)
    check(got, np.power(x.astype(Wide), y.astype(Wide)), dtype, getattr(MATH["math.powf"], element), x)
    count = len(pairs)
    expected = np.power(x[:count].astype(np.float64), y[:count].astype(np.float64)).astype(dtype)
    np.testing.assert_array_equal(np.signbit(got[:count][expected == 0]), np.signbit(expected[expected == 0]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("element", FORMATS)
def test_atan2(element: str) -> None:
    dtype = FORMATS[element]
    rng = np.random.default_rng(3)
    special = np.array([0.0, -0.0, 1, -1, 2, -3, np.inf, -np.inf, np.nan, 1e-38, 1e38, -0.5, 7, 8, 9, 10], dtype)
    pairs = np.array([(a, b) for a in special for b in special], dtype)
    y = np.concatenate([pairs[:, 0], rng.standard_normal(4000)]).astype(dtype)
    x = np.concatenate([pairs[:, 1], rng.standard_normal(4000)]).astype(dtype)
    (got,) = program("math.atan2", element, 2)(y, x)
    check(got, np.arctan2(y.astype(Wide), x.astype(Wide)), dtype, getattr(MATH["math.atan2"], element), y)
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(np.arctan2(y, x)[~np.isnan(got)]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("name", ["exp", "exp2", "log", "sin", "sinh", "erf", "tanh"])
def test_numbers_and_vectors_give_the_same_bits(name: str, lanes: int) -> None:
    """A register full of lanes may take an instruction of its own: tiny and infinite results come out the same."""
    x = np.concatenate([np.random.default_rng(4).uniform(-20, 20, 64), np.linspace(-160, 160, 4096), EDGES])
    x = x[: len(x) // 16 * 16].astype(np.float32)
    (vector,) = program(f"math.{name}", "f32", lanes=lanes)(x)
    (scalar,) = program(f"math.{name}", "f32", lanes=1)(x)
    np.testing.assert_array_equal(vector, scalar)


def test_large_arguments_of_sin_are_reduced_in_f64_and_beyond_that_nan() -> None:
    x = np.array([1e7, 1e9, 3e12, 2.0**50, 2.0**51, 1e30, np.inf, 1.0], np.float32)
    (got,) = program("math.sin", "f32")(x)
    np.testing.assert_allclose(got[:4], np.sin(x[:4].astype(np.float64)), rtol=1e-6)
    assert np.isnan(got[4:7]).all() and got[7] == program("math.sin", "f32", lanes=1)(x[7:])[0][0]


@pytest.mark.parametrize("element", ["f16", "bf16"])
def test_half_formats_are_computed_in_f32(element: str) -> None:
    import ml_dtypes

    dtype: Any = np.float16 if element == "f16" else ml_dtypes.bfloat16
    x = np.linspace(-5, 5, 64).astype(dtype)
    (got,) = program("math.exp", element)(x)
    np.testing.assert_array_equal(got.astype("f"), np.exp(x.astype(np.float64)).astype(dtype).astype("f"))


def test_integer_powers() -> None:
    function = program("math.ipowi", "i64", 2)
    x = np.array([2, 3, -1, -1, 1, 0, 5, -2])
    n = np.array([10, 0, 3, -4, -7, 5, -1, 63])
    np.testing.assert_array_equal(function(x, n)[0], [1024, 1, -1, 1, 1, 0, 0, -(2**63)])


def test_every_expansion_has_a_promise() -> None:
    names = {op.name for op in EXPANSIONS}
    assert names <= MATH.keys()
    assert {op.name for op in Math.operations if op.name not in names} == {
        "math.absf", "math.absi", "math.ceil", "math.copysign", "math.ctlz", "math.cttz", "math.ctpop", "math.floor",
        "math.fma", "math.fpowi", "math.ipowi", "math.roundeven", "math.sqrt", "math.trunc",
    }  # fmt: skip
