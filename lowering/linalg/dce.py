"""`dce`: what nobody reads and what changes nothing goes away."""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation

from stepwell.lowering.linalg.edit import remove
from stepwell.lowering.pass_ import Pass

PURE_DIALECTS = frozenset(("arith", "math", "tensor", "linalg"))
"""Dialects all of whose ops, on values, only compute their results."""

PURE_OPS = frozenset(("host.undefined", "host.list_new", "host.list_append", "host.list_length", "tile.launch"))
"""Others that may go when unread. (`host.list_get`, `set`, `pop` may raise IndexError, so they stay.)"""

TRANSPARENT = frozenset(("scf.if", "scf.for"))
"""Ops that are as pure as what they hold. A while loop may run for ever, which is an effect."""

TERMINATORS = frozenset(("linalg.yield", "scf.yield"))


def is_removable(op: Operation) -> bool:
    """Whether an op does nothing but compute its results."""
    if op.name in TRANSPARENT:
        return all(
            inner.name in TERMINATORS or is_removable(inner)
            for region in op.regions
            for block in region.blocks
            for inner in block.ops
        )
    return op.name.split(".", 1)[0] in PURE_DIALECTS or op.name in PURE_OPS


def sweep(block: Block) -> None:
    """Remove dead ops of a block and of the regions in it, users before what they use."""
    op = block.last_op
    while op is not None:
        before = op.prev_op
        if op.name not in TERMINATORS and all(r.first_use is None for r in op.results) and is_removable(op):
            remove(op)
        else:
            for region in op.regions:
                for inner in region.blocks:
                    sweep(inner)
        op = before


@dataclass(frozen=True)
class Dce(Pass):
    """Remove ops whose results are not read and that do nothing else. After: every pure op has a reader."""

    name = "dce"

    def apply(self, module: ModuleOp, context: Context) -> None:
        """One backward walk. Functions stay, read or not."""
        for function in module.ops:
            for region in function.regions:
                for block in region.blocks:
                    sweep(block)
