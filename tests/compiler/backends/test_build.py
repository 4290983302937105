"""Loops to native code and back to numpy: each program here is compared with numpy."""

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from xdsl.parser import Parser

from stepwell.compiler.backends.jit import compile_assembly, lower_module
from stepwell.compiler.backends.llvm_text import print_module
from stepwell.compiler.backends.target import host
from stepwell.dialects import context
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.runtime.function import NativeFunction

Build = Callable[..., NativeFunction]
RNG = np.random.default_rng(0)


def test_matmul_with_register_tiles(build: Build) -> None:
    function = build("""
    func.func @forward(%a: memref<8x32xf32>, %b: memref<32x16xf32>, %c: memref<8x16xf32> {host.kind = "output"}) {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c2 = arith.constant 2 : index
      %m = arith.constant 8 : index
      %k = arith.constant 32 : index
      %zero = arith.constant dense<0.0> : vector<16xf32>
      scf.for %i = %c0 to %m step %c2 {
        %i1 = arith.addi %i, %c1 : index
        %r:2 = scf.for %p = %c0 to %k step %c1 iter_args(%s = %zero, %t = %zero) -> (vector<16xf32>, vector<16xf32>) {
          %v = vector.load %b[%p, %c0] : memref<32x16xf32>, vector<16xf32>
          %x = memref.load %a[%i, %p] : memref<8x32xf32>
          %y = memref.load %a[%i1, %p] : memref<8x32xf32>
          %xv = vector.broadcast %x : f32 to vector<16xf32>
          %yv = vector.broadcast %y : f32 to vector<16xf32>
          %s1 = vector.fma %xv, %v, %s : vector<16xf32>
          %t1 = vector.fma %yv, %v, %t : vector<16xf32>
          scf.yield %s1, %t1 : vector<16xf32>, vector<16xf32>
        }
        vector.store %r#0, %c[%i, %c0] : memref<8x16xf32>, vector<16xf32>
        vector.store %r#1, %c[%i1, %c0] : memref<8x16xf32>, vector<16xf32>
      }
      func.return
    }""")
    a, b = RNG.standard_normal((8, 32), np.float32), RNG.standard_normal((32, 16), np.float32)
    np.testing.assert_allclose(function(a, b)[0], a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 64, 100])
def test_masked_tail(build: Build, size: int) -> None:
    function = build("""
    func.func @forward(%x: memref<?xf32>, %y: memref<?xf32> {host.kind = "output", host.shape = ["0.0"]}) {
      %c0 = arith.constant 0 : index
      %c8 = arith.constant 8 : index
      %n = memref.dim %x, %c0 : memref<?xf32>
      %zero = arith.constant dense<0.0> : vector<8xf32>
      scf.for %i = %c0 to %n step %c8 {
        %left = arith.subi %n, %i : index
        %mask = vector.create_mask %left : vector<8xi1>
        %v = vector.maskedload %x[%i], %mask, %zero : memref<?xf32>, vector<8xi1>, vector<8xf32> into vector<8xf32>
        %w = arith.mulf %v, %v : vector<8xf32>
        vector.maskedstore %y[%i], %mask, %w : memref<?xf32>, vector<8xi1>, vector<8xf32>
      }
      func.return
    }""")
    x = RNG.standard_normal(size, np.float32)
    np.testing.assert_array_equal(function(x)[0], x * x)


REDUCTIONS: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("add", "f32", np.sum), ("mul", "f64", np.prod), ("add", "i32", np.sum), ("and", "i64", np.bitwise_and.reduce),
    ("or", "i8", np.bitwise_or.reduce), ("xor", "i16", np.bitwise_xor.reduce), ("maxsi", "i32", np.max),
    ("minsi", "i64", np.min), ("maximumf", "f32", np.max), ("minimumf", "f64", np.min), ("maxnumf", "f32", np.max),
]  # fmt: skip
NUMPY = {"f32": np.float32, "f64": np.float64, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64}


