"""LLVM IR text for nvptx64 -> PTX, in a process of its own.

LLVM ends the process where a back end meets what it cannot select. The texts that we write hold only
instructions and intrinsics of known lists; should one slip through, it costs an error here and not the caller's
process.

    python -m stepwell.compiler.backends.nvptx sm_90a +ptx80 < kernels.ll > kernels.ptx
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stepwell.dialects.diagnostics import Error

if TYPE_CHECKING:
    from stepwell.lowering.gpu.device import Device

OPTIMIZATION = 3
TIME_LIMIT = 300
"""Seconds."""


class BackendError(Error):
    """An internal error: LLVM's back end did not take a module. `text` is the module."""

    def __init__(self, message: str, text: str) -> None:
        self.text = text
        super().__init__(message)


def compile_ptx(text: str, device: Device) -> str:
    """PTX for a device. Raises BackendError with what LLVM said."""
    command = [sys.executable, "-m", "stepwell.compiler.backends.nvptx", device.name, f"+ptx{device.ptx}"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise BackendError(f"LLVM has no PTX for {device.name}: {said[-1] if said else done.returncode}", text)
    return done.stdout


def assembly(text: str, cpu: str, features: str) -> str:
    """PTX, in this process."""
    import llvmlite.binding as binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    module = binding.parse_assembly(text, binding.create_context())
    target = binding.Target.from_triple(module.triple)
    machine = target.create_target_machine(cpu=cpu, features=features, opt=OPTIMIZATION)
    module.data_layout = str(machine.target_data)
    module.verify()
    options = binding.create_pipeline_tuning_options(OPTIMIZATION)
    # The loops that gain by it are unrolled already; the others would only fill registers.
    options.loop_unrolling = False
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return str(machine.emit_assembly(module))


def main(arguments: Sequence[str]) -> int:
    """The worker."""
    cpu, features = arguments
    sys.stdout.write(assembly(sys.stdin.read(), cpu, features))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
