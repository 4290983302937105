"""What programs give as users hold it: named tuples and enums of Python, modules for objects."""

from __future__ import annotations

import collections
import enum
from collections.abc import Callable, Sequence
from typing import Any

from stepwell.compiler.frontends.parser.types import TypeExpr
from stepwell.compiler.objects import EnumMember, Environment, ScriptClass, ScriptObject

Outward = Callable[[Any], Any]


def outward(type_: TypeExpr, environment: Environment, wrap: Callable[[ScriptObject], Any]) -> Outward | None:
    """How a result becomes what users hold: named tuples, members of enums, modules. None where it is that already."""
    return _Outward(environment, wrap).rule(type_)


class _Outward:
    """Makes the rules for the types of one program."""

    def __init__(self, environment: Environment, wrap: Callable[[ScriptObject], Any]) -> None:
        self._environment, self._wrap = environment, wrap

    def rule(self, type_: TypeExpr) -> Outward | None:
        if type_.name in ("Optional", "Union", "Future", "Final"):
            return self._alternatives(type_)
        if type_.name == "List":
            inner = self.rule(type_.args[0])
            return None if inner is None else lambda value: [inner(v) for v in value]
        if type_.name == "Dict":
            key, element = (self.rule(a) or _same for a in type_.args)
            plain = key is _same and element is _same
            return None if plain else lambda value: {key(k): element(v) for k, v in value.items()}
        if type_.name == "Tuple":
            parts = [self.rule(a) for a in type_.args]
            return self._parts(parts, tuple) if any(parts) else None
        if type_.name == "Any":
            return lambda value: self._wrap(value) if isinstance(value, ScriptObject) else value
        cls = self._environment.class_named(type_.name)
        return self._of_class(cls) if cls is not None else None

    def _alternatives(self, type_: TypeExpr) -> Outward | None:
        rules = [r for r in map(self.rule, type_.args) if r is not None]
        if not rules:
            return None
        if len(rules) > 1:
            return lambda value: self._wrap(value) if isinstance(value, ScriptObject) else value
        return lambda value: None if value is None else rules[0](value)

    def _parts(self, rules: Sequence[Outward | None], make: Callable[[Sequence[Any]], Any]) -> Outward:
        return lambda value: make(
            [rule(v) if rule is not None else v for rule, v in zip(rules, value, strict=True)]
        )

    def _of_class(self, cls: ScriptClass) -> Outward:
        if cls.kind == "namedtuple":
            made = python_class(cls)
            return self._parts([self.rule(t) for t in cls.attributes.values()], lambda parts: made(*parts))
        if cls.kind == "enum":
            return lambda value: member(cls, value)
        return self._wrap


def _same(value: Any) -> Any:
    return value


def python_class(cls: ScriptClass) -> Any:
    """The Python class of a named tuple or enum: what it was scripted from, for archives one made from its record."""
    if cls.python is None:
        cls.python = _named_tuple(cls) if cls.kind == "namedtuple" else _enum(cls)
    return cls.python


def _named_tuple(cls: ScriptClass) -> type:
    make: Any = collections.namedtuple
    found: type = make(cls.short_name, list(cls.attributes))
    return found


def _enum(cls: ScriptClass) -> type:
    make: Any = enum.Enum
    found: type = make(cls.short_name, dict(cls.members))
    return found


def member(cls: ScriptClass, value: Any) -> Any:
    """The member of an enum that programs hold by its index."""
    name = value.name if isinstance(value, EnumMember) else list(cls.members)[value]
    return python_class(cls)[name]