@pytest.mark.parametrize(("kind", "element", "expected"), REDUCTIONS, ids=[f"{k}-{e}" for k, e, _ in REDUCTIONS])
def test_vector_reduction(build: Build, kind: str, element: str, expected: Callable[[Any], Any]) -> None:
    function = build(f"""
    func.func @forward(%x: memref<8x{element}>, %y: memref<1x{element}> {{host.kind = "output"}}) {{
      %c0 = arith.constant 0 : index
      %v = vector.load %x[%c0] : memref<8x{element}>, vector<8x{element}>
      %r = vector.reduction <{kind}>, %v : vector<8x{element}> into {element}
      memref.store %r, %y[%c0] : memref<1x{element}>
      func.return
    }}""")
    x = (RNG.standard_normal(8) * 3).astype(NUMPY[element])
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(function(x)[0][0], expected(x).astype(NUMPY[element]), rtol=1e-6)


@pytest.mark.parametrize("element", ["f32", "f64"])
@pytest.mark.parametrize(("name", "expected"), [("maximumf", np.maximum), ("minimumf", np.minimum)])
def test_limits_let_nan_pass(build: Build, element: str, name: str, expected: Callable[..., Any]) -> None:
    """relu and clamp: of a vector and a number, on either side."""
    function = build(f"""
    func.func @forward(%x: memref<16x{element}>, %y: memref<32x{element}> {{host.kind = "output"}}) {{
      %c0 = arith.constant 0 : index
      %c16 = arith.constant 16 : index
      %zero = arith.constant dense<0.0> : vector<16x{element}>
      %six = arith.constant 6.0 : {element}
      %sixes = vector.broadcast %six : {element} to vector<16x{element}>
      %v = vector.load %x[%c0] : memref<16x{element}>, vector<16x{element}>
      %a = arith.{name} %v, %zero : vector<16x{element}>
      %b = arith.{name} %sixes, %v : vector<16x{element}>
      vector.store %a, %y[%c0] : memref<32x{element}>, vector<16x{element}>
      vector.store %b, %y[%c16] : memref<32x{element}>, vector<16x{element}>
      func.return
    }}""")
    inf, nan = float("inf"), float("nan")
    x = np.array([nan, inf, -inf, 0.0, -0.0, 6, 7, -7, -nan, 1e-40, -1e-40, 3, 6.5, 5.5, nan, 1], NUMPY[element])
    np.testing.assert_array_equal(function(x)[0], np.concatenate([expected(x, 0), expected(x, 6)]))


def test_a_limit_is_one_instruction_on_x86() -> None:
    """x86's maximum gives its second operand where one is NaN, which is what is wanted of a number and a vector."""
    if host().architecture != "x86_64":
        pytest.skip("not this machine")
    module = Parser(context(), """
    func.func @forward(%x: memref<4xf32>, %y: memref<4xf32> {host.kind = "output"}) {
      %c0 = arith.constant 0 : index
      %zero = arith.constant dense<0.0> : vector<4xf32>
      %v = vector.load %x[%c0] : memref<4xf32>, vector<4xf32>
      %a = arith.maximumf %v, %zero : vector<4xf32>
      vector.store %a, %y[%c0] : memref<4xf32>, vector<4xf32>
      func.return
    }""").parse_module()
    text = compile_assembly(print_module(lower_module(module, host())), host())
    assert "maxps" in text and "cmpunord" not in text and "blend" not in text


def test_while_loop_over_scalars(build: Build) -> None:
    """Collatz: how many steps to 1."""
    function = build("""
    func.func @forward(%n: i64) -> i64 {
      %zero = arith.constant 0 : i64
      %one = arith.constant 1 : i64
      %two = arith.constant 2 : i64
      %three = arith.constant 3 : i64
      %r:2 = scf.while (%x = %n, %k = %zero) : (i64, i64) -> (i64, i64) {
        %go = arith.cmpi ne, %x, %one : i64
        scf.condition(%go) %x, %k : i64, i64
      } do {
      ^bb0(%x: i64, %k: i64):
        %rest = arith.remsi %x, %two : i64
        %even = arith.cmpi eq, %rest, %zero : i64
        %next = scf.if %even -> (i64) {
          %half = arith.divsi %x, %two : i64
          scf.yield %half : i64
        } else {
          %triple = arith.muli %x, %three : i64
          %plus = arith.addi %triple, %one : i64
          scf.yield %plus : i64
        }
        %k1 = arith.addi %k, %one : i64
        scf.yield %next, %k1 : i64, i64
      }
      func.return %r#1 : i64
    }""")
    assert function(27) == (111,)
    assert function(1) == (0,)


