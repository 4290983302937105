"""Whole texts: the classes and functions that a source text defines, each parsed when it is asked for.

An archive's file can define hundreds of classes of which a program needs a few. `definitions` only tokenizes and
finds where each one starts; `Definition.node` parses one.
"""

from __future__ import annotations

import ast
from functools import cached_property
from typing import NoReturn

from stepwell.compiler.frontends.parser.source import SourceText
from stepwell.compiler.frontends.parser.statements import TYPE_PARAMETERS, StatementParser
from stepwell.compiler.frontends.parser.tokens import DEDENT, END, INDENT, NEWLINE, NUMBER, Token, tokenize
from stepwell.dialects.diagnostics import CompileError


class Definition:
    """A `class` or `def` at the top level of a text: its name and place now, its node on demand."""

    def __init__(self, source: SourceText, tokens: list[Token], start: int) -> None:
        self.source = source
        self.is_class = tokens[start][0] == "class"
        self.name = tokens[start + 1][1]
        self.line, self.column = tokens[start][2:]
        self._tokens, self._start = tokens, start

    @cached_property
    def node(self) -> ast.ClassDef | ast.FunctionDef:
        """The parsed definition; CompileError where the text is not the script language."""
        try:
            parser = ModuleParser(self.source, self._tokens, self._start)
            return parser.class_definition() if self.is_class else parser.function()
        except RecursionError:
            raise CompileError(
                f"`{self.name}` nests too deeply", self.source.location(self.line, self.column)
            ) from None


class ModuleParser(StatementParser):
    """Adds what stands outside functions: class definitions and the text as a whole."""

    def class_definition(self) -> ast.ClassDef:
        """`class Name(Base):` and its body; the cursor is at `class`."""
        line, column = self.line, self.column
        self.advance()
        name = self.expect_name("after 'class'")
        bases: list[ast.expr] = []
        if self.accept("("):
            while self.kind != ")":
                bases.append(self.expression())
                if not self.accept(","):
                    break
            self.expect(")", "after the bases of a class")
        self.expect(":", "before the body of a class")
        body = self._class_body()
        return ast.ClassDef(name, bases, [], body, [], **TYPE_PARAMETERS, lineno=line, col_offset=column)

    def _class_body(self) -> list[ast.stmt]:
        """A block that may be empty: torch prints nothing for a class without members."""
        after = self.tokens[self.index + 1][0] if self.kind == NEWLINE else ""
        if self.kind != NEWLINE or after == INDENT:
            return self.block()
        self.advance()
        return [ast.Pass(lineno=self.line, col_offset=self.column)]


def definitions(source: SourceText) -> list[Definition]:
    """The top-level definitions of a text, in order.

    Raises CompileError when the text cannot be tokenized or has something else at its top level.
    """
    tokens = tokenize(source)
    found: list[Definition] = []
    depth, index = 0, 0
    at_start = True
    while tokens[index][0] != END:
        kind = tokens[index][0]
        if kind == INDENT:
            if not depth and tokens[max(index - 2, 0)][0] != ":":
                _refuse_indent(source, tokens[index][2], found)
            depth += 1
        elif kind == DEDENT:
            depth -= 1
        elif depth == 0 and at_start:
            _top_level(source, tokens, index, found)
        at_start = kind in (NEWLINE, INDENT, DEDENT)
        index += 1
    return found


def _refuse_indent(source: SourceText, line: int, found: list[Definition]) -> NoReturn:
    """Refuse a block without a colon before it; the definition itself knows best what is missing."""
    if found:
        _ = found[-1].node
    raise CompileError("unexpected indentation", source.location(line))


def _top_level(source: SourceText, tokens: list[Token], index: int, found: list[Definition]) -> None:
    kind, text, line, column = tokens[index]
    if kind in ("class", "def") and tokens[index + 1][0] == "name":
        found.append(Definition(source, tokens, index))
    elif not _is_prelude(tokens, index):
        raise CompileError(
            f"expected a class or a function at the top level, found {text!r}", source.location(line, column)
        )


def _is_prelude(tokens: list[Token], index: int) -> bool:
    """Whether a line is one that torch before 1.5 wrote at the top: `op_version_set = 1` or `import __torch__.a.b`.

    Neither means anything today: the archive has a version, and names are qualified.
    """
    line: list[str] = []
    while tokens[index][0] not in (NEWLINE, END) and len(line) < 200:
        line.append(tokens[index][0] if tokens[index][0] == NUMBER else tokens[index][1])
        index += 1
    if line[0] == "import":
        return len(line) % 2 == 0 and line[1:2] == ["__torch__"] and set(line[2::2]) <= {"."} and "." not in line[1::2]
    return line == ["op_version_set", "=", NUMBER]


def parse_module(source: SourceText | str | bytes, name: str = "<source>") -> ast.Module:
    """All definitions of a text as an `ast.Module`; CompileError with the place of the first problem."""
    if not isinstance(source, SourceText):
        source = SourceText(name, source)
    return ast.Module([definition.node for definition in definitions(source)], [])
