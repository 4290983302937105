"""Reading at positions that tensors hold: index, gather, embedding, nonzero.

Reads are linalg.generic with a gather; positions are checked once before, over the whole index tensor. How many
elements a mask selects is a fresh symbolic size, which the lowering binds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, RuntimeFault, Sample, TensorInfo, declare, op, sample, shape_text
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor
from stepwell.dialects.torch.ops.dimensions import broadcast_sizes, differ, require, wrap
from stepwell.dialects.torch.ops.samples import integers, normal
from stepwell.dialects.torch.scalar import Scalar, infinity
from stepwell.dialects.torch.sizes import Dim, Size, Symbol, product

# ------ positions


def check_all(b: LinalgBuilder, index: Tensor, low: Size, high: Size, exception: str, message: str) -> None:
    """Raise at run time unless low <= element < high everywhere; `{}` in the message shows an element out of range."""
    wide = b.cast(index, dtypes.int64)
    dims = range(index.rank)
    least = b.element(b.reduce(lambda a, e: a.minimum(e), infinity(dtypes.int64), wide, dims))
    most = b.element(b.reduce(lambda a, e: a.maximum(e), infinity(dtypes.int64, -1), wide, dims))
    first, last = b.scalar(low, dtypes.int64), b.scalar(high, dtypes.int64)
    enough = least.compare("ge", first)
    shown = [enough.select(most, least)] if "{}" in message else []
    b.require(enough & most.compare("lt", last), exception, message, *shown)


def _indices(x: TensorInfo) -> None:
    require(
        x.dtype in (dtypes.int64, dtypes.int32, dtypes.uint8, dtypes.int8, dtypes.int16),
        "tensors used as indices must be long, int, byte or bool tensors",
        "IndexError",
    )


def checked_indices(index: Array, size: int, low: int, exception: type[Exception], message: str) -> Array:
    index = index.astype(np.int64)
    wrong = index[(index < low) | (index >= size)]
    if wrong.size:
        raise exception(message.format(int(wrong.reshape(-1)[0])))
    return index


def _at(value: Scalar, at: Any) -> Scalar:
    """A scalar of the host program inside a body."""
    return Scalar(value.value, value.dtype, at)


# ------ one index tensor for one dimension


def _selected(x: TensorInfo, dim: int, index: TensorInfo) -> tuple[Size, ...]:
    require(index.rank <= 1, "index_select(): Index is supposed to be a vector", "IndexError")
    if x.rank == 0:
        return ()
    d = wrap(dim, x.rank)
    return (*x.sizes[:d], index.sizes[0] if index.rank else 1, *x.sizes[d + 1 :])


@op("aten::index_select(Tensor self, int dim, Tensor index) -> Tensor")
class IndexSelect:
    """The named positions of a dimension, in the index's order."""

    samples = staticmethod(
        lambda: [
            sample(normal(3, 4), 0, np.array([2, 0, 2])), sample(normal(3, 4), -1, np.array([1], np.int32)),
            sample(normal(3, 4), 1, np.zeros((0,), np.int64)), sample(normal(3), 0, np.array(1)),
        ]
    )  # fmt: skip

    @staticmethod
    def infer(x: TensorInfo, dim: int, index: TensorInfo) -> TensorInfo:
        require(index.dtype in (dtypes.int64, dtypes.int32), "index_select(): Expected dtype int32 or int64 for index")
        return x.with_sizes(_selected(x, dim, index))

    @staticmethod
    def reference(x: Array, dim: int, index: Array) -> Array:
        index = checked_indices(index.reshape(-1), x.shape[dim] if x.ndim else 1, 0, IndexError, "index out of range in self")
        return np.take(x, index, axis=dim) if x.ndim else x.copy()

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, dim: int, index: Tensor) -> Tensor:
        if x.rank == 0:
            return x
        d = wrap(dim, x.rank)
        check_all(b, index, 0, x.sizes[d], "IndexError", "index out of range in self")
        flat = b.reshape(index, [out.sizes[d]])
        spread = b.reshape(flat, [out.sizes[d] if n == d else 1 for n in range(x.rank)])

        def body(at: Any, elements: list[Scalar]) -> Scalar:
            chosen = elements[0].cast(dtypes.int64)
            return at.gather(x, [chosen if n == d else at.position(n) for n in range(x.rank)])  # type: ignore[no-any-return]

        return b.pointwise(body, [spread], out.sizes, out.dtype)


