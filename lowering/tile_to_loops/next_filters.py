"""The filters of the output channels that a convolution comes to next, asked for while it goes over a small image.

A filter is used for one image and then never again in a call: it comes from memory, or from the cores' cache. Where
the image is a few register tiles, the first of them would wait for all of it, since the processor itself looks ahead
by a page at most. So the register tiles of a block of output channels ask for the filters of the next block, each tile
for its share: in each iteration of the innermost loop some of as many lines as are read there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from xdsl.dialects.builtin import TensorType

from stepwell.dialects.upstream import core
from stepwell.lowering.linalg.structure import Convolution
from stepwell.lowering.tile_to_loops.choose import width
from stepwell.lowering.tile_to_loops.evaluate import Evaluator
from stepwell.lowering.tile_to_loops.graph import Node
from stepwell.lowering.tile_to_loops.packing import SECOND_LEVEL
from stepwell.lowering.tile_to_loops.polynomial import ZERO, Poly

MOST_TILES = 32
"""With more register tiles to an image than that, the time that the first one waits does not count."""

LEAST_BYTES = 4096
"""Shorter filters are there soon enough."""

LINE = 64
"""Bytes that come into a cache together."""


def next_filters(
    evaluator: Evaluator, node: Node, dims: Convolution, tile: tuple[int, int, int], unroll: int
) -> Callable[[Sequence[Poly]], None] | None:
    """What asks for filters, from the first point of a register tile at the first step of an iteration (see `Plan`);
    None where that does not pay. `tile`: rows, columns and blocks of output channels of a register tile; `unroll`:
    steps in an iteration."""
    filters = node.op._operands[dims.filter]
    memory = evaluator.memories.get(filters)
    sizes = [evaluator.size(node.op, dim).constant for dim in range(node.rank)]
    if memory is None or len(dims.out_channels) != 2 or len(dims.image) != 2 or None in sizes:
        return None
    assert isinstance(filters.type, TensorType)
    known = [size or 0 for size in sizes]
    rows, columns, blocks = tile
    (y, x), (output, lane) = dims.image, dims.out_channels
    across = -(-known[x] // columns)
    tiles = -(-known[y] // rows) * across
    each_bytes = known[lane] * width(filters.type.element_type) // 8
    depth = prod(known[d] for d in (*dims.in_channels, *dims.window))
    if known[output] <= blocks or not 1 < tiles <= MOST_TILES or each_bytes % LINE or depth * each_bytes < LEAST_BYTES:
        return None
    vectors = blocks * unroll
    share = -(-vectors // tiles)
    emitter, inner = evaluator.emitter, dims.in_channels[-1]
    properties = core.prefetch_properties(False, SECOND_LEVEL)

    def ask(point: Sequence[Poly]) -> None:
        number = emitter.quotient(point[y], rows) * across + emitter.quotient(point[x], columns)
        first = emitter.minimum(emitter.remainder(number * share, vectors), Poly.of(vectors - share))
        start = emitter.minimum(point[output] + blocks, Poly.of(known[output] - blocks))
        for vector in range(share):
            there = list(point)
            there[output] = start + emitter.quotient(first + vector, unroll)
            there[inner] = point[inner] + emitter.remainder(first + vector, unroll)
            there[lane] = ZERO
            place = evaluator.flat(filters, [evaluator.affine(e, there) for e in node.maps[dims.filter].results])
            for line in range(0, each_bytes, LINE):
                where = emitter.scalar(place + line * known[lane] // each_bytes)
                emitter.effect(core.PrefetchOp, (memory, where), (), properties)

    return ask
