"""Attention, and the fused transformer ops that nn.Transformer's fast path calls."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.diagnostics import NeedsNumber, UnsupportedError
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, Sample, TensorInfo, op, sample


def _softmax(x: Array) -> Array:
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True), dtype=x.dtype)


@op(
    "aten::scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, "
    "float dropout_p=0.0, bool is_causal=False, *, float? scale=None, bool enable_gqa=False) -> Tensor"
)
class ScaledDotProductAttention:
    """softmax(q k^T * scale + mask) v over [..., L, E], [..., S, E], [..., S, Ev]; scale is 1/sqrt(E). Zeros where a mask
    leaves no key."""

    @staticmethod
    def samples() -> Iterable[Sample]:
        random = np.random.default_rng(0)
        q, k, v = (random.standard_normal(s).astype(np.float32) for s in ((2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 6)))
        yield sample(q, k, v)
        yield sample(q, q, q, None, 0.0, True)
        yield sample(q, k, v, random.standard_normal((3, 5)).astype(np.float32), scale=0.5)
        yield sample(q, k, v, np.arange(15).reshape(3, 5) % 4 < 3)
        yield sample(q, k, v, np.arange(15).reshape(3, 5) > 6)  # the first query may attend to nothing
        yield sample(q, k, v, np.where(np.arange(15).reshape(3, 5) > 6, 0, -np.inf).astype(np.float32))

    @staticmethod
    def infer(
        q: TensorInfo, k: TensorInfo, v: TensorInfo, mask: Any, dropout: float, causal: bool, scale: Any, gqa: bool
    ) -> TensorInfo:
        return q.with_sizes([*q.sizes[:-1], v.sizes[-1]])

    @staticmethod
    def reference(
        q: Array, k: Array, v: Array, mask: Any, dropout: float, causal: bool, scale: Any, gqa: bool
    ) -> Array:
        if gqa:
            k, v = (np.repeat(t, q.shape[-3] // t.shape[-3], axis=-3) for t in (k, v))
        factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
        scores = (q @ k.swapaxes(-1, -2)) * q.dtype.type(factor)
        if causal:
            scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf).astype(q.dtype)
        if mask is not None:
            scores = np.where(mask, scores, -np.inf) if mask.dtype == np.bool_ else scores + mask
        scores = scores.astype(q.dtype)
        hidden = (scores == -np.inf).all(-1, keepdims=True)
        return np.asarray(np.where(hidden, q.dtype.type(0), _softmax(scores)) @ v)

    @staticmethod
    def expand(
        b: TorchBuilder, q: Value, k: Value, v: Value, mask: Any, dropout: float, causal: bool, scale: Any, gqa: bool
    ) -> Value:
        if dropout:
            raise UnsupportedError("aten::scaled_dot_product_attention with dropout needs random numbers")
        if gqa:
            groups = q.sizes[-3] // k.sizes[-3]
            k, v = (b.repeat_interleave(t, groups, t.rank - 3) for t in (k, v))
        factor = scale if scale is not None else _inverse_root(b, q)
        scores = b.matmul(b.mul(q, factor), b.transpose(k, k.rank - 2, k.rank - 1))
        if causal:
            keep = b.tril(b.ones([q.sizes[-2], k.sizes[-2]], dtype=dtypes.bool_))
            scores = b.where(keep, scores, -math.inf)
        if mask is not None:
            scores = b.where(mask, scores, -math.inf) if mask.dtype == dtypes.bool_ else b.add(scores, mask)
        softmax = "aten::softmax" if mask is None else "aten::_safe_softmax"
        result: Value = b.matmul(b.call(softmax, scores, scores.rank - 1, None), v)
        return result


def _inverse_root(b: TorchBuilder, q: Value) -> Any:
    size = q.sizes[-1]
    if not isinstance(size, int):
        raise NeedsNumber("aten::scaled_dot_product_attention with an embedding size known at run time only")
    return 1 / math.sqrt(size)


def _heads(b: TorchBuilder, x: Value, heads: int) -> Value:
    """[N, L, E] -> [N, heads, L, E / heads]"""
    n, length, width = x.sizes
    result: Value = b.transpose(b.view(x, [n, length, heads, width // heads]), 1, 2)
    return result


def _attend(
    b: TorchBuilder, qkv: list[Value], heads: int, mask: Any, mask_type: Any, weights: bool, average: bool
) -> tuple[Value, Value | None]:
    """Attention over heads; `mask` is True where attention is forbidden (1: key padding, 0: attention mask)."""
    q, k, v = (_heads(b, t, heads) for t in qkv)
    scores = b.matmul(b.mul(q, 1 / math.sqrt(_known(q.sizes[-1]))), b.transpose(k, 2, 3))
    if mask is not None:
        forbidden = mask
        if mask_type == 1:
            forbidden = b.unsqueeze(b.unsqueeze(mask, 1), 1)
        if forbidden.dtype == dtypes.bool_:
            scores = b.masked_fill(scores, forbidden, -math.inf)
        else:
            scores = b.add(scores, forbidden)
    attention = b.softmax(scores, 3, None)
    context = b.transpose(b.matmul(attention, v), 1, 2)
    n, length, count, size = context.sizes
    merged = b.reshape(context, [n, length, count * size])
    shown = (b.mean(attention, [1]) if average else attention) if weights else None
    return merged, shown


def _known(size: Any) -> int:
    if not isinstance(size, int):
        raise NeedsNumber("attention with a head size known at run time only")
    return size


def _attend_reference(qkv: list[Array], heads: int, mask: Any, mask_type: Any, average: bool) -> tuple[Array, Array]:
    def split(x: Array) -> Array:
        return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)

    q, k, v = map(split, qkv)
    scores = (q / math.sqrt(q.shape[-1])) @ k.swapaxes(-1, -2)
    if mask is not None:
        forbidden = mask[:, None, None, :] if mask_type == 1 else mask
        scores = np.where(forbidden, -np.inf, scores) if mask.dtype == np.bool_ else scores + forbidden
    attention = _softmax(scores.astype(qkv[0].dtype))
    merged = (attention @ v).swapaxes(1, 2)
    return merged.reshape(*merged.shape[:2], -1), attention.mean(1) if average else attention


@op(
    "aten::_native_multi_head_attention(Tensor query, Tensor key, Tensor value, int embed_dim, int num_head, "
    "Tensor qkv_weight, Tensor qkv_bias, Tensor proj_weight, Tensor proj_bias, Tensor? mask=None, "
    "bool need_weights=True, bool average_attn_weights=True, int? mask_type=None) -> (Tensor, Tensor)",
    torch_mlir=False,
)
class NativeMultiHeadAttention:
    """Multi-head attention on batch-first input, projections included; the weights are empty if not needed."""

    @staticmethod
    def samples() -> Iterable[Sample]:
        random = np.random.default_rng(0)
        x, w, bias, p, pb = (
            random.standard_normal(s).astype(np.float32) for s in ((2, 3, 4), (12, 4), (12,), (4, 4), (4,))
        )
        yield sample(x, x, x, 4, 2, w, bias, p, pb)

    @staticmethod
    def infer(q: TensorInfo, k: TensorInfo, v: TensorInfo, e: int, heads: int, *rest: Any) -> Any:
        weights, average = rest[5], rest[6]
        if not weights:
            return q, q.with_sizes([0])
        n, length, _ = q.sizes
        sizes = [n, length, k.sizes[1]] if average else [n, heads, length, k.sizes[1]]
        return q, q.with_sizes(sizes)

    @staticmethod
    def reference(q: Array, k: Array, v: Array, e: int, heads: int, *rest: Any) -> Any:
        w, bias, p, pb, mask, need, average, mask_type = rest
        parts = [x @ w_.T + b_ for x, w_, b_ in zip((q, k, v), np.split(w, 3), np.split(bias, 3), strict=True)]
        context, weights = _attend_reference(parts, heads, mask, mask_type, average)
        return np.asarray(context @ p.T + pb), weights if need else np.zeros((0,), q.dtype)

    @staticmethod
    def expand(b: TorchBuilder, q: Value, k: Value, v: Value, e: int, heads: int, *rest: Any) -> Any:
        w, bias, p, pb, mask, need, average, mask_type = rest
        parts = [
            b.linear(x, w_, b_) for x, w_, b_ in zip((q, k, v), b.chunk(w, 3, 0), b.chunk(bias, 3, 0), strict=True)
        ]
        context, weights = _attend(b, parts, heads, mask, mask_type, need, average)
        return b.linear(context, p, pb), weights if weights is not None else b.empty([0], dtype=q.dtype)


@op(
    "aten::_transformer_encoder_layer_fwd(Tensor src, int embed_dim, int num_heads, Tensor qkv_weight, "
    "Tensor qkv_bias, Tensor proj_weight, Tensor proj_bias, bool use_gelu, bool norm_first, float eps, "
    "Tensor norm_weight_1, Tensor norm_bias_1, Tensor norm_weight_2, Tensor norm_bias_2, Tensor ffn_weight_1, "
    "Tensor ffn_bias_1, Tensor ffn_weight_2, Tensor ffn_bias_2, Tensor? mask=None, int? mask_type=None) -> Tensor",
    torch_mlir=False,
)
class TransformerEncoderLayer:
    """A whole encoder layer: self-attention and feed-forward, each with residual and layer norm."""

    @staticmethod
    def samples() -> Iterable[Sample]:
        random = np.random.default_rng(0)

        def normal(*sizes: int) -> Array:
            return (random.standard_normal(sizes) / 2).astype(np.float32)

        for gelu, first in ((False, False), (True, True)):
            yield sample(
                normal(2, 3, 4), 4, 2, normal(12, 4), normal(12), normal(4, 4), normal(4), gelu, first, 1e-5,
                normal(4), normal(4), normal(4), normal(4), normal(8, 4), normal(8), normal(4, 8), normal(4),
            )  # fmt: skip

    @staticmethod
    def infer(src: TensorInfo, *rest: Any) -> TensorInfo:
        return src

    @staticmethod
    def reference(src: Array, e: int, heads: int, w: Array, bias: Array, p: Array, pb: Array, *rest: Any) -> Array:
        gelu, first, eps, nw1, nb1, nw2, nb2, fw1, fb1, fw2, fb2, mask, mask_type = rest

        def norm(x: Array, weight: Array, shift: Array) -> Array:
            centred = x - x.mean(-1, keepdims=True)
            return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + shift)

        def attention(x: Array) -> Array:
            parts = np.split(x @ w.T + bias, 3, axis=-1)
            return np.asarray(_attend_reference(parts, heads, mask, mask_type, True)[0] @ p.T + pb)

        def feed(x: Array) -> Array:
            y = x @ fw1.T + fb1
            erf = np.vectorize(math.erf)
            y = y * 0.5 * (1 + erf(y / math.sqrt(2))) if gelu else np.maximum(y, 0)
            return np.asarray(y @ fw2.T + fb2)

        if first:
            src = src + attention(norm(src, nw1, nb1))
            src = src + feed(norm(src, nw2, nb2))
        else:
            src = norm(src + attention(src), nw1, nb1)
            src = norm(src + feed(src), nw2, nb2)
        return src.astype(np.float32)

    @staticmethod
    def expand(
        b: TorchBuilder, src: Value, e: int, heads: int, w: Value, bias: Value, p: Value, pb: Value, *rest: Any
    ) -> Value:
        gelu, first, eps, nw1, nb1, nw2, nb2, fw1, fb1, fw2, fb2, mask, mask_type = rest

        def norm(x: Value, weight: Value, shift: Value) -> Any:
            return b.layer_norm(x, [e], weight, shift, eps)

        def attention(x: Value) -> Any:
            parts = b.chunk(b.linear(x, w, bias), 3, 2)
            return b.linear(_attend(b, parts, heads, mask, mask_type, False, True)[0], p, pb)

        def feed(x: Value) -> Any:
            y = b.linear(x, fw1, fb1)
            return b.linear(b.gelu(y) if gelu else b.relu(y), fw2, fb2)

        if first:
            src = b.add(src, attention(norm(src, nw1, nb1)))
            src = b.add(src, feed(norm(src, nw2, nb2)))
            return src
        src = norm(b.add(src, attention(src)), nw1, nb1)
        src = norm(b.add(src, feed(src)), nw2, nb2)
        return src


def _nested(*_: Any) -> Any:
    raise UnsupportedError("nested tensors are not supported", help="pass a padded batch and a mask instead")


for _schema in (
    "aten::_nested_tensor_from_mask_left_aligned(Tensor t, Tensor mask) -> bool",
    "aten::_nested_tensor_from_mask(Tensor t, Tensor mask, bool mask_check=True) -> Tensor",
    "aten::to_padded_tensor(Tensor self, float padding, SymInt[]? output_size=None) -> Tensor",
):
    # Scripted transformers mention these on a path that ordinary tensors never take.
    op(_schema, torch_mlir=False, evaluate_only=True)(
        type("Nested", (), {"__doc__": "Nested tensors: refused.", "infer": staticmethod(_nested), "reference": staticmethod(_nested)})
    )
