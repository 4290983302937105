"""Convolutions on blocked channels, depthwise ones, poolings; plain layouts, which the general nest writes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from xdsl.dialects import scf

from stepwell.compiler.backends.target import host, named

RNG = np.random.default_rng(3)
ALL = pytest.mark.parametrize("target", ["host", "x86-64-v3", "x86-64"], indirect=True)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def conv(
    ci: int, co: int, h: int, w: int, kernel: int = 3, stride: int = 1, block: int = 8, keys: str = "", batch: int = 1
) -> str:
    """out[n, f, y, x, b] += in[n, c, y*s + ky, x*s + kx, a] * filter[f, c, ky, kx, a, b], then bias and relu."""
    inside = min(ci, block)
    hi, wi = (h - 1) * stride + kernel, (w - 1) * stride + kernel
    x = f"tensor<{batch}x{ci // inside}x{hi}x{wi}x{inside}xf32>"
    f = f"tensor<{co // block}x{ci // inside}x{kernel}x{kernel}x{inside}x{block}xf32>"
    y, bias = f"tensor<{batch}x{co // block}x{h}x{w}x{block}xf32>", f"tensor<{co // block}x{block}xf32>"
    loops = "d0, d1, d2, d3, d4, d5, d6, d7, d8"
    identity = "affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d3, d4)>"
    return f"""tile.kernel @k(%x: {x}, %f: {f}, %b: {bias}) -> ({y})
        attributes {{schedule = {{template = "conv"{keys}}}}} {{
      %z = arith.constant 0.0 : f32
      %e = tensor.empty() : {y}
      %i = linalg.fill ins(%z : f32) outs(%e : {y}) -> {y}
      %p = linalg.generic {{indexing_maps = [
          affine_map<({loops}) -> (d0, d5, d2 * {stride} + d6, d3 * {stride} + d7, d8)>,
          affine_map<({loops}) -> (d1, d5, d6, d7, d8, d4)>, affine_map<({loops}) -> (d0, d1, d2, d3, d4)>],
          iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel",
                            "reduction", "reduction", "reduction", "reduction"]}}
          ins(%x, %f : {x}, {f}) outs(%i : {y}) {{
      ^bb0(%v: f32, %w: f32, %o: f32):
        %t = arith.mulf %v, %w : f32
        %u = arith.addf %o, %t : f32
        linalg.yield %u : f32
      }} -> {y}
      %r = linalg.generic {{indexing_maps = [{identity}, affine_map<(d0, d1, d2, d3, d4) -> (d1, d4)>, {identity}],
          iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel"]}}
          ins(%p, %b : {y}, {bias}) outs(%e : {y}) {{
      ^bb0(%v: f32, %w: f32, %o: f32):
        %t = arith.addf %v, %w : f32
        %u = arith.maximumf %t, %z : f32
        linalg.yield %u : f32
      }} -> {y}
      tile.yield %r : {y}
    }}"""


def arrays(ci: int, co: int, h: int, w: int, kernel: int = 3, stride: int = 1, block: int = 8, batch: int = 1) -> Any:
    inside = min(ci, block)
    hi, wi = (h - 1) * stride + kernel, (w - 1) * stride + kernel
    return [
        floats(batch, ci // inside, hi, wi, inside),
        floats(co // block, ci // inside, kernel, kernel, inside, block) / 10,
        floats(co // block, block),
    ]


@pytest.mark.parametrize("keys", ["", ", parallel = 1 : i64, ow = 3 : i64, cob = 2 : i64, ci_unroll = 3 : i64"])
@pytest.mark.parametrize(
    "case",
    [(8, 16, 5, 7), (8, 8, 7, 2), (3, 16, 4, 9, 3, 2), (16, 32, 6, 6, 1), (8, 8, 3, 3, 5, 2, 4)],
)
def test_conv(check: Any, case: tuple[int, ...], keys: str) -> None:
    check(conv(*case, keys=keys, batch=2), arrays(*case, batch=2), 1e-4)


def depthwise(channels: int, h: int, w: int, kernel: int, stride: int, block: int) -> str:
    hi, wi = (h - 1) * stride + kernel, (w - 1) * stride + kernel
    x, f = f"tensor<{channels // block}x{hi}x{wi}x{block}xf32>", f"tensor<{channels // block}x{kernel}x{kernel}x{block}xf32>"
    y, loops = f"tensor<{channels // block}x{h}x{w}x{block}xf32>", "d0, d1, d2, d3, d4, d5"
    return f"""tile.kernel @k(%x: {x}, %f: {f}) -> ({y}) attributes {{schedule = {{template = "depthwise"}}}} {{
      %z = arith.constant 0.0 : f32
      %e = tensor.empty() : {y}
      %i = linalg.fill ins(%z : f32) outs(%e : {y}) -> {y}
      %p = linalg.generic {{indexing_maps = [
          affine_map<({loops}) -> (d0, d1 * {stride} + d4, d2 * {stride} + d5, d3)>,
          affine_map<({loops}) -> (d0, d4, d5, d3)>, affine_map<({loops}) -> (d0, d1, d2, d3)>],
          iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction", "reduction"]}}
          ins(%x, %f : {x}, {f}) outs(%i : {y}) {{
      ^bb0(%v: f32, %w: f32, %o: f32):
        %t = arith.mulf %v, %w : f32
        %u = arith.addf %o, %t : f32
        linalg.yield %u : f32
      }} -> {y}
      tile.yield %p : {y}
    }}"""


@ALL
@pytest.mark.parametrize("case", [(16, 5, 7, 3, 1, 8), (8, 4, 4, 3, 2, 8), (32, 3, 5, 7, 1, 16)])
def test_depthwise(check: Any, case: tuple[int, ...]) -> None:
    channels, h, w, kernel, stride, block = case
    hi, wi = (h - 1) * stride + kernel, (w - 1) * stride + kernel
    inputs = [floats(channels // block, hi, wi, block), floats(channels // block, kernel, kernel, block)]
    check(depthwise(*case), inputs, 1e-4)


def pool(channels: int, h: int, w: int, kernel: int, stride: int) -> str:
    """A maximum over windows of a plain image."""
    hi, wi = (h - 1) * stride + kernel, (w - 1) * stride + kernel
    x, y, shape = f"tensor<{channels}x{hi}x{wi}xf32>", f"tensor<{channels}x{h}x{w}xf32>", f"tensor<{kernel}x{kernel}xf32>"
    loops = "d0, d1, d2, d3, d4"
    return f"""tile.kernel @k(%x: {x}) -> ({y}) attributes {{schedule = {{template = "window"}}}} {{
      %z = arith.constant 0xFF800000 : f32
      %e = tensor.empty() : {y}
      %s = tensor.empty() : {shape}
      %i = linalg.fill ins(%z : f32) outs(%e : {y}) -> {y}
      %p = linalg.generic {{indexing_maps = [
          affine_map<({loops}) -> (d0, d1 * {stride} + d3, d2 * {stride} + d4)>,
          affine_map<({loops}) -> (d3, d4)>, affine_map<({loops}) -> (d0, d1, d2)>],
          iterator_types = ["parallel", "parallel", "parallel", "reduction", "reduction"]}}
          ins(%x, %s : {x}, {shape}) outs(%i : {y}) {{
      ^bb0(%v: f32, %w: f32, %o: f32):
        %u = arith.maximumf %o, %v : f32
        linalg.yield %u : f32
      }} -> {y}
      tile.yield %p : {y}
    }}"""


@pytest.mark.parametrize("case", [(3, 5, 20, 2, 2), (2, 4, 4, 3, 1), (1, 1, 1, 5, 1)])
def test_pool(check: Any, case: tuple[int, ...]) -> None:
    channels, h, w, kernel, stride = case
    check(pool(*case), [floats(channels, (h - 1) * stride + kernel, (w - 1) * stride + kernel)])


def prefetches(module: Any) -> int:
    return sum(op.name == "memref.prefetch" for op in module.walk())


@pytest.mark.parametrize(
    ("case", "keys", "asks"),
    [
        ((64, 96, 7, 7, 1, 1, 16), "", True),
        ((32, 96, 5, 7, 3, 2, 16), ", parallel = 1 : i64, ow = 3 : i64, cob = 3 : i64, ci_unroll = 4 : i64", True),
        ((64, 16, 7, 7, 1, 1, 16), "", False),
        ((64, 96, 1, 7, 1, 1, 16), "", False),
        ((64, 96, 56, 56, 1, 1, 16), "", False),
    ],
    ids=["1x1", "3x3 stride 2", "no next channels", "one tile", "large image"],
)
def test_filters_of_a_small_image_are_asked_for(
    check: Any, lowered: Any, case: tuple[int, ...], keys: str, asks: bool
) -> None:
    text = conv(*case, keys=keys)
    assert (prefetches(lowered(text, named("x86-64-v4"))) > 0) == asks
    check(text, arrays(*case), 1e-3)


@pytest.mark.parametrize("l2", [16 << 10, 64 << 10, 2 << 20])
@pytest.mark.parametrize("case", [(64, 64, 20, 20, 1, 1, 16), (32, 64, 9, 15, 3, 1, 16), (16, 96, 12, 12, 3, 2, 16)])
def test_order_of_rows_and_channels_follows_the_cache(
    check: Any, lowered: Any, case: tuple[int, ...], l2: int
) -> None:
    for cores in (1, 2):
        target = replace(host(), l2=l2, cores=cores)
        check(conv(*case, keys=", parallel = 1 : i64"), arrays(*case), 1e-3, other=target)


def test_rows_come_first_where_the_image_does_not_stay(lowered: Any) -> None:
    """An image of 100 KiB, filters of 16 KiB: gone through once for all channels where the cache is small."""
    text = conv(64, 64, 20, 20, 1, 1, 16, keys=", ow = 10 : i64, cob = 1 : i64")

    def trips(l2: int) -> list[int]:
        """The loops around the first convolution, outermost first."""
        module = lowered(text, replace(named("x86-64-v4"), l2=l2))
        innermost = next(op for op in module.walk() if isinstance(op, scf.ForOp) and op.iter_args)
        found, op = [], innermost.parent_op()
        while op is not None:
            if isinstance(op, scf.ForOp):
                found.insert(0, op.ub.owner.value.value.data)
            op = op.parent_op()
        return found

    assert trips(1 << 20) == [4, 20, 2], "channels, rows, columns"
    assert trips(64 << 10) == [20, 4, 2], "rows, channels, columns"
