"""Arithmetic on vectors of floats, for code that is generated from exact numbers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from xdsl.dialects import arith
from xdsl.ir import Attribute, Operation, SSAValue

from stepwell.lowering.analysis.winograd import Arithmetic
from stepwell.lowering.tile_to_loops.emit import Emitter

PLAIN = {"fastmath": arith.FastMathFlagsAttr("none")}


def arithmetic(emitter: Emitter, kind: Attribute) -> Arithmetic[SSAValue]:
    """Sums and multiples of values of one type."""

    def binary(op: type[Operation]) -> Callable[[SSAValue, SSAValue], SSAValue]:
        return lambda a, b: emitter.emit(op, (a, b), kind, PLAIN)

    def number(factor: Fraction) -> SSAValue:
        return emitter.number(float(factor), kind)

    multiply = binary(arith.MulfOp)
    return Arithmetic(
        add=binary(arith.AddfOp),
        subtract=binary(arith.SubfOp),
        scale=lambda a, factor: multiply(a, number(factor)),
        multiply_add=lambda a, factor, b: emitter.multiply_add(a, number(factor), b),
    )
