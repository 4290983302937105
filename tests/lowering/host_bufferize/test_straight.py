"""Straight-line programs: destinations, views, slices, one arena; on one thread and on three."""

from __future__ import annotations

import numpy as np
import pytest


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


ADD, MUL = "arith.addf %a, %b", "arith.mulf %a, %b"


def test_results_are_computed_in_the_callers_buffer(bufferize, kernel):
    program = bufferize(
        kernel("k", ADD, "4")
        + """
    func.func @forward(%x: tensor<4xf32>) -> tensor<4xf32> attributes {host.entry} {
      %y = tile.launch @k(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      func.return %y : tensor<4xf32>
    }"""
    )
    program.check(array(4))
    assert program.arena_bytes == 0 and program.copies() == 0
    assert "func.call @k(%x, %x, %result0)" in program.text


def test_a_chain_takes_one_buffer_in_place(bufferize, kernel):
    program = bufferize(
        kernel("k", MUL, "64")
        + """
    func.func @forward(%x: tensor<64xf32>) -> tensor<64xf32> attributes {host.entry} {
      %1 = tile.launch @k(%x, %x) : (tensor<64xf32>, tensor<64xf32>) -> tensor<64xf32>
      %2 = tile.launch @k(%1, %x) : (tensor<64xf32>, tensor<64xf32>) -> tensor<64xf32>
      %3 = tile.launch @k(%2, %x) : (tensor<64xf32>, tensor<64xf32>) -> tensor<64xf32>
      func.return %3 : tensor<64xf32>
    }"""
    )
    program.check(array(64))
    assert program.arena_bytes == 0 and "inplace = array<i64: 0>" in program.text


def test_views_and_slices(bufferize, kernel):
    program = bufferize(
        kernel("k", ADD, "6")
        + kernel("m", MUL, "2x3")
        + """
    func.func @forward(%x: tensor<4x3xf32>, %i: index) -> (tensor<2x3xf32>, tensor<3xf32>, tensor<4x2xf32>)
        attributes {host.entry} {
      %s = tensor.extract_slice %x[%i, 0][2, 3][1, 1] : tensor<4x3xf32> to tensor<2x3xf32>
      %f = tensor.collapse_shape %s [[0, 1]] : tensor<2x3xf32> into tensor<6xf32>
      %g = tile.launch @k(%f, %f) : (tensor<6xf32>, tensor<6xf32>) -> tensor<6xf32>
      %h = tensor.expand_shape %g [[0, 1]] output_shape [2, 3] : tensor<6xf32> into tensor<2x3xf32>
      %r = tile.launch @m(%h, %s) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
      %row = tensor.extract_slice %r[1, 0][1, 3][1, 1] : tensor<2x3xf32> to tensor<3xf32>
      %columns = tensor.extract_slice %x[0, 0][4, 2][1, 2] : tensor<4x3xf32> to tensor<4x2xf32>
      func.return %r, %row, %columns : tensor<2x3xf32>, tensor<3xf32>, tensor<4x2xf32>
    }"""
    )
    for i in range(3):
        program.check(array(4, 3), i)


def test_results_that_are_one_value_or_an_input(bufferize, kernel):
    program = bufferize(
        kernel("k", ADD, "4")
        + """
    func.func @forward(%x: tensor<4xf32>, %n: i64) -> (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, i64)
        attributes {host.entry} {
      %y = tile.launch @k(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      func.return %y, %x, %y, %n : tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, i64
    }"""
    )
    program.check(array(4), 7)
    assert program.copies() == 2


