"""Structured ops in all four ways of execution, against numpy."""

import ml_dtypes
import numpy as np
import pytest

from stepwell.compiler.interpreter import InterpreterError, linalg

RANDOM = np.random.default_rng(1)


def array(*shape, dtype=np.float32):
    if np.dtype(dtype).kind == "f":
        return RANDOM.standard_normal(shape).astype(dtype)
    return RANDOM.integers(-9, 9, shape).astype(dtype)


def generic(maps, iterators, ins, out, body, captures=""):
    """A function @f with one generic: types of inputs and of the output, body over %0, %1, ... and %o."""
    kinds = ", ".join(f'"{"reduction" if letter == "r" else "parallel"}"' for letter in iterators)
    dims = ", ".join(f"d{n}" for n in range(len(iterators)))
    maps = ", ".join(f"affine_map<({dims}) -> ({map})>" for map in maps)
    names = ", ".join(f"%x{n}" for n in range(len(ins)))
    parameters = ", ".join([f"%x{n}: {type}" for n, type in enumerate(ins)] + [f"%out: {out}"])
    element = lambda type: type[7:-1].split("x")[-1]  # noqa: E731
    arguments = ", ".join([f"%a{n}: {element(type)}" for n, type in enumerate(ins)] + [f"%o: {element(out)}"])
    inputs = f"ins({names} : {', '.join(ins)})" if ins else ""
    return f"""
    func.func @f({parameters}) -> {out} {{
      {captures}
      %r = linalg.generic {{indexing_maps = [{maps}], iterator_types = [{kinds}]}} {inputs} outs(%out : {out}) {{
      ^bb0({arguments}):
        {body}
      }} -> {out}
      func.return %r : {out}
    }}"""


ADD = "%r0 = arith.addf %a0, %a1 : f32\nlinalg.yield %r0 : f32"
MULTIPLY_ADD = "%p = arith.mulf %a0, %a1 : f32\n%r0 = arith.addf %o, %p : f32\nlinalg.yield %r0 : f32"
SUM = "%r0 = arith.addf %a0, %o : f32\nlinalg.yield %r0 : f32"


def test_broadcast_and_transpose(run):
    text = generic(["d1, d0", "d1", "d0, d1"], "pp", ["tensor<4x3xf32>", "tensor<4xf32>"], "tensor<3x4xf32>", ADD)
    a, b = array(4, 3), array(4)
    assert np.array_equal(run(text, a, b, array(3, 4))[0], a.T + b)


def test_broadcast_by_constant_zero(run):
    text = generic(["0, d1", "d0, d1", "d0, d1"], "pp", ["tensor<1x4xf32>", "tensor<3x4xf32>"], "tensor<3x4xf32>", ADD)
    a, b = array(1, 4), array(3, 4)
    assert np.array_equal(run(text, a, b, array(3, 4))[0], a + b)


@pytest.mark.parametrize("accumulator_first", [True, False])
def test_matmul(run, accumulator_first):
    body = MULTIPLY_ADD if accumulator_first else MULTIPLY_ADD.replace("%o, %p", "%p, %o")
    text = generic(
        ["d0, d1, d3", "d0, d3, d2", "d0, d1, d2"], "pppr", ["tensor<2x3x5xf32>", "tensor<2x5x4xf32>"],
        "tensor<2x3x4xf32>", body,
    )  # fmt: skip
    a, b, c = array(2, 3, 5), array(2, 5, 4), array(2, 3, 4)
    np.testing.assert_allclose(run(text, a, b, c)[0], c + a @ b, rtol=1e-5, atol=1e-5)


def test_contraction_with_casts_in_integers(run):
    body = """
    %u = arith.extsi %a0 : i8 to i32
    %v = arith.extsi %a1 : i8 to i32
    %p = arith.muli %u, %v : i32
    %r0 = arith.addi %o, %p : i32
    linalg.yield %r0 : i32"""
    types = ["tensor<3x50xi8>", "tensor<4x50xi8>"]
    text = generic(["d0, d2", "d1, d2", "d0, d1"], "ppr", types, "tensor<3x4xi32>", body)
    a, b, c = (RANDOM.integers(-128, 128, shape).astype(np.int8) for shape in ((3, 50), (4, 50), (3, 4)))
    c = c.astype(np.int32)
    assert np.array_equal(run(text, a, b, c)[0], c + a.astype(np.int32) @ b.T.astype(np.int32))


