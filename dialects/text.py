"""Reading and writing the text of every level: xDSL's parser and printer, with what MLIR does otherwise."""

from __future__ import annotations

import io
from typing import Any

from xdsl.dialects.builtin import AnyFloat, ModuleOp
from xdsl.ir import Operation
from xdsl.parser import Parser as _Parser
from xdsl.parser.attribute_parser import AttrParser
from xdsl.printer import Printer as _Printer

from stepwell.dialects import context

OWN = ("host", "tile")
"""The dialects that MLIR's own tools do not know."""


class _Element(AttrParser._TensorLiteralElement):
    """A number inside `dense<...>`. Of a float type, MLIR reads hexadecimal digits as the bits, not as the value."""

    def to_type(self, parser: AttrParser, type: Any) -> Any:
        if isinstance(type, AnyFloat) and self.span.text[:2] in ("0x", "0X"):
            assert isinstance(self.value, int)
            try:
                return type.unpack(self.value.to_bytes(type.compile_time_size, "little"), 1)[0]
            except OverflowError:
                parser.raise_error(f"these bits do not fit {type}", at_position=self.span)
        return super().to_type(parser, type)


class Parser(_Parser):
    """xDSL's parser, reading `dense<0xFF800000>` as minus infinity, as MLIR does."""

    _TensorLiteralElement = _Element


class Printer(_Printer):
    """xDSL's printer. `own_generic` prints the ops of Stepwell's own dialects in generic form and all others as
    usual, which `mlir-opt --allow-unregistered-dialect` reads.
    """

    def __init__(self, *, own_generic: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.generic = OWN if own_generic else ()
        self.all_generic = self.print_generic_format

    def print_op(self, op: Operation) -> None:
        # An op's regions are printed by calls of this in its midst: each sets the form for itself, and puts it back.
        form = self.print_generic_format
        self.print_generic_format = self.all_generic or op.name.partition(".")[0] in self.generic
        super().print_op(op)
        self.print_generic_format = form


def parse(text: str, name: str = "<text>") -> ModuleOp:
    """A module of any level, not yet verified. Raises xDSL's ParseError."""
    return Parser(context(), text, name).parse_module()


def print_text(op: Operation, *, locations: bool = False, generic: bool = False, own_generic: bool = False) -> str:
    """An operation as MLIR, without a line feed at its end."""
    stream = io.StringIO()
    printer = Printer(stream=stream, print_debuginfo=locations, print_generic_format=generic, own_generic=own_generic)
    printer.print_op(op)
    return stream.getvalue()
