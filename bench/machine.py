"""What results were measured on: the machine, its load, and the versions of all that was compared."""

from __future__ import annotations

import compileall
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("stepwell", "numpy", "xdsl", "llvmlite", "torch", "onnxruntime", "openvino", "silero-vad")


def environment(**settings: str) -> dict[str, str]:
    """The environment of a process that is measured: with bytecode, which an installed package has."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **settings}


def write_bytecode() -> None:
    """Compile the sources of this project, so that the first process measured does not do it."""
    import stepwell

    compileall.compile_dir(Path(stepwell.__file__).parent, quiet=2)


@dataclass(frozen=True)
class Peak:
    """Floating-point operations and bytes per second; bytes are the better of copying and reading large arrays."""

    flops: float
    bytes: float

    def share(self, flops: float | None, moved: float | None, seconds: float) -> tuple[float, str]:
        """Of which limit a time is the larger share: (share, "flops" or "bytes")."""
        return max(((flops or 0.0) / seconds / self.flops, "flops"), ((moved or 0.0) / seconds / self.bytes, "bytes"))


MEASURE = """
import sys, time
import numpy as np
from stepwell.compiler import peak
x = np.ones(1 << 25, np.float32)
sys.stdin.readline()
flops = moved = 0.0
end = time.perf_counter() + {seconds}
while time.perf_counter() < end:
    peak.measured.cache_clear()
    found = peak.measured()
    started = time.perf_counter()
    np.dot(x, x)
    read = x.nbytes / (time.perf_counter() - started)
    flops, moved = max(flops, found.flops), max(moved, found.bytes, read)
print(flops, moved)
"""


def peak(threads: int, seconds: float = 2.0) -> Peak:
    """What so many cores reach at the same time, each on its own data; the best within some seconds."""
    settings = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", MEASURE.format(seconds=seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(**settings),
        )
        for _ in range(threads)
    ]  # fmt: skip
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = [process.communicate()[0].split() for process in running]
    return Peak(*(sum(float(x) for x in column) for column in zip(*found, strict=True)))


def describe() -> dict[str, str]:
    """Names and values, in the order of reports."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load before": " ".join(f"{x:.2f}" for x in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown",
        **{name: _version(name) for name in PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    widest = next((isa for isa in ("avx512f", "avx2", "sse4_2", "asimd") if isa in found.get("flags", "")), "")
    name = found.get("model name", platform.machine())
    if "model" in found:
        name += f" (family {found.get('cpu family')}, model {found['model']})"
    return f"{name}, {widest}" if widest else name


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
