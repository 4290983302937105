"""Lists of tensors and numbers: they grow, change and are joined; sizes of elements fixed or not."""

from __future__ import annotations

import numpy as np
import pytest


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


HEAD = """
%c0 = arith.constant 0 : index
%c1 = arith.constant 1 : index
"""


@pytest.fixture
def program(bufferize, kernel):
    """A function of a 4x3 tensor and two counts, from its body."""

    def build(body: str, results: str):
        text = kernel("add", "arith.addf %a, %b", "3") + kernel("dyn", "arith.addf %a, %b", "?x3")
        return bufferize(
            text
            + f"""
        func.func @forward(%x: tensor<4x3xf32>, %n: index, %k: i64) -> ({results}) attributes {{host.entry}} {{
          {HEAD}
          {body}
        }}"""
        )

    return build


FILL = """
%l0 = host.list_new : !host.list<tensor<3xf32>>
%l = scf.for %i = %c0 to %n step %c1 iter_args(%a = %l0) -> (!host.list<tensor<3xf32>>) {
  %four = arith.constant 4 : index
  %row = arith.remui %i, %four : index
  %s = tensor.extract_slice %x[%row, 0][1, 3][1, 1] : tensor<4x3xf32> to tensor<3xf32>
  %y = tile.launch @add(%s, %s) : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  %b = host.list_append %a, %y : !host.list<tensor<3xf32>>
  scf.yield %b : !host.list<tensor<3xf32>>
}
"""


@pytest.mark.parametrize("dim", [0, 1])
def test_fill_and_stack(program, dim):
    shape = "tensor<?x3xf32>" if dim == 0 else "tensor<3x?xf32>"
    p = program(
        FILL
        + f"""
    %r = host.list_stack %l {{dim = {dim} : i64}} : !host.list<tensor<3xf32>> -> {shape}
    func.return %r : {shape}""",
        shape,
    )
    for n in (1, 3, 30):
        p.check(array(4, 3), n, 0)
    with pytest.raises(RuntimeError, match="non-empty"):
        p.run(array(4, 3), 0, 0)


def test_the_elements_leave_as_one_tensor(program):
    p = program(
        FILL
        + """
    %r = host.list_elements %l : !host.list<tensor<3xf32>> -> tensor<?x3xf32>
    func.return %r : tensor<?x3xf32>""",
        "tensor<?x3xf32>",
    )
    for n in (0, 1, 30):
        p.check(array(4, 3), n, 0)


def test_elements_of_varying_sizes_leave_with_a_table(program):
    kind = "!host.list<tensor<?x3xf32>>"
    p = program(
        f"""
    %l0 = host.list_new : {kind}
    %l = scf.for %i = %c0 to %n step %c1 iter_args(%a = %l0) -> ({kind}) {{
      %three = arith.constant 3 : index
      %rows = arith.remui %i, %three : index
      %s = tensor.extract_slice %x[0, 0][%rows, 3][1, 1] : tensor<4x3xf32> to tensor<?x3xf32>
      %b = host.list_append %a, %s : {kind}
      scf.yield %b : {kind}
    }}
    %r = host.list_elements %l : {kind} -> tensor<?xf32>
    %t = host.list_table %l : {kind} -> tensor<?x3xi64>
    func.return %r, %t : tensor<?xf32>, tensor<?x3xi64>""",
        "tensor<?xf32>, tensor<?x3xi64>",
    )
    for n in (0, 1, 20):
        p.check(array(4, 3), n, 0)


def test_fill_and_concat(program):
    p = program(
        FILL
        + """
    %r = host.list_concat %l {dim = 0 : i64} : !host.list<tensor<3xf32>> -> tensor<?xf32>
    func.return %r : tensor<?xf32>""",
        "tensor<?xf32>",
    )
    for n in (1, 20):
        p.check(array(4, 3), n, 0)


def test_get_set_pop_length(program):
    p = program(
        FILL
        + """
    %y = host.list_get %l[%k] : !host.list<tensor<3xf32>>
    %m2 = arith.constant -2 : i64
    %z = tile.launch @add(%y, %y) : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    %l2 = host.list_set %l[%m2], %z : !host.list<tensor<3xf32>>
    %l3, %w = host.list_pop %l2[%k] : !host.list<tensor<3xf32>>
    %len = host.list_length %l3 : !host.list<tensor<3xf32>>
    %r = host.list_stack %l3 {dim = 0 : i64} : !host.list<tensor<3xf32>> -> tensor<?x3xf32>
    func.return %r, %y, %w, %len : tensor<?x3xf32>, tensor<3xf32>, tensor<3xf32>, i64
    """,
        "tensor<?x3xf32>, tensor<3xf32>, tensor<3xf32>, i64",
    )
    for k in (0, 1, 4, -1, -5):
        p.check(array(4, 3), 5, k)
    for k in (5, -6):
        with pytest.raises(IndexError, match="list index out of range"):
            p.run(array(4, 3), 5, k)


def test_a_list_read_after_it_was_consumed_is_copied(program):
    p = program(
        FILL
        + """
    %s = tensor.extract_slice %x[0, 0][1, 3][1, 1] : tensor<4x3xf32> to tensor<3xf32>
    %l2 = host.list_set %l[%k], %s : !host.list<tensor<3xf32>>
    %a = host.list_stack %l {dim = 0 : i64} : !host.list<tensor<3xf32>> -> tensor<?x3xf32>
    %b = host.list_stack %l2 {dim = 0 : i64} : !host.list<tensor<3xf32>> -> tensor<?x3xf32>
    func.return %a, %b : tensor<?x3xf32>, tensor<?x3xf32>""",
        "tensor<?x3xf32>, tensor<?x3xf32>",
    )
    p.check(array(4, 3), 6, 3)