def test_raise_carries_type_message_and_values(build: Build) -> None:
    function = build("""
    func.func @forward(%x: memref<?xf32>, %limit: i64, %scale: f64, %flag: i1) -> f64 {
      %c0 = arith.constant 0 : index
      %n = memref.dim %x, %c0 : memref<?xf32>
      %m = arith.index_cast %n : index to i64
      %bad = arith.cmpi sgt, %m, %limit : i64
      %r = scf.if %bad -> (f64) {
        host.raise "builtins.ValueError", "size {} exceeds {} ({}, {}, {{}})"(%m, %limit, %scale, %flag : i64, i64, f64, i1)
        %u = host.undefined : f64
        scf.yield %u : f64
      } else {
        scf.yield %scale : f64
      }
      func.return %r : f64
    }""")
    assert function(np.zeros(3, np.float32), 3, 1.5, True) == (1.5,)
    with pytest.raises(ValueError, match=r"^size 4 exceeds 3 \(2.5, True, \{\}\)$"):
        function(np.zeros(4, np.float32), 3, 2.5, True)
    assert function(np.zeros(1, np.float32), 3, 7, False) == (7.0,)


def test_other_exceptions_are_runtime_errors_of_that_name(build: Build) -> None:
    function = build("""
    func.func @forward() {
      host.raise "somewhere.Trouble", "no"
      func.return
    }""")
    with pytest.raises(RuntimeError, match=r"^no$") as caught:
        function()
    assert type(caught.value).__name__ == "Trouble"


DIVIDED = """
func.func @forward(%x: memref<?xf32>, %y: memref<?xf32> {host.kind = "output", host.shape = ["0.0"]}) {
  func.call @work(%x, %y) : (memref<?xf32>, memref<?xf32>) -> ()
  func.call @work(%y, %y) {inplace} : (memref<?xf32>, memref<?xf32>) -> ()
  func.return
}
func.func private @work(%x: memref<?xf32>, %y: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = memref.dim %x, %c0 : memref<?xf32>
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %v = memref.load %x[%i] : memref<?xf32>
    %w = arith.addf %v, %v : f32
    memref.store %w, %y[%i] : memref<?xf32>
    scf.reduce
  }
  func.return
}"""


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("size", [0, 1, 2, 3, 1000])
def test_two_threads_divide_a_loop(build: Build, size: int) -> None:
    function = build(DIVIDED)
    assert function.layout.parallel
    x = RNG.standard_normal(size, np.float32)
    for _ in range(50):
        np.testing.assert_array_equal(function(x)[0], 4 * x)


@pytest.mark.usefixtures("two_threads")
def test_threads_see_each_others_work_after_a_barrier(build: Build) -> None:
    """Each thread reverses what the other wrote, many times over."""
    function = build("""
    func.func @forward(%x: memref<64xi64>, %y: memref<64xi64> {host.kind = "output"}, %rounds: i64) {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %n = arith.constant 64 : index
      %last = arith.constant 63 : index
      %count = arith.index_cast %rounds : i64 to index
      memref.copy %x, %y : memref<64xi64> to memref<64xi64>
      host.barrier
      %one = arith.constant 1 : i64
      scf.for %r = %c0 to %count step %c1 {
        %half = arith.constant 32 : index
        scf.parallel (%i) = (%c0) to (%half) step (%c1) {
          %j = arith.subi %last, %i : index
          %a = memref.load %y[%i] : memref<64xi64>
          %b = memref.load %y[%j] : memref<64xi64>
          %a1 = arith.addi %a, %one : i64
          memref.store %a1, %y[%j] : memref<64xi64>
          memref.store %b, %y[%i] : memref<64xi64>
          scf.reduce
        }
      }
      func.return
    }""")
    x = np.arange(64)
    for rounds in (1, 2, 501):
        expected = x.copy()
        for _ in range(rounds):
            expected = expected[::-1].copy()
            expected[32:] += 1
        np.testing.assert_array_equal(function(x, rounds)[0], expected)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("position", [0, 3, 99])
