"""Programs as text in the language of archives, lowered and run on numpy."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from xdsl.parser import Parser

from stepwell.compiler.frontends.archive import CodeIndex
from stepwell.compiler.frontends.archive_objects import ArchiveEnvironment
from stepwell.compiler.frontends.language.program import RawProgram, lower_program
from stepwell.compiler.interpreter.torch import RawMachine
from stepwell.compiler.objects import ScriptFunction, ScriptObject
from stepwell.dialects import context


class Language:
    """Functions of one source text."""

    def __init__(self, text: str, version: int = 10) -> None:
        source = textwrap.dedent(text).encode()
        self.environment = ArchiveEnvironment(CodeIndex({"code/__torch__/m.py": source}), version)

    def function(self, name: str = "f") -> ScriptFunction:
        found = self.environment.attribute("__torch__.m", name)
        assert isinstance(found, ScriptFunction)
        return found

    def object(self, name: str, **attributes: Any) -> ScriptObject:
        cls = self.environment.class_named(f"__torch__.m.{name}")
        assert cls is not None
        return ScriptObject(cls, attributes)

    def lower(self, name: str = "f") -> RawProgram:
        """The raw program of a function, verified, its text read back."""
        return checked(lower_program(self.function(name)))

    def text(self, name: str = "f") -> str:
        """The body of a function as text."""
        module = str(self.lower(name).module)
        start = module.index(f"@__torch__.m.{name}(")
        lines = module[start:].splitlines()[1:]
        return textwrap.dedent("\n".join(lines[: next(i for i, line in enumerate(lines) if line == "  }")]))

    def run(self, *arguments: Any, name: str = "f") -> Any:
        return run(self.lower(name), name, *arguments)


def checked(program: RawProgram) -> RawProgram:
    program.module.verify()
    text = str(program.module)
    assert str(Parser(context(), text).parse_module()) == text
    return program


def run(program: RawProgram, name: str, *arguments: Any) -> Any:
    """Call an entry on the interpreter; methods get the root object first."""
    machine = RawMachine(program.module, program.resources, lambda n: ScriptObject(program.classes[n]))
    owner = [program.root] if isinstance(program.root, ScriptObject) else []
    return machine.call(program.entries[name].symbol, [*owner, *arguments])


@pytest.fixture
def language() -> Callable[..., Language]:
    return Language


@pytest.fixture
def run_method() -> Callable[..., Any]:
    """run_method(object, name, *arguments)."""

    def call(root: ScriptObject, name: str, *arguments: Any) -> Any:
        return run(checked(lower_program(root, [name])), name, *arguments)

    return call
