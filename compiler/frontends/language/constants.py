"""Python constants as values: numbers, strings, None, devices, enum members, tuples, lists, dicts and arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from xdsl.dialects.builtin import (
    BoolAttr,
    DenseIntOrFPElementsAttr,
    DenseResourceAttr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    TensorType,
    f64,
    i64,
)
from xdsl.ir import Attribute

from stepwell.compiler.deferred import Deferred
from stepwell.compiler.frontends.language.bindings import Value, constant_of
from stepwell.compiler.frontends.language.static_types import (
    BOOL,
    DEVICE,
    FLOAT,
    INT,
    NONE,
    STRING,
    TENSOR,
    Type,
    class_type,
    dict_of,
    join,
    list_of,
    tuple_of,
    without_none,
)
from stepwell.compiler.objects import Device, EnumMember
from stepwell.dialects import dtypes
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch import operations, types

if TYPE_CHECKING:
    from stepwell.compiler.frontends.language.lowering import Lowering


def build(f: Lowering, value: Any, want: Type | None = None) -> Value:
    """The value of a constant; lists and dicts are new objects, arrays shared ones. `want` types empty lists."""
    if isinstance(value, DType):
        value = value.code
    scalar = _scalar(value)
    if scalar is not None:
        return _cached(f, *scalar)
    if isinstance(value, EnumMember):
        return Value(build(f, value.index).ssa, class_type(value.cls))
    if isinstance(value, (np.ndarray, np.generic)):
        return Value(array_literal(f, np.asarray(value)), TENSOR)
    if isinstance(value, tuple):
        parts = _wanted_parts(value, want)
        return f.tuple_value([build(f, v, t) for v, t in zip(value, parts, strict=True)])
    if isinstance(value, list):
        return _list(f, value, want)
    if isinstance(value, dict):
        return _dict(f, value, want)
    f.unsupported(f"a constant of type {type(value).__name__} is not supported")


_SCALARS: dict[type, tuple[Any, Type]] = {
    bool: (operations.ConstantBool, BOOL), int: (operations.ConstantInt, INT), float: (operations.ConstantFloat, FLOAT),
    str: (operations.ConstantString, STRING), Device: (operations.ConstantDevice, DEVICE),
}  # fmt: skip


def _scalar(value: Any) -> tuple[Any, Any, Type, Attribute | None] | None:
    """Class, key, type and attribute of a constant of a simple type."""
    if value is None:
        return operations.ConstantNone, None, NONE, None
    found = _SCALARS.get(type(value))
    if found is None:
        return None
    cls, type_ = found
    if isinstance(value, bool):
        return cls, value, type_, BoolAttr.from_bool(value)
    if isinstance(value, int):
        wrapped = (value + (1 << 63)) % (1 << 64) - (1 << 63)
        return cls, wrapped, type_, IntegerAttr(wrapped, i64)
    if isinstance(value, float):
        key = "nan" if math.isnan(value) else (value, math.copysign(1.0, value))
        return cls, key, type_, FloatAttr(value, f64)
    text = value.text if isinstance(value, Device) else value
    return cls, text, type_, StringAttr(text)


def _cached(f: Lowering, cls: Any, key: Any, type_: Type, attribute: Attribute | None) -> Value:
    found = f.scope.constant((cls, key))
    if found is None:
        properties = {} if attribute is None else {"value": attribute}
        found = f.add(cls.create(result_types=[type_.ir], properties=properties)).results[0]
        f.scope.constants[cls, key] = found
    return Value(found, type_)


def _wanted_parts(value: tuple[Any, ...], want: Type | None) -> tuple[Type | None, ...]:
    if want is not None and want.is_tuple and len(want.args) == len(value):
        return want.args
    return (None,) * len(value)


def _list(f: Lowering, value: list[Any], want: Type | None) -> Value:
    want = without_none(want) if want is not None else None
    element = want.element if want is not None and want.kind == "List" else None
    parts = [build(f, v, element) for v in value]
    for part in parts if element is None else ():
        element = part.type if element is None else join(element, part.type)
        if element is None:
            f.unsupported("a list of values of different types is not supported as a constant")
    inner = element if element is not None else TENSOR
    return f.list_value([f.convert(p, inner) for p in parts], inner)


def _dict(f: Lowering, value: dict[Any, Any], want: Type | None) -> Value:
    want = without_none(want) if want is not None else None
    wanted = want.args if want is not None and want.kind == "Dict" else (None, None)
    keys, values = _list(f, list(value), list_of(wanted[0]) if wanted[0] else None), None
    parts = [build(f, v, wanted[1]) for v in value.values()]
    inner = wanted[1]
    for part in parts if inner is None else ():
        inner = part.type if inner is None else join(inner, part.type)
    key_type = keys.type.element if value else wanted[0] or STRING
    values = [f.convert(p, inner) for p in parts] if inner is not None else parts
    operands = [build(f, k, key_type).ssa for k in value] + [v.ssa for v in values]
    return f.make(operations.DictConstruct, operands, dict_of(key_type, inner or TENSOR))


def array_literal(f: Lowering, array: np.ndarray[Any, np.dtype[Any]]) -> Any:
    """The tensor of an array that lives beside the IR, as a resource of the program; a single number stands in it."""
    inline = not array.ndim and array.dtype in _INLINE
    handle = str(id(array)) if inline else f.program.resources.name_of(array)
    key = (operations.TensorLiteral, handle)
    found = f.scope.constant(key)
    if found is None:
        made = number_literal(array) if inline else literal_operation(handle, array)
        found = f.scope.constants[key] = f.add(made).results[0]
    return found


def literal_operation(handle: str, array: np.ndarray[Any, np.dtype[Any]] | Deferred) -> operations.TensorLiteral:
    """`torch.tensor.literal(dense_resource<handle> : tensor<...>)`."""
    dtype = dtypes.from_numpy(array.dtype)
    attribute = DenseResourceAttr(StringAttr(handle), TensorType(dtype.torch, list(array.shape)))
    return operations.TensorLiteral.create(
        properties={"value": attribute}, result_types=[types.TensorType.of(array.shape, dtype)]
    )


_INLINE = (np.dtype(np.int64), np.dtype(np.float32), np.dtype(np.float64))


def number_literal(array: np.ndarray[Any, np.dtype[Any]]) -> operations.TensorLiteral:
    """`torch.tensor.literal(dense<2> : tensor<si64>)`: what is computed with such a number is known, as sizes are."""
    dtype = dtypes.from_numpy(array.dtype)
    kind: Any = TensorType(dtype.torch, [])
    attribute = DenseIntOrFPElementsAttr.from_list(kind, [array.item()])
    return operations.TensorLiteral.create(
        properties={"value": attribute}, result_types=[types.TensorType.of(array.shape, dtype)]
    )


def folded(f: Lowering, value: Value, wanted: Type) -> Value | None:
    """A constant converted at compile time, where the conversion is one between constants."""
    constant = constant_of(value)
    if constant is None:
        return None
    if wanted is DEVICE:
        return build(f, Device(constant))
    if wanted is FLOAT and isinstance(constant, (bool, int)):
        return build(f, float(constant))
    if wanted is INT and isinstance(constant, bool):
        return build(f, int(constant))
    return None


__all__ = ["array_literal", "build", "folded", "literal_operation", "tuple_of"]
