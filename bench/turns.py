"""Contenders take turns: each is a process, one runs at a time, and rounds are short.

Other work on the machine then hits all alike. Times are medians of a round's calls; what is reported is the median
over rounds, and for ratios the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

import machine

HERE = Path(__file__).parent


class PeerFailed(Exception):
    """A contender could not load or run a case; the text says why."""


class Peer:
    """A contender's process."""

    def __init__(self, name: str, threads: int, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        settings = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        settings |= {"OPENBLAS_NUM_THREADS": str(threads), **(environment or {})}
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "peer.py"), name, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env=machine.environment(**settings),
        )  # fmt: skip

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self, folder: Path) -> Outcome:
        """Make a case ready. Raises PeerFailed."""
        return Outcome(**self._ask({"load": str(folder)}))

    def turn(self, folder: Path, seconds: float) -> tuple[list[float], list[float]]:
        """The times of calls of a case within so many seconds, and their times of the processor. Raises PeerFailed."""
        heard = self._ask({"run": str(folder), "seconds": seconds})
        return heard["times"], heard["processor"]

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        self._errors.close()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait()
            self._errors.seek(0)
            written = [text for text in self._errors.read().splitlines() if text.strip()]
            said = written[-1].strip() if written else "nothing"
            raise PeerFailed(f"the process ended ({self._process.returncode}) and said: {said}")
        answer: dict[str, Any] = json.loads(line)
        if "failure" in answer:
            raise PeerFailed(answer["failure"])
        return answer


@dataclass
class Outcome:
    """What is known of one contender on one case. Times in seconds, memory in MiB, the difference of its results
    from torch's relative to their largest element. Where it failed there is nothing but the reason."""

    load: float = 0.0
    first_call: float = 0.0
    peak: float = 0.0
    difference: float = 0.0
    rounds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    fastest: float = float("inf")
    calls: int = 0
    failure: str | None = None

    @property
    def time(self) -> float:
        """The median over rounds."""
        return median(self.rounds)

    @property
    def start(self) -> float:
        """From the file to the first result."""
        return self.load + self.first_call


def take_turns(
    peers: Mapping[str, Peer], outcomes: dict[str, Outcome], folder: Path, rounds: int, seconds: float
) -> None:
    """All contenders that have loaded a case, in turn, the order reversed in every other round."""
    names = [name for name in peers if outcomes[name].failure is None]
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            outcome = outcomes[name]
            try:
                times, processor = peers[name].turn(folder, seconds)
            except PeerFailed as reason:
                outcome.failure = str(reason)
                continue
            outcome.rounds.append(median(times))
            outcome.processor.append(median(processor))
            outcome.fastest = min(outcome.fastest, *times)
            outcome.calls += len(times)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times as long theirs takes: the median of the rounds' ratios."""
    return median(b / a for a, b in zip(ours, theirs, strict=True))
