"""Softmax and the normalizations: composites over reductions and pointwise ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import (
    Array,
    RuntimeFault,
    Sample,
    TensorInfo,
    Undecided,
    declare,
    op,
    sample,
    shape_text,
)
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops.dimensions import differ, known, require, wrap, wrap_all
from stepwell.dialects.torch.ops.elementwise import as_dtype
from stepwell.dialects.torch.ops.promotion import facts
from stepwell.dialects.torch.ops.reductions import accumulated, back
from stepwell.dialects.torch.ops.samples import normal
from stepwell.dialects.torch.sizes import Size, product

# ------ softmax


def _softmax_samples(flag: bool) -> Callable[[], Iterator[Sample]]:
    def make() -> Iterator[Sample]:
        last: Any = False if flag else None
        yield sample(normal(2, 5), -1, last)
        yield sample(normal(3, 1, 4), 0, last)
        yield sample(np.array([[1e4, -1e4, 0.0]], np.float32), 1, last)
        yield sample(np.array(1.5, np.float32), 0, last)
        yield sample(np.array([-np.inf, 0.0], np.float32), 0, last)
        if not flag:
            yield sample(np.array([1, 2, 3]), 0, dtypes.float32)

    return make


def _safe_softmax_samples() -> Iterator[Sample]:
    yield from _softmax_samples(False)()
    hidden = normal(3, 4)
    hidden[1], hidden[2, :2] = -np.inf, -np.inf
    yield sample(hidden, 1)


def _out(x: TensorInfo, dtype: Any) -> DType:
    """The result's dtype: asked for, or (of _softmax) float32 of float16."""
    if isinstance(dtype, bool):
        return dtypes.float32 if dtype else x.dtype
    return dtype or x.dtype


def _softmax_info(x: TensorInfo, dim: int, dtype: Any) -> TensorInfo:
    wrap(dim, x.rank)
    out = _out(x, dtype)
    require(out.is_floating, f'"softmax_lastdim_kernel_impl" not implemented for \'{out.title}\'')
    return x.with_dtype(out)


def _softmax_reference(x: Array, dim: int, dtype: Any) -> Array:
    out = _out(facts(x), dtype)
    y = as_dtype(x, out).astype(np.float64).reshape(x.shape or (1,))
    with np.errstate(all="ignore"):
        e = np.exp(y - y.max(dim, keepdims=True))
        return as_dtype(np.asarray(e / e.sum(dim, keepdims=True)).reshape(x.shape), out)


def _softmax_lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, dim: int, dtype: Any) -> Tensor:
    wide = dtypes.float32 if out.dtype in (dtypes.float16, dtypes.bfloat16) else out.dtype
    x, dims = b.cast(b.cast(x, out.dtype), wide), wrap_all([dim], x.rank)
    top = b.reduce(lambda a, e: a.maximum(e, any_zero=True), -np.inf, x, dims, keep=True)
    e = b.elementwise(lambda p, q: (p - q).math("exp"), x, top, dtype=wide)
    total = b.reduce(lambda a, e: a + e, 0, e, dims, keep=True)
    # One division per row: the sum is at least 1 or NaN, so that a product with its reciprocal loses half a unit.
    return b.elementwise(lambda p, q: p * (1 / q), e, total, dtype=out.dtype, compute=wide)


def _safe_softmax_reference(x: Array, dim: int, dtype: Any) -> Array:
    hidden = np.asarray((as_dtype(x, _out(facts(x), dtype)) == -np.inf).reshape(x.shape or (1,)).all(dim, keepdims=True))
    found = _softmax_reference(x, dim, dtype)
    return np.where(hidden.reshape((1,) * x.ndim) if not x.ndim else hidden, found.dtype.type(0), found).reshape(x.shape)


def _safe_softmax_lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, dim: int, dtype: Any) -> Tensor:
    wide = dtypes.float32 if out.dtype in (dtypes.float16, dtypes.bfloat16) else out.dtype
    x, dims = b.cast(b.cast(x, out.dtype), wide), wrap_all([dim], x.rank)
    # Against the lowest finite number minus infinity is exp(-inf) = 0, also where there is nothing else.
    top = b.reduce(lambda a, e: a.maximum(e, any_zero=True), float(np.finfo(wide.numpy).min), x, dims, keep=True)
    e = b.elementwise(lambda p, q: (p - q).math("exp"), x, top, dtype=wide)
    total = b.reduce(lambda a, e: a + e, 0, e, dims, keep=True)
    return b.elementwise(lambda p, q: p * q.compare("eq", 0).select(0.0, 1 / q), e, total, dtype=out.dtype, compute=wide)


