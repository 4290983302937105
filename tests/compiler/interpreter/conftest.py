"""What the interpreter's tests share: parse a text and run one function of it."""

import pytest
from xdsl.parser import Parser

from stepwell.compiler.interpreter import interpret
from stepwell.dialects import context


@pytest.fixture(scope="session")
def parse():
    """Text to a verified module."""

    def parse(text):
        module = Parser(context(), text).parse_module()
        module.verify()
        return module

    return parse


@pytest.fixture(scope="session")
def run(parse):
    """Run a function of a text on arguments; its results as a list."""

    def run(text, *arguments, entry="f", **options):
        return interpret(parse(text), entry, arguments, **options)

    return run


@pytest.fixture(scope="session")
def apply(run):
    """Run one op, in generic form, on scalars or vectors: apply("arith.addi", "i8", 100, 100)."""

    def apply(op, types, *values, result=None, properties=""):
        types = [types] * len(values) if isinstance(types, str) else types
        result = result or types[0]
        parameters = ", ".join(f"%a{n}: {type}" for n, type in enumerate(types))
        operands = ", ".join(f"%a{n}" for n in range(len(types)))
        text = f"""
        func.func @f({parameters}) -> {result} {{
          %r = "{op}"({operands}) {properties} : ({", ".join(types)}) -> {result}
          func.return %r : {result}
        }}"""
        return run(text, *values)[0]

    return apply
