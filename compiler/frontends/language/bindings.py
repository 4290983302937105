"""What a name or an expression stands for while a function is lowered.

A `Value` exists at run time. The others exist at compile time only: they are called, iterated, indexed or unpacked,
and become values where one is needed (Lowering.materialize). Meanings from outside the function are in names.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from xdsl.ir import Attribute, Block, Operation, SSAValue

from stepwell.compiler.frontends.language.static_types import Type
from stepwell.compiler.objects import ScriptClass
from stepwell.dialects.torch import operations


@dataclass(slots=True, eq=False)
class Value:
    """A run-time value: SSA value and static type."""

    ssa: SSAValue
    type: Type


@dataclass(slots=True, eq=False)
class Items:
    """Several things side by side: a tuple display, or the results of an op, `names` its result names."""

    items: list[Any]
    names: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Method:
    """`owner.name`, not called yet; the owner is a Value."""

    owner: Value
    name: str


@dataclass(slots=True, eq=False)
class Allocate:
    """`cls.__new__`, as archives print the creation of objects."""

    cls: ScriptClass


@dataclass(slots=True, eq=False)
class Range:
    """range(start, stop, step); None stands for the usual start of 0 and step of 1."""

    start: Value | None
    stop: Value
    step: Value | None


@dataclass(slots=True, eq=False)
class Zip:
    """zip(...), or enumerate with its counter first: stops with its shortest part."""

    parts: list[Any]


@dataclass(slots=True, eq=False)
class Count:
    """0, 1, 2, ... from `start`: the counter of enumerate."""

    start: Value


@dataclass(slots=True, eq=False)
class Reversed:
    """reversed(...)."""

    inner: Any


@dataclass(slots=True, eq=False)
class Local:
    """A function defined inside a function; inlined where it is called."""

    node: Any


@dataclass(slots=True, eq=False)
class Unusable:
    """A name that cannot be read here, and why."""

    message: str
    help: str | None = None


@dataclass(slots=True, eq=False)
class Scope:
    """The names and the block of one region.

    Writes stay in the innermost scope; where control flow joins, what was written there decides what is merged.
    `ended` is set once the block has raised or returned: what follows is dead. `refined` remembers, for names whose
    binding is only a narrower view of an outer one, that outer binding.
    """

    block: Block
    parent: Scope | None = None
    names: dict[str, Any] = field(default_factory=dict)
    constants: dict[Any, SSAValue] = field(default_factory=dict)
    refined: dict[str, tuple[Any, Value]] = field(default_factory=dict)
    ended: bool = False

    def find(self, name: str) -> Any:
        """The binding of a name, or None."""
        scope: Scope | None = self
        while scope is not None:
            found = scope.names.get(name)
            if found is not None:
                return found
            scope = scope.parent
        return None

    def constant(self, key: Any) -> SSAValue | None:
        scope: Scope | None = self
        while scope is not None:
            found = scope.constants.get(key)
            if found is not None:
                return found
            scope = scope.parent
        return None


def constant_of(value: Value) -> Any:
    """The Python value of a constant; None if it is none (and for None itself)."""
    owner = value.ssa.owner
    return owner.value if isinstance(owner, _CONSTANTS) else None


_CONSTANTS = (
    operations.ConstantInt, operations.ConstantFloat, operations.ConstantBool, operations.ConstantString,
)  # fmt: skip


def is_empty_list(value: Value) -> bool:
    """Whether it is `[]` as written, whose element type is still open."""
    owner = value.ssa.owner
    return isinstance(owner, operations.ListConstruct) and not owner.operands


def ir_types(values: Sequence[Value]) -> list[Attribute]:
    return [v.type.ir for v in values]


def made_by(value: Value, cls: type[Operation]) -> Operation | None:
    """The operation that made a value, if it is of that class."""
    owner = value.ssa.owner
    return owner if isinstance(owner, cls) else None
