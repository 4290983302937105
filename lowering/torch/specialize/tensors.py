"""Tensors as objects: reading through views, and writing through them into the storage's base.

A write through a view becomes a new value of the whole base (functionalization): for the chain base -> v1 ->
... -> vn, the op of each step gives the updated base of that step (`Declaration.write`), innermost first.
"""

from __future__ import annotations

from typing import Any

from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch import operations
from stepwell.dialects.torch.builder import Value, vtensor_of
from stepwell.dialects.torch.declare import OPS, Declaration, RuntimeFault, TensorInfo
from stepwell.dialects.torch.sizes import Size, substitute
from stepwell.lowering.torch.specialize.values import CannotSpecialize, Path, TensorRef, ViewStep


def current(path: Path, ref: TensorRef) -> TensorRef:
    """The views that lead to a tensor object now, as ops like `unsqueeze_` change them."""
    chain = path.store.reshaped.get(ref)
    return ref if chain is None else TensorRef(ref.storage, chain)


def read(path: Path, ref: TensorRef) -> Value:
    """The contents of a tensor object now, as a contract value with the path's facts applied to its sizes."""
    ref = current(path, ref)
    value = path.store.tensors[ref.storage]
    refined = _refine(path, value)
    if refined is not value:
        path.store.tensors[ref.storage] = value = refined
    for step in ref.chain:
        value = _step(path, value, step)
    return _refine(path, value)


def _step(path: Path, value: Value, step: ViewStep) -> Value:
    key = (value.ssa, step)
    builder = path.builder
    while builder is not None:
        found = builder.views.get(key)
        if found is not None:
            return found
        builder = builder.parent  # type: ignore[assignment]
    result: Value = path.builder.emit(step.declaration, [value, *step.arguments])
    path.builder.views[key] = result
    return result


def _refine(path: Path, value: Value) -> Value:
    """Sizes that the path has learnt (from `if x.size(1) != 512: raise`) enter the type."""
    if not path.facts or all(isinstance(s, int) for s in value.sizes):
        return value
    sizes = tuple(resolve(path, s) for s in value.sizes)
    if sizes == value.sizes:
        return value
    info = value.tensor.with_sizes(sizes)
    if vtensor_of(info) == value.ssa.type:
        return Value(value.ssa, info)
    cast = operations.TensorStaticInfoCast.create(operands=[value.ssa], result_types=[vtensor_of(info)])
    return Value(path.builder.place(cast).results[0], info)


def resolve(path: Path, size: Size) -> Size:
    """A symbolic int with everything that the path knows of its symbols put in."""
    if isinstance(size, int) or not path.facts:
        return size
    for _ in range(8):
        changed = substitute(size, path.facts)
        if isinstance(changed, int) or changed == size:
            return changed
        size = changed
    return size


def write(path: Path, ref: TensorRef, value: Value) -> None:
    """Store `value` (of the reference's sizes; its dtype is converted) through the reference's views."""
    ref = current(path, ref)
    if ref.storage in path.store.frozen:
        raise CannotSpecialize("a tensor that is in a list, whose length is known at run time only, is written in place")
    target = read(path, ref)
    value = _fit(path, value, target.tensor)
    path.store.tensors[ref.storage] = _through(path, path.store.tensors[ref.storage], ref.chain, value)


def _through(path: Path, base: Value, chain: tuple[ViewStep, ...], value: Value) -> Value:
    if not chain:
        return value
    step, rest = chain[0], chain[1:]
    updated = _through(path, _step(path, base, step), rest, value) if rest else value
    if step.declaration.write is None:
        raise CannotSpecialize(f"{step.declaration.schema.qualified_name}: no write through this view is known")
    result: Value = step.declaration.write(path.builder, base, updated, *step.arguments)
    return result


def _fit(path: Path, value: Value, target: TensorInfo) -> Value:
    """Convert and broadcast a value to what an in-place op stores; torch refuses a result that is larger."""
    if value.dtype != target.dtype:
        if value.dtype.category > target.dtype.category:
            raise RuntimeFault(
                f"result type {_name(value.dtype)} can't be cast to the desired output type {_name(target.dtype)}"
            )
        value = path.builder.to(value, target.dtype)
    if value.sizes != target.sizes:
        if value.rank > len(target.sizes):
            raise RuntimeFault(
                f"output with shape {_shape(target.sizes)} doesn't match the broadcast shape {_shape(value.sizes)}"
            )
        value = path.builder.expand(value, list(target.sizes))
    return value


_NAMES = {"float32": "Float", "float64": "Double", "int64": "Long", "int32": "Int", "int16": "Short",
          "int8": "Char", "uint8": "Byte", "bool": "Bool", "float16": "Half", "bfloat16": "BFloat16"}  # fmt: skip


def _name(dtype: DType) -> str:
    return _NAMES.get(dtype.name, dtype.name)


def _shape(sizes: tuple[Size, ...]) -> str:
    return f"[{', '.join(map(str, sizes))}]"


def functional(declaration: Declaration) -> Declaration:
    """The out-of-place overload behind an in-place one (`add_.Tensor` -> `add.Tensor`)."""
    schema = declaration.schema
    name = f"{schema.namespace}::{schema.name.removesuffix('_')}" + (f".{schema.overload}" if schema.overload else "")
    found = getattr(declaration, "functional", None) or OPS.find(name)
    if found is None:
        raise CannotSpecialize(f"{schema.qualified_name} writes its argument and has no functional form {name}")
    return found


def view(path: Path, declaration: Declaration, ref: TensorRef, arguments: list[Any]) -> TensorRef:
    """The tensor object that a view op gives: another way into the same storage."""
    ref = current(path, ref)
    return TensorRef(ref.storage, (*ref.chain, ViewStep(declaration, tuple(arguments))))
