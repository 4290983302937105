"""Real archives give equal results at every level of x86-64, each in instructions of its own width."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from stepwell.compiler.backends import jit
from stepwell.compiler.backends.llvm_text import print_module
from stepwell.compiler.backends.target import detect, named
from stepwell.compiler.driver import compile_program
from stepwell.compiler.pipeline import run

NEEDED = {"x86-64-v2": "sse4.2", "x86-64-v3": "avx2", "x86-64-v4": "avx512bw"}
REGISTERS = {"x86-64-v2": "xmm", "x86-64-v3": "ymm", "x86-64-v4": "zmm"}


@pytest.mark.parametrize("level", NEEDED)
def test_archives_give_equal_results_at_every_level(model: Any, level: str) -> None:
    if not detect().has(NEEDED[level]):
        pytest.skip("another machine")
    specialized = model.specialized()
    target = dataclasses.replace(named(level), cores=2)
    program = compile_program(specialized.program, target)[0].load(specialized.program.resources)
    positions = model.request().positions()
    leaves = [leaf.copy() if isinstance(leaf, np.ndarray) else leaf for leaf in model.call().leaves]
    outputs = program(*[leaves[positions[where]] for where in specialized.inputs])
    expected = model.bound(*model.inputs)  # last, for it may write to the state
    first = expected[0] if isinstance(expected, tuple) else expected
    np.testing.assert_allclose(outputs[0], np.asarray(first), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", REGISTERS)
@pytest.mark.parametrize("name", ["digits", "mlp"])
def test_the_assembly_uses_whole_registers(name: str, level: str, load_model: Any) -> None:
    program = load_model(name).specialized().program
    target = named(level)
    run(program, target=target)
    text = jit.compile_assembly(print_module(program.module), target)
    multiply_adds = re.findall(r"v?(?:fmadd\w+ps|mulps)\b.*%([xyz]mm)", text)
    assert multiply_adds.count(REGISTERS[level]) > len(multiply_adds) / 2, f"of {len(multiply_adds)}"
    wider = {"xmm": "[yz]mm", "ymm": "zmm", "zmm": "none"}[REGISTERS[level]]
    assert not re.search(rf"%{wider}", text)
