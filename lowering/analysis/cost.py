"""What an element of a generic costs to compute: the measure by which passes decide to compute it again."""

from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import Operation

from stepwell.lowering.linalg.structure import body

FREE = frozenset(("arith.constant", "linalg.yield", "linalg.index", "arith.index_cast", "arith.extui", "arith.bitcast"))
"""Ops that cost nothing once vectorised and hoisted, or next to nothing."""

DEAR: dict[str, int] = {
    "arith.divf": 5, "arith.divsi": 20, "arith.divui": 20, "arith.remsi": 20, "arith.remui": 20,
    "arith.floordivsi": 22, "arith.ceildivsi": 22, "arith.remf": 30, "tensor.extract": 4,
    "math.sqrt": 6, "math.rsqrt": 8, "math.absf": 1, "math.floor": 1, "math.ceil": 1, "math.trunc": 1,
    "math.roundeven": 1, "math.round": 3, "math.fma": 1, "math.copysign": 2, "math.absi": 1,
    "math.isnan": 1, "math.isinf": 1, "math.isfinite": 1, "scf.if": 10, "scf.for": 100, "scf.while": 100,
}  # fmt: skip
"""Costs in units of one vector addition; what is not named here or in FREE costs 1, other math 15."""

FUNCTION = 15


def op_cost(op: Operation) -> int:
    """The cost of a scalar op, in vector additions per vector of elements."""
    if op.name in FREE:
        return 0
    found = DEAR.get(op.name)
    if found is not None:
        return found
    return FUNCTION if op.name.startswith("math.") else 1


def element_cost(op: GenericOp) -> int:
    """The cost of a body for one element (one iteration)."""
    return sum(op_cost(inner) for inner in body(op).ops)
