"""Sizes that go through tensors of one element, as in everything that torch.jit.trace has written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

TRACED = """
func.func private @f(%x: !torch.tensor) -> !torch.tensor {
  %zero = torch.constant.int 0
  %one = torch.constant.int 1
  %all = torch.constant.int -1
  %n = torch.aten.size.int %x, %zero : !torch.tensor, !torch.int -> !torch.int
  %t = torch.prim.NumToTensor.Scalar %n : !torch.int -> !torch.tensor
  %two = torch.tensor.literal(dense<2> : tensor<si64>) : !torch.tensor<[],si64>
  %half = torch.aten.floor_divide %t, %two : !torch.tensor, !torch.tensor<[],si64> -> !torch.tensor
  %m = torch.aten.Int.Tensor %half : !torch.tensor -> !torch.int
  %sizes = torch.prim.ListConstruct %m, %all : (!torch.int, !torch.int) -> !torch.list<int>
  %r = torch.aten.reshape %x, %sizes : !torch.tensor, !torch.list<int> -> !torch.tensor
  %k = torch.aten.Int.Tensor %half : !torch.tensor -> !torch.int
  %widths = torch.prim.ListConstruct %k, %one : (!torch.int, !torch.int) -> !torch.list<int>
  %none = torch.constant.none
  %o = torch.aten.ones %widths, %none, %none, %none, %none
    : !torch.list<int>, !torch.none, !torch.none, !torch.none, !torch.none -> !torch.tensor
  %s = torch.aten.add.Tensor %r, %o, %one : !torch.tensor, !torch.tensor, !torch.int -> !torch.tensor
  return %s : !torch.tensor
}"""


@pytest.mark.parametrize("symbolic", [False, True])
def test_a_size_that_went_through_a_tensor_is_still_known(program: Any, symbolic: bool) -> None:
    checker = program(TRACED)
    checker.both(np.arange(24, dtype=np.float32).reshape(6, 4), symbolic=symbolic)
    text = str(checker.contract.module)
    assert "Int.Tensor" not in text and "NumToTensor" not in text
    assert "RaiseException" not in text, "nothing needs a check at run time"


def test_a_number_of_run_time_is_one_symbol_however_often_it_is_read(program: Any) -> None:
    sized, taken = "torch.prim.NumToTensor.Scalar %n : !torch.int", "torch.aten.max %x : !torch.tensor"
    checker = program(TRACED.replace(sized, taken))
    checker.both(np.array([[1, 2], [3, 4], [5, 0], [4, 1]]))
    text = str(checker.contract.module)
    assert text.count("Int.Tensor") == 1 and text.count("RaiseException") <= 1
