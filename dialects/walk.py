"""Every op inside an op, quickly: xDSL's `walk` is a generator inside a generator for each level of nesting. And their
end: what has been lowered is given back at once, since its lower form is several times as large."""

from __future__ import annotations

from collections.abc import Iterator

from xdsl.ir import Operation, Region


def every_op(root: Operation) -> Iterator[Operation]:
    """An op and all ops inside it, in order. What an op holds is looked up after the op was given: it may be changed,
    what stands behind it in its own block may not."""
    pending: list[Operation] = [root]
    while pending:
        op = pending.pop()
        yield op
        for region in reversed(op.regions):
            for block in reversed(region.blocks):
                inner = block.last_op
                while inner is not None:
                    pending.append(inner)
                    inner = inner.prev_op


def take_apart(region: Region) -> None:
    """Give back the memory of what is in a region, which nobody may look at any more: ops, values and blocks hold each
    other, and would stay until the collector comes, which rests during a compilation."""
    pending = [region]
    while pending:
        for block in list(pending.pop().blocks):
            op = block.first_op
            while op is not None:
                pending.extend(op.regions)
                following = op.next_op
                op.__dict__.clear()
                op = following
            block.__dict__.clear()
