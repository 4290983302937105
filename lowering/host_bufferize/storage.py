"""Which tensor values share memory.

Every tensor value lies in the memory of its *root*: itself, or, for a view (reshape, cast, contiguous slice),
the value that it views. Roots are grouped into *cells*; one cell is one piece of memory. Two roots share a cell
where that saves a copy (what a loop carries and what its body yields, what a branch yields and what the `if`
gives, a slice inserted into a tensor that nobody reads later, a result and the caller's buffer) and where they
are never alive at the same time. This is the coalescing of register allocation, with tensors for registers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from xdsl.dialects import arith, scf, tensor
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Block, Operation, SSAValue

from stepwell.dialects import tile
from stepwell.lowering.analysis.liveness import LOOPS, Liveness, Range, merged, overlapping
from stepwell.lowering.host_bufferize.elements import element_bytes
from stepwell.lowering.host_bufferize.inplace import overwritable
from stepwell.lowering.host_bufferize.parts import Parts
from stepwell.lowering.host_bufferize.places import Place
from stepwell.lowering.host_bufferize.sizes import Product, Size, Sizes, terminator

WHOLE_VIEWS: tuple[type[Operation], ...] = (tensor.ExpandShapeOp, tensor.CollapseShapeOp, tensor.CastOp)
"""Views of all elements of their operand, in the same order."""


Bytes = tuple[int, frozenset[tuple[Size, int]]]
"""A size in bytes as a constant and a bag of factors."""


@dataclass(eq=False)
class Cell:
    """One piece of memory and when it is in use."""

    place: Place
    bytes: Bytes
    ranges: list[Range]
    output: int | None = None
    """Which result of the function this is the buffer of."""


@dataclass(frozen=True)
class Wish:
    """Two roots that should share memory; at `op` one's life may touch the other's."""

    first: SSAValue
    second: SSAValue
    op: Operation
    weight: int


class Storage:
    """The cells of a function body."""

    def __init__(self, body: Block, sizes: Sizes) -> None:
        self.body, self.sizes = body, sizes
        self.live = Liveness(body)
        self._inplace: dict[str, list[int]] = {}
        self.roots: dict[SSAValue, SSAValue] = {}
        """The root of every tensor value."""
        self.partial: set[SSAValue] = set()
        """Views of some elements only."""
        self.cells: dict[SSAValue, Cell] = {}
        """The cell of every root."""
        self.members: dict[Cell, list[SSAValue]] = {}
        self.wholes: dict[Cell, SSAValue] = {}
        """For cells that lie within others, a value that fills the other."""
        self.results: dict[int, SSAValue] = {}
        """For each result of the function that needs no copy: the value that is computed into its buffer."""
        self._find_roots()
        self._make_cells()
        wishes = sorted(self._wishes(), key=lambda wish: -wish.weight)
        self._wishes_of: dict[SSAValue, list[Wish]] = {}
        for wish in wishes:
            self._wishes_of.setdefault(self.roots[wish.first], []).append(wish)
            self._wishes_of.setdefault(self.roots[wish.second], []).append(wish)
        # Writing over an operand saves memory only, being a part saves a copy: that is decided before.
        self._grant_all(wish for wish in wishes if not isinstance(wish.op, tile.LaunchOp))
        self.parts = Parts(self)
        self._grant_all(wish for wish in wishes if isinstance(wish.op, tile.LaunchOp))
        self._place_results()
        self.aside: dict[tuple[Operation, int], Cell] = {}
        """Memory to copy a value to, by terminator and position, before another move overwrites it."""
        for op in body.walk():
            if isinstance(op, (scf.YieldOp, scf.ConditionOp)):
                self._set_aside(op)

    def cell(self, value: SSAValue) -> Cell:
        """The memory in which a tensor value lies."""
        return self.cells[self.roots[value]]

    def last_read(self, root: SSAValue) -> int:
        """The last position at which a value, or a view of it, is needed."""
        return max(self.live.last_read(value) for value, own in self.roots.items() if own is root)

    def compute_within(self, value: SSAValue, whole: SSAValue) -> None:
        """A value that has a cell for itself gets its memory as a part of another cell."""
        own, cell = self.cell(value), self.cell(whole)
        cell.ranges = merged(cell.ranges + own.ranges)
        own.place = Place.WITHIN
        self.wholes[own] = whole

    def in_place(self, source: SSAValue, target: SSAValue) -> bool:
        """Whether moving `source` to `target` needs no copy, as both are the same memory."""
        return (
            self.cell(source) is self.cell(target)
            and self.cell(source).place is not Place.FOREIGN
            and source not in self.partial
            and target not in self.partial
        )

    # ------ roots and cells

    def _find_roots(self) -> None:
        for argument in self.body.args:
            self._add_root(argument)
        for op in self.body.walk():
            source = viewed(op, self.sizes)
            if source is not None:
                result = op.results[0]
                self.roots[result] = self.roots[source]
                if source in self.partial or not isinstance(op, WHOLE_VIEWS):
                    self.partial.add(result)
                continue
            for result in op.results:
                self._add_root(result)
            for region in op.regions:
                for block in region.blocks:
                    for argument in block.args:
                        self._add_root(argument)

    def _add_root(self, value: SSAValue) -> None:
        if isinstance(value.type, TensorType):
            self.roots[value] = value

    def _make_cells(self) -> None:
        ranges: dict[SSAValue, list[Range]] = {}
        for value, root in self.roots.items():
            ranges.setdefault(root, []).append((self.live.defined(root), self.live.last_read(value)))
        for root, extra in self._written():
            ranges[root].append(extra)
        for root, given in ranges.items():
            cell = Cell(self._place(root), self.bytes_of(root), merged(given))
            self.cells[root] = cell
            self.members[cell] = [root]
        for op in self.body.walk():
            for first, second in forced(op):
                if isinstance(first.type, TensorType):
                    self._join(self.cells[first], self.cells[second])

    def _written(self) -> Iterator[tuple[SSAValue, Range]]:
        """Where the results of regions and what loops carry are written, beside where they appear."""
        for op in self.body.walk():
            if isinstance(op, (scf.YieldOp, scf.ConditionOp)):
                moment = (self.live.begin[op], self.live.end[op])
                for _, target in moves(op):
                    if isinstance(target.type, TensorType):
                        yield target, moment

    def _place(self, root: SSAValue) -> Place:
        if root.owner is self.body or isinstance(root.owner, arith.ConstantOp):
            return Place.FOREIGN
        return Place.ARENA if self.sizes.planned(root) else Place.HEAP

    def bytes_of(self, value: SSAValue) -> Bytes:
        """The size of a tensor value in bytes."""
        assert isinstance(value.type, TensorType)
        constant, factors = element_bytes(value.type.element_type), Counter[Size]()
        pending = list(self.sizes.of(value))
        while pending:
            size = pending.pop()
            if isinstance(size, int):
                constant *= size
            elif isinstance(size, Product):
                pending.extend(size.factors)
            else:
                self.sizes.number(size)
                factors[size] += 1
        return constant, frozenset(factors.items()) if constant else frozenset()

    # ------ sharing

    def _wishes(self) -> Iterator[Wish]:
        depth: dict[Operation, int] = {}
        for op in self.body.walk():
            parent = op.parent_op()
            depth[op] = depth.get(parent, 0) + isinstance(parent, LOOPS) if parent else 0
            for first, second, urgency in self._wished(op):
                yield Wish(first, second, op, 10 * depth[op] + urgency)

    def _wished(self, op: Operation) -> Iterator[tuple[SSAValue, SSAValue, int]]:
        """Pairs that would need a copy at this op if they had different memory, with an urgency below 10."""
        pairs: list[tuple[SSAValue, SSAValue, int]] = []
        if isinstance(op, (scf.YieldOp, scf.ConditionOp)):
            pairs += [(source, target, 9) for source, target in moves(op)]
        elif isinstance(op, scf.ForOp):
            pairs += [(a, b, 5) for a, b in zip(op.iter_args, op.body.block.args[1:], strict=True)]
        elif isinstance(op, scf.WhileOp):
            pairs += [(a, b, 5) for a, b in zip(op.arguments, op.before_region.block.args, strict=True)]
        elif isinstance(op, tensor.InsertSliceOp):
            pairs.append((op.dest, op.result, 7))
        elif isinstance(op, tile.LaunchOp):
            pairs += [(op.inputs[operand], op.outputs[0], 3) for operand in self._overwritable(op)]
        yield from (pair for pair in pairs if isinstance(pair[0].type, TensorType))

    def _overwritable(self, op: tile.LaunchOp) -> list[int]:
        """The operands over which a launch may write its result."""
        name = op.kernel.root_reference.data
        found = self._inplace.get(name)
        if found is None:
            found = self._inplace[name] = overwritable(self.sizes.kernels[name])
        return found

    def _grant_all(self, wishes: Iterable[Wish]) -> None:
        for wish in wishes:
            self._grant(wish)

    def _grant(self, wish: Wish) -> None:
        """Join two cells, if they are apart in time but for the ops where one may take over from the other."""
        a, b = self.cells[self.roots[wish.first]], self.cells[self.roots[wish.second]]
        if a is b or a.place is not Place.ARENA or b.place is not Place.ARENA or a.bytes != b.bytes:
            return
        touching = [moment for other in self._between(a, b) if (moment := self._moment(other)) is not None]
        if self._moment(wish) is not None and not overlapping(a.ranges, b.ranges, merged(touching)):
            self._join(a, b)

    def _between(self, a: Cell, b: Cell) -> Iterator[Wish]:
        """The wishes that connect two cells."""
        fewer, more = sorted((a, b), key=lambda cell: len(self.members[cell]))
        for root in self.members[fewer]:
            for wish in self._wishes_of.get(root, ()):
                ends = {self.cells[self.roots[wish.first]], self.cells[self.roots[wish.second]]}
                if ends == {fewer, more}:
                    yield wish

    def _moment(self, wish: Wish) -> Range | None:
        """When the life of one side may touch the other's; None where they must not share memory."""
        if wish.first in self.partial or wish.second in self.partial:
            return None
        begin, end = self.live.begin[wish.op], self.live.end[wish.op]
        if wish.op.regions:
            return begin, begin
        if not isinstance(wish.op, (scf.YieldOp, scf.ConditionOp)):
            # Read through another operand too, the old elements would be gone too early.
            cell, safe = self.cell(wish.first), self._safe_operands(wish.op)
            for number, value in enumerate(wish.op.operands):
                if isinstance(value.type, TensorType) and self._memory(value) is cell and number not in safe:
                    return None
        return begin, end

    def _memory(self, value: SSAValue) -> Cell:
        """The cell that a value's memory is part of, or all of."""
        cell = self.cell(value)
        return self.cell(self.wholes[cell]) if cell in self.wholes else cell

    def _safe_operands(self, op: Operation) -> list[int]:
        """The operands that an op has read, at each place, before it writes there."""
        if isinstance(op, tile.LaunchOp):
            return self._overwritable(op)
        return [list(op.operands).index(op.dest)] if isinstance(op, tensor.InsertSliceOp) else []

    def _join(self, a: Cell, b: Cell) -> None:
        if a is b:
            return
        a.ranges = merged(a.ranges + b.ranges)
        a.output = a.output if a.output is not None else b.output
        for root in self.members.pop(b):
            self.cells[root] = a
            self.members[a].append(root)

    def _set_aside(self, op: Operation) -> None:
        pairs = [
            (index, source, target)
            for index, (source, target) in enumerate(moves(op))
            if isinstance(target.type, TensorType)
            and self.cell(target).place is not Place.HEAP
            and not self.in_place(source, target)
        ]
        overwritten = {self.cell(target) for _, _, target in pairs}
        for index, source, target in pairs:
            if self.cell(source) in overwritten:
                moment = (self.live.begin[op], self.live.end[op])
                self.aside[op, index] = Cell(Place.ARENA, self.bytes_of(target), [moment])

    def _place_results(self) -> None:
        """Let each returned tensor be computed in the caller's buffer, where nobody else claimed its cell."""
        last = terminator(self.body)
        for index, value in enumerate(last.operands):
            if not isinstance(value.type, TensorType) or value in self.partial:
                continue
            cell = self.cell(value)
            if cell.place is Place.ARENA:
                cell.place, cell.output = Place.OUTPUT, index
                self.results[index] = value


