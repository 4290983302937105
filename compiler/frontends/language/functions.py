"""Calls of the program's own functions, methods and classes."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdsl.dialects import func
from xdsl.dialects.builtin import StringAttr, SymbolRefAttr

from stepwell.compiler.frontends.language import exits
from stepwell.compiler.frontends.language.bindings import Items, Local, Scope, Value
from stepwell.compiler.frontends.language.lowering import Lowering
from stepwell.compiler.frontends.language.names import Literal
from stepwell.compiler.frontends.language.static_types import (
    NONE,
    TENSOR,
    Type,
    class_type,
    type_from_expression,
)
from stepwell.compiler.objects import EnumMember, ScriptClass, ScriptFunction
from stepwell.dialects.diagnostics import CompileError
from stepwell.dialects.torch import operations

DEEPEST_INLINING = 60
"""Functions defined inside functions may call each other so deep."""


@dataclass
class Signature:
    """Names and types of the arguments (those after `positional` by keyword only), and the result's type, None
    while only the body tells it.
    """

    names: list[str]
    types: list[Type]
    positional: int
    returns: Type | None


def signature_of(function: ScriptFunction) -> Signature:
    """What the definition says. Arguments without a type are tensors, as in TorchScript."""
    node = function.node
    formals = node.args
    if formals.vararg is not None or formals.kwarg is not None:
        raise CompileError(
            f"{node.name} takes *args or **kwargs, which have no static type",
            function.location,
            help="name the arguments",
        )
    arguments = [*formals.posonlyargs, *formals.args, *formals.kwonlyargs]
    types = []
    for position, argument in enumerate(arguments):
        if position == 0 and function.owner is not None and not function.is_static:
            types.append(class_type(function.owner))
        elif argument.annotation is None:
            types.append(TENSOR)
        else:
            types.append(_read(function, argument.annotation))
    returns = _read(function, node.returns) if node.returns is not None else None
    if returns is None and node.name == "__init__":
        returns = NONE
    positional = len(formals.posonlyargs) + len(formals.args)
    return Signature([a.arg for a in arguments], types, positional, returns)


def _read(function: ScriptFunction, annotation: ast.expr) -> Type:
    try:
        return type_from_expression(function.environment.type_of(annotation), function.environment)
    except CompileError as error:
        raise error.at(function.locate(annotation)) from None


def bind_arguments(
    f: Lowering, function: ScriptFunction, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> list[Value]:
    """The values of all arguments in order, converted to their types, defaults filled in."""
    signature = f.program.signature(function)
    name = function.node.name
    if len(arguments) > signature.positional:
        f.refuse(f"{name} takes {signature.positional} arguments, not {len(arguments)}")
    rest = dict(keywords)
    unknown = next((k for k in keywords if k not in signature.names), None)
    if unknown is not None:
        f.refuse(f"{name} has no argument {unknown!r}")
    bound: list[Value] = []
    for position, (formal, type_) in enumerate(zip(signature.names, signature.types, strict=True)):
        if position < len(arguments):
            if formal in rest:
                f.refuse(f"{name} gets its argument {formal!r} twice")
            given = arguments[position]
        elif formal in rest:
            given = rest.pop(formal)
        elif formal in function.defaults:
            given = _default(f, function, formal)
        else:
            f.refuse(f"{name} needs an argument {formal!r}: {type_}")
        bound.append(_argument(f, f.materialize(given, type_), type_, formal, name))
    return bound


def _argument(f: Lowering, value: Value, type_: Type, formal: str, name: str) -> Value:
    found = f.try_convert(value, type_)
    if found is None:
        f.refuse(f"{name} takes a {type_} as {formal!r}, not a {value.type}")
    return found


def _default(f: Lowering, function: ScriptFunction, formal: str) -> Any:
    default = function.defaults[formal]
    return f.foreign(function.environment, default) if isinstance(default, ast.expr) else Literal(default)


def call_function(f: Lowering, function: ScriptFunction, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Call a function of the program (a method with its object as first argument, if `function` is one)."""
    bound = bind_arguments(f, function, arguments, keywords)
    returns = f.program.returns(function, f)
    created = func.CallOp.create(
        operands=[v.ssa for v in bound],
        result_types=[returns.ir],
        properties={"callee": SymbolRefAttr(f.program.symbol(function))},
    )
    return _returned(f.add(created).results[0], returns)


def _returned(result: Any, returns: Type) -> Any:
    return Literal(None) if returns is NONE else Value(result, returns)


