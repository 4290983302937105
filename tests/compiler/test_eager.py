"""Ops called by plain Python, without torch: the numpy references, by torch's names."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import stepwell

X = np.array([[1, -2, 3], [0.5, 0, -1]], np.float32)
F = stepwell.nn.functional

CALLS: dict[str, tuple[Any, Any]] = {
    "relu": (lambda: stepwell.relu(X), np.maximum(X, 0)),
    "sum of a dimension": (lambda: stepwell.sum(X, dim=1, keepdim=True), X.sum(1, keepdims=True)),
    "add with a number": (lambda: stepwell.add(X, 2), X + 2),
    "softmax": (lambda: F.softmax(X, dim=1), np.exp(X) / np.exp(X).sum(1, keepdims=True)),
    "linear": (lambda: F.linear(X, X), X @ X.T),
    "cat": (lambda: stepwell.cat([X, X], dim=1), np.concatenate([X, X], 1)),
    "sizes one by one": (lambda: stepwell.zeros(2, 3), np.zeros((2, 3), np.float32)),
    "dtype": (lambda: stepwell.ones([2], dtype=stepwell.int64), np.ones(2, np.int64)),
    "linalg": (lambda: stepwell.linalg.norm(X), np.linalg.norm(X)),
    "einsum": (lambda: stepwell.einsum("ij,kj->ik", X, X), X @ X.T),
    "two results": (lambda: stepwell.max(X, 1)[1], np.array([2, 0])),
    "clamp by name": (lambda: stepwell.clamp(X, min=0.0), np.maximum(X, 0)),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_op_outside_scripted_code(name: str) -> None:
    call, expected = CALLS[name]
    result = call()
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_names_are_the_same_inside_scripted_code():
    from stepwell import relu

    def f(x: stepwell.Tensor):
        return relu(x) + F.softmax(x, dim=-1) + stepwell.nn.functional.relu(x) + stepwell.pi

    np.testing.assert_allclose(stepwell.script(f)(X), f(X), rtol=1e-6)


def test_in_place_ops_write_their_argument():
    x = X.copy()
    assert stepwell.relu_(x) is x
    np.testing.assert_array_equal(x, np.maximum(X, 0))


def test_wrong_calls():
    with pytest.raises(TypeError, match=r"no overload of aten::relu takes these arguments:\n.*'self' is Tensor, not str"):
        stepwell.relu("a")
    with pytest.raises(TypeError, match="a set is neither a tensor nor a number"):
        stepwell.relu({1})
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        stepwell.matmul(X, X)
    with pytest.raises(AttributeError, match="stepwell has no attribute 'no_such_op'"):
        stepwell.no_such_op  # noqa: B018
    with pytest.raises(AttributeError, match=r"stepwell\.nn\.functional has no attribute 'no_such_op'"):
        F.no_such_op  # noqa: B018


def test_names_say_what_they_are():
    assert repr(stepwell.relu) == "<op aten::relu>"
    assert "aten::relu(Tensor self) -> Tensor" in (stepwell.relu.__doc__ or "")
    assert repr(F) == "<namespace stepwell.nn.functional>"
    assert repr(stepwell.float32) == "stepwell.float32"


def test_ops_load_no_torch():
    code = "import sys, stepwell, numpy as np; stepwell.relu(np.ones(2)); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
