"""Splitting loops of a generic into blocks: the mechanics of blocked layouts.

Splitting loop d of size C by b gives an outer loop of C/b and an inner one of b. Every dimension that d indexes is
split too; the inner dimensions go to the end of the tensor, those of reduced loops before those of kept ones:

    image   [n, c, y, x]      -> [n, c/b, y, x, b]
    filter  [f, c, ky, kx]    -> [f/b, c/b, ky, kx, b of c, b of f]
    bias    [f]               -> [f/b, b]

Where b does not divide C, the last block is filled up: packing puts zeros there, unpacking leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, TensorType, i64
from xdsl.dialects.linalg.attrs import IteratorTypeAttr
from xdsl.dialects.linalg.ops import FillOp, GenericOp, YieldOp
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineExpr, AffineMap

from stepwell.dialects.quick_ir import segments
from stepwell.lowering.analysis.affine import dims_of, renumber
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.edit import Editor
from stepwell.lowering.linalg.generics import PARALLEL, generic
from stepwell.lowering.linalg.shapes import dynamic_size, reassociation, shape_of

Dims = tuple[tuple[int, int], ...]
"""(dimension, block) of each dimension that is split, in the order of the inner dimensions at the end."""


def empty(shape: Sequence[int], like: SSAValue, places: Sequence[int | None], edit: Editor) -> SSAValue:
    """A tensor without contents; dynamic sizes are those of dimension places[i] of `like`."""
    assert isinstance(like.type, TensorType)
    dynamic = [
        dynamic_size(like, place, edit)
        for s, place in zip(shape, places, strict=True)
        if s == DYNAMIC_INDEX and place is not None
    ]
    return edit.add(tensor.EmptyOp, dynamic, TensorType(like.type.element_type, list(shape)))


def split_shape(shape: Sequence[int], dims: Dims) -> tuple[list[int], list[int]]:
    """The blocked shape, and the dimension that each of its dimensions comes from."""
    blocks = dict(dims)
    outer = [-(-s // blocks[d]) if d in blocks else s for d, s in enumerate(shape)]
    return outer + [b for _, b in dims], [*range(len(shape)), *(d for d, _ in dims)]


def permutation(rank: int, dims: Dims) -> list[int]:
    """For each dimension of the blocked tensor its place where every inner dimension follows its outer one."""
    blocks = dict(dims)
    place: dict[tuple[int, bool], int] = {}
    for d in range(rank):
        place[d, False] = len(place)
        if d in blocks:
            place[d, True] = len(place)
    return [place[d, False] for d in range(rank)] + [place[d, True] for d, _ in dims]


def filled_up(value: SSAValue, dims: Dims, edit: Editor) -> SSAValue:
    """A tensor with zeros behind its contents, so that blocks divide its dimensions."""
    shape, blocks = list(shape_of(value)), dict(dims)
    whole = [-(-s // blocks[d]) * blocks[d] if d in blocks else s for d, s in enumerate(shape)]
    if whole == shape:
        return value
    return inserted(value, filled(empty(whole, value, range(len(shape)), edit), edit), [0] * len(shape), edit)


def filled(target: SSAValue, edit: Editor, number: SSAValue | None = None) -> SSAValue:
    """A tensor full of a number: 0, unless another is given."""
    assert isinstance(target.type, TensorType)
    value = edit.number(0, target.type.element_type) if number is None else number
    fill = FillOp([value], [target], [target.type])
    fill.location = edit.at.location
    return edit.insert(fill).results[0]


def inserted(source: SSAValue, into: SSAValue, offsets: Sequence[int], edit: Editor) -> SSAValue:
    """A tensor put into another one."""
    sizes, properties = slice_of(source, shape_of(source), edit, offsets)
    properties["operandSegmentSizes"] = segments(1, 1, 0, len(sizes), 0)
    return edit.add(tensor.InsertSliceOp, (source, into, *sizes), into.type, properties)


def slice_of(
    value: SSAValue, shape: Sequence[int], edit: Editor, offsets: Sequence[int] | None = None
) -> tuple[list[SSAValue], dict[str, Attribute]]:
    """The slice of a shape, whose dynamic sizes are those of a tensor, from the origin or other offsets on: operands
    and properties."""
    rank = len(shape)
    sizes = [dynamic_size(value, d, edit) for d, s in enumerate(shape) if s == DYNAMIC_INDEX]
    parts = {"offsets": list(offsets or [0] * rank), "sizes": list(shape), "strides": [1] * rank}
    return sizes, {f"static_{name}": DenseArrayBase.from_list(i64, part) for name, part in parts.items()}


def pack(value: SSAValue, dims: Dims, edit: Editor) -> SSAValue:
    """A tensor in blocked layout: an expand_shape, and a transpose where the inner dimensions are not last yet."""
    value = filled_up(value, dims, edit)
    shape = shape_of(value)
    blocks = dict(dims)
    order = permutation(len(shape), dims)
    split: list[int] = []
    sources: list[int] = []
    groups: list[tuple[int, ...]] = []
    for d, s in enumerate(shape):
        start = len(split)
        split += [s // blocks[d], blocks[d]] if d in blocks else [s]
        sources += [d] * (len(split) - start)
        groups.append(tuple(range(start, len(split))))
    assert isinstance(value.type, TensorType)
    dynamic = [dynamic_size(value, d, edit) for d, s in zip(sources, split, strict=True) if s == DYNAMIC_INDEX]
    expanded = edit.add(
        tensor.ExpandShapeOp, (value, *dynamic), TensorType(value.type.element_type, split),
        {"reassociation": reassociation(groups), "static_output_shape": DenseArrayBase.from_list(i64, split)},
    )  # fmt: skip
    return transpose(expanded, order, edit)


def unpack(value: SSAValue, plain: Sequence[int], dims: Dims, edit: Editor) -> SSAValue:
    """The plain tensor, of the given shape, of a blocked one: the inverse of `pack`."""
    rank = len(plain)
    order = permutation(rank, dims)
    back = [order.index(d) for d in range(len(order))]
    apart = transpose(value, back, edit)
    blocks = dict(dims)
    groups: list[tuple[int, ...]] = []
    position = 0
    shape: list[int] = []
    for d in range(rank):
        width = 2 if d in blocks else 1
        groups.append(tuple(range(position, position + width)))
        outer = shape_of(apart)[position]
        shape.append(outer * blocks[d] if d in blocks else outer)
        position += width
    assert isinstance(apart.type, TensorType)
    kind = TensorType(apart.type.element_type, shape)
    whole = edit.add(tensor.CollapseShapeOp, (apart,), kind, {"reassociation": reassociation(groups)})
    if shape == list(plain):
        return whole
    sizes, properties = slice_of(whole, plain, edit)
    kind = TensorType(kind.element_type, plain)
    properties["operandSegmentSizes"] = segments(1, 0, len(sizes), 0)
    return edit.add(tensor.ExtractSliceOp, (whole, *sizes), kind, properties)


def transpose(value: SSAValue, order: Sequence[int], edit: Editor) -> SSAValue:
    """Dimension i of the result is dimension order[i] of the tensor."""
    if list(order) == list(range(len(order))):
        return value
    rank = len(order)
    shape = [shape_of(value)[d] for d in order]
    target = empty(shape, value, list(order), edit)
    results: list[AffineExpr] = [AffineDimExpr(list(order).index(d)) for d in range(rank)]
    assert isinstance(value.type, TensorType)
    element = value.type.element_type
    block = Block(arg_types=[element, element])
    block.add_op(YieldOp.create(operands=[block.args[0]]))
    maps = [AffineMap(rank, 0, tuple(results)), AffineMap.identity(rank)]
    op = generic([value], [target], maps, [PARALLEL] * rank, Region(block), [target.type], edit.at.location)
    return edit.insert(op).results[0]


# Loops ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """The loops of a generic after some were split."""

    blocks: dict[int, int]
    """Loop to block."""
    iterators: tuple[IteratorTypeAttr, ...]
    place: tuple[int, ...]
    """Old loop to new (outer) loop."""
    inner: dict[int, int]
    """Old split loop to its new inner loop."""
    order: tuple[int, ...]
    """The split loops in the order of inner dimensions: reduced ones first."""

    def dims(self, map_: AffineMap) -> Dims:
        """How an operand read by this map is blocked."""
        at = {e.position: i for i, e in enumerate(map_.results) if isinstance(e, AffineDimExpr)}
        return tuple((at[d], self.blocks[d]) for d in self.order if d in at)

    def map(self, map_: AffineMap) -> AffineMap:
        """The map of the blocked operand."""
        outer = renumber(map_, [AffineDimExpr(p) for p in self.place], len(self.iterators))
        read = {e.position for e in map_.results if isinstance(e, AffineDimExpr)}
        inner = tuple(AffineDimExpr(self.inner[d]) for d in self.order if d in read)
        return AffineMap(len(self.iterators), 0, outer.results + inner)


def split_loops(op: GenericOp, blocks: dict[int, int]) -> Split | None:
    """Split loops of an op: inner kept loops go after the last kept loop, inner reduced ones to the end. None
    where an operand indexes a dimension by a split loop in combination with others, or where the body needs
    positions."""
    if structure.uses_position(op):
        return None
    for attribute in op.indexing_maps.data:
        plain = [e.position for e in attribute.data.results if isinstance(e, AffineDimExpr)]
        for d in blocks:
            if plain.count(d) > 1 or (d in dims_of(attribute.data) and d not in plain):
                return None
            if any(d in e.used_dims() for e in attribute.data.results if not isinstance(e, AffineDimExpr)):
                return None
    kinds = list(op.iterator_types.data)
    reduced = set(structure.reduction_dims(op))
    last_kept = max((d for d in range(len(kinds)) if d not in reduced), default=-1)
    sequence: list[tuple[int, bool]] = []
    if last_kept < 0:
        sequence += [(d, True) for d in blocks if d not in reduced]
    for d in range(len(kinds)):
        sequence.append((d, False))
        if d == last_kept:
            sequence += [(k, True) for k in blocks if k not in reduced]
    sequence += [(d, True) for d in blocks if d in reduced]
    number = {part: i for i, part in enumerate(sequence)}
    order = [d for d in blocks if d in reduced] + [d for d in blocks if d not in reduced]
    return Split(
        blocks,
        tuple(kinds[d] for d, _ in sequence),
        tuple(number[d, False] for d in range(len(kinds))),
        {d: number[d, True] for d in blocks},
        tuple(order),
    )


def packed_output(value: SSAValue, dims: Dims, edit: Editor) -> SSAValue | None:
    """What a result starts from, in blocked layout, where it has no contents or is filled; None otherwise."""
    owner = value.owner
    shape, sources = split_shape(shape_of(value), dims)
    if isinstance(owner, tensor.EmptyOp):
        return empty(shape, value, sources, edit)
    if not isinstance(owner, FillOp):
        return None
    target = empty(shape, value, sources, edit)
    return filled(target, edit, owner._operands[0])
