"""Activation functions with or without parameters, and what else combines elements: where, clamp, lerp, addcmul."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, RuntimeFault, Sample, TensorInfo, declare, op, sample
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops import samples
from stepwell.dialects.torch.ops.dimensions import broadcast_sizes, known, wrap
from stepwell.dialects.torch.ops.elementwise import Body, elementwise
from stepwell.dialects.torch.ops.promotion import facts, floating, numpy_compute, promoted, scalar_dtype
from stepwell.dialects.torch.ops.samples import integers, normal
from stepwell.dialects.torch.ops.unary import erf
from stepwell.dialects.torch.scalar import Scalar


def activation(
    schema: str, scalar: Body, reference: Callable[..., Any], *parameters: tuple[Any, ...], **options: Any
) -> None:
    """Declare an op of one tensor and numbers that do not take part in promotion.

    parameters: values of the numbers for further samples.
    """

    def own_samples() -> Iterator[Sample]:
        for given in (*parameters, ()):
            yield sample(normal(2, 3), *given)
            yield sample(samples.SPECIAL, *given)
        yield sample(np.zeros((0, 3), np.float32), *(parameters[0] if parameters else ()))
        yield sample(np.array(0.5), *(parameters[0] if parameters else ()))

    elementwise(
        schema, scalar=scalar, reference=reference, participants=[0],
        **{"samples": own_samples, "inplace": True, "doc": f"{schema[6:].partition('(')[0]} of every element.", **options},
    )  # fmt: skip


def _numpy_sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _clip(x: Scalar, low: Any, high: Any) -> Scalar:
    return x.maximum(low).minimum(high)


def _numpy_softplus(x: Array, beta: Any = 1, threshold: Any = 20) -> Array:
    return np.asarray(np.where(x * beta > threshold, x, np.log1p(np.exp(x * beta)) / beta)).astype(x.dtype)


def _softplus(x: Scalar, beta: Any, threshold: Any) -> Scalar:
    z = x * beta
    result: Scalar = z.compare("gt", threshold).select(x, z.math("exp").math("log1p") / beta)
    return result


activation(
    "aten::relu6(Tensor self) -> Tensor", lambda x: _clip(x, 0, 6), lambda x: np.clip(x, 0, 6),
)  # fmt: skip
activation(
    "aten::silu(Tensor self) -> Tensor", lambda x: x / ((-x).math("exp") + 1.0), lambda x: x / (1 + np.exp(-x)),
)  # fmt: skip
activation(
    "aten::mish(Tensor self) -> Tensor", lambda x: x * x.math("exp").math("log1p").math("tanh"),
    lambda x: x * np.tanh(np.log1p(np.exp(x))),
)  # fmt: skip


def _exponential_unit(x: Scalar, alpha: Any, scale: Any, input_scale: Any) -> Scalar:
    return x.compare("le", 0).select((x * input_scale).math("expm1") * alpha * scale, x * scale)


def _numpy_elu(x: Array, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Array:
    return np.asarray(np.where(x <= 0, np.expm1(x * input_scale) * alpha * scale, x * scale)).astype(x.dtype)


activation(
    "aten::elu(Tensor self, Scalar alpha=1, Scalar scale=1, Scalar input_scale=1) -> Tensor", _exponential_unit,
    _numpy_elu, (0.5, 1, 1), (1.5, 1.25, 2.0),
)  # fmt: skip
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
activation(
    "aten::selu(Tensor self) -> Tensor", lambda x: _exponential_unit(x, _SELU_ALPHA, _SELU_SCALE, 1.0),
    lambda x: _numpy_elu(x, _SELU_ALPHA, _SELU_SCALE),
)  # fmt: skip
activation(
    "aten::celu(Tensor self, Scalar alpha=1.0) -> Tensor",
    lambda x, alpha: x.compare("le", 0).select((x / alpha).math("expm1") * alpha, x),
    lambda x, alpha: np.where(x <= 0, np.expm1(x / alpha) * alpha, x).astype(x.dtype), (0.7,),
)  # fmt: skip
activation(
    "aten::leaky_relu(Tensor self, Scalar negative_slope=0.01) -> Tensor",
    lambda x, slope: x.compare("gt", 0).select(x, x * slope), lambda x, slope: np.where(x > 0, x, x * slope), (0.2,),
)  # fmt: skip
activation(
    "aten::hardtanh(Tensor self, Scalar min_val=-1, Scalar max_val=1) -> Tensor", _clip,
    lambda x, low, high: np.minimum(np.maximum(x, low), high), (-0.5, 2),
)  # fmt: skip
activation(
    "aten::hardswish(Tensor self) -> Tensor", lambda x: x * _clip(x + 3, 0, 6) / 6.0,
    lambda x: x * np.clip(x + 3, 0, 6) / 6,
)  # fmt: skip
activation(
    "aten::hardsigmoid(Tensor self) -> Tensor", lambda x: _clip(x + 3, 0, 6) / 6.0, lambda x: np.clip(x + 3, 0, 6) / 6,
)  # fmt: skip
activation(
    "aten::softplus(Tensor self, Scalar beta=1, Scalar threshold=20) -> Tensor", _softplus, _numpy_softplus,
    (2.0, 1.0), inplace=False,
)  # fmt: skip
activation(
    "aten::log_sigmoid(Tensor self) -> Tensor",
    lambda x: x.minimum(0) - (-x.absolute()).math("exp").math("log1p"),
    lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))), inplace=False,
)  # fmt: skip
activation(
    "aten::threshold(Tensor self, Scalar threshold, Scalar value) -> Tensor",
    lambda x, limit, value: x.compare("le", limit).select(value, x),
    lambda x, limit, value: np.where(x <= limit, value, x),
    samples=lambda: [sample(normal(2, 3), 0.1, 20.0), sample(integers(4), 1, -7), sample(samples.SPECIAL, 0, 1)],
)  # fmt: skip
activation(
    "aten::hardshrink(Tensor self, Scalar lambd=0.5) -> Tensor",
    lambda x, edge: (x.compare("ge", -edge) & x.compare("le", edge)).select(0.0, x),
    lambda x, edge: np.where((x >= -edge) & (x <= edge), 0, x), (0.1,), inplace=False,
)  # fmt: skip
activation(
    "aten::softshrink(Tensor self, Scalar lambd=0.5) -> Tensor",
    lambda x, edge: x.compare("gt", edge).select(x - edge, x.compare("lt", -edge).select(x + edge, x * 0.0)),
    lambda x, edge: np.where(x > edge, x - edge, np.where(x < -edge, x + edge, x * 0)), (0.1,), inplace=False,
)  # fmt: skip


_SQRT_HALF, _TANH_SCALE = math.sqrt(0.5), math.sqrt(2 / math.pi)


@op('aten::gelu(Tensor self, *, str approximate="none") -> Tensor', inplace=True)
class Gelu:
    """x times the normal distribution's integral at x: by erf, or its approximation by tanh."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        for approximate in ("none", "tanh"):
            yield sample(normal(2, 3), approximate=approximate)
            yield sample(samples.SPECIAL[np.isfinite(samples.SPECIAL)], approximate=approximate)

    @staticmethod
    def infer(x: TensorInfo, approximate: str) -> TensorInfo:
        if approximate not in ("none", "tanh"):
            raise RuntimeFault("approximate argument must be either none or tanh.")
        return x

    @staticmethod
    def reference(x: Array, approximate: str) -> Array:
        y = x.astype(numpy_compute(facts(x).dtype))
        with np.errstate(all="ignore"):
            if approximate == "tanh":
                return np.asarray(0.5 * y * (1 + np.tanh(_TANH_SCALE * (y + 0.044715 * y**3)))).astype(x.dtype)
            return np.asarray(0.5 * y * (1 + erf(y * _SQRT_HALF))).astype(x.dtype)

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, approximate: str) -> Tensor:
        def by_erf(e: Scalar) -> Scalar:
            return 0.5 * e * (1.0 + (e * _SQRT_HALF).math("erf"))

        def by_tanh(e: Scalar) -> Scalar:
            return 0.5 * e * (1.0 + ((e + e * e * e * 0.044715) * _TANH_SCALE).math("tanh"))

        return b.elementwise(by_tanh if approximate == "tanh" else by_erf, x, dtype=out.dtype)


