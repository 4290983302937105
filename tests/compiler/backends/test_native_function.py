"""Calling native code: what arguments are taken and refused, memory that lives long enough, several callers."""

import gc
import threading
from collections.abc import Callable

import numpy as np
import pytest

from stepwell.runtime.function import NativeFunction

Build = Callable[..., NativeFunction]

ADD = """
func.func @forward(%x: memref<?x3xf32> {host.name = "x"}, %k: f64 {host.name = "k"},
                   %y: memref<?x3xf32> {host.kind = "output", host.shape = ["0.0", 3]}) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %n = memref.dim %x, %c0 : memref<?x3xf32>
  %s = arith.truncf %k : f64 to f32
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    scf.for %j = %c0 to %c3 step %c1 {
      %v = memref.load %x[%i, %j] : memref<?x3xf32>
      %w = arith.addf %v, %s : f32
      memref.store %w, %y[%i, %j] : memref<?x3xf32>
    }
    scf.reduce
  }
  func.return
}"""


@pytest.fixture(scope="module")
def add(build: Build) -> NativeFunction:
    return build(ADD)


def test_arguments_are_checked(add: NativeFunction) -> None:
    good = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match=r"forward\(\) takes 2 arguments, 1 were given"):
        add(good)
    with pytest.raises(TypeError, match=r"argument x: expected float32\[\?, 3\], got dtype float64"):
        add(good.astype(float), 1.0)
    with pytest.raises(ValueError, match=r"argument x: expected float32\[\?, 3\], got shape \[2, 4\]"):
        add(np.ones((2, 4), np.float32), 1.0)
    with pytest.raises(ValueError, match=r"got shape \[3\]"):
        add(np.ones(3, np.float32), 1.0)
    with pytest.raises(TypeError, match=r"argument x: expected an array float32\[\?, 3\], got list"):
        add([1.0], 1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="argument k: expected a float64 number, got str"):
        add(good, "1")  # type: ignore[arg-type]


def test_numbers_of_numpy_and_integers_are_taken(add: NativeFunction) -> None:
    x = np.zeros((1, 3), np.float32)
    for k in (2, 2.0, np.float32(2), np.int64(2), np.array(2.0)):
        assert (add(x, k)[0] == 2).all()  # type: ignore[operator]


def test_arrays_with_strides_are_copied(add: NativeFunction) -> None:
    x = np.arange(60, dtype=np.float32).reshape(6, 10)[::2, 1:7:2]
    np.testing.assert_array_equal(add(x, 1.0)[0], x + 1)
    np.testing.assert_array_equal(add(np.asfortranarray(x), 1.0)[0], x + 1)


def test_the_caller_may_bring_outputs(add: NativeFunction) -> None:
    x, y = np.ones((4, 3), np.float32), np.empty((4, 3), np.float32)
    assert add.call((x, 1.0), (y,))[0] is y and (y == 2).all()
    with pytest.raises(ValueError, match="output"):
        add.call((x, 1.0), (np.empty((3, 4), np.float32).T,))


@pytest.mark.usefixtures("two_threads")
def test_several_callers_at_once(add: NativeFunction) -> None:
    errors: list[BaseException] = []

    def use(number: int) -> None:
        try:
            x = np.full((50 + number, 3), number, np.float32)
            for step in range(200):
                np.testing.assert_array_equal(add(x, step)[0], x + step)
        except BaseException as error:
            errors.append(error)

    callers = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not errors


@pytest.mark.usefixtures("two_threads")
def test_code_outlives_the_threads_that_are_in_it(build: Build) -> None:
    """A worker may still be in the last barrier when the caller drops the function."""
    for step in range(30):
        function = build(ADD)
        x = np.zeros((7, 3), np.float32)
        assert (function(x, step)[0] == step).all()  # type: ignore[operator]
        del function
        gc.collect()


def test_results_keep_their_memory(build: Build) -> None:
    function = build("""
    func.func @forward(%n: i64) -> memref<?xi64> {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %m = arith.index_cast %n : i64 to index
      %y = host.alloc(%m) : memref<?xi64>
      scf.for %i = %c0 to %m step %c1 {
        memref.store %n, %y[%i] : memref<?xi64>
      }
      func.return %y : memref<?xi64>
    }""")
    kept = [function(1000)[0][990:] for _ in range(50)]  # type: ignore[index]
    gc.collect()
    assert all((view == 1000).all() for view in kept)
