"""Which names a piece of a program assigns: what a loop carries."""

from __future__ import annotations

import ast
from collections.abc import Iterable


def assigned(nodes: Iterable[ast.AST]) -> list[str]:
    """The names that statements or targets bind, in order of appearance; functions defined inside count as names."""
    found: dict[str, None] = {}
    for node in nodes:
        _visit(node, found)
    return list(found)


def _visit(node: ast.AST, found: dict[str, None]) -> None:
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, (ast.Store, ast.Del)):
            found[node.id] = None
        return
    if isinstance(node, ast.FunctionDef):
        found[node.name] = None
        return
    if isinstance(node, (ast.ListComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)):
        return
    loop = getattr(node, "loop", None)
    if loop is not None:
        _visit(loop, found)
    for child in ast.iter_child_nodes(node):
        _visit(child, found)
