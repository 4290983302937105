"""Losses: pointwise distances of a prediction and a target, then none, the mean or the sum of them (reduction)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, Sample, TensorInfo, declare, sample
from stepwell.dialects.torch.ops.dimensions import broadcast_sizes, known, require
from stepwell.dialects.torch.ops.promotion import promoted
from stepwell.dialects.torch.ops.samples import integers, normal
from stepwell.dialects.torch.sizes import Size

NONE, MEAN, SUM = 0, 1, 2


def reduced_info(x: TensorInfo, reduction: int) -> TensorInfo:
    return x if reduction == NONE else x.with_sizes(())


def reduced_numpy(x: Array, reduction: int, dtype: Any) -> Array:
    result = x if reduction == NONE else x.mean() if reduction == MEAN else x.sum()
    return np.asarray(result).astype(dtype)


def reduced(b: TorchBuilder, x: Value, reduction: int) -> Value:
    result: Value = x if reduction == NONE else b.mean(x) if reduction == MEAN else b.sum(x)
    return result


# ------ pointwise: the distance of two or three tensors, with numbers


def _pointwise(
    schema: str, tensors: int, numpy: Callable[..., Array], builder: Callable[..., Any],
    samples: Callable[[], list[tuple[Any, ...]]], doc: str,
) -> None:  # fmt: skip
    """Declare a loss; its reduction is the argument of that name, wherever the schema has it.

    `numpy(*tensors, *numbers)` works in float64, `builder(b, *tensors, *numbers)` writes the ops.
    """
    names = [part.strip().split(" ")[1].partition("=")[0] for part in _arguments(schema)]
    where = names.index("reduction")

    def split(arguments: tuple[Any, ...]) -> tuple[list[Any], int]:
        rest = list(arguments)
        return rest, rest.pop(where)

    def infer(*arguments: Any) -> TensorInfo:
        rest, reduction = split(arguments)
        given = [a for a in rest if isinstance(a, TensorInfo)]
        sizes = broadcast_sizes(*(a.sizes for a in given))
        return reduced_info(TensorInfo(sizes, promoted(*given[:tensors])), reduction)

    def reference(*arguments: Any) -> Array:
        rest, reduction = split(arguments)
        wide = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in rest]
        dtype = np.result_type(*(a for a in rest[:tensors] if isinstance(a, np.ndarray)))
        return reduced_numpy(np.asarray(numpy(*wide)), reduction, dtype)

    def expand(b: TorchBuilder, *arguments: Any) -> Value:
        rest, reduction = split(arguments)
        return reduced(b, builder(b, *rest), reduction)

    def make() -> Iterator[Sample]:
        for given in samples():
            for reduction in (NONE, MEAN, SUM):
                named = dict(zip([n for n in names if n != "reduction"], given, strict=False))
                yield sample(**named, reduction=reduction)

    declare(
        schema, infer=infer, reference=reference, expand=expand, samples=make, doc=doc,
        source=f"{__name__} ({schema.partition('(')[0]})",
    )  # fmt: skip


def _arguments(schema: str) -> list[str]:
    inside = schema.partition("(")[2].rpartition(") ->")[0]
    return [part for part in inside.split(",") if part.strip() != "*"]


def _pairs() -> list[tuple[Any, ...]]:
    return [(normal(2, 5) * 3, normal(2, 5, seed=1)), (normal(3), normal(3, seed=1) * 0.1)]


def _signs() -> list[tuple[Any, ...]]:
    return [(normal(2, 5), np.sign(normal(2, 5, seed=1)))]


def _chances() -> Array:
    return np.random.default_rng(3).uniform(0.05, 0.95, (2, 5)).astype(np.float32)


def _smooth_numpy(x: Array, y: Array, beta: float) -> Any:
    d = np.abs(x - y)
    return np.asarray(np.where(d < beta, 0.5 * d * d / (beta or 1), d - 0.5 * beta))


def _smooth(b: TorchBuilder, x: Value, y: Value, beta: float) -> Value:
    d = b.abs(b.sub(x, y))
    near = b.div(b.mul(b.mul(d, d), 0.5), beta)
    result: Value = b.where(b.lt(d, beta), near, b.sub(d, b.mul(beta, 0.5)))
    return result


def _huber_numpy(x: Array, y: Array, delta: float) -> Any:
    d = np.abs(x - y)
    return np.asarray(np.where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta)))


def _huber(b: TorchBuilder, x: Value, y: Value, delta: float) -> Value:
    d = b.abs(b.sub(x, y))
    far = b.mul(b.sub(d, b.mul(delta, 0.5)), delta)
    result: Value = b.where(b.le(d, delta), b.mul(b.mul(d, d), 0.5), far)
    return result


_pointwise(
    "aten::mse_loss(Tensor self, Tensor target, int reduction=1) -> Tensor", 2, lambda x, y: (x - y) ** 2,
    lambda b, x, y: b.square(b.sub(x, y)), _pairs, "The square of the difference.",
)  # fmt: skip
_pointwise(
    "aten::l1_loss(Tensor self, Tensor target, int reduction=1) -> Tensor", 2, lambda x, y: np.abs(x - y),
    lambda b, x, y: b.abs(b.sub(x, y)), _pairs, "The magnitude of the difference.",
)  # fmt: skip
_pointwise(
    "aten::smooth_l1_loss(Tensor self, Tensor target, int reduction=1, float beta=1.0) -> Tensor", 2, _smooth_numpy, _smooth,
    lambda: [(*p, beta) for p in _pairs() for beta in (1.0, 0.5)], "The difference, squared where it is below beta.",
)  # fmt: skip
_pointwise(
    "aten::huber_loss(Tensor self, Tensor target, int reduction=1, float delta=1.0) -> Tensor", 2, _huber_numpy, _huber,
    lambda: [(*p, 0.7) for p in _pairs()], "The difference times delta, squared where it is below delta.",
)  # fmt: skip
_pointwise(
    "aten::soft_margin_loss(Tensor self, Tensor target, int reduction=1) -> Tensor", 2,
    lambda x, y: np.logaddexp(0, -y * x), lambda b, x, y: b.softplus(b.neg(b.mul(y, x))), _signs, "log(1 + exp(-target * self))",
)  # fmt: skip
_pointwise(
    "aten::hinge_embedding_loss(Tensor self, Tensor target, float margin=1.0, int reduction=1) -> Tensor", 2,
    lambda x, y, margin: np.where(y == 1, x, 0) + np.where(y == -1, np.maximum(margin - x, 0), 0),
    lambda b, x, y, margin: b.add(
        b.where(b.eq(y, 1), x, b.zeros_like(x)),
        b.where(b.eq(y, -1), b.clamp_min(b.rsub(x, margin), 0), b.zeros_like(x)),
    ),
    lambda: [(*p, 0.5) for p in _signs()], "self where the target is 1, max(0, margin - self) where it is -1.",
)  # fmt: skip
_pointwise(
    "aten::margin_ranking_loss(Tensor input1, Tensor input2, Tensor target, float margin=0.0, int reduction=1) -> Tensor", 2,
    lambda x, y, t, margin: np.maximum(-t * (x - y) + margin, 0),
    lambda b, x, y, t, margin: b.clamp_min(b.add(b.mul(b.neg(t), b.sub(x, y)), margin), 0),
    lambda: [(normal(2, 5), normal(2, 5, seed=1), np.sign(normal(2, 5, seed=2)), 0.3)],
    "max(0, -target * (input1 - input2) + margin)",
)  # fmt: skip


def _kl_numpy(x: Array, y: Array, log_target: bool) -> Any:
    if log_target:
        return np.asarray(np.exp(y) * (y - x))
    return np.asarray(np.where(y > 0, y * np.log(np.where(y > 0, y, 1)), 0) - y * x)


def _kl(b: TorchBuilder, x: Value, y: Value, log_target: bool) -> Value:
    if log_target:
        return b.mul(b.exp(y), b.sub(y, x))  # type: ignore[no-any-return]
    return b.sub(b.xlogy(y, y), b.mul(y, x))  # type: ignore[no-any-return]


def _likelihood_numpy(x: Array, y: Array, weight: Array | None) -> Any:
    loss = -(y * np.maximum(np.log(x), -100) + (1 - y) * np.maximum(np.log1p(-x), -100))
    return np.asarray(loss if weight is None else loss * weight)


def _likelihood(b: TorchBuilder, x: Value, y: Value, weight: Value | None) -> Value:
    yes, no = b.clamp_min(b.log(x), -100.0), b.clamp_min(b.log1p(b.neg(x)), -100.0)
    loss: Value = b.neg(b.add(b.mul(y, yes), b.mul(b.rsub(y, 1), no)))
    return loss if weight is None else b.mul(loss, weight)


def _logits_numpy(x: Array, y: Array, weight: Array | None, positive: Array | None) -> Any:
    factor = 1 if positive is None else 1 + (positive - 1) * y
    loss = (1 - y) * x + factor * np.logaddexp(0, -x)
    return np.asarray(loss if weight is None else loss * weight)


def _logits(b: TorchBuilder, x: Value, y: Value, weight: Value | None, positive: Value | None) -> Value:
    likely = b.add(b.log1p(b.exp(b.neg(b.abs(x)))), b.clamp_min(b.neg(x), 0))
    if positive is not None:
        likely = b.mul(likely, b.add(b.mul(b.sub(positive, 1), y), 1))
    loss: Value = b.add(b.mul(b.rsub(y, 1), x), likely)
    return loss if weight is None else b.mul(loss, weight)


_pointwise(
    "aten::kl_div(Tensor self, Tensor target, int reduction=1, *, bool log_target=False) -> Tensor", 2, _kl_numpy, _kl,
    lambda: [(-np.abs(normal(2, 5)), _chances(), False), (-np.abs(normal(2, 5)), normal(2, 5, seed=1), True)],
    "target * (log target - self)",
)  # fmt: skip
_pointwise(
    "aten::binary_cross_entropy(Tensor self, Tensor target, Tensor? weight=None, int reduction=1) -> Tensor", 2,
    _likelihood_numpy, _likelihood,
    lambda: [(_chances(), np.float32(_chances() > 0.4), None), (_chances(), np.float32(_chances() > 0.4), normal(5))],
    "The negative log likelihood of two classes, from probabilities; logarithms are at least -100.",
)  # fmt: skip
_pointwise(
    "aten::binary_cross_entropy_with_logits(Tensor self, Tensor target, Tensor? weight=None, Tensor? pos_weight=None, int reduction=1) -> Tensor",  # noqa: E501
    2, _logits_numpy, _logits,
    lambda: [(normal(2, 5) * 9, _chances(), None, None), (normal(2, 5), _chances(), normal(5), np.abs(normal(5, seed=4)))],
    "The negative log likelihood of two classes, from logits.",
)  # fmt: skip


def _poisson_numpy(x: Array, y: Array, log_input: bool, full: bool, eps: float) -> Any:
    loss = np.exp(x) - y * x if log_input else x - y * np.log(x + eps)
    if full:
        safe = np.where(y > 1, y, 2)
        loss = loss + np.where(y > 1, y * np.log(safe) - y + 0.5 * np.log(2 * np.pi * safe), 0)
    return np.asarray(loss)


def _poisson(b: TorchBuilder, x: Value, y: Value, log_input: bool, full: bool, eps: float) -> Value:
    loss: Value = b.sub(b.exp(x), b.mul(y, x)) if log_input else b.sub(x, b.mul(y, b.log(b.add(x, eps))))
    if full:
        stirling = b.add(b.sub(b.mul(y, b.log(y)), y), b.mul(b.log(b.mul(y, 2 * np.pi)), 0.5))
        loss = b.add(loss, b.where(b.gt(y, 1), stirling, b.zeros_like(y)))
    return loss


_pointwise(
    "aten::poisson_nll_loss(Tensor input, Tensor target, bool log_input, bool full, float eps, int reduction) -> Tensor", 2,
    _poisson_numpy, _poisson,
    lambda: [
        (normal(2, 5), np.float32(integers(2, 5, low=0, high=6)), True, True, 1e-8),
        (np.abs(normal(2, 5)), np.float32(integers(2, 5, low=0, high=6)), False, False, 1e-8),
    ],
    "The negative log likelihood of counts.",
)  # fmt: skip


# ------ classes


def _class_sizes(x: TensorInfo) -> tuple[Size, ...]:
    """Sizes without the dimension of classes: the first of a single sample, else the second."""
    require(x.rank > 0, "Expected an input of at least one dimension, the classes")
    return x.sizes[1:] if x.rank == 1 else (x.sizes[0], *x.sizes[2:])


def _nll_info(x: TensorInfo, target: TensorInfo, weight: Any, reduction: int, ignored: int) -> TensorInfo:
    return reduced_info(x.with_sizes(_class_sizes(x)), reduction)


def _class_dim(rank: int) -> int:
    return 0 if rank == 1 else 1


def _nll_numpy(x: Array, target: Array, weight: Any, ignored: int) -> tuple[Array, Array]:
    """The loss of every sample and its weight."""
    d = _class_dim(x.ndim)
    valid = target != ignored
    safe = np.where(valid, target, 0)
    if safe.size and not (0 <= safe.min() and safe.max() < x.shape[d]):
        raise IndexError(f"Target {int(safe.max() if safe.max() >= x.shape[d] else safe.min())} is out of bounds.")
    picked = np.take_along_axis(x.astype(np.float64), np.expand_dims(safe, d), d).squeeze(d)
    each = np.where(valid, 1.0 if weight is None else weight.astype(np.float64)[safe], 0.0)
    return -picked * each, each


def _averaged(loss: Array, each: Array, reduction: int, dtype: Any) -> Array:
    if reduction == MEAN:
        with np.errstate(all="ignore"):
            return np.asarray(loss.sum() / each.sum()).astype(dtype)
    return reduced_numpy(loss, reduction, dtype)


def _nll_reference(x: Array, target: Array, weight: Any, reduction: int, ignored: int) -> Array:
    return _averaged(*_nll_numpy(x, target, weight, ignored), reduction, x.dtype)


def _nll(b: TorchBuilder, x: Value, target: Value, weight: Value | None, ignored: int) -> tuple[Value, Value]:
    d = _class_dim(x.rank)
    valid = b.ne(target, ignored)
    safe = b.where(valid, target, b.zeros_like(target))
    picked = b.squeeze(b.gather(x, d, b.unsqueeze(safe, d)), d)
    each = b.to(valid, x.dtype)
    if weight is not None:
        each = b.mul(each, b.view(b.index_select(weight, 0, b.flatten(safe)), list(target.sizes)))
    return b.neg(b.mul(picked, each)), each


def _finished(b: TorchBuilder, loss: Value, each: Value, reduction: int) -> Value:
    if reduction == MEAN:
        return b.div(b.sum(loss), b.sum(each))  # type: ignore[no-any-return]
    return reduced(b, loss, reduction)


def _nll_expand(b: TorchBuilder, x: Value, target: Value, weight: Value | None, reduction: int, ignored: int) -> Value:
    return _finished(b, *_nll(b, x, target, weight, ignored), reduction)


def _class_samples() -> Iterator[Sample]:
    for reduction in (NONE, MEAN, SUM):
        yield sample(normal(4, 5), np.array([0, 4, 2, 2]), None, reduction)
        yield sample(normal(4, 5), np.array([0, 4, 2, 2]), np.abs(normal(5)), reduction, 2)
    yield sample(normal(2, 3, 4), integers(2, 4, low=0, high=3), np.abs(normal(3)))


_NLL = "Minus the prediction of the target's class, times its weight; targets equal to ignore_index do not count."
for _schema, _make in (
    ("nll_loss_nd", _class_samples),
    ("nll_loss", lambda: [s for s in _class_samples() if s.arguments[0].ndim < 3]),
    ("nll_loss2d", lambda: [sample(normal(2, 3, 4, 2), integers(2, 4, 2, low=0, high=3), np.abs(normal(3)), SUM)]),
):
    declare(
        f"aten::{_schema}(Tensor self, Tensor target, Tensor? weight=None, int reduction=1, SymInt ignore_index=-100) -> Tensor",
        infer=_nll_info, reference=_nll_reference, expand=_nll_expand, samples=_make, doc=_NLL,
        source=f"{__name__} ({_schema})",
    )  # fmt: skip


def _soft_targets(x: TensorInfo, target: TensorInfo) -> bool:
    return x.rank == target.rank and target.dtype.is_floating


def _cross_info(x: TensorInfo, target: TensorInfo, weight: Any, reduction: int, *_: Any) -> TensorInfo:
    return reduced_info(x.with_sizes(_class_sizes(x)), reduction)


def _cross_reference(
    x: Array, target: Array, weight: Any, reduction: int, ignored: int, smoothing: float
) -> Array:
    d = _class_dim(x.ndim)
    y = x.astype(np.float64)
    y = y - y.max(d, keepdims=True)
    y = y - np.log(np.exp(y).sum(d, keepdims=True))
    by_class = np.ones(1) if weight is None else weight.astype(np.float64)
    by_class = by_class.reshape([-1 if axis == d else 1 for axis in range(x.ndim)])
    count = x.shape[d]
    if x.ndim == target.ndim and np.issubdtype(target.dtype, np.floating):
        likely = target.astype(np.float64) * (1 - smoothing) + smoothing / count
        loss = -(likely * y * by_class).sum(d)
        if reduction == MEAN:
            return np.asarray(loss.sum() / (x.size // count)).astype(x.dtype)
        return reduced_numpy(loss, reduction, x.dtype)
    loss, each = _nll_numpy(y, target, weight, ignored)
    if smoothing:
        smooth = np.where(target != ignored, -(y * by_class).sum(d), 0.0)
        loss = loss * (1 - smoothing) + smooth * (smoothing / count)
    return _averaged(loss, each, reduction, x.dtype)


def _cross_expand(
    b: TorchBuilder, x: Value, target: Value, weight: Value | None, reduction: int, ignored: int, smoothing: float
) -> Value:
    known(smoothing, "aten::cross_entropy_loss with a label_smoothing")
    d = _class_dim(x.rank)
    y = b.log_softmax(x, d)
    count = x.sizes[d]
    weighed = y if weight is None else b.mul(y, b.view(weight, [count if axis == d else 1 for axis in range(x.rank)]))
    if _soft_targets(x.tensor, target.tensor):
        likely = b.add(b.mul(target, 1 - smoothing), b.div(smoothing, count)) if smoothing else target
        loss = b.neg(b.sum(b.mul(likely, weighed), [d]))
        if reduction == MEAN:
            return b.mean(loss)  # type: ignore[no-any-return]
        return reduced(b, loss, reduction)
    loss, each = _nll(b, y, target, weight, ignored)
    if smoothing:
        valid = b.to(b.ne(target, ignored), x.dtype)
        smooth = b.mul(b.neg(b.sum(weighed, [d])), valid)
        loss = b.add(b.mul(loss, 1 - smoothing), b.mul(smooth, b.div(smoothing, count)))
    return _finished(b, loss, each, reduction)


def _cross_samples() -> Iterator[Sample]:
    yield from _class_samples()
    yield sample(normal(4, 5), np.array([0, 4, 2, 2]), np.abs(normal(5)), MEAN, 2, 0.1)
    yield sample(normal(2, 5), _chances(), None, MEAN, -100, 0.1)
    yield sample(normal(2, 5), _chances(), np.abs(normal(5)), NONE)
    yield sample(normal(5), np.array(3), None, MEAN)


declare(
    "aten::cross_entropy_loss(Tensor self, Tensor target, Tensor? weight=None, int reduction=1, SymInt ignore_index=-100, float label_smoothing=0.) -> Tensor",  # noqa: E501
    infer=_cross_info, reference=_cross_reference, expand=_cross_expand, samples=_cross_samples,
    doc="nll_loss of log_softmax; targets are classes or the classes' probabilities.",
)  # fmt: skip
