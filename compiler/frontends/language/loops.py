"""Loops: what is iterated, which names are carried, and torch.prim.Loop."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from xdsl.ir import Block, BlockArgument, Region

from stepwell.compiler.frontends.language import exits
from stepwell.compiler.frontends.language.assigned import assigned
from stepwell.compiler.frontends.language.bindings import (
    Count,
    Items,
    Range,
    Reversed,
    Scope,
    Unusable,
    Value,
    Zip,
    constant_of,
)
from stepwell.compiler.frontends.language.conditions import as_value, condition
from stepwell.compiler.frontends.language.control import Condition, branch
from stepwell.compiler.frontends.language.lowering import Lowering, statement_rule
from stepwell.compiler.frontends.language.names import Literal
from stepwell.compiler.frontends.language.ops import call_op
from stepwell.compiler.frontends.language.static_types import INT, Type, join
from stepwell.compiler.objects import EnumMember, ScriptClass
from stepwell.dialects.torch import operations

ENDLESS = (1 << 63) - 1
"""The number of trips of a `while`, as TorchScript has it."""

Body = Callable[[Value], None]
Test = Callable[[], Value]


def loop(f: Lowering, names: Sequence[str], trips: Value, first: Value, body: Body, following: Test) -> None:
    """A torch.prim.Loop of at most `trips` iterations while `first`, then `following()`, holds.

    `names` are those that the body assigns. Where one's type becomes wider in the body (None, then a tensor), the
    body is lowered again with the wider type.
    """
    carried = [n for n in names if _is_value(f, n)]
    types = {n: f.scope.find(n).type for n in carried}
    while True:
        scope = f.nested(Block(arg_types=[INT.ir, *(types[n].ir for n in carried)]))
        with f.inside(scope):
            for name, argument in zip(carried, scope.block.args[1:], strict=True):
                f.bind(name, Value(argument, types[name]))
            body(Value(scope.block.args[0], INT))
            going = f.constant(False) if scope.ended else following()
        if scope.ended or not _widened(f, scope, carried, types):
            break
    _close(f, names, scope, carried, types, (trips, first, going))


def _is_value(f: Lowering, name: str) -> bool:
    """Whether a name can be carried; tuples not yet built and constants are built for it."""
    found = f.scope.find(name)
    if isinstance(found, (Items, Literal)):
        found = f.materialize(found)
        f.bind(name, found)
    return isinstance(found, Value)


def _widened(f: Lowering, scope: Scope, carried: Sequence[str], types: dict[str, Type]) -> bool:
    changed = False
    for name in carried:
        with f.inside(scope):
            found = scope.names[name]
            if isinstance(found, Unusable):
                f.refuse(found.message, help=found.help)
            after = f.materialize(found)
            f.bind(name, after)
        wider = join(types[name], after.type)
        if wider is None:
            f.refuse(f"{name} is a {types[name]} before the loop and a {after.type} after its body")
        if wider is not types[name]:
            types[name], changed = wider, True
    return changed


def _close(
    f: Lowering,
    names: Sequence[str],
    scope: Scope,
    carried: list[str],
    types: dict[str, Type],
    control: tuple[Value, Value, Value],
) -> None:
    """The loop itself, once its body is done."""
    arguments = dict(zip(carried, list(scope.block.args[1:]), strict=True))
    kept = [n for n in carried if not _drop_unchanged(f, scope, n, arguments[n])]
    initial = [f.convert(f.scope.find(n), types[n]).ssa for n in kept]
    late = [n for n in names if n.startswith("$") and n not in carried and isinstance(scope.names.get(n), Value)]
    for name in late:
        types[name] = scope.names[name].type
        scope.block.insert_arg(types[name].ir, len(scope.block.args))
        initial.append(f.make(operations.Uninitialized, [], types[name]).ssa)
    trips, first, going = control
    with f.inside(scope):
        final = [_final(f, scope, n, types[n]) for n in (*kept, *late)]
        f.add(operations.LoopCondition.create(operands=[going.ssa, *final]))
    created = operations.Loop.create(
        operands=[trips.ssa, first.ssa, *initial],
        result_types=[types[n].ir for n in (*kept, *late)],
        regions=[Region(scope.block)],
    )
    for result, name in zip(f.add(created).results, (*kept, *late), strict=True):
        f.bind(name, Value(result, types[name]))
    for name in names:
        if f.scope.find(name) is None:
            f.bind(name, Unusable(f"{name} is assigned only inside the loop, which may not run"))


def _final(f: Lowering, scope: Scope, name: str, type_: Type) -> Any:
    if scope.ended:
        return f.make(operations.Uninitialized, [], type_).ssa
    return f.convert(scope.names[name], type_).ssa


def _drop_unchanged(f: Lowering, scope: Scope, name: str, argument: BlockArgument) -> bool:
    """Take a name out of the loop if the body leaves it as it is (in-place writes do)."""
    found, outer = scope.names[name], f.scope.find(name)
    if not isinstance(found, Value) or found.ssa is not argument or outer.ssa.type != argument.type:
        return False
    argument.replace_all_uses_with(outer.ssa)
    scope.block.erase_arg(argument)
    return True


# ------ what is iterated


@dataclass
class Plan:
    """How to iterate: element number i, and how many there are: known now (`known`), a value, or without end."""

    element: Callable[[Value], Any]
    trips: Value | None = None
    known: int | None = None


def plan(f: Lowering, iterable: Any) -> Plan:
    """The plan of an iterable binding; CompileError where it is none."""
    if isinstance(iterable, Literal) and isinstance(iterable.value, (list, tuple)):
        return _unrolled([Literal(v) for v in iterable.value])
    if isinstance(iterable, Items):
        return _unrolled(iterable.items)
    if isinstance(iterable, Range):
        return _range(f, iterable)
    if isinstance(iterable, Count):
        return Plan(lambda i: _shifted(f, i, iterable.start))
    if isinstance(iterable, Zip):
        return _zip(f, [plan(f, p) for p in iterable.parts])
    if isinstance(iterable, Reversed):
        return _reversed(f, plan(f, iterable.inner))
    if isinstance(iterable, ScriptClass) and iterable.kind == "enum":
        return _unrolled([Literal(EnumMember(iterable, name)) for name in iterable.members])
    value = f.materialize(iterable)
    rule = _PLANS.get(value.type.kind)
    if rule is None:
        f.refuse(f"a {value.type} cannot be iterated")
    return rule(f, value)


def _unrolled(items: Sequence[Any]) -> Plan:
    def element(i: Value) -> Any:
        return items[constant_of(i)]

    return Plan(element, None, len(items))


def _range(f: Lowering, found: Range) -> Plan:
    if found.step is None and (found.start is None or constant_of(found.start) == 0):
        return Plan(lambda i: i, found.stop)
    start = found.start if found.start is not None else f.constant(0)
    step = found.step if found.step is not None else f.constant(1)
    if constant_of(step) == 0:
        f.refuse("range() arg 3 must not be zero")
    trips = f.overload("aten::__range_length", [start, found.stop, step])
    return Plan(lambda i: f.overload("aten::__derive_index", [i, start, step]), trips)


def _shifted(f: Lowering, index: Value, start: Value) -> Value:
    if constant_of(start) == 0:
        return index
    known = constant_of(index)
    if known is not None and constant_of(start) is not None:
        return f.constant(known + constant_of(start))
    return f.overload("aten::add.int", [index, start])


def _zip(f: Lowering, parts: list[Plan]) -> Plan:
    def element(i: Value) -> Any:
        return Items([p.element(i) for p in parts])

    known = [p.known for p in parts if p.known is not None]
    if known:
        return Plan(element, None, min(known))
    trips = [p.trips for p in parts if p.trips is not None]
    if not trips:
        f.refuse("this iteration has no end")
    shortest = trips[0]
    for other in trips[1:]:
        shortest = f.overload("prim::min.int", [shortest, other])
    return Plan(element, shortest)


def _reversed(f: Lowering, inner: Plan) -> Plan:
    if inner.known is not None:
        last = inner.known - 1
        return Plan(lambda i: inner.element(f.constant(last - constant_of(i))), None, inner.known)
    if inner.trips is None:
        f.refuse("what has no end cannot be reversed")
    end = f.overload("aten::sub.int", [inner.trips, f.constant(1)])
    return Plan(lambda i: inner.element(f.overload("aten::sub.int", [end, i])), inner.trips)


def _list(f: Lowering, value: Value) -> Plan:
    return Plan(lambda i: call_op(f, "aten::__getitem__", [value, i]), call_op(f, "aten::len", [value]))


def _tensor(f: Lowering, value: Value) -> Plan:
    return Plan(lambda i: call_op(f, "aten::select", [value, f.constant(0), i]), call_op(f, "aten::len", [value]))


def _dict(f: Lowering, value: Value) -> Plan:
    return _list(f, call_op(f, "aten::keys", [value]))


def _tuple(f: Lowering, value: Value) -> Plan:
    return _unrolled(f.unpack_tuple(value))


def _object(f: Lowering, value: Value) -> Plan:
    """A container of modules: its parts, one by one."""
    from stepwell.compiler.frontends.language.attributes import container_parts

    parts = container_parts(f, value)
    if parts is None:
        f.refuse(f"a {value.type} cannot be iterated")
    return _unrolled(parts)


_PLANS: dict[str, Callable[[Lowering, Value], Plan]] = {
    "List": _list, "str": _list, "Tensor": _tensor, "Dict": _dict, "Tuple": _tuple, "NamedTuple": _tuple,
    "Class": _object,
}  # fmt: skip


def run(f: Lowering, found: Plan, names: Sequence[str], body: Callable[[Any], None], flag: str | None = None) -> None:
    """Run a body for each element. `names` are assigned in it; it stops when the variable `flag` is true."""
    if found.known is not None:
        for number in range(found.known):
            _guarded(f, flag, partial(_numbered, f, found, body, number))
            if f.scope.ended:
                return
        return
    if found.trips is None:
        f.refuse("this iteration has no end")

    def following() -> Value:
        return f.constant(True) if flag is None else _unless(f, flag)

    loop(f, names, found.trips, f.constant(True), lambda i: body(found.element(i)), following)


def _numbered(f: Lowering, found: Plan, body: Callable[[Any], None], number: int) -> None:
    body(found.element(f.constant(number)))


def _guarded(f: Lowering, flag: str | None, body: Callable[[], None]) -> None:
    if flag is None:
        body()
        return
    test = condition(f, ast.Name(flag, ast.Load()))
    branch(f, test, lambda: None, body)


def _unless(f: Lowering, flag: str) -> Value:
    value = f.scope.find(flag)
    known = constant_of(value)
    return f.constant(not known) if known is not None else f.overload("aten::__not__", [value])


# ------ statements


@statement_rule(ast.For)
def _for(f: Lowering, node: ast.For, flag: str | None = None) -> None:
    from stepwell.compiler.frontends.language.statements import assign, block

    with f.at(node.iter):
        found = plan(f, f.expression(node.iter))

    def body(element: Any) -> None:
        with f.at(node.target):
            assign(f, node.target, element)
        block(f, node.body)

    run(f, found, assigned([node.target, *node.body]), body, flag)


@statement_rule(ast.While)
def _while(f: Lowering, node: ast.While, flag: str | None = None) -> None:
    from stepwell.compiler.frontends.language.statements import block

    def test() -> Value:
        return as_value(f, condition(f, node.test))

    def following() -> Value:
        if flag is None or f.scope.find(flag) is None:
            return test()
        if exits.is_true(node.test):
            return _unless(f, flag)
        left = Condition(f.scope.find(flag).ssa)
        known = constant_of(f.scope.find(flag))
        if known is not None:
            return f.constant(False) if known else test()
        branch(f, left, lambda: f.bind("$value", f.constant(False)), lambda: f.bind("$value", test()), "$value")
        value: Value = f.scope.names.pop("$value")
        return value

    first = test()
    if constant_of(first) is False:
        return
    loop(f, assigned(node.body), f.constant(ENDLESS), first, lambda _: block(f, node.body), following)


@statement_rule(exits.Leaving)
def _leaving(f: Lowering, node: exits.Leaving) -> None:
    if isinstance(node.loop, ast.For):
        _for(f, node.loop, node.flag)
    else:
        _while(f, node.loop, node.flag)
