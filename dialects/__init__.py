"""What can be said: the dialects of every level, their types, checks and diagnostics.

Nothing here imports another part of Stepwell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdsl.context import Context


def context() -> Context:
    """A context that reads the text of every level: upstream's dialects, torch, host and tile.

    Names of resources are read as they stand: xDSL's own builtin dialect remembers those of every text that was
    ever read, and renames what it has seen before.
    """
    # Imported here: diagnostics, which live beside, must not cost the warm path an import of xDSL.
    from xdsl.context import Context
    from xdsl.dialect_interfaces.op_asm import OpAsmDialectInterface
    from xdsl.dialects import builtin, cf, func, linalg, math, memref, scf, tensor, vector
    from xdsl.ir import Dialect

    from stepwell.dialects import host, tile, torch, upstream

    class Names(OpAsmDialectInterface):
        def declare_resource(self, key: str) -> str:
            return key

    own = builtin.Builtin
    result = Context()
    for dialect in (
        Dialect(own.name, list(own.operations), list(own.attributes), [Names()]),
        cf.Cf, func.Func, linalg.Linalg, math.Math, memref.MemRef, scf.Scf, tensor.Tensor,
        vector.Vector, torch.Torch, host.Host, tile.Tile,
    ):  # fmt: skip
        result.load_dialect(dialect)
    upstream.load(result)
    return result
