"""Which ops of an attention become one kernel, and how its work is divided.

Beside its own steps a kernel takes a factor or a change of layout of the queries, which it copies anyway, and a
change of layout of the result, which it can store in any order. Nobody else may read what is inside.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import Block, Operation, SSAValue

from stepwell.dialects.target import Target
from stepwell.lowering.analysis.affine import is_identity
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.attention_form import Attention, attention
from stepwell.lowering.linalg.structure import DYNAMIC

ROWS = 64
"""Queries of a unit of work: so often keys and values are used once they are near."""

KEYS = 128
"""Keys of a block: with so many of them, their values and weights stay in the first-level cache."""


def attentions(block: Block, target: Target) -> dict[Operation, tuple[Operation, ...]]:
    """The members of each attention of a block that is worth a kernel of its own, by its last one."""
    found: dict[Operation, tuple[Operation, ...]] = {}
    for op in block.ops:
        form = attention(op) if target.attention else None
        if form is not None and _is_apart(form, block) and _pays(form, target):
            members = (*_before(form), *form.steps, *_after(form))
            found[members[-1]] = members
    return found


def _is_apart(form: Attention, block: Block) -> bool:
    """Whether nobody else reads the values inside, all of one block."""
    inside = set(form.steps)
    return all(op.parent is block for op in inside) and all(
        use.operation in inside for op in form.steps[:-1] for use in op.results[0].uses
    )


def _pays(form: Attention, target: Target) -> bool:
    """Whether lanes that run along queries are mostly busy, and heads have whole vectors of values."""
    sizes = structure.loop_sizes(form.result)
    queries, columns = sizes[form.second.m[0]], sizes[form.second.n[0]]
    depth = structure.loop_sizes(form.scores)[form.first.k[0]]
    lanes = target.lanes(bits_of(form.result))
    if DYNAMIC in (columns, depth) or value_lanes(columns, lanes) < min(lanes, 4):
        return False
    return lanes > 1 and (queries == DYNAMIC or 2 * queries >= lanes)


def bits_of(op: GenericOp) -> int:
    """The width of the elements of a result of floats."""
    kind = op.results[0].type
    assert isinstance(kind, TensorType)
    width: int = kind.element_type.bitwidth
    return width


def value_lanes(columns: int, lanes: int) -> int:
    """The widest vectors of which a row of values is made."""
    while columns % lanes:
        lanes //= 2
    return lanes


def _before(form: Attention) -> tuple[Operation, ...]:
    """An op that makes the queries of one tensor, element by element."""
    value = form.scores._operands[form.first.lhs]
    maker = value.owner
    if not isinstance(maker, GenericOp) or maker.parent is not form.scores.parent or len(maker.results) != 1:
        return ()
    tensors = [v for v in structure.inputs(maker) if isinstance(v.type, TensorType)]
    plain = structure.is_elementwise(maker) and is_identity(structure.output_map(maker)) and len(tensors) == 1
    return (maker,) if plain and value.has_one_use() else ()


def _after(form: Attention) -> tuple[Operation, ...]:
    """An op that brings the result into another order."""
    value: SSAValue = form.result.results[0]
    if not value.has_one_use():
        return ()
    reader = next(iter(value.uses)).operation
    if not isinstance(reader, GenericOp) or reader.parent is not form.result.parent or len(reader.results) != 1:
        return ()
    moves = structure.is_data_movement(reader) and structure.is_elementwise(reader) and len(structure.inputs(reader)) == 1
    same = moves and structure.output_map(reader).num_dims == len(reader.iterator_types.data)
    return (reader,) if same and _all_loops(reader) else ()


def _all_loops(op: GenericOp) -> bool:
    """Whether an op moves each element to one place."""
    sizes = structure.loop_sizes(op)
    read = {d for e in op.indexing_maps.data[0].data.results for d in e.used_dims()}
    return all(size == 1 for loop, size in enumerate(sizes) if loop not in read)


# The schedule --------------------------------------------------------------------------------------------------


def sizes_of_attention(members: Sequence[Operation], parallel: int, target: Target) -> tuple[tuple[str, int], ...]:
    """Queries of a unit of work, and keys of a block, of an attention that is among the members of a kernel."""
    form = next(found for op in members if (found := attention(op)) is not None)
    sizes = structure.loop_sizes(form.result)
    queries, keys = sizes[form.second.m[0]], sizes[form.second.k[0]]
    lanes = target.lanes(bits_of(form.result))
    rows = ROWS
    if queries != DYNAMIC:
        rows = min(rows, -(-queries // lanes) * lanes)
        heads = 1
        for loop in form.second.batch:
            heads *= max(1, sizes[loop])
        while parallel and rows > lanes and heads * -(-queries // rows) < 2 * target.cores:
            rows = max(lanes, rows // 2 // lanes * lanes)
    block = KEYS
    if keys != DYNAMIC:
        count = max(1, -(-keys // block))
        block = max(1, -(-keys // count))
    return ("rows", rows), ("keys", block)
