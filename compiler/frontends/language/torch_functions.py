"""Functions of torch that are part of the language rather than ops: modes, checks, and those that gather tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stepwell.compiler.frontends.language.bindings import Items, Value
from stepwell.compiler.frontends.language.builtins import BUILTINS
from stepwell.compiler.frontends.language.conditions import truth
from stepwell.compiler.frontends.language.control import branch
from stepwell.compiler.frontends.language.lowering import Lowering
from stepwell.compiler.frontends.language.names import Literal
from stepwell.compiler.frontends.language.ops import call_op
from stepwell.compiler.frontends.language.static_types import INT, TENSOR, list_of, without_none

Arguments = list[Any]
Keywords = Mapping[str, Any]


def _constant(value: Any) -> Callable[..., Any]:
    return lambda f, arguments, keywords: Literal(value)


def _is_tensor(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    return Literal(f.materialize(arguments[0]).type is TENSOR)


def _assert(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    from stepwell.compiler.frontends.language.statements import raise_exception

    def fail() -> None:
        message = f.materialize(arguments[1]) if len(arguments) > 1 else f.constant("")
        raise_exception(f, message, f.constant("builtins.AssertionError"))

    branch(f, truth(f, arguments[0]), lambda: None, fail)
    return Literal(None)


def _size(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    return f.convert(f.materialize(arguments[0]), list_of(INT))


def _unwrap(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
    value = f.materialize(arguments[0])
    if value.type.kind != "Optional":
        return value
    return f.overload("aten::_unwrap_optional", [value], without_none(value.type))


def _gathering(name: str, leading: int, several: bool) -> Callable[..., Any]:
    """An op that takes a list of tensors after `leading` other arguments; `several` results come as a list."""

    def rule(f: Lowering, arguments: Arguments, keywords: Keywords) -> Any:
        values = [f.materialize(a) for a in arguments]
        tensors = values[leading:]
        if len(tensors) == 1 and (tensors[0].type.kind == "List" or tensors[0].type.is_tuple):
            listed = f.convert(tensors[0], list_of(TENSOR))
        elif len(tensors) == 1 and several and name.startswith("atleast"):
            return call_op(f, f"aten::{name}", tensors, keywords)
        else:
            listed = f.list_value([f.convert(t, TENSOR) for t in tensors])
        found = call_op(f, f"aten::{name}", [*values[:leading], listed], keywords)
        if several and isinstance(found, Value) and found.type.kind == "List":
            return _known_length(f, found, len(tensors))
        return found

    return rule


def _known_length(f: Lowering, found: Value, count: int) -> Any:
    """The elements of a list whose length the call tells."""
    return Items([call_op(f, "aten::__getitem__", [found, f.constant(n)]) for n in range(count)]) if count > 1 else found


BUILTINS.update(
    {
        "torch.no_grad": _constant(None),
        "torch.jit.is_scripting": _constant(True),
        "torch.jit.is_tracing": _constant(False),
        "torch.is_tensor": _is_tensor,
        "torch._assert": _assert,
        "torch.Size": _size,
        "torch.jit._unwrap_optional": _unwrap,
        "torch.einsum": _gathering("einsum", 1, False),
        "torch.block_diag": _gathering("block_diag", 0, False),
        "torch.cartesian_prod": _gathering("cartesian_prod", 0, False),
        **{
            f"torch.{name}": _gathering(name, 0, True)
            for name in ("meshgrid", "broadcast_tensors", "atleast_1d", "atleast_2d", "atleast_3d")
        },
    }
)
