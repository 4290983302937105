"""Tensors from nothing: constants, ranges, tensors of numbers, triangles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.diagnostics import NeedsNumber, UnsupportedError
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, RuntimeFault, Sample, ScalarInfo, TensorInfo, declare, op, sample
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops.dimensions import require, static
from stepwell.dialects.torch.ops.elementwise import as_dtype
from stepwell.dialects.torch.ops.promotion import facts, scalar_dtype
from stepwell.dialects.torch.ops.samples import integers, normal
from stepwell.dialects.torch.scalar import Scalar
from stepwell.dialects.torch.sizes import Dim, Size, ceil_divide, maximum

_OPTIONS = "*, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None"
_FORMAT = "MemoryFormat? memory_format=None"
Rest = Any


def _checked(sizes: Sequence[Size]) -> tuple[Size, ...]:
    for size in sizes:
        if isinstance(size, int) and size < 0:
            raise RuntimeFault(f"Trying to create tensor with negative dimension {size}: {list(sizes)}")
    return tuple(sizes)


# ------ one value everywhere: everything becomes aten::full


@op(f"aten::full(SymInt[] size, Scalar fill_value, {_OPTIONS}) -> Tensor")
class Full:
    """fill_value everywhere, in its own dtype unless told otherwise."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample([2, 3], 1.5)
        yield sample([], 3)
        yield sample([0, 2], True)
        yield sample([2], 1.7, dtype=dtypes.int64)

    @staticmethod
    def infer(size: list[Size], value: Any, dtype: DType | None, *_: Rest) -> TensorInfo:
        return TensorInfo(_checked(size), dtype or scalar_dtype(value))

    @staticmethod
    def reference(size: list[int], value: Any, dtype: DType | None, *_: Rest) -> Array:
        return np.full(size, value, (dtype or scalar_dtype(value)).numpy)

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, size: list[Size], value: Any, *_: Rest) -> Tensor:
        number = value if isinstance(value, (int, float)) else b.scalar(value, out.dtype)
        return b.fill(number, out.sizes, out.dtype)


