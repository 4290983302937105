"""`sink-reshapes`: an elementwise op after a reshape runs before it, so that it meets what made the tensor.

    %m = matmul ...            : 6x8            %m = matmul ...       : 6x8
    %v = expand_shape %m       : 2x3x8          %y = collapse_shape %x : 6x8   (free)
    %r = generic add(%v, %x)   : 2x3x8    ->    %s = generic add(%m, %y) : 6x8 (fuses into the matmul)
                                                %r = expand_shape %s  : 2x3x8

A contraction that reads a transpose through a collapse_shape (heads flattened into the batch) gets the loops that
were flattened, so that the transpose can become part of its maps. And for ones: an op over 1x6x8 that reads a 6x8
matmul by its last two loops runs over 6x8.

Only where the reshape's source is a generic that nobody else reads. Towards finer shapes (the reshape was a
collapse) that always works; towards coarser ones the other operands must have all dimensions of a group, in
order, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp, TensorType
from xdsl.dialects.linalg.ops import FillOp, GenericOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.ir.affine import AffineConstantExpr, AffineDimExpr, AffineExpr, AffineMap

from stepwell.lowering.analysis.affine import is_identity, panel, positions
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.edit import Editor, remove, replace
from stepwell.lowering.linalg.generics import PARALLEL, Draft
from stepwell.lowering.linalg.shapes import (
    RESHAPES,
    Groups,
    collapse,
    expand,
    groups_of,
    is_static,
    reshaped,
    shape_of,
)
from stepwell.lowering.pass_ import Pass


@dataclass(frozen=True)
class Space:
    """The iteration space to move to: its static shape, and which of its dimensions belong to which of the other
    one's, finer to coarser."""

    shape: tuple[int, ...]
    groups: Groups
    is_finer: bool


def candidate(op: GenericOp) -> tuple[int, Operation] | None:
    """The first operand that is a reshape worth moving past, and that reshape."""
    if not structure.is_elementwise(op) or not all(
        is_identity(structure.output_map(op, r)) for r in range(len(op.results))
    ):
        return None
    for index, operand in enumerate(structure.inputs(op)):
        owner = operand.owner
        if not isinstance(owner, RESHAPES) or operand.uses.get_length() != 1 or not keeps_dynamic(owner):
            continue
        source = owner._operands[0]
        makes = isinstance(source.owner, GenericOp) and source.owner.parent is op.parent
        alone = source.uses.get_length() == 1
        if makes and alone and is_identity(op.indexing_maps.data[index].data):
            return index, owner
    return None


def keeps_dynamic(reshape: Operation) -> bool:
    """Whether dynamic sizes stay dimensions of their own."""
    finer = reshape._operands[0] if isinstance(reshape, tensor.CollapseShapeOp) else reshape.results[0]
    shape = shape_of(finer)
    return all(len(group) == 1 or all(shape[d] != DYNAMIC_INDEX for d in group) for group in groups_of(reshape))


def moved(op: GenericOp, reshape: Operation, edit: Editor) -> list[SSAValue] | None:
    """The results of `op`, computed before `reshape` instead of after it; None where an operand forbids it."""
    finer = isinstance(reshape, tensor.CollapseShapeOp)
    space = Space(shape_of(reshape._operands[0]), groups_of(reshape), finer)
    views = _finer_views if finer else _coarser_views
    planned = [views(op, index, space) for index in range(len(op._operands))]
    if None in planned:
        return None
    draft = Draft.of(op)
    operands: list[SSAValue] = []
    for operand, view in zip(op._operands, planned, strict=True):
        assert view is not None
        groups, shape, _ = view
        operands.append(_view(operand, groups, shape, finer, edit))
    count = len(op.results)
    draft.inputs, draft.outputs = operands[:-count], operands[-count:]
    draft.maps = [view[2] for view in planned if view is not None]
    draft.iterators = [PARALLEL] * len(space.shape)
    draft.result_types = [value.type for value in draft.outputs]
    shapes = [shape_of(result) for result in op.results]
    made = draft.build()
    edit.insert(made)
    back = collapse if finer else expand
    return [back(r, space.groups, shape, edit) for r, shape in zip(made.results, shapes, strict=True)]


