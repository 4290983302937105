"""Which linalg ops become one kernel.

A block is read once, in order. Each generic joins the group that makes one of its operands, or opens its own:

    contraction, convolution, window,  take elementwise ops that read their result in place and alone (epilogue)
    nest (everything that is no other)
    winograd                           the border of an image, its transform, the products, their transform, and
                                       the same epilogue
    map                                elementwise ops over one space, sharing values or operands
    attention                          two products and the softmax between them, found before all others
    rows                               reductions of the inner dimensions, and whatever is elementwise over the
                                       same outer ones before, between and after them: softmax, layer norm

A group is closed as soon as somebody outside reads one of its results: its launch stands where its last member
stood, so operands are there already, and every reader comes later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.dialects.tensor import EmptyOp
from xdsl.ir import Block, Operation, SSAValue

from stepwell.lowering.analysis.affine import broadcast_positions, dims_of, is_identity
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.structure import DYNAMIC
from stepwell.lowering.linalg.winograd_form import border_of, input_transform, is_product, output_transform

MOST_MEMBERS = 24
"""Kernels do not grow beyond so many ops."""

WHOLE_LIMIT = 1 << 15
"""A reduction of everything to one number only joins others below so many elements: it cannot be shared among
threads."""


class Kind(StrEnum):
    """What leads a group."""

    ATTENTION = "attention"
    CONTRACTION = "contraction"
    CONVOLUTION = "convolution"
    WINOGRAD = "winograd"
    WINDOW = "window"
    ROWS = "rows"
    MAP = "map"
    NEST = "nest"


@dataclass(eq=False)
class Group:
    """Ops of one block that become one kernel, in program order."""

    kind: Kind
    members: list[Operation]
    outer: int = 0
    """ROWS: how many leading dimensions are not reduced."""
    is_open: bool = True
    inside: set[Operation] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.inside.update(self.members)

    def add(self, op: Operation) -> None:
        """A new last member."""
        self.members.append(op)
        self.inside.add(op)

    def results(self) -> list[SSAValue]:
        """The values that somebody outside reads."""
        return [
            value
            for op in self.members
            for value in op.results
            if any(use.operation not in self.inside for use in value.uses)
        ]


def lead(op: GenericOp) -> Group:
    """The group that an op opens."""
    if structure.contraction(op) is not None:
        return Group(Kind.CONTRACTION, [op])
    if structure.convolution(op) is not None:
        return Group(Kind.CONVOLUTION, [op])
    if (transform := input_transform(op)) is not None:
        return Group(Kind.WINOGRAD, [*border(transform.value, op), op])
    if structure.window(op) is not None:
        return Group(Kind.WINDOW, [op])
    if structure.is_parallel(op):
        kind = Kind.MAP if all(is_identity(structure.output_map(op, r)) for r in range(len(op.results))) else Kind.NEST
        return Group(kind, [op])
    outer = outer_dims(op)
    return Group(Kind.NEST, [op]) if outer is None else Group(Kind.ROWS, [op], outer)


def border(image: SSAValue, reader: Operation) -> list[Operation]:
    """The op that puts a border around an image for one reader."""
    found = border_of(image)
    return [found.op] if found is not None and found.op.parent is reader.parent and image.has_one_use() else []


def is_complete(group: Group) -> bool:
    """Whether the last step of a Winograd convolution has joined its first."""
    return any(output_transform(op) is not None for op in group.members)


def _continues(op: GenericOp, last: Operation) -> bool:
    """Whether an op is the step of a Winograd convolution after the last one, whose result nobody else reads."""
    value = last.results[0]
    if not value.has_one_use():
        return False
    if is_product(last):
        transform = output_transform(op)
        return transform is not None and transform.value is value
    return is_product(op) and op._operands[0] is value


def outer_dims(op: GenericOp) -> int | None:
    """How many leading loops a reduction keeps, where it reduces exactly the others and reads its widest operand
    along a reduced loop; None otherwise."""
    rows = structure.rows(op)
    if rows is None or structure.reduction(op) is None or rows.kept != tuple(range(len(rows.kept))):
        return None
    reads = [attribute.data for attribute in op.indexing_maps.data[: -len(op.results)]]
    widest = max(reads, key=lambda read: len(dims_of(read)), default=None)
    if widest is None or not any(d in rows.reduced for e in widest.results[-1:] for d in e.used_dims()):
        return None
    return len(rows.kept)


# Joining -------------------------------------------------------------------------------------------------------


def joins(op: GenericOp, group: Group) -> bool:
    """Whether an op that reads the group's results may become its last member. May turn a map into rows."""
    if not group.is_open or len(group.members) >= MOST_MEMBERS:
        return False
    if group.kind == Kind.WINOGRAD and not is_complete(group):
        return _continues(op, group.members[-1])
    if not structure.is_parallel(op):
        return _reduction_joins(op, group)
    if not all(is_identity(structure.output_map(op, r)) for r in range(len(op.results))):
        return False
    reads = _reads(op, group)
    if group.kind == Kind.ROWS:
        return all(_fits_rows(op, index, group) for index in reads)
    if not all(is_identity(op.indexing_maps.data[index].data) for index in reads):
        return False
    if group.kind == Kind.MAP:
        return True
    # An epilogue replaces the result: nobody else may want it.
    return all(use.operation is op for index in reads for use in op._operands[index].uses)


