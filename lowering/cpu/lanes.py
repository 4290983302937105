"""`Lanes`: writes arithmetic on scalars or vectors of one float format as arith ops, in front of an op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.dialects import arith, math, scf, vector
from xdsl.dialects.builtin import (
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    LocationAttr,
    VectorType,
    i1,
    i32,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects.quick_ir import make
from stepwell.dialects.target import Target
from stepwell.dialects.upstream import core
from stepwell.dialects.upstream.core import like
from stepwell.lowering.cpu.math_table import FORMATS, Coefficients, Format

NO_FLAGS = arith.FastMathFlagsAttr("none")
FLAGS = {"fastmath": NO_FLAGS}
INTEGER_FLAGS = {"overflowFlags": arith.IntegerOverflowAttr("none")}
INT = {name: IntegerAttr(i, i64) for i, name in enumerate(arith.CMPI_COMPARISON_OPERATIONS)}
FLOAT = {name: IntegerAttr(i, i64) for i, name in enumerate(arith.CMPF_COMPARISON_OPERATIONS)}

CURRENT_ROUNDING = 4
"""AVX-512's word for rounding as everywhere."""

Constants = dict[tuple[Attribute, str], SSAValue]


class Lanes:
    """One format (f32, f64) in one shape. `ops` collects what was written; constants go to `head`.

    `constants` is shared by all expansions in a function, so that each constant exists once, in its entry.
    `target`: the CPU, where its own instructions may be used.
    """

    def __init__(
        self,
        kind: Attribute,
        head: list[Operation],
        constants: Constants,
        location: LocationAttr | None,
        target: Target | None = None,
    ) -> None:
        element = kind.element_type if isinstance(kind, VectorType) else kind
        self.format: Format = FORMATS[element]  # type: ignore[index]
        self.kind = kind
        self.integer = like(kind, self.format.integer)
        self.boolean = like(kind, i1)
        self.head, self.constants, self.location, self.target = head, constants, location, target
        self.ops: list[Operation] = []

    def other(self, element: Attribute) -> Lanes:
        """The same shape in another format, writing to the same place."""
        lanes = Lanes(like(self.kind, element), self.head, self.constants, self.location, self.target)
        lanes.ops = self.ops
        return lanes

    def emit(
        self,
        op: type[Operation],
        operands: Sequence[SSAValue],
        kind: Attribute,
        properties: dict[str, Any] | None = None,
    ) -> SSAValue:
        """Write one op."""
        made = make(op, operands, (kind,), properties or {}, location=self.location)
        self.ops.append(made)
        return made.results[0]

    # ------ constants

    def number(self, value: float) -> SSAValue:
        """A float in all lanes."""
        return self._constant(self.kind, value)

    def whole(self, value: int) -> SSAValue:
        """An integer of the format's width in all lanes."""
        return self._constant(self.integer, value)

    def _constant(self, kind: Attribute, value: float | int) -> SSAValue:
        key = (kind, repr(value))
        found = self.constants.get(key)
        if found is None:
            attribute: Any
            if isinstance(kind, VectorType):
                attribute = DenseIntOrFPElementsAttr.from_list(kind, [value])
            elif isinstance(kind, IntegerType):
                attribute = IntegerAttr(int(value), kind)
            else:
                attribute = FloatAttr(value, kind)
            op = make(arith.ConstantOp, (), (kind,), {"value": attribute})
            self.head.append(op)
            found = self.constants[key] = op.results[0]
        return found

    # ------ floats

    def add(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.emit(arith.AddfOp, (a, b), self.kind, FLAGS)

    def sub(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.emit(arith.SubfOp, (a, b), self.kind, FLAGS)

    def mul(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.emit(arith.MulfOp, (a, b), self.kind, FLAGS)

    def div(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.emit(arith.DivfOp, (a, b), self.kind, FLAGS)

    def fma(self, a: SSAValue, b: SSAValue, c: SSAValue) -> SSAValue:
        """a * b + c, rounded once."""
        return self.emit(math.FmaOp, (a, b, c), self.kind, FLAGS)

    def neg(self, a: SSAValue) -> SSAValue:
        return self.emit(arith.NegfOp, (a,), self.kind, FLAGS)

    def abs(self, a: SSAValue) -> SSAValue:
        return self.emit(math.AbsFOp, (a,), self.kind, FLAGS)

    def sqrt(self, a: SSAValue) -> SSAValue:
        return self.emit(math.SqrtOp, (a,), self.kind, FLAGS)

    def trunc(self, a: SSAValue) -> SSAValue:
        return self.emit(math.TruncOp, (a,), self.kind, FLAGS)

    def copysign(self, magnitude: SSAValue, sign: SSAValue) -> SSAValue:
        return self.emit(math.CopySignOp, (magnitude, sign), self.kind, FLAGS)

    def polynomial(self, coefficients: Coefficients, x: SSAValue) -> SSAValue:
        """c0 + c1 x + c2 x^2 + ..., by Horner's rule."""
        result = self.number(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            result = self.fma(result, x, self.number(coefficient))
        return result

    # ------ comparing and choosing (an unordered comparison is false)

    def compare(self, predicate: str, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.emit(core.CmpfOp, (a, b), self.boolean, {"predicate": FLOAT[predicate], **FLAGS})

    def less(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("olt", a, b)

    def equal(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("oeq", a, b)

    def select(self, condition: SSAValue, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.emit(core.SelectOp, (condition, a, b), a.type)

    def at_most(self, x: SSAValue, bound: float) -> SSAValue:
        """min(x, bound); NaN stays NaN."""
        limit = self.number(bound)
        return self.select(self.less(limit, x), limit, x)

    def at_least(self, x: SSAValue, bound: float) -> SSAValue:
        """max(x, bound); NaN stays NaN."""
        limit = self.number(bound)
        return self.select(self.less(x, limit), limit, x)

    def both(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.emit(arith.AndIOp, (a, b), a.type)

    # ------ bits

    def bits(self, a: SSAValue) -> SSAValue:
        """A float's bits as an integer."""
        return self.emit(self._bitcast(), (a,), self.integer)

    def floats(self, a: SSAValue) -> SSAValue:
        """The opposite."""
        return self.emit(self._bitcast(), (a,), self.kind)

    def _bitcast(self) -> type[Operation]:
        return vector.BitcastOp if isinstance(self.kind, VectorType) else arith.BitcastOp

    def whole_op(self, op: type[Operation], a: SSAValue, b: SSAValue) -> SSAValue:
        """An integer op of the format's width."""
        flags = INTEGER_FLAGS if op in (arith.AddiOp, arith.SubiOp, arith.MuliOp, arith.ShLIOp) else None
        return self.emit(op, (a, b), self.integer, dict(flags) if flags else None)

    def plus(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.whole_op(arith.AddiOp, a, b)

    def minus(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.whole_op(arith.SubiOp, a, b)

    def masked(self, a: SSAValue, mask: int) -> SSAValue:
        return self.whole_op(arith.AndIOp, a, self.whole(mask))

    def left(self, a: SSAValue, by: int) -> SSAValue:
        return self.whole_op(arith.ShLIOp, a, self.whole(by))

    def right(self, a: SSAValue, by: int) -> SSAValue:
        """Arithmetic shift."""
        return self.whole_op(arith.ShRSIOp, a, self.whole(by))

    def is_set(self, a: SSAValue, mask: int) -> SSAValue:
        """Whether any bit of a mask is set."""
        zero = self.whole(0)
        return self.emit(core.CmpiOp, (self.masked(a, mask), zero), self.boolean, {"predicate": INT["ne"]})

    def from_whole(self, a: SSAValue) -> SSAValue:
        """An integer as a float."""
        return self.emit(core.SIToFPOp, (a,), self.kind)

    def power_of_two(self, exponent: SSAValue) -> SSAValue:
        """2^exponent, where that is a normal number."""
        shifted = self.plus(exponent, self.whole(self.format.bias))
        return self.floats(self.left(shifted, self.format.mantissa))

    @property
    def can_scale(self) -> bool:
        """Whether one instruction multiplies by a power of two, at any exponent."""
        lanes = self.kind.get_shape()[0] if isinstance(self.kind, VectorType) else 1
        return self.target is not None and self.target.has("avx512f") and lanes * self.format.bits == 512

    def scaled(self, a: SSAValue, exponent: SSAValue) -> SSAValue:
        """a * 2^exponent, of a whole number as a float, where `can_scale`."""
        assert isinstance(self.kind, VectorType)
        lanes = self.kind.get_shape()[0]
        every, current = self._constant(IntegerType(lanes), -1), self._constant(i32, CURRENT_ROUNDING)
        return self.emit(core.ScaleFOp, (a, exponent, a, every, current), self.kind)

    def nearest(self, x: SSAValue, factor: float) -> tuple[SSAValue, SSAValue]:
        """x * factor rounded to a whole number: (as a float, as an integer).

        By adding 1.5 * 2^mantissa, whose last bits are then the integer. Where x is not finite, the results are
        just some numbers, but never poison as a conversion would be.
        """
        magic = 1.5 * 2.0**self.format.mantissa
        shifted = self.fma(x, self.number(factor), self.number(magic))
        integer = self.minus(self.bits(shifted), self._constant_bits(magic))
        return self.sub(shifted, self.number(magic)), integer

    def _constant_bits(self, value: float) -> SSAValue:
        import struct

        codes = ("<f", "<i") if self.format.bits == 32 else ("<d", "<q")
        return self.whole(struct.unpack(codes[1], struct.pack(codes[0], value))[0])

    # ------ a way for rare arguments

    def where_any(self, condition: SSAValue, rare: Any, usual: Sequence[SSAValue]) -> list[SSAValue]:
        """`rare()`'s values in all lanes, computed only where some lane needs them; else the usual ones."""
        test = condition
        if isinstance(condition.type, VectorType):
            kind = vector.CombiningKindAttr(vector.CombiningKindFlag.OR)
            test = self.emit(vector.ReductionOp, (condition,), i1, {"kind": kind, "fastmath": NO_FLAGS})
        outer = self.ops
        self.ops = []
        values = rare()
        blocks = [Block(self.ops), Block()]
        self.ops = outer
        for block, yielded in zip(blocks, (values, usual), strict=True):
            block.add_op(scf.YieldOp.create(operands=yielded))
        made = scf.IfOp.create(
            operands=(test,),
            result_types=[value.type for value in usual],
            regions=[Region(block) for block in blocks],
            location=self.location,
        )
        self.ops.append(made)
        return list(made.results)
