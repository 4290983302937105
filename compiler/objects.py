"""The object model: what a program is made of before it becomes IR, wherever it came from.

Loaded archives and scripted Python give the same classes, functions and objects. Nothing here needs xDSL, so that
`import stepwell` and the warm path stay quick.

An attribute's value is one of: None, bool, int, float, complex, str, tuple, list, dict, a numpy array, Device,
EnumMember, ScriptObject. Sharing is kept: two attributes that hold one list, array or object hold the same Python
object here.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from stepwell.compiler.deferred import peek
from stepwell.compiler.frontends.parser.types import TypeExpr
from stepwell.dialects.diagnostics import Location

Kind = Literal["module", "class", "namedtuple", "enum", "interface"]


class Environment(Protocol):
    """What the free names of a function's source mean; meanings are described in frontends/language/names.py."""

    python: bool
    """True for scripted Python, False for the language of archives (see frontends/language/names.py)."""

    @property
    def arrays(self) -> Mapping[str, Any]:
        """The numpy arrays that the code names as constants, by name."""

    def lookup(self, name: str) -> Any:
        """The meaning of a free name, or None."""

    def attribute(self, namespace: str, name: str) -> Any:
        """The meaning of `namespace.name`, or None."""

    def type_of(self, annotation: ast.expr) -> TypeExpr:
        """The type that an annotation spells; CompileError where it spells none."""

    def class_named(self, name: str) -> ScriptClass | None:
        """The class of a qualified name in a TypeExpr."""

    def replacement(self, op: str, overload: str) -> ScriptFunction | None:
        """The function that stands for an op here (old meanings in old archives); None for nearly all."""


@dataclass(eq=False)
class ScriptFunction:
    """A function or method as source.

    `node` is its definition, `locate` gives nodes their place in the user's text, `environment` the meaning of its
    free names. `defaults` maps arguments to default values: Python constants, or expressions (`ast.expr`) in the
    environment. `owner` is the class of a method, whose first argument is then `self`.
    """

    name: str
    node: ast.FunctionDef
    environment: Environment
    locate: Callable[[ast.AST], Location]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    owner: ScriptClass | None = None
    is_static: bool = False

    @property
    def location(self) -> Location:
        return self.locate(self.node)


@dataclass(eq=False)
class ScriptClass:
    """A class: modules, plain script classes, named tuples, enums and interfaces.

    `attributes` are what objects store, with declared types, in order (the fields of a named tuple). `constants`
    belong to the class: Python constants or expressions. `members` are an enum's. `properties` maps a name to its
    getter's and setter's method names. `parameters` and `buffers` name attributes of a module.
    """

    name: str
    kind: Kind
    environment: Environment
    attributes: dict[str, TypeExpr] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    methods: dict[str, ScriptFunction] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    members: dict[str, int | float | str] = field(default_factory=dict)
    properties: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    locate: Callable[[], Location] | None = None
    """Finds the class's place in the user's text, which is work that only an error is worth."""
    python: type | None = None
    """The Python class of a named tuple or enum, which is what users give and get."""
    remembered: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What the front end has found out about the class."""

    @property
    def location(self) -> Location | None:
        """Where the user's text defines the class, if that is known."""
        return self.locate() if self.locate is not None else None

    @property
    def short_name(self) -> str:
        """The name without its path."""
        return self.name.rpartition(".")[2]

    def implements(self, interface: ScriptClass) -> bool:
        """Whether it has all methods of an interface."""
        return all(name in self.methods for name in interface.methods)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"


@dataclass(eq=False)
class ScriptObject:
    """An instance: its class and the values of its attributes.

    Where the class restores itself by `__setstate__`, an archive has only `state`, and `has_state` is True.
    """

    cls: ScriptClass
    attributes: dict[str, Any] = field(default_factory=dict)
    state: Any = None
    has_state: bool = False

    def __deepcopy__(self, memo: dict[int, Any]) -> ScriptObject:
        made = memo[id(self)] = ScriptObject(self.cls)
        made.attributes.update((name, copy.deepcopy(value, memo)) for name, value in self.attributes.items())
        made.state, made.has_state = copy.deepcopy(self.state, memo), self.has_state
        return made

    def store(self, attribute: str, value: Any) -> None:
        """Set an attribute to what a program computed, where the index of an enum's member stands for the member."""
        type_ = self.cls.attributes.get(attribute)
        if type(value) is int and type_ is not None and type_.is_class:
            cls = self.cls.environment.class_named(type_.name)
            if cls is not None and cls.kind == "enum":
                value = EnumMember(cls, list(cls.members)[value])
        self.attributes[attribute] = value

    def walk(self) -> Iterator[ScriptObject]:
        """This object and all objects inside it, each once."""
        seen: set[int] = set()
        pending: list[Any] = [self]
        while pending:
            value = pending.pop()
            if isinstance(value, ScriptObject):
                if id(value) in seen:
                    continue
                seen.add(id(value))
                yield value
                pending.extend(reversed([inner for _, inner in peek(value.attributes)]))
            elif isinstance(value, (list, tuple)):
                pending.extend(reversed(value))
            elif isinstance(value, dict):
                pending.extend(reversed(value.values()))


@dataclass(frozen=True)
class Device:
    """A device as its text: "cpu", "cuda:0"."""

    text: str


@dataclass(frozen=True)
class EnumMember:
    """A member of an enum class."""

    cls: ScriptClass
    name: str

    def __deepcopy__(self, _: Any) -> EnumMember:
        return self

    @property
    def value(self) -> int | float | str:
        return self.cls.members[self.name]

    @property
    def index(self) -> int:
        """Its place among the members, which is what the IR holds."""
        return list(self.cls.members).index(self.name)
