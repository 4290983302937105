"""Images at other sizes: nearest, (bi)linear and bicubic upsampling, grid sampling, windows as columns.

Every element of the result computes where it comes from, as torch does: positions in float32 from the scale, which
is 1 / scale_factor where one was given and input / output size where not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.diagnostics import NeedsNumber, UnsupportedError
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, Sample, TensorInfo, declare, op, sample
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops.convolution_linalg import each
from stepwell.dialects.torch.ops.dimensions import known, require
from stepwell.dialects.torch.ops.elementwise import as_dtype
from stepwell.dialects.torch.ops.promotion import facts, numpy_compute
from stepwell.dialects.torch.ops.samples import normal
from stepwell.dialects.torch.scalar import Scalar, compute_dtype
from stepwell.dialects.torch.sizes import Size

Floats = Sequence[float | None]


def _wanted(x: TensorInfo, rank: int, sizes: Sequence[Size] | None, factors: Sequence[float] | None) -> list[Size]:
    """The image sizes of a `.vec` overload: given, or the input's times the factors, rounded down."""
    require((sizes is None) != (factors is None), "Must specify exactly one of output_size and scale_factors")
    if sizes is not None:
        return list(sizes)
    assert factors is not None
    result: list[Size] = []
    for size, factor in zip(x.sizes[2:], each(factors, rank), strict=True):
        known(factor, "a scale factor")
        if isinstance(size, int):
            result.append(math.floor(size * factor))
        elif factor == int(factor):
            result.append(size * int(factor))
        else:
            raise NeedsNumber(f"upsampling by {factor} a size that is only known at run time")
    return result


def _check(x: TensorInfo, rank: int, sizes: Sequence[Size]) -> TensorInfo:
    require(x.rank == rank + 2, f"It is expected input_size equals to {rank + 2}, but got size {x.rank}")
    require(len(sizes) == rank, f"It is expected output_size equals to {rank}, but got size {len(sizes)}")
    for size in (*sizes, *x.sizes[2:]):
        require(not isinstance(size, int) or size > 0, f"Input and output sizes should be greater than 0, but got input (H: {list(x.sizes[2:])}) output (H: {list(sizes)})")  # noqa: E501  # fmt: skip
    return x.with_sizes([*x.sizes[:2], *sizes])


# ------ where an output position comes from: the same formula on numpy arrays and on Scalars


def _scale(b: LinalgBuilder | None, size: Size, out: Size, factor: float | None, corners: bool) -> Any:
    """The step in the input for one step in the output, in float32."""
    if corners:
        if isinstance(size, int) and isinstance(out, int):
            return np.float32(size - 1) / np.float32(out - 1) if out > 1 else np.float32(0)
        assert b is not None
        n, m = b.scalar(size - 1, dtypes.float32), b.scalar(out - 1, dtypes.float32)
        return m.compare("gt", 0.0).select(n / m.maximum(1.0), 0.0)
    if factor is not None and factor > 0:
        return np.float32(1.0 / factor)
    if isinstance(size, int) and isinstance(out, int):
        return np.float32(size) / np.float32(out)
    assert b is not None
    return b.scalar(size, dtypes.float32) / b.scalar(out, dtypes.float32)


def _nearest_numpy(size: int, out: int, factor: float | None, exact: bool) -> Array:
    scale = _scale(None, size, out, factor, False)
    start = np.float32(0.5 if exact else 0)
    return np.asarray(np.minimum(np.floor((np.arange(out, dtype=np.float32) + start) * scale).astype(np.int64), size - 1))


def _linear_numpy(size: int, out: int, factor: float | None, corners: bool) -> tuple[Array, Array, Array]:
    """The two neighbours of every output position and the second one's weight."""
    scale, place = _scale(None, size, out, factor, corners), np.arange(out, dtype=np.float32)
    source = place * scale if corners else np.maximum((place + np.float32(0.5)) * scale - np.float32(0.5), 0)
    low = np.minimum(source.astype(np.int64), size - 1)
    return low, np.minimum(low + 1, size - 1), np.clip(source - low, 0, 1)


