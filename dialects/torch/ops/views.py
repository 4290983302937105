"""The same elements under other sizes or in another order of dimensions: reshapes, permutations, broadcasts.

Two ops do the work at the linalg level: aten::view (row-major order stays) and aten::permute; aten::expand repeats.
The rest are composites, each with the inverse that a write through the view needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import (
    Array,
    RuntimeFault,
    Sample,
    TensorInfo,
    Undecided,
    declare,
    op,
    sample,
    shape_text,
)
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops.dimensions import differ, is_one, require, static, wrap
from stepwell.dialects.torch.ops.samples import normal
from stepwell.dialects.torch.sizes import Size, product


def sized(x: TensorInfo, sizes: Sequence[Size]) -> tuple[Size, ...]:
    """The sizes with -1 filled in; RuntimeFault where the number of elements differs."""
    total = product(x.sizes)
    unknown = [d for d, s in enumerate(sizes) if isinstance(s, int) and s == -1]
    require(len(unknown) <= 1, "only one dimension can be inferred")
    for size in sizes:
        require(not isinstance(size, int) or size >= -1, f"invalid shape dimension {size}")
    invalid = f"shape '{shape_text(sizes)}' is invalid for input of size {total}"
    known = product(s for d, s in enumerate(sizes) if d not in unknown)
    if unknown:
        if isinstance(known, int) and known == 0:
            raise RuntimeFault(
                f"cannot reshape tensor of 0 elements into shape {shape_text(sizes)} because the unspecified "
                "dimension size -1 can be any value and is ambiguous"
            )
        require(not (isinstance(total, int) and isinstance(known, int)) or total % known == 0, invalid)
        return tuple(total // known if d in unknown else s for d, s in enumerate(sizes))
    if differ(known, total):
        raise RuntimeFault(invalid)
    return tuple(sizes)


def _shape_of(x: Array, sizes: Sequence[int]) -> tuple[int, ...]:
    info = TensorInfo(tuple(x.shape), None)  # type: ignore[arg-type]
    return static(sized(info, sizes))


def _strict_view(x: Array, sizes: Sequence[int]) -> Array:
    try:
        return x.reshape(_shape_of(x, sizes), copy=False)
    except ValueError:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across "
            "two contiguous subspaces). Use .reshape(...) instead."
        ) from None


def _back(b: TorchBuilder, base: Value, value: Value, *_: Any) -> Value:
    """A write through a reshape: the value under the base's sizes."""
    result: Value = b.view(value, list(base.sizes))
    return result


def _view_lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, sizes: Sequence[Size]) -> Tensor:
    b.require_equal(product(x.sizes), product(out.sizes), f"shape '{shape_text(sizes)}' is invalid for input of size {{}}")
    return b.reshape(x, out.sizes)


def _view_samples() -> Iterator[Sample]:
    yield sample(normal(2, 3), [3, 2])
    yield sample(normal(2, 3, 4), [-1, 4])
    yield sample(normal(2, 3), [6])
    yield sample(normal(1, 1), [])
    yield sample(np.array(1.5), [1, 1])
    yield sample(np.zeros((0, 3), np.float32), [3, 0, 2])


declare(
    "aten::view(Tensor(a) self, SymInt[] size) -> Tensor(a)", infer=lambda x, size: x.with_sizes(sized(x, size)),
    reference=_strict_view, lower=_view_lower, write=_back, samples=_view_samples,
    doc="The same elements in row-major order under other sizes; -1 is what is left.",
)  # fmt: skip
declare(
    "aten::_unsafe_view(Tensor self, SymInt[] size) -> Tensor", infer=lambda x, size: x.with_sizes(sized(x, size)),
    reference=lambda x, size: x.reshape(_shape_of(x, size)), expand=lambda b, x, size: b.view(x, size),
    samples=_view_samples, doc="view, without an alias.",
)  # fmt: skip
declare(
    "aten::reshape(Tensor(a) self, SymInt[] shape) -> Tensor(a)", infer=lambda x, size: x.with_sizes(sized(x, size)),
    reference=lambda x, size: x.reshape(_shape_of(x, size)), expand=lambda b, x, size: b.view(x, size), write=_back,
    if_contiguous=True, samples=_view_samples, doc="view, or a copy where the elements do not lie that way.",
)  # fmt: skip


