"""The tables of bench/run.py and bench/kernels.py: how fast, against whom, and what goes before the first result."""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log
from typing import Any

import machine
import report
from turns import Outcome, ratio

OURS = "stepwell"
PEERS = ("torch", "torch.jit", "inductor", "onnxruntime", "openvino")
KERNEL_PEERS = ("torch", "onednn", "inductor", "numpy", "onnxruntime", "openvino")
Row = dict[str, Any]

COMPARED = ("best peer", "ratio", "of fastest", "of processor")
SHARES = ("our share", "its share")
SPEED = ("model", "threads", "stepwell ms", *(f"{p} ms" for p in PEERS), *COMPARED, "to torch.jit", *SHARES)
STARTS = ("stepwell cold", OURS, "torch", "torch.jit", "inductor cold", "inductor", "onnxruntime", "openvino")
KERNEL = ("kernel", "threads", "stepwell us", *(f"{p} us" for p in KERNEL_PEERS), *COMPARED, "GFLOP/s", "GB/s", *SHARES)
LEGEND = """A ratio is the peer's time over ours, the median over rounds: more is better. "of fastest" compares the fastest
calls seen, "of processor" the processor's time, on one thread. Shares are of what the machine was measured to reach
with as many threads: F of its floating-point operations per second, B of its bytes per second, whichever is more,
counting weights, arguments and results once."""


def outcomes(row: Row) -> dict[str, Outcome]:
    """Of all contenders."""
    return {name: Outcome(**values) for name, values in row["outcomes"].items()}


def with_best_peaks(rows: list[Row]) -> list[Row]:
    """The rows with the best peaks that were ever measured on their machine with as many threads: a busy moment must
    not make shares look large."""
    best: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        known = best.setdefault((row["machine"]["processor"], row["threads"]), dict(row["peak"]))
        known.update({what: max(known[what], value) for what, value in row["peak"].items()})
    return [row | {"peak": best[row["machine"]["processor"], row["threads"]]} for row in rows]


def peers(found: dict[str, Outcome]) -> dict[str, Outcome]:
    """Those that are not us and were timed."""
    return {name: o for name, o in found.items() if name != OURS and o.rounds and o.failure is None}


def best_peer(found: dict[str, Outcome]) -> str | None:
    """The fastest that is not us."""
    timed = [(outcome.time, name) for name, outcome in peers(found).items()]
    return min(timed)[1] if timed else None


def against(found: dict[str, Outcome], peer: str | None) -> float | None:
    """How many times as long a peer takes."""
    if peer is None or peer not in found or found[peer].failure or found[OURS].failure:
        return None
    return ratio(found[OURS].rounds, found[peer].rounds)


def speed_row(row: Row) -> list[str]:
    """A line of the first table."""
    found = outcomes(row)
    best = best_peer(found)
    times = [_time(found.get(name)) for name in (OURS, *PEERS)]
    compared = [best or "-", _two(against(found, best)), *_calm(row, found, best), _two(against(found, "torch.jit"))]
    shares = [_share(row, found.get(name)) for name in (OURS, best)]
    return [row["model"], str(row["threads"]), *times, *compared, *shares]


def _calm(row: Row, found: dict[str, Outcome], best: str | None) -> list[str]:
    """The ratios that other work on the machine moves less: of the fastest calls, and of processor time.

    Threads that wait for others use the processor too: its time compares programs of one thread only.
    """
    if best is None or found[OURS].failure:
        return ["-", "-"]
    fastest = min(outcome.fastest for outcome in peers(found).values()) / found[OURS].fastest
    worked = ratio(found[OURS].processor, found[best].processor) if row["threads"] == 1 else None
    return [_two(fastest), _two(worked)]


def _time(outcome: Outcome | None, unit: float = 1e3) -> str:
    if outcome is None:
        return "-"
    return "no" if outcome.failure else report.three_digits(outcome.time * unit)


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _share(row: Row, outcome: Outcome | None) -> str:
    if outcome is None or outcome.failure or not (row["flops"] or row["bytes"]):
        return "-"
    share, of = machine.Peak(**row["peak"]).share(row["flops"], row["bytes"], outcome.time)
    return f"{100 * share:.0f}% {of[0].upper()}"


