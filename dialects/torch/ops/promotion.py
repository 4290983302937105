"""Which dtype a result has, and in which one it is computed: torch's promotion for rules and references."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.declare import Array, ScalarInfo, TensorInfo
from stepwell.dialects.torch.scalar import compute_dtype
from stepwell.dialects.torch.sizes import Dim


def info(x: Array) -> TensorInfo:
    """What a shape rule would know of an array."""
    return TensorInfo(tuple(x.shape), dtypes.from_numpy(x.dtype))


def facts(value: Any) -> Any:
    """A rule's argument from a reference's: arrays become TensorInfo, also in lists."""
    if isinstance(value, (np.ndarray, np.generic)):
        return info(np.asarray(value))
    if isinstance(value, (list, tuple)):
        return [facts(v) for v in value]
    return value


def promoted(*operands: Any) -> DType:
    """torch.result_type of tensors (arrays or TensorInfo) and Python scalars, whatever is known of them."""
    known = [facts(o) for o in operands]
    dimensioned = [o.dtype for o in known if isinstance(o, TensorInfo) and o.sizes]
    zero_dim = [o.dtype for o in known if isinstance(o, TensorInfo) and not o.sizes]
    scalars = [scalar_dtype(o) for o in known if not isinstance(o, TensorInfo)]
    return dtypes.result_type(dimensioned, zero_dim, scalars)


def scalar_dtype(value: Any) -> DType:
    """The dtype that a Python scalar, known or not, stands for in promotion."""
    if isinstance(value, ScalarInfo):
        return {"bool": dtypes.bool_, "int": dtypes.int64}.get(value.kind, dtypes.DEFAULT)
    if isinstance(value, Dim):
        return dtypes.int64
    dtype = getattr(value, "dtype", None)
    if isinstance(dtype, DType):
        return dtype if not dtype.is_floating else dtypes.DEFAULT
    return dtypes.of_scalar(value)


def same(dtype: DType) -> DType:
    return dtype


def boolean(_: DType) -> DType:
    return dtypes.bool_


def floating(dtype: DType) -> DType:
    """What exp and its like return: integers and bool become the default float."""
    return dtype if dtype.category >= dtypes.FLOATING else dtypes.DEFAULT


def widened(dtype: DType) -> DType:
    """What sum and prod return: integers and bool become int64."""
    return dtypes.int64 if dtype.category < dtypes.FLOATING else dtype


def numpy_compute(dtype: DType) -> np.dtype[Any]:
    """The numpy dtype in which references compute elements of `dtype` (float32 for the 16-bit floats)."""
    return compute_dtype(dtype).numpy
