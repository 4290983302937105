"""Writes loops: an op goes to the outermost loop in which its operands are known, and only once.

While the body of a loop is being written, the loops around it are still open, so an op whose operands all come
from outside is simply appended to the outer one: loop-invariant code motion and common subexpression elimination
cost a dictionary look-up. Reads of memory that the kernel does not write move as well, but never out of an `if`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from xdsl.dialects import arith, math, memref, scf, vector
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AnyFloat,
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    LocationAttr,
    MemRefType,
    UnitAttr,
    VectorType,
    i1,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects.host import ALONE
from stepwell.dialects.quick_ir import append_all, index_attribute, make, memref_type
from stepwell.dialects.target import Target
from stepwell.dialects.upstream import core
from stepwell.lowering.tile_to_loops.polynomial import Atom, Poly

INDEX = IndexType()
NO_PROPERTIES: Mapping[str, Attribute] = {}

NUMBERS: dict[tuple[float | str, Attribute], Attribute] = {}
"""The attributes of constants so far, of all kernels: making one costs more than making an op."""

STAYING = frozenset({arith.DivSIOp, arith.DivUIOp, arith.RemSIOp, arith.RemUIOp, arith.FloorDivSIOp,
                     arith.CeilDivSIOp, arith.CeilDivUIOp})  # fmt: skip
"""Ops that may trap: they stay where they are needed."""


class Scope:
    """An open block: the ops so far, and what they compute."""

    __slots__ = ("guards", "memo", "ops", "results")

    def __init__(self, guards: bool = False) -> None:
        self.ops: list[Operation] = []
        self.memo: dict[object, SSAValue] = {}
        self.results: dict[object, list[SSAValue]] = {}
        """What whole nodes evaluate to, by the evaluator's keys."""
        self.guards = guards
        """Whether memory accesses inside must not move out."""


class Loop:
    """An open loop: its variable, what it carries, and (set by its writer) what it yields."""

    def __init__(self, variable: SSAValue, carried: Sequence[SSAValue]) -> None:
        self.variable, self.carried = variable, list(carried)
        self.yields: list[SSAValue] = []
        self.results: list[SSAValue] = []


