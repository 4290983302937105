"""Builds linalg on tensors: what the `lower` rules of op declarations are written with.

A `Tensor` is an SSA value with its sizes (ints or symbolic, as shape rules compute them) and dtype. Symbolic
sizes become `index` values only where an operation needs them, once per region.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AffineMapAttr,
    ArrayAttr,
    BytesAttr,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    IntegerAttr,
    LocationAttr,
    StringAttr,
    TensorType,
    i32,
    i64,
)
from xdsl.dialects.linalg import attrs as linalg_attrs
from xdsl.dialects.linalg import ops as linalg_ops
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from stepwell.dialects import dtypes, host, quick_ir
from stepwell.dialects.dtypes import DType
from stepwell.dialects.quick_ir import make, segments
from stepwell.dialects.torch.declare import TensorInfo
from stepwell.dialects.torch.scalar import INDEX, Emitter, Scalar, compute_dtype, constant
from stepwell.dialects.torch.sizes import Call, Dim, Size, Symbol, product
from stepwell.dialects.upstream import core

PARALLEL = linalg_attrs.IteratorTypeAttr.parallel()
REDUCTION = linalg_attrs.IteratorTypeAttr.reduction()

Body = Callable[..., Scalar]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor value at the linalg level; its builtin type follows from sizes and dtype."""

    value: SSAValue
    sizes: tuple[Size, ...]
    dtype: DType

    @property
    def rank(self) -> int:
        return len(self.sizes)

    @property
    def info(self) -> TensorInfo:
        return TensorInfo(self.sizes, self.dtype)


def tensor_type(sizes: Sequence[Size], dtype: DType) -> TensorType[Any]:
    """tensor<2x?xf32>: symbolic sizes print as `?`."""
    return quick_ir.tensor_type(dtype.builtin, tuple([s if isinstance(s, int) else DYNAMIC_INDEX for s in sizes]))


