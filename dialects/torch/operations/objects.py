"""Classes, modules and their attributes and methods: what a front end saw of objects."""

from __future__ import annotations

from typing import Self

from xdsl.dialects.builtin import StringAttr, UnitAttr
from xdsl.ir import Attribute, Block, Operation, OpTraits, Region
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.traits import NoTerminator, SymbolOpInterface, SymbolTable

from stepwell.dialects.torch.operations.form import TorchOperation, parse_types, parse_values, print_attributes


class GetAttribute(TorchOperation):
    """`torch.prim.GetAttr %self["name"] : object -> type`."""

    name = "torch.prim.GetAttr"

    def print(self, printer: Printer) -> None:
        _print_subscript(self, printer)
        printer.print_string(" : ")
        printer.print_attribute(self.operands[0].type)
        printer.print_string(" -> ")
        printer.print_attribute(self.results[0].type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        target, name = _parse_subscript(parser)
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        operand = parser.resolve_operand(target, parser.parse_type())
        parser.parse_punctuation("->")
        return cls.create(
            operands=[operand], result_types=[parser.parse_type()], properties={"name": name}, attributes=attributes
        )


class SetAttribute(TorchOperation):
    """`torch.prim.SetAttr %self["name"] = %value : object, type`."""

    name = "torch.prim.SetAttr"

    def print(self, printer: Printer) -> None:
        _print_subscript(self, printer)
        printer.print_string(" = ")
        printer.print_operand(self.operands[1])
        printer.print_string(" : ")
        printer.print_list(self.operands, lambda v: printer.print_attribute(v.type))

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        target, name = _parse_subscript(parser)
        parser.parse_punctuation("=")
        value = parser.parse_unresolved_operand()
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        operands = parser.resolve_operands([target, value], parse_types(parser), parser.pos)
        return cls.create(operands=operands, properties={"name": name}, attributes=attributes)


class CallMethod(TorchOperation):
    """`torch.prim.CallMethod %self["name"] (%a) : object, (types) -> type`."""

    name = "torch.prim.CallMethod"

    def print(self, printer: Printer) -> None:
        _print_subscript(self, printer)
        printer.print_string(" (")
        printer.print_list(self.operands[1:], printer.print_operand)
        printer.print_string(")")
        printer.print_string(" : ")
        printer.print_attribute(self.operands[0].type)
        printer.print_string(", ")
        printer.print_function_type([v.type for v in self.operands[1:]], self.result_types)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        target, name = _parse_subscript(parser)
        parser.parse_punctuation("(")
        unresolved = parse_values(parser)
        parser.parse_punctuation(")")
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        owner = parser.parse_type()
        parser.parse_punctuation(",")
        type_ = parser.parse_function_type()
        operands = parser.resolve_operands([target, *unresolved], [owner, *type_.inputs.data], parser.pos)
        return cls.create(
            operands=operands, result_types=type_.outputs.data, properties={"name": name}, attributes=attributes
        )


class CreateObject(TorchOperation):
    """A new object of a script class, its attributes still unset."""

    name = "torch.prim.CreateObject"

    def print(self, printer: Printer) -> None:
        print_attributes(self, printer)
        printer.print_string(" ")
        printer.print_attribute(self.results[0].type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        attributes = parser.parse_optional_attr_dict()
        return cls.create(result_types=[parser.parse_type()], attributes=attributes)


def _print_subscript(op: Operation, printer: Printer) -> None:
    printer.print_string(" ")
    printer.print_operand(op.operands[0])
    printer.print_string("[")
    printer.print_attribute(op.properties["name"])
    printer.print_string("]")
    print_attributes(op, printer)


def _parse_subscript(parser: Parser) -> tuple[UnresolvedOperand, StringAttr]:
    target = parser.parse_unresolved_operand()
    parser.parse_punctuation("[")
    name = StringAttr(parser.parse_str_literal())
    parser.parse_punctuation("]")
    return target, name


class ClassType(TorchOperation):
    """`torch.class_type @name { torch.attr ..., torch.method ... }`: attributes and methods of a class."""

    name = "torch.class_type"
    traits = OpTraits(lambda: (SymbolOpInterface(), NoTerminator(), SymbolTable()))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        symbol = self.properties["sym_name"]
        assert isinstance(symbol, StringAttr)
        printer.print_symbol_name(symbol.data)
        printer.print_string(" ")
        printer.print_region(self.regions[0], print_empty_block=False)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        name = parser.parse_symbol_name()
        return cls.create(properties={"sym_name": name}, regions=[_parse_members(parser)])


class ClassAttribute(TorchOperation):
    """`torch.attr private "name" : type` inside a class type."""

    name = "torch.attr"

    def print(self, printer: Printer) -> None:
        printer.print_string(" private " if "isPrivate" in self.properties else " ")
        printer.print_attribute(self.properties["name"])
        printer.print_string(" : ")
        printer.print_attribute(self.properties["type"])

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        private = parser.parse_optional_keyword("private") is not None
        name = StringAttr(parser.parse_str_literal())
        parser.parse_punctuation(":")
        properties: dict[str, Attribute] = {"name": name, "type": parser.parse_type()}
        if private:
            properties["isPrivate"] = UnitAttr()
        return cls.create(properties=properties)


class Method(TorchOperation):
    """`torch.method "name", @function` inside a class type."""

    name = "torch.method"

    def print(self, printer: Printer) -> None:
        printer.print_string(" private " if "isPrivate" in self.properties else " ")
        printer.print_attribute(self.properties["name"])
        printer.print_string(", ")
        printer.print_attribute(self.properties["function"])

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        private = parser.parse_optional_keyword("private") is not None
        name = StringAttr(parser.parse_str_literal())
        parser.parse_punctuation(",")
        properties: dict[str, Attribute] = {"name": name, "function": parser.parse_attribute()}
        if private:
            properties["isPrivate"] = UnitAttr()
        return cls.create(properties=properties)


class ModuleObject(TorchOperation):
    """`torch.nn_module { torch.slot ... } : !torch.nn.Module<"c">`: one object of the archive's graph."""

    name = "torch.nn_module"
    traits = OpTraits(lambda: (NoTerminator(),))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_region(self.regions[0], print_empty_block=False)
        printer.print_string(" : ")
        printer.print_attribute(self.results[0].type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        region = _parse_members(parser)
        parser.parse_punctuation(":")
        return cls.create(result_types=[parser.parse_type()], regions=[region])


class Slot(TorchOperation):
    """`torch.slot "name", %value : type` inside a module object."""

    name = "torch.slot"

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_attribute(self.properties["name"])
        printer.print_string(", ")
        printer.print_operand(self.operands[0])
        printer.print_string(" : ")
        printer.print_attribute(self.operands[0].type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        name = StringAttr(parser.parse_str_literal())
        parser.parse_punctuation(",")
        value = parser.parse_unresolved_operand()
        parser.parse_punctuation(":")
        operand = parser.resolve_operand(value, parser.parse_type())
        return cls.create(operands=[operand], properties={"name": name})


def _parse_members(parser: Parser) -> Region:
    """The one block of a class or object; `{}` has one too, an empty one."""
    region = parser.parse_region()
    if not region.blocks:
        region.add_block(Block())
    return region
