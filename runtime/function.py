"""`NativeFunction`: compiled code that is called with numpy arrays.

A call takes a frame from the pool (made once, constants already in it), writes addresses and numbers, runs, and
reads results or the exception that the program raised. Arrays are not copied, unless they are not contiguous.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from stepwell.runtime import threads
from stepwell.runtime.abi import ALIGNMENT, Frame, FrameLayout, Slot, aligned_empty, data_pointer, dtype_of
from stepwell.runtime.arena import LIBC, Arena
from stepwell.runtime.blocks import SMALLEST, Blocks
from stepwell.runtime.profile import Profile

Array = np.ndarray[Any, Any]
Value = Array | int | float | bool
ENTRY = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32)
Writer = Callable[[Frame, Any], Any]

BLOCK_HEADER = 64
"""Bytes before a buffer that native code allocated: [base for free, next, previous]."""


class NativeFunction:
    """Compiled code at an address, and what its frame looks like.

    `constants` gives the arrays for arguments of kind constant, by name. `keep` is kept alive as long as the
    function (the linked code). Calls from several threads at once are fine: each has a frame and arena.
    """

    def __init__(
        self,
        address: int,
        layout: FrameLayout,
        constants: Mapping[str, Array] | None = None,
        *,
        keep: object = None,
    ) -> None:
        self.layout = layout
        self.address = address
        self._native = ENTRY(address)
        self._keep = keep
        self._inputs = [slot for slot in layout.arguments if slot.kind in ("input", "state")]
        self._writers = [_writer(slot) for slot in self._inputs]
        self._outputs = [slot for slot in layout.arguments if slot.kind == "output"]
        blocks = Blocks(len(self._outputs))
        self._allocators = [_allocator(slot, layout, blocks) for slot in self._outputs]
        self._constants = _constants(layout, constants or {})
        self._pool: list[tuple[Frame, Arena]] = []
        header = layout.header
        self._status, self._threads = header["status"], header["threads"]
        self._message, self._allocations = header["message"], header["allocations"]
        self._arena = header["arena"], header["arena_bytes"], header["arena_base"]
        self.profile = Profile(layout.kernels) if layout.kernels else None

    def __call__(self, *inputs: Value) -> tuple[Value, ...]:
        """Run. One value per input and state, in order; gives the outputs, then the results.

        Raises TypeError or ValueError for arguments that do not fit, and what the program raises.
        """
        return self.call(inputs)

    def call(self, inputs: Sequence[Value], outputs: Sequence[Array] | None = None) -> tuple[Value, ...]:
        """`__call__`, where the caller may bring the arrays for the outputs (contiguous, of the right shape)."""
        if len(inputs) != len(self._writers):
            raise TypeError(f"{self.layout.entry}() takes {len(self._writers)} arguments, {len(inputs)} were given")
        frame, arena = self._pool.pop() if self._pool else self._new_frame()
        try:
            # What the writers give must live as long as the call: an input that was copied to be contiguous.
            kept = [write(frame, value) for write, value in zip(self._writers, inputs, strict=True)]
            if outputs is None:
                outputs = [allocate(frame) for allocate in self._allocators]
            else:
                for slot, array in zip(self._outputs, outputs, strict=True):
                    _write_array(frame, slot, array)
            status = self._run(frame)
            del kept
            if status:
                self._fail(frame, status)
            if self.layout.results:
                return (*outputs, *self._results(frame))
            return tuple(outputs)
        finally:
            if frame.words[self._arena[2]] != arena.base:
                address, size, base = self._arena
                arena.adopt(frame.words[base], frame.words[address], frame.words[size])
            self._pool.append((frame, arena))

    def _run(self, frame: Frame) -> int:
        words = frame.words
        words[self._status] = 0
        if self.layout.parallel:
            team = threads.team()
            if team.size > 1 and team.try_enter():
                try:
                    words[self._threads] = team.size
                    return team.run(self._native, frame.address, (self, frame))
                finally:
                    team.leave()
        words[self._threads] = 1
        return int(self._native(frame.address, 0))

    def _new_frame(self) -> tuple[Frame, Arena]:
        frame, arena = Frame(self.layout.slots), Arena(self.layout.arena_bytes)
        words = frame.words
        address, size, base = self._arena
        words[address], words[size], words[base] = arena.address, arena.size, arena.base
        for slot, array in self._constants:
            _write_array(frame, slot, array)
        if self.profile is not None:
            words[self.layout.header["profile"]] = data_pointer(self.profile.counters)
        return frame, arena

    def _fail(self, frame: Frame, status: int) -> None:
        """Raise what the program raised, after releasing what it had allocated."""
        self._release(frame, set())
        words, first = frame.words, self._message
        raise self.layout.raises[status - 1].error([words[first + i] for i in range(8)])

    def _results(self, frame: Frame) -> list[Value]:
        values: list[Value] = []
        handed_out: set[int] = set()
        for slot in self.layout.results:
            if slot.shape is None:
                values.append(_read_number(frame, slot))
                continue
            sizes = iter(slot.size_slots)
            shape = tuple(frame.words[next(sizes)] if size < 0 else size for size in slot.shape)
            address = frame.words[slot.slot]
            values.append(_wrap(address, shape, slot.numpy_dtype, owned=address not in handed_out))
            handed_out.add(address)
        self._release(frame, handed_out)
        return values

    def _release(self, frame: Frame, handed_out: set[int]) -> None:
        """Free the buffers that the program allocated and did not return."""
        buffer = frame.words[self._allocations]
        while buffer:
            base, following = _header(buffer)
            if buffer not in handed_out:
                LIBC.free(base)
            buffer = following
        frame.words[self._allocations] = 0


def _header(buffer: int) -> tuple[int, int]:
    word = ctypes.c_size_t.from_address
    return word(buffer - BLOCK_HEADER).value, word(buffer - BLOCK_HEADER + 8).value


def _wrap(address: int, shape: tuple[int, ...], dtype: np.dtype[Any], owned: bool) -> Array:
    """An array over memory of native code, freed with the last view of it; a copy where it has an owner."""
    memory: Any = (ctypes.c_char * max(1, dtype.itemsize * prod(shape))).from_address(address)
    array: Array = np.ndarray(shape, dtype, memory)
    if not owned:
        return array.copy()
    weakref.finalize(memory, LIBC.free, _header(address)[0]).atexit = False
    return array


def _read_number(frame: Frame, slot: Slot) -> Value:
    match slot.dtype:
        case "bool":
            return bool(frame.words[slot.slot] & 1)
        case "float64":
            return float(frame.floats[slot.slot])
        case "float32":
            return float(frame.singles[2 * slot.slot])
        case "int64":
            return int(frame.words[slot.slot])
    bits = dtype_of(slot.dtype)
    return frame.memory[slot.slot : slot.slot + 1].view(bits)[0].item()  # type: ignore[no-any-return]


def _expect(slot: Slot) -> str:
    """`float32[2, ?]`."""
    sizes = ", ".join("?" if size < 0 else str(size) for size in slot.shape or ())
    return f"{slot.dtype}[{sizes}]"


def _writer(slot: Slot) -> Writer:
    """What puts one argument into a frame; it gives what must stay alive during the call."""
    return _number_writer(slot) if slot.shape is None else _array_writer(slot)


def _number_writer(slot: Slot) -> Writer:
    position, dtype = slot.slot, slot.dtype

    def refuse(value: object) -> None:
        raise TypeError(f"argument {slot.name}: expected a {dtype} number, got {type(value).__name__}")

    def write(frame: Frame, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value.item()
        if dtype == "float64" or dtype == "float32":
            if not isinstance(value, (int, float, np.floating, np.integer)):
                refuse(value)
            if dtype == "float64":
                frame.floats[position] = float(value)
            else:
                frame.singles[2 * position] = float(value)
        elif dtype == "bool":
            if not isinstance(value, (bool, np.bool_)):
                refuse(value)
            frame.words[position] = int(value)
        else:
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
                refuse(value)
            frame.words[position] = int(value)

    return write


def _array_writer(slot: Slot) -> Writer:
    position, dtype, shape = slot.slot, slot.numpy_dtype, slot.shape
    assert shape is not None
    static = -1 not in shape
    is_state = slot.kind == "state"
    written = _dynamic_dimensions(slot)
    same_width = np.dtype(np.uint8) if dtype == np.int8 else dtype

    def write(frame: Frame, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            raise TypeError(f"argument {slot.name}: expected an array {_expect(slot)}, got {type(value).__name__}")
        if value.dtype != dtype and value.dtype != same_width:
            raise TypeError(f"argument {slot.name}: expected {_expect(slot)}, got dtype {value.dtype}")
        if value.shape != shape:
            if static or not _fits(value.shape, shape):
                raise ValueError(f"argument {slot.name}: expected {_expect(slot)}, got shape {list(value.shape)}")
        if not value.flags.c_contiguous:
            if is_state:
                raise ValueError(f"argument {slot.name}: the array is written in place and must be contiguous")
            value = np.ascontiguousarray(value)
        frame.words[position] = data_pointer(value)
        for dimension, place in written:
            frame.words[place] = value.shape[dimension]
        return value

    return write


def _fits(actual: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    if len(actual) != len(expected):
        return False
    for have, want in zip(actual, expected, strict=True):
        if have != want and want >= 0:
            return False
    return True


def _dynamic_dimensions(slot: Slot) -> list[tuple[int, int]]:
    """(dimension, slot of its size) for each size that varies."""
    varying = [i for i, size in enumerate(slot.shape or ()) if size < 0]
    return list(zip(varying, slot.size_slots, strict=True))


def _write_array(frame: Frame, slot: Slot, array: Array) -> None:
    """An output or constant, which comes from us or is checked in full."""
    assert slot.shape is not None
    if array.dtype != slot.numpy_dtype or not _fits(array.shape, slot.shape) or not array.flags.c_contiguous:
        raise ValueError(
            f"{slot.kind} {slot.name}: expected contiguous {_expect(slot)}, got {array.dtype}{list(array.shape)}"
        )
    frame.words[slot.slot] = data_pointer(array)
    for dimension, place in _dynamic_dimensions(slot):
        frame.words[place] = array.shape[dimension]


def _allocator(slot: Slot, layout: FrameLayout, blocks: Blocks) -> Callable[[Frame], Array]:
    """What makes the array of an output, once the inputs' sizes are in the frame, and writes it there."""
    shape, dtype, position = slot.shape, slot.numpy_dtype, slot.slot
    assert shape is not None
    if -1 not in shape:
        size = dtype.itemsize * prod(shape) + ALIGNMENT

        def large(frame: Frame) -> Array:
            array = blocks.array(shape, dtype)
            frame.words[position] = data_pointer(array)
            return array

        def fixed(frame: Frame) -> Array:
            block = np.empty(size, np.uint8)
            start = data_pointer(block)
            offset = -start & (ALIGNMENT - 1)
            frame.words[position] = start + offset
            return np.ndarray(shape, dtype, block, offset)

        return fixed if size < SMALLEST else large
    if slot.formula is None:
        raise ValueError(f"output {slot.name}: sizes of {_expect(slot)} are not known before the call (host.shape)")
    parts = [_size_source(part, layout) for part in slot.formula]

    written = _dynamic_dimensions(slot)

    def varying(frame: Frame) -> Array:
        words = frame.words
        sizes = tuple([part if known else words[part] for known, part in parts])
        array = aligned_empty(sizes, dtype) if dtype.itemsize * prod(sizes) < SMALLEST else blocks.array(sizes, dtype)
        words[position] = data_pointer(array)
        for dimension, place in written:
            words[place] = sizes[dimension]
        return array

    return varying


def _size_source(part: int | str, layout: FrameLayout) -> tuple[bool, int]:
    """(True, size), or (False, slot that holds it), of one part of a formula."""
    if isinstance(part, int):
        return True, part
    number, dimension = (int(text) for text in part.split("."))
    source = layout.arguments[number]
    assert source.shape is not None
    if source.shape[dimension] >= 0:
        return True, source.shape[dimension]
    return False, source.size_slots[sum(size < 0 for size in source.shape[:dimension])]


def _constants(layout: FrameLayout, given: Mapping[str, Array]) -> list[tuple[Slot, Array]]:
    """The arrays for the constant arguments. Raises KeyError that names a missing one."""
    pairs = []
    for slot in layout.arguments:
        if slot.kind == "constant":
            if slot.name not in given:
                raise KeyError(f"the constant {slot.name} is missing")
            array = given[slot.name]
            pairs.append((slot, np.ascontiguousarray(array).reshape(array.shape)))
    return pairs
