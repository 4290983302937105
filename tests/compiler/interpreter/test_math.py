"""math ops against Python's own, rounding of fma, bit counts."""

import math
from fractions import Fraction

import numpy as np
import pytest

UNARY = {
    "absf": abs, "atan": math.atan, "cbrt": lambda x: math.copysign(abs(x) ** (1 / 3), x), "ceil": math.ceil,
    "cos": math.cos, "cosh": math.cosh, "erf": math.erf, "exp": math.exp, "exp2": lambda x: 2.0**x,
    "expm1": math.expm1, "floor": math.floor, "round": lambda x: math.copysign(math.floor(abs(x) + 0.5), x),
    "roundeven": round, "sin": math.sin, "sinh": math.sinh, "tan": math.tan, "tanh": math.tanh,
    "trunc": math.trunc,
}  # fmt: skip
POSITIVE = {
    "log": math.log, "log10": math.log10, "log1p": math.log1p, "log2": math.log2, "sqrt": math.sqrt,
    "rsqrt": lambda x: 1 / math.sqrt(x), "acosh": lambda x: math.acosh(x), "asinh": math.asinh,
}  # fmt: skip


@pytest.mark.parametrize("name", [*UNARY, *POSITIVE])
def test_functions(run, name):
    text = f"""
    func.func @f(%x: tensor<6xf64>, %s: f32) -> (tensor<6xf64>, f32) {{
      %0 = math.{name} %x : tensor<6xf64>
      %1 = math.{name} %s : f32
      func.return %0, %1 : tensor<6xf64>, f32
    }}"""
    reference = UNARY.get(name) or POSITIVE[name]
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.25, -3.0])
    x = abs(x) + 1 if name in POSITIVE else x
    values, single = run(text, x, 1.25)
    np.testing.assert_allclose(values, [reference(v) for v in x], rtol=1e-14)
    assert single == np.float32(reference(1.25))


def test_ties_and_signs_of_rounding(apply):
    assert apply("math.round", "f32", 0.49999997) == 0.0
    assert apply("math.round", "f64", -2.5) == -3.0
    assert apply("math.roundeven", "f64", 2.5) == 2.0
    assert math.copysign(1, apply("math.round", "f32", -0.25)) == -1


@pytest.mark.parametrize(("type", "dtype"), [("f32", np.float32), ("f64", np.float64), ("f16", np.float16)])
def test_fma_rounds_once(run, type, dtype):
    text = f"""
    func.func @f(%a: tensor<400x{type}>, %b: tensor<400x{type}>, %c: tensor<400x{type}>) -> tensor<400x{type}> {{
      %0 = math.fma %a, %b, %c : tensor<400x{type}>
      func.return %0 : tensor<400x{type}>
    }}"""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(400).astype(dtype) for _ in range(2))
    # Near cancellation, where two roundings differ from one.
    c = (-(a * b) * random.choice([1, 1 + 2.0**-9, 2.0**-20, 3], 400)).astype(dtype)
    (got,) = run(text, a, b, c)
    for row in zip(a, b, c, got, strict=True):
        x, y, z, result = (Fraction(float(value)) for value in row)
        exact, unit = x * y + z, Fraction(float(np.spacing(abs(row[3]))))
        assert abs(result - exact) <= unit / 2


def test_fma_at_the_ends_of_the_range(apply):
    assert apply("math.fma", "f64", 1e300, 1e300, 1.0) == math.inf
    assert apply("math.fma", "f64", 1e200, -1e200, 1.0) == -math.inf
    assert apply("math.fma", "f64", 1e200, 1e108, -1e308) == float(
        Fraction(1e200) * Fraction(1e108) - Fraction(1e308)
    )
    assert apply("math.fma", "f64", -2.5, 5e-324, 5e-324) == -1e-323
    assert math.copysign(1, apply("math.fma", "f64", -0.0, 1.0, -0.0)) == -1


@pytest.mark.parametrize("type", ["f32", "bf16"])
def test_predicates(apply, type):
    for value in (0.0, 1.0, math.inf, -math.inf, math.nan):
        for name in ("isnan", "isinf", "isfinite"):
            got = apply(f"math.{name}", type, value, result="i1")
            assert got == getattr(math, name)(value), (name, value)


def test_bits(apply):
    assert apply("math.ctpop", "i8", -1) == 8
    assert apply("math.ctlz", "i8", 1) == 7
    assert apply("math.ctlz", "i64", 0) == 64
    assert apply("math.cttz", "i32", 8) == 3
    assert apply("math.cttz", "i32", 0) == 32
    assert apply("math.absi", "i8", -5) == 5
    assert apply("math.ipowi", "i32", 3, 4) == 81
    assert apply("math.ipowi", "i32", -1, -3) == -1
    assert apply("math.ipowi", "i32", 2, -1) == 0
    assert apply("math.fpowi", ["f32", "i32"], 2.0, -2, result="f32") == 0.25
    assert apply("math.powf", "f32", 2.0, 0.5) == float(np.float32(math.sqrt(2)))
    assert apply("math.atan2", "f64", 1.0, -1.0) == math.atan2(1, -1)
    assert apply("math.copysign", "f32", 3.0, -0.0) == -3.0
