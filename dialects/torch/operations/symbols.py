"""Names of sizes, and which sizes of a tensor have them."""

from __future__ import annotations

from typing import Self

from xdsl.dialects.builtin import IntegerAttr, StringAttr, i64
from xdsl.ir import Attribute
from xdsl.parser import Parser
from xdsl.printer import Printer

from stepwell.dialects.torch import types
from stepwell.dialects.torch.operations.form import TorchOperation, print_attributes


class SymbolicInt(TorchOperation):
    """A named size of the method's arguments: `torch.symbolic_int "s0" {min_val = 2, max_val = 9} : !torch.int`."""

    name = "torch.symbolic_int"

    @property
    def symbol(self) -> str:
        attribute = self.properties["symbol_name"]
        assert isinstance(attribute, StringAttr)
        return attribute.data

    @property
    def low(self) -> int:
        attribute = self.properties["min_val"]
        assert isinstance(attribute, IntegerAttr)
        return attribute.value.data

    @property
    def high(self) -> int:
        attribute = self.properties["max_val"]
        assert isinstance(attribute, IntegerAttr)
        return attribute.value.data

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_attribute(self.properties["symbol_name"])
        printer.print_string(f" {{min_val = {self.low}, max_val = {self.high}}} : ")
        printer.print_attribute(self.results[0].type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        properties: dict[str, Attribute] = {"symbol_name": StringAttr(parser.parse_str_literal())}
        parser.parse_punctuation("{")
        for name, end in (("min_val", ","), ("max_val", "}")):
            parser.parse_keyword(name)
            parser.parse_punctuation("=")
            properties[name] = IntegerAttr(parser.parse_integer(), i64)
            parser.parse_punctuation(end)  # type: ignore[arg-type]
        parser.parse_punctuation(":")
        return cls.create(result_types=[parser.parse_type()], properties=properties)


class BindSymbolicShape(TorchOperation):
    """Names the sizes of a tensor: `torch.bind_symbolic_shape %x, [%s0], affine_map<()[s0] -> (s0, 3)> : type`."""

    name = "torch.bind_symbolic_shape"

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.operands[0])
        printer.print_string(", [")
        printer.print_list(self.operands[1:], printer.print_operand)
        printer.print_string("], ")
        printer.print_attribute(self.properties["shape_expressions"])
        print_attributes(self, printer)
        printer.print_string(" : ")
        printer.print_attribute(self.operands[0].type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        tensor = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        symbols = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_unresolved_operand)
        parser.parse_punctuation(",")
        expressions = parser.parse_attribute()
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        operands = [parser.resolve_operand(tensor, parser.parse_type())]
        operands += [parser.resolve_operand(s, types.INT) for s in symbols]
        return cls.create(operands=operands, properties={"shape_expressions": expressions}, attributes=attributes)
