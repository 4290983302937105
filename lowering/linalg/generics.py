"""Making, changing and simplifying `linalg.generic`.

`Draft` is a generic taken apart into lists, which the passes edit and `build` puts together again; the fold in
`FOLDS` removes inputs that are not read, read twice, constant everywhere, or casts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import (
    AffineMapAttr,
    ArrayAttr,
    DenseIntOrFPElementsAttr,
    LocationAttr,
    TensorType,
)
from xdsl.dialects.linalg.attrs import IteratorTypeAttr
from xdsl.dialects.linalg.ops import FillOp, GenericOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap

from stepwell.dialects.quick_ir import make, segments
from stepwell.lowering.linalg.edit import (
    Editor,
    Fold,
    Replacement,
    constant_attribute,
    constant_number,
    scalar_attribute,
)
from stepwell.lowering.linalg.structure import body, inputs, is_data_movement, output_map, outputs, yielded

PARALLEL = IteratorTypeAttr.parallel()
REDUCTION = IteratorTypeAttr.reduction()


@dataclass
class Draft:
    """The parts of a generic. `block` is its body: taken from an op, or new."""

    inputs: list[SSAValue]
    outputs: list[SSAValue]
    maps: list[AffineMap]
    """One per input, then one per output."""
    iterators: list[IteratorTypeAttr]
    block: Block
    result_types: list[Attribute]
    location: LocationAttr | None = None

    @staticmethod
    def of(op: GenericOp) -> Draft:
        """The parts of an op. The body still belongs to the op until `build`."""
        return Draft(
            list(inputs(op)),
            list(outputs(op)),
            [attribute.data for attribute in op.indexing_maps.data],
            list(op.iterator_types.data),
            body(op),
            [result.type for result in op.results],
            op.location,
        )

    def build(self) -> GenericOp:
        """The op, not yet in a block. Takes the body from the op that had it."""
        region = self.block.parent
        if region is None:
            region = Region(self.block)
        elif isinstance(region.parent, Operation):
            region.parent.detach_region(region)
        return generic(self.inputs, self.outputs, self.maps, self.iterators, region, self.result_types, self.location)

    def drop_input(self, index: int) -> None:
        """Remove an input whose body argument has no uses."""
        del self.inputs[index], self.maps[index]
        self.block.erase_arg(self.block.args[index])

    def merge_equal_inputs(self) -> bool:
        """Read inputs with equal maps once. True where there were any."""
        changed = False
        for index in reversed(range(1, len(self.inputs))):
            value, map_ = self.inputs[index], self.maps[index]
            twin = next((i for i in range(index) if self.inputs[i] is value and self.maps[i] == map_), None)
            if twin is not None:
                self.block.args[index].replace_all_uses_with(self.block.args[twin])
                self.drop_input(index)
                changed = True
        return changed

    def has_all_loops(self) -> bool:
        """Whether every loop is a plain dimension of some operand, so that its size can be read off."""
        seen = {e.position for m in self.maps for e in m.results if isinstance(e, AffineDimExpr)}
        return len(seen) == len(self.iterators)


def generic(
    ins: Sequence[SSAValue],
    outs: Sequence[SSAValue],
    maps: Sequence[AffineMap],
    iterators: Sequence[IteratorTypeAttr],
    region: Region,
    result_types: Sequence[Attribute],
    location: LocationAttr | None = None,
) -> GenericOp:
    """A linalg.generic on tensors."""
    return make(
        GenericOp,
        (*ins, *outs),
        result_types,
        {
            "indexing_maps": ArrayAttr([AffineMapAttr(m) for m in maps]),
            "iterator_types": ArrayAttr(iterators),
            "operandSegmentSizes": segments(len(ins), len(outs)),
        },
        regions=[region],
        location=location,
    )


def element_type(value: SSAValue) -> Attribute:
    """The type of the body argument of an operand: the element type, or the type of a scalar operand."""
    return value.type.element_type if isinstance(value.type, TensorType) else value.type


def filled_with(value: SSAValue) -> int | float | None:
    """The number that a fill has just put everywhere into a tensor; None for every other tensor."""
    return constant_number(value.owner._operands[0]) if isinstance(value.owner, FillOp) else None


def splat(value: SSAValue) -> Attribute | None:
    """The one number (as an attribute) that all elements of a tensor are, where that is known: of a splat
    constant, a fill with a constant, or reshapes and slices of such."""
    for _ in range(64):
        owner = value.owner
        if isinstance(owner, arith.ConstantOp):
            attribute = owner.properties["value"]
            if not isinstance(attribute, DenseIntOrFPElementsAttr) or not isinstance(value.type, TensorType):
                return None
            if not attribute.is_splat() or len(attribute) == 0:
                return None
            number = attribute.get_values()[0]
            kind = value.type.element_type
            return scalar_attribute(number, kind) if isinstance(number, (int, float)) else None
        if not isinstance(owner, Operation):
            return None
        if owner.name == "linalg.fill":
            found = constant_attribute(owner._operands[0])
            return found if owner._operands[0].type == element_type(value) else None
        if owner.name not in SAME_ELEMENTS:
            return None
        value = owner._operands[0]
    return None


SAME_ELEMENTS = frozenset(("tensor.cast", "tensor.expand_shape", "tensor.collapse_shape", "tensor.extract_slice"))
"""Ops whose result has only elements of their first operand."""


def simplify(op: Operation, edit: Editor) -> Replacement | None:
    """Fold a linalg.generic."""
    assert isinstance(op, GenericOp)
    copied = _copy_of(op)
    if copied is not None:
        return copied
    if not _simplifiable(op):
        return None
    draft = Draft.of(op)
    changed = _shorten_inputs(draft)
    if not changed:
        return None
    smaller = draft.build()
    edit.insert(smaller)
    return tuple(smaller.results)


def _copy_of(op: GenericOp) -> SSAValue | None:
    """The tensor that an op copies without changing anything."""
    if len(op.results) != 1 or not is_data_movement(op):
        return None
    index = yielded(op)[0].index  # type: ignore[attr-defined]
    source = op._operands[index]
    same_place = op.indexing_maps.data[index].data == output_map(op)
    plain = all(isinstance(e, AffineDimExpr) for e in output_map(op).results)
    return source if same_place and plain and source.type == op.results[0].type else None


def _simplifiable(op: GenericOp) -> bool:
    """A quick look whether there is anything to do, since most ops are in order."""
    seen: list[tuple[SSAValue, AffineMap]] = []
    block = body(op)
    for index, operand in enumerate(inputs(op)):
        owner = operand.owner
        key = (operand, op.indexing_maps.data[index].data)
        if block.args[index].first_use is None or key in seen or isinstance(owner, tensor.CastOp):
            return True
        if isinstance(owner, Operation) and splat(operand) is not None:
            return True
        seen.append(key)
    return False


def _shorten_inputs(draft: Draft) -> bool:
    changed = draft.merge_equal_inputs()
    for index in reversed(range(len(draft.inputs))):
        operand, argument = draft.inputs[index], draft.block.args[index]
        owner = operand.owner
        if isinstance(owner, tensor.CastOp) and _narrows(owner):
            draft.inputs[index] = operand = owner._operands[0]
            changed = True
        number = splat(operand) if argument.first_use is not None else None
        if number is not None:
            constant = arith.ConstantOp.create(result_types=(argument.type,), properties={"value": number})
            assert draft.block.first_op is not None
            draft.block.insert_op_before(constant, draft.block.first_op)
            argument.replace_all_uses_with(constant.results[0])
            changed = True
        if argument.first_use is None and _spare(draft, index):
            draft.drop_input(index)
            changed = True
    return changed


def _narrows(op: Operation) -> bool:
    """Whether a cast's source has more static sizes than its result."""
    source, result = op._operands[0].type, op.results[0].type
    if not isinstance(source, TensorType) or not isinstance(result, TensorType):
        return False
    return all(a == b or b < 0 for a, b in zip(source.get_shape(), result.get_shape(), strict=True))


def _spare(draft: Draft, index: int) -> bool:
    """Whether loop sizes can be read off the operands without this input."""
    rest = Draft(
        draft.inputs[:index] + draft.inputs[index + 1 :], draft.outputs,
        draft.maps[:index] + draft.maps[index + 1 :], draft.iterators, draft.block, draft.result_types,
    )  # fmt: skip
    return rest.has_all_loops()


FOLDS: dict[str, Fold] = {"linalg.generic": simplify}
"""Op name to fold."""
