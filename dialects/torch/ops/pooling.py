"""Poolings: the largest element or the mean of every window.

At the linalg level: explicit padding, then one linalg.generic over (n, c, image..., window...) with an operand that
only gives the window its shape. An input without its batch dimension is taken too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from xdsl.ir.affine import AffineExpr, AffineMap

from stepwell.dialects import dtypes
from stepwell.dialects.diagnostics import NeedsNumber
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, TensorInfo, declare, sample
from stepwell.dialects.torch.linalg_builder import PARALLEL, REDUCTION, LinalgBuilder, Tensor, project
from stepwell.dialects.torch.ops.convolution_linalg import each, padded
from stepwell.dialects.torch.ops.dimensions import along, require, static
from stepwell.dialects.torch.ops.elementwise import as_dtype
from stepwell.dialects.torch.ops.promotion import facts
from stepwell.dialects.torch.ops.reductions import accumulated, back, wide
from stepwell.dialects.torch.ops.samples import integers, normal
from stepwell.dialects.torch.scalar import Scalar, compute_dtype, infinity
from stepwell.dialects.torch.sizes import Size, ceil_divide, maximum, minimum, product

Ints = Sequence[int]


class Window:
    """The geometry of a pooling: kernel, stride, padding, dilation of every dimension, and its image sizes."""

    def __init__(
        self, x: TensorInfo, rank: int, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil: bool
    ) -> None:
        self.rank = rank
        self.kernel, self.padding, self.dilation = each(kernel, rank), each(padding, rank), each(dilation, rank)
        self.stride = each(stride, rank) if stride else self.kernel
        require(
            x.rank in (rank + 1, rank + 2),
            f"Expected {rank + 1}D or {rank + 2}D input tensor, but got {x.rank}D: {list(x.sizes)}",
        )
        for k, s, p, d in zip(self.kernel, self.stride, self.padding, self.dilation, strict=True):
            require(k > 0 and d > 0, "kernel size and dilation should be greater than zero")
            require(s > 0, "stride should not be zero")
            require(0 <= p <= (d * (k - 1) + 1) // 2, f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} and dilation={d}")  # noqa: E501  # fmt: skip
        self.input = list(x.sizes[x.rank - rank :])
        self.image = [self._size(n, ceil) for n in range(rank)]
        self.sizes = (*x.sizes[: x.rank - rank], *self.image)

    def _size(self, n: int, ceil: bool) -> Size:
        size, stride, padding = self.input[n], self.stride[n], self.padding[n]
        room: Size = size + 2 * padding - self.dilation[n] * (self.kernel[n] - 1) - 1
        if not ceil:
            result: Size = room // stride + 1
        else:
            # The last window must start inside the input or its left padding.
            result = minimum(ceil_divide(room, stride) + 1, ceil_divide(size + padding, stride))
        require(not isinstance(result, int) or result > 0, "Given input size: Calculated output size: Output size is too small")
        return result

    def after(self) -> list[Size]:
        """The padding after the image that the last windows reach."""
        reach = [
            (o - 1) * s + d * (k - 1) + 1 - size - p
            for o, s, d, k, size, p in zip(self.image, self.stride, self.dilation, self.kernel, self.input, self.padding, strict=True)
        ]  # fmt: skip
        return [maximum(r, 0) for r in reach]

    def numpy_windows(self, x: Array, value: Any) -> Array:
        """All windows of the padded input: image dimensions, then window dimensions."""
        lead = x.ndim - self.rank
        widths = [(0, 0)] * lead + [(p, int(a)) for p, a in zip(self.padding, self.after(), strict=True) if isinstance(a, int)]
        x = np.pad(x, widths, constant_values=value)
        extents = tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))
        windows = sliding_window_view(x, extents, axis=tuple(range(lead, x.ndim)))
        steps = [slice(0, (int(o) - 1) * s + 1, s) for o, s in zip(self.image, self.stride, strict=True) if isinstance(o, int)]
        return windows[(*(slice(None),) * lead, *steps, *(slice(None, None, d) for d in self.dilation))]


def _batched(b: LinalgBuilder, x: Tensor, rank: int) -> Tensor:
    return b.reshape(x, [1, *x.sizes]) if x.rank == rank + 1 else x


def _pool(
    b: LinalgBuilder, x: Tensor, window: Window, start: Any, body: Callable[..., Scalar], dtype: dtypes.DType,
    beside: Sequence[Tensor] = (),
) -> Tensor:  # fmt: skip
    """Fold body(at, element, *elements beside, accumulator) over every window of the padded x.

    Tensors `beside` have the result's sizes.
    """
    rank = window.rank
    loops = 2 + 2 * rank
    dims = [AffineExpr.dimension(n) for n in range(loops)]
    places = [dims[2 + n] * window.stride[n] + dims[2 + rank + n] * window.dilation[n] for n in range(rank)]
    shape = Tensor(b.empty(window.kernel, x.dtype), tuple(window.kernel), x.dtype)
    sizes = [*x.sizes[:2], *window.image]
    kept = project(loops, range(2 + rank))
    return b.generic(
        [x, shape, *beside], [AffineMap(loops, 0, (*dims[:2], *places)), project(loops, range(2 + rank, loops)), *[kept] * len(beside)],
        [PARALLEL] * (2 + rank) + [REDUCTION] * rank, sizes, dtype, lambda at, e: body(at, e[0], *e[2:]),
        output_map=kept, initial=b.fill(start, sizes, dtype),
    )  # fmt: skip


# ------ largest elements


def _max_info(rank: int, x: TensorInfo, *geometry: Any) -> TensorInfo:
    return x.with_sizes(Window(x, rank, *geometry).sizes)


def _lowest(x: Array) -> Any:
    return -np.inf if x.dtype.kind not in "iub" else np.iinfo(x.dtype).min


def _max_reference(rank: int, x: Array, *geometry: Any) -> Array:
    windows = Window(facts(x), rank, *geometry).numpy_windows(x, _lowest(x))
    return np.asarray(windows.max(tuple(range(-rank, 0))))


def _max_windows(b: LinalgBuilder, rank: int, x: Tensor, *geometry: Any) -> tuple[Window, Tensor, Tensor]:
    window = Window(x.info, rank, *geometry)
    low = infinity(x.dtype, -1)
    wide_x = padded(b, _batched(b, x, rank), window.padding, window.after(), low)
    return window, wide_x, _pool(b, wide_x, window, low, lambda at, e, a: a.maximum(e), x.dtype)


def _max_lower(rank: int, b: LinalgBuilder, out: TensorInfo, x: Tensor, *geometry: Any) -> Tensor:
    return b.reshape(_max_windows(b, rank, x, *geometry)[2], out.sizes)


def _flat_index(window: Window, coordinates: Sequence[Any]) -> Any:
    """The position in the input's image, row-major."""
    index = coordinates[0]
    for size, coordinate in zip(window.input[1:], coordinates[1:], strict=True):
        index = index * size + coordinate
    return index


