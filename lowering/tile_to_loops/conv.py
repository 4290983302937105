"""Convolutions and poolings on blocked channels: lanes along the block, register tiles along the image.

One column of the image and one block of channels are one vector of accumulators. The input element is broadcast,
the filter is read in order; both are shared within the tile. Window loops of convolutions stay loops (unrolled,
their loads would be shared and fill the registers); the innermost loop over input channels is unrolled.
"""

from __future__ import annotations

from math import prod

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute

from stepwell.lowering.linalg.structure import Convolution, convolution, window
from stepwell.lowering.tile_to_loops.choose import (
    accesses_of,
    all_maskable,
    fitting_lanes,
    lane_axis,
    lanes_of,
    shared_axes,
    width,
)
from stepwell.lowering.tile_to_loops.evaluate import Plan
from stepwell.lowering.tile_to_loops.frame import Frame
from stepwell.lowering.tile_to_loops.graph import Node
from stepwell.lowering.tile_to_loops.nest import Nest, Space, Tiling, is_empty, spaces_of
from stepwell.lowering.tile_to_loops.next_filters import next_filters
from stepwell.lowering.tile_to_loops.polynomial import Poly

MULTIPLY_ADDS = 96
"""How many an iteration of the innermost loop may have: enough to hide its end, few enough to compile fast."""

CACHE_SHARE = 0.6
"""The share of the second-level cache that the image, or the filters, and what streams by in the meantime may take."""

WINDOW_STEPS = 16
"""Windows of at most so many elements are unrolled where each channel is by itself."""