def test_one_thread_raises_in_its_chunk(build: Build, position: int) -> None:
    function = build("""
    func.func @forward(%x: memref<100xi64>, %y: memref<100xi64> {host.kind = "output"}) {
      func.call @gather(%x, %y) : (memref<100xi64>, memref<100xi64>) -> ()
      func.return
    }
    func.func private @gather(%x: memref<100xi64>, %y: memref<100xi64>) {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %n = arith.constant 100 : index
      %limit = arith.constant 100 : i64
      scf.parallel (%i) = (%c0) to (%n) step (%c1) {
        %v = memref.load %x[%i] : memref<100xi64>
        %bad = arith.cmpi uge, %v, %limit : i64
        scf.if %bad {
          host.raise "builtins.IndexError", "index {} is out of range"(%v : i64)
        }
        %at = arith.index_cast %v : i64 to index
        %w = memref.load %x[%at] : memref<100xi64>
        memref.store %w, %y[%i] : memref<100xi64>
        scf.reduce
      }
      func.return
    }""")
    good = RNG.permutation(100)
    bad = good.copy()
    bad[position] = 1234
    for _ in range(20):
        np.testing.assert_array_equal(function(good)[0], good[good])
        with pytest.raises(IndexError, match="index 1234 is out of range"):
            function(bad)


def test_strided_subviews(build: Build) -> None:
    function = build("""
    func.func @forward(%x: memref<6x8xf64>, %y: memref<2x4xf64> {host.kind = "output"}, %row: i64) {
      %r = arith.index_cast %row : i64 to index
      %s = memref.subview %x[%r, 1] [2, 4] [2, 2]
        : memref<6x8xf64> to memref<2x4xf64, strided<[16, 2], offset: ?>>
      memref.copy %s, %y : memref<2x4xf64, strided<[16, 2], offset: ?>> to memref<2x4xf64>
      func.return
    }""")
    x = RNG.standard_normal((6, 8))
    for row in (0, 1, 3):
        np.testing.assert_array_equal(function(x, row)[0], x[row : row + 4 : 2, 1:9:2])


def test_views_of_a_byte_arena(build: Build) -> None:
    function = build("""
    func.func @forward(%x: memref<4x4xf32>, %y: memref<16xf32> {host.kind = "output"},
                       %arena: memref<?xi8> {host.kind = "arena"}) attributes {host.arena_bytes = 256 : i64} {
      %c128 = arith.constant 128 : index
      %v = memref.view %arena[%c128][] : memref<?xi8> to memref<4x4xf32>
      memref.copy %x, %v : memref<4x4xf32> to memref<4x4xf32>
      %flat = memref.collapse_shape %v [[0, 1]] : memref<4x4xf32> into memref<16xf32>
      %wide = memref.expand_shape %flat [[0, 1, 2]] output_shape [2, 4, 2] : memref<16xf32> into memref<2x4x2xf32>
      %turned = memref.reinterpret_cast %wide to offset: [0], sizes: [4, 4], strides: [1, 4]
        : memref<2x4x2xf32> to memref<4x4xf32, strided<[1, 4]>>
      %out = memref.expand_shape %y [[0, 1]] output_shape [4, 4] : memref<16xf32> into memref<4x4xf32>
      memref.copy %turned, %out : memref<4x4xf32, strided<[1, 4]>> to memref<4x4xf32>
      func.return
    }""")
    x = RNG.standard_normal((4, 4), np.float32)
    np.testing.assert_array_equal(function(x)[0], x.T.ravel())


