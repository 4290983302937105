"""What a Winograd convolution costs on a target, how its work is best divided, and what the direct one costs.

A unit of work is some rows of tiles of one image (or a part of one row) and some blocks of output channels: their
inputs are transformed, multiplied and transformed back within one core's cache, while the filters stream by. More
tiles read the filters less often; fewer channels in a unit transform inputs more often. All costs are in cycles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from stepwell.dialects.target import Target
from stepwell.lowering.analysis.winograd import POINTS, WINDOW

FLOAT = 4
"""Bytes of an element."""

CACHE_SHARE = 0.7
"""How much of the second-level cache a unit's own values may take."""

PRODUCTS_COUNT = 0.25
"""How much of the products counts there: they are written and read once, and may be pushed out in between."""

SHARED_SIZE = 32 << 20
"""More than this no core can count on in a cache that others share, however large it is."""

NEAR, SHARED, FAR = 32.0, 8.0, 4.0
"""Bytes per cycle that filters stream with from a core's cache, from the cores' cache, and from memory."""

LOADS = 1.15
"""What a load costs beside multiply-adds: two are done in a cycle, but for those that the cache has to wait for."""

INPUT, OUTPUT = 2.5, 1.5
"""What the transforms take, in stores of a vector of each number that they compute: their values come from, and go to,
the second-level cache."""

LATENCY = 4
"""Cycles of a multiply-add: a step of a product takes no less."""

FIRST_SHARE = 0.9
"""How much of the first-level cache the filters of a register tile and the inputs of one product may take."""

MISS = 2
"""Cycles for each vector of filters that a register tile after the first does not find there."""

TILE_END = 24
"""Cycles for the start and the end of the loop of one register tile."""

DIRECT_EFFICIENCY = 0.75
"""The share of its multiply-adds' peak that a direct convolution reaches."""

GAIN = 0.85
"""A Winograd convolution must take less than this share of the direct one's time."""

WIDEST_BLOCKS = 4
"""Blocks of output channels in a register tile, at most."""