def starts(rows: list[Row], what: str) -> str:
    """A table of what a start takes: `what` is "start" for seconds from the file to the first result, imports
    included, or "peak" for MiB until then."""
    lines = []
    for row in rows:
        found, digits = outcomes(row), 2 if what == "start" else 0
        values = [getattr(found[n], what) if n in found and not found[n].failure else None for n in STARTS]
        lines.append([row["model"], str(row["threads"]), *("-" if v is None else f"{v:.{digits}f}" for v in values)])
    return report.table(("model", "threads", *STARTS), lines)


def kernel_row(row: Row) -> list[str]:
    """A line of the table of kernels."""
    found = outcomes(row)
    best, ours = best_peer(found), found[OURS]
    times = [_time(found.get(name), 1e6) for name in (OURS, *KERNEL_PEERS)]
    rates = ["-", "-"]
    if not ours.failure:
        rates = [f"{amount / ours.time / 1e9:.1f}" if amount else "-" for amount in (row["flops"], row["bytes"])]
    compared = [best or "-", _two(against(found, best)), *_calm(row, found, best)]
    shares = [_share(row, ours), _share(row, found.get(best))]
    return [row["model"], str(row["threads"]), *times, *compared, *rates, *shares]


def kernels(rows: list[Row]) -> str:
    """The table of kernels, failures but those of numpy, and the machine."""
    rows = with_best_peaks(rows)
    parts = [report.table(KERNEL, [kernel_row(row) for row in rows]), LEGEND]
    if lines := [line for line in failures(rows) if "not one function of numpy" not in line]:
        parts += ["What cannot be run:", "\n".join(lines)]
    return "\n\n".join([*parts, *_machines(rows)])


def mean(values: Iterable[float]) -> float:
    """The geometric mean."""
    logs = [log(v) for v in values]
    return exp(sum(logs) / len(logs))


def means(rows: list[Row]) -> list[str]:
    """A sentence for each number of threads."""
    lines = []
    for threads in sorted({row["threads"] for row in rows}):
        found = [outcomes(row) for row in rows if row["threads"] == threads]
        best = [r for f in found if (r := against(f, best_peer(f))) is not None]
        jit = [r for f in found if (r := against(f, "torch.jit")) is not None]
        if best:
            line = f"threads {threads}: geometric mean of {len(best)} models {mean(best):.2f} times the best peer of each"
            lines.append(line + (f", {mean(jit):.2f} times torch.jit frozen" if jit else "") + f"; least {min(best):.2f}")
    return lines


def failures(rows: list[Row]) -> list[str]:
    """Who cannot run what, and why."""
    lines: dict[str, None] = {}
    for row in rows:
        for name, outcome in outcomes(row).items():
            if outcome.failure is not None and not name.endswith(" cold"):
                lines[f"- {row['model']}, {name}: {outcome.failure}"] = None
    return list(lines)


def everything(rows: list[Row]) -> str:
    """All tables, means, failures, and the machine."""
    rows = with_best_peaks(rows)
    parts = [report.table(SPEED, [speed_row(row) for row in rows]), LEGEND, "\n".join(means(rows))]
    parts += ["Seconds from the file to the first result, imports included:", starts(rows, "start")]
    parts += ["MiB until then:", starts(rows, "peak")]
    if lines := failures(rows):
        parts += ["What cannot be run:", "\n".join(lines)]
    return "\n\n".join([*parts, *_machines(rows)])


def _machines(rows: list[Row]) -> list[str]:
    return list({report.machine_lines(row["machine"] | _peak(row)): None for row in rows})


def _peak(row: Row) -> dict[str, str]:
    return {f"peak of {row['threads']}": f"{row['peak']['flops'] / 1e9:.0f} GFLOP/s, {row['peak']['bytes'] / 1e9:.1f} GB/s"}
