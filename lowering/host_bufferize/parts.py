"""Tensors that are computed where a part of another one lies: no copy is needed to put them there.

    %r = tile.launch @conv(..)            writes into the middle of the padded image, through strides
    %p = tile.launch @fill()              fills no more than the border
    %q = tensor.insert_slice %r into %p   does nothing

So paddings cost their border, and concatenations nothing. Whoever else reads %r reads it there. All of it holds for
static sizes and steps of 1 only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, TensorType
from xdsl.dialects.linalg.ops import FillOp
from xdsl.ir import Attribute, SSAValue

from stepwell.dialects import tile
from stepwell.lowering.host_bufferize.places import Place

if TYPE_CHECKING:
    from stepwell.lowering.host_bufferize.storage import Storage

FILLING = (arith.ConstantOp, tensor.EmptyOp, FillOp, tile.YieldOp)


@dataclass(frozen=True)
class Box:
    """A part of a tensor: where it begins, and its sizes."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]

    def is_apart(self, other: Box) -> bool:
        """Whether two boxes have no element in common."""
        sides = zip(self.offsets, self.sizes, other.offsets, other.sizes, strict=True)
        return any(a + m <= b or b + n <= a for a, m, b, n in sides)


def box_of(op: tensor.InsertSliceOp) -> Box | None:
    """Which part of its destination an op writes; None where that is only known at run time, or has gaps."""
    numbers = [list(part.get_values()) for part in (op.static_offsets, op.static_sizes, op.static_strides)]
    kinds = (op.source.type, op.dest.type)
    shapes = [size for kind in kinds if isinstance(kind, TensorType) for size in kind.get_shape()]
    if any(DYNAMIC_INDEX in part for part in (*numbers, shapes)) or any(step != 1 for step in numbers[2]):
        return None
    return Box(tuple(numbers[0]), tuple(numbers[1]))


def filled_with(kernel: tile.KernelOp) -> Attribute | None:
    """The constant that a kernel puts everywhere into its one result; None for any other kernel."""
    fills = [op for op in kernel.body.block.ops if isinstance(op, FillOp)]
    if not all(isinstance(op, FILLING) for op in kernel.body.block.ops) or len(fills) != 1:
        return None
    owner = fills[0].operands[0].owner
    one = len(kernel.results_yielded) == 1 and kernel.results_yielded[0] is fills[0].results[0]
    return owner.value if one and isinstance(owner, arith.ConstantOp) else None


class Parts:
    """What `Storage` may compute in place; to be made once its cells are final."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.inserts = [op for op in storage.body.walk() if isinstance(op, tensor.InsertSliceOp)]
        self.borders: dict[SSAValue, Attribute] = {}
        """Destinations of which only the border needs to be filled, with what."""
        self.within: dict[SSAValue, tensor.InsertSliceOp] = {}
        """Results of launches that are computed where this op would put them."""
        for op in self.inserts:
            planned = storage.cell(op.result).place is Place.ARENA
            if planned and box_of(op) is not None and storage.in_place(op.dest, op.result):
                self._border(op)
                self._part(op)

    def _border(self, op: tensor.InsertSliceOp) -> None:
        owner = op.dest.owner
        if isinstance(owner, tile.LaunchOp) and op.dest.has_one_use() and len(owner.results) == 1:
            value = filled_with(self.storage.sizes.kernels[owner.kernel.root_reference.data])
            if value is not None:
                self.borders[op.dest] = value

    def _part(self, op: tensor.InsertSliceOp) -> None:
        """Whether the source can be computed in place."""
        source, storage = op.source, self.storage
        readers = [use.operation for use in source.uses]
        if (
            isinstance(source.owner, tile.LaunchOp)
            and source not in self.within
            and source.owner.parent is op.parent
            and source.type.get_num_dims() == len(op.static_sizes)  # type: ignore[attr-defined]
            and all(isinstance(reader, (tile.LaunchOp, tensor.InsertSliceOp)) for reader in readers)
            and all(reader.parent is op.parent for reader in readers)
            and storage.members[storage.cell(source)] == [source]
            and {storage.cell(value).place for value in (source, op.result)} == {Place.ARENA}
            and self._is_free(op, source)
        ):
            self.within[source] = op
            storage.compute_within(source, op.result)

    def _is_free(self, op: tensor.InsertSliceOp, source: SSAValue) -> bool:
        """Whether nobody else needs the part of the destination while the source is there."""
        live, box = self.storage.live, box_of(op)
        assert box is not None
        start, end = live.defined(source), live.last_read(source)
        before, after = set(_made_of(op)), set(_made_from(op))
        for value in self.storage.members[self.storage.cell(op.result)]:
            owner = value.owner
            if value is op.result:
                continue
            if isinstance(owner, tensor.InsertSliceOp) and value in before | after:
                other = box_of(owner)
                fine = (other is not None and other.is_apart(box)) or (value in after and live.defined(value) >= end)
            elif value in before:
                fine = isinstance(owner, tensor.EmptyOp) or self._filled_at(value, op, start) <= start
            else:
                fine = live.defined(value) >= end or self.storage.last_read(value) <= start
            # What the destination was before, nobody else may look at.
            if not fine or (value in before and not value.has_one_use()):
                return False
        return True

    def _filled_at(self, value: SSAValue, op: tensor.InsertSliceOp, start: int) -> int:
        """When a destination gets its contents, if a part is computed at `start` for an op: a border just before the
        first part, or with the op that inserts it."""
        live = self.storage.live
        if value not in self.borders:
            return live.defined(value) + 1
        (first,) = (use.operation for use in value.uses)
        assert isinstance(first, tensor.InsertSliceOp)
        if first is op:
            return start
        return live.defined(first.source) if self.within.get(first.source) is first else live.begin[first]


def _made_of(op: tensor.InsertSliceOp) -> Iterator[SSAValue]:
    """The destination, what that was before other parts were put there, and so on."""
    value = op.dest
    yield value
    while isinstance(value.owner, tensor.InsertSliceOp) and value.owner.parent is op.parent:
        value = value.owner.dest
        yield value


def _made_from(op: tensor.InsertSliceOp) -> Iterator[SSAValue]:
    """What becomes of the result where more parts are put into it."""
    pending = [op.result]
    while pending:
        for use in pending.pop().uses:
            reader = use.operation
            if isinstance(reader, tensor.InsertSliceOp) and use.index == 1 and reader.parent is op.parent:
                pending.append(reader.result)
                yield reader.result
