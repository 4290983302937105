"""What convolutions become at the linalg level: explicit padding, then one linalg.generic over (n, f, image..., c,
window...), with a group loop after n where there are groups.

A transposed one with strides is computed phase by phase. Results whose places leave the same remainder p by the stride s
meet the same taps of the window, every s-th from p on, so all phases together are one plain convolution with
ceil(k / s) taps that has s times the channels; their results are then woven into the image, which is cropped:

    y[s*i + p] = sum over m of x[i - m] * w[s*m + p]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir.affine import AffineExpr, AffineMap

from stepwell.dialects.diagnostics import NeedsNumber
from stepwell.dialects.torch.declare import TensorInfo
from stepwell.dialects.torch.linalg_builder import PARALLEL, REDUCTION, LinalgBuilder, Tensor, project
from stepwell.dialects.torch.scalar import compute_dtype
from stepwell.dialects.torch.sizes import Size, minimum

Ints = Sequence[int]


def each(values: Sequence[Any], rank: int) -> list[Any]:
    """One value for every dimension of the image; a single one stands for all."""
    return list(values) * rank if len(values) == 1 else list(values)


def lower_convolution(
    b: LinalgBuilder, out: TensorInfo, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Ints,
    padding: Sequence[Size], dilation: Ints, transposed: bool, output_padding: Ints, groups: int,
) -> Tensor:  # fmt: skip
    rank = weight.rank - 2
    stride, padding, dilation, extra = (each(v, rank) for v in (stride, padding, dilation, output_padding or [0]))
    channels = weight.sizes[0] if transposed else weight.sizes[1] * groups
    b.require_equal(channels, x.sizes[1], "expected input to have {} channels, but got {} channels instead")
    if transposed:
        result = _transposed(b, out, x, weight, stride, padding, dilation, extra, groups)
    else:
        result = _slide(b, out, padded(b, x, padding, padding, 0), weight, stride, dilation, groups)
    if bias is not None:
        result = b.generic(
            [result, bias], [AffineMap.identity(out.rank), project(out.rank, [1])], [PARALLEL] * out.rank, out.sizes,
            result.dtype, lambda at, e: e[0] + e[1].cast(result.dtype),
        )  # fmt: skip
    return b.cast(result, out.dtype)


def _transposed(
    b: LinalgBuilder, out: TensorInfo, x: Tensor, weight: Tensor, stride: Ints, padding: Sequence[Size], dilation: Ints,
    extra: Ints, groups: int,
) -> Tensor:  # fmt: skip
    """A transposed convolution: by phases, or where the window has gaps, on the image with zeros between neighbours."""
    window = [k for k in weight.sizes[2:] if isinstance(k, int)]
    if len(window) < weight.rank - 2:
        raise NeedsNumber("a transposed convolution whose window's size is only known at run time")
    if any(s > 1 for s in stride) and all(d == 1 for d in dilation):
        return _by_phases(b, out, x, weight, window, stride, padding, extra, groups)
    reach = [d * (k - 1) for d, k in zip(dilation, window, strict=True)]
    before = [r - p for r, p in zip(reach, padding, strict=True)]
    after = [r - p + e for r, p, e in zip(reach, padding, extra, strict=True)]
    wide = padded(b, _spread(b, x, stride), before, after, 0)
    return _slide(b, out, wide, _turned(b, weight, groups), [1] * len(window), dilation, groups)


def _by_phases(
    b: LinalgBuilder, out: TensorInfo, x: Tensor, weight: Tensor, window: Ints, stride: Ints, padding: Sequence[Size],
    extra: Ints, groups: int,
) -> Tensor:  # fmt: skip
    """All phases as one convolution, woven together and cropped."""
    rank, (c, f) = len(window), weight.sizes[:2]
    assert isinstance(c, int)
    taps = [-(-k // s) for k, s in zip(window, stride, strict=True)]
    filters = _filters_of_phases(b, weight, window, taps, stride, groups)
    image = [n + m - 1 for n, m in zip(x.sizes[2:], taps, strict=True)]
    around = [m - 1 for m in taps]
    sizes = (x.sizes[0], filters.sizes[0], *image)
    phases = _slide(
        b, TensorInfo(sizes, out.dtype), padded(b, x, around, around, 0), filters, [1] * rank, [1] * rank, groups
    )
    apart = b.reshape(phases, [x.sizes[0], groups, *stride, f, *image])
    order = [0, 1, 2 + rank, *(place for d in range(rank) for place in (3 + rank + d, 2 + d))]
    whole = [x.sizes[0], out.sizes[1], *(size * s for size, s in zip(image, stride, strict=True))]
    woven = b.reshape(b.transpose(apart, order), whole)
    rest = [k + e - p - m * s for k, e, p, m, s in zip(window, extra, padding, taps, stride, strict=True)]
    return padded(b, woven, [-p for p in padding], rest, 0)


def _filters_of_phases(
    b: LinalgBuilder, weight: Tensor, window: Ints, taps: Ints, stride: Ints, groups: int
) -> Tensor:
    """A weight (c, f, window) as (groups x phases x f, c / groups, taps), the taps of each phase in reverse."""
    rank, (c, f) = len(window), weight.sizes[:2]
    assert isinstance(c, int)
    missing = [m * s - k for m, s, k in zip(taps, stride, window, strict=True)]
    whole = padded(b, weight, [0] * rank, missing, 0)
    apart = b.reshape(whole, [groups, c // groups, f, *(size for pair in zip(taps, stride, strict=True) for size in pair)])
    sizes: list[Size] = [groups, *stride, f, c // groups, *taps]
    dims = [AffineExpr.dimension(d) for d in range(len(sizes))]
    places = [e for d, m in enumerate(taps) for e in (AffineExpr.constant(m - 1) - dims[3 + rank + d], dims[1 + d])]
    read = AffineMap(len(sizes), 0, (dims[0], dims[2 + rank], dims[1 + rank], *places))
    count = f * groups
    for s in stride:
        count = count * s
    return b.reshape(b.map_read(apart, sizes, read), [count, c // groups, *taps])


def padded(b: LinalgBuilder, x: Tensor, before: Sequence[Size], after: Sequence[Size], value: Any) -> Tensor:
    """The image (dimensions from 2 on) surrounded by a value; negative widths crop."""
    low, high = [0, 0, *before], [0, 0, *after]
    if any(isinstance(w, int) and w < 0 for w in (*low, *high)):
        starts = [-minimum(w, 0) for w in low]
        sizes = [s + minimum(p, 0) + minimum(q, 0) for s, p, q in zip(x.sizes, low, high, strict=True)]
        x = b.slice(x, starts, sizes, [1] * x.rank)
        low, high = ([w if not isinstance(w, int) else max(w, 0) for w in side] for side in (low, high))
    return b.pad(x, low, high, value) if any(w != 0 for w in (*low, *high)) else x


def _spread(b: LinalgBuilder, x: Tensor, stride: Ints) -> Tensor:
    """The image with stride - 1 zeros between neighbours."""
    if all(s == 1 for s in stride):
        return x
    sizes = [*x.sizes[:2], *((n - 1) * s + 1 for n, s in zip(x.sizes[2:], stride, strict=True))]
    return b.insert(x, b.fill(0, sizes, x.dtype), [0] * x.rank, [1, 1, *stride])


def _turned(b: LinalgBuilder, weight: Tensor, groups: int) -> Tensor:
    """A transposed convolution's weight (c, f / g, window) as (f, c / g, flipped window)."""
    c, f, *window = weight.sizes
    apart = b.reshape(weight, [groups, c // groups, f, *window]) if groups > 1 else b.reshape(weight, [1, c, f, *window])
    dims = [AffineExpr.dimension(n) for n in range(apart.rank)]
    flipped = [AffineExpr.constant(int(k) - 1) - dims[3 + n] for n, k in enumerate(window) if isinstance(k, int)]
    read = AffineMap(apart.rank, 0, (dims[0], dims[2], dims[1], *flipped))
    turned = b.map_read(apart, [apart.sizes[0], f, apart.sizes[1], *window], read)
    return b.reshape(turned, [f * groups, c // groups, *window])


def _slide(b: LinalgBuilder, out: TensorInfo, x: Tensor, weight: Tensor, stride: Ints, dilation: Ints, groups: int) -> Tensor:
    """The sliding product itself, in the computing dtype."""
    f, c, *window = weight.sizes
    n, image, rank = x.sizes[0], out.sizes[2:], len(window)
    inner = compute_dtype(out.dtype)
    # Loops by name; a group loop only where there are groups, in- and out-channel loops only where they count.
    names = ["n", *(["g"] if groups > 1 else [])]
    per_group = f // groups
    names += ["f"] if groups == 1 or per_group != 1 else []
    names += [f"o{d}" for d in range(rank)]
    parallel = len(names)
    names += ["c"] if groups == 1 or c != 1 else []
    names += [f"k{d}" for d in range(rank)]

    def dim(name: str) -> AffineExpr:
        return AffineExpr.dimension(names.index(name))

    places = [dim(f"o{d}") * stride[d] + dim(f"k{d}") * dilation[d] for d in range(rank)]
    group = ["g"] if groups > 1 else []
    with_f = ["f"] if "f" in names else []
    with_c = ["c"] if "c" in names else []
    if groups > 1:
        x = b.reshape(x, [n, groups, *([c] if with_c else []), *x.sizes[2:]])
        weight = b.reshape(weight, [groups, *([per_group] if with_f else []), *([c] if with_c else []), *window])
    maps = [
        AffineMap(len(names), 0, tuple(e)) for e in (
            [dim("n"), *map(dim, group), *map(dim, with_c), *places],
            [*map(dim, group), *map(dim, with_f), *map(dim, with_c), *(dim(f"k{d}") for d in range(rank))],
        )
    ]  # fmt: skip
    sizes: list[Size] = [n, *([groups] if group else []), *([per_group] if with_f else []), *image]
    result = b.generic(
        [x, weight], maps, [PARALLEL] * parallel + [REDUCTION] * (len(names) - parallel), sizes, inner,
        lambda at, e: e[2] + e[0].cast(inner) * e[1].cast(inner),
        output_map=project(len(names), range(parallel)), initial=b.fill(0, sizes, inner),
    )  # fmt: skip
    return b.reshape(result, out.sizes)
