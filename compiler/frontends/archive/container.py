"""An archive as named records: opened, recognised, bounded; each record's bytes checked when they are read.

The layout is that of PyTorch's `PyTorchStreamReader`: one folder at the root, records below it, `version` (or
`.data/version`) a decimal number.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from typing import IO

import numpy as np

from stepwell.compiler.frontends.archive import refusals
from stepwell.compiler.frontends.archive.directory import STORED, Entry, read_directory
from stepwell.compiler.frontends.archive.files import Bytes, ByteSource, open_source
from stepwell.compiler.frontends.archive.limits import DEFAULT, Limits
from stepwell.dialects.diagnostics import ArchiveError

MIN_VERSION, MAX_VERSION = 1, 10
"""Versions of the archive format that are read (torch 2.13 reads the same)."""

SMALL_RECORD = 1 << 20
"""Bytes that a record such as `version` may have; larger ones are damage."""


class Container:
    """The records of one archive below its root folder.

    `root` is the folder's name, `version` the format's version, `big_endian` the order of storage bytes.
    Use as a context manager: the file is closed at the end (or, where it `stays_open`, with the last thing that may
    read it), arrays stay valid.
    """

    def __init__(self, source: ByteSource, limits: Limits = DEFAULT, *, verify: bool = True) -> None:
        self.source, self.limits, self.verify = source, limits, verify
        self.stays_open = False
        refusals.check_magic(source)
        self.root, self.entries = _below_root(read_directory(source.read, source.length, limits))
        self._inflatable = max(limits.inflated_bytes, limits.inflation * source.length)
        refusals.check_records(self.entries.keys())
        self.version = self._version()
        self.big_endian = self._byte_order() == "big"

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.stays_open:
            self.source.close()

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def names(self, prefix: str = "") -> list[str]:
        """The records whose names start with a prefix, in the order of the directory."""
        return [name for name in self.entries if name.startswith(prefix)]

    def identity(self) -> str | None:
        """A digest of the file's place and time and of its records' names, sizes and checksums; None for no file."""
        if self.source.identity is None:
            return None
        digest = hashlib.sha256(repr(self.source.identity).encode())
        for name, entry in self.entries.items():
            digest.update(repr((name, entry.method, entry.crc, entry.size, entry.data)).encode())
        return digest.hexdigest()

    def size(self, name: str) -> int:
        """The number of bytes of a record; ArchiveError when it is missing."""
        return self._entry(name).size

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The bytes of a record, their checksum verified; ArchiveError when missing, damaged or over `limit`."""
        entry = self._entry(name)
        if limit is not None and entry.size > limit:
            raise ArchiveError(f"record {name!r} has {entry.size} bytes, the limit is {limit}")
        if entry.method == STORED:
            data = self.source.read(entry.data, entry.size)
        else:
            data = self._inflate(name, entry)
        if zlib.crc32(data) != entry.crc:
            raise ArchiveError(f"record {name!r} is damaged: its checksum does not match")
        return data

    def array(self, name: str, *, copied: bool = False) -> tuple[Bytes, bool]:
        """The bytes of a record as a read-only array, and whether they are mapped from the file: not where they are
        wanted `copied`."""
        entry = self._entry(name)
        if entry.method != STORED:
            return np.frombuffer(self.read(name), np.uint8), False
        if copied:
            array, mapped = np.frombuffer(self.source.copy(entry.data, entry.size), np.uint8), False
        else:
            array, mapped = self.source.array(entry.data, entry.size)
        if self.verify and zlib.crc32(array.data) != entry.crc:
            why = ", or the file was written while it was in use" if self.stays_open else ""
            raise ArchiveError(f"record {name!r} is damaged{why}: its checksum does not match")
        return array, mapped

    def _entry(self, name: str) -> Entry:
        entry = self.entries.get(name)
        if entry is None:
            raise ArchiveError(f"the archive has no record {name!r}")
        return entry

    def _inflate(self, name: str, entry: Entry) -> bytes:
        self._inflatable -= entry.size
        if self._inflatable < 0:
            raise ArchiveError(
                f"record {name!r} inflates the archive beyond {self.limits.inflation} times its size: "
                "this looks like a zip bomb (raise Limits.inflation if you trust the file)"
            )
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = stream.decompress(self.source.read(entry.data, entry.packed), entry.size + 1)
        except zlib.error as problem:
            raise ArchiveError(f"record {name!r} is damaged: {problem}") from None
        if len(data) != entry.size or not stream.eof or stream.unused_data:
            raise ArchiveError(f"record {name!r} is damaged: it does not inflate to the {entry.size} bytes it claims")
        return data

    def _version(self) -> int:
        name = "version" if "version" in self.entries else ".data/version"
        if name not in self.entries:
            raise ArchiveError("the archive has no record 'version'")
        text = self.read(name, SMALL_RECORD).strip()
        if not text.isdigit() or len(text) > 9:
            raise ArchiveError(f"the archive's version is {text[:40]!r}, which is no number")
        version = int(text)
        if not MIN_VERSION <= version <= MAX_VERSION:
            newer = "it was written by a newer torch" if version > MAX_VERSION else "no torch wrote such archives"
            raise ArchiveError(
                f"the archive has version {version}; versions {MIN_VERSION} to {MAX_VERSION} are read ({newer})"
            )
        return version

    def _byte_order(self) -> str:
        if "byteorder" not in self.entries:
            return "little"
        text = self.read("byteorder", SMALL_RECORD).strip()
        if text not in (b"little", b"big"):
            raise ArchiveError(f"the archive's byte order is {text[:40]!r}, neither little nor big")
        return text.decode()


def _below_root(entries: list[Entry]) -> tuple[str, dict[str, Entry]]:
    """Strip the one folder that all records share; folders themselves are no records."""
    roots = {entry.name.partition("/")[0] for entry in entries}
    if not entries:
        raise ArchiveError("the archive is an empty zip file")
    refusals.check_root_records({entry.name for entry in entries})
    if len(roots) != 1 or any("/" not in entry.name for entry in entries):
        raise ArchiveError(f"the archive has {len(roots)} entries at its root where there must be one folder")
    root = roots.pop()
    below = {e.name[len(root) + 1 :]: e for e in entries if not e.name.endswith("/")}
    return root, below


def open_container(
    file: str | os.PathLike[str] | IO[bytes] | bytes,
    *,
    limits: Limits = DEFAULT,
    mmap: bool | None = None,
    verify: bool = True,
) -> Container:
    """Open an archive. See files.py for `mmap`; `verify=False` skips the checksums of uncompressed tensors.

    Raises ArchiveError (with the reason, and what to do for files of other kinds), or OSError.
    """
    source = open_source(file, mmap)
    try:
        return Container(source, limits, verify=verify)
    except BaseException:
        source.close()
        raise