@op("aten::prelu(Tensor self, Tensor weight) -> Tensor")
class Prelu:
    """x where it is positive, else weight * x; one weight, or one for each channel (dimension 1)."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(normal(2, 3, 4), normal(3))
        yield sample(normal(2, 3), normal(1))
        yield sample(normal(4), normal(1))

    @staticmethod
    def infer(x: TensorInfo, weight: TensorInfo) -> TensorInfo:
        return x

    @staticmethod
    def reference(x: Array, weight: Array) -> Array:
        if weight.size > 1:
            weight = weight.reshape([-1 if d == 1 else 1 for d in range(x.ndim)])
        elif weight.ndim:
            weight = weight.reshape(())
        return np.asarray(np.where(x > 0, x, weight * x)).astype(x.dtype)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, weight: Value) -> Value:
        if weight.rank == 1 and x.rank > 1:
            weight = b.view(weight, [weight.sizes[0] if d == 1 else 1 for d in range(x.rank)])
        result: Value = b.where(b.gt(x, 0), x, b.mul(weight, x))
        return result


@op("aten::glu(Tensor self, int dim=-1) -> Tensor")
class Glu:
    """The first half of a dimension times the sigmoid of the second."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(normal(2, 6))
        yield sample(normal(4, 3), 0)

    @staticmethod
    def infer(x: TensorInfo, dim: int) -> TensorInfo:
        d = wrap(dim, x.rank)
        half = x.sizes[d] // 2
        if half * 2 != x.sizes[d] and isinstance(half, int):
            raise RuntimeFault(f"Halving dimension must be even, but dimension {d} is size {x.sizes[d]}")
        return x.with_sizes(half if n == d else s for n, s in enumerate(x.sizes))

    @staticmethod
    def reference(x: Array, dim: int) -> Array:
        a, g = np.split(x, 2, axis=dim)
        return np.asarray(a * _numpy_sigmoid(g))

    @staticmethod
    def expand(b: TorchBuilder, x: Value, dim: int) -> Value:
        half = x.sizes[wrap(dim, x.rank)] // 2
        result: Value = b.mul(b.narrow(x, dim, 0, half), b.sigmoid(b.narrow(x, dim, half, half)))
        return result


