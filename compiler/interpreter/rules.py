"""How ops are declared to the interpreter: two tables from an op's name to its rule.

A *rule* takes the op once, when its function is translated, and returns the Python function that maps operand
values to the result (a tuple for several results, anything for none). What depends only on attributes and types
is thus decided once, not at every execution:

    @rule("arith.select")
    def select(op: arith.SelectOp) -> Callable[..., Any]:
        return choose

An *emitter* is for ops that hold regions, name symbols or end blocks: it writes Python statements through a
`Writer` (see translate.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from xdsl.dialects.builtin import FileLineColLoc, FusedLoc, NameLoc
from xdsl.ir import Attribute, Operation

from stepwell.dialects.diagnostics import Error, Location, UnsupportedError

if TYPE_CHECKING:
    from stepwell.compiler.interpreter.translate import Writer

Evaluate = Callable[..., Any]
Rule = Callable[[Any], Evaluate]
Emitter = Callable[["Writer", Any], None]
_R = TypeVar("_R", bound=Rule)
_E = TypeVar("_E", bound=Emitter)

RULES: dict[str, Rule] = {}
EMITTERS: dict[str, Emitter] = {}


def rule(*names: str) -> Callable[[_R], _R]:
    """Declare the rule of the ops of these names. An op may have one rule or one emitter."""

    def declare(function: _R) -> _R:
        for name in names:
            _claim(name)
            RULES[name] = function
        return function

    return declare


def emitter(*names: str) -> Callable[[_E], _E]:
    """Declare the emitter of the ops of these names."""

    def declare(function: _E) -> _E:
        for name in names:
            _claim(name)
            EMITTERS[name] = function
        return function

    return declare


def _claim(name: str) -> None:
    if name in RULES or name in EMITTERS:
        raise ValueError(f"the interpreter has two rules for {name}")


class InterpreterError(Error):
    """An IR that means nothing: undefined behaviour reached, or a rule that failed on its operands.

    `operation` is the op, None where it is not known; the message names it and its source location.
    """

    def __init__(self, message: str, operation: Operation | None = None) -> None:
        self.operation = operation
        super().__init__(message)


class Fault(Exception):
    """Raised by a rule on undefined behaviour (out of bounds, division by zero); becomes an InterpreterError."""


class ProgramRaise(Exception):
    """Carries the Python exception that the program itself raises, so that it is not taken for a fault."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception
        super().__init__(str(exception))


def locations(attribute: Attribute) -> Iterator[Location]:
    """The source places in a location attribute, outermost first."""
    if isinstance(attribute, FileLineColLoc):
        line, column = attribute.line.data, attribute.column.data
        yield Location(attribute.filename.data, line, max(column - 1, 0))
    elif isinstance(attribute, FusedLoc):
        for part in getattr(attribute.locations, "data", ()):
            yield from locations(part)
    elif isinstance(attribute, NameLoc):
        yield from locations(attribute.location)


def describe(op: Operation) -> str:
    """An op in one line: name, result and operand types, source location."""
    operands = ", ".join(str(value.type) for value in op.operands)
    results = ", ".join(str(value.type) for value in op.results)
    places = ", ".join(str(place) for place in locations(op.location))
    return f"{op.name} ({operands}) -> ({results})" + (f" at {places}" if places else "")


def unsupported(op: Operation, why: str = "the interpreter has no rule for it") -> UnsupportedError:
    """The error for an op that cannot be executed here."""
    place = next(locations(op.location), None)
    return UnsupportedError(f"{op.name}: {why}", place)