def test_wide_integer_products_wrap(run):
    body = "%p = arith.muli %a0, %a1 : i64\n%r0 = arith.addi %o, %p : i64\nlinalg.yield %r0 : i64"
    text = generic(["d0, d1", "d1", "d0"], "pr", ["tensor<2x3xi64>", "tensor<3xi64>"], "tensor<2xi64>", body)
    a = np.array([[2**62, 2**62, 1], [1, 2, 3]])
    assert run(text, a, np.array([4, 2, 7]), np.zeros(2, np.int64))[0].tolist() == [-(2**63) + 7, 29]


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_convolution(run, stride, dilation):
    height, width = 11, 12
    rows, columns = ((size - dilation * 2 - 1) // stride + 1 for size in (height, width))
    window = f"d0, d4, d2 * {stride} + d5 * {dilation}, d3 * {stride} + d6 * {dilation}"
    text = generic(
        [window, "d1, d4, d5, d6", "d0, d1, d2, d3"],
        "pppprrr",
        [f"tensor<2x3x{height}x{width}xf32>", "tensor<4x3x3x3xf32>"], f"tensor<2x4x{rows}x{columns}xf32>", MULTIPLY_ADD,
    )  # fmt: skip
    x, w = array(2, 3, height, width), array(4, 3, 3, 3)
    got = run(text, x, w, np.zeros((2, 4, rows, columns), np.float32))[0]
    for i in range(rows):
        for j in range(columns):
            window = x[:, :, i * stride :: dilation, j * stride :: dilation][:, :, :3, :3]
            np.testing.assert_allclose(got[:, :, i, j], np.einsum("ncij,fcij->nf", window, w), rtol=1e-4, atol=1e-4)


def test_depthwise_convolution_and_max_pooling(run):
    maps = ["d0, d1 * 2 + d2", "d0, d2", "d0, d1"]
    x, w, o = array(4, 9), array(4, 3), np.full((4, 4), -np.inf, np.float32)
    windows = np.stack([x[:, 2 * i : 2 * i + 3] for i in range(4)], 1)
    types = ["tensor<4x9xf32>", "tensor<4x3xf32>"]
    got = run(generic(maps, "ppr", types, "tensor<4x4xf32>", MULTIPLY_ADD), x, w, np.zeros_like(o))[0]
    np.testing.assert_allclose(got, np.einsum("ciw,cw->ci", windows, w), rtol=1e-5, atol=1e-5)
    body = "%r0 = arith.maximumf %a0, %o : f32\nlinalg.yield %r0 : f32"
    assert np.array_equal(run(generic(maps, "ppr", types, "tensor<4x4xf32>", body), x, w, o)[0], windows.max(-1))


@pytest.mark.parametrize(
    ("op", "type", "reference"),
    [
        ("arith.addf", "f32", np.add), ("arith.mulf", "f32", np.multiply), ("arith.maximumf", "f32", np.maximum),
        ("arith.minnumf", "f32", np.fmin), ("arith.addi", "i8", np.add), ("arith.muli", "i8", np.multiply),
        ("arith.maxsi", "i16", np.maximum), ("arith.minsi", "i64", np.minimum), ("arith.ori", "i1", np.logical_or),
        ("arith.andi", "i1", np.logical_and), ("arith.addi", "i1", np.logical_xor), ("arith.addf", "f16", np.add),
        ("arith.addf", "bf16", np.add), ("arith.maximumf", "bf16", np.maximum),
    ],
)  # fmt: skip
def test_reductions(run, op, type, reference):
    named = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "i1": np.bool_}
    dtype = named.get(type) or f"int{type[1:]}"
    body = f"%r0 = {op} %a0, %o : {type}\nlinalg.yield %r0 : {type}"
    text = generic(["d0, d1, d2", "d1"], "rpr", [f"tensor<3x4x2x{type}>"], f"tensor<4x{type}>", body)
    x = RANDOM.integers(-3, 4, (3, 4, 2)).astype(dtype)
    o = RANDOM.integers(-3, 4, 4).astype(dtype)
    expected = o
    for i in range(3):
        for j in range(2):
            expected = reference(expected, x[i, :, j])
    got = run(text, x, o)[0]
    assert got.dtype == np.dtype(dtype) and np.array_equal(got, expected)


