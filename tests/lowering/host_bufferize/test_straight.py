"""Straight-line programs: destinations, views, slices, one arena; on one thread and on three."""

from __future__ import annotations

import numpy as np


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
    assert "func.call @k(%0, %0, %1)" in program.text


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
