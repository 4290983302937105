"""Fixtures of all lowering tests: reading IR, running passes with the interpreter as oracle."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

from stepwell import dialects
from stepwell.compiler.interpreter import interpret
from stepwell.lowering.pass_ import Pass

Parse = Callable[[str], ModuleOp]
Check = Callable[..., ModuleOp]


def read(text: str) -> ModuleOp:
    """A verified module from text."""
    module = Parser(dialects.context(), text).parse_module()
    module.verify()
    return module


@pytest.fixture
def parse() -> Parse:
    return read


@pytest.fixture
def check() -> Check:
    """`check(text_or_module, passes, *arguments, entry="f")`: run the passes one by one; after each the module is
    valid, and gives the numbers that it gave at first (exactly, or within `rtol`). Returns the module."""

    def run(
        source: str | ModuleOp,
        passes: Sequence[Pass],
        *arguments: Any,
        entry: str = "f",
        resources: Mapping[str, np.ndarray[Any, Any]] | None = None,
        rtol: float = 0.0,
        atol: float = 0.0,
    ) -> ModuleOp:
        module = read(source) if isinstance(source, str) else source
        context = dialects.context()
        before = interpret(module, entry, arguments, resources=resources)
        for step in passes:
            step.apply(module, context)
            try:
                module.verify()
                after = interpret(module, entry, arguments, resources=resources)
                for expected, found in zip(before, after, strict=True):
                    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol, err_msg=step.name)
                    assert np.asarray(found).dtype == np.asarray(expected).dtype
            except Exception as error:
                error.add_note(f"after {step.name}:\n{module}")
                raise
        return module

    return run
