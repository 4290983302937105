"""The table of contents of a zip file: its central directory, believed only where it agrees with the file.

Format: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.5. Only what archives use: one disk, stored or deflated records,
zip64. Everything is found from the end of the file; local headers must repeat what the directory says, and no two
records may share bytes (which is how zip bombs without ratio are built).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from stepwell.compiler.frontends.archive.limits import Limits
from stepwell.dialects.diagnostics import ArchiveError

STORED, DEFLATED = 0, 8
_METHODS = {1: "shrink", 6: "implode", 9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 99: "AES"}

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED, _PATCH = 1 << 0, 1 << 5

ReadAt = Callable[[int, int], bytes]
"""(offset, length) -> exactly that many bytes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record: `data` is the offset of its bytes in the file, `packed` their number there, `size` inflated."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    header: int
    data: int


def read_directory(read: ReadAt, length: int, limits: Limits) -> list[Entry]:
    """The records of a zip file of `length` bytes, in directory order.

    Raises ArchiveError on anything damaged, ambiguous or unsupported, naming the record where there is one.
    """
    start, size, count = _locate(read, length)
    if count > limits.records:
        raise ArchiveError(f"the archive claims {count} records, the limit is {limits.records}")
    if size < count * _CENTRAL.size:
        raise ArchiveError(f"the archive claims {count} records, but its directory has only {size} bytes")
    table = read(start, size)
    entries: list[Entry] = []
    offset = 0
    for number in range(count):
        entry, offset = _entry(read, table, offset, number, start)
        entries.append(entry)
    if offset != size:
        raise ArchiveError("the archive's directory holds more than the records it claims")
    _check_distinct(entries)
    return entries


def _locate(read: ReadAt, length: int) -> tuple[int, int, int]:
    """Offset, size and number of entries of the central directory."""
    tail_length = min(length, _END.size + _FULL16)
    tail = read(length - tail_length, tail_length)
    place = tail.rfind(b"PK\5\6")
    while place >= 0:
        if len(tail) - place >= _END.size:
            fields = _END.unpack_from(tail, place)
            if place + _END.size + fields[7] == len(tail):
                break
        place = tail.rfind(b"PK\5\6", 0, place)
    if place < 0:
        raise ArchiveError("the archive has no zip directory at its end: it is truncated, or no zip file")
    _, disk, first_disk, here, count, size, start, _ = fields
    end = length - tail_length + place
    locator = read(end - _END64_LOCATOR.size, _END64_LOCATOR.size) if end >= _END64_LOCATOR.size else b""
    if locator[:4] == b"PK\6\7":  # torch writes the zip64 directory end always, needed or not
        short = (disk, first_disk, here, count, size, start)
        *long, end = _locate64(read, locator, end - _END64_LOCATOR.size)
        if any(a not in (b, _FULL16, _FULL32) for a, b in zip(short, long, strict=True)):
            raise ArchiveError("the archive's two zip directories contradict each other")
        disk, first_disk, here, count, size, start = long
    if disk or first_disk or here != count:
        raise ArchiveError("the archive is one part of a zip file on several disks")
    if start + size != end:
        raise ArchiveError("the zip directory is not where the archive says: bytes are missing or were added")
    return start, size, count


def _locate64(read: ReadAt, locator: bytes, end: int) -> tuple[int, int, int, int, int, int, int]:
    """The fields of the zip64 end record that a locator at `end` points to, and where that record starts."""
    _, disk, at, _disks = _END64_LOCATOR.unpack(locator)
    if disk == 0 and at + _END64.size <= end:
        fields = _END64.unpack(read(at, _END64.size))
        if fields[0] == b"PK\6\6" and at + 12 + fields[1] == end:
            return (*fields[4:10], at)
    raise ArchiveError("the archive's zip64 directory is damaged")