def reshaping(schema: str, sizes: Callable[..., Sequence[Size]], samples: Callable[[], Any], **options: Any) -> None:
    """Declare an op that is a view of sizes(x, ...)."""

    def infer(x: TensorInfo, *arguments: Any) -> TensorInfo:
        return x.with_sizes(sized(x, sizes(x, *arguments)))

    def reference(x: Array, *arguments: Any) -> Array:
        info = TensorInfo(tuple(x.shape), None)  # type: ignore[arg-type]
        return x.reshape(_shape_of(x, static(sizes(info, *map(_sized_only, arguments)))))

    def expand(b: TorchBuilder, x: Value, *arguments: Any) -> Value:
        known = [a.tensor if isinstance(a, Value) else a for a in arguments]
        result: Value = b.view(x, list(sizes(x.tensor, *known)))
        return result

    declare(
        schema, infer=infer, reference=reference, expand=expand, write=_back, samples=samples,
        **{"source": f"{__name__} ({schema.partition('(')[0]})", **options},
    )  # fmt: skip


def _sized_only(value: Any) -> Any:
    return TensorInfo(tuple(value.shape), None) if isinstance(value, np.ndarray) else value  # type: ignore[arg-type]


def _flattened(x: TensorInfo, first: int, last: int) -> list[Size]:
    start, end = wrap(first, x.rank), wrap(last, x.rank)
    require(start <= end, "flatten() has invalid args: start_dim cannot come after end_dim")
    if x.rank == 0:
        return [1]
    return [*x.sizes[:start], product(x.sizes[start : end + 1]), *x.sizes[end + 1 :]]


def _unflattened(x: TensorInfo, dim: int, sizes: Sequence[Size]) -> list[Size]:
    d = wrap(dim, x.rank)
    require(len(sizes) > 0, "unflatten: sizes must be non-empty")
    part = sized(x.with_sizes([x.sizes[d]]), sizes)
    return [*x.sizes[:d], *part, *x.sizes[d + 1 :]]


def _certainly_one(size: Size) -> bool:
    """Whether to drop a dimension; Undecided for a symbolic size that may be 1."""
    if isinstance(size, int):
        return size == 1
    if differ(size, 1):
        return False
    raise Undecided(size, 1, f"whether a dimension of size {size} can be squeezed is only known at run time")


def _squeezed(x: TensorInfo, dims: Sequence[int] | int | None = None) -> list[Size]:
    gone = range(x.rank) if dims is None else {wrap(d, x.rank) for d in ([dims] if isinstance(dims, int) else dims)}
    return [s for d, s in enumerate(x.sizes) if not (d in gone and _certainly_one(s))]


def _unsqueezed(x: TensorInfo, dim: int) -> list[Size]:
    d = wrap(dim, x.rank + 1)
    return [*x.sizes[:d], 1, *x.sizes[d:]]


