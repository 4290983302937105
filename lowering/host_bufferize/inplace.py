"""Which operands of a kernel its result may be written over."""

from __future__ import annotations

from xdsl.dialects import tensor
from xdsl.dialects.builtin import TensorType
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import Attribute, Operation
from xdsl.ir.affine import AffineMap

from stepwell.dialects import tile
from stepwell.lowering.host_bufferize.elements import element_bytes


def overwritable(kernel: tile.KernelOp) -> list[int]:
    """The operands of a kernel over which its result may be written: each element is read, by an elementwise
    kernel with one result, before the element at the same place is written, and never again."""
    if len(kernel.results_yielded) != 1 or kernel.template != "map":
        return []
    generics = [op for op in kernel.body.block.ops if isinstance(op, GenericOp)]
    result = kernel.results_yielded[0].type
    if not generics or not all(_elementwise(op) for op in generics):
        return []
    found = []
    for argument in kernel.body.block.args:
        uses = [use for use in argument.uses if isinstance(use.operation, GenericOp)]
        plain = all(_identity(use.operation, use.index) for use in uses)
        if plain and len(uses) == len(list(argument.uses)) and _alike(argument.type, result):
            found.append(argument.index)
    return found


def _identity(op: Operation, operand: int) -> bool:
    """Whether a generic reads (or writes) an operand at the point of its loops."""
    assert isinstance(op, GenericOp)
    map_ = op.indexing_maps.data[operand].data
    return map_ == AffineMap.identity(map_.num_dims)


def _elementwise(op: GenericOp) -> bool:
    """Whether all loops are parallel, the results are written in loop order, and nothing is gathered."""
    parallel = all(kind.data == IteratorType.PARALLEL for kind in op.iterator_types)
    gathers = any(isinstance(inner, tensor.ExtractOp) for inner in op.walk())
    return parallel and not gathers and all(_identity(op, len(op.inputs) + i) for i in range(len(op.outputs)))


def _alike(left: Attribute, right: Attribute) -> bool:
    """Whether two tensor types have the same shape and elements of the same size."""
    if not isinstance(left, TensorType) or not isinstance(right, TensorType):
        return False
    same = element_bytes(left.element_type) == element_bytes(right.element_type)
    return same and left.shape == right.shape
