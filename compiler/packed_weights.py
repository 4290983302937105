"""Packed weights on disk: what `prepare` made of an archive's weights, mapped by whoever loads the archive again.

    weights = PackedWeights(cache.default(), identity, variant)
    arrays = weights.find()                # read-only views of a map, or None
    file = weights.begin({"packed.0": (np.dtype(np.float32), (24, 768, 32))})
    file.put("packed.0", array)            # the array may be forgotten
    arrays = file.finish()                 # the same views; the file itself is there when the disk has it

The identity is that of an archive (of its file, and of the checksums of its records), so that other weights have
another one. A file is a sealed table of its arrays and then their bytes, each from a page boundary on. It takes its
name when the disk has all of it; when it is mapped, nothing is read again but a few words all over it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from stepwell.compiler.cache import Cache, key_of
from stepwell.runtime.abi import dtype_of

Array = np.ndarray[Any, Any]

MAGIC = b"stepwell weights 2\n"
PAGE = 4096
SMALLEST = 4 << 20
"""Bytes of weights below which packing them again is quicker than another file is worth."""

LIMIT = 4 << 30
"""Bytes that all files may take; those that were not used for the longest time go first."""

SHARE = 4
"""A file is written only where it takes no more than this part of the disk's free space."""

ABANDONED = 3600
"""Seconds after which a file that is still being written never will be whole."""

_HEAD = struct.Struct("<32sQ")


FOLDER = "weights"
"""Where the files are, in the cache's directory."""

SAMPLES = 8
"""Pages of an array whose first words are looked at before it is trusted."""

WORD = 8
"""Bytes of such a word."""

MOST = 1 << 30
"""Bytes that one call writes; systems have limits of their own."""

Kind = tuple[np.dtype[Any], tuple[int, ...]]
"""dtype and sizes of an array."""


class PackedWeights:
    """The file of one variant's packed weights. Where there is no cache, nothing is found and nothing is kept."""

    def __init__(self, cache: Cache, identity: str, variant: str, limit: int = LIMIT) -> None:
        self.limit = limit
        self._folder = cache.directory / FOLDER if cache.directory is not None else None
        self._key = key_of("weights", identity, variant)
        self._name = f"{identity[:16]}-{self._key}"

    @property
    def path(self) -> Path | None:
        """Where the file is, or would be."""
        return self._folder / self._name if self._folder is not None else None

    def find(self) -> dict[str, Array] | None:
        """The arrays by name, mapped; None where there is no file. A damaged one is removed."""
        path = self.path
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                found = _mapped(self._key, file.fileno())
            if found is None:
                path.unlink(missing_ok=True)
            else:
                os.utime(path)
            return found
        except (OSError, ValueError):
            return None

    def begin(self, kinds: Mapping[str, Kind]) -> Writing | None:
        """A file to be filled with arrays of these dtypes and sizes, if it is worth one and the disk has room. Fails
        silently where the disk does not allow it, like every cache."""
        size = sum(_bytes(*kind) for kind in kinds.values())
        if self._folder is None or not SMALLEST <= size <= self.limit:
            return None
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if size * SHARE > shutil.disk_usage(self._folder).free:
                return None
            return Writing(self, self._folder / self._name, kinds)
        except OSError:
            return None

    def sealed(self, table: Mapping[str, Any]) -> bytes:
        """The head of a file."""
        text = json.dumps(table).encode()
        return MAGIC + _HEAD.pack(hashlib.sha256(self._key.encode() + text).digest(), len(text)) + text

    def mapped(self, descriptor: int) -> dict[str, Array] | None:
        """The arrays of an open file; None for one that is damaged, or another key's."""
        return _mapped(self._key, descriptor)

    def trim(self) -> None:
        """Remove what other processes left unfinished, and the files used longest ago until the rest fits the limit."""
        if self._folder is None:
            return
        files = []
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):
                state = path.stat()
                abandoned = path.name.startswith(".") and state.st_mtime < time.time() - ABANDONED
                files.append((0.0 if abandoned else state.st_mtime, state.st_size, path))
        total = sum(size for _, size, _ in files)
        for used, size, path in sorted(files, key=lambda file: file[0]):
            if total <= self.limit and used:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size