reshaping(
    "aten::flatten.using_ints(Tensor(a) self, int start_dim=0, int end_dim=-1) -> Tensor(a)", _flattened,
    lambda: [sample(normal(2, 3, 4), 1), sample(normal(2, 3), 0, 0), sample(np.array(2.0)), sample(normal(2, 0, 3))],
    if_contiguous=True, doc="The dimensions from start_dim to end_dim as one.",
)  # fmt: skip
reshaping(
    "aten::ravel(Tensor(a) self) -> Tensor(a)", lambda x: [product(x.sizes)], lambda: [sample(normal(2, 3))],
    if_contiguous=True, doc="All dimensions as one.",
)  # fmt: skip
reshaping(
    "aten::unflatten.int(Tensor(a) self, int dim, SymInt[] sizes) -> Tensor(a)", _unflattened,
    lambda: [sample(normal(2, 12), 1, [3, -1]), sample(normal(6, 2), -2, [2, 3])], doc="One dimension as several.",
)  # fmt: skip
reshaping(
    "aten::squeeze(Tensor(a) self) -> Tensor(a)", _squeezed,
    lambda: [sample(normal(1, 3, 1)), sample(normal(2)), sample(normal(1, 1))], doc="Without dimensions of size 1.",
    inplace=True,
)  # fmt: skip
reshaping(
    "aten::squeeze.dim(Tensor(a) self, int dim) -> Tensor(a)", _squeezed,
    lambda: [sample(normal(1, 3, 1), -1), sample(normal(2, 3), 0), sample(np.array(1.0), 0)],
    doc="Without that dimension if its size is 1.", inplace=True,
)  # fmt: skip
reshaping(
    "aten::squeeze.dims(Tensor(a) self, int[] dim) -> Tensor(a)", _squeezed,
    lambda: [sample(normal(1, 3, 1), [0, -1])], doc="Without those dimensions whose size is 1.",
    inplace=True,
)  # fmt: skip
reshaping(
    "aten::unsqueeze(Tensor(a) self, int dim) -> Tensor(a)", _unsqueezed,
    lambda: [sample(normal(2, 3), 0), sample(normal(2, 3), -1), sample(np.array(1.0), 0)],
    doc="With a new dimension of size 1 at dim.", inplace=True,
)  # fmt: skip
reshaping(
    "aten::view_as(Tensor(a) self, Tensor other) -> Tensor(a)", lambda x, y: y.sizes,
    lambda: [sample(normal(2, 3), normal(3, 2))], doc="Under other's sizes.",
)  # fmt: skip
reshaping(
    "aten::reshape_as(Tensor(a) self, Tensor other) -> Tensor(a)", lambda x, y: y.sizes,
    lambda: [sample(normal(2, 3), normal(3, 2))], if_contiguous=True, doc="Under other's sizes.",
)  # fmt: skip
for _name, _rank in (("atleast_1d", 1), ("atleast_2d", 2)):
    reshaping(
        f"aten::{_name}(Tensor self) -> Tensor", lambda x, rank=_rank: [1] * (rank - x.rank) + list(x.sizes),
        lambda: [sample(np.array(1.0)), sample(normal(3)), sample(normal(2, 3))], doc="With leading dimensions of size 1.",
    )  # fmt: skip


# ------ permutations


def _order(x: Any, dims: Sequence[int]) -> list[int]:
    rank = x.ndim if isinstance(x, np.ndarray) else x.rank
    require(
        len(dims) == rank,
        f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired ordering of dimensions i.e. input.dim() = {rank} is not equal to len(dims) = {len(dims)}",  # noqa: E501
    )
    order = [wrap(d, rank) for d in dims]
    require(len(set(order)) == len(order), "permute(): duplicate dims are not allowed.")
    return order


def _inverse(order: Sequence[int]) -> list[int]:
    return [list(order).index(d) for d in range(len(order))]


declare(
    "aten::permute(Tensor(a) self, int[] dims) -> Tensor(a)",
    infer=lambda x, dims: x.with_sizes(x.sizes[d] for d in _order(x, dims)),
    reference=lambda x, dims: x.transpose(_order(x, dims)), lower=lambda b, out, x, dims: b.transpose(x, _order(x, dims)),
    write=lambda b, base, value, dims: b.permute(value, _inverse(_order(base, dims))),
    samples=lambda: [
        sample(normal(2, 3, 4), [2, 0, 1]), sample(normal(2, 3), [0, -1]), sample(np.array(1.0), []),
        sample(np.zeros((0, 2, 3), np.float32), [1, 2, 0]),
    ],
    doc="Dimension i of the result is dimension dims[i] of self.",
)  # fmt: skip


