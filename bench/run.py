"""Stepwell against its peers on whole models: torch eager, torch.jit frozen, torch.compile, ONNX Runtime, OpenVINO.

    python bench/run.py                          all models, threads 1 and 2, into bench/results/
    python bench/run.py silero resnet18 -t 2     some: their rows in the results are replaced
    python bench/run.py --table                  the tables of the results again
    python bench/run.py --quick                  tiny models and short turns: that it works, not how fast

Every contender is a process of its own; they run in turn, never at once (see turns.py). All results of all contenders
are compared with torch's. A ratio is the peer's time over ours: more is better. The exit status is 1 where Stepwell
does not run a model natively, or gives other numbers than torch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cases
import machine
import report
import tables
from models import MODELS
from turns import HERE, Outcome, Peer, PeerFailed, take_turns

OURS = "stepwell"
CONTENDERS = (OURS, "torch", "torch.jit", "inductor", "onnxruntime", "openvino")
CACHES = {OURS: "STEPWELL_CACHE_DIR", "inductor": "TORCHINDUCTOR_CACHE_DIR"}
"""Who keeps what it compiled on disk, and the variable that says where. Each is started twice: cold, then warm."""
TOLERANCE = 1e-4
"""Of the largest element of a result."""


def start(name: str, folder: Path, threads: int, environment: dict[str, str]) -> Outcome:
    """A contender's start alone, in a process that ends then."""
    with Peer(name, threads, environment) as peer:
        return load(peer, folder)


def load(peer: Peer, folder: Path) -> Outcome:
    """How a start went; other numbers than torch's are a failure."""
    try:
        outcome = peer.load(folder)
    except PeerFailed as reason:
        return Outcome(failure=str(reason))
    if outcome.difference > TOLERANCE:
        outcome.failure = f"its results differ from torch's by {outcome.difference:.1e} of their largest element"
    return outcome


def measure(
    folder: Path, threads: int, rounds: int, seconds: float, names: Sequence[str], caches: Path | None
) -> dict[str, Outcome]:
    """All contenders on one model: by name, and as "NAME cold" the first start of those that keep a cache.

    Where a folder for caches is given, they are kept there, and no start is cold of a model whose cache is there.
    """
    outcomes: dict[str, Outcome] = {}
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as temporary:
        running: dict[str, Peer] = {}
        for name in names:
            environment = {}
            if name in CACHES:
                cache = (caches or Path(temporary)) / f"{name}-{folder.name}-{threads}"
                environment = {CACHES[name]: str(cache), "STEPWELL_CACHE": "1"}
                if not cache.exists():
                    outcomes[f"{name} cold"] = start(name, folder, threads, environment)
            running[name] = stack.enter_context(Peer(name, threads, environment))
            outcomes[name] = load(running[name], folder)
        take_turns(running, outcomes, folder, rounds, seconds)
    return outcomes


@contextlib.contextmanager
def model_folder(kept: Path | None, names: Sequence[str], tiny: bool, script: str = "models.py") -> Iterator[Path]:
    """A folder with these cases; those that are missing are made by a script."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = kept or Path(temporary)
        missing = [name for name in names if not (folder / name / "case.json").exists()]
        if missing:
            command = [sys.executable, str(HERE / script), str(folder), *missing, *(["--tiny"] if tiny else [])]
            subprocess.run(command, check=True, stdout=sys.stderr)
        yield folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(MODELS), metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("-t", "--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.25, help="of one turn")
    parser.add_argument("--peers", nargs="*", default=list(CONTENDERS[1:]), metavar="PEER", help="default: all")
    parser.add_argument("--quick", action="store_true", help="tiny models, short turns; writes no results")
    parser.add_argument("--table", action="store_true", help="measure nothing; print and write the tables again")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--models", type=Path, help="folder to keep the models in (default: made anew each time)")
    parser.add_argument("--caches", type=Path, help="folder to keep compilers' caches in (default: made anew)")
    given = parser.parse_args()
    for what, names, known in (("model", given.names, MODELS), ("peer", given.peers, CONTENDERS[1:])):
        if unknown := set(names) - set(known):
            parser.error(f"no {what} is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    results = earlier(given.out, "models") if not given.quick else []
    about = machine.describe()
    if given.table:
        return _report(results, given.out)
    rounds, seconds = (2, 0.01) if given.quick else (given.rounds, given.seconds)
    machine.write_bytecode()
    peaks = {threads: machine.peak(threads, 0.2 if given.quick else 2.0) for threads in given.threads}
    failed = False
    with model_folder(given.models, given.names, given.quick) as folder:
        for name in given.names:
            case = cases.read_case(folder / name)
            for threads in given.threads:
                outcomes = measure(folder / name, threads, rounds, seconds, [OURS, *given.peers], given.caches)
                row = {"model": name, "threads": threads, "flops": case.flops, "bytes": case.bytes}
                row |= {"peak": asdict(peaks[threads]), "machine": about}
                row["outcomes"] = {who: asdict(outcome) for who, outcome in outcomes.items()}
                results = replaced(results, row, MODELS)
                failed |= outcomes[OURS].failure is not None
                print("  ".join(tables.speed_row(row)), flush=True)
                if not given.quick:
                    _report(results, given.out, silent=True)
    print(tables.everything(results))
    return int(failed)


def earlier(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of NAME.json."""
    file = folder / f"{name}.json"
    return json.loads(file.read_text())["results"] if file.exists() else []


def replaced(results: list[dict[str, Any]], row: dict[str, Any], order: Sequence[str]) -> list[dict[str, Any]]:
    """With a row in the place of its predecessor; rows are in the order given."""
    kept = [r for r in results if (r["model"], r["threads"]) != (row["model"], row["threads"])]
    return sorted([*kept, row], key=lambda r: (order.index(r["model"]), r["threads"]))


def _report(results: list[dict[str, Any]], folder: Path, silent: bool = False) -> int:
    text = tables.everything(results)
    if not silent:
        print(text)
    report.write(folder, "models", {"results": results}, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