@dataclass(frozen=True)
class Problem:
    """A 3 x 3 convolution on blocked channels: images, blocks of input and output channels, channels in a block,
    rows and columns of the result."""

    images: int
    inputs: int
    outputs: int
    block: int
    height: int
    width: int

    def tiles(self, m: int) -> tuple[int, int]:
        """Rows and columns of tiles of m x m results."""
        return -(-self.height // m), -(-self.width // m)


@dataclass(frozen=True)
class Division:
    """The sizes in the schedule: rows and columns of tiles and blocks of output channels of one unit of work; tiles
    and blocks of output channels of the register tile."""

    rows: int
    columns: int
    blocks: int
    tiles: int
    cob: int


@dataclass(frozen=True)
class Choice:
    """A way to compute a convolution and its cycles: the mean of what one thread needs for all, shared evenly, and
    of what the busiest of all threads needs."""

    m: int
    division: Division
    cycles: float


def direct_cycles(problem: Problem, target: Target) -> float:
    """The cycles of the direct convolution on one core."""
    vectors = max(1, problem.block // target.lanes(8 * FLOAT))
    points = problem.images * problem.height * problem.width
    depth = problem.inputs * problem.block * WINDOW * WINDOW
    compute = points * problem.outputs * vectors * depth / 2 / DIRECT_EFFICIENCY
    return max(compute, depth * problem.outputs * problem.block * FLOAT / _rate(problem, WINDOW, target))


def choose(problem: Problem, target: Target) -> Choice | None:
    """The best Winograd convolution, where it pays; else None."""
    best = min((divide(problem, m, target) for m in POINTS), key=lambda choice: choice.cycles)
    return best if best.cycles < GAIN * direct_cycles(problem, target) / target.cores else None


@cache
def divide(problem: Problem, m: int, target: Target) -> Choice:
    """The best division of the work for tiles of m x m results: within the cache, or, where nothing fits, the
    smallest units."""
    found = [d for d in _divisions(problem, m, target) if _fits(problem, m, d, target)]
    division = min(found, key=lambda d: _cycles(problem, m, d, target), default=Division(1, 1, 1, 1, 1))
    return Choice(m, division, _cycles(problem, m, division, target))


def _fits(problem: Problem, m: int, division: Division, target: Target) -> bool:
    a = m + WINDOW - 1
    tiles = -(-division.rows * division.columns // division.tiles) * division.tiles
    own = a * a * tiles * problem.block * FLOAT * (problem.inputs + PRODUCTS_COUNT * division.blocks)
    return own <= CACHE_SHARE * target.l2


def filters_stream(problem: Problem, a: int, target: Target) -> bool:
    """Whether transformed filters come from beyond the core's own cache each time that they are read."""
    return _rate(problem, a, target) != NEAR


def _rate(problem: Problem, side: int, target: Target) -> float:
    """Bytes per cycle that filters of side x side values stream with."""
    size = side * side * problem.inputs * problem.outputs * problem.block**2 * FLOAT
    return NEAR if size <= target.l2 // 2 else SHARED if size <= min(target.l3, SHARED_SIZE) else FAR


def _divisions(problem: Problem, m: int, target: Target) -> Iterator[Division]:
    vectors = max(1, problem.block // target.lanes(8 * FLOAT))
    for rows, columns in _parts(*problem.tiles(m)):
        for cob in range(1, WIDEST_BLOCKS + 1):
            room = (target.registers - cob * vectors - 1) // (cob * vectors)
            if problem.outputs % cob or room < 1:
                continue
            count, depth = rows * columns, problem.inputs * problem.block
            tiles = min(
                range(1, min(room, count) + 1),
                key=lambda t: -(-count // t) * (depth * _step(t, cob * vectors) + TILE_END),
            )
            for parts in (1, 2, 4, 8):
                if problem.outputs % (parts * cob) == 0 and parts <= 4 * target.cores:
                    yield Division(rows, columns, problem.outputs // parts, tiles, cob)


def _parts(high: int, wide: int) -> Iterator[tuple[int, int]]:
    """Rows and columns of tiles of a unit: whole rows, or a part of one."""
    yield from ((rows, wide) for rows in sorted({-(-high // parts) for parts in range(1, high + 1)}))
    yield from ((1, columns) for columns in sorted({-(-wide // parts) for parts in range(2, wide + 1)}))


def _step(tiles: int, vectors: int) -> float:
    """The cycles of one step of a product on a register tile: multiply-adds, loads and broadcasts, or latency."""
    return max(tiles * vectors / 2, (tiles + vectors) / 2 * LOADS, LATENCY)


def _cycles(problem: Problem, m: int, division: Division, target: Target) -> float:
    """See Choice."""
    high, wide = problem.tiles(m)
    a = m + WINDOW - 1
    vectors = max(1, problem.block // target.lanes(8 * FLOAT))
    tiles = division.rows * division.columns
    transform = (a * m + 2 * a * a) * vectors
    depth = problem.inputs * problem.block
    count = -(-tiles // division.tiles)
    one = count * (depth * _step(division.tiles, division.cob * vectors) + TILE_END)
    if depth * (division.cob * problem.block + tiles) * FLOAT > FIRST_SHARE * target.l1:
        one += (count - 1) * depth * division.cob * vectors * MISS
    products = a * a * division.blocks // division.cob * one
    stream = a * a * problem.inputs * division.blocks * problem.block**2 * FLOAT / _rate(problem, a, target)
    transforms = (INPUT * problem.inputs + OUTPUT * division.blocks) * tiles * transform
    unit = transforms + max(products, stream)
    parts = -(-high // division.rows) * -(-wide // division.columns)
    units = problem.images * parts * (problem.outputs // division.blocks)
    return (units / target.cores + -(-units // target.cores)) / 2 * unit
