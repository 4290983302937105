"""The text of every level: it reads as the module that it came from, and the stair goes on from it to equal code."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stepwell.compiler.backends import jit
from stepwell.compiler.backends.target import host
from stepwell.compiler.driver import result_order
from stepwell.compiler.executable import Artifact
from stepwell.compiler.pipeline import STEPS, run
from stepwell.compiler.program import Program
from stepwell.compiler.variant import Specialized, compile_specialized, link
from stepwell.dialects.text import print_text
from stepwell.lowering.loops_to_llvm.lower_entry import PREPARE, LoopsToLlvm, entry_name, part_of

SMALLER = pytest.mark.parametrize(
    "model", ["digits", "mlp", "lstm", pytest.param("silero", marks=pytest.mark.oracle)], indirect=True
)
"""The encoder left out: compiling it four more times shows nothing that the others do not."""

LEVELS = ("torch", "linalg", "tile", "loops", "llvm")


def reads_as(program: Program, **form: bool) -> Program:
    """The program that a text reads as, once it is shown to be equal."""
    text = program.text(**form)
    again = Program.from_text(text, program.resources)
    assert program.module.is_structurally_equivalent(again.module)
    assert again.text(**form) == text
    return again


def test_the_text_of_every_level_reads_as_an_equal_module(model: Any) -> None:
    reads_as(Program(model.raw()))
    program = model.specialized().program
    for level in LEVELS:
        run(program, target=host(), to=level, verify="each")
        assert f'stepwell.level = "{level}"' in program.text()
        for form in ({}, {"own_generic": True}) if level in ("tile", "loops") else ({},):
            reads_as(program, **form)


def outcome(model: Any, artifact: Artifact, resources: Any) -> list[Any]:
    """What the code gives for the model's inputs: every flat result."""
    return list(link(artifact, resources, model.request())(model.call().leaves))


@functools.cache
def _straight(model: Any) -> tuple[Artifact, list[Any]]:
    specialized = model.specialized()
    artifact = compile_specialized(specialized, None, None)
    return artifact, outcome(model, artifact, specialized.program.resources)


@pytest.fixture
def straight(model: Any) -> tuple[Artifact, list[Any]]:
    """The code and the results without a stop."""
    return _straight(model)


def same(got: list[Any], want: list[Any]) -> None:
    """Bit by bit."""
    assert len(got) == len(want) > 0
    for have, expected in zip(got, want, strict=True):
        np.testing.assert_array_equal(have, expected)


@SMALLER
@pytest.mark.parametrize("level", LEVELS[:-1])
def test_stopping_and_going_on_from_text_gives_the_same_code(model: Any, straight: Any, level: str) -> None:
    specialized: Specialized = model.specialized()
    run(specialized.program, target=host(), to=level)
    resumed = replace(specialized, program=reads_as(specialized.program, locations=True))
    artifact = compile_specialized(resumed, None, None)
    same(outcome(model, artifact, specialized.program.resources), straight[1])
    assert artifact.parts == straight[0].parts, "the objects, byte by byte"


@SMALLER
def test_the_text_of_the_llvm_level_is_compiled_and_run(model: Any, straight: Any) -> None:
    specialized: Specialized = model.specialized()
    program = specialized.program
    run(program, target=host(), to="loops")
    functions = {op.sym_name.data: op for op in program.module.ops if hasattr(op, "sym_name")}
    entries = [n for n in (PREPARE,) if n in functions] + [entry_name(program.module)]
    parts = {}
    for entry in entries:
        part = Program(part_of(program.module, entry), program.resources)
        steps = tuple(LoopsToLlvm(host(), entry) if step is LoopsToLlvm else step for step in STEPS)
        run(part, target=host(), steps=steps, verify="each")
        read = Program.from_text(print_text(part.module))
        parts[entry] = jit.compile_llvm(read.module, host()).to_bytes()
    kept = {(PREPARE if entry == PREPARE else "forward"): code for entry, code in parts.items()}
    assert list(result_order(functions[entries[-1]])) == straight[0].metadata["order"]
    artifact = Artifact(kept, straight[0].metadata)
    same(outcome(model, artifact, program.resources), straight[1])
    # Compiled at once functions are one object's own, compiled as they are lowered they are seen by others: the codes
    # differ in that, the frames do not.
    layouts = [{n: jit.CompiledObject.from_bytes(part).layout for n, part in parts.items()} for parts in (kept, straight[0].parts)]
    assert layouts[0] == layouts[1]


def test_infinity_in_a_vector_keeps_its_bits() -> None:
    """`dense<0xFF800000>` of floats are bits, as in MLIR; they were read as the number 4286578688."""
    text = """
    builtin.module {
      %a = arith.constant dense<0xFF800000> : vector<4xf32>
      %b = arith.constant dense<[1.5, 0x7FC00000]> : tensor<2xf32>
      %c = arith.constant dense<0x10> : vector<4xi32>
    }"""
    a, b, c = (op.properties["value"].get_values() for op in Program.from_text(text).module.ops)
    assert a[0] == -np.inf and b[0] == 1.5 and np.isnan(b[1]) and c[0] == 16
