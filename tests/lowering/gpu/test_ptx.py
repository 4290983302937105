"""The PTX itself is run, and gives what the tile level gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stepwell.compiler.interpreter import InterpreterError, ptx
from stepwell.dialects import dtypes
from stepwell.lowering.gpu import matmul, tiles


def normal(*sizes: int) -> Any:
    return np.random.default_rng(9).standard_normal(sizes).astype(np.float32)


@pytest.mark.parametrize("name", ["mlp", "encoder", "lstm"])
def test_archives(name: str, archive: Any, through_ptx: Any) -> None:
    model = archive(name)
    run = through_ptx(model.module, model.resources)
    model.call(run)
    assert {f.sym_name.data for f in run.kernels.functions} == set(run.launched)


@pytest.mark.parametrize("sizes", [(7, 33), (3, 128), (3, 1000), (2, 5001)])
def test_softmax(graph: Any, formed: Any, through_ptx: Any, sizes: tuple[int, ...]) -> None:
    g = graph(x=sizes)
    through_ptx(formed(g.returns(g.softmax(g["x"]))))(normal(*sizes))


@pytest.mark.parametrize("tile", [tiles.LARGE, tiles.MIDDLE, tiles.SMALL, tiles.WIDE], ids=["large", "middle", "small", "wide"])
def test_tiles(graph: Any, formed: Any, through_ptx: Any, monkeypatch: pytest.MonkeyPatch, tile: Any) -> None:
    monkeypatch.setattr(matmul, "choose_tile", lambda *_: tile)
    g = graph(a=(130, 24), b=(140, 24))
    through_ptx(formed(g.returns(g.product(g["a"], g["b"], "mk,nk->mn"))))(normal(130, 24), normal(140, 24))


def test_sizes_only_known_at_run_time(graph: Any, formed: Any, through_ptx: Any) -> None:
    g = graph(x=("n", "m"), y=("m",))
    b = g.builder
    out = b.elementwise(lambda a, c: (a * c).math("tanh"), g["x"], g["y"], dtype=g["x"].dtype)
    run = through_ptx(formed(g.returns(out, g.softmax(g["x"]))))
    run(normal(5, 37), normal(37))
    run(normal(0, 37), normal(37))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "bool_"])
def test_types(graph: Any, formed: Any, through_ptx: Any, dtype: str) -> None:
    kind = getattr(dtypes, dtype)
    g = graph(x=((5, 48), kind), y=((5, 48), kind))
    largest = g.builder.elementwise(lambda a, b: a.maximum(b), g["x"], g["y"], dtype=kind)
    of_rows = g.builder.reduce(lambda a, e: a.maximum(e), 0, g["x"], [1])
    run = through_ptx(formed(g.returns(largest, of_rows)))
    run(*np.random.default_rng(0).integers(0 if dtype == "bool_" else -9, 2, (2, 5, 48)).astype(kind.numpy))


SCALARS = """
tile.kernel @k(%x: tensor<?xf32>, %yes: i1, %d: f64, %n: i64, %at: index) -> tensor<?xf32>
    attributes {schedule = {template = "map"}} {
  %c0 = arith.constant 0 : index
  %size = tensor.dim %x, %c0 : tensor<?xf32>
  %e = tensor.empty(%size) : tensor<?xf32>
  %r = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>],
      iterator_types = ["parallel"]} ins(%x : tensor<?xf32>) outs(%e : tensor<?xf32>) {
  ^bb0(%a: f32, %b: f32):
    %f = arith.truncf %d : f64 to f32
    %i = arith.sitofp %n : i64 to f32
    %first = tensor.extract %x[%at] : tensor<?xf32>
    %s = arith.addf %f, %i : f32
    %t = arith.select %yes, %s, %first : f32
    %u = arith.mulf %a, %t : f32
    linalg.yield %u : f32
  } -> tensor<?xf32>
  tile.yield %r : tensor<?xf32>
}
func.func @f(%x: tensor<?xf32>, %yes: i1, %d: f64, %n: i64, %at: index) -> tensor<?xf32> attributes {host.entry} {
  %r = tile.launch @k(%x, %yes, %d, %n, %at) : (tensor<?xf32>, i1, f64, i64, index) -> tensor<?xf32>
  func.return %r : tensor<?xf32>
}
"""


@pytest.mark.parametrize("yes", [True, False])
def test_numbers_are_passed_by_value(parse: Any, through_ptx: Any, yes: bool) -> None:
    (result,) = through_ptx(parse(SCALARS))(normal(13), yes, 2.5, -4, 7)
    np.testing.assert_allclose(result, normal(13) * (-1.5 if yes else normal(13)[7]), rtol=1e-6)


FUNCTIONS = ("exp", "exp2", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf", "rsqrt", "sqrt", "floor", "atan",
             "ceil", "round", "roundeven", "trunc", "sinh", "cbrt")  # fmt: skip


def test_math_functions(graph: Any, formed: Any, through_ptx: Any) -> None:
    g = graph(x=(1003,))
    results = [g.builder.elementwise(lambda e, n=n: e.math(n), g["x"], dtype=g["x"].dtype) for n in FUNCTIONS]
    x = (normal(1003) * 8).astype(np.float32)
    x[:4] = np.inf, -np.inf, np.nan, 0
    through_ptx(formed(g.returns(*results)))(x)


def changed(kernels: Any, change: Callable[[str], str]) -> Any:
    text = kernels.ptx()
    again = change(text)
    assert again != text
    return ptx.parse(again)


def test_a_barrier_that_is_lost_on_the_way_is_found(graph: Any, formed: Any) -> None:
    from stepwell.compiler.backends.gpu import kernels_of
    from stepwell.lowering.gpu import device

    g = graph(a=(20, 32), b=(32, 64))
    kernels = kernels_of(formed(g.returns(g.product(g["a"], g["b"], "mk,kn->mn"))), device())
    name = kernels.functions[-1].sym_name.data
    a, b, c = normal(20, 32), normal(32, 64), np.zeros((20, 64), np.float32)
    entry = changed(kernels, lambda text: text.replace("bar.sync", "// bar.sync"))[name]
    with pytest.raises(InterpreterError, match="since the last barrier"):
        ptx.launch(entry, 2, [a, b, c])


def test_an_access_outside_is_found(graph: Any, formed: Any) -> None:
    from stepwell.compiler.backends.gpu import kernels_of
    from stepwell.lowering.gpu import device

    g = graph(x=(64,))
    kernels = kernels_of(formed(g.returns(g.builder.elementwise(lambda e: -e, g["x"], dtype=g["x"].dtype))), device())
    (entry,) = ptx.parse(kernels.ptx()).values()
    with pytest.raises(InterpreterError, match="in no tensor"):
        ptx.launch(entry, 1, [np.zeros(32, np.float32), np.zeros(64, np.float32)])
