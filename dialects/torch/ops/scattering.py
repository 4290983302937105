"""Writing at positions that tensors hold: index_put, scatter, index_add.

Writes go one after another, so that the last one wins (or all add up) where positions repeat; positions are checked
once before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, RuntimeFault, Sample, TensorInfo, declare, op, sample, shape_text
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops.dimensions import along, broadcast_sizes, require, wrap
from stepwell.dialects.torch.ops.elementwise import as_dtype
from stepwell.dialects.torch.ops.indexing import (
    Plan,
    check_all,
    checked_indices,
    chosen_positions,
    gather_check,
    numpy_indices,
    wrapped,
)
from stepwell.dialects.torch.ops.promotion import facts
from stepwell.dialects.torch.ops.samples import normal
from stepwell.dialects.torch.scalar import Scalar
from stepwell.dialects.torch.sizes import Dim, Size, product

# ------ index_put


def _put_info(x: TensorInfo, indices: Sequence[TensorInfo | None], values: TensorInfo, *_: Any) -> TensorInfo:
    require(x.dtype == values.dtype, f"Index put requires the source and destination dtypes match, got {x.dtype.title} for the destination and {values.dtype.title} for the source.")  # noqa: E501  # fmt: skip
    plan = Plan(x, indices)
    if not plan.masks and broadcast_sizes(plan.sizes, values.sizes) != plan.sizes:
        raise RuntimeFault(f"shape mismatch: value tensor of shape {shape_text(values.sizes)} cannot be broadcast to indexing result of shape {shape_text(plan.sizes)}")  # noqa: E501  # fmt: skip
    return x


def _put_reference(x: Array, indices: Sequence[Array | None], values: Array, accumulate: bool, *_: Any) -> Array:
    result = x.copy()
    key = numpy_indices(x, indices)
    if accumulate:
        np.add.at(result, key, values)
    else:
        result[key] = values
    return result


def _put_lower(
    b: LinalgBuilder, out: TensorInfo, x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool, *_: Any
) -> Tensor:
    plan = Plan(x.info, [None if i is None else i.info for i in indices])
    single = all(isinstance(s, int) and s == 1 for s in values.sizes)
    if plan.masks and single and len(plan.masks) == sum(i is not None for i in indices):
        return _put_masked(b, x, plan, next(i for i in indices if i is not None), values, accumulate)
    chosen = chosen_positions(b, x, plan, indices, plan.count)
    for n, index in enumerate(chosen):
        flat = b.expand(index, plan.block) if index.sizes != plan.block else index
        chosen[n] = b.reshape(flat, [product(plan.block)])
    rest = [x.sizes[d] for d in plan.rest]
    wide = _fit(b, values, plan.sizes)
    block = range(plan.start, plan.start + len(plan.block))
    order = [*block, *(n for n in range(len(plan.sizes)) if n not in block)]
    rows = b.reshape(b.transpose(wide, order), [product(plan.block), *rest])
    part = [1 if d in plan.dims else s for d, s in enumerate(x.sizes)]

    def step(inner: LinalgBuilder, k: Dim, carried: list[Any]) -> list[Any]:
        starts: list[Size] = [0] * x.rank
        for d, index in zip(plan.dims, chosen, strict=True):
            place = wrapped(inner.element(index, [k]), inner.scalar(x.sizes[d], dtypes.int64))
            starts[d] = inner.symbol_of("at", place.value)
        row = inner.reshape(inner.slice(rows, [k, *[0] * len(rest)], [1, *rest], [1] * rows.rank), part)
        if accumulate:
            old = inner.slice(carried[0], starts, part, [1] * x.rank)
            row = inner.elementwise(lambda p, q: p + q, old, row, dtype=x.dtype)
        return [inner.insert(row, carried[0], starts)]

    return b.loop(product(plan.block), [x], step)[0]  # type: ignore[no-any-return]


def _fit(b: LinalgBuilder, values: Tensor, sizes: Sequence[Size]) -> Tensor:
    """values broadcast to sizes; a symbolic size must be equal at run time."""
    for own, size in zip(values.sizes[::-1], list(sizes)[::-1], strict=False):
        if own != 1 and own != size:
            b.require_equal(own, size, "shape mismatch: value tensor of size {} cannot be broadcast to indexing result of size {}")
    lead = len(sizes) - values.rank
    known = [1 if s == 1 else sizes[lead + n] for n, s in enumerate(values.sizes)] if lead >= 0 else list(sizes)
    return b.expand(b.refine(b.reshape(values, values.sizes[-len(sizes) :]) if lead < 0 else values, known), sizes)


def _put_masked(b: LinalgBuilder, x: Tensor, plan: Plan, mask: Tensor, values: Tensor, accumulate: bool) -> Tensor:
    """One value wherever a mask holds: nothing is counted."""
    after = x.rank - plan.dims[-1] - 1
    spread = b.reshape(mask, [*[1] * plan.dims[0], *mask.sizes, *[1] * after])
    value = b.reshape(values, [1] * x.rank)

    def choose(at: Any, e: list[Scalar]) -> Scalar:
        return e[0].cast(dtypes.bool_).select(e[1] + e[2] if accumulate else e[1], e[2])

    return b.pointwise(choose, [spread, value, x], x.sizes, x.dtype)


def _put_samples(gaps: bool, tail: tuple[Any, ...]) -> Callable[[], Iterator[Sample]]:
    def make() -> Iterator[Sample]:
        x = normal(3, 4)
        yield sample(x, [np.array([0, 2])], normal(2, 4), False, *tail)
        yield sample(x, [np.array([0, 0, 2])], normal(3, 4), True, *tail)
        yield sample(x, [np.array([0, 2]), np.array([1, -1])], np.array(5.0, np.float32), False, *tail)
        yield sample(x, [x > 0], np.array(0.0, np.float32), False, *tail)
        yield sample(x, [x > 0], normal(int((x > 0).sum())), False, *tail)
        if gaps:
            yield sample(x, [None, np.array([0, 3])], normal(3, 2), False, *tail)

    return make


for _schema in (
    "aten::index_put(Tensor self, Tensor?[] indices, Tensor values, bool accumulate=False) -> Tensor",
    "aten::index_put.hacked_twin(Tensor self, Tensor[] indices, Tensor values, bool accumulate=False) -> Tensor",
    "aten::_index_put_impl(Tensor self, Tensor?[] indices, Tensor values, bool accumulate=False, bool unsafe=False) -> Tensor",
):
    declare(
        _schema, infer=_put_info, reference=_put_reference, lower=_put_lower, inplace=True,
        samples=_put_samples("?[]" in _schema, (False,) if "_impl" in _schema else ()),
        doc="self with values stored (or added) at the positions that index tensors name.",
        source=f"{__name__} ({_schema.partition('(')[0]})",
    )  # fmt: skip


# ------ scatter: an index of self's rank, element by element


Combine = Callable[[Scalar, Scalar], Scalar]
_COMBINE: dict[str, tuple[Combine, Any]] = {
    "add": (lambda a, e: a + e, np.add), "multiply": (lambda a, e: a * e, np.multiply),
    "sum": (lambda a, e: a + e, np.add), "prod": (lambda a, e: a * e, np.multiply),
    "amax": (lambda a, e: a.maximum(e), np.maximum), "amin": (lambda a, e: a.minimum(e), np.minimum),
}  # fmt: skip


def _scatter_info(x: TensorInfo, dim: int, index: TensorInfo, src: Any, reduce: str | None = None) -> TensorInfo:
    gather_check("scatter", x, dim, index)
    require(reduce is None or reduce in _COMBINE, "reduce argument must be either add or multiply.")
    if isinstance(src, TensorInfo):
        require(src.dtype == x.dtype, "scatter(): Expected self.dtype to be equal to src.dtype")
        for n, (i, s) in enumerate(zip(index.sizes, src.sizes, strict=False)):
            if isinstance(i, int) and isinstance(s, int):
                require(i <= s, f"Expected index {shape_text(index.sizes)} to be no larger than src {shape_text(src.sizes)} (dimension {n})")  # noqa: E501  # fmt: skip
    return x


def _scatter_reference(x: Array, dim: int, index: Array, src: Any, reduce: str | None = None) -> Array:
    result = x.copy()
    if x.ndim == 0:
        result, index = result.reshape(1), index.reshape(-1)
    d = wrap(dim, result.ndim)
    index = checked_indices(index, result.shape[d], 0, RuntimeError, f"index {{}} is out of bounds for dimension {d} with size {result.shape[d]}")  # noqa: E501  # fmt: skip
    grid: list[Any] = list(np.meshgrid(*(np.arange(s) for s in index.shape), indexing="ij"))
    grid[d] = index
    values = as_dtype(np.asarray(src), facts(x).dtype)
    values = np.broadcast_to(values, index.shape) if values.ndim == 0 else values[tuple(map(slice, index.shape))]
    if reduce is None:
        result[tuple(grid)] = values
    else:
        _COMBINE[reduce][1].at(result, tuple(grid), values)
    return result.reshape(x.shape)


def _scatter_lower(
    b: LinalgBuilder, out: TensorInfo, x: Tensor, dim: int, index: Tensor, src: Any, reduce: str | None = None
) -> Tensor:
    """One element after another, in row-major order of the index."""
    if x.rank == 0:
        x, index = b.reshape(x, [1]), b.reshape(index, [product(index.sizes)])
        src = b.reshape(src, [1]) if isinstance(src, Tensor) else src
    d = wrap(dim, x.rank)
    check_all(b, index, 0, x.sizes[d], "RuntimeError", f"index {{}} is out of bounds for dimension {d} with size {x.sizes[d]}")
    value = None if isinstance(src, Tensor) else b.scalar(src, x.dtype)

    def step(inner: LinalgBuilder, k: Dim, carried: list[Any]) -> list[Any]:
        place: list[Size] = []
        rest: Size = k
        for size in reversed(index.sizes):
            place.insert(0, rest % size if len(place) < index.rank - 1 else rest)
            rest = rest // size
        chosen = inner.element(index, place).cast(dtypes.int64)
        target = [inner.symbol_of("at", chosen.value) if n == d else p for n, p in enumerate(place)]
        element = inner.element(src, place) if value is None else Scalar(value.value, x.dtype, inner)
        if reduce is not None:
            old = inner.element(carried[0], target)
            element = _COMBINE[reduce][0](old, element)
        one = inner.reshape(inner.from_scalars([element], [1], x.dtype), [1] * x.rank)
        return [inner.insert(one, carried[0], target)]

    return b.reshape(b.loop(product(index.sizes), [x], step)[0], out.sizes)


def _scatter_samples(value: bool, reduce: str | None) -> Callable[[], list[Sample]]:
    keywords = {} if reduce is None else {"reduce": reduce}
    src: Any = 2.5 if value else normal(2, 4, seed=3)
    return lambda: [
        sample(normal(3, 4), 0, np.array([[0, 1, 2, 0], [2, 2, 0, 1]]), src, **keywords),
        sample(normal(3, 4), 1, np.array([[0, 3], [1, 2]]), src, **keywords),
    ]


for _text, _reduce in (
    ("scatter.src(Tensor self, int dim, Tensor index, Tensor src)", None),
    ("scatter.value(Tensor self, int dim, Tensor index, Scalar value)", None),
    ("scatter.reduce(Tensor self, int dim, Tensor index, Tensor src, *, str reduce)", "add"),
    ("scatter.value_reduce(Tensor self, int dim, Tensor index, Scalar value, *, str reduce)", "multiply"),
):
    declare(
        f"aten::{_text} -> Tensor", infer=_scatter_info, reference=_scatter_reference, lower=_scatter_lower, inplace=True,
        samples=_scatter_samples("value" in _text, _reduce), doc="gather's inverse: self with src stored at the index's positions.",
        source=f"{__name__} (aten::{_text.partition('(')[0]})",
    )  # fmt: skip
declare(
    "aten::scatter_add(Tensor self, int dim, Tensor index, Tensor src) -> Tensor",
    infer=lambda x, dim, index, src: _scatter_info(x, dim, index, src, "add"),
    reference=lambda x, dim, index, src: _scatter_reference(x, dim, index, src, "add"),
    lower=lambda b, out, x, dim, index, src: _scatter_lower(b, out, x, dim, index, src, "add"), inplace=True,
    samples=_scatter_samples(False, None), doc="self with src added at the index's positions.",
)  # fmt: skip


# ------ rows: index_add, index_copy, index_fill


def _rows(schema: str, add: bool) -> None:
    def infer(x: TensorInfo, dim: int, index: TensorInfo, source: TensorInfo, *_: Any) -> TensorInfo:
        wrap(dim, x.rank)
        require(index.rank <= 1, "index_add_(): Index is supposed to be a vector")
        require(source.dtype == x.dtype, "index_add_(): self and source expected to have the same dtype")
        return x

    def reference(x: Array, dim: int, index: Array, source: Array, alpha: Any = 1) -> Array:
        result = x.copy()
        if x.ndim == 0:
            return np.asarray(result + source.reshape(()) * alpha if add else source.reshape(())).astype(x.dtype)
        key: Any = (*(slice(None),) * wrap(dim, x.ndim), checked_indices(index.reshape(-1), x.shape[dim], 0, IndexError, "index out of range in self"))  # noqa: E501  # fmt: skip
        if add:
            np.add.at(result, key, source * x.dtype.type(alpha))
        else:
            result[key] = source
        return result

    def lower(
        b: LinalgBuilder, out: TensorInfo, x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: Any = 1
    ) -> Tensor:
        wide = x if x.rank else b.reshape(x, [1])
        source = source if source.rank else b.reshape(source, [1])
        d = wrap(dim, wide.rank)
        check_all(b, index, 0, wide.sizes[d], "IndexError", "index out of range in self")
        flat = b.reshape(index, [product(index.sizes)])
        part = [1 if n == d else s for n, s in enumerate(wide.sizes)]

        def step(inner: LinalgBuilder, k: Dim, carried: list[Any]) -> list[Any]:
            place = inner.symbol_of("at", inner.element(flat, [k]).cast(dtypes.int64).value)
            starts: list[Size] = [place if n == d else 0 for n in range(wide.rank)]
            row = inner.slice(source, [k if n == d else 0 for n in range(wide.rank)], part, [1] * wide.rank)
            if add:
                old = inner.slice(carried[0], starts, part, [1] * wide.rank)
                row = inner.elementwise(lambda p, q, a: p + q * a, old, row, alpha, dtype=x.dtype)
            return [inner.insert(row, carried[0], starts)]

        return b.reshape(b.loop(product(index.sizes), [wide], step)[0], out.sizes)

    more: list[Sample] = [sample(normal(3, 4), 1, np.array([0, 0]), normal(3, 2), alpha=2)] if add else []
    declare(
        schema, infer=infer, reference=reference, lower=lower, inplace=True, source=f"{__name__} ({schema.partition('(')[0]})",
        samples=lambda: [sample(normal(3, 4), 0, np.array([2, 0]), normal(2, 4)), *more],
        doc="self with source's rows added to (or stored as) the named rows.",
    )  # fmt: skip


_rows("aten::index_add(Tensor self, int dim, Tensor index, Tensor source, *, Scalar alpha=1) -> Tensor", True)
_rows("aten::index_copy(Tensor self, int dim, Tensor index, Tensor source) -> Tensor", False)


@op("aten::index_fill.int_Scalar(Tensor self, int dim, Tensor index, Scalar value) -> Tensor", inplace=True)
class IndexFill:
    """self with one value at the named positions of a dimension."""

    samples = staticmethod(lambda: [sample(normal(3, 4), 0, np.array([2, 0]), 1.5), sample(normal(3, 4), -1, np.array([-1]), 0)])

    @staticmethod
    def infer(x: TensorInfo, dim: int, index: TensorInfo, value: Any) -> TensorInfo:
        wrap(dim, x.rank)
        return x

    @staticmethod
    def reference(x: Array, dim: int, index: Array, value: Any) -> Array:
        result = x.copy()
        result[along(wrap(dim, x.ndim), index.reshape(-1))] = value
        return result

    @staticmethod
    def expand(b: TorchBuilder, x: Value, dim: int, index: Value, value: Any) -> Value:
        gaps: list[Any] = [None] * wrap(dim, x.rank)
        result: Value = b.index_put(x, [*gaps, index], b.full([], value, dtype=x.dtype))
        return result
