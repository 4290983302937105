"""`fuse-elementwise`: a producer without reductions is computed where its elements are read.

    %a = generic { exp } ins(%x)               %b = generic { add(exp, y) } ins(%x, %y)
    %b = generic { add } ins(%a, %y)      ->

The producer's body goes into the consumer's, and its maps are composed with the map by which the consumer read
it: so transposes, broadcasts, strided reads, static slices and reshapes by ones turn into maps too.

When it pays:
- a result that one op reads once per element always moves into that op;
- a result read several times per element, or by several ops, only when it is next to free to compute again;
- into contractions only permutations and broadcasts go, so that they stay recognisable; into convolutions and
  poolings nothing: their layout was chosen, and each element is read once per window position.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import IndexType, IntegerAttr, ModuleOp, i64
from xdsl.dialects.linalg.ops import GenericOp, IndexOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
    AffineMap,
)

from stepwell.dialects.diagnostics import Error
from stepwell.lowering.analysis.affine import ZERO, compose, inverse, normal, selected_positions
from stepwell.lowering.analysis.cost import element_cost
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.edit import Editor, fused_location, remove, replace
from stepwell.lowering.linalg.generics import Draft, element_type
from stepwell.lowering.linalg.shapes import RESHAPES, constant_slice, expand, groups_of, shape_of
from stepwell.lowering.pass_ import Pass

FREE_COST = 2
"""What is computed again rather than stored once: at most so many additions per element."""

MOST_INPUTS = 24
MOST_OPS = 256
"""No generic grows beyond these: more streams than a machine follows, or bodies slow to compile."""

INDEX = IndexType()


# Merging -------------------------------------------------------------------------------------------------------


def merged(producer: GenericOp, result: int, consumer: GenericOp, operand: int) -> GenericOp | None:
    """`consumer` with one input computed in place, not yet in a block; None where maps do not allow it.

    It takes the consumer's body; the producer stays as it is, and its output map must be a permutation of its
    loops (otherwise an element might not be computed exactly once).
    """
    back = inverse(structure.output_map(producer, result))
    if back is None or not structure.is_parallel(producer):
        return None
    read = consumer.indexing_maps.data[operand].data
    loops = compose(back, read)  # the producer's loops in terms of the consumer's
    draft = Draft.of(consumer)
    sources, source_maps, arguments = _sources(producer, loops)
    draft.inputs[operand : operand + 1] = sources
    draft.maps[operand : operand + 1] = source_maps
    if not draft.has_all_loops() or len(draft.inputs) > MOST_INPUTS:
        return None
    _insert_body(producer, result, draft.block, operand, arguments, loops.results)
    draft.merge_equal_inputs()
    draft.location = fused_location(producer.location, consumer.location)
    return draft.build()


def _sources(producer: GenericOp, loops: AffineMap) -> tuple[list[SSAValue], list[AffineMap], list[int]]:
    """The operands that the producer's body reads, their maps over the consumer's loops, their argument numbers."""
    block = structure.body(producer)
    read = [i for i in range(len(producer._operands)) if block.args[i].first_use is not None]
    return (
        [producer._operands[i] for i in read],
        [compose(producer.indexing_maps.data[i].data, loops) for i in read],
        read,
    )


def _insert_body(
    producer: GenericOp, result: int, block: Block, operand: int, arguments: list[int], loops: Sequence[AffineExpr]
) -> None:
    """Put a copy of the producer's body before the consumer's, in the place of its argument `operand`."""
    source = structure.body(producer)
    values: dict[SSAValue, SSAValue] = {}
    for position, argument in enumerate(arguments):
        values[source.args[argument]] = block.insert_arg(source.args[argument].type, operand + position)
    replaced = block.args[operand + len(arguments)]
    start = block.first_op
    assert start is not None
    for op in source.ops:
        if op is source.last_op:
            break
        if isinstance(op, IndexOp):
            values[op.results[0]] = index_value(loops[op.properties["dim"].value.data], start)  # type: ignore[attr-defined]
        else:
            block.insert_op_before(op.clone(values), start)
    value = structure.yielded(producer)[result]
    replaced.replace_all_uses_with(values.get(value, value))
    block.erase_arg(replaced)


BINARY: dict[AffineBinaryOpKind, type[Operation]] = {
    AffineBinaryOpKind.Add: arith.AddiOp,
    AffineBinaryOpKind.Mul: arith.MuliOp,
    AffineBinaryOpKind.FloorDiv: arith.FloorDivSIOp,
    AffineBinaryOpKind.CeilDiv: arith.CeilDivSIOp,
    AffineBinaryOpKind.Mod: arith.RemSIOp,
}
"""The op of each affine operation; loops are never negative, so mod is the remainder."""


def index_value(expression: AffineExpr, before: Operation) -> SSAValue:
    """An expression over a generic's loops, computed in its body."""
    edit = Editor(before)
    if isinstance(expression, AffineDimExpr):
        return edit.add(IndexOp, (), INDEX, {"dim": IntegerAttr(expression.position, i64)})
    if isinstance(expression, AffineConstantExpr):
        return edit.index(expression.value)
    if isinstance(expression, AffineBinaryOpExpr):
        sides = index_value(expression.lhs, before), index_value(expression.rhs, before)
        overflow = {"overflowFlags": arith.IntegerOverflowAttr("none")}
        kind = BINARY[expression.kind]
        return edit.add(kind, sides, INDEX, overflow if kind in (arith.AddiOp, arith.MuliOp) else {})
    raise Error(f"an indexing map with a symbol: {expression}")


