"""Parts of a tensor: select, slice, windows, diagonals, and what puts a part back.

Positions may be symbolic: where a bound check cannot be decided at compile time it is made at run time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from xdsl.ir.affine import AffineExpr, AffineMap

from stepwell.dialects import dtypes
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, RuntimeFault, Sample, TensorInfo, declare, op, sample, shape_text
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops.dimensions import along, differ, indexed, require, static, wrap
from stepwell.dialects.torch.ops.samples import normal
from stepwell.dialects.torch.scalar import Scalar
from stepwell.dialects.torch.sizes import Size, at_least, bounds, ceil_divide, maximum, minimum

# ------ positions


def from_start(index: Size, size: Size) -> Size:
    """An index that may count from the end, as one that counts from the start."""
    low, high = bounds(index)
    if low >= 0:
        return index
    if high < 0:
        return index + size
    # Its sign is only known at run time: size is added where max(-index, 0) is at least 1.
    return index + size * minimum(maximum(-index, 0), 1)


def slice_range(size: Size, start: Size | None, end: Size | None, step: Size) -> tuple[Size, Size]:
    """Where a slice starts and how many elements it has; both ends are clamped as in Python."""
    require(not isinstance(step, int) or step > 0, "slice step must be positive")
    first = 0 if start is None else minimum(maximum(from_start(start, size), 0), size)
    if end is None or (isinstance(end, int) and end >= (1 << 62)):
        last: Size = size
    else:
        last = minimum(maximum(from_start(end, size), 0), size)
    length = last - first
    if step != 1:
        length = ceil_divide(length, step)
    return first, maximum(length, 0)


def select_index(x: TensorInfo, dim: int, index: Size) -> tuple[int, Size]:
    """The dimension and the position of a select; RuntimeFault where it is certainly out of range."""
    require(x.rank > 0, "select() cannot be applied to a 0-dim tensor.", "IndexError")
    d = wrap(dim, x.rank)
    size = x.sizes[d]
    if isinstance(index, int) and isinstance(size, int) and not -size <= index < size:
        raise RuntimeFault(_out_of_range(x, d, index), "IndexError")
    return d, from_start(index, size)


def _out_of_range(x: TensorInfo, dim: int, index: Size) -> str:
    return f"select(): index {index} out of range for tensor of size {shape_text(x.sizes)} at dimension {dim}"


def check_index(b: LinalgBuilder, index: Size, size: Size, message: str) -> None:
    """An IndexError at run time unless 0 <= index < size; nothing where that is certain. `{}` shows the index."""
    if bounds(index)[0] >= 0 and at_least(size, index + 1):
        return
    position, limit = b.scalar(index, dtypes.int64), b.scalar(size, dtypes.int64)
    inside = position.compare("ge", 0) & position.compare("lt", limit)
    b.require(inside, "IndexError", message, *([position] if "{}" in message else []))


def _at(rank: int, dim: int, value: Any, otherwise: Any) -> list[Any]:
    return [value if d == dim else otherwise for d in range(rank)]


def _without(sizes: tuple[Size, ...], dim: int) -> tuple[Size, ...]:
    return (*sizes[:dim], *sizes[dim + 1 :])


def _check_part(src: TensorInfo, sizes: Sequence[Size]) -> None:
    """What is put into a place must have its sizes."""
    fits = len(sizes) == src.rank and not any(differ(a, b) for a, b in zip(sizes, src.sizes, strict=True))
    words = "expected src to have a size equal to the slice of self."
    require(fits, f"{words} src size = {shape_text(src.sizes)}, slice size = {shape_text(sizes)}")


# ------ select


@op("aten::select.int(Tensor(a) self, int dim, SymInt index) -> Tensor(a)")
class SelectInt:
    """One position of a dimension, which disappears."""

    samples = staticmethod(
        lambda: [sample(normal(2, 3), 0, 1), sample(normal(2, 3, 4), -1, -2), sample(normal(3), 0, 0)]
    )

    @staticmethod
    def infer(x: TensorInfo, dim: int, index: Size) -> TensorInfo:
        d, _ = select_index(x, dim, index)
        return x.with_sizes(_without(x.sizes, d))

    @staticmethod
    def reference(x: Array, dim: int, index: int) -> Array:
        if not -x.shape[dim] <= index < x.shape[dim]:
            raise IndexError(_out_of_range(TensorInfo(x.shape, dtypes.float32), dim, index))
        d = wrap(dim, x.ndim)
        # A basic slice keeps even zero-dimensional results views.
        return indexed(x, d, index)

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, dim: int, index: Size) -> Tensor:
        d, position = select_index(x.info, dim, index)
        text = _out_of_range(TensorInfo((), x.dtype), d, 0).replace("index 0", "index {}").replace("[]", "its sizes")
        check_index(b, position, x.sizes[d], text)
        one = b.slice(x, _at(x.rank, d, position, 0), _at_sizes(x.sizes, d, 1), [1] * x.rank)
        return b.reshape(one, out.sizes)

    @staticmethod
    def write(b: TorchBuilder, base: Value, value: Value, dim: int, index: Size) -> Value:
        result: Value = b.select_scatter(base, value, dim, index)
        return result


def _at_sizes(sizes: tuple[Size, ...], dim: int, size: Size) -> list[Size]:
    return [size if d == dim else s for d, s in enumerate(sizes)]


@op("aten::select_scatter(Tensor self, Tensor src, int dim, SymInt index) -> Tensor")
class SelectScatter:
    """self with src at one position of a dimension."""

    samples = staticmethod(lambda: [sample(normal(2, 3), normal(3), 0, 1), sample(normal(2, 3), normal(2), -1, -1)])

    @staticmethod
    def infer(x: TensorInfo, src: TensorInfo, dim: int, index: Size) -> TensorInfo:
        d, _ = select_index(x, dim, index)
        _check_part(src, _without(x.sizes, d))
        return x

    @staticmethod
    def reference(x: Array, src: Array, dim: int, index: int) -> Array:
        result = x.copy()
        result[along(wrap(dim, x.ndim), index)] = src
        return result

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, src: Tensor, dim: int, index: Size) -> Tensor:
        d, position = select_index(x.info, dim, index)
        check_index(b, position, x.sizes[d], "select_scatter(): index {} out of range")
        part = b.reshape(b.cast(src, x.dtype), _at_sizes(x.sizes, d, 1))
        return b.insert(part, x, _at(x.rank, d, position, 0))


# ------ slice


@op("aten::slice.Tensor(Tensor(a) self, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1) -> Tensor(a)")
class SliceTensor:
    """Every step-th element of a dimension from start up to end."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(normal(5, 3), 0, 1, 4)
        yield sample(normal(5, 3), 0, -3, None, 2)
        yield sample(normal(2, 5), -1, 3, 2)
        yield sample(normal(4), 0, -100, 100)
        yield sample(normal(2, 5), 1, 0, 9223372036854775807, 3)

    @staticmethod
    def infer(x: TensorInfo, dim: int, start: Size | None, end: Size | None, step: int) -> TensorInfo:
        require(x.rank > 0, "slice() cannot be applied to a 0-dim tensor.")
        d = wrap(dim, x.rank)
        return x.with_sizes(_at_sizes(x.sizes, d, slice_range(x.sizes[d], start, end, step)[1]))

    @staticmethod
    def reference(x: Array, dim: int, start: int | None, end: int | None, step: int) -> Array:
        return indexed(x, wrap(dim, x.ndim), slice(start, end, step))

    @staticmethod
    def lower(
        b: LinalgBuilder, out: TensorInfo, x: Tensor, dim: int, start: Size | None, end: Size | None, step: int
    ) -> Tensor:
        d = wrap(dim, x.rank)
        first, _ = slice_range(x.sizes[d], start, end, step)
        if out.sizes == x.sizes and step == 1:
            return x
        return b.slice(x, _at(x.rank, d, first, 0), out.sizes, _at(x.rank, d, step, 1))

    @staticmethod
    def write(b: TorchBuilder, base: Value, value: Value, dim: int, *where: Any) -> Value:
        result: Value = b.slice_scatter(base, value, dim, *where)
        return result