View = tuple[Groups, tuple[int, ...], AffineMap]
"""How an operand is reshaped (finer to coarser groups, shape) and then read."""


def _finer_views(op: GenericOp, index: int, space: Space) -> View:
    """Each loop becomes the loops of its group; so does each dimension that it reads."""
    groups: list[tuple[int, ...]] = []
    shape: list[int] = []
    results: list[AffineExpr] = []
    for expression in op.indexing_maps.data[index].data.results:
        start = len(shape)
        if isinstance(expression, AffineDimExpr):
            loops = space.groups[expression.position]
            shape += [space.shape[d] for d in loops]
            results += [AffineDimExpr(d) for d in loops]
        else:
            shape.append(1)
            results.append(AffineConstantExpr(0))
        groups.append(tuple(range(start, len(shape))))
    return tuple(groups), tuple(shape), AffineMap(len(space.shape), 0, tuple(results))


def _coarser_views(op: GenericOp, index: int, space: Space) -> View | None:
    """Each group of loops becomes one; an operand has to read all its loops side by side, or none."""
    map_ = op.indexing_maps.data[index].data
    operand_shape = shape_of(op._operands[index])
    group_of = {d: number for number, group in enumerate(space.groups) for d in group}
    groups: list[tuple[int, ...]] = []
    shape: list[int] = []
    results: list[AffineExpr] = []
    position = 0
    while position < len(map_.results):
        expression = map_.results[position]
        if not isinstance(expression, AffineDimExpr):
            groups.append((position,))
            shape.append(1)
            results.append(AffineConstantExpr(0))
            position += 1
            continue
        group = space.groups[group_of[expression.position]]
        read = map_.results[position : position + len(group)]
        if [e.position if isinstance(e, AffineDimExpr) else None for e in read] != list(group):
            return None
        groups.append(tuple(range(position, position + len(group))))
        total = 1
        for size in operand_shape[position : position + len(group)]:
            total *= size
        shape.append(total)
        results.append(AffineDimExpr(group_of[expression.position]))
        position += len(group)
    return tuple(groups), tuple(shape), AffineMap(len(space.shape), 0, tuple(results))


def _view(operand: SSAValue, groups: Groups, shape: Sequence[int], finer: bool, edit: Editor) -> SSAValue:
    """The operand in its new shape. Tensors without contents are made anew."""
    if shape_of(operand) == tuple(shape):
        return operand
    owner = operand.owner
    if isinstance(owner, tensor.EmptyOp):
        assert isinstance(operand.type, TensorType)
        return edit.add(tensor.EmptyOp, owner._operands, TensorType(operand.type.element_type, list(shape)))
    if isinstance(owner, RESHAPES) and shape_of(owner._operands[0]) == tuple(shape):
        if is_static(operand) or groups_of(owner) == groups:
            return owner._operands[0]
    return (expand if finer else collapse)(operand, groups, shape, edit)


# Ones ----------------------------------------------------------------------------------------------------------


def unit_loops(op: GenericOp) -> tuple[int, ...]:
    """The loops of size 1 that an elementwise op has more than a reduction whose result it alone reads, dimension
    by dimension; empty where there is no such reduction."""
    sizes = structure.loop_sizes(op)
    if 1 not in sizes or not structure.is_elementwise(op):
        return ()
    for operand, attribute in zip(structure.inputs(op), op.indexing_maps.data, strict=False):
        owner = operand.owner
        if not isinstance(owner, GenericOp) or owner.parent is not op.parent or structure.is_parallel(owner):
            continue
        read = positions(attribute.data)
        if read is None or operand.uses.get_length() != 1 or list(read) != sorted(read):
            continue
        extra = tuple(d for d in range(len(sizes)) if d not in read)
        if extra and read and all(sizes[d] == 1 for d in extra):
            return extra
    return ()


