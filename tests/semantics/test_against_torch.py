"""Programs of programs/*.py mean the same in Stepwell as in torch: results, written inputs, state, exceptions."""

from __future__ import annotations

import copy
import importlib.util
import io
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepwell

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")]

_spec = importlib.util.spec_from_file_location("stepwell_tests_semantics_conftest", Path(__file__).parent / "conftest.py")
assert _spec is not None and _spec.loader is not None
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
table = _conftest.load_programs()


def archive_of(case: Any, original: Any) -> io.BytesIO:
    """The program as torch saves it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if case.traced:
            scripted = torch.jit.trace(original, copy.deepcopy(case.calls[0].arguments), check_trace=False)
        else:
            scripted = torch.jit.script(original)
        file = io.BytesIO()
        torch.jit.save(scripted, file)
    file.seek(0)
    return file


def original_of(case: Any) -> Any:
    if not isinstance(case.make, type):
        return case.make
    torch.manual_seed(3)
    return case.make().eval()


class Outcome:
    """What a call came to: a value, or an exception; and the arguments afterwards."""

    def __init__(self, run: Any, arguments: Any) -> None:
        self.error: Exception | None = None
        self.value: Any = None
        try:
            self.value = run()
        except (stepwell.Error, AssertionError) as error:
            if isinstance(error, stepwell.Error):
                raise
            self.error = error
        except Exception as error:
            self.error = error
        self.arguments = arguments


def own_message(error: Exception) -> bool:
    """True if the program itself raised the exception."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (last.line or "").startswith(("raise", "assert"))


@pytest.mark.parametrize("case", table.CASES, ids=lambda c: c.name)
def test_same_as_torch(case: Any) -> None:
    original = original_of(case)
    file = archive_of(case, original)
    reference = torch.jit.load(io.BytesIO(file.getvalue())) if case.script else original
    module = stepwell.load(file)
    if case.refused:
        first = case.calls[0]
        with pytest.raises(stepwell.CompileError, match=case.refused):
            module.method(first.method)(*to_numpy(copy.deepcopy(first.arguments)), **(first.keywords or {}))
        return
    for call in case.calls:
        theirs, ours = copy.deepcopy((call.arguments, call.keywords or {})), copy.deepcopy((call.arguments, call.keywords or {}))
        if not any_bfloat16(ours):
            ours = to_numpy(ours, {})
        f = getattr(reference, call.method) if isinstance(reference, torch.nn.Module) else reference
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = Outcome(lambda: f(*theirs[0], **theirs[1]), theirs)  # noqa: B023
        actual = Outcome(lambda: module.method(call.method)(*ours[0], **ours[1]), ours)  # noqa: B023
        compare_outcomes(actual, expected, case)
        if isinstance(original, torch.nn.Module) and not case.script:
            compare_state(module, original, case.tolerance, "self")
    methods = [module.method(name) for name in {c.method for c in case.calls}]
    interpreted = sum(m.statistics.interpreted_calls for m in methods)
    reasons = [r for m in methods for r in m.statistics.reasons]
    if case.dynamic:
        assert interpreted, "it runs natively now: the table says that it does not"
    else:
        assert not interpreted, f"interpreted because {reasons}"
    if case.compilations:
        assert sum(m.statistics.compilations for m in methods) <= case.compilations, module.method("forward").signatures()


def compare_outcomes(actual: Outcome, expected: Outcome, case: Any) -> None:
    if expected.error is not None:
        assert actual.error is not None, f"torch raises {expected.error!r}, we give {actual.value!r}"
        if case.script:
            return
        assert type(actual.error).__name__ == type(expected.error).__name__, (actual.error, expected.error)
        if own_message(expected.error):
            assert str(actual.error) == str(expected.error)
        return
    if actual.error is not None:
        raise actual.error
    compare(actual.value, expected.value, case.tolerance, "result")
    compare(actual.arguments, expected.arguments, 1e-6, "arguments")


def compare(actual: Any, expected: Any, tolerance: float, where: str) -> None:
    """Equal structure, Python types, dtypes, shapes; numbers within the tolerance."""
    if isinstance(expected, torch.Tensor):
        compare_tensors(actual, expected.detach(), tolerance, where)
    elif isinstance(expected, (tuple, list)):
        kind = tuple if isinstance(expected, tuple) else list
        assert isinstance(actual, kind), f"{where}: {type(actual)} for {type(expected)}"
        assert len(actual) == len(expected), f"{where}: {len(actual)} elements for {len(expected)}"
        for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
            compare(a, e, tolerance, f"{where}[{i}]")
    elif isinstance(expected, dict):
        assert list(actual) == list(expected), f"{where}: keys {list(actual)} for {list(expected)}"
        for k in expected:
            compare(actual[k], expected[k], tolerance, f"{where}[{k!r}]")
    else:
        assert type(actual) is type(expected), f"{where}: {actual!r} for {expected!r}"
        if isinstance(expected, float):
            np.testing.assert_allclose(actual, expected, rtol=max(tolerance, 1e-6), err_msg=where)
        else:
            assert actual == expected, where


def compare_tensors(actual: Any, expected: Any, tolerance: float, where: str) -> None:
    assert isinstance(actual, (np.ndarray, torch.Tensor)), f"{where}: {actual!r} for a tensor"
    shape, dtype = tuple(actual.shape), str(actual.dtype).removeprefix("torch.")
    wanted = tuple(expected.shape), str(expected.dtype).removeprefix("torch.")
    assert (shape, dtype) == wanted, f"{where}: {dtype}{list(shape)} for {wanted}"
    a = actual.double().numpy() if isinstance(actual, torch.Tensor) else actual.astype(np.float64)
    e = expected.double().numpy()
    loose = {"float16": 2e-3, "bfloat16": 2e-2}.get(dtype, tolerance)
    np.testing.assert_allclose(a, e, rtol=loose, atol=loose, err_msg=where)


def compare_state(module: Any, original: Any, tolerance: float, where: str) -> None:
    """Tensors, numbers, texts and lists that the module holds."""
    tensors = {**dict(original.named_parameters(recurse=False)), **dict(original.named_buffers(recurse=False))}
    plain = {
        k: value
        for k, value in vars(original).items()
        if not k.startswith("_") and isinstance(value, (int, float, str, list, tuple, dict, torch.Tensor, type(None)))
    }
    for name, value in {**tensors, **plain}.items():
        if name in module._object.attributes:
            compare(getattr(module, name), value, tolerance, f"{where}.{name}")
    for name, child in original.named_children():
        if name in module._object.attributes:
            compare_state(getattr(module, name), child, tolerance, f"{where}.{name}")


def any_bfloat16(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return bool(value.dtype == torch.bfloat16)
    if isinstance(value, dict):
        return any(any_bfloat16(v) for v in value.values())
    return isinstance(value, (tuple, list)) and any(any_bfloat16(v) for v in value)


def to_numpy(value: Any, known: dict[int, Any] | None = None) -> Any:
    """Tensors as arrays over the same memory; a tensor that comes twice is one array."""
    known = {} if known is None else known
    if isinstance(value, torch.Tensor):
        return known.setdefault(id(value), value.detach().numpy())
    if isinstance(value, (tuple, list)):
        return type(value)(to_numpy(v, known) for v in value)
    if isinstance(value, dict):
        return {k: to_numpy(v, known) for k, v in value.items()}
    return value
