"""fuse-elementwise: which generics are left, and that the numbers stay."""

import numpy as np
import pytest
from xdsl.dialects.linalg.ops import GenericOp

from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.canonicalize import Canonicalize
from stepwell.lowering.linalg.cse import Cse
from stepwell.lowering.linalg.dce import Dce
from stepwell.lowering.linalg.fuse_elementwise import FuseElementwise

PASSES = (Canonicalize(), Cse(), Dce(), FuseElementwise(), Canonicalize(), Cse(), Dce())

BINARY = """
  %{r}e = tensor.empty() : {type}
  %{r} = linalg.generic {{indexing_maps = [affine_map<{dims} -> {left}>, affine_map<{dims} -> {right}>,
      affine_map<{dims} -> {dims}>], iterator_types = [{iterators}]}}
      ins(%{a}, %{b} : {atype}, {btype}) outs(%{r}e : {type}) {{
    ^bb0(%p: f32, %q: f32, %o: f32):
      %s = {op} %p, %q : f32
      linalg.yield %s : f32
  }} -> {type}
"""

UNARY = """
  %{r}e = tensor.empty() : {type}
  %{r} = linalg.generic {{indexing_maps = [affine_map<{dims} -> {read}>, affine_map<{dims} -> {dims}>],
      iterator_types = [{iterators}]}}
      ins(%{a} : {atype}) outs(%{r}e : {type}) {{
    ^bb0(%p: f32, %o: f32):
      {body}
      linalg.yield %s : f32
  }} -> {type}
"""

REDUCE = """
  %{r}z = arith.constant 0.0 : f32
  %{r}e = tensor.empty() : {type}
  %{r}i = linalg.fill ins(%{r}z : f32) outs(%{r}e : {type}) -> {type}
  %{r} = linalg.generic {{indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
      iterator_types = ["parallel", "reduction"]}} ins(%{a} : {atype}) outs(%{r}i : {type}) {{
    ^bb0(%p: f32, %o: f32):
      %s = arith.addf %o, %p : f32
      linalg.yield %s : f32
  }} -> {type}
"""

MATMUL = """
  %{r}z = arith.constant 0.0 : f32
  %{r}e = tensor.empty() : {type}
  %{r}i = linalg.fill ins(%{r}z : f32) outs(%{r}e : {type}) -> {type}
  %{r} = linalg.generic {{indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d2)>,
      affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>],
      iterator_types = ["parallel", "parallel", "reduction"]}}
      ins(%{a}, %{b} : {atype}, {btype}) outs(%{r}i : {type}) {{
    ^bb0(%p: f32, %q: f32, %o: f32):
      %m = arith.mulf %p, %q : f32
      %s = arith.addf %o, %m : f32
      linalg.yield %s : f32
  }} -> {type}
"""


def tensor_type(*shape):
    return f"tensor<{''.join(f'{s}x' for s in shape)}f32>"


def space(rank):
    return f"({', '.join(f'd{i}' for i in range(rank))})", ", ".join(['"parallel"'] * rank)


def binary(r, a, b, shape, left=None, right=None, atype=None, btype=None, op="arith.addf"):
    dims, iterators = space(len(shape))
    t = tensor_type(*shape)
    return BINARY.format(
        r=r, a=a, b=b, dims=dims, iterators=iterators, left=left or dims, right=right or dims, type=t,
        atype=atype or t, btype=btype or t, op=op,
    )  # fmt: skip


def unary(r, a, shape, read=None, atype=None, body="%s = math.exp %p : f32"):
    dims, iterators = space(len(shape))
    t = tensor_type(*shape)
    return UNARY.format(
        r=r, a=a, dims=dims, iterators=iterators, read=read or dims, type=t, atype=atype or t, body=body
    )


def function(arguments, results, text):
    names = ", ".join(f"%{n}" for n in results)
    types = ", ".join(results.values())
    return f"""func.func @f({", ".join(f"%{n} : {t}" for n, t in arguments.items())}) -> ({types}) {{
    {text}
    func.return {names} : {types}
    }}"""


def generics(module):
    return [op for op in module.walk() if isinstance(op, GenericOp)]


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


COPY = "%s = arith.mulf %p, %p : f32"


def test_chain_becomes_one(check):
    t = tensor_type(4, 5)
    text = function(
        {"x": t, "y": t}, {"c": t},
        unary("a", "x", (4, 5)) + binary("b", "a", "y", (4, 5)) + unary("c", "b", (4, 5)),
    )  # fmt: skip
    module = check(text, PASSES, array(4, 5), array(4, 5, seed=1))
    (op,) = generics(module)
    assert len(op.operands) == 3


def test_transposes_and_broadcasts_become_maps(check):
    t = tensor_type(4, 5)
    text = function(
        {"x": tensor_type(5, 4), "y": tensor_type(5)}, {"c": t},
        unary("a", "x", (4, 5), read="(d1, d0)", atype=tensor_type(5, 4))
        + binary("c", "a", "y", (4, 5), right="(d1)", btype=tensor_type(5)),
    )  # fmt: skip
    (op,) = generics(check(text, PASSES, array(5, 4), array(5, seed=1)))
    assert str(op.indexing_maps.data[0].data) == "(d0, d1) -> (d1, d0)"


