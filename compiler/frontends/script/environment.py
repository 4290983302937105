"""The free names of scripted Python: globals, closures and builtins, snapshot when the code is compiled."""

from __future__ import annotations

import ast
import builtins
import enum
import inspect
import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stepwell.compiler.frontends.language.names import Builtin, Literal, Namespace, OpName
from stepwell.compiler.frontends.parser.types import TypeExpr
from stepwell.compiler.frontends.script import library
from stepwell.compiler.frontends.script.annotations import NOT_FOUND, Annotations
from stepwell.compiler.frontends.script.source import function_definition
from stepwell.compiler.objects import Device, EnumMember, ScriptClass, ScriptFunction
from stepwell.dialects import dtypes
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.dtypes import DType
from stepwell.runtime.abi import EXCEPTIONS

_FUNCTIONS: dict[Any, ScriptFunction] = {}
"""Scripted functions by the Python function."""

CONSTANTS = (bool, int, float, str, tuple, list, dict, np.ndarray, np.generic, DType)


class PythonEnvironment:
    """The names that a function or class body sees: its globals and what it closes over."""

    python = True

    def __init__(self, names: Mapping[str, Any], closure: Mapping[str, Any] | None = None) -> None:
        self._names, self._closure = names, closure or {}
        self._annotations = Annotations(self.find, _class_name)

    @property
    def arrays(self) -> Mapping[str, Any]:
        """None by number: captured arrays are named as they occur."""
        return {}

    def find(self, name: str) -> Any:
        """The Python object of a name, or NOT_FOUND."""
        for names in (self._closure, self._names):
            if name in names:
                return names[name]
        return getattr(builtins, name, NOT_FOUND)

    def lookup(self, name: str) -> Any:
        found = self.find(name)
        if found is NOT_FOUND or (found is getattr(builtins, name, NOT_FOUND) and not _is_exception(found)):
            return None
        meaning = meaning_of(found)
        if meaning is None:
            raise UnsupportedError(f"{name} is of type {type(found).__name__}, which has no meaning in scripted code")
        return meaning

    def attribute(self, namespace: str, name: str) -> Any:
        if namespace == "math":
            return library.math_attribute(name)
        if not namespace.startswith("python:"):
            return library.torch_attribute(namespace, name)
        module = _MODULES[namespace]
        found = getattr(module, name, NOT_FOUND)
        return None if found is NOT_FOUND else meaning_of(found)

    def type_of(self, annotation: ast.expr) -> TypeExpr:
        return self._annotations.read(annotation)

    def of_object(self, thing: Any) -> TypeExpr:
        """The type expression of a Python type object."""
        return self._annotations.of_object(thing)

    def class_named(self, name: str) -> ScriptClass | None:
        from stepwell.compiler.frontends.script.classes import class_named

        return class_named(name)

    def replacement(self, op: str, overload: str) -> ScriptFunction | None:
        return None


def _class_name(cls: type) -> str:
    from stepwell.compiler.frontends.script.classes import script_class

    return script_class(cls).name


def _is_exception(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)


# ------ what Python objects mean


_MODULES: dict[str, types.ModuleType] = {}


def meaning_of(thing: Any) -> Any:
    """The meaning of a Python object that scripted code names; None if it has none there."""
    if isinstance(thing, types.ModuleType):
        return _module(thing)
    own = getattr(thing, "__dict__", {})
    if "__stepwell_op__" in own:
        return OpName(own["__stepwell_op__"])
    if "__stepwell_namespace__" in own:
        return Namespace(own["__stepwell_namespace__"])
    if isinstance(thing, enum.Enum):
        from stepwell.compiler.frontends.script.classes import script_class

        return Literal(EnumMember(script_class(type(thing)), thing.name))
    if thing is None or isinstance(thing, CONSTANTS):
        return Literal(constant(thing))
    if isinstance(thing, type):
        return _class(thing)
    script = getattr(thing, "__stepwell_class__", None)
    if script is not None:
        from stepwell.compiler.frontends.script.classes import script_class

        return script_class(script)
    if callable(thing):
        return _callable(thing)
    return _foreign(thing)


