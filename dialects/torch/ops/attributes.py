"""What is asked of a tensor without reading it (sizes, dtype, device), and its one element as a number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.torch.declare import (
    Array,
    RuntimeFault,
    Sample,
    ScalarInfo,
    TensorInfo,
    declare,
    op,
    sample,
)
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops.dimensions import broadcast_sizes, wrap
from stepwell.dialects.torch.ops.numbers import evaluated, truncated
from stepwell.dialects.torch.ops.promotion import facts, promoted, scalar_dtype
from stepwell.dialects.torch.ops.samples import normal
from stepwell.dialects.torch.scalar import Scalar
from stepwell.dialects.torch.sizes import Size, product


def _samples() -> Iterator[Sample]:
    yield sample(normal(2, 3))
    yield sample(np.zeros((0,), np.int64))
    yield sample(np.array(1.5))


def attribute(
    *schemas: str, of: Callable[..., Any], doc: str, samples: Callable[[], Iterable[Sample]] = _samples
) -> None:
    """Declare ops whose result follows from sizes and dtype alone."""
    declare(
        *schemas, infer=of, reference=lambda *a: of(*(facts(x) for x in a)), evaluate_only=True, doc=doc,
        samples=samples, source=f"{__name__} ({schemas[0].partition('(')[0]})",
    )  # fmt: skip


def _contiguous_strides(x: TensorInfo) -> list[Size]:
    return [product(x.sizes[d + 1 :]) for d in range(x.rank)]


attribute("aten::dim(Tensor self) -> int", of=lambda x: x.rank, doc="The number of dimensions.")
attribute(
    "aten::numel(Tensor self) -> int", "aten::sym_numel(Tensor self) -> SymInt", of=lambda x: product(x.sizes),
    doc="The number of elements.",
)  # fmt: skip
attribute(
    "aten::size(Tensor self) -> int[]", "aten::sym_size(Tensor self) -> SymInt[]", of=lambda x: list(x.sizes),
    doc="All sizes.",
)  # fmt: skip
attribute("aten::is_floating_point(Tensor self) -> bool", of=lambda x: x.dtype.is_floating, doc="Of a floating dtype.")
attribute("aten::is_complex(Tensor self) -> bool", of=lambda x: x.dtype.category == dtypes.COMPLEX, doc="Complex.")
attribute("aten::is_signed(Tensor self) -> bool", of=lambda x: x.dtype.is_signed, doc="Of a signed dtype.")
attribute("aten::element_size(Tensor self) -> int", "prim::itemsize(Tensor a) -> int", of=lambda x: x.dtype.itemsize,
          doc="Bytes of one element.")  # fmt: skip
attribute("prim::nbytes(Tensor a) -> int", of=lambda x: product(x.sizes) * x.dtype.itemsize, doc="Bytes.")
attribute("prim::dtype(Tensor a) -> int", of=lambda x: x.dtype.code, doc="The dtype as torch's code.")
attribute("prim::layout(Tensor a) -> Layout", of=lambda x: 0, doc="Strided.")
attribute("prim::device(Tensor a) -> Device", of=lambda x: "cpu", doc="Where it is.")
attribute("prim::is_cpu(Tensor a) -> bool", of=lambda x: True, doc="Always.")
for _name in ("cuda", "meta", "mkldnn", "mps", "nested", "quantized", "sparse", "sparse_csr", "vulkan", "xla", "xpu"):
    attribute(f"prim::is_{_name}(Tensor a) -> bool", of=lambda x: False, doc="Never.")
attribute("prim::requires_grad(Tensor a) -> bool", of=lambda x: False, doc="No gradients are recorded.")
attribute("aten::is_leaf(Tensor self) -> bool", of=lambda x: True, doc="No gradients are recorded.")
attribute("aten::is_inference(Tensor self) -> bool", of=lambda x: False, doc="Not in inference mode.")
attribute("aten::get_device(Tensor self) -> int", of=lambda x: -1, doc="-1, the CPU.")
attribute("prim::name(Tensor a) -> str?", of=lambda x: None, doc="Tensors have no names.")


@op("aten::size.int(Tensor self, int dim) -> int", "aten::sym_size.int(Tensor self, int dim) -> SymInt")
class SizeInt:
    """One size; dims count from the end too."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(normal(2, 3), -1)

    @staticmethod
    def infer(x: TensorInfo, dim: int) -> Size:
        if not x.sizes:
            raise RuntimeFault("Dimension specified as 0 but tensor has no dimensions", "IndexError")
        return x.sizes[wrap(dim, x.rank)]

    @staticmethod
    def reference(x: Array, dim: int) -> int:
        return int(x.shape[wrap(dim, x.ndim)])

    @staticmethod
    def lower(b: LinalgBuilder, out: Size, x: Tensor, dim: int) -> Scalar:
        return b.scalar(x.sizes[wrap(dim, x.rank)], dtypes.int64)


