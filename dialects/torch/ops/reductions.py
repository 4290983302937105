"""Reductions: sums, extrema and their positions, any and all, running sums. Statistics build on them.

Core at the linalg level: sum, prod, amax, amin, argmax, argmin, any, all. 16-bit floats accumulate in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, Sample, ScalarInfo, TensorInfo, Undecided, declare, op, sample
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops import samples
from stepwell.dialects.torch.ops.dimensions import differ, reduced, require, wrap, wrap_all
from stepwell.dialects.torch.ops.elementwise import as_dtype
from stepwell.dialects.torch.ops.promotion import facts, widened
from stepwell.dialects.torch.ops.samples import integers, normal
from stepwell.dialects.torch.scalar import Scalar, infinity
from stepwell.dialects.torch.sizes import product

Dims = Sequence[int] | int | None


def axes(x: Array, dims: Dims) -> tuple[int, ...]:
    return tuple(wrap_all(dims, x.ndim))


def wide(x: Array) -> Array:
    """In float64, where references of float reductions accumulate; integers as they are."""
    return x if x.dtype.kind in "iub" else x.astype(np.float64)


def _dim_samples() -> Iterator[Sample]:
    yield sample(normal(2, 3, 4), [1])
    yield sample(normal(2, 3, 4), [0, -1], True)
    yield sample(normal(2, 3), [])
    yield sample(np.array(1.5), [0])
    yield sample(np.zeros((0, 3), np.float32), [0])
    yield sample(integers(2, 3), [1])
    yield sample(samples.SPECIAL, [0])


# ------ sum, prod, mean


@op("aten::sum.dim_IntList(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor")
class SumDim:
    """The sum over dims (all of them if none is given); integers and bool add up as int64."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield from _dim_samples()
        yield sample(normal(2, 3), None)
        yield sample(np.array([True, True]), [0])
        yield sample(integers(2, 3), [1], dtype=dtypes.float32)
        yield sample(normal(3, dtype=np.float16), [0])

    @staticmethod
    def infer(x: TensorInfo, dims: Dims, keep: bool, dtype: DType | None) -> TensorInfo:
        return TensorInfo(reduced(x, wrap_all(dims, x.rank), keep), dtype or widened(x.dtype))

    @staticmethod
    def reference(x: Array, dims: Dims, keep: bool, dtype: DType | None) -> Array:
        out = dtype or widened(facts(x).dtype)
        x = as_dtype(x, dtype) if dtype is not None else x
        return as_dtype(np.asarray(wide(x).sum(axes(x, dims), keepdims=keep)), out)

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, dims: Dims, keep: bool, dtype: DType | None) -> Tensor:
        return b.reduce(lambda a, e: a + e, 0, x, wrap_all(dims, x.rank), keep=keep, dtype=out.dtype)


@op("aten::prod.dim_int(Tensor self, int dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor")
class ProdDim:
    """The product over one dimension."""

    samples = staticmethod(
        lambda: [sample(normal(2, 3, 4), 1), sample(integers(2, 3), -1, True), sample(normal(0, 2), 0), sample(np.array(2.0), 0)]
    )

    @staticmethod
    def infer(x: TensorInfo, dim: int, keep: bool, dtype: DType | None) -> TensorInfo:
        return TensorInfo(reduced(x, wrap_all([dim], x.rank), keep), dtype or widened(x.dtype))

    @staticmethod
    def reference(x: Array, dim: int, keep: bool, dtype: DType | None) -> Array:
        out = dtype or widened(facts(x).dtype)
        x = as_dtype(x, dtype) if dtype is not None else x
        return as_dtype(np.asarray(wide(x).prod(axes(x, [dim]), keepdims=keep)), out)

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, dim: int, keep: bool, dtype: DType | None) -> Tensor:
        return b.reduce(lambda a, e: a * e, 1, x, wrap_all([dim], x.rank), keep=keep, dtype=out.dtype)


