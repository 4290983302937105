"""Matrix products: a block computes a tile of the result, a thread a smaller one in its registers.

    for each slice of `depth` steps of the contraction:
      all threads copy a slice of A and one of B to shared memory       (padded with zeros at the end)
      barrier
      for k in the slice: sums[i][j] += A[k][rows of the thread] * B[k][columns of the thread]
      barrier
    for each row and group of columns: epilogue, store

Whatever the operands are (transposed, broadcast, computed from others), their elements are asked from the
evaluator; threads copy along the axis that is contiguous. Rows and columns beyond the end repeat the last one and
are not stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, SSAValue

from stepwell.lowering.gpu.evaluate import ACCESS_BYTES, stored_bytes
from stepwell.lowering.gpu.frame import Frame
from stepwell.lowering.gpu.pointwise import unflatten
from stepwell.lowering.linalg.structure import reduction
from stepwell.lowering.tile_to_loops.accesses import Walk, symbolic
from stepwell.lowering.tile_to_loops.graph import Node
from stepwell.lowering.tile_to_loops.matmul import Product, recognise
from stepwell.lowering.tile_to_loops.polynomial import ONE, ZERO, Atom, Poly
from stepwell.lowering.tile_to_loops.reduce import neutral

ASSUMED = 512
"""What a size counts as that is only known at run time."""

NEIGHBOURS = 4
"""Columns, or rows, of a thread that lie side by side."""


@dataclass(frozen=True)
class Tile:
    """Rows and columns of a block, steps of a slice, rows and columns of a thread (a power of two)."""

    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int

    @property
    def threads(self) -> int:
        return self.rows // self.thread_rows * (self.columns // self.thread_columns)


LARGE, MIDDLE, SMALL = Tile(128, 128, 8, 8, 8), Tile(64, 64, 16, 4, 4), Tile(16, 64, 16, 1, 4)
WIDE = Tile(64, 32, 16, 4, 2)
"""For elements of 8 bytes, of which registers hold half as many."""

ENOUGH_BLOCKS = 128
"""So many blocks keep a GPU busy: larger tiles only where there are as many of them."""


def choose_tile(rows: int, columns: int, batches: int, element_bytes: int) -> Tile:
    """The largest tile that fits, also into registers, and leaves work for all processors."""
    for tile in (LARGE, MIDDLE) if element_bytes <= 4 else (WIDE,):
        blocks = -(-rows // tile.rows) * -(-columns // tile.columns) * batches
        if rows >= tile.rows // 2 and columns >= tile.columns // 2 and (tile is not LARGE or blocks >= ENOUGH_BLOCKS):
            return tile
    return SMALL


def matmul(frame: Frame) -> bool:
    """Writes a kernel that is one contraction and an epilogue; False where it is not."""
    product = recognise(frame.evaluator, frame.outputs)
    if product is None or reduction(product.node.op) is None:
        return False
    Writer(frame, product).write()
    return True


class Side:
    """The rows (A's), columns (B's) or batches: axes of the result, and the loops of the contraction over them."""

    def __init__(self, product: Product, axes: Sequence[int]) -> None:
        self.axes = [axis for axis in axes if product.space.sizes[axis].constant != 1]
        self.sizes = [product.space.sizes[axis] for axis in self.axes]
        self.total = ONE
        for size in self.sizes:
            self.total = self.total * size

    @property
    def known(self) -> int:
        """The number of rows, for decisions."""
        return prod(size.constant if size.constant is not None else ASSUMED for size in self.sizes)

    def places(self, frame: Frame, position: Poly) -> dict[int, Poly]:
        """The index along each axis."""
        return dict(zip(self.axes, unflatten(frame, position, self.sizes), strict=True))

    def vectors(self, frame: Frame, unit: Poly, width: int) -> list[dict[int, Poly]]:
        """The same for `width` neighbours; the innermost size is a multiple of them."""
        if width == 1:
            return [self.places(frame, unit)]
        sizes = [*self.sizes[:-1], frame.emitter.quotient(self.sizes[-1], width)]
        index = unflatten(frame, unit, sizes)
        return [
            dict(zip(self.axes, [*index[:-1], index[-1] * width + step], strict=True)) for step in range(width)
        ]

    def is_multiple(self, width: int) -> bool:
        """Whether neighbours, so many at a time, never cross the end of the innermost axis."""
        return bool(self.sizes) and self.sizes[-1].constant is not None and self.sizes[-1].constant % width == 0


class Writer:
    """Writes one product."""

    def __init__(self, frame: Frame, product: Product) -> None:
        self.frame, self.product = frame, product
        self.emitter, self.evaluator = frame.emitter, frame.evaluator
        self.node = product.node
        axis_of, dims = product.axis_of, product.dims
        self.m = Side(product, sorted(axis_of[d] for d in dims.m))
        self.n = Side(product, sorted(axis_of[d] for d in dims.n))
        of_tile = {*self.m.axes, *self.n.axes}
        self.batch = Side(product, [axis for axis in range(product.space.rank) if axis not in of_tile])
        self.k_sizes = [self.evaluator.size(self.node.op, d) for d in dims.k]
        self.k = ONE
        for size in self.k_sizes:
            self.k = self.k * size
        widest = max(stored_bytes(v.type.element_type) for v in (*self.node.op._operands, *self.node.op.results))  # type: ignore[attr-defined]
        self.tile = choose_tile(self.m.known, self.n.known, self.batch.known, widest)
        frame.threads = self.tile.threads

    def write(self) -> None:
        """All of it."""
        frame, emitter, tile = self.frame, self.emitter, self.tile
        frame.blocks([(self.batch.total, 1), (self.m.total, tile.rows), (self.n.total, tile.columns)])
        frame.decide(
            f"matmul: a block computes {tile.rows} x {tile.columns}, a thread {tile.thread_rows} x "
            f"{tile.thread_columns}, {tile.depth} steps of the contraction at a time"
        )
        block = frame.block_number()
        self.columns_at, block = self._part(block, self.n, tile.columns)
        self.rows_at, block = self._part(block, self.m, tile.rows)
        self.batches = self.batch.places(frame, block)
        a = Stage(self, self.product.dims.lhs, self.m, self.rows_at, tile.rows)
        b = Stage(self, self.product.dims.rhs, self.n, self.columns_at, tile.columns)
        sums = self._start()
        slices = emitter.quotient(self.k + (tile.depth - 1), tile.depth)
        with emitter.loop(ZERO, slices, sums) as loop:
            first = emitter.atom(loop.variable)
            loaded = [(stage, stage.read(first)) for stage in (a, b)]
            frame.barrier()
            for stage, values in loaded:
                stage.keep(values)
            frame.barrier()
            with emitter.loop(ZERO, Poly.of(tile.depth), loop.carried) as inner:
                inner.yields = self._multiply(a, b, emitter.atom(inner.variable), inner.carried)
            frame.unroll()
            loop.yields = inner.results
        self._store(loop.results)

    def _part(self, block: Poly, side: Side, size: int) -> tuple[Poly, Poly]:
        """(this block's tile along a side, what is left of the block's number)."""
        emitter = self.emitter
        count = emitter.quotient(side.total + (size - 1), size)
        if count.constant is not None:
            return emitter.remainder(block, count.constant), emitter.quotient(block, count.constant)
        left, tile = emitter.divided(block, count)
        return tile, left

    # ------ sums

    def _start(self) -> list[SSAValue]:
        """What each sum starts from: the initial value where it is one number, else what changes nothing."""
        init = self.node.inits[0]
        if init in self.evaluator.graph.fills:
            rank = init.type.get_num_dims() if isinstance(init.type, TensorType) else 0
            value = self.evaluator.evaluate(init, [(ZERO,) * rank])[0]
        else:
            combiners = reduction(self.node.op)
            assert combiners is not None
            kind = self.node.op.results[0].type.element_type  # type: ignore[attr-defined]
            value = self.emitter.number(neutral(type(combiners[0].op), kind), kind)
        return [value] * (self.tile.thread_rows * self.tile.thread_columns)

    def _multiply(self, a: Stage, b: Stage, k: Poly, sums: Sequence[SSAValue]) -> list[SSAValue]:
        tile = self.tile
        rows = a.fetch(k, [self.row(i) for i in range(tile.thread_rows)])
        columns = b.fetch(k, [self.column(j) for j in range(tile.thread_columns)])
        dims = [ZERO] * self.node.rank
        found = []
        for number, total in enumerate(sums):
            i, j = divmod(number, tile.thread_columns)
            arguments: list[SSAValue] = [total] * 3
            arguments[self.product.dims.lhs], arguments[self.product.dims.rhs] = rows[i], columns[j]
            found += self.evaluator.run_body(self.node, dims, arguments)
        return found

    def row(self, number: int) -> Poly:
        """The place in the tile of a row of this thread."""
        columns = self.tile.columns // self.tile.thread_columns
        first = self.emitter.quotient(self.frame.thread(), columns)
        return spread(first, number, self.tile.rows // self.tile.thread_rows, self.tile.thread_rows)

    def column(self, number: int) -> Poly:
        """The place in the tile of a column of this thread."""
        columns = self.tile.columns // self.tile.thread_columns
        first = self.emitter.remainder(self.frame.thread(), columns)
        return spread(first, number, columns, self.tile.thread_columns)

    # ------ the end

    def _store(self, sums: Sequence[SSAValue]) -> None:
        """Epilogue and stores, row by row, a group of neighbouring columns at a time."""
        tile, emitter = self.tile, self.emitter
        group = min(NEIGHBOURS, tile.thread_columns)
        group = group if self.n.is_multiple(group) else 1
        for i in range(tile.thread_rows):
            row = self.rows_at * tile.rows + self.row(i)
            with ExitStack() as of_row:
                self._guard(of_row, row, self.m.total, tile.rows)
                rows = self.m.places(self.frame, row)
                for j in range(0, tile.thread_columns, group):
                    column = self.columns_at * tile.columns + self.column(j)
                    with ExitStack() as of_columns:
                        self._guard(of_columns, column, self.n.total, tile.columns)
                        unit = emitter.quotient(column, group)
                        first = i * tile.thread_columns + j
                        indices = self.n.vectors(self.frame, unit, group)
                        self._points([{**self.batches, **rows, **c} for c in indices], sums[first : first + group])

    def _guard(self, stack: ExitStack, position: Poly, total: Poly, size: int) -> None:
        """Only where a position is inside; nothing to ask where tiles fit exactly."""
        if total.constant is None or total.constant % size != 0:
            stack.enter_context(self.emitter.when(self.frame.below(position, total)))

    def _points(self, indices: Sequence[dict[int, Poly]], sums: Sequence[SSAValue]) -> None:
        """The results at some points, whose sums are known."""
        evaluator, space = self.evaluator, self.product.space
        points = [tuple(index.get(axis, ZERO) for axis in range(space.rank)) for index in indices]
        known: dict[tuple[object, ...], SSAValue] = {}
        for index, total in zip(indices, sums, strict=True):
            known[self._key(self.loops(index))] = total

        def given(node: Node, dims: Sequence[list[Poly]]) -> list[list[SSAValue]] | None:
            return [[self._with_init(known[self._key(point)], point)] for point in dims] if node is self.node else None

        evaluator.reductions.append(given)
        found = [(value, memory, evaluator.evaluate(value, points)) for value, memory in space.results]
        evaluator.reductions.pop()
        for value, memory, values in found:
            evaluator.store_all(values, memory, [evaluator.flat(value, point) for point in points])

    def _key(self, point: Sequence[Poly]) -> tuple[object, ...]:
        return tuple(point[dim].key for dim in self.node.parallel)

    def _with_init(self, total: SSAValue, point: Sequence[Poly]) -> SSAValue:
        """The sum and what the result held before."""
        evaluator, init = self.evaluator, self.node.inits[0]
        if init in evaluator.graph.fills:
            return total
        index = tuple(evaluator.affine(e, point) for e in self.node.result_map(0).results)
        combiners = reduction(self.node.op)
        assert combiners is not None
        op = combiners[0].op
        before = evaluator.evaluate(init, [index])[0]
        return self.emitter.emit(type(op), (total, before), total.type, op.properties)

    def loops(self, index: dict[int, Poly]) -> list[Poly]:
        """A point of the contraction's loops from the index along the result's axes; summed loops are 0."""
        point = [ZERO] * self.node.rank
        for dim, axis in self.product.axis_of.items():
            point[dim] = index.get(axis, ZERO)
        return point


def spread(first: Poly, number: int, threads: int, each: int) -> Poly:
    """The place of a thread's row or column: groups of neighbours, one group of every thread after the other, so
    that the threads of a warp read all banks of shared memory at once."""
    near = min(each, NEIGHBOURS)
    group, step = divmod(number, near)
    return first * near + (group * threads * near + step)


class Stage:
    """A slice of an operand in shared memory: [depth][rows or columns of the tile, and some padding]."""

    def __init__(self, writer: Writer, operand: int, side: Side, tile_at: Poly, extent: int) -> None:
        self.writer, self.operand, self.side, self.tile_at, self.extent = writer, operand, side, tile_at, extent
        self.frame, self.evaluator, self.emitter = writer.frame, writer.evaluator, writer.emitter
        self.node, self.depth = writer.node, writer.tile.depth
        self.along_k = self._is_contiguous_along_k()
        self.stride = extent + (NEIGHBOURS if self.along_k else 0)
        self.element = self._element()
        self.width = self._width()
        self.memory = self.frame.shared(self.element, self.depth * self.stride)

    def _element(self) -> Attribute:
        kind = self.node.op._operands[self.operand].type
        assert isinstance(kind, TensorType)
        found: Attribute = kind.element_type
        return found

    def _is_contiguous_along_k(self) -> bool:
        """Whether neighbours along the contraction, and not along the other side, are neighbours in memory."""
        product = self.writer.product
        walk, point = Walk(self.evaluator), product.walk.points[self.node.op]
        map_ = self.node.maps[self.operand]
        walk.value(self.node.op._operands[self.operand], [symbolic(e, point) for e in map_.results])
        k = product.walk.reduced[self.node.op][-1]
        return any(a.place.coefficient(k).constant == 1 for a in walk.result.found) and not any(
            self._steps_by_one(a.place, product.atoms) for a in walk.result.found
        )

    def _steps_by_one(self, place: Poly, atoms: Sequence[Atom]) -> bool:
        return bool(self.side.axes) and place.coefficient(atoms[self.side.axes[-1]]).constant == 1

    def _width(self) -> int:
        """Neighbours that a thread copies at once."""
        width = min(ACCESS_BYTES // stored_bytes(self.element), NEIGHBOURS)
        if self.along_k:
            inner = self.writer.k_sizes[-1].constant
            fits = inner is not None and inner % width == 0 and self.depth % width == 0
        else:
            fits = self.side.is_multiple(width)
        each = self.depth * self.extent // self.frame.threads
        while each % width:
            width //= 2
        return max(width, 1) if fits else 1

    # ------ copying

    def _pieces(self) -> list[tuple[Poly, Poly]]:
        """What this thread copies: (unit of the side, unit of the contraction); neighbours are along one of them."""
        emitter, thread, width = self.emitter, self.frame.thread(), self.width
        inner = (self.depth if self.along_k else self.extent) // width
        found = []
        for step in range(self.depth * self.extent // width // self.frame.threads):
            place = thread + step * self.frame.threads
            low, high = emitter.remainder(place, inner), emitter.quotient(place, inner)
            found.append((high, low) if self.along_k else (low, high))
        return found

    def read(self, number: Poly) -> list[list[SSAValue]]:
        """The elements that this thread copies of slice `number`."""
        return [self._read_piece(number, *piece) for piece in self._pieces()]

    def _read_piece(self, number: Poly, side_unit: Poly, k_unit: Poly) -> list[SSAValue]:
        frame, emitter, writer, width = self.frame, self.emitter, self.writer, self.width
        side_width, k_width = (1, width) if self.along_k else (width, 1)
        side_unit = self.tile_at * (self.extent // side_width) + side_unit
        side_unit, _ = self._inside(side_unit, self.side.total, side_width, self.extent)
        k_unit = number * (self.depth // k_width) + k_unit
        k_unit, inside = self._inside(k_unit, writer.k, k_width, self.depth)
        sides = self.side.vectors(frame, side_unit, side_width)
        steps = self._contraction(k_unit, k_width)
        points = []
        for index in sides:
            for step in steps:
                point = writer.loops({**writer.batches, **index})
                for dim, place in zip(writer.product.dims.k, step, strict=True):
                    point[dim] = place
                points.append(point)
        map_ = self.node.maps[self.operand]
        indices = [tuple(self.evaluator.affine(e, point) for e in map_.results) for point in points]
        values = self.evaluator.evaluate(self.node.op._operands[self.operand], indices)
        if inside is None:
            return values
        zero = emitter.number(0, self.element)
        return [frame.choose(inside, value, zero) for value in values]

    def _inside(self, unit: Poly, total: Poly, width: int, extent: int) -> tuple[Poly, SSAValue | None]:
        """(the unit, or the last one where it is beyond, and the condition that it is not)."""
        if total.constant is not None and total.constant % extent == 0:
            return unit, None
        units = self.emitter.quotient(total, width) if width > 1 else total
        return self.emitter.minimum(unit, units - 1), self.frame.below(unit, units)

    def _contraction(self, unit: Poly, width: int) -> list[list[Poly]]:
        """The loops of the contraction at some neighbouring steps."""
        sizes = list(self.writer.k_sizes)
        if width == 1:
            return [unflatten(self.frame, unit, sizes)]
        sizes[-1] = self.emitter.quotient(sizes[-1], width)
        index = unflatten(self.frame, unit, sizes)
        return [[*index[:-1], index[-1] * width + step] for step in range(width)]

    def keep(self, values: Sequence[Sequence[SSAValue]]) -> None:
        """Write what `read` gave to shared memory."""
        width = self.width
        for (side_unit, k_unit), piece in zip(self._pieces(), values, strict=True):
            if self.along_k:
                places = [(k_unit * width + step) * self.stride + side_unit for step in range(width)]
            else:
                places = [k_unit * self.stride + side_unit * width + step for step in range(width)]
            self.evaluator.store_all(piece, self.memory, places)

    def fetch(self, k: Poly, places: Sequence[Poly]) -> list[SSAValue]:
        """Elements of step k of the slice."""
        return self.evaluator.load_all(self.memory, [k * self.stride + place for place in places], written=True)
