"""`absorb-transposes`: a contraction writes its result in the order in which it is read.

    %c = generic (b, m, n, k): matmul             : 4x6x8
    %t = generic (d0, d1, d2) <- %c[d1, d0, d2]   : 6x4x8    ->    %c written as 6x4x8, %t reads it in place

So the transpose after attention costs nothing, and the reader can become the contraction's epilogue.
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp, TensorType
from xdsl.dialects.linalg.ops import FillOp, GenericOp
from xdsl.ir import SSAValue
from xdsl.ir.affine import AffineMap

from stepwell.lowering.analysis.affine import is_identity, positions
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.edit import Editor, replace
from stepwell.lowering.linalg.generics import Draft
from stepwell.lowering.pass_ import Pass


def order_read(value: SSAValue) -> tuple[int, ...] | None:
    """For each dimension of a tensor the loop of its only reader, where that is an elementwise op that reads it
    in another order."""
    use = value.first_use
    if use is None or value.uses.get_length() != 1 or not isinstance(use.operation, GenericOp):
        return None
    reader = use.operation
    if not structure.is_parallel(reader) or value in structure.outputs(reader):
        return None
    read = reader.indexing_maps.data[use.index].data
    order = positions(read)
    whole = order is not None and len(order) == read.num_dims and not is_identity(read)
    plain = all(is_identity(structure.output_map(reader, r)) for r in range(len(reader.results)))
    return order if whole and plain else None


def permuted(op: GenericOp, order: tuple[int, ...], edit: Editor) -> GenericOp | None:
    """The contraction with dimension i of its result at place order[i]; None unless it starts from a fill."""
    start = structure.outputs(op)[0].owner
    if not isinstance(start, FillOp) or not isinstance(start._operands[1].owner, tensor.EmptyOp):
        return None
    empty = start._operands[1].owner
    back = [order.index(place) for place in range(len(order))]
    kind = op.results[0].type
    assert isinstance(kind, TensorType)
    shape = kind.get_shape()
    dynamic = {d: empty._operands[shape[:d].count(DYNAMIC_INDEX)] for d in back if shape[d] == DYNAMIC_INDEX}
    new_type = TensorType(kind.element_type, [shape[d] for d in back])
    new_empty = edit.add(tensor.EmptyOp, [dynamic[d] for d in back if d in dynamic], new_type)
    fill = FillOp([start._operands[0]], [new_empty], [new_type])
    fill.location = start.location
    edit.insert(fill)
    draft = Draft.of(op)
    old = draft.maps[-1]
    draft.maps[-1] = AffineMap(old.num_dims, 0, tuple(old.results[d] for d in back))
    draft.outputs, draft.result_types = [fill.results[0]], [new_type]
    return draft.build()


@dataclass(frozen=True)
class AbsorbTransposes(Pass):
    """Let contractions write their result in the order of its only elementwise reader. After: such a reader
    reads it in place."""

    name = "absorb-transposes"

    def apply(self, module: ModuleOp, context: Context) -> None:
        """One walk over the generics."""
        for op in [op for op in module.walk() if isinstance(op, GenericOp)]:
            if structure.is_parallel(op) or structure.contraction(op) is None:
                continue
            order = order_read(op.results[0])
            if order is None:
                continue
            use = op.results[0].first_use
            assert use is not None
            edit = Editor(op)
            made = permuted(op, order, edit)
            if made is None:
                continue
            edit.insert(made)
            reader = use.operation
            assert isinstance(reader, GenericOp)
            index = use.index
            replace(op, made.results)
            draft = Draft.of(reader)
            draft.maps[index] = AffineMap.identity(draft.maps[index].num_dims)
            assert reader.parent is not None
            new_reader = draft.build()
            reader.parent.insert_op_before(new_reader, reader)
            replace(reader, new_reader.results)
