"""Several tensors as one and one as several: cat, stack, split, repeat, flip, roll."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from xdsl.ir.affine import AffineExpr, AffineMap

from stepwell.dialects import dtypes
from stepwell.dialects.diagnostics import NeedsNumber
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, RuntimeFault, Sample, TensorInfo, Undecided, declare, op, sample
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops.dimensions import along, broadcast_sizes, differ, require, wrap
from stepwell.dialects.torch.ops.promotion import facts, promoted
from stepwell.dialects.torch.ops.samples import integers, normal
from stepwell.dialects.torch.scalar import Scalar
from stepwell.dialects.torch.sizes import Size, bounds, ceil_divide

# ------ cat


def _skipped(x: Any) -> bool:
    """cat takes a tensor of sizes [0] for nothing, whatever the others' rank."""
    return tuple(x.sizes if not isinstance(x, np.ndarray) else x.shape) == (0,)


def _cat_info(tensors: Sequence[TensorInfo], dim: int) -> TensorInfo:
    require(len(tensors) > 0, "torch.cat(): expected a non-empty list of Tensors", "ValueError")
    dtype = promoted(*tensors)
    kept = [t for t in tensors if not _skipped(t)] or [tensors[0]]
    first = kept[0]
    for number, tensor in enumerate(tensors):
        require(tensor.rank > 0, f"zero-dimensional tensor (at position {number}) cannot be concatenated")
    d = wrap(dim, first.rank)
    total: Size = 0
    for tensor in kept:
        require(tensor.rank == first.rank, f"Tensors must have same number of dimensions: got {first.rank} and {tensor.rank}")
        for n, (a, b) in enumerate(zip(first.sizes, tensor.sizes, strict=True)):
            if n != d and differ(a, b):
                number = [t is tensor for t in tensors].index(True)
                raise RuntimeFault(
                    f"Sizes of tensors must match except in dimension {d}. Expected size {a} but got size {b} for "
                    f"tensor number {number} in the list."
                )
        total = total + tensor.sizes[d]
    return TensorInfo(tuple(total if n == d else s for n, s in enumerate(first.sizes)), dtype)


def _cat_reference(tensors: Sequence[Array], dim: int) -> Array:
    dtype = _cat_info([facts(t) for t in tensors], dim).dtype.numpy
    kept = [t for t in tensors if not _skipped(t)] or [tensors[0]]
    return np.concatenate([t.astype(dtype) for t in kept], axis=dim)


def _cat_lower(b: LinalgBuilder, out: TensorInfo, tensors: Sequence[Tensor], dim: int) -> Tensor:
    kept = [b.cast(t, out.dtype) for t in tensors if not _skipped(t.info)] or [b.cast(tensors[0], out.dtype)]
    d = wrap(dim, out.rank)
    for tensor in kept[1:]:
        for n in range(out.rank):
            if n != d:
                b.require_equal(tensor.sizes[n], kept[0].sizes[n], f"Sizes of tensors must match except in dimension {d}. Got {{}} and {{}}")  # noqa: E501  # fmt: skip
    if len(kept) == 1:
        return kept[0]
    same = [b.refine(t, [t.sizes[n] if n == d else s for n, s in enumerate(out.sizes)]) for t in kept]
    return b.concatenate(same, d)


def _cat_samples() -> Iterator[Sample]:
    yield sample([normal(2, 3), normal(1, 3)], 0)
    yield sample([normal(2, 3), normal(2, 1), normal(2, 0)], -1)
    yield sample([normal(2), integers(3)], 0)
    yield sample([np.zeros((0,), np.float32), normal(2, 3)], 1)
    yield sample([normal(3)], 0)


for _name in ("cat", "concat", "concatenate"):
    declare(
        f"aten::{_name}(Tensor[] tensors, int dim=0) -> Tensor", infer=_cat_info, reference=_cat_reference,
        lower=_cat_lower, samples=_cat_samples, doc="All tensors one after another along a dimension.",
        source=f"{__name__} (aten::{_name})",
    )  # fmt: skip


