"""`pack-weights`: constant right factors of matrix products lie in panels, as the register tile reads them.

    B [n, k] or [k, n]  ->  [n/nr, k, nr]: for each step of k the nr columns of a tile, one after another

The product then has two loops for n, over panels and within one, and its result is [.., n/nr, nr], which is the
plain [.., n] by a collapse_shape: nothing moves. Where nr does not divide n, zeros fill the last panel up, the loops
stay as they are, and B is read at (n floordiv nr, k, n mod nr). `hoist-constants` puts the packing into @prepare. nr is
the register tile's width. Where there are too few columns to fill a panel, B is only transposed to [k, n] if it was not.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, AnyFloat, ModuleOp, TensorType
from xdsl.dialects.linalg.ops import FillOp, GenericOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap

from stepwell.lowering.analysis.affine import in_panels, positions
from stepwell.lowering.analysis.registers import most_rows, register_tile
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.blocking import filled, filled_up, split_loops, transpose
from stepwell.lowering.linalg.edit import Editor, replace
from stepwell.lowering.linalg.generics import Draft
from stepwell.lowering.linalg.hoist_constants import Facts, ops_of
from stepwell.lowering.linalg.shapes import Groups, expand, reassociation, shape_of
from stepwell.lowering.linalg.structure import Contraction
from stepwell.lowering.pass_ import Pass

ASSUMED_ROWS = 32
"""What a dynamic number of rows counts as."""


FEW_ROWS = 4
"""With so few rows a product is as fast as B is read."""

MOST_PADDING = 0.5
"""Zeros after the last column, as a part of the columns."""


def panel_width(rows: int, columns: int, lanes: int, registers: int, tallest: int | None = None) -> int:
    """How many columns a panel has: the register tile's; with few rows fewer, where that leaves less of the last
    panel empty."""
    _, vectors = register_tile(rows, columns, lanes, registers, tallest=tallest)
    narrowest = vectors if rows > FEW_ROWS else (vectors + 1) // 2
    return min(range(vectors, narrowest - 1, -1), key=lambda count: -columns % (count * lanes)) * lanes


def split_dim(value: SSAValue, dim: int, block: int, edit: Editor) -> SSAValue:
    """A tensor with one dimension in two: size/block and block."""
    shape = shape_of(value)
    split = [*shape[:dim], shape[dim] // block, block, *shape[dim + 1 :]]
    return expand(value, dim_groups(len(shape), dim), split, edit)


def worth_padding(weight: SSAValue, columns: int, width: int) -> bool:
    """Whether zeros after the last column are well spent: few beside the columns, and of a type that vectors are made
    of as wide as panels expect."""
    assert isinstance(weight.type, TensorType)
    return isinstance(weight.type.element_type, AnyFloat) and -columns % width <= MOST_PADDING * columns


def dim_groups(rank: int, dim: int) -> Groups:
    """The reassociation of one dimension into two."""
    return tuple((d,) if d < dim else (d, d + 1) if d == dim else (d + 1,) for d in range(rank))


@dataclass(frozen=True)
class PackWeights(Pass):
    """Put constant right factors of products into panels. After: a product with a constant right factor of enough
    columns reads it in panels; any other reads it row by row."""

    name = "pack-weights"
    lanes: int = 8
    registers: int = 16

    def apply(self, module: ModuleOp, context: Context) -> None:
        """One walk to find the constants, one over the products."""
        for function in module.ops:
            for region in function.regions:
                for block in region.blocks:
                    facts = Facts()
                    for op in ops_of(block):
                        facts.read(op)
                    self._block(block, facts)

    def _block(self, block: Block, facts: Facts) -> None:
        op = block.first_op
        while op is not None:
            following = op.next_op
            if isinstance(op, GenericOp):
                self._generic(op, facts)
            else:
                for region in op.regions:
                    for inner in region.blocks:
                        self._block(inner, facts)
            op = following

    def _generic(self, op: GenericOp, facts: Facts) -> None:
        found = structure.contraction(op)
        if found is None or op in facts.constant or len(found.n) != 1 or found.batch or not found.k:
            return
        weight = op._operands[found.rhs]
        if not isinstance(weight.owner, Operation) or weight.owner not in facts.weighty:
            return
        sizes = structure.loop_sizes(op)
        columns = sizes[found.n[0]]
        out = positions(structure.output_map(op))
        if columns == DYNAMIC_INDEX or out is None or out[-1] != found.n[0]:
            return
        rows = 1
        for d in found.m:
            rows *= ASSUMED_ROWS if sizes[d] == DYNAMIC_INDEX else sizes[d]
        width = panel_width(rows, columns, self.lanes, self.registers, most_rows(structure.row_bytes(op, found)))
        edit = Editor(op)
        if columns % width == 0:
            made = self._packed(op, found, width, edit)
        elif worth_padding(weight, columns, width):
            made = self._padded(op, found, width, edit)
        else:
            made = self._transposed(op, found, edit)
        if made is not None:
            replace(op, made)

    def _packed(self, op: GenericOp, dims: Contraction, width: int, edit: Editor) -> SSAValue | None:
        """The result of the product on panels."""
        (column,) = dims.n
        split = split_loops(op, {column: width})
        weight, start = op._operands[dims.rhs], structure.outputs(op)[0]
        read = positions(op.indexing_maps.data[dims.rhs].data)
        if split is None or read is None:
            return None
        at = read.index(column)
        parts = split_dim(weight, at, width, edit)
        depth = [d for d in range(len(read) + 1) if d not in (at, at + 1)]
        panels = transpose(parts, [at, *depth, at + 1], edit)
        place = split.place
        outer, inner = AffineDimExpr(place[column]), AffineDimExpr(split.inner[column])
        loops = len(split.iterators)
        draft = Draft.of(op)
        draft.maps[dims.lhs] = split.map(draft.maps[dims.lhs])
        middle = tuple(AffineDimExpr(place[read[d if d < at else d - 1]]) for d in depth)
        draft.maps[dims.rhs] = AffineMap(loops, 0, (outer, *middle, inner))
        out = split.map(draft.maps[-1])
        draft.maps[-1] = out
        draft.inputs[dims.rhs] = panels
        draft.outputs = [self._start(start, width, edit)]
        draft.iterators = list(split.iterators)
        draft.result_types = [draft.outputs[0].type]
        rank, kind = len(shape_of(start)), op.results[0].type
        made = draft.build()
        edit.insert(made)
        properties = {"reassociation": reassociation(dim_groups(rank, rank - 1))}
        return edit.add(tensor.CollapseShapeOp, made.results, kind, properties)

    def _padded(self, op: GenericOp, dims: Contraction, width: int, edit: Editor) -> SSAValue | None:
        """The result of the product on panels, the last of which is filled up: the loops stay as they are."""
        (column,) = dims.n
        weight = op._operands[dims.rhs]
        read = positions(op.indexing_maps.data[dims.rhs].data)
        if read is None:
            return None
        at = read.index(column)
        parts = split_dim(filled_up(weight, ((at, width),), edit), at, width, edit)
        depth = [d for d in range(len(read)) if d != at]
        order = [at, *(d if d < at else d + 1 for d in depth), at + 1]
        draft = Draft.of(op)
        draft.inputs[dims.rhs] = transpose(parts, order, edit)
        middle = [AffineDimExpr(read[d]) for d in depth]
        draft.maps[dims.rhs] = in_panels(column, width, middle, draft.maps[dims.rhs].num_dims)
        return edit.insert(draft.build()).results[0]

    def _start(self, start: SSAValue, width: int, edit: Editor) -> SSAValue:
        """What the accumulators start from, with the last dimension split."""
        owner, last = start.owner, len(shape_of(start)) - 1
        if not isinstance(owner, FillOp) or not isinstance(owner._operands[1].owner, tensor.EmptyOp):
            return split_dim(start, last, width, edit)
        old = owner._operands[1].owner
        shape = shape_of(start)
        assert isinstance(start.type, TensorType)
        kind = TensorType(start.type.element_type, [*shape[:-1], shape[-1] // width, width])
        return filled(edit.add(tensor.EmptyOp, old._operands, kind), edit, owner._operands[0])

    def _transposed(self, op: GenericOp, dims: Contraction, edit: Editor) -> SSAValue | None:
        """The result of the product with the columns of B innermost."""
        read = positions(op.indexing_maps.data[dims.rhs].data)
        if read is None or read[-1] == dims.n[0]:
            return None
        at = read.index(dims.n[0])
        order = [d for d in range(len(read)) if d != at] + [at]
        draft = Draft.of(op)
        draft.inputs[dims.rhs] = transpose(op._operands[dims.rhs], order, edit)
        old = draft.maps[dims.rhs]
        draft.maps[dims.rhs] = AffineMap(old.num_dims, 0, tuple(old.results[d] for d in order))
        return edit.insert(draft.build()).results[0]
