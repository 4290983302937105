"""The softmax of an attention, block of keys by block of keys: masks, largest scores, weights, totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import arith, math
from xdsl.dialects.builtin import IntegerAttr, i1, i64
from xdsl.ir import SSAValue

from stepwell.dialects.upstream import core
from stepwell.lowering.cpu.expand_math import APPROXIMATE
from stepwell.lowering.linalg.attention_form import INFINITY, Attention
from stepwell.lowering.linalg.attention_reach import Reach
from stepwell.lowering.tile_to_loops.attention_unit import Unit
from stepwell.lowering.tile_to_loops.bodies import Body
from stepwell.lowering.tile_to_loops.frame import Frame
from stepwell.lowering.tile_to_loops.polynomial import LANE, ZERO, Poly
from stepwell.lowering.tile_to_loops.vector_arithmetic import PLAIN

Values = list[SSAValue]

EQUAL, GREATER = (IntegerAttr(number, i64) for number in (1, 2))
"""Predicates of arith.cmpf, false for NaN."""


FLUSHED = {"fastmath": APPROXIMATE}
"""Weights so much smaller than the largest one count for nothing, and masked ones are many."""


@dataclass(frozen=True)
class Statistics:
    """Scratch with a number for each query of a unit: the largest score and the total weight so far, what sums are
    multiplied with when the largest has grown, and at last when they are stored. The first three only where there are
    several blocks of keys."""

    largest: SSAValue | None
    total: SSAValue | None
    shrinking: SSAValue | None
    factor: SSAValue

    @staticmethod
    def of(unit: Unit, in_one: bool) -> Statistics:
        """For a unit; `in_one`: one block has all keys."""
        several = [None if in_one else unit.scratch(unit.rows) for _ in range(3)]
        return Statistics(several[0], several[1], several[2], unit.scratch(unit.rows))


class Softmax:
    """Writes the softmax of a unit."""

    def __init__(
        self,
        frame: Frame,
        form: Attention,
        unit: Unit,
        statistics: Statistics,
        reach: Reach | None,
        weights: SSAValue,
        stride: int,
    ) -> None:
        """`weights`: scratch for a block of keys, rows of `stride` elements."""
        self.reach = reach
        self.is_free = False
        """Whether no key is out of reach where scores are being masked."""
        self.frame, self.form, self.unit, self.statistics = frame, form, unit, statistics
        self.evaluator, self.emitter = frame.evaluator, frame.emitter
        self.weights, self.stride = weights, stride
        nodes = frame.graph.nodes
        self.largest_node, self.shares_node = nodes[form.largest], nodes[form.shares]

    def begin(self) -> None:
        """No keys yet."""
        unit, found = self.unit, self.statistics
        if found.largest is None or found.total is None:
            return
        with self.emitter.loop(ZERO, Poly.of(unit.vectors)) as loop:
            place = self.emitter.atom(loop.variable) * unit.lanes + Poly.of(LANE)
            self.evaluator.store(unit.number(-INFINITY, unit.lanes), found.largest, place)
            self.evaluator.store(unit.number(0.0, unit.lanes), found.total, place)

    def _load(self, memory: SSAValue, vector: Poly, width: int) -> Values:
        lanes = self.unit.lanes
        places = [(vector + w) * lanes + Poly.of(LANE) for w in range(width)]
        return [self.evaluator.load(memory, place, written=True) for place in places]

    def _store(self, values: Sequence[SSAValue], memory: SSAValue, vector: Poly) -> None:
        for number, value in enumerate(values):
            self.evaluator.store(value, memory, (vector + number) * self.unit.lanes + Poly.of(LANE))

    # ------ scores

    def masked(self, score: SSAValue, row: Poly, key: Poly) -> SSAValue:
        """What the softmax is taken of, at a score."""
        evaluator, node = self.evaluator, self.largest_node
        evaluator.provide(self.unit.scores_node, self.unit.score_index(row, key), score)
        point = self.unit.softmax_point(row, key)
        arguments = evaluator.arguments_of(node, [point], [[score]])[0]
        body = Body(self.emitter, evaluator.lanes, point, evaluator.outside, evaluator.extract)
        if self.reach is None or self.reach.op is not node.op:
            return self.emitter.broadcast(body.run_to(node.body, arguments, self.form.value), evaluator.lanes)
        value = self.emitter.broadcast(body.run_to(node.body, arguments, self.reach.kept), evaluator.lanes)
        return value if self.is_free else self._within_reach(value, row, key, self.reach.ahead)

    def _within_reach(self, value: SSAValue, row: Poly, key: Poly, ahead: int) -> SSAValue:
        """Minus infinity for the first queries, which come too early for a key."""
        lanes = self.unit.lanes
        hidden = self.emitter.mask(self.emitter.scalar(key - self.unit.first - row.without(LANE) - ahead), lanes)
        nothing = self.unit.number(-INFINITY, lanes)
        return self.emitter.emit(core.SelectOp, (hidden, nothing, value), value.type)

    def largest_so_far(self, vector: Poly, width: int) -> Values:
        """Of all blocks before."""
        if self.statistics.largest is None:
            return [self.unit.number(-INFINITY, self.unit.lanes)] * width
        return self._load(self.statistics.largest, vector, width)

    def larger(self, value: SSAValue, largest: SSAValue) -> SSAValue:
        """The larger of two; of NaN nothing is kept, which finds its way into the total by itself."""
        greater = self._compare(value, largest, GREATER)
        return self.emitter.emit(core.SelectOp, (greater, value, largest), value.type)

    def _compare(self, a: SSAValue, b: SSAValue, predicate: IntegerAttr) -> SSAValue:
        kind = self.emitter.vector_type(i1, self.unit.lanes)
        return self.emitter.emit(core.CmpfOp, (a, b), kind, {"predicate": predicate, **PLAIN})

    # ------ weights

    def weigh(self, vector: Poly, width: int, count: Poly, largest: Sequence[SSAValue]) -> None:
        """Scores of a block become weights; what the statistics say becomes true of this block, too."""
        emitter, lanes = self.emitter, self.unit.lanes
        nothing = self.unit.number(-INFINITY, lanes)
        # Where no key counted so far, a difference of infinities must not become a weight.
        against = [
            emitter.emit(
                core.SelectOp, (self._compare(m, nothing, EQUAL), self.unit.number(0.0, lanes), m), m.type
            )
            for m in largest
        ]
        totals = self._earlier(vector, against)
        with emitter.loop(ZERO, count, totals) as loop:
            row = emitter.atom(loop.variable) * self.stride
            places = [row + (vector + w) * lanes + Poly.of(LANE) for w in range(width)]
            scores = [self.evaluator.load(self.weights, place, written=True) for place in places]
            found = [self._exponential(s, m) for s, m in zip(scores, against, strict=True)]
            for value, place in zip(found, places, strict=True):
                self.evaluator.store(value, self.weights, place)
            loop.yields = [self._add(t, value) for t, value in zip(loop.carried, found, strict=True)]
        if self.statistics.largest is not None and self.statistics.total is not None:
            self._store(largest, self.statistics.largest, vector)
            self._store(loop.results, self.statistics.total, vector)
        self._store([self._factor(total) for total in loop.results], self.statistics.factor, vector)

    def _earlier(self, vector: Poly, against: Sequence[SSAValue]) -> Values:
        """The totals of all blocks before, against what is the largest now."""
        found, width = self.statistics, len(against)
        if found.largest is None or found.total is None or found.shrinking is None:
            return [self.unit.number(0.0, self.unit.lanes)] * width
        before = self._load(found.largest, vector, width)
        factors = [self._exponential(m, now) for m, now in zip(before, against, strict=True)]
        self._store(factors, found.shrinking, vector)
        totals = self._load(found.total, vector, width)
        return [self.unit.multiply(t, f) for t, f in zip(totals, factors, strict=True)]

    def _exponential(self, value: SSAValue, against: SSAValue) -> SSAValue:
        difference = self.emitter.emit(arith.SubfOp, (value, against), value.type, PLAIN)
        return self.emitter.emit(math.ExpOp, (difference,), value.type, FLUSHED)

    def _add(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.emitter.emit(arith.AddfOp, (a, b), a.type, PLAIN)

    def _factor(self, total: SSAValue) -> SSAValue:
        """What weights of a total are multiplied with."""
        evaluator, node = self.evaluator, self.shares_node
        one = self.unit.number(1.0, self.unit.lanes)
        arguments = [one if v is self.form.weights.results[0] else total for v in node.inputs]
        body = Body(self.emitter, self.unit.lanes, (), evaluator.outside, evaluator.extract)
        return body.run(node.body, [*arguments, *(None for _ in node.inits)])[0]

    # ------ of one query

    def shrinking(self, row: Poly) -> SSAValue:
        """What the sums of a query so far are multiplied with."""
        assert self.statistics.shrinking is not None
        return self.evaluator.load(self.statistics.shrinking, row, written=True)

    def factor(self, row: Poly) -> SSAValue:
        """What the sums of a query are multiplied with at the end."""
        return self.evaluator.load(self.statistics.factor, row, written=True)
