"""Errors for the person who wrote the model: what, where (their line, with a caret), and what to do.

Every error that Stepwell raises by itself derives from `Error`. What a *program* raises while it runs is
Python's own type (ValueError, IndexError, ...), so `except ValueError` works as it did before compiling.
"""

from __future__ import annotations

import linecache
from dataclasses import dataclass


@dataclass(frozen=True)
class Location:
    """A place in the user's source: a file (or archive record), a 1-based line and a 0-based column."""

    file: str
    line: int
    column: int = 0
    source: str | None = None
    """The text of the line, when it is not on disk (archive records, notebook cells)."""

    def text(self) -> str | None:
        """The source line itself, without its newline; None if it cannot be had."""
        if self.source is not None:
            return self.source
        return linecache.getline(self.file, self.line).rstrip("\n") or None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column + 1}"


class Error(Exception):
    """The base of all errors that Stepwell itself raises."""


class ArchiveError(Error):
    """A file that is damaged, hostile, too new, or no TorchScript archive at all."""


class CompileError(Error):
    """A program that cannot be compiled: message, location, the source line with a caret, and help.

    Attributes: `message` (one sentence), `location` (or None), `note` (facts about the operands), `help`.
    """

    def __init__(
        self,
        message: str,
        location: Location | None = None,
        *,
        note: str | None = None,
        help: str | None = None,
    ) -> None:
        self.message = message
        self.location = location
        self.note = note
        self.help = help
        super().__init__(message)

    def at(self, location: Location | None) -> CompileError:
        """The same error, located, if it had no location of its own; returns itself to be raised."""
        if self.location is None:
            self.location = location
        return self

    def __str__(self) -> str:
        return render(self.message, self.location, self.note, self.help)


class UnsupportedError(CompileError, NotImplementedError):
    """An op or construct that Stepwell does not have (yet); the message names it."""


class NeedsNumber(UnsupportedError):
    """A shape rule, an expansion or a lowering asked for the value of an int that is only known at run time: the window
    of a pooling, say. The compiler tries again with exact numbers where they are a call's own."""


class ArgumentError(Error, TypeError):
    """A call that a method does not take: the argument, what it should be, and the model's line.

    Attributes: `message`, `location` (of the parameter, or None), `help`.
    """

    def __init__(self, message: str, location: Location | None = None, *, help: str | None = None) -> None:
        self.message, self.location, self.help = message, location, help
        super().__init__(message)

    def __str__(self) -> str:
        return render(self.message, self.location, None, self.help)


def render(message: str, location: Location | None, note: str | None, help: str | None) -> str:
    """The one layout of all diagnostics.

    model.py:12:15: aten::matmul: the inner sizes differ: 768 and 512
        12 |         y = x @ self.weight
           |               ^ x is float32[8, 768], self.weight is float32[512, 10]
        help: did you mean x @ self.weight.T ?
    """
    lines = [f"{location}: {message}" if location else message]
    text = location.text() if location else None
    if location and text is not None:
        number = f"{location.line:6d}"
        lines.append(f"{number} | {text}")
        lines.append(f"{' ' * len(number)} | {' ' * location.column}^" + (f" {note}" if note else ""))
    elif note:
        lines.append(f"    note: {note}")
    if help:
        lines.append(f"    help: {help}")
    return "\n".join(lines)
