"""`tile-to-gpu`: from a kernel to its gpu.func. Which template writes it is decided by its form.

A schedule's template is a wish: a kernel that is not of its form is written by `pointwise`, which writes
everything that a thread can compute by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from xdsl.dialects import gpu
from xdsl.dialects.builtin import FileLineColLoc, FusedLoc, ModuleOp, NameLoc, StringAttr
from xdsl.ir import Attribute, Block, Region

from stepwell.dialects.diagnostics import Location, UnsupportedError
from stepwell.dialects.tile import KernelOp
from stepwell.lowering.gpu import geometry
from stepwell.lowering.gpu.device import Device
from stepwell.lowering.gpu.frame import Frame
from stepwell.lowering.gpu.matmul import matmul
from stepwell.lowering.gpu.pointwise import pointwise
from stepwell.lowering.gpu.rows import rows

TEMPLATES: dict[str, tuple[Callable[[Frame], bool], ...]] = {
    "matmul": (matmul, rows), "rows": (rows,), "map": (), "nest": (rows,),
    "window": (), "conv": (), "depthwise": (), "winograd": (), "attention": (),
}  # fmt: skip
"""What is tried, in order, before `pointwise`."""

OWN_TEMPLATE = ("map", "nest", "rows", "matmul")
"""Templates of the tile level that GPUs have, too."""


@dataclass(frozen=True)
class Note:
    """A kernel that could not be written: its name, the places in the model's source that it is from, and why."""

    kernel: str
    places: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        where = f" ({', '.join(self.places)})" if self.places else ""
        return f"kernel {self.kernel}{where}: no GPU template yet: {self.reason}"


def lower_kernel(kernel: KernelOp, device: Device) -> gpu.FuncOp:
    """The function of a kernel. Raises UnsupportedError for a body that cannot be written."""
    frame = Frame(kernel, device)
    if not any(template(frame) for template in TEMPLATES[kernel.template]):
        if kernel.template not in OWN_TEMPLATE:
            frame.decide(f"no {kernel.template} template for GPUs yet: nothing is shared among threads")
        pointwise(frame)
    return frame.function()


def lower_kernels(module: ModuleOp, device: Device) -> tuple[ModuleOp, list[Note]]:
    """A new module with one gpu.module of all kernels, and what could not be written. `module` stays as it is."""
    block = Block()
    notes: list[Note] = []
    for op in module.ops:
        if isinstance(op, KernelOp):
            try:
                block.add_op(lower_kernel(op, device))
            except UnsupportedError as error:
                notes.append(Note(op.sym_name.data, places(op.location), error.message))
    inner = gpu.ModuleOp.create(properties={"sym_name": StringAttr("kernels")}, regions=[Region(block)])
    return ModuleOp([inner]), notes


def functions_of(module: ModuleOp) -> list[gpu.FuncOp]:
    """The kernels of a module that `lower_kernels` made."""
    found = []
    for op in module.ops:
        if isinstance(op, gpu.ModuleOp):
            found += [inner for inner in op.body.block.ops if isinstance(inner, gpu.FuncOp)]
    return found


def places(location: Attribute) -> tuple[str, ...]:
    """The places of the model's source in a location, each once."""
    return tuple(dict.fromkeys(str(place) for place in _places(location)))


def _places(location: Attribute) -> Iterator[Location]:
    if isinstance(location, FileLineColLoc):
        yield Location(location.filename.data, location.line.data, max(location.column.data - 1, 0))
    elif isinstance(location, FusedLoc):
        for part in getattr(location.locations, "data", ()):
            yield from _places(part)
    elif isinstance(location, NameLoc):
        yield from _places(location.location)


def describe(function: gpu.FuncOp) -> list[str]:
    """A kernel in some lines: where it is from, how it is launched, what was decided."""
    where = ", ".join(places(function.location))
    grid = ", ".join(readable(function, formula) for formula in geometry.grids_of(function))
    head = f"{function.sym_name.data}" + (f", from {where}" if where else "")
    blocks = f"max({grid})" if len(geometry.grids_of(function)) > 1 else grid
    return [
        head,
        f"  launch: {blocks} blocks of {geometry.threads_of(function)} threads",
        *(f"  {text}" for text in geometry.decisions_of(function)),
    ]


def readable(function: gpu.FuncOp, formula: str) -> str:
    """The formula of a grid, its symbols as axes of arguments."""
    sources = geometry.size_sources(function)

    def named(symbol: re.Match[str]) -> str:
        argument, axis = sources[int(symbol[1])]
        return f"arg{argument}" if axis < 0 else f"arg{argument}.shape[{axis}]"

    return re.sub(r"\bs(\d+)\b", named, formula)
