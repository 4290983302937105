"""Annotations of scripted Python as type expressions: typing's names, Python's own, stepwell's and torch's."""

from __future__ import annotations

import ast
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

from stepwell.compiler.frontends.parser.types import TypeExpr
from stepwell.dialects.diagnostics import CompileError

NOT_FOUND = object()
"""What a lookup gives for a name that is not defined."""

_NAMES = {
    "Tensor": "Tensor", "List": "List", "Dict": "Dict", "Tuple": "Tuple", "Optional": "Optional", "Union": "Union",
    "Any": "Any", "Final": "Final", "Sequence": "List", "Future": "Future", "NoneType": "NoneType",
    "MutableSequence": "List", "Mapping": "Dict", "ndarray": "Tensor", "OrderedDict": "Dict",
}  # fmt: skip
"""Generic types and tensors, by the last part of the name: what is only imported for type checkers is known so."""

_SIMPLE = {int: "int", float: "float", bool: "bool", str: "str", complex: "complex", type(None): "NoneType",
           list: "List", dict: "Dict", tuple: "Tuple", object: "Any"}  # fmt: skip

_TORCH = {"Tensor": "Tensor", "device": "Device", "dtype": "int", "Size": "Size", "Generator": "Generator",
          "layout": "int", "memory_format": "int", "Parameter": "Tensor"}  # fmt: skip


class Annotations:
    """Reads annotations. `lookup` gives the Python object of a name, `name_of` the qualified name of a class."""

    def __init__(self, lookup: Callable[[str], Any], name_of: Callable[[type], str]) -> None:
        self._lookup, self._name_of = lookup, name_of

    def read(self, node: ast.expr) -> TypeExpr:
        """The type that an expression spells; CompileError where it spells none."""
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.Subscript):
            return self._generic(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return TypeExpr("Union", (self.read(node.left), self.read(node.right)))
        found = self._object(node)
        if found is NOT_FOUND:
            last = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
            if last in _NAMES:
                return TypeExpr(_NAMES[last])
            if last.startswith("BroadcastingList"):
                return TypeExpr(last)
            raise CompileError(f"{ast.unparse(node)} is not defined")
        return self.of_object(found)

    def _constant(self, node: ast.Constant) -> TypeExpr:
        if node.value is None:
            return TypeExpr("NoneType")
        if isinstance(node.value, str):
            try:
                return self.read(ast.parse(node.value, mode="eval").body)
            except SyntaxError:
                raise CompileError(f"{node.value!r} is no type") from None
        raise CompileError(f"{node.value!r} is no type")

    def _object(self, node: ast.expr) -> Any:
        """The Python object that a dotted name means."""
        if isinstance(node, ast.Name):
            return self._lookup(node.id)
        if isinstance(node, ast.Attribute):
            owner = self._object(node.value)
            return owner if owner is NOT_FOUND else getattr(owner, node.attr, NOT_FOUND)
        raise CompileError(f"{ast.unparse(node)} is no type")

    def _generic(self, node: ast.Subscript) -> TypeExpr:
        base = self.read(node.value) if not self._is_special(node.value, "Literal") else TypeExpr("Literal")
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if base.name == "Literal":
            return _literal([p.value for p in parts if isinstance(p, ast.Constant)])
        if base.name.startswith("BroadcastingList"):
            return base
        if self._is_special(node.value, "Annotated", "ClassVar", "Final"):
            return self.read(parts[0])
        if base.name == "Tuple" and len(parts) == 2 and _is_ellipsis(parts[1]):
            return TypeExpr("List", (self.read(parts[0]),))
        if base.name == "Tensor":
            return base
        return TypeExpr(base.name, tuple(self.read(p) for p in parts))

    def _is_special(self, node: ast.expr, *names: str) -> bool:
        found = self._object(node)
        last = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
        return last in names and (found is NOT_FOUND or any(found is getattr(typing, n, None) for n in names))

    # ------ types that exist as objects

    def of_object(self, thing: Any) -> TypeExpr:
        """The type expression of a Python type object: `int`, `typing.List[int]`, a class."""
        if isinstance(thing, (str, typing.ForwardRef)):
            return self._constant(ast.Constant(thing if isinstance(thing, str) else thing.__forward_arg__))
        if thing is None:
            return TypeExpr("NoneType")
        origin = typing.get_origin(thing)
        if origin is not None:
            return self._of_generic(origin, typing.get_args(thing))
        try:
            simple = _SIMPLE.get(thing)
        except TypeError:
            simple = None
        if simple is not None:
            return TypeExpr(simple)
        name = getattr(thing, "__name__", None) or getattr(thing, "_name", None) or ""
        module = getattr(thing, "__module__", "")
        if thing is Any or (module in ("typing", "collections.abc") and name in _NAMES):
            return TypeExpr(_NAMES[name] if name in _NAMES else "Any")
        if module.split(".")[0] == "torch" and name in _TORCH:
            return TypeExpr(_TORCH[name])
        if name == "ndarray" or (module == "stepwell.compiler.annotations" and name == "Tensor"):
            return TypeExpr("Tensor")
        if isinstance(thing, type):
            return TypeExpr(self._name_of(thing))
        wrapped = getattr(thing, "__stepwell_class__", None)
        if wrapped is not None:
            return TypeExpr(self._name_of(wrapped))
        raise CompileError(f"{thing!r} is no type that can be scripted")

    def _of_generic(self, origin: Any, args: Sequence[Any]) -> TypeExpr:
        if origin is typing.Union or origin is types.UnionType:
            return TypeExpr("Union", tuple(self.of_object(a) for a in args))
        if origin is typing.Literal:
            return _literal(args)
        if origin is tuple and len(args) == 2 and args[1] is ...:
            return TypeExpr("List", (self.of_object(args[0]),))
        if origin in (typing.Final, typing.ClassVar, typing.Annotated):
            return self.of_object(args[0])
        name = _SIMPLE.get(origin) or _NAMES.get(getattr(origin, "__name__", ""))
        if name is None:
            raise CompileError(f"{origin!r} is no type that can be scripted")
        return TypeExpr(name, tuple(self.of_object(a) for a in args))


def _literal(values: Sequence[Any]) -> TypeExpr:
    kinds = list(dict.fromkeys(_SIMPLE.get(type(v), "") for v in values))
    if "" in kinds or not kinds:
        raise CompileError("Literal takes numbers, strings and None")
    return TypeExpr(kinds[0]) if len(kinds) == 1 else TypeExpr("Union", tuple(TypeExpr(k) for k in kinds))


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...
