"""Ops on lists whose length is only known at run time: the few that models apply to what a loop collected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import Attribute, SSAValue

from stepwell.dialects import dtypes
from stepwell.dialects.torch import types
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import OPS, Declaration, TensorInfo
from stepwell.dialects.torch.sizes import INFINITY, Dim, Iteration, Size, Symbol, bounds
from stepwell.lowering.torch.specialize.join import scalar_of
from stepwell.lowering.torch.specialize.run_time_lists import common_element, dynamic_list, list_type, materialize
from stepwell.lowering.torch.specialize.tensors import read
from stepwell.lowering.torch.specialize.values import (
    Abstract,
    CannotJoin,
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
    if handler is None or not isinstance(arguments[0], ListRef):
        raise CannotSpecialize(f"{declaration.schema.qualified_name} on a list whose length is known at run time only")
    try:
        return handler(declaration, arguments, path)
    except CannotJoin as problem:
        raise CannotSpecialize(str(problem)) from None


def _contents(path: Path, ref: ListRef) -> DynamicList:
    """The list as a value of run time, which one of known length becomes where it is indexed by such a number."""
    found = path.store.lists[ref.number]
    if isinstance(found, DynamicList):
        return found
    return dynamic_list(path, found, common_element(None, (path, found)))


def _operation(path: Path, name: str, operands: list[Any], result_types: list[Attribute]) -> Sequence[SSAValue]:
    declaration = OPS.find(name)
    assert declaration is not None
    return path.builder.append(declaration, operands, result_types)


def elements(path: Path, known: DynamicList) -> Value:
    """All elements in one tensor: a vector of numbers, a dimension more for tensors of one size, else flat."""
    if isinstance(known.element, TensorInfo):
        dtype = known.element.dtype
        one_size = all(isinstance(s, int) for s in known.element.sizes)
        sizes = [-1, *(s for s in known.element.sizes if isinstance(s, int))] if one_size else [-1]
    else:
        dtype, sizes = {"int": dtypes.int64, "float": dtypes.float64, "bool": dtypes.bool_}[known.element], [-1]
    result = _operation(path, "stepwell::list_elements", [known.ssa], [types.vtensor(sizes, dtype)])[0]
    count = path.builder.fresh("n", path.builder.size_of(result, 0), low=0)
    return Value(result, TensorInfo((count, *sizes[1:]), dtype))


def table(path: Path, known: DynamicList) -> Value:
    """For each element of varying sizes: where it begins among the elements, and its sizes."""
    assert isinstance(known.element, TensorInfo)
    columns = 1 + known.element.rank
    result = _operation(path, "stepwell::list_table", [known.ssa], [types.vtensor([-1, columns], dtypes.int64)])[0]
    count = path.builder.fresh("n", path.builder.size_of(result, 0), low=0)
    return Value(result, TensorInfo((count, columns), dtypes.int64))


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
    if isinstance(path.store.lists[arguments[0].number], list) and _counts(arguments[1]):
        raise CannotSpecialize("a list of known length is read by the number of the iteration")
    known = _contents(path, arguments[0])
    index = path.builder.materialize(arguments[1])
    type_ = list_type(known.element).element
    return _element(path, path.builder.append(declaration, [known.ssa, index], [type_])[0], known.element)


def _counts(index: Abstract) -> bool:
    """Whether an index counts the iterations of a loop that may be unrolled, which keeps the list's elements apart."""
    return isinstance(index, Dim) and any(isinstance(s, Iteration) and bounds(s.high)[1] < INFINITY for s in index.symbols())


def _element(path: Path, result: SSAValue, element: TensorInfo | str) -> Any:
    """The abstract value of an element."""
    if isinstance(element, TensorInfo):
        found = new_tensor(path, Value(result, _fresh_sizes(path.builder, result, element)))
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


def _pop(declaration: Declaration, arguments: list[Abstract], path: Path) -> Any:
    target = arguments[0]
    known = _contents(path, target)
    index = path.builder.materialize(arguments[1])
    rest, value = _operation(
        path, "stepwell::list_pop", [known.ssa, index], [known.ssa.type, list_type(known.element).element]
    )
    path.store.lists[target.number] = DynamicList(rest, known.element)
    return _element(path, value, known.element)


def _set_item(declaration: Declaration, arguments: list[Abstract], path: Path) -> Any:
    target, index, element = arguments
    known = _contents(path, target)
    value = read(path, element) if isinstance(element, TensorRef) else element
    if isinstance(value, Value) and isinstance(value.info, TensorInfo):
        _check_element(known.element, value.info)
    stored = materialize(path.builder, value, list_type(known.element).element)
    operands = [known.ssa, path.builder.materialize(index), stored]
    result = _operation(path, "stepwell::list_set", operands, [known.ssa.type])[0]
    path.store.lists[target.number] = DynamicList(result, known.element)
    path.store.freeze([element])
    return target


def _reduced(declaration: Declaration, arguments: list[Abstract], path: Path) -> Any:
    """sum, max, min of a list of numbers: those of its elements as a vector."""
    known = _contents(path, arguments[0])
    if len(arguments) != 1 or known.element not in ("int", "float"):
        raise CannotSpecialize(f"{declaration.schema.qualified_name} on a list whose length is known at run time only")
    vector = elements(path, known)
    result = path.builder.call(f"aten::{declaration.schema.name}", vector)
    return path.builder.call("aten::Int" if known.element == "int" else "aten::Float", result)


def _contains(declaration: Declaration, arguments: list[Abstract], path: Path) -> Any:
    known = _contents(path, arguments[0])
    if not isinstance(known.element, str):
        raise CannotSpecialize("`in` on a list of tensors whose length is known at run time only")
    found = path.builder.call("aten::any", path.builder.call("aten::eq", elements(path, known), arguments[1]))
    return path.builder.call("aten::Bool", found)


_OPS = {
    "append": _append, "len": _length, "__getitem__": _item, "cat": _joined, "stack": _joined, "pop": _pop,
    "_set_item": _set_item, "sum": _reduced, "max": _reduced, "min": _reduced, "__contains__": _contains,
}  # fmt: skip
