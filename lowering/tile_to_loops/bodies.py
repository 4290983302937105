"""The body of a linalg.generic, computed for one point or for all lanes of a vector at once.

A value inside a body is a scalar (the same in all lanes), a vector, or an index expression (`Position`): what
`linalg.index` gives and additions and constant multiples make of it. Index expressions stay symbolic, so that
`tensor.extract %t[%row, %column]` along the lanes is seen to be a contiguous vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from xdsl.dialects import arith, scf, tensor
from xdsl.dialects.builtin import IndexType, IntegerAttr, VectorType, i64
from xdsl.dialects.linalg.ops import IndexOp, YieldOp
from xdsl.ir import Attribute, Block, Operation, SSAValue

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.upstream import core
from stepwell.lowering.tile_to_loops.emit import INDEX, Emitter
from stepwell.lowering.tile_to_loops.polynomial import LANE, Poly


@dataclass(frozen=True)
class Position:
    """An index expression of type index or i64."""

    poly: Poly
    type: Attribute


Value = SSAValue | Position

WIDENED: Mapping[type[Operation], type[Operation]] = {
    arith.CmpiOp: core.CmpiOp, arith.CmpfOp: core.CmpfOp, arith.SelectOp: core.SelectOp,
    arith.IndexCastOp: core.IndexCastOp, arith.FPToSIOp: core.FPToSIOp, arith.FPToUIOp: core.FPToUIOp,
    arith.SIToFPOp: core.SIToFPOp, arith.UIToFPOp: core.UIToFPOp,
}  # fmt: skip
"""Ops of which xDSL's own class takes scalars only."""

CASTS = (arith.IndexCastOp, core.IndexCastOp)
Extract = Callable[[SSAValue, Sequence[Value]], SSAValue]


