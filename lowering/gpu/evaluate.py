"""What a tensor holds at a point, on a GPU: the evaluator of CPU kernels, for one thread.

What differs: sizes are arguments; neighbouring elements that a thread needs together are one access of up to
16 bytes; and a reduction whose point is the same for a group of threads is done by the group (`groups`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import vector
from xdsl.dialects.builtin import AnyFloat, DenseArrayBase, IntegerType, MemRefType, i64
from xdsl.ir import Attribute, SSAValue

from stepwell.dialects.upstream import core
from stepwell.lowering.tile_to_loops.emit import Emitter
from stepwell.lowering.tile_to_loops.evaluate import Evaluator, Point
from stepwell.lowering.tile_to_loops.graph import Graph, Node
from stepwell.lowering.tile_to_loops.polynomial import Poly

ACCESS_BYTES = 16
"""What one thread reads or writes at once, at most."""

Reduce = Callable[[Node, Sequence[list[Poly]]], list[list[SSAValue]] | None]
"""The results of a reduction at some points; None where this way does not suit."""


def stored_bytes(element: Attribute) -> int:
    """Bytes that an element takes in memory."""
    if isinstance(element, IntegerType):
        bits: int = max(8, element.width.data)
        return bits // 8
    return element.bitwidth // 8 if isinstance(element, AnyFloat) else 8


class ThreadEvaluator(Evaluator):
    """Writes the values of a kernel's tensors for one thread.

    `sizes` has the sizes that are arguments; `reductions` are ways to reduce that are tried before the loop of
    the thread by itself.
    """

    def __init__(
        self,
        emitter: Emitter,
        graph: Graph,
        memories: dict[SSAValue, SSAValue],
        scalars: dict[SSAValue, SSAValue],
        arguments: dict[SSAValue, SSAValue],
    ) -> None:
        super().__init__(emitter, graph, memories, scalars, arguments)
        self.sizes: dict[tuple[object, int], Poly] = {}
        self.reductions: list[Reduce] = []

    def size(self, owner: object, axis: int) -> Poly:
        """The size of an axis of a tensor, or of a loop of a generic."""
        static = self.graph.static_size(owner, axis)
        if static is not None:
            return Poly.of(static)
        source = self.graph.size_source(owner, axis)
        return self.sizes[source] if isinstance(source, tuple) else self.index_scalar(source)

    def reduced(self, node: Node, dims: Sequence[list[Poly]]) -> list[list[SSAValue]]:
        """The results of a reduction at some points."""
        for reduce in self.reductions:
            found = reduce(node, dims)
            if found is not None:
                return found
        return super().reduced(node, dims)

    def evaluate(self, value: SSAValue, points: Sequence[Point]) -> list[SSAValue]:
        """What a tensor holds at some indices."""
        memory = self.memories.get(value)
        if memory is None or len(points) == 1:
            return super().evaluate(value, points)
        return self.load_all(memory, [self.flat(value, point) for point in points])

    # ------ several elements at once

    def load_all(self, memory: SSAValue, places: Sequence[Poly], written: bool = False) -> list[SSAValue]:
        """The elements at some places of a flat memref."""
        found: list[SSAValue] = []
        for first, count in _runs(memory, places):
            if count == 1:
                found.append(self.load(memory, places[first], written))
            else:
                kind = self.emitter.vector_type(_element(memory), count)
                operands = (memory, self.emitter.scalar(places[first]))
                loaded = self.emitter.read(vector.LoadOp, operands, kind, written)
                found += [self._lane(loaded, lane, kind.element_type) for lane in range(count)]
        return found

    def _lane(self, value: SSAValue, lane: int, element: Attribute) -> SSAValue:
        return self.emitter.emit(vector.ExtractOp, (value,), element, LANES[lane])

    def store_all(self, values: Sequence[SSAValue], memory: SSAValue, places: Sequence[Poly]) -> None:
        """Write elements at some places of a flat memref."""
        for first, count in _runs(memory, places):
            if count == 1:
                self.store(values[first], memory, places[first])
            else:
                kind = self.emitter.vector_type(_element(memory), count)
                whole = self.emitter.effect(core.FromElementsOp, values[first : first + count], (kind,)).results[0]
                self.emitter.effect(vector.StoreOp, (whole, memory, self.emitter.scalar(places[first])))


LANES = tuple({"static_position": DenseArrayBase.from_list(i64, [lane])} for lane in range(ACCESS_BYTES))


def _element(memory: SSAValue) -> Attribute:
    assert isinstance(memory.type, MemRefType)
    found: Attribute = memory.type.element_type
    return found


def _runs(memory: SSAValue, places: Sequence[Poly]) -> list[tuple[int, int]]:
    """Places as runs (first, count) of one aligned access each: neighbours, from a multiple of their number on."""
    widest = ACCESS_BYTES // stored_bytes(_element(memory))
    found: list[tuple[int, int]] = []
    first = 0
    while first < len(places):
        count = 1
        while 2 * count <= widest and _is_run(places[first : first + 2 * count], 2 * count):
            count *= 2
        found.append((first, count))
        first += count
    return found


def _is_run(places: Sequence[Poly], count: int) -> bool:
    return (
        len(places) == count
        and all(factor % count == 0 for factor in places[0].terms.values())
        and all((place - places[0]).constant == step for step, place in enumerate(places))
    )


