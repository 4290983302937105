"""Variances, norms, and what else is made of sums: composites over reductions and pointwise ops."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, Sample, TensorInfo, declare, op, sample
from stepwell.dialects.torch.ops.dimensions import broadcast_sizes, known, reduced, require, static, wrap_all
from stepwell.dialects.torch.ops.elementwise import as_dtype
from stepwell.dialects.torch.ops.promotion import facts, floating
from stepwell.dialects.torch.ops.reductions import Dims, accumulated, axes, back, need_floats, wide
from stepwell.dialects.torch.ops.samples import integers, normal
from stepwell.dialects.torch.sizes import maximum, product

# ------ variance: the mean square distance from the mean, in two passes


def _normalized(overload: str, arguments: Sequence[Any]) -> tuple[Dims, Any, bool]:
    """dims, correction and keepdim of each of the three overloads."""
    if overload == "":
        return None, int(arguments[0]), False
    if overload == "dim":
        return arguments[0], int(arguments[1]), arguments[2]
    dims, correction, keep = arguments
    return dims, 1 if correction is None else correction, keep


def _moments(b: TorchBuilder, x: Value, dims: Dims, correction: Any, keep: bool) -> tuple[Value, Value]:
    gone = wrap_all(dims, x.rank)
    count = product(x.sizes[d] for d in gone)
    wide_x = accumulated(b, x)
    mean = b.mean(wide_x, gone, True) if gone else wide_x
    squares = b.square(b.sub(wide_x, mean))
    total = b.sum(squares, gone, keep) if gone else squares
    if isinstance(correction, float):
        require(isinstance(count, int), "a variance with a fractional correction of a size that is only known at run time")
        var = b.div(total, max(static([count])[0] - correction, 0.0))
    else:
        var = b.div(total, maximum(count - correction, 0))
    if not keep:
        mean = b.view(mean, list(reduced(x.tensor, gone, False)))
    return back(b, var, x.dtype), back(b, mean, x.dtype)


def _numpy_moments(x: Array, dims: Dims, correction: Any, keep: bool) -> tuple[Array, Array]:
    gone, y = axes(x, dims), wide(x)
    count = np.float64(np.prod([x.shape[d] for d in gone]))
    with np.errstate(all="ignore"):
        mean = y.sum(gone, keepdims=True) / count
        var = np.square(y - mean).sum(gone, keepdims=keep) / np.maximum(count - correction, 0)
    dtype = facts(x).dtype
    return as_dtype(np.asarray(var), dtype), as_dtype(np.asarray(mean.reshape(var.shape)), dtype)


_ARGUMENTS = {
    "": "(Tensor self, bool unbiased=True)",
    "dim": "(Tensor self, int[1]? dim, bool unbiased=True, bool keepdim=False)",
    "correction": "(Tensor self, int[1]? dim=None, *, Scalar? correction=None, bool keepdim=False)",
}


def _variance_samples(overload: str) -> Iterator[Sample]:
    if overload == "":
        yield sample(normal(2, 3))
        yield sample(normal(2, 3), False)
        yield sample(normal(1))
    elif overload == "dim":
        yield sample(normal(2, 3, 4), [1])
        yield sample(normal(2, 3, 4), [0, -1], False, True)
        yield sample(normal(2, 3), None)
    else:
        yield sample(normal(2, 3), [1], correction=0)
        yield sample(normal(2, 3), keepdim=True)
        yield sample(normal(4, 1), [-1])


def _variance(name: str, overload: str) -> None:
    root, both = name.startswith("std"), name.endswith("mean")

    def infer(x: TensorInfo, *arguments: Any) -> Any:
        require(x.dtype.is_floating, f"{name} only support floating point and complex dtypes")
        dims, _, keep = _normalized(overload, arguments)
        result = x.with_sizes(reduced(x, wrap_all(dims, x.rank), keep))
        return (result, result) if both else result

    def reference(x: Array, *arguments: Any) -> Any:
        var, mean = _numpy_moments(x, *_normalized(overload, arguments))
        first = np.sqrt(var) if root else var
        return (np.asarray(first), mean) if both else np.asarray(first)

    def expand(b: TorchBuilder, x: Value, *arguments: Any) -> Any:
        var, mean = _moments(b, x, *_normalized(overload, arguments))
        first = b.sqrt(var) if root else var
        return (first, mean) if both else first

    dot = f".{overload}" if overload else ""
    declare(
        f"aten::{name}{dot}{_ARGUMENTS[overload]} -> {'(Tensor, Tensor)' if both else 'Tensor'}", infer=infer,
        reference=reference, expand=expand, samples=lambda: _variance_samples(overload),
        doc="The spread around the mean over dims; divided by the count less the correction (1 if unbiased).",
        source=f"{__name__} (aten::{name}{dot})",
    )  # fmt: skip


for _name in ("var", "std", "var_mean", "std_mean"):
    for _overload in _ARGUMENTS:
        _variance(_name, _overload)


# ------ norms


def _norm_info(x: TensorInfo, p: Any, dims: Dims, keep: bool, dtype: DType | None) -> TensorInfo:
    need_floats("linalg.vector_norm", x, dtype)
    known(p, "the order of a norm")
    return TensorInfo(reduced(x, wrap_all(dims, x.rank), keep), dtype or x.dtype)


def _norm_reference(x: Array, p: Any, dims: Dims, keep: bool, dtype: DType | None) -> Array:
    out = dtype or facts(x).dtype
    y, gone = np.abs(wide(as_dtype(x, out))), axes(x, dims)
    if p == math.inf:
        result = y.max(gone, keepdims=keep)
    elif p == -math.inf:
        result = y.min(gone, keepdims=keep)
    elif p == 0:
        result = (y != 0).sum(gone, keepdims=keep)
    else:
        result = np.power(np.power(y, p).sum(gone, keepdims=keep), 1 / p)
    return as_dtype(np.asarray(result), out)


def _norm_expand(b: TorchBuilder, x: Value, p: Any, dims: Dims, keep: bool, dtype: DType | None) -> Value:
    out = dtype or x.dtype
    y = accumulated(b, back(b, x, out))
    gone = wrap_all(dims, x.rank)
    if p == 2:
        result = b.sqrt(b.sum(b.mul(y, y), gone, keep))
    elif p == 1:
        result = b.sum(b.abs(y), gone, keep)
    elif p in (math.inf, -math.inf):
        result = b.call("aten::amax" if p > 0 else "aten::amin", b.abs(y), gone, keep)
    elif p == 0:
        result = b.sum(b.ne(y, 0), gone, keep, dtype=out)
    else:
        result = b.pow(b.sum(b.pow(b.abs(y), p), gone, keep), 1.0 / p)
    return back(b, result, out)


def _norm_samples() -> list[Sample]:
    return [sample(normal(2, 3, 4), p, [1]) for p in (2, 1, math.inf, -math.inf, 0, 3)] + [sample(normal(2, 3), 2, [0, 1], True)]


_NORM = "aten::linalg_vector_norm(Tensor self, Scalar ord=2, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor"
declare(
    _NORM, infer=_norm_info, reference=_norm_reference, expand=_norm_expand, samples=_norm_samples,
    doc="The p-norm over dims: (sum |x|^p)^(1/p), or its limits.",
)  # fmt: skip


def _norm(schema: str, order: Any, samples: Any) -> None:
    """The forms of aten::norm: order(arguments) puts them into linalg_vector_norm's order."""
    declare(
        schema, infer=lambda x, *a: _norm_info(x, *order(*a)), reference=lambda x, *a: _norm_reference(x, *order(*a)),
        expand=lambda b, x, *a: _norm_expand(b, x, *order(*a)), samples=samples, doc="The p-norm.",
        source=f"{__name__} ({schema.partition('(')[0]})",
    )  # fmt: skip