def test_numbers(program):
    p = program(
        """
    %l0 = host.list_new : !host.list<i64>
    %l = scf.for %i = %c0 to %n step %c1 iter_args(%a = %l0) -> (!host.list<i64>) {
      %v = arith.index_cast %i : index to i64
      %sq = arith.muli %v, %v : i64
      %b = host.list_append %a, %sq : !host.list<i64>
      scf.yield %b : !host.list<i64>
    }
    %l1 = host.list_set %l[%k], %k : !host.list<i64>
    %l2, %p = host.list_pop %l1[%k] : !host.list<i64>
    %m1 = arith.constant -1 : i64
    %q = host.list_get %l2[%m1] : !host.list<i64>
    %len = host.list_length %l2 : !host.list<i64>
    func.return %p, %q, %len : i64, i64, i64""",
        "i64, i64, i64",
    )
    for n, k in ((2, 0), (10, 5), (20, -1)):
        p.check(array(4, 3), n, k)


@pytest.mark.parametrize("dim", [0, 1])
def test_elements_of_varying_sizes(program, dim):
    kind, result = "!host.list<tensor<?x3xf32>>", "tensor<?x3xf32>" if dim == 0 else "tensor<?x?xf32>"
    p = program(
        f"""
    %l0 = host.list_new : {kind}
    %l = scf.for %i = %c0 to %n step %c1 iter_args(%a = %l0) -> ({kind}) {{
      %four = arith.constant {4 if dim == 0 else 1} : index
      %r = arith.remui %i, %four : index
      %rows = arith.addi %r, %c1 : index
      %s = tensor.extract_slice %x[0, 0][%rows, 3][1, 1] : tensor<4x3xf32> to tensor<?x3xf32>
      %y = tile.launch @dyn(%s, %s) : (tensor<?x3xf32>, tensor<?x3xf32>) -> tensor<?x3xf32>
      %b = host.list_append %a, %y : {kind}
      scf.yield %b : {kind}
    }}
    %g = host.list_get %l[%k] : {kind}
    %l1 = host.list_set %l[%k], {"%x4" if dim == 0 else "%g"} : {kind}
    %l2, %p = host.list_pop %l1[%k] : {kind}
    %z = host.list_concat %l2 {{dim = {dim} : i64}} : {kind} -> {result}
    func.return %z, %g, %p : {result}, tensor<?x3xf32>, tensor<?x3xf32>
    """.replace("%l1 =", "%x4 = tensor.cast %x : tensor<4x3xf32> to tensor<?x3xf32>\n%l1 ="),
        f"{result}, tensor<?x3xf32>, tensor<?x3xf32>",
    )
    for n, k in ((2, 0), (5, 3), (25, -2)):
        p.check(array(4, 3), n, k)


def test_stacks_of_unequal_elements_raise(program):
    kind = "!host.list<tensor<?x3xf32>>"
    p = program(
        f"""
    %l0 = host.list_new : {kind}
    %s = tensor.extract_slice %x[0, 0][%n, 3][1, 1] : tensor<4x3xf32> to tensor<?x3xf32>
    %l1 = host.list_append %l0, %s : {kind}
    %t = tensor.cast %x : tensor<4x3xf32> to tensor<?x3xf32>
    %l2 = host.list_append %l1, %t : {kind}
    %z = host.list_stack %l2 {{dim = 0 : i64}} : {kind} -> tensor<?x?x3xf32>
    func.return %z : tensor<?x?x3xf32>""",
        "tensor<?x?x3xf32>",
    )
    p.check(array(4, 3), 4, 0)
    with pytest.raises(RuntimeError, match="equal size"):
        p.run(array(4, 3), 2, 0)


def test_lists_in_branches(program):
    p = program(
        FILL
        + """
    %two = arith.constant 2 : index
    %c = arith.cmpi sgt, %n, %two : index
    %m = scf.if %c -> (!host.list<tensor<3xf32>>) {
      scf.yield %l : !host.list<tensor<3xf32>>
    } else {
      %e = host.list_new : !host.list<tensor<3xf32>>
      %s = tensor.extract_slice %x[0, 0][1, 3][1, 1] : tensor<4x3xf32> to tensor<3xf32>
      %f = host.list_append %e, %s : !host.list<tensor<3xf32>>
      scf.yield %f : !host.list<tensor<3xf32>>
    }
    %r = host.list_stack %m {dim = 0 : i64} : !host.list<tensor<3xf32>> -> tensor<?x3xf32>
    func.return %r : tensor<?x3xf32>""",
        "tensor<?x3xf32>",
    )
    p.check(array(4, 3), 1, 0)
    p.check(array(4, 3), 5, 0)


def test_a_branch_that_raises_has_a_list_too(program):
    kind = "!host.list<tensor<3xf32>>"
    p = program(
        FILL
        + f"""
    %two = arith.constant 2 : index
    %c = arith.cmpi sgt, %n, %two : index
    %m = scf.if %c -> ({kind}) {{
      host.raise "builtins.ValueError", "too long"
      %u = host.undefined : {kind}
      scf.yield %u : {kind}
    }} else {{
      scf.yield %l : {kind}
    }}
    %len = host.list_length %m : {kind}
    func.return %len : i64""",
        "i64",
    )
    p.check(array(4, 3), 2, 0)
    for run in (p.run, p.native):
        with pytest.raises(ValueError, match="too long"):
            run(array(4, 3), 5, 0)
