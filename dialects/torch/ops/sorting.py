"""Order: sort, topk, k-th values, the distinct elements.

All of them rest on one network of compare-and-exchange steps (Batcher's, as Knuth's algorithm 5.2.2M, which takes
any number of elements): each step is pointwise over the whole tensor, so it is as parallel as any other pointwise op.
Equal elements keep their order, as the position decides between them; NaN is greater than everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, Sample, TensorInfo, declare, sample
from stepwell.dialects.torch.ops.dimensions import require, wrap
from stepwell.dialects.torch.ops.indexing import fresh_size
from stepwell.dialects.torch.ops.samples import integers, normal
from stepwell.dialects.torch.sizes import Dim, Size, minimum

MOST_STAGES = 40
"""No dimension has more than 2 to the power of this many elements."""


# ------ numpy


def _order(x: Array, dim: int, descending: bool) -> Array:
    """Positions in sorted order; equal elements in the order in which they stand."""
    if x.ndim == 0:
        return np.zeros((), np.int64)
    d = wrap(dim, x.ndim)
    if not descending:
        return np.argsort(x, d, kind="stable")
    backwards = np.argsort(np.flip(x, d), d, kind="stable")
    return np.flip(x.shape[d] - 1 - backwards, d)


def _taken(x: Array, order: Array, dim: int) -> Array:
    return x.copy() if x.ndim == 0 else np.take_along_axis(x, order, wrap(dim, x.ndim))


def _part(x: Array, dim: int, first: int, count: int) -> Array:
    return x.copy() if x.ndim == 0 else np.take(x, range(first, first + count), wrap(dim, x.ndim))


# ------ the network


def _stages(b: TorchBuilder, n: Size) -> Size:
    """The least t with 2**t >= n."""
    if isinstance(n, int):
        return max(n - 1, 0).bit_length()
    powers = b.pow(2, b.arange(MOST_STAGES))
    stages: Size = b.call("aten::Int", b.sum(b.lt(powers, n)))
    return stages


def sorted_along(b: TorchBuilder, x: Value, dim: int, descending: bool) -> tuple[Value, Value]:
    """Sorted values along a dimension, and the positions that they come from."""
    if x.rank == 0:
        return x, b.zeros([], dtype=dtypes.int64)
    d = wrap(dim, x.rank)
    n = x.sizes[d]
    along = [n if axis == d else 1 for axis in range(x.rank)]
    places: Value = b.arange(n)
    start = b.expand(b.view(places, along), list(x.sizes))
    keys = b.to(x, dtypes.uint8) if x.dtype == dtypes.bool_ else x
    stages = _stages(b, n)

    def pass_(inner: TorchBuilder, stage: Dim, number: Dim, state: list[Value]) -> list[Value]:
        """One step: every element looks at its partner, and takes its value where they stand in the wrong order."""
        low_bit = inner.call("aten::__lshift__", 1, stages - 1 - stage)
        high_bit = inner.call("aten::__lshift__", 1, stages - number)
        later = minimum(number, 1)
        distance = later * (high_bit - low_bit) + (1 - later) * low_bit
        remainder = later * low_bit
        at = inner.arange(n)
        before = inner.sub(at, distance)
        first = inner.logical_and(
            inner.eq(inner.bitwise_and(at, low_bit), remainder), inner.lt(at, inner.call("aten::sub", n, distance))
        )
        second = inner.logical_and(inner.eq(inner.bitwise_and(before, low_bit), remainder), inner.ge(before, 0))
        partner = inner.where(first, inner.add(at, distance), inner.where(second, before, at))
        values, positions = state
        other, place = inner.index_select(values, d, partner), inner.index_select(positions, d, partner)
        wrong = inner.where(
            inner.view(first, along),
            _precedes(inner, other, place, values, positions, descending),
            inner.logical_and(
                inner.view(second, along), _precedes(inner, values, positions, other, place, descending)
            ),
        )
        return [inner.where(wrong, other, values), inner.where(wrong, place, positions)]

    def stage_(outer: TorchBuilder, stage: Dim, state: list[Value]) -> Sequence[Value]:
        return outer.loop(stage + 1, state, lambda inner, number, now: pass_(inner, stage, number, now))

    values, positions = b.loop(stages, [keys, start], stage_)
    return (b.to(values, x.dtype) if x.dtype == dtypes.bool_ else values), positions


def _precedes(b: TorchBuilder, x: Value, at: Value, y: Value, place: Value, descending: bool) -> Value:
    """Whether x, which stood at `at`, comes before y, which stood at `place`."""
    less = b.gt(x, y) if descending else b.lt(x, y)
    equal = b.eq(x, y)
    if x.dtype.is_floating:
        x_nan, y_nan = b.ne(x, x), b.ne(y, y)
        only = b.logical_and(x_nan, b.logical_not(y_nan)) if descending else b.logical_and(y_nan, b.logical_not(x_nan))
        less = b.logical_or(less, only)
        equal = b.logical_or(equal, b.logical_and(x_nan, y_nan))
    result: Value = b.logical_or(less, b.logical_and(equal, b.lt(at, place)))
    return result


# ------ sort and argsort


def _pair(x: TensorInfo) -> tuple[TensorInfo, TensorInfo]:
    return x, x.with_dtype(dtypes.int64)


def _sort_reference(x: Array, dim: int, descending: bool) -> tuple[Array, Array]:
    order = _order(x, dim, descending)
    return _taken(x, order, dim), order


def _sort_samples(arrange: Callable[[Array, int, bool], Sample]) -> Callable[[], Iterator[Sample]]:
    def make() -> Iterator[Sample]:
        yield arrange(normal(7), 0, False)
        yield arrange(integers(3, 8, low=0, high=3), -1, True)
        yield arrange(integers(5, 2, low=0, high=3), 0, False)
        yield arrange(np.array([2, np.nan, -np.inf, np.inf, np.nan, 1], np.float32), 0, False)
        yield arrange(np.array([2, np.nan, -np.inf, np.inf, np.nan, 1], np.float32), 0, True)
        yield arrange(np.array([True, False, True]), 0, False)
        yield arrange(normal(1, 4), 0, False)
        yield arrange(np.array(2.5, np.float32), 0, False)
        yield arrange(np.zeros((0,), np.float32), 0, False)

    return make


declare(
    "aten::sort(Tensor self, int dim=-1, bool descending=False) -> (Tensor values, Tensor indices)",
    infer=lambda x, dim, descending: _pair(x), reference=_sort_reference, expand=sorted_along,
    samples=_sort_samples(sample), doc="Values along dim in order, and where they come from; equal ones keep their order.",
)  # fmt: skip
declare(
    "aten::sort.stable(Tensor self, *, bool? stable, int dim=-1, bool descending=False) -> (Tensor values, Tensor indices)",
    infer=lambda x, stable, dim, descending: _pair(x),
    reference=lambda x, stable, dim, descending: _sort_reference(x, dim, descending),
    expand=lambda b, x, stable, dim, descending: sorted_along(b, x, dim, descending),
    samples=_sort_samples(lambda x, d, down: sample(x, stable=True, dim=d, descending=down)), doc="sort, which is always stable.",
)  # fmt: skip
declare(
    "aten::argsort(Tensor self, int dim=-1, bool descending=False) -> Tensor",
    infer=lambda x, dim, descending: _pair(x)[1], reference=_order,
    expand=lambda b, x, dim, descending: sorted_along(b, x, dim, descending)[1], samples=_sort_samples(sample),
    doc="The positions that sort gives.",
)  # fmt: skip
declare(
    "aten::argsort.stable(Tensor self, *, bool stable, int dim=-1, bool descending=False) -> Tensor",
    infer=lambda x, stable, dim, descending: _pair(x)[1],
    reference=lambda x, stable, dim, descending: _order(x, dim, descending),
    expand=lambda b, x, stable, dim, descending: sorted_along(b, x, dim, descending)[1],
    samples=_sort_samples(lambda x, d, down: sample(x, stable=True, dim=d, descending=down)), doc="The positions that sort gives.",
)  # fmt: skip
declare(
    "aten::msort(Tensor self) -> Tensor", infer=lambda x: x, reference=lambda x: _sort_reference(x, 0, False)[0],
    expand=lambda b, x: sorted_along(b, x, 0, False)[0], samples=lambda: [sample(normal(5, 2))],
    doc="Values along the first dimension in order.",
)  # fmt: skip


# ------ the largest, the k-th


def _topk_info(x: TensorInfo, k: Size, dim: int, *_: Any) -> tuple[TensorInfo, TensorInfo]:
    if x.rank == 0:
        return _pair(x)
    d = wrap(dim, x.rank)
    size = x.sizes[d]
    require(not (isinstance(k, int) and isinstance(size, int)) or 0 <= k <= size, "selected index k out of range")
    return _pair(x.with_sizes(k if axis == d else s for axis, s in enumerate(x.sizes)))


def _topk_reference(x: Array, k: int, dim: int, largest: bool, *_: Any) -> tuple[Array, Array]:
    values, order = _sort_reference(x, dim, largest)
    return _part(values, dim, 0, k), _part(order, dim, 0, k)


def _topk_expand(
    b: TorchBuilder, x: Value, k: Size, dim: int, largest: bool, *_: Any
) -> tuple[Value, Value]:
    values, positions = sorted_along(b, x, dim, largest)
    if x.rank == 0:
        return values, positions
    return b.narrow(values, dim, 0, k), b.narrow(positions, dim, 0, k)


declare(
    "aten::topk(Tensor self, SymInt k, int dim=-1, bool largest=True, bool sorted=True) -> (Tensor values, Tensor indices)",
    infer=_topk_info, reference=_topk_reference, expand=_topk_expand,
    samples=lambda: [sample(normal(7), 3), sample(normal(3, 6), 2, 0, False), sample(normal(2, 9), 9), sample(normal(4), 0)],
    doc="The k largest (or smallest) elements along dim, in order.",
)  # fmt: skip


def _kth(x: Any, k: Any, dim: int, keep: bool) -> tuple[TensorInfo, TensorInfo]:
    if x.rank == 0:
        return _pair(x)
    d = wrap(dim, x.rank)
    sizes = [1 if axis == d else s for axis, s in enumerate(x.sizes) if keep or axis != d]
    return _pair(x.with_sizes(sizes))


def _kth_reference(x: Array, k: int, dim: int, keep: bool) -> tuple[Array, Array]:
    values, order = _sort_reference(x, dim, False)
    parts = _part(values, dim, k - 1, 1), _part(order, dim, k - 1, 1)
    return parts if keep or x.ndim == 0 else (parts[0].squeeze(dim), parts[1].squeeze(dim))


def _kth_expand(b: TorchBuilder, x: Value, k: Size, dim: int, keep: bool) -> tuple[Value, Value]:
    values, positions = sorted_along(b, x, dim, False)
    if x.rank == 0:
        return values, positions
    if keep:
        return b.narrow(values, dim, k - 1, 1), b.narrow(positions, dim, k - 1, 1)
    return b.select(values, dim, k - 1), b.select(positions, dim, k - 1)


declare(
    "aten::kthvalue(Tensor self, SymInt k, int dim=-1, bool keepdim=False) -> (Tensor values, Tensor indices)",
    infer=_kth, reference=_kth_reference, expand=_kth_expand,
    samples=lambda: [sample(normal(7), 3), sample(normal(3, 5), 2, 0, True), sample(normal(2, 9), 9, 1)],
    doc="The k-th smallest element along dim, and where it is.",
)  # fmt: skip


# ------ distinct elements


def _unique_info(
    x: TensorInfo, in_order: bool, inverse: bool, counts: bool
) -> tuple[TensorInfo, TensorInfo, TensorInfo]:
    total: Size = 1
    for size in x.sizes:
        total = total * size
    found = fresh_size(total)
    index = TensorInfo((), dtypes.int64)
    return (
        x.with_sizes([found]),
        index.with_sizes(x.sizes if inverse or counts else [0]),
        index.with_sizes([found if counts else 0]),
    )


def _unique_reference(x: Array, in_order: bool, inverse: bool, counts: bool) -> tuple[Array, Array, Array]:
    values, back, each = np.unique(x, return_inverse=True, return_counts=True, equal_nan=False)
    none = np.zeros((0,), np.int64)
    where = back.reshape(x.shape).astype(np.int64)
    return values, where if inverse or counts else none, each.astype(np.int64) if counts else none


def _unique_expand(
    b: TorchBuilder, x: Value, in_order: bool, inverse: bool, counts: bool
) -> tuple[Value, Value, Value]:
    """Sorted, an element is new where it differs from the one before it."""
    values, positions = sorted_along(b, b.flatten(x), 0, False)
    n = values.sizes[0]
    at = b.arange(n)
    previous = b.index_select(values, 0, b.clamp_min(b.sub(at, 1), 0))
    new = b.logical_or(b.ne(values, previous), b.eq(at, 0))
    starts = b.squeeze(b.nonzero(new), 1)
    none = b.zeros([0], dtype=dtypes.int64)
    where, each = none, none
    if inverse or counts:
        rank = b.sub(b.cumsum(b.to(new, dtypes.int64), 0), 1)
        where = b.view(b.scatter(b.zeros_like(positions), 0, positions, rank), list(x.sizes))
        each = b.scatter_add(b.zeros_like(starts), 0, rank, b.ones_like(rank)) if counts else none
    return b.index_select(values, 0, starts), where, each


declare(
    "aten::_unique2(Tensor self, bool sorted=True, bool return_inverse=False, bool return_counts=False) -> (Tensor, Tensor, Tensor)",
    infer=_unique_info, reference=_unique_reference, expand=_unique_expand,
    samples=lambda: [
        sample(integers(3, 4, low=0, high=4)), sample(integers(9, low=0, high=4), True, True, True), sample(normal(4)),
    ],
    doc="The distinct elements in order; where each element went; how often each occurs.",
)  # fmt: skip
