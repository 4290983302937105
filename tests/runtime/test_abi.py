"""The frame's layout, arrays at aligned addresses, and what a raise becomes."""

import json

import numpy as np
import pytest

from stepwell.runtime.abi import FrameLayout, RaiseSite, aligned_empty, data_pointer, dtype_of, exception_class

LAYOUT = {
    "version": 1, "entry": "forward", "slots": 44, "header": {"status": 0}, "kernels": [], "arena_bytes": 64,
    "parallel": True, "structure": None,
    "arguments": [{"name": "x", "kind": "input", "dtype": "float32", "shape": [-1, 3], "slot": 40, "size_slots": [41]}],
    "results": [{"dtype": "int64", "shape": None, "slot": 42}],
    "raises": [{"exception": "builtins.KeyError", "message": "{}", "arguments": ["int"], "location": "a.py:1:2"}],
}  # fmt: skip


def test_layout_is_its_json() -> None:
    layout = FrameLayout.from_json(json.dumps(LAYOUT))
    assert layout.arguments[0].shape == (-1, 3) and layout.arguments[0].numpy_dtype == np.float32
    assert layout.results[0].kind == "result" and layout.parallel
    assert FrameLayout.from_json(layout.to_json()) == layout


def test_a_layout_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 2"):
        FrameLayout.from_json(json.dumps(LAYOUT | {"version": 2}))


def test_messages_are_formatted_from_eight_byte_values() -> None:
    bits = int(np.array(2.5).view(np.int64))
    error = RaiseSite("builtins.ValueError", "{} {} {} {{}}", ("int", "float", "bool"), "m.py:3:1").error([-4, bits, 1])
    assert type(error) is ValueError and str(error) == "-4 2.5 True {}"
    assert error.__notes__ == ["raised at m.py:3:1"]


@pytest.mark.parametrize("name", ["builtins.SystemExit", "builtins.print", "other.ValueError", "torch.jit.Error"])
def test_only_exceptions_of_python_itself_are_taken_by_name(name: str) -> None:
    found = exception_class(name)
    assert issubclass(found, RuntimeError) and found.__name__ == name.rpartition(".")[2]


def test_arrays_for_results_are_aligned() -> None:
    for shape in ((), (0,), (3, 5), (1000,)):
        array = aligned_empty(shape, np.dtype(np.float64))
        assert array.shape == shape and data_pointer(array) % 64 == 0 and array.ctypes.data == data_pointer(array)


def test_bfloat16_is_that_of_ml_dtypes() -> None:
    import ml_dtypes

    assert dtype_of("bfloat16") == np.dtype(ml_dtypes.bfloat16)
