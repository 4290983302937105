"""tile -> loops, for CPUs: each kernel becomes a function of memrefs with its loops and vectors.

    lower_kernels(module, target)      every tile.kernel of a module, in place
    lower_kernel(kernel, target)       one kernel as a func.func

A kernel's function takes its inputs, then its results (destination passing), then, where it needs memory of its
own, a `memref<Nxi8>` that is private to the thread. Tensors of the kernel are contiguous memrefs. All loops stand
in scf.parallel, also those that one thread is enough for (they have one iteration).

How loops come about, from the inside out: `polynomial` (index expressions), `emit` (ops, written once and as far
out as possible), `graph` (a kernel's body), `bodies` (a scalar body on vectors), `evaluate` and `reduce` (what a
tensor holds at a point), `nest` (loops over the elements of results), `choose` (axes and widths), and a file for
each template that needs more: `matmul`, `rows`, `transpose`.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

from stepwell.dialects.target import Target
from stepwell.dialects.tile import KernelOp
from stepwell.lowering.pass_ import Pass
from stepwell.lowering.tile_to_loops.templates import lower_kernel


def lower_kernels(module: ModuleOp, target: Target) -> None:
    """Replace every tile.kernel by a private func.func of the same name.

    Raises UnsupportedError for a body that no template can write.
    """
    for op in list(module.ops):
        if isinstance(op, KernelOp):
            block = op.parent
            assert block is not None
            block.insert_op_before(lower_kernel(op, target), op)
            block.erase_op(op)


@dataclass(frozen=True)
class LowerKernels(Pass):
    """Write the loops of every kernel for a target. After: no tile.kernel and no linalg op is left."""

    name = "lower-kernels"
    target: Target

    def apply(self, module: ModuleOp, context: Context) -> None:
        lower_kernels(module, self.target)


__all__ = ["LowerKernels", "lower_kernel", "lower_kernels"]
