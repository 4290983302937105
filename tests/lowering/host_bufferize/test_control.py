"""Branches and loops that carry tensors: what is carried in place, what is swapped, what grows."""

from __future__ import annotations

import numpy as np
import pytest


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


ADD, MUL = "arith.addf %a, %b", "arith.mulf %a, %b"
K = "(tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>"


@pytest.fixture
def program(bufferize, kernel):
    """A function of a tensor of 8 and a count, from its body."""

    def build(body: str, results: str = "tensor<8xf32>", extra: str = ""):
        text = kernel("add", ADD, "8") + kernel("mul", MUL, "8") + kernel("neg", "arith.negf %a", "8", "a") + extra
        return bufferize(
            text
            + f"""
        func.func @forward(%x: tensor<8xf32>, %n: index) -> ({results}) attributes {{host.entry}} {{
          %c0 = arith.constant 0 : index
          %c1 = arith.constant 1 : index
          {body}
        }}"""
        )

    return build


def test_a_loop_that_works_in_place(program):
    p = program(f"""
    %z = tile.launch @add(%x, %x) : {K}
    %r = scf.for %i = %c0 to %n step %c1 iter_args(%h = %z) -> (tensor<8xf32>) {{
      %y = tile.launch @mul(%h, %x) : {K}
      scf.yield %y : tensor<8xf32>
    }}
    func.return %r : tensor<8xf32>""")
    for n in (0, 1, 4):
        p.check(array(8), n)
    assert p.copies() == 0 and p.arena_bytes == 0


def test_a_loop_that_starts_from_an_input(program):
    p = program(f"""
    %r = scf.for %i = %c0 to %n step %c1 iter_args(%h = %x) -> (tensor<8xf32>) {{
      %y = tile.launch @mul(%h, %x) : {K}
      scf.yield %y : tensor<8xf32>
    }}
    %s = tile.launch @add(%r, %x) : {K}
    func.return %s : tensor<8xf32>""")
    for n in (0, 1, 4):
        p.check(array(8), n)
    assert p.copies() == 1


def test_swapped_and_rotated_values(program):
    p = program(
        f"""
    %y = tile.launch @mul(%x, %x) : {K}
    %w = tile.launch @add(%x, %y) : {K}
    %a, %b, %c = scf.for %i = %c0 to %n step %c1 iter_args(%p = %x, %q = %y, %s = %w)
        -> (tensor<8xf32>, tensor<8xf32>, tensor<8xf32>) {{
      scf.yield %q, %s, %p : tensor<8xf32>, tensor<8xf32>, tensor<8xf32>
    }}
    %d, %e = scf.for %i = %c0 to %n step %c1 iter_args(%p = %a, %q = %b) -> (tensor<8xf32>, tensor<8xf32>) {{
      %t = tile.launch @add(%p, %q) : {K}
      scf.yield %q, %t : tensor<8xf32>, tensor<8xf32>
    }}
    func.return %d, %e, %c : tensor<8xf32>, tensor<8xf32>, tensor<8xf32>""",
        ", ".join(["tensor<8xf32>"] * 3),
    )
    for n in range(5):
        p.check(array(8), n)


def test_a_value_used_after_the_loop_is_kept(program):
    p = program(f"""
    %z = tile.launch @add(%x, %x) : {K}
    %r = scf.for %i = %c0 to %n step %c1 iter_args(%h = %z) -> (tensor<8xf32>) {{
      %y = tile.launch @mul(%h, %z) : {K}
      %v = tile.launch @add(%y, %h) : {K}
      scf.yield %v : tensor<8xf32>
    }}
    %s = tile.launch @add(%r, %z) : {K}
    func.return %s : tensor<8xf32>""")
    for n in range(3):
        p.check(array(8), n)


def test_one_value_yielded_twice_and_an_unchanged_one(program):
    p = program(
        f"""
    %z = tile.launch @add(%x, %x) : {K}
    %a, %b, %c = scf.for %i = %c0 to %n step %c1 iter_args(%p = %z, %q = %x, %s = %z)
        -> (tensor<8xf32>, tensor<8xf32>, tensor<8xf32>) {{
      %t = tile.launch @add(%p, %q) : {K}
      scf.yield %t, %t, %s : tensor<8xf32>, tensor<8xf32>, tensor<8xf32>
    }}
    func.return %a, %b, %c : tensor<8xf32>, tensor<8xf32>, tensor<8xf32>""",
        ", ".join(["tensor<8xf32>"] * 3),
    )
    for n in range(3):
        p.check(array(8), n)


