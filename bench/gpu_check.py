"""Every kernel of some models on the GPU of this machine: right numbers, and how fast.

    python bench/gpu_check.py                      the archives of the tests, and large kernels of each template
    python bench/gpu_check.py model.pt --input 'float32[1,3,224,224]'

The emitted PTX is loaded by the driver, through ctypes. Each launch is compared with what the interpreter computes
for its tile.kernel, and timed by the GPU's clock. Writes bench/results/gpu_check.json and .md. The exit status is 0
where all numbers are right, 1 where not, and 3 where there is no NVIDIA driver.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import machine
import numpy as np
import report

import stepwell
from stepwell.compiler.backends.cuda_launch import OnDevice, device_of
from stepwell.compiler.backends.gpu import kernels_of
from stepwell.compiler.commands import inputs_of
from stepwell.compiler.interpreter import Machine
from stepwell.compiler.interpreter.gpu import shadow
from stepwell.compiler.program import Program
from stepwell.dialects.tile import KernelOp
from stepwell.lowering.analysis.work import work_of
from stepwell.lowering.gpu import Device, geometry
from stepwell.runtime.cuda_driver import Driver, DriverMissing

ARCHIVES = Path(__file__).parents[1] / "tests" / "archives"
TOLERANCE = 1e-4
"""Of the largest element of a result."""


@dataclass
class Row:
    """One kernel: the largest difference of its launches, median seconds of one, work where sizes are static."""

    model: str
    kernel: str
    decisions: str
    launches: int = 0
    difference: float = 0.0
    right: bool = True
    seconds: float | None = None
    bytes: float | None = None
    flops: float | None = None


def difference(got: Any, wanted: Any) -> float:
    """The largest difference, relative to the largest element; NaN and infinities must be equal."""
    if wanted.dtype.kind in "iub":
        return 0.0 if np.array_equal(got, wanted) else float("inf")
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(wanted)
    if not np.array_equal(got[~finite], wanted[~finite], equal_nan=True):
        return float("inf")
    scale = float(np.abs(wanted[finite]).max(initial=0.0)) or 1.0
    found = float(np.abs(got[finite] - wanted[finite]).max(initial=0.0)) / scale
    return found if found == found else float("inf")


def check(
    name: str, program: Program, arguments: Sequence[Any], driver: Driver, target: Device, repeat: int
) -> list[Row]:
    """All kernels of a program that is at the tile level, in one call of it."""
    kernels = kernels_of(program.module, target)
    for note in kernels.notes:
        print(f"{name}: {note}")
    rows = {f.sym_name.data: Row(name, f.sym_name.data, "; ".join(geometry.decisions_of(f))) for f in kernels.functions}
    loaded = OnDevice(kernels, driver)
    loaded.repeat = repeat

    def compare(function: Any, inputs: Sequence[Any], expected: Sequence[Any], found: Sequence[Any]) -> None:
        row = rows[function.sym_name.data]
        row.launches += 1
        for got, wanted in zip(found, expected, strict=True):
            row.difference = max(row.difference, difference(got, wanted))
        row.right = row.difference <= TOLERANCE

    interpreter = Machine(program.module, program.resources)
    shadow(interpreter, kernels.functions, compare, loaded.run)
    entries = {op.sym_name.data: op for op in program.module.ops if op.name == "func.func"}  # type: ignore[attr-defined]
    prepared = interpreter.call("prepare", []) if "prepare" in entries else []
    entry = next(op for entry_name, op in entries.items() if entry_name != "prepare")
    missing = len(entry.function_type.inputs) - len(arguments) - len(prepared)
    interpreter.call(entry.sym_name.data, [*arguments, *[1.0] * missing, *prepared])
    for op in program.module.ops:
        if isinstance(op, KernelOp) and op.sym_name.data in loaded.seconds:
            row, work = rows[op.sym_name.data], work_of(op)
            row.seconds = median(loaded.seconds[op.sym_name.data])
            row.bytes, row.flops = work.bytes, work.flops
    return list(rows.values())


def tile_program(model: Any, arguments: Sequence[Any], keywords: dict[str, Any], target: Device) -> Program:
    """A method or function, for a call, at the tile level for a GPU."""
    return model._inspector.program_at("tile", arguments, keywords, target.target())


def archives() -> Iterator[tuple[str, Any, list[Any]]]:
    """(name, method, arguments) of the archives of the tests."""
    for path in sorted(ARCHIVES.glob("*.pt")):
        record = np.load(path.with_suffix(".npz"))
        given = [record[k] for k in record.files if k.startswith("input") and k.endswith("_5")]
        yield path.stem, stepwell.load(path).method("forward"), given


def large(quick: bool) -> Iterator[tuple[str, Any, list[Any]]]:
    """(name, function, arguments): one kernel of each template, large enough to be measured."""
    import large_kernels

    rng = np.random.default_rng(0)
    scale = 8 if quick else 1
    for name, function, shapes in large_kernels.KERNELS:
        given = [rng.standard_normal([max(1, s // scale) for s in shape]).astype(np.float32) for shape in shapes]
        yield name, stepwell.script(function), given


def line(row: Row, peak: float) -> list[str]:
    """A row of the table."""
    rate = row.bytes / row.seconds if row.bytes and row.seconds else None
    return [
        f"{row.model} {row.kernel}", "yes" if row.right else "NO", f"{row.difference:.1e}", str(row.launches),
        "-" if row.seconds is None else f"{row.seconds * 1e6:.1f}",
        "-" if rate is None else f"{rate / 1e9:.0f}",
        "-" if rate is None else f"{100 * rate / peak:.0f}%",
        "-" if not (row.flops and row.seconds) else f"{row.flops / row.seconds / 1e12:.2f}",
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None, open_driver: Callable[[], Driver] = Driver.open) -> int:
    """The exit status."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", nargs="?", help="an archive (default: those of the tests, and large kernels)")
    options.add_argument("--input", "-i", action="append", default=[], help="as for stepwell run")
    options.add_argument("--repeat", type=int, default=50, help="timed launches of each kernel (default 50)")
    options.add_argument("--quick", action="store_true", help="smaller large kernels")
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = options.parse_args(arguments)
    try:
        driver = open_driver()
    except DriverMissing as error:
        print(f"{error}: nothing is checked", file=sys.stderr)
        return 3
    target = device_of(driver)
    if given.model:
        positional, keywords = inputs_of(given.input)
        models = iter([(Path(given.model).stem, stepwell.load(given.model).method("forward"), positional)])
    else:
        keywords = {}
        models = (m for source in (archives(), large(given.quick)) for m in source)
    rows: list[Row] = []
    for name, model, values in models:
        rows += check(name, tile_program(model, values, keywords, target), values, driver, target, given.repeat)
    peak = driver.peak_bandwidth
    header = ["kernel", "right", "difference", "launches", "us", "GB/s", "of peak", "TFLOP/s"]
    where = {"gpu": driver.name, "target": target.name, "peak GB/s": f"{peak / 1e9:.0f}", **machine.describe()}
    text = "\n\n".join([report.machine_lines(where), report.table(header, [line(row, peak) for row in rows])])
    print(text)
    report.write(given.out, "gpu_check", {"machine": where, "kernels": [asdict(row) for row in rows]}, text)
    return 0 if all(row.right for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
