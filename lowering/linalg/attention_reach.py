"""Which keys an attention takes no notice of, whatever its operands are: what a choice by position tells."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.dialects import arith
from xdsl.dialects.linalg.ops import GenericOp, IndexOp
from xdsl.ir import BlockArgument, SSAValue
from xdsl.ir.affine import AffineConstantExpr, AffineDimExpr, AffineMap

from stepwell.dialects.upstream import core
from stepwell.lowering.analysis.affine import compose
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.attention_form import INFINITY, Attention
from stepwell.lowering.linalg.edit import constant_number

SELECTS = (arith.SelectOp, core.SelectOp)
COMPARISONS = (arith.CmpiOp, core.CmpiOp)
CASTS = (arith.IndexCastOp, core.IndexCastOp)

SLT, SLE, SGT, SGE = 2, 3, 4, 5
"""Predicates of arith.cmpi."""

OPPOSITE = {SLT: SGE, SLE: SGT, SGT: SLE, SGE: SLT}


@dataclass(frozen=True)
class Reach:
    """Query i takes no notice of keys j > i + `ahead` (causal attention: 0): in the body of `op`, minus infinity is chosen
    instead of `kept` for them."""

    ahead: int
    op: GenericOp
    kept: SSAValue


def reach(form: Attention) -> Reach | None:
    """How far queries of an attention reach whatever its operands are; None where every key may count."""
    rank = len(form.largest.iterator_types.data)
    return _reach(form.largest, form.value, AffineMap.identity(rank), form.query_loop, form.key_loop)


def _reach(op: GenericOp, value: SSAValue, loops: AffineMap, query: int, key: int) -> Reach | None:
    """The same of a value in a body, whose loops `loops` gives in those of the softmax."""
    if isinstance(value, BlockArgument):
        maker = op._operands[value.index].owner
        if not isinstance(maker, GenericOp) or len(maker.results) != 1 or not structure.is_parallel(maker):
            return None
        read = compose(op.indexing_maps.data[value.index].data, loops)
        return _reach(maker, structure.yielded(maker)[0], read, query, key)
    chosen = value.owner
    if not isinstance(chosen, SELECTS):
        return None
    condition, yes, no = chosen._operands
    if constant_number(no) == -INFINITY:
        kept, holds = yes, True
    elif constant_number(yes) == -INFINITY:
        kept, holds = no, False
    else:
        return None
    bound = _bound(condition, holds, loops, query, key)
    return Reach(bound, op, kept) if bound is not None else _reach(op, kept, loops, query, key)


Linear = dict[int | None, int]
"""Factors of loops of the softmax; None: the constant."""


def _bound(condition: SSAValue, holds: bool, loops: AffineMap, query: int, key: int) -> int | None:
    """c, where a condition holds (or does not) for j <= i + c only."""
    test = condition.owner
    if not isinstance(test, COMPARISONS):
        return None
    left, right = (_linear(side, loops) for side in test._operands)
    predicate = test.predicate.value.data
    if left is None or right is None or predicate not in OPPOSITE:
        return None
    if not holds:
        predicate = OPPOSITE[predicate]
    if predicate in (SGT, SGE):
        left, right, predicate = right, left, SLT if predicate == SGT else SLE
    difference = _subtract(left, right)
    constant = difference.pop(None, 0)
    if {loop: factor for loop, factor in difference.items() if factor} != {key: 1, query: -1}:
        return None
    return -constant if predicate == SLE else -constant - 1


def _subtract(left: Linear, right: Linear) -> Linear:
    return {loop: left.get(loop, 0) - right.get(loop, 0) for loop in {*left, *right}}


def _linear(value: SSAValue, loops: AffineMap) -> Linear | None:
    """An integer of a body as a sum of loops of the softmax."""
    owner = value.owner
    if isinstance(owner, IndexOp):
        expression = loops.results[owner.dim.value.data]
        if isinstance(expression, AffineDimExpr):
            return {expression.position: 1}
        return {None: expression.value} if isinstance(expression, AffineConstantExpr) else None
    number = constant_number(value)
    if number is not None:
        return {None: int(number)}
    if isinstance(owner, CASTS):
        return _linear(owner._operands[0], loops)
    if isinstance(owner, (arith.AddiOp, arith.SubiOp)):
        left, right = (_linear(side, loops) for side in owner._operands)
        if left is None or right is None:
            return None
        if isinstance(owner, arith.AddiOp):
            right = {loop: -factor for loop, factor in right.items()}
        return _subtract(left, right)
    return None