def _whole_samples() -> list[Sample]:
    return [sample(normal(2, 3)), sample(np.array(1.5)), sample(integers(2, 3)), sample(np.zeros((0, 2), np.float32))]


declare(
    "aten::sum(Tensor self, *, ScalarType? dtype=None) -> Tensor",
    infer=lambda x, dtype: TensorInfo((), dtype or widened(x.dtype)),
    reference=lambda x, dtype: SumDim.reference(x, None, False, dtype),
    expand=lambda b, x, dtype: b.sum(x, None, False, dtype=dtype), samples=_whole_samples, doc="The sum of all elements.",
)  # fmt: skip
declare(
    "aten::prod(Tensor self, *, ScalarType? dtype=None) -> Tensor",
    infer=lambda x, dtype: TensorInfo((), dtype or widened(x.dtype)),
    reference=lambda x, dtype: ProdDim.reference(x.reshape(-1), 0, False, dtype),
    expand=lambda b, x, dtype: b.prod(b.flatten(x), 0, dtype=dtype), samples=_whole_samples,
    doc="The product of all elements.",
)  # fmt: skip


def need_floats(name: str, x: TensorInfo, dtype: DType | None = None) -> None:
    found = dtype or x.dtype
    require(
        found.category >= dtypes.FLOATING,
        f"{name}(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
        f"Got: {found.title}",
    )


@op("aten::mean.dim(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor")
class MeanDim:
    """The sum over dims divided by the number of elements."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield from (s for s in _dim_samples() if s.arguments[0].dtype.kind == "f")
        yield sample(normal(2, 3), None)
        yield sample(integers(2, 3), [1], dtype=dtypes.float32)

    @staticmethod
    def infer(x: TensorInfo, dims: Dims, keep: bool, dtype: DType | None) -> TensorInfo:
        need_floats("mean", x, dtype)
        return TensorInfo(reduced(x, wrap_all(dims, x.rank), keep), dtype or x.dtype)

    @staticmethod
    def reference(x: Array, dims: Dims, keep: bool, dtype: DType | None) -> Array:
        need_floats("mean", facts(x), dtype)
        x = as_dtype(x, dtype) if dtype is not None else x
        gone = axes(x, dims)
        with np.errstate(all="ignore"):
            total = wide(x).sum(gone, keepdims=keep) / np.float64(np.prod([x.shape[d] for d in gone]))
        return as_dtype(np.asarray(total), facts(x).dtype)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, dims: Dims, keep: bool, dtype: DType | None) -> Value:
        out = dtype or x.dtype
        count = product(x.sizes[d] for d in wrap_all(dims, x.rank))
        narrow = out in (dtypes.float16, dtypes.bfloat16)
        total = b.sum(x, dims, keep, dtype=dtypes.float32 if narrow else out)
        return back(b, b.div(total, count), out)


def back(b: TorchBuilder, x: Value, dtype: DType) -> Value:
    """In the dtype of the result, after an accumulation in a wider one."""
    return x if x.dtype == dtype else b.to(x, dtype)


def accumulated(b: TorchBuilder, x: Value) -> Value:
    """16-bit floats as float32, in which several steps may follow."""
    return back(b, x, dtypes.float32) if x.dtype in (dtypes.float16, dtypes.bfloat16) else x


declare(
    "aten::mean(Tensor self, *, ScalarType? dtype=None) -> Tensor",
    infer=lambda x, dtype: MeanDim.infer(x, None, False, dtype),
    reference=lambda x, dtype: MeanDim.reference(x, None, False, dtype),
    expand=lambda b, x, dtype: b.mean(x, None, False, dtype=dtype), doc="The mean of all elements.",
    samples=lambda: [sample(normal(2, 3)), sample(np.zeros((0,), np.float32))],
)  # fmt: skip
declare(
    "aten::nansum(Tensor self, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor",
    infer=SumDim.infer,
    reference=lambda x, dims, keep, dtype: SumDim.reference(np.where(np.isnan(x), x.dtype.type(0), x), dims, keep, dtype),
    expand=lambda b, x, dims, keep, dtype: b.sum(b.where(b.isnan(x), 0.0, x), dims, keep, dtype=dtype),
    doc="The sum of what is not NaN.", samples=lambda: [sample(samples.SPECIAL[[0, 4, 6]], [0]), sample(normal(2, 3))],
)  # fmt: skip


# ------ extrema


def _nonempty(name: str, x: TensorInfo, dims: Sequence[int]) -> None:
    for d in dims:
        size = x.sizes[d]
        require(not isinstance(size, int) or size > 0, f"{name}(): Expected reduction dim {d} to have non-zero size.", "IndexError")  # fmt: skip  # noqa: E501


def _nonempty_all(name: str, x: TensorInfo) -> None:
    require(
        0 not in x.sizes,
        f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the 'dim' argument.",
    )


def _better(name: str) -> Callable[[Scalar, Scalar], Scalar]:
    """torch's extrema of many elements do not tell -0 from 0, which costs half of the instructions."""
    if name.endswith("max"):
        return lambda a, e: a.maximum(e, any_zero=True)
    return lambda a, e: a.minimum(e, any_zero=True)