def test_empty_reduction_keeps_the_initial_value(run):
    text = generic(["d0, d1", "d0"], "pr", ["tensor<3x?xf32>"], "tensor<3xf32>", SUM.replace("addf", "maximumf"))
    assert run(text, np.zeros((3, 0), np.float32), np.arange(3, dtype=np.float32))[0].tolist() == [0, 1, 2]


def test_empty_parallel_loop(run):
    text = generic(["d0, d1", "d0"], "pr", ["tensor<?x2xf32>"], "tensor<?xf32>", SUM)
    assert run(text, np.zeros((0, 2), np.float32), np.zeros(0, np.float32))[0].shape == (0,)


def test_scan_finds_the_first_maximum(run):
    text = """
    func.func @f(%x: tensor<3x5xf32>) -> (tensor<3xf32>, tensor<3xi64>) {
      %low = arith.constant dense<-1.0e+30> : tensor<3xf32>
      %zero = arith.constant dense<0> : tensor<3xi64>
      %r:2 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>, affine_map<(d0, d1) -> (d0)>],
        iterator_types = ["parallel", "reduction"]
      } ins(%x : tensor<3x5xf32>) outs(%low, %zero : tensor<3xf32>, tensor<3xi64>) {
      ^bb0(%a: f32, %best: f32, %at: i64):
        %i = linalg.index 1 : index
        %j = arith.index_cast %i : index to i64
        %more = arith.cmpf ogt, %a, %best : f32
        %v = arith.select %more, %a, %best : f32
        %k = arith.select %more, %j, %at : i64
        linalg.yield %v, %k : f32, i64
      } -> tensor<3xf32>, tensor<3xi64>
      func.return %r#0, %r#1 : tensor<3xf32>, tensor<3xi64>
    }"""
    x = RANDOM.integers(0, 3, (3, 5)).astype(np.float32)
    best, at = run(text, x)
    assert np.array_equal(best, x.max(1)) and np.array_equal(at, x.argmax(1))


def test_index_and_gather(run):
    captures = "%table = arith.constant dense<[10.0, 11.0, 12.0, 13.0]> : tensor<4xf32>"
    body = """
    %i = linalg.index 1 : index
    %j = arith.index_cast %a0 : i64 to index
    %k = arith.addi %i, %j : index
    %r0 = tensor.extract %table[%k] : tensor<4xf32>
    linalg.yield %r0 : f32"""
    text = generic(["d0, d1", "d0, d1"], "pp", ["tensor<2x2xi64>"], "tensor<2x2xf32>", body, captures)
    x = np.array([[0, 1], [2, 2]])
    assert run(text, x, array(2, 2))[0].tolist() == [[10, 12], [12, 13]]
    with pytest.raises(InterpreterError, match=r"tensor.extract.*index 4"):
        run(text, x + 1, array(2, 2))


def test_condition_guards_what_its_branch_reads(run):
    body = """
    %i = linalg.index 0 : index
    %c1 = arith.constant 1 : index
    %c3 = arith.constant 3 : index
    %j = arith.subi %i, %c1 : index
    %inside = arith.cmpi ult, %j, %c3 : index
    %r0 = scf.if %inside -> (f32) {
      %v = tensor.extract %x0[%j] : tensor<3xf32>
      %w = arith.mulf %v, %a1 : f32
      scf.yield %w : f32
    } else {
      %z = arith.constant 7.0 : f32
      scf.yield %z : f32
    }
    linalg.yield %r0 : f32"""
    text = generic(["0", "d0", "d0"], "p", ["tensor<3xf32>", "tensor<5xf32>"], "tensor<5xf32>", body)
    x, y = array(3), array(5)
    assert np.array_equal(run(text, x, y, array(5))[0], np.concatenate([[7], x * y[1:4], [7]]).astype(np.float32))


