"""The script language as text: source in, Python `ast` nodes out, without Python's own parser.

Archives carry their program as Python-like text that nobody vouches for. This package reads it with bounded
time, memory and depth, and never hands it to `exec`, `eval`, `compile` or `ast.parse`. What comes out are the
node classes of Python's `ast` module, so that one front end serves scripted functions and archives alike.
"""

from stepwell.compiler.frontends.parser.definitions import Definition, definitions, parse_module
from stepwell.compiler.frontends.parser.expressions import parse_expression
from stepwell.compiler.frontends.parser.source import SourceText
from stepwell.compiler.frontends.parser.types import TypeExpr, parse_type, type_from_ast

__all__ = [
    "Definition",
    "SourceText",
    "TypeExpr",
    "definitions",
    "parse_expression",
    "parse_module",
    "parse_type",
    "type_from_ast",
]
