"""Scripted Python: functions and classes, read from their source, become the object model.

    scripted(f)      a function: a ScriptedFunction
    scripted(C)      a class: makes objects that are ScriptModules, and names the class in scripted code
    scripted(obj)    an instance: a ScriptModule that shares its arrays (a torch.nn.Module's tensors)
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from stepwell.compiler.frontends.script.torch_modules import is_of_torch, module_of_torch
from stepwell.dialects.diagnostics import CompileError


def scripted(obj: Any = None) -> Any:
    """Script a function, a class or an instance. Raises CompileError where the source cannot be had or read."""
    from stepwell.compiler.module import Callable_, ScriptModule

    if obj is None:
        return scripted
    if isinstance(obj, (Callable_, ScriptModule, ScriptedClass)):
        return obj
    if is_of_torch(obj):
        return module_of_torch(obj)
    if isinstance(obj, type):
        return ScriptedClass(obj)
    if isinstance(obj, types.FunctionType):
        return _function(obj)
    if isinstance(obj, (types.BuiltinFunctionType, types.MethodType)):
        raise CompileError(f"{obj!r} cannot be scripted", help="script a function that calls it, or the whole object")
    if type(obj).__module__ == "builtins" or not hasattr(obj, "__dict__"):
        what = f"{'an' if type(obj).__name__[0] in 'aeiou' else 'a'} {type(obj).__name__}"
        raise CompileError(f"{what} cannot be scripted", help="give a function, a class, or an object of a class")
    return module_of(obj)


def _function(function: Callable[..., Any]) -> Any:
    from stepwell.compiler.frontends.script.environment import script_function
    from stepwell.compiler.module import ScriptedFunction
    from stepwell.compiler.session import Session

    session = Session(None)
    return ScriptedFunction(session, session.method(script_function(function), None), function)


def module_of(instance: Any) -> Any:
    """An instance of a class as a ScriptModule."""
    from stepwell.compiler.frontends.script.classes import script_object
    from stepwell.compiler.module import ScriptModule
    from stepwell.compiler.session import Session

    root = script_object(instance)
    return ScriptModule(Session(root), root)


class ScriptedClass:
    """A class whose objects are ScriptModules: `__init__` runs as plain Python, the methods are compiled."""

    def __init__(self, cls: type) -> None:
        self.__stepwell_class__ = cls
        self.__name__, self.__doc__, self.__module__ = cls.__name__, cls.__doc__, cls.__module__

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return module_of(self.__stepwell_class__(*arguments, **keywords))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["__stepwell_class__"], name)

    def __repr__(self) -> str:
        return f"<stepwell class {self.__name__}>"
