"""Compiled objects on disk, by content: safe for several processes, private to the user, bounded in size.

An entry is one file, written under another name and renamed, so that a reader sees all of it or nothing. The
directory is made with mode 0700 and must belong to the user and be writable by nobody else: it holds code.
What cannot be read or written is no error: the cache then knows nothing.

STEPWELL_CACHE_DIR says where (default: the user's cache directory); STEPWELL_CACHE=0 turns it off.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LIMIT = 1 << 30
"""Bytes that the cache may take; the entries that were not used for the longest time go first."""

MAGIC = b"stepwell object 4\n"

OFF = ("0", "off", "no", "false")
"""What an environment variable says to turn something off."""


def default_directory() -> Path | None:
    """Where the cache is, or None where it is turned off."""
    if os.environ.get("STEPWELL_CACHE", "1").lower() in OFF:
        return None
    chosen = os.environ.get("STEPWELL_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA", str(Path.home() / "AppData/Local"))
    elif sys.platform == "darwin":
        root = str(Path.home() / "Library/Caches")
    else:
        root = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return Path(root) / "stepwell"


def versions() -> str:
    """What an object depends on beside its own text: our version, and that of LLVM's binding."""
    import llvmlite  # not importlib.metadata, which takes 13 ms of a warm start

    import stepwell

    return f"stepwell {stepwell.__version__}, llvmlite {llvmlite.__version__}"


def key_of(*parts: str | bytes) -> str:
    """A key for the given content; no two different sequences of parts have the same."""
    digest = hashlib.sha256()
    for part in (versions(), *parts):
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name once it is whole: a reader sees all of it, or what was there before."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class Cache:
    """Files in one directory. `get` and `put` hold bytes by key."""

    def __init__(self, directory: Path | None, limit: int = LIMIT) -> None:
        self.limit = limit
        self.directory = directory if directory is not None and _prepare(directory) else None

    def get(self, key: str) -> bytes | None:
        """What was put under a key; None where there is nothing, or a damaged entry (which is removed)."""
        if self.directory is None:
            return None
        path = self._path(key)
        try:
            data = path.read_bytes()
            body = _unseal(key, data)
            if body is None:
                path.unlink(missing_ok=True)
                return None
            os.utime(path)
            return body
        except OSError:
            return None

    def put(self, key: str, body: bytes) -> None:
        """Keep bytes under a key. Fails silently where the disk does not allow it."""
        if self.directory is None:
            return
        path = self._path(key)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with whole_file(path) as file:
                file.write(MAGIC + _seal(key, body) + body)
            if key.startswith("0"):
                self.trim()
        except OSError:
            return

    def trim(self) -> None:
        """Remove the entries used longest ago until the rest fits the limit (tried at one put of sixteen)."""
        if self.directory is None:
            return
        entries = []
        for path in self.directory.glob("??/*"):
            try:
                state = path.stat()
                entries.append((state.st_mtime, state.st_size, path))
            except OSError:
                continue
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries, key=lambda entry: entry[0]):
            if total <= self.limit:
                break
            try:
                path.unlink()
                total -= size
            except OSError:
                continue

    def _path(self, key: str) -> Path:
        assert self.directory is not None
        return self.directory / key[:2] / key[2:]


def _prepare(directory: Path) -> bool:
    """Make the directory private; False where it is somebody else's, or others may write into it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = directory.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(state.st_mode):
        return False
    if not hasattr(os, "getuid"):
        return True
    return state.st_uid == os.getuid() and not state.st_mode & 0o022


def _seal(key: str, body: bytes) -> bytes:
    """A checksum of a body and of the key that it was put under: an entry in another's place is no entry."""
    return hashlib.sha256(key.encode() + body).digest()


def _unseal(key: str, data: bytes) -> bytes | None:
    """The body of an entry, if it is whole and in its place."""
    head = len(MAGIC) + 32
    body = data[head:]
    good = data.startswith(MAGIC) and _seal(key, body) == data[len(MAGIC) : head]
    return body if good else None


_default: Cache | None = None


def default() -> Cache:
    """The user's cache, looked up once per process."""
    global _default
    if _default is None:
        _default = Cache(default_directory())
    return _default
