"""From a kernel to its function: the frame (arguments, scratch), and which template writes the loops.

`nest` writes everything. A template that finds a kernel not to be of its form leaves it to `nest`: schedules
speak of speed only.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from xdsl.dialects import func

from stepwell.dialects.target import Target
from stepwell.dialects.tile import KernelOp
from stepwell.lowering.tile_to_loops.choose import (
    CHUNK,
    accesses_of,
    all_maskable,
    can_vectorize,
    lane_axis,
    lanes_of,
    merge_axes,
    shared_axes,
)
from stepwell.lowering.tile_to_loops.evaluate import Plan
from stepwell.lowering.tile_to_loops.frame import Frame
from stepwell.lowering.tile_to_loops.matmul import matmul
from stepwell.lowering.tile_to_loops.nest import Nest, Space, Tiling, is_empty, spaces_of

def lower_kernel(kernel: KernelOp, target: Target) -> func.FuncOp:
    """The function of a kernel. Raises UnsupportedError for a body that cannot be written."""
    frame = Frame(kernel, target)
    TEMPLATES[kernel.template](frame)
    return frame.function()


# ------ templates


def nest(frame: Frame) -> None:
    """Each shape of results by itself: lanes on the best axis, single elements where there is none."""
    for space in spaces_of(frame.evaluator, frame.outputs):
        pointwise(frame, space)


def pointwise(frame: Frame, space: Space, merge: bool = True) -> None:
    """Loops over one space."""
    evaluator, kernel = frame.evaluator, frame.kernel
    if is_empty(space):
        return
    found, atoms, walk = accesses_of(evaluator, space)
    if merge:
        merge_axes(space, found, atoms)
    elements = found.elements()
    evaluator.vector_lanes = lanes_of(elements, frame.target) if can_vectorize(evaluator) else 1
    wanted = frame.setting("vector_dim", -1)
    axis = wanted if 0 <= wanted < space.rank else lane_axis(evaluator, space, found, atoms, walk)
    evaluator.lanes = evaluator.vector_lanes if axis is not None else 1
    order = [a for a in range(space.rank) if a != axis]
    parallel = bool(kernel.size("parallel"))
    tiling = Tiling(axis, order=order, blocks=shared_axes(space, order, frame.target, parallel))
    tiling.masked = all_maskable(frame.target, elements)
    if axis is not None:
        order.append(axis)
        tiling.tile[axis] = vectors_at_once(frame, space, axis, len(walk.reduced) > 0)
        chunk_lanes(tiling, space, axis, evaluator.vector_lanes, parallel)
    plan_windows(frame)
    Nest(evaluator, space, tiling).write()


def vectors_at_once(frame: Frame, space: Space, axis: int, reduces: bool) -> int:
    """How many vectors one iteration handles: more for short bodies, to keep the units busy."""
    wanted = frame.setting("unroll", -1)
    if wanted > 0:
        return wanted
    ops = sum(len(node.body.ops) for node in frame.graph.nodes.values())
    return 4 if reduces or ops <= 12 else 2 if ops <= 48 else 1


def chunk_lanes(tiling: Tiling, space: Space, axis: int, lanes: int, parallel: bool) -> None:
    """Where only the lanes' axis is long, threads share it in chunks."""
    size = space.sizes[axis].constant
    if not parallel or tiling.blocks and prod(space.sizes[a].constant or CHUNK for a in tiling.blocks) >= 8:
        return
    if size is None or size >= 2 * lanes:
        tiling.blocks[axis] = max(lanes * tiling.tile[axis], CHUNK // (lanes * 4) * lanes * 4)


WINDOW_STEPS = 16
"""Windows of at most so many elements are unrolled completely."""


def plan_windows(frame: Frame) -> None:
    """Unroll reductions over small static windows."""
    for node in frame.graph.nodes.values():
        sizes = {dim: frame.evaluator.size(node.op, dim).constant for dim in node.reduced}
        small = [d for d, s in sizes.items() if s is not None and s <= 7]
        steps = 1
        whole: list[int] = []
        for dim in reversed(small):
            steps *= sizes[dim] or 1
            if steps <= WINDOW_STEPS:
                whole.insert(0, dim)
        order = tuple(d for d in node.reduced if d not in whole) + tuple(whole)
        if node.reduced and node.op not in frame.evaluator.plans:
            frame.evaluator.plans[node.op] = Plan(order, 1, tuple(whole))


def products(frame: Frame) -> None:
    """Contractions."""
    if not matmul(frame):
        nest(frame)


TEMPLATES: dict[str, Callable[[Frame], None]] = {
    "nest": nest, "map": nest, "rows": nest, "matmul": products, "conv": nest, "depthwise": nest, "window": nest,
}  # fmt: skip
