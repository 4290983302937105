"""Operands of structured ops seen over the iteration space: an indexing map makes a strided view of the array.

A view has one axis per loop, of size 1 where the map does not use the loop, so numpy's broadcasting does the rest.
Sliding windows (`d2 * 2 + d5`) are views too: nothing is copied.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
    AffineMap,
)

from stepwell.compiler.interpreter.rules import Fault
from stepwell.compiler.interpreter.values import Array

Linear = tuple[tuple[int, ...], int]
"""A linear expression: one coefficient per loop, and a constant."""


def linear(expression: AffineExpr, loops: int) -> Linear | None:
    """The expression's coefficients, or None where it divides or takes a remainder."""
    if isinstance(expression, AffineDimExpr):
        return tuple(int(loop == expression.position) for loop in range(loops)), 0
    if isinstance(expression, AffineConstantExpr):
        return (0,) * loops, expression.value
    if not isinstance(expression, AffineBinaryOpExpr):
        return None
    left, right = linear(expression.lhs, loops), linear(expression.rhs, loops)
    if left is None or right is None:
        return None
    if expression.kind == AffineBinaryOpKind.Add:
        return tuple(a + b for a, b in zip(left[0], right[0], strict=True)), left[1] + right[1]
    if expression.kind == AffineBinaryOpKind.Mul:
        if any(left[0]):
            left, right = right, left
        if not any(left[0]):
            return tuple(left[1] * b for b in right[0]), left[1] * right[1]
    return None


