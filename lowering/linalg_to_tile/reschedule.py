"""`reschedule`: kernels get the schedules that were found by measuring (see `stepwell.compiler.tuning`).

Only sizes change: the template and who shares the work stay as `form-kernels` decided. A kernel is known by its
content, so that a schedule found in one model serves every other with an equal kernel.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.printer import Printer

from stepwell.dialects.tile import KernelOp, schedule_of
from stepwell.lowering.pass_ import Pass

Sizes = Mapping[str, int]


def kernel_key(kernel: KernelOp) -> str:
    """What a kernel computes, over which shapes, by which template and whether threads share it: as a digest."""
    text = io.StringIO()
    printer = Printer(text)
    printer.print_string(f"{kernel.template} {kernel.size('parallel')} ")
    printer.print_attribute(kernel.function_type)
    printer.print_region(kernel.body)
    return hashlib.sha256(text.getvalue().encode()).hexdigest()


def reschedule(kernel: KernelOp, sizes: Sizes) -> None:
    """Give a kernel other sizes. Raises VerifyException for keys or values that its template does not have."""
    kept = {"parallel": kernel.size("parallel")}
    kernel.properties["schedule"] = schedule_of(kernel.template, **kept, **sizes)


def sizes_of(kernel: KernelOp) -> dict[str, int]:
    """The sizes that a kernel's schedule decides."""
    names = [name for name in kernel.schedule.data if name not in ("template", "parallel")]
    return {name: kernel.size(name) for name in names}


@dataclass(frozen=True)
class Reschedule(Pass):
    """Give kernels the sizes that a table has for them, by their `kernel_key`. After: all others are unchanged."""

    name = "reschedule"
    table: Mapping[str, Sizes]

    def apply(self, module: ModuleOp, context: Context) -> None:
        for op in module.ops if self.table else ():
            if isinstance(op, KernelOp):
                found = self.table.get(kernel_key(op))
                if found is not None:
                    reschedule(op, found)
