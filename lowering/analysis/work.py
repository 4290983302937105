"""How much a kernel computes and moves: the figures that a profile sets against the machine's peak.

flops: arithmetic on floats in the bodies times the iteration space (a multiply-add is two). bytes: what the
kernel must read and write once, its operands and results. Both are known where sizes are; else they are None.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.dialects.builtin import DYNAMIC_INDEX, AnyFloat, BFloat16Type, IntegerType, TensorType
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import Attribute, Operation

from stepwell.dialects import tile
from stepwell.lowering.analysis.winograd import step_count
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.winograd_form import Transform, input_transform, output_transform

FUNCTION_FLOPS = 10
"""What one call of a math function (exp, tanh, ...) counts for: about the length of its polynomial."""


@dataclass(frozen=True)
class Work:
    """flops and bytes of one run of a kernel; None where sizes are only known at run time."""

    flops: int | None
    bytes: int | None


def work_of(kernel: tile.KernelOp) -> Work:
    """The work of a kernel."""
    flops: int | None = 0
    for op in kernel.body.block.ops:
        if isinstance(op, GenericOp):
            sizes = structure.loop_sizes(op)
            if (transform := input_transform(op) or output_transform(op)) is not None and flops is not None:
                flops += _transform_flops(transform, op)
                continue
            if DYNAMIC_INDEX in sizes:
                flops = None
                break
            assert flops is not None
            flops += _product(sizes) * sum(_flops(inner) for inner in structure.body(op).ops)
    kinds = [*kernel.function_type.inputs, *kernel.function_type.outputs]
    moved = [_bytes(kind) for kind in kinds if isinstance(kind, TensorType)]
    return Work(flops, None if None in moved else sum(size for size in moved if size is not None))


def _transform_flops(transform: Transform, op: GenericOp) -> int:
    """The steps of a Winograd transform: rows of each tile, then its columns."""
    algorithm = transform.algorithm
    square = input_transform(op) is not None
    products = 2 * algorithm.a if square else algorithm.a + algorithm.m
    kind = (op.results[0] if square else transform.value).type
    assert isinstance(kind, TensorType)
    steps = step_count(algorithm.input if square else algorithm.output)
    return _product(kind.get_shape()) // algorithm.a**2 * products * steps


def _product(sizes: tuple[int, ...]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def _flops(op: Operation) -> int:
    if not op.results or not isinstance(op.results[0].type, (AnyFloat, BFloat16Type)):
        return 0
    if op.name.startswith("math."):
        return 1 if op.name in ("math.absf", "math.sqrt", "math.floor", "math.ceil") else FUNCTION_FLOPS
    return int(op.name in ("arith.addf", "arith.subf", "arith.mulf", "arith.divf", "arith.maximumf", "arith.minimumf"))


def _bytes(kind: TensorType[Attribute]) -> int | None:
    shape = kind.get_shape()
    element = kind.element_type
    if DYNAMIC_INDEX in shape:
        return None
    width = max(8, element.width.data) if isinstance(element, IntegerType) else getattr(element, "bitwidth", 64)
    return _product(shape) * int(width) // 8
