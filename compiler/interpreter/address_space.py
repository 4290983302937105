"""Memory at the llvm level: pointers are real addresses (Python ints), and every access must lie within a block
that was allocated here or shared by the caller."""

from __future__ import annotations

import threading
from bisect import bisect_right
from typing import Any

import numpy as np

from stepwell.compiler.interpreter.rules import Fault
from stepwell.compiler.interpreter.values import BYTES, Array, allocate, memref_over


class AddressSpace:
    """Blocks of bytes, found by address. They live as long as the space, unless freed."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._blocks: dict[int, Array] = {}
        self._lock = threading.Lock()

    def add(self, memory: Array, owner: object = None) -> int:
        """Make a block of bytes addressable; its address."""
        start = int(memory.ctypes.data)
        with self._lock:
            known = self._blocks.get(start)
            if known is None or len(known) < len(memory):
                if known is None:
                    self._starts.insert(bisect_right(self._starts, start), start)
                self._blocks[start] = memory
        return start

    def share(self, array: Array) -> int:
        """Make an array's memory addressable, for as long as the space lives; the address of its first element."""
        reference = memref_over(array)
        self.add(reference.memory)
        return int(array.ctypes.data)

    def allocate(self, size: int, alignment: int = 64) -> int:
        """A new block full of poison; its address."""
        return self.add(allocate(BYTES, (max(size, 1),), alignment).memory)

    def free(self, address: int) -> None:
        """Forget a block. Raises Fault where there is none."""
        with self._lock:
            if self._blocks.pop(address, None) is None:
                raise Fault(f"no block begins at address {address:#x}")
            self._starts.remove(address)

    def bytes_at(self, address: int, length: int, alignment: int = 1) -> Array:
        """The bytes of an access. Raises Fault outside of all blocks, or where the address is not aligned."""
        place = bisect_right(self._starts, address) - 1
        # Blocks may lie within each other: an array and a part of it that was shared too.
        while place >= 0:
            start = self._starts[place]
            block = self._blocks[start]
            offset = address - start
            if offset + length <= len(block):
                if address % alignment:
                    raise Fault(f"address {address:#x} is not aligned to {alignment} bytes")
                return block[offset : offset + length]
            if place and self._starts[place - 1] + len(self._blocks[self._starts[place - 1]]) <= address:
                raise Fault(f"{length} bytes at offset {offset} leave a block of {len(block)} bytes")
            place -= 1
        raise Fault(f"{length} bytes at address {address:#x} belong to no block")

    def read(self, address: Any, dtype: np.dtype[Any], alignment: int = 1) -> Any:
        """One scalar."""
        return self.bytes_at(int(address), dtype.itemsize, alignment).view(dtype)[0]

    def write(self, address: Any, dtype: np.dtype[Any], value: Any, alignment: int = 1) -> None:
        """Store one scalar."""
        self.bytes_at(int(address), dtype.itemsize, alignment).view(dtype)[0] = value

    def vector(self, address: Any, dtype: np.dtype[Any], lanes: int, alignment: int = 1) -> Array:
        """Consecutive elements, as a view of the memory."""
        view: Array = self.bytes_at(int(address), dtype.itemsize * lanes, alignment).view(dtype)
        return view