def evaluate(expression: AffineExpr, positions: Sequence[Any]) -> Any:
    """The expression at loop positions, which may be arrays."""
    if isinstance(expression, AffineDimExpr):
        return positions[expression.position]
    if isinstance(expression, AffineConstantExpr):
        return expression.value
    if not isinstance(expression, AffineBinaryOpExpr):
        raise Fault(f"the indexing expression {expression} has symbols")
    left, right = evaluate(expression.lhs, positions), evaluate(expression.rhs, positions)
    match expression.kind:
        case AffineBinaryOpKind.Add:
            return left + right
        case AffineBinaryOpKind.Mul:
            return left * right
        case AffineBinaryOpKind.Mod:
            return left % right
        case AffineBinaryOpKind.FloorDiv:
            return left // right
        case AffineBinaryOpKind.CeilDiv:
            return -(-left // right)


class OperandMap:
    """One indexing map, made ready to turn arrays into views."""

    def __init__(self, map: AffineMap) -> None:
        self.map = map
        self.loops = map.num_dims
        self.linear = [linear(result, self.loops) for result in map.results]
        self.plain = [
            result.position if isinstance(result, AffineDimExpr) else None for result in map.results
        ]
        """For each dimension of the operand, the loop that runs over exactly it, if one does."""
        loops = [loop for loop in self.plain if loop is not None]
        self.is_permutation = len(loops) == len(self.plain) and len(set(loops)) == len(loops)
        self.is_identity = loops == list(range(self.loops)) and self.is_permutation
        self._order = sorted(range(len(loops)), key=loops.__getitem__)
        # The ellipsis keeps rank 0 an array.
        self._axes = (..., *[slice(None) if loop in loops else None for loop in range(self.loops)])

    def view(self, array: Array, sizes: Sequence[int]) -> Array:
        """The array over the iteration space, an axis of size 1 per unused loop. Raises Fault out of bounds."""
        if self.is_permutation:
            return array.transpose(self._order)[self._axes]
        if any(part is None for part in self.linear):
            return self._gathered(array, sizes)
        strides, used = [0] * self.loops, [False] * self.loops
        start = []
        empty = 0 in sizes
        for dimension, part in enumerate(self.linear):
            assert part is not None
            coefficients, constant = part
            reach = [factor * (size - 1) for factor, size in zip(coefficients, sizes, strict=True)]
            low, high = (constant + sum(f(0, r) for r in reach) for f in (min, max))
            if not empty and (low < 0 or high >= array.shape[dimension]):
                raise Fault(
                    f"the map {self.map} reads elements {low} to {high} of a dimension of size {array.shape[dimension]}"
                )
            start.append(slice(min(constant, array.shape[dimension]), None))
            for loop, factor in enumerate(coefficients):
                strides[loop] += factor * array.strides[dimension]
                used[loop] |= factor != 0
        shape = tuple(size if use else 1 for size, use in zip(sizes, used, strict=True))
        if empty:
            return np.empty(shape, array.dtype)
        return as_strided(array[tuple(start)], shape, strides)

    def _gathered(self, array: Array, sizes: Sequence[int]) -> Array:
        """For maps that divide: a copy by index arrays."""
        positions = loop_positions(sizes)
        indices = [np.asarray(evaluate(result, positions)) for result in self.map.results]
        for dimension, index in enumerate(indices):
            if index.size and (index.min() < 0 or index.max() >= array.shape[dimension]):
                raise Fault(f"the map {self.map} leaves dimension {dimension} of size {array.shape[dimension]}")
        gathered: Array = array[tuple(indices)]
        return gathered.reshape((1,) * (self.loops - gathered.ndim) + gathered.shape)


def loop_positions(sizes: Sequence[int]) -> tuple[Array, ...]:
    """For each loop its positions along its own axis."""
    count = len(sizes)
    return tuple(
        np.arange(size).reshape((1,) * loop + (size,) + (1,) * (count - loop - 1))
        for loop, size in enumerate(sizes)
    )


def loop_sizes(maps: Sequence[OperandMap], shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """How often each loop runs, from the operands' shapes. Raises Fault where operands disagree."""
    sizes: list[int | None] = [None] * maps[0].loops
    for operand, (map, shape) in enumerate(zip(maps, shapes, strict=True)):
        if len(shape) != len(map.plain):
            raise Fault(f"operand {operand} has rank {len(shape)}, its map {map.map} expects {len(map.plain)}")
        for loop, size in zip(map.plain, shape, strict=True):
            if loop is None:
                continue
            known = sizes[loop]
            if known is None:
                sizes[loop] = size
            elif known != size:
                raise Fault(f"loop d{loop} runs {known} times, but operand {operand} has shape {list(shape)}")
    missing = [f"d{loop}" for loop, size in enumerate(sizes) if size is None]
    if missing:
        raise Fault(f"no operand gives the size of loop {', '.join(missing)}")
    return [size for size in sizes if size is not None]


def cut(view: Any, loop: int, part: slice) -> Any:
    """A view on a part of one loop; whole where the view does not vary along it, or is a scalar."""
    if not isinstance(view, np.ndarray) or view.ndim <= loop or view.shape[loop] == 1:
        return view
    return view[(slice(None),) * loop + (part,)]


def contract(a: Any, b: Any, sizes: Sequence[int], reduced: Sequence[int]) -> Array:
    """sum(a * b) over the loops `reduced`, by matrix multiplication.

    a and b broadcast to `sizes`; the result has size 1 along the reduced loops. f16 and bf16 are summed in f32
    (the result is f32), integers wrap at their own width.
    """
    loops = len(sizes)
    a, b = (np.asarray(x).reshape((1,) * (loops - np.ndim(x)) + np.shape(x)) for x in (a, b))
    dtype = np.result_type(a, b)
    if dtype.itemsize == 2 and dtype.kind not in "iu":
        dtype = np.dtype(np.float32)
        a, b = a.astype(dtype), b.astype(dtype)
    repeats = 1
    for loop in reduced:
        if a.shape[loop] == 1 and b.shape[loop] == 1:
            repeats *= sizes[loop]
        elif b.shape[loop] == 1:
            a = a.sum(loop, keepdims=True, dtype=dtype)
        elif a.shape[loop] == 1:
            b = b.sum(loop, keepdims=True, dtype=dtype)
    in_a, in_b = ([x.shape[loop] != 1 for loop in range(loops)] for x in (a, b))
    kept = [loop for loop in range(loops) if loop not in reduced]
    batch = [loop for loop in kept if in_a[loop] and in_b[loop]]
    rows = [loop for loop in kept if in_a[loop] and not in_b[loop]]
    columns = [loop for loop in kept if in_b[loop] and not in_a[loop]]
    inner = [loop for loop in reduced if in_a[loop] and in_b[loop]]
    left = _matrices(a, batch, rows, inner, loops)
    right = _matrices(b, batch, inner, columns, loops)
    product = _matmul(left, right)
    order = batch + rows + columns
    product = product.reshape([a.shape[loop] if in_a[loop] else b.shape[loop] for loop in order])
    product = product.transpose(sorted(range(len(order)), key=order.__getitem__))
    shape = [max(a.shape[loop], b.shape[loop]) if loop in order else 1 for loop in range(loops)]
    if not all(shape):
        shape = [min(a.shape[loop], b.shape[loop]) if 0 in (a.shape[loop], b.shape[loop]) else size
                 for loop, size in enumerate(shape)]  # fmt: skip
    product = product.reshape(shape)
    return product * product.dtype.type(repeats) if repeats != 1 else product


def _matrices(x: Array, batch: list[int], rows: list[int], columns: list[int], loops: int) -> Array:
    """x as a stack of matrices: loops `batch` together, `rows` together, `columns` together."""
    rest = [loop for loop in range(loops) if loop not in (*batch, *rows, *columns)]
    shape = [math.prod(x.shape[loop] for loop in group) for group in (batch, rows, columns)]
    stack: Array = x.transpose([*batch, *rows, *columns, *rest]).reshape(shape)
    return stack


def _matmul(left: Array, right: Array) -> Array:
    """The product of stacks of matrices; integers through float64 where that is exact, for it is much faster."""
    product: Array
    if left.dtype.kind in "iu" and left.size and right.size:
        wide_left, wide_right = left.astype(np.float64), right.astype(np.float64)
        bound = float(np.abs(wide_left).max()) * float(np.abs(wide_right).max())
        if bound * left.shape[-1] < 2.0**53:
            product = np.matmul(wide_left, wide_right).astype(np.int64)
            return product.astype(np.result_type(left, right))
    product = np.matmul(left, right)
    return product


def points(sizes: Sequence[int]) -> Any:
    """All positions of a loop nest, last loop fastest."""
    return itertools.product(*[range(size) for size in sizes])