@op("aten::embedding(Tensor weight, Tensor indices, SymInt padding_idx=-1, bool scale_grad_by_freq=False, bool sparse=False) -> Tensor")
class Embedding:
    """A row of the weight for every index."""

    samples = staticmethod(
        lambda: [
            sample(normal(5, 3), np.array([[0, 4], [2, 2]])), sample(normal(5, 3), np.array(1, np.int32)),
            sample(normal(5, 3), np.zeros((0, 2), np.int64)),
        ]
    )  # fmt: skip

    @staticmethod
    def infer(weight: TensorInfo, index: TensorInfo, *_: Any) -> TensorInfo:
        require(weight.rank == 2, "'weight' must be 2-D")
        require(index.dtype in (dtypes.int64, dtypes.int32), f"Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got torch.{index.dtype.title}Tensor instead (while checking arguments for embedding)")  # noqa: E501  # fmt: skip
        return weight.with_sizes((*index.sizes, weight.sizes[1]))

    @staticmethod
    def reference(weight: Array, index: Array, *_: Any) -> Array:
        return weight[checked_indices(index, weight.shape[0], 0, IndexError, "index out of range in self")]

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, weight: Tensor, index: Tensor, *_: Any) -> Tensor:
        check_all(b, index, 0, weight.sizes[0], "IndexError", "index out of range in self")
        spread = b.reshape(index, [*index.sizes, 1])

        def body(at: Any, elements: list[Scalar]) -> Scalar:
            return at.gather(weight, [elements[0].cast(dtypes.int64), at.position(out.rank - 1)])  # type: ignore[no-any-return]

        return b.pointwise(body, [spread], out.sizes, out.dtype)


# ------ gather: an index of self's rank


def gather_check(name: str, x: TensorInfo, dim: int, index: TensorInfo) -> int:
    d = wrap(dim, x.rank)
    require(index.dtype in (dtypes.int64, dtypes.int32), f"{name}(): Expected dtype int32/int64 for index")
    same = max(x.rank, 1) == max(index.rank, 1)
    require(same, f"Index tensor must have the same number of dimensions as {'input' if name == 'gather' else 'self'} tensor")
    for n in range(min(x.rank, index.rank)):
        a, i = x.sizes[n], index.sizes[n]
        if n != d and isinstance(a, int) and isinstance(i, int):
            require(i <= a, f"Size does not match at dimension {n} expected index {shape_text(index.sizes)} to be no larger than self {shape_text(x.sizes)} apart from dimension {d}")  # noqa: E501  # fmt: skip
    return d


