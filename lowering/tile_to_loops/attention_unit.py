"""The unit of an attention's work that is being written, and where its operands and results lie."""

from __future__ import annotations

from math import prod

from xdsl.dialects import arith
from xdsl.dialects.builtin import TensorType
from xdsl.ir import SSAValue
from xdsl.ir.affine import AffineDimExpr

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.lowering.linalg.attention_form import Attention
from stepwell.lowering.tile_to_loops.choose import accesses_of, width
from stepwell.lowering.tile_to_loops.frame import Frame
from stepwell.lowering.tile_to_loops.nest import spaces_of
from stepwell.lowering.tile_to_loops.polynomial import ZERO, Poly
from stepwell.lowering.tile_to_loops.vector_arithmetic import PLAIN

ROWS, KEYS = 64, 128
"""Queries of a unit and keys of a block where the schedule does not tell."""


def value_lanes(columns: int, lanes: int) -> int:
    """The widest vectors of which a row of values is made."""
    while columns % lanes:
        lanes //= 2
    return lanes


class Unit:
    """Queries of one batch and head: how many there are, and reads and writes at their places.

    Rows, keys, depth and columns are numbers within the unit; rows are queries from `first` on.
    """

    def __init__(self, frame: Frame, form: Attention) -> None:
        self.frame, self.form = frame, form
        self.evaluator, self.emitter = frame.evaluator, frame.emitter
        nodes = frame.graph.nodes
        self.scores_node, self.result_node = nodes[form.scores], nodes[form.result]
        kind = form.result.results[0].type
        assert isinstance(kind, TensorType)
        self.element = kind.element_type
        self.lanes = frame.target.lanes(width(self.element))
        size = self.evaluator.size
        self.queries, self.keys = size(form.result, form.second.m[0]), size(form.result, form.second.k[0])
        self.depth = self._known(size(form.scores, form.first.k[0]))
        self.columns = self._known(size(form.result, form.second.n[0]))
        self.batch = [(loop, size(form.result, loop)) for loop in form.second.batch]
        rows = -(-frame.setting("rows", ROWS) // self.lanes) * self.lanes
        if self.queries.constant is not None:
            rows = max(1, min(rows, -(-self.queries.constant // self.lanes) * self.lanes))
        self.rows, self.vectors = rows, rows // self.lanes
        self.block = max(1, frame.setting("keys", KEYS))
        self.blocks = self.emitter.quotient(self.queries + (self.rows - 1), self.rows)
        self.count = self.blocks
        for _, extent in self.batch:
            self.count = self.count * extent
        self._places = self._axes()

    def _known(self, size: Poly) -> int:
        if size.constant is None:
            raise UnsupportedError("attention whose heads have a size known at run time only")
        return size.constant

    def _axes(self) -> dict[int, int]:
        """The axis of the kernel's results along which each loop of the last product runs."""
        spaces = spaces_of(self.evaluator, self.frame.outputs)
        if len(spaces) != 1:
            raise UnsupportedError("attention with results of several shapes")
        self.rank = spaces[0].rank
        _, atoms, walk = accesses_of(self.evaluator, spaces[0])
        point = walk.points[self.form.result]
        found = {}
        for loop in self.result_node.parallel:
            axes = [axis for axis, atom in enumerate(atoms) if point[loop] == Poly.of(atom)]
            if axes:
                found[loop] = axes[0]
            elif self.evaluator.size(self.form.result, loop).constant != 1:
                raise UnsupportedError("attention whose result is not stored once")
        return found

    def begin(self, number: Poly) -> None:
        """The unit of a number: blocks of queries vary fastest."""
        left, counts = number, [self.blocks, *(extent for _, extent in reversed(self.batch))]
        parts = []
        for position, count in enumerate(counts):
            last = position == len(counts) - 1
            parts.append(left if last else self._modulo(left, count))
            left = ZERO if last else self._divide(left, count)
        self.first = parts[0] * self.rows
        self.place = {loop: part for (loop, _), part in zip(reversed(self.batch), parts[1:], strict=True)}
        whole = self.queries.constant is not None and self.queries.constant % self.rows == 0
        self.ragged = not whole
        rest = self.queries - self.first
        self.rows_here = Poly.of(self.rows) if whole else self.emitter.minimum(rest, Poly.of(self.rows))
        self.vectors_here = self.emitter.quotient(self.rows_here + (self.lanes - 1), self.lanes)

    def _divide(self, value: Poly, count: Poly) -> Poly:
        if count.constant is not None:
            return self.emitter.quotient(value, count.constant)
        return self.emitter.divided(value, count)[0]

    def _modulo(self, value: Poly, count: Poly) -> Poly:
        if count.constant is not None:
            return self.emitter.remainder(value, count.constant)
        return self.emitter.divided(value, count)[1]

    # ------ values

    def scratch(self, *sizes: int) -> SSAValue:
        """Memory for some elements."""
        return self.frame.scratch(self.element, prod(sizes), width(self.element) // 8)

    def number(self, value: float, lanes: int) -> SSAValue:
        """A constant in all lanes."""
        return self.emitter.number(value, self.emitter.vector_type(self.element, lanes))

    def multiply(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """The product of two vectors."""
        return self.emitter.emit(arith.MulfOp, (a, b), a.type, PLAIN)

    # ------ operands

    def row(self, number: Poly) -> Poly:
        """A row, or the last query where the unit has none of that number."""
        return self.emitter.minimum(number, self.rows_here - 1) if self.ragged else number

    def point(self, row: Poly, key: Poly, column: Poly = ZERO) -> list[Poly]:
        """Of the last product."""
        second = self.form.second
        point = [ZERO] * self.result_node.rank
        for loop, part in self.place.items():
            point[loop] = part
        point[second.m[0]], point[second.k[0]], point[second.n[0]] = self.first + row, key, column
        return point

    def softmax_point(self, row: Poly, key: Poly) -> list[Poly]:
        """Of the softmax."""
        read = self.result_node.maps[self.form.second.lhs]
        point = self.point(row, key)
        return [self.evaluator.affine(e, point) for e in read.results]

    def score_index(self, row: Poly, key: Poly) -> tuple[Poly, ...]:
        """The index of a score."""
        point = self.softmax_point(row, key)
        return tuple(self.evaluator.affine(e, point) for e in self.form.path.results)

    def _score(self, row: Poly, key: Poly, step: Poly, operand: int) -> SSAValue:
        point = [ZERO] * self.scores_node.rank
        places = self.scores_node.result_map(0).results
        for expression, position in zip(places, self.score_index(row, key), strict=True):
            if isinstance(expression, AffineDimExpr):
                point[expression.position] = position
        point[self.form.first.k[0]] = step
        index = tuple(self.evaluator.affine(e, point) for e in self.scores_node.maps[operand].results)
        return self.evaluator.evaluate(self.form.scores._operands[operand], [index])[0]

    def query(self, row: Poly, step: Poly) -> SSAValue:
        """An element of a query, or a vector of its depth."""
        return self._score(row, ZERO, step, self.form.first.lhs)

    def key(self, key: Poly, step: Poly) -> SSAValue:
        """An element of a key."""
        return self._score(ZERO, key, step, self.form.first.rhs)

    def value(self, key: Poly, column: Poly) -> SSAValue:
        """A vector of a value."""
        operand = self.form.second.rhs
        point = self.point(ZERO, key, column)
        index = tuple(self.evaluator.affine(e, point) for e in self.result_node.maps[operand].results)
        return self.evaluator.evaluate(self.form.result._operands[operand], [index])[0]

    # ------ results

    def store(self, value: SSAValue, row: Poly, column: Poly) -> None:
        """A vector of the result, and what the kernel makes of it."""
        point = self.point(row, ZERO, column)
        made = tuple(self.evaluator.affine(e, point) for e in self.result_node.result_map(0).results)
        self.evaluator.provide(self.result_node, made, value)
        index = [ZERO] * self.rank
        for loop, axis in self._places.items():
            index[axis] = point[loop]
        for root, memory in self.frame.outputs:
            (result,) = self.evaluator.evaluate(root, [tuple(index)])
            self.evaluator.store(result, memory, self.evaluator.flat(root, index))
