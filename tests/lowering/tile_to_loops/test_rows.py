"""Reductions of rows and what is elementwise around them: softmax, layer norm, on the last axis and on others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.lowering.tile_to_loops.reduce import ACCUMULATORS

RNG = np.random.default_rng(2)
ALL = pytest.mark.parametrize("target", ["host", "x86-64-v3", "x86-64"], indirect=True)


def softmax(sizes: tuple[int, ...], axis: int, dynamic: bool = False, keys: str = "") -> str:
    rank = len(sizes)
    text = ["?" if dynamic else str(s) for s in sizes]
    full = f"tensor<{'x'.join(text)}xf32>"
    kept = [t for i, t in enumerate(text) if i != axis]
    small = f"tensor<{''.join(t + 'x' for t in kept)}f32>"
    dims = ", ".join(f"d{i}" for i in range(rank))
    identity = f"affine_map<({dims}) -> ({dims})>"
    row = f"affine_map<({dims}) -> ({', '.join(f'd{i}' for i in range(rank) if i != axis)})>"
    parallel = ", ".join(['"parallel"'] * rank)
    reduced = ", ".join('"reduction"' if i == axis else '"parallel"' for i in range(rank))
    ops, names = "", []
    if dynamic:
        for i in range(rank):
            ops += f"%c{i} = arith.constant {i} : index\n%n{i} = tensor.dim %x, %c{i} : {full}\n"
            names.append(f"%n{i}")
    some = ", ".join(n for i, n in enumerate(names) if i != axis)

    def reduce(name: str, source: str, start: str, op: str) -> str:
        return f"""%{name} = linalg.generic {{indexing_maps = [{identity}, {row}], iterator_types = [{reduced}]}}
          ins({source} : {full}) outs({start} : {small}) {{
      ^bb0(%v: f32, %o: f32):
        %t = {op} %o, %v : f32
        linalg.yield %t : f32
      }} -> {small}"""

    def binary(name: str, left: str, right: str, body: str) -> str:
        return f"""%{name} = linalg.generic {{indexing_maps = [{identity}, {row}, {identity}],
          iterator_types = [{parallel}]}} ins({left}, {right} : {full}, {small}) outs(%e : {full}) {{
      ^bb0(%v: f32, %w: f32, %o: f32):
        {body}
        linalg.yield %t : f32
      }} -> {full}"""

    return f"""tile.kernel @k(%x: {full}) -> ({full})
        attributes {{schedule = {{template = "rows"{keys}}}}} {{
      {ops} %zero = arith.constant 0.0 : f32
      %low = arith.constant 0xFF800000 : f32
      %e = tensor.empty({", ".join(names)}) : {full}
      %s = tensor.empty({some}) : {small}
      %f0 = linalg.fill ins(%low : f32) outs(%s : {small}) -> {small}
      %f1 = linalg.fill ins(%zero : f32) outs(%s : {small}) -> {small}
      {reduce("max", "%x", "%f0", "arith.maximumf")}
      {binary("exp", "%x", "%max", "%u = arith.subf %v, %w : f32 %t = math.exp %u : f32")}
      {reduce("sum", "%exp", "%f1", "arith.addf")}
      {binary("out", "%exp", "%sum", "%t = arith.divf %v, %w : f32")}
      tile.yield %out : {full}
    }}"""


@pytest.mark.parametrize("keys", ["", ", parallel = 1 : i64"])
@pytest.mark.parametrize("sizes", [(1, 1), (5, 100), (2, 3, 33)])
def test_softmax(check: Any, sizes: tuple[int, ...], keys: str) -> None:
    for axis in range(len(sizes)):
        check(softmax(sizes, axis, keys=keys), [RNG.standard_normal(sizes).astype(np.float32)])


@pytest.mark.parametrize("sizes", [(2, 3, 33), (0, 3), (3, 0)])
def test_dynamic(check: Any, sizes: tuple[int, ...]) -> None:
    for axis in range(len(sizes)):
        check(softmax(sizes, axis, dynamic=True), [RNG.standard_normal(sizes).astype(np.float32)])


@ALL
def test_not_a_number(check: Any) -> None:
    x = RNG.standard_normal((3, 40)).astype(np.float32)
    x[1, 20] = np.nan
    (y,) = check(softmax((3, 40), 1), [x])
    assert np.isnan(y[1]).all() and not np.isnan(y[[0, 2]]).any()


@pytest.mark.parametrize("sizes", [(12, 64), (1, 3, 4, 64)])
def test_the_exponentials_of_a_row_are_computed_once(sizes: tuple[int, ...]) -> None:
    """They were computed again for the quotient, and beside an axis of size 1 never kept."""

    def rows(x: stepwell.Tensor) -> stepwell.Tensor:
        return x.softmax(-1)

    text = stepwell.script(rows).emit("loops", [np.zeros(sizes, np.float32)], {})
    assert isinstance(text, str)
    assert text.count("math.exp") == ACCUMULATORS and text.count("arith.divf") == 1


def layer_norm(rows: int, columns: int) -> str:
    """Two results: the normalised rows, and their means."""
    full, small = f"tensor<{rows}x{columns}xf32>", f"tensor<{rows}x1xf32>"
    identity, row = "affine_map<(d0, d1) -> (d0, d1)>", "affine_map<(d0, d1) -> (d0, 0)>"
    return f"""tile.kernel @k(%x: {full}, %w: tensor<{columns}xf32>) -> ({full}, {small})
        attributes {{schedule = {{template = "rows"}}}} {{
      %zero = arith.constant 0.0 : f32
      %n = arith.constant {columns}.0 : f32
      %eps = arith.constant 1.0e-05 : f32
      %e = tensor.empty() : {full}
      %s = tensor.empty() : {small}
      %f = linalg.fill ins(%zero : f32) outs(%s : {small}) -> {small}
      %sum = linalg.generic {{indexing_maps = [{identity}, {row}], iterator_types = ["parallel", "reduction"]}}
          ins(%x : {full}) outs(%f : {small}) {{
      ^bb0(%v: f32, %o: f32):
        %t = arith.addf %o, %v : f32
        linalg.yield %t : f32
      }} -> {small}
      %mean = linalg.generic {{indexing_maps = [{identity}, {identity}], iterator_types = ["parallel", "parallel"]}}
          ins(%sum : {small}) outs(%s : {small}) {{
      ^bb0(%v: f32, %o: f32):
        %t = arith.divf %v, %n : f32
        linalg.yield %t : f32
      }} -> {small}
      %centre = linalg.generic {{indexing_maps = [{identity}, {row}, {identity}],
          iterator_types = ["parallel", "parallel"]}} ins(%x, %mean : {full}, {small}) outs(%e : {full}) {{
      ^bb0(%v: f32, %m: f32, %o: f32):
        %t = arith.subf %v, %m : f32
        linalg.yield %t : f32
      }} -> {full}
      %squares = linalg.generic {{indexing_maps = [{identity}, {row}], iterator_types = ["parallel", "reduction"]}}
          ins(%centre : {full}) outs(%f : {small}) {{
      ^bb0(%v: f32, %o: f32):
        %u = arith.mulf %v, %v : f32
        %t = arith.addf %o, %u : f32
        linalg.yield %t : f32
      }} -> {small}
      %y = linalg.generic {{indexing_maps = [{identity}, {row}, affine_map<(d0, d1) -> (d1)>, {identity}],
          iterator_types = ["parallel", "parallel"]}}
          ins(%centre, %squares, %w : {full}, {small}, tensor<{columns}xf32>) outs(%e : {full}) {{
      ^bb0(%v: f32, %q: f32, %g: f32, %o: f32):
        %a = arith.divf %q, %n : f32
        %b = arith.addf %a, %eps : f32
        %c = math.sqrt %b : f32
        %d = arith.divf %v, %c : f32
        %t = arith.mulf %d, %g : f32
        linalg.yield %t : f32
      }} -> {full}
      tile.yield %y, %mean : {full}, {small}
    }}"""


@pytest.mark.parametrize("sizes", [(3, 7), (2, 100)])
def test_layer_norm(check: Any, sizes: tuple[int, int]) -> None:
    x = RNG.standard_normal(sizes).astype(np.float32)
    check(layer_norm(*sizes), [x, RNG.standard_normal(sizes[1]).astype(np.float32)], 1e-4)