def viewed(op: Operation, sizes: Sizes) -> SSAValue | None:
    """The tensor that an op's result is a view of; None where the result has elements of its own."""
    if isinstance(op, WHOLE_VIEWS):
        return op.operands[0]
    if isinstance(op, tensor.ExtractSliceOp) and contiguous(op, sizes):
        return op.source
    return None


def contiguous(op: tensor.ExtractSliceOp | tensor.InsertSliceOp, sizes: Sizes) -> bool:
    """Whether a slice's elements lie side by side: at most one dimension is cut, and all before it have size 1."""
    if any(stride != 1 for stride in op.static_strides.get_values()):
        return False
    whole = sizes.of(op.source if isinstance(op, tensor.ExtractSliceOp) else op.dest)
    part = sizes.mixed(op.static_sizes, op.sizes)
    offsets = op.static_offsets.get_values()
    cut = max((axis for axis in range(len(whole)) if part[axis] != whole[axis] or offsets[axis] != 0), default=0)
    return all(size == 1 for size in part[:cut])


def moves(op: Operation) -> Iterator[tuple[SSAValue, SSAValue]]:
    """Where the operands of a region's terminator go: pairs of an operand and the value that takes it over."""
    parent = op.parent_op()
    if isinstance(op, scf.ConditionOp):
        assert isinstance(parent, scf.WhileOp)
        yield from zip(op.operands[1:], parent.results, strict=True)
    elif isinstance(op, scf.YieldOp):
        targets: Sequence[SSAValue] = parent.results if parent is not None else ()
        if isinstance(parent, scf.ForOp):
            targets = parent.body.block.args[1:]
        elif isinstance(parent, scf.WhileOp):
            targets = parent.before_region.block.args
        yield from zip(op.operands, targets, strict=True)


def forced(op: Operation) -> Iterator[tuple[SSAValue, SSAValue]]:
    """Values that are one by nature: what a loop carries and what it leaves."""
    if isinstance(op, scf.ForOp):
        yield from zip(op.body.block.args[1:], op.results, strict=True)
    elif isinstance(op, scf.WhileOp):
        yield from zip(op.after_region.block.args, op.results, strict=True)