@op("aten::gather(Tensor self, int dim, Tensor index, *, bool sparse_grad=False) -> Tensor")
class Gather:
    """out[i][j][k] = self[i][index[i][j][k]][k] for dim 1."""

    samples = staticmethod(
        lambda: [
            sample(normal(3, 4), 1, integers(3, 2, low=0, high=4)), sample(normal(3, 4), 0, integers(2, 4, low=0, high=3)),
            sample(normal(3), -1, np.array([2, 0, 1, 1])), sample(normal(3, 4), 1, np.zeros((3, 0), np.int64)),
        ]
    )  # fmt: skip

    @staticmethod
    def infer(x: TensorInfo, dim: int, index: TensorInfo, _: Any) -> TensorInfo:
        gather_check("gather", x, dim, index)
        return x.with_sizes(index.sizes)

    @staticmethod
    def reference(x: Array, dim: int, index: Array, _: Any) -> Array:
        if x.ndim == 0 or index.ndim == 0:
            return np.broadcast_to(x.reshape(-1)[0], index.shape).copy()
        message = f"index {{}} is out of bounds for dimension {wrap(dim, x.ndim)} with size {x.shape[dim]}"
        index = checked_indices(index, x.shape[dim], 0, RuntimeError, message)
        part = x[tuple(slice(None) if n == wrap(dim, x.ndim) else slice(0, s) for n, s in enumerate(index.shape))]
        return np.take_along_axis(part, index, dim)

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, dim: int, index: Tensor, _: Any) -> Tensor:
        d = wrap(dim, x.rank)
        if x.rank == 0:
            return b.expand(x, out.sizes)
        text = f"index {{}} is out of bounds for dimension {d} with size {x.sizes[d]}"
        check_all(b, index, 0, x.sizes[d], "RuntimeError", text)

        def body(at: Any, elements: list[Scalar]) -> Scalar:
            chosen = elements[0].cast(dtypes.int64)
            return at.gather(x, [chosen if n == d else at.position(n) for n in range(x.rank)])  # type: ignore[no-any-return]

        source = index if index.rank else b.reshape(index, [1])
        sizes = out.sizes if index.rank else (1,)
        return b.reshape(b.pointwise(body, [source], sizes, out.dtype), out.sizes)


@op("aten::take_along_dim(Tensor self, Tensor indices, int? dim=None) -> Tensor")
class TakeAlongDim:
    """gather, after broadcasting the other dimensions; of the flattened tensor without dim."""

    samples = staticmethod(
        lambda: [sample(normal(3, 4), integers(3, 1, low=0, high=4), 1), sample(normal(2, 2), np.array([3, 0]))]
    )

    @staticmethod
    def shapes(x: TensorInfo, index: TensorInfo, dim: int) -> tuple[list[Size], list[Size]]:
        d = wrap(dim, x.rank)
        rest = broadcast_sizes(_with(x.sizes, d, 1), _with(index.sizes, d, 1))
        return list(_with(rest, d, x.sizes[d])), list(_with(rest, d, index.sizes[d]))

    @staticmethod
    def infer(x: TensorInfo, index: TensorInfo, dim: int | None) -> TensorInfo:
        if dim is None:
            return x.with_sizes([product(index.sizes)])
        return x.with_sizes(TakeAlongDim.shapes(x, index, dim)[1])

    @staticmethod
    def reference(x: Array, index: Array, dim: int | None) -> Array:
        return np.take_along_axis(x, index.astype(np.int64), dim) if dim is not None else x.reshape(-1)[index.reshape(-1)]

    @staticmethod
    def expand(b: TorchBuilder, x: Value, index: Value, dim: int | None) -> Value:
        if dim is None:
            return b.gather(b.flatten(x), 0, b.flatten(index))  # type: ignore[no-any-return]
        shape, index_shape = TakeAlongDim.shapes(x.tensor, index.tensor, dim)
        result: Value = b.gather(b.expand(x, shape), dim, b.expand(index, index_shape))
        return result


def _with(sizes: Sequence[Size], dim: int, size: Size) -> tuple[Size, ...]:
    return (*sizes[:dim], size, *sizes[dim + 1 :])


@op("aten::take(Tensor self, Tensor index) -> Tensor")
class Take:
    """The flattened tensor at the index's positions, which may count from the end."""

    samples = staticmethod(lambda: [sample(normal(3, 4), np.array([[0, 11], [-1, 5]])), sample(normal(2), np.array(1))])

    @staticmethod
    def infer(x: TensorInfo, index: TensorInfo) -> TensorInfo:
        require(index.dtype == dtypes.int64, f"take(): Expected a long tensor for index, but got {index.dtype.title}")
        return x.with_sizes(index.sizes)

    @staticmethod
    def reference(x: Array, index: Array) -> Array:
        message = f"out of range: tried to access index {{}} on a tensor of {x.size} elements."
        return x.reshape(-1)[checked_indices(index, x.size, -x.size, IndexError, message)]

    @staticmethod
    def expand(b: TorchBuilder, x: Value, index: Value) -> Value:
        result: Value = b.index(b.flatten(x), [index])
        return result


