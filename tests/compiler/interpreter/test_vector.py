"""Vector ops lane by lane."""

import numpy as np
import pytest

from stepwell.compiler.interpreter import InterpreterError

X = np.arange(24, dtype=np.float32).reshape(4, 6)


def test_load_and_store(run):
    text = """
    func.func @f(%x: memref<4x6xf32>, %i: index, %j: index) -> vector<2x2xf32> {
      %v = vector.load %x[%i, %j] : memref<4x6xf32>, vector<4xf32>
      %w = vector.fma %v, %v, %v : vector<4xf32>
      vector.store %w, %x[%i, %j] : memref<4x6xf32>, vector<4xf32>
      %b = vector.load %x[%i, %j] : memref<4x6xf32>, vector<2x2xf32>
      func.return %b : vector<2x2xf32>
    }"""
    x = X.copy()
    (block,) = run(text, x, 1, 2)
    expected = X.copy()
    expected[1, 2:] = X[1, 2:] ** 2 + X[1, 2:]
    assert np.array_equal(x, expected) and np.array_equal(block, expected[1:3, 2:4])
    with pytest.raises(InterpreterError, match=r"vector.load .*4 lanes from 3 leave dimension 1 of size 6"):
        run(text, X.copy(), 1, 3)
    with pytest.raises(InterpreterError, match=r"vector.load .*leave dimension 0"):
        run(text, X.copy(), 3, 0)


def test_a_loaded_vector_is_a_value(run):
    text = """
    func.func @f(%x: memref<4xf32>) -> vector<4xf32> {
      %c0 = arith.constant 0 : index
      %v = vector.load %x[%c0] : memref<4xf32>, vector<4xf32>
      %z = arith.constant dense<0.0> : vector<4xf32>
      vector.store %z, %x[%c0] : memref<4xf32>, vector<4xf32>
      func.return %v : vector<4xf32>
    }"""
    assert run(text, np.ones(4, np.float32))[0].tolist() == [1] * 4


def test_masked_access(run):
    text = """
    func.func @f(%x: memref<6xf32>, %y: memref<6xf32>, %i: index, %n: index) -> vector<4xf32> {
      %m = vector.create_mask %n : vector<4xi1>
      %p = arith.constant dense<-1.0> : vector<4xf32>
      %v = vector.maskedload %x[%i], %m, %p : memref<6xf32>, vector<4xi1>, vector<4xf32> into vector<4xf32>
      vector.maskedstore %y[%i], %m, %v : memref<6xf32>, vector<4xi1>, vector<4xf32>
      func.return %v : vector<4xf32>
    }"""
    x, y = X[0].copy(), np.zeros(6, np.float32)
    assert run(text, x, y, 4, 2)[0].tolist() == [4, 5, -1, -1] and y.tolist() == [0, 0, 0, 0, 4, 5]
    assert run(text, x, y, 6, 0)[0].tolist() == [-1] * 4
    assert run(text, x, y, 0, 9)[0].tolist() == [0, 1, 2, 3]
    with pytest.raises(InterpreterError, match=r"vector.maskedload .*index 6 is out of bounds"):
        run(text, x, y, 4, 3)


def test_gather_scatter_step(run):
    text = """
    func.func @f(%x: memref<2x6xf32>, %i: vector<4xindex>, %m: vector<4xi1>) -> (vector<4xf32>, vector<4xindex>) {
      %c1 = arith.constant 1 : index
      %p = arith.constant dense<-1.0> : vector<4xf32>
      %v = vector.gather %x[%c1, %c1] [%i], %m, %p
        : memref<2x6xf32>, vector<4xindex>, vector<4xi1>, vector<4xf32> into vector<4xf32>
      %s = vector.step : vector<4xindex>
      vector.scatter %x[%c1, %c1] [%s], %m, %v : memref<2x6xf32>, vector<4xindex>, vector<4xi1>, vector<4xf32>
      func.return %v, %s : vector<4xf32>, vector<4xindex>
    }"""
    x = X[:2].copy()
    v, s = run(text, x, np.array([4, 0, 9, 0]), np.array([True, True, False, True]))
    assert v.tolist() == [11, 7, -1, 7] and s.tolist() == [0, 1, 2, 3]
    assert x[1].tolist() == [6, 11, 7, 9, 7, 11]
    with pytest.raises(InterpreterError, match=r"vector.gather .*index 6"):
        run(text, x, np.array([5, 0, 9, 0]), np.array([True, True, False, True]))


