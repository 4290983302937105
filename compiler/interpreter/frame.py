"""Calls the entry of a module at the llvm level as the runtime calls native code: through a frame.

The arguments are those of the same program at the loops level, so one list serves both levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp, StringAttr

from stepwell.compiler.interpreter.machine import Machine
from stepwell.compiler.interpreter.values import Array, to_outside
from stepwell.runtime.abi import FrameLayout, Slot, aligned_empty

WORD = np.dtype(np.int64)


def interpret_lowered(
    module: ModuleOp, arguments: Sequence[Any], *, threads: int = 1, order: Sequence[int] | None = None
) -> list[Any]:
    """Run the entry function of a lowered module; the list of its results.

    `module` carries its frame layout as `host.layout`. `arguments` are all that the entry takes at the loops
    level, in order: inputs, outputs and constants as contiguous arrays, numbers, the arena as a byte array.
    Raises what the program raises; InterpreterError as `interpret` does; ValueError for arguments that do not fit.
    """
    text = module.attributes["host.layout"]
    assert isinstance(text, StringAttr)
    layout = FrameLayout.from_json(text.data)
    if len(arguments) != len(layout.arguments):
        raise ValueError(f"@{layout.entry} takes {len(layout.arguments)} arguments, got {len(arguments)}")
    machine = Machine(module)
    frame = aligned_empty((layout.slots,), WORD)
    frame[...] = 0
    frame[layout.header["threads"]] = threads
    for slot, value in zip(layout.arguments, arguments, strict=True):
        _write(machine, frame, layout, slot, value)
    team = [machine.memory.share(frame)]
    (status,) = machine.call_spmd(layout.entry, team, threads=threads, order=order)
    if status:
        first = layout.header["message"]
        raise layout.raises[int(status) - 1].error(frame[first : first + 8].tolist())
    return [_read(machine, frame, slot) for slot in layout.results]


def _write(machine: Machine, frame: Array, layout: FrameLayout, slot: Slot, value: Any) -> None:
    """Put one argument into its slots."""
    if slot.kind == "arena":
        frame[layout.header["arena"]] = machine.memory.share(value)
        frame[layout.header["arena_bytes"]] = value.nbytes
        return
    if slot.shape is None:
        frame[slot.slot : slot.slot + 1].view(slot.numpy_dtype)[0] = value
        return
    fits = isinstance(value, np.ndarray) and len(slot.shape) == value.ndim and value.dtype == slot.numpy_dtype
    if not fits or any(want not in (-1, have) for want, have in zip(slot.shape, value.shape, strict=True)):
        raise ValueError(f"{slot.name}: expected {slot.dtype}{list(slot.shape)}, got {type(value).__name__}")
    if not value.flags.c_contiguous:
        raise ValueError(f"{slot.name}: expected an array without gaps")
    frame[slot.slot] = machine.memory.share(value)
    dynamic = [have for want, have in zip(slot.shape, value.shape, strict=True) if want < 0]
    for place, size in zip(slot.size_slots, dynamic, strict=True):
        frame[place] = size


def _read(machine: Machine, frame: Array, slot: Slot) -> Any:
    """One result from its slots."""
    if slot.shape is None:
        return to_outside(frame[slot.slot : slot.slot + 1].view(slot.numpy_dtype)[0])
    dynamic = iter(slot.size_slots)
    shape = tuple(int(frame[next(dynamic)]) if size < 0 else size for size in slot.shape)
    length = int(np.prod(shape)) * slot.numpy_dtype.itemsize
    data = machine.memory.bytes_at(int(frame[slot.slot]), length)
    return data.view(slot.numpy_dtype).reshape(shape)