# ------ where and masked_fill


def _where_samples(text: str) -> Callable[[], Iterator[Sample]]:
    def make() -> Iterator[Sample]:
        condition = normal(2, 3) > 0
        values = {"Tensor self": normal(3), "Scalar self": 1.5, "Tensor other": normal(2, 1), "Scalar other": 2}
        first = next(v for k, v in values.items() if k in text and k.endswith("self"))
        second = next(v for k, v in values.items() if k in text and k.endswith("other"))
        yield sample(condition, first, second)

    return make


for _text in (
    "aten::where.self(Tensor condition, Tensor self, Tensor other) -> Tensor",
    "aten::where.ScalarSelf(Tensor condition, Scalar self, Tensor other) -> Tensor",
    "aten::where.ScalarOther(Tensor condition, Tensor self, Scalar other) -> Tensor",
    "aten::where.Scalar(Tensor condition, Scalar self, Scalar other) -> Tensor",
):

    @op(_text)
    class Where:
        """self where the condition holds, else other; broadcast, in their common dtype."""

        samples = staticmethod(_where_samples(_text))

        @staticmethod
        def infer(condition: TensorInfo, x: Any, y: Any) -> TensorInfo:
            sizes = broadcast_sizes(*(v.sizes for v in (condition, x, y) if isinstance(v, TensorInfo)))
            if condition.dtype not in (dtypes.bool_, dtypes.uint8):
                raise RuntimeFault(f"where expected condition to be a boolean tensor, but got a tensor with dtype {condition.dtype.title}")  # fmt: skip  # noqa: E501
            if isinstance(x, TensorInfo) or isinstance(y, TensorInfo):
                return TensorInfo(sizes, promoted(x, y))
            return TensorInfo(sizes, _common(x, y))

        @staticmethod
        def reference(condition: Array, x: Any, y: Any) -> Array:
            dtype = Where.infer(facts(condition), facts(x), facts(y)).dtype.numpy
            return np.asarray(np.where(condition, np.asarray(x).astype(dtype), np.asarray(y).astype(dtype)))

        @staticmethod
        def lower(b: LinalgBuilder, out: TensorInfo, condition: Tensor, x: Any, y: Any) -> Tensor:
            return select(b, out, condition, x, y)


