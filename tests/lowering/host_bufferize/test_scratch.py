"""Scratch memory: a slice per thread behind everything else."""

from __future__ import annotations

import numpy as np
import pytest
from xdsl.parser import Parser

from stepwell.compiler.interpreter import interpret
from stepwell.dialects import context
from stepwell.lowering.host_bufferize.scratch import AttachScratch

MODULE = """
func.func private @k(%x: memref<4xf32>, %scratch: memref<{bytes}xi8>) {{
  %c0 = arith.constant 0 : index
  %n = host.thread_id : index
  %i = arith.index_cast %n : index to i8
  memref.store %i, %scratch[%c0] : memref<{bytes}xi8>
  host.barrier
  %j = memref.load %scratch[%c0] : memref<{bytes}xi8>
  %v = arith.sitofp %j : i8 to f32
  memref.store %v, %x[%n] : memref<4xf32>
  host.barrier
  func.return
}}
func.func @forward(%x: memref<4xf32>, %arena: memref<?xi8>)
    attributes {{host.entry, host.arena_bytes = 128 : i64}} {{
  {reserve}
  func.call @k(%x) : (memref<4xf32>) -> ()
  func.return
}}
"""

RESERVE = "%b = arith.constant 192 : index %a = host.reserve %b : memref<?xi8>"


@pytest.mark.parametrize("reserve", ["", RESERVE])
@pytest.mark.parametrize("size", [10, 100])
def test_each_thread_has_its_own(target, reserve, size):
    module = Parser(context(), MODULE.format(bytes=size, reserve=reserve)).parse_module()
    AttachScratch(target).apply(module, context())
    module.verify()
    x = np.zeros(4, np.float32)
    interpret(module, "forward", [x, np.zeros(4096, np.int8)], threads=4)
    assert x.tolist() == [0, 1, 2, 3]
    assert str(module).count("host.reserve") == 1
    slice_bytes = 64 if size == 10 else 128
    assert f"host.arena_bytes = {128 if reserve else 128 + 2 * slice_bytes} : i64" in str(module)
