"""The added ops print as MLIR has them: what we print we read back, and mlir-opt reads it too."""

import io
import shutil
import subprocess

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.dialects.func import Func
from xdsl.dialects.math import Math
from xdsl.dialects.memref import MemRef
from xdsl.dialects.vector import Vector
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import AlreadyRegisteredConstructException

from stepwell.dialects import upstream

CORE = """
func.func @core(%a: vector<4xi32>, %x: vector<4xf32>, %s: i1, %i: index, %m: memref<?xf32>,
    %w: vector<16xf32>, %mask: i16, %rounding: i32) {
  %c = arith.cmpi slt, %a, %a : vector<4xi32>
  %d = arith.cmpf olt, %x, %x fastmath<contract> : vector<4xf32>
  %e = arith.select %d, %x, %x : vector<4xi1>, vector<4xf32>
  %f = arith.select %s, %x, %x : vector<4xf32>
  %g = arith.fptosi %x : vector<4xf32> to vector<4xi32>
  %h = arith.sitofp %g : vector<4xi32> to vector<4xf32>
  %j = arith.fptoui %x : vector<4xf32> to vector<4xi32>
  %k = arith.uitofp %g : vector<4xi32> to vector<4xf32>
  %l = arith.index_cast %a : vector<4xi32> to vector<4xindex>
  %n = arith.index_castui %l : vector<4xindex> to vector<4xi32>
  %ma = arith.extsi %a : vector<4xi32> to vector<4xi64>
  %mb = arith.extui %a : vector<4xi32> to vector<4xi64>
  %mc = arith.trunci %ma : vector<4xi64> to vector<4xi32>
  %o = arith.remf %x, %x : vector<4xf32>
  %p = math.erfc %x : vector<4xf32>
  %q = math.isnan %x : vector<4xf32>
  %r = math.isinf %x : vector<4xf32>
  %t = math.isfinite %x : vector<4xf32>
  %u = vector.step : vector<4xindex>
  %z = x86vector.avx512.mask.scalef %w, %w, %w, %mask, %rounding : vector<16xf32>
  %v = vector.gather %m[%i] [%u], %d, %x
    : memref<?xf32>, vector<4xindex>, vector<4xi1>, vector<4xf32> into vector<4xf32>
  vector.scatter %m[%i] [%u], %d, %x : memref<?xf32>, vector<4xindex>, vector<4xi1>, vector<4xf32>
  memref.prefetch %m[%i], read, locality<2>, data : memref<?xf32>
  func.return
}
"""

LLVM = """
llvm.func @llvm(%a: vector<4xi32>, %x: vector<4xf32>, %p: !llvm.ptr, %n: i64, %i: i32, %b: i8) {
  %z = llvm.getelementptr inbounds %p[%n] : (!llvm.ptr, i64) -> !llvm.ptr, f32
  %za = llvm.getelementptr %p[%a] : (!llvm.ptr, vector<4xi32>) -> vector<4x!llvm.ptr>, f32
  %zb = llvm.getelementptr %p[7] : (!llvm.ptr) -> !llvm.ptr, f32
  %c = llvm.fcmp "olt" %x, %x : vector<4xf32>
  %d = llvm.select %c, %x, %x : vector<4xi1>, vector<4xf32>
  llvm.intr.masked.store %x, %p, %c {alignment = 4 : i32} : vector<4xf32>, vector<4xi1> into !llvm.ptr
  llvm.store %i, %p atomic release {alignment = 4 : i64} : i32, !llvm.ptr
  %e = llvm.fptosi %x : vector<4xf32> to vector<4xi32>
  %f = llvm.fptoui %x : vector<4xf32> to vector<4xi32>
  %g = llvm.uitofp %a : vector<4xi32> to vector<4xf32>
  %h = llvm.freeze %e : vector<4xi32>
  %j = llvm.mlir.poison : vector<4xf32>
  %k = llvm.extractelement %x[%i : i32] : vector<4xf32>
  "llvm.fence"() <{ordering = 7 : i64}> : () -> ()
  %l = "llvm.atomicrmw"(%p, %i) <{bin_op = 1 : i64, ordering = 6 : i64}> : (!llvm.ptr, i32) -> i32
  %m = "llvm.cmpxchg"(%p, %i, %i) <{success_ordering = 6 : i64, failure_ordering = 4 : i64}>
    : (!llvm.ptr, i32, i32) -> !llvm.struct<(i32, i1)>
  %o = llvm.intr.masked.load %p, %c, %x {alignment = 4 : i32}
    : (!llvm.ptr, vector<4xi1>, vector<4xf32>) -> vector<4xf32>
  "llvm.intr.memcpy"(%p, %p, %n) <{isVolatile = false}> : (!llvm.ptr, !llvm.ptr, i64) -> ()
  "llvm.intr.memset"(%p, %b, %n) <{isVolatile = false}> : (!llvm.ptr, i8, i64) -> ()
  %q = llvm.intr.roundeven(%x) : (vector<4xf32>) -> vector<4xf32>
  %r = llvm.intr.maximum(%x, %x) : (vector<4xf32>, vector<4xf32>) -> vector<4xf32>
  %s = llvm.intr.smax(%a, %a) : (vector<4xi32>, vector<4xi32>) -> vector<4xi32>
  %t = "llvm.intr.ctlz"(%a) <{is_zero_poison = false}> : (vector<4xi32>) -> vector<4xi32>
  %u = "llvm.intr.abs"(%a) <{is_int_min_poison = false}> : (vector<4xi32>) -> vector<4xi32>
  %v = llvm.intr.ctpop(%a) : (vector<4xi32>) -> vector<4xi32>
  %w = "llvm.intr.vector.reduce.add"(%a) : (vector<4xi32>) -> i32
  %y = llvm.intr.vector.reduce.fmaximum(%x) : (vector<4xf32>) -> f32
  "llvm.switch"(%i)[^one, ^two] <{case_values = dense<3> : vector<1xi32>, case_operand_segments = array<i32: 0>,
    operandSegmentSizes = array<i32: 1, 0, 0>}> : (i32) -> ()
^one:
  llvm.return
^two:
  llvm.return
}
"""


def context() -> Context:
    result = Context()
    for dialect in (Builtin, Func, Math, MemRef, Vector):
        result.load_dialect(dialect)
    upstream.load(result)
    return result


def text(module: ModuleOp) -> str:
    stream = io.StringIO()
    Printer(stream).print_op(module)
    return stream.getvalue()


@pytest.mark.parametrize("source", [CORE, LLVM], ids=["core", "llvm"])
def test_printed_text_is_read_back_the_same(source: str) -> None:
    module = Parser(context(), source).parse_module()
    module.verify()
    again = Parser(context(), text(module)).parse_module()
    assert text(again) == text(module)
    assert [type(op) for op in again.walk()] == [type(op) for op in module.walk()]


@pytest.mark.parametrize("source", [CORE, LLVM], ids=["core", "llvm"])
def test_mlir_opt_reads_it(source: str) -> None:
    tool = shutil.which("mlir-opt-22") or shutil.which("/usr/lib/llvm-22/bin/mlir-opt")
    if tool is None:
        pytest.skip("mlir-opt 22 is not installed")
    printed = text(Parser(context(), source).parse_module())
    done = subprocess.run([tool], input=printed, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_second_dialect_of_the_same_name_is_refused() -> None:
    with pytest.raises(AlreadyRegisteredConstructException):
        upstream.load(context())