def permuting(schemas: Sequence[str], order: Callable[..., list[int]], samples: Callable[[], Any], doc: str) -> None:
    """Declare ops that are permute(order(rank, ...))."""

    def infer(x: TensorInfo, *arguments: Any) -> TensorInfo:
        return x.with_sizes(x.sizes[d] for d in order(x.rank, *arguments))

    def expand(b: TorchBuilder, x: Value, *arguments: Any) -> Value:
        result: Value = b.permute(x, order(x.rank, *arguments))
        return result

    def write(b: TorchBuilder, base: Value, value: Value, *arguments: Any) -> Value:
        result: Value = b.permute(value, _inverse(order(base.rank, *arguments)))
        return result

    for schema in schemas:
        declare(
            schema, infer=infer, reference=lambda x, *a: x.transpose(order(x.ndim, *a)), expand=expand, write=write,
            samples=samples, doc=doc, source=f"{__name__} ({schema.partition('(')[0]})",
            inplace=_IN_PLACE.get(schema.partition("(")[0], False),
        )  # fmt: skip


_IN_PLACE: dict[str, bool | str] = {
    "aten::transpose.int": "", "aten::swapaxes": True, "aten::swapdims": True, "aten::t": True,
}  # fmt: skip
"""Permutations that ATen has in place as well, and under which overload name."""


def _swapped(rank: int, a: int, b: int) -> list[int]:
    order = list(range(rank))
    if rank:
        p, q = wrap(a, rank), wrap(b, rank)
        order[p], order[q] = q, p
    return order


def _moved(rank: int, source: Sequence[int] | int, destination: Sequence[int] | int) -> list[int]:
    sources = [wrap(d, rank) for d in ([source] if isinstance(source, int) else source)]
    places = [wrap(d, rank) for d in ([destination] if isinstance(destination, int) else destination)]
    require(len(sources) == len(places), "movedim: Invalid source or destination dims: source and destination must have the same number of elements")  # noqa: E501  # fmt: skip
    require(len(set(sources)) == len(sources), f"movedim: repeated dim in `source` ({list(sources)})")
    rest = iter(d for d in range(rank) if d not in sources)
    return [sources[places.index(d)] if d in places else next(rest) for d in range(rank)]


def _small_transpose(rank: int) -> list[int]:
    require(rank <= 2, f"t() expects a tensor with <= 2 dimensions, but self is {rank}D")
    return list(reversed(range(rank)))


permuting(
    ["aten::transpose.int(Tensor(a) self, int dim0, int dim1) -> Tensor(a)",
     "aten::swapaxes(Tensor(a) self, int axis0, int axis1) -> Tensor(a)",
     "aten::swapdims(Tensor(a) self, int dim0, int dim1) -> Tensor(a)"], _swapped,
    lambda: [sample(normal(2, 3, 4), 0, -1), sample(normal(2, 3), 1, 1), sample(np.array(1.0), 0, -1)], "Two dimensions swapped.",
)  # fmt: skip
permuting(
    ["aten::t(Tensor(a) self) -> Tensor(a)"], _small_transpose,
    lambda: [sample(normal(2, 3)), sample(normal(3)), sample(np.array(1.0))], "The transposed matrix.",
)  # fmt: skip
permuting(
    ["aten::numpy_T(Tensor(a) self) -> Tensor(a)", "aten::numpy_T.a(Tensor(a) self) -> Tensor(a)"],
    lambda rank: list(reversed(range(rank))), lambda: [sample(normal(2, 3, 4))], "All dimensions in reverse order.",
)  # fmt: skip
permuting(
    ["aten::mT(Tensor(a) self) -> Tensor(a)", "aten::mT.a(Tensor(a) self) -> Tensor(a)",
     "aten::mH(Tensor(a) self) -> Tensor(a)", "aten::mH.a(Tensor(a) self) -> Tensor(a)",
     "aten::adjoint(Tensor(a) self) -> Tensor(a)"],
    lambda rank: _swapped(rank, -1, -2), lambda: [sample(normal(2, 3, 4))], "Every matrix transposed.",
)  # fmt: skip
for _name in ("movedim", "moveaxis"):
    permuting(
        [f"aten::{_name}.int(Tensor(a) self, int source, int destination) -> Tensor(a)"], _moved,
        lambda: [sample(normal(2, 3, 4), 0, -1)], "A dimension moved to another place.",
    )  # fmt: skip
    permuting(
        [f"aten::{_name}.intlist(Tensor(a) self, int[] source, int[] destination) -> Tensor(a)"], _moved,
        lambda: [sample(normal(2, 3, 4), [0, 1], [2, 0])], "Dimensions moved to other places.",
    )  # fmt: skip