def _log_softmax_reference(x: Array, dim: int, dtype: Any) -> Array:
    out = _out(facts(x), dtype)
    y = as_dtype(x, out).astype(np.float64).reshape(x.shape or (1,))
    with np.errstate(all="ignore"):
        y = y - y.max(dim, keepdims=True)
        return as_dtype(np.asarray(y - np.log(np.exp(y).sum(dim, keepdims=True))).reshape(x.shape), out)


def _log_softmax_expand(b: TorchBuilder, x: Value, dim: int, dtype: Any) -> Value:
    out = _out(x.tensor, dtype)
    y = accumulated(b, back(b, x, out))
    y = b.sub(y, b.amax(y, [dim], True))
    return back(b, b.sub(y, b.log(b.sum(b.exp(y), [dim], True))), out)


_SOFTMAX = "exp(x - max x) over its own sum, along dim; shifted by the maximum so that exp cannot overflow."
for _schema in (
    "aten::softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor",
    "aten::special_softmax(Tensor self, int dim, ScalarType? dtype=None) -> Tensor",
    "aten::_softmax(Tensor self, int dim, bool half_to_float) -> Tensor",
):
    declare(
        _schema, infer=_softmax_info, reference=_softmax_reference, lower=_softmax_lower, doc=_SOFTMAX,
        samples=_softmax_samples("bool" in _schema), source=f"{__name__} ({_schema.partition('(')[0]})",
    )  # fmt: skip
declare(
    "aten::_safe_softmax(Tensor self, int dim, ScalarType? dtype=None) -> Tensor", infer=_softmax_info,
    reference=_safe_softmax_reference, lower=_safe_softmax_lower, samples=_safe_softmax_samples, torch_mlir=False,
    doc="softmax; zeros where all elements are minus infinity, as where a mask leaves nothing to attend to.",
)  # fmt: skip
for _schema in (
    "aten::log_softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor",
    "aten::_log_softmax(Tensor self, int dim, bool half_to_float) -> Tensor",
):
    declare(
        _schema, infer=_softmax_info, reference=_log_softmax_reference, expand=_log_softmax_expand,
        doc="log softmax, computed without the softmax.", samples=_softmax_samples("bool" in _schema),
        source=f"{__name__} ({_schema.partition('(')[0]})",
    )  # fmt: skip


# ------ over the last dimensions: layer norm, rms norm


def _normalized_dims(x: TensorInfo, shape: Sequence[Size]) -> list[int]:
    own = x.sizes[max(x.rank - len(shape), 0) :]
    message = (
        f"Given normalized_shape={shape_text(shape)}, expected input with shape [*, {', '.join(map(str, shape))}], but got "
        f"input of size{shape_text(x.sizes)}"
    )
    require(len(own) == len(shape) and not any(map(differ, own, shape)), message)
    for a, b in zip(own, shape, strict=True):
        if a != b:
            raise Undecided(a, b, message)
    return list(range(x.rank - len(shape), x.rank))


def _standardized(b: TorchBuilder, x: Value, dims: list[int], eps: float) -> tuple[Value, Value, Value]:
    """(x - mean) / sqrt(var + eps) over dims, with the mean and the reciprocal root."""
    mean = b.mean(x, dims, True)
    centred = b.sub(x, mean)
    scale = b.rsqrt(b.add(b.mean(b.mul(centred, centred), dims, True), eps))
    return b.mul(centred, scale), mean, scale


def _affine(b: TorchBuilder, x: Value, weight: Value | None, bias: Value | None) -> Value:
    x = x if weight is None else b.mul(x, accumulated(b, weight))
    return x if bias is None else b.add(x, accumulated(b, bias))


def _numpy_standardized(x: Array, dims: Sequence[int], eps: float) -> tuple[Array, Array, Array]:
    y = x.astype(np.float64)
    axes = tuple(dims)
    mean = y.mean(axes, keepdims=True)
    scale = 1 / np.sqrt(((y - mean) ** 2).mean(axes, keepdims=True) + eps)
    return (y - mean) * scale, mean, scale


