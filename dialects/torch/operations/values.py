"""prim's operations on values: lists, dicts, tuples, casts, exceptions; and `torch.operator`."""

from __future__ import annotations

from typing import Self

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import SSAValue
from xdsl.parser import Parser
from xdsl.printer import Printer

from stepwell.dialects.torch.operations.form import (
    FunctionalForm,
    TorchOperation,
    parse_types,
    parse_values,
    print_attributes,
)


class ListConstruct(FunctionalForm):
    name = "torch.prim.ListConstruct"


class DictConstruct(TorchOperation):
    """`keys(%k : t) values(%v : t) -> type`; operands are the keys, then the values."""

    name = "torch.prim.DictConstruct"

    def print(self, printer: Printer) -> None:
        half = len(self.operands) // 2
        for word, values in (("keys", self.operands[:half]), ("values", self.operands[half:])):
            printer.print_string(f" {word}(")
            printer.print_list(values, printer.print_operand)
            if values:
                printer.print_string(" : ")
                printer.print_list(values, lambda v: printer.print_attribute(v.type))
            printer.print_string(")")
        print_attributes(self, printer)
        printer.print_string(" -> ")
        printer.print_attribute(self.results[0].type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        operands: list[SSAValue] = []
        for word in ("keys", "values"):
            parser.parse_keyword(word)
            parser.parse_punctuation("(")
            unresolved = parse_values(parser)
            if unresolved:
                parser.parse_punctuation(":")
                operands += parser.resolve_operands(unresolved, parse_types(parser), parser.pos)
            parser.parse_punctuation(")")
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation("->")
        return cls.create(operands=operands, result_types=[parser.parse_type()], attributes=attributes)


class TupleConstruct(TorchOperation):
    name = "torch.prim.TupleConstruct"

    def print(self, printer: Printer) -> None:
        if self.operands:
            super().print(printer)
            return
        print_attributes(self, printer)
        printer.print_string(" -> ")
        printer.print_attribute(self.results[0].type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        if parser.parse_optional_punctuation("->") is not None:
            return cls.create(result_types=[parser.parse_type()])
        return super().parse(parser)


class TupleIndex(TorchOperation):
    name = "torch.prim.TupleIndex"


class TupleUnpack(TorchOperation):
    name = "torch.prim.TupleUnpack"


class ListUnpack(TorchOperation):
    name = "torch.prim.ListUnpack"


class Uninitialized(TorchOperation):
    """A value that is never used; stands where control flow has already left."""

    name = "torch.prim.Uninitialized"


class RaiseException(TorchOperation):
    """Leaves the method with an exception: message and class name are operands (str, str or none)."""

    name = "torch.prim.RaiseException"


class UncheckedCast(TorchOperation):
    """Narrows a static type after a test of it (`x is not None`)."""

    name = "torch.prim.unchecked_cast"


class _To(TorchOperation):
    """Form: `%x : type to type`."""

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.operands[0])
        print_attributes(self, printer)
        printer.print_string(" : ")
        printer.print_attribute(self.operands[0].type)
        printer.print_string(" to ")
        printer.print_attribute(self.results[0].type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        value = parser.parse_unresolved_operand()
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        operand = parser.resolve_operand(value, parser.parse_type())
        parser.parse_keyword("to")
        return cls.create(operands=[operand], result_types=[parser.parse_type()], attributes=attributes)


class Derefine(_To):
    """Widens a static type: `!torch.int to !torch.optional<int>`."""

    name = "torch.derefine"


class TensorStaticInfoCast(_To):
    """Adds or forgets sizes and dtype of a tensor type; the value is the same."""

    name = "torch.tensor_static_info_cast"


class Operator(TorchOperation):
    """An op that torch-mlir does not name: `torch.operator "ns.name.overload"(%a) : (t) -> t`."""

    name = "torch.operator"

    @property
    def operator(self) -> str:
        attribute = self.properties["name"]
        assert isinstance(attribute, StringAttr)
        return attribute.data

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_attribute(self.properties["name"])
        printer.print_string("(")
        printer.print_list(self.operands, printer.print_operand)
        printer.print_string(")")
        print_attributes(self, printer)
        printer.print_string(" : ")
        printer.print_function_type(self.operand_types, self.result_types)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        name = StringAttr(parser.parse_str_literal())
        parser.parse_punctuation("(")
        unresolved = parse_values(parser)
        parser.parse_punctuation(")")
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        type_ = parser.parse_function_type()
        operands = parser.resolve_operands(unresolved, type_.inputs.data, parser.pos)
        return cls.create(
            operands=operands, result_types=type_.outputs.data, properties={"name": name}, attributes=attributes
        )


class FormatText(FunctionalForm):
    """str.format with fields known at run time only: the message of an exception."""

    name = "torch.aten.format"

    def print(self, printer: Printer) -> None:
        printer.print_string("(")
        printer.print_list(self.operands, printer.print_operand)
        printer.print_string(")")
        print_attributes(self, printer)
        printer.print_string(" : ")
        printer.print_list(self.operands, lambda v: printer.print_attribute(v.type))
        printer.print_string(" -> ")
        printer.print_attribute(self.results[0].type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        parser.parse_punctuation("(")
        unresolved = parse_values(parser)
        parser.parse_punctuation(")")
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        operands = parser.resolve_operands(unresolved, parse_types(parser), parser.pos)
        parser.parse_punctuation("->")
        return cls.create(operands=operands, result_types=[parser.parse_type()], attributes=attributes)
