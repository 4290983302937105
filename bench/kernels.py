"""Single kernels against torch eager, oneDNN with packed weights, torch.compile and numpy's OpenBLAS.

    python bench/kernels.py                            all kernels, threads 1 and 2, into bench/results/
    python bench/kernels.py linear softmax -t 1        the kernels of some groups: their rows are replaced
    python bench/kernels.py --quick                    tiny shapes and short turns

torch's eager products are MKL's and its convolutions oneDNN's; the column oneDNN is torch.jit.optimize_for_inference,
which packs constant weights. Contenders are processes that run in turn (see turns.py), one per group of kernels; all
results are compared with torch's. A ratio is the best peer's time over ours: more is better. Rates are ours, bytes are
arguments, weights and results once. The exit status is 1 where Stepwell does not run a kernel natively or right.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cases
import machine
import report
import tables
from kernel_cases import GROUPS, KERNELS
from run import CACHES, OURS, earlier, load, model_folder, replaced
from turns import HERE, Outcome, Peer, take_turns

CONTENDERS = (OURS, "torch", "onednn", "inductor", "numpy", "onnxruntime", "openvino")
USUAL = ("torch", "onednn", "inductor", "numpy")


def measure(
    folder: Path, names: Sequence[str], threads: int, rounds: int, seconds: float, contenders: Sequence[str]
) -> Iterator[tuple[str, dict[str, Outcome]]]:
    """The kernels of one group, by all contenders."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as cache:
        environment = {variable: f"{cache}/{name}" for name, variable in CACHES.items()}
        peers = {name: stack.enter_context(Peer(name, threads, environment)) for name in contenders}
        for name in names:
            outcomes = {who: load(peer, folder / name) for who, peer in peers.items()}
            take_turns(peers, outcomes, folder / name, rounds, seconds)
            yield name, outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", default=list(GROUPS), metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("-t", "--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.1, help="of one turn")
    parser.add_argument("--peers", nargs="*", default=list(USUAL), metavar="PEER", help=", ".join(CONTENDERS[1:]))
    parser.add_argument("--quick", action="store_true", help="tiny shapes, short turns; writes no results")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--cases", type=Path, help="folder to keep the archives in (default: made anew each time)")
    given = parser.parse_args()
    for what, names, known in (("group", given.groups, GROUPS), ("peer", given.peers, CONTENDERS[1:])):
        if unknown := set(names) - set(known):
            parser.error(f"no {what} is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    rounds, seconds = (2, 0.001) if given.quick else (given.rounds, given.seconds)
    results = [] if given.quick else earlier(given.out, "kernels")
    about, failed = machine.describe(), False
    peaks = {threads: machine.peak(threads, 0.2 if given.quick else 2.0) for threads in given.threads}
    chosen = [name for name, kernel in KERNELS.items() if kernel.group in given.groups]
    with model_folder(given.cases, chosen, given.quick, "kernel_cases.py") as folder:
        for threads in given.threads:
            for group in given.groups:
                names = [name for name in chosen if KERNELS[name].group == group]
                for name, outcomes in measure(folder, names, threads, rounds, seconds, [OURS, *given.peers]):
                    row = _row(name, threads, folder / name, outcomes, peaks[threads], about)
                    results = replaced(results, row, list(KERNELS))
                    failed |= outcomes[OURS].failure is not None
                    print("  ".join(tables.kernel_row(row)), flush=True)
                if not given.quick:
                    report.write(given.out, "kernels", {"results": results}, tables.kernels(results))
    print(tables.kernels(results))
    return int(failed)


def _row(
    name: str, threads: int, folder: Path, outcomes: dict[str, Outcome], peak: machine.Peak, about: dict[str, str]
) -> dict[str, Any]:
    case = cases.read_case(folder)
    row: dict[str, Any] = {"model": name, "threads": threads, "flops": case.flops, "bytes": case.bytes}
    row |= {"peak": asdict(peak), "machine": about}
    return row | {"outcomes": {who: asdict(outcome) for who, outcome in outcomes.items()}}


if __name__ == "__main__":
    raise SystemExit(main())