def _indices_reference(rank: int, x: Array, *geometry: Any) -> tuple[Array, Array]:
    window = Window(facts(x), rank, *geometry)
    windows = window.numpy_windows(x, _lowest(x))
    flat = windows.reshape(*windows.shape[:-rank], -1)
    # The padding never wins: where all is -inf torch takes the first element inside.
    inside = np.ones(static(window.input), np.bool_)
    valid = Window(TensorInfo((1, *window.input), dtypes.bool_), rank, *geometry).numpy_windows(inside[None], False)
    valid = np.broadcast_to(valid.reshape(1, *valid.shape[1 : 1 + rank], -1), (*flat.shape[flat.ndim - rank - 2 : -rank - 1], *flat.shape[-rank - 1 :]))  # noqa: E501
    best = np.where(valid, flat, _lowest(x)).max(-1, keepdims=True)
    is_best = valid & ((flat == best) | (flat != flat))
    chosen = np.asarray(is_best.argmax(-1))
    inner = np.unravel_index(chosen, tuple(window.kernel))
    grids = np.meshgrid(*[np.arange(o) for o in static(window.image)], indexing="ij")
    places = [g * s - p + k * d for g, s, p, k, d in zip(grids, window.stride, window.padding, inner, window.dilation, strict=True)]
    return np.asarray(best[..., 0]), np.asarray(_flat_index(window, places)).astype(np.int64)


