"""The specializer: what it computes, what it keeps, and that the contract means what the program meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

ONES = np.ones((2, 3), np.float32)


def counting_loop(body: str, extra: str = "") -> str:
    return f"""
func.func private @f(%x: !torch.tensor, %n: !torch.int) -> !torch.tensor {{
  %one = torch.constant.int 1
  %zero = torch.constant.int 0
  %true = torch.constant.bool true
  {extra}
  %r = torch.prim.Loop %n, %true, init(%x) {{
  ^bb0(%k: !torch.int, %a: !torch.tensor):
    {body}
    torch.prim.Loop.condition %true, iter(%b : !torch.tensor)
  }} : (!torch.int, !torch.bool, !torch.tensor) -> !torch.tensor
  return %r : !torch.tensor
}}"""


ADD_COUNTER = (
    "%b = torch.aten.add.Scalar %a, %k, %one : !torch.tensor, !torch.int, !torch.int -> !torch.tensor"
)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("trips", [0, 1, 4])
def test_a_loop_stays_a_loop(program: Any, trips: int, symbolic: bool) -> None:
    checker = program(counting_loop(ADD_COUNTER))
    checker.both(ONES, trips, symbolic=symbolic)
    text = str(checker.contract.module)
    assert text.count("torch.aten.add.Scalar") == (1 if symbolic or trips else 0)


def test_a_loop_that_writes_a_carried_tensor_in_place_writes_the_argument_too(program: Any) -> None:
    body = "%b = torch.aten.add_.Scalar %a, %k, %one : !torch.tensor, !torch.int, !torch.int -> !torch.tensor"
    checker = program(counting_loop(body))
    checker.both(ONES, 3)
    assert checker.contract.results["written"]


def test_swapped_tensors_in_a_loop_keep_their_identity(program: Any) -> None:
    """a, b = b, a; a += k: TorchScript itself has got this wrong."""
    checker = program("""
func.func private @f(%x: !torch.tensor, %y: !torch.tensor) -> !torch.tensor {
  %one = torch.constant.int 1
  %n = torch.constant.int 3
  %true = torch.constant.bool true
  %p = torch.aten.add.Scalar %x, %one, %one : !torch.tensor, !torch.int, !torch.int -> !torch.tensor
  %q = torch.aten.add.Scalar %y, %one, %one : !torch.tensor, !torch.int, !torch.int -> !torch.tensor
  %r:2 = torch.prim.Loop %n, %true, init(%p, %q) {
  ^bb0(%k: !torch.int, %a: !torch.tensor, %b: !torch.tensor):
    %c = torch.aten.add_.Scalar %b, %k, %one : !torch.tensor, !torch.int, !torch.int -> !torch.tensor
    torch.prim.Loop.condition %true, iter(%b, %a : !torch.tensor, !torch.tensor)
  } : (!torch.int, !torch.bool, !torch.tensor, !torch.tensor) -> (!torch.tensor, !torch.tensor)
  %s = torch.aten.sub.Tensor %r#0, %r#1, %one : !torch.tensor, !torch.tensor, !torch.int -> !torch.tensor
  return %s : !torch.tensor
}""")
    checker.both(ONES, 2 * ONES)


def test_a_branch_that_raises_leaves_the_other_one_whole(program: Any) -> None:
    checker = program("""
func.func private @f(%x: !torch.tensor, %n: !torch.int) -> !torch.tensor {
  %zero = torch.constant.int 0
  %none = torch.constant.none
  %c = torch.aten.gt.int %n, %zero : !torch.int, !torch.int -> !torch.bool
  %r = torch.prim.If %c -> (!torch.tensor) {
    %e = torch.aten.exp %x : !torch.tensor -> !torch.tensor
    torch.prim.If.yield %e : !torch.tensor
  } else {
    %m = torch.constant.str "n is {}, which is not positive"
    %t = torch.aten.format(%m, %n) : !torch.str, !torch.int -> !torch.str
    %cls = torch.constant.str "builtins.ValueError"
    torch.prim.RaiseException %t, %cls : !torch.str, !torch.str
    %u = torch.prim.Uninitialized : !torch.tensor
    torch.prim.If.yield %u : !torch.tensor
  }
  return %r : !torch.tensor
}""")
    checker.both(ONES, 2, symbolic=True)
    assert checker.both(ONES, -2, symbolic=True) == (ValueError, "n is -2, which is not positive")


def test_branches_of_different_rank_are_kept_apart(program: Any) -> None:
    checker = program("""
