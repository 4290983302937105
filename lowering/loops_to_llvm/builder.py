"""The state of lowering one function: where ops go, what each value became, and how addresses are made.

Index arithmetic folds while it is built: an index known now is a Python int, and `x + 3` remembers x, so that
the sixteen loads of an unrolled kernel share one address and differ in a constant only. Pure address ops that
are repeated under a dominating one are not built again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from xdsl.dialects import llvm
from xdsl.dialects.builtin import (
    DenseArrayBase,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    LocationAttr,
    MemRefType,
    UnitAttr,
    i1,
    i32,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.quick_ir import append, append_all, make, segments
from stepwell.dialects.upstream import llvm as upstream
from stepwell.lowering.loops_to_llvm.types import POINTER, Buffer, Size, dynamic_parts, strides_of

if TYPE_CHECKING:
    from stepwell.lowering.loops_to_llvm.module import ModuleLowering

Properties = Mapping[str, Attribute]
NO_PROPERTIES: Properties = {}
NO_WRAP: Properties = {"overflowFlags": IntegerAttr(1, i32)}
WRAPS: Properties = {"overflowFlags": IntegerAttr(0, i32)}
DEFAULTS: Mapping[type[Operation], Properties] = {
    **dict.fromkeys((llvm.AddOp, llvm.SubOp, llvm.MulOp, llvm.ShlOp), WRAPS),
    llvm.TruncOp: {"overflowFlags": llvm.OverflowAttr(None)},
}
"""The properties that text leaves out and reading it puts in: an op and what its text reads as are equal."""
DYNAMIC_GEP = DenseArrayBase.from_list(i32, [llvm.GEP_USE_SSA_VAL])
GEP_FLAGS = IntegerAttr(0, i32)
INBOUNDS = UnitAttr()


# Making an attribute costs as much as making an op, so the frequent ones are made once.


@cache
def integer_attribute(value: int, bits: int) -> IntegerAttr[IntegerType]:
    """An integer as an attribute of type i<bits>."""
    return IntegerAttr(value, bits)


@cache
def access_properties(alignment: int) -> Properties:
    """The properties of a plain load or store."""
    return {"alignment": IntegerAttr(alignment, i64), "ordering": PLAIN}


@cache
def predicate(keyword: str) -> Properties:
    """The property of an icmp, by LLVM's keyword (`slt`)."""
    return {"predicate": IntegerAttr(llvm.ICmpPredicateFlag(keyword).to_int(), i64)}


PLAIN = IntegerAttr(0, i64)
"""llvm.AtomicOrdering of an access that is not atomic."""
NO_BUNDLES: Properties = {
    "op_bundle_sizes": DenseArrayBase.from_list(i32, ()),
    "CConv": llvm.CallingConventionAttr("ccc"),
    "TailCallKind": llvm.TailCallKindAttr(llvm.TailCallKind.NONE),
    "fastmathFlags": llvm.FastMathAttr(None),
}


