"""The cost model: which template a group gets, and the sizes in its schedule.

Numbers come from the target (vector width, registers, caches, cores) and from static sizes; a size known only at
run time counts as ASSUMED. Throughputs are those of one core of a present machine at CLOCK; they only have to be
right within a factor of two or so, since they decide what is worth sharing among threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from xdsl.dialects.builtin import (
    AnyFloat,
    BFloat16Type,
    DictionaryAttr,
    Float16Type,
    IntegerType,
    TensorType,
)
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr

from stepwell.dialects.target import Target
from stepwell.dialects.tile import schedule_of
from stepwell.lowering.analysis.affine import linear, positions
from stepwell.lowering.analysis.cost import element_cost
from stepwell.lowering.analysis.registers import convolution_tile, most_rows, register_tile, streams
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.structure import DYNAMIC, Contraction, Convolution
from stepwell.lowering.linalg_to_tile.attention import sizes_of_attention
from stepwell.lowering.linalg_to_tile.groups import Group, Kind
from stepwell.lowering.linalg_to_tile.winograd import divided

ASSUMED = 32
"""What a size counts as that is only known at run time."""

CLOCK = 3000.0
"""Cycles per microsecond."""

BYTES_PER_US = 10_000.0
"""What one core streams from memory."""

VECTOR_OPS_PER_CYCLE = 2.0

WORTH_SHARING_US = 20.0
"""Less work than this is done by one thread: sharing costs a barrier, and cold caches."""


@dataclass(frozen=True)
class Schedule:
    """A template and the values of its keys (see stepwell.dialects.tile.SCHEDULES)."""

    template: str
    sizes: tuple[tuple[str, int], ...] = ()

    def attribute(self) -> DictionaryAttr:
        """As the attribute of a kernel."""
        return schedule_of(self.template, **dict(self.sizes))


def schedule(group: Group, target: Target, share: bool = True) -> Schedule:
    """The schedule of a group; `share` says whether the program's threads share work at all (see `team`)."""
    parallel = int(share and target.cores > 1 and microseconds(group, target) > WORTH_SHARING_US)
    if group.kind == Kind.WINOGRAD:
        division = divided(group, target if parallel else replace(target, cores=1)).division
        return Schedule("winograd", (("parallel", parallel), *asdict(division).items()))
    if group.kind == Kind.ATTENTION:
        return Schedule("attention", (("parallel", parallel), *sizes_of_attention(group.members, parallel, target)))
    leader = group.members[0]
    if isinstance(leader, GenericOp):
        contraction = structure.contraction(leader) if group.kind == Kind.CONTRACTION else None
        if contraction is not None:
            return Schedule("matmul", (("parallel", parallel), *matmul_tile(leader, contraction, target)))
        convolution = structure.convolution(leader) if group.kind == Kind.CONVOLUTION else None
        if convolution is not None:
            return _convolution(leader, convolution, parallel, target)
    template = {Kind.ROWS: "rows", Kind.WINDOW: "window", Kind.MAP: "map"}.get(group.kind, "nest")
    return Schedule(template, (("parallel", parallel),))


# Work ----------------------------------------------------------------------------------------------------------


def known(sizes: Sequence[int]) -> tuple[int, ...]:
    """Sizes with ASSUMED for what is dynamic."""
    return tuple(ASSUMED if size == DYNAMIC else size for size in sizes)


def product(sizes: Sequence[int]) -> int:
    """The product of sizes, dynamic ones as ASSUMED."""
    total = 1
    for size in known(sizes):
        total *= size
    return total


def bits(element: Attribute) -> int:
    """The width of an element in memory."""
    if isinstance(element, IntegerType):
        stored: int = max(8, element.width.data)
        return stored
    return element.bitwidth if isinstance(element, AnyFloat) else 64


def compute_lanes(op: Operation, target: Target) -> int:
    """How many elements a vector holds while they are computed (16-bit floats as 32-bit ones)."""
    kind = op.results[0].type
    element = kind.element_type if isinstance(kind, TensorType) else kind
    width = 32 if isinstance(element, (Float16Type, BFloat16Type)) else bits(element)
    return target.lanes(width)


