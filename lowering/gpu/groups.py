"""Reductions by a group of threads: part of a warp, or a whole block.

Each thread combines its share of the row; lanes of a warp exchange by shuffles, and warps meet in shared memory.
Every thread of the group ends with the result. The order of combining is fixed by sizes alone.

A thread's share of a row of `total` elements, `width` neighbours at a time:

    for step = 0, 1, ...:   elements (lane + step * threads) * width + 0 ... width - 1

Short rows are unrolled: what a thread has read or computed for one pass over its row is still in its registers
for the next one. (Nobody plans that: the same op at the same place is written once.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from xdsl.dialects import arith, memref
from xdsl.dialects.builtin import AnyFloat, IntegerAttr, IntegerType, i1, i32, i64
from xdsl.ir import Attribute, SSAValue

from stepwell.dialects.upstream import core
from stepwell.dialects.upstream import gpu as upstream_gpu
from stepwell.lowering.gpu.frame import Frame
from stepwell.lowering.gpu.pointwise import unflatten
from stepwell.lowering.linalg.structure import Reduction, reduction
from stepwell.lowering.tile_to_loops.accesses import node_accesses
from stepwell.lowering.tile_to_loops.bodies import has_branches
from stepwell.lowering.tile_to_loops.emit import INDEX
from stepwell.lowering.tile_to_loops.evaluate import Evaluator
from stepwell.lowering.tile_to_loops.graph import Node
from stepwell.lowering.tile_to_loops.polynomial import ONE, ZERO, Atom, Poly
from stepwell.lowering.tile_to_loops.reduce import initial, neutral

XOR = {"mode": upstream_gpu.ShuffleModeAttr(upstream_gpu.ShuffleMode.XOR)}
EQUAL = {"predicate": IntegerAttr(0, i64)}

IN_REGISTERS = 32
"""So many elements of a row a thread keeps; longer rows are read again for each pass."""

Step = tuple[list[Poly], SSAValue | None]
"""Some neighbours of a row, and the condition on which they are there (None: always)."""


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


@dataclass(eq=False)
class Group:
    """Threads that work on one row together.

    `threads` of them, a power of two: at most a warp, or the block. `lane` is a thread's number in its group,
    `width` how many neighbours it takes at once, `valid` the condition on which the group has a row.
    """

    frame: Frame
    threads: int
    lane: Poly
    width: int
    valid: SSAValue | None
    row: frozenset[Atom]
    """What the row's index is made of: equal for all threads of the group."""

    # ------ shares

    def share(self, total: Poly) -> tuple[int, bool]:
        """(neighbours at once, whether the share is unrolled) for a row of so many elements."""
        size = total.constant
        if size is None:
            return 1, False
        width = self.width if size % self.width == 0 else 1
        return width, -(-size // (self.threads * width)) * width <= IN_REGISTERS

    def unrolled(self, total: Poly) -> Iterator[Step]:
        """A thread's share, step by step. Beyond the end it is the last elements again, on a false condition."""
        frame, emitter, width = self.frame, self.frame.emitter, self.share(total)[0]
        assert total.constant is not None
        units = total.constant // width
        for step in range(-(-units // self.threads)):
            unit = self.lane + step * self.threads
            condition = None
            if (step + 1) * self.threads > units:
                condition = frame.below(unit, Poly.of(units))
                unit = emitter.minimum(unit, Poly.of(units - 1))
            yield [unit * width + i for i in range(width)], condition

    def steps(self, total: Poly) -> tuple[Poly, int]:
        """(steps of this thread, neighbours at once) where the share is a loop."""
        width, emitter = self.share(total)[0], self.frame.emitter
        units = emitter.quotient(total, width) if width > 1 else total
        return emitter.quotient(units + (self.threads - 1) - self.lane, self.threads), width

    def at(self, variable: SSAValue, width: int) -> list[Poly]:
        """The neighbours of a step of that loop."""
        unit = self.frame.emitter.atom(variable) * self.threads + self.lane
        return [unit * width + i for i in range(width)]

    # ------ reductions

    def reduce(self, node: Node, dims: Sequence[list[Poly]]) -> list[list[SSAValue]] | None:
        """The results of a reduction at some points, where the whole group asks for them."""
        evaluator, emitter = self.frame.evaluator, self.frame.emitter
        combiners = reduction(node.op)
        if combiners is None or has_branches(node.body) or emitter.guard_depth() > 0:
            return None
        if any(atom not in self.row for point in dims for poly in point for atom in poly.atoms()):
            return None
        with emitter.at(0):
            return [self._total(evaluator, node, combiners, list(point)) for point in dims]

    def _total(
        self, evaluator: Evaluator, node: Node, combiners: Sequence[Reduction], dims: list[Poly]
    ) -> list[SSAValue]:
        starts = initial(evaluator, node, [dims])[0]
        partial = self._own_share(evaluator, node, combiners, dims, [value.type for value in starts])
        totals = self._across(combiners, partial)
        return [self.combine(*given) for given in zip(combiners, totals, starts, strict=True)]

    def _own_share(
        self,
        evaluator: Evaluator,
        node: Node,
        combiners: Sequence[Reduction],
        dims: list[Poly],
        elements: Sequence[Attribute],
    ) -> list[SSAValue]:
        """This thread's elements combined."""
        emitter = self.frame.emitter
        loops = merged(evaluator, node)
        sizes = [size for _, size in loops]
        total = ONE
        for size in sizes:
            total = total * size
        state = [
            emitter.number(neutral(type(c.op), kind), kind) for c, kind in zip(combiners, elements, strict=True)
        ]

        def add(places: Sequence[Poly], state: list[SSAValue]) -> list[SSAValue]:
            points = []
            for place in places:
                point = [ZERO if dim in node.reduced else index for dim, index in enumerate(dims)]
                for (dim, _), index in zip(loops, unflatten(self.frame, place, sizes), strict=True):
                    point[dim] = index
                points.append(point)
            rows = evaluator.arguments_of(node, points, [state] * len(points))
            for point, row in zip(points, rows, strict=True):
                row[len(node.inputs) :] = state
                state = evaluator.run_body(node, point, row)
            return state

        if self.share(total)[1]:
            for places, condition in self.unrolled(total):
                new = add(places, state)
                state = new if condition is None else self._where(condition, new, state)
            return state
        count, width = self.steps(total)
        with emitter.loop(ZERO, count, state) as loop:
            loop.yields = add(self.at(loop.variable, width), loop.carried)
        return loop.results

    def _where(self, condition: SSAValue, new: Sequence[SSAValue], old: Sequence[SSAValue]) -> list[SSAValue]:
        return [self.frame.choose(condition, a, b) for a, b in zip(new, old, strict=True)]

    def _across(self, combiners: Sequence[Reduction], values: list[SSAValue]) -> list[SSAValue]:
        """The values of all threads combined, for every thread: within warps, then the warps' results."""
        emitter, frame, warp = self.frame.emitter, self.frame, self.frame.device.warp
        within = min(warp, self.threads)
        values = [self._within_warp(c, v, within) for c, v in zip(combiners, values, strict=True)]
        if self.threads <= warp:
            return values
        warps = self.threads // warp
        memories = [frame.shared(value.type, warps) for value in values]
        lane, number = emitter.remainder(self.lane, warp), emitter.quotient(self.lane, warp)
        first = emitter.emit(core.CmpiOp, (emitter.scalar(lane), emitter.index(0)), i1, EQUAL)
        with emitter.when(first):
            for memory, value in zip(memories, values, strict=True):
                emitter.effect(memref.StoreOp, (value, memory, emitter.scalar(number)))
        frame.barrier()
        # Every warp reads all of them: lane i the result of warp i mod warps, so that shuffles give all lanes it.
        place = emitter.scalar(emitter.remainder(lane, warps))
        loaded = [
            emitter.read(memref.LoadOp, (memory, place), value.type, True)
            for memory, value in zip(memories, values, strict=True)
        ]
        return [self._within_warp(c, v, warps) for c, v in zip(combiners, loaded, strict=True)]

    def _within_warp(self, combiner: Reduction, value: SSAValue, width: int) -> SSAValue:
        """Groups of `width` lanes (a power of two) exchange with the lane at distance width/2, ..., 1."""
        distance = width // 2
        while distance:
            value = self.combine(combiner, value, self._exchange(value, distance))
            distance //= 2
        return value

    def _exchange(self, value: SSAValue, distance: int) -> SSAValue:
        """The value of the lane whose number differs by `distance`; narrow types travel as 32 bits."""
        emitter, kind = self.frame.emitter, value.type
        narrow = narrow_bits(kind)
        if narrow:
            bits = IntegerType(narrow)
            carried = emitter.emit(arith.BitcastOp, (value,), bits) if isinstance(kind, AnyFloat) else value
            shuffled = self._shuffle(emitter.emit(core.ExtUIOp, (carried,), i32), distance)
            shuffled = emitter.emit(core.TruncIOp, (shuffled,), bits)
            return emitter.emit(arith.BitcastOp, (shuffled,), kind) if isinstance(kind, AnyFloat) else shuffled
        if kind == INDEX:
            wide = self._shuffle(emitter.emit(core.IndexCastOp, (value,), i64), distance)
            return emitter.emit(core.IndexCastOp, (wide,), INDEX)
        return self._shuffle(value, distance)

    def _shuffle(self, value: SSAValue, distance: int) -> SSAValue:
        emitter = self.frame.emitter
        operands = (value, emitter.number(distance, i32), emitter.number(self.frame.device.warp, i32))
        op = emitter.effect(upstream_gpu.ShuffleOp, operands, (value.type, i1))
        op.properties.update(XOR)
        return op.results[0]

    def combine(self, combiner: Reduction, a: SSAValue, b: SSAValue) -> SSAValue:
        """Two accumulators as one."""
        return self.frame.emitter.emit(type(combiner.op), (a, b), a.type, combiner.op.properties)


def narrow_bits(kind: Attribute) -> int:
    """Bits of a type that is narrower than 32, else 0."""
    bits = kind.width.data if isinstance(kind, IntegerType) else kind.bitwidth if isinstance(kind, AnyFloat) else 64
    return int(bits) if bits < 32 else 0


Body = Callable[[list[Poly], SSAValue | None], None]


def over_share(group: Group, total: Poly, body: Body) -> None:
    """Do something for each step of a thread's share of a row."""
    if group.share(total)[1]:
        for places, condition in group.unrolled(total):
            body(places, condition)
        return
    count, width = group.steps(total)
    with group.frame.emitter.loop(ZERO, count) as loop:
        body(group.at(loop.variable, width), None)
