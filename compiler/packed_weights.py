"""Packed weights on disk: what `prepare` made of an archive's weights, mapped by whoever loads the archive again.

    weights = PackedWeights(cache.default(), identity, variant)
    arrays = weights.find()                # read-only views of a map, or None
    weights.keep(arrays)                   # written by another thread, whole or not at all

The identity is that of an archive (of its file, and of the checksums of its records), so that other weights have
another one. A file is a sealed table of its arrays and then their bytes, each from a page boundary on. All bytes are
not read again when it is mapped; the first word of every page is, so that a file whose pages never reached the disk is
not taken for a whole one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import struct
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stepwell.compiler.cache import Cache, key_of, whole_file
from stepwell.runtime.abi import dtype_of

Array = np.ndarray[Any, Any]

MAGIC = b"stepwell weights 1\n"
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


def known(cache: Cache, identity: str) -> bool:
    """Whether there are packed weights of an archive, for some call or other."""
    if cache.directory is None:
        return False
    try:
        return any(name.startswith(_prefix(identity)) for name in os.listdir(cache.directory / FOLDER))
    except OSError:
        return False


def _prefix(identity: str) -> str:
    return f"{identity[:16]}-"


class PackedWeights:
    """The file of one variant's packed weights. Where there is no cache, nothing is found and nothing is kept."""

    def __init__(self, cache: Cache, identity: str, variant: str, limit: int = LIMIT) -> None:
        self.limit = limit
        self._folder = cache.directory / FOLDER if cache.directory is not None else None
        self._key = key_of("weights", identity, variant)
        self._name = f"{_prefix(identity)}{self._key}"

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

    def keep(self, arrays: Mapping[str, Array]) -> threading.Thread | None:
        """Write the arrays, which nobody may change, in a thread of its own (which is given, if there is one)."""
        size = sum(array.nbytes for array in arrays.values())
        if self._folder is None or not SMALLEST <= size <= self.limit:
            return None
        # Not a daemon: a process that ends with its first result leaves a whole file too.
        thread = threading.Thread(target=self._write, args=(dict(arrays),), name="stepwell-weights", daemon=False)
        thread.start()
        return thread

    def _write(self, arrays: dict[str, Array]) -> None:
        """Fails silently where the disk does not allow it, like every cache."""
        assert self._folder is not None
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            table, offset = _table(arrays)
            if offset * SHARE > shutil.disk_usage(self._folder).free:
                return
            with whole_file(self._folder / self._name) as file:
                file.write(_sealed(self._key, table))
                for place, array in zip(table["arrays"], arrays.values(), strict=True):
                    file.seek(place[3])
                    file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
                file.truncate(offset)
                file.flush()
                os.fsync(file.fileno())
            self.trim()

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


def _table(arrays: Mapping[str, Array]) -> tuple[dict[str, Any], int]:
    """What the head of a file says, and the file's size."""
    names = [[name, array.dtype.name, list(array.shape)] for name, array in arrays.items()]
    offset = _pages(len(MAGIC) + _HEAD.size + len(json.dumps(names)) + 64 * len(names) + PAGE)
    places = []
    for part, array in zip(names, arrays.values(), strict=True):
        places.append([*part, offset, _first_words(array.reshape(-1).view(np.uint8))])
        offset += _pages(array.nbytes)
    return {"arrays": places, "size": offset}, offset


def _pages(size: int) -> int:
    """A size rounded up to whole pages."""
    return -(-size // PAGE) * PAGE


def _first_words(data: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
    """A checksum of the first word of every page."""
    whole = data[: data.size // 8 * 8].view(np.uint64)[:: PAGE // 8]
    return int(np.bitwise_xor.reduce(whole * np.arange(1, 2 * whole.size, 2, dtype=np.uint64)))


def _sealed(key: str, table: Mapping[str, Any]) -> bytes:
    text = json.dumps(table).encode()
    return MAGIC + _HEAD.pack(hashlib.sha256(key.encode() + text).digest(), len(text)) + text


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
        if _first_words(array.reshape(-1).view(np.uint8)) != words:
            return None
        arrays[name] = array
    return arrays


__all__ = ["PackedWeights", "known"]
