"""Sizes known only at run time, compared by how they are computed.

A size is read as a product: a constant times symbols, a symbol being a dimension of a tensor that nothing else
tells, or any other index value. Equal products are equal sizes; so `n * 8` reshaped to `n, 2, 4` is understood.
"""

from __future__ import annotations

from xdsl.dialects import tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, ArrayAttr, DenseArrayBase, TensorType
from xdsl.ir import Operation, SSAValue

from stepwell.lowering.linalg.edit import constant_integer

Symbol = tuple[SSAValue, int]
"""Dimension i of a tensor; or an index value, with -1."""

Size = tuple[int, tuple[Symbol, ...]]
"""A constant, and the symbols that it is multiplied by, in a fixed order."""

ONE: Size = (1, ())


def times(a: Size, b: Size) -> Size:
    """The product of two sizes."""
    return a[0] * b[0], tuple(sorted((*a[1], *b[1]), key=_order)) if a[1] and b[1] else a[1] or b[1]


def _order(symbol: Symbol) -> tuple[int, int]:
    return id(symbol[0]), symbol[1]


def size_of(value: SSAValue) -> Size:
    """The size that an index value is."""
    constant = constant_integer(value)
    if constant is not None:
        return constant, ()
    owner = value.owner
    if isinstance(owner, Operation):
        if owner.name == "arith.muli":
            return times(size_of(owner._operands[0]), size_of(owner._operands[1]))
        if owner.name == "tensor.dim":
            position = constant_integer(owner._operands[1])
            if position is not None:
                return dimension(owner._operands[0], position)
    return 1, ((value, -1),)


def dimension(value: SSAValue, dim: int) -> Size:
    """The size of a dimension of a tensor."""
    assert isinstance(value.type, TensorType)
    known = value.type.get_shape()[dim]
    if known != DYNAMIC_INDEX:
        return known, ()
    owner = value.owner
    dynamic = value.type.get_shape()[:dim].count(DYNAMIC_INDEX)
    if isinstance(owner, tensor.EmptyOp):
        return size_of(owner._operands[dynamic])
    if isinstance(owner, tensor.ExpandShapeOp):
        return size_of(owner._operands[1 + dynamic])
    if isinstance(owner, tensor.CastOp):
        return dimension(owner._operands[0], dim)
    if isinstance(owner, tensor.InsertSliceOp):
        return dimension(owner._operands[1], dim)
    if isinstance(owner, tensor.ExtractSliceOp):
        sizes = owner.properties["static_sizes"]
        offsets = owner.properties["static_offsets"]
        assert isinstance(sizes, DenseArrayBase) and isinstance(offsets, DenseArrayBase)
        if len(sizes) == value.type.get_num_dims():
            return size_of(owner._operands[1 + offsets.get_values().count(DYNAMIC_INDEX) + dynamic])
    if isinstance(owner, tensor.CollapseShapeOp):
        groups = owner.properties["reassociation"]
        assert isinstance(groups, ArrayAttr)
        total = ONE
        for fine in groups.data[dim].data:
            total = times(total, dimension(owner._operands[0], fine.value.data))
        return total
    if isinstance(owner, Operation) and owner.name in ("linalg.generic", "linalg.fill"):
        result = owner.results.index(value)
        return dimension(owner._operands[len(owner._operands) - len(owner.results) + result], dim)
    return 1, ((value, dim),)


def sizes_of(value: SSAValue) -> tuple[Size, ...]:
    """The sizes of all dimensions of a tensor."""
    assert isinstance(value.type, TensorType)
    return tuple(dimension(value, dim) for dim in range(value.type.get_num_dims()))
