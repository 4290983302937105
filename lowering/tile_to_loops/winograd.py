"""Winograd convolutions on blocked channels in one pass: a unit of work stays in one core's cache.

    for each unit: some rows and columns of tiles of one image, some blocks of output channels (threads share units)
      for each block of input channels, each row of tiles
        copy the rows of the image that it needs, with the border, to scratch
        for each tile: transform its a x a inputs                                V [a * a][c][tile][b]
      for each of the a * a products, each `cob` blocks of output channels, each `tiles` tiles:
        accumulators, loop over input channels                                   P [a * a][block][tile][b]
      for each block of output channels, each tile:
        transform its products to m x m results, epilogue, store

Lanes run along the channels of a block. The image is read where it is: its border exists in scratch only.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from xdsl.dialects import arith
from xdsl.dialects.builtin import Float32Type, i1
from xdsl.ir import SSAValue

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.upstream import core
from stepwell.lowering.analysis.winograd import product
from stepwell.lowering.analysis.winograd_cost import filters_stream
from stepwell.lowering.linalg.shapes import shape_of
from stepwell.lowering.tile_to_loops.evaluate import Plan, Stage
from stepwell.lowering.tile_to_loops.frame import Frame
from stepwell.lowering.tile_to_loops.packing import SECOND_LEVEL
from stepwell.lowering.tile_to_loops.polynomial import LANE, ZERO, Poly
from stepwell.lowering.tile_to_loops.vector_arithmetic import arithmetic
from stepwell.lowering.tile_to_loops.winograd_units import Form, Unit, division_of, recognise, unit_count

MULTIPLY_ADDS = 64
"""How many an iteration of a product's innermost loop may have."""

COPIED = 4
"""Vectors of a row of the image that are copied at once."""

PADDING = 1
"""Vectors between the parts of scratch for one of the a * a products and the next, so that they do not fall on the
same cache lines' sets."""

F32 = Float32Type()


def winograd(frame: Frame) -> None:
    """Writes a kernel that is one Winograd convolution and an epilogue. Raises UnsupportedError where it is not."""
    form = recognise(frame)
    if form is None:
        raise UnsupportedError(
            f"kernel {frame.kernel.sym_name.data} has the template winograd, but is no transform of an image, product, "
            "transform of results, and elementwise ops on these"
        )
    Writer(frame, form).write()


