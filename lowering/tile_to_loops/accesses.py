"""Where a kernel reads and writes, before anything is written: what decides the vector dimension and which loops
are one.

The walk is that of the evaluator, with placeholder atoms for loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.dialects import tensor
from xdsl.dialects.builtin import IntegerAttr, TensorType
from xdsl.dialects.linalg.ops import IndexOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir.affine import AffineBinaryOpExpr, AffineBinaryOpKind, AffineConstantExpr, AffineDimExpr, AffineExpr

from stepwell.lowering.tile_to_loops.evaluate import Evaluator, maskable
from stepwell.lowering.tile_to_loops.graph import Node
from stepwell.lowering.tile_to_loops.polynomial import Atom, Poly


@dataclass(frozen=True)
class Access:
    """One read or write: the tensor, and the place in it as an expression of the loops' atoms."""

    tensor: SSAValue
    place: Poly
    written: bool = False
    reader: tuple[Operation, int] | None = None
    """The op and the number of its operand."""


@dataclass
class Accesses:
    """All that some results need."""

    found: list[Access] = field(default_factory=list)
    positions: list[Poly] = field(default_factory=list)
    """Loops whose number itself is used (linalg.index)."""
    extracted: list[SSAValue] = field(default_factory=list)
    """Tensors read by tensor.extract."""

    def write(self, tensor: SSAValue, place: Poly) -> None:
        """A result is stored."""
        self.found.append(Access(tensor, place, written=True))

    def elements(self) -> list[Attribute]:
        """The element types of all memory."""
        tensors = [a.tensor for a in self.found] + self.extracted
        return [kind.element_type for t in tensors if isinstance(kind := t.type, TensorType)]

    def uses_position(self, atom: Atom) -> bool:
        """Whether a loop's own number matters."""
        return any(p.has(atom) for p in self.positions)

    def one_loop(self, outer: Atom, inner: Atom, inner_size: Poly) -> bool:
        """Whether two nested loops are one long one: everywhere the outer steps over the whole inner."""
        if self.uses_position(outer) or self.uses_position(inner):
            return False
        return all(
            a.place.coefficient(outer) == a.place.coefficient(inner) * inner_size for a in self.found
        )


def symbolic(expression: AffineExpr, dims: Sequence[Poly]) -> Poly:
    """An indexing expression; what cannot be resolved becomes an unknown."""
    if isinstance(expression, AffineDimExpr):
        return dims[expression.position]
    if isinstance(expression, AffineConstantExpr):
        return Poly.of(expression.value)
    assert isinstance(expression, AffineBinaryOpExpr)
    left, right = symbolic(expression.lhs, dims), symbolic(expression.rhs, dims)
    if expression.kind == AffineBinaryOpKind.Add:
        return left + right
    if expression.kind == AffineBinaryOpKind.Mul:
        return left * right
    divided = left.divided(right.constant or 1)
    if divided is None:
        # An unknown function of these atoms: a product with them keeps the dependence visible.
        unknown = Poly.of(Atom())
        return sum((unknown * Poly.of(a) for a in set(left.atoms())), Poly.of(0))
    return divided[1] if expression.kind == AffineBinaryOpKind.Mod else divided[0]


class Walk:
    """Collects the accesses of values at symbolic points."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator, self.graph = evaluator, evaluator.graph
        self.result = Accesses()
        self._seen: set[object] = set()
        self.reduced: dict[Operation, list[Atom]] = {}
        """Placeholders of the reduced loops of each node met."""
        self.points: dict[Operation, list[Poly]] = {}
        """The loops of each node met, at the point where it was met first."""

    def value(self, value: SSAValue, index: Sequence[Poly], reader: tuple[Operation, int] | None = None) -> None:
        """A read of a tensor at an index."""
        if value in self.evaluator.memories:
            self.result.found.append(Access(value, self.evaluator.flat(value, index), reader=reader))
            return
        node = self.graph.node(value)
        if node is not None:
            self.node(node, self.evaluator.dims_of(node, node.op.results.index(value), tuple(index)))

    def node(self, node: Node, dims: list[Poly]) -> None:
        """All that a node reads at a point; reduced loops get placeholders."""
        if node.reduced and node.op not in self.reduced:
            self.reduced[node.op] = [Atom() for _ in node.reduced]
        dims = list(dims)
        for dim, atom in zip(node.reduced, self.reduced.get(node.op, ()), strict=False):
            dims[dim] = Poly.of(atom)
        key = (node.op, tuple(d.key for d in dims))
        if key in self._seen:
            return
        self._seen.add(key)
        self.points.setdefault(node.op, dims)
        for number, (operand, map_) in enumerate(zip(node.op._operands, node.maps, strict=True)):
            if node.reads[number] and isinstance(operand.type, TensorType):
                self.value(operand, [symbolic(e, dims) for e in map_.results], (node.op, number))
        for op in node.body.walk():
            if isinstance(op, IndexOp):
                number_attribute = op.properties["dim"]
                assert isinstance(number_attribute, IntegerAttr)
                self.result.positions.append(dims[number_attribute.value.data])
            elif isinstance(op, tensor.ExtractOp):
                self.result.extracted.append(op._operands[0])


def node_accesses(evaluator: Evaluator, node: Node) -> tuple[Accesses, list[Atom]]:
    """What one node reads, with an atom for each of its loops."""
    walk = Walk(evaluator)
    atoms = [Atom() for _ in range(node.rank)]
    walk.reduced[node.op] = [atoms[d] for d in node.reduced]
    walk.node(node, [Poly.of(a) for a in atoms])
    return walk.result, atoms


@dataclass(frozen=True)
class AlongPlan:
    """How lanes run along a reduction: loops outside, the loop of the lanes, and its size. Reduced loops that
    are neither have been merged into the inner one."""

    outer: tuple[int, ...]
    inner: int
    size: Poly
    masked: bool


def along_plan(evaluator: Evaluator, node: Node) -> AlongPlan | None:
    """The reduced loop along which all reads are contiguous (or one element); None where there is none."""
    accesses, atoms = node_accesses(evaluator, node)
    best: int | None = None
    for dim in node.reduced:
        strides = [a.place.coefficient(atoms[dim]) for a in accesses.found]
        contiguous = [s.constant == 1 for s in strides]
        if all(one or not s.terms for one, s in zip(contiguous, strides, strict=True)):
            if any(contiguous) or accesses.uses_position(atoms[dim]):
                best = dim
    if best is None:
        return None
    size = evaluator.size(node.op, best)
    outer = [d for d in node.reduced if d != best]
    merged = True
    while merged:
        merged = False
        for dim in outer:
            if accesses.one_loop(atoms[dim], atoms[best], size):
                size = size * evaluator.size(node.op, dim)
                outer.remove(dim)
                merged = True
                break
    elements = accesses.elements() + [k.memory.type.element_type for k in evaluator.keeps.values()]  # type: ignore[attr-defined]
    return AlongPlan(tuple(outer), best, size, all(maskable(evaluator.emitter.target, e) for e in elements))
