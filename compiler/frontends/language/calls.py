"""Calls: what is called decides how."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stepwell.compiler.frontends.language.bindings import Allocate, Local, Method, Value, constant_of
from stepwell.compiler.frontends.language.builtins import BUILTINS, FORMS
from stepwell.compiler.frontends.language.displays import elements
from stepwell.compiler.frontends.language.functions import (
    allocate,
    call_function,
    call_local,
    call_method,
    construct,
)
from stepwell.compiler.frontends.language.lowering import Lowering, expression_rule
from stepwell.compiler.frontends.language.names import Builtin, Literal, Namespace, OpName
from stepwell.compiler.frontends.language.ops import call_op, has_op
from stepwell.compiler.frontends.language.statements import raise_exception
from stepwell.compiler.frontends.language.static_types import (
    BOOL,
    FLOAT,
    INT,
    NONE,
    TENSOR,
    Type,
    list_of,
)
from stepwell.compiler.objects import Device, ScriptClass, ScriptFunction
from stepwell.dialects import dtypes

Arguments = Sequence[Any]
Keywords = Mapping[str, Any]


@expression_rule(ast.Call)
def _call(f: Lowering, node: ast.Call, want: Type | None) -> Any:
    callee = f.expression(node.func)
    if isinstance(callee, Builtin):
        form = FORMS.get(callee.name)
        if form is not None:
            return form(f, node, want)
    wanted = _wanted_arguments(f, callee, len(node.args))
    arguments = elements(f, node.args, wanted)
    keywords: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            f.unsupported("** in a call is not supported", keyword.value)
        keywords[keyword.arg] = f.expression(keyword.value)
    if isinstance(callee, Method) and callee.name == "tolist" and callee.owner.type is TENSOR:
        return _tolist(f, callee.owner, want)
    return call(f, callee, arguments, keywords)


def _wanted_arguments(f: Lowering, callee: Any, count: int) -> list[Type | None] | None:
    """The types that the callee's arguments have, to give empty lists among them the right one."""
    if isinstance(callee, ScriptFunction):
        types: list[Type | None] = list(f.program.signature(callee).types)
        return (types + [None] * count)[:count]
    if isinstance(callee, Method) and callee.owner.type.kind == "Class":
        method = callee.owner.type.script_class.methods.get(callee.name)
        if method is not None:
            types = [*f.program.signature(method).types[0 if method.is_static else 1 :]]
            return (types + [None] * count)[:count]
    return None


def call(f: Lowering, callee: Any, arguments: Arguments, keywords: Keywords) -> Any:
    """Call a binding."""
    rule = _RULES.get(type(callee))
    if rule is None:
        f.refuse(f"a {type(callee).__name__.lower()} cannot be called")
    return rule(f, callee, arguments, keywords)


def _op(f: Lowering, callee: OpName, arguments: Arguments, keywords: Keywords) -> Any:
    special = _SPECIAL_OPS.get(callee.name)
    if special is not None:
        found = special(f, arguments, keywords)
        if found is not None:
            return found
    return call_op(f, callee.name, arguments, keywords)


def _builtin(f: Lowering, callee: Builtin, arguments: Arguments, keywords: Keywords) -> Any:
    return BUILTINS[callee.name](f, list(arguments), keywords)


def _value(f: Lowering, callee: Value, arguments: Arguments, keywords: Keywords) -> Any:
    """An object: its __call__, or the forward of a module."""
    if callee.type.kind not in ("Class", "Interface"):
        f.refuse(f"a {callee.type} cannot be called")
    cls = callee.type.script_class
    own = "__call__" in cls.methods or (cls.kind == "class" and "forward" not in cls.methods)
    name = "__call__" if own else "forward"
    return call_method(f, callee, name, arguments, keywords)


def _literal(f: Lowering, callee: Literal, arguments: Arguments, keywords: Keywords) -> Any:
    f.refuse(f"{callee.value!r} cannot be called")