def _numpy_affine(x: Array, weight: Array | None, bias: Array | None) -> Array:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _native_layer_norm(x: Array, shape: Any, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, ...]:
    dims = _normalized_dims(facts(x), shape)
    y, mean, scale = _numpy_standardized(x, dims, eps)
    return tuple(np.asarray(v).astype(x.dtype) for v in (_numpy_affine(y, weight, bias), mean, scale))


def _native_layer_norm_info(x: TensorInfo, shape: Sequence[Size], *_: Any) -> tuple[TensorInfo, ...]:
    dims = _normalized_dims(x, shape)
    moment = x.with_sizes(1 if d in dims else s for d, s in enumerate(x.sizes))
    return x, moment, moment


def _native_layer_norm_expand(
    b: TorchBuilder, x: Value, shape: Sequence[Size], weight: Value | None, bias: Value | None, eps: float
) -> tuple[Value, ...]:
    y, mean, scale = _standardized(b, accumulated(b, x), _normalized_dims(x.tensor, shape), eps)
    return back(b, _affine(b, y, weight, bias), x.dtype), back(b, mean, x.dtype), back(b, scale, x.dtype)


def _layer_samples() -> list[Sample]:
    return [
        sample(normal(2, 3, 4), [4], normal(4), normal(4, seed=1), 1e-5), sample(normal(2, 3, 4), [3, 4], None, None, 1e-5),
        sample(normal(2, 6), [6], normal(6), None, 1e-3),
    ]  # fmt: skip


declare(
    "aten::native_layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight, Tensor? bias, float eps) -> (Tensor, Tensor, Tensor)",
    infer=_native_layer_norm_info, reference=_native_layer_norm, expand=_native_layer_norm_expand, samples=_layer_samples,
    doc="layer_norm, its mean and its reciprocal standard deviation.",
)  # fmt: skip
declare(
    "aten::layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, Tensor? bias=None, float eps=1e-05, bool cudnn_enable=True) -> Tensor",  # noqa: E501
    infer=lambda x, shape, *_: _native_layer_norm_info(x, shape)[0],
    reference=lambda x, shape, weight, bias, eps, _: _native_layer_norm(x, shape, weight, bias, eps)[0],
    expand=lambda b, x, shape, weight, bias, eps, _: _native_layer_norm_expand(b, x, shape, weight, bias, eps)[0],
    samples=_layer_samples, doc="(x - mean) / sqrt(var + eps) over the last dimensions, scaled and shifted.",
)  # fmt: skip


@op("aten::rms_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, float? eps=None) -> Tensor")
class RmsNorm:
    """x / sqrt(mean x^2 + eps) over the last dimensions, scaled; eps is the dtype's by default."""

    samples = staticmethod(
        lambda: [sample(normal(2, 3, 4), [4], normal(4), 1e-5), sample(normal(2, 6), [6]), sample(normal(2, 3, 4), [3, 4])]
    )

    @staticmethod
    def infer(x: TensorInfo, shape: Sequence[Size], weight: TensorInfo | None, eps: float | None) -> TensorInfo:
        _normalized_dims(x, shape)
        return x

    @staticmethod
    def reference(x: Array, shape: Sequence[int], weight: Array | None, eps: float | None) -> Array:
        eps = float(np.finfo(x.dtype).eps) if eps is None else eps
        y = x.astype(np.float64)
        axes = tuple(_normalized_dims(facts(x), shape))
        y = y / np.sqrt((y * y).mean(axes, keepdims=True) + eps)
        return np.asarray(_numpy_affine(y, weight, None)).astype(x.dtype)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, shape: Sequence[Size], weight: Value | None, eps: float | None) -> Value:
        if eps is None:
            eps = float(np.finfo(np.float32 if x.dtype.itemsize < 4 else x.dtype.numpy).eps)
        y = accumulated(b, x)
        dims = _normalized_dims(x.tensor, shape)
        y = b.mul(y, b.rsqrt(b.add(b.mean(b.mul(y, y), dims, True), eps)))
        return back(b, _affine(b, y, weight, None), x.dtype)


# ------ per channel: batch norm, group norm, instance norm


