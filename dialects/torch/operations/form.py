"""The base of all operations of the `torch` level: how they print and parse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from xdsl.ir import Attribute, Block, Operation, OpTraits, Region
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

NO_TRAITS = OpTraits(lambda: ())


class TorchOperation(Operation):
    """The base of all operations here. Default form: `operands attr-dict : types -> types`."""

    name = "torch.unnamed"
    traits: ClassVar[OpTraits] = NO_TRAITS

    def print(self, printer: Printer) -> None:
        if self.operands:
            printer.print_string(" ")
            printer.print_list(self.operands, printer.print_operand)
        print_attributes(self, printer)
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


def print_attributes(op: Operation, printer: Printer, hidden: Sequence[str] = ()) -> None:
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
        print_attributes(self, printer)
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


def single_block_region(block: Block) -> Region:
    return Region([block])


def verify_arity(op: Operation, operands: int, results: int) -> None:
    """Raise VerifyException unless the operation has these numbers of operands and results."""
    if len(op.operands) != operands or len(op.results) != results:
        raise VerifyException(
            f"{op.name} takes {operands} operands and gives {results} results, "
            f"not {len(op.operands)} and {len(op.results)}"
        )
