"""The one contract with native code: the frame, an array of 8-byte slots that one call fills and reads.

`FrameLayout` says which slot holds what. The compiler writes it as JSON (attribute `host.layout` of a module at
the llvm level, entry of the object cache); nothing here knows positions by itself.
"""

from __future__ import annotations

import builtins
import ctypes
import json
import struct
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

VERSION = 1
ALIGNMENT = 64
"""Bytes: of frames, of arenas, of the arrays that are allocated for results."""

_OBJECT_HEAD = object.__basicsize__
_word_at = ctypes.c_size_t.from_address


@dataclass(frozen=True)
class Slot:
    """One argument or result of a native function.

    `kind`: input, state, output, constant, arena or result. `dtype`: numpy's name. `shape`: None for a number;
    else the sizes, -1 where only known at run time. `slot`: where the address or the number lies.
    `size_slots`: where the sizes that vary lie, in order. `formula`: for an output, each size as a number or as
    "argument.dimension" of an input.
    """

    name: str
    kind: str
    dtype: str = ""
    shape: tuple[int, ...] | None = None
    slot: int = -1
    size_slots: tuple[int, ...] = ()
    formula: tuple[int | str, ...] | None = None

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of the array or number."""
        return dtype_of(self.dtype)


@dataclass(frozen=True)
class RaiseSite:
    """What the k-th place that raises says: class, str.format text, types of the values, file:line:column."""

    exception: str
    message: str
    arguments: tuple[str, ...] = ()
    location: str | None = None

    def error(self, values: list[int]) -> Exception:
        """The exception, from the 8-byte values that the program left."""
        given = [_decode(kind, value) for kind, value in zip(self.arguments, values, strict=False)]
        error = exception_class(self.exception)(self.message.format(*given))
        if self.location:
            error.add_note(f"raised at {self.location}")
        return error


@dataclass(frozen=True)
class FrameLayout:
    """Everything that a caller must know about a native function. Equal to its JSON."""

    entry: str
    slots: int
    header: dict[str, int]
    arguments: tuple[Slot, ...]
    results: tuple[Slot, ...] = ()
    raises: tuple[RaiseSite, ...] = ()
    kernels: tuple[str, ...] = ()
    arena_bytes: int = 0
    parallel: bool = False
    structure: str | None = None
    text: str = field(default="", compare=False, repr=False)

    @staticmethod
    def from_json(text: str) -> FrameLayout:
        """Read what the compiler wrote. Raises ValueError where it is of another version."""
        data = json.loads(text)
        if data.get("version") != VERSION:
            raise ValueError(f"a frame layout of version {data.get('version')}, where {VERSION} is understood")
        return FrameLayout(
            entry=data["entry"],
            slots=data["slots"],
            header=data["header"],
            arguments=tuple(_slot(item) for item in data["arguments"]),
            results=tuple(
                _slot({"kind": "result", "name": f"result {i}", **item}) for i, item in enumerate(data["results"])
            ),
            raises=tuple(
                RaiseSite(r["exception"], r["message"], tuple(r["arguments"]), r["location"]) for r in data["raises"]
            ),
            kernels=tuple(data["kernels"]),
            arena_bytes=data["arena_bytes"],
            parallel=data["parallel"],
            structure=data["structure"],
            text=text,
        )

    def to_json(self) -> str:
        """The text that it was read from."""
        return self.text


def _slot(item: dict[str, Any]) -> Slot:
    shape, formula = item.get("shape"), item.get("formula")
    return Slot(
        item["name"],
        item["kind"],
        item.get("dtype", ""),
        tuple(shape) if shape is not None else None,
        item.get("slot", -1),
        tuple(item.get("size_slots", ())),
        tuple(formula) if formula is not None else None,
    )


def _decode(kind: str, value: int) -> int | float | bool:
    if kind == "float":
        return float(struct.unpack("<d", struct.pack("<q", value))[0])
    return bool(value) if kind == "bool" else value


@cache
def dtype_of(name: str) -> np.dtype[Any]:
    """A numpy dtype by name; bfloat16 is that of ml_dtypes."""
    scalar: Any = name
    if name == "bfloat16":
        import ml_dtypes

        scalar = ml_dtypes.bfloat16
    dtype: np.dtype[Any] = np.dtype(scalar)
    return dtype


EXCEPTIONS: dict[str, type[Exception]] = {}
"""The classes of exceptions that scripted programs name, by module and qualified name."""


def exception_class(name: str) -> type[Exception]:
    """Python's own class for `builtins.X`, the program's own one; for any other name, a RuntimeError of that name."""
    return EXCEPTIONS.get(name) or _exception_class(name)


@cache
def _exception_class(name: str) -> type[Exception]:
    module, _, plain = name.rpartition(".")
    found = getattr(builtins, plain, None) if module in ("", "builtins") else None
    if isinstance(found, type) and issubclass(found, Exception):
        return found
    return type(plain, (RuntimeError,), {"__module__": module or "builtins", "__qualname__": plain})


def _data_pointer_fast(array: np.ndarray[Any, Any]) -> int:
    return _word_at(id(array) + _OBJECT_HEAD).value


def _data_pointer_documented(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _probe() -> bool:
    """Whether an array keeps its address right after the object's head (it does in CPython: 8 times faster)."""
    samples = [np.zeros(n, np.uint8)[k:] for n, k in ((1, 0), (77, 3), (4096, 64))]
    return all(_data_pointer_fast(array) == _data_pointer_documented(array) for array in samples)


data_pointer = _data_pointer_fast if _probe() else _data_pointer_documented
"""The address of an array's first element."""


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array that begins at a multiple of 64 bytes, contents undefined."""
    count = dtype.itemsize
    for size in shape:
        count *= size
    block = np.empty(count + ALIGNMENT, np.uint8)
    return np.ndarray(shape, dtype, block, -data_pointer(block) & (ALIGNMENT - 1))


class Frame:
    """One frame's memory: `words`, `floats` and `singles` see the same slots as int64, float64 and float32."""

    def __init__(self, slots: int) -> None:
        self.memory = aligned_empty((slots,), np.dtype(np.int64))
        self.memory[:] = 0
        self.address = data_pointer(self.memory)
        bytes_view = self.memory.data.cast("B")
        self.words = bytes_view.cast("q")
        self.floats = bytes_view.cast("d")
        self.singles = bytes_view.cast("f")
