"""Stepwell against its peers on whole models: torch eager, torch.jit frozen, onnxruntime.

    python bench/run.py                          all models, threads 1 and 2, into bench/results/
    python bench/run.py silero resnet18 -t 2     some
    python bench/run.py --quick                  tiny models and short turns: that it works, not how fast

Every contender is a process of its own; they run in turn, never at once (see turns.py). Results are compared before
times are. The ratio is Stepwell's time over that of the best peer: less is better. Two more ratios tell whether the
machine was busy: that of the fastest calls that were seen, and, for one thread, that of processor time.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import machine
import numpy as np
import report
from models import MODELS
from peer import PEERS
from turns import HERE, Outcome, Peer, PeerFailed, ratio, take_turns

OURS = "stepwell"
TOLERANCE = 1e-3
"""Of the largest element: peers sum in other orders."""

HEADER = (
    "model", "threads", "stepwell ms", "torch ms", "torch.jit ms", "onnxruntime ms", "best peer", "ratio", "of fastest", "of processor",
    "first call cold s", "warm s", "peak MiB cold", "warm",
)  # fmt: skip


def measure(folder: Path, threads: int, rounds: int, seconds: float, peers: list[str]) -> dict[str, Outcome]:
    """All contenders on one model. Ours is started twice with a cache of its own: cold, then warm."""
    outcomes: dict[str, Outcome] = {}
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as cache:
        environment = {"STEPWELL_CACHE_DIR": cache, "STEPWELL_CACHE": "1"}
        running: list[Peer] = []
        with Peer(OURS, folder, threads, environment) as cold:
            first = Outcome(**cold.ready)
        for name in (OURS, *peers):
            try:
                running.append(stack.enter_context(Peer(name, folder, threads, environment)))
            except PeerFailed as reason:
                outcomes[name] = Outcome(failure=str(reason))
        outcomes.update(take_turns(running, rounds, seconds))
        outcomes["cold"] = first
    _compare(folder, [peer.name for peer in running])
    return outcomes


def _compare(folder: Path, names: list[str]) -> None:
    """Raises AssertionError where a peer's first result differs from ours."""
    ours = np.load(folder / f"{OURS}.npy")
    for name in names[1:]:
        theirs = np.load(folder / f"{name}.npy")
        assert ours.shape == theirs.shape, f"{folder.name}: {name} gives {theirs.shape}, we {ours.shape}"
        error = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        assert error < TOLERANCE, f"{folder.name}: {name} differs by {error:.1e} of the largest element"


def best_peer(outcomes: dict[str, Outcome]) -> str | None:
    """The fastest that is not us."""
    found = [(o.time, name) for name, o in outcomes.items() if name in PEERS and name != OURS and o.rounds]
    return min(found)[1] if found else None


def row(name: str, threads: int, outcomes: dict[str, Outcome]) -> list[str]:
    """One line of the table."""
    ours, cold, best = outcomes[OURS], outcomes["cold"], best_peer(outcomes)
    times = [report.milliseconds(outcomes[p].time if p in outcomes and outcomes[p].rounds else None) for p in PEERS]
    compared = ("-", "-", "-", "-")
    if best is not None:
        fastest = min(outcomes[peer].fastest for peer in PEERS if peer != OURS and peer in outcomes)
        # Threads that wait for others use the processor too: its time compares programs of one thread only.
        worked = f"{ratio(ours.processor, outcomes[best].processor):.2f}" if threads == 1 else "-"
        compared = (best, f"{ratio(ours.rounds, outcomes[best].rounds):.2f}", f"{ours.fastest / fastest:.2f}", worked)
    started = (f"{cold.first_call:.2f}", f"{ours.first_call:.3f}", f"{cold.peak:.0f}", f"{ours.peak:.0f}")
    return [name, str(threads), *times, *compared, *started]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(MODELS), metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("-t", "--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.25, help="of one turn")
    parser.add_argument("--peers", nargs="*", default=[p for p in PEERS if p != OURS])
    parser.add_argument("--quick", action="store_true", help="tiny models, short turns; writes no results")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--models", type=Path, help="folder to keep the models in (default: made anew each time)")
    given = parser.parse_args()
    unknown = set(given.names) - set(MODELS)
    if unknown:
        parser.error(f"no model is called {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    rounds, seconds = (2, 0.01) if given.quick else (given.rounds, given.seconds)
    about, results, rows = machine.describe(), [], []
    machine.write_bytecode()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.models or Path(temporary)
        missing = [name for name in given.names if not (folder / name / "case.json").exists()]
        if missing:
            tiny = ["--tiny"] if given.quick else []
            subprocess.run([sys.executable, str(HERE / "models.py"), str(folder), *missing, *tiny], check=True)
        for name in given.names:
            for threads in given.threads:
                outcomes = measure(folder / name, threads, rounds, seconds, given.peers)
                rows.append(row(name, threads, outcomes))
                print("  ".join(rows[-1]), flush=True)
                results.append(_plain(name, threads, outcomes))
    text = report.table(HEADER, rows) + "\n\n" + report.machine_lines(about)
    print(text)
    if not given.quick:
        report.write(given.out, "models", {"machine": about, "results": results}, text)
    return 0


def _plain(name: str, threads: int, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    return {"model": name, "threads": threads, **{peer: asdict(outcome) for peer, outcome in outcomes.items()}}


if __name__ == "__main__":
    raise SystemExit(main())