def size_in_bytes(value: SSAValue) -> int:
    """The size of a tensor."""
    kind = value.type
    return product(kind.get_shape()) * bits(kind.element_type) // 8 if isinstance(kind, TensorType) else 0


def microseconds(group: Group, target: Target) -> float:
    """How long one thread needs for a group: computing or streaming, whichever takes longer."""
    if group.kind == Kind.WINOGRAD:
        return divided(group, replace(target, cores=1)).cycles / CLOCK
    cycles = 0.0
    touched: set[SSAValue] = set(group.results())
    for op in group.members:
        if isinstance(op, GenericOp):
            per_element = max(1, element_cost(op)) / compute_lanes(op, target) / VECTOR_OPS_PER_CYCLE
            cycles += product(structure.loop_sizes(op)) * per_element
            touched.update(v for v in structure.inputs(op) if v.owner not in group.inside)
    streamed = sum(size_in_bytes(value) for value in touched)
    return max(cycles / CLOCK, streamed / BYTES_PER_US)


# Matrix products -----------------------------------------------------------------------------------------------


def matmul_tile(op: GenericOp, dims: Contraction, target: Target) -> tuple[tuple[str, int], ...]:
    """mr and nr of a contraction, and pack_b = 0 where B lies in panels already (see pack-weights)."""
    sizes = known(structure.loop_sizes(op))
    rows = product([sizes[d] for d in dims.m])
    columns = product([sizes[d] for d in dims.n])
    lanes = compute_lanes(op, target)
    tallest = most_rows(structure.row_bytes(op, dims))
    panel = structure.panel_of(op, dims)
    vectors = None if panel is None else -(-known((panel,))[0] // lanes)
    height, vectors = register_tile(rows, columns, lanes, target.registers, vectors, tallest)
    packed = () if panel is None else (("pack_b", 0), *_streams(op, dims, rows, target))
    return (("mr", height), ("nr", vectors * lanes), *packed)


def _streams(op: GenericOp, dims: Contraction, rows: int, target: Target) -> tuple[tuple[str, int], ...]:
    """How many parts of B are read side by side, where it comes from beyond the second-level cache at every call."""
    weight = op._operands[dims.rhs]
    assert isinstance(weight.type, TensorType)
    if size_in_bytes(weight) <= target.l2:
        return ()
    parts = streams(rows, structure.loop_sizes(op)[dims.k[-1]], bits(weight.type.element_type) // 8)
    return (("k_parts", parts),) if parts > 1 else ()


# Convolutions --------------------------------------------------------------------------------------------------


def _convolution(op: GenericOp, dims: Convolution, parallel: int, target: Target) -> Schedule:
    sizes = known(structure.loop_sizes(op))
    lanes = compute_lanes(op, target)
    columns = sizes[dims.image[-1]]
    if not is_blocked(op, dims, lanes):
        return Schedule("nest", (("parallel", parallel),))
    if dims.is_depthwise:
        return Schedule("depthwise", (("parallel", parallel), ("ow", min(columns, 6))))
    blocks = sizes[dims.out_channels[0]] if len(dims.out_channels) > 1 else 1
    width, count = convolution_tile(columns, blocks, max(1, sizes[dims.out_channels[-1]] // lanes), target.registers)
    return Schedule("conv", (("parallel", parallel), ("ow", width), ("cob", count)))


def is_blocked(op: GenericOp, dims: Convolution, lanes: int) -> bool:
    """Whether the innermost dimension of the result is a block of channels that fills whole vectors, or half or a
    quarter of one."""
    out = positions(structure.output_map(op))
    if not out:
        return False
    size = structure.loop_sizes(op)[out[-1]]
    channel = dims.group[-1:] if dims.is_depthwise else dims.out_channels[-1:]
    return channel == (out[-1],) and size != DYNAMIC and (size % lanes == 0 or size in (lanes // 2, lanes // 4))


def streams_along(op: GenericOp, loop: int) -> int:
    """How many operands are contiguous along a loop: lanes should run where most are."""
    count = 0
    for attribute in op.indexing_maps.data:
        results = attribute.data.results
        if results and isinstance(results[-1], AffineDimExpr) and results[-1].position == loop:
            count += 1
        elif results:
            form = linear(results[-1])
            count += form is not None and form[0].get(loop) == 1
    return count
