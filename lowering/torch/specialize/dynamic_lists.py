"""Ops on lists whose length is only known at run time: the few that models apply to what a loop collected."""

from __future__ import annotations

from typing import Any

from xdsl.ir import Attribute

from stepwell.dialects.torch import types
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Declaration, TensorInfo
from stepwell.dialects.torch.sizes import Dim, Size, Symbol
from stepwell.lowering.torch.specialize.join import materialize, scalar_of
from stepwell.lowering.torch.specialize.loop_state import list_type
from stepwell.lowering.torch.specialize.tensors import read
from stepwell.lowering.torch.specialize.values import (
    Abstract,
    CannotSpecialize,
    DynamicList,
    ListRef,
    Path,
    TensorRef,
    new_tensor,
)


def run(declaration: Declaration, arguments: list[Abstract], path: Path) -> Any:
    """One op on a run-time list. CannotSpecialize names the op where there is no such form of it."""
    handler = _OPS.get(declaration.schema.name)
    if handler is None:
        raise CannotSpecialize(f"{declaration.schema.qualified_name} on a list whose length is known at run time only")
    return handler(declaration, arguments, path)


def _contents(path: Path, ref: ListRef) -> DynamicList:
    found = path.store.lists[ref.number]
    if isinstance(found, DynamicList):
        return found
    raise CannotSpecialize("a list is indexed by a value known at run time only")


def _append(declaration: Declaration, arguments: list[Abstract], path: Path) -> Any:
    target, element = arguments
    known = _contents(path, target)
    inner = list_type(known.element).element
    value = read(path, element) if isinstance(element, TensorRef) else element
    if isinstance(value, Value) and isinstance(value.info, TensorInfo):
        _check_element(known.element, value.info)
    result = path.builder.append(declaration, [known.ssa, materialize(path.builder, value, inner)], [known.ssa.type])[0]
    path.store.lists[target.number] = DynamicList(result, known.element)
    path.store.freeze([element])
    return target


def _check_element(element: TensorInfo | str, info: TensorInfo) -> None:
    from stepwell.lowering.torch.specialize.values import CannotJoin

    fits = (
        isinstance(element, TensorInfo)
        and element.dtype == info.dtype
        and element.rank == info.rank
        and all(not isinstance(e, int) or e == s for e, s in zip(element.sizes, info.sizes, strict=True))
    )
    if not fits:
        raise CannotJoin(f"a growing list of {element} gets {info}")


def _length(declaration: Declaration, arguments: list[Abstract], path: Path) -> Any:
    known = _contents(path, arguments[0])
    result = path.builder.append(declaration, [known.ssa], [types.INT])[0]
    return path.builder.fresh("n", result, low=0)


def _item(declaration: Declaration, arguments: list[Abstract], path: Path) -> Any:
    known = _contents(path, arguments[0])
    index = path.builder.materialize(arguments[1])
    type_ = list_type(known.element).element
    result = path.builder.append(declaration, [known.ssa, index], [type_])[0]
    if isinstance(known.element, TensorInfo):
        found = new_tensor(path, Value(result, _fresh_sizes(path.builder, result, known.element)))
        path.store.freeze([found])
        return found
    return scalar_of(path.builder, result)


def _fresh_sizes(builder: TorchBuilder, value: Any, info: TensorInfo) -> TensorInfo:
    """Sizes that differ from element to element are symbols of this element."""
    sizes: list[Size] = []
    for dim, size in enumerate(info.sizes):
        if isinstance(size, Dim):
            symbol = Symbol("s", 0)
            builder.define(symbol, builder.size_of(value, dim))
            size = Dim.of(symbol)
        sizes.append(size)
    return info.with_sizes(sizes)


def _joined(declaration: Declaration, arguments: list[Abstract], path: Path) -> Any:
    """cat and stack of all elements: the joined dimension is known at run time only."""
    known = _contents(path, arguments[0])
    element, dim = known.element, arguments[1]
    if not isinstance(element, TensorInfo):
        raise CannotSpecialize(f"{declaration.schema.qualified_name} of a list of numbers")
    stacks = declaration.schema.name == "stack"
    rank = element.rank + int(stacks)
    dim = dim + rank if dim < 0 else dim
    sizes: list[int] = [s if isinstance(s, int) else -1 for s in element.sizes]
    if stacks:
        sizes.insert(dim, -1)
    else:
        sizes[dim] = -1
    type_: Attribute = types.vtensor(sizes, element.dtype)
    result = path.builder.append(declaration, [known.ssa, path.builder.constant(dim)], [type_])[0]
    facts: list[Size] = []
    for position, size in enumerate(sizes):
        facts.append(size if size >= 0 else path.builder.fresh("n", path.builder.size_of(result, position), low=0))
    return new_tensor(path, Value(result, TensorInfo(tuple(facts), element.dtype)))


_OPS = {"append": _append, "len": _length, "__getitem__": _item, "cat": _joined, "stack": _joined}