def _extremum(name: str) -> None:
    """amax, amin: over dims. NaN wins."""
    sign = -1 if name == "amax" else 1
    function: Callable[..., Any] = np.max if name == "amax" else np.min

    def infer(x: TensorInfo, dims: Dims, keep: bool) -> TensorInfo:
        gone = wrap_all(dims, x.rank)
        _nonempty(name, x, gone)
        return x.with_sizes(reduced(x, gone, keep))

    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, dims: Dims, keep: bool) -> Tensor:
        return b.reduce(_better(name), infinity(x.dtype, sign), x, wrap_all(dims, x.rank), keep=keep)

    declare(
        f"aten::{name}(Tensor self, int[1] dim=[], bool keepdim=False) -> Tensor", infer=infer, lower=lower,
        reference=lambda x, dims, keep: np.asarray(function(x, axes(x, dims), keepdims=keep)),
        doc=f"The {name[1:]}imum over dims; NaN if any element is.", source=f"{__name__} (aten::{name})",
        samples=lambda: [
            sample(normal(2, 3, 4), [1]), sample(normal(2, 3), [0, 1], True), sample(integers(2, 3), [-1]),
            sample(samples.SPECIAL), sample(np.array(1.5), [0]), sample(np.zeros((0, 3), np.float32), [1]),
            sample(np.array([[True, False]]), [1]),
        ],
    )  # fmt: skip


_extremum("amax")
_extremum("amin")


@op("aten::aminmax(Tensor self, *, int? dim=None, bool keepdim=False) -> (Tensor min, Tensor max)")
class Aminmax:
    """Both extrema."""

    samples = staticmethod(lambda: [sample(normal(2, 3)), sample(normal(2, 3), dim=1, keepdim=True)])

    @staticmethod
    def infer(x: TensorInfo, dim: int | None, keep: bool) -> tuple[TensorInfo, TensorInfo]:
        result = x.with_sizes(reduced(x, wrap_all(None if dim is None else [dim], x.rank), keep))
        return result, result

    @staticmethod
    def reference(x: Array, dim: int | None, keep: bool) -> tuple[Array, Array]:
        gone = axes(x, None if dim is None else [dim])
        return np.asarray(x.min(gone, keepdims=keep)), np.asarray(x.max(gone, keepdims=keep))

    @staticmethod
    def expand(b: TorchBuilder, x: Value, dim: int | None, keep: bool) -> tuple[Value, Value]:
        dims = [] if dim is None else [dim]
        return b.amin(x, dims, keep), b.amax(x, dims, keep)


