"""Convolutions of 1 to 3 dimensions. One core op, aten::convolution; all others are that one with other arguments.

What they become is in convolution_linalg.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, RuntimeFault, Sample, TensorInfo, declare, op, sample, shape_text
from stepwell.dialects.torch.ops.convolution_linalg import Ints, each, lower_convolution
from stepwell.dialects.torch.ops.dimensions import differ, require
from stepwell.dialects.torch.ops.elementwise import as_dtype
from stepwell.dialects.torch.ops.promotion import facts
from stepwell.dialects.torch.ops.samples import normal
from stepwell.dialects.torch.sizes import Size


def output_sizes(
    x: TensorInfo, weight: TensorInfo, stride: Ints, padding: Sequence[Size], dilation: Ints, transposed: bool,
    output_padding: Ints,
) -> list[Size]:  # fmt: skip
    """The sizes of the image of the result."""
    result: list[Size] = []
    for d in range(weight.rank - 2):
        size, window = x.sizes[d + 2], weight.sizes[d + 2]
        reach = dilation[d] * (window - 1)
        if transposed:
            result.append((size - 1) * stride[d] - 2 * padding[d] + reach + output_padding[d] + 1)
            continue
        padded = size + 2 * padding[d]
        if isinstance(padded, int) and isinstance(reach, int) and padded < reach + 1:
            sizes = " x ".join(str(s + 2 * p) for s, p in zip(x.sizes[2:], padding, strict=True))
            windows = " x ".join(str(w) for w in weight.sizes[2:])
            raise RuntimeFault(
                f"Calculated padded input size per channel: ({sizes}). Kernel size: ({windows}). Kernel size can't be "
                "greater than actual input size"
            )
        result.append((padded - reach - 1) // stride[d] + 1)
    return result


def _check(x: TensorInfo, weight: TensorInfo, bias: TensorInfo | None, transposed: bool, groups: int) -> None:
    rank = weight.rank - 2
    require(
        x.rank == weight.rank,
        f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to conv{rank}d, but got input of size: "
        f"{shape_text(x.sizes)}",
    )
    require(groups > 0, "non-positive groups is not supported")
    channels = weight.sizes[0] if transposed else weight.sizes[1] * groups
    if differ(x.sizes[1], channels):
        raise RuntimeFault(
            f"Given {'transposed=1' if transposed else f'groups={groups}'}, weight of size {shape_text(weight.sizes)}, "
            f"expected input{shape_text(x.sizes)} to have {channels} channels, but got {x.sizes[1]} channels instead"
        )
    first = weight.sizes[0]
    require(not isinstance(first, int) or first % groups == 0, f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but got weight of size {shape_text(weight.sizes)} instead")  # noqa: E501  # fmt: skip
    if bias is not None:
        out = weight.sizes[1] * groups if transposed else first
        require(not differ(bias.sizes[0], out), f"Given weight of size {shape_text(weight.sizes)}, expected bias to be 1-dimensional with {out} elements, but got bias of size {shape_text(bias.sizes)} instead")  # noqa: E501  # fmt: skip
    require(x.dtype == weight.dtype, f"Input type ({x.dtype.name}) and weight type ({weight.dtype.name}) should be the same")


# ------ numpy


def numpy_convolution(
    x: Array, weight: Array, bias: Array | None, stride: Ints, padding: Ints, dilation: Ints, transposed: bool,
    output_padding: Ints, groups: int,
) -> Array:  # fmt: skip
    """Windows as rows of a matrix, in float64."""
    rank = weight.ndim - 2
    stride, padding, dilation, extra = (each(v, rank) for v in (stride, padding, dilation, output_padding or [0]))
    _check(facts(x), facts(weight), None if bias is None else facts(bias), transposed, groups)
    sizes = output_sizes(facts(x), facts(weight), stride, padding, dilation, transposed, extra)
    y, w = x.astype(np.float64), weight.astype(np.float64)
    if transposed:
        spread = np.zeros((*y.shape[:2], *(max((n - 1) * s + 1, 0) for n, s in zip(y.shape[2:], stride, strict=True))))
        every: Any = (..., *(slice(None, None, s) for s in stride))
        spread[every] = y
        w = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2).reshape(-1, w.shape[0] // groups, *w.shape[2:])
        w = np.flip(w, tuple(range(2, w.ndim)))
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        y = _numpy_pad(spread, [r - p for r, p in zip(reach, padding, strict=True)], [r - p + e for r, p, e in zip(reach, padding, extra, strict=True)])  # noqa: E501  # fmt: skip
        stride = [1] * rank
    else:
        y = _numpy_pad(y, padding, padding)
    result = _correlate(y, w, stride, dilation, groups)
    assert list(result.shape[2:]) == sizes
    if bias is not None:
        result = result + bias.reshape(-1, *[1] * rank)
    return as_dtype(result, facts(x).dtype)


def _numpy_pad(x: Array, before: Ints, after: Ints) -> Array:
    widths = [(0, 0), (0, 0), *((max(p, 0), max(q, 0)) for p, q in zip(before, after, strict=True))]
    x = np.pad(x, widths)
    crop: Any = (..., *(slice(max(-p, 0), n - max(-q, 0)) for p, q, n in zip(before, after, x.shape[2:], strict=True)))
    cropped: Array = x[crop]
    return cropped


def _correlate(x: Array, w: Array, stride: Ints, dilation: Ints, groups: int) -> Array:
    rank = w.ndim - 2
    extents = tuple(d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True))
    windows = sliding_window_view(x, extents, axis=tuple(range(2, x.ndim)))
    windows = windows[(slice(None), slice(None), *(slice(None, None, s) for s in stride), *(slice(None, None, d) for d in dilation))]
    n, c = x.shape[:2]
    image = windows.shape[2 : 2 + rank]
    columns = windows.reshape(n, groups, c // groups, *image, *w.shape[2:])
    order = [0, 1, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank)]
    depth = (c // groups) * int(np.prod(w.shape[2:]))
    rows = columns.transpose(order).reshape(n, groups, int(np.prod(image)), depth)
    filters = w.reshape(groups, w.shape[0] // groups, depth)
    result = rows @ filters.swapaxes(1, 2)
    return np.asarray(result.swapaxes(2, 3).reshape(n, w.shape[0], *image))


# ------ declarations


def _general_samples() -> Iterator[Sample]:
    yield sample(normal(2, 3, 7), normal(4, 3, 3), normal(4), [2], [1], [1], False, [0], 1)
    yield sample(normal(1, 4, 6, 5), normal(6, 2, 3, 2), None, [1, 2], [1, 0], [2, 1], False, [0, 0], 2)
    yield sample(normal(2, 3, 6, 6), normal(3, 1, 3, 3), normal(3), [1], [1], [1], False, [0, 0], 3)
    yield sample(normal(2, 3, 5), normal(6, 1, 2), None, [1], [0], [1], False, [0], 3)
    yield sample(normal(1, 32, 5, 4), normal(32, 4, 3, 3), normal(32), [1], [1], [1], False, [0], 8)
    yield sample(normal(2, 64, 9), normal(32, 32, 3), normal(32), [2], [1], [1], False, [0], 2)
    yield sample(normal(1, 2, 4, 4, 3), normal(3, 2, 2, 2, 2), normal(3), [1], [0], [1], False, [0], 1)
    yield sample(normal(2, 3, 4), normal(3, 2, 3), normal(2), [2], [1], [1], True, [1], 1)
    yield sample(normal(1, 4, 3, 4), normal(4, 3, 2, 3), None, [2, 3], [0, 1], [1, 2], True, [1, 0], 2)
    yield sample(normal(1, 8, 4, 3), normal(8, 8, 2, 2), normal(8), [2], [0], [1], True, [0], 1)
    yield sample(normal(2, 6, 3, 4), normal(6, 2, 4, 3), normal(4), [2, 1], [1, 0], [1], True, [1, 0], 2)
    yield sample(normal(1, 3, 4), normal(3, 2, 2), None, [3], [0], [1], True, [2], 1)
    yield sample(normal(1, 2, 2, 3, 2), normal(2, 3, 3, 2, 3), normal(3), [2], [1, 0, 1], [1], True, [0], 1)
    yield sample(normal(0, 3, 7), normal(4, 3, 3), normal(4), [1], [0], [1], False, [0], 1)
    yield sample(normal(2, 3, 4, dtype=np.float16), normal(4, 3, 1, dtype=np.float16), None, [1], [0], [1], False, [0], 1)


@op(
    "aten::convolution(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, SymInt[] padding, SymInt[] dilation, bool transposed, SymInt[] output_padding, SymInt groups) -> Tensor",  # noqa: E501
    tolerance=2e-5,
)
class Convolution:
    """Sliding products of an image and a window, in groups; transposed: its gradient with respect to the image."""

    samples = staticmethod(_general_samples)
    reference = staticmethod(numpy_convolution)
    lower = staticmethod(lower_convolution)

    @staticmethod
    def infer(
        x: TensorInfo, weight: TensorInfo, bias: TensorInfo | None, stride: Ints, padding: Sequence[Size], dilation: Ints,
        transposed: bool, output_padding: Ints, groups: int,
    ) -> TensorInfo:  # fmt: skip
        _check(x, weight, bias, transposed, groups)
        rank = weight.rank - 2
        stride, padding, dilation, extra = (each(v, rank) for v in (stride, padding, dilation, output_padding or [0]))
        channels = weight.sizes[1] * groups if transposed else weight.sizes[0]
        sizes = output_sizes(x, weight, stride, padding, dilation, transposed, extra)
        return x.with_sizes([x.sizes[0], channels, *sizes])


def _as_convolution(schema: str, rank: int | None, order: Callable[..., tuple[Any, ...]], samples: Callable[[], Any]) -> None:
    """Declare an op that is aten::convolution with the arguments order(...) after the bias.

    With a rank, an input without its batch dimension is taken too.
    """

    def unbatched(x: Any) -> bool:
        return rank is not None and (x.ndim if isinstance(x, np.ndarray) else x.rank) == rank + 1

    def infer(x: TensorInfo, weight: TensorInfo, bias: TensorInfo | None, *rest: Any) -> TensorInfo:
        if unbatched(x):
            result = Convolution.infer(x.with_sizes([1, *x.sizes]), weight, bias, *order(*rest))
            return result.with_sizes(result.sizes[1:])
        return Convolution.infer(x, weight, bias, *order(*rest))

    def reference(x: Array, weight: Array, bias: Array | None, *rest: Any) -> Array:
        result = numpy_convolution(x[None] if unbatched(x) else x, weight, bias, *order(*rest))
        return result[0] if unbatched(x) else result

    def expand(b: TorchBuilder, x: Value, weight: Value, bias: Value | None, *rest: Any) -> Value:
        result: Value = b.convolution(b.unsqueeze(x, 0) if unbatched(x) else x, weight, bias, *order(*rest))
        return b.squeeze(result, 0) if unbatched(x) else result

    declare(
        schema, infer=infer, reference=reference, expand=expand, samples=samples, tolerance=2e-5,
        doc="aten::convolution with fewer arguments.", source=f"{__name__} ({schema.partition('(')[0]})",
    )  # fmt: skip


_GENERAL = "(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, SymInt[] padding, SymInt[] dilation, bool transposed, "
_FLAGS = "SymInt groups, bool benchmark, bool deterministic, bool cudnn_enabled"


def _traced_samples(flags: int) -> Callable[[], list[Sample]]:
    values = [True] * flags
    return lambda: [
        sample(normal(2, 3, 7), normal(4, 3, 3), normal(4), [2], [1], [1], False, [0], 1, *values),
        sample(normal(1, 3, 4, 4), normal(3, 2, 2, 2), None, [2, 2], [0, 0], [1, 1], True, [0, 0], 1, *values),
    ]


_as_convolution(f"aten::_convolution{_GENERAL}SymInt[] output_padding, {_FLAGS}, bool allow_tf32) -> Tensor", None, lambda *a: a[:6], _traced_samples(4))  # noqa: E501  # fmt: skip
_as_convolution(f"aten::_convolution.deprecated{_GENERAL}int[] output_padding, {_FLAGS}) -> Tensor", None, lambda *a: a[:6], _traced_samples(3))  # noqa: E501  # fmt: skip
_ONES = {1: "[1]", 2: "[1, 1]", 3: "[1, 1, 1]"}
_ZEROS = {1: "[0]", 2: "[0, 0]", 3: "[0, 0, 0]"}
_IMAGE = {1: (7,), 2: (6, 5), 3: (4, 3, 5)}


def _samples_of(rank: int, transposed: bool) -> Callable[[], list[Sample]]:
    def make() -> list[Sample]:
        image = _IMAGE[rank]
        window = (3, 2, 2)[:rank]
        weight = normal(4, 3, *window) if transposed else normal(3, 4, *window)
        return [
            sample(normal(2, 4, *image), weight, normal(3)),
            sample(normal(4, *image), weight, None, [2] * rank, [1] * rank),
        ]

    return make


for _rank in (1, 2, 3):
    _n, _one, _zero = f"[{_rank}]", _ONES[_rank], _ZEROS[_rank]
    _as_convolution(
        f"aten::conv{_rank}d(Tensor input, Tensor weight, Tensor? bias=None, SymInt{_n} stride={_one}, SymInt{_n} padding={_zero}, SymInt{_n} dilation={_one}, SymInt groups=1) -> Tensor",  # noqa: E501
        _rank, lambda stride, padding, dilation, groups: (stride, padding, dilation, False, [0], groups),
        _samples_of(_rank, False),
    )  # fmt: skip
    _as_convolution(
        f"aten::conv_transpose{_rank}d{'.input' if _rank > 1 else ''}(Tensor input, Tensor weight, Tensor? bias=None, SymInt{_n} stride={_one}, SymInt{_n} padding={_zero}, SymInt{_n} output_padding={_zero}, SymInt groups=1, SymInt{_n} dilation={_one}) -> Tensor",  # noqa: E501
        _rank, lambda stride, padding, extra, groups, dilation: (stride, padding, dilation, True, extra, groups),
        _samples_of(_rank, True),
    )  # fmt: skip


# ------ padding by name


def _named_pads(weight: Any, stride: Ints, padding: str, dilation: Ints) -> list[tuple[int, int]]:
    """(before, after) of every dimension; an odd total has its larger part after."""
    sizes = (weight.shape if isinstance(weight, np.ndarray) else weight.sizes)[2:]
    if padding == "valid":
        return [(0, 0)] * len(sizes)
    require(padding == "same", "Invalid padding string: " + repr(padding))
    require(all(s == 1 for s in stride), "padding='same' is not supported for strided convolutions")
    totals = [d * (k - 1) for d, k in zip(each(dilation, len(sizes)), sizes, strict=True)]
    return [(t // 2, t - t // 2) for t in totals]


def _flat(pads: list[tuple[int, int]]) -> list[int]:
    return [w for pair in reversed(pads) for w in pair]


def _widened(x: TensorInfo, pads: list[tuple[int, int]]) -> TensorInfo:
    lead = x.rank - len(pads)
    return x.with_sizes([*x.sizes[:lead], *(s + p + q for s, (p, q) in zip(x.sizes[lead:], pads, strict=True))])


def _named_infer(
    x: TensorInfo, weight: TensorInfo, bias: Any, stride: Ints, padding: str, dilation: Ints, groups: int
) -> TensorInfo:
    pads = _named_pads(weight, stride, padding, dilation)
    wide, rest = _widened(x, pads), _unpadded(len(pads), stride, dilation, groups)
    if x.rank == len(pads) + 1:
        result = Convolution.infer(wide.with_sizes([1, *wide.sizes]), weight, bias, *rest)
        return result.with_sizes(result.sizes[1:])
    return Convolution.infer(wide, weight, bias, *rest)


def _unpadded(rank: int, stride: Ints, dilation: Ints, groups: int) -> tuple[Any, ...]:
    """The arguments of aten::convolution after its bias."""
    return (each(stride, rank), [0] * rank, each(dilation, rank), False, [0] * rank, groups)


def _named_reference(
    x: Array, weight: Array, bias: Any, stride: Ints, padding: str, dilation: Ints, groups: int
) -> Array:
    pads = _named_pads(weight, stride, padding, dilation)
    wide, rest = np.pad(x, [(0, 0)] * (x.ndim - len(pads)) + pads), _unpadded(len(pads), stride, dilation, groups)
    if x.ndim == len(pads) + 1:
        return np.asarray(numpy_convolution(wide[None], weight, bias, *rest)[0])
    return numpy_convolution(wide, weight, bias, *rest)


def _named_expand(
    b: TorchBuilder, x: Value, weight: Value, bias: Any, stride: Ints, padding: str, dilation: Ints, groups: int
) -> Value:
    pads = _named_pads(weight, stride, padding, dilation)
    name, before = f"aten::conv{len(pads)}d", [p for p, _ in pads]
    if any(p != q for p, q in pads):
        x, before = b.constant_pad_nd(x, _flat(pads)), [0] * len(pads)
    result: Value = b.call(name, x, weight, bias, stride, before, dilation, groups)
    return result


def _named(schema: str, rank: int, *lead: int) -> None:
    """Declare a convolution whose padding is a name; `lead` is the batch size where torch demands one."""
    weight = (3, 4, *(3, 2, 2)[:rank])
    declare(
        f"aten::{schema}) -> Tensor", infer=_named_infer, reference=_named_reference, expand=_named_expand,
        doc="Padded so that the sizes stay (same), or not at all (valid).", tolerance=2e-5,
        source=f"{__name__} (aten::{schema.partition('(')[0]})",
        samples=lambda: [
            sample(normal(2, 4, *_IMAGE[rank]), normal(*weight), normal(3), [1] * rank, "same", [1] * rank, 1),
            sample(normal(*lead, 4, *_IMAGE[rank]), normal(*weight), None, [2] * rank, "valid", [1] * rank, 1),
        ],
    )  # fmt: skip


for _rank in (1, 2, 3):
    _named(
        f'conv{_rank}d.padding(Tensor input, Tensor weight, Tensor? bias=None, SymInt[{_rank}] stride={_ONES[_rank]}, '
        f'str padding="valid", SymInt[{_rank}] dilation={_ONES[_rank]}, SymInt groups=1',
        _rank,
    )
_named(
    "_convolution_mode(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, str padding, SymInt[] dilation, "
    "SymInt groups",
    2,
    1,
)
