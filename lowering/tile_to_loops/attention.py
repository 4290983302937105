"""Attention in one pass over keys and values; scores never leave a core's cache.

    for each unit: some queries of one batch and head (threads share units)
      copy the queries to scratch, transposed                                     Q [depth][query]
      for each block of keys (causal: of those that some query of the unit takes notice of)
        for each tile of keys and vectors of queries:
          accumulators, loop over depth, mask; the largest so far                 P [key][query]
        for each key: weights exp(score - largest), their total                   P [key][query]
        for each tile of queries and columns: accumulators, loop over the block's keys, over what
        there was, made smaller by as much as the largest has grown               O [query][column]
      divide by the totals, store where the result lies

Lanes run along queries in the first product, so that rows of keys are read in place and the softmax needs no sums
across lanes; along columns in the second. Where one block has all keys, results stay in registers until they are
stored. M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", 2018; T. Dao et al., "FlashAttention",
2022.

What a query takes no notice of for its position is skipped by blocks: Inf and NaN there reach no result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import arith
from xdsl.ir import SSAValue

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.lowering.analysis.registers import register_tile
from stepwell.lowering.linalg.attention_form import Attention, attention
from stepwell.lowering.linalg.attention_reach import reach
from stepwell.lowering.tile_to_loops.attention_softmax import Softmax, Statistics
from stepwell.lowering.tile_to_loops.attention_unit import Unit, value_lanes
from stepwell.lowering.tile_to_loops.frame import Frame
from stepwell.lowering.tile_to_loops.polynomial import LANE, ONE, ZERO, Poly
from stepwell.lowering.tile_to_loops.transpose import transposed

Values = list[SSAValue]

UNROLL = 4
"""Steps of a product in an iteration of its loop."""

ONE_WIDE = 12
"""Keys of a tile that is one vector wide."""


def attend(frame: Frame) -> None:
    """Writes a kernel that is one attention. Raises UnsupportedError where it is not."""
    found = [form for op in frame.graph.nodes if (form := attention(op)) is not None]
    if len(found) != 1:
        raise UnsupportedError(
            f"kernel {frame.kernel.sym_name.data} has the template attention, but is not softmax(q k^T) v and "
            "elementwise ops in between"
        )
    Writer(frame, found[0]).write()


class Writer:
    """Writes one kernel."""

    def __init__(self, frame: Frame, form: Attention) -> None:
        self.frame, self.form = frame, form
        self.evaluator, self.emitter = frame.evaluator, frame.emitter
        self.unit = unit = Unit(frame, form)
        self.evaluator.vector_lanes = self.evaluator.lanes = unit.lanes
        registers = frame.target.registers
        self.wide = min(unit.vectors, 4 if registers >= 32 else 2)
        self.high = max(1, (registers - self.wide - 1) // self.wide)
        self.value_lanes = value_lanes(unit.columns, unit.lanes)
        self.tile, self.group = register_tile(unit.rows, unit.columns, self.value_lanes, registers)
        self.reach = reach(form)
        self.queries = unit.scratch(unit.depth, unit.rows)
        self.stride = unit.rows + unit.lanes
        self.weights = unit.scratch(unit.block, self.stride)
        self.in_one = unit.keys.constant is not None and unit.keys.constant <= unit.block
        self.sums = None if self.in_one else unit.scratch(unit.rows, unit.columns)
        statistics = Statistics.of(unit, self.in_one)
        self.softmax = Softmax(frame, form, unit, statistics, self.reach, self.weights, self.stride)

    def write(self) -> None:
        """All units."""
        with self.emitter.parallel(self.unit.count, self.frame.shared) as number:
            self.unit.begin(self.emitter.atom(number))
            self._copy_queries()
            self.softmax.begin()
            keys = self._keys_that_count()
            if self.in_one:
                self._block(ZERO, keys)
            else:
                self._clear()
                with self.emitter.loop(ZERO, self.emitter.quotient(keys + (self.unit.block - 1), self.unit.block)) as loop:
                    first = self.emitter.atom(loop.variable) * self.unit.block
                    self._block(first, self.emitter.minimum(keys - first, Poly.of(self.unit.block)))
                self._finish()

    def _keys_that_count(self) -> Poly:
        """How many keys, from the first on, some query of the unit takes notice of; a multiple of a tile's where there
        are so many."""
        keys, emitter = self.unit.keys, self.emitter
        if self.reach is None:
            return keys
        last = self._positive(self.unit.first + (self.unit.rows + self.reach.ahead + self.high - 1))
        return emitter.minimum(emitter.quotient(last, self.high) * self.high, keys)

    def _positive(self, number: Poly) -> Poly:
        """A number, or 0 where it is smaller."""
        zero = self.emitter.index(0)
        return self.emitter.atom(self.emitter.emit(arith.MaxSIOp, (self.emitter.scalar(number), zero), zero.type))

    def _block(self, first: Poly, count: Poly) -> None:
        """One block of keys."""
        self._vectors(lambda vector, width: self._weigh(vector, width, first, count))
        self._add_values(first, count)

    def _vectors(self, write: Callable[[Poly, int], None]) -> None:
        """For the unit's vectors of queries, several at once."""
        emitter, count, wide = self.emitter, self.unit.vectors_here, self.wide
        whole = emitter.quotient(count, wide)
        self._repeat(whole, lambda i: write(i * wide, wide))
        rest = count - whole * wide
        if rest.constant is not None and rest.constant:
            write(whole * wide, rest.constant)
        elif rest.constant is None:
            self._repeat(rest, lambda i: write(whole * wide + i, 1))

    def _repeat(self, count: Poly, body: Callable[[Poly], None]) -> None:
        if count.constant == 1:
            body(ZERO)
        elif count.constant != 0:
            with self.emitter.loop(ZERO, count) as loop:
                body(self.emitter.atom(loop.variable))

    # ------ queries

    def _copy_queries(self) -> None:
        """Squares of queries and depth are transposed; what is left of the depth is copied one by one."""
        emitter, unit, lanes = self.emitter, self.unit, self.unit.lanes
        whole = unit.depth // lanes
        with emitter.loop(ZERO, unit.vectors_here) as loop:
            first = emitter.atom(loop.variable) * lanes
            rows = [unit.row(first + lane) for lane in range(lanes)]
            if whole:
                with emitter.loop(ZERO, Poly.of(whole)) as inner:
                    step = emitter.atom(inner.variable) * lanes
                    given = [unit.query(row, step + Poly.of(LANE)) for row in rows]
                    given = [emitter.broadcast(value, lanes) for value in given]
                    for lane, value in enumerate(transposed(emitter, given)):
                        self.evaluator.store(value, self.queries, (step + lane) * unit.rows + first + Poly.of(LANE))
            if unit.depth % lanes:
                self.evaluator.lanes = 1
                with emitter.loop(Poly.of(whole * lanes), Poly.of(unit.depth)) as inner:
                    step = emitter.atom(inner.variable)
                    for lane, row in enumerate(rows):
                        self.evaluator.store(unit.query(row, step), self.queries, step * unit.rows + first + lane)
                self.evaluator.lanes = lanes

    # ------ scores and weights

    def _weigh(self, vector: Poly, width: int, first: Poly, count: Poly) -> None:
        """The weights of a block of keys for some vectors of queries."""
        emitter = self.emitter
        high = self.high if width == self.wide else min(ONE_WIDE, max(1, (self.frame.target.registers - 2 * width) // width))
        largest = self.softmax.largest_so_far(vector, width)
        whole, free = emitter.quotient(count, high), ZERO
        if self.reach is not None:
            free = emitter.quotient(self._free_keys(vector, first, count), high)
        for low, last, is_free in ((ZERO, free, True), (free, whole, False)):
            if last.constant == 0:
                continue
            self.softmax.is_free = is_free
            with emitter.loop(low, last, largest) as loop:
                key = emitter.atom(loop.variable) * high
                loop.yields = self._tile_of_scores(vector, width, first, [key + i for i in range(high)], loop.carried)
            largest = loop.results
        rest = count - whole * high
        if rest.constant is None:
            with emitter.loop(whole * high, count, largest) as loop:
                key = emitter.atom(loop.variable)
                loop.yields = self._tile_of_scores(vector, width, first, [key], loop.carried)
            largest = loop.results
        elif rest.constant:
            keys = [whole * high + i for i in range(rest.constant)]
            largest = self._tile_of_scores(vector, width, first, keys, largest)
        self.softmax.weigh(vector, width, count, largest)

    def _free_keys(self, vector: Poly, first: Poly, count: Poly) -> Poly:
        """How many keys of a block all queries from a vector on take notice of."""
        assert self.reach is not None
        seen = self.unit.first + vector * self.unit.lanes + (self.reach.ahead + 1) - first
        return self._positive(self.emitter.minimum(seen, count))

    def _tile_of_scores(
        self, vector: Poly, width: int, first: Poly, keys: Sequence[Poly], largest: Sequence[SSAValue]
    ) -> Values:
        """Scores of some keys (from the block's first on) and vectors of queries; the largest of each query."""
        unit, emitter, lanes = self.unit, self.emitter, self.unit.lanes
        columns = [(vector + w) * lanes + Poly.of(LANE) for w in range(width)]

        def left(step: Poly) -> Values:
            return [emitter.broadcast(unit.key(first + key, step), lanes) for key in keys]

        def right(step: Poly) -> Values:
            return [self.evaluator.load(self.queries, step * unit.rows + column, written=True) for column in columns]

        zero = unit.number(0.0, lanes)
        scores = self._product(Poly.of(unit.depth), [zero] * (len(keys) * width), left, right)
        found = list(largest)
        for i, key in enumerate(keys):
            for w, column in enumerate(columns):
                value = self.softmax.masked(scores[i * width + w], column, first + key)
                found[w] = self.softmax.larger(value, found[w])
                self.evaluator.store(value, self.weights, key * self.stride + column)
        return found

    def _product(
        self, steps: Poly, start: Values, left: Callable[[Poly], Values], right: Callable[[Poly], Values]
    ) -> Values:
        """start + the sum over all steps of the products of each on the left with each on the right."""
        emitter = self.emitter

        def step(number: Poly, sums: Values) -> Values:
            rows, columns = left(number), right(number)
            return [
                emitter.multiply_add(a, b, sums[i * len(columns) + j])
                for i, a in enumerate(rows)
                for j, b in enumerate(columns)
            ]

        unroll = UNROLL if steps.constant is None else min(UNROLL, max(1, steps.constant))
        whole = emitter.quotient(steps, unroll)
        with emitter.loop(ZERO, whole, start) as loop:
            sums, base = loop.carried, emitter.atom(loop.variable) * unroll
            for number in range(unroll):
                sums = step(base + number, sums)
            loop.yields = sums
        sums = loop.results
        rest = steps - whole * unroll
        if rest.constant is None:
            with emitter.loop(whole * unroll, steps, sums) as loop:
                loop.yields = step(emitter.atom(loop.variable), loop.carried)
            return loop.results
        for number in range(rest.constant):
            sums = step(whole * unroll + number, sums)
        return sums

    # ------ values

    def _add_values(self, first: Poly, count: Poly) -> None:
        """The block's part of the result: tiles of queries times groups of columns."""
        lanes = self.value_lanes
        self.evaluator.lanes = self.evaluator.vector_lanes = lanes
        vectors = self.unit.columns // lanes
        whole = vectors // self.group

        def columns(start: Poly, group: int) -> None:
            self._tiles_of_rows(lambda rows: self._tile_of_result(rows, start, group, first, count))

        self._repeat(Poly.of(whole), lambda i: columns(i * (self.group * lanes), self.group))
        if vectors % self.group:
            columns(Poly.of(whole * self.group * lanes), vectors % self.group)
        self.evaluator.lanes = self.evaluator.vector_lanes = self.unit.lanes

    def _tiles_of_rows(self, write: Callable[[Sequence[Poly]], None]) -> None:
        """For the unit's queries, a tile at a time."""
        emitter, rows, tile = self.emitter, self.unit.rows_here, self.tile
        whole = emitter.quotient(rows, tile)
        self._repeat(whole, lambda i: write([i * tile + r for r in range(tile)]))
        rest = rows - whole * tile
        if rest.constant is None:
            self._repeat(rest, lambda i: write([whole * tile + i]))
        elif rest.constant:
            write([whole * tile + r for r in range(rest.constant)])

    def _tile_of_result(self, rows: Sequence[Poly], column: Poly, group: int, first: Poly, count: Poly) -> None:
        """Weights times values over a block of keys."""
        unit, evaluator, emitter, lanes = self.unit, self.evaluator, self.emitter, self.value_lanes
        columns = [column + g * lanes + Poly.of(LANE) for g in range(group)]

        def left(step: Poly) -> Values:
            loaded = [evaluator.load(self.weights, step * self.stride + row, written=True) for row in rows]
            return [emitter.broadcast(value, lanes) for value in loaded]

        def right(step: Poly) -> Values:
            return [emitter.broadcast(unit.value(first + step, c), lanes) for c in columns]

        start = [unit.number(0.0, lanes)] * (len(rows) * group)
        if self.sums is not None:
            start = []
            for row in rows:
                factor = emitter.broadcast(self.softmax.shrinking(row), lanes)
                for c in columns:
                    before = evaluator.load(self.sums, row * unit.columns + c, written=True)
                    start.append(unit.multiply(before, factor))
        sums = self._product(count, start, left, right)
        for i, row in enumerate(rows):
            for j, c in enumerate(columns):
                value = sums[i * group + j]
                if self.sums is not None:
                    evaluator.store(value, self.sums, row * unit.columns + c)
                else:
                    self._store(value, row, c)

    def _clear(self) -> None:
        """Sums over no keys."""
        assert self.sums is not None
        unit, lanes = self.unit, self.unit.lanes
        with self.emitter.loop(ZERO, Poly.of(unit.rows * unit.columns // lanes)) as loop:
            place = self.emitter.atom(loop.variable) * lanes + Poly.of(LANE)
            self.evaluator.store(unit.number(0.0, lanes), self.sums, place)

    def _finish(self) -> None:
        """Results from the sums over all keys."""
        assert self.sums is not None
        unit, lanes = self.unit, self.value_lanes
        self.evaluator.lanes = self.evaluator.vector_lanes = lanes
        with self.emitter.loop(ZERO, unit.rows_here) as loop:
            row = self.emitter.atom(loop.variable)
            for number in range(unit.columns // lanes):
                column = ONE * (number * lanes) + Poly.of(LANE)
                self._store(self.evaluator.load(self.sums, row * unit.columns + column, written=True), row, column)
        self.evaluator.lanes = self.evaluator.vector_lanes = unit.lanes

    def _store(self, value: SSAValue, row: Poly, column: Poly) -> None:
        """A vector of sums, scaled, where it belongs."""
        factor = self.emitter.broadcast(self.softmax.factor(row), self.value_lanes)
        self.unit.store(self.unit.multiply(value, factor), row, column)