def _indices_lower(rank: int, b: LinalgBuilder, out: Any, x: Tensor, *geometry: Any) -> tuple[Tensor, Tensor]:
    window, wide_x, best = _max_windows(b, rank, x, *geometry)
    never = infinity(dtypes.int64)
    limits = [b.scalar(s, dtypes.int64) for s in window.input]

    def first(at: Any, element: Scalar, best_element: Scalar, found: Scalar) -> Scalar:
        places = [
            at.position(2 + n) * window.stride[n] + at.position(2 + rank + n) * window.dilation[n] - window.padding[n]
            for n in range(rank)
        ]
        sizes = [Scalar(v.value, dtypes.int64, at) for v in limits]
        index = places[0]
        good = element.compare("eq", best_element)
        good = good | element.is_nan() if element.dtype.is_floating else good
        for n in range(rank):
            if any(window.padding) or window.after()[n] != 0:
                good = good & places[n].compare("ge", 0) & places[n].compare("lt", sizes[n])
            index = places[n] if n == 0 else index * sizes[n] + places[n]
        return found.minimum(good.select(index, index.lift(never)))

    found = _pool(b, wide_x, window, never, first, dtypes.int64, [best])
    return b.reshape(best, out[0].sizes), b.reshape(found, out[1].sizes)


_MAX_TAIL = {1: "stride=[], int[1] padding=[0], int[1] dilation=[1]", 2: "stride=[], int[2] padding=0, int[2] dilation=1",
             3: "stride=[], int[3] padding=0, int[3] dilation=1"}  # fmt: skip
_IMAGES = {1: (7,), 2: (6, 7), 3: (4, 5, 6)}


def _max_samples(rank: int) -> Callable[[], list[Any]]:
    def make() -> list[Any]:
        image = _IMAGES[rank]
        return [
            sample(normal(2, 3, *image), [2] * rank), sample(normal(2, *image), [3] * rank, [2] * rank, [1] * rank, [1] * rank, True),
            sample(normal(1, 2, *image), [2] * rank, [1] * rank, [0] * rank, [2] * rank),
            sample(np.where(normal(1, 1, *image) > 1, np.nan, normal(1, 1, *image)).astype(np.float32), [2] * rank),
            *([sample(integers(1, 2, *image), [2] * rank)] if rank == 2 else []),
        ]  # fmt: skip

    return make