func.func private @f(%x: !torch.tensor, %n: !torch.int) -> !torch.int {
  %zero = torch.constant.int 0
  %c = torch.aten.gt.int %n, %zero : !torch.int, !torch.int -> !torch.bool
  %r = torch.prim.If %c -> (!torch.tensor) {
    torch.prim.If.yield %x : !torch.tensor
  } else {
    %u = torch.aten.unsqueeze %x, %zero : !torch.tensor, !torch.int -> !torch.tensor
    torch.prim.If.yield %u : !torch.tensor
  }
  %d = torch.aten.dim %r : !torch.tensor -> !torch.int
  return %d : !torch.int
}""")
    assert checker.both(ONES, 1, symbolic=True) == 2
    assert checker.both(ONES, -1, symbolic=True) == 3


def test_a_list_that_grows_in_a_loop_becomes_a_run_time_list(program: Any) -> None:
    checker = program("""
func.func private @f(%x: !torch.tensor, %n: !torch.int) -> !torch.tensor {
  %one = torch.constant.int 1
  %zero = torch.constant.int 0
  %true = torch.constant.bool true
  %l = torch.prim.ListConstruct : () -> !torch.list<tensor>
  torch.prim.Loop %n, %true, init() {
  ^bb0(%k: !torch.int):
    %b = torch.aten.add.Scalar %x, %k, %one : !torch.tensor, !torch.int, !torch.int -> !torch.tensor
    %a = torch.aten.append.t %l, %b : !torch.list<tensor>, !torch.tensor -> !torch.list<tensor>
    torch.prim.Loop.condition %true, iter()
  } : (!torch.int, !torch.bool) -> ()
  %r = torch.aten.cat %l, %zero : !torch.list<tensor>, !torch.int -> !torch.tensor
  return %r : !torch.tensor
}""")
    assert checker.both(ONES, 4, symbolic=True).shape == (8, 3)
    assert "torch.aten.append.t" in str(checker.contract.module)


def test_what_a_check_refuses_is_known_afterwards(program: Any) -> None:
    """`if x.size(0) != 2: raise` makes the size static on the way on."""
    checker = program("""
func.func private @f(%x: !torch.tensor, %y: !torch.tensor) -> !torch.tensor {
  %zero = torch.constant.int 0
  %one = torch.constant.int 1
  %two = torch.constant.int 2
  %none = torch.constant.none
  %s = torch.aten.size.int %x, %zero : !torch.tensor, !torch.int -> !torch.int
  %c = torch.aten.ne.int %s, %two : !torch.int, !torch.int -> !torch.bool
  torch.prim.If %c -> () {
    %m = torch.constant.str "bad"
    torch.prim.RaiseException %m, %none : !torch.str, !torch.none
    torch.prim.If.yield
  } else {
    torch.prim.If.yield
  }
  %e = torch.aten.exp %x : !torch.tensor -> !torch.tensor
  return %e : !torch.tensor
}""")
    checker.both(ONES, ONES, symbolic=True)
    assert "torch.aten.exp %" in str(checker.contract.module)
    assert "-> !torch.vtensor<[2,?],f32>" in str(checker.contract.module).split("torch.aten.exp")[1].split("\n")[0]


def test_a_write_through_a_view_reaches_the_base(program: Any) -> None:
    checker = program("""
func.func private @f(%x: !torch.tensor) -> !torch.tensor {
  %zero = torch.constant.int 0
  %one = torch.constant.int 1
  %y = torch.aten.add.Scalar %x, %one, %one : !torch.tensor, !torch.int, !torch.int -> !torch.tensor
  %v = torch.aten.select.int %y, %one, %zero : !torch.tensor, !torch.int, !torch.int -> !torch.tensor
  %w = torch.aten.add_.Scalar %v, %one, %one : !torch.tensor, !torch.int, !torch.int -> !torch.tensor
  return %y : !torch.tensor
}""")
    checker.both(ONES)
    checker.both(ONES, symbolic=True)


def test_a_division_inside_a_loop_stays_there(program: Any) -> None:
    """`a / x` with a from outside and x carried was once computed before the loop."""
    checker = program("""
func.func private @f(%a: !torch.float, %n: !torch.int) -> !torch.float {
  %true = torch.constant.bool true
  %half = torch.constant.float 5.000000e-01
  %r = torch.prim.Loop %n, %true, init(%a) {
  ^bb0(%k: !torch.int, %x: !torch.float):
    %q = torch.aten.div.float %a, %x : !torch.float, !torch.float -> !torch.float
    %s = torch.aten.add.float %x, %q : !torch.float, !torch.float -> !torch.float
    %h = torch.aten.mul.float %half, %s : !torch.float, !torch.float -> !torch.float
    torch.prim.Loop.condition %true, iter(%h : !torch.float)
  } : (!torch.int, !torch.bool, !torch.float) -> !torch.float
  return %r : !torch.float
}""")
    assert abs(checker.both(2.0, 6) - 2**0.5) < 1e-9