def test_bools_are_bytes(build: Build) -> None:
    function = build("""
    func.func @forward(%x: memref<16xi1>, %y: memref<16xi1> {host.kind = "output"}, %one: i1) -> i1 {
      %c0 = arith.constant 0 : index
      %v = vector.load %x[%c0] : memref<16xi1>, vector<16xi1>
      %t = vector.broadcast %one : i1 to vector<16xi1>
      %w = arith.xori %v, %t : vector<16xi1>
      vector.store %w, %y[%c0] : memref<16xi1>, vector<16xi1>
      %first = memref.load %x[%c0] : memref<16xi1>
      func.return %first : i1
    }""")
    x = RNG.random(16) < 0.5
    y, first = function(x, True)
    np.testing.assert_array_equal(y, ~x)
    assert first is bool(x[0])


def test_half_formats_are_stored_and_converted(build: Build) -> None:
    function = build("""
    func.func @forward(%x: memref<16xf32>, %h: memref<16xf16> {host.kind = "output"},
                       %b: memref<16xbf16> {host.kind = "output"}, %back: memref<16xf32> {host.kind = "output"}) {
      %c0 = arith.constant 0 : index
      %v = vector.load %x[%c0] : memref<16xf32>, vector<16xf32>
      %vh = arith.truncf %v : vector<16xf32> to vector<16xf16>
      vector.store %vh, %h[%c0] : memref<16xf16>, vector<16xf16>
      %vb = arith.truncf %v : vector<16xf32> to vector<16xbf16>
      vector.store %vb, %b[%c0] : memref<16xbf16>, vector<16xbf16>
      %h2 = arith.extf %vh : vector<16xf16> to vector<16xf32>
      %b2 = arith.extf %vb : vector<16xbf16> to vector<16xf32>
      %s = arith.addf %h2, %b2 : vector<16xf32>
      vector.store %s, %back[%c0] : memref<16xf32>, vector<16xf32>
      func.return
    }""")
    x = np.array(
        [0, -0.0, 1, 1.0009765, 3.14159, 65504, 1e-6, -2.5, np.inf, -np.inf, np.nan, 1e-40, 7, 8, 9, 257.5], "f"
    )
    half, brain, back = function(x)
    np.testing.assert_array_equal(half, x.astype(np.float16))
    np.testing.assert_array_equal(brain.astype("f"), x.astype(ml_dtypes.bfloat16).astype("f"))
    expected = x.astype(np.float16).astype("f") + x.astype(ml_dtypes.bfloat16).astype("f")
    np.testing.assert_array_equal(back, expected)


