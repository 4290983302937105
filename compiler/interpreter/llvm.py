"""The `llvm` dialect: the oracle of the last lowering.

Pointers are addresses (Python ints or numpy int64) into the machine's AddressSpace (llvm_memory.py). Structs are
tuples. Undefined and poison values are NaN or a pattern. `host.barrier` and `host.next_share` are the team's, whatever
their bodies say.
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
from stepwell.compiler.interpreter.llvm_memory import is_pointer, undefined, zero
from stepwell.compiler.interpreter.machine import CALLABLES
from stepwell.compiler.interpreter.math import EXACT, ROUNDED_ONCE, fused_multiply_add, through_float64
from stepwell.compiler.interpreter.rules import RULES, Evaluate, Fault, emitter, rule, unsupported
from stepwell.compiler.interpreter.scf import emit_call, finish_function
from stepwell.compiler.interpreter.translate import Writer
from stepwell.compiler.interpreter.values import Array, dtype_of, element_of, scalar_of
from stepwell.compiler.interpreter.vector import shuffle

Declared = Callable[[Any], Evaluate]

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
    if name == "host.next_share":
        writer.line(f"{writer.define(op.results[0])} = C.next_share()")
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


for _kind in ("ps", "pd"):
    rule(f"llvm.intr.x86.avx512.mask.scalef.{_kind}")(RULES["x86vector.avx512.mask.scalef"])


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