# ------ nonzero


def fresh_size(total: Size) -> Size:
    """The number of selected elements, known at run time only."""
    return Dim.of(Symbol("n", 0, total))


def positions_of(b: LinalgBuilder, mask: Tensor, count: Size) -> list[Tensor]:
    """The coordinates of the elements that are not zero, one vector for each dimension; binds `count`.

    Goes through the elements once, writing every position where the next found one goes.
    """
    total = product(mask.sizes)
    flat = b.cast(b.reshape(mask, [total]), dtypes.bool_)
    found = b.reduce(lambda a, e: a + e, 0, flat, [0], dtype=dtypes.int64)
    symbol = count.terms[0][0][0] if isinstance(count, Dim) else None
    assert isinstance(symbol, Symbol)
    b.define(symbol, b.to_index(b.element(found)))
    room = b.fill(0, [count + 1], dtypes.int64)

    def step(inner: LinalgBuilder, k: Dim, carried: list[Any]) -> list[Any]:
        places, cursor = carried
        one = inner.from_scalars([inner.scalar(k, dtypes.int64)], [1], dtypes.int64)
        places = inner.insert(one, places, [inner.symbol_of("next", cursor.value)])
        return [places, cursor + inner.element(flat, [k]).cast(dtypes.int64)]

    places = b.loop(total, [room, b.scalar(0, dtypes.int64)], step)[0]
    places = b.slice(places, [0], [count], [1])
    sizes = [b.scalar(s, dtypes.int64) for s in mask.sizes]

    def coordinate(d: int) -> Callable[[Any, list[Scalar]], Scalar]:
        def body(at: Any, elements: list[Scalar]) -> Scalar:
            value = elements[0]
            for n in reversed(range(d + 1, mask.rank)):
                value = value.truncated_divide(_at(sizes[n], at).maximum(1))
            return value.truncated_remainder(_at(sizes[d], at).maximum(1)) if d else value

        return body

    if mask.rank == 1:
        return [places]
    return [b.pointwise(coordinate(d), [places], [count], dtypes.int64) for d in range(mask.rank)]


def _nonzero_samples() -> list[Sample]:
    return [
        sample(np.array([[1, 0, 2], [0, 3, 0]])), sample(normal(3, 4) > 0), sample(np.array([0.0, 1.5, np.nan])), sample(np.zeros((2, 2))),
        sample(np.ones((3,), bool)), sample(np.zeros((0,), np.float32)),
    ]  # fmt: skip


def _columns_info(x: TensorInfo) -> list[TensorInfo]:
    count = fresh_size(product(x.sizes))
    return [TensorInfo((count,), dtypes.int64)] * max(x.rank, 1)


def _nonzero_lower(b: LinalgBuilder, out: TensorInfo, x: Tensor) -> Tensor:
    if x.rank == 0:
        raise UnsupportedError("aten::nonzero of a zero-dimensional tensor")
    columns = positions_of(b, x, out.sizes[0])
    return b.concatenate([b.reshape(c, [out.sizes[0], 1]) for c in columns], 1) if x.rank > 1 else b.reshape(columns[0], out.sizes)


for _schema in ("aten::nonzero(Tensor self) -> Tensor", "aten::argwhere(Tensor self) -> Tensor"):
    declare(
        _schema, infer=lambda x: TensorInfo((fresh_size(product(x.sizes)), x.rank), dtypes.int64),
        reference=lambda x: np.argwhere(x).astype(np.int64), lower=_nonzero_lower, samples=_nonzero_samples,
        doc="The coordinates of all elements that are not zero, a row for each.", source=f"{__name__} ({_schema.partition('(')[0]})",
    )  # fmt: skip
for _schema in ("aten::nonzero_numpy(Tensor self) -> Tensor[]", "aten::where(Tensor condition) -> Tensor[]"):
    declare(
        _schema, infer=_columns_info, reference=lambda x: [c.astype(np.int64) for c in np.nonzero(x)],
        lower=lambda b, out, x: positions_of(b, x, out[0].sizes[0]), samples=_nonzero_samples,
        doc="The coordinates of all elements that are not zero, a vector for each dimension.",
        source=f"{__name__} ({_schema.partition('(')[0]})",
    )  # fmt: skip


