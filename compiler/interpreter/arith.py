"""`arith`: integers wrap at their width, floats round to their type at every op.

Where LLVM leaves a result open, this interpreter answers:

- division or remainder by zero, and the most negative number divided by -1: an error (the hardware traps);
- a shift by the width or more: 0, or all sign bits for `shrsi`;
- a float that does not fit the integer it is converted to: what numpy's cast gives (on x86 the instruction's
  answer, mostly the most negative number).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects.builtin import (
    DenseIntOrFPElementsAttr,
    DenseResourceAttr,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
)
from xdsl.ir import Attribute, Operation

from stepwell.compiler.interpreter.rules import Evaluate, Fault, emitter, rule, unsupported
from stepwell.compiler.interpreter.translate import Writer
from stepwell.compiler.interpreter.values import Array, dtype_of, element_of, scalar_of


class Integers:
    """How values of one integer type (or index) are read as signed and unsigned and written back.

    i1 is held as bool but counts as 0 and -1 where signs matter, as in MLIR.
    """

    def __init__(self, type: Attribute) -> None:
        self.is_index = isinstance(type, IndexType)
        self.width = type.width.data if isinstance(type, IntegerType) else 64
        self.dtype = dtype_of(type)
        self.is_bool = self.width == 1
        self.is_exact = self.width in (1, 8, 16, 32, 64)
        self.compute = np.dtype(np.int8) if self.is_bool else self.dtype
        self.unsigned_dtype = np.dtype(f"u{self.compute}")
        self.mask = (1 << self.width) - 1
        self.lowest = -(1 << (self.width - 1))

    def signed(self, value: Any) -> Any:
        """The value as a signed number."""
        if self.is_bool:
            return -np.asarray(value).astype(np.int8)[()]
        return value

    def unsigned(self, value: Any) -> Any:
        """The value's bits as an unsigned number."""
        if isinstance(value, int) and not isinstance(value, bool):
            return value & self.mask
        if self.is_bool:
            return np.asarray(value).astype(np.uint8)[()]
        bits = value.view(self.unsigned_dtype)
        return bits if self.is_exact else bits & self.unsigned_dtype.type(self.mask)

    def back(self, value: Any) -> Any:
        """A signed or unsigned result, wrapped to the width."""
        if isinstance(value, int):
            return value if self.lowest <= value < -self.lowest else ((value - self.lowest) & self.mask) + self.lowest
        if self.is_bool:
            return (value & 1).astype(np.bool_)
        value = value.astype(self.compute, copy=False)
        if self.is_exact:
            return value
        shift = self.compute.type(self.compute.itemsize * 8 - self.width)
        return (value << shift) >> shift


def result_element(op: Operation) -> Attribute:
    """The element type of an op's first result."""
    return element_of(op.results[0].type)


def operand_element(op: Operation) -> Attribute:
    """The element type of an op's first operand."""
    return element_of(op.operands[0].type)


def is_zero_anywhere(value: Any) -> bool:
    """Whether a scalar is 0 or an array has a 0."""
    return bool((value == 0).any()) if isinstance(value, np.ndarray) else bool(value == 0)


# Constants.


def constant_array(op: Operation, value: Attribute, resources: Any) -> Any:
    """The value of a constant's attribute: a scalar or a (read-only) array."""
    if isinstance(value, IntegerAttr):
        return scalar_of(value.type, value.value.data)
    if isinstance(value, FloatAttr):
        return scalar_of(value.type, value.value.data)
    if isinstance(value, DenseIntOrFPElementsAttr):
        return dense_array(value)
    if isinstance(value, DenseResourceAttr):
        name = value.resource_handle.data
        if name not in resources:
            raise unsupported(op, f"no resource is named {name!r}")
        data: Array = np.asarray(resources[name])
        dtype, shape = dtype_of(value.type.element_type), value.type.get_shape()  # type: ignore[attr-defined]
        if data.dtype == np.uint8 and dtype == np.int8:
            data = data.view(np.int8)
        if data.dtype != dtype or data.shape != shape:
            raise unsupported(op, f"resource {name!r} is {data.dtype}{list(data.shape)}, not {value.type}")
        return data
    raise unsupported(op, f"a constant of {value}")


