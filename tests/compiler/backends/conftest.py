"""Programs of the loops level, written by hand, become functions to call with numpy arrays."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from xdsl.parser import Parser

from stepwell.compiler.backends import jit
from stepwell.compiler.backends.llvm_text import print_module
from stepwell.compiler.backends.target import host
from stepwell.dialects import context
from stepwell.runtime import threads
from stepwell.runtime.function import NativeFunction

Build = Callable[..., NativeFunction]

PARALLEL = re.compile(r"scf\.parallel \((%\w+)\) = \((%\w+)\) to \((%\w+)\) step \((%\w+)\) \{")
GENERIC = r'"scf.parallel"(\2, \3, \4) <{operandSegmentSizes = array<i32: 1, 1, 1, 0>}> ({ ^bb0(\1: index):'


def read(text: str) -> str:
    """MLIR's syntax of scf.parallel and memref.copy, which xDSL does not read, in generic form."""
    text = PARALLEL.sub(GENERIC, text)
    text = re.sub(r"memref\.copy (%\w+), (%\w+) : (.*) to (.*)", r'"memref.copy"(\1, \2) : (\3, \4) -> ()', text)
    return re.sub(r"scf\.reduce\s*\}", "scf.reduce\n}) : (index, index, index) -> ()", text)


@pytest.fixture(scope="session")
def build() -> Build:
    """`build(text, **options)`: the verified module as native code; the llvm level is verified and re-read."""

    def make(text: str, *, target: Any = None, **options: Any) -> NativeFunction:
        module = Parser(context(), read(text)).parse_module()
        module.verify()
        chosen = target or host()
        constants = options.pop("constants", None)
        lowered = jit.lower_module(module, chosen, **options)
        lowered.verify()
        again = Parser(context(), str(lowered)).parse_module()
        assert print_module(again) == print_module(lowered), "the llvm level loses something when printed"
        return jit.load(jit.compile_llvm(lowered, chosen), constants)

    return make


@pytest.fixture(scope="session")
def readable() -> Callable[[str], str]:
    """`read`, for tests that build by themselves."""
    return read


@pytest.fixture
def two_threads() -> Iterator[None]:
    """A team of two while the test runs."""
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)
