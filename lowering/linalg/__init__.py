"""Passes on linalg: from one generic per torch op to few fused ones with the layouts that kernels like.

structure.py says what a generic is; generics.py, blocking.py and edit.py how one is made and changed; the folds are
in scalars.py, shapes.py and control.py; each pass has a file of its name.
"""

from stepwell.dialects.target import Target
from stepwell.lowering.linalg.absorb_transposes import AbsorbTransposes
from stepwell.lowering.linalg.batch_steps import BatchSteps
from stepwell.lowering.linalg.canonicalize import Canonicalize
from stepwell.lowering.linalg.choose_layout import ChooseLayout
from stepwell.lowering.linalg.cse import Cse
from stepwell.lowering.linalg.dce import Dce
from stepwell.lowering.linalg.fuse_elementwise import FuseElementwise
from stepwell.lowering.linalg.hoist_constants import HoistConstants
from stepwell.lowering.linalg.hoist_invariants import HoistInvariants
from stepwell.lowering.linalg.merge_groups import MergeGroups
from stepwell.lowering.linalg.pack_weights import PackWeights
from stepwell.lowering.linalg.sink_reshapes import SinkReshapes
from stepwell.lowering.linalg.winograd import Winograd
from stepwell.lowering.pass_ import Pass

SIMPLIFY: tuple[Pass, ...] = (
    # Facts first: sizes and branches become known, so that later passes see plain shapes.
    Canonicalize(), Cse(), Dce(),
    # Before fusion, which would join what stays in a loop with what need not.
    HoistInvariants(),
    # Sizes that CSE made one value cancel reshapes that were opaque before.
    Canonicalize(),
    # Weights stand before their loops now, and products are still alone.
    BatchSteps(),
    # Fewer, larger ops. Reshapes between elementwise ops are in the way only once their neighbours have come
    # together, so they sink after a first round.
    FuseElementwise(), Dce(), SinkReshapes(), Canonicalize(), Dce(), AbsorbTransposes(), FuseElementwise(),
    # Bodies that came together share constants and subexpressions; views that were read through are dead.
    Canonicalize(), Cse(), Dce(),
)  # fmt: skip
"""What is right for every target."""


def passes(target: Target) -> tuple[Pass, ...]:
    """The linalg level's part of the pipeline, in order."""
    return (
        # Before what follows a convolution takes on the shape of its groups.
        MergeGroups(target.lanes(32)),
        *SIMPLIFY,
        # After fusion there are fewer edges to cost; before hoisting, so that filters are packed at load time.
        ChooseLayout(target.lanes(32)), PackWeights(target.lanes(32), target.registers), Dce(),
        # Epilogues follow their product onto its panels; packing and unpacking that met cancel as reshapes and
        # transposes; what is left joins its readers.
        SinkReshapes(), Canonicalize(), Dce(), FuseElementwise(packed=True), Canonicalize(), Cse(), Dce(),
        # Epilogues are in place, and nothing after this takes the steps apart.
        Winograd(target), Dce(),
        # Last: nothing after this may make new ops on weights.
        HoistConstants(), Dce(),
    )  # fmt: skip


__all__ = [
    "SIMPLIFY",
    "AbsorbTransposes",
    "BatchSteps",
    "Canonicalize",
    "ChooseLayout",
    "Cse",
    "Dce",
    "FuseElementwise",
    "HoistConstants",
    "HoistInvariants",
    "MergeGroups",
    "PackWeights",
    "SinkReshapes",
    "Winograd",
    "passes",
]