def dense_array(value: DenseIntOrFPElementsAttr[Any]) -> Array:
    """The array of a dense attribute."""
    element, shape = value.type.get_element_type(), value.type.get_shape()
    dtype = dtype_of(element)
    data = np.frombuffer(value.data.data, np.uint8 if dtype.kind == "b" else dtype)
    if dtype.kind == "b":
        data = data != 0
    if len(data) == 1 and int(np.prod(shape)) != 1:
        data = np.broadcast_to(data, int(np.prod(shape)))
    return data.reshape(shape)


@emitter("arith.constant")
def constant(writer: Writer, op: arith.ConstantOp) -> None:
    writer.alias(op.result, writer.constant(constant_array(op, op.value, writer.machine.resources)))


# Integers.


def _ring(on_numbers: Evaluate, on_bits: Evaluate) -> Callable[[Operation], Evaluate]:
    """Addition, subtraction, multiplication: signs do not matter; on one bit they are xor and and."""

    def declared(op: Operation) -> Evaluate:
        kind = Integers(result_element(op))
        if kind.is_bool:
            return on_bits
        if kind.is_exact:
            return on_numbers
        return lambda a, b: kind.back(on_numbers(a, b))

    return declared


rule("arith.addi")(_ring(operator.add, operator.xor))
rule("arith.subi")(_ring(operator.sub, operator.xor))
rule("arith.muli")(_ring(operator.mul, operator.and_))
rule("arith.andi")(lambda op: operator.and_)
rule("arith.ori")(lambda op: operator.or_)
rule("arith.xori")(lambda op: operator.xor)


def divide_truncating(a: Any, b: Any) -> Any:
    """a / b rounded towards zero. Raises Fault for a zero divisor."""
    if is_zero_anywhere(b):
        raise Fault("division by zero")
    quotient = a // b
    rest = a - quotient * b
    return quotient + ((rest != 0) & ((a < 0) != (b < 0)))


def remainder_truncating(a: Any, b: Any) -> Any:
    """a - b * trunc(a / b): the sign of a."""
    return a - divide_truncating(a, b) * b


def divide_floor(a: Any, b: Any) -> Any:
    """a / b rounded down."""
    if is_zero_anywhere(b):
        raise Fault("division by zero")
    return a // b


def divide_ceiling(a: Any, b: Any) -> Any:
    """a / b rounded up."""
    quotient = divide_floor(a, b)
    return quotient + (a - quotient * b != 0)


def remainder_floor(a: Any, b: Any) -> Any:
    """The remainder of the division rounded down, for unsigned numbers."""
    if is_zero_anywhere(b):
        raise Fault("division by zero")
    return a % b


def _signed_division(function: Evaluate) -> Callable[[Operation], Evaluate]:
    def declared(op: Operation) -> Evaluate:
        kind = Integers(result_element(op))

        def divide(a: Any, b: Any) -> Any:
            a, b = kind.signed(a), kind.signed(b)
            overflow = (a == kind.lowest) & (b == -1)
            if overflow.any() if isinstance(overflow, np.ndarray) else overflow:
                raise Fault(f"{kind.lowest} divided by -1 overflows")
            return kind.back(function(a, b))

        return function if kind.is_index else divide

    return declared


def _unsigned(function: Evaluate) -> Callable[[Operation], Evaluate]:
    def declared(op: Operation) -> Evaluate:
        kind = Integers(result_element(op))
        return lambda a, b: kind.back(function(kind.unsigned(a), kind.unsigned(b)))

    return declared


rule("arith.divsi")(_signed_division(divide_truncating))
rule("arith.remsi")(_signed_division(remainder_truncating))
rule("arith.floordivsi")(_signed_division(divide_floor))
rule("arith.ceildivsi")(_signed_division(divide_ceiling))
rule("arith.divui")(_unsigned(divide_floor))
rule("arith.remui")(_unsigned(remainder_floor))
rule("arith.ceildivui")(_unsigned(divide_ceiling))


def lesser(a: Any, b: Any) -> Any:
    """The smaller of two numbers that are ordered (no NaN)."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.minimum(a, b)
    return b if b < a else a


def greater(a: Any, b: Any) -> Any:
    """The larger of two numbers that are ordered (no NaN)."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.maximum(a, b)
    return b if b > a else a


def _signed(function: Evaluate) -> Callable[[Operation], Evaluate]:
    def declared(op: Operation) -> Evaluate:
        kind = Integers(result_element(op))
        if not kind.is_bool:
            return function
        return lambda a, b: kind.back(function(kind.signed(a), kind.signed(b)))

    return declared