def _position(name: str, x: Array, dim: int) -> Array:
    """The first NaN, else the first extremum."""
    if x.ndim == 0:
        return np.zeros((), np.int64)
    function: Callable[..., Any] = np.argmax if name.endswith("max") else np.argmin
    return np.asarray(function(x, dim)).astype(np.int64)


def _arg(name: str) -> None:
    extremum = "amax" if name == "argmax" else "amin"
    sign = -1 if name == "argmax" else 1

    def infer(x: TensorInfo, dim: int | None, keep: bool) -> TensorInfo:
        if dim is None:
            _nonempty_all(name, x)
            return TensorInfo((1,) * x.rank if keep else (), dtypes.int64)
        gone = wrap_all([dim], x.rank)
        _nonempty(name, x, gone)
        return TensorInfo(reduced(x, gone, keep), dtypes.int64)

    def reference(x: Array, dim: int | None, keep: bool) -> Array:
        found = _position(name, x.reshape(-1) if dim is None else x, dim or 0)
        if not keep or x.ndim == 0:
            return found
        return found.reshape((1,) * x.ndim) if dim is None else np.expand_dims(found, dim)

    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, dim: int | None, keep: bool) -> Tensor:
        """The smallest position at which the element is the extremum (or NaN, which the extremum then is)."""
        if x.rank == 0:
            return b.fill(0, out.sizes, out.dtype)
        flat = b.reshape(x, [product(x.sizes)]) if dim is None else x
        d = 0 if dim is None else wrap(dim, x.rank)
        best = b.reduce(_better(extremum), infinity(x.dtype, sign), flat, [d], keep=True)
        positions = b.pointwise(
            lambda at, e: _is_best(e[0], e[1]).select(at.position(d), at.position(d).lift(infinity(dtypes.int64))),
            [flat, best], flat.sizes, dtypes.int64,
        )  # fmt: skip
        found = b.reduce(lambda a, e: a.minimum(e), infinity(dtypes.int64), positions, [d])
        return b.reshape(found, out.sizes)

    declare(
        f"aten::{name}(Tensor self, int? dim=None, bool keepdim=False) -> Tensor", infer=infer, reference=reference,
        lower=lower, doc="The first position of the extremum; NaN is one.", source=f"{__name__} (aten::{name})",
        samples=lambda: [
            sample(normal(2, 3, 4), 1), sample(normal(2, 3)), sample(integers(3, 4), -1, True), sample(samples.SPECIAL),
            sample(np.array(1.5)), sample(np.array([[1, 1], [0, 0]]), 1), sample(np.zeros((0, 3), np.float32), 1),
        ],
    )  # fmt: skip


def _is_best(e: Scalar, best: Scalar) -> Scalar:
    same = e.compare("eq", best)
    return same | e.is_nan() if e.dtype.is_floating else same


_arg("argmax")
_arg("argmin")


def _with_indices(name: str) -> None:
    """max.dim, min.dim, and max, min of everything."""

    def infer(x: TensorInfo, dim: int, keep: bool) -> tuple[TensorInfo, TensorInfo]:
        gone = wrap_all([dim], x.rank)
        _nonempty(name, x, gone)
        sizes = reduced(x, gone, keep)
        return x.with_sizes(sizes), TensorInfo(sizes, dtypes.int64)

    def reference(x: Array, dim: int, keep: bool) -> tuple[Array, Array]:
        values = np.asarray((np.max if name == "max" else np.min)(x, axes(x, [dim]), keepdims=keep))
        found = _position(name, x, dim)
        return values, np.expand_dims(found, dim) if keep and x.ndim else found

    def expand(b: TorchBuilder, x: Value, dim: int, keep: bool) -> tuple[Value, Value]:
        return b.call(f"aten::a{name}", x, [dim], keep), b.call(f"aten::arg{name}", x, dim, keep)

    declare(
        f"aten::{name}.dim(Tensor self, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)", infer=infer,
        reference=reference, expand=expand, doc=f"The {name}imum along a dimension and its first position.",
        source=f"{__name__} (aten::{name}.dim)",
        samples=lambda: [sample(normal(2, 3, 4), 1), sample(integers(3, 4), -1, True), sample(samples.SPECIAL, 0), sample(np.array(1.5), 0)],  # noqa: E501
    )  # fmt: skip

    def whole(x: TensorInfo) -> TensorInfo:
        _nonempty_all(name, x)
        return x.with_sizes(())

    declare(
        f"aten::{name}(Tensor self) -> Tensor", infer=whole, doc=f"The {name}imum of all elements.",
        reference=lambda x: np.asarray((np.max if name == "max" else np.min)(x)),
        expand=lambda b, x: b.call(f"aten::a{name}", x, []), source=f"{__name__} (aten::{name})",
        samples=lambda: [sample(normal(2, 3)), sample(integers(4)), sample(samples.SPECIAL), sample(np.array(2))],
    )  # fmt: skip


