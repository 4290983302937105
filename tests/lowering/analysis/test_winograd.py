"""Winograd's matrices, their products, and what the cost model chooses."""

from fractions import Fraction

import numpy as np
import pytest

from stepwell.compiler.backends.target import named
from stepwell.lowering.analysis.winograd import POINTS, WINDOW, Arithmetic, algorithm, product, step_count
from stepwell.lowering.analysis.winograd_cost import Problem, choose, divide

EXACT = Arithmetic(
    add=lambda a, b: a + b,
    subtract=lambda a, b: a - b,
    scale=lambda a, factor: a * factor,
    multiply_add=lambda a, factor, b: a * factor + b,
)


def fractions(rng, *shape):
    return np.vectorize(Fraction)(rng.integers(-9, 10, shape))


def times(matrix, vector):
    return product(matrix, list(vector), EXACT)


@pytest.mark.parametrize("m", POINTS)
def test_exact_numbers_give_the_convolution(m):
    rng, found = np.random.default_rng(m), algorithm(m)
    image, window = fractions(rng, found.a, found.a), fractions(rng, WINDOW, WINDOW)

    def both(matrix, values):
        rows = np.array([times(matrix, column) for column in values.T]).T
        return np.array([times(matrix, row) for row in rows])

    result = both(found.output, both(found.filter, window) * both(found.input, image))
    for y, x in np.ndindex(m, m):
        assert result[y, x] == (image[y : y + WINDOW, x : x + WINDOW] * window).sum()


@pytest.mark.parametrize("m", POINTS)
def test_entries_that_meet_data_are_exact_in_f32(m):
    found = algorithm(m)
    for matrix in (found.input, found.output):
        assert all(Fraction(float(np.float32(float(e)))) == e for row in matrix for e in row)


def test_products_share_the_sums_of_opposite_points():
    for matrix in (algorithm(4).input, algorithm(4).output):
        entries = [e for row in matrix for e in row if e]
        term_by_term = 2 * len(entries) - sum(e == 1 for e in entries) - len(matrix)
        assert step_count(matrix) < 0.8 * term_by_term


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize(("channels", "size", "m"), [(64, 56, (4,)), (128, 28, (4,)), (512, 7, (2, None))])
def test_the_cost_model_weighs_multiplications_against_filters(name, channels, size, m):
    target = named(name)
    blocks = channels // target.lanes(32)
    chosen = choose(Problem(1, blocks, blocks, target.lanes(32), size, size), target)
    assert (chosen.m if chosen else None) in m


@pytest.mark.parametrize("m", POINTS)
@pytest.mark.parametrize("sizes", [(1, 1, 1, 8, 1, 1), (2, 4, 6, 16, 7, 300), (1, 64, 64, 16, 40, 9)])
def test_every_division_covers_the_work(m, sizes):
    problem, target = Problem(*sizes), named("x86-64-v4")
    high, wide = problem.tiles(m)
    found = divide(problem, m, target).division
    assert 1 <= found.rows <= high and 1 <= found.columns <= wide and found.tiles <= found.rows * found.columns
    assert problem.outputs % found.blocks == 0 and found.blocks % found.cob == 0
    assert found.columns == wide or found.rows == 1