def _entry(read: ReadAt, table: bytes, offset: int, number: int, directory: int) -> tuple[Entry, int]:
    """One directory entry, checked against its local header; and the offset of the next one."""
    if offset + _CENTRAL.size > len(table):
        raise ArchiveError(f"record {number} of the zip directory is cut off")
    fields = _CENTRAL.unpack_from(table, offset)
    signature, _made, _needs, flags, method, _time, _date, crc, packed, size = fields[:10]
    name_length, extra_length, comment_length, disk, _internal, _external, header = fields[10:]
    name_at = offset + _CENTRAL.size
    end = name_at + name_length + extra_length + comment_length
    if signature != b"PK\1\2" or end > len(table):
        raise ArchiveError(f"record {number} of the zip directory is damaged")
    raw_name = table[name_at : name_at + name_length]
    name = _decode_name(raw_name, number)
    extra = table[name_at + name_length : name_at + name_length + extra_length]
    size, packed, header, disk = _widen(extra, name, size, packed, header, disk)
    if flags & (_ENCRYPTED | _PATCH):
        raise ArchiveError(f"record {name!r} is encrypted; archives of models are not")
    if method not in (STORED, DEFLATED):
        raise ArchiveError(f"record {name!r} uses the compression {_METHODS.get(method, method)}, which is not read")
    if disk or (method == STORED and packed != size):
        raise ArchiveError(f"record {name!r} has contradictory sizes in the zip directory")
    if header + _LOCAL.size + name_length + packed > directory:
        raise ArchiveError(f"record {name!r} lies outside the archive")
    data = header + _local_size(read, header, raw_name, method, name)
    if data + packed > directory:
        raise ArchiveError(f"record {name!r} lies outside the archive")
    return Entry(name, method, crc, packed, size, header, data), end


def _decode_name(raw: bytes, number: int) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ArchiveError(f"the name of record {number} is no UTF-8: {raw[:80]!r}") from None
    parts = name.split("/")
    if not name or "\0" in name or "\\" in name or name.startswith("/") or ".." in parts or "." in parts:
        raise ArchiveError(f"record {number} has the name {name[:80]!r}, which is no path inside an archive")
    return name


def _widen(extra: bytes, name: str, size: int, packed: int, header: int, disk: int) -> tuple[int, int, int, int]:
    """Replace the sizes that do not fit 32 bits by those of the zip64 extra field."""
    if size != _FULL32 and packed != _FULL32 and header != _FULL32:
        return size, packed, header, disk
    offset = 0
    while offset + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, offset)
        field = extra[offset + 4 : offset + 4 + length]
        offset += 4 + length
        if kind != 1:
            continue
        values = [v for (v,) in struct.iter_unpack("<Q", field[: len(field) // 8 * 8])]
        try:
            size = values.pop(0) if size == _FULL32 else size
            packed = values.pop(0) if packed == _FULL32 else packed
            header = values.pop(0) if header == _FULL32 else header
        except IndexError:
            break
        return size, packed, header, disk
    raise ArchiveError(f"record {name!r} lacks its zip64 sizes")


def _local_size(read: ReadAt, header: int, raw_name: bytes, method: int, name: str) -> int:
    """The size of a record's local header, which must name the same record as the directory."""
    found = read(header, _LOCAL.size + len(raw_name))
    fields = _LOCAL.unpack_from(found)
    signature, _, flags, local_method, name_length, extra_length = *fields[:4], *fields[9:11]
    if signature != b"PK\3\4":
        raise ArchiveError(f"record {name!r} does not start where the zip directory says")
    if local_method != method or flags & _ENCRYPTED or name_length != len(raw_name):
        raise ArchiveError(f"record {name!r} contradicts the zip directory")
    if found[_LOCAL.size :] != raw_name:
        raise ArchiveError(f"record {name!r} has another name in the zip directory")
    return _LOCAL.size + int(name_length) + int(extra_length)


def _check_distinct(entries: list[Entry]) -> None:
    """No name twice, and no byte in two records."""
    names: set[str] = set()
    for entry in entries:
        if entry.name in names:
            raise ArchiveError(f"record {entry.name!r} occurs twice")
        names.add(entry.name)
    end, before = 0, ""
    for entry in sorted(entries, key=lambda e: e.header):
        if entry.header < end:
            raise ArchiveError(f"the records {before!r} and {entry.name!r} overlap")
        end, before = entry.data + entry.packed, entry.name