class Writing:
    """A file that is being filled, one array after the other. Raises OSError where the disk is full."""

    def __init__(self, weights: PackedWeights, path: Path, kinds: Mapping[str, Kind]) -> None:
        self._weights, self._path = weights, path
        names = [[name, dtype.name, list(shape)] for name, (dtype, shape) in kinds.items()]
        offset = _pages(len(MAGIC) + _HEAD.size + len(json.dumps(names)) + 64 * len(names) + PAGE)
        self._places: dict[str, list[Any]] = {}
        for name, (dtype, shape) in kinds.items():
            self._places[name] = [name, dtype.name, list(shape), offset, 0]
            offset += _pages(_bytes(dtype, shape))
        self._size = offset
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        self._file, self._temporary = os.fdopen(handle, "w+b", buffering=0), Path(temporary)

    def put(self, name: str, array: Array) -> None:
        """Write one of the arrays, which may be forgotten then."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        place = self._places[name]
        place[4] = _checksum(data.size, lambda start: data[start : start + WORD].tobytes())
        self._write(place[3], data.data)

    def finish(self) -> dict[str, Array]:
        """The arrays, mapped, all of which have been put. The file takes its name in a thread of its own, once the
        disk has it."""
        self._file.truncate(self._size)
        self._write(0, memoryview(self._weights.sealed({"arrays": list(self._places.values()), "size": self._size})))
        self._file.seek(0)
        found = self._weights.mapped(self._file.fileno())
        assert found is not None
        # Not a daemon: a process that ends with its first result leaves a whole file too.
        threading.Thread(target=self._name, name="stepwell-weights", daemon=False).start()
        return found

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _write(self, offset: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._file.fileno(), data[:MOST], offset)
            data, offset = data[written:], offset + written

    def _name(self) -> None:
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._temporary, self._path)
            self._weights.trim()
        except OSError:
            self.abandon()


def _bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return dtype.itemsize * prod(shape)


def _pages(size: int) -> int:
    """A size rounded up to whole pages."""
    return -(-size // PAGE) * PAGE


def _checksum(size: int, read: Callable[[int], bytes], first: int = 0) -> int:
    """Of the first words of a few pages, all over an array of so many bytes that begins at `first`."""
    pages = size // PAGE
    found = 0
    for start in range(0, max(pages, 1) * PAGE, max(pages // SAMPLES, 1) * PAGE):
        found = zlib.crc32(read(first + start)[: size - start], found)
    return found


def _mapped(key: str, descriptor: int) -> dict[str, Array] | None:
    """The arrays of a file; None for one that is damaged, or another key's."""
    size = os.fstat(descriptor).st_size
    head = os.read(descriptor, len(MAGIC) + _HEAD.size)
    if len(head) < len(MAGIC) + _HEAD.size or not head.startswith(MAGIC):
        return None
    seal, length = _HEAD.unpack_from(head, len(MAGIC))
    text = os.read(descriptor, min(length, size))
    if hashlib.sha256(key.encode() + text).digest() != seal:
        return None
    table = json.loads(text)
    if table["size"] != size:
        return None
    memory = np.frombuffer(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ), np.uint8)
    arrays: dict[str, Array] = {}
    for name, dtype, shape, offset, words in table["arrays"]:
        array: Array = np.ndarray(tuple(shape), dtype_of(dtype), memory, offset)
        # Not through the map, which would bring the neighbours of every page that is looked at.
        if _checksum(array.nbytes, lambda start: os.pread(descriptor, WORD, start), offset) != words:
            return None
        arrays[name] = array
    return arrays


__all__ = ["PackedWeights", "Writing"]
