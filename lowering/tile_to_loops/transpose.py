"""Square blocks of vectors, transposed in registers; and elementwise kernels that read an operand across the lanes.

Where a result is contiguous along one axis and an operand along another, blocks of lanes x lanes points are read
along the operand's axis, transposed, and computed row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from xdsl.dialects import vector
from xdsl.dialects.builtin import DenseArrayBase, VectorType, i64
from xdsl.ir import Operation, SSAValue

from stepwell.lowering.tile_to_loops.accesses import Access, Walk
from stepwell.lowering.tile_to_loops.emit import Emitter
from stepwell.lowering.tile_to_loops.evaluate import Evaluator, Transposed
from stepwell.lowering.tile_to_loops.nest import Nest, Space, Tiling
from stepwell.lowering.tile_to_loops.polynomial import LANE, Atom, Poly

MOST_LANES = 16
"""Wider blocks take too many shuffles."""

MOST_OPS = 12
"""Bodies with more ops are not written once per row: there a gather costs little in comparison."""


def transposed(emitter: Emitter, rows: Sequence[SSAValue]) -> list[SSAValue]:
    """Vector j of the result holds lane j of every row. As many rows as lanes, a power of two.

    log2(lanes) rounds: round s exchanges, between rows i and i + s, the lanes whose bit s differs (the recursive
    transposition of 2 x 2 blocks).
    """
    values = list(rows)
    count = len(values)
    step = count // 2
    while step:
        low = [lane if not lane & step else lane - step + count for lane in range(count)]
        high = [lane + step if not lane & step else lane + count for lane in range(count)]
        for first in range(count):
            if not first & step:
                a, b = values[first], values[first + step]
                values[first] = _shuffle(emitter, a, b, low)
                values[first + step] = _shuffle(emitter, a, b, high)
        step //= 2
    return values


def _shuffle(emitter: Emitter, a: SSAValue, b: SSAValue, lanes: list[int]) -> SSAValue:
    assert isinstance(a.type, VectorType)
    return emitter.emit(vector.ShuffleOp, (a, b), a.type, {"mask": DenseArrayBase.from_list(i64, lanes)})


@dataclass(frozen=True)
class Crossing:
    """An operand that is contiguous along `axis` and not along the lanes: its reader, and the reader's loops that
    are that axis and the lanes'."""

    reader: tuple[Operation, int]
    axis: int
    row_loop: int
    lane_loop: int


def crossings(
    evaluator: Evaluator, space: Space, found: Sequence[Access], atoms: Sequence[Atom], walk: Walk, lane_axis: int
) -> list[Crossing]:
    """The operands that are worth transposing. They all cross along one axis."""
    graph, lanes = evaluator.graph, evaluator.vector_lanes
    ops = sum(len(node.body.ops) for node in graph.nodes.values())
    if walk.reduced or not 2 <= lanes <= MOST_LANES or ops > MOST_OPS or _is_short(space, lane_axis, lanes):
        return []
    result: list[Crossing] = []
    for access in found:
        stride = access.place.coefficient(atoms[lane_axis])
        if access.reader is None or not stride.terms or stride.constant == 1:
            continue
        axis = next((a for a, atom in enumerate(atoms) if access.place.coefficient(atom).constant == 1), None)
        if axis is None or _is_short(space, axis, lanes) or (result and result[0].axis != axis):
            continue
        point = walk.points[access.reader[0]]
        rows, columns = ([d for d, p in enumerate(point) if p == Poly.of(atoms[a])] for a in (axis, lane_axis))
        uses = [p for p in point if p.has(atoms[axis]) or p.has(atoms[lane_axis])]
        if len(rows) == len(columns) == 1 and len(uses) == 2:
            result.append(Crossing(access.reader, axis, rows[0], columns[0]))
    return result


def _is_short(space: Space, axis: int, lanes: int) -> bool:
    size = space.sizes[axis].constant
    return size is not None and size < lanes


class Blocks:
    """Makes a nest walk in square blocks, and transposes the operands in each."""

    def __init__(self, nest: Nest, tiling: Tiling, found: Sequence[Crossing], walk: Walk, atoms: Sequence[Atom]) -> None:
        assert tiling.lane_axis is not None
        self.evaluator, self.found, self.walk, self.atoms = nest.evaluator, found, walk, atoms
        self.axis, self.lane_axis, self.lanes = found[0].axis, tiling.lane_axis, nest.evaluator.vector_lanes
        tiling.tile[self.axis], tiling.tile[self.lane_axis] = self.lanes, 1
        pair = (self.axis, self.lane_axis)
        tiling.order = [a for a in tiling.order if a not in pair] + list(pair)
        if self.axis in tiling.blocks:
            tiling.blocks[self.axis] = self.lanes
        nest.on_tile[self.lane_axis] = self.transpose

    def transpose(self, columns: list[Poly], chosen: dict[int, list[Poly]]) -> None:
        """Read the operands of a block; blocks at the edges are read element by element."""
        evaluator, rows = self.evaluator, chosen[self.axis]
        for crossing in self.found:
            evaluator.stages.pop(crossing.reader, None)
        if len(rows) != self.lanes or evaluator.mask is not None or evaluator.lanes != self.lanes:
            return
        first = {axis: indices[0] for axis, indices in chosen.items()}
        for crossing in self.found:
            op, number = crossing.reader
            node = evaluator.graph.nodes[op]
            point = [at(p, self.atoms, first) for p in self.walk.points[op]]
            vectors = []
            for lane in range(self.lanes):
                point[crossing.row_loop] = rows[0] + Poly.of(LANE)
                point[crossing.lane_loop] = columns[0].without(LANE) + lane
                index = tuple(evaluator.affine(e, point) for e in node.maps[number].results)
                vectors += evaluator.evaluate(op._operands[number], [index])
            row = partial(row_of, rows[0], crossing.row_loop)
            evaluator.stages[crossing.reader] = Transposed(transposed(evaluator.emitter, vectors), row)


def row_of(first: Poly, loop: int, dims: Sequence[Poly]) -> Poly:
    """Which row of a block a point is in."""
    return dims[loop] - first


def at(poly: Poly, atoms: Sequence[Atom], chosen: dict[int, Poly]) -> Poly:
    """An expression of the space's atoms where the axes have these indices (the others 0)."""
    total = Poly.of(poly.terms.get((), 0))
    for axis, index in chosen.items():
        total = total + poly.coefficient(atoms[axis]) * index
    return total
