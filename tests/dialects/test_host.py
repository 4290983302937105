"""The host dialect: every op round-trips through text, and what is wrong is refused with its reason."""

from __future__ import annotations

import io

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.dialects.test import Test
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import ParseError, VerifyException

from stepwell.dialects.host import Host, message_fields

VALUES = """
%l0 = host.list_new : !host.list<tensor<4x?xf32>>
%x, %i, %f, %b, %n = "test.op"() : () -> (tensor<4x?xf32>, i64, f64, i1, index)
%l1 = host.list_append %l0, %x : !host.list<tensor<4x?xf32>>
%len = host.list_length %l1 : !host.list<tensor<4x?xf32>>
%y = host.list_get %l1[%i] : !host.list<tensor<4x?xf32>>
%l2 = host.list_set %l1[%i], %y : !host.list<tensor<4x?xf32>>
%l3, %z = host.list_pop %l2[%i] : !host.list<tensor<4x?xf32>>
%c = host.list_concat %l3 {dim = 0 : i64} : !host.list<tensor<4x?xf32>> -> tensor<?x?xf32>
%s = host.list_stack %l3 {dim = 1 : i64} : !host.list<tensor<4x?xf32>> -> tensor<4x?x?xf32>
%u = host.undefined : tensor<4x?xf32>
%k = host.list_new : !host.list<i64>
host.raise "builtins.ValueError", "bad"
host.raise "builtins.IndexError", "index {} of {}, {{}} {}"(%i, %f, %b : i64, f64, i1)
"""

RUNNING = """
%t = host.thread_id : index
%n = host.thread_count : index
host.barrier
%m = host.alloc(%n, %t) : memref<?x4x?xf32>
%e = host.alloc() : memref<4xf32>
host.free %m : memref<?x4x?xf32>
%a = host.reserve %n : memref<?xi8>
%s = "test.op"() : () -> memref<4xf32, strided<[1], offset: ?>>
%r = host.rebase %s : memref<4xf32, strided<[1], offset: ?>> to memref<4xf32>
"""


def parse(text: str) -> ModuleOp:
    context = Context()
    for dialect in (Builtin, Test, Host):
        context.load_dialect(dialect)
    module = Parser(context, text).parse_module()
    module.verify()
    return module


def printed(module: ModuleOp, generic: bool = False) -> str:
    stream = io.StringIO()
    Printer(stream=stream, print_generic_format=generic).print_op(module)
    return stream.getvalue()


@pytest.mark.parametrize("text", [VALUES, RUNNING], ids=["values", "running"])
@pytest.mark.parametrize("generic", [False, True])
def test_round_trip(text: str, generic: bool) -> None:
    module = parse(text)
    once = printed(module, generic)
    again = parse(once)
    assert again.is_structurally_equivalent(module)
    assert printed(again, generic) == once


def test_the_text_is_what_is_documented() -> None:
    lines = [line.strip() for line in printed(parse(VALUES)).splitlines()]
    assert "%l1 = host.list_append %l0, %x : !host.list<tensor<4x?xf32>>" in lines
    assert 'host.raise "builtins.ValueError", "bad"' in lines


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('host.raise "builtins.ValueError", "{}"', "1 fields but 0 values"),
        ('%x = "test.op"() : () -> f32 host.raise "a.B", "{}"(%x : f32)', "not f32"),
        ('host.raise "a.B", "{0}"', "plain {} fields"),
        ('"test.op"() : () -> !host.list<f32>', "i64, f64 or i1, not f32"),
        ("%l = host.list_new : !host.list<i64> "
         "%s = host.list_stack %l {dim = 0 : i64} : !host.list<i64> -> tensor<?xi64>", "only lists"),
        ("%l = host.list_new : !host.list<tensor<2xf32>> %s = host.list_concat %l {dim = 0 : i64} "
         ": !host.list<tensor<2xf32>> -> tensor<4xf32>", "must be dynamic"),
        ("%l = host.list_new : !host.list<tensor<2xf32>> %s = host.list_stack %l {dim = 0 : i64} "
         ": !host.list<tensor<2xf32>> -> tensor<?x3xf32>", "do not join"),
        ("%m = host.alloc() : memref<?xf32>", "1 dynamic sizes, not 0"),
    ],
)  # fmt: skip
def test_refused(text: str, reason: str) -> None:
    with pytest.raises((VerifyException, ParseError), match=reason.replace("{", r"\{")):
        parse(text)


def test_appending_the_wrong_type_is_refused() -> None:
    text = """
    %l = host.list_new : !host.list<i64>
    %x = "test.op"() : () -> f64
    %m = "host.list_append"(%l, %x) : (!host.list<i64>, f64) -> !host.list<i64>
    """
    with pytest.raises(VerifyException):
        parse(text)


def test_fields_of_a_message() -> None:
    assert message_fields("no field") == 0
    assert message_fields("{} of {} in {{}}") == 2