# ------ index: any number of index tensors, with gaps


class Plan:
    """What x[indices] means: which dimensions are indexed by what, and where the indexed part goes."""

    def __init__(self, x: TensorInfo, indices: Sequence[TensorInfo | None]) -> None:
        self.masks = [i for i in indices if i is not None and _is_mask(i)]
        if len(self.masks) > 1:
            raise UnsupportedError("indexing with several masks at once")
        self.count = fresh_size(product(self.masks[0].sizes)) if self.masks else None
        self.dims: list[int] = []
        shapes: list[Sequence[Size]] = []
        dim = 0
        for index in indices:
            width = index.rank if index is not None and _is_mask(index) else 1
            if index is not None:
                self._add(x, dim, index, width, shapes)
            dim += width
        require(dim <= x.rank, f"too many indices for tensor of dimension {x.rank}", "IndexError")
        self.block = broadcast_sizes(*shapes)
        together = self.dims == list(range(self.dims[0], self.dims[-1] + 1)) if self.dims else True
        self.start = self.dims[0] if together and self.dims else 0
        self.rest = [d for d in range(x.rank) if d not in self.dims]
        before = [x.sizes[d] for d in self.rest[: self.start]]
        self.sizes = (*before, *self.block, *(x.sizes[d] for d in self.rest[self.start :]))

    def _add(self, x: TensorInfo, dim: int, index: TensorInfo, width: int, shapes: list[Sequence[Size]]) -> None:
        require(dim + width <= x.rank, f"too many indices for tensor of dimension {x.rank}", "IndexError")
        self.dims += range(dim, dim + width)
        if not _is_mask(index):
            _indices(index)
            shapes.append(index.sizes)
            return
        for n, size in enumerate(index.sizes):
            if differ(size, x.sizes[dim + n]):
                raise RuntimeFault(
                    f"The shape of the mask {shape_text(index.sizes)} at index {n} does not match the shape of the indexed "
                    f"tensor {shape_text(x.sizes)} at index {dim + n}", "IndexError",
                )  # fmt: skip
        assert self.count is not None
        shapes.extend([[self.count]] * width)

    def coordinates(self, positions: Sequence[Any], chosen: Sequence[Any]) -> list[Any]:
        """Where in x the element at `positions` of the result comes from; chosen: one for each indexed dimension."""
        width = len(self.block)
        plain = iter([*positions[: self.start], *positions[self.start + width :]])
        return [
            chosen[self.dims.index(d)] if d in self.dims else next(plain) for d in range(len(self.dims) + len(self.rest))
        ]


def _is_mask(index: TensorInfo) -> bool:
    return index.dtype in (dtypes.bool_, dtypes.uint8)


def numpy_indices(x: Array, indices: Sequence[Array | None]) -> tuple[Any, ...]:
    """numpy's own indexing has torch's rules, but that a gap always separates; masks of uint8 are masks."""
    return tuple(slice(None) if i is None else i.astype(bool) if i.dtype == np.uint8 else i for i in indices)


def _index_reference(x: Array, indices: Sequence[Array | None]) -> Array:
    try:
        return np.asarray(x[numpy_indices(x, indices)]).copy()
    except IndexError as error:
        raise IndexError(str(error).replace("axis", "dimension")) from None


def chosen_positions(b: LinalgBuilder, x: Tensor, plan: Plan, indices: Sequence[Tensor | None], count: Size | None) -> list[Tensor]:
    """An index tensor for each indexed dimension, checked; masks become positions."""
    result: list[Tensor] = []
    for index in indices:
        if index is None:
            continue
        if _is_mask(index.info):
            assert count is not None
            result += positions_of(b, index, count)
            continue
        d = plan.dims[len(result)]
        size = x.sizes[d]
        check_all(b, index, -size, size, "IndexError", f"index {{}} is out of bounds for dimension {d} with size {size}")
        result.append(index)
    return result


