"""Pointwise ops: one table row or one small class each; promotion and broadcasting are derived."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.declare import Array, RuntimeFault, Sample, ScalarInfo, TensorInfo, op, sample
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.scalar import Scalar
from stepwell.dialects.torch.sizes import Dim, Size

Body = Callable[..., Scalar]


def promoted(*operands: Any) -> DType:
    """torch.result_type of tensors (TensorInfo) and Python scalars, whatever is known of them."""
    dimensioned = [o.dtype for o in operands if isinstance(o, TensorInfo) and o.sizes]
    zero_dim = [o.dtype for o in operands if isinstance(o, TensorInfo) and not o.sizes]
    scalars = [_scalar_dtype(o) for o in operands if not isinstance(o, TensorInfo)]
    return dtypes.result_type(dimensioned, zero_dim, scalars)


def _scalar_dtype(value: Any) -> DType:
    if isinstance(value, ScalarInfo):
        return dtypes.bool_ if value.kind == "bool" else dtypes.DEFAULT
    return dtypes.int64 if isinstance(value, Dim) else dtypes.of_scalar(value)


def broadcast_sizes(*shapes: Sequence[Size]) -> tuple[Size, ...]:
    """The sizes of the broadcast result. RuntimeFault in torch's words where they do not fit."""
    rank = max((len(s) for s in shapes), default=0)
    result: list[Size] = [1] * rank
    for shape in shapes:
        for back, size in enumerate(reversed(shape), start=1):
            current = result[rank - back]
            if current == 1:
                result[rank - back] = size
            elif size != 1 and size != current:
                raise RuntimeFault(
                    f"The size of tensor a ({current}) must match the size of tensor b ({size}) "
                    f"at non-singleton dimension {rank - back}"
                )
    return tuple(result)


def floating(dtype: DType) -> DType:
    """What exp and its like return: integers and bool become the default float."""
    return dtype if dtype.category >= dtypes.FLOATING else dtypes.DEFAULT


def _unary_samples() -> Iterable[Sample]:
    random = np.random.default_rng(0)
    yield sample(random.standard_normal((2, 3)).astype(np.float32))
    yield sample(np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30], dtype=np.float32))
    yield sample(np.zeros((0, 3), dtype=np.float32))
    yield sample(np.float64(0.5).reshape(()))
    yield sample(np.arange(-2, 3))


def unary(
    name: str, scalar: Body, reference: Callable[..., Any], result: Callable[[DType], DType] = floating, **options: Any
) -> None:
    """Declare `name(Tensor self) -> Tensor`: `scalar` computes one element, `result` the dtype."""

    def infer(x: TensorInfo) -> TensorInfo:
        return x.with_dtype(result(x.dtype))

    def evaluate(x: Array) -> Array:
        dtype = result(dtypes.from_numpy(x.dtype))
        with np.errstate(all="ignore"):
            return np.asarray(reference(x.astype(dtype.numpy))).astype(dtype.numpy)

    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor) -> Tensor:
        return b.elementwise(scalar, x, dtype=out.dtype)

    rules = {"infer": infer, "reference": evaluate, "lower": lower, "samples": _unary_samples}
    cls = type(name, (), {k: staticmethod(v) for k, v in rules.items()} | {"__doc__": f"{name} of every element."})
    op(f"aten::{name}(Tensor self) -> Tensor", **options)(cls)


unary("exp", lambda x: x.math("exp"), np.exp)
unary("relu", lambda x: x.maximum(0), lambda x: np.maximum(x, 0), result=lambda d: d)


@op("aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor")
class AddTensor:
    """self + alpha * other, broadcast and promoted."""

    @staticmethod
    def samples() -> Iterable[Sample]:
        yield sample(np.ones((2, 3), np.float32), np.arange(3, dtype=np.float32), alpha=2)
        yield sample(np.ones((2, 3), np.int64), np.float32(2).reshape(()))

    @staticmethod
    def infer(x: TensorInfo, y: TensorInfo, alpha: Any) -> TensorInfo:
        return TensorInfo(broadcast_sizes(x.sizes, y.sizes), promoted(x, y))

    @staticmethod
    def reference(x: Array, y: Array, alpha: Any) -> Array:
        dtype = promoted(*(TensorInfo(a.shape, dtypes.from_numpy(a.dtype)) for a in (x, y))).numpy
        return np.asarray(x.astype(dtype) + y.astype(dtype) * dtype.type(alpha))

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, y: Tensor, alpha: Any) -> Tensor:
        if alpha == 1:
            return b.elementwise(lambda p, q: p + q, x, y, dtype=out.dtype)
        return b.elementwise(lambda p, q, a: p + q * a, x, y, alpha, dtype=out.dtype)
