"""`gpu`: a launch on numpy, all threads of all blocks in lock step; each value is a number or one per thread.

    launch(function, inputs, results)       runs a kernel; results are written in place

A condition that differs between threads runs both sides under masks, a loop goes on while any thread is in it.
What would only sometimes go wrong on a GPU is an error here, always: a barrier or a shuffle that not all threads
reach, reads of shared memory that another thread writes before the next barrier (and the other ways round),
accesses that are out of bounds or not aligned, an element of a result that is written twice or never.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
from xdsl.dialects import arith, gpu, memref, scf, vector
from xdsl.dialects.builtin import DenseArrayBase, IndexType, MemRefType, VectorType
from xdsl.ir import Attribute, Block, Operation, SSAValue

from stepwell.compiler.interpreter.arith import constant_array
from stepwell.compiler.interpreter.machine import Machine
from stepwell.compiler.interpreter.rules import RULES, Evaluate, Fault, InterpreterError, describe, unsupported
from stepwell.compiler.interpreter.values import Array, dtype_of, poison, scalar_of
from stepwell.dialects.upstream import core
from stepwell.dialects.upstream import gpu as upstream_gpu
from stepwell.lowering.gpu import geometry

WARP = 32
NOBODY = -1
EVERYBODY = -2


def launch(function: gpu.FuncOp, inputs: Sequence[Any], results: Sequence[Array]) -> None:
    """Run a kernel on arrays and numbers. Raises InterpreterError, which names the op, for what has no meaning."""
    blocks = geometry.grid_of(function, geometry.sizes_of(function, inputs))
    written = [_Global(result, True) for result in results]
    if blocks:
        machine = _Machine(blocks, geometry.threads_of(function))
        values: list[Any] = []
        for value, kind in zip(inputs, function.function_type.inputs, strict=False):
            values.append(_argument(value, kind))
        values += [*written, *geometry.passed_sizes(function, inputs)]
        block = function.body.block
        machine.values.update(zip(block.args, values, strict=True))
        with np.errstate(all="ignore"):
            machine.run(block)
    for number, result in enumerate(written):
        missing = np.flatnonzero(result.writers == NOBODY)
        if missing.size:
            raise InterpreterError(f"element {missing[0]} of result {number} is not written", function)


def _argument(value: Any, kind: Attribute) -> Any:
    if not isinstance(kind, MemRefType):
        return scalar_of(kind, value)
    array = np.ascontiguousarray(value)
    expected = dtype_of(kind.element_type)
    if array.dtype != expected:
        raise TypeError(f"expected an array of {expected} for {kind}, got {array.dtype}")
    return _Global(array, False)


class _Global:
    """A tensor in global memory, flat."""

    def __init__(self, array: Array, is_result: bool) -> None:
        if not array.flags.c_contiguous:
            raise ValueError("tensors in global memory are contiguous")
        self.array: Array = array.reshape(-1)
        self.is_result = is_result
        self.writers = np.full(self.array.shape, NOBODY) if is_result else np.empty(0, np.int64)

    def sized(self, count: int) -> _Global:
        if count != len(self.array):
            raise Fault(f"a tensor of {len(self.array)} elements is taken for one of {count}")
        return self

    def places(self, machine: _Machine, index: Array, lanes: Array) -> Array:
        """The elements that threads mean, checked."""
        size = len(self.array)
        bad = (index < 0) | (index >= size)
        if bad.any():
            raise Fault(f"thread {lanes[np.argmax(bad)]} accesses element {index[bad][0]} of {size}")
        return index

    def read(self, machine: _Machine, places: Array, lanes: Array) -> Array:
        found: Array = self.array[places]
        if self.is_result:
            raise Fault("a kernel reads its own result")
        return found

    def write(self, machine: _Machine, places: Array, lanes: Array, values: Array) -> None:
        if not self.is_result:
            raise Fault("a kernel writes its input")
        if (self.writers[places] != NOBODY).any() or len(np.unique(places)) != len(places):
            raise Fault("an element of a result is written twice")
        self.writers[places] = lanes
        self.array[places] = values


class Team(Protocol):
    """What memory must know of the threads that use it."""

    threads: int
    epoch: int


class Shared:
    """Memory of each block, with who has read and written each element since the last barrier."""

    def __init__(self, blocks: int, count: int, dtype: np.dtype[Any]) -> None:
        self.count = count
        self.array = poison(dtype, (blocks * count,)).copy()
        self.readers, self.read_at = np.full(blocks * count, NOBODY), np.full(blocks * count, -1)
        self.writers, self.written_at = np.full(blocks * count, NOBODY), np.full(blocks * count, -1)

    def places(self, machine: Team, index: Array, lanes: Array) -> Array:
        """The elements that threads mean, checked."""
        bad = (index < 0) | (index >= self.count)
        if bad.any():
            raise Fault(f"thread {lanes[np.argmax(bad)]} accesses element {index[bad][0]} of {self.count} shared ones")
        found: Array = lanes // machine.threads * self.count + index
        return found

    def read(self, machine: Team, places: Array, lanes: Array) -> Array:
        if ((self.written_at[places] == machine.epoch) & (self.writers[places] != lanes)).any():
            raise Fault("shared memory is read that another thread has written since the last barrier")
        others = (self.read_at[places] == machine.epoch) & (self.readers[places] != lanes)
        again = np.zeros(len(self.readers), np.int64)
        np.add.at(again, places, 1)
        self.readers[places] = np.where(others | (again[places] > 1), EVERYBODY, lanes)
        self.read_at[places] = machine.epoch
        found: Array = self.array[places]
        return found

    def write(self, machine: Team, places: Array, lanes: Array, values: Array) -> None:
        read = (self.read_at[places] == machine.epoch) & (self.readers[places] != lanes)
        written = (self.written_at[places] == machine.epoch) & (self.writers[places] != lanes)
        if read.any() or written.any() or len(np.unique(places)) != len(places):
            raise Fault("shared memory is written that another thread has used since the last barrier")
        self.writers[places], self.written_at[places] = lanes, machine.epoch
        self.array[places] = values


class _Machine:
    """The threads of a launch: their values, and which of them are running."""

    def __init__(self, blocks: int, threads: int) -> None:
        self.blocks, self.threads = blocks, threads
        self.count = blocks * threads
        self.values: dict[SSAValue, Any] = {}
        self.active = np.ones(self.count, np.bool_)
        self.epoch = 0
        self._rules: dict[Operation, Evaluate] = {}

    def run(self, block: Block) -> Operation | None:
        """All ops of a block on the active threads; its terminator."""
        for op in block.ops:
            if isinstance(op, (scf.YieldOp, gpu.ReturnOp)):
                return op
            try:
                step = STEPS.get(type(op))
                if step is not None:
                    step(self, op)
                else:
                    self._compute(op)
            except InterpreterError:
                raise
            except (Fault, ValueError, TypeError, IndexError) as error:
                raise InterpreterError(f"{describe(op)}: {error}", op) from error
        return None

    def _compute(self, op: Operation) -> None:
        """An op on numbers, by the rule that all levels share, for the active threads."""
        rule = self._rules.get(op)
        if rule is None:
            declared = RULES.get(op.name)
            if declared is None:
                raise unsupported(op)
            rule = self._rules[op] = declared(op)
        given = [self.values[operand] for operand in op.operands]
        if self.active.all() or not any(isinstance(value, np.ndarray) for value in given):
            found = rule(*given)
        else:
            lanes = self.lanes()
            found = self._spread(rule(*[v[lanes] if isinstance(v, np.ndarray) else v for v in given]), lanes)
        for result, value in zip(op.results, found if isinstance(found, tuple) else (found,), strict=True):
            self.values[result] = value

    def lanes(self) -> Array:
        """The numbers of the active threads."""
        return np.flatnonzero(self.active)

    def _spread(self, found: Any, lanes: Array) -> Any:
        """Values of the active threads as values of all."""
        if isinstance(found, tuple):
            return tuple(self._spread(value, lanes) for value in found)
        value = np.asarray(found)
        whole = poison(value.dtype, (self.count, *value.shape[1:])).copy()
        whole[lanes] = value
        return whole

    def every(self, value: Any) -> Array:
        """A value as one per thread."""
        array = np.asarray(value)
        return array if array.ndim else np.broadcast_to(array, (self.count,))

    def merged(self, where: Array, new: Any, old: Any) -> Any:
        """New values for some threads."""
        if new is old:
            return old
        a, b = self.every(new), self.every(old)
        return np.where(where, a, b.astype(a.dtype, copy=False))


def _thread_id(machine: _Machine, op: Operation) -> None:
    machine.values[op.results[0]] = np.arange(machine.count) % machine.threads


def _block_id(machine: _Machine, op: Operation) -> None:
    machine.values[op.results[0]] = np.arange(machine.count) // machine.threads


def _constant(machine: _Machine, op: Operation) -> None:
    machine.values[op.results[0]] = constant_array(op, op.properties["value"], {})


def _barrier(machine: _Machine, op: Operation) -> None:
    if not machine.active.all():
        raise Fault("not all threads reach this barrier")
    machine.epoch += 1


def _shuffle(machine: _Machine, op: Operation) -> None:
    assert isinstance(op, upstream_gpu.ShuffleOp)
    if op.mode.data != upstream_gpu.ShuffleMode.XOR:
        raise unsupported(op, f"mode {op.mode.data.value}")
    value, offset, width = (machine.values[operand] for operand in op.operands)
    if not machine.active.all():
        raise Fault("not all threads reach this shuffle")
    if width != WARP or machine.threads % WARP:
        raise Fault("shuffles are of whole warps")
    lanes = np.arange(machine.count)
    machine.values[op.shuffle_result] = machine.every(value)[lanes ^ int(offset)]
    machine.values[op.valid] = np.bool_(True)


def _alloca(machine: _Machine, op: Operation) -> None:
    kind = cast("MemRefType[Attribute]", op.results[0].type)
    (count,) = kind.get_shape()
    machine.values[op.results[0]] = Shared(machine.blocks, count, dtype_of(kind.element_type))


def _reinterpret_cast(machine: _Machine, op: Operation) -> None:
    source: _Global = machine.values[op.operands[0]]
    static = cast("DenseArrayBase[Any]", op.properties["static_sizes"]).get_values()
    size = static[0] if len(op.operands) == 1 else machine.values[op.operands[1]]
    machine.values[op.results[0]] = source.sized(int(size))


def _load(machine: _Machine, op: Operation) -> None:
    memory, index = (machine.values[operand] for operand in op.operands)
    lanes = machine.lanes()
    places = memory.places(machine, machine.every(index)[lanes], lanes)
    found = memory.read(machine, places, lanes)
    if isinstance(op.results[0].type, IndexType):
        found = found.astype(np.int64)
    machine.values[op.results[0]] = machine._spread(found, lanes)


def _store(machine: _Machine, op: Operation) -> None:
    value, memory, index = (machine.values[operand] for operand in op.operands)
    lanes = machine.lanes()
    places = memory.places(machine, machine.every(index)[lanes], lanes)
    memory.write(machine, places, lanes, machine.every(value)[lanes])


def _vector_places(machine: _Machine, memory: Any, index: Any, kind: Attribute, lanes: Array) -> list[Array]:
    """The elements of each lane of an aligned vector."""
    assert isinstance(kind, VectorType)
    count = kind.get_shape()[0]
    start = machine.every(index)[lanes]
    if (start % count).any():
        raise Fault(f"an access of {count} elements that does not start at a multiple of them")
    return [memory.places(machine, start + step, lanes) for step in range(count)]


def _vector_load(machine: _Machine, op: Operation) -> None:
    memory, index = (machine.values[operand] for operand in op.operands)
    lanes = machine.lanes()
    places = _vector_places(machine, memory, index, op.results[0].type, lanes)
    found = np.stack([memory.read(machine, place, lanes) for place in places], -1)
    machine.values[op.results[0]] = machine._spread(found, lanes)


def _vector_store(machine: _Machine, op: Operation) -> None:
    value, memory, index = (machine.values[operand] for operand in op.operands)
    lanes = machine.lanes()
    places = _vector_places(machine, memory, index, op.operands[0].type, lanes)
    for step, place in enumerate(places):
        memory.write(machine, place, lanes, value[lanes, step])


def _extract(machine: _Machine, op: Operation) -> None:
    position = cast("DenseArrayBase[Any]", op.properties["static_position"]).get_values()
    machine.values[op.results[0]] = machine.values[op.operands[0]][:, int(position[0])]


def _from_elements(machine: _Machine, op: Operation) -> None:
    elements = [machine.every(machine.values[operand]) for operand in op.operands]
    machine.values[op.results[0]] = np.stack(elements, -1)


def _if(machine: _Machine, op: Operation) -> None:
    condition = machine.every(machine.values[op.operands[0]]).astype(np.bool_)
    outer = machine.active
    results: list[Any] = [None] * len(op.results)
    for region, taken in zip(op.regions, (outer & condition, outer & ~condition), strict=True):
        if not region.blocks or not taken.any():
            continue
        machine.active = taken
        end = machine.run(region.block)
        for number, value in enumerate(end.operands if end is not None else ()):
            new = machine.values[value]
            old = results[number] if results[number] is not None else new
            results[number] = machine.merged(taken, new, old)
    machine.active = outer
    for result, value in zip(op.results, results, strict=True):
        machine.values[result] = value


def _for(machine: _Machine, op: Operation) -> None:
    low, high, step, *carried = (machine.values[operand] for operand in op.operands)
    block = op.regions[0].block
    induction, *names = block.args
    outer = machine.active
    while True:
        running = outer & machine.every(np.less(low, high))
        if not running.any():
            break
        machine.active = running
        machine.values[induction] = low
        machine.values.update(zip(names, carried, strict=True))
        end = machine.run(block)
        given = [machine.values[value] for value in end.operands] if end is not None else []
        all_run = running.all()
        carried = [
            new if all_run else machine.merged(running, new, old) for new, old in zip(given, carried, strict=True)
        ]
        low = low + step
    machine.active = outer
    machine.values.update(zip(op.results, carried, strict=True))


STEPS: Mapping[type[Operation], Callable[[_Machine, Operation], None]] = {
    gpu.ThreadIdOp: _thread_id, gpu.BlockIdOp: _block_id, gpu.BarrierOp: _barrier,
    upstream_gpu.ShuffleOp: _shuffle, arith.ConstantOp: _constant,
    memref.AllocaOp: _alloca, memref.ReinterpretCastOp: _reinterpret_cast,
    memref.LoadOp: _load, memref.StoreOp: _store,
    vector.LoadOp: _vector_load, vector.StoreOp: _vector_store,
    vector.ExtractOp: _extract, core.FromElementsOp: _from_elements,
    scf.IfOp: _if, scf.ForOp: _for,
}  # fmt: skip
"""What is not computed on numbers."""


# ------ whole programs

Run = Callable[[gpu.FuncOp, Sequence[Any], Sequence[Array]], None]
"""Launches a kernel on inputs; results are written in place."""

Check = Callable[[gpu.FuncOp, Sequence[Any], Sequence[Array], Sequence[Array]], None]
"""Looks at a launch: the kernel, its inputs, the results that its tile.kernel gives, and those that it gave."""


def shadow(machine: Machine, functions: Sequence[gpu.FuncOp], check: Check, run: Run = launch) -> None:
    """From now on each tile.launch of a machine also launches the kernel's gpu.func, and `check` sees both results.
    The program goes on with those of the tile level."""
    for function in functions:
        name = machine.function(function.sym_name.data)
        machine.namespace[name] = _shadowed(function, machine.namespace[name], check, run)


def _shadowed(function: gpu.FuncOp, reference: Callable[..., Any], check: Check, run: Run) -> Callable[..., Any]:
    def launched(thread: Any, *inputs: Any) -> Any:
        expected = reference(thread, *inputs)
        wanted = [np.ascontiguousarray(value).reshape(np.shape(value)) for value in expected]
        results = [poison(value.dtype, value.shape).copy() for value in wanted]
        run(function, inputs, results)
        check(function, inputs, wanted, results)
        return expected

    return launched