class FunctionLowering:
    """Builds the body of one llvm.func. `block` is where ops go now; None means the code here is dead."""

    def __init__(self, module: ModuleLowering, region: Region, arguments: Sequence[Attribute]) -> None:
        self.module = module
        self.types = module.types
        self.region = region
        self.entry = Block(arg_types=arguments)
        region.add_block(self.entry)
        self.block: Block | None = self.entry
        self.location: LocationAttr | None = None
        self.values: dict[SSAValue, SSAValue] = {}
        self.known: dict[SSAValue, int] = {}
        self.buffers: dict[SSAValue, Buffer] = {}
        self.head: list[Operation] = []
        self._constants: dict[tuple[Attribute, object], SSAValue] = {}
        self._sums: dict[SSAValue, tuple[SSAValue, int]] = {}
        self._available: dict[tuple[object, ...], SSAValue] = {}
        self.frame: SSAValue | None = None
        self.thread: SSAValue | None = None
        self.thread_total: SSAValue | None = None
        self.leave: Block | None = None
        self.raises_in_chunk = False

    # ------ ops

    def build(
        self,
        kind: type[Operation],
        operands: Sequence[SSAValue],
        results: Sequence[Attribute] = (),
        properties: Properties = NO_PROPERTIES,
        successors: Sequence[Block] = (),
    ) -> Operation:
        """Append one op to the current block."""
        op = make(
            kind,
            operands,
            results,
            properties or DEFAULTS.get(kind, NO_PROPERTIES),
            successors=successors,
            location=self.location,
        )
        assert self.block is not None
        append(self.block, op)
        return op

    def emit(
        self,
        kind: type[Operation],
        operands: Sequence[SSAValue],
        result: Attribute,
        properties: Properties = NO_PROPERTIES,
    ) -> SSAValue:
        """Append one op with one result, and give the result."""
        return self.build(kind, operands, (result,), properties).results[0]

    def once(
        self,
        kind: type[Operation],
        operands: Sequence[SSAValue],
        result: Attribute,
        properties: Properties = NO_PROPERTIES,
        key: object = None,
    ) -> SSAValue:
        """`emit`, or the result of the same pure op where one dominates this place."""
        full_key = (kind, key, *(id(operand) for operand in operands))
        found = self._available.get(full_key)
        if found is None:
            found = self._available[full_key] = self.emit(kind, operands, result, properties)
        return found

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is built inside does not dominate what follows."""
        outer = dict(self._available)
        try:
            yield
        finally:
            self._available = outer

    # ------ blocks

    def new_block(self, types: Sequence[Attribute] = ()) -> Block:
        """A block that is not yet placed: `start` places it, so that text order follows the program."""
        return Block(arg_types=types)

    def start(self, block: Block) -> None:
        """Go on in `block`, placed after all others so far."""
        self.region.add_block(block)
        self.block = block

    def branch(self, target: Block, arguments: Sequence[SSAValue] = ()) -> None:
        """Jump; the current place becomes dead."""
        self.build(llvm.BrOp, arguments, successors=(target,))
        self.block = None

    def branch_if(
        self,
        condition: SSAValue,
        then: Block,
        otherwise: Block,
        then_arguments: Sequence[SSAValue] = (),
        else_arguments: Sequence[SSAValue] = (),
    ) -> None:
        """Jump on a condition; the current place becomes dead."""
        self.build(
            llvm.CondBrOp,
            (condition, *then_arguments, *else_arguments),
            properties={"operandSegmentSizes": segments(1, len(then_arguments), len(else_arguments))},
            successors=(then, otherwise),
        )
        self.block = None

    def call(self, name: str, arguments: Sequence[SSAValue], result: Attribute | None = None) -> SSAValue | None:
        """Call a function of the module, or a declared one."""
        properties = {
            **NO_BUNDLES,
            "callee": self.module.symbol(name),
            "operandSegmentSizes": segments(len(arguments), 0),
        }
        op = self.build(llvm.CallOp, arguments, () if result is None else (result,), properties)
        return op.results[0] if op.results else None

    # ------ constants and index arithmetic

    def constant(self, kind: Attribute, value: Attribute, key: object) -> SSAValue:
        """A constant, one op per function and value (`key` tells values of one type apart)."""
        full_key = (kind, key)
        found = self._constants.get(full_key)
        if found is None:
            op = make(llvm.ConstantOp, (), (kind,), {"value": value})
            self.head.append(op)
            found = self._constants[full_key] = op.results[0]
        return found

    def integer(self, value: int, kind: Attribute = i64) -> SSAValue:
        """An integer constant."""
        if not isinstance(kind, IntegerType):
            raise UnsupportedError(f"an integer constant of type {kind}")
        return self.constant(kind, integer_attribute(value, kind.width.data), value)

    def number(self, value: float, kind: Attribute) -> SSAValue:
        """A float constant."""
        return self.constant(kind, FloatAttr(value, kind), repr(value))  # type: ignore[call-overload]

    def head_op(
        self, kind: type[Operation], operands: Sequence[SSAValue], result: Attribute, properties: Properties
    ) -> SSAValue:
        """An op at the function's beginning: stack memory, addresses of globals."""
        op = make(kind, operands, (result,), properties)
        self.head.append(op)
        return op.results[0]

    def finish(self) -> None:
        """Put constants and other head ops where they dominate everything."""
        first = self.entry.first_op
        if first is None:
            append_all(self.entry, self.head)
        else:
            self.entry.insert_ops_before(self.head, first)

    def value(self, original: SSAValue) -> SSAValue:
        """What a value (not a memref) of the loops level became."""
        found = self.values.get(original)
        if found is not None:
            return found
        if original in self.known:
            found = self.values[original] = self.integer(self.known[original], self.types.value(original.type))
            return found
        raise UnsupportedError(f"a value of type {original.type} is used where it has no form in LLVM")

    def index(self, original: SSAValue) -> Size:
        """A value used as an index: a Python int where it is known."""
        return self.known[original] if original in self.known else self.values[original]

    def size(self, size: Size) -> SSAValue:
        """An i64 value for a size."""
        return self.integer(size) if isinstance(size, int) else size

    def add(self, left: Size, right: Size) -> Size:
        """left + right, folded where possible; index arithmetic does not overflow."""
        if isinstance(left, int) and isinstance(right, int):
            return left + right
        if isinstance(left, int):
            left, right = right, left
        assert isinstance(left, SSAValue)
        if isinstance(right, SSAValue):
            return self.once(llvm.AddOp, (left, right), i64, NO_WRAP)
        root, offset = self._sums.get(left, (left, 0))
        total = offset + right
        if total == 0:
            return root
        result = self.once(llvm.AddOp, (root, self.integer(total)), i64, NO_WRAP)
        self._sums[result] = (root, total)
        return result

    def subtract(self, left: Size, right: Size) -> Size:
        """left - right, folded where possible."""
        if isinstance(right, int):
            return self.add(left, -right)
        return self.once(llvm.SubOp, (self.size(left), right), i64, NO_WRAP)

    def multiply(self, left: Size, right: Size) -> Size:
        """left * right, folded where possible."""
        if isinstance(left, int) and isinstance(right, int):
            return left * right
        if isinstance(left, int):
            left, right = right, left
        if right == 0:
            return 0
        if right == 1:
            return left
        return self.once(llvm.MulOp, (self.size(left), self.size(right)), i64, NO_WRAP)

    def product(self, sizes: Sequence[Size]) -> Size:
        """The product of sizes; 1 for none."""
        result: Size = 1
        for size in sizes:
            result = self.multiply(result, size)
        return result

    def compare(self, keyword: str, left: SSAValue, right: SSAValue) -> SSAValue:
        """icmp by LLVM's keyword (`slt`)."""
        return self.emit(llvm.ICmpOp, (left, right), i1, predicate(keyword))

    # ------ memory

    def offset(self, pointer: SSAValue, count: Size, element: Attribute) -> SSAValue:
        """The address `count` elements of a type after `pointer`."""
        if isinstance(count, SSAValue):
            root, constant = self._sums.get(count, (count, 0))
            pointer = self._element(pointer, root, element)
            count = constant
        if count == 0:
            return pointer
        if not -(2**31) < count < 2**31:
            return self._element(pointer, self.integer(count), element)
        properties = {
            "elem_type": element,
            "rawConstantIndices": segments(count),
            "noWrapFlags": GEP_FLAGS,
            "inbounds": INBOUNDS,
        }
        return self.once(upstream.GEPOp, (pointer,), POINTER, properties, (id(element), count))

    def _element(self, pointer: SSAValue, index: SSAValue, element: Attribute) -> SSAValue:
        """The address of an element whose number is an SSA value."""
        properties = {
            "elem_type": element,
            "rawConstantIndices": DYNAMIC_GEP,
            "noWrapFlags": GEP_FLAGS,
            "inbounds": INBOUNDS,
        }
        return self.once(upstream.GEPOp, (pointer, index), POINTER, properties, id(element))

    def address(self, buffer: Buffer, indices: Sequence[SSAValue]) -> SSAValue:
        """The address of one element. Terms known now end in one constant, so that neighbours share the rest."""
        total: Size = 0
        constant = 0
        for original, stride in zip(indices, buffer.strides, strict=True):
            index = self.index(original)
            if isinstance(index, SSAValue) and isinstance(stride, int):
                root, shift = self._sums.get(index, (index, 0))
                index, constant = root, constant + shift * stride
            term = self.multiply(index, stride)
            if isinstance(term, int):
                constant += term
            else:
                total = self.add(total, term)
        element = self.types.memory(buffer.element)
        pointer = self.offset(buffer.pointer, total, element)
        return self.offset(pointer, constant, element)

    def load(self, pointer: SSAValue, kind: Attribute, alignment: int) -> SSAValue:
        """Read an llvm type."""
        return self.emit(llvm.LoadOp, (pointer,), kind, access_properties(alignment))

    def store(self, value: SSAValue, pointer: SSAValue, alignment: int) -> None:
        """Write an llvm value."""
        self.build(upstream.StoreOp, (value, pointer), (), access_properties(alignment))

    # ------ memrefs as several values

    def flat_types(self, kind: Attribute) -> list[Attribute]:
        """The llvm types that carry one value through a block argument or a call."""
        if not isinstance(kind, MemRefType):
            return [self.types.value(kind)]
        sizes, strides = dynamic_parts(kind)
        return [POINTER] + [i64] * (len(sizes) + len(strides))

    def flatten(self, original: SSAValue, kind: Attribute) -> list[SSAValue]:
        """The llvm values that carry `original`, seen as type `kind`."""
        if not isinstance(kind, MemRefType):
            return [self.value(original)]
        buffer = self.buffers[original]
        sizes, strides = dynamic_parts(kind)
        carried = [*(buffer.sizes[i] for i in sizes), *(buffer.strides[i] for i in strides)]
        return [buffer.pointer, *(self.size(part) for part in carried)]

    def unflatten(self, original: SSAValue, parts: Iterator[SSAValue]) -> None:
        """Define `original` by the next values of `parts`; the opposite of `flatten`."""
        kind = original.type
        if not isinstance(kind, MemRefType):
            self.values[original] = next(parts)
            return
        pointer = next(parts)
        self.buffers[original] = self.buffer(kind, pointer, parts)

    def buffer(self, kind: MemRefType[Attribute], pointer: SSAValue, dynamic: Iterator[Size]) -> Buffer:
        """A buffer of a memref type; its dynamic sizes, then dynamic strides, are taken from `dynamic`."""
        sizes: tuple[Size, ...] = tuple(next(dynamic) if size < 0 else size for size in kind.get_shape())
        layout = strides_of(kind)
        if layout is None:
            return Buffer(pointer, kind.element_type, sizes, self.row_major(sizes))
        strides: tuple[Size, ...] = tuple(next(dynamic) if stride is None else stride for stride in layout)
        return Buffer(pointer, kind.element_type, sizes, strides)

    def row_major(self, sizes: Sequence[Size]) -> tuple[Size, ...]:
        """The strides of a row-major buffer without gaps."""
        strides: list[Size] = []
        step: Size = 1
        for number, size in enumerate(reversed(sizes), 1):
            strides.append(step)
            if number < len(sizes):
                step = self.multiply(step, size)
        return tuple(reversed(strides))