class LinalgBuilder(Emitter):
    """An Emitter for tensors; `define` gives symbols their index values, regions nest by `child`."""

    def __init__(self, block: Block, location: LocationAttr | None = None, parent: LinalgBuilder | None = None) -> None:
        super().__init__(block, location)
        self.parent = parent
        self._dims: dict[Dim | Symbol | Call, SSAValue] = {}
        self._lazy: dict[Any, tuple[SSAValue, int]] = {}

    def child(self, block: Block) -> LinalgBuilder:
        """A builder for a nested block; it sees the sizes that this one has computed."""
        return LinalgBuilder(block, self.location, self)

    # ------ sizes

    def define(self, symbol: Symbol, value: SSAValue) -> None:
        """Bind a symbol to its index value."""
        self._dims[symbol] = value

    def define_lazily(self, symbol: Symbol, value: SSAValue, dim: int) -> None:
        """Bind a symbol to a dimension of a tensor, read only where the symbol is needed."""
        self._lazy[symbol] = (value, dim)

    def _known(self, key: Dim | Symbol | Call) -> SSAValue | None:
        builder: LinalgBuilder | None = self
        while builder is not None:
            if key in builder._dims:
                return builder._dims[key]
            if key in builder._lazy:
                value, dim = builder._lazy[key]
                operands = [value, self.constant(dim, INDEX)]
                found = self._dims[key] = self.op(tensor.DimOp, operands, INDEX)
                return found
            builder = builder.parent
        return None

    def index(self, size: Size) -> SSAValue:
        """A size (or any symbolic int) as an `index` value."""
        if isinstance(size, int):
            return self.constant(size, INDEX)
        found = self._known(size)
        if found is None:
            found = self._dims[size] = self._polynomial(size)
        return found

    def _polynomial(self, size: Dim) -> SSAValue:
        total: SSAValue | None = None
        for monomial, coefficient in size.terms:
            term: SSAValue | None = None if coefficient == 1 and monomial else self.constant(coefficient, INDEX)
            for atom in monomial:
                value = self._atom(atom)
                term = value if term is None else self._index_op(arith.MuliOp, term, value)
            assert term is not None
            total = term if total is None else self._index_op(arith.AddiOp, total, term)
        return self.constant(0, INDEX) if total is None else total

    def _atom(self, atom: Symbol | Call) -> SSAValue:
        found = self._known(atom)
        if found is not None:
            return found
        if isinstance(atom, Symbol):
            raise KeyError(f"the symbol {atom.name} has no value here")
        operator = {"floordiv": arith.FloorDivSIOp, "max": arith.MaxSIOp, "min": arith.MinSIOp}[atom.operator]
        operands = [self.index(atom.left), self.index(atom.right)]
        value = self._dims[atom] = self.op(operator, operands, INDEX)
        return value

    def _index_op(self, cls: type[Operation], a: SSAValue, b: SSAValue) -> SSAValue:
        flags = {"overflowFlags": arith.IntegerOverflowAttr("none")}
        return self.op(cls, [a, b], INDEX, dict(flags))

    def integer(self, value: Size) -> SSAValue:
        """An int or symbolic int as i64."""
        if isinstance(value, int):
            return self.constant(value, i64)
        return self.op(core.IndexCastOp, [self.index(value)], i64)

    def scalar(self, value: Any, dtype: DType | None = None) -> Scalar:
        """An int, Dim, float, bool or Scalar as a Scalar, cast to `dtype` if one is given."""
        if isinstance(value, Dim):
            value = Scalar(self.integer(value), dtypes.int64, self)
        elif not isinstance(value, Scalar):
            own = dtypes.of_scalar(value)
            value = constant(self, value, dtypes.float64 if own.is_floating else own)
        result = Scalar(value.value, value.dtype, self)
        return result.cast(dtype) if dtype is not None else result

    def to_index(self, value: Scalar) -> SSAValue:
        """An integer scalar as an `index` value."""
        return self.op(core.IndexCastOp, [value.value], INDEX)

    def symbol_of(self, name: str, value: SSAValue, low: int = 0) -> Dim:
        """A fresh symbolic int for an i64 or index value that is only known at run time."""
        symbol = Symbol(name, low)
        if value.type != INDEX:
            value = self.op(core.IndexCastOp, [value], INDEX)
        self.define(symbol, value)
        return Dim.of(symbol)

    def tensor(self, value: SSAValue, info: TensorInfo) -> Tensor:
        return Tensor(value, info.sizes, info.dtype)

    # ------ making tensors

    def empty(self, sizes: Sequence[Size], dtype: DType) -> SSAValue:
        """Uninitialised, as the destination of a generic."""
        dynamic = [self.index(s) for s in sizes if not isinstance(s, int)]
        return self.op(tensor.EmptyOp, dynamic, tensor_type(sizes, dtype))

    def fill(self, value: Any, sizes: Sequence[Size], dtype: DType) -> Tensor:
        """A tensor of one value (a Python number or a Scalar)."""
        element = value.cast(dtype) if isinstance(value, Scalar) else self.scalar_constant(value, dtype)
        type_ = tensor_type(sizes, dtype)
        operation = linalg_ops.FillOp([element.value], [self.empty(sizes, dtype)], [type_])
        return Tensor(self.add(operation).results[0], tuple(sizes), dtype)

    def scalar_constant(self, value: int | float | bool, dtype: DType) -> Scalar:
        return constant(self, value, dtype)

    def dense(self, array: np.ndarray[Any, Any]) -> Tensor:
        """A small constant held in the IR itself."""
        dtype = dtypes.from_numpy(array.dtype)
        type_ = tensor_type(array.shape, dtype)
        data = BytesAttr(np.ascontiguousarray(array).tobytes())
        if dtype.category == dtypes.BOOL:
            attribute = DenseIntOrFPElementsAttr.from_list(type_, [int(v) for v in array.reshape(-1)])
        else:
            attribute = DenseIntOrFPElementsAttr(type_, data)
        value = self.op(arith.ConstantOp, [], type_, {"value": attribute})
        return Tensor(value, tuple(array.shape), dtype)

    def iota(self, sizes: Sequence[Size], dim: int, dtype: DType, body: Body | None = None) -> Tensor:
        """The position along `dim` (as int64, through `body`) at every element."""

        def element(index: Scalar) -> Scalar:
            return (index if body is None else body(index)).cast(dtype)

        return self.generic(
            [], [], [PARALLEL] * len(sizes), sizes, dtype, lambda at, _: element(at.position(dim)), rank=len(sizes)
        )

    # ------ structured operations

    def generic(
        self,
        inputs: Sequence[Tensor],
        maps: Sequence[AffineMap],
        iterators: Sequence[linalg_attrs.IteratorTypeAttr],
        sizes: Sequence[Size],
        dtype: DType,
        body: Callable[[BodyBuilder, list[Scalar]], Scalar],
        *,
        rank: int | None = None,
        output_map: AffineMap | None = None,
        initial: Tensor | None = None,
    ) -> Tensor:
        """One linalg.generic with one result of `sizes` and `dtype`.

        body(at, elements) gives the new element; elements are the inputs' and, last, the output's current one.
        `initial` is what the output holds before (needed where there are reduction iterators).
        """
        rank = rank if rank is not None else len(iterators)
        output_map = output_map if output_map is not None else AffineMap.identity(rank)
        start = initial.value if initial is not None else self.empty(sizes, dtype)
        block = Block(arg_types=[*(t.dtype.builtin for t in inputs), dtype.builtin])
        at = BodyBuilder(block, self.location)
        elements = [Scalar(v, t, at) for v, t in zip(block.args, [*(t.dtype for t in inputs), dtype], strict=True)]
        result = body(at, elements).cast(dtype)
        at.add(make(linalg_ops.YieldOp, [result.value]))
        operation = make(
            linalg_ops.GenericOp,
            [*(t.value for t in inputs), start],
            [tensor_type(sizes, dtype)],
            {
                "indexing_maps": ArrayAttr([AffineMapAttr(m) for m in (*maps, output_map)]),
                "iterator_types": ArrayAttr(list(iterators)),
                "operandSegmentSizes": segments(len(inputs), 1),
            },
            regions=[Region([block])],
        )
        return Tensor(self.add(operation).results[0], tuple(sizes), dtype)

    def pointwise(
        self,
        body: Callable[[BodyBuilder, list[Scalar]], Scalar],
        tensors: Sequence[Tensor],
        sizes: Sequence[Size],
        dtype: DType,
    ) -> Tensor:
        """body(at, elements) at every position of `sizes`, to which the tensors broadcast; nothing is cast."""
        maps = [broadcast_map(t.sizes, sizes) for t in tensors]
        return self.generic(tensors, maps, [PARALLEL] * len(sizes), sizes, dtype, body, rank=len(sizes))

    def elementwise(
        self,
        body: Body,
        *operands: Tensor | Any,
        dtype: DType,
        sizes: Sequence[Size] | None = None,
        compute: DType | None = None,
    ) -> Tensor:
        """body(*elements) at every element of the broadcast operands.

        Operands are Tensors, or scalars (Python numbers, Dims, Scalars), which enter as they are. All are cast
        to `compute` (default: `dtype`) for the body, 16-bit floats to float32; the result is cast to `dtype`.
        """
        tensors = [o for o in operands if isinstance(o, Tensor)]
        out = tuple(sizes) if sizes is not None else broadcast(*(t.sizes for t in tensors))
        inner = compute_dtype(compute or dtype)
        outer = {id(o): self.scalar(o, inner) for o in operands if not isinstance(o, Tensor)}

        def at_each(at: BodyBuilder, elements: list[Scalar]) -> Scalar:
            own = iter(elements)
            values = []
            for operand in operands:
                if isinstance(operand, Tensor):
                    values.append(next(own).cast(inner))
                else:
                    values.append(Scalar(outer[id(operand)].value, inner, at))
            return body(*values)

        maps = [broadcast_map(t.sizes, out) for t in tensors]
        return self.generic(tensors, maps, [PARALLEL] * len(out), out, dtype, at_each)

    def reduce(
        self,
        body: Callable[[Scalar, Scalar], Scalar],
        start: int | float | bool,
        x: Tensor,
        dims: Sequence[int],
        *,
        keep: bool = False,
        dtype: DType | None = None,
        prepare: Callable[[Scalar], Scalar] | None = None,
    ) -> Tensor:
        """Fold `body(accumulator, element)` over dims, from `start`; elements pass through `prepare` first.

        16-bit floats accumulate in float32; the result has `dtype` (default: x's).
        """
        dtype = dtype or x.dtype
        inner = compute_dtype(dtype)
        kept = [d for d in range(x.rank) if d not in dims]
        out = tuple(x.sizes[d] for d in kept)
        initial = self.fill(start, out, inner)
        iterators = [REDUCTION if d in dims else PARALLEL for d in range(x.rank)]

        def at_each(at: BodyBuilder, elements: list[Scalar]) -> Scalar:
            element = prepare(elements[0].cast(inner)) if prepare else elements[0].cast(inner)
            return body(elements[1], element)

        result = self.generic(
            [x], [AffineMap.identity(x.rank)], iterators, out, inner, at_each,
            output_map=project(x.rank, kept), initial=initial,
        )  # fmt: skip
        result = self.cast(result, dtype)
        if keep:
            result = self.reshape(result, [1 if d in dims else s for d, s in enumerate(x.sizes)])
        return result

    def cast(self, x: Tensor, dtype: DType) -> Tensor:
        """Every element converted to `dtype`; x itself if it has it."""
        if x.dtype == dtype:
            return x
        return self.elementwise(lambda e: e.cast(dtype), x, dtype=dtype, compute=x.dtype)

    def map_read(self, x: Tensor, sizes: Sequence[Size], read: AffineMap) -> Tensor:
        """A tensor of `sizes` whose element at d is x at read(d): transposes, broadcasts, flips, strides."""
        iterators = [PARALLEL] * len(sizes)
        return self.generic([x], [read], iterators, sizes, x.dtype, lambda at, e: e[0])

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """Dimension i of the result is dimension order[i] of x."""
        if list(order) == list(range(x.rank)):
            return x
        sizes = [x.sizes[d] for d in order]
        inverse = [list(order).index(d) for d in range(x.rank)]
        read = AffineMap(x.rank, 0, tuple(AffineExpr.dimension(d) for d in inverse))
        return self.map_read(x, sizes, read)

    def expand(self, x: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Broadcast x to `sizes`."""
        if tuple(sizes) == x.sizes:
            return x
        return self.map_read(x, sizes, broadcast_map(x.sizes, tuple(sizes)))

    # ------ reshapes and slices

    def reshape(self, x: Tensor, sizes: Sequence[Size]) -> Tensor:
        """The same elements in row-major order under other sizes (collapse, then expand)."""
        if tuple(sizes) == x.sizes:
            return x
        if x.rank == 0:
            return self.expand(x, sizes)
        flat = self._collapse(x)
        # A group's size is static in both types or in neither.
        flat = self.refine(flat, [product(sizes)], dynamic=any(not isinstance(s, int) for s in sizes))
        return self._expand(flat, tuple(sizes))

    def refine(self, x: Tensor, sizes: Sequence[Size], dynamic: bool = False) -> Tensor:
        """The same tensor, known to have these sizes; `dynamic` hides static ones in its type."""
        type_ = TensorType(x.dtype.builtin, [DYNAMIC_INDEX] * len(sizes)) if dynamic else tensor_type(sizes, x.dtype)
        value = x.value if x.value.type == type_ else self.op(tensor.CastOp, [x.value], type_)
        return Tensor(value, tuple(sizes), x.dtype)

    def _collapse(self, x: Tensor) -> Tensor:
        if x.rank == 1:
            return x
        size = product(x.sizes)
        groups = ArrayAttr([ArrayAttr([IntegerAttr(d, i64) for d in range(x.rank)])])
        operation = tensor.CollapseShapeOp.create(
            operands=[x.value], result_types=[tensor_type([size], x.dtype)], properties={"reassociation": groups}
        )
        return Tensor(self.add(operation).results[0], (size,), x.dtype)

    def _expand(self, x: Tensor, sizes: tuple[Size, ...]) -> Tensor:
        if len(sizes) == 1:
            return Tensor(x.value, sizes, x.dtype)
        groups = ArrayAttr([ArrayAttr([IntegerAttr(d, i64) for d in range(len(sizes))])] if sizes else [])
        if not sizes:
            operation: Operation = tensor.CollapseShapeOp.create(
                operands=[x.value], result_types=[tensor_type([], x.dtype)], properties={"reassociation": groups}
            )
        else:
            operation = tensor.ExpandShapeOp.create(
                operands=[x.value, *(self.index(s) for s in sizes if not isinstance(s, int))],
                result_types=[tensor_type(sizes, x.dtype)],
                properties={
                    "reassociation": groups,
                    "static_output_shape": DenseArrayBase.from_list(i64, [_static(s) for s in sizes]),
                },
            )
        return Tensor(self.add(operation).results[0], sizes, x.dtype)

    def slice(self, x: Tensor, starts: Sequence[Size], sizes: Sequence[Size], steps: Sequence[int]) -> Tensor:
        """x[start : start + size*step : step] in every dimension; the caller has checked the bounds."""
        operands = [x.value, *self._dynamic(starts), *self._dynamic(sizes)]
        operation = tensor.ExtractSliceOp.create(
            operands=operands,
            result_types=[tensor_type(sizes, x.dtype)],
            properties=_slice_properties([1], starts, sizes, steps),
        )
        return Tensor(self.add(operation).results[0], tuple(sizes), x.dtype)

    def insert(self, x: Tensor, into: Tensor, starts: Sequence[Size], steps: Sequence[int] | None = None) -> Tensor:
        """`into` with x stored at starts (and every step-th element); the caller has checked the bounds."""
        steps = steps or [1] * into.rank
        operands = [x.value, into.value, *self._dynamic(starts), *self._dynamic(x.sizes)]
        operation = tensor.InsertSliceOp.create(
            operands=operands,
            result_types=[tensor_type(into.sizes, into.dtype)],
            properties=_slice_properties([1, 1], starts, x.sizes, steps),
        )
        return Tensor(self.add(operation).results[0], into.sizes, into.dtype)

    def _dynamic(self, sizes: Sequence[Size]) -> list[SSAValue]:
        return [self.index(s) for s in sizes if not isinstance(s, int)]

    def pad(self, x: Tensor, before: Sequence[Size], after: Sequence[Size], value: Any) -> Tensor:
        """x surrounded by `value`: `before` and `after` elements in each dimension."""
        sizes = [s + b + a for s, b, a in zip(x.sizes, before, after, strict=True)]
        return self.insert(x, self.fill(value, sizes, x.dtype), before)

    def concatenate(self, tensors: Sequence[Tensor], dim: int) -> Tensor:
        """All of one dtype and of equal sizes but along `dim`."""
        total: Size = 0
        for t in tensors:
            total = total + t.sizes[dim]
        first = tensors[0]
        sizes = [total if d == dim else s for d, s in enumerate(first.sizes)]
        result = Tensor(self.empty(sizes, first.dtype), tuple(sizes), first.dtype)
        at: Size = 0
        for t in tensors:
            result = self.insert(t, result, [at if d == dim else 0 for d in range(t.rank)])
            at = at + t.sizes[dim]
        return result

    def element(self, x: Tensor, indices: Sequence[Size] = ()) -> Scalar:
        """One element as a scalar (a read by the host program)."""
        value = self.op(tensor.ExtractOp, [x.value, *(self.index(i) for i in indices)], x.dtype.builtin)
        return Scalar(value, x.dtype, self)

    def from_scalar(self, value: Scalar) -> Tensor:
        """A zero-dimensional tensor."""
        type_ = tensor_type([], value.dtype)
        return Tensor(self.op(tensor.FromElementsOp, [value.value], type_), (), value.dtype)

    def from_scalars(self, values: Sequence[Scalar], sizes: Sequence[Size], dtype: DType) -> Tensor:
        """A tensor of known sizes from its elements in row-major order."""
        if not values:
            return Tensor(self.empty(sizes, dtype), tuple(sizes), dtype)
        operands = [v.cast(dtype).value for v in values]
        return Tensor(self.op(tensor.FromElementsOp, operands, tensor_type(sizes, dtype)), tuple(sizes), dtype)

    def loop(
        self,
        trips: Size,
        carried: Sequence[Tensor | Scalar],
        body: Callable[[LinalgBuilder, Dim, list[Any]], Sequence[Tensor | Scalar]],
    ) -> list[Any]:
        """scf.for over 0..trips-1; body(builder, iteration, values) gives the next values, of the same sizes."""
        from xdsl.dialects import scf

        block = Block(arg_types=[INDEX, *(v.value.type for v in carried)])
        inner = self.child(block)
        iteration = Symbol("k", 0, trips - 1)
        inner.define(iteration, block.args[0])
        values = [_with_value(v, a, inner) for v, a in zip(carried, block.args[1:], strict=True)]
        ends = body(inner, Dim.of(iteration), values)
        inner.add(scf.YieldOp(*(v.value for v in ends)))
        bounds = [self.index(n) for n in (0, trips, 1)]
        operation = self.add(scf.ForOp(bounds[0], bounds[1], bounds[2], [v.value for v in carried], Region([block])))
        return [_with_value(v, r, self) for v, r in zip(carried, operation.results, strict=True)]

    def any_of(self, x: Tensor, predicate: Callable[[Scalar], Scalar]) -> Scalar:
        """Whether the predicate (a bool of one element) holds anywhere, as a scalar of the host program."""
        flags = self.elementwise(lambda e: predicate(e).cast(dtypes.int32), x, dtype=dtypes.int32, compute=x.dtype)
        worst = self.reduce(lambda a, e: a.maximum(e), 0, flags, range(x.rank))
        return self.element(worst).compare("ne", 0)

    # ------ run-time checks

    def require(self, condition: Scalar, exception: str, message: str, *values: Scalar) -> None:
        """Raise the exception (a name such as "IndexError") unless the condition holds at run time."""
        from xdsl.dialects import scf

        block = Block()
        inner = Emitter(block, self.location)
        inner.add(
            host.RaiseOp.create(
                operands=[v.value for v in values],
                properties={"exception": StringAttr(f"builtins.{exception}"), "message": StringAttr(message)},
            )
        )
        inner.add(scf.YieldOp.create())
        failed = ~condition
        self.add(scf.IfOp.create(operands=[failed.value], result_types=[], regions=[Region([block]), Region()]))

    def require_equal(self, a: Size, b: Size, message: str, exception: str = "RuntimeError") -> None:
        """Raise unless two sizes are equal at run time; nothing is emitted where that is known.

        A `{}` in the message shows `a`, a second one `b`.
        """
        if a != b:
            left, right = self.scalar(a, dtypes.int64), self.scalar(b, dtypes.int64)
            self.require(left.compare("eq", right), exception, message, *(left, right)[: message.count("{}")])


class BodyBuilder(Emitter):
    """The inside of a linalg.generic: scalars, positions, and reads of whole tensors (gathers)."""

    def position(self, dim: int) -> Scalar:
        """The iteration's position along a dimension, as int64."""
        value = self.op(linalg_ops.IndexOp, [], INDEX, {"dim": IntegerAttr(dim, i64)})
        return Scalar(self.op(core.IndexCastOp, [value], i64), dtypes.int64, self)

    def gather(self, x: Tensor, indices: Sequence[Scalar]) -> Scalar:
        """x at computed int64 positions, which must be in bounds."""
        cast = [self.op(core.IndexCastOp, [i.value], INDEX) for i in indices]
        return Scalar(self.op(tensor.ExtractOp, [x.value, *cast], x.dtype.builtin), x.dtype, self)


def _with_value(model: Tensor | Scalar, value: SSAValue, at: Emitter) -> Tensor | Scalar:
    """Another value of the same sizes and dtype."""
    return Tensor(value, model.sizes, model.dtype) if isinstance(model, Tensor) else Scalar(value, model.dtype, at)


def broadcast(*shapes: tuple[Size, ...]) -> tuple[Size, ...]:
    """Sizes of the broadcast result, where shape rules have already decided that they fit."""
    rank = max((len(s) for s in shapes), default=0)
    result: list[Size] = [1] * rank
    for shape in shapes:
        for position, size in enumerate(reversed(shape), start=1):
            if size != 1:
                result[rank - position] = size
    return tuple(result)


def broadcast_map(sizes: tuple[Size, ...], to: Sequence[Size]) -> AffineMap:
    """Reads an operand of `sizes` in the iteration space `to`: size 1 is read at 0."""
    offset = len(to) - len(sizes)
    results = tuple(
        AffineExpr.constant(0) if s == 1 and to[offset + d] != 1 else AffineExpr.dimension(offset + d)
        for d, s in enumerate(sizes)
    )
    return AffineMap(len(to), 0, results)


def project(rank: int, dims: Sequence[int]) -> AffineMap:
    """(d0, ..., dn) -> the named dims."""
    return AffineMap(rank, 0, tuple(AffineExpr.dimension(d) for d in dims))


def _static(size: Size) -> int:
    return size if isinstance(size, int) else DYNAMIC_INDEX


def _slice_properties(
    heads: list[int], starts: Sequence[Size], sizes: Sequence[Size], steps: Sequence[int]
) -> dict[str, Any]:
    dynamic = [sum(not isinstance(s, int) for s in part) for part in (starts, sizes)]
    return {
        "static_offsets": DenseArrayBase.from_list(i64, [_static(s) for s in starts]),
        "static_sizes": DenseArrayBase.from_list(i64, [_static(s) for s in sizes]),
        "static_strides": DenseArrayBase.from_list(i64, list(steps)),
        "operandSegmentSizes": DenseArrayBase.from_list(i32, [*heads, *dynamic, 0]),
    }


__all__ = [
    "PARALLEL",
    "REDUCTION",
    "BodyBuilder",
    "LinalgBuilder",
    "Tensor",
    "broadcast",
    "broadcast_map",
    "project",
]
