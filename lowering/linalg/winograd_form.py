"""What the steps of a Winograd convolution look like as generics on blocked channels, and how they are recognised.

With tiles of m x m results, a = m + 2, and the constant matrices B [a, a], G [a, 3], A [m, a]:

    filters  U[p, q, f, c, k, b]       += G[p, ky] * G[q, kx] * F[f, c, ky, kx, k, b]
    inputs   V[p, q, n, c, y, x, b]    += B[p, i] * B[q, j] * I[n, c, y*m + i, x*m + j, b]
    products P[p, q, n, f, y, x, b]    += V[p, q, n, c, y, x, k] * U[p, q, f, c, k, b]
    outputs  O[n, f, y, x, b]          += A[y mod m, p] * A[x mod m, q] * P[p, q, n, f, y floordiv m, x floordiv m, b]

The image I is as large as the tiles need (its border is zero); results outside of O are not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, Float32Type, TensorType
from xdsl.dialects.linalg.attrs import IteratorTypeAttr
from xdsl.dialects.linalg.ops import GenericOp, YieldOp
from xdsl.ir import Block, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineExpr, AffineMap

from stepwell.lowering.analysis.affine import normal
from stepwell.lowering.analysis.winograd import POINTS, Algorithm, Matrix, algorithm
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.generics import PARALLEL, REDUCTION, filled_with
from stepwell.lowering.linalg.shapes import shape_of, static_slice

Maps = tuple[AffineMap, ...]


@dataclass(frozen=True)
class Step:
    """Maps and loops of one step: inputs first, then the result."""

    maps: Maps
    iterators: tuple[IteratorTypeAttr, ...]


def _step(kept: int, reduced: int, *results: Sequence[AffineExpr]) -> Step:
    rank = kept + reduced
    return Step(
        tuple(AffineMap(rank, 0, tuple(normal(e) for e in found)) for found in results),
        (PARALLEL,) * kept + (REDUCTION,) * reduced,
    )


def _loops(count: int) -> list[AffineExpr]:
    return [AffineDimExpr(i) for i in range(count)]


def filter_step() -> Step:
    """Loops p, q, f, c, k, b, ky, kx."""
    p, q, f, c, k, b, ky, kx = _loops(8)
    return _step(6, 2, (p, ky), (q, kx), (f, c, ky, kx, k, b), (p, q, f, c, k, b))


def input_step(m: int) -> Step:
    """Loops p, q, n, c, y, x, b, i, j."""
    p, q, n, c, y, x, b, i, j = _loops(9)
    return _step(7, 2, (p, i), (q, j), (n, c, y * m + i, x * m + j, b), (p, q, n, c, y, x, b))


def product_step() -> Step:
    """Loops p, q, n, f, y, x, b, c, k."""
    p, q, n, f, y, x, b, c, k = _loops(9)
    return _step(7, 2, (p, q, n, c, y, x, k), (p, q, f, c, k, b), (p, q, n, f, y, x, b))


def output_step(m: int) -> Step:
    """Loops n, f, y, x, b, p, q."""
    n, f, y, x, b, p, q = _loops(7)
    tile = (p, q, n, f, y // m, x // m, b)
    return _step(5, 2, (y % m, p), (x % m, q), tile, (n, f, y, x, b))


def transform_body() -> Block:
    """r += c0 * c1 * x."""
    f32 = Float32Type()
    block = Block(arg_types=[f32] * 4)
    left, right, value, total = block.args
    factor = arith.MulfOp(left, right)
    term = arith.MulfOp(factor.result, value)
    block.add_ops([factor, term, added := arith.AddfOp(total, term.result), YieldOp(added.result)])
    return block


def coefficients(matrix: Matrix) -> DenseIntOrFPElementsAttr:
    """A matrix as a constant of f32."""
    kind = TensorType(Float32Type(), [len(matrix), len(matrix[0])])
    return DenseIntOrFPElementsAttr.from_list(kind, [float(np.float32(e)) for row in matrix for e in row])


def is_zero(value: SSAValue) -> bool:
    """Whether a tensor is filled with 0."""
    return filled_with(value) == 0


@dataclass(frozen=True)
class Border:
    """An image with rows and columns of zeros around it: the op that puts it there, the image, and the row and the
    column where it begins."""

    op: tensor.InsertSliceOp
    image: SSAValue
    offsets: tuple[int, int]


def border_of(value: SSAValue) -> Border | None:
    """The image within a border of zeros, all sizes static; None for every other tensor, also where there are more
    images or channels than before."""
    owner = value.owner
    if not isinstance(owner, tensor.InsertSliceOp) or not is_zero(owner._operands[1]):
        return None
    found, image = static_slice(owner), owner._operands[0]
    if found is None or set(found[2]) != {1} or len(found[0]) != 5 or found[1] != shape_of(image):
        return None
    offsets, sizes, whole = found[0], found[1], shape_of(value)
    if any(offsets[dim] or sizes[dim] != whole[dim] for dim in (0, 1, 4)):
        return None
    return Border(owner, image, (offsets[2], offsets[3]))


# Recognition ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transform:
    """A transform of tiles: the algorithm, and what is transformed."""

    algorithm: Algorithm
    value: SSAValue


def input_transform(op: object) -> Transform | None:
    """The transform of an image; None for every other op."""
    return _transform(op, square=True)


def output_transform(op: object) -> Transform | None:
    """The transform of products; None for every other op."""
    return _transform(op, square=False)


def is_product(op: object) -> bool:
    """Whether an op multiplies transformed inputs and filters."""
    step = product_step()
    return isinstance(op, GenericOp) and structure.factors(op) == (0, 1) and _is(op, step)


def _transform(op: object, square: bool) -> Transform | None:
    if not isinstance(op, GenericOp) or len(op._operands) != 4 or not _has_body(op):
        return None
    constant = op._operands[0].owner
    if op._operands[1] is not op._operands[0] or not isinstance(constant, arith.ConstantOp):
        return None
    kind = constant.result.type
    if not isinstance(kind, TensorType) or kind.get_num_dims() != 2:
        return None
    rows, columns = kind.get_shape()
    m = columns - 2
    if m not in POINTS or rows != (columns if square else m):
        return None
    found = algorithm(m)
    matrix = found.input if square else found.output
    if constant.value != coefficients(matrix) or not _is(op, input_step(m) if square else output_step(m)):
        return None
    return Transform(found, op._operands[2])


def _is(op: GenericOp, step: Step) -> bool:
    maps = tuple(AffineMap(a.data.num_dims, 0, tuple(map(normal, a.data.results))) for a in op.indexing_maps.data)
    return maps == step.maps and op.iterator_types.data == step.iterators


def _has_body(op: GenericOp) -> bool:
    return structure.body(op).is_structurally_equivalent(transform_body())