def _two(p: Any) -> Any:
    return 2 if p is None else p


_norm("aten::norm.Scalar(Tensor self, Scalar p=2) -> Tensor", lambda p: (p, None, False, None), lambda: [sample(normal(2, 3)), sample(normal(2, 3), 1)])  # noqa: E501  # fmt: skip
_norm("aten::norm.ScalarOpt_dim(Tensor self, Scalar? p, int[1] dim, bool keepdim=False) -> Tensor", lambda p, dims, keep: (_two(p), dims, keep, None), lambda: [sample(normal(2, 3), None, [1]), sample(normal(2, 3), 2, [-1], True)])  # noqa: E501  # fmt: skip
_norm("aten::norm.ScalarOpt_dim_dtype(Tensor self, Scalar? p, int[1] dim, bool keepdim, *, ScalarType dtype) -> Tensor", lambda p, dims, keep, dtype: (_two(p), dims, keep, dtype), lambda: [])  # noqa: E501  # fmt: skip
_norm("aten::norm.ScalarOpt_dtype(Tensor self, Scalar? p, *, ScalarType dtype) -> Tensor", lambda p, dtype: (_two(p), None, False, dtype), lambda: [])  # noqa: E501  # fmt: skip
_norm("aten::frobenius_norm.dim(Tensor self, int[1] dim, bool keepdim=False) -> Tensor", lambda dims, keep: (2, dims, keep, None), lambda: [sample(normal(2, 3), [1])])  # noqa: E501  # fmt: skip
_norm("aten::linalg_norm(Tensor self, Scalar? ord=None, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor", lambda p, dims, keep, dtype: (_vector(p, dims), dims, keep, dtype), lambda: [sample(normal(2, 3)), sample(normal(4), 3, [0])])  # noqa: E501  # fmt: skip


