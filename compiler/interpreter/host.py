"""`host` and `tile`: exceptions, lists, threads and memory; kernels, of which only the body counts here."""

from __future__ import annotations

from typing import Any

import numpy as np
from xdsl.dialects.builtin import MemRefType, TensorType, VectorType
from xdsl.ir import Attribute, Operation

from stepwell.compiler.interpreter.machine import CALLABLES
from stepwell.compiler.interpreter.memref import spoil
from stepwell.compiler.interpreter.rules import Evaluate, ProgramRaise, emitter, rule
from stepwell.compiler.interpreter.scf import emit_call, finish_function
from stepwell.compiler.interpreter.tensor import checked
from stepwell.compiler.interpreter.translate import Writer
from stepwell.compiler.interpreter.values import (
    Array,
    MemRef,
    allocate,
    dtype_of,
    element_of,
    poison,
    scalar_of,
    static_shape,
)
from stepwell.dialects import host, tile
from stepwell.runtime.abi import exception_class

# Leaving.


@rule("host.raise")
def raise_(op: host.RaiseOp) -> Evaluate:
    kind, message = exception_class(op.exception.data), op.message.data

    def leave(*values: Any) -> None:
        plain = [value.item() if isinstance(value, np.generic) else value for value in values]
        raise ProgramRaise(kind(message.format(*plain)))

    return leave


@rule("host.undefined")
def undefined(op: host.UndefinedOp) -> Evaluate:
    value = undefined_value(op.result.type)
    return lambda: value


def undefined_value(type: Attribute) -> Any:
    """Poison of a type; dynamic sizes are 0."""
    if isinstance(type, host.ListType):
        return ()
    if isinstance(type, (TensorType, VectorType, MemRefType)):
        shape = tuple(max(size, 0) for size in type.get_shape())
        dtype = dtype_of(element_of(type))
        return allocate(dtype, shape) if isinstance(type, MemRefType) else poison(dtype, shape)
    dtype = dtype_of(type)
    return scalar_of(type, poison(dtype)[()])


# Lists are tuples: a value stays what it is whoever appends to it.


def _program_error(kind: type[Exception], text: str) -> ProgramRaise:
    return ProgramRaise(kind(text))


def place_in(items: tuple[Any, ...], index: int, message: str) -> int:
    """A Python index as a position. Raises IndexError in the program."""
    position = int(index) + (len(items) if index < 0 else 0)
    if not 0 <= position < len(items):
        raise _program_error(IndexError, message)
    return position


def _get(items: tuple[Any, ...], index: int) -> Any:
    return items[place_in(items, index, "list index out of range")]


def _set(items: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    position = place_in(items, index, "list index out of range")
    return (*items[:position], value, *items[position + 1 :])


def _pop(items: tuple[Any, ...], index: int) -> tuple[tuple[Any, ...], Any]:
    message = "pop index out of range" if items else "pop from empty list"
    position = place_in(items, index, message)
    return items[:position] + items[position + 1 :], items[position]


rule("host.list_new")(lambda op: lambda: ())
rule("host.list_append")(lambda op: lambda items, value: (*items, value))
rule("host.list_length")(lambda op: lambda items: np.int64(len(items)))
rule("host.list_get")(lambda op: _get)
rule("host.list_set")(lambda op: _set)
rule("host.list_pop")(lambda op: _pop)


def _joined(join: Any) -> Any:
    def declared(op: Any) -> Evaluate:
        axis, type = op.dim.value.data, op.result.type

        def run(items: tuple[Array, ...]) -> Array:
            if not items:
                raise _program_error(RuntimeError, "expected a non-empty list of Tensors")
            try:
                result = join(items, axis)
            except ValueError as error:
                raise _program_error(RuntimeError, str(error)) from error
            return checked(result, type)

        return run

    return declared


rule("host.list_concat")(_joined(np.concatenate))
rule("host.list_stack")(_joined(np.stack))


def _elements(op: host.ListElementsOp) -> Evaluate:
    type = op.result.type
    assert isinstance(type, TensorType)

    def run(items: tuple[Any, ...]) -> Array:
        flat = [np.asarray(item).reshape(-1) for item in items]
        joined = np.concatenate(flat) if flat else np.zeros(0)
        shape = (len(items), *type.get_shape()[1:]) if type.get_num_dims() > 1 else (-1,)
        return joined.astype(dtype_of(type.element_type)).reshape(shape)

    return run


def _table(op: host.ListTableOp) -> Evaluate:
    assert isinstance(op.result.type, TensorType)
    columns = op.result.type.get_shape()[1]

    def run(items: tuple[Array, ...]) -> Array:
        starts = np.cumsum([0, *(item.size for item in items)])
        entries = [[start, *item.shape] for start, item in zip(starts, items, strict=False)]
        return np.array(entries, np.int64).reshape(len(items), columns)

    return run


rule("host.list_elements")(_elements)
rule("host.list_table")(_table)

# Threads and memory (loops level).


@emitter("host.thread_id")
def thread_id(writer: Writer, op: host.ThreadIdOp) -> None:
    writer.line(f"{writer.define(op.result)} = C.id")


@emitter("host.thread_count")
def thread_count(writer: Writer, op: host.ThreadCountOp) -> None:
    writer.line(f"{writer.define(op.result)} = C.count")


@emitter("host.next_share")
def next_share(writer: Writer, op: host.NextShareOp) -> None:
    writer.line(f"{writer.define(op.result)} = C.next_share()")


@emitter("host.barrier")
def barrier(writer: Writer, op: host.BarrierOp) -> None:
    writer.line("C.barrier()")


def _collective(writer: Writer, op: Operation, make: Evaluate) -> None:
    sizes = "".join([f"{writer.name(value)}, " for value in op.operands])
    writer.line(f"{writer.define(op.results[0])} = {writer.constant(_shared)}(C, {writer.constant(make)}, ({sizes}))")


def _shared(thread: Any, make: Evaluate, sizes: tuple[int, ...]) -> Any:
    return thread.collective(lambda: make(*sizes))


@emitter("host.alloc")
def alloc(writer: Writer, op: host.AllocOp) -> None:
    type = op.result.type
    dtype = dtype_of(element_of(type))
    _collective(writer, op, lambda *sizes: allocate(dtype, static_shape(type, sizes)))


@emitter("host.reserve")
def reserve(writer: Writer, op: host.ReserveOp) -> None:
    _collective(writer, op, lambda size: allocate(np.dtype(np.int8), (max(int(size), 0),)))


@emitter("host.free")
def free(writer: Writer, op: host.FreeOp) -> None:
    writer.line(f"{writer.constant(_give_back)}(C, {writer.name(op.buffer)})")


def _give_back(thread: Any, buffer: MemRef) -> None:
    # Others of a team may still read it; they arrive later.
    if thread.count == 1:
        spoil(buffer)


# Kernels.

CALLABLES["tile.kernel"] = finish_function


@emitter("tile.launch")
def launch(writer: Writer, op: tile.LaunchOp) -> None:
    emit_call(writer, op, op.kernel.root_reference.data)
