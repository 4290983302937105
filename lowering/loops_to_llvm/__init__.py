"""loops -> llvm: scf, memref, vector, arith and host ops become the llvm dialect, in one walk.

`lower(module, target)` dispatches on the type of each op through one table, `HANDLERS`. Where to look:
arithmetic (arith, math), memory (memref), vectors (vector), control (scf), running (host: threads, raise,
allocation), module (functions, the frame), support (barrier, allocator), builder and types beneath them all.
"""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp

from stepwell.dialects.target import Target
from stepwell.lowering.loops_to_llvm.module import ModuleLowering

__all__ = ["lower"]


def lower(module: ModuleOp, target: Target, *, entry: str = "forward", profile: bool = False) -> ModuleOp:
    """A new module in the llvm dialect; `module` is left as it is.

    `entry` names the function that Python calls: it becomes `i32 @entry(frame, thread number)`, and the
    attribute `host.layout` of the result is the JSON text that describes the frame. With `profile`, calls of
    private functions are counted and timed.

    Raises UnsupportedError, which names the op or type, for what has no lowering.
    """
    return ModuleLowering(target, profile).lower(module, entry)
