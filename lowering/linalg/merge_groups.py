"""`merge-groups`: groups of convolutions with few channels become fewer groups whose channels fill vectors.

    O[n, g, f, y, x] += I[n, g, c, ..] * F[g, f, c, ..]             g = 32, f = c = 4
 =>
    O[n, h, l, y, x] += I[n, h, d, ..] * D[h, l, d, ..]             h = 8, l = d = 16

where D holds the filters of 4 groups on its diagonal and zeros elsewhere, a constant that is made at load time. Of the
products only a quarter counts, but they are done sixteen at a time. Depthwise convolutions have a template of their own,
and groups that fill vectors are left as they are. A number that is not finite in one group makes those merged with it
NaN (0 * inf); finite results are what they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from xdsl.context import Context
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, IntegerAttr, ModuleOp, TensorType, i1, i64
from xdsl.dialects.linalg.ops import FillOp, GenericOp, IndexOp, YieldOp
from xdsl.ir import Block, Region, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap

from stepwell.lowering.analysis.affine import renumber
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.blocking import empty, filled
from stepwell.lowering.linalg.edit import INDEX, Editor, replace
from stepwell.lowering.linalg.generics import PARALLEL, Draft, generic
from stepwell.lowering.linalg.shapes import dynamic_size, reassociation, shape_of
from stepwell.lowering.pass_ import Pass

MOST_MERGED = 4
"""Groups that become one: with more, the products with zeros cost more than one at a time does."""

GROUP, CHANNEL = 1, 2
"""The dimensions of images and results."""


def merged_together(groups: int, channels: int, filters: int, lanes: int) -> int:
    """How many groups become one, so that channels and filters of each fill vectors; 1 where that cannot be."""
    count = max(lanes // gcd(lanes, channels), lanes // gcd(lanes, filters))
    return count if count <= MOST_MERGED and groups % count == 0 else 1


@dataclass(frozen=True)
class MergeGroups(Pass):
    """Merge the groups of convolutions that fill no vector of `lanes` elements. After: a convolution in groups that is
    not depthwise has whole vectors of channels in each, where so few as MOST_MERGED of them together have."""

    name = "merge-groups"
    lanes: int = 8

    def apply(self, module: ModuleOp, context: Context) -> None:
        """One walk."""
        for op in list(module.walk()):
            found = structure.convolution(op) if isinstance(op, GenericOp) else None
            if found is not None and isinstance(op, GenericOp) and _is_plain(op, found):
                sizes = structure.loop_sizes(op)
                groups, filters, channels = (sizes[d] for d in (found.group[0], found.out_channels[0], found.in_channels[0]))
                count = merged_together(groups, channels, filters, self.lanes)
                if count > 1:
                    _merge(op, found, count)


def _is_plain(op: GenericOp, found: structure.Convolution) -> bool:
    """Whether groups and channels are one loop each, of known size, in the order in which ops make them, and the
    convolution starts from a fill."""
    loops = (found.group, found.out_channels, found.in_channels)
    if any(len(part) != 1 for part in loops) or not isinstance(structure.outputs(op)[0].owner, FillOp):
        return False
    sizes = structure.loop_sizes(op)
    if any(sizes[part[0]] == DYNAMIC_INDEX for part in loops):
        return False
    g, f, c = (AffineDimExpr(part[0]) for part in loops)
    image, filters = (op.indexing_maps.data[n].data.results for n in (found.input, found.filter))
    return (
        image[GROUP : CHANNEL + 1] == (g, c)
        and structure.output_map(op).results[GROUP : CHANNEL + 1] == (g, f)
        and filters[:3] == (g, f, c)
    )


def _merge(op: GenericOp, found: structure.Convolution, count: int) -> None:
    edit = Editor(op)
    draft = Draft.of(op)
    (start,) = draft.outputs
    assert isinstance(start.owner, FillOp)
    groups, *shape = (shape_of(start)[d] for d in (GROUP, 0, *range(CHANNEL, len(shape_of(start)))))
    shape[1] *= count
    places = [0, *range(CHANNEL, len(shape) + 1)]
    image = _collapsed(draft.inputs[found.input], GROUP, edit)
    filters = _diagonal(draft.inputs[found.filter], count, edit)
    if count == groups:
        draft.maps = [_without(map_, found.group[0]) for map_ in draft.maps]
        del draft.iterators[found.group[0]]
        filters = _collapsed(filters, 0, edit)
    else:
        image = _expanded(image, GROUP, groups // count, edit)
        shape.insert(GROUP, groups // count)
        places.insert(GROUP, GROUP)
    draft.inputs[found.input], draft.inputs[found.filter] = image, filters
    draft.outputs = [filled(empty(shape, start, places, edit), edit, start.owner._operands[0])]
    draft.result_types = [draft.outputs[0].type]
    result = edit.insert(draft.build()).results[0]
    flat = result if count == groups else _collapsed(result, GROUP, edit)
    replace(op, _expanded(flat, GROUP, groups, edit))


def _without(map_: AffineMap, loop: int) -> AffineMap:
    """A map without the results that are a loop, which is gone."""
    places = [AffineDimExpr(d - (d > loop)) for d in range(map_.num_dims)]
    kept = tuple(e for e in map_.results if e != AffineDimExpr(loop))
    return renumber(AffineMap(map_.num_dims, 0, kept), places, map_.num_dims - 1)


def _diagonal(filters: SSAValue, count: int, edit: Editor) -> SSAValue:
    """[g, f, c, ...] as [g / count, count * f, count * c, ...], with zeros where f and c are of two groups."""
    apart = _expanded(filters, 0, shape_of(filters)[0] // count, edit)
    shape = shape_of(apart)
    rank = len(shape) + 1
    # Loops: group, which of the merged (of f), f, which of the merged (of c), c, window.
    wide = [*shape[:3], count, *shape[3:]]
    read = AffineMap(rank, 0, tuple(AffineDimExpr(d) for d in range(rank) if d != 3))
    assert isinstance(apart.type, TensorType)
    element = apart.type.element_type
    block = Block(arg_types=[element, element])
    end = YieldOp.create(operands=[])
    block.add_op(end)
    inside = Editor(end)
    ours, theirs = (inside.add(IndexOp, (), INDEX, {"dim": IntegerAttr(d, i64)}) for d in (1, 3))
    same = inside.add(arith.CmpiOp, (ours, theirs), i1, {"predicate": IntegerAttr(0, i64)})
    zero = inside.number(0, element)
    end.operands = [inside.add(arith.SelectOp, (same, block.args[0], zero), element)]
    target = empty(wide, apart, [*range(3), None, *range(3, len(shape))], edit)
    maps = [read, AffineMap.identity(rank)]
    op = generic([apart], [target], maps, [PARALLEL] * rank, Region(block), [target.type], edit.at.location)
    return _collapsed(_collapsed(edit.insert(op).results[0], 3, edit), 1, edit)


def _collapsed(value: SSAValue, dim: int, edit: Editor) -> SSAValue:
    """Dimensions `dim` and the next one as one."""
    shape, kind = list(shape_of(value)), value.type
    assert isinstance(kind, TensorType)
    groups = [(d,) for d in range(dim)] + [(dim, dim + 1)] + [(d,) for d in range(dim + 2, len(shape))]
    flat = [*shape[:dim], shape[dim] * shape[dim + 1], *shape[dim + 2 :]]
    properties = {"reassociation": reassociation(groups)}
    return edit.add(tensor.CollapseShapeOp, (value,), TensorType(kind.element_type, flat), properties)


def _expanded(value: SSAValue, dim: int, outer: int, edit: Editor) -> SSAValue:
    """Dimension `dim` as two, the first of size `outer`."""
    shape, kind = list(shape_of(value)), value.type
    assert isinstance(kind, TensorType)
    groups = [(d,) for d in range(dim)] + [(dim, dim + 1)] + [(d + 1,) for d in range(dim + 1, len(shape))]
    split = [*shape[:dim], outer, shape[dim] // outer, *shape[dim + 1 :]]
    dynamic = [dynamic_size(value, d, edit) for d, s in enumerate(shape) if s == DYNAMIC_INDEX]
    return edit.add(
        tensor.ExpandShapeOp, (value, *dynamic), TensorType(kind.element_type, split),
        {"reassociation": reassociation(groups), "static_output_shape": DenseArrayBase.from_list(i64, split)},
    )  # fmt: skip
