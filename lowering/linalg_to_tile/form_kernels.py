"""`form-kernels`: from linalg ops to kernels and launches, with a schedule for each kernel.

%m = linalg.generic (matmul) ...            %r = tile.launch @matmul_0(%x, %w, %b)
%r = linalg.generic (add bias, relu) ...    tile.kernel @matmul_0(...) {schedule = {template = "matmul", ...}}
"""

from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import tensor
from xdsl.dialects.builtin import ModuleOp, UnitAttr
from xdsl.dialects.func import FuncOp
from xdsl.dialects.linalg.ops import FillOp
from xdsl.ir import Block, Operation

from stepwell.dialects.host import ALONE
from stepwell.dialects.target import Target
from stepwell.lowering.linalg.dce import sweep
from stepwell.lowering.linalg_to_tile.attention import attentions
from stepwell.lowering.linalg_to_tile.groups import Group, Grouping, Kind
from stepwell.lowering.linalg_to_tile.kernels import Kernels
from stepwell.lowering.linalg_to_tile.schedule import schedule
from stepwell.lowering.linalg_to_tile.team import Run, pays, trips
from stepwell.lowering.pass_ import Pass

VIEWS = (tensor.ExpandShapeOp, tensor.CollapseShapeOp, tensor.ExtractSliceOp, tensor.CastOp)
"""Ops that only look at a tensor; they may stand anywhere between it and their readers."""


def sink_views(block: Block) -> None:
    """Move every view down to its first reader, so that it closes no group before it has to."""
    op = block.last_op
    while op is not None:
        before = op.prev_op
        if isinstance(op, VIEWS):
            _sink(op, block)
        op = before


def _sink(op: Operation, block: Block) -> None:
    readers = {block.find_ancestor_op_in_block(use.operation) for use in op.results[0].uses}
    following = op.next_op
    while following is not None and following not in readers:
        following = following.next_op
    if following is not None and following is not op.next_op:
        block.detach_op(op)
        block.insert_op_before(op, following)


@dataclass(frozen=True)
class Formed:
    """A block whose groups are decided; `times` a call runs it."""

    block: Block
    groups: list[Group]
    times: int


def group_blocks(block: Block, target: Target, times: int = 1) -> Iterator[Formed]:
    """The groups of a block and of the blocks inside its ops, the innermost first. Nothing is launched yet: whether
    threads share a kernel depends on all of them."""
    for op in block.ops:
        if not op.name.startswith("linalg."):
            for region in op.regions:
                for inner in region.blocks:
                    yield from group_blocks(inner, target, times * trips(op))
    sink_views(block)
    yield Formed(block, Grouping(block, attentions(block, target)).groups, times)


def launch_groups(formed: Formed, kernels: Kernels, target: Target, share: bool) -> None:
    """Turn the linalg ops of a block into launches."""
    block = formed.block
    decided = [(group, schedule(group, target, share)) for group in formed.groups]
    for group, chosen in decided:
        kernels.launch(group, chosen)
    for op in list(block.ops):
        if isinstance(op, FillOp) and op.results[0].first_use is not None:
            for fill in _one_per_destination(op, block):
                group = Group(Kind.MAP, [fill])
                kernels.launch(group, schedule(group, target, share))


def _one_per_destination(op: FillOp, block: Block) -> list[FillOp]:
    """A fill of its own for every insert_slice that writes into it (paddings): filling again costs what copying
    would, and the insertion can then be done in place."""
    uses = [use for use in op.results[0].uses if isinstance(use.operation, tensor.InsertSliceOp) and use.index == 1]
    shared = uses if op.results[0].uses.get_length() > len(uses) else uses[1:]
    fills = [op]
    for use in shared:
        copy = op.clone()
        block.insert_op_after(copy, op)
        use.operation.operands[use.index] = copy.results[0]
        fills.append(copy)
    return fills


@dataclass(frozen=True)
class FormKernels(Pass):
    """Group linalg ops into kernels with schedules for a target, and launch them from the functions.
    After: no linalg op stands outside a kernel, equal kernels exist once, and functions that threads are no help
    to say so (host.alone)."""

    name = "form-kernels"
    target: Target

    def apply(self, module: ModuleOp, context: Context) -> None:
        """One walk per block for grouping, one for building; between them, whether threads pay."""
        kernels = Kernels()
        functions = [op for op in module.ops if isinstance(op, FuncOp)]
        for function in functions:
            formed = [found for block in function.body.blocks for found in group_blocks(block, self.target)]
            share = pays((Run(group, found.times) for found in formed for group in found.groups), self.target)
            if not share:
                function.attributes[ALONE] = UnitAttr()
            for found in formed:
                launch_groups(found, kernels, self.target, share)
            for block in function.body.blocks:
                sweep(block)
        if functions:
            first = functions[0].parent
            assert first is not None
            first.insert_ops_before(kernels.kernels, functions[0])
