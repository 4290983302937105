"""What an archive holds besides its program: plain data, nothing executable.

A value is one of: None, bool, int (64 bits), float, complex, str, tuple, ListData, DictData, TensorData, DeviceData,
EnumData, ScriptObjectData. Sharing is kept: what the archive stores once is one Python object, so two attributes
that name the same list, object or tensor name it here too. There are no cycles, and nesting is bounded
(Limits.value_depth), so whoever walks a value may recurse.

Strings are bytes to TorchScript. They are decoded as UTF-8 with "surrogateescape"; bytes that are no UTF-8 become
lone surrogates, and `text.encode("utf-8", "surrogateescape")` gives the original bytes back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from stepwell.compiler.frontends.parser import TypeExpr
from stepwell.dialects.diagnostics import ArchiveError

Array = np.ndarray[Any, np.dtype[Any]]
Value = Any
"""One of the kinds of value listed above."""

STORAGES = {
    "ByteStorage": "uint8", "CharStorage": "int8", "ShortStorage": "int16", "IntStorage": "int32",
    "LongStorage": "int64", "HalfStorage": "float16", "FloatStorage": "float32", "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128", "BoolStorage": "bool",
    "BFloat16Storage": "bfloat16",
}  # fmt: skip
"""The class that archives name for a storage -> torch's name of the dtype."""


@cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of one of the names in STORAGES; bfloat16 comes from ml_dtypes, loaded only then."""
    if name == "bfloat16":
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found
    return np.dtype(name)


@dataclass(eq=False, slots=True)
class Storage:
    """The memory that one or several tensors look into.

    `key` is the record's name ("data/7") and its identity: tensors whose storages have the same key alias each
    other. `dtype` is torch's name, `numel` the number of elements, `device` where it was saved (or what
    map_location says), `mapped` whether the array is a view of the file. `read` gives the array and `mapped` where
    they are read later; told True, it keeps nothing of what it read.
    """

    key: str
    dtype: str
    numel: int
    device: str
    loaded: Array | None
    mapped: bool = False
    read: Callable[[bool], tuple[Array, bool]] | None = None

    @property
    def data(self) -> Array | None:
        """A read-only one-dimensional array of `numel` elements; None when the archive left the data out (only among
        traced inputs)."""
        if self.read is not None:
            self.loaded, self.mapped = self.read(False)
            self.read = None
        return self.loaded

    def once(self) -> Array | None:
        """`data`; where it is read later, for this one use."""
        return self.loaded if self.read is None else self.read(True)[0]


@dataclass(eq=False, slots=True)
class TensorData:
    """A tensor: a strided view of a storage, in elements, checked to lie inside it.

    Strides are never negative; a stride of 0 repeats, and overlapping views occur.
    """

    storage: Storage
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool = False

    @property
    def dtype(self) -> str:
        """torch's name of the element type."""
        return self.storage.dtype

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of `array`, which need not be read for it."""
        return numpy_dtype(self.storage.dtype)

    @property
    def array(self) -> Array:
        """A read-only numpy view, without a copy; ArchiveError when the archive left the data out."""
        return self._view(self.storage.data)

    def once(self) -> Array:
        """`array`; where its data is read later, it is read for this one use, and its memory goes with the array."""
        return self._view(self.storage.once())

    def _view(self, data: Array | None) -> Array:
        if data is None:
            raise ArchiveError(f"the archive does not hold the data of the tensor {self.storage.key!r}")
        item = data.dtype.itemsize
        steps = tuple(stride * item for stride in self.strides)
        raw = data.view(np.uint8).data if data.size else b""
        return np.ndarray(self.sizes, data.dtype, raw, self.offset * item, steps)


class ListData(list[Any]):
    """A list; `type` is its own type (`List[int]`), None until the attribute that holds it declares one."""

    __slots__ = ("type",)

    def __init__(self, items: Any = (), type: TypeExpr | None = None) -> None:
        super().__init__(items)
        self.type = type


class DictData(dict[Any, Any]):
    """A dict in insertion order; `type` as for ListData. Keys are scalars, strings, tensors (by identity), devices."""

    __slots__ = ("type",)

    def __init__(self, items: Any = (), type: TypeExpr | None = None) -> None:
        super().__init__(items)
        self.type = type


@dataclass(frozen=True, slots=True)
class DeviceData:
    """A device as its text: "cpu", "cuda:0"."""

    text: str


@dataclass(slots=True, unsafe_hash=True)
class EnumData:
    """A member of an Enum class: stored by value; `name` is found in the class when the archive is checked."""

    qualified_name: str
    value: int | float | str
    name: str | None = None


@dataclass(eq=False, slots=True)
class ScriptObjectData:
    """An instance of a class of the archive (a module or a plain script class).

    `attributes` are those that the class declares, in that order, of the declared types. Where the class defines
    `__setstate__`, the archive holds only a `state`: `has_state` is True, `attributes` is empty, and the front end
    runs `__setstate__(state)` to fill the object.
    """

    qualified_name: str
    attributes: dict[str, Value] = field(default_factory=dict)
    state: Value = None
    has_state: bool = False


@dataclass(eq=False, slots=True)
class UnsupportedData:
    """A stand-in, while unpickling, for what Stepwell does not read; an error if the archive's root reaches it."""

    what: str
