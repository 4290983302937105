"""What can be said: the dialects of every level, their types, checks and diagnostics.

Nothing here imports another part of Stepwell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdsl.context import Context


def context() -> Context:
    """A context that reads the text of every level: upstream's dialects, torch, host and tile."""
    from xdsl.context import Context
    from xdsl.dialects import builtin, cf, func, gpu, linalg, math, memref, scf, tensor, vector

    from stepwell.dialects import host, tile, torch, upstream

    result = Context()
    for dialect in (
        builtin.Builtin, cf.Cf, func.Func, linalg.Linalg, math.Math, memref.MemRef, scf.Scf, tensor.Tensor,
        vector.Vector, gpu.GPU, torch.Torch, host.Host, tile.Tile,
    ):  # fmt: skip
        result.load_dialect(dialect)
    upstream.load(result)
    return result
