"""Ops of MLIR's own dialects as MLIR has them, where xDSL 0.74 lacks them or defines them too narrowly.

Names, operands, properties and syntax are MLIR's: mlir-opt reads what is printed here. Two kinds:

- *missing*: llvm casts, intrinsics and atomics, vector.gather and vector.step, arith.remf, math.erfc, x86vector's scalef ...
- *widened*: arith.cmpi, arith.select, the int/float casts, llvm.fcmp, ... which xDSL allows on scalars only.

Whoever creates such an op takes the class from `core` or `llvm` here. `load(context)` brings the arith,
llvm and gpu dialects with these ops in the place of xDSL's, so that a text is read back as the same classes.
"""

from __future__ import annotations

from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects import llvm as xdsl_llvm
from xdsl.ir import Dialect, Operation

from stepwell.dialects.upstream import core, gpu, llvm

WIDENED: tuple[type[Operation], ...] = (
    core.CmpiOp, core.CmpfOp, core.SelectOp, core.IndexCastOp,
    core.FPToSIOp, core.FPToUIOp, core.SIToFPOp, core.UIToFPOp,
    core.ExtSIOp, core.ExtUIOp, core.TruncIOp,
    llvm.FCmpOp, llvm.SelectOp, llvm.MaskedStoreOp, llvm.StoreOp, llvm.GEPOp,
)  # fmt: skip
"""Ops that xDSL has, but too narrow."""

MISSING: tuple[type[Operation], ...] = (
    core.IndexCastUIOp, core.RemFOp, core.ErfcOp,
    core.IsNaNOp, core.IsInfOp, core.IsFiniteOp, core.StepOp, core.FromElementsOp, core.GatherOp, core.ScatterOp,
    core.PrefetchOp, core.ScaleFOp,
    llvm.FPToSIOp, llvm.FPToUIOp, llvm.UIToFPOp, llvm.FreezeOp, llvm.AddrSpaceCastOp, llvm.PoisonOp, llvm.ExtractElementOp,
    llvm.SwitchOp, llvm.FenceOp, llvm.AtomicRMWOp, llvm.CmpXchgOp, *llvm.INTRINSICS.values(),
)  # fmt: skip
"""Ops that xDSL lacks."""


def _corrected(dialect: Dialect) -> Dialect:
    widened = {op.name: op for op in WIDENED}
    return Dialect(dialect.name, [widened.get(op.name, op) for op in dialect.operations], list(dialect.attributes))


ARITH = _corrected(arith.Arith)
LLVM = _corrected(xdsl_llvm.LLVM)
GPU = gpu.GPU
"""xDSL's dialects with the widened and missing ops; load these, never xDSL's own beside them."""


def load(context: Context) -> None:
    """Add ARITH, LLVM, GPU and the missing ops of other dialects.

    Raises AlreadyRegisteredConstructException where the context already has arith, llvm, gpu, or an op of
    one of these names.
    """
    for dialect in (ARITH, LLVM, GPU):
        context.load_dialect(dialect)
    for op in MISSING:
        context.load_op(op)
