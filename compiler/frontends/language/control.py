"""Branches: two scopes become one, and a torch.prim.If gives what differs between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from xdsl.ir import Region, SSAValue

from stepwell.compiler.frontends.language.bindings import Items, Scope, Unusable, Value
from stepwell.compiler.frontends.language.lowering import Lowering
from stepwell.compiler.frontends.language.names import Literal
from stepwell.compiler.frontends.language.static_types import Type, join
from stepwell.dialects.torch import operations

Refinements = Sequence[tuple[str, Type]]


@dataclass
class Condition:
    """A test: its value (a bool where it is known now), and what is known of names where it holds and where not."""

    value: SSAValue | bool
    holds: list[tuple[str, Type]] = field(default_factory=list)
    fails: list[tuple[str, Type]] = field(default_factory=list)

    def negated(self, value: SSAValue | bool) -> Condition:
        return Condition(value, self.fails, self.holds)


def branch(
    f: Lowering,
    condition: Condition,
    then: Callable[[], None],
    otherwise: Callable[[], None],
    only: str | None = None,
) -> None:
    """Lower an `if`. Of a known condition only the branch that is taken is looked at. `only` names the single
    variable that matters afterwards, where that is known.
    """
    if isinstance(condition.value, bool):
        _refine(f, condition.holds if condition.value else condition.fails)
        (then if condition.value else otherwise)()
        return
    scopes = (f.nested(), f.nested())
    for scope, facts, body in zip(scopes, (condition.holds, condition.fails), (then, otherwise), strict=True):
        with f.inside(scope):
            _refine(f, facts)
            body()
    _join(f, condition.value, *scopes, only)


def choice(f: Lowering, condition: Condition, then: Callable[[], Value], otherwise: Callable[[], Value]) -> Value:
    """Lower a conditional expression; the values' types are joined."""
    branch(f, condition, lambda: f.bind("$value", then()), lambda: f.bind("$value", otherwise()), None)
    found = f.scope.names.pop("$value")
    value = f.materialize(found)
    assert isinstance(value, Value)
    return value


def _refine(f: Lowering, facts: Refinements) -> None:
    for name, type_ in facts:
        f.refine(name, type_)


def _join(f: Lowering, condition: SSAValue, then: Scope, otherwise: Scope, only: str | None) -> None:
    names = dict.fromkeys([*then.names, *otherwise.names])
    if only is not None:
        names = {only: None} if only in names else {}
    merged: list[tuple[str, Type]] = []
    yields: tuple[list[SSAValue], list[SSAValue]] = ([], [])
    narrowed: list[tuple[str, Type]] = []
    for name in names:
        found = _meet(f, name, then, otherwise)
        if found is None:
            continue
        if isinstance(found, _Narrowed):
            narrowed.append((name, found.type))
            continue
        if not isinstance(found, _Merge):
            f.bind(name, found)
            continue
        merged.append((name, found.type))
        for scope, binding, values in zip((then, otherwise), found.sides, yields, strict=True):
            with f.inside(scope):
                values.append(_side(f, binding, found.type))
    f.scope.ended = then.ended and otherwise.ended
    if merged or then.block.ops.first is not None or otherwise.block.ops.first is not None:
        _append(f, condition, (then, otherwise), merged, yields)
    for name, type_ in narrowed:
        f.refine(name, type_)


@dataclass
class _Merge:
    """A name whose values differ: what it is on each side (None: nothing), and the joined type."""

    type: Type
    sides: tuple[Any, Any]


@dataclass
class _Narrowed:
    """A name of which only more is known now, as the other branch does not come back."""

    type: Type


def _meet(f: Lowering, name: str, then: Scope, otherwise: Scope) -> Any:
    """What a name is after the two scopes: None (as before), a binding, _Narrowed or _Merge."""
    outer = f.scope.find(name)
    if then.ended and otherwise.ended:
        return None
    if then.ended or otherwise.ended:
        return _surviving(name, otherwise if then.ended else then, then.ended)
    a, b = (_unrefined(s, name, outer) for s in (then, otherwise))
    if a is b:
        return None if a is outer else a
    # The paths bring different values: each counts with what is known of it there.
    a, b = (s.names.get(name, outer) for s in (then, otherwise))
    if a is None or b is None:
        if not name.startswith("$"):
            return Unusable(f"{name} is not defined on every path that leads here")
        present = a if a is not None else b
        return _Merge(present.type, (a, b)) if isinstance(present, Value) else present
    sides = []
    for scope, binding in ((then, a), (otherwise, b)):
        with f.inside(scope):
            sides.append(_as_value(f, binding))
    if not (isinstance(sides[0], Value) and isinstance(sides[1], Value)):
        return a if a == b else _clash(name, sides)
    type_ = join(sides[0].type, sides[1].type)
    if type_ is None:
        return _of_two_types(name, sides[0].type, sides[1].type)
    return _Merge(type_, (sides[0], sides[1]))


def _of_two_types(name: str, a: Type, b: Type) -> Unusable:
    union = f"Union[{a}, {b}]"
    if name.startswith("$"):
        return Unusable(f"a {a} is returned on one path and a {b} on the other", f"annotate the result: -> {union}")
    return Unusable(
        f"{name} is a {a} on one path and a {b} on the other",
        help=f"annotate it where it is first assigned: {name}: {union} = ...",
    )


def _clash(name: str, sides: list[Any]) -> Unusable:
    broken = next((s for s in sides if isinstance(s, Unusable)), None)
    return broken if broken is not None else Unusable(f"{name} means different things on the paths that lead here")


def _as_value(f: Lowering, binding: Any) -> Any:
    return f.materialize(binding) if isinstance(binding, (Items, Literal)) else binding


def _surviving(name: str, scope: Scope, then_ended: bool) -> Any:
    found = scope.names.get(name)
    if not isinstance(found, Value):
        return found
    refined = scope.refined.get(name)
    if refined is not None and refined[1] is found:
        return _Narrowed(found.type)
    return _Merge(found.type, (None, found) if then_ended else (found, None))


def _unrefined(scope: Scope, name: str, outer: Any) -> Any:
    """The binding at the end of a scope; the outer one where the scope only narrowed its type."""
    found = scope.names.get(name, outer)
    refined = scope.refined.get(name)
    return refined[0] if refined is not None and refined[1] is found else found


def _side(f: Lowering, binding: Any, type_: Type) -> SSAValue:
    if binding is None:
        return f.make(operations.Uninitialized, [], type_).ssa
    return f.convert(binding, type_).ssa


def _append(
    f: Lowering,
    condition: SSAValue,
    scopes: tuple[Scope, Scope],
    merged: list[tuple[str, Type]],
    yields: tuple[list[SSAValue], list[SSAValue]],
) -> None:
    for scope, values in zip(scopes, yields, strict=True):
        with f.inside(scope):
            f.add(operations.IfYield.create(operands=values))
    created = operations.If.create(
        operands=[condition],
        result_types=[t.ir for _, t in merged],
        regions=[Region(s.block) for s in scopes],
    )
    for result, (name, type_) in zip(f.add(created).results, merged, strict=True):
        f.bind(name, Value(result, type_))
