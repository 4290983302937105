"""Loops that depend on data run natively: Newton's iteration and Collatz' sequence, compiled against Python.

    python examples/loop/example.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import stepwell


def newton(x: float, rounds: int) -> tuple[float, int]:
    """Square roots of x, x + 1, ... by Newton's iteration: the sum, and the iterations that it took."""
    total = 0.0
    iterations = 0
    for k in range(rounds):
        value = x + k
        guess = value
        while abs(guess * guess - value) > 1e-12 * value:
            guess = 0.5 * (guess + value / guess)
            iterations += 1
        total += guess
    return total, iterations


def collatz(limit: int) -> tuple[int, int]:
    """The number below the limit whose sequence is longest, and all steps taken."""
    best = 0
    longest = 0
    steps = 0
    for start in range(1, limit):
        n = start
        length = 0
        while n != 1:
            n = n // 2 if n % 2 == 0 else 3 * n + 1
            length += 1
        steps += length
        if length > longest:
            longest = length
            best = start
    return best, steps


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """The shortest of three runs."""
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        function(*arguments)
        taken.append(time.perf_counter() - started)
    return min(taken)


def main() -> None:
    for function, arguments in ((newton, (2.0, 2000)), (collatz, (20_000,))):
        scripted = stepwell.script(function)
        expected, result = function(*arguments), scripted(*arguments)
        assert result == expected, (result, expected)
        iterations = result[1]
        python = seconds(function, *arguments) / iterations * 1e9
        native = seconds(scripted, *arguments) / iterations * 1e9
        print(
            f"{function.__name__:8} {iterations:8d} iterations   Python {python:6.1f} ns each, compiled {native:5.2f} ns: "
            f"{python / native:.0f} times faster, the same result {result[0]}"
        )


if __name__ == "__main__":
    main()
