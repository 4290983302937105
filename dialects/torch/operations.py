"""The forms that operations of the `torch` level take: the one of all ATen ops, and prim's own.

Their text is torch-mlir's, so its tools read it verbatim. They are plain `Operation` classes rather than IRDL
definitions: a class per ATen overload is made from its schema in microseconds, when it is first needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from xdsl.dialects.builtin import BoolAttr, FloatAttr, IntegerAttr, StringAttr, UnitAttr, f64, i64
from xdsl.ir import Attribute, Block, Operation, OpTraits, Region, SSAValue
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.traits import IsTerminator, NoTerminator, SymbolOpInterface, SymbolTable
from xdsl.utils.exceptions import VerifyException

from stepwell.dialects.torch import types

NO_TRAITS = OpTraits(lambda: ())


class TorchOperation(Operation):
    """The base of all operations here. Default form: `operands attr-dict : types -> types`."""

    name = "torch.unnamed"
    traits: ClassVar[OpTraits] = NO_TRAITS

    def print(self, printer: Printer) -> None:
        if self.operands:
            printer.print_string(" ")
            printer.print_list(self.operands, printer.print_operand)
        _print_attributes(self, printer)
        if self.operands or self.results:
            printer.print_string(" : ")
            printer.print_list(self.operands, lambda v: printer.print_attribute(v.type))
            if self.results:
                printer.print_string(" -> " if self.operands else "")
                printer.print_list(self.results, lambda v: printer.print_attribute(v.type))

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        unresolved = parse_values(parser)
        attributes = parser.parse_optional_attr_dict()
        operand_types: list[Attribute] = []
        result_types: list[Attribute] = []
        if parser.parse_optional_punctuation(":") is not None:
            first = parse_types(parser)
            if unresolved:
                operand_types = first
                if parser.parse_optional_punctuation("->") is not None:
                    result_types = parse_types(parser)
            else:
                result_types = first
        operands = parser.resolve_operands(unresolved, operand_types, parser.pos)
        return cls.create(operands=operands, result_types=result_types, attributes=attributes)

    def verify_(self) -> None:
        pass


def _print_attributes(op: Operation, printer: Printer, hidden: Sequence[str] = ()) -> None:
    shown = {k: v for k, v in op.attributes.items() if k not in hidden}
    if shown:
        printer.print_string(" ")
        printer.print_attr_dict(shown)


def parse_values(parser: Parser) -> list[UnresolvedOperand]:
    """`%a, %b, %c`, or nothing."""
    first = parser.parse_optional_unresolved_operand()
    if first is None:
        return []
    found = [first]
    while parser.parse_optional_punctuation(",") is not None:
        found.append(parser.parse_unresolved_operand())
    return found


def parse_types(parser: Parser) -> list[Attribute]:
    found: list[Attribute] = [parser.parse_type()]
    while parser.parse_optional_punctuation(",") is not None:
        found.append(parser.parse_type())
    return found


class FunctionalForm(TorchOperation):
    """Operations printed with a function type: `operands : (types) -> type`."""

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.operands, printer.print_operand)
        _print_attributes(self, printer)
        printer.print_string(" : " if self.operands else ": ")
        printer.print_function_type(self.operand_types, self.result_types)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        unresolved = parse_values(parser)
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        type_ = parser.parse_function_type()
        operands = parser.resolve_operands(unresolved, type_.inputs.data, parser.pos)
        return cls.create(operands=operands, result_types=type_.outputs.data, attributes=attributes)


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
        _print_attributes(self, printer)
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
        _print_attributes(self, printer)
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
        _print_attributes(self, printer)
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
        _print_attributes(self, printer)
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
        _print_attributes(self, printer)
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
        _print_attributes(self, printer)
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


class _Constant(TorchOperation):
    """Constants print their value only; the type follows from the op."""

    result_type: ClassVar[Attribute]

    @property
    def value(self) -> Any:
        raise NotImplementedError

    def print(self, printer: Printer) -> None:
        _print_attributes(self, printer)
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


class ConstantInt(_Constant):
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


class ConstantFloat(_Constant):
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


class ConstantBool(_Constant):
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


class _ConstantText(_Constant):
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


class ConstantNone(_Constant):
    name = "torch.constant.none"
    result_type = types.NONE

    @property
    def value(self) -> None:
        return None

    def print(self, printer: Printer) -> None:
        _print_attributes(self, printer)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        return cls.create(result_types=[types.NONE], attributes=parser.parse_optional_attr_dict())


class _Literal(TorchOperation):
    """`(dense<...> : tensor<..>) : type`; the value is an elements attribute or a resource handle."""

    def print(self, printer: Printer) -> None:
        printer.print_string("(")
        printer.print_attribute(self.properties["value"])
        printer.print_string(")")
        _print_attributes(self, printer)
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
        _print_attributes(self, printer)

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
        _print_attributes(self, printer)

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
        _print_attributes(self, printer)
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
        _print_attributes(self, printer)
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
    _print_attributes(op, printer)


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
        return cls.create(properties={"sym_name": name}, regions=[parser.parse_region()])


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
        region = parser.parse_region()
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


def single_block_region(block: Block) -> Region:
    return Region([block])


def verify_arity(op: Operation, operands: int, results: int) -> None:
    """Raise VerifyException unless the operation has these numbers of operands and results."""
    if len(op.operands) != operands or len(op.results) != results:
        raise VerifyException(
            f"{op.name} takes {operands} operands and gives {results} results, "
            f"not {len(op.operands)} and {len(op.results)}"
        )


OPERATIONS: tuple[type[Operation], ...] = (
    ListConstruct, DictConstruct, TupleConstruct, TupleIndex, TupleUnpack, ListUnpack, Uninitialized,
    RaiseException, UncheckedCast, Derefine, TensorStaticInfoCast, Operator, FormatText, SymbolicInt,
    BindSymbolicShape, ConstantInt, ConstantFloat,
    ConstantBool, ConstantString, ConstantDevice, ConstantNone, ValueTensorLiteral, TensorLiteral,
    If, IfYield, Loop, LoopCondition, GetAttribute, SetAttribute, CallMethod, CreateObject,
    ClassType, ClassAttribute, Method, ModuleObject, Slot,
)  # fmt: skip
