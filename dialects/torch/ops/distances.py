"""Distances between rows, and windows of signals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, Sample, TensorInfo, declare, sample
from stepwell.dialects.torch.ops.dimensions import broadcast_sizes, known, require
from stepwell.dialects.torch.ops.elementwise import as_dtype
from stepwell.dialects.torch.ops.losses import reduced, reduced_info, reduced_numpy
from stepwell.dialects.torch.ops.promotion import promoted, widened
from stepwell.dialects.torch.ops.samples import integers, normal

# ------ distances


def _norm_numpy(d: Array, p: float, axis: int, keep: bool = False) -> Array:
    return np.asarray(np.linalg.norm(d.astype(np.float64), p, axis, keep))


def _pairs_info(x: TensorInfo, y: TensorInfo, *_: Any) -> TensorInfo:
    require(x.rank >= 2 and y.rank >= 2, "cdist only supports at least 2D tensors")
    lead = broadcast_sizes(x.sizes[:-2], y.sizes[:-2])
    broadcast_sizes(x.sizes[-1:], y.sizes[-1:])
    return TensorInfo((*lead, x.sizes[-2], y.sizes[-2]), promoted(x, y))


def _pairs_reference(x: Array, y: Array, p: float, *_: Any) -> Array:
    return _norm_numpy(x[..., :, None, :] - y[..., None, :, :], p, -1).astype(np.result_type(x, y))


def _pairs_expand(b: TorchBuilder, x: Value, y: Value, p: float, *_: Any) -> Value:
    result: Value = b.linalg_vector_norm(b.sub(b.unsqueeze(x, -2), b.unsqueeze(y, -3)), p, [-1])
    return result


def _pairs_samples() -> Iterator[Sample]:
    for p in (2.0, 1.0, 3.0, math.inf):
        yield sample(normal(3, 4), normal(5, 4), p)
    yield sample(normal(2, 3, 4), normal(5, 4))


declare(
    "aten::cdist(Tensor x1, Tensor x2, float p=2., int? compute_mode=None) -> Tensor",
    infer=_pairs_info, reference=_pairs_reference, expand=_pairs_expand, samples=_pairs_samples,
    doc="The p-norm of the difference of every row of x1 and every row of x2.",
)  # fmt: skip


def _pairwise_info(x: TensorInfo, y: TensorInfo, p: float, eps: float, keep: bool) -> TensorInfo:
    sizes = broadcast_sizes(x.sizes, y.sizes)
    return TensorInfo((*sizes[:-1], 1) if keep else sizes[:-1], promoted(x, y))


declare(
    "aten::pairwise_distance(Tensor x1, Tensor x2, float p=2, float eps=9.9999999999999995e-07, bool keepdim=False) -> Tensor",
    infer=_pairwise_info,
    reference=lambda x, y, p, eps, keep: _norm_numpy(x - y + eps, p, -1, keep).astype(np.result_type(x, y)),
    expand=lambda b, x, y, p, eps, keep: b.linalg_vector_norm(b.add(b.sub(x, y), eps), p, [-1], keep),
    samples=lambda: [sample(normal(3, 4), normal(3, 4, seed=1)), sample(normal(3, 4), normal(4), 1.0, 1e-6, True)],
    doc="The p-norm of the difference of each pair of rows.",
)  # fmt: skip


def _triplet_info(a: TensorInfo, p: TensorInfo, n: TensorInfo, *arguments: Any) -> TensorInfo:
    return reduced_info(a.with_sizes(broadcast_sizes(a.sizes, p.sizes, n.sizes)[:-1]), arguments[-1])


def _triplet(
    b: TorchBuilder, a: Value, p: Value, n: Value, margin: float, order: float, eps: float, swap: bool, reduction: int
) -> Value:
    near, far = b.pairwise_distance(a, p, order, eps), b.pairwise_distance(a, n, order, eps)
    if swap:
        far = b.minimum(far, b.pairwise_distance(p, n, order, eps))
    return reduced(b, b.clamp_min(b.add(b.sub(near, far), margin), 0), reduction)


def _triplet_numpy(
    a: Array, p: Array, n: Array, margin: float, order: float, eps: float, swap: bool, reduction: int
) -> Array:
    near, far = _norm_numpy(a - p + eps, order, -1), _norm_numpy(a - n + eps, order, -1)
    if swap:
        far = np.minimum(far, _norm_numpy(p - n + eps, order, -1))
    return reduced_numpy(np.maximum(near - far + margin, 0), reduction, a.dtype)


declare(
    "aten::triplet_margin_loss(Tensor anchor, Tensor positive, Tensor negative, float margin=1.0, float p=2, float eps=9.9999999999999995e-07, bool swap=False, int reduction=1) -> Tensor",  # noqa: E501
    infer=_triplet_info,
    reference=_triplet_numpy, expand=_triplet,
    samples=lambda: [
        sample(normal(3, 4), normal(3, 4, seed=1), normal(3, 4, seed=2), 1.0, 2.0, 1e-6, swap, reduction)
        for swap, reduction in ((False, 0), (True, 1))
    ],
    doc="max(0, |anchor - positive| - |anchor - negative| + margin)",
)  # fmt: skip


def _cosine_numpy(x: Array, y: Array, target: Array, margin: float, reduction: int) -> Array:
    c = (x * y).sum(-1) / np.sqrt(((x * x).sum(-1) + 1e-12) * ((y * y).sum(-1) + 1e-12))
    apart = np.where(target == -1, np.maximum(c - margin, 0), 0)
    return reduced_numpy(np.where(target == 1, 1 - c, apart), reduction, x.dtype)


def _cosine(b: TorchBuilder, x: Value, y: Value, target: Value, margin: float, reduction: int) -> Value:
    lengths = [b.add(b.sum(b.mul(v, v), [-1]), 1e-12) for v in (x, y)]
    c = b.div(b.sum(b.mul(x, y), [-1]), b.sqrt(b.mul(*lengths)))
    apart = b.where(b.eq(target, -1), b.clamp_min(b.sub(c, margin), 0), b.zeros_like(c))
    return reduced(b, b.where(b.eq(target, 1), b.rsub(c, 1), apart), reduction)


declare(
    "aten::cosine_embedding_loss(Tensor input1, Tensor input2, Tensor target, float margin=0.0, int reduction=1) -> Tensor",
    infer=lambda x, y, target, margin, reduction: reduced_info(x.with_sizes(target.sizes), reduction),
    reference=_cosine_numpy, expand=_cosine,
    samples=lambda: [
        sample(normal(4, 3), normal(4, 3, seed=1), np.array([1, -1, 1, -1]), 0.1, reduction) for reduction in (0, 1, 2)
    ],
    doc="1 - cosine where the target is 1, max(0, cosine - margin) where it is -1.",
)  # fmt: skip


# ------ the sum of a diagonal

declare(
    "aten::trace(Tensor self) -> Tensor",
    infer=lambda x: TensorInfo((), widened(x.dtype)),
    reference=lambda x: np.asarray(np.trace(x)).astype(np.int64 if x.dtype.kind in "iub" else x.dtype),
    expand=lambda b, x: b.sum(b.diagonal(x)), samples=lambda: [sample(normal(3, 4)), sample(integers(3, 3))],
    doc="The sum of the diagonal.",
)  # fmt: skip


# ------ windows

_OPTIONS = "*, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None"
_CONSTANTS: dict[str, tuple[float, ...]] = {
    "hann": (0.5, 0.5), "hamming": (0.54, 0.46), "blackman": (0.42, 0.5, 0.08), "bartlett": (),
}  # fmt: skip


def _window(kind: str, formals: str, parameters: int) -> None:
    """Declare one overload; `parameters` of its arguments stand for the first constants of the sum of cosines."""

    def constants(arguments: Sequence[Any]) -> tuple[float, ...]:
        given = [known(a, f"a {kind} window with a parameter") for a in arguments[2 : 2 + parameters]]
        return (*given, *_CONSTANTS[kind][len(given) :])

    def periodic(arguments: Sequence[Any]) -> bool:
        return bool(arguments[1]) if "periodic" in formals else True

    def dtype_of(arguments: Sequence[Any]) -> DType:
        return arguments[-4] or dtypes.float32

    def infer(*arguments: Any) -> TensorInfo:
        return TensorInfo((arguments[0],), dtype_of(arguments))

    def reference(*arguments: Any) -> Array:
        n = arguments[0]
        if n == 1:
            return as_dtype(np.ones(1), dtype_of(arguments))
        turn = np.arange(n) / (n if periodic(arguments) else n - 1)
        if kind == "bartlett":
            return as_dtype(1 - np.abs(2 * turn - 1), dtype_of(arguments))
        parts = [(-1) ** k * c * np.cos(2 * np.pi * k * turn) for k, c in enumerate(constants(arguments))]
        return as_dtype(np.asarray(sum(parts)), dtype_of(arguments))

    def expand(b: TorchBuilder, *arguments: Any) -> Value:
        n, dtype = arguments[0], dtype_of(arguments)
        if isinstance(n, int) and n <= 1:
            return b.ones([n], dtype=dtype)  # type: ignore[no-any-return]
        turn = b.div(b.to(b.arange(n), dtypes.float64), n if periodic(arguments) else n - 1)
        if kind == "bartlett":
            return b.to(b.rsub(b.abs(b.sub(b.mul(turn, 2.0), 1.0)), 1.0), dtype)  # type: ignore[no-any-return]
        total: Any = None
        for k, c in enumerate(constants(arguments)):
            part = b.mul(b.cos(b.mul(turn, 2 * math.pi * k)), (-1) ** k * c)
            total = part if total is None else b.add(total, part)
        return b.to(total, dtype)  # type: ignore[no-any-return]

    more = [[], [True], [False]] if "periodic" in formals else [[]]
    extra = list(_CONSTANTS[kind][:parameters])
    overload = {0: ".periodic" if "periodic" in formals else "", 1: ".periodic_alpha", 2: ".periodic_alpha_beta"}[parameters]
    declare(
        f"aten::{kind}_window{overload}({formals}, {_OPTIONS}) -> Tensor", infer=infer, reference=reference, expand=expand,
        samples=_window_samples([m for m in more if m or "periodic" not in formals], extra),
        doc=f"A {kind.capitalize()} window; periodic: that of one element more, without its last.",
        source=f"{__name__} ({kind})",
    )  # fmt: skip


def _window_samples(more: list[list[Any]], extra: list[float]) -> Callable[[], list[Sample]]:
    return lambda: [sample(n, *m, *extra) for n in (8, 1, 5) for m in more]


for _kind in _CONSTANTS:
    _window(_kind, "int window_length", 0)
    _window(_kind, "int window_length, bool periodic", 0)
_window("hamming", "int window_length, bool periodic, float alpha", 1)
_window("hamming", "int window_length, bool periodic, float alpha, float beta", 2)
