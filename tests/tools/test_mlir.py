"""MLIR's own tools read what Stepwell prints: every level for which they have the dialects, and verify it."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation

from stepwell.compiler.backends import jit
from stepwell.compiler.backends.llvm_text import print_module
from stepwell.compiler.backends.target import host
from stepwell.compiler.pipeline import run
from stepwell.compiler.program import Program
from stepwell.dialects.text import OWN, print_text

pytestmark = pytest.mark.tools


def at(model: Any, level: str) -> Program:
    """The model's program, brought down to a level."""
    program: Program = model.specialized().program
    run(program, target=host(), to=level)
    return program


def is_own(op: Operation) -> bool:
    return op.name.partition(".")[0] in OWN


@pytest.mark.parametrize("level", ["linalg", "tile", "loops"])
def test_what_mlir_opt_understood_is_what_was_meant(model: Any, level: str, mlir_opt: Any) -> None:
    """mlir-opt verifies the text and prints it in generic form, which we read as the module that it came from.

    Ops of our own dialects stand in generic form already, unregistered to it; all others in their own.
    """
    program = at(model, level)
    assert sum(1 for _ in program.module.walk()) > 30
    back = mlir_opt(program.text(own_generic=True), "--allow-unregistered-dialect", "--mlir-print-op-generic")
    assert program.module.is_structurally_equivalent(Program.from_text(back).module)


def calls(function: Operation) -> set[str]:
    return {op.callee.root_reference.data for op in function.walk() if isinstance(op, func.CallOp)}


def plain(module: ModuleOp) -> ModuleOp:
    """The functions that use nothing of our own dialects, themselves or by what they call; without our annotations."""
    functions = {op.sym_name.data: op for op in module.ops if isinstance(op, func.FuncOp)}
    own = {name for name, op in functions.items() if any(map(is_own, op.walk()))}
    while more := {name for name, op in functions.items() if own & calls(op)} - own:
        own |= more
    for name in own:
        module.body.block.erase_op(functions[name], safe_erase=False)
    for op in module.walk():
        for name in [n for n in op.attributes if n.partition(".")[0] in (*OWN, "stepwell")]:
            del op.attributes[name]
        for name in ("arg_attrs", "res_attrs"):
            op.properties.pop(name, None)
    return module


@pytest.mark.parametrize("level", ["linalg", "loops", "llvm"])
def test_mlir_opt_needs_no_tolerance_for_what_is_upstreams(model: Any, level: str, mlir_opt: Any) -> None:
    """Functions that use nothing of ours are read without --allow-unregistered-dialect."""
    module = plain(at(model, level).module)
    if level == "llvm":
        assert len(list(module.ops)) > 2
    mlir_opt(print_text(module))


def test_what_iree_opt_understood_is_what_was_meant(model: Any, iree_opt: Any) -> None:
    """torch-mlir's own parser and verifiers: what a front end saw, and the contract."""
    for module in (model.raw(), model.specialized().program.module):
        back = iree_opt(print_text(module), "--mlir-print-op-generic")
        # Classes and objects end in terminators, which their usual form leaves out; ours have none,
        # and keep their block where it is empty.
        back = re.sub(r'^ *"torch\.\w+_terminator"\(\).*\n', "", back, flags=re.MULTILINE)
        again = Program.from_text(back).module
        for op in again.walk():
            for region in op.regions:
                if not region.blocks:
                    region.add_block(Block())
        assert module.is_structurally_equivalent(again)


def instructions(text: str) -> dict[str, Counter[tuple[str, str]]]:
    """How often each function has which instruction, by the type of its result, once LLVM has simplified it: its own
    builder folds constants at once. Blocks may stand in any order, and in one piece or two."""
    return {
        function.name: Counter(
            (i.opcode, str(i.type)) for block in function.blocks for i in block.instructions if i.opcode != "br"
        )
        for function in jit.optimized(text, host()).functions
    }


def test_mlir_translate_gives_the_same_code(model: Any, mlir_translate: Any) -> None:
    """LLVM IR in the words of MLIR's own translation has the functions and instructions of ours, and compiles."""
    module = at(model, "llvm").module
    theirs = mlir_translate(print_text(module), "--mlir-to-llvmir")
    ours = instructions(print_module(module))
    assert instructions(theirs) == ours and sum(map(Counter.total, ours.values())) > 100
    assert jit.compile_object(theirs, host())[:4] == jit.compile_object(print_module(module), host())[:4]