def _channels(v: Any, rank: int, b: TorchBuilder | None = None) -> Any:
    """A vector of channels as a tensor that broadcasts over dimension 1."""
    if v is None:
        return None
    if b is None:
        return v.reshape([-1 if d == 1 else 1 for d in range(rank)])
    return b.view(accumulated(b, v), [v.sizes[0] if d == 1 else 1 for d in range(rank)])


def _no_training(name: str, training: Any) -> None:
    if training is not False:
        raise UnsupportedError(f"{name} while training: it would update the running statistics", help="call eval() first")


def _check_channels(x: TensorInfo, **vectors: TensorInfo | None) -> None:
    require(x.rank >= 2, f"batch_norm expects at least 2 dimensions, got {x.rank}")
    for name, vector in vectors.items():
        if vector is not None and isinstance(x.sizes[1], int) and isinstance(vector.sizes[0], int):
            require(vector.sizes[0] == x.sizes[1], f"{name} should contain {x.sizes[1]} elements not {vector.sizes[0]}")


def _batch_norm_info(
    x: TensorInfo, weight: Any, bias: Any, mean: Any, var: Any, training: Any, momentum: float, eps: float, *_: Any
) -> TensorInfo:
    known(training, "aten::batch_norm with a training flag")
    _check_channels(x, weight=weight, bias=bias, running_mean=mean, running_var=var)
    return x


def _batch_norm_updates(
    b: TorchBuilder | None, x: Any, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: Any, *_: Any
) -> dict[int, Any]:
    """Running statistics while training: moved towards those of the batch, by momentum; the variance is unbiased."""
    if not training or mean is None:
        return {}
    if b is None:
        dims = tuple(d for d in range(x.ndim) if d != 1)
        batch = x.astype(np.float64).mean(dims), x.astype(np.float64).var(dims, ddof=1)
        return {n: (1 - momentum) * old + momentum * new for n, old, new in zip((3, 4), (mean, var), batch, strict=True)}
    axes = [d for d in range(x.rank) if d != 1]
    y = accumulated(b, x)
    parts = b.mean(y, axes), b.var(y, axes, correction=1)
    return {n: b.add(old, b.mul(b.sub(new, old), momentum)) for n, old, new in zip((3, 4), (mean, var), parts, strict=True)}


def _batch_norm_reference(
    x: Array, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float, *_: Any
) -> Array:
    weight, bias, mean, var = (_channels(v, x.ndim) for v in (weight, bias, mean, var))
    if training or mean is None:
        y = _numpy_standardized(x, [d for d in range(x.ndim) if d != 1], eps)[0]
    else:
        y = (x.astype(np.float64) - mean) / np.sqrt(var.astype(np.float64) + eps)
    return np.asarray(_numpy_affine(y, weight, bias)).astype(x.dtype)


def _batch_norm_expand(
    b: TorchBuilder, x: Value, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float,
    *_: Any,
) -> Value:  # fmt: skip
    y = accumulated(b, x)
    if training or mean is None:
        y = _standardized(b, y, [d for d in range(x.rank) if d != 1], eps)[0]
        return back(b, _affine(b, y, _channels(weight, x.rank, b), _channels(bias, x.rank, b)), x.dtype)
    # One factor and one shift for each channel: what remains per element is a multiplication and an addition.
    factor = b.rsqrt(b.add(accumulated(b, var), eps))
    factor = factor if weight is None else b.mul(factor, accumulated(b, weight))
    shift = b.neg(b.mul(accumulated(b, mean), factor))
    shift = shift if bias is None else b.add(shift, accumulated(b, bias))
    return back(b, b.add(b.mul(y, _channels(factor, x.rank, b)), _channels(shift, x.rank, b)), x.dtype)


def _batch_samples(tail: tuple[Any, ...]) -> Callable[[], Iterator[Sample]]:
    def make() -> Iterator[Sample]:
        var = np.abs(normal(3)) + np.float32(0.5)
        yield sample(normal(2, 3, 4, 4), normal(3), normal(3, seed=1), normal(3, seed=2), var, False, 0.1, 1e-5, *tail)
        yield sample(normal(4, 3), None, None, normal(3), var, False, 0.1, 1e-5, *tail)
        yield sample(normal(4, 3, 2), normal(3), normal(3, seed=1), None, None, True, 0.1, 1e-5, *tail)

    return make


