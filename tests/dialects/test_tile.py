"""The tile dialect: kernels and launches round-trip through text; wrong ones are refused with their reason."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from xdsl.context import Context
from xdsl.dialects.arith import Arith
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.dialects.func import Func
from xdsl.dialects.linalg import Linalg
from xdsl.dialects.math import Math
from xdsl.dialects.tensor import Tensor
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from stepwell.dialects.tile import SCHEDULES, KernelOp, Tile, schedule_of, schedule_value

PROGRAM = """
tile.kernel @k0(%a: tensor<4x?xf32>, %b: tensor<f32>) -> (tensor<4x?xf32>)
    attributes {schedule = {template = "map", parallel = 1 : i64}} {
  %c1 = arith.constant 1 : index
  %n = tensor.dim %a, %c1 : tensor<4x?xf32>
  %e = tensor.empty(%n) : tensor<4x?xf32>
  %r = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> ()>,
      affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
      ins(%a, %b : tensor<4x?xf32>, tensor<f32>) outs(%e : tensor<4x?xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %s = arith.addf %x, %y : f32
    linalg.yield %s : f32
  } -> tensor<4x?xf32>
  tile.yield %r : tensor<4x?xf32>
}
func.func @forward(%x: tensor<4x?xf32>, %y: tensor<f32>) -> tensor<4x?xf32> {
  %r = tile.launch @k0(%x, %y) : (tensor<4x?xf32>, tensor<f32>) -> tensor<4x?xf32>
  %q = tile.launch @k0(%r, %y) inplace [0] : (tensor<4x?xf32>, tensor<f32>) -> tensor<4x?xf32>
  func.return %q : tensor<4x?xf32>
}
"""


def parse(text: str) -> ModuleOp:
    context = Context()
    for dialect in (Builtin, Func, Arith, Math, Linalg, Tensor, Tile):
        context.load_dialect(dialect)
    module = Parser(context, text).parse_module()
    module.verify()
    return module


def printed(module: ModuleOp, generic: bool = False) -> str:
    stream = io.StringIO()
    Printer(stream=stream, print_generic_format=generic).print_op(module)
    return stream.getvalue()


@pytest.mark.parametrize("generic", [False, True])
def test_round_trip(generic: bool) -> None:
    module = parse(PROGRAM)
    once = printed(module, generic)
    again = parse(once)
    assert module.is_structurally_equivalent(again)
    assert printed(again, generic) == once


def test_schedule_values() -> None:
    kernel = next(op for op in parse(PROGRAM).ops if isinstance(op, KernelOp))
    assert kernel.template == "map"
    assert (kernel.size("parallel"), kernel.size("unroll")) == (1, -1)
    assert schedule_value(schedule_of("matmul", mr=6), "mr") == 6
    for template in SCHEDULES:
        schedule_of(template)
    with pytest.raises(KeyError):
        kernel.size("mr")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('template = "map"', 'template = "mop"', "a schedule has a template among"),
        ("parallel = 1 : i64", "mr = 1 : i64", "has no key mr"),
        ("parallel = 1 : i64", "parallel = true", "is an i64"),
        ("parallel = 1 : i64", "parallel = -1 : i64", "at least 0"),
        ("@k0(%r, %y)", "@k1(%r, %y)", "is no kernel of this module"),
        ("inplace [0]", "inplace [2]", "one operand number"),
        (
            "%r = tile.launch @k0(%x, %y) : (tensor<4x?xf32>, tensor<f32>)",
            "%r = tile.launch @k0(%x) : (tensor<4x?xf32>)",
            "launched as",
        ),
        ("%c1 = arith.constant 1 : index", "%c1 = arith.constant 1 : index\n%bad = tensor.empty() : tensor<2xf32>\n"
         "%z = tensor.extract_slice %bad[0][1][1] : tensor<2xf32> to tensor<1xf32>", "may not stand in a kernel"),
    ],
)  # fmt: skip
def test_refused(old: str, new: str, reason: str) -> None:
    assert old in PROGRAM
    with pytest.raises(VerifyException, match=reason):
        parse(PROGRAM.replace(old, new))


def test_every_key_of_a_schedule_is_read_by_a_lowering() -> None:
    """A key that nobody reads would be a promise without effect."""
    sources = "".join(path.read_text() for path in (Path(__file__).parents[2] / "lowering").rglob("*.py"))
    keys = {key for template in SCHEDULES.values() for key in template}
    reads = ('setting("{}"', 'size("{}")', "'{}'", '("{}",')
    assert {key for key in keys if not any(read.format(key) in sources for read in reads)} == set()
