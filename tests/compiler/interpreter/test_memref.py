"""Views alias, and what leaves its memory is an error that names the op."""

import numpy as np
import pytest

from stepwell.compiler.interpreter import InterpreterError, Machine


def test_views_alias(run):
    text = """
    func.func @f(%x: memref<4x6xf32>, %i: index) -> memref<2x3xf32, strided<[6, 2], offset: ?>> {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %v = arith.constant 100.0 : f32
      %s = memref.subview %x[%i, 1] [2, 3] [1, 2] : memref<4x6xf32> to memref<2x3xf32, strided<[6, 2], offset: ?>>
      memref.store %v, %s[%c1, %c1] : memref<2x3xf32, strided<[6, 2], offset: ?>>
      %row = memref.subview %s[0, 0] [1, 3] [1, 1]
        : memref<2x3xf32, strided<[6, 2], offset: ?>> to memref<3xf32, strided<[2], offset: ?>>
      %w = memref.load %row[%c1] : memref<3xf32, strided<[2], offset: ?>>
      %flat = memref.collapse_shape %x [[0, 1]] : memref<4x6xf32> into memref<24xf32>
      memref.store %w, %flat[%c0] : memref<24xf32>
      %e = memref.expand_shape %flat [[0, 1, 2]] output_shape [2, 3, 4] : memref<24xf32> into memref<2x3x4xf32>
      memref.store %v, %e[%c1, %c0, %c1] : memref<2x3x4xf32>
      func.return %s : memref<2x3xf32, strided<[6, 2], offset: ?>>
    }"""
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    (s,) = run(text, x, 1)
    assert x[2, 3] == 100 and x[0, 0] == 9 and x.flat[13] == 100
    assert np.shares_memory(s, x) and np.array_equal(s, x[1:3, 1::2])
    with pytest.raises(InterpreterError, match=r"memref.subview .*leave dimension 0 of size 4"):
        run(text, x, 3)


def test_arena_views(run):
    text = """
    func.func @f(%arena: memref<?xi8>, %at: index, %n: index) -> (memref<2x?xf32>, i8) {
      %c0 = arith.constant 0 : index
      %v = arith.constant 1.0 : f32
      %a = memref.view %arena[%at][%n] : memref<?xi8> to memref<2x?xf32>
      memref.store %v, %a[%c0, %c0] : memref<2x?xf32>
      %b = arith.constant 11 : index
      %byte = memref.load %arena[%b] : memref<?xi8>
      func.return %a, %byte : memref<2x?xf32>, i8
    }"""
    arena = np.zeros(64, np.int8)
    a, byte = run(text, arena, 8, 7)
    assert a.shape == (2, 7) and arena[8:12].view(np.float32)[0] == 1 and byte == 0x3F
    with pytest.raises(InterpreterError, match=r"memref.view .*leaves its memory"):
        run(text, arena, 12, 7)


@pytest.mark.parametrize("op", ["load", "store"])
@pytest.mark.parametrize("index", [-1, 4])
def test_out_of_bounds(run, op, index):
    access = {
        "load": "%v = memref.load %x[%c0, %i] : memref<2x4xf32>",
        "store": "%v = arith.constant 0.0 : f32\nmemref.store %v, %x[%c0, %i] : memref<2x4xf32>",
    }[op]
    text = f"""
    func.func @f(%x: memref<2x4xf32>, %i: index) {{
      %c0 = arith.constant 0 : index
      {access}
      func.return
    }}"""
    with pytest.raises(InterpreterError, match=rf"memref.{op} .*out of bounds"):
        run(text, np.zeros((2, 4), np.float32), index)


def test_reinterpret_and_metadata(run):
    text = """
    func.func @f(%x: memref<24xf32>, %o: index) ->
        (memref<3x2xf32, strided<[2, 8], offset: ?>>, index, index, index) {
      %r = memref.reinterpret_cast %x to offset: [%o], sizes: [3, 2], strides: [2, 8]
        : memref<24xf32> to memref<3x2xf32, strided<[2, 8], offset: ?>>
      %b, %off, %s0, %s1, %t0, %t1 = "memref.extract_strided_metadata"(%r)
        : (memref<3x2xf32, strided<[2, 8], offset: ?>>) -> (memref<f32>, index, index, index, index, index)
      func.return %r, %off, %s0, %t1 : memref<3x2xf32, strided<[2, 8], offset: ?>>, index, index, index
    }"""
    x = np.arange(24, dtype=np.float32)
    r, offset, size, stride = run(text, x, 3)
    assert r.tolist() == [[3, 11], [5, 13], [7, 15]] and (offset, size, stride) == (3, 3, 8)
    with pytest.raises(InterpreterError, match=r"reinterpret_cast .*leaves its memory"):
        run(text, x, 13)


def test_casts_and_copies_are_checked(run):
    text = """
    func.func @f(%x: memref<?xf32>, %y: memref<3xf32>) {
      %c = "memref.cast"(%x) : (memref<?xf32>) -> memref<3xf32>
      "memref.copy"(%c, %y) : (memref<3xf32>, memref<3xf32>) -> ()
      func.return
    }"""
    x, y = np.arange(3, dtype=np.float32), np.zeros(3, np.float32)
    run(text, x, y)
    assert np.array_equal(x, y)
    with pytest.raises(InterpreterError, match=r"memref.cast .*is no memref<3xf32>"):
        run(text, np.zeros(4, np.float32), y)


