"""Statements: assignment, branches, exits, assertions, `with`, `del`."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from stepwell.compiler.frontends.language import exits
from stepwell.compiler.frontends.language.bindings import Items, Local, Unusable, Value
from stepwell.compiler.frontends.language.conditions import condition
from stepwell.compiler.frontends.language.control import branch
from stepwell.compiler.frontends.language.lowering import STATEMENTS, Lowering, described, statement_rule
from stepwell.compiler.frontends.language.names import Literal, Namespace
from stepwell.compiler.frontends.language.operators import augmented
from stepwell.compiler.frontends.language.ops import call_op
from stepwell.compiler.frontends.language.static_types import Type
from stepwell.compiler.frontends.language.subscripts import assign_item, delete_item
from stepwell.compiler.objects import ScriptClass, ScriptFunction
from stepwell.dialects.torch import operations


def block(f: Lowering, statements: Sequence[ast.stmt]) -> None:
    """Lower statements into the current scope, up to where it ends."""
    for statement in statements:
        if f.scope.ended:
            return
        rule = STATEMENTS.get(type(statement))
        with f.at(statement):
            if rule is None:
                f.unsupported(f"{described(statement)} is not supported")
            rule(f, statement)


@statement_rule(ast.Pass)
def _pass(f: Lowering, node: ast.Pass) -> None:
    pass


@statement_rule(ast.Expr)
def _expression(f: Lowering, node: ast.Expr) -> None:
    if not isinstance(node.value, ast.Constant):
        f.expression(node.value)


# ------ assignment


@statement_rule(ast.Assign)
def _assign(f: Lowering, node: ast.Assign) -> None:
    first = node.targets[0]
    want = _wanted(f, first)
    found = f.expression(node.value, want)
    if want is not None:
        found = f.convert(f.materialize(found, want), want)
    elif len(node.targets) > 1:
        found = f.materialize(found)
    for target in node.targets:
        assign(f, target, found)


def _wanted(f: Lowering, target: ast.expr) -> Type | None:
    """The type that a target is declared with: the function's result, an attribute."""
    if isinstance(target, ast.Name) and target.id == exits.RESULT:
        return f.returns
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
        owner = f.scope.find(target.value.id)
        if isinstance(owner, Value) and owner.type.kind == "Class":
            from stepwell.compiler.frontends.language.attributes import attribute_type

            return attribute_type(f, owner.type.script_class, target.attr)
    return None


@statement_rule(ast.AnnAssign)
def _annotated(f: Lowering, node: ast.AnnAssign) -> None:
    type_ = f.type_of(node.annotation)
    if node.value is None:
        if isinstance(node.target, ast.Name):
            f.bind(node.target.id, Unusable(f"{node.target.id} is declared but has no value yet"))
        return
    assign(f, node.target, f.value(node.value, type_))


def assign(f: Lowering, target: ast.expr, found: Any) -> None:
    """Give a target (name, tuple, attribute, subscript) what a binding is."""
    if isinstance(target, ast.Name):
        f.bind(target.id, _stored(f, found))
    elif isinstance(target, (ast.Tuple, ast.List)):
        _unpack(f, target.elts, found)
    elif isinstance(target, ast.Attribute):
        from stepwell.compiler.frontends.language.attributes import set_attribute

        set_attribute(f, f.value(target.value), target.attr, f.materialize(found))
    elif isinstance(target, ast.Subscript):
        assign_item(f, target, f.materialize(found))
    else:
        f.unsupported("this cannot be assigned to", target)


def _stored(f: Lowering, found: Any) -> Any:
    """What a name holds: tuples of values are built, what exists at compile time only stays as it is."""
    if isinstance(found, Literal):
        return f.materialize(found)
    if isinstance(found, Items) and not found.names and all(isinstance(b, (Value, Literal)) for b in found.items):
        return f.materialize(found)
    return found


def _unpack(f: Lowering, targets: Sequence[ast.expr], found: Any) -> None:
    stars = [n for n, t in enumerate(targets) if isinstance(t, ast.Starred)]
    if len(stars) > 1:
        f.refuse("an assignment has one starred name at most")
    parts = _parts(f, found, len(targets), bool(stars))
    if stars:
        first, after = stars[0], len(targets) - stars[0] - 1
        if len(parts) < len(targets) - 1:
            f.refuse(f"there are only {len(parts)} values for {len(targets)} names")
        middle = [f.materialize(p) for p in parts[first : len(parts) - after]]
        starred = targets[first]
        assert isinstance(starred, ast.Starred)
        parts = [*parts[:first], _starred(f, middle), *parts[len(parts) - after :]]
        targets = [*targets[:first], starred.value, *targets[first + 1 :]]
    if len(parts) != len(targets):
        f.refuse(f"there are {len(parts)} values for {len(targets)} names")
    for target, part in zip(targets, parts, strict=True):
        assign(f, target, part)


def _starred(f: Lowering, parts: list[Value]) -> Any:
    if parts and all(p.type is parts[0].type for p in parts):
        return f.list_value(parts, parts[0].type)
    return Items(list(parts))