class _Axis:
    """One image dimension inside a body: `source` gives the input position in float32."""

    def __init__(self, b: LinalgBuilder, size: Size, out: Size, factor: float | None, corners: bool) -> None:
        scale = _scale(b, size, out, factor, corners)
        self.scale = scale if isinstance(scale, Scalar) else b.scalar(float(scale), dtypes.float32)
        self.last = b.scalar(size - 1, dtypes.int64)
        self.corners = corners

    def nearest(self, place: Scalar, exact: bool) -> Scalar:
        at = place.at
        position = place.cast(dtypes.float32) + (0.5 if exact else 0.0)
        source = (position * Scalar(self.scale.value, dtypes.float32, at)).math("floor").cast(dtypes.int64)
        return source.minimum(Scalar(self.last.value, dtypes.int64, at))

    def cubic(self, place: Scalar) -> tuple[list[Scalar], list[Scalar]]:
        """Four neighbours (the image's edge repeated) and their weights."""
        at = place.at
        scale, last = Scalar(self.scale.value, dtypes.float32, at), Scalar(self.last.value, dtypes.int64, at)
        position = place.cast(dtypes.float32)
        source = position * scale if self.corners else (position + 0.5) * scale - 0.5
        first = source.math("floor")
        start = first.cast(dtypes.int64)
        taken = [(start + offset).maximum(0).minimum(last) for offset in (-1, 0, 1, 2)]
        return taken, _cubic_weights(source - first)

    def linear(self, place: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        at = place.at
        scale, last = Scalar(self.scale.value, dtypes.float32, at), Scalar(self.last.value, dtypes.int64, at)
        position = place.cast(dtypes.float32)
        source = position * scale if self.corners else ((position + 0.5) * scale - 0.5).maximum(0.0)
        low = source.cast(dtypes.int64).minimum(last)
        weight = (source - low.cast(dtypes.float32)).maximum(0.0).minimum(1.0)
        return low, (low + 1).minimum(last), weight


# ------ nearest


def _nearest_reference(x: Array, sizes: Sequence[int], factors: Floats, exact: bool) -> Array:
    for d, (size, factor) in enumerate(zip(sizes, factors, strict=True)):
        x = np.take(x, _nearest_numpy(x.shape[d + 2], size, factor, exact), d + 2)
    return x


def _nearest_lower(b: LinalgBuilder, x: Tensor, sizes: Sequence[Size], factors: Floats, exact: bool) -> Tensor:
    axes = [_Axis(b, s, o, f, False) for s, o, f in zip(x.sizes[2:], sizes, factors, strict=True)]

    def body(at: Any, _: list[Scalar]) -> Scalar:
        image = [axis.nearest(at.position(d + 2), exact) for d, axis in enumerate(axes)]
        return at.gather(x, [at.position(0), at.position(1), *image])  # type: ignore[no-any-return]

    return b.pointwise(body, [], [*x.sizes[:2], *sizes], x.dtype)


# ------ linear and bilinear


def _linear_reference(x: Array, sizes: Sequence[int], factors: Floats, corners: bool) -> Array:
    y = x.astype(np.float64)
    for d, (size, factor) in enumerate(zip(sizes, factors, strict=True)):
        low, high, weight = _linear_numpy(x.shape[d + 2], size, factor, corners)
        weight = weight.astype(np.float64).reshape([-1 if n == d + 2 else 1 for n in range(x.ndim)])
        y = np.take(y, low, d + 2) * (1 - weight) + np.take(y, high, d + 2) * weight
    return as_dtype(y, facts(x).dtype)


def _linear_lower(b: LinalgBuilder, x: Tensor, sizes: Sequence[Size], factors: Floats, corners: bool) -> Tensor:
    axes = [_Axis(b, s, o, f, corners) for s, o, f in zip(x.sizes[2:], sizes, factors, strict=True)]
    inner = compute_dtype(x.dtype)

    def body(at: Any, _: list[Scalar]) -> Scalar:
        ends = [axis.linear(at.position(d + 2)) for d, axis in enumerate(axes)]

        def blend(d: int, image: list[Scalar]) -> Scalar:
            if d == len(ends):
                return at.gather(x, [at.position(0), at.position(1), *image]).cast(inner)  # type: ignore[no-any-return]
            low, high, weight = ends[d]
            w = weight.cast(inner)
            return blend(d + 1, [*image, low]) * (1.0 - w) + blend(d + 1, [*image, high]) * w

        return blend(0, [])

    return b.pointwise(body, [], [*x.sizes[:2], *sizes], x.dtype)


# ------ bicubic: convolution with Keys' kernel, a = -0.75 (Keys, "Cubic convolution interpolation", 1981)


def _cubic_weights(t: Any) -> list[Any]:
    """Weights of the neighbours at -1, 0, 1, 2, for a position t in 0..1 after the second one."""

    def near(d: Any) -> Any:
        return (d * 1.25 - 2.25) * d * d + 1.0

    def far(d: Any) -> Any:
        return ((d * -0.75 + 3.75) * d - 6.0) * d + 3.0

    return [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]


def _cubic_reference(x: Array, sizes: Sequence[int], factors: Floats, corners: bool) -> Array:
    y = x.astype(np.float64)
    for d, (out, factor) in enumerate(zip(sizes, factors, strict=True)):
        size, place = x.shape[d + 2], np.arange(out, dtype=np.float32)
        scale = _scale(None, size, out, factor, corners)
        source = place * scale if corners else (place + np.float32(0.5)) * scale - np.float32(0.5)
        first = np.floor(source)
        weights = _cubic_weights((source - first).astype(np.float64))
        taken = [np.clip(first.astype(np.int64) + offset, 0, size - 1) for offset in (-1, 0, 1, 2)]
        shape = [-1 if n == d + 2 else 1 for n in range(x.ndim)]
        y = sum(np.take(y, i, d + 2) * w.reshape(shape) for i, w in zip(taken, weights, strict=True))
    return as_dtype(y, facts(x).dtype)


def _cubic_lower(b: LinalgBuilder, x: Tensor, sizes: Sequence[Size], factors: Floats, corners: bool) -> Tensor:
    inner = compute_dtype(x.dtype)
    for d, (out, factor) in enumerate(zip(sizes, factors, strict=True)):
        axis = _Axis(b, x.sizes[d + 2], out, factor, corners)

        def body(at: Any, _: list[Scalar], d: int = d + 2, axis: _Axis = axis, x: Tensor = x) -> Scalar:
            place = [at.position(n) for n in range(len(x.sizes))]
            taken, weights = axis.cubic(place[d])
            parts = [
                at.gather(x, [*place[:d], i, *place[d + 1 :]]).cast(inner) * w.cast(inner)
                for i, w in zip(taken, weights, strict=True)
            ]
            total: Scalar = parts[0] + parts[1] + parts[2] + parts[3]
            return total

        shape = [*x.sizes]
        shape[d + 2] = out
        x = b.pointwise(body, [], shape, x.dtype)
    return x


# ------ declarations: by sizes and scales, or (.vec) by sizes or factors

_SCALES = {1: "float? scales=None", 2: "float? scales_h=None, float? scales_w=None",
           3: "float? scales_d=None, float? scales_h=None, float? scales_w=None"}  # fmt: skip


def _upsampling(name: str, rank: int, corners: bool, reference: Callable[..., Array], lower: Callable[..., Tensor], mode: Any) -> None:
    """Declare both overloads; `mode` is the last argument of the rules where there is no align_corners."""
    middle = ", bool align_corners" if corners else ""

    def unpack(arguments: tuple[Any, ...]) -> tuple[list[Any], list[Any], Any]:
        sizes, *rest = arguments
        flag = rest.pop(0) if corners else mode
        return each(sizes, rank), list(rest), flag

    def unpack_vec(x: TensorInfo, arguments: tuple[Any, ...]) -> tuple[list[Any], list[Any], Any]:
        sizes, *rest = arguments
        flag = rest.pop(0) if corners else mode
        factors = rest[0]
        return _wanted(x, rank, sizes, factors), each(factors, rank) if factors else [None] * rank, flag

    flags: list[tuple[Any, ...]] = [(False,), (True,)] if corners else [()]
    image = (3, 4, 2)[:rank]
    bigger, smaller = [2 * n + 1 for n in image], [max(n - 1, 1) for n in image]
    declare(
        f"aten::{name}(Tensor self, SymInt[{rank}] output_size{middle}, {_SCALES[rank]}) -> Tensor",
        infer=lambda x, *a: _check(x, rank, unpack(a)[0]), reference=lambda x, *a: reference(x, *unpack(a)),
        lower=lambda b, out, x, *a: lower(b, x, *unpack(a)), doc="The image at other sizes.",
        samples=lambda: [sample(normal(2, 2, *image), s, *f) for s in (bigger, smaller) for f in flags],
        source=f"{__name__} (aten::{name})",
    )  # fmt: skip
    declare(
        f"aten::{name}.vec(Tensor input, SymInt[]? output_size{middle}, float[]? scale_factors) -> Tensor",
        infer=lambda x, *a: _check(x, rank, unpack_vec(x, a)[0]),
        reference=lambda x, *a: reference(x, *unpack_vec(facts(x), a)),
        lower=lambda b, out, x, *a: lower(b, x, *unpack_vec(x.info, a)), doc="The image at other sizes.",
        samples=lambda: [sample(normal(2, 2, *image), None, *f, [2.0] * rank) for f in flags]
        + [sample(normal(2, 2, *image), bigger, *f, None) for f in flags]
        + [sample(normal(2, 2, *image), None, *f, [1.5] * rank) for f in flags],
        source=f"{__name__} (aten::{name}.vec)",
    )  # fmt: skip


for _rank in (1, 2, 3):
    _upsampling(f"upsample_nearest{_rank}d", _rank, False, _nearest_reference, _nearest_lower, False)
    _upsampling(f"_upsample_nearest_exact{_rank}d", _rank, False, _nearest_reference, _nearest_lower, True)
_upsampling("upsample_linear1d", 1, True, _linear_reference, _linear_lower, None)
_upsampling("upsample_bilinear2d", 2, True, _linear_reference, _linear_lower, None)
_upsampling("upsample_bicubic2d", 2, True, _cubic_reference, _cubic_lower, None)
_upsampling("upsample_trilinear3d", 3, True, _linear_reference, _linear_lower, None)


# ------ grids


@op("aten::grid_sampler(Tensor input, Tensor grid, int interpolation_mode, int padding_mode, bool align_corners) -> Tensor")
class GridSampler:
    """The image at positions in -1..1 that a grid gives: bilinear (0) or nearest (1); outside zeros (0) or the border (1)."""

    @staticmethod
    def samples() -> list[Sample]:
        grid = normal(2, 3, 5, 2)
        return [sample(normal(2, 3, 4, 6), grid, m, p, c) for m in (0, 1) for p in (0, 1) for c in (False, True)]

    @staticmethod
    def infer(x: TensorInfo, grid: TensorInfo, mode: int, padding: int, corners: bool) -> TensorInfo:
        if x.rank != 4 or mode not in (0, 1) or padding not in (0, 1):
            raise UnsupportedError("aten::grid_sampler other than 2-d, bilinear or nearest, with zeros or border padding")
        return x.with_sizes([*x.sizes[:2], *grid.sizes[1:3]])

    @staticmethod
    def reference(x: Array, grid: Array, mode: int, padding: int, corners: bool) -> Array:
        n, _, h, w = x.shape
        g = grid.astype(numpy_compute(facts(x).dtype))
        ix, iy = (((g[..., d] + 1) / 2 * (s - 1)) if corners else ((g[..., d] + 1) * s - 1) / 2 for d, s in ((0, w), (1, h)))
        if padding == 1:
            ix, iy = np.clip(ix, 0, w - 1), np.clip(iy, 0, h - 1)
        batch = np.arange(n)[:, None, None]

        def pixel(py: Array, px: Array) -> Array:
            inside = (px >= 0) & (px < w) & (py >= 0) & (py < h)
            values = x[batch, :, np.clip(py, 0, h - 1).astype(int), np.clip(px, 0, w - 1).astype(int)]
            return np.moveaxis(values * inside[..., None], -1, 1)

        if mode == 1:
            return pixel(np.rint(iy), np.rint(ix)).astype(x.dtype)
        x0, y0 = np.floor(ix), np.floor(iy)
        fx, fy = (ix - x0)[:, None], (iy - y0)[:, None]
        top = pixel(y0, x0) * (1 - fx) + pixel(y0, x0 + 1) * fx
        low = pixel(y0 + 1, x0) * (1 - fx) + pixel(y0 + 1, x0 + 1) * fx
        return np.asarray(top * (1 - fy) + low * fy).astype(x.dtype)

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, grid: Tensor, mode: int, padding: int, corners: bool) -> Tensor:
        inner = compute_dtype(x.dtype)
        sizes = [b.scalar(s, dtypes.int64) for s in x.sizes[2:]]

        def body(at: Any, _: list[Scalar]) -> Scalar:
            n, c, row, column = (at.position(d) for d in range(4))
            limits = [Scalar(s.value, dtypes.int64, at) for s in sizes]
            places = []
            for d, size in ((1, limits[0]), (0, limits[1])):
                wide = size.cast(inner)
                g = at.gather(grid, [n, row, column, column.lift(d)]).cast(inner)
                place = (g + 1.0) * 0.5 * (wide - 1.0) if corners else ((g + 1.0) * wide - 1.0) * 0.5
                places.append(place.maximum(0.0).minimum(wide - 1.0) if padding == 1 else place)

            def pixel(py: Scalar, px: Scalar) -> Scalar:
                inside = None
                spots = []
                for p, size in ((py, limits[0]), (px, limits[1])):
                    good = p.compare("ge", 0.0) & p.compare("lt", size.cast(inner))
                    inside = good if inside is None else inside & good
                    kept = p.maximum(0.0).minimum((size - 1).cast(inner)).cast(dtypes.int64)
                    spots.append(kept.maximum(0).minimum(size - 1))
                assert inside is not None
                return inside.select(at.gather(x, [n, c, *spots]).cast(inner), 0.0)

            if mode == 1:
                return pixel(places[0].math("roundeven"), places[1].math("roundeven"))
            y0, x0 = (p.math("floor") for p in places)
            fy, fx = places[0] - y0, places[1] - x0
            top = pixel(y0, x0) * (1.0 - fx) + pixel(y0, x0 + 1.0) * fx
            low = pixel(y0 + 1.0, x0) * (1.0 - fx) + pixel(y0 + 1.0, x0 + 1.0) * fx
            result: Scalar = top * (1.0 - fy) + low * fy
            return result

        return b.pointwise(body, [], out.sizes, out.dtype)


