"""How a program gets into the table: its calls, and what is special about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Call:
    """One call: of which method, with what. `alias`: arguments that are one object stay one."""

    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] | None = None
    method: str = "forward"


@dataclass(frozen=True)
class Case:
    """A program: a function, or a class of modules, made anew for each side.

    dynamic: why it runs in the interpreter. refused: what the error at its first call says, where it is out of the
    language's reach. script: TorchScript's own results are right, not those of eager Python. compilations: at most so
    many for all calls. traced: made by torch.jit.trace with the first call. tolerance: relative and absolute.
    """

    make: Any
    calls: tuple[Call, ...]
    dynamic: str = ""
    refused: str = ""
    script: bool = False
    compilations: int = 0
    traced: bool = False
    tolerance: float = 1e-5
    name: str = ""


CASES: list[Case] = []


def case(*calls: Any, **options: Any) -> Callable[[Any], Any]:
    """Put the function or class below into the table. Calls are lists of arguments, or `call(...)`."""

    def add(made: Any) -> Any:
        listed = tuple(c if isinstance(c, Call) else Call(tuple(c)) for c in calls)
        CASES.append(Case(made, listed, name=f"{made.__module__.rpartition('.')[2]}.{made.__name__}", **options))
        return made

    return add


def call(*arguments: Any, method: str = "forward", **keywords: Any) -> Call:
    return Call(arguments, keywords, method)


def t(*sizes: int, dtype: torch.dtype = torch.float32, low: int = -9, high: int = 10) -> torch.Tensor:
    """A tensor of these sizes, the same at every run: small numbers of both signs, halves where it is floating."""
    generator = torch.Generator().manual_seed(sum((i + 3) * s for i, s in enumerate(sizes)) + 7)
    if dtype == torch.bool:
        return torch.randint(0, 2, sizes, generator=generator).bool()
    whole = torch.randint(low if dtype != torch.uint8 else 0, high, sizes, generator=generator)
    if dtype.is_floating_point:
        return (whole.double() / 4 + 0.125).to(dtype)
    return whole.to(dtype)


def v(*values: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A vector of these values."""
    return torch.tensor(values, dtype=dtype)
