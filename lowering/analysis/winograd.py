"""Winograd's minimal filtering: the matrices of F(m x m, 3 x 3), and how their products are computed.

m x m outputs of a 3 x 3 convolution come from a = m + 2 by a inputs with a * a multiplications per channel instead
of 9 * m * m (S. Winograd, "Arithmetic Complexity of Computations", 1980; A. Lavin, S. Gray, "Fast Algorithms for
Convolutional Neural Networks", 2016):

    Y = A [ (G f G^t) * (B d B^t) ] A^t       d: a x a inputs, f: 3 x 3 filter, *: element by element

The matrices are Toom and Cook's for m + 1 points and infinity. The points decide the error (B. Barabasz, A. Anderson,
K. M. Soodhalter, D. Gregg, "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural
Networks", 2020): large ones make large and small entries, whose sums cancel. For m = 4 the points are
0, 3/4, -3/4, 3/2, -3/2. Every entry of A and B is then exact in f32, pairs of opposite points share their
sums, and the error is half that of the usual 0, 1, -1, 2, -2. On random normal data it is, as root mean square
and relative to that of the results, ERROR * sqrt(channels); a plain sum in f32 has half as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Generic, TypeVar

WINDOW = 3
"""Rows and columns of the filters."""

V = TypeVar("V")

Matrix = tuple[tuple[Fraction, ...], ...]

POINTS: dict[int, tuple[Fraction, ...]] = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2)),
}
"""Rows and columns of outputs computed together (m) to the points, beside infinity."""

ERROR: dict[int, float] = {2: 0.4e-7, 4: 1.2e-7}
"""m to the root mean square error, relative to that of the results, for one channel; it grows as its root."""


@dataclass(frozen=True)
class Algorithm:
    """F(m x m, 3 x 3). `a` is m + 2; the matrices are [m, a], [a, a] and [a, 3]."""

    m: int
    output: Matrix
    input: Matrix
    filter: Matrix

    @property
    def a(self) -> int:
        return self.m + WINDOW - 1


@cache
def algorithm(m: int) -> Algorithm:
    """The algorithm for m x m outputs. Raises KeyError where there is none."""
    points = POINTS[m]
    a = len(points) + 1
    rows: list[tuple[Fraction, ...]] = []
    filters: list[tuple[Fraction, ...]] = []
    for number, point in enumerate(points):
        others = points[:number] + points[number + 1 :]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        rows.append((*_polynomial(others), Fraction(0)))
        filters.append(tuple(point**power / scale for power in range(WINDOW)))
    rows.append(_polynomial(points))
    filters.append((*[Fraction(0)] * (WINDOW - 1), Fraction(1)))
    output = tuple(
        (*[point**power for point in points], Fraction(int(power == m - 1))) for power in range(m)
    )
    assert all(len(row) == a for row in rows)
    return Algorithm(m, output, tuple(rows), tuple(filters))


def _polynomial(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """The coefficients of the product of (x - root), constant first."""
    found = [Fraction(1)]
    for root in roots:
        found = [
            (found[i - 1] if i else Fraction(0)) - (root * found[i] if i < len(found) else Fraction(0))
            for i in range(len(found) + 1)
        ]
    return tuple(found)


# Products with a vector ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arithmetic(Generic[V]):
    """How values are added, subtracted, scaled, and scaled and added (a * factor + b)."""

    add: Callable[[V, V], V]
    subtract: Callable[[V, V], V]
    scale: Callable[[V, Fraction], V]
    multiply_add: Callable[[V, Fraction, V], V]


def product(matrix: Matrix, vector: Sequence[V], numbers: Arithmetic[V]) -> list[V]:
    """matrix times vector, in few steps: rows and columns that are equal up to signs (those of opposite points) share
    their sums. The values must not all be multiplied by 0 in any row."""
    columns, values = _paired_columns(matrix, vector, numbers)
    found: dict[int, V] = {}
    for row in range(len(columns)):
        if row in found:
            continue
        twin = next((r for r in range(row + 1, len(columns)) if _opposite(columns[row], columns[r])), None)
        if twin is None:
            found[row] = _row(columns[row], values, numbers)
            continue
        same, other = columns[row], columns[twin]
        even = _row([x if x == y else Fraction(0) for x, y in zip(same, other, strict=True)], values, numbers)
        odd = _row([x if x != y else Fraction(0) for x, y in zip(same, other, strict=True)], values, numbers)
        found[row], found[twin] = numbers.add(even, odd), numbers.subtract(even, odd)
    return [found[row] for row in range(len(columns))]


@cache
def step_count(matrix: Matrix) -> int:
    """How many additions and multiplications `product` takes; a multiply-add is two."""
    counted = 0

    def step(cost: int) -> Callable[..., int]:
        def add(*_: object) -> int:
            nonlocal counted
            counted += cost
            return 0

        return add

    product(matrix, [0] * len(matrix[0]), Arithmetic(step(1), step(1), step(1), step(2)))
    return counted


def _opposite(left: Sequence[Fraction], right: Sequence[Fraction]) -> bool:
    """Whether two rows (or columns) differ in signs only, in some places but not in all."""
    agree = [x == y for x, y in zip(left, right, strict=True) if x or y]
    return all(abs(x) == abs(y) for x, y in zip(left, right, strict=True)) and any(agree) and not all(agree)


def _paired_columns(
    matrix: Matrix, vector: Sequence[V], numbers: Arithmetic[V]
) -> tuple[list[list[Fraction]], list[V]]:
    """The same product of other values: where two columns are opposite, of the sum and the difference of theirs."""
    columns = [list(column) for column in zip(*matrix, strict=True)]
    values = list(vector)
    done: set[int] = set()
    for first in range(len(columns)):
        second = next(
            (c for c in range(first + 1, len(columns)) if c not in done and _opposite(columns[first], columns[c])), None
        )
        if first in done or second is None:
            continue
        done |= {first, second}
        x, y = columns[first], columns[second]
        columns[first] = [p if p == q else Fraction(0) for p, q in zip(x, y, strict=True)]
        columns[second] = [p if p != q else Fraction(0) for p, q in zip(x, y, strict=True)]
        values[first], values[second] = (
            numbers.add(values[first], values[second]),
            numbers.subtract(values[first], values[second]),
        )
    return [list(row) for row in zip(*columns, strict=True)], values


def _row(row: Sequence[Fraction], values: Sequence[V], numbers: Arithmetic[V]) -> V:
    """The sum of some multiples, those by 1 first."""
    total: V | None = None
    for factor, value in sorted(zip(row, values, strict=True), key=lambda term: abs(term[0]) != 1):
        if not factor:
            continue
        if total is None:
            total = value if factor == 1 else numbers.scale(value, factor)
        elif abs(factor) == 1:
            total = numbers.add(total, value) if factor == 1 else numbers.subtract(total, value)
        else:
            total = numbers.multiply_add(value, factor, total)
    assert total is not None, "a row of zeros"
    return total