def test_rearranging(run):
    text = """
    func.func @f(%a: vector<4xf32>, %s: f32, %k: index) ->
        (vector<4xf32>, vector<3x4xf32>, f32, vector<4xf32>, vector<2x4xf32>, vector<2xf64>, vector<2x4xf32>, f32) {
      %b = vector.broadcast %s : f32 to vector<4xf32>
      %c = vector.broadcast %a : vector<4xf32> to vector<3x4xf32>
      %d = "vector.extract"(%a, %k) <{static_position = array<i64: -9223372036854775808>}>
        : (vector<4xf32>, index) -> f32
      %e = "vector.shuffle"(%a, %b) <{mask = array<i64: 3, 4, 0, 1>}>
        : (vector<4xf32>, vector<4xf32>) -> vector<4xf32>
      %z = arith.constant dense<0.0> : vector<2x4xf32>
      %g = "vector.insert"(%a, %z) <{static_position = array<i64: 1>}>
        : (vector<4xf32>, vector<2x4xf32>) -> vector<2x4xf32>
      %h = vector.bitcast %a : vector<4xf32> to vector<2xf64>
      %i = "vector.insert"(%s, %g) <{static_position = array<i64: 0, 2>}> : (f32, vector<2x4xf32>) -> vector<2x4xf32>
      %j = "vector.extract"(%i) <{static_position = array<i64: 0, 2>}> : (vector<2x4xf32>) -> f32
      func.return %b, %c, %d, %e, %g, %h, %i, %j : vector<4xf32>, vector<3x4xf32>, f32, vector<4xf32>,
        vector<2x4xf32>, vector<2xf64>, vector<2x4xf32>, f32
    }"""
    a = X[0, :4]
    b, c, d, e, g, h, i, j = run(text, a, 9.0, 2)
    assert b.tolist() == [9] * 4 and np.array_equal(c, np.stack([a] * 3)) and d == 2
    assert e.tolist() == [3, 9, 0, 1] and g.tolist() == [[0] * 4, a.tolist()]
    assert np.array_equal(h, a.view(np.float64)) and i[0, 2] == 9 and g[0, 2] == 0 and j == 9


@pytest.mark.parametrize(
    ("kind", "type", "values", "expected"),
    [
        ("add", "f32", [1, 2, 3], 6), ("mul", "i8", [100, 2, 1], -56), ("minui", "i8", [-1, 3, 4], 3),
        ("maxui", "i8", [-1, 3, 4], -1), ("maxsi", "i8", [-1, 3, 4], 4), ("minnumf", "f32", [np.nan, 3, 4], 3),
        ("maximumf", "f32", [np.nan, 3, 4], np.nan), ("xor", "i32", [1, 3, 4], 6), ("or", "i1", [0, 1, 0], True),
        ("and", "i1", [0, 1, 1], False),
    ],
)  # fmt: skip
def test_reductions(run, kind, type, values, expected):
    text = f"""
    func.func @f(%v: vector<3x{type}>) -> {type} {{
      %r = "vector.reduction"(%v) <{{kind = #vector.kind<{kind}>}}> : (vector<3x{type}>) -> {type}
      func.return %r : {type}
    }}"""
    dtype = {"f32": np.float32, "i1": np.bool_}.get(type) or f"int{type[1:]}"
    assert np.array_equal(run(text, np.array(values, dtype))[0], expected, equal_nan=True)


def test_reduction_starts_from_its_accumulator_in_lane_order(run):
    text = """
    func.func @f(%v: vector<3xf32>, %a: f32) -> f32 {
      %r = vector.reduction <add>, %v, %a : vector<3xf32> into f32
      func.return %r : f32
    }"""
    big = np.array([-1e10, 1, 1], np.float32)
    assert run(text, big, 1e10)[0] == 2


def test_transfers_pad(run):
    text = """
    func.func @f(%x: memref<4x6xf32>, %i: index, %j: index) -> vector<2x4xf32> {
      %p = arith.constant -1.0 : f32
      %v = "vector.transfer_read"(%x, %i, %j, %p) <{permutation_map = affine_map<(d0, d1) -> (d0, d1)>,
        operandSegmentSizes = array<i32: 1, 2, 1, 0>, in_bounds = [false, false]}>
        : (memref<4x6xf32>, index, index, f32) -> vector<2x4xf32>
      "vector.transfer_write"(%v, %x, %i, %j) <{permutation_map = affine_map<(d0, d1) -> (d0, d1)>,
        operandSegmentSizes = array<i32: 1, 1, 2, 0>, in_bounds = [false, false]}>
        : (vector<2x4xf32>, memref<4x6xf32>, index, index) -> ()
      func.return %v : vector<2x4xf32>
    }"""
    x = X.copy()
    (v,) = run(text, x, 3, 4)
    assert v.tolist() == [[22, 23, -1, -1], [-1] * 4] and np.array_equal(x, X)


def test_a_vector_from_its_elements(apply):
    np.testing.assert_array_equal(apply("vector.from_elements", "i32", 3, 1, 2, result="vector<3xi32>"), [3, 1, 2])
