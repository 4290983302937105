"""Texts with parts that are only known at run time: the messages of exceptions.

Such a text is a `Format`: a template with a field for each run-time number. Adding texts and formatting them gives
another template; whatever else a program does with one needs the text itself, which only the interpreter has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from stepwell.dialects.torch.builder import Value
from stepwell.dialects.torch.declare import Declaration, ScalarInfo
from stepwell.dialects.torch.sizes import Dim
from stepwell.lowering.torch.specialize.values import (
    Abstract,
    CannotSpecialize,
    DynamicList,
    Format,
    ListRef,
    Path,
    TensorRef,
)


def takes_text(declaration: Declaration) -> bool:
    """Whether an op makes a text or looks into one."""
    schema = declaration.schema
    return any(t.base == "str" and not t.is_list for t in (*schema.returns, *(a.type for a in schema.arguments)))


def is_open(path: Path, value: Abstract) -> bool:
    """Whether a value, written out as text, has parts that are only known at run time."""
    if isinstance(value, ListRef):
        elements = path.store.lists[value.number]
        return isinstance(elements, DynamicList) or any(is_open(path, v) for v in elements)
    if isinstance(value, tuple):
        return any(is_open(path, v) for v in value)
    return isinstance(value, (Dim, Value, Format, TensorRef))


def run(declaration: Declaration, arguments: Sequence[Abstract], path: Path) -> Format:
    """One op on texts of which some are open. CannotSpecialize names the op that needs the text itself."""
    rule = _RULES.get(declaration.schema.qualified_name)
    if rule is None:
        raise CannotSpecialize(f"{declaration.schema.qualified_name} on a text that is known at run time only")
    return rule(path, *arguments)


def _written(path: Path, value: Abstract, quoted: bool = False) -> Format:
    """str(value), or inside a container repr(value), as a template."""
    if isinstance(value, Format) and not quoted:
        return value
    if isinstance(value, Dim) or (isinstance(value, Value) and isinstance(value.info, ScalarInfo)):
        return Format("{}", (value,))
    if isinstance(value, (ListRef, tuple)):
        elements = path.store.lists[value.number] if isinstance(value, ListRef) else value
        if not isinstance(elements, DynamicList):
            parts = [_written(path, v, quoted=True) for v in elements]
            inner = _joined([part for p in parts for part in (p, _plain(", "))][:-1])
            if isinstance(value, ListRef):
                return _joined([_plain("["), inner, _plain("]")])
            return _joined([_plain("("), inner, _plain(",)" if len(parts) == 1 else ")")])
    elif value is None or isinstance(value, (bool, int, float, str)):
        return _plain(repr(value) if quoted else str(value))
    raise CannotSpecialize(f"a text with the contents of a {type(value).__name__} in it")


def _plain(text: str) -> Format:
    return Format(text.replace("{", "{{").replace("}", "}}"), ())


def _joined(parts: Sequence[Format]) -> Format:
    return Format("".join(p.template for p in parts), tuple(a for p in parts for a in p.arguments))


def _str(path: Path, value: Abstract) -> Format:
    return _written(path, value)


def _add(path: Path, left: Abstract, right: Abstract) -> Format:
    return _joined([_written(path, left), _written(path, right)])


_FIELD = re.compile(r"\{\{|\}\}|\{(\d*)\}")


def _format(path: Path, template: Abstract, *values: Abstract) -> Format:
    """str.format with plain fields, `{}` and `{1}`."""
    rest = _FIELD.sub("", _known(template))
    if "{" in rest or "}" in rest:
        raise CannotSpecialize(f"the format {template!r} of values that are known at run time only")
    return _filled(path, template, _FIELD, values)


_DIRECTIVE = re.compile(r"%%|%([sdi])")


def _percent(path: Path, template: Abstract, *values: Abstract) -> Format:
    """The % operator with %s, %d and %i."""
    if "%" in _DIRECTIVE.sub("", _known(template)):
        raise CannotSpecialize(f"the format {template!r} of values that are known at run time only")
    if len(values) == 1 and isinstance(values[0], tuple):
        values = values[0]
    return _filled(path, template, _DIRECTIVE, values)


def _filled(path: Path, template: str, field: re.Pattern[str], values: Sequence[Abstract]) -> Format:
    """The template's text with the values, written out, in the places that `field` finds."""
    parts: list[Format] = []
    at = used = 0
    for found in field.finditer(template):
        parts.append(_plain(template[at : found.start()]))
        at = found.end()
        if found.group(1) is None:
            parts.append(_plain(found.group()[0]))
            continue
        position = int(found.group(1)) if found.group(1).isdigit() else used
        used += 1
        if position >= len(values):
            raise CannotSpecialize(f"the format {template!r} has more fields than there are values")
        parts.append(_written(path, values[position]))
    return _joined([*parts, _plain(template[at:])])


def _known(template: Abstract) -> str:
    if not isinstance(template, str):
        raise CannotSpecialize("a format that is known at run time only")
    return template


_RULES: dict[str, Callable[..., Format]] = {
    "aten::str": _str,
    "aten::add.str": _add,
    "aten::format": _format,
    "aten::percentFormat": _percent,
}
