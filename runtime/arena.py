"""Scratch memory of calls: one arena per call that runs, kept for the next one."""

from __future__ import annotations

import ctypes
import sys

ALIGNMENT = 64


class _Libc:
    """malloc and free, the same that native code calls: an arena may be grown there and released here."""

    def __init__(self) -> None:
        library = ctypes.CDLL("msvcrt") if sys.platform == "win32" else ctypes.CDLL(None)
        self.malloc = library.malloc
        self.malloc.restype, self.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        self.free = library.free
        self.free.restype, self.free.argtypes = None, [ctypes.c_void_p]


LIBC = _Libc()


class Arena:
    """A block of at least so many bytes, 64-byte aligned; `base` is what free wants.

    Native code may exchange the block for a larger one; the frame then says so and `adopt` takes note.
    """

    __slots__ = ("address", "base", "size")

    def __init__(self, size: int) -> None:
        self.size, self.base, self.address = size, 0, 0
        if size:
            base = LIBC.malloc(size + ALIGNMENT)
            if not base:
                raise MemoryError(f"no {size} bytes for an arena")
            self.base = base
            self.address = (base + ALIGNMENT - 1) & -ALIGNMENT

    def adopt(self, base: int, address: int, size: int) -> None:
        """The block that native code put in the place of this one (which it freed)."""
        self.base, self.address, self.size = base, address, size

    def __del__(self) -> None:
        if self.base:
            LIBC.free(self.base)
            self.base = 0
