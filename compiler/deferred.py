"""Arrays of an archive that are read when somebody looks at them.

A compilation needs dtype and sizes of the weights; their values are needed while they are packed, a few at a time, and
not at all where packed weights are in the cache. The attributes of the archive's objects are `Attributes`: a dict like
any other to whoever asks for a value, with `Deferred` arrays inside, of which dtype and sizes are known at once.
"""

from __future__ import annotations

import threading
from collections.abc import ItemsView, Iterator, Mapping
from math import prod
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_reading = threading.Lock()


class Tensor(Protocol):
    """What an archive knows of a tensor before its data is read."""

    @property
    def numpy_dtype(self) -> np.dtype[Any]: ...

    @property
    def sizes(self) -> tuple[int, ...]: ...

    @property
    def strides(self) -> tuple[int, ...]:
        """In elements."""

    @property
    def array(self) -> Array:
        """Reads the data."""

    def once(self) -> Array:
        """Reads the data, and keeps nothing of it."""


class Deferred:
    """An array that is not read yet. Several attributes may hold it: they get the same array."""

    def __init__(self, tensor: Tensor) -> None:
        self.dtype, self.shape = tensor.numpy_dtype, tensor.sizes
        self.strides = tuple(step * self.dtype.itemsize for step in tensor.strides)
        self.nbytes = self.dtype.itemsize * prod(self.shape)
        self._tensor: Tensor | None = tensor
        self._array: Array | None = None

    def array(self) -> Array:
        """The array, read at the first call. Raises ArchiveError where the file is damaged, or was written meanwhile."""
        with _reading:
            if self._array is None:
                assert self._tensor is not None
                self._array, self._tensor = self._tensor.array, None
            return self._array

    def once(self) -> Array:
        """`array`, for one use: where it is not read yet, it is read, and its memory goes with the result."""
        with _reading:
            if self._array is not None:
                return self._array
            assert self._tensor is not None
            return self._tensor.once()

    @property
    def identity(self) -> int:
        """The id of the array, or this one's as long as there is none."""
        return id(self if self._array is None else self._array)


class Attributes(dict[str, Any]):
    """Attributes of an object by name. Whatever gives values gives arrays; `peek` alone shows what is still deferred."""

    def peek(self) -> ItemsView[str, Any]:
        """Names and values as they are, nothing read."""
        return super().items()

    def held(self, name: str) -> Any:
        """The value of a name as it is, nothing read."""
        return super().__getitem__(name)

    def _read(self) -> None:
        for name, value in super().items():
            if type(value) is Deferred:
                self[name] = value.array()

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if type(value) is Deferred:
            value = self[name] = value.array()
        return value

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default

    def __iter__(self) -> Iterator[str]:  # overridden, so that dict(attributes) goes through __getitem__
        return super().__iter__()

    def values(self) -> Any:
        self._read()
        return super().values()

    def items(self) -> Any:
        self._read()
        return super().items()

    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    def pop(self, name: str, *default: Any) -> Any:
        if name in self:
            self[name]
        return super().pop(name, *default)

    def popitem(self) -> tuple[str, Any]:
        self._read()
        return super().popitem()

    def setdefault(self, name: str, default: Any = None) -> Any:
        super().setdefault(name, default)
        return self[name]

    def __eq__(self, other: object) -> bool:
        self._read()
        return super().__eq__(other)

    __hash__ = None


def peek(attributes: Mapping[str, Any]) -> ItemsView[str, Any]:
    """Names and values of attributes, of which nothing is read for it: an array may be `Deferred`."""
    return attributes.peek() if isinstance(attributes, Attributes) else attributes.items()


def held(attributes: Mapping[str, Any], name: str) -> Any:
    """The value of one attribute, of which nothing is read for it. Raises KeyError."""
    return attributes.held(name) if isinstance(attributes, Attributes) else attributes[name]


def identity(array: Array | Deferred) -> int:
    """Equal for what is one array: before it is read, and after."""
    return array.identity if type(array) is Deferred else id(array)
