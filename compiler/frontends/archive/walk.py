"""One look over what a pickle built, before anybody else walks it: no cycles, bounded depth, only data.

This is also where quantized tensors and other things that Stepwell does not read become errors, because only here the
attribute that holds them has a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stepwell.compiler.frontends.archive.limits import Limits
from stepwell.compiler.frontends.archive.values import (
    DeviceData,
    DictData,
    EnumData,
    ListData,
    ScriptObjectData,
    TensorData,
    UnsupportedData,
    Value,
)
from stepwell.dialects.diagnostics import ArchiveError, UnsupportedError

_LEAVES = frozenset({type(None), bool, int, float, complex, str, TensorData, DeviceData, EnumData})
_SCALARS = frozenset({bool, int, float, complex, str, DeviceData})


def check_shape(root: Value, record: str, limits: Limits) -> None:
    """Raise ArchiveError for a cycle, too deep nesting or a leftover of the unpickler; UnsupportedError, naming the
    path of attributes, for what Stepwell does not read. Visits every container once.
    """
    heights: dict[int, int] = {}
    open_ids: set[int] = set()
    stack: list[tuple[Any, Iterator[tuple[object, Value]], object]] = []
    stack.append((None, iter([("", root)]), ""))
    tallest = [0]
    while stack:
        container, children, _ = stack[-1]
        for label, child in children:
            kind = type(child)
            if kind in _LEAVES:
                continue
            height = heights.get(id(child))
            if height is None:
                if id(child) in open_ids:
                    path = _path(stack, label)
                    raise ArchiveError(f"the pickle {record!r} holds a value that contains itself: {path}")
                open_ids.add(id(child))
                stack.append((child, _children(child, record, stack, label), label))
                tallest.append(0)
                height = 0
                entered = True
            else:
                tallest[-1] = max(tallest[-1], height)
                entered = False
            if len(stack) + height > limits.value_depth:
                raise ArchiveError(f"the pickle {record!r} nests values more than {limits.value_depth} deep")
            if entered:
                break
        else:
            stack.pop()
            done = tallest.pop() + 1
            if stack:
                open_ids.discard(id(container))
                heights[id(container)] = done
                tallest[-1] = max(tallest[-1], done)


def _children(
    value: Value, record: str, stack: list[tuple[Any, Iterator[tuple[object, Value]], object]], label: object
) -> Iterator[tuple[object, Value]]:
    """The values inside one, with the labels that a path shows."""
    kind = type(value)
    if kind is ScriptObjectData:
        if type(value.state) is DictData:
            return iter(list(value.state.items()))
        return iter([("state", value.state)])
    if kind is DictData:
        return ((_Key(key), item) for key, item in value.items())
    if kind is tuple or kind is ListData:
        if len(value) > 64 and set(map(type, value)) <= _SCALARS:
            return iter(())
        return ((_Key(index), item) for index, item in enumerate(value))
    path = _path(stack, label)
    if kind is UnsupportedData:
        raise UnsupportedError(f"{path} is {value.what}, which is not supported")
    raise ArchiveError(f"the pickle {record!r} leaves a {kind.__name__.lower()} where {path} should be a value")


class _Key:
    """A label in brackets, made only when an error shows it."""

    __slots__ = ("key",)

    def __init__(self, key: object) -> None:
        self.key = key

    def __str__(self) -> str:
        return f"[{self.key!r}]" if isinstance(self.key, str | int) else "[...]"


def _path(stack: list[tuple[Any, Iterator[tuple[object, Value]], object]], label: object) -> str:
    """`self.layers.0.weight` for a value of data.pkl."""
    text = "self"
    for part in [entry[2] for entry in stack[1:]] + [label]:
        if part != "":
            text += str(part) if isinstance(part, _Key) else f".{part}"
    return text[:500]
