"""The machine that we run on, and named ones, as `Target`s. LLVM says what the CPU can do, Linux its caches."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from functools import cache
from pathlib import Path

from stepwell.dialects.target import Target

X86_LEVELS: dict[str, tuple[str, int, int]] = {
    "x86-64": ("+sse,+sse2,+cx8,+fxsr,+mmx", 128, 16),
    "x86-64-v2": ("+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+cx8,+fxsr,+mmx,+sahf", 128, 16),
    "x86-64-v3": (
        "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+cx8,+fxsr,+mmx,+sahf,"
        "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave",
        256,
        16,
    ),
    "x86-64-v4": (
        "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+cx8,+fxsr,+mmx,+sahf,"
        "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave,"
        "+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl",
        512,
        32,
    ),
}
"""The levels of the x86-64 psABI: features, vector bits, vector registers."""

ARM_LEVELS: dict[str, tuple[str, str, int, int]] = {
    "aarch64": ("generic", "+neon,+fp-armv8", 128, 32),
    "apple-m1": ("apple-m1", "+neon,+fp-armv8,+fullfp16,+dotprod", 128, 32),
}
"""Named ARM CPUs: LLVM's name, features, vector bits, vector registers."""


@cache
def host() -> Target:
    """The machine that we run on. `STEPWELL_TARGET` may name another (see `named`)."""
    chosen = os.environ.get("STEPWELL_TARGET")
    return named(chosen) if chosen else detect()


DIRECT = ",-winograd"
"""After a target's name: convolutions are direct, which rounds less (see lowering/analysis/winograd)."""


@cache
def named(name: str) -> Target:
    """`host`, a level of x86-64 (`x86-64-v3`) or an ARM CPU, on this operating system; with `,-winograd` after it,
    convolutions are not computed by Winograd's algorithm.

    Raises ValueError, which lists the names, for any other.
    """
    if name.endswith(DIRECT):
        return replace(named(name.removesuffix(DIRECT)), winograd=False)
    if name in ("host", "native", "cpu"):
        return detect()
    cores = os.cpu_count() or 1
    if name in X86_LEVELS:
        features, bits, registers = X86_LEVELS[name]
        return Target(_system_triple("x86_64"), name, features, bits, registers, cores=cores)
    if name in ARM_LEVELS:
        cpu, features, bits, registers = ARM_LEVELS[name]
        return Target(_system_triple("aarch64"), cpu, features, bits, registers, cores=cores)
    known = ", ".join(("host", *X86_LEVELS, *ARM_LEVELS))
    raise ValueError(f"no target is called {name!r}; there are {known}")


@cache
def detect() -> Target:
    """What LLVM and the operating system say about this machine."""
    import llvmlite.binding as binding

    features = binding.get_host_cpu_features().flatten()
    triple = binding.get_process_triple()
    bits, registers = vector_units(triple, features)
    l1, l2, l3 = cache_sizes()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Target(triple, binding.get_host_cpu_name(), features, bits, registers, l1, l2, l3, cores)


def vector_units(triple: str, features: str) -> tuple[int, int]:
    """(bits of a vector, number of vector registers). 512-bit vectors are used wherever they exist."""
    have = set(features.split(","))
    if triple.startswith(("x86_64", "amd64")):
        if {"+avx512f", "+avx512vl", "+avx512bw", "+avx512dq"} <= have:
            return 512, 32
        return (256, 16) if "+avx2" in have else (128, 16)
    if triple.startswith(("aarch64", "arm64")):
        return 128, 32
    return 128, 16


def cache_sizes(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> tuple[int, int, int]:
    """(L1 data, L2, L3) bytes of one core; usual sizes where the system does not say."""
    sizes = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    try:
        for index in sorted(root.glob("index*")):
            if (index / "type").read_text().strip() == "Instruction":
                continue
            text = (index / "size").read_text().strip()
            sizes[int((index / "level").read_text())] = int(text[:-1]) * units[text[-1]]
    except (OSError, ValueError, KeyError):
        pass
    return sizes[1], sizes[2], sizes[3]


def _system_triple(architecture: str) -> str:
    """The triple of an architecture on this operating system."""
    system = platform.system()
    if system == "Darwin":
        return f"{'arm64' if architecture == 'aarch64' else architecture}-apple-darwin"
    return f"{architecture}-pc-windows-msvc" if system == "Windows" else f"{architecture}-unknown-linux-gnu"