def _parts(f: Lowering, found: Any, count: int, starred: bool) -> list[Any]:
    """The elements of what is unpacked."""
    if isinstance(found, Items):
        return list(found.items)
    if isinstance(found, Literal) and isinstance(found.value, (tuple, list)):
        return [Literal(v) for v in found.value]
    value = f.materialize(found)
    if value.type.is_tuple:
        return list(f.unpack_tuple(value))
    if value.type.kind == "Tensor":
        value = f.materialize(call_op(f, "aten::unbind", [value]))
    if value.type.kind != "List":
        f.refuse(f"a {value.type} cannot be unpacked")
    if starred:
        f.unsupported("a starred name takes elements of a tuple only")
    created = operations.ListUnpack.create(operands=[value.ssa], result_types=[value.type.element.ir] * count)
    return [Value(r, value.type.element) for r in f.add(created).results]


@statement_rule(ast.AugAssign)
def _augmented(f: Lowering, node: ast.AugAssign) -> None:
    augmented(f, node)


@statement_rule(ast.Delete)
def _delete(f: Lowering, node: ast.Delete) -> None:
    for target in node.targets:
        if isinstance(target, ast.Name):
            f.bind(target.id, Unusable(f"{target.id} was deleted"))
        elif isinstance(target, ast.Subscript):
            delete_item(f, target)
        else:
            f.unsupported("`del` takes names, list items and dict keys", target)


@statement_rule(ast.FunctionDef)
def _function(f: Lowering, node: ast.FunctionDef) -> None:
    f.bind(node.name, Local(node))


# ------ branches and exits


@statement_rule(ast.If)
def _if(f: Lowering, node: ast.If) -> None:
    branch(f, condition(f, node.test), lambda: block(f, node.body), lambda: block(f, node.orelse))


@statement_rule(exits.TailIf)
def _tail_if(f: Lowering, node: exits.TailIf) -> None:
    test = condition(f, node.test)
    branch(f, test, lambda: block(f, node.body), lambda: block(f, node.orelse), exits.RESULT)


@statement_rule(ast.Return)
def _return(f: Lowering, node: ast.Return) -> None:
    """At the end of a function only (exits.py): the result."""
    if node.value is None:
        value = f.constant(None)
    else:
        value = f.value(node.value) if f.returns is None else f.value(node.value, f.returns)
    if f.returns is not None and value.type is not f.returns:
        value = f.convert(value, f.returns)
    f.bind(exits.RESULT, value)


def raise_exception(f: Lowering, message: Value, exception: Value) -> None:
    """`torch.prim.RaiseException`; nothing after it in this scope is executed."""
    f.add(operations.RaiseException.create(operands=[message.ssa, exception.ssa]))
    f.scope.ended = True


@statement_rule(ast.Raise)
def _raise(f: Lowering, node: ast.Raise) -> None:
    if node.exc is None:
        f.unsupported("`raise` without an exception is not supported")
    called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    arguments = node.exc.args if isinstance(node.exc, ast.Call) else []
    name = _exception_name(f, called)
    if len(arguments) == 1:
        message = f.value(arguments[0])
        if message.type.kind != "str":
            message = f.materialize(call_op(f, "aten::str", [message]))
    elif arguments:
        message = f.materialize(call_op(f, "aten::str", [f.tuple_value([f.value(a) for a in arguments])]))
    else:
        message = f.constant("")
    raise_exception(f, message, f.constant(name))


def _exception_name(f: Lowering, node: ast.expr) -> str:
    """`builtins.ValueError`, `package.module.Error`."""
    import builtins

    if isinstance(node, ast.Name):
        found = getattr(builtins, node.id, None)
        if isinstance(found, type) and issubclass(found, BaseException):
            return f"builtins.{node.id}"
    meaning = f.expression(node)
    if isinstance(meaning, (ScriptClass, ScriptFunction)):
        return meaning.name
    if isinstance(meaning, Namespace):
        return meaning.path
    f.unsupported("only exception classes can be raised")


@statement_rule(ast.Assert)
def _assert(f: Lowering, node: ast.Assert) -> None:
    def fail() -> None:
        message = f.value(node.msg) if node.msg is not None else f.constant("")
        if message.type.kind != "str":
            message = f.materialize(call_op(f, "aten::str", [message]))
        raise_exception(f, message, f.constant("builtins.AssertionError"))

    branch(f, condition(f, node.test), lambda: None, fail)


# ------ with


@statement_rule(ast.With)
def _with(f: Lowering, node: ast.With) -> None:
    """__enter__ before the body, __exit__ after it; exceptions leave without __exit__, as nothing can catch them."""
    from stepwell.compiler.frontends.language.functions import call_method

    entered: list[Value] = []
    for item in node.items:
        manager = f.expression(item.context_expr)
        if isinstance(manager, Literal):  # torch.no_grad() and the like, which change nothing here
            if item.optional_vars is not None:
                assign(f, item.optional_vars, manager)
            continue
        value = f.materialize(manager)
        if value.type.kind != "Class" or "__enter__" not in value.type.script_class.methods:
            f.refuse(f"a {value.type} cannot be used in `with`: it has no __enter__", item.context_expr)
        found = call_method(f, value, "__enter__", [], {})
        if item.optional_vars is not None:
            assign(f, item.optional_vars, found)
        entered.append(value)
    block(f, node.body)
    if f.scope.ended:
        return
    for value in reversed(entered):
        call_method(f, value, "__exit__", [f.constant(None)] * 3, {})
