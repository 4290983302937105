"""Memory of results, which is used again as soon as nobody holds the arrays in it.

A large array that is freed goes back to the system, and a new one costs a fault for every page that is written first:
for the caches that a language model gives with every token, more than copying them.

    blocks = Blocks(3)                        # no more than 3 blocks wait
    array = blocks.array((1000, 1000), np.dtype(np.float32))
    del array                                 # with its last view, the block waits for the next array
"""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any

import numpy as np

from stepwell.runtime.abi import ALIGNMENT, data_pointer

Array = np.ndarray[Any, Any]

SMALLEST = 64 << 10
"""Smaller arrays are made as any other."""

CLASSES = 8
"""A block's size is rounded up to so many steps between two powers of two, so that results that grow fit again."""


class _Lease(np.ndarray[Any, Any]):
    """A block in use. Arrays in it hold it as their base, so it ends with the last of them."""

    home: Blocks | None = None

    def __del__(self) -> None:
        # A view of a lease is none itself.
        if self.home is not None:
            self.home.take_back(self.base)


class Blocks:
    """Blocks that wait, by size; `most` of all sizes. Used by any thread."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._waiting: dict[int, list[Any]] = {}

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array that begins at a multiple of 64 bytes, contents undefined."""
        size = rounded(dtype.itemsize * prod(shape) + ALIGNMENT)
        try:
            block = self._waiting[size].pop()
        except (KeyError, IndexError):
            # Not an array: numpy would look through it for the owner of the memory, past the lease.
            block = (ctypes.c_char * size).from_buffer(np.empty(size, np.uint8).data)
        lease = np.ndarray.__new__(_Lease, (size,), np.uint8, block)
        lease.home = self
        return np.ndarray(shape, dtype, lease, -data_pointer(lease) & (ALIGNMENT - 1))

    def take_back(self, block: Any) -> None:
        """A block that nobody uses any more waits, in place of one of another size where there are enough."""
        size = len(block)
        if self.waiting >= self.most:
            other = next((blocks for n, blocks in list(self._waiting.items()) if blocks and n != size), None)
            if other is None:
                return
            other.pop()
        self._waiting.setdefault(size, []).append(block)

    @property
    def waiting(self) -> int:
        """How many blocks wait."""
        return sum(map(len, list(self._waiting.values())))


def rounded(size: int) -> int:
    """The size of the block for so many bytes."""
    step = 1 << max(0, size.bit_length() - CLASSES.bit_length())
    return -(-size // step) * step


__all__ = ["SMALLEST", "Blocks"]
