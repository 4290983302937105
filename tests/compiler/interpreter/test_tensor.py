"""tensor ops and lists against numpy."""

import numpy as np
import pytest

from stepwell.compiler.interpreter import InterpreterError

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def test_slices(run):
    text = """
    func.func @f(%x: tensor<2x3x4xf32>, %o: index, %s: index) ->
        (tensor<1x2x2xf32>, tensor<?x2xf32>, tensor<4xf32>, tensor<2x3x4xf32>, tensor<2x3x4xf32>) {
      %a = tensor.extract_slice %x[1, 0, 1] [1, 2, 2] [1, 2, 2] : tensor<2x3x4xf32> to tensor<1x2x2xf32>
      %b = tensor.extract_slice %x[%o, 0, 0] [1, %s, 2] [1, 1, 1] : tensor<2x3x4xf32> to tensor<?x2xf32>
      %c = tensor.extract_slice %x[0, 2, 0] [1, 1, 4] [1, 1, 1] : tensor<2x3x4xf32> to tensor<4xf32>
      %d = tensor.insert_slice %a into %x[0, 0, 0] [1, 2, 2] [1, 1, 3] : tensor<1x2x2xf32> into tensor<2x3x4xf32>
      %e = tensor.insert_slice %c into %x[1, 1, 0] [1, 1, 4] [1, 1, 1] : tensor<4xf32> into tensor<2x3x4xf32>
      func.return %a, %b, %c, %d, %e :
        tensor<1x2x2xf32>, tensor<?x2xf32>, tensor<4xf32>, tensor<2x3x4xf32>, tensor<2x3x4xf32>
    }"""
    a, b, c, d, e = run(text, X, 1, 3)
    assert np.array_equal(a, X[1:2, 0:3:2, 1:4:2])
    assert np.array_equal(b, X[1, :3, :2])
    assert np.array_equal(c, X[0, 2])
    expected = X.copy()
    expected[0:1, 0:2, 0:4:3] = a
    assert np.array_equal(d, expected)
    expected = X.copy()
    expected[1, 1] = c
    assert np.array_equal(e, expected)
    with pytest.raises(InterpreterError, match=r"extract_slice.*leave dimension 1"):
        run(text, X, 1, 4)


def test_shapes(run):
    text = """
    func.func @f(%x: tensor<?x3x4xf32>, %n: index) ->
        (tensor<?x4xf32>, tensor<?x1x3x2x2xf32>, index, tensor<2x3x4xf32>, tensor<12x?xf32>, tensor<f32>) {
      %c0 = arith.constant 0 : index
      %a = tensor.collapse_shape %x [[0, 1], [2]] : tensor<?x3x4xf32> into tensor<?x4xf32>
      %b = tensor.expand_shape %x [[0, 1], [2], [3, 4]] output_shape [%n, 1, 3, 2, 2]
        : tensor<?x3x4xf32> into tensor<?x1x3x2x2xf32>
      %d = tensor.dim %x, %c0 : tensor<?x3x4xf32>
      %e = tensor.cast %x : tensor<?x3x4xf32> to tensor<2x3x4xf32>
      %c12 = arith.constant 12 : index
      %s = tensor.from_elements %c12, %n : tensor<2xindex>
      %g = tensor.reshape %x(%s) : (tensor<?x3x4xf32>, tensor<2xindex>) -> tensor<12x?xf32>
      %v = tensor.extract %x[%c0, %c0, %c0] : tensor<?x3x4xf32>
      %h = tensor.from_elements %v : tensor<f32>
      func.return %a, %b, %d, %e, %g, %h :
        tensor<?x4xf32>, tensor<?x1x3x2x2xf32>, index, tensor<2x3x4xf32>, tensor<12x?xf32>, tensor<f32>
    }"""
    a, b, d, e, g, h = run(text, X, 2)
    assert np.array_equal(a, X.reshape(6, 4)) and np.array_equal(b, X.reshape(2, 1, 3, 2, 2)) and d == 2
    assert np.array_equal(e, X) and np.array_equal(g, X.reshape(12, 2))
    assert h.shape == () and h == X[0, 0, 0]
    with pytest.raises(InterpreterError, match=r"tensor.expand_shape"):
        run(text, X, 3)
    with pytest.raises(InterpreterError, match=r"tensor.cast"):
        run(text, np.zeros((3, 3, 4), np.float32), 3)


