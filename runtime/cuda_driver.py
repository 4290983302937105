"""NVIDIA's driver through ctypes: load PTX, hold arrays, launch kernels, measure. Needs libcuda.so.1, which every
machine with a driver has, and nothing else.

    driver = Driver.open()
    kernel = driver.kernel(driver.load(ptx), "softmax")
    driver.launch(kernel, blocks, threads, [x.address, y.address, np.int64(rows)])
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

LIBRARY = "libcuda.so.1"
MEMORY_CLOCK, BUS_WIDTH, MAJOR, MINOR, PROCESSORS = 36, 37, 75, 76, 16
"""Numbers of CUdevice_attribute."""

LOG, LOG_BYTES = 5, 6
"""CU_JIT_ERROR_LOG_BUFFER and its size, of CUjit_option."""
LOG_SIZE = 16384


class DriverMissing(RuntimeError):
    """There is no driver here, or no GPU."""


class DriverError(RuntimeError):
    """A call of the driver failed. Attributes: `call`, `code`."""

    def __init__(self, call: str, code: int, text: str) -> None:
        self.call, self.code = call, code
        super().__init__(f"{call}: {text or f'error {code}'}")


@dataclass
class DeviceArray:
    """Memory of the GPU with the shape and type of an array."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Driver:
    """The first GPU. `library` is libcuda, or what speaks like it."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self._call("cuInit", 0)
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if not count.value:
            raise DriverMissing("the driver finds no GPU")
        self.device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(self.device), 0)
        # The primary context is the one that other libraries of the process use.
        self.context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), self.device)
        self._call("cuCtxSetCurrent", self.context)

    @staticmethod
    def open() -> Driver:
        """The driver of this machine. Raises DriverMissing where there is none."""
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise DriverMissing(f"no NVIDIA driver: {error}") from None
        try:
            return Driver(library)
        except DriverError as error:
            raise DriverMissing(f"the NVIDIA driver does not work: {error}") from None

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self.library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self.library.cuGetErrorString(code, ctypes.byref(text))
            raise DriverError(name, code, text.value.decode() if text.value else "")

    # ------ the device

    def attribute(self, number: int) -> int:
        """A property of the GPU, by CUDA's number for it."""
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), number, self.device)
        return value.value

    @property
    def name(self) -> str:
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, len(text), self.device)
        return text.value.decode()

    @property
    def capability(self) -> tuple[int, int]:
        """Major and minor compute capability."""
        return self.attribute(MAJOR), self.attribute(MINOR)

    @property
    def peak_bandwidth(self) -> float:
        """Bytes per second that the memory could give: two transfers a clock, over the whole bus."""
        return 2.0 * self.attribute(MEMORY_CLOCK) * 1e3 * self.attribute(BUS_WIDTH) / 8

    # ------ code

    def load(self, ptx: str) -> ctypes.c_void_p:
        """A module from PTX. Raises DriverError with the assembler's log where the driver refuses it."""
        module = ctypes.c_void_p()
        log = ctypes.create_string_buffer(LOG_SIZE)
        options = (ctypes.c_int * 2)(LOG, LOG_BYTES)
        values = (ctypes.c_void_p * 2)(ctypes.addressof(log), LOG_SIZE)
        try:
            self._call("cuModuleLoadDataEx", ctypes.byref(module), ptx.encode() + b"\0", 2, options, values)
        except DriverError as error:
            raise DriverError(error.call, error.code, f"{error}\n{log.value.decode()}".strip()) from None
        return module

    def kernel(self, module: ctypes.c_void_p, name: str) -> ctypes.c_void_p:
        """A function of a module."""
        function = ctypes.c_void_p()
        self._call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        return function

    # ------ memory

    def array(self, value: np.ndarray[Any, Any]) -> DeviceArray:
        """A copy of an array on the GPU, at a multiple of 256 bytes."""
        made = self.empty(value.shape, value.dtype)
        if made.bytes:
            contiguous = np.ascontiguousarray(value)
            pointer = ctypes.c_void_p(contiguous.ctypes.data)
            self._call("cuMemcpyHtoD_v2", ctypes.c_uint64(made.address), pointer, ctypes.c_size_t(made.bytes))
        return made

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> DeviceArray:
        """Memory for an array."""
        made = DeviceArray(0, tuple(shape), dtype)
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(16, made.bytes)))
        made.address = address.value
        return made

    def fetch(self, array: DeviceArray) -> np.ndarray[Any, Any]:
        """An array of the GPU as one of numpy."""
        result = np.empty(array.shape, array.dtype)
        if array.bytes:
            pointer = ctypes.c_void_p(result.ctypes.data)
            self._call("cuMemcpyDtoH_v2", pointer, ctypes.c_uint64(array.address), ctypes.c_size_t(array.bytes))
        return result

    def free(self, array: DeviceArray) -> None:
        """Give memory back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(array.address))

    # ------ running

    def launch(
        self, kernel: ctypes.c_void_p, blocks: int, threads: int, arguments: Sequence[DeviceArray | np.generic]
    ) -> None:
        """Queue a kernel. Arguments are arrays of the GPU, and numbers of the types that it takes."""
        held = [
            ctypes.c_uint64(value.address) if isinstance(value, DeviceArray) else _buffer(value) for value in arguments
        ]
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(value) for value in held))
        sizes = (blocks, 1, 1, threads, 1, 1)
        self._call("cuLaunchKernel", kernel, *sizes, 0, None, pointers, None)

    def wait(self) -> None:
        """Until all that was queued is done. Raises DriverError for what went wrong in it."""
        self._call("cuCtxSynchronize")

    def seconds(
        self,
        kernel: ctypes.c_void_p,
        blocks: int,
        threads: int,
        arguments: Sequence[DeviceArray | np.generic],
        repeat: int,
    ) -> list[float]:
        """How long each of some launches takes, by the GPU's own clock."""
        events = [ctypes.c_void_p() for _ in range(repeat + 1)]
        for event in events:
            self._call("cuEventCreate", ctypes.byref(event), 0)
        self._call("cuEventRecord", events[0], None)
        for event in events[1:]:
            self.launch(kernel, blocks, threads, arguments)
            self._call("cuEventRecord", event, None)
        self._call("cuEventSynchronize", events[-1])
        found = []
        for before, after in pairwise(events):
            milliseconds = ctypes.c_float()
            self._call("cuEventElapsedTime", ctypes.byref(milliseconds), before, after)
            found.append(milliseconds.value / 1e3)
        for event in events:
            self._call("cuEventDestroy_v2", event)
        return found


def _buffer(value: np.generic) -> ctypes.Array[ctypes.c_char]:
    """The bytes of a number."""
    return ctypes.create_string_buffer(value.tobytes(), value.itemsize)
