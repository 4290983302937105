"""Reads a contract function forward: every value as rules see it (facts, numbers, symbolic ints).

Shape rules are deterministic, so running them again over the contract's operations gives back what the
specializer knew. Symbols come from arguments (torch.symbolic_int and bind_symbolic_shape), from block arguments
and from results whose sizes no rule gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xdsl.dialects.builtin import AffineMapAttr
from xdsl.ir import SSAValue
from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineExpr,
    AffineSymExpr,
)

from stepwell.dialects.torch import operations, types
from stepwell.dialects.torch.declare import Declaration, TensorInfo, Undecided
from stepwell.dialects.torch.sizes import Dim, Size, Symbol, isolate

MOST_QUESTIONS = 16


def info_of_type(type_: types.ValueTensorType, name: str = "s") -> tuple[TensorInfo, list[tuple[int, Symbol]]]:
    """Facts of a tensor from its type alone; unknown sizes become fresh symbols, listed with their dimension."""
    sizes, dtype = type_.known_sizes, type_.known_dtype
    if sizes is None or dtype is None:
        raise TypeError(f"a tensor of the contract has rank and dtype, not {type_}")
    fresh: list[tuple[int, Symbol]] = []
    found: list[Size] = []
    for dim, size in enumerate(sizes):
        if size >= 0:
            found.append(size)
            continue
        symbol = Symbol(name, 0)
        fresh.append((dim, symbol))
        found.append(Dim.of(symbol))
    return TensorInfo(tuple(found), dtype), fresh


def bound_sizes(op: operations.BindSymbolicShape, symbols: Mapping[SSAValue, Symbol]) -> tuple[Size, ...]:
    """The sizes that a torch.bind_symbolic_shape gives its tensor."""
    attribute = op.properties["shape_expressions"]
    assert isinstance(attribute, AffineMapAttr)
    own = [symbols[v] for v in op.operands[1:]]
    return tuple(size_of_expression(e, own) for e in attribute.data.results)


def size_of_expression(expression: AffineExpr, symbols: list[Symbol]) -> Size:
    """An affine expression over symbols as a symbolic size."""
    if isinstance(expression, AffineConstantExpr):
        return expression.value
    if isinstance(expression, AffineSymExpr):
        return Dim.of(symbols[expression.position])
    if isinstance(expression, AffineBinaryOpExpr):
        left = size_of_expression(expression.lhs, symbols)
        right = size_of_expression(expression.rhs, symbols)
        if expression.kind == AffineBinaryOpKind.Add:
            return left + right
        if expression.kind == AffineBinaryOpKind.Mul:
            return left * right
        if expression.kind == AffineBinaryOpKind.FloorDiv:
            return left // right
    raise TypeError(f"{expression} is no size")


LIST_OPS = frozenset(("append", "len", "__getitem__", "list_pop", "list_set", "list_elements", "list_table"))
"""Ops that the contract has on lists of run-time length only; on others they have been computed."""


def infer_assuming(
    declaration: Declaration,
    arguments: list[Any],
    facts: Callable[[Any], Any],
    refined: Callable[[Any, Symbol, Size], Any],
) -> tuple[Any, list[Any]]:
    """Run a shape rule below the specializer, which has put a check wherever sizes must be equal.

    Symbols that were named anew since then are taken for equal where the rule asks; gives the rule's result and
    the arguments with one symbol in the other's place.
    """
    for _ in range(MOST_QUESTIONS):
        try:
            return declaration.infer(*map(facts, arguments)), arguments
        except Undecided as question:
            found = isolate(question.left, question.right) or isolate(question.left, question.right, within=True)
            if found is None:
                raise
            symbol, size = found
            arguments = [refined(a, symbol, size) for a in arguments]
    raise TypeError(f"{declaration.schema.qualified_name}: sizes that do not settle")
