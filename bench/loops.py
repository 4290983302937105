"""Loops that depend on data, against torch.jit in the same process: time per iteration.

    python bench/loops.py            prints a table and writes bench/results/loops
    python bench/loops.py --quick    short

The same source is scripted twice. Results, the numbers of iterations among them, must be equal. The least factor is
what the project promises: 20; the exit status says whether it is kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import machine
import numpy as np
import report
import torch
from torch import Tensor

import stepwell

PROMISED = 20.0


def newton(count: int, tolerance: float) -> tuple[float, int]:
    """The sum of square roots, scalars only."""
    total = 0.0
    steps = 0
    for i in range(count):
        x = float(i + 1)
        guess = x
        while abs(guess * guess - x) > tolerance * x:
            guess = 0.5 * (guess + x / guess)
            steps += 1
        total += guess
    return total, steps


def newton_on_tensors(x: Tensor, tolerance: float) -> tuple[Tensor, int]:
    """Cube roots of some numbers at once, until the worst one is good."""
    guess = x.clone()
    steps = 0
    while float(torch.max(torch.abs(guess * guess * guess - x) / x)) > tolerance:
        guess = guess - (guess * guess * guess - x) / (3.0 * guess * guess)
        steps += 1
    return guess, steps


def collatz(limit: int) -> tuple[int, int]:
    """The longest way to one from a number below a limit, and how many steps all ways have."""
    longest = 0
    steps = 0
    for start in range(1, limit):
        n = start
        before = steps
        while n != 1:
            if n % 2 == 0:
                n = n // 2
            else:
                n = 3 * n + 1
            steps += 1
        longest = max(longest, steps - before)
    return longest, steps


def greedy(scores: Tensor, penalty: float) -> tuple[Tensor, int]:
    """Take the best position again and again, each time making it less attractive, until nothing good is left."""
    left = scores.clone()
    taken = torch.zeros_like(scores)
    steps = 0
    best = int(torch.argmax(left))
    while float(left[best]) > 0.0:
        taken[best] += 1.0
        left[best] = left[best] - penalty
        best = int(torch.argmax(left))
        steps += 1
    return taken, steps


@dataclass(frozen=True)
class Loop:
    """A loop and what it is called with. Its second result is the number of iterations."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


LOOPS = {
    "newton": Loop(newton, (2000, 1e-12)),
    "newton, 16 elements": Loop(newton_on_tensors, (np.linspace(1.0, 1e12, 16, dtype=np.float32), 1e-5)),
    "collatz": Loop(collatz, (1000,)),
    "greedy, 64 elements": Loop(greedy, (np.random.default_rng(0).standard_normal(64, dtype=np.float32), 0.05)),
}


@dataclass(frozen=True)
class Result:
    """Microseconds per iteration."""

    name: str
    steps: int
    ours: float
    theirs: float

    @property
    def factor(self) -> float:
        """How many times faster we are."""
        return self.theirs / self.ours


def measure(name: str, rounds: int, seconds: float) -> Result:
    """One loop, in turns. Raises AssertionError where results differ."""
    loop = LOOPS[name]
    ours, theirs = stepwell.script(loop.function), torch.jit.script(loop.function)
    tensors = tuple(torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in loop.arguments)
    with torch.inference_mode():
        got, want = ours(*loop.arguments), [theirs(*tensors) for _ in range(3)][-1]  # torch.jit compiles in two calls
        _check(name, got, want)
        assert ours.statistics.interpreted_calls == 0, f"{name}: {ours.statistics.reasons}"
        pairs = [
            (_time(lambda: ours(*loop.arguments), seconds), _time(lambda: theirs(*tensors), seconds))
            for _ in range(rounds)
        ]
    steps = int(got[1])
    mine, other = (median(column) / steps * 1e6 for column in zip(*pairs, strict=True))
    return Result(name, steps, mine, other)


def _check(name: str, got: Any, want: Any) -> None:
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (got, want)), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, err_msg=name)


def _time(call: Callable[[], Any], seconds: float) -> float:
    """The median time of a call within so many seconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return median(times)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short turns; writes no results, keeps no promise")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args(arguments)
    rounds, seconds = (3, 0.01) if given.quick else (9, 0.1)
    torch.set_num_threads(1)
    about = machine.describe()
    results = [measure(name, rounds, seconds) for name in LOOPS]
    rows = [[r.name, str(r.steps), f"{r.ours:.3g}", f"{r.theirs:.3g}", f"{r.factor:.0f}"] for r in results]
    text = report.table(("loop", "iterations", "stepwell us each", "torch.jit us each", "times faster"), rows)
    text += "\n\n" + report.machine_lines(about)
    print(text)
    if not given.quick:
        plain = [vars(r) | {"factor": r.factor} for r in results]
        report.write(given.out, "loops", {"machine": about, "results": plain}, text)
    slow = [r.name for r in results if r.factor < PROMISED]
    if slow:
        print(f"\nless than {PROMISED:.0f} times faster: {', '.join(slow)}")
    return 1 if slow and not given.quick else 0


if __name__ == "__main__":
    raise SystemExit(main())
