"""What a tensor of the kernel holds at a point, written on demand.

The loops of a template fix the points (index expressions, with LANE in one dimension where they are vectors);
everything else follows from the results backwards: an argument is loaded, an elementwise op computed in
registers, a reduction becomes loops of its own, in the outermost block where its point is known. So a softmax
row has its maximum before the loop that needs it, without anyone having planned so.

Several points are asked for together (a register tile): a reduction then runs one loop with one accumulator per
point, and what points share is loaded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from xdsl.dialects import arith, memref, tensor, vector
from xdsl.dialects.builtin import BFloat16Type, Float16Type, IntegerType, MemRefType, TensorType, VectorType, i1
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir.affine import AffineBinaryOpExpr, AffineBinaryOpKind, AffineConstantExpr, AffineDimExpr, AffineExpr

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.target import Target
from stepwell.dialects.upstream import core
from stepwell.lowering.tile_to_loops.bodies import Body, Position, Value, fusible_products
from stepwell.lowering.tile_to_loops.emit import INDEX, Emitter
from stepwell.lowering.tile_to_loops.graph import Graph, Node
from stepwell.lowering.tile_to_loops.polynomial import LANE, ONE, ZERO, Poly

Point = tuple[Poly, ...]


@dataclass(frozen=True)
class Plan:
    """How the loops of one reduction are written: their order, outermost first, and how many steps of the
    innermost one make an iteration."""

    order: tuple[int, ...]
    unroll: int = 1
    whole: tuple[int, ...] = ()
    """Loops that are unrolled completely (small static windows); they come last in `order`."""
    ahead: Callable[[Sequence[Poly]], None] | None = None
    """Called at the beginning of each iteration of the innermost loop, with the first point, at the first step of the
    iteration where steps are consecutive."""
    apart: bool = False
    """The steps of an iteration are not consecutive: one of each of `unroll` equal parts of the innermost loop."""


@dataclass(eq=False)
class Stage:
    """A copy of an operand in scratch: the flat memref, and where the element of a point of the loops lies."""

    memory: SSAValue
    place: Callable[[Sequence[Poly]], Poly]


@dataclass(eq=False)
class Keep:
    """A row of an elementwise value that several passes need, in scratch."""

    memory: SSAValue
    place: Callable[[Sequence[Poly]], Poly]
    """From the index of the value to the place in the row."""
    filled: bool = False
    written: bool = field(default=False)


@dataclass(eq=False)
class Transposed:
    """A block of an operand in registers: from the loops of a point to one of its rows."""

    rows: Sequence[SSAValue]
    row: Callable[[Sequence[Poly]], Poly]


class Evaluator:
    """Writes the values of a kernel's tensors.

    `memories` maps tensor arguments to flat memrefs, `scalars` scalar arguments to values.
    """

    def __init__(
        self,
        emitter: Emitter,
        graph: Graph,
        memories: dict[SSAValue, SSAValue],
        scalars: dict[SSAValue, SSAValue],
        arguments: dict[SSAValue, SSAValue],
    ) -> None:
        self.emitter, self.graph = emitter, graph
        self.memories, self.arguments = memories, arguments
        self.lanes = 1
        self.vector_lanes = 1
        """Lanes of a whole vector in this kernel; `lanes` is that, or 1 in scalar code."""
        self.mask: SSAValue | None = None
        self.plans: dict[Operation, Plan] = {}
        self.stages: dict[tuple[Operation, int], Stage | Transposed] = {}
        self.keeps: dict[SSAValue, Keep] = {}
        self._scalars: dict[SSAValue, Value] = dict(scalars)
        self._fused: dict[Operation, frozenset[Operation]] = {}
        self._strides: dict[SSAValue, list[Poly]] = {}

    # ------ sizes

    def size(self, owner: object, axis: int) -> Poly:
        """The size of an axis of a tensor, or of a loop of a generic."""
        static = self.graph.static_size(owner, axis)
        if static is not None:
            return Poly.of(static)
        source = self.graph.size_source(owner, axis)
        if isinstance(source, tuple):
            with self.emitter.at(0):
                memory = self.arguments[source[0]]
                value = self.emitter.emit(memref.DimOp, (memory, self.emitter.index(source[1])), INDEX)
            return self.emitter.atom(value)
        return self.index_scalar(source)

    def index_scalar(self, value: SSAValue) -> Poly:
        """An index of the kernel's body as an expression."""
        found = self.outside(value)
        return found.poly if isinstance(found, Position) else self.emitter.atom(found)

    def lay_out(self, value: SSAValue, strides: Sequence[int]) -> None:
        """Say that a tensor does not lie row by row."""
        self._strides[value] = [Poly.of(stride) for stride in strides]

    def strides(self, value: SSAValue) -> list[Poly]:
        """The strides of a tensor: row-major, unless it was laid out otherwise."""
        found = self._strides.get(value)
        if found is None:
            found, total = [], ONE
            assert isinstance(value.type, TensorType)
            for axis in reversed(range(value.type.get_num_dims())):
                found.insert(0, total)
                total = total * self.size(value, axis)
            self._strides[value] = found
        return found

    def flat(self, value: SSAValue, index: Sequence[Poly]) -> Poly:
        """The place of an element among all elements of its tensor."""
        total = ZERO
        for position, stride in zip(index, self.strides(value), strict=True):
            total = total + position * stride
        return total

    def affine(self, expression: AffineExpr, dims: Sequence[Poly]) -> Poly:
        """An indexing expression at a point. Raises UnsupportedError for a division that cannot be resolved."""
        if isinstance(expression, AffineDimExpr):
            return dims[expression.position]
        if isinstance(expression, AffineConstantExpr):
            return Poly.of(expression.value)
        assert isinstance(expression, AffineBinaryOpExpr)
        left, right = self.affine(expression.lhs, dims), self.affine(expression.rhs, dims)
        if expression.kind == AffineBinaryOpKind.Add:
            return left + right
        if expression.kind == AffineBinaryOpKind.Mul:
            return left * right
        divisor = right.constant
        if divisor is None or expression.kind == AffineBinaryOpKind.CeilDiv:
            raise UnsupportedError(f"indexing expression {expression}")
        if left.divided(divisor) is None and left.has(LANE):
            start = left.without(LANE)
            if left.coefficient(LANE).constant != 1 or any(n % self.lanes for n in (divisor, *start.terms.values())):
                raise UnsupportedError(f"indexing expression {expression} along the lanes")
            # The vector lies within one block: its first lane tells which.
            if expression.kind == AffineBinaryOpKind.Mod:
                return self.emitter.remainder(start, divisor) + Poly.of(LANE)
            return self.emitter.quotient(start, divisor)
        if expression.kind == AffineBinaryOpKind.Mod:
            return self.emitter.remainder(left, divisor)
        return self.emitter.quotient(left, divisor)

    # ------ scalars of the kernel's body

    def outside(self, value: SSAValue) -> Value:
        """A scalar that the kernel's body computes outside its linalg ops."""
        found = self._scalars.get(value)
        if found is None:
            found = self._scalars[value] = self._outside(value)
        return found

    def _outside(self, value: SSAValue) -> Value:
        op = value.owner
        if not isinstance(op, Operation):
            raise UnsupportedError(f"{value.type} from outside a kernel's body")
        if isinstance(op, tensor.DimOp):
            axis = self.index_scalar(op._operands[1]).constant
            if axis is None:
                raise UnsupportedError("tensor.dim of an axis that is not constant, in a kernel")
            return Position(self.size(op._operands[0], axis), INDEX)
        body = Body(self.emitter, 1, (), self.outside, self._no_extract)
        with self.emitter.at(0):
            body._step(op)
        return body.values[value]

    @staticmethod
    def _no_extract(value: SSAValue, index: Sequence[Value]) -> SSAValue:
        raise UnsupportedError("tensor.extract outside a linalg.generic, in a kernel")

    # ------ memory

    def load(self, memory: SSAValue, place: Poly, written: bool = False) -> SSAValue:
        """The element, or the vector, at a place of a flat memref."""
        emitter, kind = self.emitter, memory.type
        assert isinstance(kind, MemRefType)
        element = kind.element_type
        stride = place.coefficient(LANE)
        if not stride.terms:
            return emitter.read(memref.LoadOp, (memory, emitter.scalar(place)), element, written)
        result = emitter.vector_type(element, self.lanes)
        base = emitter.scalar(place.without(LANE))
        if stride.constant == 1:
            if self.mask is None:
                return emitter.read(vector.LoadOp, (memory, base), result, written)
            one = emitter.number(1, result)
            return emitter.read(vector.MaskedLoadOp, (memory, base, self.mask, one), result, written)
        steps = Body(emitter, self.lanes, (), self.outside, self._no_extract).materialized(
            Position(Poly.of(LANE) * stride, INDEX)
        )
        return self.gather(memory, base, steps, written)

    def gather(self, memory: SSAValue, base: SSAValue, indices: SSAValue, written: bool = False) -> SSAValue:
        """One element per lane."""
        emitter, kind = self.emitter, memory.type
        assert isinstance(kind, MemRefType)
        result = emitter.vector_type(kind.element_type, self.lanes)
        mask = self.mask if self.mask is not None else emitter.number(1, emitter.vector_type(i1, self.lanes))
        operands = (memory, base, indices, mask, emitter.number(1, result))
        return emitter.read(core.GatherOp, operands, result, written)

    def store(self, value: SSAValue, memory: SSAValue, place: Poly) -> None:
        """Write a value, or the lanes of a vector, at a place of a flat memref."""
        emitter = self.emitter
        stride = place.coefficient(LANE)
        if not stride.terms:
            emitter.effect(memref.StoreOp, (value, memory, emitter.scalar(place)))
            return
        value = emitter.broadcast(value, self.lanes)
        base = emitter.scalar(place.without(LANE))
        if stride.constant == 1:
            if self.mask is None:
                emitter.effect(vector.StoreOp, (value, memory, base))
            else:
                emitter.effect(vector.MaskedStoreOp, (memory, base, self.mask, value))
            return
        steps = Body(emitter, self.lanes, (), self.outside, self._no_extract).materialized(
            Position(Poly.of(LANE) * stride, INDEX)
        )
        mask = self.mask if self.mask is not None else emitter.number(1, emitter.vector_type(i1, self.lanes))
        emitter.effect(core.ScatterOp, (memory, base, steps, mask, value))

    def extract(self, value: SSAValue, index: Sequence[Value]) -> SSAValue:
        """tensor.extract in a body: of an argument, at any index."""
        if self.graph.node(value) is not None:
            positions = [self._as_poly(i) for i in index]
            if any(p is None for p in positions):
                raise UnsupportedError("tensor.extract of a value that the kernel itself computes, at computed lanes")
            return self.evaluate(value, [tuple(p for p in positions if p is not None)])[0]
        if value in self.graph.fills:
            return self._scalar_value(self.graph.fills[value])
        memory = self.memories[value]
        uniform, varying = ZERO, list[tuple[SSAValue, Poly]]()
        for position, stride in zip(index, self.strides(value), strict=True):
            poly = self._as_poly(position)
            if poly is None:
                assert not isinstance(position, Position)
                varying.append((position, stride))
            else:
                uniform = uniform + poly * stride
        if not varying:
            return self.load(memory, uniform)
        emitter = self.emitter
        kind = emitter.vector_type(INDEX, self.lanes)
        total: SSAValue | None = None
        if uniform.has(LANE):
            body = Body(emitter, self.lanes, (), self.outside, self._no_extract)
            lane_part = Poly.of(LANE) * uniform.coefficient(LANE)
            total, uniform = body.materialized(Position(lane_part, INDEX)), uniform.without(LANE)
        for position, stride in varying:
            if stride.constant != 1:
                scale = emitter.broadcast(emitter.scalar(stride), self.lanes)
                position = emitter.emit(arith.MuliOp, (position, scale), kind)
            total = position if total is None else emitter.emit(arith.AddiOp, (total, position), kind)
        assert total is not None
        return self.gather(memory, emitter.scalar(uniform), total)

    def _as_poly(self, index: Value) -> Poly | None:
        if isinstance(index, Position):
            return index.poly
        return None if isinstance(index.type, VectorType) else self.emitter.atom(index)

    def _scalar_value(self, value: SSAValue) -> SSAValue:
        return Body(self.emitter, 1, (), self.outside, self._no_extract).materialized(self.outside(value))

    # ------ values

    def evaluate(self, value: SSAValue, points: Sequence[Point]) -> list[SSAValue]:
        """What a tensor holds at some indices."""
        graph = self.graph
        memory = self.memories.get(value)
        if memory is not None:
            return [self.load(memory, self.flat(value, point)) for point in points]
        if value in graph.fills:
            return [self._scalar_value(graph.fills[value])] * len(points)
        if value in graph.empties:
            assert isinstance(value.type, TensorType)
            return [self.emitter.number(0, value.type.element_type)] * len(points)
        if not isinstance(value.type, TensorType):
            return [self._scalar_value(value)] * len(points)
        node = graph.node(value)
        if node is None:
            raise UnsupportedError(f"{value.owner} in a kernel")
        number = node.op.results.index(value)
        dims = [self.dims_of(node, number, point) for point in points]
        return [results[number] for results in self.evaluate_node(node, dims, value, points)]

    def dims_of(self, node: Node, number: int, index: Point) -> list[Poly]:
        """The parallel loops of a node at an index of its result; reduced ones are 0.

        Raises UnsupportedError where the result's map is no permutation.
        """
        dims = [ZERO] * node.rank
        seen = 0
        for expression, position in zip(node.result_map(number).results, index, strict=True):
            if isinstance(expression, AffineDimExpr):
                dims[expression.position] = position
                seen += 1
            elif not isinstance(expression, AffineConstantExpr):
                raise UnsupportedError(f"a fused producer that writes at {expression}")
        if seen != len(node.parallel):
            raise UnsupportedError("a fused producer whose map is no permutation of its parallel loops")
        return dims

    def evaluate_node(
        self, node: Node, dims: Sequence[list[Poly]], value: SSAValue | None = None, index: Sequence[Point] = ()
    ) -> list[list[SSAValue]]:
        """All results of a node at some points of its loops."""
        keys = [self._key(node, point) for point in dims]
        found: list[list[SSAValue] | None] = [self._remembered(k, p) for k, p in zip(keys, dims, strict=True)]
        missing = list({key: i for i, key in enumerate(keys) if found[i] is None}.values())
        if missing:
            keep = self.keeps.get(value) if value is not None else None
            if keep is not None and keep.filled and value is not None:
                made = [[self.load(keep.memory, keep.place(index[i]), written=True)] for i in missing]
            elif node.reduced:
                made = self.reduced(node, [dims[i] for i in missing])
            else:
                made = self._elementwise(node, [dims[i] for i in missing])
                if keep is not None:
                    for i, results in zip(missing, made, strict=True):
                        self.store(results[0], keep.memory, keep.place(index[i]))
                    keep.written = True
            for i, results in zip(missing, made, strict=True):
                self._remember(keys[i], dims[i], results)
            known = dict(zip((keys[i] for i in missing), made, strict=True))
            found = [f if f is not None else known[key] for f, key in zip(found, keys, strict=True)]
        return [f for f in found if f is not None]

    def reduced(self, node: Node, dims: Sequence[list[Poly]]) -> list[list[SSAValue]]:
        """The results of a reduction at some points of its parallel loops."""
        from stepwell.lowering.tile_to_loops.reduce import reduce_node

        return reduce_node(self, node, dims)

    def provide(self, node: Node, index: Point, result: SSAValue) -> None:
        """What a node with one result holds at an index of it, computed elsewhere."""
        dims = self.dims_of(node, 0, index)
        self._remember(self._key(node, dims), dims, [result])

    def _key(self, node: Node, dims: Sequence[Poly]) -> object:
        lanes = (self.lanes, self.mask) if any(d.has(LANE) for d in dims) else None
        return (node.op, tuple(d.key for d in dims), lanes)

    def point_depth(self, dims: Sequence[Poly]) -> int:
        """The outermost block in which a point may be computed."""
        emitter = self.emitter
        depth = max([emitter.guard_depth(), *(emitter.depth_of_poly(d) for d in dims)])
        if self.mask is not None and any(d.has(LANE) for d in dims):
            depth = max(depth, emitter.depths[self.mask])
        return depth

    def _remembered(self, key: object, dims: Sequence[Poly]) -> list[SSAValue] | None:
        for scope in self.emitter.scopes[self.point_depth(dims) :]:
            found = scope.results.get(key)
            if found is not None:
                return found
        return None

    def _remember(self, key: object, dims: Sequence[Poly], results: list[SSAValue]) -> None:
        depth = max(self.point_depth(dims), self.emitter.depth_of(results))
        self.emitter.scopes[depth].results[key] = results

    def arguments_of(
        self, node: Node, dims: Sequence[Sequence[Poly]], accumulators: Sequence[Sequence[SSAValue]] | None = None
    ) -> list[list[Value | None]]:
        """The body's arguments at some points; accumulators, where given, instead of the initial values."""
        count = len(node.op._operands)
        columns: list[Sequence[Value | None]] = [[None] * len(dims)] * count
        # Kept rows last: the reductions that the others need fill them.
        for number in sorted(range(count), key=lambda n: node.op._operands[n] in self.keeps):
            operand, map_ = node.op._operands[number], node.maps[number]
            if accumulators is not None and number >= len(node.inputs):
                columns[number] = [values[number - len(node.inputs)] for values in accumulators]
            elif node.reads[number] and (stage := self.stages.get((node.op, number))) is not None:
                columns[number] = self._staged(stage, dims)
            elif node.reads[number]:
                index = [tuple(self.affine(e, point) for e in map_.results) for point in dims]
                columns[number] = self.evaluate(operand, index)
        return [list(row) for row in zip(*columns, strict=True)]

    def _staged(self, stage: Stage | Transposed, dims: Sequence[Sequence[Poly]]) -> list[SSAValue]:
        """Staged operands are padded: no mask is needed."""
        if isinstance(stage, Transposed):
            rows = [stage.row(point).constant for point in dims]
            return [stage.rows[row] for row in rows if row is not None]
        mask, self.mask = self.mask, None
        places = [stage.place(point) for point in dims]
        loaded = {place: self.load(stage.memory, place, written=True) for place in dict.fromkeys(places)}
        self.mask = mask
        return [loaded[place] for place in places]

    def _elementwise(self, node: Node, dims: Sequence[list[Poly]]) -> list[list[SSAValue]]:
        rows = self.arguments_of(node, dims)
        return [self.run_body(node, point, row) for point, row in zip(dims, rows, strict=True)]

    def run_body(self, node: Node, dims: Sequence[Poly], arguments: Sequence[Value | None]) -> list[SSAValue]:
        """The body of a node at a point."""
        fused: frozenset[Operation] = frozenset()
        if node.reduced:
            known = self._fused.get(node.op)
            if known is None:
                accumulators = node.body.args[len(node.inputs) :]
                known = self._fused[node.op] = fusible_products(node.body, accumulators)
            fused = known
        location, self.emitter.location = self.emitter.location, node.op.location
        results = Body(self.emitter, self.lanes, dims, self.outside, self.extract, fused).run(node.body, arguments)
        self.emitter.location = location
        return results


def maskable(target: Target, element: Attribute) -> bool:
    """Whether vectors of this type can be loaded and stored under a mask by one instruction."""
    if isinstance(element, IntegerType):
        bits = max(8, element.width.data)
    elif isinstance(element, (Float16Type, BFloat16Type)):
        bits = 16
    else:
        bits = 64
    if target.has("avx512f"):
        return bits >= 32 or target.has("avx512bw")
    return bits >= 32 and target.has("avx2")