# ------ broadcasts


def _expanded(x: TensorInfo, sizes: Sequence[Size]) -> tuple[Size, ...]:
    extra = len(sizes) - x.rank
    require(
        extra >= 0,
        f"expand({x.dtype.title if x.dtype else ''}Tensor{{{shape_text(x.sizes)}}}, size={list(sizes)}): the number of "
        f"sizes provided ({len(sizes)}) must be greater or equal to the number of dimensions in the tensor ({x.rank})",
    )
    result: list[Size] = []
    for d, size in enumerate(sizes):
        own: Size | None = x.sizes[d - extra] if d >= extra else None
        if isinstance(size, int) and size == -1:
            require(own is not None, f"The expanded size of the tensor (-1) isn't allowed in a leading, non-existing dimension {d}")  # fmt: skip  # noqa: E501
            result.append(own if own is not None else 1)
            continue
        if own is not None and not is_one(own) and own != size:
            message = (
                f"The expanded size of the tensor ({size}) must match the existing size ({own}) at non-singleton "
                f"dimension {d}.  Target sizes: {shape_text(sizes)}.  Tensor sizes: {shape_text(x.sizes)}"
            )
            if differ(own, size) and differ(own, 1):
                raise RuntimeFault(message)
            raise Undecided(own, size, message)
        result.append(size)
    return tuple(result)


def _no_write(b: TorchBuilder, base: Value, value: Value, *_: Any) -> Value:
    raise RuntimeFault(
        "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
        "Please clone() the tensor before performing the operation."
    )


def _expand_reference(x: Array, sizes: Sequence[int], *_: Any) -> Array:
    info = TensorInfo(tuple(x.shape), None)  # type: ignore[arg-type]
    return np.broadcast_to(x, static(_expanded(info, sizes)))


def _expand_samples() -> list[Sample]:
    return [sample(normal(3, 1), [2, -1, 4]), sample(np.array(1.5), [2]), sample(normal(1), [0]), sample(normal(2), [2])]


declare(
    "aten::expand(Tensor(a) self, SymInt[] size, *, bool implicit=False) -> Tensor(a)",
    infer=lambda x, size, implicit: x.with_sizes(_expanded(x, size)), reference=_expand_reference,
    lower=lambda b, out, x, size, implicit: b.expand(x, out.sizes), write=_no_write,
    samples=_expand_samples, doc="Dimensions of size 1, and new leading ones, repeated without copying; -1 keeps a size.",
)  # fmt: skip
declare(
    "aten::broadcast_to(Tensor(a) self, SymInt[] size) -> Tensor(a)",
    infer=lambda x, size: x.with_sizes(_expanded(x, size)), reference=_expand_reference,
    expand=lambda b, x, size: b.expand(x, size), write=_no_write, samples=_expand_samples, doc="expand",
)  # fmt: skip
declare(
    "aten::expand_as(Tensor(a) self, Tensor other) -> Tensor(a)",
    infer=lambda x, y: x.with_sizes(_expanded(x, y.sizes)), reference=lambda x, y: _expand_reference(x, y.shape),
    expand=lambda b, x, y: b.expand(x, list(y.sizes)), write=_no_write,
    samples=lambda: [sample(normal(3, 1), normal(2, 3, 4))], doc="expand to other's sizes",
)  # fmt: skip


