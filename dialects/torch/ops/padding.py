"""Padding: with a constant, or with the tensor's own elements (reflected, replicated, wrapped round)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, RuntimeFault, Sample, TensorInfo, declare, op, sample
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops.dimensions import along, require, static
from stepwell.dialects.torch.ops.elementwise import as_dtype
from stepwell.dialects.torch.ops.promotion import facts
from stepwell.dialects.torch.ops.samples import integers, normal
from stepwell.dialects.torch.scalar import Scalar
from stepwell.dialects.torch.sizes import Size, maximum, minimum

Pads = list[tuple[Size, Size]]


def per_dimension(rank: int, pad: Sequence[Size]) -> Pads:
    """torch's flat list, last dimension first, as (before, after) of every dimension in order."""
    require(len(pad) % 2 == 0, "Length of pad must be even but instead it equals " + str(len(pad)))
    require(len(pad) // 2 <= rank, f"Length of pad should be no more than twice the number of dimensions of the input. Pad length is {len(pad)} while the input has {rank} dimensions.")  # noqa: E501  # fmt: skip
    pairs = [(pad[n], pad[n + 1]) for n in range(0, len(pad), 2)]
    return [(0, 0)] * (rank - len(pairs)) + pairs[::-1]


@op("aten::constant_pad_nd(Tensor self, SymInt[] pad, Scalar value=0) -> Tensor")
class ConstantPadNd:
    """A value around the tensor; negative pads crop."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(normal(2, 3), [1, 2])
        yield sample(normal(2, 3), [1, 0, 0, 2], 1.5)
        yield sample(normal(2, 5), [-1, 2, 1, -1], -1)
        yield sample(integers(3), [1, 1], 2)
        yield sample(normal(0, 2), [0, 0, 1, 1])

    @staticmethod
    def infer(x: TensorInfo, pad: Sequence[Size], value: Any) -> TensorInfo:
        sizes = [s + before + after for s, (before, after) in zip(x.sizes, per_dimension(x.rank, pad), strict=True)]
        for size, (before, after) in zip(sizes, per_dimension(x.rank, pad), strict=True):
            require(not isinstance(size, int) or size >= 0, f"The input size, plus negative padding {before} and {after}, resulted in a negative output size, which is invalid.")  # noqa: E501  # fmt: skip
        return x.with_sizes(sizes)

    @staticmethod
    def reference(x: Array, pad: Sequence[int], value: Any) -> Array:
        pads = [static(p) for p in per_dimension(x.ndim, pad)]
        for d, (before, after) in enumerate(pads):
            keep = slice(max(-before, 0), x.shape[d] - max(-after, 0))
            x = x[along(d, keep)]
        widths = [(max(p, 0), max(q, 0)) for p, q in pads]
        fill = as_dtype(np.asarray(value), facts(x).dtype)
        return np.pad(x, widths, constant_values=fill) if x.ndim else x.copy()

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, pad: Sequence[Size], value: Any) -> Tensor:
        pads = per_dimension(x.rank, pad)
        starts = [maximum(-p, 0) for p, _ in pads]
        sizes = [s + minimum(p, 0) + minimum(q, 0) for s, (p, q) in zip(x.sizes, pads, strict=True)]
        if tuple(sizes) != x.sizes:
            x = b.slice(x, starts, sizes, [1] * x.rank)
        widths = [(maximum(p, 0), maximum(q, 0)) for p, q in pads]
        if all(w == (0, 0) for w in widths):
            return x
        number = value if isinstance(value, (int, float)) else b.scalar(value, out.dtype)
        return b.refine(b.pad(x, [p for p, _ in widths], [q for _, q in widths], number), out.sizes)


# ------ the tensor's own elements

_SOURCES: dict[str, Callable[[Scalar, Scalar], Scalar]] = {
    # position relative to the tensor's start, its size -> the position to read
    "reflect": lambda i, n: (n - 1) - ((n - 1) - i.absolute()).absolute(),
    "replicate": lambda i, n: i.maximum(0).minimum(n - 1),
    "circular": lambda i, n: i.remainder(n),
}
_NUMPY_MODE = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _own_info(x: TensorInfo, pad: Sequence[Size], mode: str) -> TensorInfo:
    pads = per_dimension(x.rank, pad)
    sizes: list[Size] = []
    for d, (size, (before, after)) in enumerate(zip(x.sizes, pads, strict=True)):
        for width in (before, after):
            if isinstance(size, int) and isinstance(width, int):
                require(
                    mode != "reflect" or width < max(size, 1),
                    f"Argument #4: Padding size should be less than the corresponding input dimension, but got: padding ({before}, {after}) at dimension {d} of input {list(x.sizes)}",  # noqa: E501
                )
                require(mode != "circular" or width <= size, "Padding value causes wrapping around more than once.")
        sizes.append(size + before + after)
    return x.with_sizes(sizes)


def _own_reference(x: Array, pad: Sequence[int], mode: str) -> Array:
    _own_info(facts(x), pad, mode)
    pads = [static(p) for p in per_dimension(x.ndim, pad)]
    widths = [(max(p, 0), max(q, 0)) for p, q in pads]
    padded = np.pad(x, widths, mode=_NUMPY_MODE[mode])  # type: ignore[call-overload]
    crop = tuple(slice(max(-p, 0), n - max(-q, 0)) for n, (p, q) in zip(padded.shape, pads, strict=True))
    return np.asarray(padded[crop]).copy()


def _own_lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, pad: Sequence[Size], mode: str) -> Tensor:
    pads = per_dimension(x.rank, pad)
    moving = {
        d: (b.scalar(pads[d][0], dtypes.int64), b.scalar(x.sizes[d], dtypes.int64))
        for d in range(x.rank)
        if pads[d] != (0, 0)
    }

    def body(at: Any, _: list[Scalar]) -> Scalar:
        places = []
        for d in range(x.rank):
            place = at.position(d)
            if d in moving:
                before, size = (Scalar(v.value, dtypes.int64, at) for v in moving[d])
                place = _SOURCES[mode](place - before, size)
            places.append(place)
        return at.gather(x, places)  # type: ignore[no-any-return]

    return b.pointwise(body, [], out.sizes, out.dtype) if moving else x


for _mode, _prefix in (("reflect", "reflection"), ("replicate", "replication")):
    for _rank in (1, 2, 3):
        declare(
            f"aten::{_prefix}_pad{_rank}d(Tensor self, SymInt[{2 * _rank}] padding) -> Tensor",
            infer=lambda x, pad, mode=_mode: _own_info(x, pad, mode),
            reference=lambda x, pad, mode=_mode: _own_reference(x, pad, mode),
            lower=lambda b, out, x, pad, mode=_mode: _own_lower(b, out, x, pad, mode),
            samples=lambda rank=_rank: [
                sample(normal(2, *(4, 5, 6)[:rank]), list((1, 2, 0, 3, 2, 1)[: 2 * rank])),
                sample(normal(1, 2, *(4, 5, 6)[:rank]), list((2, 1, 1, 0, 0, 0)[: 2 * rank])),
            ],
            doc=f"The tensor's own elements around it, {_prefix}.", source=f"{__name__} (aten::{_prefix}_pad{_rank}d)",
        )  # fmt: skip


@op("aten::_pad_circular(Tensor self, SymInt[] pad) -> Tensor")
class PadCircular:
    """The tensor's own elements around it, wrapped round."""

    samples = staticmethod(lambda: [sample(normal(1, 2, 4), [1, 2]), sample(normal(1, 1, 3, 4), [1, 1, 2, 0])])
    infer = staticmethod(lambda x, pad: _own_info(x, pad, "circular"))
    reference = staticmethod(lambda x, pad: _own_reference(x, pad, "circular"))
    lower = staticmethod(lambda b, out, x, pad: _own_lower(b, out, x, pad, "circular"))


@op('aten::pad(Tensor self, SymInt[] pad, str mode="constant", float? value=None) -> Tensor')
class Pad:
    """Padding by mode: constant, reflect, replicate or circular."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(normal(2, 3), [1, 2])
        yield sample(normal(2, 3), [1, 2], "constant", 1.5)
        for mode in ("reflect", "replicate", "circular"):
            yield sample(normal(1, 2, 4), [1, 2], mode)
            yield sample(normal(1, 2, 4, 5), [1, 2, 0, 3], mode)

    @staticmethod
    def infer(x: TensorInfo, pad: Sequence[Size], mode: str, value: Any) -> TensorInfo:
        if mode == "constant":
            return ConstantPadNd.infer(x, pad, value)
        if mode not in _SOURCES:
            raise RuntimeFault(f"Unrecognised padding mode {mode}", "NotImplementedError")
        require(value in (None, 0), f'Padding mode "{mode}" doesn\'t take in value argument')
        fits = len(pad) // 2 in (x.rank - 1, x.rank - 2) and 2 <= len(pad) <= 6
        if not fits:
            raise RuntimeFault("Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now", "NotImplementedError")
        return _own_info(x, pad, mode)

    @staticmethod
    def reference(x: Array, pad: Sequence[int], mode: str, value: Any) -> Array:
        if mode == "constant":
            return ConstantPadNd.reference(x, pad, 0 if value is None else value)
        return _own_reference(x, pad, mode)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, pad: Sequence[Size], mode: str, value: Any) -> Value:
        if mode == "constant":
            result: Value = b.constant_pad_nd(x, list(pad), 0 if value is None else value)
        elif mode == "circular":
            result = b._pad_circular(x, list(pad))
        else:
            word = "reflection" if mode == "reflect" else "replication"
            result = b.call(f"aten::{word}_pad{len(pad) // 2}d", x, list(pad))
        return result
