"""Folds of the ops that only look at tensors in another way: dim, cast, reshapes, slices, elements.

Reshapes are brought to one form: a chain of static expand_shape and collapse_shape ops becomes nothing, or one
op, or one collapse followed by one expand.
"""

import math
from collections.abc import Sequence

from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IntegerAttr,
    TensorType,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue

from stepwell.lowering.analysis.sizes import ONE, Size, dimension, size_of, sizes_of, times
from stepwell.lowering.linalg.edit import (
    INDEX,
    Editor,
    Fold,
    Replacement,
    constant_attribute,
    constant_integer,
)

Groups = tuple[tuple[int, ...], ...]
"""A reassociation: which dimensions of the finer shape make each dimension of the coarser one."""

NO_OVERFLOW = {"overflowFlags": arith.IntegerOverflowAttr("none")}
RESHAPES = (tensor.ExpandShapeOp, tensor.CollapseShapeOp)


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """The static shape of a tensor value, DYNAMIC_INDEX for sizes known at run time."""
    assert isinstance(value.type, TensorType)
    return value.type.get_shape()


def is_static(value: SSAValue) -> bool:
    """Whether all sizes are known."""
    return DYNAMIC_INDEX not in shape_of(value)


def integers(op: Operation, name: str) -> tuple[int, ...]:
    """A property that is an array of integers."""
    attribute = op.properties[name]
    assert isinstance(attribute, DenseArrayBase)
    return attribute.get_values()


def groups_of(op: Operation) -> Groups:
    """The reassociation of a reshape."""
    attribute = op.properties["reassociation"]
    assert isinstance(attribute, ArrayAttr)
    return tuple(tuple(i.value.data for i in group.data) for group in attribute.data)


def reassociation(groups: Sequence[Sequence[int]]) -> ArrayAttr[ArrayAttr[IntegerAttr]]:
    """The attribute of a reassociation."""
    return ArrayAttr([ArrayAttr([IntegerAttr(i, i64) for i in group]) for group in groups])


# Sizes ---------------------------------------------------------------------------------------------------------


def size(value: SSAValue, dim: int, edit: Editor) -> SSAValue | None:
    """The size of a dimension without asking the tensor, found by looking at how the tensor was made."""
    for _ in range(64):
        known = shape_of(value)[dim]
        if known != DYNAMIC_INDEX:
            return edit.index(known)
        owner = value.owner
        if not isinstance(owner, Operation):
            return None
        if isinstance(owner, tensor.EmptyOp):
            return owner._operands[shape_of(value)[:dim].count(DYNAMIC_INDEX)]
        if owner.name in ("linalg.generic", "linalg.fill"):
            value = owner._operands[len(owner._operands) - len(owner.results) + owner.results.index(value)]
        elif isinstance(owner, tensor.CastOp):
            value = owner._operands[0]
        elif isinstance(owner, tensor.InsertSliceOp):
            value = owner._operands[1]
        elif isinstance(owner, tensor.ExtractSliceOp):
            return _slice_size(owner, dim)
        elif isinstance(owner, tensor.ExpandShapeOp):
            return owner._operands[1 + shape_of(value)[:dim].count(DYNAMIC_INDEX)]
        elif isinstance(owner, tensor.CollapseShapeOp):
            return _collapsed_size(owner, dim, edit)
        else:
            return None
    return None


def dynamic_size(value: SSAValue, dim: int, edit: Editor) -> SSAValue:
    """The size of a dimension as a value."""
    found = size(value, dim, edit)
    return found if found is not None else edit.add(tensor.DimOp, (value, edit.index(dim)), INDEX)


def _slice_size(op: tensor.ExtractSliceOp, dim: int) -> SSAValue | None:
    sizes = integers(op, "static_sizes")
    if len(sizes) != len(shape_of(op.results[0])):
        return None
    offsets = integers(op, "static_offsets").count(DYNAMIC_INDEX)
    return op._operands[1 + offsets + sizes[:dim].count(DYNAMIC_INDEX)]


