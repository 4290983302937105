"""Launches of a program's kernels on a GPU of this machine, one by one, from numpy arrays.

    device = OnDevice(kernels, Driver.open())
    shadow(machine, kernels.functions, check, device.run)       every launch of a program, compared

For checks and measurements: each launch copies its arrays to the GPU and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects import gpu
from xdsl.dialects.builtin import IndexType, MemRefType
from xdsl.ir import Attribute

from stepwell.compiler.backends.gpu import Kernels
from stepwell.compiler.interpreter.values import Array, dtype_of
from stepwell.lowering.gpu import geometry
from stepwell.lowering.gpu.device import ARCHITECTURES, Device, device
from stepwell.runtime.cuda_driver import DeviceArray, Driver


def device_of(driver: Driver) -> Device:
    """The GPU that a driver has, as a target: the newest known that is no newer. Raises ValueError below sm_80."""
    major, minor = driver.capability
    capability = 10 * major + minor
    if capability == 90:
        return device("sm_90a")
    known = sorted(d.capability for d in map(device, ARCHITECTURES) if not d.name.endswith("a"))
    fitting = [number for number in known if number <= capability]
    if not fitting:
        raise ValueError(f"{driver.name} has compute capability {major}.{minor}; kernels are for 8.0 and later")
    return device(f"sm_{fitting[-1]}")


class OnDevice:
    """The kernels of a program, loaded."""

    def __init__(self, kernels: Kernels, driver: Driver) -> None:
        self.driver = driver
        module = driver.load(kernels.ptx())
        self.kernels = {f.sym_name.data: driver.kernel(module, f.sym_name.data) for f in kernels.functions}
        self.repeat = 0
        self.seconds: dict[str, list[float]] = {}
        """Where `repeat` is not 0: how long launches took, by the kernel's name."""

    def run(self, function: gpu.FuncOp, inputs: Sequence[Any], results: Sequence[Array]) -> None:
        """Launch a kernel; results are written in place."""
        driver, name = self.driver, function.sym_name.data
        blocks = geometry.grid_of(function, geometry.sizes_of(function, inputs))
        if not blocks:
            return
        threads = geometry.threads_of(function)
        given = [self._argument(*pair) for pair in zip(inputs, function.function_type.inputs, strict=False)]
        made = [driver.array(result) for result in results]
        arguments = [*given, *made, *(np.int64(size) for size in geometry.passed_sizes(function, inputs))]
        driver.launch(self.kernels[name], blocks, threads, arguments)
        driver.wait()
        for result, array in zip(results, made, strict=True):
            result[...] = driver.fetch(array)
        if self.repeat:
            times = driver.seconds(self.kernels[name], blocks, threads, arguments, self.repeat)
            self.seconds.setdefault(name, []).extend(times)
        for argument in arguments:
            if isinstance(argument, DeviceArray):
                driver.free(argument)

    def _argument(self, value: Any, kind: Attribute) -> DeviceArray | np.generic:
        if isinstance(kind, MemRefType):
            return self.driver.array(np.asarray(value))
        number: np.generic = (np.dtype(np.int64) if isinstance(kind, IndexType) else dtype_of(kind)).type(value)
        return number
