"""Type expressions of the script language as small immutable values.

The grammar: a dotted name, optionally with arguments in brackets (`Dict[str, Tensor]`, `Tuple[()]`,
`__torch__.a.___torch_mangle_3.C`), or types joined by `|`. The spellings that Python code and archives use for one
type (`list`, `typing.List`, `torch.Tensor`, `None`) become one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from stepwell.compiler.frontends.parser.expressions import parse_expression
from stepwell.compiler.frontends.parser.source import SourceText
from stepwell.dialects.diagnostics import CompileError

MAX_TYPE_DEPTH = 30

_SPELLINGS = {
    "list": "List", "dict": "Dict", "tuple": "Tuple", "None": "NoneType", "torch.Tensor": "Tensor",
    "torch.device": "Device", "device": "Device", "torch.Generator": "Generator", "typing.Any": "Any",
    "typing.List": "List", "typing.Dict": "Dict", "typing.Tuple": "Tuple", "typing.Optional": "Optional",
    "typing.Union": "Union", "typing.Final": "Final",
}  # fmt: skip

_ARITY = {"List": 1, "Optional": 1, "Dict": 2, "Future": 1, "Await": 1, "RRef": 1, "Final": 1}


@dataclass(frozen=True, slots=True)
class TypeExpr:
    """A type as written: `name` is `int`, `Tensor`, `List`, `__torch__.m.C`, ...; `args` what the brackets hold.

    `Tuple` with no arguments is the empty tuple; `Tuple[T, ...]` has the last argument TypeExpr("...").
    """

    name: str
    args: tuple[TypeExpr, ...] = ()

    @property
    def is_class(self) -> bool:
        """Whether the name is that of a class in the archive."""
        return self.name.startswith("__torch__.")

    def walk(self) -> Iterator[TypeExpr]:
        """This type and all types inside it."""
        yield self
        for argument in self.args:
            yield from argument.walk()

    def __str__(self) -> str:
        if self.name == "Tuple" and not self.args:
            return "Tuple[()]"
        return f"{self.name}[{', '.join(map(str, self.args))}]" if self.args else self.name


def parse_type(text: str, name: str = "<type>") -> TypeExpr:
    """The type that a text spells; CompileError where it spells none."""
    return type_from_ast(parse_expression(SourceText(name, text)), SourceText(name, text))


def type_from_ast(node: ast.expr, source: SourceText | None = None) -> TypeExpr:
    """The type that an annotation spells. `source`, when given, is quoted by errors.

    Raises CompileError on anything that is no type, or nests deeper than MAX_TYPE_DEPTH.
    """
    return _read(node, source, MAX_TYPE_DEPTH)


def _read(node: ast.expr, source: SourceText | None, depth: int) -> TypeExpr:
    if not depth:
        _refuse(node, source, f"the type is more than {MAX_TYPE_DEPTH} levels deep")
    if isinstance(node, ast.Subscript):
        name = _name(node.value, source)
        index = node.slice
        inner = index.elts if isinstance(index, ast.Tuple) else [index]
        args = tuple(_read(argument, source, depth - 1) for argument in inner)
        if len(args) != _ARITY.get(name, len(args)) or (name == "Union" and not args):
            _refuse(node, source, f"{name} takes {_ARITY.get(name, 'some')} argument(s), not {len(args)}")
        return TypeExpr(name, args)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return TypeExpr("Union", tuple(_read(a, source, depth - 1) for a in _alternatives(node)))
    if isinstance(node, ast.Constant) and (node.value is None or node.value is ...):
        return TypeExpr("NoneType" if node.value is None else "...")
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _read(parse_expression(SourceText("<type>", node.value)), source, depth - 1)
    return TypeExpr(_name(node, source))


def _alternatives(node: ast.expr) -> list[ast.expr]:
    found: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        found.append(node.right)
        node = node.left
    return [node, *reversed(found)]


def _name(node: ast.expr, source: SourceText | None) -> str:
    parts: list[str] = []
    inner = node
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    if not isinstance(inner, ast.Name):
        _refuse(node, source, "this is no type")
    parts.append(inner.id)
    name = ".".join(reversed(parts))
    return _SPELLINGS.get(name, name)


def _refuse(node: ast.expr, source: SourceText | None, message: str) -> NoReturn:
    raise CompileError(message, source.location(node.lineno, node.col_offset) if source else None)