class Emitter:
    """Writes into the innermost of a stack of open blocks."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.scopes = [Scope(guards=True)]
        self.depths: dict[SSAValue, int] = {}
        self.location: LocationAttr | None = None
        """Of the op that is being lowered."""
        self._vectors: dict[tuple[Attribute, int], VectorType[Attribute]] = {}
        self._atoms: dict[SSAValue, Atom] = {}

    # ------ where

    @property
    def depth(self) -> int:
        """The number of the innermost open block."""
        return len(self.scopes) - 1

    def guard_depth(self) -> int:
        """The innermost block that memory accesses must not leave."""
        return max(i for i, scope in enumerate(self.scopes) if scope.guards)

    def depth_of(self, values: Sequence[SSAValue]) -> int:
        """The outermost block in which all values are known."""
        depths = self.depths
        found = 0
        for value in values:
            depth = depths[value]
            if depth > found:
                found = depth
        return found

    def depth_of_poly(self, poly: Poly) -> int:
        """The same for an index expression; LANE is known everywhere."""
        return max((self.depths[a.value] for a in poly.atoms() if a.value is not None), default=0)

    @contextmanager
    def at(self, depth: int) -> Iterator[None]:
        """Write into an outer block for a while."""
        saved = self.scopes
        self.scopes = saved[: depth + 1]
        try:
            yield
        finally:
            self.scopes = saved

    def argument(self, value: SSAValue) -> SSAValue:
        """Make a value known that no op here defines."""
        self.depths[value] = self.depth
        return value

    # ------ ops

    def emit(
        self,
        op_type: type[Operation],
        operands: Sequence[SSAValue],
        result: Attribute,
        properties: Mapping[str, Attribute] = NO_PROPERTIES,
        floor: int = 0,
        safe: bool = False,
    ) -> SSAValue:
        """The result of a pure op, written at most once, no further out than block `floor`; `safe`: it cannot
        trap whatever its class may do."""
        depth = max(self.depth_of(operands), floor)
        if not safe and op_type in STAYING:
            depth = self.depth
        scope = self.scopes[depth]
        # By identity: hashing attributes is slow, and those that are asked for again are the same objects.
        key = (op_type, id(result), *map(id, operands), *map(id, properties.values()))
        found = scope.memo.get(key)
        if found is None:
            op = make(op_type, operands, (result,), properties, location=self.location)
            scope.ops.append(op)
            found = scope.memo[key] = op.results[0]
            self.depths[found] = depth
        return found

    def effect(
        self,
        op_type: type[Operation],
        operands: Sequence[SSAValue],
        results: Sequence[Attribute] = (),
        properties: Mapping[str, Attribute] = NO_PROPERTIES,
    ) -> Operation:
        """An op that stays where it is written."""
        op = make(op_type, operands, results, properties, location=self.location)
        self.scopes[-1].ops.append(op)
        for value in op.results:
            self.depths[value] = self.depth
        return op

    def read(
        self, op_type: type[Operation], operands: Sequence[SSAValue], result: Attribute, written: bool
    ) -> SSAValue:
        """A read of memory; `written`: the kernel itself writes it, so the read stays here."""
        if written:
            return self.effect(op_type, operands, (result,)).results[0]
        return self.emit(op_type, operands, result, floor=self.guard_depth())

    # ------ numbers

    def number(self, value: float, kind: Attribute) -> SSAValue:
        """A constant; all lanes of it where `kind` is a vector."""
        key = (value, kind) if value == value and value != 0 else (repr(value), kind)
        attribute = NUMBERS.get(key)
        if attribute is None:
            attribute = NUMBERS[key] = constant_attribute(value, kind)
        return self.emit(arith.ConstantOp, (), kind, {"value": attribute})

    def index(self, value: int) -> SSAValue:
        """A constant of type index."""
        return self.emit(arith.ConstantOp, (), INDEX, {"value": index_attribute(value)})

    def vector_type(self, element: Attribute, lanes: int) -> VectorType[Attribute]:
        """The vector type, one object each."""
        key = (element, lanes)
        found = self._vectors.get(key)
        if found is None:
            found = self._vectors[key] = VectorType(element, [lanes])
        return found

    def broadcast(self, value: SSAValue, lanes: int) -> SSAValue:
        """A scalar in all lanes; vectors are left as they are."""
        if isinstance(value.type, VectorType):
            return value
        owner = value.owner
        if isinstance(owner, arith.ConstantOp) and isinstance(owner.value, (IntegerAttr, FloatAttr)):
            return self.number(owner.value.value.data, self.vector_type(value.type, lanes))
        return self.emit(vector.BroadcastOp, (value,), self.vector_type(value.type, lanes))

    # ------ indices

    def atom(self, value: SSAValue, bound: int | None = None) -> Poly:
        """An index value as an expression."""
        owner = value.owner
        if isinstance(owner, arith.ConstantOp) and isinstance(owner.value, IntegerAttr):
            return Poly.of(owner.value.value.data)
        found = self._atoms.get(value)
        if found is None:
            found = self._atoms[value] = Atom(value, bound)
        return Poly.of(found)

    def scalar(self, poly: Poly) -> SSAValue:
        """The value of an expression without LANE; partial sums are computed as far out as possible."""
        terms: list[tuple[int, SSAValue]] = []
        constant = 0
        for monomial, factor in poly.terms.items():
            if not monomial:
                constant = factor
                continue
            values = sorted((a.value for a in monomial if a.value is not None), key=self.depths.__getitem__)
            assert len(values) == len(monomial), "an index expression with LANE has no scalar value"
            product = values[0]
            for value in values[1:]:
                product = self.emit(arith.MuliOp, (product, value), INDEX)
            if factor != 1:
                product = self.emit(arith.MuliOp, (product, self.index(factor)), INDEX)
            terms.append((self.depths[product], product))
        terms.sort(key=lambda term: term[0])
        if not terms:
            return self.index(constant)
        total = terms[0][1]
        for _, term in terms[1:]:
            total = self.emit(arith.AddiOp, (total, term), INDEX)
        return self.emit(arith.AddiOp, (total, self.index(constant)), INDEX) if constant else total

    def minimum(self, a: Poly, b: Poly) -> Poly:
        """The smaller of two expressions."""
        if a.constant is not None and b.constant is not None:
            return Poly.of(min(a.constant, b.constant))
        return self.atom(self.emit(arith.MinSIOp, (self.scalar(a), self.scalar(b)), INDEX))

    def quotient(self, a: Poly, b: int) -> Poly:
        """a // b of expressions that are not negative."""
        found = a.divided(b)
        if found is not None:
            return found[0]
        return self.atom(self.emit(arith.DivUIOp, (self.scalar(a), self.index(b)), INDEX, safe=True))

    def remainder(self, a: Poly, b: int) -> Poly:
        """a % b of expressions that are not negative."""
        found = a.divided(b)
        if found is not None:
            return found[1]
        return self.atom(self.emit(arith.RemUIOp, (self.scalar(a), self.index(b)), INDEX, safe=True))

    def divided(self, a: Poly, b: Poly) -> tuple[Poly, Poly]:
        """a // b and a % b of expressions that are not negative, b positive."""
        operands = (self.scalar(a), self.scalar(b))
        return (
            self.atom(self.emit(arith.DivUIOp, operands, INDEX)),
            self.atom(self.emit(arith.RemUIOp, operands, INDEX)),
        )

    # ------ memory

    def flat(self, value: SSAValue, count: int | SSAValue) -> SSAValue:
        """A contiguous memref as one dimension of `count` elements."""
        kind = value.type
        assert isinstance(kind, MemRefType)
        static = [count] if isinstance(count, int) else [DYNAMIC_INDEX]
        dynamic = [] if isinstance(count, int) else [count]
        result = memref_type(kind.element_type, tuple(static))
        op = memref.ReinterpretCastOp(value, [], dynamic, [], [0], static, [1], result)
        self.scopes[0].ops.append(op)
        self.depths[op.results[0]] = 0
        return op.results[0]

    # ------ blocks

    @contextmanager
    def loop(self, low: Poly, high: Poly, inits: Sequence[SSAValue] = (), bound: int | None = None) -> Iterator[Loop]:
        """`for i in range(low, high)`. What it yields is set on the Loop inside; its results are there after."""
        block = Block(arg_types=(INDEX, *(v.type for v in inits)))
        operands = (self.scalar(low), self.scalar(high), self.index(1), *inits)
        self.scopes.append(Scope())
        for value in block.args:
            self.argument(value)
        if bound is None and high.constant is not None:
            bound = high.constant
        self._atoms[block.args[0]] = Atom(block.args[0], bound)
        loop = Loop(block.args[0], block.args[1:])
        yield loop
        scope = self.scopes.pop()
        append_all(block, [*scope.ops, make(scf.YieldOp, loop.yields)])
        op = make(scf.ForOp, operands, [v.type for v in inits], regions=[Region(block)], location=self.location)
        self.scopes[-1].ops.append(op)
        loop.results = [self.argument(value) for value in op.results]

    @contextmanager
    def parallel(self, count: Poly, shared: bool) -> Iterator[SSAValue]:
        """Iterations that threads share, or that thread 0 does alone. Only outermost."""
        assert self.depth == 0, "scf.parallel stands outermost only"
        block = Block(arg_types=(INDEX,))
        bounds = (self.index(0), self.scalar(count), self.index(1))
        self.scopes.append(Scope(guards=True))
        self.argument(block.args[0])
        self._atoms[block.args[0]] = Atom(block.args[0], count.constant)
        yield block.args[0]
        scope = self.scopes.pop()
        append_all(block, [*scope.ops, make(scf.ReduceOp)])
        self.scopes[-1].ops.append(
            scf.ParallelOp.create(
                operands=bounds,
                regions=[Region(block)],
                location=self.location,
                properties=PARALLEL_SEGMENTS,
                attributes={} if shared else {ALONE: UnitAttr()},
            )
        )

    @contextmanager
    def when(self, condition: SSAValue) -> Iterator[None]:
        """Only where a condition holds."""
        self.scopes.append(Scope(guards=True))
        yield
        scope = self.scopes.pop()
        block = Block()
        append_all(block, [*scope.ops, make(scf.YieldOp)])
        self.scopes[-1].ops.append(
            scf.IfOp.create(operands=(condition,), regions=[Region(block), Region()], location=self.location)
        )

    @contextmanager
    def block(self) -> Iterator[list[Operation]]:
        """A block of a branch; its ops are in the list afterwards."""
        self.scopes.append(Scope(guards=True))
        ops: list[Operation] = []
        yield ops
        ops.extend(self.scopes.pop().ops)

    def branch(self, condition: SSAValue, blocks: Sequence[Block], results: Sequence[Attribute]) -> list[SSAValue]:
        """scf.if with two written blocks."""
        op = scf.IfOp.create(
            operands=(condition,),
            result_types=results,
            regions=[Region(block) for block in blocks],
            location=self.location,
        )
        self.scopes[-1].ops.append(op)
        return [self.argument(value) for value in op.results]

    def less(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """a < b, of indices."""
        return self.emit(core.CmpiOp, (a, b), i1, {"predicate": SLT})

    # ------ masks

    def mask(self, count: SSAValue, lanes: int) -> SSAValue:
        """The first `count` lanes."""
        return self.emit(vector.CreateMaskOp, (count,), self.vector_type(i1, lanes))

    def multiply_add(self, a: SSAValue, b: SSAValue, c: SSAValue) -> SSAValue:
        """a * b + c, rounded once where the target can."""
        return self.emit(vector.FMAOp if isinstance(c.type, VectorType) else math.FmaOp, (a, b, c), c.type)


def _parallel_segments() -> Mapping[str, Attribute]:
    zero = arith.ConstantOp.from_int_and_width(0, INDEX).result
    return dict(scf.ParallelOp([zero], [zero], [zero], Region(Block(arg_types=(INDEX,)))).properties)


PARALLEL_SEGMENTS = _parallel_segments()
SLT = IntegerAttr(2, 64)


def constant_attribute(value: float, kind: Attribute) -> Attribute:
    """The attribute of a number; a splat for vectors. Integers are taken modulo their width."""
    if isinstance(kind, VectorType):
        return DenseIntOrFPElementsAttr.from_list(kind, [wrapped(value, kind.element_type)])
    if isinstance(kind, AnyFloat):
        return FloatAttr(value, kind)
    if not isinstance(kind, (IntegerType, IndexType)):
        raise TypeError(f"no constants of type {kind}")
    number: Attribute = IntegerAttr(int(wrapped(value, kind)), kind)
    return number


def wrapped(value: float, kind: Attribute) -> float:
    """The number as an integer type has it, signed (i1: 0 or 1); floats as they are."""
    if not isinstance(kind, IntegerType):
        return value
    width = kind.width.data
    bits = int(value) & ((1 << width) - 1)
    signed: int = bits - (1 << width) if width > 1 and bits >> (width - 1) else bits
    return signed
