"""Reads ATen's own schema strings: "aten::softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property

REQUIRED = object()
"""The default of an argument that has none."""


@dataclass(frozen=True)
class Type:
    """A schema type: `base` ("Tensor", "int", "Scalar", "ScalarType", "t", ...) with `[]`, `[n]` and `?` marks.

    `Tensor?[]` is a list of optional tensors: `element_optional`. `alias` is the annotation between
    parentheses: "a" for a view, "a!" for something written, "a -> *" for what escapes.
    """

    base: str
    is_list: bool = False
    list_size: int | None = None
    optional: bool = False
    element_optional: bool = False
    alias: str | None = None

    @property
    def written(self) -> bool:
        return self.alias is not None and "!" in self.alias

    def __str__(self) -> str:
        text = self.base + ("?" if self.element_optional else "")
        if self.is_list:
            text += f"[{self.list_size or ''}]"
        return text + ("?" if self.optional else "")


@dataclass(frozen=True)
class Argument:
    """One formal argument; `default` is REQUIRED where there is none."""

    name: str
    type: Type
    default: object = REQUIRED
    keyword_only: bool = False


@dataclass(frozen=True)
class Schema:
    """One overload: namespace, name, overload name, arguments and return types."""

    namespace: str
    name: str
    overload: str
    arguments: tuple[Argument, ...]
    returns: tuple[Type, ...]
    text: str
    variadic: bool = False
    """True for `...`: any further arguments may follow (aten::format)."""

    @cached_property
    def qualified_name(self) -> str:
        """`aten::add.Tensor`, without a dot where there is no overload name."""
        return f"{self.namespace}::{self.name}" + (f".{self.overload}" if self.overload else "")

    @cached_property
    def operation_name(self) -> str:
        """The name of its operation at the torch level: `torch.aten.add.Tensor`."""
        return f"torch.{self.namespace}.{self.name}" + (f".{self.overload}" if self.overload else "")

    @cached_property
    def mutates(self) -> bool:
        return any(a.type.written for a in self.arguments)

    def __str__(self) -> str:
        return self.text


_NAME = re.compile(r"\s*(?:(\w+)::)?(\w+)(?:\.(\w+))?\s*\(")
_TYPE = re.compile(
    r"\s*(?P<base>[A-Za-z_]\w*)(?:\((?P<alias>[^)]*)\))?(?P<eo>\?(?=\[))?(?P<list>\[(?P<n>\d*)\])?(?:\((?P<alias2>[^)]*)\))?(?P<opt>\?)?"
)


class SchemaError(ValueError):
    """A schema string that does not follow ATen's grammar."""


def parse_schema(text: str) -> Schema:
    """Parse one schema; SchemaError shows the place that could not be read."""
    head = _NAME.match(text)
    if head is None:
        raise SchemaError(f"not a schema: {text!r}")
    arguments, position = _arguments(text, head.end())
    arrow = re.compile(r"\s*->\s*").match(text, position)
    if arrow is None:
        raise SchemaError(f"'->' expected after the arguments: {text!r}")
    returns = _returns(text, arrow.end())
    variadic = "..." in text[: arrow.start()]
    return Schema(head[1] or "aten", head[2], head[3] or "", arguments, returns, text.strip(), variadic)


_PARAMETRIC = ("Dict", "Future", "Await", "RRef")
_TUPLE = re.compile(r"\s*\([^()]*\)(?P<list>\[\])?(?:\((?P<alias>[^)]*)\))?(?P<opt>\?)?")


def _type(text: str, position: int) -> tuple[Type, int]:
    nested = _TUPLE.match(text, position)
    if nested is not None:
        return Type("Tuple", nested["list"] is not None, None, nested["opt"] is not None), nested.end()
    match = _TYPE.match(text, position)
    if match is None:
        raise SchemaError(f"a type expected at {text[position:]!r}")
    return _type_spelled(match[0]), match.end()


@cache
def _type_spelled(text: str) -> Type:
    """A type that is no tuple; the schemas spell thousands, of which few differ."""
    match = _TYPE.match(text)
    assert match is not None
    size = match["n"]
    return Type(
        base={"SymInt": "int"}.get(match["base"], match["base"]),
        is_list=match["list"] is not None,
        list_size=int(size) if size else None,
        optional=match["opt"] is not None,
        element_optional=match["eo"] is not None,
        alias=match["alias2"] if match["base"] in _PARAMETRIC else match["alias"] or match["alias2"],
    )


_SEPARATOR = re.compile(r"\s*([,)])")
_DOTS = re.compile(r"\s*\.\.\.\s*\)")
_STAR = re.compile(r"\s*\*\s*,")
_ARGUMENT_NAME = re.compile(r"\s*(\w+)")
_DEFAULT = re.compile(r"\s*=\s*(\[[^\]]*\]|\"[^\"]*\"|'[^']*'|[^,)\s]+)")


def _arguments(text: str, position: int) -> tuple[tuple[Argument, ...], int]:
    arguments: list[Argument] = []
    keyword_only = False
    empty = re.compile(r"\s*\)").match(text, position)
    if empty:
        return (), empty.end()
    while True:
        star = _STAR.match(text, position)
        if star:
            keyword_only, position = True, star.end()
        rest = _DOTS.match(text, position)
        if rest:
            return tuple(arguments), rest.end()
        type_, position = _type(text, position)
        name = _ARGUMENT_NAME.match(text, position)
        if name is None:
            raise SchemaError(f"an argument name expected at {text[position:]!r}")
        position = name.end()
        default: object = REQUIRED
        given = _DEFAULT.match(text, position)
        if given:
            default, position = _default(given[1], type_), given.end()
        arguments.append(Argument(name[1], type_, default, keyword_only))
        separator = _SEPARATOR.match(text, position)
        if separator is None:
            raise SchemaError(f"',' or ')' expected at {text[position:]!r}")
        position = separator.end()
        if separator[1] == ")":
            return tuple(arguments), position


_WORDS: dict[str, object] = {
    "None": None, "True": True, "False": False, "inf": float("inf"), "Mean": 1, "Sum": 2,
    "contiguous_format": 0, "long": 4, "float": 6, "strided": 0,
}  # fmt: skip


def _default(text: str, type_: Type) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "\"'":
        return text[1:-1].encode().decode("unicode_escape")
    if text[0] == "[":
        items = [t.strip() for t in text[1:-1].split(",") if t.strip()]
        return [_default(t, Type(type_.base)) for t in items]
    number: object = float(text) if any(c in text for c in ".e") else int(text)
    if type_.base == "float" and isinstance(number, int):
        number = float(number)
    return [number] * (type_.list_size or 1) if type_.is_list and type_.list_size else number


def _returns(text: str, position: int) -> tuple[Type, ...]:
    rest = text[position:].strip()
    if rest == "()":
        return ()
    if not rest.startswith("("):
        return (_type(text, position)[0],)
    position = text.index("(", position) + 1
    types: list[Type] = []
    while True:
        type_, position = _type(text, position)
        types.append(type_)
        name = _ARGUMENT_NAME.match(text, position)
        if name:
            position = name.end()
        separator = _SEPARATOR.match(text, position)
        if separator is None:
            raise SchemaError(f"',' or ')' expected at {text[position:]!r}")
        position = separator.end()
        if separator[1] == ")":
            return tuple(types)
