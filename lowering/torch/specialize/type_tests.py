"""isinstance under abstract execution: every value's type is known, its contents need not be."""

from __future__ import annotations

from typing import Any

from stepwell.dialects.torch.builder import Value
from stepwell.dialects.torch.declare import ScalarInfo, TensorInfo
from stepwell.dialects.torch.ops.type_tests import is_of, kind_of_facts
from stepwell.lowering.torch.specialize.values import (
    Abstract,
    DictRef,
    DynamicList,
    Format,
    ListRef,
    ObjectRef,
    Path,
    TensorRef,
)


def is_instance(path: Path, value: Abstract, type_: str) -> bool:
    """Whether an abstract value is of a type, spelled as text."""

    def describe(inner: Any) -> tuple[str, Any]:
        if isinstance(inner, TensorRef):
            return "Tensor", ()
        if isinstance(inner, Value):
            return describe(inner.info)
        if isinstance(inner, Format):
            return "str", ()
        if isinstance(inner, ListRef):
            return "List", _elements(path.store.lists[inner.number])
        if isinstance(inner, DictRef):
            return "Dict", path.store.dicts[inner.number].items()
        if isinstance(inner, ObjectRef):
            return inner.class_name.rpartition(".")[2], ()
        return kind_of_facts(inner)

    return is_of(value, type_, describe)


def _elements(found: Any) -> list[Any]:
    if not isinstance(found, DynamicList):
        return list(found)
    return [found.element if isinstance(found.element, TensorInfo) else ScalarInfo(found.element)]
