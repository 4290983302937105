"""The values of an archive against the types that its classes declare.

torch does not check: a text in an attribute declared `int` is used as an integer there. Here every attribute of every
object is compared with its declaration before anybody computes with it, lists and dicts learn their types from it, and
members of Enums find their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from stepwell.compiler.frontends.archive.code import ClassRecord, CodeIndex
from stepwell.compiler.frontends.archive.limits import DEFAULT, Limits
from stepwell.compiler.frontends.archive.values import (
    DeviceData,
    DictData,
    EnumData,
    ListData,
    ScriptObjectData,
    TensorData,
    Value,
)
from stepwell.compiler.frontends.parser import TypeExpr, type_from_ast
from stepwell.dialects.diagnostics import ArchiveError, CompileError, UnsupportedError

_SCALARS: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (float,), "bool": (bool,), "str": (str,), "complex": (complex,),
    "NoneType": (type(None),), "Tensor": (TensorData,), "Device": (DeviceData,), "number": (int, float, complex),
    "Scalar": (int, float, complex), "Layout": (int,), "MemoryFormat": (int,), "ScalarType": (int,),
}  # fmt: skip
_NAMES = {
    ListData: "a list", DictData: "a dict", tuple: "a tuple", TensorData: "a tensor", DeviceData: "a device",
    type(None): "None", str: "a str", int: "an int", float: "a float", bool: "a bool", complex: "a complex",
}  # fmt: skip
_UNREAD = "__torch__.torch.classes."

ANY = TypeExpr("Any")
_CONTAINERS = frozenset({ListData, DictData, tuple})

Mismatch = tuple[str, str]
"""(path below the attribute, what is wrong)."""


class Checker:
    """Checks values against types; collects the objects it meets to check them too."""

    def __init__(self, code: CodeIndex, limits: Limits = DEFAULT) -> None:
        self.code, self.limits = code, limits
        self.steps = limits.check_steps
        self.waiting: list[ScriptObjectData] = []
        self.seen: set[int] = set()
        self.known: dict[tuple[int, TypeExpr], Mismatch | None] = {}
        self.settled: set[tuple[int, TypeExpr]] = set()
        self.classes: dict[str, ClassRecord] = {}

    def check_all(self, root: Value) -> None:
        """Check everything that can be reached from a value, and fill the attributes of all objects in it.

        Raises ArchiveError naming class and attribute, or UnsupportedError naming the type.
        """
        try:
            wrong = self._mismatch(root, ANY)
            if wrong is not None:
                raise ArchiveError(f"the value{wrong[0]} {wrong[1]}")
            self._settle(root, ANY)
            while self.waiting:
                self._object(self.waiting.pop())
            self._check_containment()
        except RecursionError:
            raise ArchiveError("the archive's values nest too deeply") from None

    # ***** objects *****

    def _object(self, value: ScriptObjectData) -> None:
        record = self.code.class_named(value.qualified_name)
        self.classes[record.qualified_name] = record
        if record.kind not in ("module", "class"):
            raise ArchiveError(f"an object of {value.qualified_name!r}, which is a {record.kind} and has no objects")
        if record.has_setstate:
            if not value.has_state:
                raise ArchiveError(f"an object of {value.qualified_name!r} has no state for __setstate__")
            self._attribute(record, "(state)", value.state, _state_type(record))
            return
        state = value.state if value.has_state else DictData()
        if type(state) is not DictData:
            raise ArchiveError(f"an object of {value.qualified_name!r} is filled with something that is no dict")
        for name, declared in record.attributes.items():
            if name not in state:
                raise ArchiveError(f"{value.qualified_name}: the attribute {name!r} is missing")
            self._attribute(record, name, state[name], declared)
        value.attributes = {name: state[name] for name in record.attributes}
        value.state, value.has_state = None, False

    def _attribute(self, record: ClassRecord, name: str, value: Value, declared: TypeExpr) -> None:
        wrong = self._mismatch(value, declared)
        if wrong is not None:
            where = f"{record.qualified_name}: the attribute {name + wrong[0]!r}"
            raise ArchiveError(f"{where} is declared {_short(declared)}, but it {wrong[1]}")
        self._settle(value, declared)

    def _settle(self, value: Value, type_: TypeExpr) -> None:
        """Give the lists and dicts of a value that passed as a type the types that they passed as.

        What the archive itself calls a list stays only where nothing else is declared: where a class occurs, the
        two may differ (see _agree), and only the declared one was compared with the elements.
        """
        kind = type(value)
        if kind not in _CONTAINERS or (id(value), type_) in self.settled:
            return
        self.settled.add((id(value), type_))
        if type_.name in ("Optional", "Union"):
            chosen = next(inner for inner in type_.args if self._mismatch(value, inner) is None)
            self._settle(value, chosen)
            return
        if kind is tuple:
            types = (ANY,) * len(value) if type_ == ANY else self._field_types(value, type_)
            for item, wanted in zip(value, types, strict=True):
                self._settle(item, wanted)
            return
        if type_ != ANY:
            value.type = type_
        element = value.type.args[-1] if value.type else ANY
        if element.name not in _SCALARS:
            for item in value if kind is ListData else value.values():
                self._settle(item, element)

    def _meet(self, value: ScriptObjectData) -> None:
        if id(value) not in self.seen:
            self.seen.add(id(value))
            self.waiting.append(value)

    def _spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise ArchiveError(f"checking the archive's values takes more than {self.limits.check_steps} steps")

    # ***** values *****

    def _mismatch(self, value: Value, type_: TypeExpr) -> Mismatch | None:
        """None if a value has a type, else where and why not. No container is compared twice with one type."""
        self._spend(1)
        if type(value) not in _CONTAINERS:
            return self._compare(value, type_)
        key = (id(value), type_)
        if key not in self.known:
            self.known[key] = self._compare(value, type_)
        return self.known[key]

    def _compare(self, value: Value, type_: TypeExpr) -> Mismatch | None:
        kinds = _SCALARS.get(type_.name)
        if kinds is not None:
            return None if type(value) in kinds else ("", f"is {_describe(value)}")
        name = type_.name
        if name in ("List", "Dict"):
            return self._container(value, type_)
        if name == "Tuple":
            return self._tuple(value, type_)
        if name == "Optional":
            return None if value is None else self._mismatch(value, type_.args[0])
        if name == "Union":
            return self._union(value, type_)
        if name == "Any":
            return self._untyped(value)
        if type_.is_class:
            return self._of_class(value, name)
        raise UnsupportedError(f"an attribute of the type {_short(type_)} is not supported")

    def _union(self, value: Value, type_: TypeExpr) -> Mismatch | None:
        if any(self._mismatch(value, alternative) is None for alternative in type_.args):
            return None
        return "", f"is {_describe(value)}"

    def _container(self, value: Value, type_: TypeExpr) -> Mismatch | None:
        if type(value) is not (ListData if type_.name == "List" else DictData):
            return "", f"is {_describe(value)}"
        if value.type is not None and not _agree(value.type, type_):
            return "", f"has the type {_short(value.type)}"
        parts = [value] if isinstance(value, ListData) else [list(value.keys()), list(value.values())]
        for items, wanted in zip(parts, type_.args, strict=True):
            wrong = self._each(items, wanted)
            if wrong is not None:
                return wrong
        return None

    def _each(self, found: Sequence[Value], wanted: TypeExpr) -> Mismatch | None:
        kinds = _SCALARS.get(wanted.name)
        if kinds is not None:
            self._spend(len(found) // 8)
            if set(map(type, found)) <= set(kinds):
                return None
        for index, item in enumerate(found):
            wrong = self._mismatch(item, wanted)
            if wrong is not None:
                return f"[{index}]{wrong[0]}", wrong[1]
        return None

    def _tuple(self, value: Value, type_: TypeExpr) -> Mismatch | None:
        if type(value) is not tuple:
            return "", f"is {_describe(value)}"
        wanted = self._field_types(value, type_)
        if len(value) != len(wanted):
            return "", f"has {len(value)} elements"
        for index, (item, type_) in enumerate(zip(value, wanted, strict=True)):
            wrong = self._mismatch(item, type_)
            if wrong is not None:
                return f"[{index}]{wrong[0]}", wrong[1]
        return None

    def _field_types(self, value: tuple[Value, ...], type_: TypeExpr) -> tuple[TypeExpr, ...]:
        """The types of a tuple's elements: of `Tuple[...]`, or of the fields of a NamedTuple."""
        if type_.is_class:
            return tuple(self.code.class_named(type_.name).attributes.values())
        if type_.args and type_.args[-1].name == "...":
            return type_.args[:1] * len(value)
        return type_.args

    def _of_class(self, value: Value, name: str) -> Mismatch | None:
        if name.startswith(_UNREAD):
            raise UnsupportedError(f"the C++ class {name.removeprefix(_UNREAD)} is not supported")
        record = self.code.class_named(name)
        if record.kind == "namedtuple":
            return self._tuple(value, TypeExpr(name))
        if record.kind == "enum":
            if type(value) is not EnumData or value.qualified_name != name:
                return "", f"is {_describe(value)}"
            return self._enum(value)
        if type(value) is not ScriptObjectData:
            return "", f"is {_describe(value)}"
        if record.kind in ("interface", "module_interface"):
            has = self.code.class_named(value.qualified_name).methods
            missing = [method for method in record.methods if method not in has]
            if missing:
                return "", f"is {_describe(value)}, which has no method {missing[0]!r}"
        elif value.qualified_name != name:
            return "", f"is {_describe(value)}"
        self._meet(value)
        return None

    def _enum(self, value: EnumData) -> Mismatch | None:
        record = self.code.class_named(value.qualified_name)
        for name, member in record.members.items():
            if member == value.value and type(member) is type(value.value):
                value.name = name
                return None
        return "", f"is {value.value!r}, which is no member of {value.qualified_name}"

    def _untyped(self, value: Value) -> Mismatch | None:
        """A value that nothing declares: its own lists and dicts must keep their own promises."""
        kind = type(value)
        if kind is ScriptObjectData:
            self._meet(value)
        elif kind is EnumData:
            return self._enum(value)
        elif kind is ListData or kind is DictData:
            if value.type is not None:
                return self._container(value, value.type)
            return self._each(value if kind is ListData else [*value.keys(), *value.values()], ANY)
        elif kind is tuple:
            return self._each(value, ANY)
        return None

    def _check_containment(self) -> None:
        """No class may hold objects of itself: the script language has no recursive types."""
        done: set[str] = set()
        for start in self.classes:
            path: list[tuple[str, list[str]]] = [(start, self._held(start))] if start not in done else []
            on_path = {start}
            while path:
                name, held = path[-1]
                if not held:
                    path.pop()
                    done.add(name)
                    on_path.discard(name)
                    continue
                inner = held.pop()
                if inner in on_path:
                    raise ArchiveError(f"the class {inner!r} contains itself")
                if inner not in done:
                    on_path.add(inner)
                    path.append((inner, self._held(inner)))

    def _held(self, name: str) -> list[str]:
        """The classes that the attributes of a class may hold."""
        record = self.code.class_named(name)
        types = [inner.name for declared in record.attributes.values() for inner in declared.walk()]
        if record.kind in ("interface", "module_interface", "enum"):
            return []
        return [found for found in types if found.startswith("__torch__.") and not found.startswith(_UNREAD)]


