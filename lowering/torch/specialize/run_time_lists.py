"""Lists whose length is only known at run time: what their elements have in common, and how they are made."""

from __future__ import annotations

from typing import Any

from xdsl.ir import Attribute, SSAValue

from stepwell.dialects.torch import operations, types
from stepwell.dialects.torch.builder import TorchBuilder, Value, static_type, vtensor_of
from stepwell.dialects.torch.declare import ScalarInfo, TensorInfo
from stepwell.dialects.torch.sizes import Dim, Symbol
from stepwell.lowering.torch.specialize.tensors import read
from stepwell.lowering.torch.specialize.values import UNDEFINED, CannotJoin, DynamicList, Path, TensorRef


def materialize(builder: TorchBuilder, value: Any, type_: Attribute) -> SSAValue:
    """The SSA value of an abstract value at a place that wants `type_`; None becomes uninitialized."""
    if value is None:
        return builder.place(operations.Uninitialized.create(result_types=[type_])).results[0]
    ssa = value.ssa if isinstance(value, (Value, DynamicList)) else builder.materialize(value)
    if ssa.type == type_:
        return ssa
    return builder.place(operations.TensorStaticInfoCast.create(operands=[ssa], result_types=[type_])).results[0]


def list_type(element: TensorInfo | str) -> types.ListType:
    """The contract type of a run-time list."""
    if isinstance(element, TensorInfo):
        return types.list_of(vtensor_of(element))
    return types.list_of({"int": types.INT, "float": types.FLOAT, "bool": types.BOOL}[element])


def kind_of(value: Any) -> str | None:
    if isinstance(value, Value) and isinstance(value.info, ScalarInfo):
        return value.info.kind
    if isinstance(value, (bool, int, float, Dim)):
        return {types.INT: "int", types.FLOAT: "float", types.BOOL: "bool"}[static_type(value)]  # type: ignore[index]
    return None


def common_element(found: TensorInfo | str | None, *lists: tuple[Path, Any]) -> TensorInfo | str:
    """What all elements of lists have in common, with what is known of others.

    CannotJoin if they differ in rank, dtype or kind.
    """
    for path, elements in lists:
        if elements is UNDEFINED:
            continue
        for element in [elements] if isinstance(elements, DynamicList) else elements:
            info = _element_of(path, element)
            found = info if found is None else _join_elements(found, info)
    if found is None:
        raise CannotJoin("a list of unknown elements")
    return found


def _element_of(path: Path, element: Any) -> TensorInfo | str:
    if isinstance(element, DynamicList):
        return element.element
    if isinstance(element, TensorRef):
        return read(path, element).tensor
    kind = kind_of(element)
    if kind is None:
        raise CannotJoin(f"a growing list of {type(element).__name__}")
    return kind


def _join_elements(a: TensorInfo | str, b: TensorInfo | str) -> TensorInfo | str:
    if isinstance(a, TensorInfo) and isinstance(b, TensorInfo) and a.dtype == b.dtype and a.rank == b.rank:
        return a.with_sizes(x if x == y else Dim.of(Symbol("e", 0)) for x, y in zip(a.sizes, b.sizes, strict=True))
    if a != b:
        raise CannotJoin(f"a growing list of {a} and {b}")
    return a


def dynamic_list(path: Path, elements: Any, element: TensorInfo | str) -> DynamicList:
    """A run-time list with these elements (abstract values, or already one)."""
    if isinstance(elements, DynamicList):
        if elements.ssa.type == list_type(element):
            return elements
        raise CannotJoin("a growing list whose elements change their sizes")
    inner = list_type(element).element
    known = [] if elements is UNDEFINED else elements
    path.store.freeze(known)
    values = [read(path, e) if isinstance(e, TensorRef) else e for e in known]
    operands = [materialize(path.builder, v, inner) for v in values]
    created = operations.ListConstruct.create(operands=operands, result_types=[list_type(element)])
    return DynamicList(path.builder.place(created).results[0], element)