def _namespace(f: Lowering, callee: Namespace, arguments: Arguments, keywords: Keywords) -> Any:
    f.unsupported(f"{callee.path} is not known here")


_RULES: dict[type, Callable[..., Any]] = {
    OpName: _op,
    Builtin: _builtin,
    Value: _value,
    Literal: _literal,
    Namespace: _namespace,
    ScriptFunction: call_function,
    ScriptClass: construct,
    Local: call_local,
    Allocate: lambda f, callee, arguments, keywords: allocate(f, callee.cls),
    Method: lambda f, callee, arguments, keywords: _method(f, callee, arguments, keywords),
}


# ------ methods


def _method(f: Lowering, callee: Method, arguments: Arguments, keywords: Keywords) -> Any:
    owner, name = callee.owner, callee.name
    if owner.type.kind in ("Class", "Interface"):
        return call_method(f, owner, name, arguments, keywords)
    if owner.type is TENSOR:
        return _tensor_method(f, owner, name, arguments, keywords)
    if owner.type.kind == "NamedTuple":
        return _named_tuple_method(f, owner, name, keywords)
    if owner.type.kind == "Future" and name in ("wait", "value"):
        return Value(owner.ssa, owner.type.element)
    if owner.type.kind not in ("List", "Dict", "str", "Generator", "Device"):
        f.refuse(f"a {owner.type} has no method {name!r}", help=_hint(owner.type))
    if not has_op(f"aten::{name}"):
        f.unsupported(f"the method {name!r} of a {owner.type} is not supported")
    return call_op(f, f"aten::{name}", [owner, *arguments], keywords)


def _hint(type_: Type) -> str | None:
    return "test `is not None` first" if type_.kind == "Optional" else None


def _tensor_method(f: Lowering, owner: Value, name: str, arguments: Arguments, keywords: Keywords) -> Any:
    cast = _CASTS.get(name)
    if cast is not None and not has_op(f"aten::{name}"):
        return call_op(f, "aten::to", [owner, f.constant(cast)], keywords)
    special = _TENSOR_METHODS.get(name)
    if special is not None:
        found = special(f, owner, arguments, keywords)
        if found is not None:
            return found
    arguments = _gathered(f, name, arguments)
    space = "aten" if has_op(f"aten::{name}") or not has_op(f"prim::{name}") else "prim"
    return call_op(f, f"{space}::{name}", [owner, *arguments], keywords)


_CASTS = {
    name: dtypes.BY_NAME[name].code
    for name in ("float", "double", "half", "long", "int", "short", "char", "byte", "bfloat16", "bool")
}
"""x.float() and its like are x.to(dtype)."""

_TAKES_SIZES = frozenset(
    "view reshape permute expand repeat flip tile new_zeros new_ones new_empty sum_to_size movedim".split()
)
"""Methods that take their list of ints also as several arguments: x.view(2, 3)."""


def _gathered(f: Lowering, name: str, arguments: Arguments) -> Arguments:
    """Several ints as one list, where the method takes one."""
    if name not in _TAKES_SIZES or not arguments:
        return arguments
    values = [f.materialize(a) for a in arguments]
    if name == "movedim" or any(v.type not in (INT, BOOL, TENSOR) for v in values):
        return values
    return [f.list_value([f.convert(v, INT) for v in values], INT)]


def _type(f: Lowering, owner: Value, arguments: Arguments, keywords: Keywords) -> Any:
    return call_op(f, "aten::to", [owner, *arguments], keywords)


def _nothing(f: Lowering, owner: Value, arguments: Arguments, keywords: Keywords) -> Any:
    """What only matters where gradients are recorded."""
    return owner


_TENSOR_METHODS: dict[str, Callable[..., Any]] = {"type": _type, "requires_grad_": _nothing, "pin_memory": _nothing}


