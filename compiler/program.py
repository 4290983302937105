"""`Program`: a module at some level, and the data that its text does not hold.

program = Program(module, Resources({"weight": array}))
print(program.text())                          # MLIR, readable by mlir-opt
program = Program.from_text(text, resources)   # and back, at any level
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp, StringAttr

from stepwell.compiler.deferred import Attributes, Deferred, identity, peek
from stepwell.dialects.diagnostics import CompileError, Location
from stepwell.dialects.levels import BY_NAME, Level
from stepwell.dialects.text import parse, print_text

if TYPE_CHECKING:
    from xdsl.utils.exceptions import ParseError

Array = np.ndarray[Any, Any]

LEVEL = "stepwell.level"
"""The module attribute that names the level, so that a text says by itself where it stands."""


class Resources(Mapping[str, Array]):
    """The arrays behind `dense_resource<name>` constants. Nothing is copied: an array may be a mapped file, or one that
    is not read before somebody asks for it."""

    def __init__(self, arrays: Mapping[str, Array] | None = None) -> None:
        self._arrays = Attributes(peek(arrays or {}))
        self._names: dict[int, str] = {identity(array): name for name, array in self._arrays.peek()}

    def __getitem__(self, name: str) -> Array:
        array: Array = self._arrays[name]
        return array

    def held(self, name: str) -> Array | Deferred:
        """An array as it is, not read for it. Raises KeyError."""
        found: Array | Deferred = self._arrays.held(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def add(self, array: Array, name: str = "constant") -> str:
        """The name under which an array is kept: `name`, or one made from it; one array has one name."""
        known = self._names.get(identity(array))
        if known is not None:
            return known
        unique, count = name, 0
        while unique in self._arrays:
            count += 1
            unique = f"{name}_{count}"
        self._arrays[unique] = array
        self._names[identity(array)] = unique
        return unique

    def __repr__(self) -> str:
        total = sum(array.nbytes for _, array in self._arrays.peek())
        return f"<{len(self)} resources, {total} bytes>"


@dataclass
class Program:
    """A module, its resources, and what is known of its entry beyond the IR (`metadata`: plain data)."""

    module: ModuleOp
    resources: Resources = field(default_factory=Resources)
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def level(self) -> Level | None:
        """The level that the module was last checked for; None where it does not say."""
        name = self.module.attributes.get(LEVEL)
        return BY_NAME.get(name.data) if isinstance(name, StringAttr) else None

    def mark(self, level: Level) -> None:
        """Say in the module which level it has reached."""
        self.module.attributes[LEVEL] = StringAttr(level.name)

    def copy(self) -> Program:
        """Another module; the same resources."""
        return Program(self.module.clone(), self.resources, dict(self.metadata))

    def text(self, *, locations: bool = False, generic: bool = False, own_generic: bool = False) -> str:
        """The module as MLIR; with `own_generic` as `mlir-opt --allow-unregistered-dialect` reads it."""
        return print_text(self.module, locations=locations, generic=generic, own_generic=own_generic) + "\n"

    @staticmethod
    def from_text(text: str, resources: Mapping[str, Array] | None = None, name: str = "<text>") -> Program:
        """Read a module of any level. Raises CompileError, with xDSL's explanation, where it is no valid text."""
        from xdsl.utils.exceptions import ParseError, VerifyException

        try:
            module = parse(text, name)
            module.verify()
        except ParseError as error:
            raise CompileError(error.msg, _place(error, name)) from error
        except VerifyException as error:
            raise CompileError(f"{name}: {_cut(str(error))}") from error
        except Exception as error:
            # xDSL checks much by assertions and by the exceptions of the Python that it is written in.
            reason = _cut(f"{type(error).__name__}: {error}".rstrip(": "))
            raise CompileError(f"{name}: this is no valid module; reading it stopped with {reason}") from error
        return Program(module, resources if isinstance(resources, Resources) else Resources(resources))


def _place(error: ParseError, name: str) -> Location:
    """Where a text could not be read: file, line and column, with the words around it."""
    content, start = error.span.input.content, error.span.start
    text = content if isinstance(content, str) else content.decode("utf-8", "replace")
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", start)
    line = text[first : last if last >= 0 else len(text)]
    column = start - first
    shown = max(0, column - 60)
    return Location(name, text.count("\n", 0, start) + 1, min(column, 60), line[shown : shown + 120])


def _cut(text: str, limit: int = 2000) -> str:
    """An explanation that may hold a whole module, its beginning."""
    return text if len(text) <= limit else f"{text[:limit]} ..."
