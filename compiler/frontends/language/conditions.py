"""Tests: truth of values, `and`/`or`/`not`, and what a test tells about the types of names."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from stepwell.compiler.frontends.language.bindings import Value, constant_of
from stepwell.compiler.frontends.language.control import Condition, branch, choice
from stepwell.compiler.frontends.language.lowering import Lowering, expression_rule
from stepwell.compiler.frontends.language.names import Builtin, Literal
from stepwell.compiler.frontends.language.ops import call_op
from stepwell.compiler.frontends.language.static_types import (
    ANY,
    BOOL,
    NONE,
    Type,
    admits_none,
    is_subtype,
    union_of,
    without_none,
)


def condition(f: Lowering, node: ast.expr) -> Condition:
    """A test as a condition; names whose types it narrows are told."""
    with f.at(node):
        if isinstance(node, ast.BoolOp):
            return _connected(f, node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return _negated(f, condition(f, node.operand))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            tested = _none_test(f, node)
            if tested is not None:
                return tested
        if isinstance(node, ast.Call):
            tested = _type_test(f, node)
            if tested is not None:
                return tested
        return truth(f, f.expression(node))


def truth(f: Lowering, binding: Any) -> Condition:
    """Whether a value counts as true."""
    if isinstance(binding, Literal) and not isinstance(binding.value, np.ndarray):
        return Condition(bool(binding.value))
    value = f.materialize(binding)
    if value.type is BOOL:
        known = constant_of(value)
        return Condition(known if known is not None else value.ssa)
    if value.type is NONE:
        return Condition(False)
    return Condition(as_bool(f, value).ssa)


def as_bool(f: Lowering, value: Value) -> Value:
    """bool(value)."""
    if value.type is BOOL:
        return value
    if value.type.kind in ("List", "Dict", "str"):
        value = f.materialize(call_op(f, "aten::len", [value]))
    elif value.type.is_tuple:
        return f.constant(bool(value.type.args))
    elif value.type.kind == "Class":
        return _object_truth(f, value)
    elif value.type.kind == "Optional":
        f.refuse(
            f"the truth of a {value.type} is not defined here", help="say `is not None`, or compare the value itself"
        )
    return f.materialize(call_op(f, "aten::Bool", [value]))


def _object_truth(f: Lowering, value: Value) -> Value:
    from stepwell.compiler.frontends.language.functions import call_method

    for name in ("__bool__", "__len__"):
        if name in value.type.script_class.methods:
            return as_bool(f, f.materialize(call_method(f, value, name, [], {})))
    return f.constant(True)


def as_value(f: Lowering, found: Condition) -> Value:
    """A condition as a bool value."""
    return f.constant(found.value) if isinstance(found.value, bool) else Value(found.value, BOOL)


def _negated(f: Lowering, inner: Condition) -> Condition:
    if isinstance(inner.value, bool):
        return inner.negated(not inner.value)
    return inner.negated(f.overload("aten::__not__", [Value(inner.value, BOOL)]).ssa)


def _connected(f: Lowering, node: ast.BoolOp) -> Condition:
    """`a and b and ...`, each evaluated only if those before it do not decide."""
    conjunction = isinstance(node.op, ast.And)
    result = condition(f, node.values[0])
    for operand in node.values[1:]:
        result = _connect(f, conjunction, result, operand)
    return result


def _connect(f: Lowering, conjunction: bool, first: Condition, operand: ast.expr) -> Condition:
    if isinstance(first.value, bool):
        if first.value is not conjunction:
            return first
        branch(f, first, lambda: None, lambda: None)
        second = condition(f, operand)
        return _facts(conjunction, second.value, first, second)
    found: list[Condition] = []

    def evaluate() -> None:
        found.append(condition(f, operand))
        f.bind("$value", as_value(f, found[0]))

    def decide() -> None:
        f.bind("$value", f.constant(not conjunction))

    branch(f, first, *((evaluate, decide) if conjunction else (decide, evaluate)), "$value")
    value = f.scope.names.pop("$value").ssa
    return _facts(conjunction, value, first, found[0])


def _facts(conjunction: bool, value: SSAValue | bool, first: Condition, second: Condition) -> Condition:
    if conjunction:
        return Condition(value, [*first.holds, *second.holds], second.fails if first.value is True else [])
    return Condition(value, second.holds if first.value is False else [], [*first.fails, *second.fails])


# ------ tests of types


def _none_test(f: Lowering, node: ast.Compare) -> Condition | None:
    """`x is None`, `x is not None`, `x == None`, `x != None`."""
    operator, right = node.ops[0], node.comparators[0]
    if not (isinstance(right, ast.Constant) and right.value is None):
        return None
    if not isinstance(operator, (ast.Is, ast.IsNot, ast.Eq, ast.NotEq)):
        return None
    value = f.expression(node.left)
    name = node.left.id if isinstance(node.left, ast.Name) else None
    found = is_none(f, value, name)
    return _negated(f, found) if isinstance(operator, (ast.IsNot, ast.NotEq)) else found


def is_none(f: Lowering, binding: Any, name: str | None) -> Condition:
    """Whether something is None; decided now where its type says so."""
    if isinstance(binding, Literal):
        return Condition(binding.value is None)
    if not isinstance(binding, Value):
        return Condition(False)
    type_ = binding.type
    if type_ is NONE:
        return Condition(True)
    if not admits_none(type_):
        return Condition(False)
    value = f.overload("aten::__is__", [binding, f.constant(None)])
    if name is None:
        return Condition(value.ssa)
    return Condition(value.ssa, [(name, NONE)], [(name, without_none(type_))])


def _type_test(f: Lowering, node: ast.Call) -> Condition | None:
    """`isinstance(x, T)`, `torch.jit.isinstance(x, T)`."""
    if not isinstance(node.func, (ast.Name, ast.Attribute)) or len(node.args) != 2:
        return None
    if f.expression(node.func) != Builtin("isinstance"):
        return None
    tested = node.args[0]
    value = f.expression(tested)
    wanted = [t for a in _alternatives(node.args[1]) for t in _accepted(f, a)]
    name = tested.id if isinstance(tested, ast.Name) else None
    return _is_instance(f, f.materialize(value), name, wanted)


def _alternatives(node: ast.expr) -> Sequence[ast.expr]:
    return node.elts if isinstance(node, (ast.Tuple, ast.List)) else [node]


_BARE = {"list": "List", "List": "List", "dict": "Dict", "Dict": "Dict", "tuple": "Tuple", "Tuple": "Tuple"}


def _accepted(f: Lowering, node: ast.expr) -> list[Type | str]:
    """The type that an alternative names; "List" and the like for a bare container."""
    if isinstance(node, ast.Name) and node.id in _BARE:
        return [_BARE[node.id]]
    return [f.type_of(node)]


def _fits(type_: Type, wanted: Sequence[Type | str]) -> bool:
    kind = "Tuple" if type_.is_tuple else type_.kind
    return any(kind == w if isinstance(w, str) else is_subtype(type_, w) for w in wanted)


def _is_instance(f: Lowering, value: Value, name: str | None, wanted: Sequence[Type | str]) -> Condition:
    if value.type is ANY:
        return _dynamic(f, value, name, wanted)
    if value.type.kind == "Optional":
        members: tuple[Type, ...] = (*value.type.args, NONE)
    else:
        members = value.type.args if value.type.kind == "Union" else (value.type,)
    yes = [t for t in members if _fits(t, wanted)]
    no = [t for t in members if t not in yes]
    if not yes or not no:
        return Condition(bool(yes))
    holds, fails = union_of(yes), union_of(no)
    facts = ([(name, holds)], [(name, fails)]) if name is not None else ([], [])
    if members == (members[0], NONE):
        test = is_none(f, value, None)
        test = test if yes == [NONE] else _negated(f, test)
        return Condition(test.value, *facts)
    return Condition(_tests(f, value, yes).ssa, *facts)


def _dynamic(f: Lowering, value: Value, name: str | None, wanted: Sequence[Type | str]) -> Condition:
    found = [w for w in wanted if isinstance(w, Type)]
    if len(found) < len(wanted):
        f.unsupported("isinstance of an Any needs full types: torch.jit.isinstance(x, List[int])")
    holds = [(name, union_of(found))] if name is not None else []
    return Condition(_tests(f, value, found).ssa, holds, [])


def _tests(f: Lowering, value: Value, types: Sequence[Type]) -> Value:
    """A run-time test of the type, which is spelled as text."""
    found: Value | None = None
    for type_ in types:
        test = f.overload("prim::isinstance", [value, f.constant(str(type_))], BOOL)
        found = test if found is None else f.overload("aten::__or__.bool", [found, test])
    assert found is not None
    return found


# ------ as expressions


@expression_rule(ast.BoolOp)
def _boolean(f: Lowering, node: ast.BoolOp, want: Type | None) -> Any:
    """In Python `a or b` is one of its operands; in archives it is a bool."""
    if not f.python or want is BOOL:
        return as_value(f, condition(f, node))
    result = f.expression(node.values[0], want)
    for operand in node.values[1:]:
        if isinstance(result, Literal):
            if bool(result.value) is isinstance(node.op, ast.And):
                result = f.expression(operand, want)
            continue
        first = f.materialize(result)
        if first.type is BOOL:
            return as_value(f, condition(f, node))
        test = truth(f, first)
        sides = (partial(f.value, operand, want), partial(_same, first))
        result = choice(f, test, *(sides if isinstance(node.op, ast.And) else reversed(sides)))
    return result


def _same(value: Value) -> Value:
    return value


@expression_rule(ast.IfExp)
def _ternary(f: Lowering, node: ast.IfExp, want: Type | None) -> Value:
    test = condition(f, node.test)
    if isinstance(test.value, bool):
        branch(f, test, lambda: None, lambda: None)
        return f.value(node.body if test.value else node.orelse, want)
    return choice(f, test, lambda: f.value(node.body, want), lambda: f.value(node.orelse, want))
