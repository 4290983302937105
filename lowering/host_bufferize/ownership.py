"""Who frees what the program allocates while it runs: each buffer from the heap, and each list, has one owner.

The owner is the block that defines it; where a branch (`scf.if`) is the last of its ops to use it, both branches
take it over. Where the owner's last use gives it away (a yield, a loop's initial value, an append), it moves;
where it is given away but read later, or belongs to an outer block, a copy is given; and what is left after its
last use is freed there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xdsl.dialects import scf
from xdsl.ir import Block, BlockArgument, Operation, OpResult, SSAValue

from stepwell.dialects import host
from stepwell.lowering.host_bufferize.places import Place
from stepwell.lowering.host_bufferize.storage import Storage

Where = Operation | Block


class Owners:
    """For every owned value (root of a heap tensor, or list): the ops that use it last, one on each path."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.dying: dict[Where, list[SSAValue]] = {}
        """What is last used by each op; what nobody uses, by the op or block that defines or takes it."""
        self.moved: set[tuple[SSAValue, Where]] = set()
        for value, readers in self._readers().items():
            if isinstance(value, BlockArgument):
                self._assign(value, readers, value.block, value.block)
            elif isinstance(value, OpResult):
                home = value.op.parent_block()
                assert home is not None
                self._assign(value, readers, home, value.op)

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

    def _assign(self, value: SSAValue, readers: Sequence[Operation], home: Block, unused: Where) -> None:
        """Find where a value dies in a block that owns it; at `unused` where the block does not use it."""
        tops = {top for op in readers if (top := home.find_ancestor_op_in_block(op)) is not None}
        last = max(tops, key=lambda op: self.storage.live.begin[op], default=None)
        if isinstance(last, scf.IfOp) and all(region.blocks for region in last.regions):
            for region in last.regions:
                self._assign(value, readers, region.block, region.block)
        else:
            self.dying.setdefault(last if last is not None else unused, []).append(value)

    def owned(self, value: SSAValue) -> SSAValue | None:
        """The owned value behind a tensor or list: its root, or itself; None for planned memory."""
        if isinstance(value.type, host.ListType):
            return value
        root = self.storage.roots.get(value)
        return root if root is not None and self.storage.cells[root].place is Place.HEAP else None

    def take(self, value: SSAValue, op: Operation) -> bool:
        """Whether `op` may keep the memory of its operand: it is the last to use it, and uses it once."""
        root = self.owned(value)
        if root is None or value in self.storage.partial or root not in self.dying.get(op, ()):
            return False
        if sum(self.owned(used) is root for used in _operands(op)) > 1:
            return False
        self.moved.add((root, op))
        return True

    def left_after(self, place: Where) -> list[SSAValue]:
        """What must be freed after an op, or at the start of a block, as nobody uses or keeps it."""
        return [value for value in self.dying.get(place, ()) if (value, place) not in self.moved]


def _operands(op: Operation) -> Iterator[SSAValue]:
    """What an op uses, inside its regions too."""
    yield from op.operands
    for region in op.regions:
        for inner in region.walk():
            yield from inner.operands


def _all_values(body: Block) -> Iterator[SSAValue]:
    yield from body.args
    for op in body.walk():
        yield from op.results
        for region in op.regions:
            for block in region.blocks:
                yield from block.args
