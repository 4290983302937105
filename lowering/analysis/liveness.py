"""When values live, over a structured program: positions of ops, and where a value is defined and last read.

Ops are numbered in program order, regions inside their op. Control flow is structured (scf), so "two values
are alive at the same time" is "their ranges of positions overlap", with one correction: what is defined outside
a loop and read inside it must last until the loop is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xdsl.dialects import scf
from xdsl.ir import Block, BlockArgument, Operation, SSAValue

Range = tuple[int, int]
"""First and last position, both included."""

LOOPS: tuple[type[Operation], ...] = (scf.ForOp, scf.WhileOp)


class Liveness:
    """The positions of one function.

    An op without regions reads its operands over [begin, end] and writes its results over the same, so what it
    reads and what it writes overlap; end is begin + 1. An op with regions begins before and ends after them.
    Between one op and the next there is a position that only what outlives the first covers.
    """

    def __init__(self, body: Block) -> None:
        self.body = body
        self.begin: dict[Operation, int] = {}
        self.end: dict[Operation, int] = {}
        self._clock = 0
        self._number(body)

    def _number(self, block: Block) -> None:
        for op in block.ops:
            self.begin[op] = self._tick()
            if op.regions:
                self._tick()
            for region in op.regions:
                for inner in region.blocks:
                    self._number(inner)
            self.end[op] = self._tick()
            self._tick()

    def _tick(self) -> int:
        self._clock += 1
        return self._clock - 1

    @property
    def finish(self) -> int:
        """The position after the last op."""
        return self._clock

    def defined(self, value: SSAValue) -> int:
        """Where a value appears: with its op, after the regions of its op, or on entry to its block."""
        owner = value.owner
        if isinstance(owner, Operation):
            return self.end[owner] if owner.regions else self.begin[owner]
        parent = owner.parent_op()
        if owner is self.body or parent is None:
            return -1
        if isinstance(parent, scf.WhileOp) and owner is parent.after_region.block:
            condition = parent.before_region.block.last_op
            assert condition is not None
            return self.begin[condition]
        return self.begin[parent]

    def last_read(self, value: SSAValue) -> int:
        """The last position at which a value is needed: past its op at least, for there it is written."""
        last = self.defined(value)
        if isinstance(value.owner, Operation):
            last = self.end[value.owner] + 1
        home = value.owner if isinstance(value, BlockArgument) else value.owner.parent_block()
        for use in value.uses:
            last = max(last, self._until(use.operation, home))
        return last

    def _until(self, reader: Operation, home: object) -> int:
        """Until when a value of block `home` must last for this reader: loops around the reader repeat it."""
        last = self.begin[reader] if reader.regions else self.end[reader]
        block = reader.parent_block()
        while block is not None and block is not home:
            parent = block.parent_op()
            if parent is None:
                break
            if isinstance(parent, LOOPS):
                last = max(last, self.end[parent])
            block = parent.parent_block()
        return last

    def range(self, value: SSAValue) -> Range:
        """From definition to last read."""
        return self.defined(value), self.last_read(value)


def overlapping(left: Iterable[Range], right: Sequence[Range], apart_from: Sequence[Range] = ()) -> bool:
    """Whether two sets of ranges share a position, not counting what lies within one of `apart_from`."""
    for start, stop in left:
        for other_start, other_stop in right:
            first = start if start > other_start else other_start
            last = stop if stop < other_stop else other_stop
            if first <= last and not any(a <= first and last <= b for a, b in apart_from):
                return True
    return False


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same positions as sorted ranges that do not touch."""
    result: list[Range] = []
    for start, stop in sorted(ranges):
        if result and start <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(stop, result[-1][1]))
        else:
            result.append((start, stop))
    return result
