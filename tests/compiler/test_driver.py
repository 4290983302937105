"""Whole modules of the linalg level as native programs, compared with numpy."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.compiler.driver import compile_linalg
from stepwell.compiler.program import Program


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def kind(*sizes):
    return "tensor<" + "x".join([*("?" if s is None else str(s) for s in sizes), "f32"]) + ">"


class Text:
    """Writes a function body of the linalg level; every method gives the name of a value."""

    def __init__(self):
        self.lines, self.count = [], 0

    def add(self, text):
        self.count += 1
        self.lines.append(f"%t{self.count} = {text}")
        return f"%t{self.count}"

    def number(self, value):
        return self.add(f"arith.constant {float(value)!r} : f32".replace("inf", "0xFF800000").replace("-0x", "0x"))

    def size(self, x, of, axis):
        index = self.add(f"arith.constant {axis} : index")
        return self.add(f"tensor.dim {x}, {index} : {of}")

    def empty(self, shape, sizes=()):
        return self.add(f"tensor.empty({', '.join(sizes)}) : {kind(*shape)}")

    def fill(self, value, shape, sizes=()):
        out, number = self.empty(shape, sizes), self.number(value)
        return self.add(f"linalg.fill ins({number} : f32) outs({out} : {kind(*shape)}) -> {kind(*shape)}")

    def generic(self, loops, iterators, inputs, out, out_map, out_shape, body):
        """`inputs`: (value, type, map); `body`: lines that read %a, %b, .. and %o and define %r."""
        maps = [f"affine_map<({loops}) -> ({m})>" for *_, m in inputs] + [f"affine_map<({loops}) -> ({out_map})>"]
        names = "abcdef"[: len(inputs)]
        ins = ", ".join(v for v, *_ in inputs) + " : " + ", ".join(t for _, t, _ in inputs)
        kinds = ", ".join(f'"{ {"p": "parallel", "r": "reduction"}[i] }"' for i in iterators)
        arguments = ", ".join(f"%{n}: f32" for n in names + "o")
        return self.add(
            f"linalg.generic {{indexing_maps = [{', '.join(maps)}], iterator_types = [{kinds}]}} ins({ins}) "
            f"outs({out} : {kind(*out_shape)}) {{ ^bb0({arguments}): {body} linalg.yield %r : f32 }} "
            f"-> {kind(*out_shape)}"
        )

    def matmul(self, x, w, m, k, n, sizes=()):
        return self.generic(
            "i, j, k", "ppr", [(x, kind(m, k), "i, k"), (w, kind(k, n), "k, j")], self.fill(0, (m, n), sizes), "i, j",
            (m, n), "%p = arith.mulf %a, %b : f32 %r = arith.addf %o, %p : f32",
        )  # fmt: skip

    def rowwise(self, op, x, start, shape, sizes=()):
        return self.generic(
            "i, j", "pr", [(x, kind(*shape), "i, j")], self.fill(start, shape[:1], sizes), "i", shape[:1],
            f"%r = arith.{op} %o, %a : f32",
        )  # fmt: skip

    def map(self, body, shape, *inputs, sizes=()):
        """`inputs`: values, or (value, shape, map) to broadcast."""
        loops = "ijkl"[: len(shape)]
        same = ", ".join(loops)
        given = [(v, kind(*shape), same) if isinstance(v, str) else (v[0], kind(*v[1]), v[2]) for v in inputs]
        return self.generic(same, "p" * len(shape), given, self.empty(shape, sizes), same, shape, body)

    def softmax(self, x, shape, sizes=()):
        top = self.rowwise("maximumf", x, -np.inf, shape, sizes)
        e = self.map(
            "%d = arith.subf %a, %b : f32 %r = math.exp %d : f32", shape, x, (top, shape[:1], "i"), sizes=sizes
        )
        total = self.rowwise("addf", e, 0, shape, sizes)
        return self.map("%r = arith.divf %a, %b : f32", shape, e, (total, shape[:1], "i"), sizes=sizes)

    def function(self, arguments, results, returned):
        body = "\n  ".join(self.lines)
        return (f"func.func @forward({arguments}) -> ({results}) attributes {{host.entry}} {{\n  {body}\n"
                f"  func.return {returned} : {results}\n}}")  # fmt: skip


def build(text, resources=None):
    program = Program.from_text(text, resources)
    return compile_linalg(program.module, program.resources, verify="each")


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


TANH = "%s = arith.addf %a, %b : f32 %r = math.tanh %s : f32"


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_mlp_with_weights(batch):
    t = Text()
    w1 = t.add(f"arith.constant dense_resource<w1> : {kind(32, 48)}")
    b1 = t.add(f"arith.constant dense_resource<b1> : {kind(48)}")
    w2 = t.add(f"arith.constant dense_resource<w2> : {kind(48, 10)}")
    h = t.map(TANH, (batch, 48), t.matmul("%x", w1, batch, 32, 48), (b1, (48,), "j"))
    y = t.softmax(t.matmul(h, w2, batch, 48, 10), (batch, 10))
    weights = {"w1": array(32, 48, seed=1), "b1": array(48, seed=2), "w2": array(48, 10, seed=3)}
    f = build(t.function(f"%x: {kind(batch, 32)}", kind(batch, 10), y), weights)
    x = array(batch, 32)
    expected = softmax(np.tanh(x @ weights["w1"] + weights["b1"]) @ weights["w2"])
    for _ in range(2):
        np.testing.assert_allclose(f(x)[0], expected, rtol=2e-5, atol=1e-6)


def test_dynamic_batch():
    t = Text()
    n = [t.size("%x", kind(None, 16), 0)]
    w = t.add(f"arith.constant dense_resource<w> : {kind(16, 24)}")
    y = t.softmax(t.matmul("%x", w, None, 16, 24, n), (None, 24), n)
    z = t.map("%r = arith.mulf %a, %a : f32", (None, 24), y, sizes=n)
    f = build(t.function(f"%x: {kind(None, 16)}", f"{kind(None, 24)}, {kind(None, 24)}", f"{y}, {z}"),
              {"w": array(16, 24, seed=1)})  # fmt: skip
    for batch in (1, 7, 100, 3, 0):
        x = array(batch, 16)
        expected = softmax(x @ array(16, 24, seed=1)) if batch else np.zeros((0, 24), np.float32)
        for found, wanted in zip(f(x), (expected, expected**2), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6)


LOOP = """
func.func @forward(%x: tensor<4x16xf32>, %n: i64) -> (tensor<4x16xf32>, tensor<4x16xf32>, i64) attributes {{host.entry}} {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %stop = arith.index_cast %n : i64 to index
  %big = arith.constant 5 : i64
  %bad = arith.cmpi sgt, %n, %big : i64
  scf.if %bad {{
    host.raise "builtins.ValueError", "{{}} steps are more than {{}}"(%n, %big : i64, i64)
  }}
  %h, %g = scf.for %i = %c0 to %stop step %c1 iter_args(%past = %x, %now = %x) -> (tensor<4x16xf32>, tensor<4x16xf32>) {{
    {body}
    scf.yield %now, {result} : tensor<4x16xf32>, tensor<4x16xf32>
  }}
  func.return %h, %g, %n : tensor<4x16xf32>, tensor<4x16xf32>, i64
}}
"""


def test_a_recurrence_that_swaps_and_may_raise():
    t = Text()
    w = t.add(f"arith.constant dense_resource<w> : {kind(16, 16)}")
    y = t.map("%s = arith.addf %a, %b : f32 %r = math.tanh %s : f32", (4, 16), t.matmul("%past", w, 4, 16, 16), "%now")
    weight = array(16, 16, seed=1) / 4
    f = build(LOOP.format(body="\n".join(t.lines), result=y), {"w": weight})
    x = array(4, 16)
    for n in range(6):
        p, q = x, x
        for _ in range(n):
            p, q = q, np.tanh(p @ weight + q)
        found = f(x, n)
        np.testing.assert_allclose(found[0], p, rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(found[1], q, rtol=2e-5, atol=2e-6)
        assert found[2] == n
    with pytest.raises(ValueError, match="6 steps are more than 5"):
        f(x, 6)
    np.testing.assert_array_equal(f(x, 0)[0], x)


LIST = """
func.func @forward(%x: tensor<?x8xf32>, %limit: f32) -> (tensor<?x8xf32>, i64) attributes {host.entry} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = tensor.dim %x, %c0 : tensor<?x8xf32>
  %l0 = host.list_new : !host.list<tensor<8xf32>>
  %l = scf.for %i = %c0 to %n step %c1 iter_args(%a = %l0) -> (!host.list<tensor<8xf32>>) {
    %row = tensor.extract_slice %x[%i, 0][1, 8][1, 1] : tensor<?x8xf32> to tensor<8xf32>
    %first = tensor.extract %row[%c0] : tensor<8xf32>
    %keep = arith.cmpf ogt, %first, %limit : f32
    %b = scf.if %keep -> (!host.list<tensor<8xf32>>) {
      %e = tensor.empty() : tensor<8xf32>
      %y = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>],
          iterator_types = ["parallel"]} ins(%row : tensor<8xf32>) outs(%e : tensor<8xf32>) {
        ^bb0(%p: f32, %q: f32):
          %s = arith.addf %p, %p : f32
          linalg.yield %s : f32
      } -> tensor<8xf32>
      %m = host.list_append %a, %y : !host.list<tensor<8xf32>>
      scf.yield %m : !host.list<tensor<8xf32>>
    } else {
      scf.yield %a : !host.list<tensor<8xf32>>
    }
    scf.yield %b : !host.list<tensor<8xf32>>
  }
  %len = host.list_length %l : !host.list<tensor<8xf32>>
  %r = host.list_stack %l {dim = 0 : i64} : !host.list<tensor<8xf32>> -> tensor<?x8xf32>
  func.return %r, %len : tensor<?x8xf32>, i64
}
"""


def test_a_list_filled_under_a_condition():
    f = build(LIST)
    for n in (1, 10, 200):
        x = array(n, 8)
        x[0, 0] = 5.0
        rows, count = f(x, 0.1)
        np.testing.assert_array_equal(rows, 2 * x[x[:, 0] > np.float32(0.1)])
        assert count == len(rows)
    with pytest.raises(RuntimeError, match="non-empty"):
        f(array(4, 8), 100.0)


WHILE = """
func.func @forward(%x: tensor<f32>, %n: i64) -> (tensor<f32>, i64) attributes {host.entry} {
  %zero = arith.constant 0 : i64
  %one = arith.constant 1 : i64
  %r, %k = scf.while (%g = %x, %i = %zero) : (tensor<f32>, i64) -> (tensor<f32>, i64) {
    %v = tensor.extract %g[] : tensor<f32>
    %sq = arith.mulf %v, %v : f32
    %two = arith.constant 2.0 : f32
    %d = arith.subf %sq, %two : f32
    %abs = math.absf %d : f32
    %eps = arith.constant 1.0e-5 : f32
    %far = arith.cmpf ogt, %abs, %eps : f32
    %early = arith.cmpi slt, %i, %n : i64
    %more = arith.andi %far, %early : i1
    scf.condition(%more) %g, %i : tensor<f32>, i64
  } do {
  ^bb0(%g: tensor<f32>, %i: i64):
    %e = tensor.empty() : tensor<f32>
    %y = linalg.generic {indexing_maps = [affine_map<() -> ()>, affine_map<() -> ()>], iterator_types = []}
        ins(%g : tensor<f32>) outs(%e : tensor<f32>) {
      ^bb0(%a: f32, %o: f32):
        %two = arith.constant 2.0 : f32
        %half = arith.constant 0.5 : f32
        %q = arith.divf %two, %a : f32
        %s = arith.addf %a, %q : f32
        %h = arith.mulf %s, %half : f32
        linalg.yield %h : f32
    } -> tensor<f32>
    %j = arith.addi %i, %one : i64
    scf.yield %y, %j : tensor<f32>, i64
  }
  func.return %r, %k : tensor<f32>, i64
}
"""


def test_newton_iteration():
    f = build(WHILE)
    root, steps = f(np.array(1.0, np.float32), 50)
    assert abs(float(root) - 2**0.5) < 1e-5 and 2 <= steps <= 6
    assert f(np.array(100.0, np.float32), 2)[1] == 2


def test_attention_of_a_dynamic_length():
    t = Text()
    n = [t.size("%q", kind(None, 16), 0)]
    scores = t.generic(
        "i, j, k", "ppr", [("%q", kind(None, 16), "i, k"), ("%k", kind(None, 16), "j, k")],
        t.fill(0, (None, None), n * 2), "i, j", (None, None), "%p = arith.mulf %a, %b : f32 %r = arith.addf %o, %p : f32",
    )  # fmt: skip
    top = t.rowwise("maximumf", scores, -np.inf, (None, None), n)
    e = t.map(
        "%d = arith.subf %a, %b : f32 %r = math.exp %d : f32", (None, None), scores, (top, (None,), "i"), sizes=n * 2
    )
    total = t.rowwise("addf", e, 0, (None, None), n)
    p = t.map("%r = arith.divf %a, %b : f32", (None, None), e, (total, (None,), "i"), sizes=n * 2)
    y = t.matmul(p, "%v", None, None, 16, n)
    one = kind(None, 16)
    f = build(t.function(f"%q: {one}, %k: {one}, %v: {one}", one, y))
    for length in (1, 9, 40):
        q, k, v = (array(length, 16, seed=s) for s in range(3))
        np.testing.assert_allclose(f(q, k, v)[0], softmax(q @ k.T) @ v, rtol=1e-4, atol=1e-5)
