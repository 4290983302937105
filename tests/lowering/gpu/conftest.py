"""Kernels for GPUs: made from text, graphs and archives, run in lock step, compared with the tile level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

import stepwell
from stepwell.compiler.backends.gpu import Kernels, kernels_of
from stepwell.compiler.interpreter import Machine, gpu, ptx
from stepwell.dialects import context
from stepwell.lowering.gpu import device
from stepwell.lowering.linalg import passes
from stepwell.lowering.linalg_to_tile import FormKernels

ARCHIVES = Path(__file__).parents[2] / "archives"


def assert_close(what: str, got: Any, wanted: Any, tolerance: float) -> None:
    """Equal integers, floats to a tolerance relative to the largest; NaN equals NaN."""
    if wanted.dtype.kind in "iub":
        np.testing.assert_array_equal(got, wanted, err_msg=what)
        return
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    finite = np.abs(wanted[np.isfinite(wanted)])
    atol = tolerance * float(finite.max(initial=0.0))
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=atol, equal_nan=True, err_msg=what)


class Checked:
    """A module of the tile level whose launches are compared with those of a GPU."""

    def __init__(self, module: ModuleOp, resources: Any = None, *, arch: str = "sm_90a", run: Any = gpu.launch) -> None:
        self.kernels: Kernels = kernels_of(module, device(arch))
        self.launched: list[str] = []
        self.machine = Machine(module, resources)
        gpu.shadow(self.machine, self.kernels.functions, self.check, run)

    def check(self, function: Any, inputs: Sequence[Any], expected: Sequence[Any], found: Sequence[Any]) -> None:
        self.launched.append(function.sym_name.data)
        for number, (got, wanted) in enumerate(zip(found, expected, strict=True)):
            tolerance = 1e-2 if wanted.dtype.itemsize == 2 and wanted.dtype.kind != "i" else 2e-5
            assert_close(f"{function.sym_name.data}, result {number}", got, wanted, tolerance)

    def __call__(self, *arguments: Any, entry: str = "f") -> list[Any]:
        return self.machine.call(entry, list(arguments))


def parsed(text: str) -> ModuleOp:
    module = Parser(context(), text).parse_module()
    module.verify()
    return module


@pytest.fixture
def formed() -> Callable[[ModuleOp], ModuleOp]:
    """A module of linalg ops, with its kernels for a GPU."""

    def form(module: ModuleOp) -> ModuleOp:
        target = device().target()
        for step in (*passes(target), FormKernels(target)):
            step.apply(module, context())
        return module

    return form


@pytest.fixture
def checked() -> type[Checked]:
    return Checked


class Archive:
    """An archive of the tests, or another one, at the tile level for a GPU."""

    def __init__(self, path: Path, inputs: Sequence[Any]) -> None:
        program = stepwell.load(path).method("forward")._inspector.program_at("tile", inputs, {}, device().target())
        self.module, self.resources = program.module, program.resources
        self.inputs = list(inputs)

    def call(self, run: Checked) -> None:
        """One call: what prepare makes, the inputs, and 1 for numbers that have a default."""
        prepared = run(entry="prepare")
        entry = next(op for op in self.module.ops if isinstance(op, func.FuncOp) and op.sym_name.data == "forward")
        missing = len(entry.function_type.inputs) - len(self.inputs) - len(prepared)
        run(*self.inputs, *[1.0] * missing, *prepared, entry="forward")


def recorded(name: str, batch: int) -> list[Any]:
    record = np.load(ARCHIVES / f"{name}.npz")
    return [record[k] for k in record.files if k.startswith("input") and k.endswith(f"_{batch}")]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Archive]:
    monkeypatch.setenv("STEPWELL_CACHE_DIR", str(tmp_path))
    return lambda name: Archive(ARCHIVES / f"{name}.pt", recorded(name, 2))


@pytest.fixture
def through_ptx() -> Callable[..., Checked]:
    """A module whose launches are made in PTX: ours, or what `compiled` makes of the kernels."""

    def make(module: ModuleOp, resources: Any = None, compiled: Callable[[Kernels], str] = Kernels.ptx) -> Checked:
        kernels = kernels_of(module, device())
        return Checked(module, resources, run=ptx.launcher(compiled(kernels)))

    return make
