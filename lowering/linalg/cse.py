"""`cse`: what is computed twice from the same operands is computed once."""

from collections import ChainMap
from collections.abc import Hashable, Mapping, MutableMapping
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, Region, SSAValue

from stepwell.lowering.linalg.dce import PURE_DIALECTS, TERMINATORS
from stepwell.lowering.linalg.edit import replace
from stepwell.lowering.pass_ import Pass

Key = tuple[Hashable, ...]
Known = MutableMapping[Key, Operation]


def key_of(op: Operation) -> Key:
    """What two ops must agree in to be one: equal keys compute equal results."""
    return (
        op.name,
        op._operands,
        *(result.type for result in op.results),
        *sorted(op.properties.items()),
        *sorted(op.attributes.items()),
        *(region_key(region) for region in op.regions),
    )


def region_key(region: Region, known: Mapping[SSAValue, int] | None = None) -> Key:
    """A region up to the names of what is defined in it; values from outside count as they are, or by the
    numbers that `known` gives them."""
    numbers: dict[SSAValue, int] = {} if known is None else dict(known)
    parts: list[Hashable] = []
    for block in region.blocks:
        for argument in block.args:
            numbers[argument] = len(numbers)
            parts.append(argument.type)
        for op in block.ops:
            parts.append(op.name)
            parts.extend(numbers.get(operand, operand) for operand in op._operands)
            parts.extend(sorted(op.properties.items()))
            for result in op.results:
                numbers[result] = len(numbers)
                parts.append(result.type)
            for inner in op.regions:
                parts.append(region_key(inner, numbers))
    return tuple(parts)


def merge(block: Block, known: Known) -> None:
    """Replace ops of a block by equal ones before them, here or in an enclosing block."""
    op = block.first_op
    while op is not None:
        following = op.next_op
        structured = op.name.startswith("linalg.")
        if op.regions:
            # Between iterations nothing is known; between blocks of different branches neither.
            for region in op.regions:
                for inner in region.blocks:
                    merge(inner, {} if structured else ChainMap({}, known))
        if op.name.split(".", 1)[0] in PURE_DIALECTS and op.name not in TERMINATORS:
            key = key_of(op)
            earlier = known.setdefault(key, op)
            if earlier is not op:
                replace(op, earlier.results)
        op = following


@dataclass(frozen=True)
class Cse(Pass):
    """Replace a pure op by an equal one that dominates it; generics are compared with their bodies.
    After: no two pure ops in one scope have the same operands, attributes and body."""

    name = "cse"

    def apply(self, module: ModuleOp, context: Context) -> None:
        """One forward walk; a nested block knows what its parents computed before it."""
        for function in module.ops:
            for region in function.regions:
                for block in region.blocks:
                    merge(block, {})
