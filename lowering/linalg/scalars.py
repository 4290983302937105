"""Folds of scalar arithmetic: constants are computed, and identities that hold for every input are used.

Integers wrap to their width; floats are computed by numpy in their own type. For floats only identities that
hold bit for bit under IEEE 754 are used (up to the sign and payload of a NaN, which MLIR leaves open):
`x * 1`, `x / 1`, `x - 0`, `x + -0`, but neither `x + 0` (wrong for -0) nor `x * 0` (wrong for NaN and -1).
"""

import math as python_math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from xdsl.dialects import arith, math, scf
from xdsl.dialects.builtin import (
    BFloat16Type,
    Float16Type,
    Float32Type,
    Float64Type,
    IndexType,
    IntegerAttr,
    IntegerType,
)
from xdsl.ir import Attribute, Block, Operation, SSAValue

from stepwell.lowering.linalg.edit import I1, Editor, Fold, Replacement, constant_integer, constant_number

FLOATS: dict[type[Attribute], Any] = {
    Float16Type: np.float16,
    BFloat16Type: ml_dtypes.bfloat16,
    Float32Type: np.float32,
    Float64Type: np.float64,
}


def _width(type: Attribute) -> int:
    return type.width.data if isinstance(type, IntegerType) else 64


def _unsigned(value: int, width: int) -> int:
    return value & ((1 << width) - 1)