def constant(value: Any) -> Any:
    """A Python constant as the object model has it: torch's dtypes, devices and tensors become ours."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(constant(v) for v in value)
    if isinstance(value, dict):
        return {k: constant(v) for k, v in value.items()}
    if value is None or isinstance(value, CONSTANTS):
        return value
    found = meaning_of(value)
    return found.value if isinstance(found, Literal) else value


def _module(module: types.ModuleType) -> Any:
    name = module.__name__
    if name in ("torch", "stepwell"):
        return Namespace("torch")
    if name == "math":
        return Namespace("math")
    if name.split(".")[0] == "torch":
        return Namespace(name if name != "torch.functional" else "torch")
    _MODULES[f"python:{name}"] = module
    return Namespace(f"python:{name}")


_TYPES = {"int": "int", "float": "float", "bool": "bool", "str": "str", "list": "list", "dict": "dict",
          "tuple": "tuple", "OrderedDict": "OrderedDict"}  # fmt: skip


def _class(cls: type) -> Any:
    from stepwell.compiler.frontends.script.classes import script_class

    if issubclass(cls, BaseException):
        if cls.__module__ != "builtins" and issubclass(cls, Exception):
            EXCEPTIONS[f"{cls.__module__}.{cls.__qualname__}"] = cls
        return Namespace(f"{cls.__module__}.{cls.__qualname__}")
    if issubclass(cls, np.generic):
        return Literal(dtypes.from_numpy(np.dtype(cls)))
    if cls.__module__ in ("builtins", "collections"):
        return Builtin(_TYPES[cls.__name__]) if cls.__name__ in _TYPES else None
    if cls.__module__.split(".")[0] == "torch":
        return library.torch_attribute("torch", cls.__name__)
    return script_class(cls)


def _callable(thing: Any) -> Any:
    method = getattr(thing, "_method", None)
    if method is not None and isinstance(getattr(method, "function", None), ScriptFunction):
        return method.function
    module = getattr(thing, "__module__", None) or getattr(getattr(thing, "__self__", None), "__name__", "") or ""
    name = getattr(thing, "__name__", "")
    if module == "math" or (module == "" and getattr(math, name, None) is thing):
        return OpName(f"aten::{name}")
    if module.split(".")[0] == "torch" or type(thing).__module__.split(".")[0] == "torch":
        return _of_torch(module, name)
    unwrapped = inspect.unwrap(thing)
    if isinstance(unwrapped, types.FunctionType):
        return script_function(unwrapped)
    if isinstance(thing, types.BuiltinFunctionType):
        return Builtin(name)
    return None


def _of_torch(module: str, name: str) -> Any:
    if module.startswith("torch.nn") or module == "torch._C._nn":
        return library.functional(name)
    if module.startswith("torch.jit"):
        return library.torch_attribute("torch.jit", name)
    if name.startswith(("linalg_", "fft_", "special_")):
        return OpName(f"aten::{name}")
    return library.torch_attribute("torch", name)


def _foreign(thing: Any) -> Any:
    """torch's own constants, by the names of their types; torch is not imported for it."""
    module, name = type(thing).__module__.split(".")[0], type(thing).__name__
    if module == "torch" and name == "dtype":
        return Literal(dtypes.BY_NAME[str(thing).removeprefix("torch.")])
    if module == "torch" and name == "device":
        return Literal(Device(str(thing)))
    if module == "torch" and name in ("layout", "memory_format"):
        return library.torch_attribute("torch", str(thing).removeprefix("torch."))
    if module == "torch" and hasattr(thing, "detach"):
        return Literal(thing.detach().numpy())
    if isinstance(thing, np.dtype):
        return Literal(dtypes.from_numpy(thing))
    return None


# ------ functions


def script_function(function: Callable[..., Any], owner: ScriptClass | None = None) -> ScriptFunction:
    """The source record of a Python function (a method, if `owner` is given), made once."""
    key = (function, owner) if owner is not None else function
    found = _FUNCTIONS.get(key)
    if found is None:
        source, node = function_definition(function)
        static = owner is not None and any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
        prefix = owner.name if owner is not None else f"__torch__.{function.__module__}"
        name = node.name if owner is not None else function.__qualname__.replace("<locals>.", "")
        found = _FUNCTIONS[key] = ScriptFunction(
            f"{prefix}.{name}", node, environment_of(function), source.locate, _defaults(function), owner, static
        )
    return found


def environment_of(function: Callable[..., Any]) -> PythonEnvironment:
    """What the names in a function mean; a closure's cells are read when a name is looked up."""
    closure = getattr(function, "__closure__", None) or ()
    names = function.__code__.co_freevars
    return PythonEnvironment(function.__globals__, _Cells(dict(zip(names, closure, strict=True))))


class _Cells(dict[str, Any]):
    """Names to the contents of closure cells; empty cells have no name."""

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name).cell_contents

    def __contains__(self, name: object) -> bool:
        if not super().__contains__(name):
            return False
        try:
            super().__getitem__(name).cell_contents  # type: ignore[index]  # noqa: B018
        except ValueError:
            return False
        return True


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: constant(p.default) for p in parameters if p.default is not p.empty}
