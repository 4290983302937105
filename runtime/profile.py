"""Counters that native code keeps when it was compiled with profiling: per kernel, calls and ticks."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class KernelTime:
    """How often a kernel ran and how long that took, in seconds, on the calling thread."""

    name: str
    calls: int
    seconds: float


class Profile:
    """The counters of one function: pairs (calls, ticks) in the order of its kernels.

    The first pair counts the whole function. Ticks become seconds by comparing with the clock between two
    moments at which `start` and `times` were asked, so measure over some milliseconds.
    """

    def __init__(self, kernels: tuple[str, ...]) -> None:
        self.kernels = kernels
        self.counters = np.zeros(2 * len(kernels), np.int64)
        self.seconds_per_tick = 0.0

    def reset(self) -> None:
        """Forget what was counted."""
        self.counters[:] = 0

    def calibrate(self, seconds: float) -> None:
        """The calls counted so far took so long by the clock."""
        ticks = int(self.counters[1])
        self.seconds_per_tick = seconds / ticks if ticks else 0.0

    def times(self) -> list[KernelTime]:
        """The kernels that ran, in order; the whole function first. `calibrate` must have been called."""
        pairs = self.counters.reshape(-1, 2)
        return [
            KernelTime(name, int(calls), int(ticks) * self.seconds_per_tick)
            for name, (calls, ticks) in zip(self.kernels, pairs, strict=True)
            if calls
        ]


class Stopwatch:
    """`with Stopwatch(profile): function(x)` counts and calibrates."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.started = 0.0

    def __enter__(self) -> Profile:
        self.profile.reset()
        self.started = time.perf_counter()
        return self.profile

    def __exit__(self, *error: object) -> None:
        self.profile.calibrate(time.perf_counter() - self.started)