def test_pad_concat_splat_insert(run):
    text = """
    func.func @f(%x: tensor<2x3xi32>, %h: index) -> (tensor<5x?xi32>, tensor<2x6xi32>, tensor<?xi32>, tensor<2x3xi32>) {
      %c1 = arith.constant 1 : index
      %p = tensor.pad %x low[1, 0] high[2, %h] {
      ^bb0(%i: index, %j: index):
        %k = arith.addi %i, %j : index
        %v = arith.index_cast %k : index to i32
        tensor.yield %v : i32
      } : tensor<2x3xi32> to tensor<5x?xi32>
      %c = tensor.concat dim(1) %x, %x : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x6xi32>
      %seven = arith.constant 7 : i32
      %s = tensor.splat %seven[%h] : tensor<?xi32>
      %t = tensor.insert %seven into %x[%c1, %c1] : tensor<2x3xi32>
      func.return %p, %c, %s, %t : tensor<5x?xi32>, tensor<2x6xi32>, tensor<?xi32>, tensor<2x3xi32>
    }"""
    x = np.arange(6, dtype=np.int32).reshape(2, 3) * 100
    p, c, s, t = run(text, x, 2)
    expected = np.add.outer(np.arange(5), np.arange(5)).astype(np.int32)
    expected[1:3, :3] = x
    assert np.array_equal(p, expected)
    assert np.array_equal(c, np.concatenate([x, x], 1)) and s.tolist() == [7, 7]
    assert t[1, 1] == 7 and x[1, 1] == 400


def test_empty_tensors_are_poison_until_written(run):
    text = """
    func.func @f(%n: index) -> (tensor<?xf32>, tensor<0x3xi32>) {
      %e = tensor.empty(%n) : tensor<?xf32>
      %z = tensor.empty() : tensor<0x3xi32>
      func.return %e, %z : tensor<?xf32>, tensor<0x3xi32>
    }"""
    e, z = run(text, 2)
    assert np.isnan(e).all() and z.shape == (0, 3)


LISTS = """
!l = !host.list<tensor<?x2xf32>>
func.func @f(%x: tensor<?x2xf32>, %i: i64) -> (tensor<?x2xf32>, tensor<?x?x2xf32>, i64, tensor<?x2xf32>) {
  %l0 = host.list_new : !l
  %l1 = host.list_append %l0, %x : !l
  %l2 = host.list_append %l1, %x : !l
  %e = tensor.empty() : tensor<2x2xf32>
  %two = arith.constant 2.0 : f32
  %f = linalg.fill ins(%two : f32) outs(%e : tensor<2x2xf32>) -> tensor<2x2xf32>
  %y = tensor.cast %f : tensor<2x2xf32> to tensor<?x2xf32>
  %l3 = host.list_append %l2, %y : !l
  %n = host.list_length %l3 : !l
  %g = host.list_get %l3[%i] : !l
  %l4 = host.list_set %l3[%i], %y : !l
  %c = host.list_concat %l4 {dim = 0 : i64} : !l -> tensor<?x2xf32>
  %l5, %last = "host.list_pop"(%l4, %i) : (!l, i64) -> (!l, tensor<?x2xf32>)
  %s = host.list_stack %l5 {dim = 0 : i64} : !l -> tensor<?x?x2xf32>
  func.return %c, %s, %n, %g : tensor<?x2xf32>, tensor<?x?x2xf32>, i64, tensor<?x2xf32>
}"""


def test_lists(run):
    x = np.ones((2, 2), np.float32)
    y = np.full((2, 2), 2, np.float32)
    c, s, n, g = run(LISTS, x, -1)
    assert n == 3 and np.array_equal(g, y)
    assert np.array_equal(c, np.concatenate([x, x, y])) and np.array_equal(s, np.stack([x, x]))
    with pytest.raises(IndexError, match="list index out of range"):
        run(LISTS, x, 3)
    with pytest.raises(RuntimeError, match="same shape"):
        run(LISTS, np.ones((5, 2), np.float32), 1)
