"""canonicalize, cse and dce: what remains, and that the numbers stay."""

import itertools
import math

import numpy as np
import pytest
from xdsl.context import Context
from xdsl.dialects import tensor
from xdsl.dialects.builtin import TensorType, f32
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import Block

from stepwell.lowering.linalg import shapes
from stepwell.lowering.linalg.canonicalize import Canonicalize
from stepwell.lowering.linalg.cse import Cse
from stepwell.lowering.linalg.dce import Dce
from stepwell.lowering.linalg.edit import Editor

ALL = (Canonicalize(), Cse(), Dce())


def names(module):
    return [op.name for op in module.walk() if op.name not in ("builtin.module", "func.func", "func.return")]


def body_of(arguments, result, text):
    return f"func.func @f({arguments}) -> {result} {{\n{text}\n}}"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("arith.addi %x, %zero : i64", "x"),
        ("arith.muli %x, %one : i64", "x"),
        ("arith.muli %zero, %x : i64", 0),
        ("arith.subi %x, %x : i64", 0),
        ("arith.floordivsi %minus, %three : i64", -3),
        ("arith.divsi %minus, %three : i64", -2),
        ("arith.remsi %minus, %three : i64", -1),
        ("arith.ceildivsi %minus, %three : i64", -2),
        ("arith.maxsi %minus, %three : i64", 3),
        ("arith.shrui %minus, %three : i64", (2**64 - 7) >> 3),
    ],
)
def test_integers(check, expression, expected):
    text = body_of("%x : i64", "i64", f"""
      %zero = arith.constant 0 : i64
      %one = arith.constant 1 : i64
      %three = arith.constant 3 : i64
      %minus = arith.constant -7 : i64
      %r = {expression}
      func.return %r : i64""")  # fmt: skip
    module = check(text, ALL, 41)
    assert names(module) == ([] if expected == "x" else ["arith.constant"])


@pytest.mark.parametrize("x", [0.0, -0.0, 1.5, math.inf, math.nan])
def test_float_identities_are_exact(check, x):
    text = body_of("%x : f32", "(f32, f32, f32, f32)", """
      %one = arith.constant 1.0 : f32
      %zero = arith.constant 0.0 : f32
      %minus = arith.constant -0.0 : f32
      %a = arith.mulf %x, %one : f32
      %b = arith.subf %a, %zero : f32
      %c = arith.addf %b, %minus : f32
      %keep = arith.addf %x, %zero : f32
      %keep2 = arith.mulf %x, %zero : f32
      %two = arith.constant 2.0 : f32
      %square = math.powf %x, %two : f32
      func.return %c, %keep, %keep2, %square : f32, f32, f32, f32""")  # fmt: skip
    module = check(text, ALL, np.float32(x))
    assert names(module) == ["arith.constant", "arith.addf", "arith.mulf", "arith.mulf"]


@pytest.mark.parametrize("predicate", ["oeq", "ogt", "ole", "one", "ord", "ueq", "ugt", "ule", "une", "uno"])
def test_float_comparisons(check, predicate):
    values = [1.0, 2.0, "0x7FC00000"]
    for a, b in itertools.product(values, values):
        text = body_of("", "i1", f"""
          %a = arith.constant {a} : f32
          %b = arith.constant {b} : f32
          %r = arith.cmpf {predicate}, %a, %b : f32
          func.return %r : i1""")  # fmt: skip
        assert names(check(text, ALL)) == ["arith.constant"]


@pytest.mark.parametrize("predicate", ["eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge"])
def test_integer_comparisons(check, predicate):
    for a, b in itertools.product([-3, 0, 5], repeat=2):
        text = body_of("", "i1", f"""
          %a = arith.constant {a} : i64
          %b = arith.constant {b} : i64
          %r = arith.cmpi {predicate}, %a, %b : i64
          func.return %r : i1""")  # fmt: skip
        assert names(check(text, ALL)) == ["arith.constant"]


def test_negative_index_of_a_size_is_settled(check):
    text = body_of("%t : tensor<?xf32>", "index", """
      %c0 = arith.constant 0 : index
      %n = tensor.dim %t, %c0 : tensor<?xf32>
      %negative = arith.cmpi slt, %n, %c0 : index
      %twice = arith.addi %n, %n : index
      %r = arith.select %negative, %twice, %n : index
      func.return %r : index""")  # fmt: skip
    assert names(check(text, ALL, np.ones(3, np.float32))) == ["arith.constant", "tensor.dim"]


