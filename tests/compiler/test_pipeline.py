"""The pipeline as data: stopping, resuming from text, looking at each pass, finding the one at fault."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from xdsl.dialects import arith
from xdsl.rewriter import Rewriter

from stepwell.compiler.driver import compile_linalg
from stepwell.compiler.interpreter import interpret
from stepwell.compiler.pipeline import STEPS, Enter, PassError, bisect, names, resolve, run
from stepwell.compiler.program import Program, Resources
from stepwell.dialects.diagnostics import CompileError
from stepwell.dialects.levels import LINALG, LOOPS, TILE, LevelError
from stepwell.dialects.target import Target
from stepwell.lowering.pass_ import Pass

TARGET = Target("x86_64-unknown-linux-gnu", "x86-64-v3", "+avx2,+fma", 256, 16, cores=2)

TEXT = """
module attributes {stepwell.level = "linalg"} {
  func.func @forward(%x: tensor<4x8xf32>) -> tensor<4x8xf32> attributes {host.entry} {
    %w = arith.constant dense_resource<w> : tensor<4x8xf32>
    %e = tensor.empty() : tensor<4x8xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>,
        affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
        ins(%x, %w : tensor<4x8xf32>, tensor<4x8xf32>) outs(%e : tensor<4x8xf32>) {
      ^bb0(%a: f32, %b: f32, %o: f32):
        %r = arith.addf %a, %b : f32
        linalg.yield %r : f32
    } -> tensor<4x8xf32>
    func.return %y : tensor<4x8xf32>
  }
}
"""


@pytest.fixture
def program():
    return Program.from_text(TEXT, {"w": np.ones((4, 8), np.float32)})


def test_the_tuple_names_every_step():
    steps = names(resolve(STEPS, TARGET))
    assert steps[0].startswith("enter(") and steps[-1] == "enter(llvm)"
    assert steps.index("enter(linalg)") < steps.index("form-kernels") < steps.index("enter(tile)")


@pytest.mark.parametrize("level", ["linalg", "tile", "loops"])
def test_a_text_of_any_level_goes_on_from_there(program, level):
    run(program, target=TARGET, to=level, verify="each")
    text = program.text()
    assert f'stepwell.level = "{level}"' in text
    again = Program.from_text(text, program.resources)
    assert again.level is not None and again.level.name == level and again.text() == text
    f = compile_linalg(again.module, again.resources)
    x = np.arange(32, dtype=np.float32).reshape(4, 8)
    np.testing.assert_array_equal(f(x)[0], x + 1)


def test_stopping_after_a_pass_and_looking_at_each(program):
    seen = []
    report = run(program, target=TARGET, to="form-kernels", after=lambda step, p: seen.append((step.name, p.text())))
    assert seen[-1][0] == "form-kernels" and "tile.launch" in seen[-1][1]
    assert [name for name, _ in report.timings] == [name for name, _ in seen]
    assert report.seconds > 0 and "form-kernels" in str(report)
    with pytest.raises(ValueError, match="there is no nowhere on the way"):
        run(program, target=TARGET, to="nowhere")


def test_a_crossing_is_checked(program):
    program.mark(TILE)
    with pytest.raises(LevelError, match="linalg ops stand in kernels only"):
        run(program, target=TARGET)
    program.mark(LOOPS)
    run(program, target=TARGET, to="loops", verify="never")


def test_an_invalid_module_names_the_pass(program):
    @dataclass(frozen=True)
    class Break(Pass):
        name = "break"

        def apply(self, module, context):
            next(op for op in module.walk() if op.name == "func.return").operands = []

    with pytest.raises(PassError, match="pass break left an invalid module"):
        run(program, target=TARGET, steps=(Enter(LINALG), Break()), verify="each")


def test_bisecting_finds_the_pass(program):
    before = program.text()
    step = bisect(program, lambda p: "linalg.generic" in p.text(), target=TARGET)
    assert step is not None and step.name == "lower-kernels"
    assert program.text() == before
    assert bisect(program, lambda p: True, target=TARGET) is None


@dataclass(frozen=True)
class Subtracts(Pass):
    """A planted fault: sums become differences. After: programs are wrong."""

    name = "subtracts"

    def apply(self, module, context):
        for op in list(module.walk()):
            if isinstance(op, arith.AddfOp):
                Rewriter.replace_op(op, arith.SubfOp(op.lhs, op.rhs))


@pytest.mark.parametrize("before", ["cse", "fuse-elementwise", "form-kernels", "enter(tile)"])
def test_bisecting_finds_a_planted_fault(program, before):
    """Interpreting the program after each pass names the one that changes its meaning."""
    x = np.arange(32, dtype=np.float32).reshape(4, 8)

    def good(program):
        (y,) = interpret(program.module, "forward", [x], resources=program.resources)
        return np.array_equal(y, x + 1)

    steps = list(resolve(STEPS, TARGET))
    steps = steps[: names(steps).index("enter(tile)") + 1]
    assert bisect(program, good, target=TARGET, steps=steps) is None, "the pipeline itself is right"
    steps.insert(names(steps).index(before), Subtracts())
    assert bisect(program, good, target=TARGET, steps=steps) == Subtracts()


def test_resources_are_named_once_and_not_copied():
    w = np.ones(3)
    resources = Resources({"w": w})
    assert resources.add(w) == "w" and resources["w"] is w
    assert resources.add(np.zeros(3), "w") == "w_1" and len(resources) == 2


def test_text_that_cannot_be_read():
    with pytest.raises(CompileError, match=r"model\.mlir"):
        Program.from_text("func.func @f(", name="model.mlir")