@op("aten::stack(Tensor[] tensors, int dim=0) -> Tensor")
class Stack:
    """Tensors of equal sizes side by side along a new dimension."""

    samples = staticmethod(
        lambda: [
            sample([normal(2, 3), normal(2, 3)], 0), sample([normal(2), integers(2)], -1), sample([np.array(1.0), np.array(2.0)], 0),
        ]
    )  # fmt: skip

    @staticmethod
    def infer(tensors: Sequence[TensorInfo], dim: int) -> TensorInfo:
        require(len(tensors) > 0, "stack expects a non-empty TensorList")
        first = tensors[0]
        for number, tensor in enumerate(tensors):
            same = tensor.rank == first.rank and not any(map(differ, tensor.sizes, first.sizes))
            require(same, f"stack expects each tensor to be equal size, but got {list(first.sizes)} at entry 0 and {list(tensor.sizes)} at entry {number}")  # noqa: E501  # fmt: skip
        d = wrap(dim, first.rank + 1)
        return TensorInfo((*first.sizes[:d], len(tensors), *first.sizes[d:]), promoted(*tensors))

    @staticmethod
    def reference(tensors: Sequence[Array], dim: int) -> Array:
        dtype = promoted(*tensors).numpy
        return np.stack([t.astype(dtype) for t in tensors], axis=dim)

    @staticmethod
    def expand(b: TorchBuilder, tensors: Sequence[Value], dim: int) -> Value:
        d = wrap(dim, tensors[0].rank + 1)
        result: Value = b.cat([b.unsqueeze(t, d) for t in tensors], d)
        return result


def _stacking(name: str, rank: int, dim: int, join: Callable[..., Any]) -> None:
    """hstack and its like: at least `rank` dimensions each, then cat along dim."""

    def raised(sizes: Sequence[Size]) -> list[Size]:
        result = list(sizes)
        if rank == 3 and len(result) == 2:
            return [*result, 1]
        if name == "column_stack" and len(result) == 1:
            return [*result, 1]
        return [1] * (min(rank, 2) - len(result)) + result + ([1] if rank == 3 and len(result) < 2 else [])

    def along(sizes: Sequence[Size]) -> int:
        return 0 if name == "hstack" and len(sizes) == 1 else dim

    def infer(tensors: Sequence[TensorInfo]) -> TensorInfo:
        wide = [t.with_sizes(raised(t.sizes)) for t in tensors]
        return _cat_info(wide, along(wide[0].sizes))

    def expand(b: TorchBuilder, tensors: Sequence[Value]) -> Value:
        wide = [b.view(t, raised(t.sizes)) if t.rank != len(raised(t.sizes)) else t for t in tensors]
        result: Value = b.cat(wide, along(wide[0].sizes))
        return result

    declare(
        f"aten::{name}(Tensor[] tensors) -> Tensor", infer=infer, reference=lambda tensors: join(tensors), expand=expand,
        samples=lambda: [sample([normal(2, 3), normal(2, 3)]), sample([normal(3), normal(3)])],
        doc=f"np.{name}", source=f"{__name__} (aten::{name})",
    )  # fmt: skip


_stacking("hstack", 1, 1, np.hstack)
_stacking("vstack", 2, 0, np.vstack)
_stacking("dstack", 3, 2, np.dstack)
_stacking("column_stack", 2, 1, np.column_stack)


# ------ split: lists of views; at the value level a list of slices

Parts = list[tuple[Size, Size]]


def _splitting(schema: str, parts: Callable[..., Parts], samples: Callable[[], Any], doc: str) -> None:
    """Declare an op that cuts a dimension: parts(size, argument) gives starts and lengths; dim is the last argument."""

    def infer(x: TensorInfo, *arguments: Any) -> list[TensorInfo]:
        *how, dim = arguments
        require(x.rank > 0, "split expects at least a 1-dimensional tensor")
        d = wrap(dim, x.rank)
        return [
            x.with_sizes(length if n == d else s for n, s in enumerate(x.sizes)) for _, length in parts(x.sizes[d], *how)
        ]

    def reference(x: Array, *arguments: Any) -> list[Array]:
        *how, dim = arguments
        d = wrap(dim, x.ndim)
        return [x[along(d, slice(a, a + n))] for a, n in parts(x.shape[d], *how)]

    def expand(b: TorchBuilder, x: Value, *arguments: Any) -> list[Value]:
        *how, dim = arguments
        d = wrap(dim, x.rank)
        return [b.slice(x, d, a, a + n) for a, n in parts(x.sizes[d], *how)]

    declare(
        schema, infer=infer, reference=reference, expand=expand, samples=samples, doc=doc,
        source=f"{__name__} ({schema.partition('(')[0]})",
    )  # fmt: skip