def test_integer_division_rounds_as_asked(build: Build) -> None:
    function = build("""
    func.func @forward(%a: memref<8xi64>, %b: memref<8xi64>, %y: memref<4x8xi64> {host.kind = "output"}) {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c2 = arith.constant 2 : index
      %c3 = arith.constant 3 : index
      %n = arith.constant 8 : index
      scf.for %i = %c0 to %n step %c1 {
        %p = memref.load %a[%i] : memref<8xi64>
        %q = memref.load %b[%i] : memref<8xi64>
        %f = arith.floordivsi %p, %q : i64
        %u = arith.ceildivsi %p, %q : i64
        %d = arith.divsi %p, %q : i64
        %r = arith.remsi %p, %q : i64
        memref.store %f, %y[%c0, %i] : memref<4x8xi64>
        memref.store %u, %y[%c1, %i] : memref<4x8xi64>
        memref.store %d, %y[%c2, %i] : memref<4x8xi64>
        memref.store %r, %y[%c3, %i] : memref<4x8xi64>
      }
      func.return
    }""")
    a, b = np.array([7, -7, 7, -7, 6, -6, 0, 5]), np.array([2, 2, -2, -2, 3, 3, 4, -9])
    floor, ceil, cut, rest = function(a, b)[0]
    np.testing.assert_array_equal(floor, a // b)
    np.testing.assert_array_equal(ceil, -(-a // b))
    np.testing.assert_array_equal(cut, np.trunc(a / b))
    np.testing.assert_array_equal(rest, np.fmod(a, b))


def test_shuffles_and_lanes(build: Build) -> None:
    function = build("""
    func.func @forward(%x: memref<4xi32>, %z: memref<8xi32>, %y: memref<8xi32> {host.kind = "output"}, %lane: i64) -> i32 {
      %c0 = arith.constant 0 : index
      %a = vector.load %x[%c0] : memref<4xi32>, vector<4xi32>
      %b = vector.load %z[%c0] : memref<8xi32>, vector<8xi32>
      %s = vector.shuffle %a, %b [0, 4, 1, 5, 2, 11, 3, 7] : vector<4xi32>, vector<8xi32>
      %l = arith.index_cast %lane : i64 to index
      %e = vector.extract %a[%l] : i32 from vector<4xi32>
      %t = vector.insert %e, %s[7] : i32 into vector<8xi32>
      vector.store %t, %y[%c0] : memref<8xi32>, vector<8xi32>
      func.return %e : i32
    }""")
    x, z = np.arange(4, dtype=np.int32), np.arange(10, 18, dtype=np.int32)
    y, e = function(x, z, 2)
    np.testing.assert_array_equal(y, [0, 10, 1, 11, 2, 17, 3, 2])
    assert e == 2


def test_gather_and_scatter(build: Build) -> None:
    function = build("""
    func.func @forward(%x: memref<?xf32>, %at: memref<8xi64>, %y: memref<16xf32> {host.kind = "output"}) {
      %c0 = arith.constant 0 : index
      %c8 = arith.constant 8 : index
      %zero = arith.constant dense<-1.0> : vector<8xf32>
      %off = arith.constant dense<[true, true, true, true, true, true, true, false]> : vector<8xi1>
      %all = arith.constant dense<true> : vector<8xi1>
      %i = vector.load %at[%c0] : memref<8xi64>, vector<8xi64>
      %v = vector.gather %x[%c0] [%i], %off, %zero
        : memref<?xf32>, vector<8xi64>, vector<8xi1>, vector<8xf32> into vector<8xf32>
      vector.store %v, %y[%c0] : memref<16xf32>, vector<8xf32>
      %step = vector.step : vector<8xindex>
      vector.scatter %y[%c8] [%step], %all, %v : memref<16xf32>, vector<8xindex>, vector<8xi1>, vector<8xf32>
      func.return
    }""")
    x, at = RNG.standard_normal(50, np.float32), RNG.integers(0, 50, 8)
    expected = x[at]
    expected[7] = -1
    np.testing.assert_array_equal(function(x, at)[0], np.concatenate([expected, expected]))


def test_index_switch_and_table(build: Build) -> None:
    function = build("""
    "memref.global"() <{sym_name = "table", sym_visibility = "private", type = memref<3xf64>, constant,
      initial_value = dense<[1.5, 2.5, -3.5]> : tensor<3xf64>}> : () -> ()
    func.func @forward(%which: i64) -> f64 {
      %c0 = arith.constant 0 : index
      %t = memref.get_global @table : memref<3xf64>
      %w = arith.index_cast %which : i64 to index
      %r = scf.index_switch %w -> f64
      case 0 {
        %v = memref.load %t[%c0] : memref<3xf64>
        scf.yield %v : f64
      }
      case 2 {
        %v = memref.load %t[%w] : memref<3xf64>
        scf.yield %v : f64
      }
      default {
        %v = arith.constant 9.0 : f64
        scf.yield %v : f64
      }
      func.return %r : f64
    }""")
    assert [function(i)[0] for i in (0, 1, 2, 3)] == [1.5, 9.0, -3.5, 9.0]


ALLOCATES = """
func.func @forward(%n: i64, %limit: i64) -> (memref<?xi64>, i64) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = arith.index_cast %n : i64 to index
  %unused = host.alloc(%m) : memref<?xi64>
  %gone = host.alloc(%m) : memref<?xi64>
  %y = host.alloc(%m) : memref<?xi64>
  host.free %gone : memref<?xi64>
  scf.parallel (%i) = (%c0) to (%m) step (%c1) {
    %v = arith.index_cast %i : index to i64
    %w = arith.muli %v, %v : i64
    memref.store %w, %y[%i] : memref<?xi64>
    scf.reduce
  }
  %bad = arith.cmpi sgt, %n, %limit : i64
  scf.if %bad {
    host.raise "builtins.OverflowError", "{}"(%n : i64)
  }
  func.return %y, %n : memref<?xi64>, i64
}"""


@pytest.mark.parametrize("count", [1, 2])
def test_buffers_that_the_program_allocates(build: Build, count: int) -> None:
    from stepwell.runtime import threads

    before = threads.get_num_threads()
    threads.set_num_threads(count)
    try:
        function = build(ALLOCATES)
        for n in (0, 1, 5, 1000):
            y, m = function(n, 5000)
            np.testing.assert_array_equal(y, np.arange(n) ** 2)
            assert m == n and y.ctypes.data % 64 == 0
        with pytest.raises(OverflowError, match="9"):
            function(9, 8)
        with pytest.raises(MemoryError, match="out of memory"):
            function(1 << 58, 8)
    finally:
        threads.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_reserve_grows_the_arena(build: Build) -> None:
    function = build("""
    func.func @forward(%x: memref<?xf64>, %y: memref<?xf64> {host.kind = "output", host.shape = ["0.0"]},
                       %arena: memref<?xi8> {host.kind = "arena"}) attributes {host.arena_bytes = 64 : i64} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c8 = arith.constant 8 : index
      %n = memref.dim %x, %c0 : memref<?xf64>
      %bytes = arith.muli %n, %c8 : index
      %space = host.reserve %bytes : memref<?xi8>
      %t = memref.view %space[%c0][%n] : memref<?xi8> to memref<?xf64>
      scf.parallel (%i) = (%c0) to (%n) step (%c1) {
        %v = memref.load %x[%i] : memref<?xf64>
        memref.store %v, %t[%i] : memref<?xf64>
        scf.reduce
      }
      scf.parallel (%i) = (%c0) to (%n) step (%c1) {
        %last = arith.subi %n, %c1 : index
        %j = arith.subi %last, %i : index
        %v = memref.load %t[%j] : memref<?xf64>
        memref.store %v, %y[%i] : memref<?xf64>
        scf.reduce
      }
      func.return
    }""")
    for n in (4, 1000, 8, 100_000, 1):
        x = RNG.standard_normal(n)
        np.testing.assert_array_equal(function(x)[0], x[::-1])


def test_memrefs_carried_through_loops_and_branches(build: Build) -> None:
    """Two buffers change places in each round; the dynamic size goes along."""
    function = build("""
    func.func @forward(%x: memref<?xi64>, %z: memref<?xi64>, %rounds: i64) -> i64 {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %n = arith.index_cast %rounds : i64 to index
      %r:2 = scf.for %i = %c0 to %n step %c1 iter_args(%a = %x, %b = %z) -> (memref<?xi64>, memref<?xi64>) {
        scf.yield %b, %a : memref<?xi64>, memref<?xi64>
      }
      %size = memref.dim %r#0, %c0 : memref<?xi64>
      %s = arith.index_cast %size : index to i64
      %three = arith.constant 3 : i64
      %big = arith.cmpi sgt, %s, %three : i64
      %chosen = scf.if %big -> (memref<?xi64>) {
        scf.yield %r#0 : memref<?xi64>
      } else {
        scf.yield %r#1 : memref<?xi64>
      }
      %picked = arith.select %big, %chosen, %r#1 : memref<?xi64>
      %v = memref.load %picked[%c0] : memref<?xi64>
      %out = arith.addi %v, %s : i64
      func.return %out : i64
    }""")
    x, z = np.array([100, 0]), np.array([200, 0, 0, 0])
    assert function(x, z, 0) == (202,)
    assert function(x, z, 1) == (204,)


def test_constants_and_private_numbers(build: Build) -> None:
    function = build(
        """
    func.func @forward(%x: f64, %w: memref<3xf64> {host.kind = "constant", host.name = "weights"}) -> f64 {
      %c2 = arith.constant 2 : index
      %s = func.call @twice(%x) : (f64) -> f64
      %v = memref.load %w[%c2] : memref<3xf64>
      %r = arith.addf %s, %v : f64
      func.return %r : f64
    }
    func.func private @twice(%x: f64) -> f64 {
      %r = arith.addf %x, %x : f64
      func.return %r : f64
    }""",
        constants={"weights": np.array([1.0, 2.0, 3.0])},
    )
    assert function(10.0) == (23.0,)


def test_profile_counts_kernels(build: Build) -> None:
    function = build(DIVIDED, profile=True)
    assert function.profile is not None
    from stepwell.runtime.profile import Stopwatch

    with Stopwatch(function.profile):
        for _ in range(3):
            function(np.ones(10000, np.float32))
    times = {entry.name: entry for entry in function.profile.times()}
    assert times["work"].calls == 6 and times["forward"].calls == 3
    assert 0 < times["work"].seconds <= times["forward"].seconds


def test_an_op_without_lowering_is_named(build: Build) -> None:
    with pytest.raises(UnsupportedError, match=r"memref\.alloc "):
        build("""
        func.func @forward() {
          %m = memref.alloc() : memref<4xf32>
          func.return
        }""")


@pytest.mark.parametrize("program", [DIVIDED, ALLOCATES], ids=["divided", "allocates"])
def test_mlir_opt_reads_the_llvm_level(readable: Callable[[str], str], program: str) -> None:
    tool = shutil.which("mlir-opt-22") or shutil.which("/usr/lib/llvm-22/bin/mlir-opt")
    if tool is None:
        pytest.skip("mlir-opt 22 is not installed")
    lowered = lower_module(Parser(context(), readable(program)).parse_module(), host(), profile=True)
    done = subprocess.run([tool], input=str(lowered), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("element", "lanes"), [("f32", 1), ("f64", 1), ("f32", 8)])
def test_remainder_is_exact(build: Build, element: str, lanes: int) -> None:
    kind = element if lanes == 1 else f"vector<{lanes}x{element}>"
    access = "memref" if lanes == 1 else "vector"
    suffix = "" if lanes == 1 else f", {kind}"
    function = build(f"""
    func.func @forward(%a: memref<64x{element}>, %b: memref<64x{element}>,
                       %y: memref<64x{element}> {{host.kind = "output"}}) {{
      %c0 = arith.constant 0 : index
      %step = arith.constant {lanes} : index
      %n = arith.constant 64 : index
      scf.for %i = %c0 to %n step %step {{
        %p = {access}.load %a[%i] : memref<64x{element}>{suffix}
        %q = {access}.load %b[%i] : memref<64x{element}>{suffix}
        %r = arith.remf %p, %q : {kind}
        {access}.store %r, %y[%i] : memref<64x{element}>{suffix}
      }}
      func.return
    }}""")
    a, b = ((RNG.standard_normal(64) * scale).astype(NUMPY[element]) for scale in (1e6, 3))
    np.testing.assert_array_equal(function(a, b)[0], np.fmod(a, b))


def test_unsigned_bytes_are_named_by_the_entry(build: Build) -> None:
    function = build("""
    func.func @forward(%x: memref<4xi8> {host.dtype = "uint8"}, %y: memref<4xi8> {host.kind = "output", host.dtype = "uint8"},
                       %z: memref<4xf32> {host.kind = "output"}) {
      memref.copy %x, %y : memref<4xi8> to memref<4xi8>
      %c0 = arith.constant 0 : index
      %v = vector.load %x[%c0] : memref<4xi8>, vector<4xi8>
      %w = arith.extui %v : vector<4xi8> to vector<4xi32>
      %f = arith.sitofp %w : vector<4xi32> to vector<4xf32>
      vector.store %f, %z[%c0] : memref<4xf32>, vector<4xf32>
      func.return
    }""")
    x = np.array([0, 1, 200, 255], np.uint8)
    y, z = function(x)
    assert isinstance(y, np.ndarray) and y.dtype == np.uint8
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(z, x.astype("f"))