def _common(x: Any, y: Any) -> DType:
    return dtypes.promote(scalar_dtype(x), scalar_dtype(y))


def select(b: LinalgBuilder, out: TensorInfo, condition: Tensor, x: Any, y: Any) -> Tensor:
    """condition ? x : y at every element; x and y are Tensors or scalars of any dtype."""
    numbers = {n: b.scalar(v, out.dtype) for n, v in enumerate((x, y)) if not isinstance(v, Tensor)}
    tensors = [condition, *(v for v in (x, y) if isinstance(v, Tensor))]

    def choose(at: Any, elements: list[Scalar]) -> Scalar:
        own = iter(elements[1:])
        p, q = (
            Scalar(numbers[n].value, out.dtype, at) if n in numbers else next(own).cast(out.dtype) for n in range(2)
        )
        return elements[0].cast(dtypes.bool_).select(p, q)

    return b.pointwise(choose, tensors, out.sizes, out.dtype)


for _text in (
    "aten::masked_fill.Scalar(Tensor self, Tensor mask, Scalar value) -> Tensor",
    "aten::masked_fill.Tensor(Tensor self, Tensor mask, Tensor value) -> Tensor",
):

    @op(_text, inplace=True)
    class MaskedFill:
        """self with `value` where the mask holds; the dtype stays."""

        @staticmethod
        def samples(text: str = _text) -> Iterator[Sample]:
            for value in (1.5, -math.inf):
                yield sample(normal(2, 3), normal(2, 1) > 0, np.array(value, np.float32) if "Tensor value" in text else value)
            yield sample(integers(2, 3), normal(3) > 0, np.array(3) if "Tensor value" in text else 3)

        @staticmethod
        def infer(x: TensorInfo, mask: TensorInfo, value: Any) -> TensorInfo:
            if isinstance(value, TensorInfo) and value.rank > 0:
                raise RuntimeFault(f"masked_fill only supports a 0-dimensional value tensor, but got tensor with {value.rank} dimension(s).")  # noqa: E501  # fmt: skip
            if mask.dtype != dtypes.bool_:
                raise RuntimeFault(f"masked_fill only supports boolean masks, but got mask with dtype {mask.dtype.title}")
            return TensorInfo(broadcast_sizes(x.sizes, mask.sizes), x.dtype)

        @staticmethod
        def reference(x: Array, mask: Array, value: Any) -> Array:
            return np.asarray(np.where(mask, np.asarray(value).astype(x.dtype), x))

        @staticmethod
        def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, mask: Tensor, value: Any) -> Tensor:
            return select(b, out, mask, value, x)


# ------ bounds


def _clamp_info(x: TensorInfo, low: Any, high: Any) -> TensorInfo:
    given = [v for v in (low, high) if v is not None]
    if not given:
        raise RuntimeFault("torch.clamp: At least one of 'min' or 'max' must not be None")
    sizes = broadcast_sizes(x.sizes, *(v.sizes for v in given if isinstance(v, TensorInfo)))
    return TensorInfo(sizes, promoted(x, *given))


def _clamp_reference(x: Array, low: Any, high: Any) -> Array:
    out = _clamp_info(facts(x), facts(low), facts(high)).dtype.numpy
    result = x.astype(out)
    if low is not None:
        result = np.maximum(result, np.asarray(low).astype(out))
    if high is not None:
        result = np.minimum(result, np.asarray(high).astype(out))
    return np.asarray(result)


