"""Weights as direction times length (torch.nn.utils.weight_norm), as speech models have them."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, TensorInfo, op, sample
from stepwell.dialects.torch.ops.dimensions import wrap
from stepwell.dialects.torch.ops.samples import normal


def _others(rank: int, dim: int) -> list[int]:
    """The dims that a norm runs over: all but one, or all where dim is -1."""
    return [d for d in range(rank) if dim == -1 or d != wrap(dim, rank)]


@op("aten::norm_except_dim(Tensor v, int pow=2, int dim=0) -> Tensor")
class NormExceptDim:
    """The p-norm of every slice along dim (of everything, where dim is -1), sizes kept as 1."""

    samples = staticmethod(lambda: [sample(normal(3, 4), 2, 0), sample(normal(3, 4, 2), 2, 2), sample(normal(3, 4), 2, -1)])

    @staticmethod
    def infer(v: TensorInfo, pow: int, dim: int) -> TensorInfo:
        if dim == -1:
            return v.with_sizes([])
        return v.with_sizes([s if d == wrap(dim, v.rank) else 1 for d, s in enumerate(v.sizes)])

    @staticmethod
    def reference(v: Array, pow: int, dim: int) -> Array:
        total = np.sum(np.abs(v.astype(np.float64)) ** pow, axis=tuple(_others(v.ndim, dim)), keepdims=dim != -1)
        return np.asarray(total ** (1 / pow)).astype(v.dtype)

    @staticmethod
    def expand(b: TorchBuilder, v: Value, pow: int, dim: int) -> Value:
        norm: Value = b.linalg_vector_norm(v, pow, _others(v.rank, dim), dim != -1)
        return norm


@op("aten::_weight_norm(Tensor v, Tensor g, int dim=0) -> Tensor")
class WeightNorm:
    """v * (g / norm_except_dim(v, 2, dim))."""

    samples = staticmethod(
        lambda: [sample(normal(3, 4), normal(3, 1), 0), sample(normal(3, 4, 2), normal(1, 1, 2), 2)]
    )

    @staticmethod
    def infer(v: TensorInfo, g: TensorInfo, dim: int) -> TensorInfo:
        return v

    @staticmethod
    def reference(v: Array, g: Array, dim: int) -> Array:
        return np.asarray(v * (g / NormExceptDim.reference(v, 2, dim))).astype(v.dtype)

    @staticmethod
    def expand(b: TorchBuilder, v: Value, g: Value, dim: int) -> Value:
        result: Value = b.mul(v, b.div(g, b.norm_except_dim(v, 2, dim)))
        return result
