"""Integers wrap, floats round, and the open cases answer as documented."""

import math

import ml_dtypes
import numpy as np
import pytest

from stepwell.compiler.interpreter import InterpreterError

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("op", "type", "a", "b", "expected"),
    [
        ("addi", "i8", 100, 100, -56),
        ("addi", "i64", 2**63 - 1, 1, -(2**63)),
        ("addi", "i1", 1, 1, False),
        ("addi", "i4", 7, 1, -8),
        ("subi", "i32", -(2**31), 1, 2**31 - 1),
        ("muli", "i16", 300, 300, (300 * 300 + 2**15) % 2**16 - 2**15),
        ("muli", "index", -3, 5, -15),
        ("divsi", "i32", -7, 2, -3),
        ("divsi", "i32", 7, -2, -3),
        ("divsi", "index", -7, 2, -3),
        ("remsi", "i64", -7, 2, -1),
        ("remsi", "i64", 7, -2, 1),
        ("floordivsi", "i64", -7, 2, -4),
        ("ceildivsi", "i64", -7, 2, -3),
        ("ceildivsi", "i64", 7, 2, 4),
        ("ceildivui", "i8", 7, 2, 4),
        ("divui", "i8", -2, 3, 84),
        ("remui", "i8", -2, 3, 2),
        ("divui", "index", -1, 2, 2**63 - 1),
        ("minsi", "i8", -1, 1, -1),
        ("minui", "i8", -1, 1, 1),
        ("maxui", "i8", -1, 1, -1),
        ("maxsi", "i1", 1, 0, False),
        ("maxui", "i1", 1, 0, True),
        ("andi", "i8", 0b1100, 0b1010, 0b1000),
        ("ori", "i8", 0b1100, 0b1010, 0b1110),
        ("xori", "i1", 1, 0, True),
        ("shli", "i8", 3, 7, -128),
        ("shli", "i8", 1, 8, 0),
        ("shrui", "i8", -1, 1, 127),
        ("shrsi", "i8", -128, 3, -16),
        ("shrsi", "i8", -128, 200, -1),
        ("shrui", "i64", -1, 63, 1),
    ],
)
def test_integers(apply, op, type, a, b, expected):
    assert apply(f"arith.{op}", type, a, b) == expected


@pytest.mark.parametrize("op", ["divsi", "divui", "remsi", "remui", "floordivsi", "ceildivsi", "ceildivui"])
@pytest.mark.parametrize("type", ["i32", "index"])
def test_division_by_zero_is_an_error(apply, op, type):
    with pytest.raises(InterpreterError, match=rf"arith.{op}.*division by zero"):
        apply(f"arith.{op}", type, 1, 0)


def test_division_overflow_is_an_error(apply):
    with pytest.raises(InterpreterError, match="overflows"):
        apply("arith.divsi", "i32", -(2**31), -1)


PREDICATES = ("eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge")


@pytest.mark.parametrize("type", ["i1", "i8", "index"])
def test_integer_comparisons(apply, type):
    width = {"i1": 1, "i8": 8, "index": 64}[type]
    for a in (-1, 0) if width == 1 else (-1, 0, 1):
        for b in (-1, 0) if width == 1 else (-1, 0, 1):
            ua, ub = a % 2**width, b % 2**width
            expected = [a == b, a != b, a < b, a <= b, a > b, a >= b, ua < ub, ua <= ub, ua > ub, ua >= ub]
            for number, answer in enumerate(expected):
                got = apply("arith.cmpi", type, a, b, result="i1", properties=f"<{{predicate = {number} : i64}}>")
                assert got == answer, (PREDICATES[number], a, b)


def test_float_comparisons_tell_ordered_from_unordered(apply):
    for a in (0.0, 1.0, NAN):
        for b in (0.0, 1.0, NAN):
            un = a != a or b != b
            ordered = [a == b, a > b, a >= b, a < b, a <= b, not un and a != b]
            expected = [False, *ordered, not un, *[answer or un for answer in ordered], un, True]
            for number, answer in enumerate(expected):
                got = apply("arith.cmpf", "f32", a, b, result="i1", properties=f"<{{predicate = {number} : i64}}>")
                assert got == answer, (number, a, b)