def _constant(schema: str, like: bool, value: Any) -> None:
    """Declare zeros, ones, empty, full and their new_ and _like forms. value None: an argument says it."""
    new = schema.startswith("aten::new_")

    def split(arguments: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        """Sizes, value and dtype from the arguments in schema order."""
        rest = list(arguments)
        base: Any = rest.pop(0) if like or new else None
        sizes = list(base.shape if isinstance(base, np.ndarray) else base.sizes) if like else rest.pop(0)
        number = rest.pop(0) if value is None else value
        dtype = rest.pop(0) or (facts(base) if base is not None else TensorInfo((), dtypes.DEFAULT)).dtype
        return sizes, number, dtype

    def infer(*arguments: Any) -> TensorInfo:
        sizes, _, dtype = split(arguments)
        return TensorInfo(_checked(sizes), dtype)

    def reference(*arguments: Any) -> Array:
        sizes, number, dtype = split(arguments)
        return as_dtype(np.full(sizes, number), dtype)

    def expand(b: TorchBuilder, *arguments: Any) -> Value:
        rest = list(arguments)
        if like or new:
            rest[0] = _InfoOnly(arguments[0].tensor)
        sizes, number, dtype = split(tuple(rest))
        result: Value = b.full(sizes, number, dtype=dtype)
        return result

    def samples() -> Iterator[Sample]:
        number = () if value is not None else (2.5,)
        if like:
            yield sample(normal(2, 3), *number)
            yield sample(integers(2, 0), *number, dtype=dtypes.float64)
        else:
            base = (integers(2, 3),) if new else ()
            yield sample(*base, [2, 3], *number)
            yield sample(*base, [], *number, dtype=dtypes.bool_)
            yield sample(*base, [3, 0], *number, dtype=dtypes.int32)

    declare(
        schema, infer=infer, reference=reference, expand=expand, samples=samples,
        doc="A tensor of one value; what `empty` leaves open is 0.", source=f"{__name__} ({schema.partition('(')[0]})",
    )  # fmt: skip


class _InfoOnly:
    """Sizes and dtype of a builder's value, in the place of the value."""

    def __init__(self, info: TensorInfo) -> None:
        self.sizes = info.sizes
        self.dtype = info.dtype


for _name, _value in (("zeros", 0), ("ones", 1)):
    _constant(f"aten::{_name}(SymInt[] size, {_OPTIONS}) -> Tensor", False, _value)
    _constant(f"aten::new_{_name}(Tensor self, SymInt[] size, {_OPTIONS}) -> Tensor", False, _value)
    _constant(f"aten::{_name}_like(Tensor self, {_OPTIONS}, {_FORMAT}) -> Tensor", True, _value)
_constant(f"aten::empty.memory_format(SymInt[] size, {_OPTIONS}, {_FORMAT}) -> Tensor", False, 0)
_constant(f"aten::new_empty(Tensor self, SymInt[] size, {_OPTIONS}) -> Tensor", False, 0)
_constant(f"aten::empty_like(Tensor self, {_OPTIONS}, {_FORMAT}) -> Tensor", True, 0)
_constant(f"aten::new_full(Tensor self, SymInt[] size, Scalar fill_value, {_OPTIONS}) -> Tensor", False, None)
_constant(f"aten::full_like(Tensor self, Scalar fill_value, {_OPTIONS}, {_FORMAT}) -> Tensor", True, None)

declare(
    "aten::fill.Scalar(Tensor self, Scalar value) -> Tensor", infer=lambda x, value: x,
    reference=lambda x, value: np.full_like(x, value), expand=lambda b, x, v: b.full(list(x.sizes), v, dtype=x.dtype),
    inplace=True, samples=lambda: [sample(normal(2, 3), 2.5)], doc="value everywhere",
)  # fmt: skip
declare(
    "aten::fill.Tensor(Tensor self, Tensor value) -> Tensor", infer=lambda x, value: x,
    reference=lambda x, value: np.full_like(x, as_dtype(value, facts(x).dtype)), inplace=True,
    expand=lambda b, x, v: b.expand(b.to(v, x.dtype), list(x.sizes)), doc="value everywhere",
    samples=lambda: [sample(normal(2, 3), np.array(2.5))],
)  # fmt: skip
declare(
    "aten::zero(Tensor self) -> Tensor", infer=lambda x: x, reference=np.zeros_like, inplace=True,
    expand=lambda b, x: b.full(list(x.sizes), 0, dtype=x.dtype), samples=lambda: [sample(normal(2, 3))], doc="0 everywhere",
)  # fmt: skip


# ------ ranges


def _known(value: Any, what: str) -> Any:
    if isinstance(value, ScalarInfo):
        raise NeedsNumber(f"{what} whose bounds are floats that are only known at run time")
    return value


def _range_sizes(start: Any, end: Any, step: Any) -> Size:
    start, end, step = (_known(v, "aten::arange") for v in (start, end, step))
    require(step != 0, "step must be nonzero")
    if any(isinstance(v, float) for v in (start, end, step)):
        if any(isinstance(v, Dim) for v in (start, end, step)):
            raise UnsupportedError("aten::arange with a float and a symbolic int")
        exact = float((end - start) / step)
        require(math.isfinite(exact), f"unsupported range: {start} -> {end}")
        require(exact >= 0, "upper bound and lower bound inconsistent with step sign")
        return math.ceil(exact)
    length: Size = ceil_divide(end - start, step)
    if isinstance(length, int):
        require(length >= 0, "upper bound and lower bound inconsistent with step sign")
        return length
    return maximum(length, 0)


def _arange(schema: str) -> None:
    count = schema.count("Scalar ")

    def split(arguments: tuple[Any, ...]) -> tuple[Any, Any, Any, DType | None]:
        bounds = (0, *arguments[:1], 1) if count == 1 else (*arguments[:count], 1)[:3]
        return (*bounds, arguments[count])

    def infer(*arguments: Any) -> TensorInfo:
        start, end, step, dtype = split(arguments)
        if dtype is None:
            whole = all(scalar_dtype(v).category <= dtypes.INTEGER for v in (start, end, step))
            dtype = dtypes.int64 if whole else dtypes.DEFAULT
        return TensorInfo((_range_sizes(start, end, step),), dtype)

    def reference(*arguments: Any) -> Array:
        start, _, step, _ = split(arguments)
        out = infer(*arguments)
        return as_dtype(np.asarray(start + np.arange(*static(out.sizes)) * step), out.dtype)

    def lower(b: LinalgBuilder, out: TensorInfo, *arguments: Any) -> Tensor:
        start, _, step, _ = split(arguments)
        inner = dtypes.float64 if any(isinstance(v, float) for v in (start, step)) else dtypes.int64
        if start == 0 and step == 1:
            return b.iota(out.sizes, 0, out.dtype)
        first, stride = b.scalar(start, inner), b.scalar(step, inner)

        def element(index: Scalar) -> Scalar:
            return Scalar(first.value, inner, index.at) + index.cast(inner) * Scalar(stride.value, inner, index.at)

        return b.iota(out.sizes, 0, out.dtype, element)

    samples: dict[int, list[Sample]] = {
        1: [sample(5), sample(2.5), sample(0), sample(3, dtype=dtypes.float32)],
        2: [sample(2, 5), sample(0.5, 3.0), sample(-2, 3, dtype=dtypes.int32)],
        3: [sample(0, 10, 3), sample(5, 0, -2), sample(0.0, 1.0, 0.3), sample(1, 2, 0.25)],
    }
    declare(
        schema, infer=infer, reference=reference, lower=lower, samples=lambda: samples[count],
        doc="start, start + step, ... below end.", source=f"{__name__} (aten::arange)",
    )  # fmt: skip


_arange(f"aten::arange(Scalar end, {_OPTIONS}) -> Tensor")
_arange(f"aten::arange.start(Scalar start, Scalar end, {_OPTIONS}) -> Tensor")
_arange(f"aten::arange.start_step(Scalar start, Scalar end, Scalar step=1, {_OPTIONS}) -> Tensor")


@op(f"aten::linspace(Scalar start, Scalar end, int steps, {_OPTIONS}) -> Tensor")
class Linspace:
    """`steps` numbers from start to end, both included; counted from the nearer end, as torch does."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(0, 1, 5)
        yield sample(-1.0, 2.0, 8)
        yield sample(3, 7, 1)
        yield sample(0, 1, 0)
        yield sample(0, 10, 4, dtype=dtypes.int64)

    @staticmethod
    def infer(start: Any, end: Any, steps: Size, dtype: DType | None, *_: Rest) -> TensorInfo:
        if isinstance(steps, int):
            require(steps >= 0, "number of steps must be non-negative")
        return TensorInfo((steps,), dtype or dtypes.DEFAULT)

    @staticmethod
    def reference(start: Any, end: Any, steps: int, dtype: DType | None, *_: Rest) -> Array:
        out = (dtype or dtypes.DEFAULT).numpy
        inner = np.dtype(np.float64) if out.kind in "iu" else out
        first, last = inner.type(start), inner.type(end)
        step = (last - first) / inner.type(max(steps - 1, 1))
        index = np.arange(steps)
        values = np.where(index < steps // 2, first + step * index, last - step * (steps - 1 - index))
        return np.asarray(values if steps != 1 else np.array([first])).astype(out)

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, start: Any, end: Any, steps: Size, *_: Rest) -> Tensor:
        inner = dtypes.float64 if out.dtype.is_integral else out.dtype
        first, last, count = b.scalar(start, inner), b.scalar(end, inner), b.scalar(steps, dtypes.int64)
        step = (last - first) / (count - 1).maximum(1).cast(inner)
        half = count.floor_divide(2)

        def element(index: Scalar) -> Scalar:
            at = index.at
            a, z, s = (Scalar(v.value, inner, at) for v in (first, last, step))
            n, middle = (Scalar(v.value, dtypes.int64, at) for v in (count, half))
            up, down = a + s * index.cast(inner), z - s * (n - 1 - index).cast(inner)
            low = index.compare("lt", middle) | n.compare("eq", 1)
            return low.select(up, down)

        return b.iota(out.sizes, 0, out.dtype, element)


def _eye(schema: str) -> None:
    square = "SymInt m" not in schema

    def sizes(arguments: tuple[Any, ...]) -> tuple[Size, Size]:
        return (arguments[0], arguments[0]) if square else (arguments[0], arguments[1])

    def lower(b: LinalgBuilder, out: TensorInfo, *arguments: Any) -> Tensor:
        return b.pointwise(lambda at, _: at.position(0).compare("eq", at.position(1)), [], out.sizes, out.dtype)

    declare(
        schema,
        infer=lambda *a: TensorInfo(_checked(sizes(a)), a[1 if square else 2] or dtypes.DEFAULT),
        reference=lambda *a: np.eye(*static(sizes(a)), dtype=(a[1 if square else 2] or dtypes.DEFAULT).numpy),
        lower=lower,
        samples=lambda: [sample(3), sample(0)] if square else [sample(2, 4, dtype=dtypes.int64)],
        doc="1 on the diagonal, 0 elsewhere.",
        source=f"{__name__} (aten::eye)",
    )


_eye(f"aten::eye(SymInt n, {_OPTIONS}) -> Tensor")
_eye(f"aten::eye.m(SymInt n, SymInt m, {_OPTIONS}) -> Tensor")


# ------ tensors of given numbers


def nested_sizes(data: Any) -> list[int]:
    """The sizes of nested lists; RuntimeFault where they are ragged."""
    if not isinstance(data, list):
        return []
    if not data:
        return [0]
    inner = [nested_sizes(v) for v in data]
    if any(i != inner[0] for i in inner):
        first, other = (len(v) if isinstance(v, list) else 0 for v in (data[0], data[-1]))
        raise RuntimeFault(f"expected sequence of length {first} at dim 1 (got {other})", "ValueError")
    return [len(data), *inner[0]]


def _flat(data: Any) -> list[Any]:
    return [v for item in data for v in _flat(item)] if isinstance(data, list) else [data]


def _tensor_info(data: Any, dtype: DType | None) -> TensorInfo:
    values = _flat(data)
    found = dtypes.DEFAULT if not values else scalar_dtype(values[0])
    for value in values[1:]:
        found = dtypes.promote(found, scalar_dtype(value))
    return TensorInfo(tuple(nested_sizes(data)), dtype or found)


def _tensor_lower(b: LinalgBuilder, out: TensorInfo, data: Any, *_: Rest) -> Tensor:
    values = _flat(data)
    if out.sizes and all(isinstance(v, (int, float)) for v in values) and out.dtype != dtypes.bfloat16:
        return b.dense(_tensor_reference(data, out.dtype))
    return b.from_scalars([b.scalar(v, out.dtype) for v in values], out.sizes, out.dtype)


def _tensor_reference(data: Any, dtype: DType | None, *_: Rest) -> Array:
    out = _tensor_info(data, dtype)
    return as_dtype(np.array(data).reshape(tuple(int(s) for s in out.sizes if isinstance(s, int))), out.dtype)


def _tensor_samples(text: str) -> Callable[[], list[Sample]]:
    if "[] data" in text:
        return lambda: [sample([[1, 2], [3, 4]]), sample([1.5, 2.5], dtype=dtypes.int64), sample([True]), sample([])]
    value = {"bool": True, "float": 2.5}.get(text.partition("(")[2].partition(" ")[0], 3)
    return lambda: [sample(value), sample(value, dtype=dtypes.float32)]


for _name, _grad in (("tensor", ", bool requires_grad=False"), ("as_tensor", "")):
    for _text in ("float(float t", "int(int t", "bool(bool t", "list(t[] data"):
        _text = _text.replace("list(", "(") if _name == "tensor" else _text
        _dot = "" if _text[0] == "(" else "."
        _schema = f"aten::{_name}{_dot}{_text}, *, ScalarType? dtype=None, Device? device=None{_grad}) -> Tensor"
        declare(
            _schema, infer=lambda data, dtype, *_: _tensor_info(data, dtype), reference=_tensor_reference,
            lower=_tensor_lower, doc="A tensor of Python numbers.", samples=_tensor_samples(_schema),
            source=f"{__name__} ({_schema.partition('(')[0]})",
        )  # fmt: skip
declare(
    f"aten::scalar_tensor(Scalar s, {_OPTIONS}) -> Tensor",
    infer=lambda s, dtype, *_: TensorInfo((), dtype or dtypes.DEFAULT),
    reference=lambda s, dtype, *_: _tensor_reference(s, dtype or dtypes.DEFAULT), lower=_tensor_lower,
    samples=lambda: [sample(3), sample(2.5, dtype=dtypes.float64)], doc="A zero-dimensional tensor.",
)  # fmt: skip
for _schema in ("prim::NumToTensor.Scalar(Scalar a) -> Tensor", "prim::NumToTensor.bool(bool a) -> Tensor"):
    declare(
        _schema, infer=lambda value: TensorInfo((), _exact(value)), lower=_tensor_lower,
        reference=lambda value: np.array(value, _exact(value).numpy), doc="A number as a tensor of its full width.",
        samples=lambda: [sample(True)], source=f"{__name__} ({_schema.partition('(')[0]})",
    )  # fmt: skip


def _exact(value: Any) -> DType:
    dtype = scalar_dtype(value)
    return dtypes.float64 if dtype.is_floating else dtype


@op(
    "aten::as_tensor(Tensor(a) data, *, ScalarType? dtype=None, Device? device=None) -> Tensor(b|a)",
)
class AsTensor:
    """The tensor itself, or its conversion."""

    samples = staticmethod(lambda: [sample(normal(2)), sample(normal(2), dtype=dtypes.float64)])
    copies = staticmethod(lambda x, dtype, device: dtype is not None and dtype != x.dtype)
    write = staticmethod(lambda b, base, value, dtype, device: value)

    @staticmethod
    def infer(x: TensorInfo, dtype: DType | None, device: Any) -> TensorInfo:
        return x.with_dtype(dtype or x.dtype)

    @staticmethod
    def reference(x: Array, dtype: DType | None, device: Any) -> Array:
        return x if dtype is None else as_dtype(x, dtype)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, dtype: DType | None, device: Any) -> Value:
        return x if dtype in (None, x.dtype) else b.to(x, dtype)


@op("aten::_shape_as_tensor(Tensor self) -> Tensor")
class ShapeAsTensor:
    """The sizes as a tensor of int64."""

    samples = staticmethod(lambda: [sample(normal(2, 3))])

    @staticmethod
    def infer(x: TensorInfo) -> TensorInfo:
        return TensorInfo((x.rank,), dtypes.int64)

    @staticmethod
    def reference(x: Array) -> Array:
        return np.array(x.shape, np.int64)

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor) -> Tensor:
        return b.from_scalars([b.scalar(s, dtypes.int64) for s in x.sizes], out.sizes, out.dtype)


# ------ triangles


def _triangle(name: str, lower_half: bool) -> None:
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, diagonal: Size) -> Tensor:
        offset = b.scalar(diagonal, dtypes.int64)

        def body(at: Any, elements: list[Scalar]) -> Scalar:
            edge = at.position(x.rank - 2) + Scalar(offset.value, dtypes.int64, at)
            inside: Scalar = at.position(x.rank - 1).compare("le" if lower_half else "ge", edge)
            return inside.select(elements[0], elements[0].lift(0))

        return b.pointwise(body, [x], out.sizes, out.dtype)

    def infer(x: TensorInfo, diagonal: Size) -> TensorInfo:
        require(x.rank >= 2, f"{name}: input tensor must have at least 2 dimensions")
        return x

    declare(
        f"aten::{name}(Tensor self, SymInt diagonal=0) -> Tensor", infer=infer, inplace=True, lower=lower,
        reference=lambda x, diagonal: np.asarray(getattr(np, name)(x, diagonal)),
        samples=lambda: [sample(normal(3, 4)), sample(normal(2, 3, 3), 1), sample(integers(4, 3), -1)],
        doc="What lies on one side of a diagonal; 0 elsewhere.", source=f"{__name__} (aten::{name})",
    )  # fmt: skip


_triangle("tril", True)
_triangle("triu", False)


@op("aten::one_hot(Tensor self, int num_classes=-1) -> Tensor")
class OneHot:
    """1 at each class's own position of a new last dimension."""

    samples = staticmethod(lambda: [sample(np.array([[0, 2], [1, 1]]), 4), sample(np.array(1), 2)])

    @staticmethod
    def infer(x: TensorInfo, classes: int) -> TensorInfo:
        if x.dtype != dtypes.int64:
            raise RuntimeFault("one_hot is only applicable to index tensor of type LongTensor.")
        if classes == -1:
            raise UnsupportedError("aten::one_hot without num_classes: the number of classes depends on the data")
        require(not isinstance(classes, int) or classes > 0, "num_classes should be positive")
        return TensorInfo((*x.sizes, classes), dtypes.int64)

    @staticmethod
    def reference(x: Array, classes: int) -> Array:
        if x.size and x.min() < 0:
            raise RuntimeError("Class values must be non-negative.")
        classes = int(x.max()) + 1 if classes == -1 else classes
        if x.size and x.max() >= classes:
            raise RuntimeError("Class values must be smaller than num_classes.")
        return np.asarray(x[..., None] == np.arange(classes)).astype(np.int64)

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, classes: Size) -> Tensor:
        low = b.any_of(x, lambda e: e.compare("lt", 0))
        b.require(~low, "RuntimeError", "Class values must be non-negative.")
        limit = b.scalar(classes, dtypes.int64)
        high = b.any_of(x, lambda e: e.compare("ge", Scalar(limit.value, dtypes.int64, e.at)))
        b.require(~high, "RuntimeError", "Class values must be smaller than num_classes.")
        wide = b.reshape(x, [*x.sizes, 1])
        return b.pointwise(
            lambda at, e: e[0].compare("eq", at.position(x.rank)), [wide], out.sizes, out.dtype
        )