_with_indices("max")
_with_indices("min")


# ------ any, all, count


def _logical(name: str) -> None:
    start = name == "all"
    function: Callable[..., Any] = np.all if start else np.any

    def out(x: TensorInfo) -> DType:
        return dtypes.uint8 if x.dtype == dtypes.uint8 else dtypes.bool_

    def infer(x: TensorInfo, dims: Dims = None, keep: bool = False) -> TensorInfo:
        gone = [] if isinstance(dims, list) and not dims else wrap_all(dims, x.rank)
        return TensorInfo(reduced(x, gone, keep), out(x))

    def reference(x: Array, dims: Dims = None, keep: bool = False) -> Array:
        gone = () if isinstance(dims, list) and not dims else axes(x, dims)
        return np.asarray(function(x, gone, keepdims=keep)).astype(out(facts(x)).numpy)

    def lower(b: LinalgBuilder, info: TensorInfo, x: Tensor, dims: Dims, keep: bool) -> Tensor:
        gone = [] if isinstance(dims, list) and not dims else wrap_all(dims, x.rank)
        body: Callable[[Scalar, Scalar], Scalar] = (lambda a, e: a & e) if start else (lambda a, e: a | e)
        return b.cast(b.reduce(body, start, x, gone, keep=keep, dtype=dtypes.bool_), info.dtype)

    values = [normal(2, 3) > 0, samples.SPECIAL, np.zeros((0, 3), np.float32), np.array(True), integers(2, 3)]
    declare(
        f"aten::{name}.dims(Tensor self, int[]? dim=None, bool keepdim=False) -> Tensor", infer=infer, lower=lower,
        reference=reference, doc=f"Whether {name} elements over dims are not 0.", source=f"{__name__} (aten::{name}.dims)",
        samples=lambda: [sample(v, [0] if v.ndim else None, True) for v in values] + [sample(normal(2, 3) > 0, [0, 1])],
    )  # fmt: skip
    declare(
        f"aten::{name}.dim(Tensor self, int dim, bool keepdim=False) -> Tensor", infer=infer, reference=reference,
        expand=lambda b, x, dim, keep: b.call(f"aten::{name}", x, [dim], keep), source=f"{__name__} (aten::{name}.dim)",
        samples=lambda: [sample(v, -1) for v in values], doc=f"Whether {name} elements along dim are not 0.",
    )  # fmt: skip
    declare(
        f"aten::{name}(Tensor self) -> Tensor", infer=infer, reference=reference,
        expand=lambda b, x: b.call(f"aten::{name}", x, None, False), source=f"{__name__} (aten::{name})",
        samples=lambda: [sample(v) for v in values], doc=f"Whether {name} elements are not 0.",
    )  # fmt: skip


