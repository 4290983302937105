"""Names of the arrays of a program.

A tensor of an object is called by the path to it ("encoder.0.weight"), the first path where several lead there;
one of an archive's code by its name there ("CONSTANTS.c0").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from stepwell.compiler.deferred import Attributes, Deferred, identity, peek
from stepwell.compiler.objects import ScriptFunction, ScriptObject

Array = np.ndarray[Any, np.dtype[Any]]


class Names:
    """Gives arrays names that are MLIR identifiers, each array object one, and each name once."""

    def __init__(self) -> None:
        self.by_name = Attributes()
        self._by_identity: dict[int, str] = {}

    def name(self, array: Array | Deferred, wish: str) -> str:
        """The name of an array: what it got first, else one made from `wish`."""
        found = self._by_identity.get(identity(array))
        if found is None:
            found = self._by_identity[identity(array)] = self._free(wish)
            self.by_name[found] = array
        return found

    def _free(self, wish: str) -> str:
        base = re.sub(r"[^\w$.]", "_", wish, flags=re.ASCII)
        base = base if re.match(r"[A-Za-z_]", base) else f"_{base}"
        found, number = base, 1
        while found in self.by_name:
            found, number = f"{base}.{number}", number + 1
        return found


def names_of(root: ScriptObject | ScriptFunction) -> Names:
    """The names of all arrays that a program is known to have: its objects' and its code's."""
    names = Names()
    if isinstance(root, ScriptObject):
        for path, array in _arrays(root, "", set()):
            names.name(array, path)
        environment: Any = root.cls.environment
    else:
        environment = root.environment
    for path, array in environment.arrays.items():
        names.name(array, path)
    return names


def _arrays(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Array | Deferred]]:
    if isinstance(value, (np.ndarray, Deferred)):
        yield path, value
        return
    if isinstance(value, ScriptObject):
        if id(value) in seen:
            return
        seen.add(id(value))
        parts: Mapping[Any, Any] = value.attributes
    elif isinstance(value, (list, tuple)):
        parts = dict(enumerate(value))
    elif isinstance(value, dict):
        parts = value
    else:
        return
    for key, inner in peek(parts):
        yield from _arrays(inner, f"{path}.{key}" if path else str(key), seen)