declare(
    "aten::batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, bool training, float momentum, float eps, bool cudnn_enabled) -> Tensor",  # noqa: E501
    infer=_batch_norm_info, reference=_batch_norm_reference, expand=_batch_norm_expand, samples=_batch_samples((True,)),
    updates=_batch_norm_updates,
    doc="Every channel by its running mean and variance (while training: the batch's), scaled and shifted.",
)  # fmt: skip


def _native_batch_norm_info(x: TensorInfo, weight: Any, bias: Any, mean: Any, var: Any, training: Any, *rest: Any) -> TensorInfo:
    _no_training("aten::native_batch_norm", training)
    return _batch_norm_info(x, weight, bias, mean, var, training, *rest)


def _with_empty(result: Any, empty: Any) -> tuple[Any, Any, Any]:
    """The native form also gives the batch's statistics, which are empty when not training."""
    return result, empty, empty


declare(
    "aten::native_batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, bool training, float momentum, float eps) -> (Tensor, Tensor, Tensor)",  # noqa: E501
    infer=lambda x, *rest: _with_empty(_native_batch_norm_info(x, *rest), x.with_sizes((0,))),
    reference=lambda x, *rest: _with_empty(_batch_norm_reference(x, *rest), np.zeros((0,), x.dtype)),
    expand=lambda b, x, *rest: _with_empty(_batch_norm_expand(b, x, *rest), b.zeros([0], dtype=x.dtype)),
    samples=lambda: [s for s in _batch_samples(())() if not s.arguments[5]], doc="batch_norm and empty statistics.",
)  # fmt: skip
declare(
    "aten::_native_batch_norm_legit_no_training(Tensor input, Tensor? weight, Tensor? bias, Tensor running_mean, Tensor running_var, float momentum, float eps) -> (Tensor, Tensor, Tensor)",  # noqa: E501
    infer=lambda x, w, c, m, v, *rest: _with_empty(_batch_norm_info(x, w, c, m, v, False, *rest), x.with_sizes((0,))),
    reference=lambda x, w, c, m, v, *rest: _with_empty(
        _batch_norm_reference(x, w, c, m, v, False, *rest), np.zeros((0,), x.dtype)
    ),
    expand=lambda b, x, w, c, m, v, *rest: _with_empty(
        _batch_norm_expand(b, x, w, c, m, v, False, *rest), b.zeros([0], dtype=x.dtype)
    ),
    doc="batch_norm and empty statistics.",
)


@op(
    "aten::instance_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, bool use_input_stats, float momentum, float eps, bool cudnn_enabled) -> Tensor",  # noqa: E501
)
class InstanceNorm:
    """Every channel of every sample by its own mean and variance (or the running ones), scaled and shifted."""

    samples = staticmethod(
        lambda: [
            sample(normal(2, 3, 4, 5), normal(3), normal(3, seed=1), None, None, True, 0.1, 1e-5, True),
            sample(normal(2, 3, 5), None, None, None, None, True, 0.1, 1e-5, True),
        ]
    )

    @staticmethod
    def infer(x: TensorInfo, weight: Any, bias: Any, mean: Any, var: Any, own: Any, *_: Any) -> TensorInfo:
        if own is not False and mean is not None:
            _no_training("aten::instance_norm", own)
        if own is False and (mean is None or var is None):
            raise RuntimeFault("Expected running_mean and running_var to be defined when use_input_stats is false")
        _check_channels(x, weight=weight, bias=bias)
        return x

    @staticmethod
    def reference(
        x: Array, weight: Any, bias: Any, mean: Any, var: Any, own: bool, momentum: float, eps: float, *_: Any
    ) -> Array:
        if not own:
            return _batch_norm_reference(x, weight, bias, mean, var, False, momentum, eps)
        y = _numpy_standardized(x, range(2, x.ndim), eps)[0]
        return np.asarray(_numpy_affine(y, _channels(weight, x.ndim), _channels(bias, x.ndim))).astype(x.dtype)

    @staticmethod
    def expand(
        b: TorchBuilder, x: Value, weight: Any, bias: Any, mean: Any, var: Any, own: bool, momentum: float, eps: float,
        *_: Any,
    ) -> Value:  # fmt: skip
        if not own:
            return _batch_norm_expand(b, x, weight, bias, mean, var, False, momentum, eps)
        y = _standardized(b, accumulated(b, x), list(range(2, x.rank)), eps)[0]
        return back(b, _affine(b, y, _channels(weight, x.rank, b), _channels(bias, x.rank, b)), x.dtype)


