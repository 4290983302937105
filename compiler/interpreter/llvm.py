"""The `llvm` dialect: the oracle of the last lowering.

Pointers are addresses (Python ints or numpy int64) into the machine's AddressSpace; every access is checked
against the block it should lie in, and against the alignment that it claims. Structs are tuples. Undefined and
poison values are NaN or a pattern. `host.barrier` is the team's barrier, whatever its body says.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from xdsl.dialects import llvm
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, FloatAttr, IntegerAttr, VectorType
from xdsl.ir import Attribute, Operation

from stepwell.compiler.interpreter.address_space import AddressSpace
from stepwell.compiler.interpreter.arith import (
    COMPARE_FLOATS,
    COMPARE_INTEGERS,
    Integers,
    compare_integers,
    dense_array,
    greater,
    lesser,
    maximum,
    minimum,
    operand_element,
    result_element,
)
from stepwell.compiler.interpreter.machine import CALLABLES
from stepwell.compiler.interpreter.math import EXACT, ROUNDED_ONCE, fused_multiply_add, through_float64
from stepwell.compiler.interpreter.rules import RULES, Evaluate, Fault, emitter, rule, unsupported
from stepwell.compiler.interpreter.scf import emit_call, finish_function
from stepwell.compiler.interpreter.translate import Writer
from stepwell.compiler.interpreter.values import Array, dtype_of, element_of, poison, scalar_of
from stepwell.compiler.interpreter.vector import shuffle

ADDRESS = np.dtype(np.int64)
Declared = Callable[[Any], Evaluate]

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


# Functions and blocks.

CALLABLES["llvm.func"] = finish_function
emitter("llvm.return")(finish_function)


@emitter("llvm.br")
def branch(writer: Writer, op: llvm.BrOp) -> None:
    writer.jump(op.successors[0], op.operands)


@emitter("llvm.cond_br")
def conditional_branch(writer: Writer, op: llvm.CondBrOp) -> None:
    with writer.indented(f"if {writer.name(op.cond)}:"):
        writer.jump(op.successors[0], op.then_arguments)
    with writer.indented("else:"):
        writer.jump(op.successors[1], op.else_arguments)


@emitter("llvm.switch")
def switch(writer: Writer, op: Any) -> None:
    cases = dense_array(op.case_values).tolist() if op.case_values is not None else []
    lengths = op.case_operand_segments.get_values()
    given = list(op.case_operands)
    for case, target, length in zip(cases, op.successors[1:], lengths, strict=True):
        with writer.indented(f"if {writer.name(op.value)} == {case}:"):
            writer.jump(target, given[:length])
            writer.line("continue")
        given = given[length:]
    writer.jump(op.successors[0], op.default_operands)


@rule("llvm.unreachable")
def unreachable(op: Operation) -> Evaluate:
    def fail() -> None:
        raise Fault("reached")

    return fail


def _malloc(space: AddressSpace, size: Any) -> tuple[int]:
    return (space.allocate(int(size)),)


def _free(space: AddressSpace, address: Any) -> None:
    if address:
        space.free(int(address))


OUTSIDE: dict[str, Evaluate] = {"malloc": _malloc, "free": _free, "sched_yield": lambda space: (0,)}
"""Functions of the C library that programs may call."""

IGNORED_INTRINSICS = ("llvm.x86.sse2.pause", "llvm.aarch64.hint", "llvm.prefetch", "llvm.assume")


@emitter("llvm.call")
def call(writer: Writer, op: llvm.CallOp) -> None:
    if op.callee is None:
        raise unsupported(op, "calls through pointers")
    name = op.callee.root_reference.data
    if name == "host.barrier":
        writer.line("C.barrier()")
        return
    declared = writer.machine.symbols.get(name)
    if declared is not None and declared.regions[0].blocks:
        emit_call(writer, op, name)
        return
    if name not in OUTSIDE:
        raise unsupported(op, f"@{name} is outside the module")
    function = writer.constant(functools.partial(OUTSIDE[name], writer.machine.memory))
    targets = "".join([f"{writer.define(result)}, " for result in op.results])
    writer.line((f"{targets}= " if targets else "") + f"{function}({writer.names(op.operands)})")


@rule("llvm.call_intrinsic")
def call_intrinsic(op: llvm.CallIntrinsicOp) -> Evaluate:
    name = op.intrin.data
    if name in IGNORED_INTRINSICS:
        return lambda *operands: None
    if name in ("llvm.readcyclecounter", "llvm.readsteadycounter"):
        return lambda: np.int64(0)
    known = RULES.get("llvm.intr." + name.removeprefix("llvm.").rsplit(".", 1)[0])
    if known is None:
        raise unsupported(op, name)
    return known(op)


# Constants.


@emitter("llvm.mlir.constant")
def constant(writer: Writer, op: llvm.ConstantOp) -> None:
    value, type = op.value, op.result.type
    if isinstance(value, (IntegerAttr, FloatAttr)):
        number: Any = scalar_of(element_of(type), value.value.data)
        if isinstance(type, VectorType):
            number = np.full(type.get_shape(), number, dtype_of(type.element_type))
    elif isinstance(value, DenseIntOrFPElementsAttr):
        number = dense_array(value)
    else:
        raise unsupported(op, f"a constant of {value}")
    writer.alias(op.result, writer.constant(number))


def _value_of_type(make: Callable[[Attribute], Any]) -> Callable[[Writer, Operation], None]:
    def emit(writer: Writer, op: Operation) -> None:
        writer.alias(op.results[0], writer.constant(make(op.results[0].type)))

    return emit


emitter("llvm.mlir.zero")(_value_of_type(zero))
emitter("llvm.mlir.undef", "llvm.mlir.poison")(_value_of_type(undefined))
rule("llvm.freeze")(lambda op: lambda value: value)

# Integers and floats: what arith and math have under other names.

SAME_AS = {
    "add": "arith.addi", "sub": "arith.subi", "mul": "arith.muli", "udiv": "arith.divui", "sdiv": "arith.divsi",
    "urem": "arith.remui", "srem": "arith.remsi", "and": "arith.andi", "or": "arith.ori", "xor": "arith.xori",
    "shl": "arith.shli", "lshr": "arith.shrui", "ashr": "arith.shrsi", "trunc": "arith.trunci",
    "zext": "arith.extui", "sext": "arith.extsi", "fadd": "arith.addf", "fsub": "arith.subf",
    "fmul": "arith.mulf", "fdiv": "arith.divf", "frem": "arith.remf", "fneg": "arith.negf",
    "fpext": "arith.extf", "fptrunc": "arith.truncf", "fptosi": "arith.fptosi", "fptoui": "arith.fptoui",
    "sitofp": "arith.sitofp", "uitofp": "arith.uitofp", "select": "arith.select", "intr.fma": "math.fma",
    "intr.smin": "arith.minsi", "intr.smax": "arith.maxsi", "intr.umin": "arith.minui",
    "intr.umax": "arith.maxui", "intr.maximum": "arith.maximumf", "intr.minimum": "arith.minimumf",
    "intr.maxnum": "arith.maxnumf", "intr.minnum": "arith.minnumf", "intr.ctpop": "math.ctpop",
    "intr.ctlz": "math.ctlz", "intr.cttz": "math.cttz", "intr.abs": "math.absi",
}  # fmt: skip

for _name, _known in SAME_AS.items():
    rule(f"llvm.{_name}")(RULES[_known])

INTRINSICS: dict[str, Evaluate] = {
    "fabs": EXACT["absf"], "ceil": EXACT["ceil"], "floor": EXACT["floor"], "trunc": EXACT["trunc"],
    "rint": EXACT["roundeven"], "nearbyint": EXACT["roundeven"], "roundeven": EXACT["roundeven"],
    "round": EXACT["round"], "copysign": EXACT["copysign"], "pow": ROUNDED_ONCE["powf"],
    **{name: ROUNDED_ONCE[name] for name in ("sqrt", "exp", "exp2", "log", "log2", "log10", "sin", "cos", "tan",
                                             "tanh")},
}  # fmt: skip


def _declare(name: str, function: Evaluate) -> None:
    rule(f"llvm.intr.{name}")(lambda op: through_float64(function, dtype_of(result_element(op))))


for _name, _function in INTRINSICS.items():
    _declare(_name, _function)


@rule("llvm.intr.fmuladd")
def fmuladd(op: Operation) -> Evaluate:
    return fused_multiply_add


@rule("llvm.icmp")
def icmp(op: llvm.ICmpOp) -> Evaluate:
    predicate = op.predicate.value.data
    if is_pointer(op.lhs.type):
        return COMPARE_INTEGERS[predicate]
    return compare_integers(operand_element(op), predicate)


@rule("llvm.fcmp")
def fcmp(op: llvm.FCmpOp) -> Evaluate:
    return COMPARE_FLOATS[op.predicate.value.data]


@rule("llvm.bitcast")
def bitcast(op: llvm.BitcastOp) -> Evaluate:
    source, target = op.arg.type, op.result.type
    if isinstance(source, llvm.LLVMPointerType):
        return lambda value: value
    dtype, scalar = dtype_of(element_of(target)), not isinstance(target, VectorType)
    if dtype.kind == "b" or dtype_of(element_of(source)).kind == "b":
        return _mask_bits(op, source, target)

    def reinterpret(value: Any) -> Any:
        bits = np.atleast_1d(np.ascontiguousarray(value)).view(dtype)
        return bits[0] if scalar else bits

    return reinterpret


def _mask_bits(op: Operation, source: Attribute, target: Attribute) -> Evaluate:
    """<n x i1> as an integer of n bits: lane k is bit k."""
    if not isinstance(source, VectorType) or isinstance(target, VectorType):
        raise unsupported(op, f"{source} to {target}")

    def pack(lanes: Array) -> Any:
        return scalar_of(target, sum(1 << place for place in np.flatnonzero(lanes).tolist()))

    return pack


# Memory.


@rule("llvm.ptrtoint")
def ptrtoint(op: llvm.PtrToIntOp) -> Evaluate:
    type = op.output.type
    return lambda address: scalar_of(type, address)


@rule("llvm.inttoptr")
def inttoptr(op: llvm.IntToPtrOp) -> Evaluate:
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


# Vectors and structs.


@rule("llvm.extractelement")
def extractelement(op: Operation) -> Evaluate:
    def read(vector: Array, lane: Any) -> Any:
        if not 0 <= lane < len(vector):
            raise Fault(f"lane {lane} of {len(vector)}")
        return vector[int(lane)]

    return read


@rule("llvm.insertelement")
def insertelement(op: llvm.InsertElementOp) -> Evaluate:
    def write(vector: Array, value: Any, lane: Any) -> Array:
        if not 0 <= lane < len(vector):
            raise Fault(f"lane {lane} of {len(vector)}")
        result: Array = np.array(vector)
        result[int(lane)] = value
        return result

    return write


rule("llvm.shufflevector")(shuffle)


@rule("llvm.extractvalue")
def extractvalue(op: llvm.ExtractValueOp) -> Evaluate:
    position = [int(place) for place in op.position.get_values()]
    return lambda container: functools.reduce(operator.getitem, position, container)


@rule("llvm.insertvalue")
def insertvalue(op: llvm.InsertValueOp) -> Evaluate:
    position = [int(place) for place in op.position.get_values()]

    def write(container: Any, value: Any, at: int = 0) -> Any:
        if at == len(position):
            return value
        place = position[at]
        return (*container[:place], write(container[place], value, at + 1), *container[place + 1 :])

    return write


REDUCTIONS: dict[str, Evaluate] = {
    "add": operator.add, "mul": operator.mul, "and": operator.and_, "or": operator.or_, "xor": operator.xor,
    "smax": greater, "smin": lesser, "umax": greater, "umin": lesser, "fmax": np.fmax, "fmin": np.fmin,
    "fmaximum": maximum, "fminimum": minimum,
}  # fmt: skip
ON_BITS = {"add": operator.xor, "mul": operator.and_, "smax": operator.and_, "smin": operator.or_}


def _reduction(name: str) -> Declared:
    def declared(op: Operation) -> Evaluate:
        if name.startswith("f"):
            return lambda lanes: functools.reduce(REDUCTIONS[name], lanes)
        kind = Integers(operand_element(op))
        combine = ON_BITS.get(name, REDUCTIONS[name]) if kind.is_bool else REDUCTIONS[name]
        if name in ("umax", "umin"):
            return lambda lanes: kind.back(functools.reduce(combine, kind.unsigned(lanes)))
        return lambda lanes: functools.reduce(combine, lanes)

    return declared


for _name in REDUCTIONS:
    rule(f"llvm.intr.vector.reduce.{_name}")(_reduction(_name))


def _from_start(combine: Evaluate) -> Declared:
    """In lane order from the start value on, which `reassoc` would leave open."""
    return lambda op: lambda start, lanes: functools.reduce(combine, lanes, start)


rule("llvm.intr.vector.reduce.fadd")(_from_start(operator.add))
rule("llvm.intr.vector.reduce.fmul")(_from_start(operator.mul))