def _truncating(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


# Integer operations on constants: (a, b, width) -> value, None where the result is undefined.
INTEGER: dict[str, Callable[[int, int, int], int | None]] = {
    "arith.addi": lambda a, b, w: a + b,
    "arith.subi": lambda a, b, w: a - b,
    "arith.muli": lambda a, b, w: a * b,
    "arith.divsi": lambda a, b, w: _truncating(a, b) if b else None,
    "arith.remsi": lambda a, b, w: a - b * _truncating(a, b) if b else None,
    "arith.floordivsi": lambda a, b, w: a // b if b else None,
    "arith.ceildivsi": lambda a, b, w: -(-a // b) if b else None,
    "arith.divui": lambda a, b, w: _unsigned(a, w) // _unsigned(b, w) if b else None,
    "arith.remui": lambda a, b, w: _unsigned(a, w) % _unsigned(b, w) if b else None,
    "arith.minsi": lambda a, b, w: min(a, b),
    "arith.maxsi": lambda a, b, w: max(a, b),
    "arith.minui": lambda a, b, w: min(a, b, key=lambda v: _unsigned(v, w)),
    "arith.maxui": lambda a, b, w: max(a, b, key=lambda v: _unsigned(v, w)),
    "arith.andi": lambda a, b, w: a & b,
    "arith.ori": lambda a, b, w: a | b,
    "arith.xori": lambda a, b, w: a ^ b,
    "arith.shli": lambda a, b, w: a << b if 0 <= b < w else None,
    "arith.shrsi": lambda a, b, w: a >> b if 0 <= b < w else None,
    "arith.shrui": lambda a, b, w: _unsigned(a, w) >> b if 0 <= b < w else None,
}

# What an integer operation with a constant right side is: (op, constant) -> "left", the constant itself, or None.
RIGHT_IDENTITY = {
    "arith.addi": 0, "arith.subi": 0, "arith.muli": 1, "arith.divsi": 1, "arith.divui": 1, "arith.floordivsi": 1,
    "arith.ceildivsi": 1, "arith.andi": -1, "arith.ori": 0, "arith.xori": 0, "arith.shli": 0, "arith.shrsi": 0,
    "arith.shrui": 0,
}  # fmt: skip
ABSORBING = {"arith.muli": 0, "arith.andi": 0, "arith.ori": -1}
COMMUTATIVE = {
    "arith.addi", "arith.muli", "arith.andi", "arith.ori", "arith.xori", "arith.minsi", "arith.maxsi",
    "arith.minui", "arith.maxui",
}  # fmt: skip
IDEMPOTENT = {"arith.andi", "arith.ori", "arith.minsi", "arith.maxsi", "arith.minui", "arith.maxui"}
CHAINS = {"arith.addi", "arith.muli"}

FLOAT: dict[str, Callable[[Any, Any], Any]] = {
    "arith.addf": lambda a, b: a + b,
    "arith.subf": lambda a, b: a - b,
    "arith.mulf": lambda a, b: a * b,
    "arith.divf": lambda a, b: a / b,
    "arith.maximumf": np.maximum,
    "arith.minimumf": np.minimum,
    "arith.maxnumf": np.fmax,
    "arith.minnumf": np.fmin,
}
FLOAT_IDENTITY = {"arith.mulf": 1.0, "arith.divf": 1.0, "arith.subf": 0.0, "arith.addf": -0.0}
FLOAT_COMMUTATIVE = {"arith.addf", "arith.mulf"}

# Computed in float64 and rounded once.
FUNCTION: dict[str, Callable[[Any], Any]] = {
    "arith.negf": lambda a: -a,
    "math.absf": np.abs,
    "math.ceil": np.ceil,
    "math.floor": np.floor,
    "math.trunc": np.trunc,
    "math.roundeven": np.rint,
    "math.sqrt": np.sqrt,
    "math.rsqrt": lambda a: 1 / np.sqrt(a),
    "math.exp": np.exp,
    "math.exp2": np.exp2,
    "math.log": np.log,
    "math.log2": np.log2,
    "math.sin": np.sin,
    "math.cos": np.cos,
    "math.tanh": np.tanh,
    "math.erf": lambda a: np.float64(python_math.erf(a)),
}

_SIGNED = (lambda a, b: a == b, lambda a, b: a != b, lambda a, b: a < b, lambda a, b: a <= b,
           lambda a, b: a > b, lambda a, b: a >= b)  # fmt: skip
_FLOAT_ORDER: tuple[Callable[[float, float], bool], ...] = (
    lambda a, b: False, lambda a, b: a == b, lambda a, b: a > b, lambda a, b: a >= b, lambda a, b: a < b,
    lambda a, b: a <= b, lambda a, b: a != b, lambda a, b: True,
)  # fmt: skip
EQ, NE, SLT, SGE = 0, 1, 2, 5


def _predicate(op: Operation) -> int:
    attribute = op.properties["predicate"]
    assert isinstance(attribute, IntegerAttr)
    return attribute.value.data


def integer(op: Operation, edit: Editor) -> Replacement | None:
    """Fold a binary integer op."""
    name, (left, right), type = op.name, op._operands, op.results[0].type
    if not isinstance(type, (IntegerType, IndexType)):
        return None
    a, b = constant_integer(left), constant_integer(right)
    if a is not None and b is not None:
        value = INTEGER[name](a, b, _width(type))
        return None if value is None else edit.number(value, type)
    if left is right:
        if name in IDEMPOTENT:
            return left
        if name in ("arith.subi", "arith.xori"):
            return edit.number(0, type)
    if a is not None and name in COMMUTATIVE:
        op.operands = [right, left]
        left, right, a, b = right, left, None, a
    if b is None:
        return None
    if type == I1 and b == 1 and name in ("arith.andi", "arith.ori", "arith.muli"):
        return right if name == "arith.ori" else left
    if b == RIGHT_IDENTITY.get(name) and not (type == I1 and name == "arith.andi"):
        return left
    if name in ABSORBING and b == ABSORBING[name]:
        return right
    if name in ("arith.remsi", "arith.remui") and b == 1:
        return edit.number(0, type)
    if name == "arith.maxsi" and b <= 0 and at_least_zero(left):
        return left
    return _chain(op, left, b, edit)


def _chain(op: Operation, left: SSAValue, b: int, edit: Editor) -> SSAValue | None:
    """(x + c) + d is x + (c + d); so for products."""
    inner = left.owner
    if op.name not in CHAINS or not isinstance(inner, Operation) or inner.name != op.name:
        return None
    c = constant_integer(inner._operands[1])
    if c is None:
        return None
    type = op.results[0].type
    total = INTEGER[op.name](c, b, 64)
    assert total is not None
    return edit.add(op.__class__, (inner._operands[0], edit.number(total, type)), type, op.properties)


def at_least_zero(value: SSAValue, depth: int = 4) -> bool:
    """Whether an integer is known never to be negative: sizes, constants, and sums and products of such."""
    constant = constant_integer(value)
    if constant is not None:
        return constant >= 0
    owner = value.owner
    if depth == 0 or not isinstance(owner, Operation):
        return False
    if owner.name in ("tensor.dim", "host.list_length"):
        return True
    if owner.name in ("arith.addi", "arith.muli", "arith.minsi", "arith.divsi", "arith.floordivsi"):
        return all(at_least_zero(operand, depth - 1) for operand in owner._operands)
    if owner.name == "arith.maxsi":
        return any(at_least_zero(operand, depth - 1) for operand in owner._operands)
    if owner.name == "arith.index_cast":
        return at_least_zero(owner._operands[0], depth - 1)
    return False


def floating(op: Operation, edit: Editor) -> Replacement | None:
    """Fold a binary floating op."""
    name, (left, right), type = op.name, op._operands, op.results[0].type
    a, b = constant_number(left), constant_number(right)
    if a is None and b is None:
        return None
    to_type = FLOATS.get(type.__class__)
    if a is not None and b is not None and to_type is not None:
        with np.errstate(all="ignore"):
            return edit.number(float(FLOAT[name](to_type(a), to_type(b))), type)
    if a is not None and b is None and name in FLOAT_COMMUTATIVE:
        op.operands = [right, left]
        left, b = right, a
    identity = FLOAT_IDENTITY.get(name)
    if b is not None and identity is not None and b == identity:
        return left if python_math.copysign(1, b) == python_math.copysign(1, identity) else None
    return None


def function(op: Operation, edit: Editor) -> Replacement | None:
    """Fold a floating function of one constant."""
    value = constant_number(op._operands[0])
    if value is None:
        inner = op._operands[0].owner
        if op.name == "arith.negf" and isinstance(inner, arith.NegfOp):
            return inner._operands[0]
        return None
    with np.errstate(all="ignore"):
        return edit.number(float(FUNCTION[op.name](np.float64(value))), op.results[0].type)


def compare_integers(op: Operation, edit: Editor) -> Replacement | None:
    """Fold arith.cmpi."""
    (left, right), predicate = op._operands, _predicate(op)
    if op.results[0].type != I1:
        return None
    if left is right:
        return edit.number(predicate in (0, 3, 5, 7, 9), I1)
    a, b = constant_integer(left), constant_integer(right)
    if a is not None and b is not None:
        if predicate > 5:
            width = _width(left.type)
            a, b, predicate = _unsigned(a, width), _unsigned(b, width), predicate - 4
        return edit.number(_SIGNED[predicate](a, b), I1)
    if left.type == I1 and b is not None and (predicate, b) in ((EQ, 1), (NE, 0)):
        return left
    if b is not None and (predicate, b) in ((SLT, 0), (SGE, 0)) and at_least_zero(left):
        return edit.number(predicate == SGE, I1)
    if predicate in (SLT, SGE) and (counted := counter_range(left)) is not None and b is not None:
        below = counted[1] < b
        if below or counted[0] >= b:
            return edit.number(below == (predicate == SLT), I1)
    return None


def counter_range(value: SSAValue) -> tuple[int, int] | None:
    """The least and the largest value of the counter of an scf.for with constant bounds; None for all else."""
    if isinstance(value.owner, Operation) and value.owner.name == "arith.index_cast":
        value = value.owner._operands[0]
    block = value.owner
    loop = block.parent_op() if isinstance(block, Block) else None
    if not isinstance(loop, scf.ForOp) or value is not loop.body.block.args[0]:
        return None
    first, limit, step = (constant_integer(bound) for bound in loop._operands[:3])
    if first is None or limit is None or step is None or step <= 0 or limit <= first:
        return None
    return first, first + (limit - 1 - first) // step * step


def compare_floats(op: Operation, edit: Editor) -> Replacement | None:
    """Fold arith.cmpf."""
    a, b = (constant_number(operand) for operand in op._operands)
    if a is None or b is None or op.results[0].type != I1:
        return None
    predicate = _predicate(op)
    if python_math.isnan(a) or python_math.isnan(b):
        return edit.number(predicate >= 8, I1)
    # Unordered predicates are 8 + (order - 1 ...): 8 ueq, 9 ugt, ..., 13 une, 14 uno, 15 true.
    order = predicate if predicate < 8 else {14: 0, 15: 7}.get(predicate, predicate - 7)
    return edit.number(_FLOAT_ORDER[order](a, b), I1)


def select(op: Operation, edit: Editor) -> Replacement | None:
    """Fold arith.select."""
    condition, yes, no = op._operands
    if yes is no:
        return yes
    value = constant_integer(condition)
    if value is not None:
        return yes if value else no
    if yes.type == I1 and constant_integer(yes) == 1 and constant_integer(no) == 0:
        return condition
    return None


def convert_integer(op: Operation, edit: Editor) -> Replacement | None:
    """Fold extsi, extui, trunci, index_cast, sitofp, uitofp."""
    (operand,), type = op._operands, op.results[0].type
    value = constant_integer(operand)
    if value is not None:
        if value == 1 and operand.type == I1 and op.name in ("arith.extsi", "arith.sitofp"):
            value = -1
        if op.name in ("arith.extui", "arith.uitofp", "arith.index_castui"):
            value = _unsigned(value, _width(operand.type))
        return edit.number(value, type)
    if operand.type == type:
        return operand
    inner = operand.owner
    if op.name != "arith.index_cast" or not isinstance(inner, Operation) or inner.name != op.name:
        return None
    # Both index and i64 have 64 bits: there and back is nothing.
    source = inner._operands[0]
    return source if source.type == type and 64 in (_width(operand.type),) else None


def convert_float(op: Operation, edit: Editor) -> Replacement | None:
    """Fold extf, truncf, and fptosi of what fits."""
    (operand,), type = op._operands, op.results[0].type
    value = constant_number(operand)
    if value is None:
        inner = operand.owner
        if op.name == "arith.truncf" and isinstance(inner, arith.ExtFOp) and inner._operands[0].type == type:
            return inner._operands[0]
        return None
    if op.name == "arith.fptosi":
        limit = 2.0 ** (_width(type) - 1)
        return edit.number(int(value), type) if python_math.isfinite(value) and abs(value) < limit else None
    return edit.number(float(value), type)


def power(op: Operation, edit: Editor) -> Replacement | None:
    """Fold powf: constants; the exponents 1, 2 and -1, where pow is exactly x, x*x and 1/x."""
    base, exponent = op._operands
    type, a, b = op.results[0].type, constant_number(base), constant_number(exponent)
    if a is not None and b is not None:
        with np.errstate(all="ignore"):
            return edit.number(float(np.power(np.float64(a), np.float64(b))), type)
    if b == 1:
        return base
    if b == 2:
        return edit.add(arith.MulfOp, (base, base), type, {"fastmath": arith.FastMathFlagsAttr("none")})
    if b == -1:
        one = edit.number(1.0, type)
        return edit.add(arith.DivfOp, (one, base), type, {"fastmath": arith.FastMathFlagsAttr("none")})
    return None


FOLDS: dict[str, Fold] = {
    **dict.fromkeys(INTEGER, integer),
    **dict.fromkeys(FLOAT, floating),
    **dict.fromkeys(FUNCTION, function),
    "arith.cmpi": compare_integers,
    "arith.cmpf": compare_floats,
    "arith.select": select,
    **dict.fromkeys(
        ("arith.extsi", "arith.extui", "arith.trunci", "arith.index_cast", "arith.index_castui", "arith.sitofp",
         "arith.uitofp"),
        convert_integer,
    ),
    **dict.fromkeys(("arith.extf", "arith.truncf", "arith.fptosi"), convert_float),
    math.PowFOp.name: power,
}  # fmt: skip
"""Op name to fold."""
