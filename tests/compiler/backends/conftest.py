"""Programs of the loops level, written by hand, become functions to call with numpy arrays."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from xdsl.parser import Parser

from stepwell.compiler.backends import jit
from stepwell.compiler.backends.target import host
from stepwell.dialects import context
from stepwell.runtime import threads
from stepwell.runtime.function import NativeFunction

Build = Callable[..., NativeFunction]

PARALLEL = re.compile(r"scf\.parallel \((%\w+)\) = \((%\w+)\) to \((%\w+)\) step \((%\w+)\) \{")
GENERIC = r'"scf.parallel"(\2, \3, \4) <{operandSegmentSizes = array<i32: 1, 1, 1, 0>}> ({ ^bb0(\1: index):'


def readable(text: str) -> str:
    """MLIR's syntax of scf.parallel and memref.copy, which xDSL does not read, in generic form."""
    text = PARALLEL.sub(GENERIC, text)
    text = re.sub(r"memref\.copy (%\w+), (%\w+) : (.*) to (.*)", r'"memref.copy"(\1, \2) : (\3, \4) -> ()', text)
    return re.sub(r"scf\.reduce\s*\}", "scf.reduce\n}) : (index, index, index) -> ()", text)


@pytest.fixture(scope="session")
def build() -> Build:
    """`build(text, **options)`: the verified module, verified again at the llvm level, as native code."""

    def make(text: str, *, target: Any = None, **options: Any) -> NativeFunction:
        module = Parser(context(), readable(text)).parse_module()
        module.verify()
        chosen = target or host()
        constants = options.pop("constants", None)
        lowered = jit.lower_module(module, chosen, **options)
        lowered.verify()
        return jit.load(jit.compile_llvm(lowered, chosen), constants)

    return make


@pytest.fixture
def two_threads() -> Iterator[None]:
    """A team of two while the test runs."""
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)
