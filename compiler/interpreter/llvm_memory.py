"""The `llvm` dialect's memory: addresses, loads and stores, atomics, globals.

Every access is checked against the block it should lie in, and against the alignment that it claims.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from xdsl.dialects import llvm
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, VectorType
from xdsl.ir import Attribute, Operation

from stepwell.compiler.interpreter.address_space import AddressSpace
from stepwell.compiler.interpreter.arith import dense_array, greater, lesser
from stepwell.compiler.interpreter.rules import Evaluate, Fault, emitter, rule, unsupported
from stepwell.compiler.interpreter.translate import Writer
from stepwell.compiler.interpreter.values import Array, dtype_of, element_of, poison, scalar_of

ADDRESS = np.dtype(np.int64)

# Types.


def is_pointer(type: Attribute) -> bool:
    """Whether this is a pointer, or a vector of pointers."""
    return isinstance(element_of(type), llvm.LLVMPointerType)


def memory_dtype(type: Attribute) -> np.dtype[Any]:
    """The dtype of a type's elements in memory."""
    return ADDRESS if is_pointer(type) else dtype_of(element_of(type))


def byte_size(type: Attribute) -> int:
    """Bytes of a type in memory, arrays and vectors included. Raises UnsupportedError for structs."""
    if isinstance(type, llvm.LLVMArrayType):
        return type.size.data * byte_size(type.type)
    lanes = type.get_shape()[0] if isinstance(type, VectorType) else 1
    return lanes * memory_dtype(type).itemsize


def undefined(type: Attribute) -> Any:
    """Poison of any llvm type."""
    if isinstance(type, llvm.LLVMStructType):
        return tuple(undefined(part) for part in type.types)
    if isinstance(type, VectorType):
        return poison(memory_dtype(type), type.get_shape())
    return 0xA5A5A5A5 if is_pointer(type) else poison(dtype_of(type))[()]


def zero(type: Attribute) -> Any:
    """Zero of any llvm type."""
    if isinstance(type, llvm.LLVMStructType):
        return tuple(zero(part) for part in type.types)
    if isinstance(type, VectorType):
        return np.zeros(type.get_shape(), memory_dtype(type))
    return 0 if is_pointer(type) else scalar_of(type, 0)


# Addresses and accesses.


@rule("llvm.ptrtoint")
def ptrtoint(op: llvm.PtrToIntOp) -> Evaluate:
    type = op.output.type
    return lambda address: scalar_of(type, address)


@rule("llvm.inttoptr")
def inttoptr(op: llvm.IntToPtrOp) -> Evaluate:
    return int


@rule("llvm.addrspacecast")
def addrspacecast(op: Operation) -> Evaluate:
    """All address spaces are one memory here."""
    return int


@rule("llvm.getelementptr")
def getelementptr(op: Any) -> Evaluate:
    raw = op.properties["rawConstantIndices"].get_values()
    element = op.properties["elem_type"]
    sizes = [byte_size(element)]
    for _ in raw[1:]:
        if not isinstance(element, llvm.LLVMArrayType):
            raise unsupported(op, f"an index into {element}")
        element = element.type
        sizes.append(byte_size(element))
    fixed = sum(int(index) * size for index, size in zip(raw, sizes, strict=True) if index != llvm.GEP_USE_SSA_VAL)
    steps = [size for index, size in zip(raw, sizes, strict=True) if index == llvm.GEP_USE_SSA_VAL]
    if not steps:
        return lambda base: base + fixed

    def address(base: Any, *indices: Any) -> Any:
        for index, step in zip(indices, steps, strict=True):
            wide = index.astype(ADDRESS) if isinstance(index, np.ndarray) else int(index)
            base = base + wide * step
        return base + fixed

    return address


def _alignment(op: Any) -> int:
    stated = op.properties.get("alignment")
    return stated.value.data if stated is not None else 1


def load_from(space: AddressSpace, type: Attribute, alignment: int) -> Evaluate:
    """A function from an address to the value of `type` there."""
    dtype = memory_dtype(type)
    if isinstance(type, VectorType):
        lanes = type.get_shape()[0]
        return lambda address: space.vector(address, dtype, lanes, alignment).copy()
    if isinstance(type, llvm.LLVMPointerType):
        return lambda address: int(space.read(address, dtype, alignment))
    return lambda address: space.read(address, dtype, alignment)


def _with_memory(declare: Callable[[Any, AddressSpace], Evaluate]) -> Callable[[Writer, Operation], None]:
    """An emitter from a rule that also needs the machine's memory."""

    def emit(writer: Writer, op: Operation) -> None:
        function = writer.constant(declare(op, writer.machine.memory), "f")
        arguments = ", ".join([writer.name(value) for value in op.operands])
        targets = ", ".join([writer.define(result) for result in op.results])
        writer.line((f"{targets} = " if targets else "") + f"{function}({arguments})")

    return emit


@emitter("llvm.load")
@_with_memory
def load(op: llvm.LoadOp, space: AddressSpace) -> Evaluate:
    return load_from(space, op.results[0].type, _alignment(op))


@emitter("llvm.store")
@_with_memory
def store(op: llvm.StoreOp, space: AddressSpace) -> Evaluate:
    type, alignment = op.value.type, _alignment(op)
    dtype = memory_dtype(type)
    if isinstance(type, VectorType):
        lanes = type.get_shape()[0]

        def write(value: Array, address: Any) -> None:
            space.vector(address, dtype, lanes, alignment)[...] = value

        return write
    return lambda value, address: space.write(address, dtype, value, alignment)