def sliding_kernel(frame: Frame) -> bool:
    """Writes a kernel that is one convolution or pooling and an epilogue; False where it is not, or where lanes
    do not run along the last axis."""
    nodes = [node for node in frame.graph.nodes.values() if node.reduced]
    spaces = spaces_of(frame.evaluator, frame.outputs)
    if len(nodes) != 1 or len(spaces) != 1 or is_empty(spaces[0]):
        return False
    node, space = nodes[0], spaces[0]
    found = convolution(node.op)
    pool = window(node.op) if found is None else None
    image = found.image if found is not None else pool.image if pool is not None else ()
    accesses, atoms, walk = accesses_of(frame.evaluator, space)
    point = walk.points.get(node.op)
    if not image or point is None:
        return False
    axis_of = {dim: axis for dim in node.parallel for axis, atom in enumerate(atoms) if point[dim] == Poly.of(atom)}
    if len(axis_of) != len(node.parallel):
        return False
    elements = accesses.elements()
    evaluator = frame.evaluator
    evaluator.vector_lanes = fitting_lanes(space, space.rank - 1, lanes_of(elements, frame.target))
    last = lane_axis(evaluator, space, accesses, atoms, walk)
    if last != space.rank - 1 or last in (axis_of[d] for d in image):
        return False
    evaluator.lanes = evaluator.vector_lanes
    tiling = Tiling(last, masked=all_maskable(frame.target, elements), shared=frame.shared)
    size = space.sizes[last].constant
    tiling.tile[last] = vectors = max(1, min(4, (size or 1) // evaluator.lanes))
    column = axis_of[image[-1]]
    tiling.order = [a for a in range(space.rank) if a not in (column, last)] + [column, last]
    if found is not None and not found.is_depthwise:
        dense(frame, node, found, space, tiling, axis_of, vectors)
    else:
        tiling.tile[column] = frame.setting("ow", max(1, 6 // vectors))
        evaluator.plans[node.op] = by_channel(frame, node)
    shared = shared_axes(space, [a for a in tiling.order if a not in (column, last)], frame.target, frame.shared)
    tiling.blocks = {axis: tiling.tile.get(axis, 1) for axis in shared}
    Nest(evaluator, space, tiling).write()
    return True


def dense(
    frame: Frame,
    node: Node,
    found: Convolution,
    space: Space,
    tiling: Tiling,
    axis_of: dict[int, int],
    vectors: int,
) -> None:
    """The tile and the loops of a convolution that sums over channels."""
    registers = frame.target.registers
    column, blocks = axis_of[found.image[-1]], axis_of[found.out_channels[0]]
    count = 1
    if len(found.out_channels) > 1:
        available = space.sizes[blocks].constant or 1
        count = min(frame.setting("cob", max(1, 2 // vectors)), available)
        if available % count:
            count = 1
        tiling.tile[blocks] = count
        tiling.inside = [blocks, tiling.lane_axis] if tiling.lane_axis is not None else []
    wide = count * vectors
    fitting = max(1, (registers - wide - 1) // wide)
    tiling.tile[column] = frame.setting("ow", even_tile(space.sizes[column].constant, fitting))
    accumulators = wide * tiling.tile[column]
    if len(found.image) == 2 and tiling.tile[column] == space.sizes[column].constant:
        # A short row leaves registers free: with several rows in the tile, the filter is read less often.
        row = axis_of[found.image[0]]
        fitting = (registers - wide - 1) // accumulators
        rows = max(1, min(frame.setting("rows", fitting), space.sizes[row].constant or 1))
        tiling.tile[row] = rows
        accumulators *= rows
    inner = found.in_channels[-1]
    steps = frame.evaluator.size(node.op, inner).constant or 1
    unroll = max(u for u in (1, 2, 4, 8, 16) if u == 1 or (steps % u == 0 and u * accumulators <= MULTIPLY_ADDS))
    order = (*found.in_channels[:-1], *found.window, inner)
    unroll, ahead = frame.setting("ci_unroll", unroll), None
    row = axis_of[found.image[0]]
    if rows_first(frame, node, found, tiling, axis_of):
        tiling.order.remove(row)
        tiling.order.insert(tiling.order.index(blocks), row)
    else:
        tile = (tiling.tile.get(row, 1), tiling.tile[column], count)
        ahead = next_filters(frame.evaluator, node, found, tile, unroll)
    frame.evaluator.plans[node.op] = Plan(order, unroll, ahead=ahead)


def rows_first(frame: Frame, node: Node, found: Convolution, tiling: Tiling, axis_of: dict[int, int]) -> bool:
    """Whether all output channels of a row come before the next row. Otherwise the image is gone through once for each
    register tile's channels; this way the filters are, once for each register tile's rows. What does not stay in the
    second-level cache until it is needed again comes from beyond: the order in which less does is taken."""
    if len(found.out_channels) != 2 or len(found.image) != 2:
        return False
    sizes = [frame.evaluator.size(node.op, dim).constant for dim in range(node.rank)]
    kinds = [*frame.kernel.function_type.inputs, *frame.kernel.function_type.outputs]
    counts = [size_in_bytes(kind) for kind in kinds]
    image, filters = (size_in_bytes(node.op._operands[n].type) for n in (found.input, found.filter))
    if None in sizes or None in counts or not image or not filters:
        return False
    row, block = found.image[0], found.out_channels[0]
    rows = -(-(sizes[row] or 1) // tiling.tile.get(axis_of[row], 1))
    groups = -(-(sizes[block] or 1) // tiling.tile.get(axis_of[block], 1))
    streams = sum(count or 0 for count in counts) - image - filters
    room = CACHE_SHARE * frame.target.l2
    channels_cost = filters + image * (groups if image + streams / groups > room else 1)
    rows_cost = image + filters * (rows if filters + (image + streams) / rows > room else 1)
    return rows_cost < channels_cost


def size_in_bytes(kind: Attribute) -> int | None:
    """The size of a tensor; None where that is only known at run time, 0 for what is none."""
    if not isinstance(kind, TensorType):
        return 0
    return None if -1 in kind.get_shape() else prod(kind.get_shape()) * width(kind.element_type) // 8


def even_tile(size: int | None, fitting: int) -> int:
    """The largest tile that fits and divides a size nearly evenly."""
    if size is None:
        return fitting
    tiles = -(-size // min(fitting, size))
    return -(-size // tiles)


def by_channel(frame: Frame, node: Node) -> Plan:
    """Window loops where nothing is summed over channels: unrolled from the innermost on, while short."""
    steps, whole = 1, list[int]()
    for dim in reversed(node.reduced):
        size = frame.evaluator.size(node.op, dim).constant
        if size is None or size * steps > WINDOW_STEPS:
            break
        steps *= size
        whole.insert(0, dim)
    rest = [d for d in node.reduced if d not in whole]
    return Plan((*rest, *whole), 1, tuple(whole))

