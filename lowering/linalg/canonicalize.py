"""`canonicalize`: the folds of scalars, shapes, control flow and generics, in one walk."""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block

from stepwell.lowering.linalg import control, generics, scalars, shapes
from stepwell.lowering.linalg.edit import Editor, Fold, replace
from stepwell.lowering.pass_ import Pass

FOLDS: dict[str, Fold] = scalars.FOLDS | shapes.FOLDS | control.FOLDS | generics.FOLDS
"""All folds by op name."""


def fold_block(block: Block) -> None:
    """Fold the ops of a block in order, regions before the op that has them."""
    op = block.first_op
    while op is not None:
        following = op.next_op
        fold = FOLDS.get(op.name)
        if op.regions:
            for region in op.regions:
                for inner in region.blocks:
                    fold_block(inner)
        if fold is not None:
            values = fold(op, Editor(op, FOLDS))
            if values is not None:
                replace(op, values)
        op = following


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Fold constants, sizes, reshapes, slices, decided control flow and idle operands of generics.
    After: no op is left whose results follow from its operands' definitions alone (dead ops may be)."""

    name = "canonicalize"

    def apply(self, module: ModuleOp, context: Context) -> None:
        """One forward walk: operands are folded before what reads them."""
        for block in module.body.blocks:
            fold_block(block)
