"""Constants and literals."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from xdsl.dialects.builtin import BoolAttr, FloatAttr, IntegerAttr, StringAttr, f64, i64
from xdsl.ir import Attribute
from xdsl.parser import Parser
from xdsl.printer import Printer

from stepwell.dialects.torch import types
from stepwell.dialects.torch.operations.form import TorchOperation, print_attributes


class Constant(TorchOperation):
    """Constants print their value only; the type follows from the op."""

    result_type: ClassVar[Attribute]

    @property
    def value(self) -> Any:
        raise NotImplementedError

    def print(self, printer: Printer) -> None:
        print_attributes(self, printer)
        printer.print_string(" ")
        self.print_value(printer)

    def print_value(self, printer: Printer) -> None:
        printer.print_attribute(self.properties["value"])

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        attributes = parser.parse_optional_attr_dict()
        return cls.create(
            result_types=[cls.result_type], properties={"value": cls.parse_value(parser)}, attributes=attributes
        )

    @classmethod
    def parse_value(cls, parser: Parser) -> Attribute:
        return StringAttr(parser.parse_str_literal())


class ConstantInt(Constant):
    name = "torch.constant.int"
    result_type = types.INT

    @property
    def value(self) -> int:
        attribute = self.properties["value"]
        assert isinstance(attribute, IntegerAttr)
        return attribute.value.data

    def print_value(self, printer: Printer) -> None:
        printer.print_string(str(self.value))

    @classmethod
    def parse_value(cls, parser: Parser) -> Attribute:
        return IntegerAttr(parser.parse_integer(), i64)


class ConstantFloat(Constant):
    name = "torch.constant.float"
    result_type = types.FLOAT

    @property
    def value(self) -> float:
        attribute = self.properties["value"]
        assert isinstance(attribute, FloatAttr)
        return float(attribute.value.data)

    def print_value(self, printer: Printer) -> None:
        printer.print_float(self.value, f64)

    @classmethod
    def parse_value(cls, parser: Parser) -> Attribute:
        number = parser.parse_number()
        if isinstance(number, int) and not isinstance(number, bool):
            # The hexadecimal spelling of NaN and the infinities is the bit pattern.
            import struct

            return FloatAttr(struct.unpack("<d", struct.pack("<Q", number))[0], f64)
        return FloatAttr(float(number), f64)


class ConstantBool(Constant):
    name = "torch.constant.bool"
    result_type = types.BOOL

    @property
    def value(self) -> bool:
        attribute = self.properties["value"]
        assert isinstance(attribute, IntegerAttr)
        return bool(attribute.value.data)

    def print_value(self, printer: Printer) -> None:
        printer.print_string("true" if self.value else "false")

    @classmethod
    def parse_value(cls, parser: Parser) -> Attribute:
        return BoolAttr.from_bool(parser.parse_boolean())


class _ConstantText(Constant):
    @property
    def value(self) -> str:
        attribute = self.properties["value"]
        assert isinstance(attribute, StringAttr)
        return attribute.data


class ConstantString(_ConstantText):
    name = "torch.constant.str"
    result_type = types.STRING


class ConstantDevice(_ConstantText):
    name = "torch.constant.device"
    result_type = types.DEVICE


class ConstantNone(Constant):
    name = "torch.constant.none"
    result_type = types.NONE

    @property
    def value(self) -> None:
        return None

    def print(self, printer: Printer) -> None:
        print_attributes(self, printer)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        return cls.create(result_types=[types.NONE], attributes=parser.parse_optional_attr_dict())


class _Literal(TorchOperation):
    """`(dense<...> : tensor<..>) : type`; the value is an elements attribute or a resource handle."""

    def print(self, printer: Printer) -> None:
        printer.print_string("(")
        printer.print_attribute(self.properties["value"])
        printer.print_string(")")
        print_attributes(self, printer)
        printer.print_string(" : ")
        printer.print_attribute(self.results[0].type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        parser.parse_punctuation("(")
        value = parser.parse_attribute()
        parser.parse_punctuation(")")
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        return cls.create(result_types=[parser.parse_type()], properties={"value": value}, attributes=attributes)


class ValueTensorLiteral(_Literal):
    name = "torch.vtensor.literal"


class TensorLiteral(_Literal):
    name = "torch.tensor.literal"