@op("aten::slice_scatter(Tensor self, Tensor src, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1) -> Tensor")
class SliceScatter:
    """self with src in the place of a slice."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(normal(5, 3), normal(3, 3), 0, 1, 4)
        yield sample(normal(2, 5), normal(2, 2), -1, 1, None, 2)
        yield sample(normal(4), normal(0), 0, 3, 1)

    @staticmethod
    def infer(x: TensorInfo, src: TensorInfo, dim: int, *where: Any) -> TensorInfo:
        _check_part(src, SliceTensor.infer(x, dim, *where).sizes)
        return x

    @staticmethod
    def reference(x: Array, src: Array, dim: int, *where: Any) -> Array:
        result = x.copy()
        SliceTensor.reference(result, dim, *where)[...] = src
        return result

    @staticmethod
    def lower(
        b: LinalgBuilder, out: TensorInfo, x: Tensor, src: Tensor, dim: int, start: Any, end: Any, step: int
    ) -> Tensor:
        d = wrap(dim, x.rank)
        first, length = slice_range(x.sizes[d], start, end, step)
        b.require_equal(src.sizes[d], length, "expected src to have a size equal to the slice of self")
        return b.insert(b.cast(src, x.dtype), x, _at(x.rank, d, first, 0), _at(x.rank, d, step, 1))


@op("aten::narrow(Tensor(a) self, int dim, SymInt start, SymInt length) -> Tensor(a)")
class Narrow:
    """`length` elements of a dimension from start on."""

    samples = staticmethod(lambda: [sample(normal(5, 3), 0, 1, 3), sample(normal(2, 5), -1, -2, 2)])

    @staticmethod
    def infer(x: TensorInfo, dim: int, start: Size, length: Size) -> TensorInfo:
        require(x.rank > 0, "narrow() cannot be applied to a 0-dim tensor.")
        d = wrap(dim, x.rank)
        size = x.sizes[d]
        if isinstance(start, int) and isinstance(length, int) and isinstance(size, int):
            require(length >= 0, "narrow(): length must be non-negative.")
            require(-size <= start <= size, f"start out of range (expected to be in range of [{-size}, {size}], but got {start})", "IndexError")  # noqa: E501  # fmt: skip
            first = start + size if start < 0 else start
            require(first + length <= size, f"start ({first}) + length ({length}) exceeds dimension size ({size}).")
        return x.with_sizes(_at_sizes(x.sizes, d, length))

    @staticmethod
    def reference(x: Array, dim: int, start: int, length: int) -> Array:
        d = wrap(dim, x.ndim)
        first = start + x.shape[d] if start < 0 else start
        if first + length > x.shape[d]:
            raise RuntimeError(f"start ({first}) + length ({length}) exceeds dimension size ({x.shape[d]}).")
        return indexed(x, d, slice(first, first + length))

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, dim: int, start: Size, length: Size) -> Tensor:
        d = wrap(dim, x.rank)
        first = from_start(start, x.sizes[d])
        if not (bounds(first)[0] >= 0 and bounds(length)[0] >= 0 and at_least(x.sizes[d], first + length)):
            p, n, size = (b.scalar(v, dtypes.int64) for v in (first, length, x.sizes[d]))
            inside = p.compare("ge", 0) & n.compare("ge", 0) & (p + n).compare("le", size)
            b.require(inside, "RuntimeError", "start ({}) + length ({}) exceeds dimension size ({}).", p, n, size)
        return b.slice(x, _at(x.rank, d, first, 0), out.sizes, [1] * x.rank)

    @staticmethod
    def write(b: TorchBuilder, base: Value, value: Value, dim: int, start: Size, length: Size) -> Value:
        first = from_start(start, base.sizes[wrap(dim, base.rank)])
        result: Value = b.slice_scatter(base, value, dim, first, first + length)
        return result


# ------ windows and diagonals


@op("aten::unfold(Tensor(a) self, int dimension, int size, int step) -> Tensor(a)")
class Unfold:
    """All windows of a dimension, every step-th; a window's elements are a new last dimension."""

    samples = staticmethod(lambda: [sample(normal(2, 7), 1, 3, 2), sample(normal(5, 2), 0, 5, 1), sample(normal(4), -1, 2, 2)])

    @staticmethod
    def infer(x: TensorInfo, dim: int, size: Size, step: int) -> TensorInfo:
        d = wrap(dim, x.rank)
        own = x.sizes[d] if x.sizes else 1
        if isinstance(own, int) and isinstance(size, int):
            require(size <= own, f"maximum size for tensor at dimension {d} is {own} but size is {size}")
        require(not isinstance(step, int) or step > 0, f"step is {step} but must be > 0")
        return x.with_sizes([*_at_sizes(x.sizes, d, (own - size) // step + 1), size])

    @staticmethod
    def reference(x: Array, dim: int, size: int, step: int) -> Array:
        d = wrap(dim, x.ndim)
        windows = sliding_window_view(x, size, axis=d, writeable=x.flags.writeable)
        return indexed(windows, d, slice(None, None, step))

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, dim: int, size: Size, step: int) -> Tensor:
        d = wrap(dim, x.rank)
        dims = [AffineExpr.dimension(n) for n in range(out.rank)]
        read = [dims[n] * step + dims[-1] if n == d else dims[n] for n in range(x.rank)]
        return b.map_read(x, out.sizes, AffineMap(out.rank, 0, tuple(read)))


def _diagonal_length(rows: Size, columns: Size, offset: int) -> Size:
    if offset >= 0:
        return maximum(minimum(rows, columns - offset), 0)
    return maximum(minimum(rows + offset, columns), 0)


@op("aten::diagonal(Tensor(a) self, int offset=0, int dim1=0, int dim2=1) -> Tensor(a)")
class Diagonal:
    """The diagonal of two dimensions, as the last dimension of the result."""

    samples = staticmethod(
        lambda: [sample(normal(3, 4)), sample(normal(3, 4), 1), sample(normal(2, 3, 4), -1, -2, -1), sample(normal(2, 2), 5)]
    )

    @staticmethod
    def infer(x: TensorInfo, offset: int, dim1: int, dim2: int) -> TensorInfo:
        p, q = wrap(dim1, x.rank), wrap(dim2, x.rank)
        require(p != q, f"diagonal dimensions cannot be identical {dim1}, {dim2}")
        rest = [s for d, s in enumerate(x.sizes) if d not in (p, q)]
        return x.with_sizes([*rest, _diagonal_length(x.sizes[p], x.sizes[q], offset)])

    @staticmethod
    def reference(x: Array, offset: int, dim1: int, dim2: int) -> Array:
        result = np.diagonal(x, offset, dim1, dim2)
        result.flags.writeable = x.flags.writeable
        return result

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, offset: int, dim1: int, dim2: int) -> Tensor:
        p, q = wrap(dim1, x.rank), wrap(dim2, x.rank)
        # The square around the diagonal first: a map reads the whole of what it reads.
        starts = [minimum({p: -min(offset, 0), q: max(offset, 0)}.get(d, 0), s) for d, s in enumerate(x.sizes)]
        sizes = [out.sizes[-1] if d in (p, q) else s for d, s in enumerate(x.sizes)]
        if out.sizes[-1] == 0:
            return b.fill(0, out.sizes, out.dtype)
        x = b.slice(x, starts, sizes, [1] * x.rank)
        rest = iter(range(out.rank - 1))
        last = AffineExpr.dimension(out.rank - 1)
        read = [last if d in (p, q) else AffineExpr.dimension(next(rest)) for d in range(x.rank)]
        return b.map_read(x, out.sizes, AffineMap(out.rank, 0, tuple(read)))

    @staticmethod
    def write(b: TorchBuilder, base: Value, value: Value, *where: int) -> Value:
        result: Value = b.diagonal_scatter(base, value, *where)
        return result


@op("aten::diagonal_scatter(Tensor self, Tensor src, int offset=0, int dim1=0, int dim2=1) -> Tensor")
class DiagonalScatter:
    """self with src on a diagonal."""

    samples = staticmethod(
        lambda: [sample(normal(3, 4), normal(3)), sample(normal(2, 3, 4), normal(2, 2), -1, -2, -1)]
    )

    @staticmethod
    def infer(x: TensorInfo, src: TensorInfo, *where: int) -> TensorInfo:
        _check_part(src, Diagonal.infer(x, *where).sizes)
        return x

    @staticmethod
    def reference(x: Array, src: Array, *where: int) -> Array:
        result = x.copy()
        Diagonal.reference(result, *where)[...] = src
        return result

    @staticmethod
    def lower(
        b: LinalgBuilder, out: TensorInfo, x: Tensor, src: Tensor, offset: int, dim1: int, dim2: int
    ) -> Tensor:
        p, q = wrap(dim1, x.rank), wrap(dim2, x.rank)
        rest = [d for d in range(x.rank) if d not in (p, q)]
        length = b.scalar(src.sizes[-1], dtypes.int64)

        def body(at: Any, elements: list[Scalar]) -> Scalar:
            row, column = at.position(p), at.position(q)
            step = row + min(offset, 0)
            inside = column.compare("eq", step + max(offset, 0)) & step.compare("ge", 0)
            inside = inside & step.compare("lt", Scalar(length.value, dtypes.int64, at))
            place = inside.select(step, step.lift(0))
            new = at.gather(src, [*(at.position(d) for d in rest), place])
            result: Scalar = inside.select(new, elements[0])
            return result

        if src.sizes[-1] == 0:
            return x
        return b.pointwise(body, [x], x.sizes, x.dtype)


declare(
    "aten::diag(Tensor self, int diagonal=0) -> Tensor",
    infer=lambda x, k: x.with_sizes([x.sizes[0] + abs(k)] * 2) if x.rank == 1 else Diagonal.infer(x, k, 0, 1),
    reference=lambda x, k: np.diag(x, k).copy(),
    expand=lambda b, x, k: b.diag_embed(x, k) if x.rank == 1 else b.diagonal(x, k),
    samples=lambda: [sample(normal(3)), sample(normal(3, 4), -1), sample(normal(2), 1)],
    doc="A matrix's diagonal, or the matrix with that diagonal.",
)  # fmt: skip


@op("aten::diag_embed(Tensor self, int offset=0, int dim1=-2, int dim2=-1) -> Tensor")
class DiagEmbed:
    """Matrices with the last dimension on a diagonal, 0 elsewhere."""

    samples = staticmethod(lambda: [sample(normal(2, 3)), sample(normal(3), 1), sample(normal(2, 3), -1, 0, 2)])

    @staticmethod
    def infer(x: TensorInfo, offset: int, dim1: int, dim2: int) -> TensorInfo:
        p, q = wrap(dim1, x.rank + 1), wrap(dim2, x.rank + 1)
        rest = iter(x.sizes[:-1])
        side = x.sizes[-1] + abs(offset)
        return x.with_sizes([side if d in (p, q) else next(rest) for d in range(x.rank + 1)])

    @staticmethod
    def reference(x: Array, *where: int) -> Array:
        info = TensorInfo(tuple(x.shape), dtypes.float32)
        result = np.zeros(static(DiagEmbed.infer(info, *where).sizes), x.dtype)
        Diagonal.reference(result, *where)[...] = x
        return result

    @staticmethod
    def expand(b: TorchBuilder, x: Value, *where: int) -> Value:
        sizes = list(DiagEmbed.infer(x.tensor, *where).sizes)
        result: Value = b.diagonal_scatter(b.zeros(sizes, dtype=x.dtype), x, *where)
        return result