# ------ windows as columns


@op("aten::im2col(Tensor self, int[2] kernel_size, int[2] dilation, int[2] padding, int[2] stride) -> Tensor")
class Im2Col:
    """Every window of the image as a column (nn.Unfold)."""

    samples = staticmethod(
        lambda: [sample(normal(2, 3, 5, 6), [2, 3], [1, 1], [0, 1], [1, 2]), sample(normal(1, 2, 4, 4), [2, 2], [1, 1], [0, 0], [2, 2])]
    )

    @staticmethod
    def windows(x: TensorInfo, kernel: Any, dilation: Any, padding: Any, stride: Any) -> list[Size]:
        if any(d != 1 for d in dilation):
            raise UnsupportedError("aten::im2col with a dilation")
        return [(s + 2 * p - k) // t + 1 for s, p, k, t in zip(x.sizes[-2:], padding, kernel, stride, strict=True)]

    @staticmethod
    def infer(x: TensorInfo, kernel: Any, dilation: Any, padding: Any, stride: Any) -> TensorInfo:
        require(x.rank == 4, "Expected 4D (batch mode) input for im2col")
        rows, columns = Im2Col.windows(x, kernel, dilation, padding, stride)
        return x.with_sizes([x.sizes[0], x.sizes[1] * kernel[0] * kernel[1], rows * columns])

    @staticmethod
    def reference(x: Array, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Array:
        Im2Col.windows(facts(x), kernel, dilation, padding, stride)
        y = np.pad(x, [(0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2])
        windows = np.lib.stride_tricks.sliding_window_view(y, tuple(kernel), axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
        n, c, rows, columns = windows.shape[:4]
        return windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, c * kernel[0] * kernel[1], rows * columns)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Value:
        sizes = list(Im2Col.infer(x.tensor, kernel, dilation, padding, stride).sizes)
        y = b.constant_pad_nd(x, [padding[1], padding[1], padding[0], padding[0]])
        y = b.unfold(b.unfold(y, 2, kernel[0], stride[0]), 3, kernel[1], stride[1])
        result: Value = b.view(b.permute(y, [0, 1, 4, 5, 2, 3]), sizes)
        return result
