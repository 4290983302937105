"""Kernels as text: lowered, compiled and called, and interpreted as values for comparison."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

from stepwell.compiler.backends import jit
from stepwell.compiler.backends.target import host, named
from stepwell.compiler.interpreter import interpret
from stepwell.dialects import context
from stepwell.dialects.target import Target
from stepwell.lowering.host_bufferize import BufferizeHost
from stepwell.lowering.host_bufferize.scratch import AttachScratch
from stepwell.lowering.tile_to_loops import lower_kernels

Array = np.ndarray[Any, Any]


def program(kernel: str) -> str:
    """A kernel and an entry function that launches it once."""
    head = re.search(r"tile\.kernel (@\w+)\((.*?)\)\s*->\s*\((.*?)\)\s*attributes", kernel, re.S)
    assert head is not None
    name, arguments, results = head.groups()
    names = re.findall(r"(%\w+)\s*:\s*(tensor<[^>]*>|\w+)", arguments)
    kinds, given = ", ".join(k for _, k in names), ", ".join(n for n, _ in names)
    count = results.count("tensor<")
    made = ", ".join(f"%result{i}" for i in range(count))
    return f"""{kernel}
    func.func @forward({arguments}) -> ({results}) attributes {{host.entry}} {{
      {made} = tile.launch {name}({given}) : ({kinds}) -> ({results})
      func.return {made} : {results}
    }}"""


def parsed(text: str) -> ModuleOp:
    module = Parser(context(), text).parse_module()
    module.verify()
    return module


def lower(kernel: str, target: Target) -> ModuleOp:
    """The loops of a kernel and of the function that calls it."""
    module = parsed(program(kernel))
    BufferizeHost().apply(module, context())
    lower_kernels(module, target)
    AttachScratch(target).apply(module, context())
    module.verify()
    return module


@pytest.fixture
def lowered() -> Callable[[str, Target], ModuleOp]:
    """lowered(kernel, target): the loops of a kernel and of the function that calls it."""
    return lower


Check = Callable[..., list[Array]]


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Target:
    """This machine; tests that ask for it (`target` by parameter) also run as on x86-64 machines that are narrower."""
    name = getattr(request, "param", "host")
    if name == "host":
        return host()
    if host().architecture != "x86_64" or (name == "x86-64-v3" and not host().has("avx2")):
        pytest.skip("not this machine")
    return named(name)


@pytest.fixture
def check(target: Target) -> Check:
    """check(kernel, inputs): compiled (for `other`, where given) and interpreted results agree; the compiled ones."""

    def checker(
        kernel: str, inputs: Sequence[Any], tolerance: float = 1e-5, other: Target | None = None
    ) -> list[Array]:
        expected = interpret(parsed(program(kernel)), "forward", list(inputs))
        expected = expected if isinstance(expected, (list, tuple)) else [expected]
        results = [np.asarray(r) for r in jit.build(lower(kernel, other or target), other or target)(*inputs)]
        assert len(results) == len(expected)
        for result, wanted in zip(results, expected, strict=True):
            wanted = np.asarray(wanted)
            assert result.shape == wanted.shape and result.dtype == wanted.dtype
            if wanted.dtype.kind in "fV":
                np.testing.assert_allclose(
                    result.astype(np.float64), wanted.astype(np.float64), rtol=tolerance, atol=tolerance
                )
            else:
                np.testing.assert_array_equal(result, wanted)
        return results

    return checker
