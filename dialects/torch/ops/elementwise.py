"""How tables declare elementwise ops: one body in scalar IR and one in numpy, the rest is derived.

Operands take part in promotion if they are tensors or numbers named `Scalar`; everything is computed in the dtype
that `inner` makes of the promoted one, and stored in the one that `result` makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.declare import Array, Rule, ScalarInfo, TensorInfo, declare
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops.dimensions import broadcast_sizes
from stepwell.dialects.torch.ops.promotion import facts, numpy_compute, promoted, same
from stepwell.dialects.torch.scalar import Scalar
from stepwell.dialects.torch.schema import parse_schema

Body = Callable[..., Scalar]
Choice = Callable[[DType], DType]


def elementwise(
    *schemas: str,
    scalar: Body,
    reference: Callable[..., Any],
    inner: Choice = same,
    result: Choice | None = None,
    participants: Sequence[int] | None = None,
    refuse: Callable[[DType], None] | None = None,
    samples: Rule | None = None,
    **options: Any,
) -> None:
    """Declare ops whose result's element depends on the operands' elements only.

    scalar(*elements) and reference(*arrays) get every operand in the computing dtype. participants: which
    operands decide the dtype (default: all). refuse(dtype) raises for dtypes that torch does not take.
    """
    result = result or inner
    for text in schemas:
        _declare(text, scalar, reference, inner, result, participants, refuse, samples, options)


def _declare(
    text: str,
    scalar: Body,
    reference: Callable[..., Any],
    inner: Choice,
    result: Choice,
    participants: Sequence[int] | None,
    refuse: Callable[[DType], None] | None,
    samples: Rule | None,
    options: dict[str, Any],
) -> None:
    formals = parse_schema(text).arguments
    deciding = list(participants) if participants is not None else list(range(len(formals)))

    def common(arguments: Sequence[Any]) -> DType:
        dtype = promoted(*(arguments[n] for n in deciding))
        if refuse is not None:
            refuse(dtype)
        return dtype

    def infer(*arguments: Any) -> TensorInfo:
        sizes = broadcast_sizes(*(a.sizes for a in arguments if isinstance(a, TensorInfo)))
        return TensorInfo(sizes, result(common(arguments)))

    def lower(b: LinalgBuilder, out: TensorInfo, *operands: Any) -> Tensor:
        known = [o.info if isinstance(o, Tensor) else scalar_facts(o) for o in operands]
        return b.elementwise(scalar, *operands, dtype=out.dtype, sizes=out.sizes, compute=inner(common(known)))

    def evaluate(*arguments: Any) -> Array:
        known = [facts(a) for a in arguments]
        dtype = common(known)
        computing = numpy_compute(inner(dtype))
        with np.errstate(all="ignore"):
            values = reference(*(np.asarray(a).astype(computing) for a in arguments))
            return as_dtype(np.asarray(values), result(dtype))

    name = text.partition("(")[0]
    declare(text, infer=infer, reference=evaluate, lower=lower, samples=samples, source=f"{__name__} ({name})", **options)


def scalar_facts(value: Any) -> Any:
    """What promotion needs to know of a lowering rule's number."""
    if isinstance(value, Scalar):
        return ScalarInfo({dtypes.BOOL: "bool", dtypes.INTEGER: "int"}.get(value.dtype.category, "float"))
    return value


def as_dtype(x: Array, dtype: DType) -> Array:
    """Conversion as torch's on the CPU: floats to integers truncate, through int64 where they do not fit."""
    if x.dtype == dtype.numpy:
        return x
    with np.errstate(all="ignore"):
        if dtype.is_integral and x.dtype.kind not in "iub":
            return np.asarray(x.astype(np.int64).astype(dtype.numpy))
        return np.asarray(x.astype(dtype.numpy))