def _named_tuple_method(f: Lowering, owner: Value, name: str, keywords: Keywords) -> Any:
    cls = owner.type.script_class
    if name != "_replace":
        f.unsupported(f"the method {name!r} of a named tuple is not supported")
    parts = dict(zip(cls.attributes, f.unpack_tuple(owner), strict=True))
    unknown = set(keywords) - set(parts)
    if unknown:
        f.refuse(f"{cls.short_name} has no field {unknown.pop()!r}")
    return construct(f, cls, list((parts | dict(keywords)).values()), {})


def _tolist(f: Lowering, owner: Value, want: Type | None) -> Any:
    """x.tolist(), whose type only the annotation of what it is assigned to tells."""
    if want is None:
        f.refuse("tolist() needs a type", help="annotate what it is assigned to: values: List[float] = x.tolist()")
    inner, depth = want, 0
    while inner.kind == "List":
        inner, depth = inner.element, depth + 1
    if inner not in (INT, FLOAT, BOOL):
        f.refuse(f"tolist() gives (lists of) int, float or bool, not {want}")
    return f.overload("prim::tolist", [owner, f.constant(depth), f.constant(str(inner))], want)


# ------ ops with a form of their own


def _raise(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    message = f.materialize(arguments[0])
    name = f.materialize(arguments[1]) if len(arguments) > 1 else f.constant("")
    if name.type is NONE:
        name = f.constant("")
    raise_exception(f, message, name)
    return Literal(None)


def _device(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    if len(arguments) != 1 or keywords:
        return None
    value = f.materialize(arguments[0])
    if value.type.kind == "Device":
        return value
    text = constant_of(value)
    return f.constant(Device(text)) if isinstance(text, str) else None


def _tensor(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    """torch.tensor of an empty list is one of floats."""
    value = f.materialize(arguments[0])
    if value.type.kind == "List" and value.type.element is TENSOR and not getattr(value.ssa.owner, "operands", True):
        return call_op(f, "aten::tensor", [f.convert(value, list_of(FLOAT)), *arguments[1:]], keywords)
    if value.type.is_tuple and value.type.args:
        return call_op(f, "aten::tensor", [f.convert(value, list_of(value.type.args[0])), *arguments[1:]], keywords)
    return None


def _sized(name: str) -> Callable[..., Any]:
    """torch.zeros(2, 3) is torch.zeros([2, 3])."""

    def rule(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
        values = [f.materialize(a) for a in arguments]
        if values and all(v.type in (INT, TENSOR) for v in values):
            return call_op(f, name, [f.list_value([f.convert(v, INT) for v in values], INT)], keywords)
        return None

    return rule


def _unchecked(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    value = f.materialize(arguments[0])
    if value.type.kind != "Optional":
        return value
    return f.retype(value, value.type.element)


def _warn(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    return call_op(f, "aten::warn", arguments[:1]) if len(arguments) >= 1 else None


def _tuple_index(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    from stepwell.compiler.frontends.language.subscripts import tuple_item

    return tuple_item(f, f.materialize(arguments[0]), constant_of(f.materialize(arguments[1])))


def _identity(name: str) -> Callable[..., Any]:
    def rule(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
        a, b = (f.materialize(v) for v in arguments)
        return f.overload(name, [a, b], BOOL)

    return rule


def _wait(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    return BUILTINS["wait"](f, list(arguments), keywords)


_SPECIAL_OPS: dict[str, Callable[..., Any]] = {
    "aten::divmod": lambda f, arguments, keywords: BUILTINS["divmod"](f, list(arguments), keywords),
    "prim::RaiseException": _raise,
    "prim::unchecked_unwrap_optional": _unchecked,
    "prim::TupleIndex": _tuple_index,
    "aten::__is__": _identity("aten::__is__"),
    "aten::__isnot__": _identity("aten::__isnot__"),
    "aten::device": _device,
    "aten::tensor": _tensor,
    "aten::warn": _warn,
    "aten::wait": _wait,
    **{f"aten::{name}": _sized(f"aten::{name}") for name in ("zeros", "ones", "empty", "rand", "randn")},
}
