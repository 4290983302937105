"""Kernels in which every element of a result is computed by one thread, reductions included.

    unit = block * threads + thread
    if unit < units:
        result[unit * width ... + width - 1] = ...       width neighbours: one access of 16 bytes where they are

Elementwise kernels, and everything that has no template of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from math import prod

from xdsl.ir import SSAValue

from stepwell.lowering.gpu.evaluate import ACCESS_BYTES, stored_bytes
from stepwell.lowering.gpu.frame import Frame
from stepwell.lowering.tile_to_loops.accesses import Accesses
from stepwell.lowering.tile_to_loops.choose import accesses_of, merge_axes
from stepwell.lowering.tile_to_loops.evaluate import Point
from stepwell.lowering.tile_to_loops.nest import Space, is_empty, spaces_of
from stepwell.lowering.tile_to_loops.polynomial import ONE, ZERO, Atom, Poly

THREADS = 256


def pointwise(frame: Frame) -> None:
    """Writes the whole kernel."""
    spaces = [space for space in spaces_of(frame.evaluator, frame.outputs) if not is_empty(space)]
    known = [prod(size.constant for size in space.sizes if size.constant is not None) for space in spaces]
    static = all(size.constant is not None for space in spaces for size in space.sizes)
    frame.threads = block_size(max(known, default=1)) if static else THREADS
    if not spaces:
        frame.blocks([(ZERO, 1)])
    for space in spaces:
        Points(frame, space).write()


def block_size(elements: int) -> int:
    """Threads of a block where there are so many elements: whole warps, no more than needed."""
    return min(THREADS, 32 << max(0, (-(-elements // 32) - 1).bit_length()))


def unflatten(frame: Frame, position: Poly, sizes: Sequence[Poly]) -> list[Poly]:
    """The index in each of some nested loops from the number of a step; the outermost takes what is left."""
    emitter = frame.emitter
    found: list[Poly] = []
    for size in reversed(sizes[1:]):
        if size.constant is not None:
            found.insert(0, emitter.remainder(position, size.constant))
            position = emitter.quotient(position, size.constant)
        else:
            position, rest = emitter.divided(position, size)
            found.insert(0, rest)
    return [position, *found] if sizes else found


def access_width(found: Accesses, axis: Atom) -> int:
    """How many neighbours along an axis one access takes, for the widest of the contiguous elements."""
    contiguous = [access.tensor.type for access in found.found if access.place.coefficient(axis).constant == 1]
    widest = max((stored_bytes(kind.element_type) for kind in contiguous), default=ACCESS_BYTES)  # type: ignore[attr-defined]
    return ACCESS_BYTES // widest


class Points:
    """Writes the results of one shape."""

    def __init__(self, frame: Frame, space: Space) -> None:
        self.frame, self.space, self.evaluator = frame, space, frame.evaluator
        found, atoms, walk = accesses_of(frame.evaluator, space)
        merge_axes(space, found, atoms)
        self.axes = [axis for axis, size in enumerate(space.sizes) if size.constant != 1]
        self.reduces = bool(walk.reduced)
        wide = bool(self.axes) and not self.reduces
        self.width = access_width(found, atoms[self.axes[-1]]) if wide else 1
        inner = space.sizes[self.axes[-1]].constant if self.axes else 1
        self.whole = inner is not None and inner % self.width == 0
        if not self.whole and len(self.axes) > 1:
            self.width, self.whole = 1, True

    def write(self) -> None:
        """All elements."""
        frame, emitter, width = self.frame, self.frame.emitter, self.width
        sizes = [self.space.sizes[axis] for axis in self.axes]
        if width > 1:
            last = sizes[-1]
            sizes[-1] = emitter.quotient(last if self.whole else last + (width - 1), width)
        total = ONE
        for size in sizes:
            total = total * size
        self._decide(total)
        unit = frame.block_number() * frame.threads + frame.thread()
        with ExitStack() as guards:
            if total.constant is None or total.constant % frame.threads != 0:
                guards.enter_context(emitter.when(frame.below(unit, total)))
            index = unflatten(frame, unit, sizes)
            if width > 1:
                index[-1] = index[-1] * width
            if self.whole:
                self._neighbours(index, width)
            else:
                self._up_to(index[-1], self.space.sizes[self.axes[-1]])

    def _decide(self, total: Poly) -> None:
        shape = "x".join("?" if s.constant is None else str(s.constant) for s in self.space.sizes) or "1"
        each = "1 element" if self.width == 1 else f"{self.width} neighbouring elements"
        by_itself = "; it does whole reductions by itself" if self.reduces else ""
        self.frame.decide(f"pointwise over {shape}: each thread computes {each}{by_itself}")
        per_block = self.frame.threads
        if self.whole:
            self.frame.blocks([(total, per_block)])
        else:
            self.frame.blocks([(self.space.sizes[self.axes[-1]], per_block * self.width)])

    def _up_to(self, start: Poly, size: Poly) -> None:
        """All neighbours where there are as many, else those that there are."""
        frame, emitter = self.frame, self.frame.emitter
        with emitter.when(frame.below(start + (self.width - 1), size)):
            self._neighbours([start], self.width)
        with emitter.when(frame.below(size - self.width, start)), emitter.loop(start, size) as loop:
            self._neighbours([emitter.atom(loop.variable)], 1)

    def _neighbours(self, index: list[Poly], count: int) -> None:
        """Some neighbours along the last axis."""
        points = [self._point(index, step) for step in range(count)]
        store_points(self.frame, self.space.results, points)

    def _point(self, index: Sequence[Poly], step: int) -> Point:
        point = [ZERO] * self.space.rank
        for axis, position in zip(self.axes, index, strict=True):
            point[axis] = position
        if step:
            point[self.axes[-1]] = point[self.axes[-1]] + step
        return tuple(point)


def store_points(frame: Frame, results: Sequence[tuple[SSAValue, SSAValue]], points: Sequence[Point]) -> None:
    """Compute some results at some points, then write them."""
    evaluator = frame.evaluator
    found = [(value, memory, evaluator.evaluate(value, points)) for value, memory in results]
    for value, memory, values in found:
        evaluator.store_all(values, memory, [evaluator.flat(value, point) for point in points])