rule("arith.minsi")(_signed(lesser))
rule("arith.maxsi")(_signed(greater))
rule("arith.minui")(_unsigned(lesser))
rule("arith.maxui")(_unsigned(greater))


def _shift(name: str) -> Callable[[Operation], Evaluate]:
    def declared(op: Operation) -> Evaluate:
        kind = Integers(result_element(op))

        def shift(a: Any, amount: Any) -> Any:
            amount = kind.unsigned(amount)
            too_far = amount >= kind.width
            amount = choose(too_far, kind.width - 1, amount)
            if name == "shrsi":
                a = kind.signed(a)
                return kind.back(a >> (amount if kind.is_index else np.asarray(amount).astype(kind.compute)[()]))
            a = kind.unsigned(a)
            if not isinstance(a, int):
                amount = np.asarray(amount).astype(kind.unsigned_dtype)[()]
            shifted = a << amount if name == "shli" else a >> amount
            return kind.back(choose(too_far, shifted & 0, shifted))

        return shift

    return declared


for _name in ("shli", "shrsi", "shrui"):
    rule(f"arith.{_name}")(_shift(_name))

COMPARE_INTEGERS = (
    operator.eq, operator.ne,
    operator.lt, operator.le, operator.gt, operator.ge,
    operator.lt, operator.le, operator.gt, operator.ge,
)  # fmt: skip
"""By predicate number: eq ne, slt sle sgt sge, ult ule ugt uge."""


def compare_integers(type: Attribute, predicate: int) -> Evaluate:
    """The function of an integer comparison."""
    kind, compare = Integers(type), COMPARE_INTEGERS[predicate]
    if predicate < 2 or (predicate < 6 and not kind.is_bool):
        return compare
    if predicate < 6:
        return lambda a, b: compare(kind.signed(a), kind.signed(b))
    return lambda a, b: compare(kind.unsigned(a), kind.unsigned(b))


@rule("arith.cmpi")
def cmpi(op: arith.CmpiOp) -> Evaluate:
    return compare_integers(operand_element(op), op.predicate.value.data)


def _extended_sum(op: arith.AddUIExtendedOp) -> Evaluate:
    kind = Integers(result_element(op))

    def add(a: Any, b: Any) -> Any:
        total = kind.unsigned(kind.back(kind.unsigned(a) + kind.unsigned(b)))
        return kind.back(total), total < kind.unsigned(a)

    return add


rule("arith.addui_extended")(_extended_sum)


def _extended_product(signed: bool) -> Callable[[Operation], Evaluate]:
    def declared(op: Operation) -> Evaluate:
        kind = Integers(result_element(op))

        def multiply(a: Any, b: Any) -> Any:
            read = kind.signed if signed else kind.unsigned
            product = np.asarray(read(a)).astype(object) * np.asarray(read(b)).astype(object)

            def part(shift: int) -> Any:
                bits = np.asarray((product >> shift) & kind.mask, dtype=object).astype(np.uint64)
                return kind.back(bits.astype(kind.unsigned_dtype))[()]

            return part(0), part(kind.width)

        return multiply

    return declared


rule("arith.mului_extended")(_extended_product(False))
rule("arith.mulsi_extended")(_extended_product(True))

# Floats.

rule("arith.addf")(lambda op: operator.add)
rule("arith.subf")(lambda op: operator.sub)
rule("arith.mulf")(lambda op: operator.mul)
rule("arith.divf")(lambda op: operator.truediv)
rule("arith.remf")(lambda op: np.fmod)
rule("arith.negf")(lambda op: operator.neg)


def maximum(a: Any, b: Any) -> Any:
    """IEEE maximum: NaN if either is NaN, and +0 above -0."""
    return np.where((a == b) & (a == 0), a + b, np.maximum(a, b))[()]


def minimum(a: Any, b: Any) -> Any:
    """IEEE minimum: NaN if either is NaN, and -0 below +0."""
    return np.where((a == b) & (a == 0), -(-a + -b), np.minimum(a, b))[()]


rule("arith.maximumf")(lambda op: maximum)
rule("arith.minimumf")(lambda op: minimum)
rule("arith.maxnumf")(lambda op: np.fmax)
rule("arith.minnumf")(lambda op: np.fmin)


