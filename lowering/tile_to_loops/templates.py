"""From a kernel to its function: the frame (arguments, scratch), and which template writes the loops.

`nest` writes everything. A template that finds a kernel not to be of its form leaves it to `nest`: schedules
speak of speed only.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from xdsl.dialects import func, memref
from xdsl.dialects.builtin import FunctionType, IndexType, MemRefType, TensorType, i8
from xdsl.ir import Attribute, Block, Region, SSAValue

from stepwell.dialects.diagnostics import UnsupportedError
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
from stepwell.lowering.tile_to_loops.emit import Emitter
from stepwell.lowering.tile_to_loops.evaluate import Evaluator, Plan
from stepwell.lowering.tile_to_loops.graph import Graph
from stepwell.lowering.tile_to_loops.nest import Nest, Space, Tiling, is_empty, spaces_of
from stepwell.lowering.tile_to_loops.polynomial import ONE, Poly

ALIGNMENT = 64


class Frame:
    """A kernel's function while it is written."""

    def __init__(self, kernel: KernelOp, target: Target) -> None:
        self.kernel, self.target = kernel, target
        self.graph = Graph(kernel)
        self.emitter = emitter = Emitter(target)
        self.inputs = [memory_type(t) for t in kernel.function_type.inputs]
        self.results = [memory_type(t) for t in kernel.function_type.outputs]
        self.block = Block(arg_types=[*self.inputs, *self.results, MemRefType(i8, [0])])
        self.scratch_bytes = 0
        for value in self.block.args:
            emitter.argument(value)
        names, given = self.graph.block.args, self.block.args
        tensors = {n: g for n, g in zip(names, given, strict=False) if isinstance(n.type, TensorType)}
        scalars = {n: g for n, g in zip(names, given, strict=False) if not isinstance(n.type, TensorType)}
        self.evaluator = Evaluator(emitter, self.graph, {}, dict(scalars), tensors)
        for name, memory in tensors.items():
            self.evaluator.memories[name] = self._flat(name, memory)
        self.outputs = [
            (value, self._flat(value, memory))
            for value, memory in zip(self.graph.roots, given[len(names) :], strict=False)
        ]

    def _flat(self, tensor: SSAValue, memory: SSAValue) -> SSAValue:
        """A tensor's memref as one dimension; its dynamic sizes are read where they are needed."""
        assert isinstance(tensor.type, TensorType)
        count = ONE
        for axis in range(tensor.type.get_num_dims()):
            count = count * self.evaluator.size(tensor, axis)
        size = count.constant
        return self.emitter.flat(memory, size if size is not None else self.emitter.scalar(count))

    def scratch(self, element: Attribute, count: int, element_bytes: int) -> SSAValue:
        """Thread-private memory for some elements, 64-byte aligned, with a little room after it."""
        offset = self.scratch_bytes
        size = (count * element_bytes + 2 * ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        self.scratch_bytes = offset + size
        with self.emitter.at(0):
            return self.emitter.emit(
                memref.ViewOp, (self.block.args[-1], self.emitter.index(offset)), MemRefType(element, [count]),
                VIEW_SEGMENTS,
            )

    def function(self) -> func.FuncOp:
        """The written function."""
        types = [*self.inputs, *self.results]
        last = self.block.args[-1]
        if self.scratch_bytes:
            types.append(MemRefType(i8, [self.scratch_bytes]))
            last.replace_all_uses_with(self.block.insert_arg(types[-1], len(types) - 1))
        self.block.erase_arg(self.block.args[-1])
        self.block.add_ops(self.emitter.scopes[0].ops)
        self.block.add_op(func.ReturnOp())
        return func.FuncOp(
            self.kernel.sym_name.data, FunctionType.from_lists(types, []), Region(self.block), "private"
        )


VIEW_SEGMENTS: dict[str, Attribute] = {}


def memory_type(kind: Attribute) -> Attribute:
    """The type of a kernel's argument as its function takes it.

    Raises UnsupportedError for what is neither a tensor nor a number.
    """
    if isinstance(kind, TensorType):
        return MemRefType(kind.element_type, kind.get_shape())
    if isinstance(kind, IndexType) or not hasattr(kind, "shape"):
        return kind
    raise UnsupportedError(f"a kernel argument of type {kind}")


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
    wanted = kernel.size("vector_dim") if "vector_dim" in kernel.schedule.data else -1
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
    wanted = frame.kernel.size("unroll") if "unroll" in frame.kernel.schedule.data else -1
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


TEMPLATES: dict[str, Callable[[Frame], None]] = {
    "nest": nest, "map": nest, "rows": nest, "matmul": nest, "conv": nest, "depthwise": nest, "window": nest,
}  # fmt: skip

__all__ = ["TEMPLATES", "Frame", "Poly", "lower_kernel"]