def _collapsed_size(op: tensor.CollapseShapeOp, dim: int, edit: Editor) -> SSAValue:
    source = op._operands[0]
    total: SSAValue | None = None
    for fine in groups_of(op)[dim]:
        factor = size(source, fine, edit) or edit.add(tensor.DimOp, (source, edit.index(fine)), INDEX)
        total = factor if total is None else edit.add(arith.MuliOp, (total, factor), INDEX, NO_OVERFLOW)
    return edit.index(1) if total is None else total


def dim(op: Operation, edit: Editor) -> Replacement | None:
    """Fold tensor.dim."""
    source, index = op._operands
    position = constant_integer(index)
    if position is None or not 0 <= position < len(shape_of(source)):
        return None
    found = size(source, position, edit)
    if found is None:
        origin = source
        while isinstance(origin.owner, (tensor.CastOp, tensor.InsertSliceOp)):
            origin = origin.owner._operands[isinstance(origin.owner, tensor.InsertSliceOp)]
        if origin is not source:
            op.operands = [origin, index]
    return found


# Reshapes ------------------------------------------------------------------------------------------------------


def matching_groups(fine: Sequence[int], coarse: Sequence[int]) -> Groups | None:
    """The reassociation that turns static shape `fine` into `coarse`; None where there is none.

    Sizes of 1 go to the group on their left, leading ones to the first group.
    """
    return matching_sizes([(s, ()) for s in fine], [(s, ()) for s in coarse])


def matching_sizes(fine: Sequence[Size], coarse: Sequence[Size]) -> Groups | None:
    """`matching_groups` of sizes that may be symbolic."""
    groups: list[tuple[int, ...]] = []
    position = 0
    for index, target in enumerate(coarse):
        group: list[int] = []
        product = ONE
        while position < len(fine) and (not group or product != target):
            group.append(position)
            product = times(product, fine[position])
            position += 1
            if 0 < target[0] < product[0]:
                return None
        if product != target or not group:
            return None
        ones = coarse[index + 1 :].count(ONE)
        while position < len(fine) and fine[position] == ONE and fine[position:].count(ONE) > ones:
            group.append(position)
            position += 1
        groups.append(tuple(group))
    return tuple(groups) if position == len(fine) else None


