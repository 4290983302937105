"""The ladder: modules that belong, and what the check says about those that do not."""

from __future__ import annotations

import pytest
from xdsl.context import Context
from xdsl.dialects import arith, func, linalg, memref, scf, tensor
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.parser import Parser

from stepwell.dialects.host import Host
from stepwell.dialects.levels import BY_NAME, LADDER, LINALG, LOOPS, TILE, LevelError, check

ENTRY = """
func.func @forward(%x: tensor<4xf32>) -> tensor<4xf32> attributes {host.entry} {
  %e = tensor.empty() : tensor<4xf32>
  %r = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>],
      iterator_types = ["parallel"]} ins(%x : tensor<4xf32>) outs(%e : tensor<4xf32>) {
    ^bb0(%a: f32, %b: f32):
      %s = arith.addf %a, %a : f32
      linalg.yield %s : f32
  } -> tensor<4xf32>
  func.return %r : tensor<4xf32>
}
"""


def parse(text: str) -> ModuleOp:
    context = Context()
    for dialect in (
        Builtin, Host, arith.Arith, func.Func, linalg.Linalg, memref.MemRef, scf.Scf, tensor.Tensor,
    ):  # fmt: skip
        context.load_dialect(dialect)
    return Parser(context, text).parse_module()


def test_every_level_is_found_by_its_name_and_says_something() -> None:
    assert list(BY_NAME.values()) == list(LADDER)
    assert all(level.says.endswith(".") for level in LADDER)


def test_a_module_that_belongs() -> None:
    check(parse(ENTRY), LINALG)


def test_an_op_that_should_be_gone_names_the_pass() -> None:
    with pytest.raises(LevelError, match=r"level loops: tensor.empty: .* pass bufferize-host"):
        check(parse(ENTRY.replace("tensor<4xf32>)", "f32)", 1).replace("ins(%x", "ins(%e")), LOOPS)


def test_a_rule_names_its_reason() -> None:
    with pytest.raises(LevelError, match="linalg ops stand in kernels only"):
        check(parse(ENTRY), TILE)
    with pytest.raises(LevelError, match="one entry function"):
        check(parse(ENTRY.replace(" attributes {host.entry}", "")), LINALG)


def test_a_type_that_does_not_belong() -> None:
    text = "func.func @forward(%x: memref<4xf32>) attributes {host.entry} { func.return }"
    with pytest.raises(LevelError, match="memref<4xf32> have no place here"):
        check(parse(text), LINALG)
    with pytest.raises(LevelError, match="signless"):
        check(
            parse("func.func @f() attributes {host.entry} { %e = tensor.empty() : tensor<2xsi64> func.return }"), LINALG
        )
