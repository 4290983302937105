"""Test arguments that many ops share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stepwell.dialects.torch.declare import Array, Sample, sample


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Normally distributed numbers, the same ones every time."""
    return np.asarray(np.random.default_rng(seed + sum(shape)).standard_normal(shape)).astype(dtype)


def integers(*shape: int, low: int = -5, high: int = 6, dtype: Any = np.int64, seed: int = 0) -> Array:
    """Uniform integers in low..high-1."""
    return np.asarray(np.random.default_rng(seed + sum(shape)).integers(low, high, shape)).astype(dtype)


SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, 2.5, -2.5, 1e10], dtype=np.float32)


def unary() -> Iterator[Sample]:
    yield sample(normal(2, 3))
    yield sample(SPECIAL)
    yield sample(np.zeros((0, 3), np.float32))
    yield sample(np.array(0.5))
    yield sample(np.arange(-2, 3))


def unary_floats() -> Iterator[Sample]:
    """For ops that torch has for floats only."""
    yield sample(normal(2, 3))
    yield sample(SPECIAL)
    yield sample(np.zeros((0, 3), np.float32))
    yield sample(np.array(0.5))


def binary() -> Iterator[Sample]:
    yield sample(normal(2, 3), normal(3, seed=1))
    yield sample(np.repeat(SPECIAL, SPECIAL.size), np.tile(SPECIAL, SPECIAL.size))
    yield sample(np.zeros((0, 3), np.float32), normal(1, 1))
    yield sample(integers(2, 1), np.array(2, np.float32))
    yield sample(integers(4, 3, dtype=np.int32), np.array([1, -2, 3]))


def binary_integers() -> Iterator[Sample]:
    yield sample(integers(2, 3), integers(3, low=1, high=5))
    yield sample(integers(2, 3, dtype=np.int32), np.array(3, np.int64))
    yield sample(np.zeros((0, 3), np.int64), np.ones((1, 1), np.int64))


def with_scalar() -> Iterator[Sample]:
    yield sample(normal(2, 3), 2)
    yield sample(normal(2, 3), 0.5)
    yield sample(SPECIAL, 2.5)
    yield sample(integers(5), 2)
    yield sample(integers(5), 1.5)
    yield sample(np.array(3, np.int32), 2)
    yield sample(np.zeros((0,), np.float32), 1)


__all__ = [
    "SPECIAL", "binary", "binary_integers", "integers", "normal", "unary", "unary_floats", "with_scalar",
]  # fmt: skip
