"""The kernels of a program for NVIDIA GPUs: from the tile level to the gpu level, PTX, or CUDA C++.

    emit(module, "ptx", device("sm_90a"))

What has no template for GPUs yet is named in comments on top; the rest is emitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.dialects import gpu
from xdsl.dialects.builtin import ModuleOp

from stepwell.compiler.backends.cuda import print_cuda
from stepwell.compiler.backends.llvm_text import print_module
from stepwell.compiler.backends.nvptx import compile_ptx
from stepwell.dialects.levels import GPU, check
from stepwell.lowering.cpu.expand_math import expand_math
from stepwell.lowering.gpu import Device, Note, device, functions_of, gpu_to_llvm, lower_kernels
from stepwell.lowering.gpu.tile_to_gpu import describe


@dataclass(frozen=True)
class Kernels:
    """The kernels of a program at the gpu level, and what could not be written."""

    module: ModuleOp
    notes: Sequence[Note]
    device: Device

    @property
    def functions(self) -> list[gpu.FuncOp]:
        return functions_of(self.module)

    def llvm(self) -> str:
        """LLVM IR text; math functions are the polynomials that CPUs use."""
        expanded = self.module.clone()
        expand_math(expanded)
        return print_module(gpu_to_llvm.lower(expanded, self.device))

    def ptx(self) -> str:
        """PTX of all kernels, with what was decided about each on top."""
        return comments(self) + compile_ptx(self.llvm(), self.device)

    def cuda(self) -> str:
        """CUDA C++ of all kernels."""
        return print_cuda(self.functions, self.notes, self.device)

    def text(self) -> str:
        """MLIR."""
        return "".join(f"// {note}\n" for note in self.notes) + str(self.module) + "\n"


def kernels_of(module: ModuleOp, target: Device) -> Kernels:
    """The kernels of a module of the tile level, which stays as it is."""
    lowered, notes = lower_kernels(module, target)
    check(lowered, GPU)
    return Kernels(lowered, notes, target)


FORMS: dict[str, Callable[[Kernels], str]] = {"gpu": Kernels.text, "ptx": Kernels.ptx, "cuda": Kernels.cuda}
"""What can be emitted, by its name on the command line."""


def emit(module: ModuleOp, form: str, target: Device | None = None) -> str:
    """A module of the tile level as text of a form."""
    return FORMS[form](kernels_of(module, target or device()))


def comments(kernels: Kernels) -> str:
    """Launch geometry and decisions, as comments."""
    lines = [str(note) for note in kernels.notes]
    for function in kernels.functions:
        lines += describe(function)
    return "".join(f"// {line}\n" for line in lines) + "\n"