def without_loops(op: GenericOp, dropped: tuple[int, ...], edit: Editor) -> list[SSAValue]:
    """The results of an op, computed without some loops of size 1. Operands are static."""
    kept = [d for d in range(len(op.iterator_types.data)) if d not in dropped]
    loops: list[AffineExpr] = [
        AffineDimExpr(kept.index(d)) if d in kept else AffineConstantExpr(0) for d in range(len(kept) + len(dropped))
    ]
    draft = Draft.of(op)
    operands: list[SSAValue] = []
    for index, (operand, map_) in enumerate(zip(op._operands, draft.maps, strict=True)):
        ones = [i for i, e in enumerate(map_.results) if isinstance(e, AffineDimExpr) and e.position in dropped]
        # A tensor keeps one dimension: xDSL has no reshape to rank 0.
        stays = [i for i in range(len(map_.results)) if i not in ones] or ones[:1]
        shape = [shape_of(operand)[i] for i in stays]
        read = [map_.results[i] for i in stays]
        results = tuple(loops[e.position] if isinstance(e, AffineDimExpr) else e for e in read)
        draft.maps[index] = AffineMap(len(kept), 0, results)
        if isinstance(operand.owner, tensor.EmptyOp):
            assert isinstance(operand.type, TensorType)
            operand = edit.add(tensor.EmptyOp, (), TensorType(operand.type.element_type, shape))
        operands.append(reshaped(operand, shape, edit))
    count = len(op.results)
    draft.inputs, draft.outputs = operands[:-count], operands[-count:]
    draft.iterators = [PARALLEL] * len(kept)
    draft.result_types = [value.type for value in draft.outputs]
    shapes = [shape_of(result) for result in op.results]
    made = draft.build()
    edit.insert(made)
    return [reshaped(result, shape, edit) for result, shape in zip(made.results, shapes, strict=True)]


# Contractions --------------------------------------------------------------------------------------------------


def finer_loops(op: GenericOp) -> dict[int, tuple[int, ...]]:
    """For a contraction that reads a transpose through a collapse_shape, or batches that an elementwise op made for it
    alone: the sizes of the loops that the collapsed ones are made of. Empty for all others, and where a factor lies in
    panels."""
    dims = None if structure.is_parallel(op) else structure.contraction(op)
    if dims is None:
        return {}
    if any(panel(attribute.data) is not None for attribute in op.indexing_maps.data):
        return {}
    for operand, attribute in zip(structure.inputs(op), op.indexing_maps.data, strict=False):
        owner = operand.owner
        if not isinstance(owner, tensor.CollapseShapeOp) or not keeps_dynamic(owner):
            continue
        source = owner._operands[0].owner
        if not isinstance(source, GenericOp) or not structure.is_parallel(source):
            continue
        moves = structure.is_data_movement(source)
        alone = owner._operands[0].has_one_use() and operand.has_one_use()
        if _is_absorbed(source) if moves else not alone:
            continue
        shape = shape_of(owner._operands[0])
        found = {
            e.position: tuple(shape[d] for d in group)
            for e, group in zip(attribute.data.results, groups_of(owner), strict=True)
            if len(group) > 1 and isinstance(e, AffineDimExpr)
        }
        if found and (moves or set(found) <= set(dims.batch)):
            return found
    return {}


def _is_absorbed(transpose: GenericOp) -> bool:
    """Whether a transpose alone reads a contraction, also through reshapes: absorb-transposes removes it."""
    value = transpose._operands[0]
    while value.uses.get_length() == 1:
        owner = value.owner
        if isinstance(owner, GenericOp):
            return structure.contraction(owner) is not None
        if not isinstance(owner, RESHAPES):
            return False
        value = owner._operands[0]
    return False


