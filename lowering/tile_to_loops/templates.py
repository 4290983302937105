"""From a kernel to its function: the frame (arguments, scratch), and which template writes the loops.

`nest` writes everything. A template that finds a kernel not to be of its form leaves it to `nest`: schedules
speak of speed only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

from xdsl.dialects import func
from xdsl.dialects.builtin import AnyFloat, TensorType
from xdsl.ir import SSAValue

from stepwell.dialects.target import Target
from stepwell.dialects.tile import KernelOp
from stepwell.lowering.tile_to_loops.accesses import Walk
from stepwell.lowering.tile_to_loops.attention import attend
from stepwell.lowering.tile_to_loops.choose import (
    CHUNK,
    accesses_of,
    all_maskable,
    can_vectorize,
    fitting_lanes,
    lane_axis,
    lanes_of,
    merge_axes,
    shared_axes,
    width,
)
from stepwell.lowering.tile_to_loops.conv import sliding_kernel
from stepwell.lowering.tile_to_loops.evaluate import Evaluator, Keep, Plan
from stepwell.lowering.tile_to_loops.frame import Frame
from stepwell.lowering.tile_to_loops.graph import Node
from stepwell.lowering.tile_to_loops.matmul import matmul
from stepwell.lowering.tile_to_loops.nest import Nest, Space, Tiling, is_empty, spaces_of
from stepwell.lowering.tile_to_loops.polynomial import ZERO, Atom, Poly
from stepwell.lowering.tile_to_loops.transpose import Blocks, crossings
from stepwell.lowering.tile_to_loops.winograd import winograd


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
    evaluator = frame.evaluator
    if is_empty(space):
        return
    found, atoms, walk = accesses_of(evaluator, space)
    if merge:
        merge_axes(space, found, atoms)
    elements = found.elements()
    evaluator.vector_lanes = lanes_of(elements, frame.target) if can_vectorize(evaluator) else 1
    wanted = frame.setting("vector_dim", -1)
    axis = wanted if 0 <= wanted < space.rank else lane_axis(evaluator, space, found, atoms, walk)
    outer = reduced_axes(frame, atoms, walk)
    if axis is not None and axis in outer:
        evaluator.vector_lanes = fitting_lanes(space, axis, evaluator.vector_lanes)
    evaluator.lanes = evaluator.vector_lanes if axis is not None else 1
    order = [a for a in range(space.rank) if a != axis and a in outer]
    blocks = shared_axes(space, order, frame.target, frame.shared)
    tiling = Tiling(axis, order=order, blocks=blocks, shared=frame.shared)
    tiling.masked = all_maskable(frame.target, elements)
    inner = [a for a in range(space.rank) if a != axis and a not in outer]
    if axis is not None and axis in outer:
        order += [axis, *inner]
    else:
        order += [*inner, axis] if axis is not None else inner
    if axis is not None:
        tiling.tile[axis] = vectors_at_once(frame, space, axis, len(walk.reduced) > 0)
        chunk_lanes(tiling, space, axis, evaluator.vector_lanes, frame.shared)
    plan_windows(frame)
    keep_rows(frame, space, walk, [*inner, axis] if axis is not None and axis not in outer else inner)
    writer = Nest(evaluator, space, tiling)
    if axis is not None and (crossing := crossings(evaluator, space, found.found, atoms, walk, axis)):
        Blocks(writer, tiling, crossing, walk, atoms)
    writer.write()
    evaluator.keeps.clear()
    evaluator.stages.clear()


def reduced_axes(frame: Frame, atoms: Sequence[Atom], walk: Walk) -> set[int]:
    """The axes on which the kernel's reductions depend: their loops are outside, so that what is reduced is
    computed once per row. All axes, where nothing is reduced."""
    nodes = [node for node in frame.graph.nodes.values() if node.op in walk.reduced]
    if not nodes:
        return set(range(len(atoms)))
    points = [walk.points[node.op][dim] for node in nodes for dim in node.parallel]
    return {axis for axis, atom in enumerate(atoms) if any(point.has(atom) for point in points)}


KEPT_ELEMENTS = 1 << 16
"""Rows of at most so many elements are kept."""


def keep_rows(frame: Frame, space: Space, walk: Walk, inner: Sequence[int]) -> None:
    """Put costly elementwise values of a row that a reduction and something else need into scratch."""
    evaluator, target = frame.evaluator, space.results[0][0].type
    assert isinstance(target, TensorType)
    inner = [axis for axis in inner if space.sizes[axis].constant != 1]
    if not inner or frame.setting("keep", 1) == 0 or min(inner) != space.rank - len(inner):
        return
    sizes = [size for axis in inner if (size := target.get_shape()[axis]) is not None]
    if any(size < 0 for size in sizes) or prod(sizes) > KEPT_ELEMENTS:
        return
    first = min(inner)
    for node in frame.graph.nodes.values():
        if node.reduced or node.op not in walk.points or len(node.op.results) != 1:
            continue
        value = node.op.results[0]
        kind = value.type
        readers = {use.operation for use in value.uses}
        reduces = any(reader in walk.reduced for reader in readers)
        if not reduces or len(readers) < 2 or not is_costly(node):
            continue
        assert isinstance(kind, TensorType)
        if kind.get_shape() != target.get_shape() or not isinstance(kind.element_type, AnyFloat):
            continue
        memory = frame.scratch(kind.element_type, prod(sizes), width(kind.element_type) // 8)
        evaluator.keeps[value] = Keep(memory, partial(row_place, evaluator, value, first))


def row_place(evaluator: Evaluator, value: SSAValue, first: int, index: Sequence[Poly]) -> Poly:
    """The place of an element in its row: the axes from `first` on."""
    total = ZERO
    for position, stride in zip(index[first:], evaluator.strides(value)[first:], strict=True):
        total = total + position * stride
    return total


def is_costly(node: Node) -> bool:
    """Whether computing a value again costs more than reading it."""
    return any(op.name.startswith("math.") and op.name not in CHEAP for op in node.body.ops)


CHEAP = ("math.absf", "math.fma", "math.copysign", "math.sqrt", "math.floor", "math.ceil")


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
    if not parallel or prod(space.sizes[a].constant or CHUNK for a in tiling.blocks) >= 8:
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


def sliding(frame: Frame) -> None:
    """Convolutions and poolings."""
    if not sliding_kernel(frame):
        nest(frame)


TEMPLATES: dict[str, Callable[[Frame], None]] = {
    "nest": nest, "map": nest, "rows": nest, "matmul": products, "conv": sliding, "depthwise": sliding,
    "window": sliding, "winograd": winograd, "attention": attend,
}  # fmt: skip