def test_insert_slice_in_place_or_into_a_copy(bufferize, kernel):
    program = bufferize(
        kernel("k", ADD, "4x3")
        + kernel("m", ADD, "2x3")
        + """
    func.func @forward(%x: tensor<4x3xf32>, %y: tensor<2x3xf32>) -> (tensor<4x3xf32>, tensor<4x3xf32>)
        attributes {host.entry} {
      %a = tile.launch @k(%x, %x) : (tensor<4x3xf32>, tensor<4x3xf32>) -> tensor<4x3xf32>
      %b = tensor.insert_slice %y into %a[1, 0][2, 3][1, 1] : tensor<2x3xf32> into tensor<4x3xf32>
      %z = tile.launch @m(%y, %y) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
      %c = tensor.insert_slice %z into %b[0, 0][2, 3][2, 1] : tensor<2x3xf32> into tensor<4x3xf32>
      %e = tensor.empty() : tensor<4x3xf32>
      %f = tensor.insert_slice %y into %e[0, 0][2, 3][1, 1] : tensor<2x3xf32> into tensor<4x3xf32>
      %g = tensor.insert_slice %y into %f[2, 0][2, 3][1, 1] : tensor<2x3xf32> into tensor<4x3xf32>
      %h = tile.launch @k(%c, %b) : (tensor<4x3xf32>, tensor<4x3xf32>) -> tensor<4x3xf32>
      func.return %h, %g : tensor<4x3xf32>, tensor<4x3xf32>
    }"""
    )
    program.check(array(4, 3), array(2, 3, seed=1))


def test_a_slice_of_itself_is_not_inserted_in_place(bufferize, kernel):
    program = bufferize(
        kernel("k", ADD, "8")
        + """
    func.func @forward(%x: tensor<8xf32>) -> tensor<8xf32> attributes {host.entry} {
      %a = tile.launch @k(%x, %x) : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
      %s = tensor.extract_slice %a[0][6][1] : tensor<8xf32> to tensor<6xf32>
      %b = tensor.insert_slice %s into %a[2][6][1] : tensor<6xf32> into tensor<8xf32>
      func.return %b : tensor<8xf32>
    }"""
    )
    program.check(array(8))


def test_elements(bufferize, kernel):
    program = bufferize(
        kernel("k", ADD, "2x2")
        + """
    func.func @forward(%x: tensor<2x2xf32>, %i: index) -> (tensor<2x2xf32>, f32, tensor<f32>) attributes {host.entry} {
      %c0 = arith.constant 0 : index
      %y = tile.launch @k(%x, %x) : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
      %v = tensor.extract %y[%i, %c0] : tensor<2x2xf32>
      %w = tensor.extract %x[%c0, %i] : tensor<2x2xf32>
      %t = tensor.from_elements %v, %w, %w, %v : tensor<2x2xf32>
      %s = tensor.from_elements %w : tensor<f32>
      %z = tile.launch @k(%t, %t) : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
      %u = tensor.extract %z[%i, %i] : tensor<2x2xf32>
      func.return %z, %u, %s : tensor<2x2xf32>, f32, tensor<f32>
    }"""
    )
    program.check(array(2, 2), 1)


def test_constants(bufferize, kernel):
    weight = array(4, seed=3)
    program = bufferize(
        kernel("k", ADD, "4")
        + """
    func.func @forward(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) attributes {host.entry} {
      %w = arith.constant dense_resource<w> : tensor<4xf32>
      %c = arith.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>
      %d = arith.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>
      %v = arith.constant dense_resource<w> : tensor<4xf32>
      %1 = tile.launch @k(%x, %w) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      %2 = tile.launch @k(%1, %c) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      %3 = tile.launch @k(%2, %v) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      func.return %3, %d, %w : tensor<4xf32>, tensor<4xf32>, tensor<4xf32>
    }""",
        {"w": weight},
    )
    program.check(array(4))
    assert str(program.module).count("memref.global") == 1 and program.text.count('"constant"') == 1


