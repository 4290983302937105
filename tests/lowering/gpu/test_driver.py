"""The driver's interface, against a driver that runs PTX on numpy: addresses, argument passing, errors."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from stepwell.compiler.backends.cuda_launch import OnDevice, device_of
from stepwell.compiler.backends.gpu import kernels_of
from stepwell.compiler.interpreter import InterpreterError, ptx
from stepwell.compiler.interpreter.ptx_operations import TYPES
from stepwell.lowering.gpu import device
from stepwell.runtime.cuda_driver import Driver, DriverError, DriverMissing

BENCH = Path(__file__).parents[3] / "bench"


class NumpyDriver:
    """Speaks like libcuda; memory is numpy's, kernels are interpreted."""

    ATTRIBUTES: ClassVar[dict[int, int]] = {36: 2619000, 37: 5120, 75: 9, 76: 0, 16: 132}

    def __init__(self, gpus: int = 1) -> None:
        self.gpus = gpus
        self.memory: dict[int, Any] = {}
        self.modules: list[Any] = []
        self.functions: list[Any] = []
        self.events = 0

    def cuInit(self, flags: int) -> int:
        return 0

    def cuGetErrorString(self, code: int, text: Any) -> int:
        text._obj.value = {1: b"invalid value", 218: b"a PTX JIT compilation failed", 719: b"unspecified launch failure"}[code]
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.gpus
        return 0

    def cuDeviceGet(self, found: Any, number: int) -> int:
        found._obj.value = number
        return 0

    def cuDeviceGetName(self, text: Any, size: int, number: Any) -> int:
        text.value = b"numpy"
        return 0

    def cuDeviceGetAttribute(self, value: Any, number: int, of: Any) -> int:
        value._obj.value = self.ATTRIBUTES[number]
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, of: Any) -> int:
        context._obj.value = 1
        return 0

    def cuCtxSetCurrent(self, context: Any) -> int:
        return 0

    def cuCtxSynchronize(self) -> int:
        return 0

    def cuModuleLoadDataEx(self, module: Any, text: bytes, count: int, options: Any, values: Any) -> int:
        try:
            self.modules.append(ptx.parse(text.rstrip(b"\0").decode()))
        except Exception as error:
            message = str(error).encode() + b"\0"
            assert options[0] == 5 and options[1] == 6 and values[1] >= len(message)
            ctypes.memmove(values[0], message, len(message))
            return 218
        module._obj.value = len(self.modules)
        return 0

    def cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> int:
        self.functions.append(self.modules[module.value - 1][name.decode()])
        function._obj.value = len(self.functions)
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        memory = np.full(size.value + 256, 0xA5, np.uint8)
        memory = memory[-memory.ctypes.data % 256 :][: size.value]
        self.memory[memory.ctypes.data] = memory
        address._obj.value = memory.ctypes.data
        return 0

    def cuMemFree_v2(self, address: Any) -> int:
        return 0 if self.memory.pop(address.value, None) is not None else 1

    def cuMemcpyHtoD_v2(self, target: Any, source: Any, size: Any) -> int:
        ctypes.memmove(target.value, source.value, size.value)
        return 0

    def cuMemcpyDtoH_v2(self, target: Any, source: Any, size: Any) -> int:
        ctypes.memmove(target.value, source.value, size.value)
        return 0

    def cuLaunchKernel(self, function: Any, *rest: Any) -> int:
        x, y, z, threads, height, depth, shared, stream, arguments, extra = rest
        entry = self.functions[function.value - 1]
        assert (y, z, height, depth, shared, stream, extra) == (1, 1, 1, 1, 0, None, None)
        assert threads == entry.threads
        given: list[Any] = []
        for pointer, parameter in zip(arguments, entry.parameters, strict=True):
            dtype = TYPES[parameter.type]
            value = np.frombuffer(ctypes.string_at(pointer, dtype.itemsize), dtype)[0]
            given.append(self.memory[int(value)] if parameter.is_pointer else value)
        try:
            ptx.launch(entry, x, given)
        except InterpreterError:
            return 719
        return 0

    def cuEventCreate(self, event: Any, flags: int) -> int:
        self.events += 1
        event._obj.value = self.events
        return 0

    def cuEventRecord(self, event: Any, stream: Any) -> int:
        return 0

    def cuEventSynchronize(self, event: Any) -> int:
        return 0

    def cuEventElapsedTime(self, milliseconds: Any, before: Any, after: Any) -> int:
        milliseconds._obj.value = 0.5
        return 0

    def cuEventDestroy_v2(self, event: Any) -> int:
        self.events -= 1
        return 0