def _reads(op: GenericOp, group: Group) -> list[int]:
    """The operands that the group makes."""
    return [i for i, operand in enumerate(op._operands) if operand.owner in group.inside]


def _fits_rows(op: GenericOp, index: int, group: Group) -> bool:
    """Whether an operand made by a rows group is read row by row: statistics by the outer loops alone, elements
    at the same place."""
    read = op.indexing_maps.data[index].data
    owner = op._operands[index].owner
    assert isinstance(owner, GenericOp)
    if structure.is_parallel(owner) and len(read.results) > group.outer:
        return is_identity(read)
    # Sizes of 1 are read at 0; everything else by the outer loop of its own dimension.
    places = broadcast_positions(read)
    return places is not None and all(
        place is None or (place == dim and place < group.outer) for dim, place in enumerate(places)
    )


def _reduction_joins(op: GenericOp, group: Group) -> bool:
    outer = outer_dims(op)
    if outer is None or group.kind not in (Kind.MAP, Kind.ROWS) or lead(op).kind != Kind.ROWS:
        return False
    sizes = structure.loop_sizes(op)
    if outer == 0 and not 0 <= _product(sizes) <= WHOLE_LIMIT:
        return False
    rank = len(sizes)
    if group.kind == Kind.MAP:
        if any(len(structure.output_map(m).results) != rank for m in group.members if isinstance(m, GenericOp)):
            return False
        if all(is_identity(op.indexing_maps.data[index].data) for index in _reads(op, group)):
            group.kind, group.outer = Kind.ROWS, outer
            return True
        return False
    return outer == group.outer and all(_fits_rows(op, index, group) for index in _reads(op, group))


def _product(sizes: Iterable[int]) -> int:
    total = 1
    for size in sizes:
        if size == DYNAMIC:
            return -1
        total *= size
    return total


def space(op: GenericOp) -> tuple[object, ...] | None:
    """What identifies the sizes of an elementwise op's results: static sizes and the values of dynamic ones."""
    output = structure.outputs(op)[0]
    if not isinstance(output.owner, EmptyOp):
        return None
    assert isinstance(output.type, TensorType)
    return (*output.type.get_shape(), *output.owner._operands)


