"""Objects for AArch64 give our results under qemu: real archives, with one thread and with two."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from stepwell.compiler.backends.target import named
from stepwell.compiler.driver import compile_program
from stepwell.dialects.target import Target

pytestmark = pytest.mark.tools


def arm(cores: int) -> Target:
    return dataclasses.replace(named("aarch64"), triple="aarch64-unknown-linux-gnu", cores=cores)


@pytest.mark.parametrize("threads", [1, 2])
def test_archives_give_our_results_on_arm(model: Any, threads: int, run_on_arm: Any) -> None:
    specialized = model.specialized()
    compiled, _ = compile_program(specialized.program, arm(2))
    constants = dict(specialized.program.resources)
    if compiled.prepare is not None:
        constants.update(zip(compiled.prepared, run_on_arm(compiled.prepare, [], constants, 1), strict=True))
    positions, leaves = model.request().positions(), model.call().leaves
    outputs = run_on_arm(compiled.forward, [leaves[positions[w]] for w in specialized.inputs], constants, threads)
    expected = model.bound(*model.inputs)  # last, for it may write to the state
    first = expected[0] if isinstance(expected, tuple) else expected
    np.testing.assert_allclose(outputs[compiled.order[0]], np.asarray(first), rtol=1e-4, atol=1e-5)