# Reading through views -----------------------------------------------------------------------------------------


def read_through(value: SSAValue, read: AffineMap, only_plain: bool, edit: Editor) -> tuple[SSAValue, AffineMap] | None:
    """The tensor behind a slice or a reshape by ones, and the map that reads the same elements of it.

    `only_plain`: the map must stay as plain as it is (no offsets and strides).
    """
    owner = value.owner
    if isinstance(owner, tensor.ExtractSliceOp) and not only_plain:
        return _read_slice(owner, read, edit)
    if not isinstance(owner, RESHAPES):
        return None
    source = owner._operands[0]
    fine = shape_of(value) if isinstance(owner, tensor.ExpandShapeOp) else shape_of(source)
    groups = groups_of(owner)
    if any(sum(fine[d] != 1 for d in group) > 1 for group in groups):
        return None
    results: list[AffineExpr] = []
    if isinstance(owner, tensor.ExpandShapeOp):
        for group in groups:
            results.append(next((read.results[d] for d in group if fine[d] != 1), ZERO))
    else:
        results = [ZERO] * len(fine)
        for expression, group in zip(read.results, groups, strict=True):
            wide = next((d for d in group if fine[d] != 1), None)
            if wide is not None:
                results[wide] = expression
    if only_plain and ZERO in results:
        return None
    return source, AffineMap(read.num_dims, 0, tuple(results))