def _pieces(size: Size, piece: Size) -> Parts:
    require(not isinstance(piece, int) or piece >= 0, f"split expects split_size be non-negative, but got split_size={piece}")
    if not isinstance(size, int) or not isinstance(piece, int):
        count = size // piece
        if isinstance(count, int) and count * piece == size:
            return [(n * piece, piece) for n in range(count)]
        raise NeedsNumber("aten::split of a size that is only known at run time")
    if piece == 0:
        require(size == 0, f"split_size can only be 0 if dimension size is 0, but got dimension size of {size}")
        return [(0, 0)]
    return [(start, min(piece, size - start)) for start in range(0, max(size, 1), piece)]


def _sections(size: Size, sizes: Sequence[Size]) -> Parts:
    total: Size = 0
    result: Parts = []
    for length in sizes:
        result.append((total, length))
        total = total + length
    message = f"split_with_sizes expects split_sizes to sum exactly to {size} (input tensor's size at dimension), but got split_sizes={list(sizes)}"  # noqa: E501
    if differ(total, size):
        raise RuntimeFault(message)
    if total != size:
        raise Undecided(total, size, message)
    return result


def _chunks(size: Size, count: int) -> Parts:
    require(count > 0, f"chunk expects `chunks` to be greater than 0, got: {count}")
    piece = ceil_divide(size, count)
    if isinstance(piece, int):
        return _pieces(size, piece) if piece else [(0, 0)] * count
    # Of so many elements no piece is empty; of fewer there may be fewer pieces, which only run time knows.
    if size - piece * count != 0 and bounds(size)[0] <= (count - 1) ** 2:
        words = f"aten::chunk into {count} of a size that is only known at run time"
        raise Undecided(size, size // count * count, words, required=False)
    return [(piece * n, piece) for n in range(count - 1)] + [(piece * (count - 1), size - piece * (count - 1))]


def _even(size: Size, count: int) -> Parts:
    require(count > 0, f"number of sections must be larger than 0, got {count}")
    if not isinstance(size, int):
        piece = size // count
        if piece * count != size:
            words = f"aten::tensor_split into {count} of a size that is only known at run time"
            raise Undecided(size, piece * count, words, required=False)
        return [(piece * n, piece) for n in range(count)]
    short, longer = divmod(size, count)
    starts = [n * short + min(n, longer) for n in range(count)]
    return [(start, short + (n < longer)) for n, start in enumerate(starts)]


def _between(size: Size, indices: Sequence[Size]) -> Parts:
    if not isinstance(size, int) or any(not isinstance(i, int) for i in indices):
        raise NeedsNumber("aten::tensor_split at positions that are only known at run time")
    ends = [slice(0, i).indices(size)[1] for i in indices if isinstance(i, int)]
    starts = [0, *ends]
    return [(a, max(z - a, 0)) for a, z in zip(starts, [*ends, size], strict=True)]


def _piece_samples() -> list[Sample]:
    return [sample(normal(5, 2), 2), sample(normal(2, 6), 3, -1), sample(normal(2), 5), sample(normal(0, 2), 0)]


def _section_samples() -> list[Sample]:
    return [sample(normal(5, 2), [2, 3]), sample(normal(2, 6), [1, 0, 5], 1)]


def _chunk_samples() -> list[Sample]:
    return [sample(normal(5, 2), 2), sample(normal(2, 6), 3, -1), sample(normal(2), 5), sample(normal(0, 2), 3)]


_splitting("aten::split.Tensor(Tensor(a -> *) self, SymInt split_size, int dim=0) -> Tensor(a)[]", _pieces, _piece_samples, "Pieces of one size; the last may be shorter.")  # noqa: E501  # fmt: skip
_splitting("aten::unsafe_split.Tensor(Tensor self, SymInt split_size, int dim=0) -> Tensor[]", _pieces, _piece_samples, "split, without aliases.")  # noqa: E501  # fmt: skip
_splitting("aten::split(Tensor(a -> *) self, int[] split_sizes, int dim=0) -> Tensor(a)[]", _sections, _section_samples, "Pieces of given sizes.")  # noqa: E501  # fmt: skip
_splitting("aten::split.sizes(Tensor(a -> *) self, SymInt[] split_size, int dim=0) -> Tensor(a)[]", _sections, _section_samples, "Pieces of given sizes.")  # noqa: E501  # fmt: skip
_splitting("aten::split_with_sizes(Tensor(a -> *) self, SymInt[] split_sizes, int dim=0) -> Tensor(a)[]", _sections, _section_samples, "Pieces of given sizes.")  # noqa: E501  # fmt: skip
_splitting("aten::unsafe_split_with_sizes(Tensor self, SymInt[] split_sizes, int dim=0) -> Tensor[]", _sections, _section_samples, "Pieces of given sizes.")  # noqa: E501  # fmt: skip
_splitting("aten::chunk(Tensor(a -> *) self, int chunks, int dim=0) -> Tensor(a)[]", _chunks, _chunk_samples, "At most so many equal pieces; the last may be shorter.")  # noqa: E501  # fmt: skip
_splitting("aten::unsafe_chunk(Tensor self, int chunks, int dim=0) -> Tensor[]", _chunks, _chunk_samples, "chunk, without aliases.")  # fmt: skip  # noqa: E501
_splitting("aten::tensor_split.sections(Tensor(a -> *) self, SymInt sections, int dim=0) -> Tensor(a)[]", _even, _chunk_samples, "So many pieces, sizes differing by at most 1.")  # noqa: E501  # fmt: skip
_splitting("aten::tensor_split.indices(Tensor(a -> *) self, SymInt[] indices, int dim=0) -> Tensor(a)[]", _between, lambda: [sample(normal(5, 2), [1, 3]), sample(normal(2, 4), [3, -2, 9], 1)], "Cut before each of the positions.")  # noqa: E501  # fmt: skip


@op("aten::unbind.int(Tensor(a -> *) self, int dim=0) -> Tensor(a)[]")
class Unbind:
    """Every position of a dimension, which disappears."""

    samples = staticmethod(lambda: [sample(normal(3, 2)), sample(normal(3, 2), -1), sample(normal(0, 2))])

    @staticmethod
    def infer(x: TensorInfo, dim: int) -> list[TensorInfo]:
        require(x.rank > 0, "Dimension specified as 0 but tensor has no dimensions", "IndexError")
        d = wrap(dim, x.rank)
        count = x.sizes[d]
        if not isinstance(count, int):
            raise NeedsNumber("aten::unbind of a size that is only known at run time")
        return [x.with_sizes((*x.sizes[:d], *x.sizes[d + 1 :]))] * count

    @staticmethod
    def reference(x: Array, dim: int) -> list[Array]:
        return [x[along(wrap(dim, x.ndim), n)] for n in range(x.shape[dim])]

    @staticmethod
    def expand(b: TorchBuilder, x: Value, dim: int) -> list[Value]:
        return [b.select(x, dim, n) for n in range(len(Unbind.infer(x.tensor, dim)))]


# ------ repetition


def _repeat_info(x: TensorInfo, repeats: Sequence[Size]) -> TensorInfo:
    extra = len(repeats) - x.rank
    require(extra >= 0, "Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    sizes: list[Size] = [*[1] * extra, *x.sizes]
    return x.with_sizes(s * r for s, r in zip(sizes, repeats, strict=True))


def _repeat_expand(b: TorchBuilder, x: Value, repeats: Sequence[Size]) -> Value:
    """Each repeated dimension as a pair (repeats, size), the first one expanded, then joined."""
    sizes: list[Size] = [*[1] * (len(repeats) - x.rank), *x.sizes]
    narrow: list[Size] = []
    wide: list[Size] = []
    for size, count in zip(sizes, repeats, strict=True):
        if count != 1 and size != 1:
            narrow.append(1)
            wide.append(count)
        narrow.append(size)
        wide.append(count if size == 1 else size)
    spread = b.expand(b.view(x, narrow), wide)
    result: Value = b.view(spread, [s * r for s, r in zip(sizes, repeats, strict=True)])
    return result


declare(
    "aten::repeat(Tensor self, SymInt[] repeats) -> Tensor", infer=_repeat_info, reference=lambda x, r: np.tile(x, r),
    expand=_repeat_expand, doc="The tensor side by side with itself, repeats[d] times along d.",
    samples=lambda: [sample(normal(2, 3), [2, 1]), sample(normal(2), [3, 2]), sample(np.array(1.5), [2, 2]), sample(normal(2), [0])],
)  # fmt: skip


def _padded(x: Any, dims: Sequence[Size]) -> list[Size]:
    rank = x.ndim if isinstance(x, np.ndarray) else x.rank
    return [1] * (rank - len(dims)) + list(dims)


declare(
    "aten::tile(Tensor self, SymInt[] dims) -> Tensor", infer=lambda x, dims: _repeat_info(x, _padded(x, dims)),
    reference=lambda x, dims: np.tile(x, dims), expand=lambda b, x, dims: b.repeat(x, _padded(x, dims)),
    doc="np.tile", samples=lambda: [sample(normal(2, 3), [2]), sample(normal(2), [3, 2])],
)  # fmt: skip


@op("aten::repeat_interleave.self_int(Tensor self, SymInt repeats, int? dim=None, *, SymInt? output_size=None) -> Tensor")
class RepeatInterleaveInt:
    """Every element of a dimension (of the flattened tensor) several times in a row."""

    samples = staticmethod(lambda: [sample(normal(2, 3), 2, 1), sample(normal(2, 3), 3)])

    @staticmethod
    def infer(x: TensorInfo, repeats: Size, dim: int | None, output_size: Size | None) -> TensorInfo:
        if dim is None:
            total: Size = repeats
            for size in x.sizes:
                total = total * size
            return x.with_sizes([total])
        d = wrap(dim, x.rank)
        return x.with_sizes(s * repeats if n == d else s for n, s in enumerate(x.sizes))

    @staticmethod
    def reference(x: Array, repeats: int, dim: int | None, output_size: int | None) -> Array:
        return np.repeat(x, repeats, axis=dim)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, repeats: Size, dim: int | None, output_size: Size | None) -> Value:
        if dim is None:
            x, dim = b.flatten(x), 0
        d = wrap(dim, x.rank)
        wide = b.expand(b.unsqueeze(x, d + 1), [*x.sizes[: d + 1], repeats, *x.sizes[d + 1 :]])
        result: Value = b.view(wide, [s * repeats if n == d else s for n, s in enumerate(x.sizes)])
        return result


@op("aten::broadcast_tensors(Tensor[] tensors) -> Tensor[]")
class BroadcastTensors:
    """All tensors expanded to their common sizes."""

    samples = staticmethod(lambda: [sample([normal(2, 1), normal(3)])])

    @staticmethod
    def infer(tensors: Sequence[TensorInfo]) -> list[TensorInfo]:
        sizes = broadcast_sizes(*(t.sizes for t in tensors))
        return [t.with_sizes(sizes) for t in tensors]

    @staticmethod
    def reference(tensors: Sequence[Array]) -> list[Array]:
        return list(np.broadcast_arrays(*tensors))

    @staticmethod
    def expand(b: TorchBuilder, tensors: Sequence[Value]) -> list[Value]:
        sizes = list(broadcast_sizes(*(t.sizes for t in tensors)))
        return [b.expand(t, sizes) for t in tensors]


def _meshgrid(schema: str) -> None:
    def order(arguments: tuple[Any, ...]) -> bool:
        require(not arguments or arguments[0] in ("ij", "xy"), 'torch.meshgrid: indexing must be one of "xy" or "ij"')
        return bool(arguments) and arguments[0] == "xy"

    def place(number: int, swap: bool) -> int:
        return 1 - number if swap and number < 2 else number

    def sizes(tensors: Sequence[Any], swap: bool) -> list[Size]:
        result: list[Size] = [1] * len(tensors)
        for n, t in enumerate(tensors):
            result[place(n, swap and len(tensors) > 1)] = t.sizes[0] if t.rank else 1
        return result

    def infer(tensors: Sequence[TensorInfo], *arguments: Any) -> list[TensorInfo]:
        common = sizes(tensors, order(arguments))
        return [t.with_sizes(common) for t in tensors]

    def reference(tensors: Sequence[Array], *arguments: Any) -> list[Array]:
        return list(np.meshgrid(*tensors, indexing="xy" if order(arguments) else "ij"))

    def expand(b: TorchBuilder, tensors: Sequence[Value], *arguments: Any) -> list[Value]:
        swap = order(arguments) and len(tensors) > 1
        common = sizes(tensors, swap)
        narrow = [
            b.view(t, [t.sizes[0] if t.rank and d == place(n, swap) else 1 for d in range(len(tensors))])
            for n, t in enumerate(tensors)
        ]
        return [b.expand(t, common) for t in narrow]

    keywords: list[dict[str, Any]] = [{"indexing": "ij"}, {"indexing": "xy"}] if "indexing" in schema else [{}]
    declare(
        schema, infer=infer, reference=reference, expand=expand, doc="Coordinates of a grid.",
        samples=lambda: [sample([normal(2), normal(3)], **k) for k in keywords], source=f"{__name__} (aten::meshgrid)",
    )  # fmt: skip


_meshgrid("aten::meshgrid(Tensor[] tensors) -> Tensor[]")
_meshgrid("aten::meshgrid.indexing(Tensor[] tensors, *, str indexing) -> Tensor[]")


# ------ order


def _flip_lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, dims: Sequence[int]) -> Tensor:
    gone = {wrap(d, x.rank) for d in dims}
    if all(isinstance(x.sizes[d], int) for d in gone):
        read = [
            AffineExpr.constant(int(s) - 1) - AffineExpr.dimension(d) if d in gone and isinstance(s, int)
            else AffineExpr.dimension(d)
            for d, s in enumerate(x.sizes)
        ]  # fmt: skip
        return b.map_read(x, x.sizes, AffineMap(x.rank, 0, tuple(read)))
    lasts = {d: b.scalar(x.sizes[d] - 1, dtypes.int64) for d in gone}

    def body(at: Any, _: list[Scalar]) -> Scalar:
        places = [
            Scalar(lasts[d].value, dtypes.int64, at) - at.position(d) if d in gone else at.position(d)
            for d in range(x.rank)
        ]
        return at.gather(x, places)  # type: ignore[no-any-return]

    return b.pointwise(body, [], x.sizes, x.dtype)


