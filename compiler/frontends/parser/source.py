"""A source text and its lines: what the tokenizer reads and what error messages quote.

Columns are byte offsets in the line, as in Python's `ast`. The bytes are therefore read as latin-1, one
character per byte; string literals are decoded to text where they become constants (literals.py).
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property

from stepwell.dialects.diagnostics import Location

WIDEST = 400
"""Characters of a line that a diagnostic quotes; of a longer line, the part around the place."""


class SourceText:
    """One text of script source: `name` is what errors call it (an archive record, a file), `data` its bytes."""

    def __init__(self, name: str, source: str | bytes) -> None:
        self.name = name
        self.data = source.encode("utf-8", "surrogateescape") if isinstance(source, str) else bytes(source)

    @cached_property
    def characters(self) -> str:
        """The text with one character per byte."""
        return self.data.decode("latin-1")

    @cached_property
    def line_starts(self) -> list[int]:
        """The byte offset at which each line starts."""
        starts = [0]
        position = self.data.find(b"\n")
        while position >= 0:
            starts.append(position + 1)
            position = self.data.find(b"\n", position + 1)
        return starts

    def offset(self, line: int, column: int) -> int:
        """The byte offset of a 1-based line and a column in bytes."""
        return self.line_starts[min(line, len(self.line_starts)) - 1] + column

    def position(self, offset: int) -> tuple[int, int]:
        """The 1-based line and the column in bytes of a byte offset."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1]

    def line(self, number: int) -> str:
        """The text of a 1-based line; what cannot be printed is replaced."""
        starts = self.line_starts
        if not 1 <= number <= len(starts):
            return ""
        end = starts[number] - 1 if number < len(starts) else len(self.data)
        return _printable(self.data[starts[number - 1] : end])

    def location(self, line: int, column: int = 0) -> Location:
        """The place of a line and a column in bytes, with its text, for a diagnostic."""
        start = self.offset(line, 0)
        before = len(self.data[start : start + column].decode("utf-8", "replace"))
        text = self.line(line)
        if before > WIDEST // 2 and len(text) > WIDEST:
            text = "..." + text[before - WIDEST // 2 :]
            before = WIDEST // 2 + 3
        return Location(self.name, line, before, text if len(text) <= WIDEST else text[:WIDEST] + "...")


def _printable(raw: bytes) -> str:
    """A line as it can be shown: control characters become middle dots, width kept."""
    text = raw.decode("utf-8", "replace").rstrip("\r")
    return text if text.isprintable() else "".join(c if c.isprintable() else "\u00b7" for c in text)
