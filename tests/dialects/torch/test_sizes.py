"""Symbolic ints: canonical forms, bounds, and what an equation says of a symbol."""

from __future__ import annotations

from stepwell.dialects.torch.sizes import Dim, Symbol, at_least, bounds, isolate, maximum, minimum

S = Symbol("s", 2)
N = Dim.of(S)


def test_equal_polynomials_have_one_form() -> None:
    assert (4 * N + 2) // 4 == N
    assert (N + N) // 2 == N
    assert (N * N) // N == N
    assert N - N == 0


def test_a_remainder_is_a_floor_division() -> None:
    assert N % 512 == N - 512 * (N // 512)
    padded = N + 512 - N % 512
    assert padded == 512 * (N // 512) + 512


def test_bounds_decide_order() -> None:
    assert bounds(3 * N - 1)[0] == 5
    assert at_least(N, 2) and not at_least(N, 3)
    assert maximum(N, 1) == N and minimum(N, 1) == 1


def test_an_upper_bound_may_be_symbolic() -> None:
    """Chunks of a padded length never reach past its end."""
    count = N // 512
    k = Dim.of(Symbol("k", 0, count))
    assert at_least(512 * count + 512, 512 * k + 512)


def test_an_equation_gives_a_symbol_that_stands_alone() -> None:
    other = Dim.of(Symbol("t", 2))
    assert isolate(N, other + 1) == (S, other + 1)
    assert isolate(N, 5) == (S, 5)


def test_an_even_number_is_not_zero() -> None:
    """n - 2*(n // 2) == 0 says that n is even; it was once read as n == 0, and Collatz did not end."""
    assert isolate(N % 2, 0) is None