declare(
    "aten::flip(Tensor self, int[] dims) -> Tensor", infer=lambda x, dims: x.with_sizes(x.sizes) if [wrap(d, x.rank) for d in dims] or not dims else x,  # noqa: E501
    reference=lambda x, dims: np.flip(x, tuple(dims)).copy(), lower=_flip_lower, doc="Dimensions in reverse order.",
    samples=lambda: [sample(normal(2, 3), [0]), sample(normal(2, 3), [0, -1]), sample(normal(0, 3), [1]), sample(normal(2), [])],
)  # fmt: skip
for _name, _dim in (("fliplr", 1), ("flipud", 0)):
    declare(
        f"aten::{_name}(Tensor self) -> Tensor", infer=lambda x: x, reference=lambda x, d=_dim: np.flip(x, d).copy(),
        expand=lambda b, x, d=_dim: b.flip(x, [d]), samples=lambda: [sample(normal(2, 3))], doc=f"np.{_name}",
        source=f"{__name__} (aten::{_name})",
    )  # fmt: skip


@op("aten::roll(Tensor self, SymInt[1] shifts, int[1] dims=[]) -> Tensor")
class Roll:
    """Elements shifted along dims; what leaves at one end enters at the other."""

    samples = staticmethod(
        lambda: [
            sample(normal(5, 2), [2], [0]), sample(normal(2, 3), [-1, 4], [0, 1]), sample(normal(2, 3), [4]), sample(normal(0), [1]),
        ]
    )  # fmt: skip

    @staticmethod
    def infer(x: TensorInfo, shifts: Sequence[Size], dims: Sequence[int]) -> TensorInfo:
        require(len(shifts) > 0, "`shifts` required")
        require(len(dims) == len(shifts) or (not dims and len(shifts) == 1), f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")  # noqa: E501  # fmt: skip
        return x

    @staticmethod
    def reference(x: Array, shifts: Sequence[int], dims: Sequence[int]) -> Array:
        if not dims:
            return np.roll(x, shifts[0])
        return np.roll(x, tuple(shifts), tuple(dims))

    @staticmethod
    def expand(b: TorchBuilder, x: Value, shifts: Sequence[Size], dims: Sequence[int]) -> Value:
        if not dims:
            flat = b.roll(b.flatten(x), shifts, [0])
            return b.view(flat, list(x.sizes))  # type: ignore[no-any-return]
        for shift, dim in zip(shifts, dims, strict=True):
            size = x.sizes[wrap(dim, x.rank)]
            if isinstance(size, int) and size == 0:
                return x
            first = -shift % size
            if first != 0:
                x = b.cat([b.slice(x, dim, first, None), b.slice(x, dim, 0, first)], dim)
        return x
