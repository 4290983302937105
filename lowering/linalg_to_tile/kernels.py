"""Turns a group of ops into a kernel and a launch; equal groups share one kernel.

The kernel's arguments are what the members read from outside, in the order of reading: tensors, and scalars that
bodies and sizes refer to. Constants and empty tensors are made inside.
"""

from __future__ import annotations

from collections.abc import Hashable

from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import FunctionType, StringAttr, SymbolRefAttr, TensorType
from xdsl.dialects.linalg.ops import FillOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects.tile import KernelOp, LaunchOp, YieldOp
from stepwell.lowering.linalg.cse import region_key
from stepwell.lowering.linalg.edit import fused_location
from stepwell.lowering.linalg.winograd_form import input_transform, output_transform
from stepwell.lowering.linalg_to_tile.groups import Group, Kind
from stepwell.lowering.linalg_to_tile.schedule import Schedule


class Kernels:
    """The kernels of a module so far."""

    def __init__(self) -> None:
        self.kernels: list[KernelOp] = []
        self._by_key: dict[Hashable, KernelOp] = {}
        self._counts: dict[str, int] = {}

    def launch(self, group: Group, schedule: Schedule) -> None:
        """Put a launch where the group's last member stands, and take the members out of their block."""
        ordered, arguments = _with_makers(group)
        results = group.results()
        location = fused_location(*(op.location for op in group.members))
        key = _key(ordered, arguments, results, schedule)
        kernel = self._by_key.get(key)
        if kernel is None:
            kernel = self._by_key[key] = self._build(ordered, arguments, results, schedule)
            kernel.location = location
            self.kernels.append(kernel)
        launch = LaunchOp.create(
            operands=arguments,
            result_types=[value.type for value in results],
            properties={"kernel": SymbolRefAttr(kernel.sym_name)},
            location=location,
        )
        last = group.members[-1]
        block = last.parent
        assert block is not None
        block.insert_op_before(launch, last)
        for value, result in zip(results, launch.results, strict=True):
            value.replace_all_uses_with(result)
        for op in reversed(group.members):
            block.erase_op(op)

    def _build(
        self, ordered: list[Operation], arguments: list[SSAValue], results: list[SSAValue], schedule: Schedule
    ) -> KernelOp:
        inputs: list[Attribute] = [value.type for value in arguments]
        block = Block(arg_types=inputs)
        values: dict[SSAValue, SSAValue] = dict(zip(arguments, block.args, strict=True))
        for op in ordered:
            block.add_op(op.clone(values))
        block.add_op(YieldOp.create(operands=[values[value] for value in results]))
        count = self._counts.get(schedule.template, 0)
        self._counts[schedule.template] = count + 1
        return KernelOp.create(
            regions=[Region(block)],
            properties={
                "sym_name": StringAttr(f"{schedule.template}_{count}"),
                "function_type": FunctionType.from_lists(inputs, [value.type for value in results]),
                "schedule": schedule.attribute(),
            },
        )


def is_remade(op: Operation) -> bool:
    """Whether an op is made again inside each kernel: scalar constants, tensors without contents, and what the
    accumulators of reductions start from."""
    if isinstance(op, arith.ConstantOp):
        return not isinstance(op.results[0].type, TensorType)
    return isinstance(op, (tensor.EmptyOp, FillOp))


def _with_makers(group: Group) -> tuple[list[Operation], list[SSAValue]]:
    """The ops of a kernel in order (members and what is remade for them), and the values from outside."""
    ordered: dict[Operation, None] = {}
    arguments: dict[SSAValue, None] = {}
    matrices = _matrices(group)

    def need(value: SSAValue, inner: set[SSAValue]) -> None:
        owner = value.owner
        if value in inner or owner in ordered:
            return
        if isinstance(owner, Operation) and owner not in group.inside and (is_remade(owner) or value in matrices):
            for operand in owner._operands:
                need(operand, inner)
            ordered[owner] = None
        else:
            arguments[value] = None

    for member in group.members:
        inner: set[SSAValue] = set()
        for op in member.walk():
            for region in op.regions:
                for block in region.blocks:
                    inner.update(block.args)
            inner.update(op.results)
            for operand in op._operands:
                need(operand, inner)
        ordered[member] = None
    return list(ordered), list(arguments)


def _matrices(group: Group) -> set[SSAValue]:
    """The matrices of Winograd transforms: constants that the code is made for, not data."""
    if group.kind != Kind.WINOGRAD:
        return set()
    return {op._operands[0] for op in group.members if input_transform(op) or output_transform(op)}


def _key(ordered: list[Operation], arguments: list[SSAValue], results: list[SSAValue], schedule: Schedule) -> Hashable:
    """Equal keys are equal kernels."""
    numbers: dict[SSAValue, int] = {}
    parts: list[Hashable] = [schedule.attribute(), len(arguments)]
    for value in arguments:
        numbers[value] = len(numbers)
        parts.append(value.type)
    for op in ordered:
        parts.append(op.name)
        parts.extend(numbers[operand] for operand in op._operands)
        parts.extend(sorted(op.properties.items()))
        for result in op.results:
            numbers[result] = len(numbers)
            parts.append(result.type)
        # A fill's hidden region follows from its types.
        if op.regions and not isinstance(op, FillOp):
            parts.extend(region_key(region, numbers) for region in op.regions)
    parts.extend(numbers[value] for value in results)
    return tuple(parts)
