"""isinstance, where only the value tells: of members of a union, of Any."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stepwell.dialects.torch.declare import Sample, ScalarInfo, TensorInfo, op, sample
from stepwell.dialects.torch.ops.samples import normal
from stepwell.dialects.torch.sizes import Dim

Describe = Callable[[Any], tuple[str, Any]]
"""Of a value its kind ("int", "Tensor", "List", "NoneType", a class's name) and what it holds: elements, or pairs."""


def is_of(value: Any, type_: str, describe: Describe) -> bool:
    """Whether a value is of a type, spelled as the front end spells it: "List[int]", "Optional[Tensor]"."""
    return _is_of(value, ast.parse(type_, mode="eval").body, describe)


def _is_of(value: Any, node: ast.expr, describe: Describe) -> bool:
    name = node.value if isinstance(node, ast.Subscript) else node
    wanted = name.id if isinstance(name, ast.Name) else name.attr if isinstance(name, ast.Attribute) else "NoneType"
    inner: list[ast.expr] = []
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    kind, parts = describe(value)
    if wanted == "Any":
        return True
    if wanted in ("Optional", "Union"):
        return (wanted == "Optional" and kind == "NoneType") or any(_is_of(value, n, describe) for n in inner)
    if wanted == "number":
        return kind in ("int", "float")
    if kind != wanted:
        return False
    if kind == "List" and inner:
        return all(_is_of(part, inner[0], describe) for part in parts)
    if kind == "Tuple" and isinstance(node, ast.Subscript):
        return len(parts) == len(inner) and all(_is_of(p, n, describe) for p, n in zip(parts, inner, strict=True))
    if kind == "Dict" and inner:
        return all(_is_of(k, inner[0], describe) and _is_of(v, inner[1], describe) for k, v in parts)
    return True


_KINDS = {bool: "bool", int: "int", float: "float", str: "str", type(None): "NoneType", tuple: "Tuple", list: "List"}


def python_kind(value: Any) -> tuple[str, Any]:
    """`Describe` for Python's own values and arrays."""
    if isinstance(value, (np.ndarray, np.generic)):
        return "Tensor", ()
    if isinstance(value, dict):
        return "Dict", value.items()
    return _KINDS.get(type(value), getattr(getattr(value, "cls", None), "short_name", "Any")), value


def kind_of_facts(value: Any) -> tuple[str, Any]:
    """`Describe` for what shape rules know of values."""
    if isinstance(value, TensorInfo):
        return "Tensor", ()
    if isinstance(value, ScalarInfo):
        return value.kind, ()
    return ("int", ()) if isinstance(value, Dim) else python_kind(value)


@op("prim::isinstance(Any self, str type) -> bool", evaluate_only=True)
class IsInstance:
    """Whether a value is of a type, spelled as text."""

    @staticmethod
    def infer(value: Any, type_: str) -> bool:
        return is_of(value, type_, kind_of_facts)

    @staticmethod
    def reference(value: Any, type_: str) -> bool:
        return is_of(value, type_, python_kind)

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(normal(2, 3), "Tensor")
        yield sample([1, 2], "List[int]")
        yield sample((1, 2.0), "Tuple[int, int]")