@pytest.mark.parametrize(
    ("op", "a", "b", "expected"),
    [
        ("maximumf", 1.0, NAN, NAN),
        ("maxnumf", 1.0, NAN, 1.0),
        ("minimumf", NAN, 1.0, NAN),
        ("minnumf", NAN, 1.0, 1.0),
        ("maximumf", -0.0, 0.0, 0.0),
        ("minimumf", 0.0, -0.0, -0.0),
        ("divf", 1.0, 0.0, INF),
        ("divf", 0.0, 0.0, NAN),
        ("addf", 1.0, 2.0**-24, 1.0),
    ],
)
def test_floats(apply, op, a, b, expected):
    got = apply(f"arith.{op}", "f32", a, b)
    assert np.array_equal(got, expected, equal_nan=True)
    assert math.copysign(1, got) == math.copysign(1, expected) or math.isnan(expected)


def test_every_operation_rounds_to_its_type(apply):
    assert apply("arith.addf", "f16", 2048.0, 1.0) == 2048.0
    assert apply("arith.addf", "bf16", 256.0, 1.0) == 256.0
    assert apply("arith.mulf", "f32", 0.1, 0.1) == float(np.float32(0.1) * np.float32(0.1))


@pytest.mark.parametrize(
    ("op", "source", "target", "value", "expected"),
    [
        ("extsi", "i8", "i32", -1, -1),
        ("extui", "i8", "i32", -1, 255),
        ("extsi", "i1", "i8", 1, -1),
        ("extui", "i1", "i64", 1, 1),
        ("trunci", "i32", "i8", 384, -128),
        ("trunci", "i32", "i1", 2, False),
        ("index_cast", "i32", "index", -5, -5),
        ("index_cast", "index", "i8", 257, 1),
        ("sitofp", "i1", "f32", 1, -1.0),
        ("uitofp", "i8", "f32", -1, 255.0),
        ("uitofp", "i64", "f64", -1, 2.0**64),
        ("fptosi", "f32", "i8", -3.9, -3),
        ("fptoui", "f32", "i8", 200.7, -56),
        ("fptoui", "f64", "i64", 2.0**63, -(2**63)),
        ("truncf", "f64", "f32", 0.1, float(np.float32(0.1))),
        ("truncf", "f32", "bf16", 1.01, float(ml_dtypes.bfloat16(1.01))),
        ("extf", "f16", "f64", 0.5, 0.5),
        ("bitcast", "f32", "i32", 1.0, 0x3F800000),
        ("bitcast", "i16", "bf16", 0x3F80, 1.0),
    ],
)
def test_conversions(apply, op, source, target, value, expected):
    assert apply(f"arith.{op}", [source], value, result=target) == expected


def test_extended_products_have_both_halves(run):
    text = """
    func.func @f(%a: i32, %b: i32) -> (i32, i32, i32, i32, i32, i1) {
      %0:2 = arith.mului_extended %a, %b : i32
      %1:2 = arith.mulsi_extended %a, %b : i32
      %2:2 = "arith.addui_extended"(%a, %b) : (i32, i32) -> (i32, i1)
      func.return %0#0, %0#1, %1#0, %1#1, %2#0, %2#1 : i32, i32, i32, i32, i32, i1
    }"""
    unsigned = (2**32 - 2) * 3
    assert run(text, -2, 3) == [-6, unsigned >> 32, -6, -1, 1, True]


def test_constants(run):
    text = """
    func.func @f() -> (tensor<3xi1>, tensor<2x3xbf16>, tensor<0xf32>, i8, tensor<2xf32>) {
      %a = arith.constant dense<[true, false, true]> : tensor<3xi1>
      %b = arith.constant dense<1.5> : tensor<2x3xbf16>
      %c = arith.constant dense<> : tensor<0xf32>
      %d = arith.constant 255 : i8
      %e = arith.constant dense_resource<weight> : tensor<2xf32>
      func.return %a, %b, %c, %d, %e : tensor<3xi1>, tensor<2x3xbf16>, tensor<0xf32>, i8, tensor<2xf32>
    }"""
    weight = np.array([1, 2], np.float32)
    a, b, c, d, e = run(text, resources={"weight": weight})
    assert a.tolist() == [True, False, True] and a.dtype == np.bool_
    assert b.shape == (2, 3) and b.dtype == ml_dtypes.bfloat16 and (b == 1.5).all()
    assert c.shape == (0,) and d == -1
    assert np.array_equal(e, weight)
    with pytest.raises(NotImplementedError, match="weight"):
        run(text)
