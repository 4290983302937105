"""Control flow, calls, exceptions and their locations."""

import traceback

import numpy as np
import pytest

from stepwell.compiler.interpreter import InterpreterError, Machine


def test_for_carries_values_in_parallel(run):
    text = """
    func.func @f(%n: index) -> (i64, i64) {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %zero = arith.constant 0 : i64
      %one = arith.constant 1 : i64
      %r:2 = scf.for %i = %c0 to %n step %c1 iter_args(%a = %zero, %b = %one) -> (i64, i64) {
        %s = arith.addi %a, %b : i64
        scf.yield %b, %s : i64, i64
      }
      func.return %r#0, %r#1 : i64, i64
    }"""
    assert run(text, 10) == [55, 89]
    assert run(text, 0) == [0, 1]


def test_while_counts_collatz_steps(run):
    text = """
    func.func @f(%start: i64) -> i64 {
      %zero = arith.constant 0 : i64
      %one = arith.constant 1 : i64
      %two = arith.constant 2 : i64
      %three = arith.constant 3 : i64
      %r:2 = scf.while (%n = %start, %k = %zero) : (i64, i64) -> (i64, i64) {
        %more = arith.cmpi ne, %n, %one : i64
        scf.condition(%more) %n, %k : i64, i64
      } do {
      ^bb0(%n: i64, %k: i64):
        %rest = arith.remsi %n, %two : i64
        %odd = arith.cmpi eq, %rest, %one : i64
        %next = scf.if %odd -> (i64) {
          %a = arith.muli %n, %three : i64
          %b = arith.addi %a, %one : i64
          scf.yield %b : i64
        } else {
          %h = arith.divsi %n, %two : i64
          scf.yield %h : i64
        }
        %k1 = arith.addi %k, %one : i64
        scf.yield %next, %k1 : i64, i64
      }
      func.return %r#1 : i64
    }"""
    assert run(text, 27) == [111]
    assert run(text, 1) == [0]


def test_index_switch_and_execute_region(run):
    text = """
    func.func @f(%i: index) -> i32 {
      %r = scf.index_switch %i -> i32
      case 2 {
        %a = arith.constant 20 : i32
        scf.yield %a : i32
      }
      case 5 {
        %a = arith.constant 50 : i32
        scf.yield %a : i32
      }
      default {
        %a = scf.execute_region -> (i32) {
          %b = arith.constant -1 : i32
          scf.yield %b : i32
        }
        scf.yield %a : i32
      }
      func.return %r : i32
    }"""
    assert [run(text, i)[0] for i in (2, 5, 7)] == [20, 50, -1]


def test_parallel_reduces(run):
    text = """
    func.func @f(%n: index) -> i64 {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c2 = arith.constant 2 : index
      %zero = arith.constant 0 : i64
      %r = "scf.parallel"(%c0, %c0, %n, %n, %c1, %c2, %zero)
        <{operandSegmentSizes = array<i32: 2, 2, 2, 1>}> ({
      ^bb0(%i: index, %j: index):
        %p = arith.muli %i, %j : index
        %q = arith.index_cast %p : index to i64
        "scf.reduce"(%q) ({
        ^bb1(%a: i64, %b: i64):
          %s = arith.addi %a, %b : i64
          "scf.reduce.return"(%s) : (i64) -> ()
        }) : (i64) -> ()
      }) : (index, index, index, index, index, index, i64) -> i64
      func.return %r : i64
    }"""
    assert run(text, 5) == [sum(i * j for i in range(5) for j in range(0, 5, 2))]


@pytest.mark.parametrize("depth", [3, 30])
def test_deep_loop_nests(run, depth):
    body = "%s = arith.addi %acc, %one : i64\nscf.yield %s : i64\n"
    for level in range(depth):
        inner = f"acc{level}" if level else "acc"
        outer = f"acc{level + 1}"
        body = f"""
        %r{level} = scf.for %i{level} = %c0 to %n step %c1 iter_args(%{inner} = %{outer}) -> (i64) {{
          {body}
        }}
        scf.yield %r{level} : i64
        """
    body = body.rsplit("scf.yield", 1)[0]
    text = f"""
    func.func @f(%n: index) -> i64 {{
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %one = arith.constant 1 : i64
      %acc{depth} = arith.constant 5 : i64
      {body}
      func.return %r{depth - 1} : i64
    }}"""
    assert run(text, 1) == [6]
    if depth == 3:
        assert run(text, 3) == [5 + 27]


