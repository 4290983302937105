"""The source of Python functions and classes, as nodes that know their place in the file."""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stepwell.dialects.diagnostics import CompileError, Location


@dataclass(frozen=True)
class Source:
    """A parsed definition. `indent` is how far its text stood to the right in its file."""

    node: ast.stmt
    file: str
    indent: int

    def locate(self, node: ast.AST) -> Location:
        """Where a node stands in the file."""
        line = getattr(node, "lineno", getattr(self.node, "lineno", 1))
        column = getattr(node, "col_offset", 0)
        text = linecache.getline(self.file, line)
        before = text.encode()[: self.indent + column].decode(errors="replace")
        return Location(self.file, line, len(before) if text else self.indent + column)


def source_of(thing: Callable[..., Any] | type) -> Source:
    """The definition of a function or class; CompileError where its source cannot be had."""
    name = getattr(thing, "__qualname__", repr(thing))
    try:
        lines, first = inspect.getsourcelines(thing)
        file = inspect.getsourcefile(thing) or "<unknown>"
    except (OSError, TypeError) as problem:
        raise CompileError(
            f"the source of {name} cannot be had ({problem})",
            help="define it in a file or a notebook cell; functions typed at a prompt or made by exec have no source",
        ) from None
    indent = len(lines[0]) - len(lines[0].lstrip())
    try:
        tree = ast.parse(_dedented(lines, indent))
    except SyntaxError as problem:
        raise CompileError(f"the source of {name} cannot be read: {problem.msg}", Location(file, first)) from None
    node = tree.body[0]
    ast.increment_lineno(tree, first - 1)
    return Source(node, file, indent)


def _dedented(lines: list[str], indent: int) -> str:
    """The lines moved to the left; text that stands further left (in strings) stays."""
    if not indent:
        return "".join(lines)
    moved = textwrap.dedent("".join(lines))
    if moved[:1].isspace():
        moved = "".join(line[indent:] if line[:indent].isspace() else line for line in lines)
    return moved


def function_definition(thing: Callable[..., Any]) -> tuple[Source, ast.FunctionDef]:
    """The `def` of a function; CompileError for lambdas."""
    found = source_of(thing)
    if not isinstance(found.node, ast.FunctionDef):
        raise CompileError(
            f"{getattr(thing, '__qualname__', thing)} is not defined by `def`", found.locate(found.node),
            help="a lambda or an async function cannot be scripted: write a def",
        )
    return found, found.node


def class_definition(thing: type) -> tuple[Source, ast.ClassDef]:
    """The `class` of a class."""
    found = source_of(thing)
    assert isinstance(found.node, ast.ClassDef)
    return found, found.node
