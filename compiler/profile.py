"""Where the time of a call goes: the kernels of a method, what they took and what this machine could do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import TensorType

from stepwell.compiler.peak import measured
from stepwell.dialects.tile import KernelOp
from stepwell.lowering.analysis.work import Work, work_of
from stepwell.runtime.profile import KernelTime


@dataclass(frozen=True)
class KernelRow:
    """One kernel in one call of the method: how often it runs, seconds in all, work of one run (None: unknown), and
    what it makes: the sizes of its first result, as 1x64x14x14x16."""

    name: str
    calls: float
    seconds: float
    work: Work | None
    result: str = ""


@dataclass(frozen=True)
class Profile:
    """The kernels of a call by so many threads; the first row is the whole method. Shares are of what as many cores
    could do."""

    kernels: Sequence[KernelRow]
    threads: int = 1

    def __str__(self) -> str:
        peak, whole = measured(), self.kernels[0].seconds or 1e-12
        head = f"{'kernel':28} {'calls':>6} {'us':>10} {'share':>7} {'MB':>8} {'MFLOP':>9} {'GFLOP/s':>8} {'of peak':>8} {'GB/s':>7}  makes"
        rows = [head]
        for row in [self.kernels[0], *sorted(self.kernels[1:], key=lambda k: -k.seconds)]:
            line = f"{row.name:28} {row.calls:6.0f} {row.seconds * 1e6:10.1f} {100 * row.seconds / whole:6.1f}%"
            rows.append(f"{line}{_rates(row, peak.flops * self.threads):44}  {row.result}".rstrip())
        reached = f"{peak.flops / 1e9:.0f} GFLOP/s, {peak.bytes / 1e9:.1f} GB/s (copy)"
        rows.append(f"threads: {self.threads}; peak of one core, measured: {reached}")
        return "\n".join(rows)


def kernel_row(time: KernelTime, times: int, kernel: KernelOp | None) -> KernelRow:
    """A row from what a kernel took in so many calls of its method."""
    calls, seconds = time.calls / times, time.seconds / times
    if kernel is None:
        return KernelRow(time.name, calls, seconds, None)
    made = next((kind for kind in kernel.function_type.outputs if isinstance(kind, TensorType)), None)
    sizes = () if made is None else made.get_shape()
    return KernelRow(time.name, calls, seconds, work_of(kernel), "x".join("?" if n < 0 else str(n) for n in sizes))


def _rates(row: KernelRow, peak: float) -> str:
    if row.work is None or not row.seconds:
        return ""
    text = f" {row.work.bytes * row.calls / 1e6:8.2f}" if row.work.bytes is not None else f" {'':8}"
    if row.work.flops is not None:
        rate = row.work.flops * row.calls / row.seconds
        text += f" {row.work.flops * row.calls / 1e6:9.2f} {rate / 1e9:8.1f} {100 * rate / peak:7.1f}%"
    if row.work.bytes is not None:
        text += f" {row.work.bytes * row.calls / row.seconds / 1e9:7.1f}"
    return text
