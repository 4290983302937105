"""What the IR of small programs looks like."""

from __future__ import annotations


def test_straight_line(language):
    text = language("""
        def f(x: Tensor, n: int) -> Tensor:
          return torch.add(torch.relu(x), n)
    """).text()
    assert text == (
        "%0 = torch.aten.relu %x : !torch.tensor -> !torch.tensor\n"
        "%1 = torch.constant.int 1\n"
        "%2 = torch.aten.add.Scalar %0, %n, %1 : !torch.tensor, !torch.int, !torch.int -> !torch.tensor\n"
        "func.return %2 : !torch.tensor"
    )


def test_an_if_gives_what_both_branches_assign(language):
    text = language("""
        def f(n: int) -> int:
          if torch.gt(n, 0):
            k = torch.neg(n)
            unused = 3
          else:
            k = n
          return k
    """).text()
    assert text == (
        "%0 = torch.constant.int 0\n"
        "%1 = torch.aten.gt.int %n, %0 : !torch.int, !torch.int -> !torch.bool\n"
        "%2 = torch.prim.If %1 -> (!torch.int) {\n"
        "  %3 = torch.aten.neg.int %n : !torch.int -> !torch.int\n"
        "  %4 = torch.constant.int 3\n"
        "  torch.prim.If.yield %3 : !torch.int\n"
        "} else {\n"
        "  torch.prim.If.yield %n : !torch.int\n"
        "}\n"
        "func.return %2 : !torch.int"
    )


def test_early_returns_in_tail_position_are_branches(language):
    text = language("""
        def f(n: int) -> int:
          if n > 2:
            return 1
          elif n > 1:
            return 2
          return 3
    """).text()
    assert text.count("torch.prim.If ") == 2
    assert "torch.constant.bool" not in text and "Uninitialized" not in text
    assert text.count("If.yield") == 4


def test_a_loop_carries_what_its_body_assigns(language):
    text = language("""
        def f(x: Tensor, n: int) -> Tensor:
          y = x
          for i in range(n):
            y = torch.mul(y, i)
            torch.add_(x, 1)
          return y
    """).text()
    assert "torch.prim.Loop %n, %0, init(%x) {" in text
    assert "^bb0(%2: !torch.int, %3: !torch.tensor):" in text
    assert text.count("iter(") == 1 and "iter(%4 : !torch.tensor)" in text


def test_what_raises_gives_nothing(language):
    text = language("""
        def f(n: int) -> int:
          if n < 0:
            ops.prim.RaiseException("negative", "builtins.ValueError")
          else:
            k = n
          return k
    """).text()
    assert "torch.prim.RaiseException" in text and "func.return %n" not in text
    assert text.count("torch.prim.Uninitialized") == 1


def test_none_tests_narrow_names(language):
    text = language("""
        def f(x: Optional[Tensor]) -> Tensor:
          if x is None:
            raise_ = ops.prim.RaiseException("", "builtins.ValueError")
          return torch.relu(x)
    """).text()
    assert "torch.prim.unchecked_cast %x : !torch.optional<tensor> -> !torch.tensor" in text
    assert "Uninitialized" not in text


def test_known_conditions_leave_no_branch(language):
    text = language("""
        def f(x: Tensor) -> Tensor:
          if x is None:
            return torch.no_such_op(x)
          return x
    """).text()
    assert text == "func.return %x : !torch.tensor"


def test_locations_are_those_of_the_source(language):
    program = language("""
        def f(x: Tensor) -> Tensor:
          y = torch.relu(x)
          return torch.exp(y)
    """).lower()
    function = next(op for op in program.module.ops if op.name == "func.func")
    places = [(op.name, op.location.line.data, op.location.column.data) for op in function.body.block.ops]
    assert places == [("torch.aten.relu", 3, 7), ("torch.aten.exp", 4, 10), ("func.return", 4, 3)]
