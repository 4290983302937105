"""Arrays of an archive are read-only views of its file; a program that the interpreter runs may write them in place.

Then all of them become copies that can be written, once. What shares memory goes on sharing it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from stepwell.compiler.objects import ScriptObject

Array = np.ndarray[Any, np.dtype[Any]]


def make_writable(root: ScriptObject) -> bool:
    """Replace every read-only array in the attributes of an object and all inside it; True if there was one."""
    found = {id(array): array for array in _read_only(root, set())}
    if not found:
        return False
    copies = _copies(list(found.values()))
    _replace(root, dict(zip(found, copies, strict=True)), set())
    return True


def _read_only(value: Any, seen: set[int]) -> Iterator[Array]:
    if isinstance(value, np.ndarray):
        if not value.flags.writeable:
            yield value
    elif isinstance(value, ScriptObject):
        if id(value) not in seen:
            seen.add(id(value))
            for inner in value.attributes.values():
                yield from _read_only(inner, seen)
    elif isinstance(value, (list, tuple, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _read_only(inner, seen)


def _copies(arrays: list[Array]) -> list[Array]:
    """Copies of the arrays; those that overlap in memory are views of one copy of all the bytes between them."""
    bounds = [byte_bounds(array) for array in arrays]
    order = sorted(range(len(arrays)), key=lambda i: bounds[i])
    made: dict[int, Array] = {}
    start = 0
    while start < len(order):
        first, last = bounds[order[start]]
        end = start + 1
        while end < len(order) and bounds[order[end]][0] < last:
            last = max(last, bounds[order[end]][1])
            end += 1
        memory = np.empty(last - first, np.uint8)
        for i in order[start:end]:
            offset = arrays[i].__array_interface__["data"][0] - first
            made[i] = np.ndarray(arrays[i].shape, arrays[i].dtype, memory, offset, arrays[i].strides)
            made[i][...] = arrays[i]
        start = end
    return [made[i] for i in range(len(arrays))]


def _replace(value: Any, copies: dict[int, Array], seen: set[int]) -> Any:
    """The value with the copies in place of the arrays; objects, lists and dicts stay the same ones."""
    if id(value) in copies:
        return copies[id(value)]
    if isinstance(value, tuple):
        parts = [_replace(inner, copies, seen) for inner in value]
        changed = any(new is not old for new, old in zip(parts, value, strict=True))
        return tuple.__new__(type(value), parts) if changed else value
    if isinstance(value, ScriptObject):
        if id(value) not in seen:
            seen.add(id(value))
            _replace_in(value.attributes, copies, seen)
    elif isinstance(value, dict):
        _replace_in(value, copies, seen)
    elif isinstance(value, list):
        value[:] = [_replace(inner, copies, seen) for inner in value]
    return value


def _replace_in(table: dict[Any, Any], copies: dict[int, Array], seen: set[int]) -> None:
    for key, inner in table.items():
        table[key] = _replace(inner, copies, seen)
