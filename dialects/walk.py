"""Every op inside an op, quickly: xDSL's `walk` is a generator inside a generator for each level of nesting."""

from __future__ import annotations

from collections.abc import Iterator

from xdsl.ir import Operation


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