def test_branches_write_into_one_destination(program):
    p = program(
        f"""
    %c = arith.cmpi sgt, %n, %c1 : index
    %r, %k = scf.if %c -> (tensor<8xf32>, index) {{
      %y = tile.launch @mul(%x, %x) : {K}
      scf.yield %y, %n : tensor<8xf32>, index
    }} else {{
      scf.yield %x, %c1 : tensor<8xf32>, index
    }}
    func.return %r, %k : tensor<8xf32>, index""",
        "tensor<8xf32>, index",
    )
    p.check(array(8), 0)
    p.check(array(8), 2)
    assert p.copies() == 1 and p.arena_bytes == 0


def test_a_branch_that_raises(program):
    p = program(f"""
    %c = arith.cmpi sgt, %n, %c1 : index
    %r = scf.if %c -> (tensor<8xf32>) {{
      host.raise "builtins.ValueError", "too many: {{}}"(%n : index)
      %u = host.undefined : tensor<8xf32>
      scf.yield %u : tensor<8xf32>
    }} else {{
      %y = tile.launch @mul(%x, %x) : {K}
      scf.yield %y : tensor<8xf32>
    }}
    func.return %r : tensor<8xf32>""")
    p.check(array(8), 0)
    assert p.copies() == 0
    with pytest.raises(ValueError, match="too many: 5"):
        p.run(array(8), 5, threads=3)


def test_while_with_a_condition_on_data(program):
    p = program(
        f"""
    %limit = arith.constant 100.0 : f32
    %r, %k = scf.while (%h = %x, %i = %c0) : (tensor<8xf32>, index) -> (tensor<8xf32>, index) {{
      %v = tensor.extract %h[%c1] : tensor<8xf32>
      %small = arith.cmpf olt, %v, %limit : f32
      scf.condition(%small) %h, %i : tensor<8xf32>, index
    }} do {{
    ^bb0(%h: tensor<8xf32>, %i: index):
      %y = tile.launch @add(%h, %h) : {K}
      %j = arith.addi %i, %c1 : index
      scf.yield %y, %j : tensor<8xf32>, index
    }}
    func.return %r, %k : tensor<8xf32>, index""",
        "tensor<8xf32>, index",
    )
    x = np.abs(array(8)) + 1
    p.check(x, 0)
    p.check(x * 200, 0)
    assert p.copies() == 1


def test_while_that_permutes_what_it_passes(program):
    p = program(
        f"""
    %z = tile.launch @add(%x, %x) : {K}
    %r, %s, %k = scf.while (%a = %x, %b = %z, %i = %c0) : (tensor<8xf32>, tensor<8xf32>, index)
        -> (tensor<8xf32>, tensor<8xf32>, index) {{
      %more = arith.cmpi slt, %i, %n : index
      %t = tile.launch @mul(%a, %b) : {K}
      scf.condition(%more) %b, %t, %i : tensor<8xf32>, tensor<8xf32>, index
    }} do {{
    ^bb0(%a: tensor<8xf32>, %b: tensor<8xf32>, %i: index):
      %j = arith.addi %i, %c1 : index
      scf.yield %b, %a, %j : tensor<8xf32>, tensor<8xf32>, index
    }}
    func.return %r, %s : tensor<8xf32>, tensor<8xf32>""",
        "tensor<8xf32>, tensor<8xf32>",
    )
    for n in range(4):
        p.check(array(8), n)


def test_nested_loops_with_a_branch(program):
    p = program(f"""
    %r = scf.for %i = %c0 to %n step %c1 iter_args(%h = %x) -> (tensor<8xf32>) {{
      %m = tile.launch @neg(%h) : (tensor<8xf32>) -> tensor<8xf32>
      %s = scf.for %j = %c0 to %i step %c1 iter_args(%g = %m) -> (tensor<8xf32>) {{
        %c = arith.cmpi eq, %i, %j : index
        %v = scf.if %c -> (tensor<8xf32>) {{
          scf.yield %h : tensor<8xf32>
        }} else {{
          %w = tile.launch @add(%g, %h) : {K}
          scf.yield %w : tensor<8xf32>
        }}
        scf.yield %v : tensor<8xf32>
      }}
      scf.yield %s : tensor<8xf32>
    }}
    func.return %r : tensor<8xf32>""")
    for n in range(5):
        p.check(array(8), n)