def test_dear_results_read_often_are_kept(check):
    t, v = tensor_type(4, 5), tensor_type(5)
    text = function(
        {"x": t, "y": v}, {"c": t},
        unary("a", "y", (5,)) + binary("c", "x", "a", (4, 5), right="(d1)", btype=v),
    )  # fmt: skip
    assert len(generics(check(text, PASSES, array(4, 5), array(5)))) == 2


def test_results_with_two_readers_are_kept_unless_free(check):
    t = tensor_type(4, 5)
    for body, left in (("%s = math.exp %p : f32", 3), ("%s = arith.negf %p : f32", 2)):
        text = function(
            {"x": t}, {"b": t, "c": t},
            unary("a", "x", (4, 5), body=body) + unary("b", "a", (4, 5), body="%s = math.log %p : f32")
            + unary("c", "a", (4, 5), body="%s = math.sqrt %p : f32"),
        )  # fmt: skip
        assert len(generics(check(text, PASSES, array(4, 5)))) == left


def test_producers_go_into_reductions(check):
    t, v = tensor_type(4, 5), tensor_type(4)
    text = function({"x": t}, {"s": v}, unary("a", "x", (4, 5)) + REDUCE.format(r="s", a="a", type=v, atype=t))
    (op,) = generics(check(text, PASSES, array(4, 5), rtol=1e-6))
    assert structure.rows(op) is not None and structure.reduction(op) is not None


@pytest.mark.parametrize("transposed", [True, False])
def test_only_permutations_go_into_contractions(check, transposed):
    a, b, c = tensor_type(4, 6), tensor_type(6, 5), tensor_type(4, 5)
    if transposed:
        first = unary("w", "x", (6, 5), "(d1, d0)", tensor_type(5, 6), body="%s = arith.addf %p, %p : f32")
        first = first.replace("%s = arith.addf %p, %p : f32\n      linalg.yield %s", "linalg.yield %p")
        x = array(5, 6)
    else:
        first, x = unary("w", "x", (6, 5)), array(6, 5)
    text = function(
        {"y": a, "x": tensor_type(*x.shape)}, {"m": c},
        first + MATMUL.format(r="m", a="y", b="w", type=c, atype=a, btype=b),
    )  # fmt: skip
    found = generics(check(text, PASSES, array(4, 6), x, rtol=1e-6))
    assert len(found) == (1 if transposed else 2)
    assert structure.contraction(found[-1]) is not None


def test_slices_and_ones_become_maps(check):
    t = tensor_type(4, 5)
    text = function(
        {"x": tensor_type(4, 20), "y": tensor_type(4)}, {"c": t},
        f"""
        %a = tensor.extract_slice %x[0, 5] [4, 5] [1, 1] : {tensor_type(4, 20)} to {t}
        %b = tensor.extract_slice %x[0, 1] [4, 5] [1, 3] : {tensor_type(4, 20)} to {t}
        %z = tensor.expand_shape %y [[0, 1]] output_shape [4, 1] : {tensor_type(4)} into {tensor_type(4, 1)}
        """ + binary("d", "a", "b", (4, 5))
        + binary("c", "d", "z", (4, 5), right="(d0, 0)", btype=tensor_type(4, 1)),
    )  # fmt: skip
    module = check(text, PASSES, array(4, 20), array(4))
    (op,) = generics(module)
    assert [str(m.data).split("-> ")[1] for m in op.indexing_maps.data] == [
        "(d0, 1, d1)", "(d0, ((d1 * 3) + 1))", "(d0)", "(d0, d1)",
    ]  # fmt: skip
    assert not any(op.name == "tensor.extract_slice" for op in module.walk())


def test_positions_and_scalars_follow(check):
    t = tensor_type(5, 4)
    text = function(
        {"x": tensor_type(4, 5), "v": "f32"}, {"c": t},
        unary("a", "x", (4, 5), body="""%i = linalg.index 0 : index
          %j = arith.index_cast %i : index to i32
          %k = arith.sitofp %j : i32 to f32
          %s = arith.mulf %p, %k : f32""")
        + f"""%ve = tensor.empty() : {t}
          %vf = linalg.fill ins(%v : f32) outs(%ve : {t}) -> {t}"""
        + binary("c", "a", "vf", (5, 4), left="(d1, d0)", atype=tensor_type(4, 5)),
    )  # fmt: skip
    module = check(text, PASSES, array(4, 5), 2.5)
    (op,) = generics(module)
    assert len(op.operands) == 2 and "linalg.index 1" in str(op)


def test_fusion_in_loops(check):
    t = tensor_type(4, 5)
    text = function(
        {"x": t, "y": t, "n": "index"}, {"r": t},
        f"""%c0 = arith.constant 0 : index
        %c1 = arith.constant 1 : index
        %r = scf.for %i = %c0 to %n step %c1 iter_args(%v = %x) -> ({t}) {{
          {unary("a", "v", (4, 5), body="%s = math.tanh %p : f32")}
          {binary("b", "a", "y", (4, 5))}
          scf.yield %b : {t}
        }}""",
    )  # fmt: skip
    assert len(generics(check(text, PASSES, array(4, 5), array(4, 5, seed=1), 3))) == 1