def _state_type(record: ClassRecord) -> TypeExpr:
    parameters = record.methods["__setstate__"].node.args.args
    if len(parameters) != 2:
        raise ArchiveError(f"{record.qualified_name}: __setstate__ must take one argument")
    if parameters[1].annotation is None:
        return TypeExpr("Tensor")
    try:
        return type_from_ast(parameters[1].annotation, record.file.source)
    except CompileError as problem:
        raise ArchiveError(str(problem)) from None


def _short(type_: TypeExpr) -> str:
    text = str(type_)
    return text if len(text) <= 200 else text[:200] + "..."


def _describe(value: Value) -> str:
    if isinstance(value, ScriptObjectData | EnumData):
        return f"an object of {value.qualified_name}"
    return _NAMES.get(type(value), type(value).__name__)


def _agree(tag: TypeExpr, declared: TypeExpr) -> bool:
    """Whether a list's own type and its declared one can be the same.

    Where a class or Any occurs the elements decide, as a NamedTuple is written both by name and as a Tuple.
    """
    if tag.name != declared.name:
        return False
    if any(inner.is_class or inner.name == "Any" for both in (tag, declared) for inner in both.walk()):
        return True
    return _normal(tag) == _normal(declared)


def _normal(type_: TypeExpr) -> object:
    if type_.name == "Optional":
        return _normal(TypeExpr("Union", (type_.args[0], TypeExpr("NoneType"))))
    if type_.name == "Union":
        return frozenset(_normal(inner) for inner in type_.args)
    return type_.name, tuple(_normal(inner) for inner in type_.args)


def refuse_root(root: Value) -> NoReturn:
    """Refuse an archive whose top value is no module."""
    raise ArchiveError(f"the archive's top value is {_describe(root)}, not a module")