def _clamp_lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, low: Any, high: Any) -> Tensor:
    given = [v for v in (low, high) if v is not None]

    def body(e: Scalar, *limits: Scalar) -> Scalar:
        own = iter(limits)
        e = e.maximum(next(own)) if low is not None else e
        return e.minimum(next(own)) if high is not None else e

    return b.elementwise(body, x, *given, dtype=out.dtype, sizes=out.sizes)


def _clamp_samples(text: str) -> Callable[[], Iterator[Sample]]:
    def make() -> Iterator[Sample]:
        if "Tensor? min" in text:
            yield sample(normal(2, 3), normal(3) - 1, normal(2, 1) + 1)
            yield sample(normal(2, 3), None, normal(3))
            yield sample(integers(2, 3), np.array(-1), None)
        else:
            yield sample(normal(2, 3), -0.5, 0.5)
            yield sample(samples.SPECIAL, 0, None)
            yield sample(integers(2, 3), None, 2)
            yield sample(integers(2, 3), 0.5, 2)
            yield sample(normal(4), 1, -1)

    return make


for _name in ("clamp", "clip"):
    for _text in (
        f"aten::{_name}(Tensor self, Scalar? min=None, Scalar? max=None) -> Tensor",
        f"aten::{_name}.Tensor(Tensor self, Tensor? min=None, Tensor? max=None) -> Tensor",
    ):

        @op(_text, inplace=True)
        class Clamp:
            """At least min, then at most max (so max wins where they cross); NaN stays."""

            samples = staticmethod(_clamp_samples(_text))
            infer = staticmethod(_clamp_info)
            reference = staticmethod(_clamp_reference)
            lower = staticmethod(_clamp_lower)


def _one_sided(name: str, low: bool) -> None:
    def limits(value: Any) -> tuple[Any, Any]:
        return (value, None) if low else (None, value)

    word = "min" if low else "max"
    for text, value in (
        (f"aten::{name}(Tensor self, Scalar {word}) -> Tensor", 0.25),
        (f"aten::{name}.Tensor(Tensor self, Tensor {word}) -> Tensor", np.array([0.25, -0.25, np.nan], np.float32)),
    ):

        @op(text, inplace=True)
        class OneSided:
            """clamp with one bound."""

            samples = staticmethod(lambda value=value: [sample(normal(2, 3), value)])
            infer = staticmethod(lambda x, v: _clamp_info(x, *limits(v)))
            reference = staticmethod(lambda x, v: _clamp_reference(x, *limits(v)))
            lower = staticmethod(lambda b, out, x, v: _clamp_lower(b, out, x, *limits(v)))


_one_sided("clamp_min", True)
_one_sided("clamp_max", False)


# ------ three tensors


def _lerp(x: Scalar, end: Scalar, weight: Scalar) -> Scalar:
    """From the nearer end, as torch computes it."""
    near = weight.absolute().compare("lt", 0.5)
    return near.select(x + weight * (end - x), end - (end - x) * (1.0 - weight))


def _numpy_lerp(x: Array, end: Array, weight: Array) -> Array:
    near = np.abs(weight) < 0.5
    return np.asarray(np.where(near, x + weight * (end - x), end - (end - x) * (1 - weight)))


for _text, _weight in (
    ("aten::lerp.Scalar(Tensor self, Tensor end, Scalar weight) -> Tensor", 0.3),
    ("aten::lerp.Tensor(Tensor self, Tensor end, Tensor weight) -> Tensor", normal(3, seed=5)),
):
    elementwise(
        _text, scalar=_lerp, reference=_numpy_lerp, inplace=True, doc="self + weight * (end - self)", participants=[0, 1],
        samples=lambda weight=_weight: [sample(normal(2, 3), normal(3), weight)],
    )  # fmt: skip