def test_sizes_are_found_where_they_come_from(check):
    text = body_of("%t : tensor<?x4xf32>, %n : index", "(index, index, index, index)", """
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %zero = arith.constant 0.0 : f32
      %e = tensor.empty(%n) : tensor<?x4xf32>
      %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x4xf32>) -> tensor<?x4xf32>
      %a = tensor.dim %f, %c0 : tensor<?x4xf32>
      %b = tensor.dim %f, %c1 : tensor<?x4xf32>
      %c = tensor.collapse_shape %t [[0, 1]] : tensor<?x4xf32> into tensor<?xf32>
      %d = tensor.dim %c, %c0 : tensor<?xf32>
      %s = tensor.extract_slice %t[0, 0] [%n, 4] [1, 1] : tensor<?x4xf32> to tensor<?x4xf32>
      %g = tensor.dim %s, %c0 : tensor<?x4xf32>
      func.return %a, %b, %d, %g : index, index, index, index""")  # fmt: skip
    module = check(text, ALL, np.ones((3, 4), np.float32), 2)
    assert "linalg.fill" not in names(module) and names(module).count("tensor.dim") == 1


def test_reshape_chains(check):
    text = body_of("%t : tensor<2x3x4xf32>", "(tensor<6x4xf32>, tensor<2x3x4xf32>, tensor<4x6xf32>)", """
      %a = tensor.collapse_shape %t [[0, 1, 2]] : tensor<2x3x4xf32> into tensor<24xf32>
      %b = tensor.expand_shape %a [[0, 1]] output_shape [6, 4] : tensor<24xf32> into tensor<6x4xf32>
      %c = tensor.expand_shape %b [[0, 1], [2]] output_shape [2, 3, 4] : tensor<6x4xf32> into tensor<2x3x4xf32>
      %d = tensor.expand_shape %a [[0, 1]] output_shape [4, 6] : tensor<24xf32> into tensor<4x6xf32>
      func.return %b, %c, %d : tensor<6x4xf32>, tensor<2x3x4xf32>, tensor<4x6xf32>""")  # fmt: skip
    module = check(text, (*ALL, *ALL), np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    assert names(module) == ["tensor.collapse_shape", "tensor.collapse_shape", "tensor.expand_shape"]


def test_reshapes_of_dynamic_sizes(graph, check):
    g = graph(x=("n", "m", 8))
    b, (n, m, _) = g.builder, g["x"].sizes
    back = b.reshape(b.reshape(g["x"], [n * m, 8]), [n, m, 8])
    split = b.reshape(back, [n, m, 2, 4])
    module = check(g.returns(back, split), (*ALL, *ALL), np.arange(48, dtype=np.float32).reshape(2, 3, 8))
    assert [n for n in names(module) if n.startswith("tensor") and n != "tensor.dim"] == ["tensor.expand_shape"]


def test_any_static_reshape_takes_at_most_two_steps():
    shapes_of = {
        12: [(12,), (3, 4), (2, 6), (2, 3, 2), (1, 12), (12, 1), (1, 3, 1, 4, 1), (6, 1, 2), (4, 3), (1, 1, 12, 1)],
        1: [(1,), (1, 1), (1, 1, 1)],
        0: [(0,), (0, 3), (2, 0), (1, 0, 4)],
    }
    for group in shapes_of.values():
        for first, second in itertools.product(group, group):
            block = Block(arg_types=[TensorType(f32, first)])
            anchor = tensor.EmptyOp((), TensorType(f32, [1]))
            block.add_op(anchor)
            result = shapes.reshaped(block.args[0], second, Editor(anchor))
            assert result.type == TensorType(f32, second)
            ops = list(block.ops)[:-1]
            assert len(ops) <= 2
            for op in ops:
                op.verify()


def test_slices(check):
    text = body_of("%t : tensor<10x8xf32>", "(tensor<2x4xf32>, tensor<10x8xf32>, tensor<10x8xf32>)", """
      %a = tensor.extract_slice %t[2, 1] [6, 6] [1, 1] : tensor<10x8xf32> to tensor<6x6xf32>
      %b = tensor.extract_slice %a[1, 0] [2, 4] [2, 1] : tensor<6x6xf32> to tensor<2x4xf32>
      %c = tensor.extract_slice %t[0, 0] [10, 8] [1, 1] : tensor<10x8xf32> to tensor<10x8xf32>
      %c0 = arith.constant 0 : index
      %c10 = arith.constant 10 : index
      %d = tensor.insert_slice %c into %t[%c0, 0] [10, 8] [1, 1] : tensor<10x8xf32> into tensor<10x8xf32>
      func.return %b, %c, %d : tensor<2x4xf32>, tensor<10x8xf32>, tensor<10x8xf32>""")  # fmt: skip
    module = check(text, ALL, np.arange(80, dtype=np.float32).reshape(10, 8))
    assert names(module) == ["tensor.extract_slice"]


def test_control_flow(check):
    text = body_of("%x : i64, %c : i1, %n : index", "(i64, i64, i64, i64)", """
      %true = arith.constant true
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %one = arith.constant 1 : i64
      %a = scf.if %true -> (i64) {
        %s = arith.addi %x, %one : i64
        scf.yield %s : i64
      } else {
        scf.yield %x : i64
      }
      %b:3 = scf.if %c -> (i64, i64, i64) {
        scf.yield %x, %one, %a : i64, i64, i64
      } else {
        scf.yield %x, %a, %one : i64, i64, i64
      }
      %d = scf.for %i = %c0 to %c1 step %c1 iter_args(%v = %x) -> (i64) {
        %j = arith.index_cast %i : index to i64
        %w = arith.addi %v, %j : i64
        scf.yield %w : i64
      }
      %e:3 = scf.for %i = %c0 to %n step %c1 iter_args(%v = %x, %u = %one, %k = %one) -> (i64, i64, i64) {
        %w = arith.addi %v, %u : i64
        %l = arith.addi %k, %k : i64
        scf.yield %w, %u, %l : i64, i64, i64
      }
      func.return %a, %b#1, %d, %e#0 : i64, i64, i64, i64""")  # fmt: skip
    module = check(text, (*ALL, *ALL), 7, True, 4)
    loops = [op for op in module.walk() if op.name == "scf.for"]
    assert len(loops) == 1 and len(loops[0].results) == 1
    branches = [op for op in module.walk() if op.name == "scf.if"]
    assert len(branches) == 1 and len(branches[0].results) == 1


GENERIC = """
      %e = tensor.empty() : tensor<4x5xf32>
      %half = arith.constant dense<0.5> : tensor<5xf32>
      %r = linalg.generic {{indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>,
          affine_map<(d0, d1) -> (d1)>, affine_map<(d0, d1) -> (d0, d1)>],
          iterator_types = ["parallel", "parallel"]}}
          ins({inputs}, %half : tensor<4x5xf32>, tensor<4x5xf32>, tensor<5xf32>) outs(%e : tensor<4x5xf32>) {{
        ^bb0(%a: f32, %b: f32, %h: f32, %o: f32):
          %s = arith.addf %a, %b : f32
          %t = arith.mulf %s, %h : f32
          linalg.yield %t : f32
      }} -> tensor<4x5xf32>"""


def test_idle_inputs_of_generics(check):
    text = body_of("%x : tensor<4x5xf32>", "tensor<4x5xf32>",
                   GENERIC.format(inputs="%x, %x") + "\nfunc.return %r : tensor<4x5xf32>")  # fmt: skip
    module = check(text, ALL, np.arange(20, dtype=np.float32).reshape(4, 5))
    (op,) = [op for op in module.walk() if isinstance(op, GenericOp)]
    assert len(op.operands) == 2


def test_equal_generics_are_one(check):
    once = GENERIC.format(inputs="%x, %y")
    again = once.replace("%r", "%r2").replace("%e", "%e2").replace("%half", "%half2")
    text = body_of("%x : tensor<4x5xf32>, %y : tensor<4x5xf32>", "(tensor<4x5xf32>, tensor<4x5xf32>)",
                   once + again + "\nfunc.return %r, %r2 : tensor<4x5xf32>, tensor<4x5xf32>")  # fmt: skip
    x, y = np.random.default_rng(0).standard_normal((2, 4, 5)).astype(np.float32)
    assert names(check(text, ALL, x, y)).count("linalg.generic") == 1


def test_what_may_raise_is_kept(parse):
    text = """func.func @f(%c : i1) {
      %l = host.list_new : !host.list<i64>
      %z = arith.constant 0 : i64
      %v = host.list_get %l[%z] : !host.list<i64>
      scf.if %c {
        host.raise "builtins.ValueError", "no"
      }
      func.return
    }"""
    module = parse(text)
    for step in ALL:
        step.apply(module, Context())
    assert [n for n in names(module) if n.startswith("host")] == ["host.list_new", "host.list_get", "host.raise"]
