"""The gpu level as text, and the formulas of a launch."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest
from xdsl.dialects.builtin import FileLineColLoc, IntAttr, StringAttr
from xdsl.parser import Parser

from stepwell.compiler.backends.gpu import kernels_of
from stepwell.dialects import context
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.lowering.gpu import device, functions_of, geometry


def test_the_text_is_read_back(archive: Any) -> None:
    kernels = kernels_of(archive("encoder").module, device())
    again = Parser(context(), kernels.text()).parse_module()
    again.verify()
    assert again.is_structurally_equivalent(kernels.module)


@pytest.mark.tools
def test_mlir_opt_reads_it(archive: Any) -> None:
    tool = shutil.which("mlir-opt-22") or shutil.which("mlir-opt", path="/usr/lib/llvm-22/bin")
    if tool is None:
        assert not os.environ.get("STEPWELL_CI"), "CI installs mlir-opt"
        pytest.skip("mlir-opt 22 is not installed")
    text = kernels_of(archive("encoder").module, device()).text()
    done = subprocess.run([tool], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]


def test_a_grid_of_several_sizes(graph: Any, formed: Any) -> None:
    g = graph(a=("b", "m", 20), w=("b", 20, 12))
    kernels = kernels_of(formed(g.returns(g.product(g["a"], g["w"], "bmk,bkn->bmn"))), device())
    function = kernels.functions[-1]
    axes = geometry.size_sources(function)
    assert axes[:2] == [(0, 0), (0, 1)]

    def blocks(b: int, m: int) -> int:
        return geometry.grid_of(function, [b, m, *[m if number == 2 else b for number, _ in axes[2:]]])

    assert blocks(3, 100) in (3 * -(-100 // 64), 3 * -(-100 // 16))
    assert blocks(0, 100) == 0
    with pytest.raises(UnsupportedError, match="blocks"):
        blocks(2**20, 2**20)


def test_a_formula_is_no_program() -> None:
    assert geometry.evaluate("(s0 + 63) // 64 * s1", [100, 3]) == 6
    with pytest.raises(ValueError, match="no place in a formula"):
        geometry.evaluate("__import__('os')", [])


def test_there_is_a_list_of_gpus() -> None:
    assert device("sm_80").ptx == 70
    with pytest.raises(ValueError, match="sm_90a"):
        device("gtx")


def test_what_has_no_template_is_named_and_the_rest_emitted(graph: Any, formed: Any) -> None:
    """A body that no template can write: an index with a quotient rounded up."""
    module = Parser(context(), UNWRITABLE).parse_module()
    assert module.body.block.last_op is not None
    module.body.block.last_op.location = FileLineColLoc(StringAttr("model.py"), IntAttr(12), IntAttr(9))
    kernels = kernels_of(module, device())
    assert [f.sym_name.data for f in kernels.functions] == ["good"]
    (note,) = kernels.notes
    assert str(note) == (
        "kernel bad (model.py:12:9): no GPU template yet: indexing expression (d0 ceildiv 2)"
    )
    assert "// kernel bad (model.py:12:9): no GPU template yet" in kernels.cuda()
    assert functions_of(kernels.module) == kernels.functions


UNWRITABLE = """
tile.kernel @good(%x: tensor<4xf32>) -> tensor<4xf32> attributes {schedule = {template = "map"}} {
  %e = tensor.empty() : tensor<4xf32>
  %r = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>],
      iterator_types = ["parallel"]} ins(%x : tensor<4xf32>) outs(%e : tensor<4xf32>) {
  ^bb0(%a: f32, %b: f32):
    linalg.yield %a : f32
  } -> tensor<4xf32>
  tile.yield %r : tensor<4xf32>
}
tile.kernel @bad(%x: tensor<4xf32>) -> tensor<4xf32> attributes {schedule = {template = "map"}} {
  %e = tensor.empty() : tensor<4xf32>
  %r = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0 ceildiv 2)>, affine_map<(d0) -> (d0)>],
      iterator_types = ["parallel"]} ins(%x : tensor<4xf32>) outs(%e : tensor<4xf32>) {
  ^bb0(%a: f32, %b: f32):
    linalg.yield %a : f32
  } -> tensor<4xf32>
  tile.yield %r : tensor<4xf32>
}
"""