def _bound(rank: int, function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: function(rank, *arguments)


for _rank in (1, 2, 3):
    _arguments = f"(Tensor self, int[{_rank}] kernel_size, int[{_rank}] {_MAX_TAIL[_rank]}, bool ceil_mode=False)"
    declare(
        f"aten::max_pool{_rank}d{_arguments} -> Tensor", infer=_bound(_rank, _max_info), reference=_bound(_rank, _max_reference),
        lower=_bound(_rank, _max_lower), samples=_max_samples(_rank), doc="The largest element of every window.",
        source=f"{__name__} (aten::max_pool{_rank}d)",
    )  # fmt: skip
    declare(
        f"aten::max_pool{_rank}d_with_indices{_arguments} -> (Tensor, Tensor)",
        infer=(lambda rank: lambda x, *a: (_max_info(rank, x, *a), _max_info(rank, x, *a).with_dtype(dtypes.int64)))(_rank),
        reference=_bound(_rank, _indices_reference), lower=_bound(_rank, _indices_lower), samples=lambda rank=_rank: [s for s in _max_samples(rank)() if not np.any(s.arguments[0] != s.arguments[0])],  # noqa: E501
        doc="The largest element of every window and its position in the image (the first; torch takes the last NaN).",
        source=f"{__name__} (aten::max_pool{_rank}d_with_indices)",
    )  # fmt: skip


# ------ means


def _geometry(kernel: Ints, stride: Ints, padding: Ints, ceil: bool, *_: Any) -> tuple[Any, ...]:
    return kernel, stride, padding, [1], ceil


def _average_info(rank: int, x: TensorInfo, *arguments: Any) -> TensorInfo:
    return x.with_sizes(Window(x, rank, *_geometry(*arguments)).sizes)


def _average_reference(rank: int, x: Array, *arguments: Any) -> Array:
    window = Window(facts(x), rank, *_geometry(*arguments))
    total = window.numpy_windows(wide(x), 0).sum(tuple(range(-rank, 0)))
    counts = np.ones((1,) * rank)
    for n in range(rank):
        shape = [-1 if d == n else 1 for d in range(rank)]
        start = np.arange(window.image[n]) * window.stride[n] - window.padding[n]  # type: ignore[arg-type]
        counts = counts * np.asarray(_extent(start, window, n, arguments[4], np.minimum, np.maximum)).reshape(shape)
    override = arguments[5] if len(arguments) > 5 else None
    return as_dtype(np.asarray(total / (counts if override is None else override)), facts(x).dtype)


def _extent(start: Any, window: Window, n: int, with_padding: bool, low: Any, high: Any) -> Any:
    """How many positions of dimension n count for the window that starts at `start`."""
    if with_padding:
        return low(start + window.kernel[n], window.input[n] + window.padding[n]) - start
    return low(start + window.kernel[n], window.input[n]) - high(start, 0)


def _average_lower(rank: int, b: LinalgBuilder, out: TensorInfo, x: Tensor, *arguments: Any) -> Tensor:
    window = Window(x.info, rank, *_geometry(*arguments))
    inner = compute_dtype(x.dtype)
    wide_x = padded(b, _batched(b, x, rank), window.padding, window.after(), 0)
    total = _pool(b, wide_x, window, 0, lambda at, e, a: a + e.cast(inner), inner)
    override = arguments[5] if len(arguments) > 5 else None
    everywhere = not any(window.padding) or (arguments[4] and not arguments[3])
    if override is None and everywhere and not arguments[3]:
        override = int(np.prod(window.kernel))
    if override is not None:
        mean = b.elementwise(lambda e: e / float(override), total, dtype=inner)
        return b.reshape(b.cast(mean, out.dtype), out.sizes)
    sizes = [b.scalar(s, dtypes.int64) for s in window.input]

    def divide(at: Any, elements: list[Scalar]) -> Scalar:
        count = None
        for n in range(rank):
            start = at.position(2 + n) * window.stride[n] - window.padding[n]
            size = Scalar(sizes[n].value, dtypes.int64, at)
            last = size + window.padding[n] if arguments[4] else size
            own = (start + window.kernel[n]).minimum(last) - (start if arguments[4] else start.maximum(0))
            count = own if count is None else count * own
        assert count is not None
        mean: Scalar = elements[0] / count.cast(inner)
        return mean

    mean = b.pointwise(divide, [total], total.sizes, inner)
    return b.reshape(b.cast(mean, out.dtype), out.sizes)


def _average_samples(rank: int) -> Callable[[], list[Any]]:
    def make() -> list[Any]:
        image = _IMAGES[rank]
        more = [sample(normal(1, 2, *image), [2] * rank, [2] * rank, [0] * rank, False, True, 3)] if rank > 1 else []
        return [
            sample(normal(2, 3, *image), [2] * rank), sample(normal(2, *image), [3] * rank, [2] * rank, [1] * rank),
            sample(normal(2, 3, *image), [3] * rank, [2] * rank, [1] * rank, True, False),
            sample(normal(2, 3, *image), [3] * rank, [2] * rank, [1] * rank, True, True), *more,
        ]  # fmt: skip

    return make


for _rank in (1, 2, 3):
    _pad = "[0]" if _rank == 1 else "0"
    _more = ", int? divisor_override=None" if _rank > 1 else ""
    declare(
        f"aten::avg_pool{_rank}d(Tensor self, int[{_rank}] kernel_size, int[{_rank}] stride=[], int[{_rank}] padding={_pad}, bool ceil_mode=False, bool count_include_pad=True{_more}) -> Tensor",  # noqa: E501
        infer=_bound(_rank, _average_info), reference=_bound(_rank, _average_reference), lower=_bound(_rank, _average_lower),
        samples=_average_samples(_rank), doc="The mean of every window.", source=f"{__name__} (aten::avg_pool{_rank}d)",
    )  # fmt: skip


# ------ as many windows as asked for: from floor(o I / O) to ceil((o + 1) I / O)


def _ranges(size: Size, count: Size) -> list[tuple[Size, Size]]:
    if isinstance(count, int) and count == 1:
        return [(0, size)]
    if not isinstance(count, int):
        raise NeedsNumber("an adaptive pooling to a size that is only known at run time")
    return [(o * size // count, ceil_divide((o + 1) * size, count)) for o in range(count)]


def _adaptive_info(rank: int, x: TensorInfo, sizes: Sequence[Size]) -> TensorInfo:
    require(x.rank in (rank + 1, rank + 2), f"adaptive pooling: expected {rank + 1}D or {rank + 2}D input, got {x.rank}D")
    lead = x.rank - rank
    wanted = [x.sizes[lead + n] if s is None else s for n, s in enumerate(each(sizes, rank))]
    return x.with_sizes([*x.sizes[:lead], *wanted])


def _adaptive_reference(rank: int, x: Array, sizes: Sequence[int]) -> Array:
    y = wide(x)
    lead = x.ndim - rank
    for n, count in enumerate(_adaptive_info(rank, facts(x), sizes).sizes[lead:]):
        y = np.stack([y[along(lead + n, slice(a, z))].mean(lead + n) for a, z in _ranges(y.shape[lead + n], count)], lead + n)
    return as_dtype(y, facts(x).dtype)


def _adaptive_expand(rank: int, b: TorchBuilder, x: Value, sizes: Sequence[Size]) -> Value:
    lead = x.rank - rank
    wanted = _adaptive_info(rank, x.tensor, sizes).sizes[lead:]
    image = x.sizes[lead:]
    if all(isinstance(w, int) and w == 1 for w in wanted):
        return b.mean(x, list(range(lead, x.rank)), True)  # type: ignore[no-any-return]
    if all(isinstance(s, int) and isinstance(w, int) and w and s % w == 0 for s, w in zip(image, wanted, strict=True)):
        kernel = [s // w for s, w in zip(image, wanted, strict=True)]
        return b.call(f"aten::avg_pool{rank}d", x, kernel, kernel)  # type: ignore[no-any-return]
    y = accumulated(b, x)
    for n, count in enumerate(wanted):
        d = lead + n
        y = b.cat([b.mean(b.slice(y, d, a, z), [d], True) for a, z in _ranges(y.sizes[d], count)], d)
    return back(b, y, x.dtype)


def _adaptive_samples(rank: int) -> Callable[[], list[Any]]:
    image = _IMAGES[rank]
    return lambda: [
        sample(normal(2, 3, *image), [1] * rank), sample(normal(2, *image), [3, 2, 4][:rank]), sample(normal(1, 2, *(8, 6, 4)[:rank]), [2] * rank),  # noqa: E501
    ]  # fmt: skip


for _rank in (1, 2, 3):
    _int = "int" if _rank == 1 else "SymInt"
    for _name in (f"adaptive_avg_pool{_rank}d", *(["_adaptive_avg_pool2d"] if _rank == 2 else [])):
        declare(
            f"aten::{_name}(Tensor self, {_int}[{_rank}] output_size) -> Tensor", infer=_bound(_rank, _adaptive_info),
            reference=_bound(_rank, _adaptive_reference), expand=_bound(_rank, _adaptive_expand),
            samples=_adaptive_samples(_rank), doc="Means of as many windows as asked for.", source=f"{__name__} (aten::{_name})",
        )  # fmt: skip


def _adaptive_max_reference(rank: int, x: Array, sizes: Ints) -> tuple[Array, Array]:
    lead = x.ndim - rank
    out = _adaptive_info(rank, facts(x), sizes)
    shape = tuple(int(s) for s in out.sizes if isinstance(s, int))
    values, found = np.empty(shape, x.dtype), np.empty(shape, np.int64)
    spans = [_ranges(n, c) for n, c in zip(x.shape[lead:], out.sizes[lead:], strict=True)]
    for cell in np.ndindex(*shape[lead:]):
        box = [spans[n][c] for n, c in enumerate(cell)]
        part = x[(*(slice(None),) * lead, *(slice(a, z) for a, z in box))].reshape(*x.shape[:lead], -1)
        position = part.argmax(-1)
        inner = np.unravel_index(position, [int(z) - int(a) for a, z in box])
        index: Any = 0
        for n in range(rank):
            index = index * x.shape[lead + n] + box[n][0] + inner[n]
        values[(..., *cell)] = np.take_along_axis(part, position[..., None], -1)[..., 0]
        found[(..., *cell)] = index
    return values, found


def _adaptive_max_expand(rank: int, b: TorchBuilder, x: Value, sizes: Ints) -> tuple[Value, Value]:
    lead = x.rank - rank
    out = _adaptive_info(rank, x.tensor, sizes)
    image, wanted = x.sizes[lead:], out.sizes[lead:]
    if all(isinstance(s, int) and isinstance(w, int) and w and s % w == 0 for s, w in zip(image, wanted, strict=True)):
        kernel = [s // w for s, w in zip(image, wanted, strict=True)]
        return b.call(f"aten::max_pool{rank}d_with_indices", x, kernel, kernel)  # type: ignore[no-any-return]
    spans = [_ranges(n, c) for n, c in zip(image, wanted, strict=True)]
    values, places = [], []
    for cell in np.ndindex(*(len(s) for s in spans)):
        box = [spans[n][c] for n, c in enumerate(cell)]
        part = x
        for n, (a, z) in enumerate(box):
            part = b.slice(part, lead + n, a, z)
        best, position = b.max(b.flatten(part, lead), lead)
        index = None
        for n in reversed(range(rank)):
            width = box[n][1] - box[n][0]
            own = b.add(b.remainder(position, width), box[n][0])
            position = b.floor_divide(position, width)
            step = product(image[n + 1 :])
            index = b.mul(own, step) if index is None else b.add(index, b.mul(own, step))
        values.append(best)
        places.append(index)
    return tuple(b.view(b.stack(v, lead), list(out.sizes)) for v in (values, places))


for _rank in (1, 2):
    declare(
        f"aten::adaptive_max_pool{_rank}d(Tensor self, int[{_rank}] output_size) -> (Tensor, Tensor)",
        infer=(lambda rank: lambda x, s: (_adaptive_info(rank, x, s), _adaptive_info(rank, x, s).with_dtype(dtypes.int64)))(_rank),
        reference=_bound(_rank, _adaptive_max_reference), expand=_bound(_rank, _adaptive_max_expand),
        samples=_adaptive_samples(_rank), doc="Largest elements of as many windows as asked for, and their positions.",
        source=f"{__name__} (aten::adaptive_max_pool{_rank}d)",
    )  # fmt: skip