@emitter("llvm.alloca")
@_with_memory
def alloca(op: llvm.AllocaOp, space: AddressSpace) -> Evaluate:
    size, alignment = byte_size(op.elem_type), max(16, _alignment(op))
    return lambda count: space.allocate(int(count) * size, alignment)


emitter("llvm.intr.stacksave")(_with_memory(lambda op, space: lambda: 0))
rule("llvm.intr.stackrestore")(lambda op: lambda pointer: None)


def _lanes(mask: Array) -> list[int]:
    return [int(lane) for lane in np.flatnonzero(mask)]


@emitter("llvm.intr.masked.load")
@_with_memory
def masked_load(op: Any, space: AddressSpace) -> Evaluate:
    dtype, alignment, default = memory_dtype(op.res.type), _alignment(op), undefined(op.res.type)

    def read(address: Any, mask: Array, otherwise: Array = default) -> Array:
        result: Array = np.array(otherwise)
        for lane in _lanes(mask):
            result[lane] = space.read(address + lane * dtype.itemsize, dtype, min(alignment, dtype.itemsize))
        return result

    return read


@emitter("llvm.intr.masked.store")
@_with_memory
def masked_store(op: Any, space: AddressSpace) -> Evaluate:
    dtype, alignment = memory_dtype(op.value.type), _alignment(op)

    def write(value: Array, address: Any, mask: Array) -> None:
        for lane in _lanes(mask):
            place = address + lane * dtype.itemsize
            space.write(place, dtype, value[lane], min(alignment, dtype.itemsize))

    return write


@emitter("llvm.intr.masked.gather")
@_with_memory
def gather(op: Any, space: AddressSpace) -> Evaluate:
    dtype, alignment, default = memory_dtype(op.res.type), _alignment(op), undefined(op.res.type)

    def read(addresses: Array, mask: Array, otherwise: Array = default) -> Array:
        result: Array = np.array(otherwise)
        for lane in _lanes(mask):
            result[lane] = space.read(addresses[lane], dtype, alignment)
        return result

    return read


@emitter("llvm.intr.masked.scatter")
@_with_memory
def scatter(op: Any, space: AddressSpace) -> Evaluate:
    dtype, alignment = memory_dtype(op.value.type), _alignment(op)

    def write(value: Array, addresses: Array, mask: Array) -> None:
        for lane in _lanes(mask):
            space.write(addresses[lane], dtype, value[lane], alignment)

    return write


@emitter("llvm.intr.memcpy", "llvm.intr.memmove")
@_with_memory
def memcpy(op: Operation, space: AddressSpace) -> Evaluate:
    may_overlap = op.name.endswith("move")

    def copy(target: Any, source: Any, length: Any) -> None:
        target, source, length = int(target), int(source), int(length)
        if not length:
            return
        if not may_overlap and target != source and abs(target - source) < length:
            raise Fault(f"{length} bytes are copied onto themselves, {target - source} bytes further")
        space.bytes_at(target, length)[...] = space.bytes_at(source, length).copy()

    return copy


@emitter("llvm.intr.memset")
@_with_memory
def memset(op: Operation, space: AddressSpace) -> Evaluate:
    def fill(target: Any, value: Any, length: Any) -> None:
        if int(length):
            space.bytes_at(int(target), int(length))[...] = int(value) & 0xFF

    return fill


ATOMIC: dict[int, Evaluate] = {
    0: lambda old, new: new, 1: operator.add, 2: operator.sub, 3: operator.and_, 5: operator.or_,
    6: operator.xor, 7: greater, 8: lesser, 11: operator.add, 12: operator.sub,
}  # fmt: skip
"""By llvm.AtomicBinOp: xchg add sub and (nand) or xor max min, fadd fsub."""


@emitter("llvm.atomicrmw")
@_with_memory
def atomicrmw(op: Any, space: AddressSpace) -> Evaluate:
    kind = op.bin_op.value.data
    if kind not in ATOMIC:
        raise unsupported(op, f"atomic operation {kind}")
    dtype, combine = memory_dtype(op.results[0].type), ATOMIC[kind]

    def update(address: Any, value: Any) -> Any:
        old = space.read(address, dtype, dtype.itemsize)
        space.write(address, dtype, combine(old, value))
        return old

    return update


@emitter("llvm.cmpxchg")
@_with_memory
def cmpxchg(op: Any, space: AddressSpace) -> Evaluate:
    dtype = memory_dtype(op.cmp.type)

    def exchange(address: Any, expected: Any, value: Any) -> Any:
        old = space.read(address, dtype, dtype.itemsize)
        if old == expected:
            space.write(address, dtype, value)
        return old, np.bool_(old == expected)

    return exchange


rule("llvm.fence")(lambda op: lambda: None)


@emitter("llvm.mlir.addressof")
def addressof(writer: Writer, op: llvm.AddressOfOp) -> None:
    machine, name = writer.machine, op.global_name.root_reference.data
    if name not in machine.globals:
        declared = machine.symbol(name)
        if not isinstance(declared, llvm.GlobalOp):
            raise unsupported(op, f"@{name} is no llvm.mlir.global")
        address = machine.memory.allocate(byte_size(declared.global_type), 64)
        if isinstance(declared.value, DenseIntOrFPElementsAttr):
            data = np.ascontiguousarray(dense_array(declared.value)).reshape(-1).view(np.uint8)
            machine.memory.bytes_at(address, len(data))[...] = data
        elif declared.value is not None:
            raise unsupported(declared, f"a global of {declared.value}")
        machine.globals[name] = writer.constant(address)
    writer.alias(op.result, machine.globals[name])
