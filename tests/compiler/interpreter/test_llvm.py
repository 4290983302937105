"""The llvm level: pointers are checked; what the lowering emits seldom or never."""

import numpy as np
import pytest

from stepwell.compiler.interpreter import InterpreterError


def access(load, offset):
    return f"""
    llvm.func @f(%p: !llvm.ptr) -> f32 {{
      %q = llvm.getelementptr %p[{offset}] : (!llvm.ptr) -> !llvm.ptr, i8
      {load}
      llvm.return %v : f32
    }}"""


def test_loads_stay_in_their_block(run):
    x = np.arange(4, dtype=np.float32)
    plain = "%v = llvm.load %q : !llvm.ptr -> f32"
    assert run(access(plain, 8), x) == [2]
    for offset in (-4, 13, 16):
        with pytest.raises(InterpreterError, match=r"llvm.load .*(leave a block|belong to no block)"):
            run(access(plain, offset), x)


def test_claimed_alignment_is_checked(run):
    x = np.arange(4, dtype=np.float32)
    claim = "%v = llvm.load %q {alignment = 4 : i64} : !llvm.ptr -> f32"
    assert run(access(claim, 4), x) == [1]
    with pytest.raises(InterpreterError, match="not aligned to 4"):
        run(access(claim, 6), x)


def test_blocks_with_arguments(run):
    text = """
    llvm.func @f(%p: !llvm.ptr, %n: i64) -> f32 {
      %zero = llvm.mlir.constant(0 : i64) : i64
      %one = llvm.mlir.constant(1 : i64) : i64
      %start = llvm.mlir.constant(0.0 : f32) : f32
      llvm.br ^head(%zero, %start : i64, f32)
    ^head(%i: i64, %s: f32):
      %more = llvm.icmp "slt" %i, %n : i64
      llvm.cond_br %more, ^body, ^end
    ^body:
      %q = llvm.getelementptr %p[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
      %v = llvm.load %q : !llvm.ptr -> f32
      %t = llvm.fadd %s, %v : f32
      %j = llvm.add %i, %one : i64
      llvm.br ^head(%j, %t : i64, f32)
    ^end:
      llvm.return %s : f32
    }"""
    assert run(text, np.arange(10, dtype=np.float32), 10) == [45]


def test_memory_calls_and_structs(run):
    text = """
    llvm.func @malloc(i64) -> !llvm.ptr
    llvm.func @free(!llvm.ptr)
    llvm.func @swap(%a: i32, %p: !llvm.ptr) -> i32 {
      %old = llvm.load %p : !llvm.ptr -> i32
      llvm.store %a, %p : i32, !llvm.ptr
      llvm.return %old : i32
    }
    llvm.func @f(%a: i32, %b: i32) -> i32 {
      %size = llvm.mlir.constant(16 : i64) : i64
      %m = llvm.call @malloc(%size) : (i64) -> !llvm.ptr
      llvm.store %a, %m : i32, !llvm.ptr
      %old = llvm.call @swap(%b, %m) : (i32, !llvm.ptr) -> i32
      %now = llvm.load %m : !llvm.ptr -> i32
      llvm.call @free(%m) : (!llvm.ptr) -> ()
      %u = llvm.mlir.undef : !llvm.struct<(i32, i32)>
      %s = llvm.insertvalue %old, %u[0] : !llvm.struct<(i32, i32)>
      %t = llvm.insertvalue %now, %s[1] : !llvm.struct<(i32, i32)>
      %x = llvm.extractvalue %t[0] : !llvm.struct<(i32, i32)>
      %y = llvm.extractvalue %t[1] : !llvm.struct<(i32, i32)>
      %r = llvm.sub %x, %y : i32
      llvm.return %r : i32
    }"""
    assert run(text, 10, 3) == [7]


def test_memory_that_was_freed_is_gone(run):
    text = """
    llvm.func @malloc(i64) -> !llvm.ptr
    llvm.func @free(!llvm.ptr)
    llvm.func @f() -> i32 {
      %size = llvm.mlir.constant(16 : i64) : i64
      %m = llvm.call @malloc(%size) : (i64) -> !llvm.ptr
      llvm.call @free(%m) : (!llvm.ptr) -> ()
      %v = llvm.load %m : !llvm.ptr -> i32
      llvm.return %v : i32
    }"""
    with pytest.raises(InterpreterError, match=r"llvm.load .*belong to no block"):
        run(text)
