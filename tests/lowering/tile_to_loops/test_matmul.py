"""Matrix products in all layouts, with edges, batches, epilogues and dynamic sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.func import FuncOp

from stepwell.compiler.backends.target import named
from stepwell.compiler.interpreter import Machine
from stepwell.dialects.target import Target

RNG = np.random.default_rng(1)
ALL = pytest.mark.parametrize("target", ["host", "x86-64-v3", "x86-64"], indirect=True)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def product(
    m: int, n: int, k: int, a: str = "m, k", b: str = "k, n", dynamic: str = "", epilogue: bool = True, keys: str = "",
    batch: int = 0,
) -> str:
    """relu(a @ b + bias), operands in any order of dimensions."""
    sizes = {"b": batch, "m": m, "n": n, "k": k}
    names = ["b", "m", "n", "k"] if batch else ["m", "n", "k"]
    number = {name: f"d{i}" for i, name in enumerate(names)}
    loops = ", ".join(number.values())
    text = {name: "?" if name in dynamic else str(sizes[name]) for name in names}

    def dims(spec: str) -> list[str]:
        return (["b"] if batch else []) + spec.split(", ")

    def kind(spec: str) -> str:
        return f"tensor<{'x'.join(text[d] for d in dims(spec))}xf32>"

    def map_(spec: str) -> str:
        return f"affine_map<({loops}) -> ({', '.join(number[d] for d in dims(spec))})>"

    c = kind("m, n")
    where = {"m": ("%a", a), "n": ("%b", b), "b": ("%a", a)}
    ops, operands = "", []
    for name in dims("m, n"):
        if name in dynamic:
            tensor, spec = where[name]
            axis = dims(spec).index(name)
            ops += f"%i{name} = arith.constant {axis} : index\n%s{name} = tensor.dim {tensor}, %i{name} : {kind(spec)}\n"
            operands.append(f"%s{name}")
    outer = ", ".join(f"d{i}" for i in range(len(dims("m, n"))))
    same = f"affine_map<({outer}) -> ({outer})>"
    last = f"affine_map<({outer}) -> (d{len(dims('m, n')) - 1})>"
    parallel = ", ".join(['"parallel"'] * len(dims("m, n")))
    bias = f"tensor<{text['n']}xf32>"
    after = f"""%r = linalg.generic {{indexing_maps = [{same}, {last}, {same}], iterator_types = [{parallel}]}}
          ins(%p, %bias : {c}, {bias}) outs(%e : {c}) {{
      ^bb0(%x: f32, %y: f32, %o: f32):
        %t = arith.addf %x, %y : f32
        %u = arith.maximumf %t, %z : f32
        linalg.yield %u : f32
      }} -> {c}"""
    return f"""tile.kernel @k(%a: {kind(a)}, %b: {kind(b)}, %bias: {bias}) -> ({c})
        attributes {{schedule = {{template = "matmul"{keys}}}}} {{
      {ops} %z = arith.constant 0.0 : f32
      %e = tensor.empty({', '.join(operands)}) : {c}
      %f = linalg.fill ins(%z : f32) outs(%e : {c}) -> {c}
      %p = linalg.generic {{indexing_maps = [{map_(a)}, {map_(b)}, {map_('m, n')}],
          iterator_types = [{parallel}, "reduction"]}} ins(%a, %b : {kind(a)}, {kind(b)}) outs(%f : {c}) {{
      ^bb0(%x: f32, %y: f32, %o: f32):
        %t = arith.mulf %x, %y : f32
        %u = arith.addf %o, %t : f32
        linalg.yield %u : f32
      }} -> {c}
      {after if epilogue else ""}
      tile.yield {"%r" if epilogue else "%p"} : {c}
    }}"""


def operands(m: int, n: int, k: int, a: str, b: str, batch: int = 0) -> list[Any]:
    sizes = {"m": m, "n": n, "k": k}
    lead = (batch,) if batch else ()
    return [floats(*lead, *(sizes[d] for d in a.split(", "))), floats(*lead, *(sizes[d] for d in b.split(", "))), floats(n)]


@pytest.mark.parametrize("b", ["k, n", "n, k"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 40, 33), (5, 7, 3), (61, 70, 300), (64, 48, 1), (3, 4, 0)])
def test_product(check: Any, sizes: tuple[int, int, int], b: str) -> None:
    check(product(*sizes, b=b), operands(*sizes, "m, k", b), 2e-4)


@ALL
@pytest.mark.parametrize("b", ["k, n", "n, k"])
@pytest.mark.parametrize("keys", [", pack_a = 1 : i64, pack_b = 1 : i64, parallel = 1 : i64, nc = 64 : i64",
                                  ", pack_a = 0 : i64, pack_b = 0 : i64, mr = 3 : i64"])  # fmt: skip
def test_schedules(check: Any, keys: str, b: str) -> None:
    check(product(61, 150, 70, b=b, keys=keys), operands(61, 150, 70, "m, k", b), 2e-4)


@ALL
@pytest.mark.parametrize("rows", [1, 20, 300])
@pytest.mark.parametrize("columns", [600, 1024, 1030])
def test_rows_of_b_that_lie_far_apart(check: Any, rows: int, columns: int, target: Target) -> None:
    """In place with some rows, copied with many, in blocks of columns that a small cache holds."""
    target = replace(target, l2=64 << 10)
    for parallel, k in ((0, 41), (1, 34)):
        keys = f", parallel = {parallel} : i64"
        check(product(rows, columns, k, keys=keys), operands(rows, columns, k, "m, k", "k, n"), 2e-4, target)


def test_what_is_far_is_asked_for_or_copied(lowered: Any) -> None:
    def ops(rows: int, columns: int) -> tuple[bool, bool]:
        module = lowered(product(rows, columns, 64), named("x86-64-v3"))
        names = [op.name for op in module.walk()]
        return "memref.prefetch" in names, "memref.view" in names

    assert ops(20, 100) == (False, False), "the processor looks ahead by itself"
    assert ops(20, 1000) == (True, False), "too few rows for a copy"
    assert ops(300, 1000) == (True, True), "the copy asks for rows too"


@pytest.mark.parametrize("columns", [640, 646])
@pytest.mark.parametrize(("rows", "packed"), [(13, True), (100, True), (13, False), (260, False)])
def test_what_is_asked_for_lies_in_memory(lowered: Any, rows: int, columns: int, packed: bool) -> None:
    """An address outside of an array is none, even where nothing is read: the interpreter looks at every one."""
    k, split = 35, columns % 32 == 0
    a, b, bias = operands(rows, columns, k, "m, k", "k, n")
    text, factor = product(rows, columns, k, keys=", mr = 6 : i64"), b
    if packed:
        text = in_panels(rows, columns, k, 32, ", mr = 6 : i64")
        factor = np.zeros((-(-columns // 32), k, 32), np.float32)
        for n in range(columns):
            factor[n // 32, :, n % 32] = b[:, n]
        bias = bias.reshape(-1, 32) if split else bias
    module = lowered(text, replace(named("x86-64-v4"), l2=8 << 10))
    assert any(op.name == "memref.prefetch" for op in module.walk())
    result = np.zeros((rows, *bias.shape), np.float32)
    forward = next(op for op in module.walk() if isinstance(op, FuncOp) and op.sym_name.data == "forward")
    scratch = [np.zeros(1 << 20, np.int8) for _ in forward.function_type.inputs.data[4:]]
    Machine(module).call("forward", [a, factor, bias, result, *scratch])
    expected = a @ b + bias.reshape(-1)
    np.testing.assert_allclose(
        result.reshape(rows, columns), expected if packed else np.maximum(expected, 0), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("a", ["m, k", "k, m"])
def test_transposed_a(check: Any, a: str) -> None:
    check(product(20, 35, 40, a=a), operands(20, 35, 40, a, "k, n"), 2e-4)


@pytest.mark.parametrize("dynamic", ["mn", "mnk"])
@pytest.mark.parametrize("b", ["k, n", "n, k"])
def test_dynamic(check: Any, dynamic: str, b: str) -> None:
    for sizes in ((37, 45, 50), (1, 3, 2)):
        check(product(*sizes, b=b, dynamic=dynamic), operands(*sizes, "m, k", b), 2e-4)


@pytest.mark.parametrize("b", ["k, n", "n, k"])
def test_batched(check: Any, b: str) -> None:
    text = product(19, 33, 24, b=b, batch=3, keys=", parallel = 1 : i64")
    check(text, operands(19, 33, 24, "m, k", b, 3), 2e-4)


def in_panels(m: int, n: int, k: int, nr: int, keys: str) -> str:
    """a @ b + bias, the columns of b in panels of nr, as pack-weights makes it: the panels have a loop of their own
    where nr divides n."""
    panels, split = -(-n // nr), n % nr == 0
    rows = "?" if m < 0 else str(m)
    columns = f"{panels}x{nr}" if split else f"{n}"
    a, b = f"tensor<{rows}x{k}xf32>", f"tensor<{panels}x{k}x{nr}xf32>"
    bias, c = f"tensor<{columns}xf32>", f"tensor<{rows}x{columns}xf32>"
    size = "%zero = arith.constant 0 : index\n%rows = tensor.dim %a, %zero : " + a if m < 0 else ""
    n_dims = ["d1", "d2"] if split else ["d1"]
    loops, last = ", ".join(["d0", *n_dims, "dk"]), ", ".join(n_dims)
    outer = ", ".join(["d0", *n_dims])
    b_map = "d1, dk, d2" if split else f"d1 floordiv {nr}, dk, d1 mod {nr}"
    same = f"affine_map<({outer}) -> ({outer})>"
    parallel = ", ".join(['"parallel"'] * (1 + len(n_dims)))
    return f"""tile.kernel @k(%a: {a}, %b: {b}, %bias: {bias}) -> ({c})
        attributes {{schedule = {{template = "matmul", pack_b = 0 : i64, nr = {nr} : i64{keys}}}}} {{
      {size}
      %z = arith.constant 0.0 : f32
      %e = tensor.empty({"%rows" if m < 0 else ""}) : {c}
      %f = linalg.fill ins(%z : f32) outs(%e : {c}) -> {c}
      %p = linalg.generic {{indexing_maps = [affine_map<({loops}) -> (d0, dk)>, affine_map<({loops}) -> ({b_map})>,
          affine_map<({loops}) -> ({outer})>], iterator_types = [{parallel}, "reduction"]}}
          ins(%a, %b : {a}, {b}) outs(%f : {c}) {{
      ^bb0(%x: f32, %y: f32, %o: f32):
        %t = arith.mulf %x, %y : f32
        %u = arith.addf %o, %t : f32
        linalg.yield %u : f32
      }} -> {c}
      %r = linalg.generic {{indexing_maps = [{same}, affine_map<({outer}) -> ({last})>, {same}],
          iterator_types = [{parallel}]}} ins(%p, %bias : {c}, {bias}) outs(%e : {c}) {{
      ^bb0(%x: f32, %y: f32, %o: f32):
        %t = arith.addf %x, %y : f32
        linalg.yield %t : f32
      }} -> {c}
      tile.yield %r : {c}
    }}"""


@ALL
@pytest.mark.parametrize("rows", [1, 2, 13, 16, 40, 300, -1])
@pytest.mark.parametrize("columns", [160, 150, 133, 97])
def test_panels(check: Any, rows: int, columns: int, target: Target) -> None:
    # A small cache has one panel in a block, so that there is a next one to be asked for.
    target = replace(target, l2=4 << 10)
    for parallel, k in ((0, 1), (1, 7), (0, 36), (1, 37)):
        keys = f", mr = 8 : i64, parallel = {parallel} : i64"
        inputs = [floats(20 if rows < 0 else rows, k), floats(-(-columns // 32), k, 32)]
        inputs.append(floats(columns // 32, 32) if columns % 32 == 0 else floats(columns))
        check(in_panels(rows, columns, k, 32, keys), inputs, 1e-4, target)


@ALL
@pytest.mark.parametrize("parts", [4, 8])
@pytest.mark.parametrize("rows", [1, 2, 5, 11])
@pytest.mark.parametrize("columns", [160, 133])
def test_parts_of_a_contraction_side_by_side(
    check: Any, rows: int, columns: int, parts: int, target: Target
) -> None:
    """Fewer steps than parts, as many, some more, and what is left over."""
    for k in (1, 7, 8, 37, 64):
        keys = f", mr = 5 : i64, parallel = 1 : i64, k_parts = {parts} : i64"
        inputs = [floats(rows, k), floats(-(-columns // 32), k, 32)]
        inputs.append(floats(columns // 32, 32) if columns % 32 == 0 else floats(columns))
        check(in_panels(rows, columns, k, 32, keys), inputs, 1e-4, replace(target, l2=4 << 10))


def test_the_next_panels_are_asked_for(lowered: Any) -> None:
    """Some tiles of rows go over a block of panels: that is when the next one can be fetched."""

    def count(rows: int, columns: int) -> int:
        target = replace(named("x86-64-v3"), l2=64 << 10)
        module = lowered(in_panels(rows, columns, 64, 16, ", mr = 6 : i64"), target)
        return sum(op.name == "memref.prefetch" for op in module.walk())

    assert count(30, 640) > 0 and count(30, 639) > 0
    assert count(6, 640) == 0, "one tile of rows: B is only ever waited for"
    assert count(30, 16) == 0, "one block: there is no next one"
    assert count(30, 640) <= 4 * 16 // 16, "no more than the lines of one iteration"