class Body:
    """Computes a body at one point.

    `lanes` is how many elements a vector has here, `dims` the index of each loop, `sources` what values from
    outside the body stand for, `extract` reads an element of a tensor, `fused` are the products that are computed
    together with the sum that uses them.
    """

    def __init__(
        self,
        emitter: Emitter,
        lanes: int,
        dims: Sequence[Poly],
        outside: Callable[[SSAValue], Value],
        extract: Extract,
        fused: frozenset[Operation] = frozenset(),
    ) -> None:
        self.emitter, self.lanes, self.dims = emitter, lanes, dims
        self.outside, self.extract, self.fused = outside, extract, fused
        self.values: dict[SSAValue, Value] = {}

    def run(self, block: Block, arguments: Sequence[Value | None]) -> list[SSAValue]:
        """What the body yields. An argument that it does not read may be None."""
        for name, value in zip(block.args, arguments, strict=True):
            if value is not None:
                self.values[name] = value
        for op in block.ops:
            if isinstance(op, (YieldOp, scf.YieldOp)):
                return [self.materialized(self.get(v)) for v in op._operands]
            self._step(op)
        raise UnsupportedError("a body without a yield")

    def run_to(self, block: Block, arguments: Sequence[Value | None], wanted: SSAValue) -> SSAValue:
        """A value of the body: an argument, or what an op makes that stands in the block itself."""
        for name, value in zip(block.args, arguments, strict=True):
            if value is not None:
                self.values[name] = value
        for op in block.ops:
            if wanted in self.values:
                break
            self._step(op)
        return self.materialized(self.get(wanted))

    def get(self, value: SSAValue) -> Value:
        """The value that a name of the body stands for."""
        found = self.values.get(value)
        return self.outside(value) if found is None else found

    def materialized(self, value: Value) -> SSAValue:
        """The same as an SSA value."""
        if not isinstance(value, Position):
            return value
        emitter, poly = self.emitter, value.poly
        if not poly.has(LANE):
            scalar = emitter.scalar(poly)
            return scalar if value.type == INDEX else emitter.emit(arith.IndexCastOp, (scalar,), value.type)
        kind = emitter.vector_type(INDEX, self.lanes)
        steps: SSAValue = emitter.emit(core.StepOp, (), kind)
        factor = poly.coefficient(LANE)
        if factor.constant != 1:
            steps = emitter.emit(arith.MuliOp, (steps, emitter.broadcast(emitter.scalar(factor), self.lanes)), kind)
        base = emitter.broadcast(emitter.scalar(poly.without(LANE)), self.lanes)
        total = emitter.emit(arith.AddiOp, (base, steps), kind)
        if value.type == INDEX:
            return total
        return emitter.emit(core.IndexCastOp, (total,), emitter.vector_type(value.type, self.lanes))

    def _step(self, op: Operation) -> None:
        if op in self.fused:
            return
        kind = type(op)
        if kind is IndexOp:
            number = op.properties["dim"]
            assert isinstance(number, IntegerAttr)
            self.values[op.results[0]] = Position(self.dims[number.value.data], INDEX)
        elif kind is tensor.ExtractOp:
            indices = [self.get(v) for v in op._operands[1:]]
            self.values[op.results[0]] = self.extract(op._operands[0], indices)
        elif kind is scf.IfOp:
            self._branch(op)
        elif (position := self._position(op)) is not None:
            self.values[op.results[0]] = position
        elif kind is arith.AddfOp and (product := self._product(op)) is not None:
            self.values[op.results[0]] = product
        elif op.regions:
            raise UnsupportedError(f"{op.name} in the body of a linalg.generic")
        else:
            self._compute(op)

    def _compute(self, op: Operation) -> None:
        values = [self.materialized(self.get(v)) for v in op._operands]
        op_type = WIDENED.get(type(op), type(op))
        if len(op.results) != 1:
            raise UnsupportedError(f"{op.name} in the body of a linalg.generic")
        result = op.results[0].type
        if any(isinstance(v.type, VectorType) for v in values):
            condition_only = op_type is core.SelectOp and not isinstance(values[0].type, VectorType)
            first = 1 if condition_only else 0
            values[first:] = [self.emitter.broadcast(v, self.lanes) for v in values[first:]]
            result = self.emitter.vector_type(result, self.lanes)
        self.values[op.results[0]] = self.emitter.emit(op_type, values, result, op.properties)

    def _position(self, op: Operation) -> Position | None:
        """Index arithmetic that stays symbolic."""
        if isinstance(op, arith.ConstantOp):
            number = op.value
            if isinstance(number, IntegerAttr) and number.type in (INDEX, i64):
                return Position(Poly.of(number.value.data), number.type)
            return None
        if not isinstance(op, (arith.AddiOp, arith.SubiOp, arith.MuliOp, *CASTS)):
            return None
        kind = op.results[0].type
        if kind not in (INDEX, i64):
            return None
        given = [self.get(v) for v in op._operands]
        if not any(isinstance(v, Position) for v in given):
            return None
        polys = [p for v in given if (p := self._poly(v)) is not None]
        if len(polys) < len(given):
            return None
        if isinstance(op, CASTS):
            return Position(polys[0], kind)
        left, right = polys
        if isinstance(op, arith.AddiOp):
            return Position(left + right, kind)
        if isinstance(op, arith.SubiOp):
            return Position(left - right, kind)
        if left.has(LANE) and right.has(LANE):
            return None
        return Position(left * right, kind)

    def _poly(self, value: Value) -> Poly | None:
        if isinstance(value, Position):
            return value.poly
        return self.emitter.atom(value) if isinstance(value.type, IndexType) else None

    def _product(self, op: Operation) -> SSAValue | None:
        """a * b + c in one, where the product is in `fused`."""
        for product, other in (op._operands, op._operands[::-1]):
            owner = product.owner
            if isinstance(owner, Operation) and owner in self.fused:
                values = [self.materialized(self.get(v)) for v in (*owner._operands, other)]
                if any(isinstance(v.type, VectorType) for v in values):
                    values = [self.emitter.broadcast(v, self.lanes) for v in values]
                return self.emitter.multiply_add(*values)
        return None

    def _branch(self, op: Operation) -> None:
        """scf.if: both sides computed and selected (they are pure), unless the condition is uniform."""
        assert isinstance(op, scf.IfOp)
        condition = self.materialized(self.get(op.cond))
        if isinstance(condition.type, VectorType):
            raise UnsupportedError("scf.if in the body of a linalg.generic, on a condition that differs by lane")
        results: list[list[SSAValue]] = []
        blocks: list[Block] = []
        for region in op.regions:
            with self.emitter.block() as ops:
                results.append(self.run(region.block, ()))
            blocks.append(Block(ops))
        kinds = [r.type for r in op.results]
        if any(isinstance(v.type, VectorType) for side in results for v in side):
            raise UnsupportedError("scf.if with vector results in the body of a linalg.generic")
        for block, side in zip(blocks, results, strict=True):
            block.add_op(scf.YieldOp.create(operands=side))
        made = self.emitter.branch(condition, blocks, kinds)
        self.values.update(zip(op.results, made, strict=True))


def has_branches(block: Block) -> bool:
    """Whether a body can only be computed point by point."""
    return any(isinstance(op, scf.IfOp) for op in block.ops)


def fusible_products(block: Block, accumulators: Sequence[SSAValue]) -> frozenset[Operation]:
    """The products of f32 or f64 that are added to an accumulator and used for nothing else."""
    found: set[Operation] = set()
    for op in block.ops:
        if isinstance(op, arith.AddfOp) and any(v in accumulators for v in op._operands):
            for value in op._operands:
                owner = value.owner
                if isinstance(owner, arith.MulfOp) and value.has_one_use():
                    found.add(owner)
    return frozenset(found)