def _group_sizes(x: Any, groups: int) -> list[Any]:
    n, c, *rest = x.shape if isinstance(x, np.ndarray) else x.sizes
    return [n, groups, (c // groups) * product(rest)]


@op(
    "aten::group_norm(Tensor input, int num_groups, Tensor? weight=None, Tensor? bias=None, float eps=1e-05, bool cudnn_enabled=True) -> Tensor",  # noqa: E501
)
class GroupNorm:
    """Channels in groups, each group of a sample by its own mean and variance; scaled and shifted by channel."""

    samples = staticmethod(
        lambda: [sample(normal(2, 6, 4), 3, normal(6), normal(6, seed=1)), sample(normal(2, 4, 3, 2), 2), sample(normal(2, 4), 4)]
    )

    @staticmethod
    def infer(x: TensorInfo, groups: int, weight: Any, bias: Any, *_: Any) -> TensorInfo:
        require(x.rank >= 2, f"Expected at least 2 dimensions for input tensor but received {x.rank}")
        c = x.sizes[1]
        require(not isinstance(c, int) or c % groups == 0, f"Expected number of channels in input to be divisible by num_groups, but got input of shape {shape_text(x.sizes)} and num_groups={groups}")  # noqa: E501  # fmt: skip
        _check_channels(x, weight=weight, bias=bias)
        return x

    @staticmethod
    def reference(x: Array, groups: int, weight: Any, bias: Any, eps: float, *_: Any) -> Array:
        y = _numpy_standardized(x.reshape(_group_sizes(x, groups)), [2], eps)[0]
        y = y.reshape(x.shape)
        return np.asarray(_numpy_affine(y, _channels(weight, x.ndim), _channels(bias, x.ndim))).astype(x.dtype)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, groups: int, weight: Any, bias: Any, eps: float, *_: Any) -> Value:
        y = b.view(accumulated(b, x), _group_sizes(x, groups))
        y = _standardized(b, y, [2], eps)[0]
        y = b.view(y, list(x.sizes))
        return back(b, _affine(b, y, _channels(weight, x.rank, b), _channels(bias, x.rank, b)), x.dtype)


@op(
    "aten::native_group_norm(Tensor input, Tensor? weight, Tensor? bias, SymInt N, SymInt C, SymInt HxW, int group, float eps) -> (Tensor, Tensor, Tensor)",  # noqa: E501
)
class NativeGroupNorm:
    """group_norm, its means and its reciprocal standard deviations."""

    samples = staticmethod(lambda: [sample(normal(2, 6, 4), normal(6), normal(6, seed=1), 2, 6, 4, 3, 1e-5)])

    @staticmethod
    def infer(x: TensorInfo, weight: Any, bias: Any, n: Size, c: Size, hw: Size, groups: int, eps: float) -> Any:
        moment = x.with_sizes((n, groups))
        return x, moment, moment

    @staticmethod
    def reference(x: Array, weight: Any, bias: Any, n: int, c: int, hw: int, groups: int, eps: float) -> Any:
        y, mean, scale = _numpy_standardized(x.reshape(n, groups, -1), [2], eps)
        y = _numpy_affine(y.reshape(x.shape), _channels(weight, x.ndim), _channels(bias, x.ndim))
        return tuple(np.asarray(v).astype(x.dtype) for v in (y, mean[..., 0], scale[..., 0]))

    @staticmethod
    def expand(b: TorchBuilder, x: Value, weight: Any, bias: Any, n: Size, c: Size, hw: Size, groups: int, eps: float) -> Any:
        y, mean, scale = _standardized(b, b.view(accumulated(b, x), _group_sizes(x, groups)), [2], eps)
        y = _affine(b, b.view(y, list(x.sizes)), _channels(weight, x.rank, b), _channels(bias, x.rank, b))
        return back(b, y, x.dtype), *(back(b, b.view(v, [n, groups]), x.dtype) for v in (mean, scale))
