"""The frame that all templates share: elementwise chains, broadcasts, gathers, reductions, odd and empty sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

RNG = np.random.default_rng(0)
ALL = pytest.mark.parametrize("target", ["host", "x86-64-v3", "x86-64"], indirect=True)


def floats(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.standard_normal(shape).astype(dtype)


def shape_of(sizes: tuple[int, ...], dynamic: bool) -> str:
    return "x".join("?" if dynamic else str(s) for s in sizes)


def chain(sizes: tuple[int, ...], dynamic: bool, parallel: int) -> str:
    """relu(a + bias) * a, with the bias along the last dimension."""
    dims = ", ".join(f"d{i}" for i in range(len(sizes)))
    kind, last = f"tensor<{shape_of(sizes, dynamic)}xf32>", f"tensor<{shape_of(sizes[-1:], dynamic)}xf32>"
    iterators = ", ".join(['"parallel"'] * len(sizes))
    ops, operands = "", ""
    if dynamic:
        for i in range(len(sizes)):
            ops += f"%c{i} = arith.constant {i} : index\n%n{i} = tensor.dim %a, %c{i} : {kind}\n"
        operands = ", ".join(f"%n{i}" for i in range(len(sizes)))
    identity = f"affine_map<({dims}) -> ({dims})>"
    return f"""tile.kernel @k(%a: {kind}, %b: {last}) -> ({kind})
        attributes {{schedule = {{template = "map", parallel = {parallel} : i64}}}} {{
      {ops} %e = tensor.empty({operands}) : {kind}
      %s = linalg.generic {{indexing_maps = [{identity}, affine_map<({dims}) -> (d{len(sizes) - 1})>, {identity}],
          iterator_types = [{iterators}]}} ins(%a, %b : {kind}, {last}) outs(%e : {kind}) {{
      ^bb0(%x: f32, %y: f32, %o: f32):
        %z = arith.constant 0.0 : f32
        %t = arith.addf %x, %y : f32
        %r = arith.maximumf %t, %z : f32
        linalg.yield %r : f32
      }} -> {kind}
      %m = linalg.generic {{indexing_maps = [{identity}, {identity}, {identity}],
          iterator_types = [{iterators}]}} ins(%s, %a : {kind}, {kind}) outs(%e : {kind}) {{
      ^bb0(%x: f32, %y: f32, %o: f32):
        %t = arith.mulf %x, %y : f32
        linalg.yield %t : f32
      }} -> {kind}
      tile.yield %m : {kind}
    }}"""


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("sizes", [(1,), (1000,), (3, 37), (2, 3, 64), (5, 1), (0, 4), (4, 0)])
def test_chain(check: Any, sizes: tuple[int, ...], dynamic: bool) -> None:
    check(chain(sizes, dynamic, 0), [floats(*sizes), floats(sizes[-1])])


@ALL
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("sizes", [(10000,), (40, 37)])
def test_shared_among_threads(check: Any, sizes: tuple[int, ...], dynamic: bool) -> None:
    check(chain(sizes, dynamic, 1), [floats(*sizes), floats(sizes[-1])])


def elementwise(kind: str, result: str, body: str, sizes: int = 45) -> str:
    return f"""tile.kernel @k(%a: tensor<{sizes}x{kind}>, %b: tensor<{sizes}x{kind}>) -> (tensor<{sizes}x{result}>)
        attributes {{schedule = {{template = "map"}}}} {{
      %e = tensor.empty() : tensor<{sizes}x{result}>
      %m = linalg.generic {{indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>,
          affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]}}
          ins(%a, %b : tensor<{sizes}x{kind}>, tensor<{sizes}x{kind}>) outs(%e : tensor<{sizes}x{result}>) {{
      ^bb0(%x: {kind}, %y: {kind}, %o: {result}):
        {body}
        linalg.yield %r : {result}
      }} -> tensor<{sizes}x{result}>
      tile.yield %m : tensor<{sizes}x{result}>
    }}"""


INTEGERS = {"i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64}


@ALL
@pytest.mark.parametrize("kind", ["i8", "i64"])
def test_integers(check: Any, kind: str) -> None:
    a = RNG.integers(-100, 100, 45).astype(INTEGERS[kind])
    b = RNG.integers(1, 100, 45).astype(INTEGERS[kind])
    check(elementwise(kind, kind, f"%t = arith.divsi %x, %y : {kind}\n%r = arith.addi %t, %x : {kind}"), [a, b])


@ALL
def test_bools(check: Any) -> None:
    a, b = floats(45), floats(45)
    (less,) = check(elementwise("f32", "i1", "%r = arith.cmpf olt, %x, %y : f32"), [a, b])
    check(elementwise("i1", "i1", "%r = arith.xori %x, %y : i1"), [less, a > 0])
    check(elementwise("i1", "f32", "%t = arith.andi %x, %y : i1\n%r = arith.uitofp %t : i1 to f32"), [less, a > 0])
    check(elementwise("i64", "i1", "%r = arith.cmpi slt, %x, %y : i64"), [np.arange(45), np.arange(45)[::-1].copy()])


@ALL
def test_halves(check: Any, target: Any) -> None:
    if not target.has_half_conversion:
        pytest.skip("f16 needs routines of the C compiler there")
    a, b = floats(45, dtype=np.float16), floats(45, dtype=np.float16)
    check(elementwise("f16", "f16", "%r = arith.mulf %x, %y : f16"), [a, b], 1e-3)
    check(elementwise("f16", "f32", "%t = arith.addf %x, %y : f16\n%r = arith.extf %t : f16 to f32"), [a, b], 1e-3)


def test_functions(check: Any) -> None:
    check(elementwise("f32", "f32", "%t = math.exp %x : f32\n%r = math.tanh %t : f32"), [floats(45), floats(45)])


def test_embedding(check: Any) -> None:
    """Rows of a table: contiguous along the lanes, the row by number."""
    kernel = """tile.kernel @k(%t: tensor<11x37xf32>, %i: tensor<5xi64>) -> (tensor<5x37xf32>)
        attributes {schedule = {template = "map"}} {
      %e = tensor.empty() : tensor<5x37xf32>
      %m = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0)>, affine_map<(d0, d1) -> (d0, d1)>],
          iterator_types = ["parallel", "parallel"]} ins(%i : tensor<5xi64>) outs(%e : tensor<5x37xf32>) {
      ^bb0(%x: i64, %o: f32):
        %row = arith.index_cast %x : i64 to index
        %column = linalg.index 1 : index
        %r = tensor.extract %t[%row, %column] : tensor<11x37xf32>
        linalg.yield %r : f32
      } -> tensor<5x37xf32>
      tile.yield %m : tensor<5x37xf32>
    }"""
    check(kernel, [floats(11, 37), np.array([3, 0, 10, 3, 7])])


@ALL
def test_gather_along_lanes(check: Any) -> None:
    kernel = """tile.kernel @k(%t: tensor<50xf32>, %i: tensor<45xi64>) -> (tensor<45xf32>, tensor<45xi64>)
        attributes {schedule = {template = "map"}} {
      %e = tensor.empty() : tensor<45xf32>
      %f = tensor.empty() : tensor<45xi64>
      %m, %n = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>,
          affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]}
          ins(%i : tensor<45xi64>) outs(%e, %f : tensor<45xf32>, tensor<45xi64>) {
      ^bb0(%x: i64, %o: f32, %p: i64):
        %row = arith.index_cast %x : i64 to index
        %r = tensor.extract %t[%row] : tensor<50xf32>
        %here = linalg.index 0 : index
        %two = arith.constant 2 : index
        %twice = arith.muli %here, %two : index
        %q = arith.index_cast %twice : index to i64
        %s = arith.addi %q, %x : i64
        linalg.yield %r, %s : f32, i64
      } -> tensor<45xf32>, tensor<45xi64>
      tile.yield %m, %n : tensor<45xf32>, tensor<45xi64>
    }"""
    check(kernel, [floats(50), RNG.integers(0, 50, 45)])


@pytest.mark.parametrize("sizes", [(3, 5), (33, 65), (1, 9)])
def test_transpose(check: Any, sizes: tuple[int, int]) -> None:
    m, n = sizes
    kernel = f"""tile.kernel @k(%a: tensor<{m}x{n}xf32>) -> (tensor<{n}x{m}xf32>)
        attributes {{schedule = {{template = "map"}}}} {{
      %e = tensor.empty() : tensor<{n}x{m}xf32>
      %r = linalg.generic {{indexing_maps = [affine_map<(d0, d1) -> (d1, d0)>, affine_map<(d0, d1) -> (d0, d1)>],
          iterator_types = ["parallel", "parallel"]}} ins(%a : tensor<{m}x{n}xf32>) outs(%e : tensor<{n}x{m}xf32>) {{
      ^bb0(%x: f32, %o: f32):
        linalg.yield %x : f32
      }} -> tensor<{n}x{m}xf32>
      tile.yield %r : tensor<{n}x{m}xf32>
    }}"""
    check(kernel, [floats(m, n)])


def reduction(rows: int, columns: int, axis: int, kind: str, op: str, start: str) -> str:
    kept = rows if axis == 1 else columns
    return f"""tile.kernel @k(%a: tensor<{rows}x{columns}x{kind}>) -> (tensor<{kept}x{kind}>)
        attributes {{schedule = {{template = "nest"}}}} {{
      %z = arith.constant {start} : {kind}
      %e = tensor.empty() : tensor<{kept}x{kind}>
      %f = linalg.fill ins(%z : {kind}) outs(%e : tensor<{kept}x{kind}>) -> tensor<{kept}x{kind}>
      %r = linalg.generic {{indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d{1 - axis})>],
          iterator_types = [{'"parallel", "reduction"' if axis == 1 else '"reduction", "parallel"'}]}}
          ins(%a : tensor<{rows}x{columns}x{kind}>) outs(%f : tensor<{kept}x{kind}>) {{
      ^bb0(%x: {kind}, %o: {kind}):
        %t = {op} %o, %x : {kind}
        linalg.yield %t : {kind}
      }} -> tensor<{kept}x{kind}>
      tile.yield %r : tensor<{kept}x{kind}>
    }}"""


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sizes", [(7, 100), (40, 1), (1, 0)])
@pytest.mark.parametrize(
    ("kind", "op", "start"),
    [("f32", "arith.addf", "0.0"), ("f32", "arith.maximumf", "0xFF800000"), ("i64", "arith.addi", "3"),
     ("i32", "arith.maxsi", "-2147483648"), ("i8", "arith.andi", "-1")],
)  # fmt: skip
def test_reduction(check: Any, sizes: tuple[int, int], axis: int, kind: str, op: str, start: str) -> None:
    if sizes == (1, 0) and axis == 0:
        sizes = (0, 4)
    if kind == "f32":
        data = floats(*sizes)
        if min(sizes) > 2 and data.size > 20 and "maximum" in op:
            data[1, 2] = np.nan
    else:
        data = RNG.integers(-100, 100, sizes).astype(INTEGERS[kind])
    check(reduction(*sizes, axis, kind, op, start), [data])
