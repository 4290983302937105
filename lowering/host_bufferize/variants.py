"""Kernels that read or write through strides: a copy of the kernel per set of layouts, which `lower-kernels` honours.

The layouts stand in the attribute `tile.layouts`, by the number of the argument (results after inputs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects.builtin import DictionaryAttr, MemRefType, NoneAttr, StringAttr
from xdsl.ir import Attribute, SSAValue

from stepwell.dialects.tile import LAYOUTS, KernelOp

Layouts = tuple[tuple[str, Attribute], ...]


def variant_of(name: str) -> str:
    """The kernel of the tile level behind a function of the loops level."""
    return name.partition(".")[0]


class Variants:
    """The kernels of a module, and those that were made of them. `used`: what is called, by name."""

    def __init__(self, kernels: Mapping[str, KernelOp]) -> None:
        self.kernels = kernels
        self.used: dict[str, KernelOp] = {}
        self._names: dict[tuple[str, Layouts], str] = {}
        self._counts: dict[str, int] = {}

    def strided(self, name: str, passed: Sequence[SSAValue]) -> str:
        """The kernel for arguments (inputs, then results) of these types, by name."""
        layouts = tuple(
            (str(number), value.type.layout)
            for number, value in enumerate(passed)
            if isinstance(value.type, MemRefType) and not isinstance(value.type.layout, NoneAttr)
        )
        if not layouts:
            self.used[name] = self.kernels[name]
            return name
        found = self._names.get((name, layouts))
        if found is None:
            self._counts[name] = self._counts.get(name, 0) + 1
            found = self._names[name, layouts] = f"{name}.{self._counts[name]}"
            kernel = self.kernels[name].clone()
            kernel.properties["sym_name"] = StringAttr(found)
            kernel.attributes[LAYOUTS] = DictionaryAttr(dict(layouts))
            self.used[found] = kernel
        return found