def is_sibling(op: GenericOp, group: Group) -> bool:
    """Whether an op runs over the space of a map group, or over the rows of a rows group, and reads a tensor that
    the group reads too."""
    if group.kind == Kind.ROWS:
        return _is_sibling_reduction(op, group)
    if group.kind != Kind.MAP or not group.is_open or len(group.members) >= MOST_MEMBERS:
        return False
    last = group.members[-1]
    if not isinstance(last, GenericOp) or lead(op).kind != Kind.MAP or space(op) is None or space(op) != space(last):
        return False
    read = set(structure.inputs(op))
    return any(
        operand in read and isinstance(operand.type, TensorType) and operand.type.get_num_dims() > 0
        for member in group.members
        if isinstance(member, GenericOp)
        for operand in structure.inputs(member)
    )


def _is_sibling_reduction(op: GenericOp, group: Group) -> bool:
    """Whether a reduction has the loops of a reduction in the group and reads one of its inputs in the same way:
    the smallest and the largest element of one tensor."""
    if not group.is_open or len(group.members) >= MOST_MEMBERS or outer_dims(op) != group.outer:
        return False
    sizes = structure.loop_sizes(op)
    if structure.is_parallel(op) or not 0 <= _product(sizes) or (group.outer == 0 and _product(sizes) > WHOLE_LIMIT):
        return False
    if lead(op).kind != Kind.ROWS:
        return False
    read = set(zip(structure.inputs(op), structure.maps(op), strict=False))
    return any(
        not structure.is_parallel(member)
        and structure.loop_sizes(member) == sizes
        and not read.isdisjoint(zip(structure.inputs(member), structure.maps(member), strict=False))
        for member in group.members
        if isinstance(member, GenericOp)
    )


def _leave_border(group: Group) -> None:
    """A transform whose products went elsewhere is a loop nest like any other, of an image that has its border."""
    group.kind, group.members = Kind.NEST, group.members[-1:]
    group.inside = set(group.members)


# A block -------------------------------------------------------------------------------------------------------


NO_GROUPS: Mapping[Operation, Sequence[Operation]] = {}


class Grouping:
    """The groups of one block. `whole`: groups of attention that are decided already, by their last member."""

    def __init__(self, block: Block, whole: Mapping[Operation, Sequence[Operation]] = NO_GROUPS) -> None:
        self.block = block
        self.groups: list[Group] = []
        self._of: dict[Operation, Group] = {}
        self._whole = whole
        self._taken = {op for members in whole.values() for op in members}
        for op in block.ops:
            self._place(op)
        for group in self.groups:
            if group.kind == Kind.WINOGRAD and not is_complete(group):
                _leave_border(group)

    def _place(self, op: Operation) -> None:
        makers = self._makers(op)
        chosen: Group | None = None
        if op in self._whole:
            chosen = Group(Kind.ATTENTION, list(self._whole[op]), is_open=False)
            self.groups.append(chosen)
            self._of.update((member, chosen) for member in chosen.members)
        elif isinstance(op, GenericOp) and op not in self._taken:
            captured = self._makers_of(inner for inner in op.walk() if inner is not op)
            candidates = [group for group in reversed(makers) if group not in captured]
            chosen = next((group for group in candidates if joins(op, group)), None)
            if chosen is None and not captured and self.groups and is_sibling(op, self.groups[-1]):
                chosen = self.groups[-1]
            if chosen is None:
                chosen = lead(op)
                self.groups.append(chosen)
                self._of.update((member, chosen) for member in chosen.members)
            else:
                chosen.add(op)
            self._of[op] = chosen
        for group in makers:
            if group is not chosen:
                group.is_open = False

    def _makers(self, op: Operation) -> list[Group]:
        """The groups whose results an op, or an op inside it, reads; in order."""
        found = self._makers_of(op.walk() if op.regions else (op,))
        return sorted(found, key=self.groups.index) if len(found) > 1 else list(found)

    def _makers_of(self, ops: Iterable[Operation]) -> set[Group]:
        found: set[Group] = set()
        for op in ops:
            for operand in op._operands:
                group = self._of.get(operand.owner) if isinstance(operand.owner, Operation) else None
                if group is not None:
                    found.add(group)
        return found
