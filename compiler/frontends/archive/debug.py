"""Where the lines of an archive came from: the records `*.py.debug_pkl`, which torch writes beside the code.

A record maps byte offsets of the archive's text to ranges of the user's own source, whose text it holds. Two layouts
exist: a tuple of (offset, ((text, file, line), start, end), ...), and since torch 1.11 the same with texts as lists of
indices into a table of strings. All of it is a courtesy: a damaged record is as good as none.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property

from stepwell.compiler.frontends.archive.limits import DEFAULT, Limits
from stepwell.compiler.frontends.archive.unpickle import Unpickler
from stepwell.compiler.frontends.archive.values import Value
from stepwell.dialects.diagnostics import Error, Location

_TABLE = "FORMAT_WITH_STRING_TABLE"
_MAX_TEXT = 16 << 20
_MAX_RECORD = 32 << 20


class _Damaged(Exception):
    pass


class SourceRanges:
    """The map of one record, read when first asked."""

    def __init__(self, data: bytes, record: str, limits: Limits = DEFAULT) -> None:
        self.data, self.record, self.limits = data, record, limits

    @cached_property
    def _entries(self) -> tuple[list[int], list[tuple[Value, Value]], tuple[str, ...] | None]:
        """Sorted offsets, their ranges as (source, start), and the string table of the newer layout."""
        nothing: tuple[list[int], list[tuple[Value, Value]], None] = ([], [], None)
        if len(self.data) > _MAX_RECORD:
            return nothing
        try:
            value = Unpickler(self.data, self.record, None, self.limits).load()
            table: tuple[str, ...] | None = None
            if value and value[0] == _TABLE:
                _, table, value = value
            pairs = sorted(((int(e[0]), (e[1][0], e[1][1])) for e in value), key=lambda pair: pair[0])
        except (Error, TypeError, ValueError, IndexError, KeyError):
            return nothing
        return [offset for offset, _ in pairs], [found for _, found in pairs], table

    def lookup(self, offset: int) -> Location | None:
        """The user's place that a byte offset of the archive's text comes from; None if that is not known."""
        offsets, ranges, table = self._entries
        place = bisect_right(offsets, offset) - 1
        if place < 0:
            return None
        (source, start) = ranges[place]
        try:
            return _location(source, start, table)
        except (_Damaged, TypeError, ValueError, IndexError):
            return None


def _location(source: Value, start: Value, table: tuple[str, ...] | None) -> Location | None:
    text, file, first = source
    if table is not None:
        file = table[_index(file)]
        text = _joined(text, table)
    if type(text) is not str or type(first) is not int or type(start) is not int:
        raise _Damaged
    if not file or not text:
        return None
    raw = text.encode("utf-8", "surrogateescape")
    if not 0 <= start <= len(raw):
        raise _Damaged
    begin = raw.rfind(b"\n", 0, start) + 1
    end = raw.find(b"\n", begin)
    line = raw[begin : end if end >= 0 else len(raw)]
    column = len(raw[begin:start].decode("utf-8", "replace"))
    number = max(1, first + raw.count(b"\n", 0, start))
    return Location(str(file), number, column, line.decode("utf-8", "replace"))


def _joined(indices: Value, table: tuple[str, ...]) -> str:
    """A text put together from the lines of the table."""
    pieces = [table[_index(index)] for index in indices]
    if sum(map(len, pieces)) > _MAX_TEXT:
        raise _Damaged
    return "".join(pieces)


def _index(index: Value) -> int:
    if type(index) is not int or index < 0:
        raise _Damaged
    return index
