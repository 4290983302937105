"""The loops of a reduction.

Two ways. *Across*: every point (or lane) has its own accumulator and the loops step through the reduced
dimensions one by one; used where lanes run along a parallel dimension, and for combiners that are not known.
*Along*: the point is one element, and lanes run along a reduced dimension, in several vectors at once (an
addition takes four cycles); the vectors are combined at the end. The order of additions depends on sizes only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import arith, vector
from xdsl.dialects.builtin import DenseArrayBase, IntegerType, VectorType, i64
from xdsl.ir import Attribute, Operation, SSAValue

from stepwell.dialects.upstream import core
from stepwell.lowering.linalg.structure import Reduction, reduction
from stepwell.lowering.tile_to_loops.accesses import AlongPlan, along_plan
from stepwell.lowering.tile_to_loops.bodies import has_branches
from stepwell.lowering.tile_to_loops.evaluate import Evaluator, Plan
from stepwell.lowering.tile_to_loops.graph import Node
from stepwell.lowering.tile_to_loops.polynomial import LANE, ONE, ZERO, Poly

Accumulators = list[list[SSAValue]]
"""For each point, one value per result."""

INFINITY = float("inf")
ACCUMULATORS = 4
"""Vectors that a reduction along the lanes keeps going at once."""

NEUTRAL: dict[type[Operation], float] = {
    arith.AddfOp: -0.0, arith.AddiOp: 0, arith.MulfOp: 1, arith.MuliOp: 1,
    arith.MaximumfOp: -INFINITY, arith.MaxnumfOp: -INFINITY, arith.MinimumfOp: INFINITY, arith.MinnumfOp: INFINITY,
    arith.MaxUIOp: 0, arith.MinUIOp: -1, arith.AndIOp: -1, arith.OrIOp: 0, arith.XOrIOp: 0,
}  # fmt: skip
"""What changes nothing when it is combined."""


def neutral(op: type[Operation], element: Attribute) -> float:
    """The neutral element of a combiner on a type."""
    if op in (arith.MaxSIOp, arith.MinSIOp):
        assert isinstance(element, IntegerType)
        largest: int = (1 << (element.width.data - 1)) - 1
        return -largest - 1 if op is arith.MaxSIOp else largest
    return NEUTRAL[op]


def reduce_node(evaluator: Evaluator, node: Node, dims: Sequence[list[Poly]]) -> Accumulators:
    """The results of a reduction at some points."""
    depth = max(evaluator.point_depth(point) for point in dims)
    with evaluator.emitter.at(depth):
        if not any(d.has(LANE) for point in dims for d in point):
            plan = along(evaluator, node)
            if plan is not None:
                return Along(evaluator, node, plan).results(dims)
        return Across(evaluator, node).results(dims)


def along(evaluator: Evaluator, node: Node) -> AlongPlan | None:
    """How lanes run along a reduced loop; None where they cannot."""
    if evaluator.vector_lanes < 2 or has_branches(node.body) or reduction(node.op) is None:
        return None
    return along_plan(evaluator, node)


def initial(evaluator: Evaluator, node: Node, dims: Sequence[list[Poly]]) -> Accumulators:
    """What the accumulators of each point start with."""
    columns = []
    for number, init in enumerate(node.inits):
        map_ = node.result_map(number)
        columns.append(evaluator.evaluate(init, [tuple(evaluator.affine(e, p) for e in map_.results) for p in dims]))
    return [list(row) for row in zip(*columns, strict=True)]


class Across:
    """One accumulator per point and lane."""

    def __init__(self, evaluator: Evaluator, node: Node) -> None:
        self.evaluator, self.node, self.emitter = evaluator, node, evaluator.emitter
        self.plan = evaluator.plans.get(node.op) or Plan(node.reduced)

    def results(self, dims: Sequence[list[Poly]]) -> Accumulators:
        """All results at all points."""
        state = initial(self.evaluator, self.node, dims)
        for point, values in zip(dims, state, strict=True):
            if any(d.has(LANE) for d in point):
                values[:] = [self.emitter.broadcast(v, self.evaluator.lanes) for v in values]
        return self._loops([list(point) for point in dims], list(self.plan.order), state)

    def _loops(self, dims: list[list[Poly]], order: list[int], state: Accumulators) -> Accumulators:
        if not order:
            return self._step(dims, state)
        dim, rest = order[0], order[1:]
        size = self.evaluator.size(self.node.op, dim)
        if dim in self.plan.whole or size.constant == 1:
            for step in range(size.constant or 0):
                state = self._loops(self._at(dims, dim, Poly.of(step)), rest, state)
            return state
        unroll = 1 if rest else self.plan.unroll
        if size.constant is not None:
            unroll = min(unroll, max(1, size.constant))
        full = self.emitter.quotient(size, unroll)
        state = self._loop(dims, dim, rest, (ZERO, full), unroll, state)
        if unroll > 1 and self.emitter.remainder(size, unroll).constant != 0:
            state = self._loop(dims, dim, rest, (full * unroll, size), 1, state)
        return state

    def _loop(
        self, dims: list[list[Poly]], dim: int, rest: list[int], bounds: tuple[Poly, Poly], unroll: int, state: Accumulators
    ) -> Accumulators:
        flat = [value for values in state for value in values]
        width = len(self.node.inits)
        with self.emitter.loop(bounds[0], bounds[1], flat) as loop:
            inner = [loop.carried[i : i + width] for i in range(0, len(flat), width)]
            number = self.emitter.atom(loop.variable)
            first, apart = (number, bounds[1]) if self.plan.apart else (number * unroll, ONE)
            if self.plan.ahead is not None and not rest and unroll == self.plan.unroll:
                self.plan.ahead(self._at(dims[:1], dim, number * unroll)[0])
            for step in range(unroll):
                inner = self._loops(self._at(dims, dim, first + apart * step), rest, inner)
            loop.yields = [value for values in inner for value in values]
        return [loop.results[i : i + width] for i in range(0, len(flat), width)]

    @staticmethod
    def _at(dims: list[list[Poly]], dim: int, value: Poly) -> list[list[Poly]]:
        moved = [list(point) for point in dims]
        for point in moved:
            point[dim] = value
        return moved

    def _step(self, dims: list[list[Poly]], state: Accumulators) -> Accumulators:
        rows = self.evaluator.arguments_of(self.node, dims, state)
        made = [self.evaluator.run_body(self.node, p, row) for p, row in zip(dims, rows, strict=True)]
        return [
            [self._like(value, old) for value, old in zip(values, olds, strict=True)]
            for values, olds in zip(made, state, strict=True)
        ]

    def _like(self, value: SSAValue, old: SSAValue) -> SSAValue:
        return self.emitter.broadcast(value, self.evaluator.lanes) if isinstance(old.type, VectorType) else value


class Along:
    """Lanes along the last reduced loop."""

    def __init__(self, evaluator: Evaluator, node: Node, plan: AlongPlan) -> None:
        self.evaluator, self.node, self.emitter, self.plan = evaluator, node, evaluator.emitter, plan
        combiners = reduction(node.op)
        assert combiners is not None
        self.combiners = combiners
        self.inner = plan.inner
        self.lanes = evaluator.vector_lanes

    def results(self, dims: Sequence[list[Poly]]) -> Accumulators:
        """All results at all points."""
        evaluator = self.evaluator
        saved = evaluator.lanes, evaluator.mask
        starts = initial(evaluator, self.node, dims)
        evaluator.lanes, evaluator.mask = self.lanes, None
        found = [self._point(list(point), start) for point, start in zip(dims, starts, strict=True)]
        evaluator.lanes, evaluator.mask = saved
        return found

    def _point(self, dims: list[Poly], start: list[SSAValue]) -> list[SSAValue]:
        size, masked = self.plan.size, self.plan.masked
        count = ACCUMULATORS
        if size.constant is not None:
            count = max(1, min(count, size.constant // self.lanes))
        elements = [v.type for v in start]
        state = [
            [
                self.emitter.number(neutral(type(c.op), kind), self.emitter.vector_type(kind, self.lanes))
                for c, kind in zip(self.combiners, elements, strict=True)
            ]
            for _ in range(count)
        ]
        state = self._outer(dims, self.plan.outer, state, lambda inner, s: self._vectors(inner, s, size, masked))
        total = [self.combine(c, value, s) for c, value, s in zip(self.combiners, self._horizontal(state), start, strict=True)]
        if not masked and self.emitter.remainder(size, self.lanes).constant != 0:
            total = self._outer(dims, self.plan.outer, [total], lambda inner, s: self._scalars(inner, s, size))[0]
        for keep in self.evaluator.keeps.values():
            keep.filled = keep.filled or keep.written
        return total

    def _outer(
        self,
        dims: list[Poly],
        order: Sequence[int],
        state: Accumulators,
        inner: Callable[[list[Poly], Accumulators], Accumulators],
    ) -> Accumulators:
        """Loops over the other reduced dimensions, which carry all accumulators."""
        if not order:
            return inner(dims, state)
        size = self.evaluator.size(self.node.op, order[0])
        flat = [value for values in state for value in values]
        width = len(self.node.inits)
        with self.emitter.loop(ZERO, size, flat) as loop:
            moved = list(dims)
            moved[order[0]] = self.emitter.atom(loop.variable)
            carried = [loop.carried[i : i + width] for i in range(0, len(flat), width)]
            loop.yields = [v for values in self._outer(moved, order[1:], carried, inner) for v in values]
        return [loop.results[i : i + width] for i in range(0, len(flat), width)]

    def _vectors(self, dims: list[Poly], state: Accumulators, size: Poly, masked: bool) -> Accumulators:
        """All whole vectors, several at once, then one by one, then the masked rest."""
        block = self.lanes * len(state)
        full = self.emitter.quotient(size, block)
        state = self._loop(dims, state, (ZERO, full), block)
        if len(state) > 1:
            done, whole = full * len(state), self.emitter.quotient(size, self.lanes)
            left = (whole - done).constant
            if left is None:
                state = [*self._loop(dims, state[:1], (done, whole), self.lanes), *state[1:]]
            else:
                for step in range(left):
                    state[step] = self._step(dims, (done + step) * self.lanes, [state[step]])[0]
        rest = self.emitter.remainder(size, self.lanes)
        if masked and rest.constant != 0:
            start = self.emitter.quotient(size, self.lanes) * self.lanes
            self.evaluator.mask = mask = self.emitter.mask(self.emitter.scalar(rest), self.lanes)
            new = self._step(dims, start, state[:1])[0]
            self.evaluator.mask = None
            state[0] = [
                self.emitter.emit(core.SelectOp, (mask, n, old), old.type)
                for n, old in zip(new, state[0], strict=True)
            ]
        return state

    def _loop(self, dims: list[Poly], state: Accumulators, bounds: tuple[Poly, Poly], block: int) -> Accumulators:
        if (bounds[1] - bounds[0]).constant == 0:
            return state
        flat = [value for values in state for value in values]
        width = len(self.node.inits)
        with self.emitter.loop(bounds[0], bounds[1], flat) as loop:
            carried = [loop.carried[i : i + width] for i in range(0, len(flat), width)]
            base = self.emitter.atom(loop.variable) * block
            made = self._step(dims, base, carried)
            loop.yields = [v for values in made for v in values]
        return [loop.results[i : i + width] for i in range(0, len(flat), width)]

    def _step(self, dims: list[Poly], base: Poly, state: Accumulators) -> Accumulators:
        points = []
        for number in range(len(state)):
            point = list(dims)
            point[self.inner] = base + Poly.of(LANE) + number * self.lanes
            points.append(point)
        rows = self.evaluator.arguments_of(self.node, points, state)
        made = [self.evaluator.run_body(self.node, p, row) for p, row in zip(points, rows, strict=True)]
        return [[self.emitter.broadcast(v, self.lanes) for v in values] for values in made]

    def _scalars(self, dims: list[Poly], state: Accumulators, size: Poly) -> Accumulators:
        """The elements after the last whole vector, where vectors cannot be masked."""
        self.evaluator.lanes = 1
        start = self.emitter.quotient(size, self.lanes) * self.lanes
        with self.emitter.loop(start, size, state[0]) as loop:
            point = list(dims)
            point[self.inner] = self.emitter.atom(loop.variable)
            row = self.evaluator.arguments_of(self.node, [point], [loop.carried])[0]
            loop.yields = self.evaluator.run_body(self.node, point, row)
        self.evaluator.lanes = self.lanes
        return [loop.results]

    def combine(self, combiner: Reduction, a: SSAValue, b: SSAValue) -> SSAValue:
        """Two accumulators as one."""
        return self.emitter.emit(type(combiner.op), (a, b), a.type, combiner.op.properties)

    def _horizontal(self, state: Accumulators) -> list[SSAValue]:
        """All vectors and lanes of each result combined: pairs, then halves."""
        rows = [list(values) for values in state]
        while len(rows) > 1:
            half = (len(rows) + 1) // 2
            for low, high in zip(rows[:half], rows[half:], strict=False):
                low[:] = [self.combine(c, a, b) for c, a, b in zip(self.combiners, low, high, strict=True)]
            rows = rows[:half]
        totals = []
        for combiner, value in zip(self.combiners, rows[0], strict=True):
            width = self.lanes
            while width > 1:
                width //= 2
                order = [lane + width if lane < width else 0 for lane in range(self.lanes)]
                upper = self.emitter.emit(
                    vector.ShuffleOp, (value, value), value.type, {"mask": DenseArrayBase.from_list(i64, order)}
                )
                value = self.combine(combiner, value, upper)
            assert isinstance(value.type, VectorType)
            position = {"static_position": DenseArrayBase.from_list(i64, [0])}
            totals.append(self.emitter.emit(vector.ExtractOp, (value,), value.type.element_type, position))
        return totals