def _vector(p: Any, dims: Dims) -> Any:
    require(p is None or dims is None or isinstance(dims, int) or len(dims) == 1, "linalg.norm: matrix norms are not supported")
    return _two(p)


# ------ exponentials summed


@op("aten::logsumexp(Tensor self, int[1] dim, bool keepdim=False) -> Tensor")
class LogSumExp:
    """log sum exp x over dims; shifted by the maximum (unless that is infinite), so that exp cannot overflow."""

    samples = staticmethod(
        lambda: [sample(normal(2, 3), [1]), sample(normal(2, 3) * 1000, [0, 1], True), sample(np.array([np.inf, 1], np.float32), [0]),
                 sample(np.array([-np.inf, -np.inf], np.float32), [0]), sample(integers(3), [0])]
    )  # fmt: skip

    @staticmethod
    def infer(x: TensorInfo, dims: Dims, keep: bool) -> TensorInfo:
        return TensorInfo(reduced(x, wrap_all(dims, x.rank), keep), floating(x.dtype))

    @staticmethod
    def reference(x: Array, dims: Dims, keep: bool) -> Array:
        out, gone, y = floating(facts(x).dtype), axes(x, dims), x.astype(np.float64)
        with np.errstate(all="ignore"):
            top = y.max(gone, keepdims=True)
            top = np.where(np.isinf(top), 0, top)
            result = np.log(np.exp(y - top).sum(gone, keepdims=True)) + top
        return as_dtype(result if keep else result.reshape(np.delete(result.shape, gone)), out)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, dims: Dims, keep: bool) -> Value:
        out = floating(x.dtype)
        y, gone = accumulated(b, back(b, x, out)), wrap_all(dims, x.rank)
        top = b.amax(y, gone, True)
        top = b.where(b.isinf(top), 0.0, top)
        result = b.add(b.log(b.sum(b.exp(b.sub(y, top)), gone, True)), top)
        if not keep:
            result = b.view(result, list(reduced(x.tensor, gone, False)))
        return back(b, result, out)


# ------ distances and likenesses


@op("aten::cosine_similarity(Tensor x1, Tensor x2, int dim=1, float eps=1e-08) -> Tensor")
class CosineSimilarity:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along dim."""

    samples = staticmethod(lambda: [sample(normal(2, 3), normal(2, 3, seed=1)), sample(normal(2, 3), normal(1, 3), -1)])

    @staticmethod
    def infer(x: TensorInfo, y: TensorInfo, dim: int, eps: float) -> TensorInfo:
        both = TensorInfo(broadcast_sizes(x.sizes, y.sizes), x.dtype)
        return both.with_sizes(reduced(both, wrap_all([dim], both.rank), False))

    @staticmethod
    def reference(x: Array, y: Array, dim: int, eps: float) -> Array:
        p, q = np.broadcast_arrays(wide(x), wide(y))
        below = np.maximum(np.linalg.norm(p, axis=dim), eps) * np.maximum(np.linalg.norm(q, axis=dim), eps)
        return np.asarray((p * q).sum(dim) / below).astype(x.dtype)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, y: Value, dim: int, eps: float) -> Value:
        x, y = b.broadcast_tensors([x, y])
        lengths = [b.clamp_min(b.linalg_vector_norm(v, 2, [dim], True), eps) for v in (x, y)]
        result: Value = b.sum(b.mul(b.div(x, lengths[0]), b.div(y, lengths[1])), [dim])
        return result