class Writer:
    """Writes one kernel."""

    def __init__(self, frame: Frame, form: Form) -> None:
        self.frame, self.form, self.problem = frame, form, form.problem
        self.evaluator, self.emitter = frame.evaluator, frame.emitter
        self.algorithm, self.m, self.a = form.algorithm, form.algorithm.m, form.algorithm.a
        self.division = division_of(frame, form)
        self.block = self.problem.block
        self.evaluator.vector_lanes = self.evaluator.lanes = self.block
        tiles = self.division.rows * self.division.columns
        self.tiles = -(-tiles // self.division.tiles) * self.division.tiles
        self.strip_width = self.m * self.division.columns + self.a - self.m
        self.numbers = arithmetic(self.emitter, self.emitter.vector_type(F32, self.block))
        self.strip = self._scratch(self.a, self.strip_width)
        self.half = self._scratch(self.a, self.a)
        self.input_stride = self.problem.inputs * self.tiles + PADDING
        self.product_stride = self.division.blocks * self.tiles + PADDING
        self.inputs = self._scratch(self.a, self.a, self.input_stride)
        self.products = self._scratch(self.a, self.a, self.product_stride)
        self.first_output = ZERO
        self.part = self._scratch(self.m, self.m) if self._is_ragged() else None

    def _scratch(self, *sizes: int) -> SSAValue:
        return self.frame.scratch(F32, prod(sizes) * self.block, 4)

    def _is_ragged(self) -> bool:
        return bool(self.problem.height % self.m or self.problem.width % self.m)

    def write(self) -> None:
        """All units."""
        self._plan()
        count = Poly.of(unit_count(self.form, self.division))
        with self.emitter.parallel(count, self.frame.shared) as number:
            unit = Unit(self.emitter, self.form, self.division, self.emitter.atom(number))
            self._transform_inputs(unit)
            self._multiply(unit)
            self._transform_results(unit)

    def _plan(self) -> None:
        """How products are computed: from the transformed inputs in scratch, several channels at once."""
        op = self.form.products.op
        c, k = self.form.products.reduced
        accumulators = self.division.tiles * self.division.cob
        unroll = max(u for u in (1, 2, 4, 8) if u == 1 or (self.block % u == 0 and u * accumulators <= MULTIPLY_ADDS))
        streamed = filters_stream(self.problem, self.a, self.frame.target)
        self.evaluator.plans[op] = Plan((c, k), unroll, ahead=self._look_ahead if streamed else None)
        self.evaluator.stages[(op, 0)] = Stage(self.inputs, self._input_place)

    # ------ memory

    def _load(self, memory: SSAValue, vector: Poly) -> SSAValue:
        """A vector of scratch, by its number."""
        return self.evaluator.load(memory, vector * self.block + Poly.of(LANE), written=True)

    def _store(self, value: SSAValue, memory: SSAValue, vector: Poly) -> None:
        self.evaluator.store(value, memory, vector * self.block + Poly.of(LANE))

    def _zero(self) -> SSAValue:
        return self.emitter.number(0.0, self.emitter.vector_type(F32, self.block))

    def _input_place(self, dims: Sequence[Poly]) -> Poly:
        """Where a transformed input lies, by the loops of the products. Those that are equal in a unit are not
        looked at: the number of the product is in q, that of the tile in x."""
        _, q, _, _, _, x, _, c, k = dims
        return (q * self.input_stride + c * self.tiles + x) * self.block + k

    # ------ inputs

    def _transform_inputs(self, unit: Unit) -> None:
        emitter = self.emitter
        left = unit.column * self.m - self.form.offsets[1]
        wide = unit.columns * self.m + (self.a - self.m)
        low, high = self._bounds(left, wide, shape_of(self.form.image)[3])
        self._clear_border(low, high, wide)
        self._clear_rest(unit)
        with emitter.loop(ZERO, Poly.of(self.problem.inputs)) as outer, emitter.loop(ZERO, unit.rows) as inner:
            channel, row = emitter.atom(outer.variable), emitter.atom(inner.variable)
            with emitter.loop(ZERO, Poly.of(self.a)) as loop:
                number = emitter.atom(loop.variable)
                y = (unit.row + row) * self.m + number - self.form.offsets[0]
                self._copy_row((unit.image, channel, y, left), number * self.strip_width, (low, high))
            with emitter.loop(ZERO, unit.columns) as loop:
                column = emitter.atom(loop.variable)
                self._transform_tile(channel, row * unit.columns + column, column)

    def _bounds(self, first: Poly, count: Poly, size: int) -> tuple[Poly, Poly]:
        """Which of `count` indices from `first` on are within a dimension: from, to."""
        low, high = first * -1, Poly.of(size) - first
        if low.constant is not None:
            low = Poly.of(max(0, low.constant))
        elif self.form.offsets[1] == 0:
            low = ZERO
        else:
            emitter = self.emitter
            low = emitter.atom(emitter.emit(arith.MaxSIOp, (emitter.scalar(low), emitter.index(0)), emitter.index(0).type))
        return low, self.emitter.minimum(high, count)

    def _clear_border(self, low: Poly, high: Poly, wide: Poly) -> None:
        """The columns of the strip that lie outside of the image are the same for all rows: cleared once."""
        emitter = self.emitter
        for first, last in ((ZERO, low), (high, wide)):
            if (last - first).constant == 0:
                continue
            with emitter.loop(ZERO, Poly.of(self.a)) as rows, emitter.loop(first, last) as columns:
                place = emitter.atom(rows.variable) * self.strip_width + emitter.atom(columns.variable)
                self._store(self._zero(), self.strip, place)

    def _clear_rest(self, unit: Unit) -> None:
        """Tiles after the last that the products compute all the same: numbers there take no time that others would
        not take."""
        emitter, count = self.emitter, unit.rows * unit.columns
        if count.constant == self.tiles:
            return
        with (
            emitter.loop(ZERO, Poly.of(self.a**2)) as products,
            emitter.loop(ZERO, Poly.of(self.problem.inputs)) as channels,
            emitter.loop(count, Poly.of(self.tiles)) as rest,
        ):
            number, channel, tile = (emitter.atom(loop.variable) for loop in (products, channels, rest))
            self._store(self._zero(), self.inputs, number * self.input_stride + channel * self.tiles + tile)

    def _copy_row(self, place: tuple[Poly, Poly, Poly, Poly], into: Poly, columns: tuple[Poly, Poly]) -> None:
        """A row of the image, or zeros where it has none, into the strip."""
        image, channel, y, left = place
        emitter = self.emitter
        size = shape_of(self.form.image)[2]
        above = emitter.less(emitter.scalar(y), emitter.index(0))
        below = emitter.less(emitter.index(size - 1), emitter.scalar(y))
        outside = emitter.emit(arith.OrIOp, (above, below), i1)
        inside = emitter.emit(arith.XOrIOp, (outside, emitter.number(1, i1)), i1)

        def copy(start: Poly, count: int) -> None:
            points = [(image, channel, y, left + start + i, Poly.of(LANE)) for i in range(count)]
            for i, value in enumerate(self.evaluator.evaluate(self.form.image, points)):
                self._store(value, self.strip, into + start + i)

        with emitter.when(inside):
            low, high = columns
            whole = emitter.quotient(high - low, COPIED)
            with emitter.loop(ZERO, whole) as loop:
                copy(low + emitter.atom(loop.variable) * COPIED, COPIED)
            with emitter.loop(low + whole * COPIED, high) as loop:
                copy(emitter.atom(loop.variable), 1)
        with emitter.when(outside), emitter.loop(*columns) as loop:
            self._store(self._zero(), self.strip, into + emitter.atom(loop.variable))

    def _transform_tile(self, channel: Poly, tile: Poly, column: Poly) -> None:
        """Rows of a tile first, then its columns."""
        emitter, a, matrix = self.emitter, self.a, self.algorithm.input
        with emitter.loop(ZERO, Poly.of(a)) as loop:
            row = emitter.atom(loop.variable)
            given = [self._load(self.strip, row * self.strip_width + column * self.m + j) for j in range(a)]
            for number, value in enumerate(product(matrix, given, self.numbers)):
                self._store(value, self.half, row * a + number)
        with emitter.loop(ZERO, Poly.of(a)) as loop:
            q = emitter.atom(loop.variable)
            given = [self._load(self.half, q + i * a) for i in range(a)]
            for p, value in enumerate(product(matrix, given, self.numbers)):
                place = (q + p * a) * self.input_stride + channel * self.tiles + tile
                self._store(value, self.inputs, place)

    # ------ products

    def _multiply(self, unit: Unit) -> None:
        """Filters are read from one end to the other; the transformed inputs of one product stay in the first-level
        cache meanwhile."""
        emitter, node = self.emitter, self.form.products
        self.first_output = unit.output
        size, blocks, cob = self.division.tiles, self.division.blocks, self.division.cob
        groups = emitter.quotient(unit.rows * unit.columns + (size - 1), size)
        with (
            emitter.loop(ZERO, Poly.of(self.a**2)) as products,
            emitter.loop(ZERO, Poly.of(blocks // cob)) as outer,
            emitter.loop(ZERO, groups) as inner,
        ):
            number = emitter.atom(products.variable)
            block, first = emitter.atom(outer.variable) * cob, emitter.atom(inner.variable) * size
            dims = [
                [ZERO, number, ZERO, unit.output + block + k, ZERO, first + tile, Poly.of(LANE), ZERO, ZERO]
                for tile in range(size)
                for k in range(cob)
            ]
            for point, (value,) in zip(dims, self.evaluator.evaluate_node(node, dims), strict=True):
                place = number * self.product_stride + (point[3] - unit.output) * self.tiles + point[5]
                self._store(value, self.products, place)

    def _look_ahead(self, point: Sequence[Poly]) -> None:
        """Asks for the filters of the blocks of output channels that come next, while these are multiplied: the
        processor itself looks ahead by a page at most. `point` is the first of a register tile. In each iteration as
        many lines are asked for as are read; the register tiles of one block ask for different ones."""
        emitter, node, evaluator = self.emitter, self.form.products, self.evaluator
        _, number, _, output, _, tile, _, c, k = point
        blocks, cob, first_output = self.division.blocks, self.division.cob, self.first_output
        following = number * blocks + (output - first_output) + cob
        number = emitter.remainder(emitter.quotient(following, blocks), self.a**2)
        output = first_output + emitter.remainder(following, blocks)
        value = node.inputs[1]
        lines = cob * evaluator.plans[node.op].unroll
        each = -(-lines // (self.tiles // self.division.tiles))
        first = emitter.remainder(emitter.quotient(tile, self.division.tiles) * each, lines)
        step = (c * self.block + k) * cob + first
        start = evaluator.flat(value, [ZERO, number, output, ZERO, ZERO, ZERO]) + step * self.block
        for line in range(each):
            place = emitter.scalar(start + line * self.block)
            properties = core.prefetch_properties(False, SECOND_LEVEL)
            emitter.effect(core.PrefetchOp, (evaluator.memories[value], place), (), properties)

    # ------ results

    def _transform_results(self, unit: Unit) -> None:
        emitter = self.emitter
        with (
            emitter.loop(ZERO, Poly.of(self.division.blocks)) as blocks,
            emitter.loop(ZERO, unit.rows) as rows,
            emitter.loop(ZERO, unit.columns) as columns,
        ):
            k, row, column = (emitter.atom(loop.variable) for loop in (blocks, rows, columns))
            lines = self._results_of_tile(k, row * unit.columns + column)
            y, x = (unit.row + row) * self.m, (unit.column + column) * self.m
            place = (unit.image, unit.output + k, y, x)
            if self.part is None:
                self._finish(place, lines)
            else:
                self._finish_ragged(place, lines, self.part)

    def _results_of_tile(self, k: Poly, tile: Poly) -> list[list[SSAValue]]:
        """The m rows of m results."""
        a, matrix = self.a, self.algorithm.output
        half = []
        for q in range(a):
            places = [k * self.tiles + tile + (p * a + q) * self.product_stride for p in range(a)]
            half.append(product(matrix, [self._load(self.products, place) for place in places], self.numbers))
        return [product(matrix, [half[q][i] for q in range(a)], self.numbers) for i in range(self.m)]

    def _finish(self, place: tuple[Poly, Poly, Poly, Poly], lines: Sequence[Sequence[SSAValue]]) -> None:
        """Epilogue and store of whole rows of results."""
        image, block, y, x = place
        for i, line in enumerate(lines):
            points = [(image, block, y + i, x + j, Poly.of(LANE)) for j in range(len(line))]
            for point, value in zip(points, line, strict=True):
                self.evaluator.provide(self.form.results, point, value)
            for value, memory in self.frame.outputs:
                for point, result in zip(points, self.evaluator.evaluate(value, points), strict=True):
                    self.evaluator.store(result, memory, self.evaluator.flat(value, point))

    def _finish_ragged(
        self, place: tuple[Poly, Poly, Poly, Poly], lines: Sequence[Sequence[SSAValue]], part: SSAValue
    ) -> None:
        """The same where tiles may reach beyond the result: those go through scratch, point by point."""
        emitter, m = self.emitter, self.m
        image, block, y, x = place
        high, wide = Poly.of(self.problem.height) - y, Poly.of(self.problem.width) - x
        beyond = [emitter.less(emitter.scalar(size), emitter.index(m)) for size in (high, wide)]
        partial = emitter.emit(arith.OrIOp, beyond, i1)
        whole = emitter.emit(arith.XOrIOp, (partial, emitter.number(1, i1)), i1)
        with emitter.when(whole):
            self._finish(place, lines)
        with emitter.when(partial):
            for i, line in enumerate(lines):
                for j, value in enumerate(line):
                    self._store(value, part, Poly.of(i * m + j))
            with emitter.loop(ZERO, emitter.minimum(high, Poly.of(m))) as rows:
                down = emitter.atom(rows.variable)
                with emitter.loop(ZERO, emitter.minimum(wide, Poly.of(m))) as columns:
                    right = emitter.atom(columns.variable)
                    value = self._load(part, down * m + right)
                    self._finish((image, block, y + down, x + right), [[value]])
