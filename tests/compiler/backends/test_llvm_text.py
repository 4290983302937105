"""LLVM IR text of the llvm dialect, and what is refused before LLVM could end the process."""

import pytest
from xdsl.parser import Parser

from stepwell.compiler.backends.jit import compile_object
from stepwell.compiler.backends.llvm_text import number_text, print_module, quoted
from stepwell.compiler.backends.target import host
from stepwell.dialects import context
from stepwell.dialects.diagnostics import UnsupportedError

LOOP = """
llvm.func @sum(%x: !llvm.ptr {llvm.noalias}, %n: i64) -> f32 attributes {passthrough = ["nounwind", ["key", "value"]]} {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %start = llvm.mlir.constant(1.5 : f32) : f32
  llvm.br ^loop(%zero, %start : i64, f32)
^loop(%i: i64, %s: f32):
  %p = llvm.getelementptr inbounds %x[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
  %v = llvm.load %p {alignment = 4 : i64} : !llvm.ptr -> f32
  %t = llvm.fadd %s, %v {fastmathFlags = #llvm.fastmath<contract>} : f32
  %j = llvm.add %i, %one overflow<nsw> : i64
  %c = llvm.icmp "slt" %j, %n : i64
  llvm.cond_br %c, ^loop(%j, %t : i64, f32), ^done
^done:
  llvm.return %t : f32
}
"""
TEXT = """\
define external_float @sum(ptr noalias %v1, i64 %v2) #0 {
b0:
 br label %b1
b1:
 %v4 = phi i64 [ 0, %b0 ], [ %v3, %b1 ]
 %v6 = phi float [ 0x3FF8000000000000, %b0 ], [ %v5, %b1 ]
 %v7 = getelementptr inbounds float, ptr %v1, i64 %v4
 %v8 = load float, ptr %v7, align 4
 %v5 = fadd contract float %v6, %v8
 %v3 = add nsw i64 %v4, 1
 %v9 = icmp slt i64 %v3, %v2
 br i1 %v9, label %b1, label %b2
b2:
 ret float %v5
}
attributes #0 = { nounwind "key"="value" }
""".replace("external_float", "float")


def test_block_arguments_become_phis() -> None:
    text = print_module(Parser(context(), LOOP).parse_module())
    assert text == TEXT
    assert compile_object(text, host())


def test_constants() -> None:
    from xdsl.dialects.builtin import Float16Type, IntegerType, f32, f64

    assert number_text(0.1, f32) == "0x3FB99999A0000000"
    assert number_text(0.1, f64) == "0x3FB999999999999A"
    assert number_text(1.5, Float16Type()) == "0xH3E00"
    assert number_text(float("inf"), f32) == "0x7FF0000000000000"
    assert number_text(-1, IntegerType(1)) == "true"


def test_names_are_quoted_where_needed() -> None:
    assert quoted("host.barrier") == "host.barrier"
    assert quoted('a b"c') == '"a b\\22c"'


def test_unknown_intrinsics_are_refused() -> None:
    text = 'llvm.func @f() {\n llvm.call_intrinsic "llvm.trap"() : () -> ()\n llvm.return\n}'
    with pytest.raises(UnsupportedError, match=r"llvm\.trap"):
        print_module(Parser(context(), text).parse_module())


def test_ops_of_other_levels_are_refused() -> None:
    text = "llvm.func @f() {\n %c = arith.constant 1 : i64\n llvm.return\n}"
    with pytest.raises(UnsupportedError, match=r"arith\.constant has no LLVM text"):
        print_module(Parser(context(), text).parse_module())


def test_a_text_that_llvm_refuses_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="expected"):
        compile_object("define i32 @f() { ret }", host())