def test_calls_and_recursion(run):
    text = """
    func.func private @sum(%n: i64) -> i64 {
      %zero = arith.constant 0 : i64
      %one = arith.constant 1 : i64
      %done = arith.cmpi eq, %n, %zero : i64
      %r = scf.if %done -> (i64) {
        scf.yield %zero : i64
      } else {
        %m = arith.subi %n, %one : i64
        %s = func.call @sum(%m) : (i64) -> i64
        %t = arith.addi %s, %n : i64
        scf.yield %t : i64
      }
      func.return %r : i64
    }
    func.func @f(%n: i64) -> i64 {
      %r = func.call @sum(%n) : (i64) -> i64
      func.return %r : i64
    }"""
    assert run(text, 10) == [55]


def test_blocks(run):
    text = """
    func.func @f(%n: i64) -> i64 {
      %zero = arith.constant 0 : i64
      %one = arith.constant 1 : i64
      cf.br ^loop(%zero, %zero : i64, i64)
    ^loop(%i: i64, %s: i64):
      %more = arith.cmpi slt, %i, %n : i64
      cf.cond_br %more, ^body, ^end(%s : i64)
    ^body:
      %t = arith.addi %s, %i : i64
      %j = arith.addi %i, %one : i64
      cf.br ^loop(%j, %t : i64, i64)
    ^end(%r: i64):
      func.return %r : i64
    }"""
    assert run(text, 10) == [45]


def test_program_exceptions_are_pythons_own_and_located(run):
    text = """
    func.func @f(%n: i64, %x: f64) -> i64 {
      %zero = arith.constant 0 : i64
      %bad = arith.cmpi slt, %n, %zero : i64
      %r = scf.if %bad -> (i64) {
        host.raise "builtins.ValueError", "size {} and {} in {{}}"(%n, %x : i64, f64) loc("model.py":7:5)
        %u = host.undefined : i64
        scf.yield %u : i64
      } else {
        scf.yield %n : i64
      }
      func.return %r : i64
    }"""
    assert run(text, 3, 0.5) == [3]
    with pytest.raises(ValueError, match=r"^size -3 and 0.5 in \{\}") as caught:
        run(text, -3, 0.5)
    assert "at model.py:7:5" in "".join(traceback.format_exception(caught.value))


def test_own_exception_classes_keep_their_names(run):
    text = """
    func.func @f() {
      host.raise "archive.errors.TooLong", "no"
      func.return
    }"""
    with pytest.raises(RuntimeError, match="no") as caught:
        run(text)
    assert type(caught.value).__qualname__ == "TooLong" and type(caught.value).__module__ == "archive.errors"


def test_errors_name_the_op_and_its_place(run):
    text = """
    func.func @f(%a: tensor<3xf32>, %i: index) -> f32 {
      %r = tensor.extract %a[%i] : tensor<3xf32> loc("model.py":3:9)
      func.return %r : f32
    }"""
    with pytest.raises(InterpreterError, match=r"tensor.extract .* at model.py:3:9: index 3 is out of bounds"):
        run(text, np.zeros(3, np.float32), 3)


def test_arguments_are_checked(run, parse):
    text = """
    func.func @f(%a: tensor<2x?xf32>) -> tensor<2x?xf32> {
      func.return %a : tensor<2x?xf32>
    }"""
    with pytest.raises(TypeError, match="float32"):
        run(text, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="shape"):
        run(text, np.zeros((3, 3), np.float32))
    with pytest.raises(TypeError, match="1 arguments"):
        run(text)
    machine = Machine(parse(text))
    x = np.ones((2, 5), np.float32)
    assert np.array_equal(machine.call("f", [x])[0], x)


def test_unknown_ops_are_named(run):
    with pytest.raises(NotImplementedError, match=r"torch\.aten\.relu|gpu"):
        run('func.func @f() {\n "gpu.barrier"() : () -> ()\n func.return\n}')
