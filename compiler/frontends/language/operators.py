"""Operators: which op each one means, for numbers, tensors, lists, tuples and objects of script classes."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from stepwell.compiler.frontends.language.bindings import Items, Value, constant_of
from stepwell.compiler.frontends.language.conditions import as_value, condition, is_none
from stepwell.compiler.frontends.language.control import choice
from stepwell.compiler.frontends.language.lowering import Lowering, expression_rule
from stepwell.compiler.frontends.language.names import Literal
from stepwell.compiler.frontends.language.ops import call_op, declaration
from stepwell.compiler.frontends.language.static_types import (
    BOOL,
    FLOAT,
    INT,
    NONE,
    NUMBERS,
    STRING,
    TENSOR,
    Type,
    admits_none,
)

BINARY: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("add", "__add__"), ast.Sub: ("sub", "__sub__"), ast.Mult: ("mul", "__mul__"),
    ast.Div: ("div", "__truediv__"), ast.FloorDiv: ("floordiv", "__floordiv__"), ast.Mod: ("remainder", "__mod__"),
    ast.Pow: ("pow", "__pow__"), ast.MatMult: ("matmul", "__matmul__"), ast.BitAnd: ("__and__", "__and__"),
    ast.BitOr: ("__or__", "__or__"), ast.BitXor: ("__xor__", "__xor__"), ast.LShift: ("__lshift__", "__lshift__"),
    ast.RShift: ("__rshift__", "__rshift__"),
}  # fmt: skip
"""Operator -> op of namespace aten, and the method of script classes."""

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("eq", "__eq__"), ast.NotEq: ("ne", "__ne__"), ast.Lt: ("lt", "__lt__"), ast.LtE: ("le", "__le__"),
    ast.Gt: ("gt", "__gt__"), ast.GtE: ("ge", "__ge__"),
}  # fmt: skip

_MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}

_INPLACE: dict[type[ast.operator], str] = {
    ast.Add: "add_", ast.Sub: "sub_", ast.Mult: "mul_", ast.Div: "div_", ast.FloorDiv: "floor_divide_",
    ast.Mod: "remainder_", ast.Pow: "pow_", ast.BitAnd: "bitwise_and_", ast.BitOr: "bitwise_or_",
    ast.BitXor: "bitwise_xor_", ast.LShift: "bitwise_left_shift_", ast.RShift: "bitwise_right_shift_",
}  # fmt: skip


@expression_rule(ast.BinOp)
def _binary(f: Lowering, node: ast.BinOp, want: Type | None) -> Any:
    left, right = f.expression(node.left), f.expression(node.right)
    return binary(f, type(node.op), left, right)


def binary(f: Lowering, operator: type[ast.operator], left: Any, right: Any) -> Any:
    """`left operator right`."""
    a, b = f.materialize(left), f.materialize(right)
    name, method = BINARY[operator]
    if a.type.kind == "Class" or b.type.kind == "Class":
        return _of_objects(f, method, a, b)
    if a.type.is_tuple and b.type.is_tuple and operator is ast.Add:
        return Items([*f.unpack_tuple(a), *f.unpack_tuple(b)])
    if a.type.is_tuple and operator is ast.Mult and isinstance(constant_of(b), int):
        return Items(f.unpack_tuple(a) * constant_of(b))
    if a.type is TENSOR or b.type is TENSOR:
        return _of_tensors(f, operator, name, a, b)
    if a.type is STRING:
        if operator is ast.Mod:
            parts = f.unpack_tuple(b) if b.type.is_tuple else [b]
            return call_op(f, "aten::percentFormat", [a, *parts])
        if operator is ast.Mult:
            return call_op(f, "aten::join", [f.constant(""), call_op(f, "aten::mul", [f.list_value([a], STRING), b])])
    if operator is ast.Pow and a.type is INT and b.type is INT and f.python and declaration("aten::pow.int_to_int"):
        return f.overload("aten::pow.int_to_int", [a, b])
    return call_op(f, f"aten::{name}", [a, b])


def _of_tensors(f: Lowering, operator: type[ast.operator], name: str, a: Value, b: Value) -> Any:
    if operator is ast.FloorDiv:
        name = "floor_divide"
    if a.type is TENSOR or a.type not in NUMBERS:
        return call_op(f, f"aten::{name}", [a, b])
    rule = _REFLECTED.get(name)
    return rule(f, a, b) if rule is not None else call_op(f, f"aten::{name}", [a, b])


_REFLECTED: dict[str, Callable[[Lowering, Value, Value], Any]] = {
    "add": lambda f, a, b: call_op(f, "aten::add", [b, a]),
    "mul": lambda f, a, b: call_op(f, "aten::mul", [b, a]),
    "sub": lambda f, a, b: call_op(f, "aten::rsub", [b, a]),
    "div": lambda f, a, b: call_op(f, "aten::mul", [call_op(f, "aten::reciprocal", [b]), a]),
    "floor_divide": lambda f, a, b: call_op(f, "aten::floor_divide", [_as_tensor(f, a, b), b]),
    "__and__": lambda f, a, b: call_op(f, "aten::__and__", [b, a]),
    "__or__": lambda f, a, b: call_op(f, "aten::__or__", [b, a]),
    "__xor__": lambda f, a, b: call_op(f, "aten::__xor__", [b, a]),
    "__lshift__": lambda f, a, b: call_op(f, "aten::__lshift__", [_as_tensor(f, a, b), b]),
    "__rshift__": lambda f, a, b: call_op(f, "aten::__rshift__", [_as_tensor(f, a, b), b]),
}
"""A number on the left of a tensor."""


def _as_tensor(f: Lowering, number: Value, like: Value) -> Value:
    return f.materialize(call_op(f, "aten::scalar_tensor", [number], {"dtype": call_op(f, "prim::dtype", [like])}))


def _of_objects(f: Lowering, method: str, a: Value, b: Value) -> Any:
    from stepwell.compiler.frontends.language.functions import call_method

    if a.type.kind == "Class" and method in a.type.script_class.methods:
        return call_method(f, a, method, [b], {})
    reflected = f"__r{method[2:]}"
    if b.type.kind == "Class" and reflected in b.type.script_class.methods:
        return call_method(f, b, reflected, [a], {})
    f.refuse(f"{a.type} and {b.type} have no {method}")


@expression_rule(ast.UnaryOp)
def _unary(f: Lowering, node: ast.UnaryOp, want: Type | None) -> Any:
    if isinstance(node.op, ast.Not):
        return as_value(f, condition(f, node))
    if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        number = node.operand.value
        if isinstance(number, (int, float, complex)):
            return Literal(-number)
    value = f.value(node.operand)
    if value.type.kind == "Class":
        from stepwell.compiler.frontends.language.functions import call_method

        return call_method(f, value, _UNARY_METHODS[type(node.op)], [], {})
    if isinstance(node.op, ast.UAdd):
        return value
    if isinstance(node.op, ast.Invert) and value.type is INT:
        return call_op(f, "aten::sub", [f.constant(-1), value])
    if value.type is BOOL and isinstance(node.op, ast.USub):
        value = f.convert(value, INT)
    return call_op(f, "aten::neg" if isinstance(node.op, ast.USub) else "aten::bitwise_not", [value])


_UNARY_METHODS: dict[type[ast.unaryop], str] = {
    ast.USub: "__neg__", ast.UAdd: "__pos__", ast.Invert: "__invert__",
}  # fmt: skip


# ------ comparison


@expression_rule(ast.Compare)
def _compare(f: Lowering, node: ast.Compare, want: Type | None) -> Any:
    if len(node.ops) == 1:
        right = node.comparators[0]
        equal = isinstance(node.ops[0], (ast.Is, ast.IsNot, ast.Eq, ast.NotEq))
        if equal and isinstance(right, ast.Constant) and right.value is None:
            return as_value(f, condition(f, node))
        return compare(f, node.ops[0], f.expression(node.left), f.expression(right))
    return _chain(f, node, f.expression(node.left), 0)


def _chain(f: Lowering, node: ast.Compare, left: Any, position: int) -> Any:
    """`a < b < c`: each operand is evaluated once, and only if those before it agree."""
    right = f.materialize(f.expression(node.comparators[position]))
    found = f.materialize(compare(f, node.ops[position], left, right))
    if position + 1 == len(node.ops):
        return found
    from stepwell.compiler.frontends.language.conditions import truth

    test = truth(f, found)
    return choice(f, test, lambda: f.materialize(_chain(f, node, right, position + 1)), lambda: f.constant(False))


def compare(f: Lowering, operator: ast.cmpop, left: Any, right: Any) -> Any:
    """One comparison."""
    if isinstance(operator, (ast.Is, ast.IsNot)):
        return _identity(f, operator, left, right)
    if isinstance(operator, (ast.In, ast.NotIn)):
        found = _contains(f, left, right)
        return found if isinstance(operator, ast.In) else f.overload("aten::__not__", [found])
    name, method = COMPARISONS[type(operator)]
    a, b = f.materialize(left), f.materialize(right)
    if a.type.kind == "Class":
        return _compare_objects(f, method, a, b)
    if a.type.is_tuple and b.type.is_tuple and name in ("eq", "ne"):
        return _compare_tuples(f, operator, a, b)
    if (admits_none(a.type) or admits_none(b.type)) and name in ("eq", "ne"):
        return _compare_optionals(f, operator, a, b)
    if b.type is TENSOR and a.type is not TENSOR:
        return call_op(f, f"aten::{_MIRRORED[name]}", [b, a])
    return call_op(f, f"aten::{name}", [a, b])


def _compare_objects(f: Lowering, method: str, a: Value, b: Value) -> Any:
    from stepwell.compiler.frontends.language.functions import call_method

    methods = a.type.script_class.methods
    if method in methods:
        return call_method(f, a, method, [b], {})
    if method == "__ne__" and "__eq__" in methods:
        return f.overload("aten::__not__", [f.materialize(call_method(f, a, "__eq__", [b], {}))])
    if method in ("__eq__", "__ne__"):
        return f.overload("aten::__is__" if method == "__eq__" else "aten::__isnot__", [a, b])
    f.refuse(f"{a.type} has no {method}")


def _compare_tuples(f: Lowering, operator: ast.cmpop, a: Value, b: Value) -> Value:
    equal = isinstance(operator, ast.Eq)
    if len(a.type.args) != len(b.type.args):
        return f.constant(not equal)
    result: Value | None = None
    for x, y in zip(f.unpack_tuple(a), f.unpack_tuple(b), strict=True):
        found = f.materialize(compare(f, operator, x, y))
        name = "aten::__and__.bool" if equal else "aten::__or__.bool"
        result = found if result is None else f.overload(name, [result, found])
    return result if result is not None else f.constant(equal)


def _compare_optionals(f: Lowering, operator: ast.cmpop, a: Value, b: Value) -> Value:
    """Equal if both are None, or neither is and the values are equal."""
    from stepwell.compiler.frontends.language.static_types import without_none

    equal = isinstance(operator, ast.Eq)
    if not admits_none(a.type):
        a, b = b, a
    if b.type is NONE:
        found = as_value(f, is_none(f, a, None))
        return found if equal else f.overload("aten::__not__", [found])
    on_none = as_value(f, is_none(f, b, None)) if admits_none(b.type) else f.constant(False)

    def inner() -> Value:
        if admits_none(b.type):
            return _compare_optionals(f, operator, b, f.retype(a, without_none(a.type)))
        return f.materialize(compare(f, operator, f.retype(a, without_none(a.type)), b))

    def outer() -> Value:
        return on_none if equal else f.overload("aten::__not__", [on_none])

    return choice(f, is_none(f, a, None), outer, inner)


def _identity(f: Lowering, operator: ast.cmpop, left: Any, right: Any) -> Value:
    a, b = f.materialize(left), f.materialize(right)
    if a.type.kind == "Enum" and b.type is a.type:
        return f.materialize(call_op(f, "aten::eq" if isinstance(operator, ast.Is) else "aten::ne", [a, b]))
    if b.type is NONE:
        found = as_value(f, is_none(f, a, None))
        return found if isinstance(operator, ast.Is) else f.overload("aten::__not__", [found])
    return f.overload("aten::__is__" if isinstance(operator, ast.Is) else "aten::__isnot__", [a, b])


def _contains(f: Lowering, item: Any, container: Any) -> Value:
    from stepwell.compiler.frontends.language.functions import call_method

    if isinstance(container, Items) or (isinstance(container, Literal) and isinstance(container.value, tuple)):
        parts = container.items if isinstance(container, Items) else [Literal(v) for v in container.value]
    else:
        value = f.materialize(container)
        if value.type.kind == "Class":
            return f.materialize(call_method(f, value, "__contains__", [item], {}))
        if not value.type.is_tuple:
            return f.materialize(call_op(f, "aten::__contains__", [value, item]))
        parts = list(f.unpack_tuple(value))
    needle = f.materialize(item)
    result: Value | None = None
    for part in parts:
        found = f.materialize(compare(f, ast.Eq(), needle, part))
        result = found if result is None else f.overload("aten::__or__.bool", [result, found])
    return result if result is not None else f.constant(False)


# ------ augmented assignment


def augmented(f: Lowering, node: ast.AugAssign) -> None:
    """`target op= value`: in place on tensors and lists, else a new value for the target."""
    from stepwell.compiler.frontends.language.statements import assign
    from stepwell.compiler.frontends.language.subscripts import augment_item

    if isinstance(node.target, ast.Subscript):
        augment_item(f, node.target, type(node.op), node.value)
        return
    target = ast.copy_location(_loaded(node.target), node.target)
    current = f.expression(target)
    updated = update(f, type(node.op), current, f.expression(node.value))
    if updated is not None:
        assign(f, node.target, updated)


def _loaded(target: ast.expr) -> ast.expr:
    if isinstance(target, ast.Attribute):
        return ast.Attribute(target.value, target.attr, ast.Load())
    assert isinstance(target, ast.Name)
    return ast.Name(target.id, ast.Load())


def update(f: Lowering, operator: type[ast.operator], current: Any, operand: Any) -> Any:
    """The new value of `current op= operand`; None where the object itself was written."""
    value = f.materialize(current)
    if value.type is TENSOR and operator in _INPLACE:
        call_op(f, f"aten::{_INPLACE[operator]}", [value, operand])
        return None
    if value.type.kind == "List" and operator in (ast.Add, ast.Mult):
        call_op(f, f"aten::{_INPLACE[operator]}", [value, operand])
        return None
    if value.type.kind == "Class":
        from stepwell.compiler.frontends.language.functions import call_method

        method = f"__i{BINARY[operator][1][2:]}"
        if method in value.type.script_class.methods:
            return call_method(f, value, method, [operand], {})
    found = f.materialize(binary(f, operator, value, operand))
    if value.type is INT and found.type is FLOAT and operator is ast.Pow:
        f.refuse("an int raised to a power is a float here", help="say float(x) first")
    return found
