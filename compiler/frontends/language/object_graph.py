"""The graph of objects that a program starts with, as operations at the top of its module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from xdsl.dialects.builtin import BoolAttr, FloatAttr, IntegerAttr, StringAttr, f64, i64
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.compiler.deferred import Deferred, held
from stepwell.compiler.frontends.language.constants import literal_operation
from stepwell.compiler.frontends.language.static_types import Type, class_type, is_subtype, without_none
from stepwell.compiler.objects import Device, EnumMember, ScriptClass, ScriptObject
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch import operations

if TYPE_CHECKING:
    from stepwell.compiler.frontends.language.program import Resources


class ObjectGraph:
    """Makes the operations of objects and their attributes, each shared thing once.

    `uses` says which attributes of a class the program touches; others are left out, with all below them.
    """

    def __init__(self, uses: Mapping[ScriptClass, Any], resources: Resources) -> None:
        self.operations: list[Operation] = []
        self._uses = dict(uses)
        self._resources = resources
        self._made: dict[int, SSAValue] = {}
        self._constants: dict[tuple[Any, Any], SSAValue] = {}
        self._kept: list[Any] = []

    def classes(self) -> Iterator[tuple[ScriptClass, Any]]:
        """The classes of the program and of its objects, with what is used of them."""
        yield from self._uses.items()

    def _add(self, operation: Operation) -> SSAValue:
        self.operations.append(operation)
        return operation.results[0]

    def object(self, value: ScriptObject, path: str) -> SSAValue:
        """`torch.nn_module` with a slot for each used attribute; `path` names its tensors."""
        use = self._uses.get(value.cls)
        if value.has_state:
            raise UnsupportedError(f"{value.cls.name} restores itself by __setstate__, which is not supported")
        slots: list[Operation] = []
        for name, type_ in (use.attributes if use is not None else {}).items():
            if name not in value.attributes:
                raise UnsupportedError(f"the object {path or 'itself'} has no value for its attribute {name!r}")
            inner = self.value(held(value.attributes, name), type_, f"{path}.{name}" if path else name)
            slots.append(operations.Slot.create(operands=[inner], properties={"name": StringAttr(name)}))
        if use is None:
            self._uses[value.cls] = _Nothing()
        return self._add(
            operations.ModuleObject.create(result_types=[class_type(value.cls).ir], regions=[Region(Block(slots))])
        )

    def value(self, value: Any, type_: Type, path: str) -> SSAValue:
        """The operation that makes the value of an attribute of that declared type."""
        simple = self._scalar(value)
        if simple is not None:
            return simple
        found = self._made.get(id(value))
        if found is None:
            found = self._made[id(value)] = self._compound(value, _narrowed(value, type_), path)
            self._kept.append(value)
        return found

    def _compound(self, value: Any, type_: Type, path: str) -> SSAValue:
        if isinstance(value, ScriptObject):
            return self.object(value, path)
        if isinstance(value, (np.ndarray, Deferred)):
            return self._add(literal_operation(self._resources.name_of(value, path), value))
        if isinstance(value, tuple) and type_.is_tuple:
            parts = [self.value(v, t, f"{path}.{n}") for n, (v, t) in enumerate(zip(value, type_.args, strict=True))]
            return self._add(operations.TupleConstruct.create(operands=parts, result_types=[type_.ir]))
        if isinstance(value, list) and type_.kind == "List":
            parts = [self.value(v, type_.element, f"{path}.{n}") for n, v in enumerate(value)]
            return self._add(operations.ListConstruct.create(operands=parts, result_types=[type_.ir]))
        if isinstance(value, dict) and type_.kind == "Dict":
            keys = [self.value(k, type_.args[0], path) for k in value]
            values = [self.value(v, type_.args[1], f"{path}.{k}") for k, v in value.items()]
            return self._add(operations.DictConstruct.create(operands=[*keys, *values], result_types=[type_.ir]))
        raise UnsupportedError(f"the attribute {path!r} holds a {type(value).__name__} as a {type_}")

    def _scalar(self, value: Any) -> SSAValue | None:
        rule = _SCALARS.get(type(value))
        if rule is None:
            return None
        if isinstance(value, EnumMember):
            value = value.index
        elif isinstance(value, DType):
            value = value.code
        cls, make = rule
        key = (cls, repr(value))
        found = self._constants.get(key)
        if found is None:
            attribute = make(value)
            properties = {} if attribute is None else {"value": attribute}
            found = self._constants[key] = self._add(cls.create(result_types=[cls.result_type], properties=properties))
        return found


class _Nothing:
    """Of a class nothing is used."""

    def __init__(self) -> None:
        self.attributes: dict[str, Type] = {}
        self.methods: dict[str, Any] = {}


def _integer(value: int) -> Attribute:
    return IntegerAttr(value, i64)


_SCALARS: dict[type, tuple[Any, Any]] = {
    type(None): (operations.ConstantNone, lambda v: None),
    bool: (operations.ConstantBool, BoolAttr.from_bool),
    int: (operations.ConstantInt, _integer),
    float: (operations.ConstantFloat, lambda v: FloatAttr(v, f64)),
    str: (operations.ConstantString, StringAttr),
    Device: (operations.ConstantDevice, lambda v: StringAttr(v.text)),
    EnumMember: (operations.ConstantInt, _integer),
    DType: (operations.ConstantInt, _integer),
}


def _narrowed(value: Any, type_: Type) -> Type:
    """The member of an optional or union that a value is of."""
    type_ = without_none(type_)
    if type_.kind != "Union":
        return type_
    kinds = {list: "List", dict: "Dict", np.ndarray: "Tensor", Deferred: "Tensor"}
    if isinstance(value, ScriptObject):
        return next((t for t in type_.args if is_subtype(class_type(value.cls), t)), type_)
    if isinstance(value, tuple):
        return next((t for t in type_.args if t.is_tuple and len(t.args) == len(value)), type_)
    return next((t for t in type_.args if t.kind == kinds.get(type(value))), type_)
