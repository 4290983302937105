"""Who frees what the program allocates while it runs: each buffer from the heap, and each list, has one owner.

The owner is the block that defines it. Where the block's last use of it gives it away (a yield, a loop's initial
value, an append), it moves; where it is given away but read later, or belongs to an outer block, a copy is
given; and what is left after its last use is freed there.
"""

from __future__ import annotations

from collections.abc import Callable

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Block, Operation, SSAValue

from stepwell.dialects import host
from stepwell.lowering.host_bufferize.storage import Place, Storage


class Owners:
    """For every owned value (root of a heap tensor, or list): the op of its own block that uses it last."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.last_use: dict[SSAValue, Operation | None] = {}
        self.dying: dict[Operation | Block, list[SSAValue]] = {}
        """What is last used by each op; what nobody uses, by the op or block that defines it."""
        self.moved: set[SSAValue] = set()
        readers = self._readers()
        for value, ops in readers.items():
            home = value.owner if isinstance(value.owner, Block) else value.owner.parent_block()
            assert isinstance(home, Block)
            tops = [top for op in ops if (top := _within(op, home)) is not None]
            last = max(tops, key=lambda op: storage.live.begin[op], default=None)
            self.last_use[value] = last
            self.dying.setdefault(last if last is not None else value.owner, []).append(value)

    def _readers(self) -> dict[SSAValue, list[Operation]]:
        """All ops that use each owned value, through views as well."""
        found: dict[SSAValue, list[Operation]] = {}
        for value, root in self.storage.roots.items():
            if self.storage.cells[root].place is Place.HEAP:
                found.setdefault(root, []).extend(use.operation for use in value.uses)
        for value in _all_values(self.storage.body):
            if isinstance(value.type, host.ListType):
                found[value] = [use.operation for use in value.uses]
        return found

    def owned(self, value: SSAValue) -> SSAValue | None:
        """The owned value behind a tensor or list: its root, or itself; None for planned memory."""
        if isinstance(value.type, host.ListType):
            return value
        root = self.storage.roots.get(value)
        return root if root is not None and self.storage.cells[root].place is Place.HEAP else None

    def take(self, value: SSAValue, op: Operation) -> bool:
        """Whether `op` may keep the memory of its operand: it is the last to use it, and takes it once."""
        root = self.owned(value)
        if root is None or value in self.storage.partial or self.last_use[root] is not op or root in self.moved:
            return False
        used = [v for v in op.operands if self.owned(v) is root]
        inside = any(self.owned(v) is root for region in op.regions for inner in region.walk() for v in inner.operands)
        if len(used) > 1 or inside:
            return False
        self.moved.add(root)
        return True

    def left_after(self, place: Operation | Block) -> list[SSAValue]:
        """What must be freed after an op, or at the start of a block, as nobody uses or keeps it."""
        return [value for value in self.dying.get(place, ()) if value not in self.moved]


def _within(op: Operation, home: Block) -> Operation | None:
    """The op of block `home` that is, or encloses, an op."""
    current: Operation | None = op
    while current is not None and current.parent_block() is not home:
        current = current.parent_op()
    return current


def _all_values(body: Block) -> list[SSAValue]:
    values: list[SSAValue] = list(body.args)
    for op in body.walk():
        values.extend(op.results)
        for region in op.regions:
            for block in region.blocks:
                values.extend(block.args)
    return values


Free = Callable[[SSAValue], None]

__all__ = ["Owners", "TensorType"]
