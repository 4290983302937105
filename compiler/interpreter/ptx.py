"""Runs PTX on numpy: the text that goes to the GPU's assembler, all threads of all blocks side by side.

    launch(entries["softmax"], blocks, arguments)     arrays are tensors in global memory, numbers parameters
    shadow(machine, functions, check, launcher(text)) all launches of a program, compared

Threads that stand at the same instruction take it together; those that are behind go first, so that threads meet
again where they can. Accesses are checked as in `gpu`: within a tensor, aligned, and races in shared memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from xdsl.dialects import gpu
from xdsl.dialects.builtin import IndexType, MemRefType

from stepwell.compiler.interpreter.gpu import WARP, Run, Shared
from stepwell.compiler.interpreter.ptx_operations import FUNCTIONS, ODD_OPERANDS, TYPES, convert
from stepwell.compiler.interpreter.ptx_text import Entry, Instruction, parse
from stepwell.compiler.interpreter.rules import Fault, InterpreterError
from stepwell.compiler.interpreter.values import Array, scalar_of
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.lowering.gpu import geometry

ADDRESS = re.compile(r"\[\s*([%\w$.]+?)(?:\+(-?\d+))?\s*\]")

SPACING = 1 << 20
"""Bytes between the ends of two tensors: what leaves one lands in none."""


def launch(entry: Entry, blocks: int, arguments: Sequence[Any]) -> None:
    """Run a kernel; arrays that it writes are written. Raises InterpreterError, which has the instruction."""
    if blocks:
        with np.errstate(all="ignore"):
            machine = _Machine(entry, blocks, arguments)
            machine.run()
            machine.finish()


def launcher(text: str) -> Run:
    """What launches the kernels of the gpu level by their PTX, for `gpu.shadow`."""
    entries = parse(text)

    def run(function: gpu.FuncOp, inputs: Sequence[Any], results: Sequence[Array]) -> None:
        entry = entries[function.sym_name.data]
        if entry.threads != geometry.threads_of(function):
            raise ValueError(f"{entry.name} has blocks of {entry.threads} threads in PTX")
        given: list[Any] = []
        for value, kind in zip(inputs, function.function_type.inputs, strict=False):
            if isinstance(kind, MemRefType):
                given.append(np.ascontiguousarray(value))
            else:
                given.append(np.int64(value) if isinstance(kind, IndexType) else scalar_of(kind, value))
        sizes = [np.int64(size) for size in geometry.passed_sizes(function, inputs)]
        launch(entry, geometry.grid_of(function, geometry.sizes_of(function, inputs)), [*given, *results, *sizes])

    return run


class _Machine:
    """The threads of a launch: where each stands, and their registers."""

    def __init__(self, entry: Entry, blocks: int, arguments: Sequence[Any]) -> None:
        self.entry, self.threads, self.count = entry, entry.threads, blocks * entry.threads
        self.at = np.zeros(self.count, np.int64)
        self.waiting = np.zeros(self.count, np.bool_)
        self.ended = np.zeros(self.count, np.bool_)
        self.registers: dict[str, Array] = {}
        self.epoch = 0
        self.shared = Shared(blocks, max(1, entry.shared_bytes), np.dtype(np.uint8))
        self.tensors: list[tuple[int, Array, int]] = []
        """Where each begins, its bytes and what is behind them up to a multiple of 16, and how many are its own."""
        self.results: list[tuple[Array, Array]] = []
        self.parameters: dict[str, int | float | np.generic] = {}
        start = SPACING
        for name, value in zip((p.name for p in entry.parameters), arguments, strict=True):
            if isinstance(value, np.ndarray):
                own = value.reshape(-1).view(np.uint8)
                memory = np.full(-(-len(own) // 16) * 16, 0xA5, np.uint8)
                memory[: len(own)] = own
                self.tensors.append((start, memory, len(own)))
                self.results.append((own, memory))
                self.parameters[name] = np.uint64(start)
                start = -(-(start + len(memory) + SPACING) // 256) * 256
            else:
                self.parameters[name] = value

    def run(self) -> None:
        """Until all threads have ended."""
        while not self.ended.all():
            ready = ~self.ended & ~self.waiting
            if not ready.any():
                raise InterpreterError(f"{self.entry.name}: all threads wait at a barrier that some have passed by")
            place = int(self.at[ready].min())
            lanes = np.flatnonzero(ready & (self.at == place))
            if place >= len(self.entry.instructions):
                self.ended[lanes] = True
                continue
            instruction = self.entry.instructions[place]
            self.at[lanes] += 1
            try:
                self._step(instruction, lanes)
            except (Fault, ValueError, KeyError, TypeError, UnsupportedError) as error:
                why = f"{type(error).__name__}: {error}" if not isinstance(error, (Fault, UnsupportedError)) else error
                raise InterpreterError(f"{self.entry.name}: {instruction.text}: {why}") from error

    def finish(self) -> None:
        """What was written is in the arrays."""
        for own, memory in self.results:
            if own.flags.writeable:
                own[:] = memory[: len(own)]

    def _step(self, instruction: Instruction, lanes: Array) -> None:
        if instruction.guard:
            lanes = lanes[self.registers[instruction.guard][lanes] != instruction.negated]
        if not len(lanes):
            return
        name = instruction.name[0]
        control = CONTROL.get(name)
        if control is not None:
            control(self, instruction, lanes)
            return
        function = FUNCTIONS.get(name)
        if function is None:
            raise UnsupportedError(f"PTX {name} is not interpreted")
        words = instruction.name[1:]
        target, *sources = instruction.operands
        given = [
            self.value(source, TYPES[ODD_OPERANDS.get((name, place), words[-1])], lanes)
            for place, source in enumerate(sources)
        ]
        self.write(target, function(words, *given), lanes)

    # ------ operands

    def value(self, operand: str, dtype: np.dtype[Any], lanes: Array) -> Array:
        """An operand for some threads, as a type."""
        if operand in SPECIAL:
            return SPECIAL[operand](self, lanes).astype(dtype)
        if operand.startswith("%"):
            bits = self.registers[operand][lanes]
            if bits.dtype == np.bool_ or dtype == np.bool_:
                return bits
            if bits.dtype.itemsize > dtype.itemsize:
                bits = bits.astype(f"uint{8 * dtype.itemsize}")
            return bits.view(dtype) if bits.dtype.itemsize == dtype.itemsize else bits.astype(dtype)
        return np.full(len(lanes), self._number(operand, dtype), dtype)

    def _number(self, text: str, dtype: np.dtype[Any]) -> Any:
        if text in self.entry.shared:
            return self.entry.shared[text]
        if text[:2] in ("0f", "0d"):
            bits = np.array(int(text[2:], 16), "uint32" if text[1] == "f" else "uint64")
            return bits.view(dtype if dtype.itemsize == bits.itemsize else f"float{8 * bits.itemsize}")
        number = int(text.rstrip("U"), 0)
        if dtype.kind in "iu":
            return np.array(number & ((1 << (8 * dtype.itemsize)) - 1), f"uint{8 * dtype.itemsize}").view(dtype)
        return number

    def write(self, target: str, values: Array, lanes: Array) -> None:
        """A result into a register, as bits."""
        if target == "_":
            return
        bits = values if values.dtype == np.bool_ else np.ascontiguousarray(values).view(f"uint{8 * values.itemsize}")
        width = WIDTHS[re.sub(r"\d+$", "", target)]
        if bits.dtype.itemsize < width.itemsize and bits.dtype != np.bool_:
            signed = values.dtype.kind == "i"
            bits = (values.astype(f"int{8 * width.itemsize}") if signed else bits.astype(width)).view(width)
        register = self.registers.get(target)
        if register is None:
            register = self.registers[target] = np.zeros(self.count, width)
        register[lanes] = bits

    def address(self, operand: str, lanes: Array) -> Array:
        """`[%rd1+16]`"""
        match = ADDRESS.fullmatch(operand)
        if match is None:
            raise UnsupportedError(f"the address {operand} is not read here")
        return self.value(match[1], TYPES["s64"], lanes) + int(match[2] or 0)

    # ------ memory

    def parts(self, address: Array, size: int, writes: bool) -> Iterator[tuple[Array, Array, Array]]:
        """(a tensor's bytes, which accesses are in it, the places of all their bytes) for each tensor that some
        accesses are in. Raises Fault where one is in none.

        LLVM may read up to the next multiple of 16 bytes, which no page ends before.
        """
        outside = np.ones(len(address), np.bool_)
        for start, memory, length in self.tensors:
            last = start + (length if writes else len(memory))
            inside = np.flatnonzero((address >= start) & (address + size <= last))
            if len(inside):
                outside[inside] = False
                yield memory, inside, (address[inside] - start)[:, None] + np.arange(size)
        if outside.any():
            raise Fault("an access that is in no tensor")

    def shared_bytes(self, address: Array, size: int, lanes: Array) -> tuple[Array, Array]:
        """(the places of all bytes of some accesses to shared memory, the thread of each)."""
        each = np.repeat(lanes, size)
        return self.shared.places(self, (address[:, None] + np.arange(size)).reshape(-1), each), each

    def load_bytes(self, space: str, address: Array, size: int, lanes: Array) -> Array:
        """[lanes, size] bytes."""
        check_alignment(address, size)
        if space == "shared":
            places, each = self.shared_bytes(address, size, lanes)
            return self.shared.read(self, places, each).reshape(-1, size)
        found = np.zeros((len(address), size), np.uint8)
        for memory, inside, places in self.parts(address, size, False):
            found[inside] = memory[places]
        return found

    def store_bytes(self, space: str, address: Array, data: Array, lanes: Array) -> None:
        """The same for writing."""
        size = data.shape[1]
        check_alignment(address, size)
        if space == "shared":
            places, each = self.shared_bytes(address, size, lanes)
            self.shared.write(self, places, each, data.reshape(-1))
            return
        for memory, inside, places in self.parts(address, size, True):
            memory[places] = data[inside]


def check_alignment(address: Array, size: int) -> None:
    """Raises Fault where an access does not start at a multiple of its size."""
    if (address % size).any():
        raise Fault(f"an access of {size} bytes that is not aligned")


WIDTHS: Mapping[str, np.dtype[Any]] = {
    "%p": np.dtype(np.bool_), "%rs": np.dtype(np.uint16), "%r": np.dtype(np.uint32), "%f": np.dtype(np.uint32),
    "%rd": np.dtype(np.uint64), "%fd": np.dtype(np.uint64), "%h": np.dtype(np.uint16),
}  # fmt: skip
"""What registers hold, by the first part of their names."""

SPECIAL: Mapping[str, Callable[[_Machine, Array], Array]] = {
    "%tid.x": lambda machine, lanes: lanes % machine.threads,
    "%ctaid.x": lambda machine, lanes: lanes // machine.threads,
    "%ntid.x": lambda machine, lanes: np.full(len(lanes), machine.threads),
}


# ------ instructions that are more than a function of numbers


def _branch(machine: _Machine, instruction: Instruction, lanes: Array) -> None:
    machine.at[lanes] = machine.entry.labels[instruction.operands[0]]


def _return(machine: _Machine, instruction: Instruction, lanes: Array) -> None:
    machine.ended[lanes] = True


def _barrier(machine: _Machine, instruction: Instruction, lanes: Array) -> None:
    machine.waiting[lanes] = True
    arrived = (machine.waiting | machine.ended).reshape(-1, machine.threads).all(1)
    together = machine.waiting.reshape(-1, machine.threads)
    if arrived.all():
        machine.epoch += 1
        together[:] = False


def _convert(machine: _Machine, instruction: Instruction, lanes: Array) -> None:
    *words, target, source = instruction.name[1:]
    value = machine.value(instruction.operands[1], TYPES[source], lanes)
    machine.write(instruction.operands[0], convert(words, value, TYPES[target]), lanes)


def _address_cast(machine: _Machine, instruction: Instruction, lanes: Array) -> None:
    machine.write(instruction.operands[0], machine.value(instruction.operands[1], TYPES["u64"], lanes), lanes)


def _registers(operand: str) -> list[str]:
    return [name.strip() for name in operand.strip("{} ").split(",")]


def _move(machine: _Machine, instruction: Instruction, lanes: Array) -> None:
    """mov, also from and to several registers that are the parts of one number, lowest first."""
    dtype = TYPES[instruction.name[-1]]
    targets, sources = (_registers(operand) for operand in instruction.operands)
    part = dtype if len(sources) == 1 else TYPES[f"b{8 * dtype.itemsize // len(sources)}"]
    values = np.ascontiguousarray(np.stack([machine.value(source, part, lanes) for source in sources], -1))
    whole = values.view(dtype if len(targets) == 1 else f"uint{8 * dtype.itemsize // len(targets)}")
    for target, value in zip(targets, whole.T, strict=True):
        machine.write(target, np.ascontiguousarray(value), lanes)


def _load(machine: _Machine, instruction: Instruction, lanes: Array) -> None:
    dtype = TYPES[instruction.name[-1]]
    targets, source = _registers(instruction.operands[0]), instruction.operands[1]
    space = instruction.name[1]
    if space == "param":
        value = np.full(len(lanes), machine.parameters[source.strip("[] ")])
        value = value.view(f"uint{8 * value.itemsize}").astype(f"uint{8 * dtype.itemsize}").view(dtype)
        machine.write(targets[0], value, lanes)
        return
    data = machine.load_bytes(space, machine.address(source, lanes), dtype.itemsize * len(targets), lanes)
    for target, value in zip(targets, np.ascontiguousarray(data).view(dtype).T, strict=True):
        machine.write(target, np.ascontiguousarray(value), lanes)


def _store(machine: _Machine, instruction: Instruction, lanes: Array) -> None:
    dtype = TYPES[instruction.name[-1]]
    columns = [machine.value(source, dtype, lanes) for source in _registers(instruction.operands[1])]
    data = np.ascontiguousarray(np.stack(columns, -1)).view(np.uint8)
    machine.store_bytes(instruction.name[1], machine.address(instruction.operands[0], lanes), data, lanes)


def _shuffle(machine: _Machine, instruction: Instruction, lanes: Array) -> None:
    if instruction.name[:3] != ("shfl", "sync", "bfly"):
        raise UnsupportedError("only shfl.sync.bfly is interpreted")
    value, offset = (machine.value(operand, TYPES["u32"], lanes) for operand in instruction.operands[1:3])
    partner = lanes ^ offset.astype(np.int64)
    place = np.searchsorted(lanes, partner)
    if len(lanes) % WARP or (lanes[np.minimum(place, len(lanes) - 1)] != partner).any():
        raise Fault("not all threads of a warp are at this shuffle")
    machine.write(instruction.operands[0].split("|")[0], value[place], lanes)


CONTROL: Mapping[str, Callable[[_Machine, Instruction, Array], None]] = {
    "bra": _branch, "ret": _return, "bar": _barrier, "barrier": _barrier, "cvt": _convert, "cvta": _address_cast,
    "mov": _move, "ld": _load, "st": _store, "shfl": _shuffle,
}  # fmt: skip

__all__ = ["Entry", "launch", "launcher", "parse"]