def call_method(f: Lowering, owner: Value, name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Call a method of an object: `torch.prim.CallMethod`."""
    cls = owner.type.script_class
    method = cls.methods.get(name)
    if method is None:
        f.refuse(f"{cls.short_name} has no method {name!r}")
    if method.is_static:
        return call_function(f, method, arguments, keywords)
    bound = bind_arguments(f, method, [owner, *arguments], keywords)
    returns = f.program.method_returns(cls, method, f)
    created = operations.CallMethod.create(
        operands=[v.ssa for v in bound], result_types=[returns.ir], properties={"name": StringAttr(name)}
    )
    return _returned(f.add(created).results[0], returns)


def construct(f: Lowering, cls: ScriptClass, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """`cls(...)`: a new object, a named tuple, an enum member of a value."""
    if cls.kind == "namedtuple":
        return _named_tuple(f, cls, arguments, keywords)
    if cls.kind == "enum":
        return _member(f, cls, arguments)
    if cls.kind != "class":
        f.unsupported(f"a {cls.kind} ({cls.short_name}) cannot be made inside a function")
    made = allocate(f, cls)
    if "__init__" in cls.methods:
        call_method(f, made, "__init__", arguments, keywords)
    elif arguments or keywords:
        f.refuse(f"{cls.short_name} takes no arguments")
    return made


def allocate(f: Lowering, cls: ScriptClass) -> Value:
    """`torch.prim.CreateObject`: an object without attributes yet."""
    f.program.declare(cls)
    return f.make(operations.CreateObject, [], class_type(cls))


def _named_tuple(f: Lowering, cls: ScriptClass, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Value:
    type_ = class_type(cls)
    rest, parts = dict(keywords), []
    if len(arguments) > len(cls.attributes):
        f.refuse(f"{cls.short_name} has {len(cls.attributes)} fields, not {len(arguments)}")
    for position, (name, wanted) in enumerate(zip(cls.attributes, type_.args, strict=True)):
        if position < len(arguments):
            given = arguments[position]
        elif name in rest:
            given = rest.pop(name)
        elif name in cls.defaults:
            value = cls.defaults[name]
            given = f.foreign(cls.environment, value) if isinstance(value, ast.expr) else Literal(value)
        else:
            f.refuse(f"{cls.short_name} needs a value for {name!r}: {wanted}")
        parts.append(f.convert(f.materialize(given, wanted), wanted))
    if rest:
        f.refuse(f"{cls.short_name} has no field {next(iter(rest))!r}")
    return f.make(operations.TupleConstruct, [v.ssa for v in parts], type_)


def _member(f: Lowering, cls: ScriptClass, arguments: Sequence[Any]) -> Any:
    from stepwell.compiler.frontends.language.bindings import constant_of

    value = constant_of(f.materialize(arguments[0])) if len(arguments) == 1 else None
    for name, known in cls.members.items():
        if value is not None and known == value:
            return Literal(EnumMember(cls, name))
    f.unsupported(f"{cls.short_name}(...) needs the value of a member, known at compile time")


# ------ functions inside functions


def call_local(f: Lowering, local: Local, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Inline a nested function or lambda: it sees the names of the function around it as they are now."""
    node = local.node
    formals = node.args
    if formals.vararg or formals.kwarg:
        f.unsupported("*args and **kwargs of a function inside a function are not supported")
    if len(f.calling) >= DEEPEST_INLINING:
        f.unsupported("a function inside a function calls itself too deep")
    scope = Scope(f.scope.block, f.scope, constants=f.scope.constants)
    _bind_local(f, scope, node, list(arguments), dict(keywords))
    if isinstance(node, ast.Lambda):
        with f.inside(scope):
            return f.expression(node.body)
    outer, f.returns = f.returns, f.type_of(node.returns) if node.returns is not None else None
    f.calling.append(node)
    try:
        with f.inside(scope):
            from stepwell.compiler.frontends.language.statements import block

            block(f, exits.structured(node.body))
    finally:
        f.returns = outer
        f.calling.pop()
    f.scope.ended = scope.ended
    found = scope.names.get(exits.RESULT)
    return found if found is not None else Literal(None)


def _bind_local(f: Lowering, scope: Scope, node: Any, arguments: list[Any], keywords: dict[str, Any]) -> None:
    formals = [*node.args.posonlyargs, *node.args.args]
    optional = formals[len(formals) - len(node.args.defaults) :]
    defaults = {a.arg: d for a, d in zip(optional, node.args.defaults, strict=True)}
    defaults |= {a.arg: d for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d is not None}
    name = getattr(node, "name", "the lambda")
    if len(arguments) > len(formals):
        f.refuse(f"{name} takes {len(formals)} arguments, not {len(arguments)}")
    for position, formal in enumerate([*formals, *node.args.kwonlyargs]):
        if position < len(arguments):
            given = arguments[position]
        elif formal.arg in keywords:
            given = keywords.pop(formal.arg)
        elif formal.arg in defaults:
            given = f.expression(defaults[formal.arg])
        else:
            f.refuse(f"{name} needs an argument {formal.arg!r}")
        if formal.annotation is not None:
            type_ = f.type_of(formal.annotation)
            given = f.convert(f.materialize(given, type_), type_)
        scope.names[formal.arg] = f.materialize(given) if isinstance(given, (Literal, Items)) else given
    if keywords:
        f.refuse(f"{name} has no argument {next(iter(keywords))!r}")
