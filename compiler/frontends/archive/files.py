"""The bytes of an archive, wherever they are: a path, an open file, or memory.

A file is mapped only where losing a page under the map cannot happen: another process that truncates a mapped file
would otherwise kill this one with SIGBUS. By default that means files nobody may write to, and read-only file
systems; `mmap=True` says that the caller knows better, `mmap=False` always copies.
"""

from __future__ import annotations

import io
import mmap as mapping
import os
import stat
from typing import IO, Any

import numpy as np

from stepwell.dialects.diagnostics import ArchiveError

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class ByteSource:
    """Random access to the bytes of one archive."""

    name: str
    length: int
    identity: tuple[int, ...] | None = None
    """Numbers that change when the file is written again or another takes its place; None for what is no file."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes; ArchiveError when the file ends before."""
        raise NotImplementedError

    def copy(self, offset: int, length: int) -> bytes:
        """`read`, past the map: none of its pages enters memory for it."""
        return self.read(offset, length)

    def array(self, offset: int, length: int) -> tuple[Bytes, bool]:
        """These bytes as a read-only array, and whether it is a view of a map instead of a copy."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file; arrays handed out stay valid."""


class MemorySource(ByteSource):
    """An archive given as bytes; arrays are copies, as the caller's buffer may change."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name, self.length = data, name, len(data)

    def read(self, offset: int, length: int) -> bytes:
        found = self.data[offset : offset + length]
        if len(found) != length:
            raise ArchiveError(f"{self.name} ends too early")
        return found

    def array(self, offset: int, length: int) -> tuple[Bytes, bool]:
        array = np.frombuffer(self.data, np.uint8, length, offset).copy()
        array.flags.writeable = False
        return array, False


class FileSource(ByteSource):
    """A regular file, read piece by piece or mapped."""

    def __init__(self, file: IO[bytes], name: str, mapped: bool) -> None:
        self.file, self.name = file, name
        state = os.fstat(file.fileno())
        self.length = state.st_size
        self.identity = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
        self.view: Bytes | None = None
        if mapped and self.length:
            self.view = np.frombuffer(_map(file.fileno(), self.length), np.uint8)

    def read(self, offset: int, length: int) -> bytes:
        if self.view is None:
            return self.copy(offset, length)
        found = self.view[offset : offset + length].tobytes()
        if len(found) != length:
            raise ArchiveError(f"{self.name} ends too early")
        return found

    def copy(self, offset: int, length: int) -> bytes:
        self.file.seek(offset)
        found = self.file.read(length)
        if len(found) != length:
            raise ArchiveError(f"{self.name} ends too early")
        return found

    def array(self, offset: int, length: int) -> tuple[Bytes, bool]:
        if self.view is not None:
            return self.view[offset : offset + length], True
        array = np.empty(length, np.uint8)
        self.file.seek(offset)
        if self.file.readinto(array) != length:  # type: ignore[attr-defined]
            raise ArchiveError(f"{self.name} ends too early")
        array.flags.writeable = False
        return array, False

    def close(self) -> None:
        self.file.close()
        self.view = None

    def __del__(self) -> None:
        self.file.close()


def _map(descriptor: int, length: int) -> mapping.mmap:
    if os.name == "nt":
        return mapping.mmap(descriptor, length, access=mapping.ACCESS_READ)
    return mapping.mmap(descriptor, length, flags=mapping.MAP_PRIVATE, prot=mapping.PROT_READ)


def _cannot_change(descriptor: int) -> bool:
    """Whether a file's permissions or its file system keep everybody from writing to it."""
    if not stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o222:
        return True
    return hasattr(os, "fstatvfs") and bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)


def open_source(file: str | os.PathLike[str] | IO[bytes] | bytes, mmap: bool | None = None) -> ByteSource:
    """Open a path, a binary file object or bytes for random access.

    Raises the OSError of a path that cannot be opened, TypeError for anything else, ArchiveError for an empty file.
    """
    source: ByteSource
    if isinstance(file, bytes | bytearray | memoryview):
        source = MemorySource(bytes(file), "<bytes>")
    elif isinstance(file, str | os.PathLike):
        source = _open_path(os.fspath(file), mmap)
    elif hasattr(file, "read"):
        data = file.read()
        if not isinstance(data, bytes):
            raise TypeError("an archive is read from a file opened in binary mode ('rb')")
        source = MemorySource(data, str(getattr(file, "name", "<file>")))
    else:
        raise TypeError(f"an archive is a path, a binary file or bytes, not {type(file).__name__}")
    if not source.length:
        raise ArchiveError(f"{source.name} is empty")
    return source


def _open_path(path: str, mmap: bool | None) -> ByteSource:
    opened = open(path, "rb", buffering=io.DEFAULT_BUFFER_SIZE)
    try:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            return MemorySource(opened.read(), path)
        mapped = _cannot_change(opened.fileno()) if mmap is None else mmap
        return FileSource(opened, path, mapped)
    except BaseException:
        opened.close()
        raise
