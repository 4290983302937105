"""The language's own functions: Python's built-in ones, and torch.jit's (annotate, unchecked_cast, fork, ...)."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stepwell.compiler.frontends.language.bindings import Count, Items, Range, Reversed, Value, Zip, constant_of
from stepwell.compiler.frontends.language.conditions import as_bool, as_value, condition
from stepwell.compiler.frontends.language.lowering import Lowering
from stepwell.compiler.frontends.language.names import Literal
from stepwell.compiler.frontends.language.ops import call_op
from stepwell.compiler.frontends.language.static_types import (
    FLOAT,
    INT,
    STRING,
    TENSOR,
    Type,
    dict_of,
    future_of,
    list_of,
)
from stepwell.dialects.torch import operations

Arguments = list[Any]
Keywords = Mapping[str, Any]

BUILTINS: dict[str, Callable[..., Any]] = {}
"""Functions on bindings: `rule(f, arguments, keywords)`."""

FORMS: dict[str, Callable[..., Any]] = {}
"""Functions that look at their arguments' source: `form(f, node, want)`."""


def _builtin(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        BUILTINS.update(dict.fromkeys(names, rule))
        return rule

    return register


def _form(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        FORMS.update(dict.fromkeys(names, rule))
        BUILTINS.update(dict.fromkeys(names, rule))
        return rule

    return register


def call_builtin(f: Lowering, name: str, arguments: Sequence[Any], keywords: Keywords) -> Any:
    """Call one of BUILTINS on bindings."""
    return BUILTINS[name](f, list(arguments), keywords)


def _one(f: Lowering, name: str, arguments: Arguments, keywords: Keywords) -> Value:
    if len(arguments) != 1 or keywords:
        f.refuse(f"{name} takes one argument")
    return f.materialize(arguments[0])


# ------ as ops


_AS_OPS = {
    "pow": "aten::pow", "ord": "aten::ord", "chr": "aten::chr", "hex": "aten::hex",
    "oct": "aten::oct", "bin": "aten::bin", "hash": "aten::hash", "str": "aten::str",
    "abs": "prim::abs", "complex": "aten::Complex",
}  # fmt: skip


def _as_op(op: str) -> Callable[..., Any]:
    return lambda f, arguments, keywords: call_op(f, op, arguments, keywords)


BUILTINS.update({name: _as_op(op) for name, op in _AS_OPS.items()})


@_builtin("abs")
def _abs(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    value = _one(f, "abs", arguments, keywords)
    return call_op(f, "aten::abs" if value.type is TENSOR else "prim::abs", [value])


@_builtin("divmod")
def _divmod(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    """The quotient, rounded down, and the remainder."""
    if len(arguments) != 2 or keywords:
        f.refuse("divmod takes two arguments")
    values = [f.materialize(a) for a in arguments]
    return f.tuple_value([f.materialize(call_op(f, name, values)) for name in ("aten::floordiv", "aten::remainder")])


@_builtin("str")
def _str(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    value = _one(f, "str", arguments, keywords)
    if value.type.kind == "Class" and "__str__" in value.type.script_class.methods:
        from stepwell.compiler.frontends.language.functions import call_method

        return call_method(f, value, "__str__", [], {})
    return value if value.type is STRING else call_op(f, "aten::str", [value])


@_builtin("int")
def _int(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    value = _one(f, "int", arguments, keywords)
    known = constant_of(value)
    if isinstance(known, (bool, int)):
        return Literal(int(known))
    return value if value.type is INT else call_op(f, "aten::Int", [value])


@_builtin("float")
def _float(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    value = _one(f, "float", arguments, keywords)
    known = constant_of(value)
    if isinstance(known, (bool, int, float)) or known in ("inf", "-inf", "nan"):
        return Literal(float(known))
    return value if value.type is FLOAT else call_op(f, "aten::Float", [value])


@_builtin("bool")
def _bool(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    return as_bool(f, _one(f, "bool", arguments, keywords))


@_builtin("round")
def _round(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    value = f.materialize(arguments[0])
    if value.type is TENSOR:
        return call_op(f, "aten::round", arguments, keywords)
    if len(arguments) > 1:
        f.unsupported("round with digits is not supported", help="scale, round and scale back")
    rounded = call_op(f, "aten::round", [value])
    return call_op(f, "aten::Int", [rounded]) if f.python else rounded


@_builtin("len")
def _len(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    found = arguments[0] if len(arguments) == 1 else f.refuse("len takes one argument")
    if isinstance(found, Items):
        return Literal(len(found.items))
    value = f.materialize(found)
    if value.type.is_tuple:
        return Literal(len(value.type.args))
    if value.type.kind == "Class":
        from stepwell.compiler.frontends.language.attributes import container_names
        from stepwell.compiler.frontends.language.functions import call_method

        names = container_names(value.type.script_class)
        return Literal(len(names)) if names is not None else call_method(f, value, "__len__", [], {})
    return call_op(f, "aten::len", [value])


def _extreme(name: str) -> Callable[..., Any]:
    def rule(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
        values = [f.materialize(a) for a in arguments]
        if any(v.type is TENSOR for v in values) or keywords:
            return call_op(f, f"aten::{name}", values, keywords)
        if len(values) == 1 and values[0].type.is_tuple:
            values = f.unpack_tuple(values[0])
        result = values[0]
        if len(values) == 1:
            return call_op(f, f"prim::{name}", values)
        for value in values[1:]:
            result = f.materialize(call_op(f, f"prim::{name}", [result, value]))
        return result

    return rule


BUILTINS.update({name: _extreme(name) for name in ("max", "min")})


@_builtin("sum")
def _sum(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    value = f.materialize(arguments[0])
    if value.type.kind == "List" and value.type.element is TENSOR:
        return _sum_of_tensors(f, value, arguments[1:])
    if value.type.is_tuple:
        value = f.convert(value, list_of(value.type.args[0]))
    total = call_op(f, "aten::sum", [value])
    return total if len(arguments) == 1 else call_op(f, "aten::add", [total, arguments[1]])


def _sum_of_tensors(f: Lowering, value: Value, start: Sequence[Any]) -> Any:
    first = start[0] if start else call_op(f, "aten::zeros", [f.list_value([], INT)])
    from stepwell.compiler.frontends.language.loops import plan, run

    if f.materialize(first).type is not TENSOR:
        first = call_op(f, "aten::scalar_tensor", [first])
    f.bind("$sum", f.materialize(first))

    def body(element: Any) -> None:
        f.bind("$sum", f.materialize(call_op(f, "aten::add", [f.scope.find("$sum"), element])))

    run(f, plan(f, value), ["$sum"], body)
    return f.scope.names.pop("$sum")


BUILTINS.update({name: _as_op(f"aten::{name}") for name in ("any", "all")})


@_builtin("sorted")
def _sorted(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    found = call_op(f, "aten::sorted", arguments[:1])
    reverse = keywords.get("reverse")
    if set(keywords) - {"reverse"}:
        f.unsupported("sorted by a key is not supported")
    if reverse is not None:
        call_op(f, "aten::sort", [found, reverse])
    return found


@_builtin("print")
def _print(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    if keywords:
        f.unsupported(f"print({next(iter(keywords))}=...) is not supported")
    parts = [f.materialize(a) for a in arguments]
    template = f.constant(" ".join(["{}"] * len(parts)))
    call_op(f, "prim::Print", [f.materialize(call_op(f, "aten::format", [template, *parts]))])
    return Literal(None)


# ------ iteration and containers


@_builtin("range")
def _range(f: Lowering, arguments: Arguments, keywords: Keywords) -> Range:
    if not 1 <= len(arguments) <= 3 or keywords:
        f.refuse("range takes one to three arguments")
    values = [f.convert(f.materialize(a), INT) for a in arguments]
    if len(values) == 1:
        return Range(None, values[0], None)
    return Range(values[0], values[1], values[2] if len(values) == 3 else None)


@_builtin("enumerate")
def _enumerate(f: Lowering, arguments: Arguments, keywords: Keywords) -> Zip:
    start = keywords.get("start", arguments[1] if len(arguments) > 1 else Literal(0))
    return Zip([Count(f.convert(f.materialize(start), INT)), arguments[0]])


@_builtin("zip")
def _zip(f: Lowering, arguments: Arguments, keywords: Keywords) -> Zip:
    return Zip(arguments)


@_builtin("reversed")
def _reversed(f: Lowering, arguments: Arguments, keywords: Keywords) -> Reversed:
    return Reversed(arguments[0])


@_builtin("list")
def _list(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    """list(x) of anything that can be iterated."""
    if not arguments:
        return f.list_value([], TENSOR)
    if isinstance(arguments[0], Value) and arguments[0].type.kind in ("List", "str"):
        return call_op(f, "aten::list", arguments)
    return collect(f, arguments[0])


def collect(f: Lowering, iterable: Any) -> Value:
    """The elements of an iterable in a new list."""
    from stepwell.compiler.frontends.language.displays import make_list
    from stepwell.compiler.frontends.language.loops import plan, run

    steps = plan(f, iterable)
    if steps.known is not None:
        return make_list(f, [f.materialize(steps.element(f.constant(n))) for n in range(steps.known)])
    made: list[Value] = []
    outer = f.scope

    def body(element: Any) -> None:
        value = f.materialize(element)
        with f.inside(outer):
            made[:] = [f.list_value([], value.type)]
        call_op(f, "aten::append", [made[0], value])

    run(f, steps, [], body)
    return made[0]


@_builtin("tuple")
def _tuple(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    from stepwell.compiler.frontends.language.loops import plan

    if not arguments:
        return Items([])
    steps = plan(f, arguments[0])
    if steps.known is None:
        f.unsupported("a tuple needs a length known at compile time")
    return Items([steps.element(f.constant(n)) for n in range(steps.known)])


@_builtin("dict", "OrderedDict")
def _dict(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    if keywords:
        parts = {k: f.materialize(v) for k, v in keywords.items()}
        element = next(iter(parts.values())).type
        operands = [f.constant(k).ssa for k in parts] + [f.convert(v, element).ssa for v in parts.values()]
        return f.make(operations.DictConstruct, operands, dict_of(STRING, element))
    return call_op(f, "aten::dict", arguments)


# ------ forms that read their arguments' source


@_form("annotate")
def _annotate(f: Lowering, node: ast.Call, want: Type | None) -> Value:
    """annotate(T, x): x as a T."""
    return f.value(node.args[1], f.type_of(node.args[0]))


@_form("unchecked_cast")
def _unchecked_cast(f: Lowering, node: ast.Call, want: Type | None) -> Value:
    type_, value = f.type_of(node.args[0]), f.value(node.args[1])
    return value if value.type is type_ else f.make(operations.UncheckedCast, [value.ssa], type_)


@_form("uninitialized")
def _uninitialized(f: Lowering, node: ast.Call, want: Type | None) -> Value:
    return f.make(operations.Uninitialized, [], f.type_of(node.args[0]))


@_form("isinstance")
def _isinstance(f: Lowering, node: ast.Call, want: Type | None) -> Value:
    return as_value(f, condition(f, node))


@_form("hasattr")
def _hasattr(f: Lowering, node: ast.Call, want: Type | None) -> Any:
    owner, name = f.value(node.args[0]), constant_of(f.value(node.args[1]))
    if owner.type.cls is None or not isinstance(name, str):
        f.unsupported("hasattr takes an object of a script class and a constant name")
    cls = owner.type.cls
    return Literal(any(name in names for names in (cls.attributes, cls.constants, cls.methods, cls.properties)))


@_form("getattr")
def _getattr(f: Lowering, node: ast.Call, want: Type | None) -> Any:
    from stepwell.compiler.frontends.language.attributes import attribute

    owner, name = f.expression(node.args[0]), constant_of(f.value(node.args[1]))
    if not isinstance(name, str):
        f.unsupported("getattr takes a constant name")
    if len(node.args) == 3 and isinstance(owner, Value) and owner.type.cls is not None:
        cls = owner.type.cls
        if not any(name in names for names in (cls.attributes, cls.constants, cls.methods, cls.properties)):
            return f.expression(node.args[2])
    return attribute(f, owner, name)


@_form("fork", "_fork")
def _fork(f: Lowering, node: ast.Call, want: Type | None) -> Value:
    """fork(g, ...): g is run at once, and its result stands for the future."""
    call = ast.copy_location(ast.Call(node.args[0], node.args[1:], node.keywords), node)
    found = f.value(call)
    return Value(found.ssa, future_of(found.type))


@_builtin("wait")
def _wait(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    value = f.materialize(arguments[0])
    return Value(value.ssa, value.type.element) if value.type.kind == "Future" else value
