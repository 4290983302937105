"""What is known of ops, as text: the table of docs/ops.md, and one op in detail."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from types import CodeType, FunctionType

from stepwell.dialects import torch as _torch
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import OPS, Declaration, Rule

HEAD = """# Ops

Made by `stepwell ops` from the declarations; a test keeps it fresh. *core*: has a lowering to linalg; *composite*:
expands into other ops; *compile time*: computed while compiling (strings, lists, properties of tensors).
In-place variants (`add_`) are derived and not listed.

| op | overloads | kind | gradient | samples |
|---|---|---|---|---|
"""


def kind_of(declaration: Declaration) -> str:
    """core, composite or compile time."""
    if declaration.lower is not None:
        return "core"
    return "composite" if declaration.expand is not None else "compile time"


def ops_table() -> str:
    """docs/ops.md: one row per op name."""
    assert _torch.Torch is not None, "importing the dialect declares the ops"
    return HEAD + "".join(_row(name, OPS.overloads(name)) for name in OPS.names() if not name.endswith("_"))


def _row(name: str, overloads: Iterable[Declaration]) -> str:
    rows = list(overloads)
    variants = ", ".join(d.schema.overload or "default" for d in rows)
    kinds = ", ".join(dict.fromkeys(map(kind_of, rows)))
    gradient = "yes" if any(d.gradient is not None for d in rows) else ""
    samples = "yes" if any(d.samples is not None for d in rows) else ""
    return f"| `{name}` | {variants} | {kinds} | {gradient} | {samples} |\n"


def explain(name: str) -> str:
    """One op (`aten::softmax`) or overload (`aten::softmax.int`), in detail. Raises LookupError with what is near."""
    name = name if "::" in name else f"aten::{name}"
    plain, _, overload = name.partition(".")
    found = [d for d in OPS.overloads(plain) if not overload or d.schema.overload == overload]
    if not found:
        near = difflib.get_close_matches(plain, OPS.names(), 4, 0.7)
        raise LookupError(f"there is no op {name}" + (f"; there are {', '.join(near)}" if near else ""))
    return "\n".join(_paragraph(d) for d in found)


def _paragraph(declaration: Declaration) -> str:
    schema, base = declaration.schema, declaration.functional or declaration
    rows = [
        ("declared in", _place(base)),
        ("kind", _kind(base)),
        ("text", schema.operation_name if declaration.torch_mlir else f'torch.operator "{schema.operation_name}"'),
        ("in place", _inplace(declaration)),
        ("view", "its result shares memory with its first argument" if declaration.is_view else ""),
        ("samples", _samples(base)),
    ]
    lines = [str(schema.text), *(f"    {line}" for line in base.doc.splitlines() if line.strip())]
    return "\n".join([*lines, *(f"    {name:12} {value}" for name, value in rows if value)]) + "\n"


def _place(declaration: Declaration) -> str:
    code = _code(declaration.reference)
    return f"{declaration.source}, {code.co_filename}:{code.co_firstlineno}" if code else declaration.source


def _kind(declaration: Declaration) -> str:
    kind = kind_of(declaration)
    if declaration.expand is None:
        return f"{kind}: lowered to linalg by its own rule" if declaration.lower is not None else kind
    return f"{kind}: expands into {', '.join(ops_called(declaration.expand)) or 'views of its arguments'}"


def _inplace(declaration: Declaration) -> str:
    if declaration.functional is not None:
        return f"the variant of {declaration.functional.schema.qualified_name} that writes its first argument"
    schema = declaration.schema
    variants = OPS.overloads(f"{schema.namespace}::{schema.name}_") if declaration.inplace else ()
    return ", ".join(v.schema.qualified_name for v in variants if v.functional is declaration)


def _samples(declaration: Declaration) -> str:
    if declaration.samples is None:
        return "none"
    count = sum(1 for _ in declaration.samples())
    return f"{count}, on which tests compare every level with its reference within {declaration.tolerance:g}"


def ops_called(rule: Rule) -> list[str]:
    """The ops that an expansion names, itself or in functions of its module that it calls."""
    names: set[str] = set()
    pending, seen = [_code(rule)], set()
    scope = getattr(inspect.unwrap(rule), "__globals__", {})
    while pending:
        code = pending.pop()
        if code is None or code in seen:
            continue
        seen.add(code)
        names.update(code.co_names)
        pending += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
        pending += [_code(scope[n]) for n in code.co_names if isinstance(scope.get(n), FunctionType)]
    # What the builder and its values have by themselves (x.tensor, b.loop) is no op.
    names -= {*dir(TorchBuilder), *dir(Value)}
    return sorted(op for op in (f"aten::{n}" for n in names) if OPS.overloads(op))


def _code(rule: Rule) -> CodeType | None:
    return getattr(inspect.unwrap(rule), "__code__", None)
