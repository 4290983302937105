"""Characters to tokens: one regular expression, and the indentation rule of Python.

A token is a tuple (kind, text, line, column). Keywords and operators are their own kind, the others are NAME,
NUMBER, STRING, NEWLINE, INDENT, DEDENT and END. The expression uses possessive repeats: no input makes it backtrack.
"""

from __future__ import annotations

import re
from typing import NoReturn

from stepwell.compiler.frontends.parser.source import SourceText
from stepwell.dialects.diagnostics import CompileError

NAME, NUMBER, STRING = "name", "number", "string"
NEWLINE, INDENT, DEDENT, END = "newline", "indent", "dedent", "end"

Token = tuple[str, str, int, int]

MAX_SOURCE_BYTES = 32 << 20
MAX_TOKENS = 1_000_000
MAX_INDENTS = 100
TAB = 8

KEYWORDS = frozenset(
    "and as assert async await break class continue def del elif else except finally for from global if import "
    "in is lambda nonlocal not or pass raise return try while with yield None True False".split()
)

# Python 3.11.2 loses its place in a group that is repeated possessively, so the parts of a string are not; each begins
# with a character that none of the others does, and a string that does not end is given up in one pass all the same.
_TOKEN = re.compile(
    r"""
      (?P<space>   [ \t\f]++ | \\\r?\n )
    | (?P<newline> \r?\n )
    | (?P<comment> \#[^\n]*+ )
    | (?P<name>    [A-Za-z_][A-Za-z0-9_]*+ )
    | (?P<number>  0[xX][0-9a-fA-F_]++ | 0[oO][0-7_]++ | 0[bB][01_]++
                 | (?: [0-9][0-9_]*+ (?: \.[0-9_]*+ )?+ | \.[0-9][0-9_]*+ ) (?: [eE][+-]?+[0-9][0-9_]*+ )?+ [jJ]?+ )
    | (?P<string>  \"\"\" [^"\\]*+ (?: (?: \\. | \"{1,2}(?!\") ) [^"\\]*+ )* \"\"\"
                 | ''' [^'\\]*+ (?: (?: \\. | '{1,2}(?!') ) [^'\\]*+ )* '''
                 | "(?!"") [^"\\\n]*+ (?: \\. [^"\\\n]*+ )* "
                 | '(?!'') [^'\\\n]*+ (?: \\. [^'\\\n]*+ )* ' )
    | (?P<op>      \*\*= | //= | <<= | >>= | \.\.\. | \*\* | // | << | >> | <= | >= | == | != | -> | :=
                 | \+= | -= | \*= | /= | %= | @= | &= | \|= | \^=
                 | [-+*/%@&|^~<>=()\[\]{},:.;] )
    """,
    re.VERBOSE | re.DOTALL,
)


def refuse(source: SourceText, line: int, column: int, message: str, *, help: str | None = None) -> NoReturn:
    """Raise the CompileError of a syntax error at a place."""
    raise CompileError(message, source.location(line, column), help=help)


def tokenize(source: SourceText) -> list[Token]:
    """All tokens of a source text, ended by END.

    Raises CompileError on a character outside the language, an unclosed string, inconsistent indentation,
    more than MAX_INDENTS nested blocks, or a text beyond MAX_SOURCE_BYTES or MAX_TOKENS.
    """
    if len(source.data) > MAX_SOURCE_BYTES:
        raise CompileError(f"{source.name}: {len(source.data)} bytes of source, the limit is {MAX_SOURCE_BYTES}")
    text = source.characters
    tokens: list[Token] = []
    add = tokens.append
    match = _TOKEN.match
    indents = [0]
    line, line_start, offset, end = 1, 0, 0, len(text)
    brackets = 0
    fresh = True  # at the start of a logical line, where indentation counts
    while offset < end:
        found = match(text, offset)
        if found is None:
            refuse(source, line, offset - line_start, _complaint(text, offset))
        kind, column = found.lastgroup, offset - line_start
        value = found.group()
        offset = found.end()
        if kind == "space":
            if "\n" in value:
                line, line_start = line + 1, offset
            continue
        if kind == "comment":
            continue
        if kind == "newline":
            if not brackets and not fresh:
                add((NEWLINE, "", line, column))
                fresh = True
            line, line_start = line + 1, offset
            continue
        if fresh:
            fresh = False
            _indent(source, tokens, indents, text[line_start : line_start + column], line)
        if kind == "name":
            add((value if value in KEYWORDS else NAME, value, line, column))
        elif kind == "op":
            if value in "([{":
                brackets += 1
            elif value in ")]}":
                brackets = max(0, brackets - 1)
            add((value, value, line, column))
        else:
            add((kind or "", value, line, column))
            if kind == "string" and "\n" in value:
                line += value.count("\n")
                line_start = offset - (len(value) - value.rfind("\n") - 1)
        if len(tokens) > MAX_TOKENS:
            refuse(source, line, column, f"more than {MAX_TOKENS} tokens in one source text")
    if not fresh:
        add((NEWLINE, "", line, end - line_start))
    tokens.extend((DEDENT, "", line, 0) for _ in indents[1:])
    add((END, "", line, end - line_start))
    return tokens


def _indent(source: SourceText, tokens: list[Token], indents: list[int], blank: str, line: int) -> None:
    """Compare a line's leading blanks with the open blocks; add INDENT or DEDENT tokens."""
    width = 0
    for character in blank:
        width = (width // TAB + 1) * TAB if character == "\t" else width + 1
    if width > indents[-1]:
        if len(indents) > MAX_INDENTS:
            refuse(source, line, 0, f"more than {MAX_INDENTS} nested blocks")
        indents.append(width)
        tokens.append((INDENT, "", line, len(blank)))
        return
    while width < indents[-1]:
        indents.pop()
        tokens.append((DEDENT, "", line, len(blank)))
    if width != indents[-1]:
        refuse(source, line, len(blank), "this indentation matches no enclosing block")


def _complaint(text: str, offset: int) -> str:
    character = text[offset]
    if character in "\"'":
        return "a string is not closed"
    if " " < character < "\x7f":
        return f"the character {character!r} is not part of the language"
    return f"the byte 0x{ord(character):02x} is not part of the language outside strings"
