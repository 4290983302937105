"""From one dtype to another, and copies: all a value needs is the cast, aliasing is the raw level's business."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, RuntimeFault, Sample, TensorInfo, declare, op, sample
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops.dimensions import broadcast_sizes
from stepwell.dialects.torch.ops.elementwise import as_dtype
from stepwell.dialects.torch.ops.promotion import facts
from stepwell.dialects.torch.ops.samples import integers, normal
from stepwell.dialects.torch.schema import parse_schema


def _converting(schema: str, dtype_of: Callable[..., DType | None]) -> None:
    """Declare one `to`: dtype_of(x, *arguments) is the dtype asked for, None for the one it has."""
    formals = [f.name for f in parse_schema(schema).arguments]

    def target(x: TensorInfo, arguments: tuple[Any, ...]) -> DType:
        device = arguments[formals.index("device") - 1] if "device" in formals else None
        if device is not None and not device.startswith("cpu"):
            raise RuntimeFault(f"there is no device {device}: tensors live on the CPU")
        dtype = dtype_of(x, *arguments)
        return x.dtype if dtype is None else dtypes.BY_CODE[dtype] if isinstance(dtype, int) else dtype

    def infer(x: TensorInfo, *arguments: Any) -> TensorInfo:
        return x.with_dtype(target(x, arguments))

    def reference(x: Array, *arguments: Any) -> Array:
        dtype = target(facts(x), tuple(facts(a) for a in arguments))
        return x.copy() if copies(facts(x), *map(facts, arguments)) and dtype.numpy == x.dtype else as_dtype(x, dtype)

    def copies(x: TensorInfo, *arguments: Any) -> bool:
        asked = "copy" in formals and arguments[formals.index("copy") - 1] is True
        return asked or schema.startswith("aten::_to_copy") or target(x, arguments) != x.dtype

    def expand(b: TorchBuilder, x: Value, *arguments: Any) -> Value:
        dtype = target(x.tensor, tuple(a.tensor if isinstance(a, Value) else a for a in arguments))
        return x if dtype == x.dtype else b.call("prims::convert_element_type", x, dtype)

    def samples() -> Iterator[Sample]:
        for values in (normal(2, 3) * 3, integers(4), np.array([True, False])):
            for dtype in (dtypes.int64, dtypes.float32, dtypes.bool_, dtypes.uint8, dtypes.float64):
                yield _sample_for(schema, formals, np.abs(values) if dtype == dtypes.uint8 else values, dtype)

    declare(
        schema, infer=infer, reference=reference, expand=expand, samples=samples, copies=copies,
        write=lambda b, base, value, *arguments: value, source=f"{__name__} ({schema.partition('(')[0]})",
        doc="The tensor in another dtype: floats truncate towards zero, bool is `!= 0`, integers wrap.",
    )  # fmt: skip


def _sample_for(schema: str, formals: list[str], x: Array, dtype: DType) -> Sample:
    if formals[1] == "other":
        return sample(x, np.zeros((1,), dtype.numpy))
    if "Device device, ScalarType dtype" in schema:
        return sample(x, "cpu", dtype)
    if "int? dtype" in schema:
        return sample(x, dtype=dtype.code, **({"device": None} if "device" in formals else {}))
    return sample(x, dtype=dtype)


_TAIL = "bool non_blocking=False, bool copy=False, MemoryFormat? memory_format=None) -> Tensor(a)"
_LAYOUT = "ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None, bool non_blocking=False"
_converting(f"aten::to.dtype(Tensor(a) self, ScalarType dtype, {_TAIL}", lambda x, dtype, *_: dtype)
_converting(f"aten::to.device(Tensor(a) self, Device device, ScalarType dtype, {_TAIL}", lambda x, device, dtype, *_: dtype)
_converting(f"aten::to.other(Tensor(a) self, Tensor other, {_TAIL}", lambda x, other, *_: other.dtype)
_converting(
    f"aten::to.dtype_layout(Tensor(a) self, *, {_LAYOUT}, bool copy=False, MemoryFormat? memory_format=None) -> Tensor(a)",
    lambda x, dtype, *_: dtype,
)
_converting(
    "aten::to.prim_Device(Tensor(a) self, Device? device, int? dtype=None, bool non_blocking=False, bool copy=False) -> Tensor(b|a)",
    lambda x, device, dtype, *_: dtype,
)
_converting(
    "aten::to.prim_dtype(Tensor(a) self, int? dtype=None, bool non_blocking=False, bool copy=False) -> Tensor(b|a)",
    lambda x, dtype, *_: dtype,
)
_converting(f"aten::_to_copy(Tensor self, *, {_LAYOUT}, MemoryFormat? memory_format=None) -> Tensor", lambda x, dtype, *_: dtype)
_converting("aten::type_as(Tensor self, Tensor other) -> Tensor", lambda x, other: other.dtype)


@op("prims::convert_element_type(Tensor a, ScalarType dtype) -> Tensor")
class ConvertElementType:
    """The cast itself, which every `to` becomes."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(normal(2, 3) * 3, dtypes.int32)
        yield sample(np.array([True, False]), dtypes.float32)
        yield sample(np.array(2.5), dtypes.float16)
        yield sample(normal(3), dtypes.bfloat16)
        yield sample(integers(5, dtype=np.int32), dtypes.uint8)

    @staticmethod
    def infer(x: TensorInfo, dtype: DType) -> TensorInfo:
        return x.with_dtype(dtype)

    @staticmethod
    def reference(x: Array, dtype: DType) -> Array:
        return as_dtype(x, dtype)

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, dtype: DType) -> Tensor:
        return b.cast(x, dtype)