@op("aten::pixel_shuffle(Tensor self, int upscale_factor) -> Tensor")
class PixelShuffle:
    """(*, c r^2, h, w) to (*, c, h r, w r)."""

    samples = staticmethod(lambda: [sample(normal(1, 8, 2, 3), 2), sample(normal(4, 2, 2), 2)])

    @staticmethod
    def infer(x: TensorInfo, r: int) -> TensorInfo:
        require(x.rank >= 3, f"pixel_shuffle expects input to have at least 3 dimensions, but got input with {x.rank} dimension(s)")  # fmt: skip  # noqa: E501
        *lead, c, h, w = x.sizes
        channels = c // (r * r)
        require(not isinstance(c, int) or c % (r * r) == 0, f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, but input.size(-3)={c} is not divisible by {r * r}")  # noqa: E501  # fmt: skip
        return x.with_sizes([*lead, channels, h * r, w * r])

    @staticmethod
    def reference(x: Array, r: int) -> Array:
        *lead, c, h, w = x.shape
        n = len(lead)
        parts = x.reshape(*lead, c // (r * r), r, r, h, w)
        order = [*range(n), n, n + 3, n + 1, n + 4, n + 2]
        return parts.transpose(order).reshape(*lead, c // (r * r), h * r, w * r)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, r: int) -> Value:
        *lead, c, h, w = x.sizes
        n = len(lead)
        parts = b.view(x, [*lead, c // (r * r), r, r, h, w])
        moved = b.permute(parts, [*range(n), n, n + 3, n + 1, n + 4, n + 2])
        result: Value = b.view(moved, [*lead, c // (r * r), h * r, w * r])
        return result


@op("aten::pixel_unshuffle(Tensor self, int downscale_factor) -> Tensor")
class PixelUnshuffle:
    """(*, c, h r, w r) to (*, c r^2, h, w)."""

    samples = staticmethod(lambda: [sample(normal(1, 2, 4, 6), 2)])

    @staticmethod
    def infer(x: TensorInfo, r: int) -> TensorInfo:
        *lead, c, h, w = x.sizes
        return x.with_sizes([*lead, c * (r * r), h // r, w // r])

    @staticmethod
    def reference(x: Array, r: int) -> Array:
        *lead, c, h, w = x.shape
        n = len(lead)
        parts = x.reshape(*lead, c, h // r, r, w // r, r)
        return parts.transpose([*range(n), n, n + 2, n + 4, n + 1, n + 3]).reshape(*lead, c * r * r, h // r, w // r)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, r: int) -> Value:
        *lead, c, h, w = x.sizes
        n = len(lead)
        parts = b.view(x, [*lead, c, h // r, r, w // r, r])
        moved = b.permute(parts, [*range(n), n, n + 2, n + 4, n + 1, n + 3])
        result: Value = b.view(moved, [*lead, c * (r * r), h // r, w // r])
        return result


@op("aten::channel_shuffle(Tensor self, SymInt groups) -> Tensor")
class ChannelShuffle:
    """Channels in groups, dealt out in turns."""

    samples = staticmethod(lambda: [sample(normal(2, 6, 3), 3)])

    @staticmethod
    def infer(x: TensorInfo, groups: int) -> TensorInfo:
        require(not isinstance(x.sizes[1], int) or x.sizes[1] % groups == 0, "Number of channels must be divisible by groups")
        return x

    @staticmethod
    def reference(x: Array, groups: int) -> Array:
        n, c, *rest = x.shape
        return x.reshape(n, groups, c // groups, *rest).swapaxes(1, 2).reshape(x.shape)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, groups: int) -> Value:
        n, c, *rest = x.sizes
        parts = b.view(x, [n, groups, c // groups, *rest])
        result: Value = b.view(b.transpose(parts, 1, 2), list(x.sizes))
        return result
