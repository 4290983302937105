"""hoist-invariants and hoist-constants inside loops."""

import numpy as np
from xdsl.dialects.func import FuncOp
from xdsl.dialects.linalg.ops import GenericOp

from stepwell.lowering.linalg import HoistInvariants, passes
from stepwell.lowering.linalg_to_tile import FormKernels

LOOP = """func.func @f(%x : tensor<1x8xf32>, %y : tensor<8xf32>, %n : index) -> tensor<1x8xf32> attributes {host.entry} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense_resource<w> : tensor<8x8xf32>
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%v = %x) -> (tensor<1x8xf32>) {
    %te = tensor.empty() : tensor<8x8xf32>
    %t = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d1, d0)>, affine_map<(d0, d1) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel"]} ins(%w : tensor<8x8xf32>) outs(%te : tensor<8x8xf32>) {
      ^bb0(%a: f32, %o: f32):
        linalg.yield %a : f32
    } -> tensor<8x8xf32>
    %se = tensor.empty() : tensor<8xf32>
    %s = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>],
        iterator_types = ["parallel"]} ins(%y : tensor<8xf32>) outs(%se : tensor<8xf32>) {
      ^bb0(%a: f32, %o: f32):
        %e = math.exp %a : f32
        linalg.yield %e : f32
    } -> tensor<8xf32>
    %me = tensor.empty() : tensor<1x8xf32>
    %mi = linalg.fill ins(%zero : f32) outs(%me : tensor<1x8xf32>) -> tensor<1x8xf32>
    %m = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d2)>,
        affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel", "reduction"]}
        ins(%v, %t : tensor<1x8xf32>, tensor<8x8xf32>) outs(%mi : tensor<1x8xf32>) {
      ^bb0(%a: f32, %b: f32, %o: f32):
        %p = arith.mulf %a, %b : f32
        %q = arith.addf %o, %p : f32
        linalg.yield %q : f32
    } -> tensor<1x8xf32>
    %z = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d1)>,
        affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
        ins(%m, %s : tensor<1x8xf32>, tensor<8xf32>) outs(%me : tensor<1x8xf32>) {
      ^bb0(%a: f32, %b: f32, %o: f32):
        %p = arith.addf %a, %b : f32
        %h = math.tanh %p : f32
        linalg.yield %h : f32
    } -> tensor<1x8xf32>
    scf.yield %z : tensor<1x8xf32>
  }
  func.return %r : tensor<1x8xf32>
}"""


def inputs():
    random = np.random.default_rng(0)
    x, y, w = (random.standard_normal(s).astype(np.float32) for s in ((1, 8), (8,), (8, 8)))
    return (x, y, 5), {"w": w}


def loop_of(module):
    return next(op for op in module.walk() if op.name == "scf.for")


def test_invariants_leave_the_loop(check):
    arguments, resources = inputs()
    module = check(LOOP, (HoistInvariants(),), *arguments, resources=resources)
    assert sum(isinstance(op, GenericOp) for op in loop_of(module).walk()) == 2


def test_a_loop_is_left_with_one_kernel(check, target):
    arguments, resources = inputs()
    module = check(LOOP, (*passes(target), FormKernels(target)), *arguments, resources=resources, rtol=1e-5)
    assert [op.kernel.string_value() for op in loop_of(module).walk() if op.name == "tile.launch"] == ["matmul_0"]
    assert any(isinstance(op, FuncOp) and op.sym_name.data == "prepare" for op in module.ops)