# ------ the same values

_SAME = {
    "aten::detach(Tensor(a) self) -> Tensor(a)": "The tensor itself; there are no gradients to stop.",
    "aten::alias(Tensor(a) self) -> Tensor(a)": "The tensor itself.",
    "aten::positive(Tensor(a) self) -> Tensor(a)": "The tensor itself.",
    "aten::lift_fresh(Tensor(a) self) -> Tensor(a)": "The tensor itself.",
    "aten::cpu(Tensor(a) self) -> Tensor(b|a)": "The tensor itself, which is there already.",
    "prim::data(Tensor(a) a) -> Tensor(a)": "The tensor itself.",
}
for _schema, _doc in _SAME.items():
    declare(
        _schema, infer=lambda x: x, reference=lambda x: x, expand=lambda b, x: x, write=lambda b, base, value: value,
        samples=lambda: [sample(normal(2, 3))], doc=_doc, inplace="detach" in _schema, source=f"{__name__} ({_schema.partition('(')[0]})",
    )  # fmt: skip
declare(
    "aten::contiguous(Tensor(a) self, *, MemoryFormat memory_format=0) -> Tensor(a)", infer=lambda x, order: x,
    reference=lambda x, order: np.ascontiguousarray(x).reshape(x.shape), expand=lambda b, x, order: x,
    write=lambda b, base, value, order: value, if_contiguous=True, samples=lambda: [sample(normal(2, 3).T)],
    doc="Itself if its elements lie in row-major order, else a copy in which they do.",
)  # fmt: skip
declare(
    "aten::clone(Tensor self, *, MemoryFormat? memory_format=None) -> Tensor", infer=lambda x, order: x,
    reference=lambda x, order: x.copy(), expand=lambda b, x, order: x, samples=lambda: [sample(normal(2, 3))],
    doc="A copy.",
)  # fmt: skip


# ------ new contents


def _copy_info(x: TensorInfo, source: TensorInfo, *_: Any) -> TensorInfo:
    if broadcast_sizes(x.sizes, source.sizes) != x.sizes:
        raise RuntimeFault(f"The expanded size of the tensor {list(x.sizes)} must match the size {list(source.sizes)}")
    return x


def _copy_reference(x: Array, source: Array, *_: Any) -> Array:
    return np.broadcast_to(as_dtype(source, facts(x).dtype), x.shape).copy()


def _copy_expand(b: TorchBuilder, x: Value, source: Value, *_: Any) -> Value:
    result = source if source.dtype == x.dtype else b.call("prims::convert_element_type", source, x.dtype)
    return result if result.sizes == x.sizes else b.expand(result, list(x.sizes))


declare(
    "aten::copy(Tensor self, Tensor src, bool non_blocking=False) -> Tensor", infer=_copy_info,
    reference=_copy_reference, expand=_copy_expand, inplace=True, doc="src, broadcast and in self's dtype.",
    samples=lambda: [sample(normal(2, 3), integers(3)), sample(normal(2, 3), normal(2, 1))],
)  # fmt: skip
