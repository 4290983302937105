"""A compiled variant: native code, which leaves of a call it takes, and how its results are rebuilt.

It is what the object cache keeps: everything here is bytes and JSON, loaded without xDSL.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stepwell.compiler.signature import Call

AttributePath = tuple[str, ...]
Input = tuple[str, tuple[Any, ...]]
"""("argument", position...) or ("state", path): one leaf of a call."""
Array = np.ndarray[Any, Any]


def leaf_positions(
    call: Call, arguments: int, state: Sequence[AttributePath]
) -> dict[tuple[str, tuple[Any, ...]], int]:
    """Where each array and number of a call lies among its leaves: ("argument", (1, 0)) or ("state", path)."""
    found: dict[tuple[str, tuple[Any, ...]], int] = {}
    for position, key in enumerate(call.key):
        if position < arguments:
            _number(key, "argument", (position,), found)
        else:
            _number(key, "state", state[position - arguments], found)
    return found


def _number(key: Any, kind: str, path: tuple[Any, ...], found: dict[tuple[str, tuple[Any, ...]], int]) -> None:
    if key in ("int", "float") or key[0] == "tensor":
        found[kind, path] = len(found)
    elif key[0] in ("tuple", "list"):
        for i, inner in enumerate(key[1:]):
            _number(inner, kind, (*path, i), found)
    elif key[0] == "dict":
        for name, inner in key[1:]:
            _number(inner, kind, (*path, name), found)


@dataclass
class Executable:
    """A variant in memory. `run` takes the selected leaves and gives the flat results in the contract's order."""

    run: Callable[[Sequence[Any]], Sequence[Any]]
    selection: tuple[int, ...]
    results: dict[str, Any]
    used_state: frozenset[AttributePath]
    inputs: tuple[Input, ...] = ()
    """What the selected leaves are, so that they are found again when the signature's state shrinks."""
    order: tuple[int, ...] | None = None
    native: Any = None
    interpreted: str | None = None
    """Why the variant runs in the interpreter; None for native code."""

    def rebound(self, call: Call, arguments: int, state: Sequence[AttributePath]) -> Executable:
        """The same code for calls whose signature has other state in it (but all that the code takes)."""
        positions = leaf_positions(call, arguments, state)
        return replace(self, selection=tuple(positions[i] for i in self.inputs))

    def __call__(self, leaves: Sequence[Any]) -> Sequence[Any]:
        values = self.run([leaves[i] for i in self.selection])
        return values if self.order is None else [values[i] for i in self.order]


@dataclass(frozen=True)
class Artifact:
    """What the cache holds of a variant: object codes with their layouts, and the metadata around them.

    parts: serialized objects by name ("forward", "prepare"). metadata: selection, results, used state, order.
    """

    parts: Mapping[str, bytes]
    metadata: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        header = json.dumps({"parts": {k: len(v) for k, v in self.parts.items()}, "metadata": self.metadata}).encode()
        return struct.pack("<Q", len(header)) + header + b"".join(self.parts.values())

    def with_metadata(self, **more: Any) -> Artifact:
        """The same objects with more said of them."""
        return Artifact(self.parts, {**self.metadata, **more})

    @staticmethod
    def from_bytes(data: bytes) -> Artifact:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        parts: dict[str, bytes] = {}
        offset = 8 + length
        for name, size in header["parts"].items():
            parts[name] = data[offset : offset + size]
            offset += size
        return Artifact(parts, header["metadata"])
