"""Loops over the elements of results: the frame that all templates share.

A `Space` is the index space of some results of equal shape. `Nest` writes loops over it: threads share blocks of
the outermost axes, then come loops over tiles, at last a register tile of points, some of them vectors; their
values are asked from the evaluator and stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

from xdsl.dialects.builtin import TensorType
from xdsl.ir import SSAValue

from stepwell.lowering.tile_to_loops.evaluate import Evaluator
from stepwell.lowering.tile_to_loops.polynomial import LANE, ONE, ZERO, Poly

Range = tuple[Poly, Poly]
"""First index, and the one after the last."""


@dataclass(eq=False)
class Space:
    """Results of equal shape, and the loops over their elements.

    `sizes` are those of the loops: where axes have been merged, the inner one has all the steps and the outer
    one size 1.
    """

    results: list[tuple[SSAValue, SSAValue]]
    """Yielded tensors, each with the flat memref that it goes to."""
    sizes: list[Poly]

    @property
    def rank(self) -> int:
        return len(self.sizes)


def spaces_of(evaluator: Evaluator, outputs: Sequence[tuple[SSAValue, SSAValue]]) -> list[Space]:
    """The results of a kernel, those of equal shape together."""
    found: dict[object, Space] = {}
    for value, memory in outputs:
        assert isinstance(value.type, TensorType)
        sizes = [evaluator.size(value, axis) for axis in range(value.type.get_num_dims())]
        key = tuple(size.key for size in sizes)
        if key in found:
            found[key].results.append((value, memory))
        else:
            found[key] = Space([(value, memory)], sizes)
    return list(found.values())


def is_empty(space: Space) -> bool:
    """Whether there is statically nothing to do."""
    return any(size.constant == 0 for size in space.sizes)


@dataclass
class Tiling:
    """How a space is walked: the axis of the lanes (None: no lanes), how many points (vectors, on the lanes'
    axis) a register tile has along each axis, the order of the loops, outermost first, and the axes that threads
    share with the size of one block of them (a multiple of the tile)."""

    lane_axis: int | None
    tile: dict[int, int] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    blocks: dict[int, int] = field(default_factory=dict)
    inside: list[int] = field(default_factory=list)
    """Axes that vary fastest within a register tile: those of the operand that is loaded as vectors, so that a
    broadcast element is used up at once and needs no register for long."""
    masked: bool = True
    shared: bool = True
    """Whether threads share the blocks; else thread 0 does them all, one after another."""


class Nest:
    """Writes the loops over one space."""

    def __init__(self, evaluator: Evaluator, space: Space, tiling: Tiling) -> None:
        self.evaluator, self.emitter = evaluator, evaluator.emitter
        self.space, self.tiling = space, tiling
        self.prologue: Callable[[list[Range]], None] | None = None
        """Called inside each block of work with its ranges, before its loops."""
        self.on_tile: dict[int, Callable[[list[Poly], dict[int, list[Poly]]], None]] = {}
        """Called where the tile of an axis has been chosen, with its indices and those of the axes
        outside, before the loops inside."""

    def write(self) -> None:
        """All loops."""
        if is_empty(self.space):
            return
        counts = [
            self._tiles(self.space.sizes[axis], block) for axis, block in self.tiling.blocks.items()
        ]
        total = ONE
        for count in counts:
            total = total * count
        with self.emitter.parallel(total, self.tiling.shared) as number:
            left = self.emitter.atom(number)
            ranges = [(ZERO, size) for size in self.space.sizes]
            for (axis, block), count in reversed(list(zip(self.tiling.blocks.items(), counts, strict=True))):
                if count.constant == 1:
                    continue
                index = left if axis == next(iter(self.tiling.blocks)) else self._modulo(left, count)
                left = self._divide(left, count)
                first = index * block
                size = self.space.sizes[axis]
                whole = size.constant is not None and size.constant % block == 0
                last = first + block if whole or block == 1 else self.emitter.minimum(first + block, size)
                ranges[axis] = (first, last)
            if self.prologue is not None:
                self.prologue(ranges)
            self._walk(list(self.tiling.order), ranges, {})

    def _tiles(self, size: Poly, block: int) -> Poly:
        return size if block == 1 else self.emitter.quotient(size + (block - 1), block)

    def _divide(self, value: Poly, count: Poly) -> Poly:
        if count.constant is not None:
            return self.emitter.quotient(value, count.constant)
        return self.emitter.divided(value, count)[0]

    def _modulo(self, value: Poly, count: Poly) -> Poly:
        if count.constant is not None:
            return self.emitter.remainder(value, count.constant)
        return self.emitter.divided(value, count)[1]

    # ------ tiles

    def _walk(self, order: list[int], ranges: list[Range], chosen: dict[int, list[Poly]]) -> None:
        """Loops over the remaining axes. `chosen` are the indices of the register tile along the others."""
        if not order:
            self._points(chosen)
            return
        axis, rest = order[0], order[1:]
        if axis == self.tiling.lane_axis:
            self._vectors(axis, rest, ranges, chosen)
        else:
            self._tiles_of(axis, rest, ranges, chosen)

    def _choose(
        self, axis: int, indices: list[Poly], rest: list[int], ranges: list[Range], chosen: dict[int, list[Poly]]
    ) -> None:
        """Go on inside, with these indices along an axis."""
        if axis in self.on_tile:
            self.on_tile[axis](indices, chosen)
        self._walk(rest, ranges, {**chosen, axis: indices})

    def _tiles_of(self, axis: int, rest: list[int], ranges: list[Range], chosen: dict[int, list[Poly]]) -> None:
        """Tiles of single elements along an axis; what is left over in smaller ones."""
        first, last = ranges[axis]
        extent = last - first
        tile = self.tiling.tile.get(axis, 1)
        if extent.constant is not None:
            tile = max(1, min(tile, extent.constant))
        while True:
            full = self.emitter.quotient(extent, tile)
            start, width = first, tile
            self._repeat(
                full,
                lambda i: self._choose(
                    axis, [start + i * width + j for j in range(width)], rest, ranges, chosen  # noqa: B023
                ),
            )
            first, extent = first + full * tile, extent - full * tile
            if tile == 1 or extent.constant == 0:
                return
            # A known rest is one smaller tile, any other one is taken in steps.
            tile = extent.constant if extent.constant is not None else max(1, tile // 3)

    def _repeat(self, count: Poly, body: Callable[[Poly], None]) -> None:
        """A loop, or its body alone where it runs once."""
        if count.constant == 0:
            return
        if count.constant == 1:
            body(ZERO)
            return
        with self.emitter.loop(ZERO, count) as loop:
            body(self.emitter.atom(loop.variable))

    def _vectors(self, axis: int, rest: list[int], ranges: list[Range], chosen: dict[int, list[Poly]]) -> None:
        """The axis of the lanes: groups of whole vectors, single ones, and the rest."""
        first, last = ranges[axis]
        extent, lanes = last - first, self.evaluator.vector_lanes
        group = self.tiling.tile.get(axis, 1)
        if extent.constant is not None:
            group = max(1, min(group, extent.constant // lanes))

        def vectors(start: Poly, count: int) -> None:
            points = [start + Poly.of(LANE) + i * lanes for i in range(count)]
            self._choose(axis, points, rest, ranges, chosen)

        block = group * lanes
        full = self.emitter.quotient(extent, block)
        self._repeat(full, lambda i: vectors(first + i * block, group))
        whole = self.emitter.quotient(extent, lanes)
        if group > 1:
            start, left = first + full * block, (whole - full * group).constant
            if left is None:
                self._repeat(whole - full * group, lambda i: vectors(start + i * lanes, 1))
            elif left:
                vectors(start, left)
        if self.emitter.remainder(extent, lanes).constant != 0:
            self._rest(axis, rest, ranges, chosen, first + whole * lanes, last)

    def _rest(
        self, axis: int, rest: list[int], ranges: list[Range], chosen: dict[int, list[Poly]], start: Poly, last: Poly
    ) -> None:
        """Fewer elements than a vector has."""
        evaluator, emitter = self.evaluator, self.emitter
        count = last - start
        if not self.tiling.masked:
            evaluator.lanes = 1
            with emitter.loop(start, last) as loop:
                self._choose(axis, [emitter.atom(loop.variable)], rest, ranges, chosen)
            evaluator.lanes = evaluator.vector_lanes
            return

        def masked() -> None:
            evaluator.mask = emitter.mask(emitter.scalar(count), evaluator.vector_lanes)
            self._choose(axis, [start + Poly.of(LANE)], rest, ranges, chosen)
            evaluator.mask = None

        if count.constant is not None:
            masked()
            return
        with emitter.when(emitter.less(emitter.index(0), emitter.scalar(count))):
            masked()

    # ------ points

    def _points(self, chosen: dict[int, list[Poly]]) -> None:
        """The register tile: every value, then every store."""
        order = [a for a in range(self.space.rank) if a not in self.tiling.inside] + self.tiling.inside
        places = [order.index(axis) for axis in range(self.space.rank)]
        axes = [chosen.get(axis, [ZERO]) for axis in order]
        points = [tuple(point[place] for place in places) for point in product(*axes)]
        found = [(value, memory, self.evaluator.evaluate(value, points)) for value, memory in self.space.results]
        for value, memory, values in found:
            for point, result in zip(points, values, strict=True):
                self.evaluator.store(result, memory, self.evaluator.flat(value, point))