_logical("any")
_logical("all")
for _schema in (
    "aten::count_nonzero.dim_IntList(Tensor self, int[] dim) -> Tensor",
    "aten::count_nonzero(Tensor self, int? dim=None) -> Tensor",
):
    declare(
        _schema, infer=lambda x, dims: TensorInfo(reduced(x, wrap_all(dims, x.rank), False), dtypes.int64),
        reference=lambda x, dims: np.asarray(np.count_nonzero(x, axes(x, dims))).astype(np.int64),
        expand=lambda b, x, dims: b.sum(b.ne(x, 0), [dims] if isinstance(dims, int) else dims),
        samples=lambda several="[]" in _schema: [sample(integers(3, 4), [0] if several else 0), sample(normal(2, 2), [0, 1] if several else None)],  # noqa: E501
        doc="How many elements are not 0.", source=f"{__name__} ({_schema.partition('(')[0]})",
    )  # fmt: skip


# ------ comparisons of whole tensors


@op("aten::equal(Tensor self, Tensor other) -> bool")
class Equal:
    """Whether sizes and all elements are equal."""

    samples = staticmethod(
        lambda: [sample(normal(2, 3), normal(2, 3)), sample(normal(2), normal(3)), sample(integers(3), integers(3, seed=1))]
    )

    @staticmethod
    def infer(x: TensorInfo, y: TensorInfo) -> Any:
        if x.rank != y.rank or any(map(differ, x.sizes, y.sizes)):
            return False
        for a, b in zip(x.sizes, y.sizes, strict=True):
            if a != b:
                raise Undecided(a, b, "aten::equal of tensors whose sizes may differ")
        return ScalarInfo("bool")

    @staticmethod
    def reference(x: Array, y: Array) -> bool:
        return bool(np.array_equal(x, y))

    @staticmethod
    def lower(b: LinalgBuilder, out: Any, x: Tensor, y: Tensor) -> Scalar:
        same = b.elementwise(lambda p, q: p.compare("eq", q), x, y, dtype=dtypes.bool_, compute=x.dtype)
        return b.element(b.reduce(lambda a, e: a & e, True, same, range(same.rank)))


# ------ running sums


def _running(name: str, combine: str, start: int) -> None:
    def infer(x: TensorInfo, dim: int, dtype: DType | None) -> TensorInfo:
        wrap(dim, x.rank)
        return x.with_dtype(dtype or widened(x.dtype))

    def reference(x: Array, dim: int, dtype: DType | None) -> Array:
        out = dtype or widened(facts(x).dtype)
        x = as_dtype(x, out)
        if x.ndim == 0:
            return x.copy()
        return as_dtype(np.asarray(getattr(np, name)(wide(x), dim)), out)

    def expand(b: TorchBuilder, x: Value, dim: int, dtype: DType | None) -> Value:
        out = dtype or widened(x.dtype)
        x = back(b, x, out)
        if x.rank == 0:
            return x
        d = wrap(dim, x.rank)
        part = [s for n, s in enumerate(x.sizes) if n != d]

        def step(inner: TorchBuilder, k: Any, carried: list[Value]) -> list[Value]:
            result, total = carried
            total = inner.call(f"aten::{combine}", total, inner.select(x, d, k))
            return [inner.select_scatter(result, total, d, k), total]

        first = [b.full(list(x.sizes), 0, dtype=out), b.full(part, start, dtype=out)]
        return b.loop(x.sizes[d], first, step)[0]

    declare(
        f"aten::{name}(Tensor self, int dim, *, ScalarType? dtype=None) -> Tensor", infer=infer, reference=reference,
        expand=expand, inplace=True, doc="Every element combined with all before it.", source=f"{__name__} (aten::{name})",
        samples=lambda: [
            sample(normal(2, 3, 4), 1), sample(integers(5), 0), sample(normal(2, 3), -1, dtype=dtypes.float64),
            sample(np.array(1.5), 0), sample(np.zeros((0,), np.float32), 0), sample(np.array([True, True]), 0),
        ],
    )  # fmt: skip


_running("cumsum", "add", 0)
_running("cumprod", "mul", 1)
