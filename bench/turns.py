"""Contenders take turns: each is a process, one runs at a time, and rounds are short.

Other work on the machine then hits all alike. Times are medians of a round's calls; what is reported is the median
over rounds, and for ratios the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

import machine

HERE = Path(__file__).parent


class PeerFailed(Exception):
    """A contender could not load or run a model; the text is the last line that it wrote."""


class Peer:
    """A contender's process, ready to run."""

    def __init__(self, name: str, folder: Path, threads: int, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        settings = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **(environment or {})}
        self._errors = open(folder / f"{name}.log", "w+")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "peer.py"), name, str(folder), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=machine.environment(**settings),
        )
        self.ready = self._hear()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def turn(self, seconds: float) -> tuple[list[float], float]:
        """The times of its calls within so many seconds, and the processor time of one."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"seconds": seconds}) + "\n")
        self._process.stdin.flush()
        heard = self._hear()
        return heard["times"], heard["processor"]

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        self._errors.close()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            written = [text for text in self._errors.read().splitlines() if text.strip()]
            raise PeerFailed(f"{self.name}: {written[-1].strip() if written else 'ended without a word'}")
        message: dict[str, Any] = json.loads(line)
        return message


@dataclass
class Outcome:
    """What is known of one contender on one model. Times in seconds, memory in MiB."""

    load: float = 0.0
    first_call: float = 0.0
    peak: float = 0.0
    rounds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    fastest: float = float("inf")
    calls: int = 0
    failure: str | None = None

    @property
    def time(self) -> float:
        """The median over rounds."""
        return median(self.rounds)


def take_turns(peers: Sequence[Peer], rounds: int, seconds: float) -> dict[str, Outcome]:
    """All contenders in turn, the order reversed in every other round."""
    outcomes = {peer.name: Outcome(**peer.ready) for peer in peers}
    for number in range(rounds):
        for peer in peers if number % 2 == 0 else reversed(peers):
            times, processor = peer.turn(seconds)
            outcome = outcomes[peer.name]
            outcome.rounds.append(median(times))
            outcome.processor.append(processor)
            outcome.fastest = min(outcome.fastest, *times)
            outcome.calls += len(times)
    return outcomes


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times as long ours takes: the median of the rounds' ratios."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))
