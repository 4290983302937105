"""Softmax and the normalizations: composites over reductions and pointwise ops."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, Sample, TensorInfo, op, sample


def _samples() -> Iterable[Sample]:
    random = np.random.default_rng(0)
    yield sample(random.standard_normal((2, 5)).astype(np.float32), -1, None)
    yield sample(random.standard_normal((3, 1, 4)).astype(np.float32), 0, None)
    yield sample(np.array([[1e4, -1e4, 0.0]], dtype=np.float32), 1, None)


@op("aten::softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor")
class SoftmaxInt:
    """exp(x - max x) over its own sum, along dim; shifted by the maximum so that exp cannot overflow."""

    samples = staticmethod(_samples)

    @staticmethod
    def infer(x: TensorInfo, dim: int, dtype: DType | None) -> TensorInfo:
        return x.with_dtype(dtype or x.dtype)

    @staticmethod
    def reference(x: Array, dim: int, dtype: DType | None) -> Array:
        x = x if dtype is None else x.astype(dtype.numpy)
        e = np.exp(x - x.max(dim, keepdims=True))
        return np.asarray(e / e.sum(dim, keepdims=True))

    @staticmethod
    def expand(b: TorchBuilder, x: Value, dim: int, dtype: DType | None) -> Value:
        x = x if dtype is None else b.to(x, dtype)
        e = b.exp(b.sub(x, b.amax(x, [dim], True)))
        result: Value = b.div(e, b.sum(e, [dim], True))
        return result
