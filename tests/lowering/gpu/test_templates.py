"""Each template, at sizes that fit its tiles and at sizes that do not, static and only known at run time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from xdsl.dialects import scf

from stepwell.dialects import dtypes
from stepwell.lowering.gpu import geometry, matmul, tiles


def random() -> np.random.Generator:
    """The same numbers for every test, in whatever order tests run."""
    return np.random.default_rng(5)


def normal(*sizes: int) -> Any:
    return random().standard_normal(sizes).astype(np.float32)


def decided(run: Any) -> str:
    return " ".join(text for function in run.kernels.functions for text in geometry.decisions_of(function))


# ------ pointwise


@pytest.mark.parametrize("sizes", [(4,), (1001,), (3, 5, 7), (2, 64), (1,), (), (0, 4)])
@pytest.mark.parametrize("dynamic", [False, True])
def test_elementwise(graph: Any, formed: Any, checked: Any, sizes: tuple[int, ...], dynamic: bool) -> None:
    names = tuple(f"n{i}" for i in range(len(sizes))) if dynamic else sizes
    g = graph(x=names, y=names)
    out = g.builder.elementwise(lambda a, b: (a + b).math("exp"), g["x"], g["y"], dtype=g["x"].dtype)
    run = checked(formed(g.returns(out)))
    x, y = normal(*sizes), normal(*sizes)
    run(x, y)
    assert run.launched, "the kernel was launched"


@pytest.mark.parametrize(("dtype", "width"), [("float64", 2), ("float16", 8), ("bfloat16", 8), ("int8", 16), ("bool_", 16)])
def test_an_access_has_16_bytes_whatever_the_elements_are(graph: Any, formed: Any, checked: Any, dtype: str, width: int) -> None:
    kind = getattr(dtypes, dtype)
    g = graph(x=((4, 48), kind), y=((4, 48), kind))
    largest = g.builder.elementwise(lambda a, b: a.maximum(b), g["x"], g["y"], dtype=kind)
    run = checked(formed(g.returns(largest)))
    given = random().integers(0, 2, (2, 4, 48)) if dtype == "bool_" else random().integers(-9, 9, (2, 4, 48))
    run(*given.astype(kind.numpy))
    assert f"{width} neighbouring elements" in decided(run)


def test_broadcast_and_transposed_operands(graph: Any, formed: Any, checked: Any) -> None:
    g = graph(x=(6, 8), y=(8, 6), z=(8,))
    b = g.builder
    out = b.elementwise(lambda a, c, d: a * c + d, g["x"], b.transpose(g["y"], [1, 0]), g["z"], dtype=g["x"].dtype)
    checked(formed(g.returns(out)))(normal(6, 8), normal(8, 6), normal(8))


def test_reductions_of_windows_are_done_by_one_thread(graph: Any, formed: Any, checked: Any) -> None:
    g = graph(x=(2, 3, 8, 9))
    run = checked(formed(g.returns(g.pooling(g["x"], 2, 2), g.pooling(g["x"], 3, 1, largest=False))))
    run(normal(2, 3, 8, 9))
    assert "nothing is shared" in decided(run)


# ------ rows

ROWS = [(5, 13), (4, 32), (7, 33), (2, 3, 128), (3, 1000), (2, 1024), (3, 1028), (2, 5001)]


@pytest.mark.parametrize("sizes", ROWS)
@pytest.mark.parametrize("dynamic", [False, True])
def test_softmax(graph: Any, formed: Any, checked: Any, sizes: tuple[int, ...], dynamic: bool) -> None:
    g = graph(x=tuple(f"n{i}" for i in range(len(sizes))) if dynamic else sizes)
    run = checked(formed(g.returns(g.softmax(g["x"]))))
    (y,) = run(normal(*sizes))
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-5)
    assert "rows: " in decided(run)


@pytest.mark.parametrize("sizes", ROWS)
def test_layer_norm(graph: Any, formed: Any, checked: Any, sizes: tuple[int, ...]) -> None:
    g = graph(x=sizes, scale=sizes[-1:], shift=sizes[-1:])
    run = checked(formed(g.returns(g.layer_norm(g["x"], g["scale"], g["shift"]))))
    run(normal(*sizes), normal(*sizes[-1:]), normal(*sizes[-1:]))


def test_sums_and_what_they_are_sums_of(graph: Any, formed: Any, checked: Any) -> None:
    """Results of two shapes: one per row, and one per element."""
    g = graph(x=(9, 70))
    b = g.builder
    total = b.reduce(lambda a, e: a + e, 0, g["x"], [1], keep=True)
    run = checked(formed(g.returns(total, b.elementwise(lambda e, t: e / t, g["x"], total, dtype=g["x"].dtype))))
    run(np.abs(normal(9, 70)) + 1)


def test_one_result_per_row_is_not_computed_again_by_one_thread(graph: Any, formed: Any, checked: Any) -> None:
    g = graph(x=(3, 4096))
    run = checked(formed(g.returns(g.builder.reduce(lambda a, e: a + e, 0, g["x"], [1]))))
    run(normal(3, 4096))
    assert "a block per row" in decided(run)
    assert not [op for f in run.kernels.functions for op in f.walk() if isinstance(op, scf.ForOp)]


@pytest.mark.parametrize("dims", [[0], [1], [0, 2], [0, 1, 2], [1, 2]])
def test_reductions_over_any_axes(graph: Any, formed: Any, checked: Any, dims: list[int]) -> None:
    g = graph(x=(3, 40, 50))
    b = g.builder
    largest = b.reduce(lambda a, e: a.maximum(e), -np.inf, g["x"], dims)
    total = b.reduce(lambda a, e: a + e * e, 0, g["x"], dims)
    x = normal(3, 40, 50)
    x[1, 2, 3] = np.nan
    checked(formed(g.returns(largest, total)))(x)


@pytest.mark.parametrize("dtype", ["float64", "int64", "int32", "int8", "float16"])
def test_types_of_all_widths_are_exchanged_between_lanes(graph: Any, formed: Any, checked: Any, dtype: str) -> None:
    kind = getattr(dtypes, dtype)
    g = graph(x=((6, 300), kind))
    run = checked(formed(g.returns(g.builder.reduce(lambda a, e: a.maximum(e), 0, g["x"], [1]))))
    run(random().integers(-99, 99, (6, 300)).astype(kind.numpy))
    assert "rows: " in decided(run)


# ------ matrix products

PRODUCTS = [(16, 64, 16), (2, 10, 64), (1, 7, 5), (70, 66, 35), (64, 128, 64), (33, 4, 1), (5, 130, 17)]


@pytest.mark.parametrize("spec", ["mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->nm"])
@pytest.mark.parametrize(("m", "n", "k"), PRODUCTS)
def test_products(graph: Any, formed: Any, checked: Any, spec: str, m: int, n: int, k: int) -> None:
    sizes = {"m": m, "n": n, "k": k}
    a, b = ([sizes[c] for c in part] for part in spec.split("->")[0].split(","))
    g = graph(a=tuple(a), b=tuple(b))
    run = checked(formed(g.returns(g.product(g["a"], g["b"], spec))))
    run(normal(*a), normal(*b))
    assert "matmul: " in decided(run)


@pytest.mark.parametrize("tile", [tiles.LARGE, tiles.MIDDLE, tiles.SMALL, tiles.WIDE], ids=["large", "middle", "small", "wide"])
@pytest.mark.parametrize("sizes", [(128, 256, 32), (130, 140, 20), (131, 77, 9)])
def test_tiles(
    graph: Any, formed: Any, checked: Any, monkeypatch: pytest.MonkeyPatch, tile: Any, sizes: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(matmul, "choose_tile", lambda *_: tile)
    m, n, k = sizes
    g = graph(a=(m, k), b=(k, n), c=(n,))
    product = g.product(g["a"], g["b"], "mk,kn->mn")
    out = g.builder.elementwise(lambda p, c: (p + c).maximum(0), product, g["c"], dtype=product.dtype)
    checked(formed(g.returns(out)))(normal(m, k), normal(k, n), normal(n))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int32", "int64"])
def test_products_of_all_types(graph: Any, formed: Any, checked: Any, dtype: str) -> None:
    kind = getattr(dtypes, dtype)
    g = graph(a=((70, 20), kind), b=((20, 130), kind))
    run = checked(formed(g.returns(g.product(g["a"], g["b"], "mk,kn->mn"))))
    run(*(random().integers(-3, 4, shape).astype(kind.numpy) for shape in ((70, 20), (20, 130))))
    assert "matmul: " in decided(run)


@pytest.mark.parametrize("dynamic", ["m", "n", "k", "b", "bmnk"])
def test_products_of_sizes_only_known_at_run_time(graph: Any, formed: Any, checked: Any, dynamic: str) -> None:
    sizes = {"b": 3, "m": 37, "n": 12, "k": 20}
    shape = {c: c if c in dynamic else size for c, size in sizes.items()}
    g = graph(a=tuple(shape[c] for c in "bmk"), w=tuple(shape[c] for c in "bkn"))
    run = checked(formed(g.returns(g.product(g["a"], g["w"], "bmk,bkn->bmn"))))
    run(normal(*(sizes[c] for c in "bmk")), normal(*(sizes[c] for c in "bkn")))
    assert "matmul: " in decided(run)


def test_heads_are_read_where_they_are(graph: Any, formed: Any, checked: Any) -> None:
    """The products of attention: rows and columns of several axes, operands that are slices of one tensor."""
    g = graph(q=(2, 5, 4, 8), k=(2, 7, 4, 8))
    run = checked(formed(g.returns(g.product(g["q"], g["k"], "bqhd,bkhd->bhqk"))))
    run(normal(2, 5, 4, 8), normal(2, 7, 4, 8))


def test_convolutions(graph: Any, formed: Any, checked: Any) -> None:
    g = graph(x=(2, 3, 9, 8), w=(4, 3, 3, 3))
    checked(formed(g.returns(g.convolution(g["x"], g["w"], stride=2, padding=1))))(normal(2, 3, 9, 8), normal(4, 3, 3, 3))
