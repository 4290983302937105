"""Tiles of a matrix product: how large they are, and where in the result their rows and columns lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from stepwell.lowering.gpu.frame import Frame
from stepwell.lowering.gpu.pointwise import unflatten
from stepwell.lowering.tile_to_loops.matmul import Product
from stepwell.lowering.tile_to_loops.polynomial import ONE, Poly

ASSUMED = 512
"""What a size counts as that is only known at run time."""

NEIGHBOURS = 4
"""Columns, or rows, of a thread that lie side by side."""


@dataclass(frozen=True)
class Tile:
    """Rows and columns of a block, steps of a slice, rows and columns of a thread (a power of two)."""

    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int

    @property
    def threads(self) -> int:
        return self.rows // self.thread_rows * (self.columns // self.thread_columns)


LARGE, MIDDLE, SMALL = Tile(128, 128, 8, 8, 8), Tile(64, 64, 16, 4, 4), Tile(16, 64, 16, 1, 4)
WIDE = Tile(64, 32, 16, 4, 2)
"""For elements of 8 bytes, of which registers hold half as many."""

ENOUGH_BLOCKS = 128
"""So many blocks keep a GPU busy: larger tiles only where there are as many of them."""


def choose_tile(rows: int, columns: int, batches: int, element_bytes: int) -> Tile:
    """The largest tile that fits, also into registers, and leaves work for all processors."""
    for tile in (LARGE, MIDDLE) if element_bytes <= 4 else (WIDE,):
        blocks = -(-rows // tile.rows) * -(-columns // tile.columns) * batches
        if rows >= tile.rows // 2 and columns >= tile.columns // 2 and (tile is not LARGE or blocks >= ENOUGH_BLOCKS):
            return tile
    return SMALL


class Side:
    """The rows (A's), columns (B's) or batches: axes of the result, and the loops of the contraction over them."""

    def __init__(self, product: Product, axes: Sequence[int]) -> None:
        self.axes = [axis for axis in axes if product.space.sizes[axis].constant != 1]
        self.sizes = [product.space.sizes[axis] for axis in self.axes]
        self.total = ONE
        for size in self.sizes:
            self.total = self.total * size

    @property
    def known(self) -> int:
        """The number of rows, for decisions."""
        return prod(size.constant if size.constant is not None else ASSUMED for size in self.sizes)

    def places(self, frame: Frame, position: Poly) -> dict[int, Poly]:
        """The index along each axis."""
        return dict(zip(self.axes, unflatten(frame, position, self.sizes), strict=True))

    def vectors(self, frame: Frame, unit: Poly, width: int) -> list[dict[int, Poly]]:
        """The same for `width` neighbours; the innermost size is a multiple of them."""
        if width == 1:
            return [self.places(frame, unit)]
        sizes = [*self.sizes[:-1], frame.emitter.quotient(self.sizes[-1], width)]
        index = unflatten(frame, unit, sizes)
        return [
            dict(zip(self.axes, [*index[:-1], index[-1] * width + step], strict=True)) for step in range(width)
        ]

    def is_multiple(self, width: int) -> bool:
        """Whether neighbours, so many at a time, never cross the end of the innermost axis."""
        return bool(self.sizes) and self.sizes[-1].constant is not None and self.sizes[-1].constant % width == 0


def spread(first: Poly, number: int, threads: int, each: int) -> Poly:
    """The place of a thread's row or column: groups of neighbours, one group of every thread after the other, so
    that the threads of a warp read all banks of shared memory at once."""
    near = min(each, NEIGHBOURS)
    group, step = divmod(number, near)
    return first * near + (group * threads * near + step)