def test_a_carried_slice_of_fixed_size(program):
    p = program(
        """
    %s = tensor.extract_slice %x[0][4][1] : tensor<8xf32> to tensor<4xf32>
    %r = scf.for %i = %c0 to %n step %c1 iter_args(%h = %s) -> (tensor<4xf32>) {
      %t = tensor.extract_slice %x[%i][4][1] : tensor<8xf32> to tensor<4xf32>
      scf.yield %t : tensor<4xf32>
    }
    func.return %r : tensor<4xf32>""",
        "tensor<4xf32>",
    )
    for n in (0, 1, 4):
        p.check(array(8), n)


def test_a_carried_tensor_that_grows(program, kernel):
    grow = """
    %e = tensor.empty(%c1) : tensor<?xf32>
    %e0 = tensor.insert_slice %x0 into %e[0][1][1] : tensor<1xf32> into tensor<?xf32>
    %r = scf.for %i = %c0 to %n step %c1 iter_args(%h = %e0) -> (tensor<?xf32>) {
      %m = tensor.dim %h, %c0 : tensor<?xf32>
      %k = arith.addi %m, %c1 : index
      %b = tensor.empty(%k) : tensor<?xf32>
      %b1 = tensor.insert_slice %h into %b[0][%m][1] : tensor<?xf32> into tensor<?xf32>
      %p = tensor.extract_slice %x[%i][1][1] : tensor<8xf32> to tensor<1xf32>
      %b2 = tensor.insert_slice %p into %b1[%m][1][1] : tensor<1xf32> into tensor<?xf32>
      scf.yield %b2 : tensor<?xf32>
    }
    %y = tile.launch @dyn(%r, %r) : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
    func.return %y : tensor<?xf32>"""
    p = program(
        "%x0 = tensor.extract_slice %x[3][1][1] : tensor<8xf32> to tensor<1xf32>" + grow,
        "tensor<?xf32>",
        kernel("dyn", ADD, "?"),
    )
    for n in (0, 1, 5):
        p.check(array(8), n)
    assert "memref<?xf32>) {" in p.text and p.text.count("host.free") >= 2


def test_branches_of_different_sizes(program, kernel):
    p = program(
        """
    %c = arith.cmpi sgt, %n, %c1 : index
    %r = scf.if %c -> (tensor<?xf32>) {
      %s = tensor.extract_slice %x[0][%n][1] : tensor<8xf32> to tensor<?xf32>
      %y = tile.launch @dyn(%s, %s) : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
      scf.yield %y : tensor<?xf32>
    } else {
      %w = tensor.cast %x : tensor<8xf32> to tensor<?xf32>
      scf.yield %w : tensor<?xf32>
    }
    %z = tile.launch @dyn(%r, %r) : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
    func.return %z, %r : tensor<?xf32>, tensor<?xf32>""",
        "tensor<?xf32>, tensor<?xf32>",
        kernel("dyn", ADD, "?"),
    )
    for n in (0, 2, 8):
        p.check(array(8), n)


def test_dynamic_batch_carried_by_a_loop(bufferize, kernel):
    kind = "(tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>"
    p = bufferize(
        kernel("add", ADD, "?x4")
        + f"""
    func.func @forward(%x: tensor<?x4xf32>, %n: index) -> tensor<?x4xf32> attributes {{host.entry}} {{
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %r = scf.for %i = %c0 to %n step %c1 iter_args(%h = %x) -> (tensor<?x4xf32>) {{
        %y = tile.launch @add(%h, %x) : {kind}
        %z = tile.launch @add(%y, %h) : {kind}
        scf.yield %z : tensor<?x4xf32>
      }}
      func.return %r : tensor<?x4xf32>
    }}"""
    )
    for n in range(3):
        p.check(array(5, 4), n)
    assert "host.alloc" not in p.text