def test_body_with_a_loop_runs_pointwise(run):
    body = """
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %n = arith.index_cast %a0 : i64 to index
    %r0 = scf.for %i = %c0 to %n step %c1 iter_args(%s = %o) -> (i64) {
      %t = arith.addi %s, %a0 : i64
      scf.yield %t : i64
    }
    linalg.yield %r0 : i64"""
    text = generic(["d0, d1", "d0"], "pr", ["tensor<2x3xi64>"], "tensor<2xi64>", body)
    x = np.array([[1, 2, 3], [0, 4, 5]])
    assert run(text, x, np.array([100, 200]))[0].tolist() == [114, 241]


def test_maps_that_divide(run):
    text = generic(["d0 floordiv 2, d0 mod 3", "d0"], "p", ["tensor<3x3xf32>"], "tensor<6xf32>",
                   "linalg.yield %a0 : f32")  # fmt: skip
    x = array(3, 3)
    assert np.array_equal(run(text, x, array(6))[0], [x[i // 2, i % 3] for i in range(6)])


def test_reversed_and_shifted_maps(run):
    text = generic(["4 - d0", "d0 + 1", "d0"], "p", ["tensor<5xf32>", "tensor<?xf32>"], "tensor<5xf32>", ADD)
    x, y = array(5), array(6)
    assert np.array_equal(run(text, x, y, array(5))[0], x[::-1] + y[1:])
    with pytest.raises(InterpreterError, match="reads elements 1 to 5"):
        run(text, x, array(5), array(5))


def test_disagreeing_sizes_are_an_error(run):
    text = generic(["d0", "d0", "d0"], "p", ["tensor<?xf32>", "tensor<?xf32>"], "tensor<?xf32>", ADD)
    with pytest.raises(InterpreterError, match=r"linalg.generic.*loop d0 runs 3 times, but operand 1"):
        run(text, array(3), array(4), array(3))


@pytest.mark.parametrize("chunk", [1, 7, 1 << 24])
def test_chunks_change_nothing(run, monkeypatch, chunk):
    monkeypatch.setattr(linalg, "CHUNK", chunk)
    a, b, o = array(5, 6), array(6, 4), array(5, 4)
    matmul = generic(["d0, d2", "d2, d1", "d0, d1"], "ppr", ["tensor<5x6xf32>", "tensor<6x4xf32>"], "tensor<5x4xf32>",
                     MULTIPLY_ADD)  # fmt: skip
    np.testing.assert_allclose(run(matmul, a, b, o)[0], o + a @ b, rtol=1e-4, atol=1e-5)
    body = "%i = linalg.index 0 : index\n%j = arith.index_cast %i : index to i32\n%k = arith.sitofp %j : i32 to f32\n"
    indexed = generic(["d0, d1", "d0, d1"], "pp", ["tensor<5x6xf32>"], "tensor<5x6xf32>",
                      body + "%r0 = arith.addf %a0, %k : f32\nlinalg.yield %r0 : f32")  # fmt: skip
    assert np.array_equal(run(indexed, a, array(5, 6))[0], a + np.arange(5, dtype=np.float32)[:, None])
    total = generic(["d0, d1", "d0"], "pr", ["tensor<5x6xf32>"], "tensor<5xf32>", SUM)
    np.testing.assert_allclose(run(total, a, np.zeros(5, np.float32))[0], a.sum(1), rtol=1e-4, atol=1e-5)


def test_scalars_and_rank_zero(run):
    text = generic(["", ""], "", ["tensor<f32>"], "tensor<f32>",
                   "%r0 = arith.negf %a0 : f32\nlinalg.yield %r0 : f32")  # fmt: skip
    (got,) = run(text, np.array(3, np.float32), np.array(0, np.float32))
    assert isinstance(got, np.ndarray) and got.shape == () and got == -3
    assert run(generic(["d0", ""], "r", ["tensor<4xf32>"], "tensor<f32>", SUM), np.ones(4, np.float32),
               np.array(1, np.float32))[0] == 5  # fmt: skip


def test_memrefs_are_written(run):
    text = """
    func.func @f(%x: memref<3xf32>, %y: memref<3xf32>) {
      linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>],
                      iterator_types = ["parallel"]} ins(%x : memref<3xf32>) outs(%y : memref<3xf32>) {
      ^bb0(%a: f32, %o: f32):
        %r = arith.addf %a, %o : f32
        linalg.yield %r : f32
      }
      func.return
    }"""
    x, y = array(3), array(3)
    expected = x + y
    run(text, x, y)
    assert np.array_equal(y, expected)


def test_named_ops(run):
    text = """
    func.func @f(%a: tensor<2x3xf32>, %b: tensor<3x2xf32>) -> (tensor<2x2xf32>, tensor<2x3xf32>, tensor<3x2xf32>,
                                                              tensor<3xf32>, tensor<2x2x3xf32>) {
      %z = arith.constant 0.0 : f32
      %e = tensor.empty() : tensor<2x2xf32>
      %f = linalg.fill ins(%z : f32) outs(%e : tensor<2x2xf32>) -> tensor<2x2xf32>
      %m = linalg.matmul ins(%a, %b : tensor<2x3xf32>, tensor<3x2xf32>) outs(%f : tensor<2x2xf32>) -> tensor<2x2xf32>
      %s = linalg.add ins(%a, %a : tensor<2x3xf32>, tensor<2x3xf32>) outs(%a : tensor<2x3xf32>) -> tensor<2x3xf32>
      %t = linalg.transpose ins(%a : tensor<2x3xf32>) outs(%b : tensor<3x2xf32>) permutation = [1, 0]
      %i = tensor.empty() : tensor<3xf32>
      %j = linalg.fill ins(%z : f32) outs(%i : tensor<3xf32>) -> tensor<3xf32>
      %r = linalg.reduce ins(%a : tensor<2x3xf32>) outs(%j : tensor<3xf32>) dimensions = [0]
        (%in: f32, %init: f32) {
          %sum = arith.addf %in, %init : f32
          linalg.yield %sum : f32
        }
      %g = tensor.empty() : tensor<2x2x3xf32>
      %h = linalg.broadcast ins(%a : tensor<2x3xf32>) outs(%g : tensor<2x2x3xf32>) dimensions = [1]
      func.return %m, %s, %t, %r, %h :
        tensor<2x2xf32>, tensor<2x3xf32>, tensor<3x2xf32>, tensor<3xf32>, tensor<2x2x3xf32>
    }"""
    a, b = array(2, 3), array(3, 2)
    m, s, t, r, h = run(text, a, b)
    np.testing.assert_allclose(m, a @ b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(r, a.sum(0), rtol=1e-5, atol=1e-6)
    assert np.array_equal(s, a + a) and np.array_equal(t, a.T)
    assert np.array_equal(h, np.broadcast_to(a[:, None], (2, 2, 3)))


def test_kernels_run_their_bodies(run):
    text = """
    tile.kernel @k0(%a: tensor<4xf32>, %s: f32) -> (tensor<4xf32>) attributes {schedule = {template = "map"}} {
      %e = tensor.empty() : tensor<4xf32>
      %r = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>],
                           iterator_types = ["parallel"]} ins(%a : tensor<4xf32>) outs(%e : tensor<4xf32>) {
      ^bb0(%x: f32, %o: f32):
        %m = arith.mulf %x, %s : f32
        linalg.yield %m : f32
      } -> tensor<4xf32>
      tile.yield %r : tensor<4xf32>
    }
    func.func @f(%a: tensor<4xf32>, %s: f32) -> tensor<4xf32> {
      %b = tile.launch @k0(%a, %s) : (tensor<4xf32>, f32) -> tensor<4xf32>
      %c = tile.launch @k0(%b, %s) : (tensor<4xf32>, f32) -> tensor<4xf32>
      func.return %c : tensor<4xf32>
    }"""
    x = array(4)
    np.testing.assert_allclose(run(text, x, 2.0)[0], x * 4)
