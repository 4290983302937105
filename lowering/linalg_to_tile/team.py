"""Whether a program's threads share its work at all.

A call that all threads enter pays for waking them, and every kernel for a meeting at its end. What sharing saves must be
well above that; a program that only has small kernels is done sooner by one thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xdsl.dialects import arith, scf
from xdsl.dialects.builtin import IntegerAttr
from xdsl.ir import Operation, SSAValue

from stepwell.dialects.target import Target
from stepwell.lowering.linalg_to_tile.groups import Group
from stepwell.lowering.linalg_to_tile.schedule import ASSUMED, WORTH_SHARING_US, microseconds

ENTRY_US = 40.0
"""What it takes until the other threads are in."""

MEETING_US = 1.0
"""What a barrier takes while threads are awake."""

MARGIN = 1.5
"""How many times its cost sharing has to save."""


@dataclass(frozen=True)
class Run:
    """A group, and how often a call runs it."""

    group: Group
    times: int


def pays(runs: Iterable[Run], target: Target) -> bool:
    """Whether threads save more than they cost on one call of a program."""
    saved, cost = 0.0, ENTRY_US
    for run in runs:
        alone = microseconds(run.group, target)
        cost += run.times * MEETING_US
        if alone > WORTH_SHARING_US:
            saved += run.times * alone * (1 - 1 / target.cores)
    return saved > MARGIN * cost


def trips(op: Operation) -> int:
    """How often the regions of an op run: known for loops of constant bounds; branches count as taken."""
    if isinstance(op, scf.ForOp):
        first, last, step = (_constant(value) for value in (op.lb, op.ub, op.step))
        if first is None or last is None or not step:
            return ASSUMED
        return max(0, -(-(last - first) // step))
    return ASSUMED if isinstance(op, scf.WhileOp) else 1


def _constant(value: SSAValue) -> int | None:
    owner = value.owner
    if isinstance(owner, arith.ConstantOp) and isinstance(owner.value, IntegerAttr):
        found: int = owner.value.value.data
        return found
    return None
