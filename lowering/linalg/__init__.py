"""Passes on linalg: from one generic per torch op to few fused ones with the layouts that kernels like.

structure.py says what a generic is; generics.py and edit.py how one is made and changed; the passes are below, in
the order in which they run.
"""

from stepwell.lowering.linalg.absorb_transposes import AbsorbTransposes
from stepwell.lowering.linalg.canonicalize import Canonicalize
from stepwell.lowering.linalg.cse import Cse
from stepwell.lowering.linalg.dce import Dce
from stepwell.lowering.linalg.fuse_elementwise import FuseElementwise
from stepwell.lowering.linalg.sink_reshapes import SinkReshapes
from stepwell.lowering.pass_ import Pass

PASSES: tuple[Pass, ...] = (
    # Facts first: sizes and branches become known, so that later passes see plain shapes.
    Canonicalize(), Cse(), Dce(),
    # Sizes that CSE made one value cancel reshapes that were opaque before.
    Canonicalize(),
    # Fewer, larger ops. Reshapes between elementwise ops are in the way only once their neighbours have come
    # together, so they sink after a first round.
    FuseElementwise(), Dce(), SinkReshapes(), Canonicalize(), AbsorbTransposes(), FuseElementwise(),
    # Bodies that came together share constants and subexpressions; views that were read through are dead.
    Canonicalize(), Cse(), Dce(),
)  # fmt: skip
"""The linalg level's part of the pipeline, in order."""

__all__ = ["PASSES", "AbsorbTransposes", "Canonicalize", "Cse", "Dce", "FuseElementwise", "SinkReshapes"]