def _is_nan(value: Any) -> Any:
    return value != value


def _or_unordered(compare: Evaluate) -> Evaluate:
    return lambda a, b: compare(a, b) | _is_nan(a) | _is_nan(b)


def _always(answer: bool) -> Evaluate:
    return lambda a, b: (a == a) | True if answer else (a != a) & False


COMPARE_FLOATS: tuple[Evaluate, ...] = (
    _always(False),
    operator.eq, operator.gt, operator.ge, operator.lt, operator.le,
    lambda a, b: (a < b) | (a > b),
    lambda a, b: (a == a) & (b == b),
    *map(_or_unordered, (operator.eq, operator.gt, operator.ge, operator.lt, operator.le)),
    operator.ne,
    lambda a, b: _is_nan(a) | _is_nan(b),
    _always(True),
)  # fmt: skip
"""By predicate number: false, oeq ogt oge olt ole one ord, ueq ugt uge ult ule une uno, true."""


@rule("arith.cmpf")
def cmpf(op: arith.CmpfOp) -> Evaluate:
    return COMPARE_FLOATS[op.predicate.value.data]


def choose(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b; a scalar condition chooses whole values."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, a, b)
    return a if condition else b


@rule("arith.select")
def select(op: arith.SelectOp) -> Evaluate:
    return choose


# Conversions.


def converted(value: Any, dtype: np.dtype[Any]) -> Any:
    """A number or array in another dtype, numpy's way."""
    return value.astype(dtype) if isinstance(value, (np.ndarray, np.generic)) else np.asarray(value, dtype)[()]


def _cast_of(dtype: np.dtype[Any]) -> Evaluate:
    return lambda value: converted(value, dtype)


rule("arith.extf", "arith.truncf")(lambda op: _cast_of(dtype_of(result_element(op))))


def _to_integer(read_unsigned: bool) -> Callable[[Operation], Evaluate]:
    """Integer to integer: read with or without sign, keep the low bits."""

    def declared(op: Operation) -> Evaluate:
        source, target = Integers(operand_element(op)), Integers(result_element(op))
        read = source.unsigned if read_unsigned else source.signed
        if target.is_index:
            return lambda value: _index(read(value))
        wide = np.dtype(np.uint64 if read_unsigned else np.int64)

        def convert(value: Any) -> Any:
            value = read(value)
            if isinstance(value, int):
                return target.back(np.int64(scalar_wrap(value)))
            return target.back(value.astype(wide))

        return convert

    return declared


def _index(value: Any) -> Any:
    return value.astype(np.int64) if isinstance(value, np.ndarray) else scalar_wrap(int(value))


def scalar_wrap(value: int) -> int:
    """A Python int wrapped to 64 bits, signed."""
    return (value + (1 << 63) & (1 << 64) - 1) - (1 << 63)


rule("arith.extsi", "arith.trunci", "arith.index_cast")(_to_integer(False))
rule("arith.extui", "arith.index_castui")(_to_integer(True))


def _from_integer(unsigned: bool) -> Callable[[Operation], Evaluate]:
    def declared(op: Operation) -> Evaluate:
        kind, dtype = Integers(operand_element(op)), dtype_of(result_element(op))
        read = kind.unsigned if unsigned else kind.signed
        return lambda value: converted(read(value), dtype)

    return declared


rule("arith.sitofp")(_from_integer(False))
rule("arith.uitofp")(_from_integer(True))


def _from_float(unsigned: bool) -> Callable[[Operation], Evaluate]:
    def declared(op: Operation) -> Evaluate:
        kind = Integers(result_element(op))
        wide = np.dtype(np.uint64 if unsigned and kind.width == 64 else np.int64)
        direct = kind.is_exact and not unsigned and not kind.is_bool

        def convert(value: Any) -> Any:
            value = converted(value, np.dtype(np.float64)) if value.dtype.itemsize == 2 else value
            return value.astype(kind.dtype) if direct else kind.back(value.astype(wide))

        return convert

    return declared


rule("arith.fptosi")(_from_float(False))
rule("arith.fptoui")(_from_float(True))


@rule("arith.bitcast")
def bitcast(op: arith.BitcastOp) -> Evaluate:
    dtype = dtype_of(result_element(op))

    def reinterpret(value: Any) -> Any:
        return np.ascontiguousarray(value).reshape(np.shape(value)).view(dtype)[()]

    return reinterpret


