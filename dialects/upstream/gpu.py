"""gpu: the ops that xDSL lacks, and the dialect with them."""

from __future__ import annotations

from typing import ClassVar

from xdsl.dialects import gpu
from xdsl.dialects.builtin import AnyFloatConstr, SignlessIntegerConstraint, i1, i32
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import Attribute, Dialect, SpacedOpaqueSyntaxAttribute
from xdsl.irdl import (
    IRDLOperation,
    VarConstraint,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.str_enum import StrEnum


class ShuffleMode(StrEnum):
    """How the lane that a value comes from follows from the lane that asks and the offset."""

    XOR = "xor"
    UP = "up"
    DOWN = "down"
    IDX = "idx"


@irdl_attr_definition
class ShuffleModeAttr(EnumAttribute[ShuffleMode], SpacedOpaqueSyntaxAttribute):
    name = "gpu.shuffle_mode"


@irdl_op_definition
class ShuffleOp(IRDLOperation):
    """`%value, %valid = gpu.shuffle xor %v, %offset, %width : f32`: lanes of a subgroup exchange values."""

    name = "gpu.shuffle"
    T: ClassVar = VarConstraint("T", AnyFloatConstr | SignlessIntegerConstraint)
    mode = prop_def(ShuffleModeAttr)
    value = operand_def(T)
    offset = operand_def(i32)
    width = operand_def(i32)
    shuffle_result = result_def(T)
    valid = result_def(i1)

    @classmethod
    def parse(cls, parser: Parser) -> ShuffleOp:
        mode = parser.parse_str_enum(ShuffleMode)
        given = [parser.parse_unresolved_operand()]
        for _ in range(2):
            parser.parse_punctuation(",")
            given.append(parser.parse_unresolved_operand())
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        kind: Attribute = parser.parse_type()
        operands = parser.resolve_operands(given, [kind, i32, i32], parser.pos)
        return cls.create(
            operands=operands, result_types=[kind, i1], properties={"mode": ShuffleModeAttr(mode)},
            attributes=attributes,
        )  # fmt: skip

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {self.mode.data.value} ")
        printer.print_list(self.operands, printer.print_operand)
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.value.type)


GPU = Dialect("gpu", [*gpu.GPU.operations, ShuffleOp], [*gpu.GPU.attributes, ShuffleModeAttr])
"""xDSL's dialect with what it lacks; load this, never xDSL's own beside it."""