def with_finer_loops(op: GenericOp, finer: dict[int, tuple[int, ...]], edit: Editor) -> list[SSAValue]:
    """The results of a contraction, computed with some loops in parts, and collapsed again."""
    kinds = list(op.iterator_types.data)
    groups: list[tuple[int, ...]] = []
    sizes: list[int] = []
    for d in range(len(kinds)):
        parts = finer.get(d, (DYNAMIC_INDEX,))
        groups.append(tuple(range(len(sizes), len(sizes) + len(parts))))
        sizes += parts
    space = Space(tuple(sizes), tuple(groups), True)
    draft = Draft.of(op)
    draft.iterators = [kinds[d] for d in range(len(kinds)) for _ in groups[d]]
    operands: list[SSAValue] = []
    back: list[tuple[Groups, tuple[int, ...]]] = []
    for index, operand in enumerate(op._operands):
        own, split, map_ = _finer_views(op, index, space)
        whole = shape_of(operand)
        # Loops that stay whole have the operand's own size.
        shape = tuple(split[d] if len(group) > 1 else whole[number] for number, group in enumerate(own) for d in group)
        draft.maps[index] = map_
        operands.append(_start(operand, own, shape, edit) if index >= len(draft.inputs) else
                        _view(operand, own, shape, True, edit))  # fmt: skip
        back.append((own, whole))
    count = len(op.results)
    draft.inputs, draft.outputs = operands[:-count], operands[-count:]
    draft.result_types = [value.type for value in draft.outputs]
    made = draft.build()
    edit.insert(made)
    return [
        collapse(result, own, whole, edit) if shape_of(result) != whole else result
        for result, (own, whole) in zip(made.results, back[-count:], strict=True)
    ]


def _start(value: SSAValue, groups: Groups, shape: tuple[int, ...], edit: Editor) -> SSAValue:
    """What accumulators start from, in a finer shape: a fill is made anew."""
    owner = value.owner
    if not isinstance(owner, FillOp) or shape_of(value) == shape:
        return _view(value, groups, shape, True, edit)
    target = _view(owner._operands[1], groups, shape, True, edit)
    fill = FillOp([owner._operands[0]], [target], [target.type])
    fill.location = owner.location
    return edit.insert(fill).results[0]


@dataclass(frozen=True)
class SinkReshapes(Pass):
    """Move elementwise ops before the reshape of a result that only they read, and contractions before the
    flattening of a transpose. After: between a generic and the
    elementwise op that alone reads it there is no static reshape that could stand after both."""

    name = "sink-reshapes"

    def apply(self, module: ModuleOp, context: Context) -> None:
        """One forward walk, so that a chain of elementwise ops passes a reshape one by one."""
        for function in module.ops:
            for region in function.regions:
                for block in region.blocks:
                    self._block(block)

    def _block(self, block: Block) -> None:
        op = block.first_op
        while op is not None:
            following = op.next_op
            if isinstance(op, GenericOp):
                self._op(op)
            else:
                for region in op.regions:
                    for inner in region.blocks:
                        self._block(inner)
            op = following

    def _op(self, op: GenericOp) -> None:
        if not all(_is_tensor(operand) for operand in op._operands):
            return
        finer = finer_loops(op)
        if finer:
            replace(op, with_finer_loops(op, finer, Editor(op)))
            return
        ones = unit_loops(op)
        if ones and all(is_static(operand) for operand in op._operands):
            replace(op, without_loops(op, ones, Editor(op)))
            return
        found = candidate(op)
        if found is None:
            return
        reshape = found[1]
        results = moved(op, reshape, Editor(op))
        if results is not None:
            replace(op, results)
            if reshape.results[0].first_use is None:
                remove(reshape)


def _is_tensor(value: SSAValue) -> bool:
    return isinstance(value.type, TensorType)
