"""Operands of a product where the register tile wants them: copied side by side, or asked for ahead of time.

    PackB        a block of B's columns in panels:  [nc / nr][k][nr]
    StageA       the rows of a register tile:       [mr][k + padding]
    NextPanels   the panels that the next block of work reads, on their way to the second-level cache
    NextRows     rows of a B that is read in place
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from xdsl.dialects import memref, vector

from stepwell.lowering.tile_to_loops.choose import width
from stepwell.lowering.tile_to_loops.evaluate import Stage
from stepwell.lowering.tile_to_loops.nest import Nest, Range
from stepwell.lowering.tile_to_loops.polynomial import LANE, ZERO, Poly
from stepwell.lowering.tile_to_loops.transpose import transposed

if TYPE_CHECKING:
    from stepwell.lowering.tile_to_loops.matmul import Writer

PADDING = 16
"""Elements between staged rows, so that they do not fall on the same cache lines' sets."""

FIRST_LEVEL, SECOND_LEVEL = 3, 2
"""The locality of a prefetch into a cache."""

ROWS_AHEAD = 8
"""How many rows of B further down are asked for, where they are so far apart that the processor does not do it."""


class PackB:
    """Copies a block of columns to scratch, nr of them together, and lets the contraction read there."""

    def __init__(self, writer: Writer, nr: int, nc: int, contiguous: bool) -> None:
        self.writer, self.nr, self.nc, self.contiguous = writer, nr, nc, contiguous
        self.evaluator, self.emitter = writer.evaluator, writer.emitter
        assert writer.k_total is not None
        self.k = writer.k_total
        self.first = ZERO
        self.operand = writer.product.dims.rhs
        element = writer.element(self.operand)
        self.memory = writer.frame.scratch(element, self.k * nc, width(element) // 8)
        self.n_dim = next(d for d, a in writer.product.axis_of.items() if a == writer.n_axis)

    def attach(self, nest: Nest) -> None:
        """Before the loops of each block of work."""
        nest.prologue = self.pack

    def place(self, dims: Sequence[Poly]) -> Poly:
        """Where the element of a point of the contraction lies."""
        column = dims[self.n_dim] - self.first
        start = column.without(LANE)
        panel, inside = self.emitter.quotient(start, self.nr), self.emitter.remainder(start, self.nr)
        lane = Poly.of(LANE) * column.coefficient(LANE)
        return panel * (self.nr * self.k) + self.writer.k_flat(dims) * self.nr + inside + lane

    def pack(self, ranges: list[Range]) -> None:
        """Copy the columns of a block."""
        first, last = ranges[self.writer.n_axis]
        self.first = first
        panels = self.emitter.quotient(last - first + (self.nr - 1), self.nr)
        point = [ZERO] * self.writer.node.rank
        for dim, axis in self.writer.product.axis_of.items():
            if axis != self.writer.n_axis:
                point[dim] = ranges[axis][0]
        self.evaluator.stages.pop((self.writer.node.op, self.operand), None)
        if self.contiguous:
            self._rows(point, first, panels, last)
        else:
            with self.emitter.loop(ZERO, panels) as loop:
                panel = self.emitter.atom(loop.variable)
                self._columns(point, first + panel * self.nr, panel, last)
        self.evaluator.stages[(self.writer.node.op, self.operand)] = Stage(self.memory, self.place)

    def _whole(self, last: Poly) -> bool:
        """Whether every panel is full."""
        size = self.writer.space.sizes[self.writer.n_axis].constant
        return size is not None and size % self.nr == 0

    def _rows(self, point: list[Poly], first: Poly, panels: Poly, last: Poly) -> None:
        """Rows of B are contiguous: each is copied vector by vector, and one further down is asked for."""
        evaluator, emitter, lanes = self.evaluator, self.emitter, self.evaluator.vector_lanes
        masked = not self._whole(last)
        dims = self.writer.product.dims.k
        with self.writer.k_loops(dims, point) as k, emitter.loop(ZERO, panels) as loop:
            panel = emitter.atom(loop.variable)
            column = first + panel * self.nr
            there = self.writer.inside(point, self.n_dim, column, self.nr)
            if there is not None:
                further = point[dims[-1]] + ROWS_AHEAD
                there[dims[-1]] = emitter.minimum(further, self.writer.k_sizes[-1] - 1)
                self.writer.prefetch(self.operand, there, self.nr, FIRST_LEVEL)
            for offset in range(0, self.nr, lanes):
                at = column + offset
                if masked:
                    evaluator.mask = emitter.mask(emitter.scalar(last - at), lanes)
                point[self.n_dim] = at + Poly.of(LANE)
                value = emitter.broadcast(self.writer.read(self.operand, point), lanes)
                evaluator.mask = None
                target = panel * (self.nr * self.k) + k * self.nr + offset
                emitter.effect(vector.StoreOp, (value, self.memory, emitter.scalar(target)))

    def _columns(self, point: list[Poly], column: Poly, panel: Poly, last: Poly) -> None:
        """Columns of B are contiguous: blocks are transposed; the columns after the last repeat it."""
        evaluator, emitter, lanes = self.evaluator, self.emitter, self.evaluator.vector_lanes
        inner = self.writer.product.dims.k[-1]
        size = self.writer.k_sizes[-1].constant
        assert size is not None
        whole = self._whole(last)

        def row(number: int) -> Poly:
            at = column + number
            return at if whole else emitter.minimum(at, last - 1)

        with self.writer.k_loops(self.writer.product.dims.k[:-1], point) as base:
            start = panel * (self.nr * self.k) + base * (size * self.nr)
            if size >= lanes:
                with emitter.loop(ZERO, Poly.of(size // lanes)) as loop:
                    step = emitter.atom(loop.variable) * lanes
                    for offset in range(0, self.nr, lanes):
                        vectors = []
                        for lane in range(lanes):
                            point[self.n_dim], point[inner] = row(offset + lane), step + Poly.of(LANE)
                            vectors.append(self.writer.read(self.operand, point))
                        for lane, value in enumerate(transposed(emitter, vectors)):
                            target = start + (step + lane) * self.nr + offset
                            emitter.effect(vector.StoreOp, (value, self.memory, emitter.scalar(target)))
            if size % lanes:
                evaluator.lanes = 1
                with emitter.loop(Poly.of(size // lanes * lanes), Poly.of(size)) as loop:
                    point[inner] = emitter.atom(loop.variable)
                    for number in range(self.nr):
                        point[self.n_dim] = row(number)
                        target = start + point[inner] * self.nr + number
                        value = self.writer.read(self.operand, point)
                        emitter.effect(memref.StoreOp, (value, self.memory, emitter.scalar(target)))
                evaluator.lanes = lanes


class StageA:
    """Copies the rows of a register tile to scratch, side by side, and lets the contraction read there."""

    def __init__(self, writer: Writer, rows: int, axis: int) -> None:
        self.writer, self.rows = writer, rows
        self.evaluator, self.emitter = writer.evaluator, writer.emitter
        assert writer.k_total is not None
        self.operand = writer.product.dims.lhs
        element = writer.element(self.operand)
        self.stride = -(-writer.k_total // PADDING) * PADDING + PADDING
        self.memory = writer.frame.scratch(element, rows * self.stride, width(element) // 8)
        self.dim = next(d for d, a in writer.product.axis_of.items() if a == axis)
        self.axis = axis
        self.first = ZERO

    def attach(self, nest: Nest) -> None:
        """Where a tile of rows has been chosen."""
        self.nest = nest
        nest.on_tile[self.axis] = self.copy

    def place(self, dims: Sequence[Poly]) -> Poly:
        """Where the element of a point of the contraction lies."""
        return (dims[self.dim] - self.first) * self.stride + self.writer.k_flat(dims)

    def copy(self, indices: list[Poly], chosen: dict[int, list[Poly]]) -> None:
        """Copy the rows of a tile."""
        evaluator, emitter, lanes, writer = self.evaluator, self.emitter, self.evaluator.vector_lanes, self.writer
        self.first = indices[0]
        evaluator.stages.pop((writer.node.op, self.operand), None)
        point = [ZERO] * writer.node.rank
        for dim, axis in writer.product.axis_of.items():
            if axis in chosen:
                point[dim] = chosen[axis][0]
        inner, size = writer.product.dims.k[-1], writer.k_sizes[-1].constant
        assert size is not None
        with writer.k_loops(writer.product.dims.k[:-1], point) as base:
            for low, high, width_ in ((0, size // lanes, lanes), (size // lanes * lanes, size, 1)):
                if low == high:
                    continue
                evaluator.lanes = width_
                with emitter.loop(Poly.of(low), Poly.of(high)) as loop:
                    step = emitter.atom(loop.variable) * width_
                    for number, row in enumerate(indices):
                        point[self.dim] = row
                        point[inner] = step + Poly.of(LANE) if width_ > 1 else step
                        value = writer.read(self.operand, point)
                        evaluator.store(value, self.memory, base * size + point[inner] + number * self.stride)
                evaluator.lanes = lanes
        evaluator.stages[(writer.node.op, self.operand)] = Stage(self.memory, self.place)


class NextPanels:
    """While a block of work goes over its panels of B, row tile by row tile, the panels of the next block are asked
    for: in each iteration of the loop over k a few lines, each tile of rows others. So all the time of a block hides
    how long its successor's panels take, where the processor itself would look ahead by a page at most.

    Every tile of rows goes over all k steps of all panels, so line l of an iteration's worth of lines is asked for by
    row tile l / `each`.
    """

    def __init__(
        self, writer: Writer, rows: int, row_axis: int, axis: int, step: int, last: Poly, columns: int
    ) -> None:
        """Tiles of `rows` along `row_axis`; blocks of `step` along `axis`, on which the last panel begins at `last`;
        `columns` in a panel."""
        self.writer, self.evaluator, self.emitter = writer, writer.evaluator, writer.emitter
        self.rows, self.row_axis, self.step, self.last, self.columns = rows, row_axis, step, last, columns
        self.operand = writer.product.dims.rhs
        dim_of = {a: d for d, a in writer.product.axis_of.items()}
        self.row_dim, self.dim, self.column_dim = dim_of[row_axis], dim_of[axis], dim_of[writer.n_axis]
        self.first_row = ZERO

    def attach(self, nest: Nest, tiles: int | None) -> None:
        """Into the loop over k. `tiles`: how many tiles of rows a block has, where that is known."""
        plan = self.evaluator.plans[self.writer.node.op]
        self.per_line = self.writer.per_line(self.operand)
        self.lines = max(1, plan.unroll * self.columns // self.per_line)
        self.each = -(-self.lines // tiles) if tiles else 1
        nest.prologue = self.begin
        self.evaluator.plans[self.writer.node.op] = replace(plan, ahead=self.ask)

    def begin(self, ranges: list[Range]) -> None:
        """A block of work."""
        self.first_row = ranges[self.row_axis][0]

    def ask(self, point: Sequence[Poly]) -> None:
        """For the lines of one iteration, from the first point of a register tile and its first step of k."""
        emitter = self.emitter
        tile = emitter.quotient(point[self.row_dim] - self.first_row, self.rows)
        line = emitter.minimum(emitter.remainder(tile * self.each, self.lines), Poly.of(self.lines - self.each))
        there = list(point)
        there[self.column_dim] = ZERO
        there[self.dim] = emitter.minimum(point[self.dim].without(LANE) + self.step, self.last)
        self.writer.prefetch(self.operand, there, self.each * self.per_line, SECOND_LEVEL, line * self.per_line)


class NextRows:
    """B is read in place and its rows lie far apart: those that come some steps later are asked for."""

    def __init__(self, writer: Writer, columns: int) -> None:
        self.writer, self.columns = writer, columns
        self.operand = writer.product.dims.rhs
        self.n_dim = next(d for d, a in writer.product.axis_of.items() if a == writer.n_axis)

    def attach(self) -> None:
        """Into the loop over k."""
        plans, op = self.writer.evaluator.plans, self.writer.node.op
        plans[op] = replace(plans[op], ahead=self.ask)

    def ask(self, point: Sequence[Poly]) -> None:
        """For the steps of a later iteration."""
        writer = self.writer
        there = writer.inside(point, self.n_dim, point[self.n_dim].without(LANE), self.columns)
        if there is None:
            return
        inner, unroll = writer.product.dims.k[-1], writer.evaluator.plans[writer.node.op].unroll
        first = writer.emitter.minimum(point[inner] + ROWS_AHEAD, writer.k_sizes[-1] - unroll)
        for step in range(unroll):
            there[inner] = first + step
            writer.prefetch(self.operand, there, self.columns, FIRST_LEVEL)