def common_shape(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """The finest shape that both static shapes, of equal element count, collapse to."""
    common: list[int] = []
    i = j = 0
    left = right = 1
    while i < len(first) or j < len(second):
        if left == right and left != 1:
            common.append(left)
            left = right = 1
        if left <= right and i < len(first):
            left, i = left * first[i], i + 1
        elif j < len(second):
            right, j = right * second[j], j + 1
        else:
            left, i = left * first[i], i + 1
    if left != 1 or not common:
        common.append(left)
    return tuple(common)


def middle_shape(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """The shape through which a reshape goes that is neither a collapse nor an expand."""
    middle = (math.prod(first),) if 0 in first else common_shape(first, second)
    if matching_groups(first, middle) is None or matching_groups(second, middle) is None:
        return (math.prod(first),)
    return middle


def one_step(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether one collapse or expand, or nothing, leads from one static shape to the other."""
    fine, coarse = (first, second) if len(first) >= len(second) else (second, first)
    return tuple(first) == tuple(second) or matching_groups(fine, coarse) is not None


def reshaped(value: SSAValue, shape: Sequence[int], edit: Editor) -> SSAValue:
    """`value` (static) in another static shape of as many elements, by at most two reshapes. Neither has rank 0."""
    current = shape_of(value)
    target = tuple(shape)
    if current == target:
        return value
    if one_step(current, target):
        if len(current) >= len(target):
            return collapse(value, _groups(current, target), target, edit)
        return expand(value, _groups(target, current), target, edit)
    middle = middle_shape(current, target)
    if current != middle:
        value = collapse(value, _groups(current, middle), middle, edit)
    return value if middle == target else expand(value, _groups(target, middle), target, edit)


def _groups(fine: Sequence[int], coarse: Sequence[int]) -> Groups:
    return (tuple(range(len(fine))),) if len(coarse) == 1 else matching_groups(fine, coarse) or ()


def collapse(value: SSAValue, groups: Groups, shape: Sequence[int], edit: Editor) -> SSAValue:
    """A collapse_shape."""
    assert isinstance(value.type, TensorType)
    type = TensorType(value.type.element_type, list(shape))
    return edit.add(tensor.CollapseShapeOp, (value,), type, {"reassociation": reassociation(groups)})


def expand(value: SSAValue, groups: Groups, shape: Sequence[int], edit: Editor) -> SSAValue:
    """An expand_shape. A dynamic size must be alone in its group."""
    assert isinstance(value.type, TensorType)
    type = TensorType(value.type.element_type, list(shape))
    dynamic = [
        dynamic_size(value, number, edit)
        for number, group in enumerate(groups)
        for d in group
        if shape[d] == DYNAMIC_INDEX
    ]
    properties = {
        "reassociation": reassociation(groups),
        "static_output_shape": DenseArrayBase.from_list(i64, list(shape)),
    }
    return edit.add(tensor.ExpandShapeOp, (value, *dynamic), type, properties)


def reshape(op: Operation, edit: Editor) -> Replacement | None:
    """Fold expand_shape and collapse_shape."""
    source, result = op._operands[0], op.results[0]
    if source.type == result.type:
        return source
    attribute = constant_attribute(source)
    if isinstance(attribute, DenseIntOrFPElementsAttr) and is_static(result):
        value = DenseIntOrFPElementsAttr(result.type, attribute.data)  # type: ignore[arg-type]
        return edit.constant(value, result.type)
    inner = source.owner
    if isinstance(op, tensor.ExpandShapeOp) and isinstance(inner, tensor.ExtractSliceOp):
        return _expand_before_slice(op, inner, edit)
    if not isinstance(inner, RESHAPES):
        return None
    origin = inner._operands[0]
    if is_static(origin) and is_static(result):
        if isinstance(op, tensor.ExpandShapeOp) and isinstance(inner, tensor.CollapseShapeOp):
            before, after = shape_of(origin), shape_of(result)
            if not one_step(before, after) and shape_of(source) == middle_shape(before, after):
                return None
        return reshaped(origin, shape_of(result), Editor(op))
    return _reshape_dynamic(op, origin, edit)


def _expand_before_slice(op: Operation, inner: Operation, edit: Editor) -> SSAValue | None:
    """A slice, then one of its dimensions in parts, is the whole in parts, then a slice of the parts: so that
    reshapes meet. Only where the slice is made of whole parts."""
    found = static_slice(inner)
    origin, target = inner._operands[0], shape_of(op.results[0])
    if found is None or not is_static(origin) or len(found[0]) != len(shape_of(op._operands[0])):
        return None
    shape: list[int] = []
    offsets: list[int] = []
    sizes: list[int] = []
    strides: list[int] = []
    for dim, group in enumerate(groups_of(op)):
        part = math.prod(target[d] for d in group[1:])
        offset, stride, whole = found[0][dim], found[2][dim], shape_of(origin)[dim]
        if len(group) > 1 and (stride != 1 or not part or offset % part or whole % part):
            return None
        shape += [whole // part if len(group) > 1 else whole, *(target[d] for d in group[1:])]
        offsets += [offset // part if len(group) > 1 else offset, *(0 for _ in group[1:])]
        sizes += [target[d] for d in group]
        strides += [stride, *(1 for _ in group[1:])]
    expanded = expand(origin, groups_of(op), shape, edit)
    properties = {
        "static_offsets": DenseArrayBase.from_list(i64, offsets),
        "static_sizes": DenseArrayBase.from_list(i64, sizes),
        "static_strides": DenseArrayBase.from_list(i64, strides),
        "operandSegmentSizes": inner.properties["operandSegmentSizes"],
    }
    return edit.add(tensor.ExtractSliceOp, (expanded,), op.results[0].type, properties)


def _reshape_dynamic(op: Operation, origin: SSAValue, edit: Editor) -> SSAValue | None:
    """A chain with dynamic sizes as nothing, or as one op where sizes are the same by computation."""
    result = op.results[0]
    before, after = sizes_of(origin), sizes_of(result)
    if before == after and origin.type == result.type:
        return origin
    if len(before) > len(after) and (groups := matching_sizes(before, after)) is not None:
        return edit.add(tensor.CollapseShapeOp, (origin,), result.type, {"reassociation": reassociation(groups)})
    if len(before) < len(after) and isinstance(op, tensor.ExpandShapeOp):
        groups = matching_sizes(after, before)
        # With two dynamic sizes in a group MLIR still wants each given; they are, by this op's own operands.
        if groups is not None:
            properties = {**op.properties, "reassociation": reassociation(groups)}
            return edit.add(tensor.ExpandShapeOp, (origin, *op._operands[1:]), result.type, properties)
    return None


def cast(op: Operation, edit: Editor) -> Replacement | None:
    """Fold tensor.cast: to the same type, and of casts."""
    source = op._operands[0]
    while isinstance(source.owner, tensor.CastOp) and _forgets(source.owner):
        source = source.owner._operands[0]
    if source.type == op.results[0].type:
        return source
    if source is not op._operands[0]:
        op.operands = [source]
    return None


def _forgets(op: Operation) -> bool:
    """Whether a cast's source says at least as much about sizes as its result."""
    before, after = shape_of(op._operands[0]), shape_of(op.results[0])
    return all(b == a or a == DYNAMIC_INDEX for b, a in zip(before, after, strict=True))


# Slices and elements -------------------------------------------------------------------------------------------


def static_slice(op: Operation) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """(offsets, sizes, strides) of a slice op where all are constants."""
    found = tuple(integers(op, f"static_{part}") for part in ("offsets", "sizes", "strides"))
    return None if any(DYNAMIC_INDEX in part for part in found) else (found[0], found[1], found[2])


def constant_slice(op: Operation) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """Like `static_slice` of an extract_slice, but dimensions of dynamic size may be taken whole: their size is
    given as DYNAMIC_INDEX."""
    offsets, sizes, strides = (integers(op, f"static_{part}") for part in ("offsets", "sizes", "strides"))
    if DYNAMIC_INDEX in offsets or DYNAMIC_INDEX in strides:
        return None
    source = op._operands[0]
    dynamic = iter(op._operands[1:])
    for dim, (offset, size, stride) in enumerate(zip(offsets, sizes, strides, strict=True)):
        known = shape_of(source)[dim] != DYNAMIC_INDEX
        if size == DYNAMIC_INDEX:
            whole = offset == 0 and stride == 1 and size_of(next(dynamic)) == dimension(source, dim)
            if known or not whole:
                return None
        elif not known and size != 1 and offset == 0:
            return None
    return offsets, sizes, strides


def _settle(op: Operation, first: int) -> bool:
    """Turn operands of a slice op that are constants into static parts. True where that changed the op."""
    parts = [list(integers(op, f"static_{part}")) for part in ("offsets", "sizes", "strides")]
    kept: list[SSAValue] = []
    counts = [0, 0, 0]
    position, changed = first, False
    for number, part in enumerate(parts):
        for i, value in enumerate(part):
            if value == DYNAMIC_INDEX:
                constant = constant_integer(op._operands[position])
                dynamic_size = number == 1 and shape_of_part(op, i) == DYNAMIC_INDEX
                if constant is None or dynamic_size:
                    kept.append(op._operands[position])
                    counts[number] += 1
                else:
                    part[i], changed = constant, True
                position += 1
    if changed:
        op.operands = [*op._operands[:first], *kept]
        for name, part in zip(("offsets", "sizes", "strides"), parts, strict=True):
            op.properties[f"static_{name}"] = DenseArrayBase.from_list(i64, part)
        attribute = op.properties["operandSegmentSizes"]
        assert isinstance(attribute, DenseArrayBase)
        op.properties["operandSegmentSizes"] = DenseArrayBase.from_list(attribute.elt_type, [1] * first + counts)
    return changed


def shape_of_part(op: Operation, position: int) -> int:
    """The size that the type of a slice op's small side gives a dimension; DYNAMIC_INDEX where ranks differ."""
    small = op.results[0] if isinstance(op, tensor.ExtractSliceOp) else op._operands[0]
    shape = shape_of(small)
    return shape[position] if len(shape) == len(integers(op, "static_sizes")) else DYNAMIC_INDEX


def extract_slice(op: Operation, edit: Editor) -> Replacement | None:
    """Fold tensor.extract_slice: all of a tensor, a slice of a slice, of an empty tensor."""
    _settle(op, 1)
    source, result = op._operands[0], op.results[0]
    found = static_slice(op)
    if found is None:
        return None
    offsets, _, strides = found
    if source.type == result.type and not any(offsets) and all(s == 1 for s in strides):
        return source
    inner = source.owner
    if isinstance(inner, tensor.EmptyOp) and is_static(result):
        return edit.add(tensor.EmptyOp, (), result.type)
    if not isinstance(inner, tensor.ExtractSliceOp) or len(shape_of(source)) != len(integers(inner, "static_sizes")):
        return None
    outer = static_slice(inner)
    if outer is None:
        return None
    op.operands = [inner._operands[0]]
    start = [o + f * s for o, f, s in zip(outer[0], offsets, outer[2], strict=True)]
    step = [a * b for a, b in zip(outer[2], strides, strict=True)]
    op.properties["static_offsets"] = DenseArrayBase.from_list(i64, start)
    op.properties["static_strides"] = DenseArrayBase.from_list(i64, step)
    return None


def insert_slice(op: Operation, edit: Editor) -> Replacement | None:
    """Fold tensor.insert_slice: what covers everything, or nothing."""
    _settle(op, 2)
    source, destination = op._operands[:2]
    if 0 in shape_of(source):
        return destination
    found = static_slice(op)
    if found is not None and source.type == destination.type and not any(found[0]) and set(found[2]) <= {1}:
        return source
    return None


def extract(op: Operation, edit: Editor) -> Replacement | None:
    """Fold tensor.extract: of from_elements, of constants, of a fill."""
    source, indices = op._operands[0], [constant_integer(i) for i in op._operands[1:]]
    inner = source.owner
    if not isinstance(inner, Operation):
        return None
    if inner.name == "linalg.fill" and inner._operands[0].type == op.results[0].type:
        return inner._operands[0]
    if None in indices or not is_static(source):
        return None
    position = 0
    for index, extent in zip(indices, shape_of(source), strict=True):
        if index is None or not 0 <= index < extent:
            return None
        position = position * extent + index
    if isinstance(inner, tensor.FromElementsOp):
        return inner._operands[position]
    attribute = constant_attribute(source)
    if isinstance(attribute, DenseIntOrFPElementsAttr):
        values = attribute.get_values()
        value = values[0 if len(values) == 1 else position]
        return edit.number(value, op.results[0].type) if isinstance(value, (int, float)) else None
    if isinstance(inner, RESHAPES) and is_static(inner._operands[0]):
        unravelled = _unravel(position, shape_of(inner._operands[0]))
        return edit.add(tensor.ExtractOp, (inner._operands[0], *map(edit.index, unravelled)), op.results[0].type)
    return None


def _unravel(position: int, shape: Sequence[int]) -> list[int]:
    indices: list[int] = []
    for extent in reversed(shape):
        indices.append(position % extent)
        position //= extent
    return indices[::-1]


def from_elements(op: Operation, edit: Editor) -> Replacement | None:
    """Fold tensor.from_elements of constants to a dense constant."""
    attributes: list[Attribute | None] = [constant_attribute(operand) for operand in op._operands]
    type = op.results[0].type
    assert isinstance(type, TensorType)
    if not attributes or not all(isinstance(a, (IntegerAttr, FloatAttr)) for a in attributes):
        return None
    values = [a.value.data for a in attributes if isinstance(a, (IntegerAttr, FloatAttr))]
    return edit.constant(DenseIntOrFPElementsAttr.from_list(type, values), type)


FOLDS: dict[str, Fold] = {
    "tensor.dim": dim,
    "tensor.cast": cast,
    "tensor.expand_shape": reshape,
    "tensor.collapse_shape": reshape,
    "tensor.extract_slice": extract_slice,
    "tensor.insert_slice": insert_slice,
    "tensor.extract": extract,
    "tensor.from_elements": from_elements,
}
"""Op name to fold."""
