"""mylib::clip_norm, written in smaller ops, and mylib::soft_sign, with a lowering of its own."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, Sample, TensorInfo, op, sample
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor

X = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)


@op("mylib::clip_norm(Tensor x, float max_norm=1.0) -> Tensor")
class ClipNorm:
    """x scaled down to a Euclidean norm of max_norm; as it is where its norm is not larger."""

    @staticmethod
    def samples() -> Iterable[Sample]:
        yield sample(X, 0.5)
        yield sample(X, max_norm=100.0)
        yield sample(np.zeros((2, 0), np.float32), 1.0)

    @staticmethod
    def infer(x: TensorInfo, max_norm: float) -> TensorInfo:
        return x

    @staticmethod
    def reference(x: Array, max_norm: float) -> Array:
        norm = np.sqrt(np.sum(x.astype(np.float64) ** 2))
        return (x * np.minimum(1.0, max_norm / np.maximum(norm, 1e-12))).astype(x.dtype)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, max_norm: float) -> Value:
        norm = b.clamp_min(b.sqrt(b.sum(b.mul(x, x))), 1e-12)
        return b.mul(x, b.clamp_max(b.mul(b.reciprocal(norm), max_norm), 1.0))


@op("mylib::soft_sign(Tensor x) -> Tensor")
class SoftSign:
    """x / (1 + |x|), element by element."""

    @staticmethod
    def samples() -> Iterable[Sample]:
        yield sample(X)
        yield sample(np.float32([0.0, -0.0, np.inf, 1e30]))

    @staticmethod
    def infer(x: TensorInfo) -> TensorInfo:
        return x

    @staticmethod
    def reference(x: Array) -> Array:
        return x / (1 + np.abs(x))

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor) -> Tensor:
        return b.elementwise(lambda element: element / (1 + element.absolute()), x, dtype=out.dtype)