def test_fresh_memory_is_poison(run):
    text = """
    func.func @f(%n: index) -> (memref<?xf32>, memref<2xi16>, memref<?xi8>, memref<2xbf16>) {
      %a = host.alloc(%n) : memref<?xf32>
      %b = "memref.alloca"() <{operandSegmentSizes = array<i32: 0, 0>}> : () -> memref<2xi16>
      %c = host.reserve %n : memref<?xi8>
      %d = host.alloc() : memref<2xbf16>
      func.return %a, %b, %c, %d : memref<?xf32>, memref<2xi16>, memref<?xi8>, memref<2xbf16>
    }"""
    a, b, c, d = run(text, 3)
    assert np.isnan(a).all() and a.shape == (3,) and a.ctypes.data % 64 == 0
    assert (b.view(np.uint16) == 0xA5A5).all() and (c.view(np.uint8) == 0xA5).all()
    assert np.isnan(d.astype(np.float32)).all()


def test_globals_keep_their_memory(parse):
    module = parse("""
    "memref.global"() <{sym_name = "table", sym_visibility = "private", type = memref<2xf32>,
      initial_value = dense<[1.0, 2.0]> : tensor<2xf32>}> : () -> ()
    func.func @f(%v: f32) -> f32 {
      %c0 = arith.constant 0 : index
      %t = memref.get_global @table : memref<2xf32>
      %old = memref.load %t[%c0] : memref<2xf32>
      memref.store %v, %t[%c0] : memref<2xf32>
      func.return %old : f32
    }""")
    machine = Machine(module)
    assert [machine.call("f", [5.0]), machine.call("f", [6.0])] == [[1.0], [5.0]]


SPMD = """
func.func @f(%x: memref<10xf32>, %y: memref<10xf32>, %total: memref<1xf32>) -> index {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c10 = arith.constant 10 : index
  %t = host.thread_id : index
  %n = host.thread_count : index
  %shared = host.alloc(%c10) : memref<?xf32>
  scf.for %i = %t to %c10 step %n {
    %v = memref.load %x[%i] : memref<10xf32>
    %w = arith.addf %v, %v : f32
    memref.store %w, %shared[%i] : memref<?xf32>
  }
  host.barrier
  %last = arith.constant 9 : index
  scf.for %i = %t to %c10 step %n {
    %j = arith.subi %last, %i : index
    %v = memref.load %shared[%j] : memref<?xf32>
    memref.store %v, %y[%i] : memref<10xf32>
  }
  host.barrier
  %first = arith.cmpi eq, %t, %c0 : index
  scf.if %first {
    %zero = arith.constant 0.0 : f32
    %s = scf.for %i = %c0 to %c10 step %c1 iter_args(%a = %zero) -> (f32) {
      %v = memref.load %y[%i] : memref<10xf32>
      %b = arith.addf %a, %v : f32
      scf.yield %b : f32
    }
    memref.store %s, %total[%c0] : memref<1xf32>
  }
  host.barrier
  host.free %shared : memref<?xf32>
  func.return %t : index
}"""


@pytest.mark.parametrize(("threads", "order"), [(1, None), (3, None), (3, [2, 0, 1]), (16, None)])
def test_threads_share_memory_between_barriers(parse, threads, order):
    x, y, total = (np.zeros(size, np.float32) for size in (10, 10, 1))
    x[:] = np.arange(10)
    (result,) = Machine(parse(SPMD)).call("f", [x, y, total], threads=threads, order=order)
    assert result == 0 and total[0] == 90 and np.array_equal(y, 2 * x[::-1])


def test_failures_of_one_thread_end_all(run):
    text = """
    func.func @f(%k: index) {
      %t = host.thread_id : index
      %bad = arith.cmpi eq, %t, %k : index
      scf.if %bad {
        host.raise "builtins.ValueError", "thread {}"(%t : index)
      }
      host.barrier
      func.return
    }"""
    for thread in range(3):
        with pytest.raises(ValueError, match=f"thread {thread}"):
            run(text, thread, threads=3)
    run(text, 5, threads=3)


def test_a_barrier_that_not_all_reach_is_an_error(run):
    text = """
    func.func @f() {
      %c1 = arith.constant 1 : index
      %t = host.thread_id : index
      %b = arith.cmpi eq, %t, %c1 : index
      scf.if %b {
        host.barrier
      }
      func.return
    }"""
    with pytest.raises(InterpreterError, match="ended while the others wait"):
        run(text, threads=3)


def test_undivided_parallel_loops_refuse_a_team(run):
    text = """
    func.func @f(%n: index) {
      %c0 = arith.constant 0 : index
      "scf.parallel"(%c0, %n, %n) <{operandSegmentSizes = array<i32: 1, 1, 1, 0>}> ({
      ^bb0(%i: index):
        "scf.reduce"() : () -> ()
      }) : (index, index, index) -> ()
      func.return
    }"""
    run(text, 3)
    with pytest.raises(InterpreterError, match="divide it"):
        run(text, 3, threads=2)
