"""What users hold: a loaded module or a scripted function, with torch.jit's habits.

m(x), m.forward(x), m.encode(x)       methods, by name
m.weight, m.encoder.layers            attributes and submodules
m.code, m.graph                       the source; the raw IR
m.stage("linalg"), m.profile(x)       the last variant called, looked at
"""

from __future__ import annotations

import ast
import copy
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from stepwell.compiler.arguments import Conversion, Mismatch, described, shown
from stepwell.compiler.descent import Showing
from stepwell.compiler.method import Method
from stepwell.compiler.objects import EnumMember, ScriptFunction, ScriptObject
from stepwell.compiler.results import member
from stepwell.compiler.session import Session
from stepwell.compiler.signature import is_torch_tensor, numpy_of
from stepwell.compiler.stages import Inspector
from stepwell.dialects.diagnostics import ArgumentError

LEVELS = ("raw", "torch", "linalg", "tile", "loops", "llvm", "ir", "asm", "gpu", "ptx", "cuda")
"""The levels that `stage` shows as text."""


class Callable_:
    """A method or function that compiles at its first call of a signature."""

    _kind = "function"

    def __init__(self, session: Session, method: Method) -> None:
        self._session, self._method = session, method

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._method(*arguments, **keywords)

    @property
    def _inspector(self) -> Inspector:
        return Inspector(self._session, self._method)

    @property
    def name(self) -> str:
        return self._method.function.node.name

    @property
    def code(self) -> str:
        """The source, as Python."""
        return ast.unparse(self._method.function.node)

    @property
    def graph(self) -> str:
        """The raw IR of the method and of all that it calls."""
        return self._inspector.raw()

    def stage(self, level: str) -> str:
        """The last variant called, at one of LEVELS: raw, torch, linalg, tile, loops, llvm, ir, asm, gpu, ptx, cuda.

        Raises RuntimeError before the first call, ValueError for a level that does not exist.
        """
        if level not in LEVELS:
            raise ValueError(f"no level is called {level!r}; there are {', '.join(LEVELS)}")
        made = self._inspector.of_last(level)
        assert isinstance(made, str)
        return made

    def emit(
        self,
        level: str,
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
        *,
        print_after: str = "",
        target: str = "",
        locations: bool = False,
        own_generic: bool = False,
    ) -> str | bytes:
        """A level for a call with these arguments, without running it; bytes for obj. `target` names a CPU
        (x86-64-v3) or, for gpu, ptx and cuda, a GPU (sm_90a); for the rest see `descent.Showing`."""
        showing = Showing(print_after, target, locations, own_generic)
        return self._inspector.of_call(level, arguments, keywords, showing)

    def profile(self, *arguments: Any, **keywords: Any) -> Any:
        """Time, bytes, flops and share of the machine's peak of every kernel of a call."""
        return self._inspector.profile(arguments, keywords)

    def describe_stages(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str:
        """A table of the levels for a call with these arguments."""
        return self._inspector.table(arguments, keywords)

    @property
    def statistics(self) -> Any:
        """Compilations, cache hits, interpreted calls and their reasons."""
        return self._method.statistics

    def signatures(self) -> list[str]:
        """The variants compiled so far."""
        return self._method.signatures()

    def __reduce__(self) -> NoReturn:
        _refuse_pickling(self.name)

    def __copy__(self) -> Callable_:
        return self

    def __deepcopy__(self, _: Any) -> Callable_:
        return self

    def __repr__(self) -> str:
        return f"<stepwell {self._kind} {self.name}({', '.join(self._method.names)})>"


class BoundMethod(Callable_):
    """A method of a module."""

    _kind = "method"


class ScriptedFunction(Callable_):
    """What `stepwell.script` makes of a function."""

    def __init__(self, session: Session, method: Method, original: Any = None) -> None:
        super().__init__(session, method)
        self.__wrapped__ = original
        self.__name__ = method.function.node.name
        self.__doc__ = getattr(original, "__doc__", None)


class ScriptModule:
    """A module: the root of a loaded archive, one of its submodules, or a scripted class's object."""

    def __init__(self, session: Session, value: ScriptObject) -> None:
        object.__setattr__(self, "_session", session)
        object.__setattr__(self, "_object", value)
        object.__setattr__(self, "_methods", {})

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.method(self._entry)(*arguments, **keywords)

    @property
    def _entry(self) -> str:
        """The method that a call of the object means."""
        methods = self._object.cls.methods
        return "__call__" if "__call__" in methods and "forward" not in methods else "forward"

    def method(self, name: str) -> BoundMethod:
        """A method by name. AttributeError names what there is."""
        found: BoundMethod | None = self._methods.get(name)
        if found is None:
            methods = self._object.cls.methods
            if name not in methods:
                raise AttributeError(f"{self.original_name} has no method {name!r}; it has {', '.join(methods)}")
            made = self._session.method(methods[name], self._object)
            found = self._methods[name] = BoundMethod(self._session, made)
        return found

    def __getattr__(self, name: str) -> Any:
        value: ScriptObject = object.__getattribute__(self, "_object")
        if name in value.attributes:
            return wrap(self._session, value.attributes[name])
        if name in value.cls.methods:
            return self.method(name)
        if name in value.cls.constants:
            return value.cls.constants[name]
        if name in value.cls.properties:
            return self.method(value.cls.properties[name][0])()
        raise AttributeError(f"{value.cls.short_name} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        cls = self._object.cls
        if name in cls.properties and cls.properties[name][1] is not None:
            self.method(cls.properties[name][1])(value)
            return
        if name not in self._object.attributes:
            raise AttributeError(f"{self.original_name} has no attribute {name!r}")
        self._object.attributes[name] = _attribute(self._object, name, value)
        self._session.forget()

    def __reduce__(self) -> NoReturn:
        _refuse_pickling(self.original_name)

    def __copy__(self) -> ScriptModule:
        return ScriptModule(self._session, self._object)

    def __deepcopy__(self, memo: dict[int, Any]) -> ScriptModule:
        """A module of its own: arrays, lists and objects are copied, classes and code shared."""
        return ScriptModule(self._session.like(root := copy.deepcopy(self._object, memo)), root)

    @property
    def original_name(self) -> str:
        """The class's name, without its path."""
        return str(self._object.cls.short_name)

    @property
    def code(self) -> str:
        """The source of forward."""
        return self.method(self._entry).code

    @property
    def graph(self) -> str:
        """The raw IR of forward."""
        return self.method(self._entry).graph

    def stage(self, level: str) -> str:
        """forward's last variant at a level."""
        return self.method(self._entry).stage(level)

    def profile(self, *arguments: Any, **keywords: Any) -> Any:
        """forward's kernels in a call."""
        return self.method(self._entry).profile(*arguments, **keywords)

    # ------ torch.nn.Module's habits

    def named_children(self) -> Iterator[tuple[str, ScriptModule]]:
        for name, value in self._object.attributes.items():
            if isinstance(value, ScriptObject) and value.cls.kind in ("module", self._object.cls.kind):
                yield name, ScriptModule(self._session, value)

    def children(self) -> Iterator[ScriptModule]:
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, ScriptModule]]:
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[ScriptModule]:
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        return self._named("parameters")

    def named_buffers(self) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        return self._named("buffers")

    def _named(self, kind: str) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        for path, module in self.named_modules():
            for name in getattr(module._object.cls, kind):
                value = module._object.attributes.get(name)
                if isinstance(value, np.ndarray):
                    yield f"{path}.{name}" if path else name, value

    def parameters(self) -> Iterator[np.ndarray[Any, Any]]:
        return (value for _, value in self.named_parameters())

    def buffers(self) -> Iterator[np.ndarray[Any, Any]]:
        return (value for _, value in self.named_buffers())

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """All parameters and buffers by their path."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def train(self, mode: bool = True) -> ScriptModule:
        """Set `training` of this module and all inside it."""
        for module in self.modules():
            if "training" in module._object.attributes:
                module._object.attributes["training"] = mode
        self._session.forget()
        return self

    def eval(self) -> ScriptModule:
        return self.train(False)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._object.attributes, *self._object.cls.methods]

    def __repr__(self) -> str:
        children = "".join("\n" + textwrap.indent(f"({n}): {c!r}", "  ") for n, c in self.named_children())
        return f"{self.original_name}({children}\n)" if children else f"{self.original_name}()"


def _attribute(owner: ScriptObject, name: str, value: Any) -> Any:
    """A value that is assigned from outside, as the declared type of the attribute has it."""
    if isinstance(value, ScriptModule):
        return value._object
    type_ = owner.cls.attributes.get(name)
    if type_ is None:
        return value
    try:
        found = Conversion(owner.cls.environment).to(type_, value)
    except Mismatch as problem:
        why = f" ({problem})" if str(problem) else ""
        what = f"{owner.cls.short_name}.{name} is {described(type_)}, not {shown(value)}{why}"
        raise ArgumentError(what, owner.cls.location, help=problem.help) from None
    return numpy_of(found) if is_torch_tensor(found) else found


def _refuse_pickling(name: str) -> NoReturn:
    raise TypeError(f"{name} holds compiled code and cannot be pickled; load or script it where it is needed")


def wrap(session: Session, value: Any) -> Any:
    """An attribute's value as users see it: objects become modules."""
    if isinstance(value, ScriptObject):
        return ScriptModule(session, value)
    if isinstance(value, EnumMember):
        return member(value.cls, value)
    if isinstance(value, (list, tuple)) and any(isinstance(v, ScriptObject) for v in value):
        return type(value)(wrap(session, v) for v in value)
    return value


__all__ = ["BoundMethod", "ScriptFunction", "ScriptModule", "ScriptedFunction", "wrap"]
