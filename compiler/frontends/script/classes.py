"""Python classes as script classes, and instances of them as script objects."""

from __future__ import annotations

import ast
import copy
import dataclasses
import enum
import inspect
import sys
import types
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from stepwell.compiler.frontends.parser.types import TypeExpr
from stepwell.compiler.frontends.script.environment import (
    CONSTANTS,
    PythonEnvironment,
    constant,
    script_function,
)
from stepwell.compiler.frontends.script.source import class_definition
from stepwell.compiler.method import stored_attributes
from stepwell.compiler.objects import Device, EnumMember, ScriptClass, ScriptFunction, ScriptObject
from stepwell.dialects.diagnostics import CompileError, Location, UnsupportedError

_CLASSES: dict[type, ScriptClass] = {}
_BY_NAME: dict[str, ScriptClass] = {}


def class_named(name: str) -> ScriptClass | None:
    """A class that has been scripted, by its qualified name."""
    return _BY_NAME.get(name)


def _register(name: str, cls: ScriptClass) -> ScriptClass:
    module, _, last = name.rpartition(".")
    number, free = 1, name
    while free in _BY_NAME:
        free, number = f"{module}.___torch_mangle_{number}.{last}", number + 1
    cls.name = free
    _BY_NAME[free] = cls
    return cls


def script_class(cls: type) -> ScriptClass:
    """The script class of a Python class, made once. CompileError names what cannot be scripted."""
    found = _CLASSES.get(cls)
    if found is None:
        name = f"__torch__.{cls.__module__}.{cls.__qualname__.replace('<locals>.', '')}"
        found = _CLASSES[cls] = _register(name, ScriptClass(name, "class", _environment(cls), python=cls))
        try:
            _fill(found, cls)
        except BaseException:
            del _CLASSES[cls], _BY_NAME[found.name]
            raise
    return found


def _environment(cls: type) -> PythonEnvironment:
    """The names around a class: its module's, and what its methods close over."""
    closure: dict[str, Any] = {cls.__name__: cls}
    for method in vars(cls).values():
        function = getattr(method, "__func__", method)
        for name, cell in zip(
            getattr(getattr(function, "__code__", None), "co_freevars", ()),
            getattr(function, "__closure__", None) or (),
            strict=False,
        ):
            try:
                closure.setdefault(name, cell.cell_contents)
            except ValueError:
                continue
    return PythonEnvironment(vars(sys.modules[cls.__module__]), closure)


def _fill(script: ScriptClass, cls: type) -> None:
    if issubclass(cls, enum.Enum):
        script.kind = "enum"
        script.members = {name: member.value for name, member in cls.__members__.items()}
        if not all(isinstance(v, (int, float, str)) for v in script.members.values()):
            raise UnsupportedError(f"members of {cls.__name__} are not numbers or strings")
    elif issubclass(cls, tuple) and hasattr(cls, "_fields"):
        _fill_named_tuple(script, cls)
    elif dataclasses.is_dataclass(cls):
        _fill_dataclass(script, cls)
    else:
        _fill_class(script, cls)


def _fill_named_tuple(script: ScriptClass, cls: Any) -> None:
    script.kind = "namedtuple"
    annotations = inspect.get_annotations(cls)
    for name in cls._fields:
        annotation = annotations.get(name)
        script.attributes[name] = _type(script, annotation) if annotation is not None else TypeExpr("Tensor")
    script.defaults = {name: constant(v) for name, v in cls._field_defaults.items()}


def _type(script: ScriptClass, annotation: Any) -> TypeExpr:
    environment = script.environment
    assert isinstance(environment, PythonEnvironment)
    return environment.of_object(annotation)


# ------ plain classes


def _fill_class(script: ScriptClass, cls: type) -> None:
    source, node = class_definition(cls)
    script.locate = partial(source.locate, node)
    for base in reversed(_bases(cls)):
        _fill_from(script, base)
    initialize = script.methods.get("__init__")
    if initialize is not None:
        for name, type_ in assigned_attributes(initialize):
            script.attributes.setdefault(name, type_)


def _bases(cls: type) -> list[type]:
    return [c for c in cls.__mro__ if c is not object and c.__module__ not in ("typing", "abc")]


def _fill_from(script: ScriptClass, base: type) -> None:
    """What one class of the inheritance chain defines."""
    annotations = inspect.get_annotations(base)
    for name, annotation in annotations.items():
        text = str(annotation)
        if name not in vars(base) or not ("Final" in text or "ClassVar" in text):
            script.attributes[name] = _type(script, annotation)
    for name, value in vars(base).items():
        if isinstance(value, (types.FunctionType, staticmethod, classmethod)):
            _add_method(script, name, value)
        elif isinstance(value, property):
            _add_property(script, name, value)
        elif not name.startswith("__") and name not in annotations and isinstance(value, CONSTANTS):
            script.constants[name] = constant(value)
        elif name in annotations and name not in script.attributes:
            script.constants[name] = constant(value)