def _read_slice(op: tensor.ExtractSliceOp, read: AffineMap, edit: Editor) -> tuple[SSAValue, AffineMap] | None:
    """A static slice as a map. In a map a plain loop means a whole dimension, so the start of a dimension must
    be written otherwise: a slice of size 1 by its constant position; one of equal chunks by splitting the
    dimension into chunks; any other prefix has no map."""
    found = constant_slice(op)
    source = op._operands[0]
    if found is None or len(found[0]) != len(read.results):
        return None
    results: list[AffineExpr] = []
    groups: list[tuple[int, ...]] = []
    shape: list[int] = []
    for e, offset, size, stride, whole in zip(read.results, *found, shape_of(source), strict=True):
        chunk = stride == 1 and 1 < size < whole and offset % size == 0 and whole % size == 0
        if chunk:
            results += [AffineConstantExpr(offset // size), e]
            groups.append((len(shape), len(shape) + 1))
            shape += [whole // size, size]
            continue
        if size == 1:
            e = AffineConstantExpr(offset)
        elif size != whole:
            e = normal(e * stride + offset)
            if isinstance(e, AffineDimExpr):
                return None
        results.append(e)
        groups.append((len(shape),))
        shape.append(whole)
    if len(shape) > len(groups):
        source = expand(source, tuple(groups), shape, edit)
    return source, AffineMap(read.num_dims, 0, tuple(results))


# Deciding ------------------------------------------------------------------------------------------------------


def takes_only_views(op: GenericOp) -> bool:
    """Whether the op is one whose template depends on its maps: a contraction, a convolution, a pooling."""
    return (
        structure.contraction(op) is not None
        or structure.convolution(op) is not None
        or structure.window(op) is not None
    )


def is_permutation(op: GenericOp) -> bool:
    """Whether the op only moves elements, one input dimension to one loop: a transpose, a broadcast, or such of a
    slice by a constant index."""
    return structure.is_data_movement(op) and len(op._operands) == 2 and all(
        selected_positions(attribute.data) is not None for attribute in op.indexing_maps.data
    )  # fmt: skip


def is_free(op: GenericOp) -> bool:
    """Whether computing an element again is as good as reading it."""
    block = structure.body(op)
    read = sum(argument.first_use is not None for argument in block.args)
    return element_cost(op) <= FREE_COST and read <= 1


def readers(value: SSAValue) -> list[Operation]:
    """The ops that use a value, each once."""
    found: list[Operation] = []
    for use in value.uses:
        if use.operation not in found:
            found.append(use.operation)
    return found


def worthwhile(producer: GenericOp, result: int, consumer: GenericOp, operand: int) -> bool:
    """Whether computing the producer inside this consumer is better than storing it (see the module's rules)."""
    if takes_only_views(consumer) and not (structure.contraction(consumer) and is_permutation(producer)):
        return False
    if is_free(producer) or structure.is_data_movement(producer):
        return all(_could_take(reader, producer.results[result]) for reader in readers(producer.results[result]))
    value = producer.results[result]
    if len(producer.results) > 1 or value.uses.get_length() != 1:
        return False
    return structure.recomputed(consumer, operand) == 1


def _could_take(reader: Operation, value: SSAValue) -> bool:
    return isinstance(reader, GenericOp) and value in structure.inputs(reader)


# The pass ------------------------------------------------------------------------------------------------------


def fuse_into(consumer: GenericOp, limit: int) -> GenericOp:
    """Fuse what can be fused into the inputs of an op; the op that stands in its place."""
    index = 0
    while index < len(consumer._operands) - len(consumer.results):
        changed = _fuse_input(consumer, index, limit)
        if changed is None:
            index += 1
        else:
            # An input that was read twice may now be read once: look at all of them again.
            consumer, index = changed, 0
    return consumer


def _fuse_input(consumer: GenericOp, index: int, limit: int) -> GenericOp | None:
    value = consumer._operands[index]
    owner = value.owner
    if not isinstance(owner, Operation):
        return None
    if isinstance(owner, GenericOp):
        result = value.index  # type: ignore[attr-defined]
        if owner.parent is not consumer.parent or not worthwhile(owner, result, consumer, index):
            return None
        if len(structure.body(owner).ops) + len(structure.body(consumer).ops) > limit:
            return None
        return _take(merged(owner, result, consumer, index), consumer, owner)
    if owner.name in ("linalg.fill", "tensor.from_elements"):
        return _use_scalar(consumer, index, owner)
    read = consumer.indexing_maps.data[index].data
    only_plain = takes_only_views(consumer) and structure.contraction(consumer) is None
    view = read_through(value, read, only_plain, Editor(consumer))
    if view is None:
        return None
    if takes_only_views(consumer) and not only_plain and selected_positions(view[1]) is None:
        return None
    draft = Draft.of(consumer)
    draft.inputs[index], draft.maps[index] = view
    if not draft.has_all_loops():
        return None
    return _take(draft.build(), consumer, owner)


def _use_scalar(consumer: GenericOp, index: int, owner: Operation) -> GenericOp | None:
    """Read the scalar itself instead of a tensor filled with it."""
    scalar = owner._operands[0] if len(owner._operands) else None
    value = consumer._operands[index]
    if scalar is None or scalar.type != element_type(value):
        return None
    if owner.name == "tensor.from_elements" and len(owner._operands) != 1:
        return None
    draft = Draft.of(consumer)
    del draft.inputs[index], draft.maps[index]
    if not draft.has_all_loops():
        return None
    draft.block.args[index].replace_all_uses_with(scalar)
    draft.block.erase_arg(draft.block.args[index])
    return _take(draft.build(), consumer, owner)


def _take(op: GenericOp | None, instead_of: GenericOp, producer: Operation) -> GenericOp | None:
    """Put the new op in the old one's place; drop the producer when it was the last reader."""
    if op is None:
        return None
    assert instead_of.parent is not None
    instead_of.parent.insert_op_before(op, instead_of)
    replace(instead_of, op.results)
    if all(result.first_use is None for result in producer.results):
        remove(producer)
    return op


@dataclass(frozen=True)
class FuseElementwise(Pass):
    """Compute elementwise producers, fills, slices and reshapes by ones inside the generics that read them.
    After: an elementwise result is stored only where several ops need it, or where a contraction or window
    reads it."""

    name = "fuse-elementwise"
    limit: int = MOST_OPS
    packed: bool = False
    """Layouts are chosen: contractions, convolutions and poolings stay as they are."""

    def apply(self, module: ModuleOp, context: Context) -> None:
        """One forward walk: a producer has taken its own producers before it is looked at."""
        for function in module.ops:
            for region in function.regions:
                for block in region.blocks:
                    self._block(block)

    def _block(self, block: Block) -> None:
        op = block.first_op
        while op is not None:
            following = op.next_op
            if isinstance(op, GenericOp):
                if not self.packed or not takes_only_views(op):
                    fuse_into(op, self.limit)
            else:
                for region in op.regions:
                    for inner in region.blocks:
                        self._block(inner)
            op = following