@op("aten::len.Tensor(Tensor t) -> int")
class LenTensor:
    """The first size."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(normal(2, 3))

    @staticmethod
    def infer(x: TensorInfo) -> Size:
        if not x.sizes:
            raise RuntimeFault("len() of a 0-d tensor", "TypeError")
        return x.sizes[0]

    @staticmethod
    def reference(x: Array) -> int:
        return len(x)

    @staticmethod
    def lower(b: LinalgBuilder, out: Size, x: Tensor) -> Scalar:
        return b.scalar(x.sizes[0], dtypes.int64)


# ------ strides: a value is contiguous; only the reference sees how an array lies


def _strides(x: Array) -> list[int]:
    return [s // x.itemsize for s in x.strides]


declare(
    "aten::stride(Tensor self) -> int[]", "aten::sym_stride(Tensor self) -> SymInt[]", infer=_contiguous_strides,
    reference=_strides, evaluate_only=True, samples=lambda: [sample(normal(2, 3))],
    doc="Distances between neighbours in elements; of contiguous storage, which every compiled value has.",
)  # fmt: skip
declare(
    "aten::stride.int(Tensor self, int dim) -> int", "aten::sym_stride.int(Tensor self, int dim) -> SymInt",
    infer=lambda x, dim: _contiguous_strides(x)[wrap(dim, x.rank)], reference=lambda x, dim: _strides(x)[dim],
    evaluate_only=True, samples=lambda: [sample(normal(2, 3), -2)], doc="One stride.",
)  # fmt: skip
declare(
    "aten::is_contiguous(Tensor self) -> bool", infer=lambda x: True,
    reference=lambda x: bool(x.flags.c_contiguous), evaluate_only=True, samples=_samples,
    doc="Whether elements lie in row-major order; every compiled value does.",
)  # fmt: skip
declare(
    "aten::is_contiguous.memory_format(Tensor self, MemoryFormat memory_format) -> bool",
    infer=lambda x, memory_format: memory_format == 0,
    reference=lambda x, memory_format: memory_format == 0 and bool(x.flags.c_contiguous), evaluate_only=True,
    samples=lambda: [sample(normal(2, 3), 0)], doc="Whether elements lie in that order.",
)  # fmt: skip
declare(
    "aten::storage_offset(Tensor self) -> int", infer=lambda x: 0, reference=lambda x: 0, evaluate_only=True,
    samples=_samples, doc="Where the tensor starts in its storage.",
)  # fmt: skip


def _same_size(x: TensorInfo, y: TensorInfo) -> bool:
    return x.sizes == y.sizes


attribute(
    "aten::is_same_size(Tensor self, Tensor other) -> bool", of=_same_size, doc="Whether the sizes are equal.",
    samples=lambda: [sample(normal(2, 3), normal(3, 2))],
)  # fmt: skip


# ------ dtypes


evaluated(
    "aten::promote_types(ScalarType type1, ScalarType type2) -> ScalarType", reference=dtypes.promote,
    samples=lambda: [sample(dtypes.int32, dtypes.float16)], doc="The smallest dtype that both convert to.",
)  # fmt: skip
evaluated(
    "aten::can_cast(ScalarType from_, ScalarType to) -> bool",
    reference=lambda a, b: a.category <= b.category and not (a.is_signed and b == dtypes.uint8 and a.is_integral),
    doc="Whether the category does not fall.", samples=lambda: [sample(dtypes.float32, dtypes.int64)],
)  # fmt: skip
for _schema in (
    "Tensor(Tensor tensor, Tensor other)", "Scalar(Tensor tensor, Scalar other)",
    "Scalar_Tensor(Scalar scalar, Tensor tensor)", "Scalar_Scalar(Scalar scalar1, Scalar scalar2)",
):  # fmt: skip
    declare(
        f"aten::result_type.{_schema} -> ScalarType",
        infer=lambda x, y: promoted(x, y)
        if isinstance(x, TensorInfo) or isinstance(y, TensorInfo)
        else dtypes.promote(scalar_dtype(x), scalar_dtype(y)),
        reference=lambda x, y: promoted(x, y) if not _both_numbers(x, y) else dtypes.promote(scalar_dtype(x), scalar_dtype(y)),
        evaluate_only=True, doc="torch.result_type", source=f"{__name__} (aten::result_type.{_schema})",
    )  # fmt: skip


def _both_numbers(x: Any, y: Any) -> bool:
    return not isinstance(x, np.ndarray) and not isinstance(y, np.ndarray)


evaluated(
    "aten::broadcast_shapes(int[] a, int[] b) -> int[]", "aten::_infer_size(int[] a, int[] b) -> int[]",
    reference=lambda a, b: list(broadcast_sizes(a, b)), samples=lambda: [sample([2, 1], [3])], doc="Broadcast sizes.",
)  # fmt: skip


# ------ the element of a tensor that has one


def _only_element(x: TensorInfo) -> None:
    count = product(x.sizes)
    if isinstance(count, int) and count != 1:
        raise RuntimeFault(f"a Tensor with {count} elements cannot be converted to Scalar")


def _read(b: LinalgBuilder, x: Tensor) -> Scalar:
    b.require_equal(product(x.sizes), 1, "a Tensor with {} elements cannot be converted to Scalar")
    return b.element(x, [0] * x.rank)


_KIND = {"float": dtypes.float64, "int": dtypes.int64, "bool": dtypes.bool_}


def _element_samples() -> Iterator[Sample]:
    yield sample(np.array(2.7, np.float32))
    yield sample(np.array([[-3]]))
    yield sample(np.array(True))
    yield sample(np.array([0.0]))
    yield sample(np.array(5))


def _convert(kind: str, value: Any) -> Any:
    if kind == "int":
        return truncated(value) if isinstance(value, float) else int(value)
    return float(value) if kind == "float" else bool(value)


def element(schema: str, kind: str | None, doc: str) -> None:
    """Declare the conversion of a tensor's one element; `kind` None: what suits its dtype."""

    def infer(x: TensorInfo) -> ScalarInfo:
        _only_element(x)
        return ScalarInfo(kind or ("float", "int", "bool")[(x.dtype.is_integral) + 2 * (x.dtype == dtypes.bool_)])

    def reference(x: Array) -> Any:
        if x.size != 1:
            raise RuntimeError(f"a Tensor with {x.size} elements cannot be converted to Scalar")
        value = x.reshape(-1)[0]
        value = float(value) if x.dtype.kind not in "iub" else value.item()
        return _convert(kind, value) if kind else value

    def lower(b: LinalgBuilder, out: ScalarInfo, x: Tensor) -> Scalar:
        value = _read(b, x)
        return value.cast(_KIND[out.kind])

    def samples() -> Iterator[Sample]:
        for taken in _element_samples():
            array = taken.arguments[0]
            fits = {"IntImplicit": array.dtype.kind == "i", "FloatImplicit": array.dtype.kind == "f"}
            if "Implicit" not in schema or fits.get(schema[6:].partition("(")[0], True):
                yield sample(array.reshape(())) if "Implicit" in schema else taken

    declare(schema, infer=infer, reference=reference, lower=lower, samples=samples, doc=doc, source=schema)


element("aten::item(Tensor self) -> Scalar", None, "The element as a Python number.")
element("aten::_local_scalar_dense(Tensor self) -> Scalar", None, "The element as a Python number.")
element("aten::ScalarImplicit(Tensor a) -> Scalar", None, "The element as a Python number.")
element("aten::Int.Tensor(Tensor a) -> int", "int", "int(a), towards zero.")
element("aten::IntImplicit(Tensor a) -> int", "int", "The element as an int.")
element("aten::Float.Tensor(Tensor a) -> float", "float", "float(a)")
element("aten::FloatImplicit(Tensor a) -> float", "float", "The element as a float.")
element("aten::Bool.Tensor(Tensor a) -> bool", "bool", "bool(a)")
element("aten::is_nonzero(Tensor self) -> bool", "bool", "bool(self)")

