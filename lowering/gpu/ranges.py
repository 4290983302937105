"""How large the index values of a kernel can get: an upper bound for each, by one walk over the function.

Only what kernels are made of: numbers, thread and block numbers, loop variables, and sums, products, quotients
and remainders of those. All are at least 0; a value about which nothing is known has no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xdsl.dialects import arith, gpu, scf
from xdsl.dialects.builtin import IntegerAttr
from xdsl.ir import Operation, SSAValue

from stepwell.lowering.gpu import geometry

SMALL = 2**31


def _product(a: int, b: int) -> int:
    return (a - 1) * (b - 1) + 1


RULES: Mapping[type[Operation], Callable[[int, int], int]] = {
    arith.AddiOp: lambda a, b: a + b - 1,
    arith.MuliOp: _product,
    arith.MinSIOp: min,
}
"""From the bounds (exclusive) of two operands to that of the result, where both are known."""


class Ranges:
    """Values with what they are below."""

    def __init__(self, bounds: dict[SSAValue, int]) -> None:
        self.bounds = bounds

    def fits(self, value: SSAValue) -> bool:
        """Whether a value is known to lie in 0 ... 2^31 - 1."""
        bound = self.bounds.get(value)
        return bound is not None and bound <= SMALL

    @staticmethod
    def of(function: gpu.FuncOp) -> Ranges:
        """The bounds in a kernel."""
        ranges = Ranges({})
        grids = geometry.grids_of(function)
        blocks = max(map(int, grids)) if all(map(str.isdigit, grids)) else None
        for op in function.walk():
            bound = ranges._bound(op, geometry.threads_of(function), blocks)
            if bound is not None:
                ranges.bounds[op.results[0]] = bound
        return ranges

    def _bound(self, op: Operation, threads: int, blocks: int | None) -> int | None:
        known = [self.bounds.get(operand) for operand in op.operands]
        match op:
            case gpu.ThreadIdOp():
                return threads
            case gpu.BlockIdOp():
                return blocks
            case arith.ConstantOp():
                number = op.value.value.data if isinstance(op.value, IntegerAttr) else -1
                return number + 1 if number >= 0 else None
            case arith.DivUIOp():
                divisor = _constant(op.operands[1])
                return (known[0] - 1) // divisor + 1 if known[0] is not None and divisor else known[0]
            case arith.RemUIOp():
                return known[1] - 1 if known[1] is not None and known[1] > 1 else known[0]
            case scf.ForOp():
                if known[1] is not None and known[0] is not None:
                    self.bounds[op.body.block.args[0]] = known[1]
                return None
        rule = RULES.get(type(op))
        if rule is None or known[0] is None or known[1] is None:
            return None
        return rule(known[0], known[1])


def _constant(value: SSAValue) -> int | None:
    op = value.owner
    return op.value.value.data if isinstance(op, arith.ConstantOp) and isinstance(op.value, IntegerAttr) else None