@pytest.fixture
def driver() -> Driver:
    return Driver(NumpyDriver())


def test_arrays_go_there_and_back(driver: Driver) -> None:
    for value in (np.arange(12, dtype=np.float32).reshape(3, 4), np.zeros((0, 3)), np.array(5)):
        there = driver.array(value)
        np.testing.assert_array_equal(driver.fetch(there), value)
        driver.free(there)
    with pytest.raises(DriverError, match="cuMemFree_v2: invalid value"):
        driver.free(there)


def test_the_device_is_known(driver: Driver) -> None:
    assert driver.name == "numpy" and driver.capability == (9, 0)
    assert device_of(driver).name == "sm_90a"
    assert driver.peak_bandwidth == pytest.approx(3.35e12, rel=0.01)
    for capability, name in (((8, 0), "sm_80"), ((8, 7), "sm_86"), ((12, 1), "sm_120")):
        driver.library.ATTRIBUTES = {**NumpyDriver.ATTRIBUTES, 75: capability[0], 76: capability[1]}
        assert device_of(driver).name == name
    driver.library.ATTRIBUTES = {**NumpyDriver.ATTRIBUTES, 75: 7, 76: 5}
    with pytest.raises(ValueError, match=r"8\.0 and later"):
        device_of(driver)


def test_without_a_gpu_there_is_no_driver() -> None:
    with pytest.raises(DriverMissing, match="no GPU"):
        Driver(NumpyDriver(gpus=0))


def test_what_the_driver_refuses_comes_with_its_log(driver: Driver) -> None:
    with pytest.raises(DriverError, match=r"(?s)JIT compilation failed.*does not say how many threads"):
        driver.load(".visible .entry k() { ret; }")


@pytest.mark.parametrize("dynamic", [False, True])
def test_launches(graph: Any, formed: Any, checked: Any, driver: Driver, dynamic: bool) -> None:
    """Arrays of several shapes, sizes as arguments, and nothing left behind."""
    g = graph(x=("n", "m") if dynamic else (5, 37), y=("m",) if dynamic else (37,))
    out = g.builder.elementwise(lambda a, c: a * c, g["x"], g["y"], dtype=g["x"].dtype)
    module = formed(g.returns(out, g.softmax(g["x"])))
    loaded = OnDevice(kernels_of(module, device()), driver)
    loaded.repeat = 3
    run = checked(module, run=loaded.run)
    rng = np.random.default_rng(0)
    run(rng.random((5, 37), np.float32), rng.random(37, np.float32))
    assert run.launched and not driver.library.memory and not driver.library.events
    assert all(times == [0.5e-3] * 3 for times in loaded.seconds.values())


# ------ bench/gpu_check.py


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.setenv("STEPWELL_CACHE_DIR", str(tmp_path / "cache"))
    spec = importlib.util.spec_from_file_location("gpu_check", BENCH / "gpu_check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)
    spec.loader.exec_module(module)
    return module


def test_without_a_driver_the_check_says_so(gpu_check: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> Driver:
        raise DriverMissing("no NVIDIA driver")

    assert gpu_check.main([], missing) == 3
    assert "no NVIDIA driver: nothing is checked" in capsys.readouterr().err


def test_the_check_of_an_archive(gpu_check: Any, tmp_path: Path, driver: Driver) -> None:
    archive = str(Path(__file__).parents[2] / "archives" / "mlp.pt")
    arguments = [archive, "--input", "float32[2,16]", "--repeat", "2", "--out", str(tmp_path)]
    assert gpu_check.main(arguments, lambda: driver) == 0
    written = json.loads((tmp_path / "gpu_check.json").read_text())
    assert written["machine"]["gpu"] == "numpy" and written["machine"]["target"] == "sm_90a"
    kernels = {row["kernel"]: row for row in written["kernels"]}
    assert {"matmul_0", "rows_0"} <= set(kernels)
    assert all(row["launches"] == 1 and row["right"] and row["seconds"] == 0.5e-3 for row in kernels.values())


def test_the_check_finds_wrong_numbers(gpu_check: Any) -> None:
    wanted = np.array([1.0, np.nan, np.inf], np.float32)
    assert gpu_check.difference(wanted, wanted) == 0
    assert gpu_check.difference(np.array([1.1, np.nan, np.inf], np.float32), wanted) == pytest.approx(0.1)
    assert gpu_check.difference(np.array([1.0, 0.0, np.inf], np.float32), wanted) == np.inf
    assert gpu_check.difference(np.array([1]), np.array([2])) == np.inf