def _mask_count(plan: Plan, out: Sequence[Size]) -> Size | None:
    """The symbol that the shape rule made for the number of selected elements, found in the result's sizes."""
    return out[plan.start] if plan.masks else None


def wrapped(index: Scalar, size: Scalar) -> Scalar:
    wide = index.cast(dtypes.int64)
    return wide.compare("lt", 0).select(wide + size, wide) if index.dtype.is_signed else wide


def _index_lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    plan = Plan(x.info, [None if i is None else i.info for i in indices])
    chosen = chosen_positions(b, x, plan, indices, _mask_count(plan, out.sizes))
    sizes = [b.scalar(x.sizes[d], dtypes.int64) for d in plan.dims]
    # Every index tensor with the result's rank: size 1 outside the indexed block.
    after = len(plan.rest) - plan.start
    spread = [
        b.reshape(i, [*[1] * (plan.start + len(plan.block) - i.rank), *i.sizes, *[1] * after]) for i in chosen
    ]

    def body(at: Any, elements: list[Scalar]) -> Scalar:
        places = [wrapped(e, _at(s, at)) for e, s in zip(elements, sizes, strict=False)]
        positions = [at.position(n) for n in range(out.rank)]
        return at.gather(x, plan.coordinates(positions, places))  # type: ignore[no-any-return]

    return b.pointwise(body, spread, out.sizes, out.dtype)


def _index_samples(gaps: bool, masks: bool) -> Callable[[], Iterator[Sample]]:
    def make() -> Iterator[Sample]:
        x = normal(3, 4, 5)
        yield sample(x, [np.array([0, 2, -1])])
        yield sample(x, [np.array([[0], [2]]), np.array([1, -1])])
        yield sample(normal(4), [np.zeros((0,), np.int64)])
        if masks:
            yield sample(x, [normal(3, 4) > 0])
            yield sample(normal(5), [normal(5) > 0])
        if gaps:
            yield sample(x, [None, np.array([0, 2])])
            yield sample(x, [np.array([0, 2]), None, np.array([1, 1])])
        if gaps and masks:
            yield sample(x, [None, normal(4) > 0])

    return make


for _schema in (
    "aten::index.Tensor(Tensor self, Tensor?[] indices) -> Tensor",
    "aten::_unsafe_index.Tensor(Tensor self, Tensor?[] indices) -> Tensor",
    "aten::index.Tensor_hacked_twin(Tensor self, Tensor[] indices) -> Tensor",
):
    declare(
        _schema, infer=lambda x, indices: x.with_sizes(Plan(x, indices).sizes), reference=_index_reference,
        lower=_index_lower, samples=_index_samples("?[]" in _schema, "unsafe" not in _schema),
        doc="The elements at the positions that index tensors (of ints, or a mask) name, as numpy's.",
        source=f"{__name__} ({_schema.partition('(')[0]})",
    )  # fmt: skip


@op("aten::masked_select(Tensor self, Tensor mask) -> Tensor")
class MaskedSelect:
    """The elements where the mask holds, as a vector."""

    samples = staticmethod(lambda: [sample(normal(2, 3), normal(2, 3) > 0), sample(normal(2, 3), normal(3) > 0)])

    @staticmethod
    def infer(x: TensorInfo, mask: TensorInfo) -> TensorInfo:
        require(mask.dtype == dtypes.bool_, f"masked_select: expected BoolTensor for mask, but got {mask.dtype.title}")
        return x.with_sizes([fresh_size(product(broadcast_sizes(x.sizes, mask.sizes)))])

    @staticmethod
    def reference(x: Array, mask: Array) -> Array:
        x, mask = np.broadcast_arrays(x, mask)
        return np.asarray(x[mask])

    @staticmethod
    def expand(b: TorchBuilder, x: Value, mask: Value) -> Value:
        x, mask = b.broadcast_tensors([x, mask])
        result: Value = b.index(b.flatten(x), [b.flatten(mask)])
        return result
