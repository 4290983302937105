"""tile -> loops, the host's part: the entry function's tensors become memory.

    %r = tile.launch @k0(%x) : (tensor<4xf32>) -> tensor<4xf32>

becomes `func.call @k0(%x, %r)` with %r a view of the arena, of the caller's result buffer, or of %x itself. Where
to look: `sizes` (what is known of each size), `storage` (which values share memory), `arena` (where it lies),
`function` (arguments, results), `straight` and `control` (what each op becomes), `lists` and `joins` (lists),
`ownership` (who frees what is allocated at run time), `parts` (what is computed where a slice of another tensor lies),
`variants` (kernels for that), `copies` and `borders` (kernels that copy and fill), `scratch` (memory of kernels).
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp

from stepwell.dialects import tile
from stepwell.lowering.host_bufferize.copies import Copies
from stepwell.lowering.host_bufferize.function import Bufferizer
from stepwell.lowering.host_bufferize.globals import Globals
from stepwell.lowering.host_bufferize.variants import Variants
from stepwell.lowering.pass_ import Pass


@dataclass(frozen=True)
class BufferizeHost(Pass):
    """Give the tensors of the entry function, and of @prepare, memory: arguments, results, one arena.
    After: outside kernels there are memrefs only, launches are calls, and `host.arena_bytes` is set."""

    name = "bufferize-host"

    def apply(self, module: ModuleOp, context: Context) -> None:
        kernels = Variants({op.sym_name.data: op for op in module.ops if isinstance(op, tile.KernelOp)})
        copies, constants = Copies(), Globals()
        block = module.body.block
        for function in [op for op in module.ops if isinstance(op, func.FuncOp) and op.body.blocks]:
            made = Bufferizer(function, kernels, copies, constants).run()
            block.insert_op_before(made, function)
            block.erase_op(function)
        for name, kernel in kernels.kernels.items():
            if name not in kernels.used:
                block.erase_op(kernel)
        first = block.first_op
        variants = [kernel for kernel in kernels.used.values() if kernel.parent is None]
        for op in [*constants.ops.values(), *copies.all(), *variants]:
            if first is None:
                block.add_op(op)
            else:
                block.insert_op_before(op, first)


__all__ = ["BufferizeHost"]
