"""Kernels that reduce rows, and what is elementwise around them: softmax, layer norm, sums, extrema.

    row = block * groups + thread / group                  a group of threads per row: part of a warp, or the block
    maximum = the group's, over x[row, lane], x[row, lane + group], ...
    for the same columns: y[row, column] = ...
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from math import prod

from xdsl.dialects.builtin import TensorType, i1
from xdsl.ir import Operation, SSAValue

from stepwell.dialects.upstream import core
from stepwell.lowering.gpu.evaluate import ACCESS_BYTES, stored_bytes
from stepwell.lowering.gpu.frame import Frame
from stepwell.lowering.gpu.groups import EQUAL, Group, merged, over_share
from stepwell.lowering.gpu.pointwise import unflatten
from stepwell.lowering.linalg.structure import reduction
from stepwell.lowering.tile_to_loops.accesses import Walk, along_plan
from stepwell.lowering.tile_to_loops.bodies import has_branches
from stepwell.lowering.tile_to_loops.choose import accesses_of, merge_axes
from stepwell.lowering.tile_to_loops.evaluate import Evaluator, Point
from stepwell.lowering.tile_to_loops.graph import Node
from stepwell.lowering.tile_to_loops.nest import Space, is_empty, spaces_of
from stepwell.lowering.tile_to_loops.polynomial import ONE, ZERO, Atom, Poly

THREADS = 128
"""Threads of a block whose warps have rows of their own."""

PER_THREAD = 4
"""Elements of a row for which one more thread pays."""

MANY_ROWS = 128
"""So many rows keep a GPU busy with a warp each."""

WARP_ROW = 1024
"""Rows longer than this have a block each."""


class RowSpace:
    """Results of one shape: which axes number the rows, and which the elements of a row."""

    def __init__(self, frame: Frame, space: Space) -> None:
        self.space = space
        found, atoms, walk = accesses_of(frame.evaluator, space)
        merge_axes(space, found, atoms)
        self.nodes = [node for node in frame.graph.nodes.values() if node.op in walk.reduced]
        rows = row_axes(self.nodes, atoms, walk)
        wide = [axis for axis, size in enumerate(space.sizes) if size.constant != 1]
        self.outer = [axis for axis in wide if axis in rows]
        self.inner = [axis for axis in wide if axis not in rows]
        read = [access.place for access in found.found if not access.written]
        self.contiguous = not self.inner or all(
            place.coefficient(atoms[self.inner[-1]]).constant in (0, 1) for place in read
        )
        """Whether neighbouring elements of a row are neighbours, or one element, wherever they are read."""

    @property
    def row_sizes(self) -> list[Poly]:
        """The sizes of the axes that number the rows."""
        return [self.space.sizes[axis] for axis in self.outer]


def row_axes(nodes: Sequence[Node], atoms: Sequence[Atom], walk: Walk) -> set[int]:
    """The axes on which the reductions depend."""
    points = [walk.points[node.op][dim] for node in nodes for dim in node.parallel]
    return {axis for axis, atom in enumerate(atoms) if any(point.has(atom) for point in points)}


def rows(frame: Frame) -> bool:
    """Writes a kernel of row reductions; False where it is none, or threads are better used otherwise."""
    spaces = [RowSpace(frame, space) for space in spaces_of(frame.evaluator, frame.outputs) if not is_empty(space)]
    if not spaces or not all(space.nodes for space in spaces):
        return False
    first = spaces[0].row_sizes
    if any(space.row_sizes != first for space in spaces):
        return False
    nodes: dict[Operation, Node] = {node.op: node for space in spaces for node in space.nodes}
    if not all(is_along_row(frame.evaluator, node) for node in nodes.values()):
        return False
    lengths = [row_length(frame.evaluator, node) for node in nodes.values()]
    threads = group_size(lengths, first, frame.device.block)
    if threads == 1:
        return False
    Rows(frame, spaces, lengths, threads).write()
    return True


def is_along_row(evaluator: Evaluator, node: Node) -> bool:
    """Whether neighbouring threads would read neighbours, and the combination is known."""
    known = reduction(node.op) is not None and not has_branches(node.body)
    return known and along_plan(evaluator, node) is not None


def row_length(evaluator: Evaluator, node: Node) -> int | None:
    """How many elements a reduction combines, where that is static."""
    total = ONE
    for _, size in merged(evaluator, node):
        total = total * size
    return total.constant


def group_size(lengths: Sequence[int | None], row_sizes: Sequence[Poly], most: int) -> int:
    """How many threads have a row: a power of two. Where it is not known how long rows are, few rows are taken to
    be long ones."""
    known = [length for length in lengths if length is not None]
    if len(known) < len(lengths):
        count = prod(size.constant if size.constant is not None else MANY_ROWS for size in row_sizes)
        return 32 if count >= MANY_ROWS else 256
    longest = max(known)
    wanted = 1 << max(0, -(-longest // PER_THREAD) - 1).bit_length() if longest else 1
    return min(wanted, 32) if longest <= WARP_ROW else min(most, max(128, wanted // 2))


class Rows:
    """Writes one kernel."""

    def __init__(
        self, frame: Frame, spaces: Sequence[RowSpace], lengths: Sequence[int | None], threads: int
    ) -> None:
        self.frame, self.spaces, self.threads = frame, spaces, threads
        frame.threads = max(threads, THREADS) if threads <= frame.device.warp else threads
        self.groups = frame.threads // threads
        self.width = self._width(lengths)

    def _width(self, lengths: Sequence[int | None]) -> int:
        """Neighbours that a thread takes at once: as many as rows are multiples of and as keep all threads busy."""
        tensors = [*self.frame.graph.block.args, *self.frame.graph.roots]
        kinds = [tensor.type for tensor in tensors]
        widest = max(stored_bytes(kind.element_type) for kind in kinds if isinstance(kind, TensorType))
        width = ACCESS_BYTES // widest
        fits = all(
            length is not None and length % width == 0 and length >= width * self.threads for length in lengths
        )
        return width if fits and all(space.contiguous for space in self.spaces) else 1

    def write(self) -> None:
        """All rows."""
        frame, emitter = self.frame, self.frame.emitter
        sizes = self.spaces[0].row_sizes
        total = ONE
        for size in sizes:
            total = total * size
        frame.blocks([(total, self.groups)])
        of_block = "a block" if self.groups == 1 else f"{self.threads} threads"
        frame.decide(f"rows: {of_block} per row, {self.width} neighbouring elements at once")
        thread = frame.thread()
        row = frame.block_number() * self.groups + emitter.quotient(thread, self.threads)
        valid = None
        if total.constant is None or total.constant % self.groups != 0:
            # Threads without a row of their own do the last one again, so that whole warps exchange.
            valid = frame.below(row, total)
            row = emitter.minimum(row, total - 1)
        index = unflatten(frame, row, sizes)
        lane = emitter.remainder(thread, self.threads)
        atoms = frozenset(atom for position in index for atom in position.atoms())
        group = Group(frame, self.threads, lane, self.width, valid, atoms)
        frame.evaluator.reductions.append(group.reduce)
        for space in self.spaces:
            self._write_space(space, group, index)

    def _write_space(self, rows: RowSpace, group: Group, index: Sequence[Poly]) -> None:
        frame, emitter, space = self.frame, self.frame.emitter, rows.space
        at = [ZERO] * space.rank
        for axis, position in zip(rows.outer, index, strict=True):
            at[axis] = position
        if not rows.inner:
            first = emitter.emit(core.CmpiOp, (emitter.scalar(group.lane), emitter.index(0)), i1, EQUAL)
            self._store(space, [tuple(at)], group.valid, first)
            return
        sizes = [space.sizes[axis] for axis in rows.inner]
        total = ONE
        for size in sizes:
            total = total * size

        def store(places: list[Poly], condition: SSAValue | None) -> None:
            points = []
            for place in places:
                point = list(at)
                for axis, position in zip(rows.inner, unflatten(frame, place, sizes), strict=True):
                    point[axis] = position
                points.append(tuple(point))
            self._store(space, points, group.valid, condition)

        over_share(group, total, store)

    def _store(self, space: Space, points: Sequence[Point], *conditions: SSAValue | None) -> None:
        """Some results, written where all conditions hold, and computed in any case: all threads of a group take
        part in its reductions."""
        evaluator = self.frame.evaluator
        found = [(value, memory, evaluator.evaluate(value, points)) for value, memory in space.results]
        with ExitStack() as stack:
            for condition in conditions:
                if condition is not None:
                    stack.enter_context(self.frame.emitter.when(condition))
            for value, memory, values in found:
                evaluator.store_all(values, memory, [evaluator.flat(value, point) for point in points])
