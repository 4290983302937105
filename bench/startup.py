"""How long it takes until there is something: imports, the first result, cold compilation; and how much memory.

    python bench/startup.py              prints a table and writes bench/results/startup
    python bench/startup.py --quick      tiny models, no results written

"cold" is the first result over an empty cache, "compiled" the same in a process that has imported the compiler
already, "warm" over the cache that a cold start filled.
Every figure is a process of its own, started several times; the table shows the median, and what was promised. The exit
status says whether all of it is kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import machine
import report
from turns import HERE

HEAVY = ("numpy", "xdsl", "llvmlite")
"""What `import stepwell` must not load."""

IMPORT = """
import sys, time
started = time.perf_counter()
import stepwell
took = time.perf_counter() - started
loaded = [name for name in {heavy!r} if name in sys.modules]
assert not loaded, f"import stepwell loads {{', '.join(loaded)}}"
"""

FIRST_RESULT = """
import sys, time
import numpy as np
arguments = [a.item() if a.ndim == 0 else a for a in np.load({folder!r} + "/inputs.npz").values()]
{imports}
started = time.perf_counter()
import stepwell
model = stepwell.load({folder!r} + "/model.pt")
model(*arguments)
took = time.perf_counter() - started
method = model.method("forward")
assert method.statistics.interpreted_calls == 0, method.statistics.reasons
assert {warm} == (method.statistics.compilations == 0), "the cache was not used as expected"
assert not {warm} or "xdsl" not in sys.modules, "a warm start loads xDSL"
"""

COMPILER = """
import llvmlite.binding, stepwell.compiler.driver, stepwell.compiler.session, stepwell.lowering.torch.specialize
import stepwell.compiler.frontends.archive_objects, stepwell.compiler.frontends.language.program
"""
"""What a process has imported that has compiled before."""

MODELS = {"silero": "silero", "MLP": "mlp", "ResNet-50": "resnet50", "BERT-base": "bert_base"}

PROMISES = (
    ("silero", "cold", 4.0), ("silero", "warm", 0.5), ("MLP", "compiled", 0.8), ("MLP", "warm", 0.4),
    ("ResNet-50", "compiled", 9.0), ("ResNet-50", "warm", 0.8), ("BERT-base", "compiled", 8.0), ("BERT-base", "warm", 1.2),
)  # fmt: skip
"""Model, kind of start, and the seconds it may take on a machine of two cores that others use too: about half as much
again as on a calm one."""

SAY = """
import resource
print(took, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@dataclass(frozen=True)
class Figure:
    """One line of the table: seconds inside the process, of the whole process, of the processor, and MiB. The promise
    is for one of the first two; where the third is far below them, the machine was busy with something else."""

    name: str
    inside: float
    process: float
    processor: float
    peak: float
    promise: float
    whole: bool = False
    """Whether the promise is for the whole process."""

    @property
    def kept(self) -> bool:
        return (self.process if self.whole else self.inside) < self.promise


def start(code: str, cache: Path | str) -> tuple[float, float, float, float]:
    """Run a program in a fresh Python: (what it measured, the whole process, the processor, MiB)."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code + SAY],
        check=True, capture_output=True, text=True, env=machine.environment(STEPWELL_CACHE_DIR=str(cache)),
    )  # fmt: skip
    took = time.perf_counter() - started
    inside, processor, peak = (float(x) for x in done.stdout.split())
    return inside, took, processor, peak


def figure(
    name: str, code: str, promise: float, runs: int, *, before: str | None = None, whole: bool = False
) -> Figure:
    """The medians of several starts, each with an empty cache, or with the one that the program `before` filled."""
    measured = []
    with tempfile.TemporaryDirectory() as filled:
        if before is not None:
            start(before, filled)
        for _ in range(runs):
            with tempfile.TemporaryDirectory() as empty:
                measured.append(start(code, empty if before is None else filled))
    return Figure(name, *(median(column) for column in zip(*measured, strict=True)), promise, whole)


def first_result(name: str, kind: str, promise: float, runs: int, folder: Path) -> Figure:
    """The figure of a model's start: cold (of the whole process), compiled or warm."""
    cold = FIRST_RESULT.format(folder=str(folder), warm=False, imports="")
    if kind == "warm":
        warm = FIRST_RESULT.format(folder=str(folder), warm=True, imports="")
        return figure(f"{name}, warm", warm, promise, 3 * runs, before=cold)
    code = FIRST_RESULT.format(folder=str(folder), warm=False, imports=COMPILER) if kind == "compiled" else cold
    return figure(f"{name}, {kind}", code, promise, runs, whole=kind == "cold")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="tiny models, one start each; writes no results, keeps no promise"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--models", type=Path, help="folder to keep the models in (default: made anew)")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args(arguments)
    runs = 1 if given.quick else given.runs
    about = machine.describe()
    machine.write_bytecode()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.models or Path(temporary)
        missing = [name for name in MODELS.values() if not (folder / name / "case.json").exists()]
        if missing:
            tiny = ["--tiny"] if given.quick else []
            subprocess.run([sys.executable, str(HERE / "models.py"), str(folder), *missing, *tiny], check=True)
        figures = [figure("import stepwell", IMPORT.format(heavy=HEAVY), 0.1, 3 * runs)]
        for name, kind, promise in PROMISES:
            figures.append(first_result(name, kind, promise, runs, folder / MODELS[name]))
    rows = [
        [
            f.name,
            f"{f.inside:.3f}",
            f"{f.process:.3f}",
            f"{f.processor:.3f}",
            f"{f.peak:.0f}",
            f"{f.promise:g}",
            "yes" if f.kept else "no",
        ]
        for f in figures
    ]
    header = ("start", "seconds after numpy", "whole process", "processor", "peak MiB", "promised", "kept")
    text = report.table(header, rows)
    text += "\n\n" + report.machine_lines(about)
    print(text)
    if not given.quick:
        report.write(given.out, "startup", {"machine": about, "results": [vars(f) for f in figures]}, text)
    return 0 if given.quick or all(f.kept for f in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
