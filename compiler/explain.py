"""What is known of ops, as text: the table of docs/ops.md, and one op in detail."""

from __future__ import annotations

from collections.abc import Iterable

from stepwell.dialects import torch as _torch
from stepwell.dialects.torch.declare import OPS, Declaration

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
