"""What a tensor holds at a point, on a GPU: reductions of a whole block, and of one thread.

A reduction whose point is the same for all threads of a block is done by the block: each thread steps through the
reduced elements with a stride of the block's size, warps combine by shuffles, and the warps' results meet in
shared memory. The order is fixed by sizes alone. Every thread ends with the result. Any other reduction is a loop of
the thread that needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xdsl.dialects import arith, memref
from xdsl.dialects.builtin import AnyFloat, IntegerType, i1, i32
from xdsl.ir import Attribute, Operation, SSAValue

from stepwell.dialects.upstream import gpu as upstream_gpu
from stepwell.lowering.linalg.structure import Reduction, reduction
from stepwell.lowering.tile_to_loops.accesses import node_accesses
from stepwell.lowering.tile_to_loops.bodies import has_branches
from stepwell.lowering.tile_to_loops.evaluate import Evaluator
from stepwell.lowering.tile_to_loops.graph import Node
from stepwell.lowering.tile_to_loops.polynomial import ONE, ZERO, Atom, Poly
from stepwell.lowering.tile_to_loops.reduce import initial, neutral

if TYPE_CHECKING:
    from stepwell.lowering.gpu.frame import Frame


class BlockEvaluator(Evaluator):
    """Writes the values of a kernel's tensors, for one thread of a block.

    `sizes` has the sizes that are arguments, `uniform` the atoms that are equal for all threads of a block and
    `given` what a template has computed for a node at the present point by itself.
    """

    def __init__(self, frame: Frame, scalars: dict[SSAValue, SSAValue], tensors: dict[SSAValue, SSAValue]) -> None:
        super().__init__(frame.emitter, frame.graph, {}, scalars, tensors)
        self.frame = frame
        self.sizes: dict[tuple[object, int], Poly] = {}
        self.uniform: set[Atom] | None = None
        self.given: dict[Operation, list[SSAValue]] = {}

    def size(self, owner: object, axis: int) -> Poly:
        """The size of an axis of a tensor, or of a loop of a generic."""
        static = self.graph.static_size(owner, axis)
        if static is not None:
            return Poly.of(static)
        source = self.graph.size_source(owner, axis)
        return self.sizes[source] if isinstance(source, tuple) else self.index_scalar(source)

    def reduced(self, node: Node, dims: Sequence[list[Poly]]) -> list[list[SSAValue]]:
        """The results of a reduction at some points."""
        if node.op in self.given:
            assert len(dims) == 1
            return [self.given[node.op]]
        if not self.is_shared(node, dims):
            return super().reduced(node, dims)
        depth = max(self.point_depth(point) for point in dims)
        with self.emitter.at(depth):
            return [BlockReduction(self, node).results(list(point)) for point in dims]

    def is_shared(self, node: Node, dims: Sequence[list[Poly]]) -> bool:
        """Whether all threads of the block ask for the same, together, and the combination is known."""
        if self.uniform is None or reduction(node.op) is None or has_branches(node.body):
            return False
        if self.emitter.guard_depth() > 0:
            return False
        return all(atom in self.uniform for point in dims for poly in point for atom in poly.atoms())


def merged(evaluator: Evaluator, node: Node) -> list[tuple[int, Poly]]:
    """The reduced loops, outermost first, with their sizes; those that all reads step over as over one are one
    (the inner one, which then has all the steps)."""
    accesses, atoms = node_accesses(evaluator, node)
    sizes = {dim: evaluator.size(node.op, dim) for dim in node.reduced}
    inner = node.reduced[-1]
    kept = [inner]
    for outer in reversed(node.reduced[:-1]):
        if sizes[outer].constant == 1:
            continue
        if accesses.one_loop(atoms[outer], atoms[inner], sizes[inner]):
            sizes[inner] = sizes[inner] * sizes[outer]
        else:
            inner = outer
            kept.insert(0, outer)
    return [(dim, sizes[dim]) for dim in kept]


def unflatten(evaluator: Evaluator, position: Poly, sizes: Sequence[Poly]) -> list[Poly]:
    """The index in each of some nested loops from the number of a step; the outermost takes what is left."""
    emitter = evaluator.emitter
    found: list[Poly] = []
    for size in reversed(sizes[1:]):
        if size.constant is not None:
            found.insert(0, emitter.remainder(position, size.constant))
            position = emitter.quotient(position, size.constant)
        else:
            position, rest = emitter.divided(position, size)
            found.insert(0, rest)
    return [position, *found] if sizes else found


class BlockReduction:
    """One reduction by all threads of a block."""

    def __init__(self, evaluator: BlockEvaluator, node: Node) -> None:
        self.evaluator, self.node, self.emitter = evaluator, node, evaluator.emitter
        self.frame = evaluator.frame
        combiners = reduction(node.op)
        assert combiners is not None
        self.combiners = combiners

    def results(self, dims: list[Poly]) -> list[SSAValue]:
        """All results at a point."""
        starts = initial(self.evaluator, self.node, [dims])[0]
        partial = self._own_share(dims, [value.type for value in starts])
        totals = self._across(partial)
        return [
            self.combine(combiner, total, start)
            for combiner, total, start in zip(self.combiners, totals, starts, strict=True)
        ]

    def _own_share(self, dims: list[Poly], elements: Sequence[Attribute]) -> list[SSAValue]:
        """This thread's elements combined: thread, thread + block, ..."""
        evaluator, emitter, threads = self.evaluator, self.emitter, self.frame.threads
        loops = merged(evaluator, self.node)
        total = ONE
        for _, size in loops:
            total = total * size
        thread = self.frame.thread()
        steps = emitter.quotient(total + (threads - 1) - thread, threads)
        neutrals = [
            emitter.number(neutral(type(c.op), kind), kind) for c, kind in zip(self.combiners, elements, strict=True)
        ]
        with emitter.loop(ZERO, steps, neutrals) as loop:
            place = emitter.atom(loop.variable) * threads + thread
            if total.constant is not None:
                place = emitter.atom(emitter.scalar(place), total.constant)
            point = [ZERO if dim in self.node.reduced else index for dim, index in enumerate(dims)]
            for (dim, _), index in zip(loops, unflatten(evaluator, place, [s for _, s in loops]), strict=True):
                point[dim] = index
            row = evaluator.arguments_of(self.node, [point], [loop.carried])[0]
            loop.yields = evaluator.run_body(self.node, point, row)
        return loop.results

    def _across(self, values: list[SSAValue]) -> list[SSAValue]:
        """The values of all threads combined, for every thread: within warps, then the warps' results."""
        emitter, warp, threads = self.emitter, self.frame.device.warp, self.frame.threads
        width = min(warp, threads)
        values = [self._within_warp(c, v, width) for c, v in zip(self.combiners, values, strict=True)]
        if threads <= warp:
            return values
        warps = threads // warp
        memories = [self.frame.shared(value.type, warps) for value in values]
        if emitter.depth > 0:
            self.frame.barrier()
        thread = self.frame.thread()
        lane, number = emitter.remainder(thread, warp), emitter.quotient(thread, warp)
        with emitter.when(self._equal(lane, ZERO)):
            for memory, value in zip(memories, values, strict=True):
                emitter.effect(memref.StoreOp, (value, memory, emitter.scalar(number)))
        self.frame.barrier()
        # Every warp reads all of them: lane i the result of warp i mod warps, so that shuffles give all lanes it.
        place = emitter.scalar(emitter.remainder(lane, warps))
        loaded = [
            emitter.read(memref.LoadOp, (memory, place), value.type, True)
            for memory, value in zip(memories, values, strict=True)
        ]
        return [self._within_warp(c, v, warps) for c, v in zip(self.combiners, loaded, strict=True)]

    def _equal(self, a: Poly, b: Poly) -> SSAValue:
        from stepwell.dialects.upstream import core

        emitter = self.emitter
        return emitter.emit(core.CmpiOp, (emitter.scalar(a), emitter.scalar(b)), i1, {"predicate": EQUAL})

    def _within_warp(self, combiner: Reduction, value: SSAValue, width: int) -> SSAValue:
        """Groups of `width` lanes (a power of two) exchange with the lane at distance width/2, ..., 1."""
        distance = width // 2
        while distance:
            value = self.combine(combiner, value, self._exchange(value, distance))
            distance //= 2
        return value

    def _exchange(self, value: SSAValue, distance: int) -> SSAValue:
        """The value of the lane whose number differs by `distance`; narrow types travel as 32 bits."""
        emitter, kind = self.emitter, value.type
        operands = (emitter.number(distance, i32), emitter.number(self.frame.device.warp, i32))
        bits = bit_width(kind)
        carried = value
        if bits < 32:
            if isinstance(kind, AnyFloat):
                carried = emitter.emit(arith.BitcastOp, (carried,), IntegerType(bits))
            carried = emitter.emit(core_extui(), (carried,), i32)
        shuffled = self.emitter.effect(
            upstream_gpu.ShuffleOp, (carried, *operands), (carried.type, i1), {"mode": upstream_gpu.XOR}
        ).results[0]
        if bits < 32:
            shuffled = emitter.emit(core_trunci(), (shuffled,), IntegerType(bits))
            if isinstance(kind, AnyFloat):
                shuffled = emitter.emit(arith.BitcastOp, (shuffled,), kind)
        return shuffled

    def combine(self, combiner: Reduction, a: SSAValue, b: SSAValue) -> SSAValue:
        """Two accumulators as one."""
        return self.emitter.emit(type(combiner.op), (a, b), a.type, combiner.op.properties)
