"""What the specializer knows while it runs a program abstractly: values, the heap, one path of execution.

Abstract values are
- Python's own int, float, bool, str, None, tuple: known exactly;
- `Dim`: an int that is only known at run time; `Value` (of the contract builder): a float, bool or str that is
  only known at run time, or the contents of a tensor;
- `TensorRef`, `ListRef`, `DictRef`, `ObjectRef`: references to what the heap holds, so that aliases stay aliases;
- `Format`: a text with run-time fields (messages of exceptions); `UNDEFINED`: what control flow never reads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import Block, SSAValue

from stepwell.dialects.diagnostics import CompileError
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Declaration, TensorInfo
from stepwell.dialects.torch.sizes import Size, Symbol

Abstract: TypeAlias = Any

_numbers = itertools.count(1)


def fresh_number() -> int:
    """An identity for a new heap object."""
    return next(_numbers)


class Undefined:
    """The value of what no live path reads; joins with anything."""

    def __repr__(self) -> str:
        return "undefined"


UNDEFINED = Undefined()


@dataclass(frozen=True)
class ViewStep:
    """One view op on the way from a storage's base tensor to a reference: the op and its other arguments."""

    declaration: Declaration
    arguments: tuple[Any, ...]

    def __hash__(self) -> int:
        return hash((self.declaration.schema.qualified_name, repr(self.arguments)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ViewStep)
            and self.declaration is other.declaration
            and _same_arguments(self.arguments, other.arguments)
        )


def _same_arguments(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(type(x) is type(y) and x == y for x, y in zip(a, b, strict=True))


@dataclass(frozen=True)
class TensorRef:
    """A tensor object: a storage and the views that lead to this tensor."""

    storage: int
    chain: tuple[ViewStep, ...] = ()


@dataclass(frozen=True)
class ListRef:
    number: int


@dataclass(frozen=True)
class DictRef:
    number: int


@dataclass(frozen=True)
class ObjectRef:
    number: int
    class_name: str


@dataclass(frozen=True)
class Format:
    """template.format(*arguments), some arguments being known at run time only."""

    template: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class DynamicList:
    """A list whose length is only known at run time: a contract value of list type, all elements alike.

    `element` is a TensorInfo, or "int", "float", "bool".
    """

    ssa: SSAValue
    element: TensorInfo | str


@dataclass
class Store:
    """The heap. Known lists and dicts hold abstract values; a storage holds its base tensor's contents.

    A run-time list holds contents, not tensor objects: a storage whose contents one has is `frozen`, as a write to
    it would have to change the list as well.
    """

    tensors: dict[int, Value] = field(default_factory=dict)
    lists: dict[int, list[Abstract] | DynamicList] = field(default_factory=dict)
    dicts: dict[int, dict[Any, Abstract]] = field(default_factory=dict)
    objects: dict[int, dict[str, Abstract]] = field(default_factory=dict)
    frozen: set[int] = field(default_factory=set)
    reshaped: dict[TensorRef, tuple[ViewStep, ...]] = field(default_factory=dict)
    """Chains of tensor objects that were given other sizes in place (`x.unsqueeze_(0)`)."""

    def copy(self) -> Store:
        return Store(
            dict(self.tensors),
            {k: list(v) if isinstance(v, list) else v for k, v in self.lists.items()},
            {k: dict(v) for k, v in self.dicts.items()},
            {k: dict(v) for k, v in self.objects.items()},
            set(self.frozen),
            dict(self.reshaped),
        )

    def freeze(self, elements: Iterable[Abstract]) -> None:
        """The contents of these elements go into a run-time list."""
        self.frozen.update(e.storage for e in elements if isinstance(e, TensorRef))


@dataclass(frozen=True, eq=False)
class Relation:
    """What a run-time bool means: `left operator right` on symbolic ints, or not/and/or of such."""

    operator: str
    left: Any
    right: Any = None


@dataclass(eq=False)
class Split:
    """An If whose branches could not be joined yet: both go on by themselves until a region ends."""

    parent: TorchBuilder
    condition: SSAValue
    then: Block
    otherwise: Block
    location: LocationAttr | None

    def builder(self, which: int) -> TorchBuilder:
        """A builder at the end of a branch that has raised."""
        return TorchBuilder((self.then, self.otherwise)[which])


@dataclass(eq=False)
class Path:
    """One path of execution: where its operations go, its heap, the current function's variables, its facts."""

    builder: TorchBuilder
    store: Store
    env: dict[SSAValue, Abstract]
    facts: dict[Symbol, Size] = field(default_factory=dict)
    relations: dict[SSAValue, Relation] = field(default_factory=dict)
    splits: tuple[tuple[Split, int], ...] = ()

    def fork(self, builder: TorchBuilder, split: tuple[Split, int] | None = None) -> Path:
        """The same state, going on in another block."""
        return Path(
            builder, self.store.copy(), dict(self.env), dict(self.facts), dict(self.relations),
            self.splits if split is None else (*self.splits, split),
        )  # fmt: skip


class CannotSpecialize(CompileError):
    """The program does something that has no static form here; the interpreter runs it instead.

    `places`: attributes, as paths from the root object, that it was seen to change in place.
    """

    places: frozenset[tuple[str, ...]] = frozenset()


class WritesTensors(Exception):
    """An op turned out to write a tensor in a program that had seemed to write none: begin again, strictly."""


class CannotJoin(Exception):
    """Two paths differ in structure (rank, dtype, aliasing, type); the text says in what."""


def new_tensor(path: Path, value: Value) -> TensorRef:
    """A tensor object of its own storage with these contents."""
    number = fresh_number()
    path.store.tensors[number] = value
    return TensorRef(number)


def new_list(path: Path, elements: list[Abstract] | DynamicList) -> ListRef:
    number = fresh_number()
    path.store.lists[number] = elements
    return ListRef(number)