def _add_method(script: ScriptClass, name: str, value: Any) -> None:
    if isinstance(value, classmethod):
        return
    function = inspect.unwrap(value.__func__ if isinstance(value, staticmethod) else value)
    script.methods[name] = script_function(function, script)


def _add_property(script: ScriptClass, name: str, value: property) -> None:
    getter, setter = f"__{name}_getter", f"__{name}_setter"
    assert value.fget is not None
    script.methods[getter] = _renamed(script_function(value.fget, script), getter)
    if value.fset is not None:
        script.methods[setter] = _renamed(script_function(value.fset, script), setter)
    script.properties[name] = (getter, setter if value.fset is not None else None)


def _renamed(function: ScriptFunction, name: str) -> ScriptFunction:
    """The same function as a method of another name: getter and setter of a property have one name in the source."""
    node = copy.copy(function.node)
    node.name = name
    return dataclasses.replace(function, name=f"{function.name.rpartition('.')[0]}.{name}", node=node)


def assigned_attributes(initialize: ScriptFunction) -> Iterator[tuple[str, TypeExpr]]:
    """The attributes that `__init__` assigns whose types its text tells: annotations, arguments, literals."""
    node = initialize.node
    formals = {a.arg: a.annotation for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
    own = node.args.args[0].arg if node.args.args else "self"
    for statement in ast.walk(node):
        if isinstance(statement, ast.AnnAssign) and _is_own(statement.target, own):
            assert isinstance(statement.target, ast.Attribute)
            yield statement.target.attr, initialize.environment.type_of(statement.annotation)
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1 and _is_own(statement.targets[0], own):
            target = statement.targets[0]
            assert isinstance(target, ast.Attribute)
            type_ = _told(statement.value, formals, initialize)
            if type_ is not None:
                yield target.attr, type_


def _is_own(target: ast.expr, own: str) -> bool:
    return isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == own


def _told(value: ast.expr, formals: dict[str, Any], function: ScriptFunction) -> TypeExpr | None:
    if isinstance(value, ast.Name) and value.id in formals:
        annotation = formals[value.id]
        return TypeExpr("Tensor") if annotation is None else function.environment.type_of(annotation)
    if isinstance(value, ast.Constant) and type(value.value) in (int, float, bool, str):
        return TypeExpr(type(value.value).__name__)
    return None


# ------ dataclasses


def _fill_dataclass(script: ScriptClass, cls: Any) -> None:
    """A dataclass: its fields, and an `__init__` written from them."""
    _fill_class(script, cls) if "__init__" not in vars(cls) else _fill_fields(script, cls)


def _fill_fields(script: ScriptClass, cls: Any) -> None:
    for base in reversed(_bases(cls)):
        for name, value in vars(base).items():
            if isinstance(value, types.FunctionType) and value.__code__.co_filename != "<string>":
                if not name.startswith("__") or name in _WRITTEN:
                    _add_method(script, name, value)
            elif isinstance(value, property):
                _add_property(script, name, value)
    fields = dataclasses.fields(cls)
    arguments, body, defaults = ["self"], [], {}
    for field in fields:
        script.attributes[field.name] = _type(script, field.type)
        if not field.init:
            continue
        arguments.append(field.name)
        body.append(f"  self.{field.name} = {field.name}\n")
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = constant(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = constant(field.default_factory())
    if "__post_init__" in script.methods:
        body.append("  self.__post_init__()\n")
    script.methods["__init__"] = _written(script, cls, arguments, "".join(body) or "  pass\n", defaults)


_WRITTEN = frozenset(
    "__post_init__ __call__ __len__ __getitem__ __setitem__ __contains__ __add__ __sub__ __mul__ __str__ __enter__ "
    "__exit__ __bool__ __lt__ __gt__".split()
)
"""Methods with underscores that the author of a dataclass writes."""


def _written(
    script: ScriptClass, cls: type, arguments: list[str], body: str, defaults: dict[str, Any]
) -> ScriptFunction:
    """An `__init__` whose arguments have the types of the fields."""
    node = ast.parse(f"def __init__({', '.join(arguments)}):\n{body}").body[0]
    assert isinstance(node, ast.FunctionDef)
    for argument in node.args.args[1:]:
        argument.annotation = ast.copy_location(_Declared(script.attributes[argument.arg]), argument)
    location = Location(inspect.getsourcefile(cls) or "<unknown>", _line(cls))
    environment = _FieldEnvironment(script.environment)
    return ScriptFunction(f"{script.name}.__init__", node, environment, lambda _: location, defaults, script)


def _line(cls: type) -> int:
    try:
        return inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return 1


class _Declared(ast.expr):
    """An annotation that is a type already."""

    _fields = ()

    def __init__(self, type_: TypeExpr) -> None:
        super().__init__()
        self.type = type_


class _FieldEnvironment(PythonEnvironment):
    """The environment of a class, in which annotations can be types."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment._names, environment._closure)

    def type_of(self, annotation: ast.expr) -> TypeExpr:
        return annotation.type if isinstance(annotation, _Declared) else super().type_of(annotation)


# ------ instances


def script_object(instance: Any) -> ScriptObject:
    """An instance as the object model has it. Arrays are shared, not copied; lists and dicts are copied."""
    return _Instances().object(instance)


_BUILTINS = ("bool", "int", "float", "str", "NoneType", "list", "tuple", "dict")
"""Python's own types of which attributes can be."""


class _Instances:
    """Converts instances, each once."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}
        self._kept: list[Any] = []

    def object(self, instance: Any) -> ScriptObject:
        found = self._done.get(id(instance))
        if found is None:
            cls = script_class(type(instance))
            found = self._done[id(instance)] = ScriptObject(cls)
            self._kept.append(instance)
            # What it has is seen here: `__init__`, which is free to be any Python, is not read for it.
            cls.remembered["__init__"] = cls.methods.get("__init__")
            for name, value in _state(instance).items():
                try:
                    self._attribute(found, name, value)
                except CompileError as error:
                    raise error.at(cls.location) from None
            if cls.kind == "class":
                _tell_parameters(found)
        assert isinstance(found, ScriptObject)
        return found

    def _attribute(self, owner: ScriptObject, name: str, value: Any) -> None:
        cls = owner.cls
        if type(value).__module__ == "builtins" and type(value).__name__ not in _BUILTINS:
            what = f"{cls.short_name}.{name} is of type {type(value).__name__}, which has no meaning in scripted code"
            raise UnsupportedError(what)
        converted = self.value(value)
        if name not in cls.attributes:
            cls.attributes[name] = inferred(converted, f"{cls.short_name}.{name}")
        owner.attributes[name] = _adapted(converted, cls.attributes[name])

    def value(self, value: Any) -> Any:
        """An attribute's value in the object model."""
        if isinstance(value, (list, tuple, dict)) and not hasattr(value, "_fields"):
            return self._container(value)
        if isinstance(value, tuple):
            return tuple(self.value(v) for v in value)
        if isinstance(value, enum.Enum):
            return EnumMember(script_class(type(value)), value.name)
        if value is None or isinstance(value, CONSTANTS):
            return constant(value) if not isinstance(value, np.ndarray) else value
        converted = constant(value)
        if converted is not value:
            self._kept.append(value)
            return self._done.setdefault(id(value), converted)
        inner = getattr(value, "_object", None)
        return inner if isinstance(inner, ScriptObject) else self.object(value)

    def _container(self, value: Any) -> Any:
        found = self._done.get(id(value))
        if found is None:
            if isinstance(value, dict):
                found = {k: self.value(v) for k, v in value.items()}
            else:
                found = type(value)(self.value(v) for v in value)
            self._done[id(value)] = found
            self._kept.append(value)
        return found


def _tell_parameters(value: ScriptObject) -> None:
    """Of a plain class's arrays, floating ones that no method assigns are parameters, the others buffers."""
    cls = value.cls
    assigned = {n for name, m in cls.methods.items() if name != "__init__" for n in stored_attributes(m)}
    arrays = {n: v for n, v in value.attributes.items() if isinstance(v, np.ndarray)}
    cls.parameters = tuple(n for n, v in arrays.items() if v.dtype.kind not in "iub" and n not in assigned)
    cls.buffers = tuple(n for n in arrays if n not in cls.parameters)


def _state(instance: Any) -> dict[str, Any]:
    if not hasattr(instance, "__dict__"):
        raise CompileError(f"a {type(instance).__name__} cannot be scripted")
    return dict(vars(instance))


def _adapted(value: Any, type_: TypeExpr) -> Any:
    """An int where a float is declared becomes one."""
    if type_.name == "float" and type(value) is int:
        return float(value)
    return value


_KINDS = {bool: "bool", int: "int", float: "float", str: "str", type(None): "NoneType", np.ndarray: "Tensor",
          Device: "Device"}  # fmt: skip


def inferred(value: Any, what: str) -> TypeExpr:
    """The type of a value without an annotation."""
    simple = _KINDS.get(type(value))
    if simple is not None:
        return TypeExpr(simple)
    if isinstance(value, ScriptObject):
        return TypeExpr(value.cls.name)
    if isinstance(value, EnumMember):
        return TypeExpr(value.cls.name)
    if isinstance(value, tuple):
        return TypeExpr("Tuple", tuple(inferred(v, what) for v in value))
    if isinstance(value, list):
        return TypeExpr("List", (_common(value, what),))
    if isinstance(value, dict):
        return TypeExpr("Dict", (_common(list(value), what), _common(list(value.values()), what)))
    raise CompileError(f"{what} holds a {type(value).__name__}, which has no type in scripted code")


def _common(values: list[Any], what: str) -> TypeExpr:
    found = list(dict.fromkeys(inferred(v, what) for v in values))
    if len(found) == 1:
        return found[0]
    if not found:
        raise CompileError(f"{what} is empty and has no annotation", help=f"annotate it: {what.rpartition('.')[2]}: list[int]")
    if len(found) == 2 and TypeExpr("NoneType") in found:
        return TypeExpr("Optional", (next(t for t in found if t.name != "NoneType"),))
    return TypeExpr("Union", tuple(found))
