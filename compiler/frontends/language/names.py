"""What a free name of a program can mean, besides functions and classes of the program itself.

The two languages differ in the names in scope and in a flag, `Environment.python`. Scripted Python keeps Python's
meaning where TorchScript departs from it silently (`3 or 0` is 3, `2 ** 3` an int, `round(2.5)` an int); archives
keep TorchScript's, as their other types were inferred under it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Namespace:
    """Something whose attributes are looked up by `Environment.attribute`: torch, ops.prim, a Python module."""

    path: str


@dataclass(frozen=True)
class OpName:
    """An op of the registry, overload still open: `aten::add`."""

    name: str


@dataclass(frozen=True)
class Builtin:
    """A function that the language itself defines: `len`, `annotate`, `isinstance`."""

    name: str


@dataclass(frozen=True)
class Literal:
    """A constant: anything that an attribute's value can be."""

    value: Any