def test_states_have_their_own_buffers(bufferize, kernel):
    program = bufferize(
        kernel("k", ADD, "4")
        + """
    func.func @forward(%x: tensor<4xf32> {host.kind = "input", host.name = "x"},
        %h: tensor<4xf32> {host.kind = "state", host.name = "h"})
        -> (tensor<4xf32> {host.kind = "output"}, tensor<4xf32> {host.kind = "state", host.name = "h"})
        attributes {host.entry} {
      %y = tile.launch @k(%x, %h) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      func.return %y, %y : tensor<4xf32>, tensor<4xf32>
    }"""
    )
    program.check(array(4), array(4, seed=1))
    assert 'host.state = "h"' in program.text


def test_the_arena_is_shared_by_what_is_never_alive_together(bufferize, kernel):
    text = (
        kernel("k", ADD, "16")
        + kernel("r", ADD, "4x4")
        + """
    func.func @forward(%x: tensor<16xf32>) -> tensor<16xf32> attributes {host.entry} {
      %0 = tile.launch @k(%x, %x) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
    """
    )
    for i in range(1, 9):
        text += f"""
      %s{i} = tensor.expand_shape %{i - 1} [[0, 1]] output_shape [4, 4] : tensor<16xf32> into tensor<4x4xf32>
      %t{i} = tile.launch @r(%s{i}, %s{i}) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
      %{i} = tensor.collapse_shape %t{i} [[0, 1]] : tensor<4x4xf32> into tensor<16xf32>"""
    program = bufferize(
        text
        + """
      func.return %8 : tensor<16xf32>
    }"""
    )
    program.check(array(16))
    assert program.arena_bytes <= 128


def test_sizes_known_at_entry(bufferize, kernel):
    program = bufferize(
        kernel("k", ADD, "?x3")
        + kernel("m", MUL, "?")
        + """
    func.func @forward(%x: tensor<?x3xf32>) -> (tensor<?x3xf32>, tensor<?xf32>) attributes {host.entry} {
      %1 = tile.launch @k(%x, %x) : (tensor<?x3xf32>, tensor<?x3xf32>) -> tensor<?x3xf32>
      %2 = tile.launch @k(%1, %x) : (tensor<?x3xf32>, tensor<?x3xf32>) -> tensor<?x3xf32>
      %3 = tile.launch @k(%1, %2) : (tensor<?x3xf32>, tensor<?x3xf32>) -> tensor<?x3xf32>
      %f = tensor.collapse_shape %2 [[0, 1]] : tensor<?x3xf32> into tensor<?xf32>
      %g = tile.launch @m(%f, %f) : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
      func.return %3, %g : tensor<?x3xf32>, tensor<?xf32>
    }"""
    )
    for n in (0, 1, 5, 100):
        program.check(array(n, 3))
    assert '"0.0"' in program.text and "host.reserve" in program.text and program.text.count("host.alloc(") == 1


def test_sizes_known_only_while_running(bufferize, kernel):
    program = bufferize(
        kernel("k", ADD, "?")
        + """
    func.func @forward(%x: tensor<8xf32>) -> tensor<?xf32> attributes {host.entry} {
      %c0 = arith.constant 0 : index
      %v = tensor.extract %x[%c0] : tensor<8xf32>
      %i = arith.fptosi %v : f32 to i64
      %n = arith.index_cast %i : i64 to index
      %s = tensor.extract_slice %x[%c0][%n][1] : tensor<8xf32> to tensor<?xf32>
      %y = tile.launch @k(%s, %s) : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
      %z = tile.launch @k(%y, %s) : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
      func.return %z : tensor<?xf32>
    }"""
    )
    for n in (0, 1, 5, 8):
        x = array(8)
        x[0] = n
        program.check(x)
    assert program.text.count("host.alloc(") == 2 and program.text.count("host.free") == 1


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (8, 3), (64, 1024)])
def test_copies_of_all_sizes(bufferize, shape):
    text = "x".join(map(str, shape))
    program = bufferize(f"""
    func.func @forward(%x: tensor<{text}xf32>) -> tensor<{text}xf32> attributes {{host.entry}} {{
      func.return %x : tensor<{text}xf32>
    }}""")
    program.check(array(*shape))
