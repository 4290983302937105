"""`prim.If` and `prim.Loop`, with their terminators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from xdsl.ir import OpTraits, SSAValue
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import IsTerminator

from stepwell.dialects.torch import types
from stepwell.dialects.torch.operations.form import TorchOperation, parse_types, parse_values, print_attributes


class IfYield(TorchOperation):
    name = "torch.prim.If.yield"
    traits = OpTraits(lambda: (IsTerminator(),))


class If(TorchOperation):
    """`torch.prim.If %condition -> (types) { ... } else { ... }`; both regions end in If.yield."""

    name = "torch.prim.If"
    traits = OpTraits(lambda: ())

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.operands[0])
        printer.print_string(" -> (")
        printer.print_list(self.result_types, printer.print_attribute)
        printer.print_string(") ")
        printer.print_region(self.regions[0], print_entry_block_args=False)
        printer.print_string(" else ")
        printer.print_region(self.regions[1], print_entry_block_args=False)
        print_attributes(self, printer)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        condition = parser.resolve_operand(parser.parse_unresolved_operand(), types.BOOL)
        parser.parse_punctuation("->")
        result_types = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_type)
        then = parser.parse_region()
        parser.parse_keyword("else")
        otherwise = parser.parse_region()
        attributes = parser.parse_optional_attr_dict()
        return cls.create(
            operands=[condition], result_types=result_types, regions=[then, otherwise], attributes=attributes
        )


class LoopCondition(TorchOperation):
    """The end of a loop's body: whether to go on, and the carried values."""

    name = "torch.prim.Loop.condition"
    traits = OpTraits(lambda: (IsTerminator(),))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.operands[0])
        printer.print_string(", iter(")
        carried = self.operands[1:]
        printer.print_list(carried, printer.print_operand)
        if carried:
            printer.print_string(" : ")
            printer.print_list(carried, lambda v: printer.print_attribute(v.type))
        printer.print_string(")")
        print_attributes(self, printer)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        condition = parser.resolve_operand(parser.parse_unresolved_operand(), types.BOOL)
        parser.parse_punctuation(",")
        parser.parse_keyword("iter")
        parser.parse_punctuation("(")
        unresolved = parse_values(parser)
        carried: Sequence[SSAValue] = []
        if unresolved:
            parser.parse_punctuation(":")
            carried = parser.resolve_operands(unresolved, parse_types(parser), parser.pos)
        parser.parse_punctuation(")")
        return cls.create(operands=[condition, *carried], attributes=parser.parse_optional_attr_dict())


class Loop(TorchOperation):
    """At most `%trips` times while the condition holds; the block's first argument counts the iterations."""

    name = "torch.prim.Loop"

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.operands[:2], printer.print_operand)
        printer.print_string(", init(")
        printer.print_list(self.operands[2:], printer.print_operand)
        printer.print_string(") ")
        printer.print_region(self.regions[0])
        print_attributes(self, printer)
        printer.print_string(" : ")
        printer.print_function_type(self.operand_types, self.result_types)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        trips = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        condition = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        parser.parse_keyword("init")
        parser.parse_punctuation("(")
        carried = parse_values(parser)
        parser.parse_punctuation(")")
        body = parser.parse_region()
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        type_ = parser.parse_function_type()
        operands = parser.resolve_operands([trips, condition, *carried], type_.inputs.data, parser.pos)
        return cls.create(operands=operands, result_types=type_.outputs.data, regions=[body], attributes=attributes)
