"""Writes the measured parts of docs/performance.md: profiles of two models of the benches, one thread, by this machine.

    python bench/models.py FOLDER resnet50 bert_base      # needs torch: extra `bench`
    python docs/make_performance.py FOLDER                # --print: to standard output instead

What stands between the marks of the page is replaced, the rest is written by hand. Run it on a calm machine: the page
says what the machine was, and a profile says at its end what a core reached while it was taken.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

PAGE = Path(__file__).with_name("performance.md")
BENCH = PAGE.parent.parent / "bench"
MODELS = ("resnet50", "bert_base")
ATTAINABLE = 0.9
"""Of the measured peak: what a kernel is held against. The best products of any library stay about there."""

LEAST = 0.005
"""Kernels that take less of the call are added up in one row."""

sys.path.insert(0, str(BENCH))

from stepwell.compiler.peak import Peak, measured  # noqa: E402
from stepwell.compiler.profile import KernelRow, Profile  # noqa: E402


def profile_of(folder: Path) -> Profile:
    """One thread, the arguments of the benches."""
    import cases

    import stepwell

    stepwell.set_num_threads(1)
    made = stepwell.load(folder / "model.pt").profile(*cases.read_arguments(folder))
    assert isinstance(made, Profile)
    return made


def lost(row: KernelRow, peak: Peak) -> float:
    """Seconds beyond what its multiplications at the attainable rate, or its bytes at a copy's, would take."""
    if row.work is None:
        return row.seconds
    flops, moved = (row.work.flops or 0) * row.calls, (row.work.bytes or 0) * row.calls
    return max(0.0, row.seconds - max(flops / (ATTAINABLE * peak.flops), moved / peak.bytes))


def table(profile: Profile, peak: Peak) -> Iterator[str]:
    """The kernels that matter, longest first, in Markdown."""
    whole = profile.kernels[0].seconds
    rows = sorted(profile.kernels[1:], key=lambda row: -row.seconds)
    shown = [row for row in rows if row.seconds >= LEAST * whole]
    yield "| kernel | makes | runs | us | of the call | GFLOP/s | of peak | GB/s | us to gain |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for row in shown:
        flops = (row.work.flops or 0) * row.calls / row.seconds if row.work else 0.0
        moved = (row.work.bytes or 0) * row.calls / row.seconds if row.work else 0.0
        yield (
            f"| `{row.name}` | {row.result} | {row.calls:.0f} | {row.seconds * 1e6:.0f} | {row.seconds / whole:.1%} "
            f"| {flops / 1e9:.1f} | {flops / peak.flops:.0%} | {moved / 1e9:.1f} | {lost(row, peak) * 1e6:.0f} |"
        )
    rest = [row for row in rows if row not in shown]
    spent = sum(row.seconds for row in rest)
    yield f"| {len(rest)} others | | | {spent * 1e6:.0f} | {spent / whole:.1%} | | | | {sum(lost(r, peak) for r in rest) * 1e6:.0f} |"
    between = whole - sum(row.seconds for row in rows)
    yield f"| between kernels | | | {between * 1e6:.0f} | {between / whole:.1%} | | | | {between * 1e6:.0f} |"


def families(profile: Profile, peak: Peak) -> Iterator[str]:
    """What each template takes and could gain, in Markdown."""
    whole = profile.kernels[0].seconds
    sums: dict[str, list[float]] = {}
    for row in profile.kernels[1:]:
        entry = sums.setdefault(row.name.split("_")[0], [0.0, 0.0, 0.0])
        flops = (row.work.flops or 0) * row.calls if row.work else 0.0
        entry[0] += row.seconds
        entry[1] += flops
        entry[2] += lost(row, peak)
    yield "| template | of the call | of peak | of the call to gain |"
    yield "|---|--:|--:|--:|"
    for name, (seconds, flops, gain) in sorted(sums.items(), key=lambda item: -item[1][0]):
        yield f"| {name} | {seconds / whole:.1%} | {flops / seconds / peak.flops:.0%} | {gain / whole:.1%} |"


def measured_part(folder: Path) -> str:
    """A model's tables."""
    profile, peak = profile_of(folder), measured()
    call = profile.kernels[0].seconds
    flops = sum((row.work.flops or 0) * row.calls for row in profile.kernels if row.work)
    head = (
        f"A call takes {call * 1e3:.1f} ms on one thread: {flops / call / peak.flops:.0%} of what the core was measured to "
        f"reach ({peak.flops / 1e9:.0f} GFLOP/s, {peak.bytes / 1e9:.1f} GB/s of copying), counting the operations that are "
        "done."
    )
    return "\n\n".join((head, "\n".join(families(profile, peak)), "\n".join(table(profile, peak))))


def filled(page: str, parts: Iterable[tuple[str, str]]) -> str:
    """The page with the text between each pair of marks replaced."""
    for name, text in parts:
        mark, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        page, found = re.subn(f"{mark}.*?{end}", lambda _, t=f"{mark}\n{text}\n{end}": t, page, flags=re.DOTALL)
        if found != 1:
            raise SystemExit(f"{PAGE.name} has {found} places for {name}, not one: {mark} ... {end}")
    return page


def machine_part() -> str:
    """What the figures are of."""
    import machine

    return "Measured on: " + "; ".join(f"{key} {value}" for key, value in machine.describe().items()) + "."


def main(folder: Path) -> None:
    parts = [("machine", machine_part()), *((name, measured_part(folder / name)) for name in MODELS)]
    page = filled(PAGE.read_text(), parts)
    if "--print" in sys.argv:
        sys.stdout.write(page)
    else:
        PAGE.write_text(page)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
