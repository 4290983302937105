"""The tables of rules against the levels: what a level allows is executed, and no rule has a mistyped name."""

import pytest

from stepwell.compiler.interpreter.machine import CALLABLES
from stepwell.compiler.interpreter.rules import EMITTERS, RULES, emitter, rule
from stepwell.dialects import context
from stepwell.dialects.levels import LINALG, LLVM, LOOPS, TILE

ENDS = {
    "linalg.yield", "scf.yield", "scf.condition", "scf.reduce", "scf.reduce.return", "tensor.yield", "tile.yield",
    "memref.alloca_scope.return",
}  # fmt: skip
"""Terminators, which the op around them reads."""
STRUCTURE = {"builtin.module", "builtin.unregistered", "memref.global", "llvm.mlir.global"}
MISSING = {
    "scf.reduce", "memref.dma_start", "memref.dma_wait", "llvm.inline_asm", "llvm.invoke", "llvm.landingpad",
    "llvm.indirectbr",
}  # fmt: skip
"""Ops of allowed dialects that nothing here makes."""
MLIR_ONLY = {
    "tensor.rank", "tensor.generate", "memref.prefetch", "vector.shape_cast", "llvm.intr.fmuladd", "llvm.intr.log10",
    "llvm.intr.tan", "llvm.intr.tanh",
}  # fmt: skip
"""Rules for ops that MLIR has and no dialect here yet."""

INTRINSICS = {"llvm.intr.x86.avx512.mask.scalef.ps", "llvm.intr.x86.avx512.mask.scalef.pd"}
"""Rules for what llvm.call_intrinsic names and no op stands for."""


@pytest.fixture(scope="module")
def known():
    """The names of all ops that can be read."""
    return {op.name for op in context().loaded_ops}


@pytest.mark.parametrize("level", [LINALG, TILE, LOOPS, LLVM], ids=lambda level: level.name)
def test_what_a_level_allows_is_executed(level, known):
    declared = set(RULES) | set(EMITTERS) | set(CALLABLES) | ENDS | STRUCTURE | MISSING
    assert sorted(name for name in known if level.permits(name) and name not in declared) == []


def test_names_are_spelt_as_the_dialects_have_them(known):
    assert sorted((set(RULES) | set(EMITTERS) | set(CALLABLES)) - known - MLIR_ONLY - INTRINSICS) == []


def test_an_op_has_one_rule():
    for declare in (rule, emitter):
        with pytest.raises(ValueError, match=r"two rules for arith.addi"):
            declare("arith.addi")(lambda *operands: None)
