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

from xdsl.dialects.builtin import TensorType
from xdsl.ir import SSAValue

from stepwell.lowering.gpu.evaluate import stored_bytes
from stepwell.lowering.gpu.frame import Frame
from stepwell.lowering.gpu.staging import Stage
from stepwell.lowering.gpu.tiles import NEIGHBOURS, Side, choose_tile, spread
from stepwell.lowering.linalg.structure import reduction
from stepwell.lowering.tile_to_loops.graph import Node
from stepwell.lowering.tile_to_loops.matmul import Product, recognise
from stepwell.lowering.tile_to_loops.polynomial import ONE, ZERO, Poly
from stepwell.lowering.tile_to_loops.reduce import neutral


def matmul(frame: Frame) -> bool:
    """Writes a kernel that is one contraction and an epilogue; False where it is not."""
    product = recognise(frame.evaluator, frame.outputs)
    if product is None or reduction(product.node.op) is None:
        return False
    Writer(frame, product).write()
    return True


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
        kinds = [value.type for value in (*self.node.op._operands, *self.node.op.results)]
        widest = max(stored_bytes(kind.element_type) for kind in kinds if isinstance(kind, TensorType))
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
