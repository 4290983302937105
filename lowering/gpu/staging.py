"""Slices of a matrix product's operands in shared memory: who copies what, and where it lies there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, SSAValue

from stepwell.lowering.gpu.evaluate import ACCESS_BYTES, stored_bytes
from stepwell.lowering.gpu.pointwise import unflatten
from stepwell.lowering.gpu.tiles import NEIGHBOURS, Side
from stepwell.lowering.tile_to_loops.accesses import Walk, symbolic
from stepwell.lowering.tile_to_loops.polynomial import Atom, Poly

if TYPE_CHECKING:
    from stepwell.lowering.gpu.matmul import Writer


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
