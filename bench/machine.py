"""What results were measured on: the machine, its load, and the versions of all that was compared."""

from __future__ import annotations

import compileall
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("stepwell", "numpy", "xdsl", "llvmlite", "torch", "onnxruntime", "silero-vad")


def environment(**settings: str) -> dict[str, str]:
    """The environment of a process that is measured: with bytecode, which an installed package has."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **settings}


def write_bytecode() -> None:
    """Compile the sources of this project, so that the first process measured does not do it."""
    import stepwell

    compileall.compile_dir(Path(stepwell.__file__).parent, quiet=2)


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
