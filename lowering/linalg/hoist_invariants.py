"""`hoist-invariants`: what a loop computes from outside values alone is computed once, before it.

Only tensors' ops and what they need move (scalar arithmetic is cheap, and a division that the loop guards must not
run without it). A loop that runs zero times then computes them for nothing; nothing can fail in them, since ops
that read a tensor at computed positions stay.
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import Block, Operation, SSAValue

from stepwell.lowering.linalg.hoist_constants import read_outside
from stepwell.lowering.linalg.structure import body
from stepwell.lowering.pass_ import Pass

LOOPS = frozenset(("scf.for", "scf.while"))
MOVED = frozenset(("linalg.fill", "tensor.empty", "tensor.cast", "tensor.collapse_shape", "tensor.expand_shape"))
TRAPPING = frozenset(("tensor.extract", "scf.if", "scf.for", "scf.while", "host.raise")) | {
    op.name
    for op in (arith.DivSIOp, arith.DivUIOp, arith.RemSIOp, arith.RemUIOp, arith.FloorDivSIOp, arith.CeilDivSIOp)
}
"""What must not run where the program would not have run it."""


def may_move(op: Operation) -> bool:
    """Whether an op can be computed earlier than written."""
    if isinstance(op, GenericOp):
        return all(inner.name not in TRAPPING for inner in body(op).ops)
    return op.name in MOVED or isinstance(op, arith.ConstantOp)


def _is_inside(value: SSAValue, loop: Operation) -> bool:
    owner = value.owner
    block: Block | None = owner if isinstance(owner, Block) else owner.parent
    while block is not None:
        parent = block.parent_op()
        if parent is loop:
            return True
        block = parent.parent if parent is not None else None
    return False


def hoist_from(loop: Operation) -> None:
    """Move the invariant ops of a loop's own blocks before it."""
    outside = loop.parent
    assert outside is not None
    for region in loop.regions:
        for block in region.blocks:
            op = block.first_op
            while op is not None:
                following = op.next_op
                if may_move(op) and not any(_is_inside(value, loop) for value in read_outside(op)):
                    block.detach_op(op)
                    outside.insert_op_before(op, loop)
                op = following


@dataclass(frozen=True)
class HoistInvariants(Pass):
    """Move tensor ops that do not depend on a loop out of it. After: no loop computes a tensor from values that
    are all from outside, but by reading at computed positions."""

    name = "hoist-invariants"

    def apply(self, module: ModuleOp, context: Context) -> None:
        """Inner loops first, so that what leaves one may leave the next."""
        loops = [op for op in module.walk() if op.name in LOOPS]
        for loop in reversed(loops):
            hoist_from(loop)