elementwise(
    "aten::addcmul(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor",
    scalar=lambda x, p, q, v: x + v * p * q, reference=lambda x, p, q, v: x + v * p * q, inplace=True,
    participants=[0, 1, 2], doc="self + value * tensor1 * tensor2",
    samples=lambda: [sample(normal(2, 3), normal(3), normal(2, 1), value=0.5), sample(normal(3), normal(3), normal(3))],
)  # fmt: skip
elementwise(
    "aten::addcdiv(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor",
    scalar=lambda x, p, q, v: x + v * p / q, reference=lambda x, p, q, v: x + v * p / q, inplace=True,
    participants=[0, 1, 2], doc="self + value * tensor1 / tensor2", inner=floating,
    samples=lambda: [sample(normal(2, 3), normal(3), normal(2, 1), value=0.5)],
)  # fmt: skip


@op("aten::nan_to_num(Tensor self, float? nan=None, float? posinf=None, float? neginf=None) -> Tensor", inplace=True)
class NanToNum:
    """NaN and the infinities replaced: by 0 and the largest finite values unless told otherwise."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(samples.SPECIAL)
        yield sample(samples.SPECIAL, 1.5, 2.0, -3.0)
        yield sample(integers(3))

    @staticmethod
    def infer(x: TensorInfo, nan: Any, high: Any, low: Any) -> TensorInfo:
        return x

    @staticmethod
    def reference(x: Array, nan: Any, high: Any, low: Any) -> Array:
        if x.dtype.kind in "iub":
            return x.copy()
        return np.nan_to_num(x, nan=nan or 0.0, posinf=high, neginf=low)

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, nan: Any, high: Any, low: Any) -> Tensor:
        if not out.dtype.is_floating:
            return x
        largest = float(np.finfo(out.dtype.numpy).max) if out.dtype != dtypes.bfloat16 else 3.3895313892515355e38
        replacements = [0.0 if nan is None else nan, largest if high is None else high, -largest if low is None else low]

        def body(e: Scalar, n: Scalar, up: Scalar, down: Scalar) -> Scalar:
            e = e.is_nan().select(n, e)
            e = e.compare("eq", math.inf).select(up, e)
            return e.compare("eq", -math.inf).select(down, e)

        return b.elementwise(body, x, *replacements, dtype=out.dtype)


@op("aten::logit(Tensor self, float? eps=None) -> Tensor", inplace=True)
class Logit:
    """log(x / (1 - x)), x first clamped to eps .. 1 - eps."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(np.linspace(0, 1, 7).astype(np.float32))
        yield sample(np.linspace(0, 1, 7).astype(np.float32), 0.1)

    @staticmethod
    def infer(x: TensorInfo, eps: float | None) -> TensorInfo:
        return x.with_dtype(floating(x.dtype))

    @staticmethod
    def reference(x: Array, eps: float | None) -> Array:
        x = x.astype(floating(facts(x).dtype).numpy)
        if eps is not None:
            x = np.clip(x, eps, 1 - eps)
        with np.errstate(all="ignore"):
            return np.asarray(np.log(x / (1 - x))).astype(x.dtype)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, eps: float | None) -> Value:
        if eps is not None:
            low = known(eps, "the eps of aten::logit")
            x = b.clamp(x, low, 1.0 - low)
        result: Value = b.log(b.div(x, b.rsub(x, 1.0)))
        return result


# ------ dropout: the identity when not training


def _dropout(schema: str) -> None:
    def infer(x: TensorInfo, p: float, train: bool) -> TensorInfo:
        if isinstance(p, float) and not 0 <= p <= 1:
            raise RuntimeFault(f"dropout probability has to be between 0 and 1, but got {p}")
        if train is not False and p != 0:
            raise UnsupportedError(f"{schema.partition('(')[0]} while training needs random numbers")
        return x

    declare(
        schema, infer=infer, reference=lambda x, p, train: x, expand=lambda b, x, p, train: x, inplace=True,
        samples=lambda: [sample(normal(2, 3), 0.5, False)], doc="The identity when not training.", source=schema,
    )  # fmt: skip


for _name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
    _dropout(f"aten::{_name}(Tensor input, float p, bool train) -> Tensor")

__all__ = ["activation", "select"]
