"""What is known while a function of tensors is rewritten to one of memrefs, and the few ways to write ops.

The new function has a head, where sizes and offsets that depend on arguments only are computed once, and a body
that mirrors the old one. `scalars`, `buffers` and `lists` say what stands for each old value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from xdsl.dialects import arith, func, memref
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    IndexType,
    IntegerAttr,
    IntegerType,
    LocationAttr,
    MemRefType,
    TensorType,
    i8,
)
from xdsl.ir import Attribute, Operation, SSAValue

from stepwell.dialects import host
from stepwell.lowering.host_bufferize.copies import Copies
from stepwell.lowering.host_bufferize.elements import memref_of
from stepwell.lowering.host_bufferize.loop_writer import by_thread_zero
from stepwell.lowering.host_bufferize.ownership import Owners
from stepwell.lowering.host_bufferize.places import Place
from stepwell.lowering.host_bufferize.sizes import Computed, Product, Scalar, Size, SizeOf, Sizes
from stepwell.lowering.host_bufferize.storage import Cell, Storage
from stepwell.lowering.host_bufferize.variants import Variants

INDEX = IndexType()
BYTES = MemRefType(i8, [DYNAMIC_INDEX])

COLLECTIVE = (host.AllocOp, host.FreeOp, host.BarrierOp, func.CallOp)
"""Ops that memory may change at: what all threads read before must have been read by all."""


class Emitter:
    """Writes one function. `out` is the list of ops that the next op is appended to."""

    def __init__(self, storage: Storage, sizes: Sizes, kernels: Variants, copies: Copies, owners: Owners) -> None:
        self.storage, self.sizes, self.kernels, self.copies, self.owners = storage, sizes, kernels, copies, owners
        self.head: list[Operation] = []
        self.out: list[Operation] = []
        self.location: LocationAttr | None = None
        self.scalars: dict[SSAValue, SSAValue] = {}
        self.buffers: dict[SSAValue, SSAValue] = {}
        self.lists: dict[SSAValue, Any] = {}
        self.arena: SSAValue | None = None
        self.offsets: dict[Cell, SSAValue] = {}
        """Where each cell of the arena starts, in bytes."""
        self.given: dict[Cell, SSAValue] = {}
        """Cells that are buffers of their own: results."""
        self.unfenced = False
        """Whether a thread may still be reading memory that others go on to overwrite."""
        self._constants: dict[tuple[int, Attribute], SSAValue] = {}
        self._hoisted: dict[Size, SSAValue] = {}

    # ------ writing

    def add(self, op: Operation) -> SSAValue:
        """Append an op (with its location); its first result."""
        if self.location is not None:
            op.location = self.location
        if self.unfenced and isinstance(op, COLLECTIVE):
            self.unfenced = False
            if not isinstance(op, host.BarrierOp):
                self.out.append(host.BarrierOp())
        self.out.append(op)
        return op.results[0] if op.results else None  # type: ignore[return-value]

    def fence(self) -> None:
        """Wait for threads that may still be reading memory."""
        if self.unfenced:
            self.add(host.BarrierOp())

    @contextmanager
    def into(self, ops: list[Operation]) -> Iterator[list[Operation]]:
        """Append to another list for a while."""
        outer, self.out = self.out, ops
        try:
            yield ops
        finally:
            self.out = outer

    def constant(self, value: int, kind: IndexType | IntegerType = INDEX) -> SSAValue:
        """An integer, in the head, once."""
        found = self._constants.get((value, kind))
        if found is None:
            op = arith.ConstantOp.create(result_types=[kind], properties={"value": IntegerAttr(value, kind)})
            self.head.insert(len(self._constants), op)
            found = self._constants[value, kind] = op.results[0]
        return found

    def by_thread_zero(self, body: Callable[[], None]) -> None:
        """Memory writes outside kernels: one thread does them, the others wait."""
        self.fence()
        with self.into([]) as inner:
            body()
        self.out += by_thread_zero(inner, self.constant(0))
        self.add(host.BarrierOp())

    def binary(self, kind: type[Operation], left: SSAValue, right: SSAValue) -> SSAValue:
        """An integer op of two operands of one type."""
        return self.add(kind.create(operands=[left, right], result_types=[left.type]))

    # ------ sizes

    def size(self, size: Size) -> SSAValue:
        """A size as an index value: in the head where it depends on the arguments only, else here."""
        if isinstance(size, int):
            return self.constant(size)
        if not self.sizes.at_entry(size):
            return self._compute(size)
        found = self._hoisted.get(size)
        if found is None:
            with self.into(self.head):
                found = self._compute(size)
            self._hoisted[size] = found
        return found

    def _compute(self, size: Size) -> SSAValue:
        if isinstance(size, Scalar):
            return self.scalars[size.value]
        if isinstance(size, SizeOf):
            return self.add(memref.DimOp(self.buffers[size.value], self.constant(size.axis)))
        if isinstance(size, Product):
            total = self.size(size.factors[0])
            for factor in size.factors[1:]:
                total = self.binary(arith.MuliOp, total, self.size(factor))
            return total
        assert isinstance(size, Computed)
        example = size.example
        types = [operand.type for operand in example.operands]
        operands = [self._typed(part, kind) for part, kind in zip(size.operands, types, strict=True)]
        copy = type(example).create(
            operands=operands,
            result_types=[example.results[0].type],
            properties=dict(example.properties),
            attributes=dict(example.attributes),
        )
        return self.add(copy)

    def _typed(self, part: Size, kind: Attribute) -> SSAValue:
        if not isinstance(part, int):
            return self.size(part)
        assert isinstance(kind, (IndexType, IntegerType))
        return self.constant(part, kind)

    def dynamic_sizes(self, value: SSAValue) -> list[SSAValue]:
        """The sizes that the type of a tensor value leaves open."""
        assert isinstance(value.type, TensorType)
        pairs = zip(value.type.get_shape(), self.sizes.of(value), strict=True)
        return [self.size(size) for static, size in pairs if static == DYNAMIC_INDEX]

    # ------ memory

    def target(self, value: SSAValue) -> SSAValue:
        """Memory for a tensor value to be written to, as the memref of its type."""
        assert isinstance(value.type, TensorType)
        kind, cell = memref_of(value.type), self.storage.cell(value)
        if cell.place is Place.HEAP:
            return self.add(host.AllocOp.create(operands=self.dynamic_sizes(value), result_types=[kind]))
        if cell.place is Place.OUTPUT:
            return self.reshaped(self.given[cell], value)
        assert cell.place is Place.ARENA and self.arena is not None, value
        return self.add(memref.ViewOp(self.arena, self.offsets[cell], self.dynamic_sizes(value), kind))

    def reshaped(self, buffer: SSAValue, value: SSAValue) -> SSAValue:
        """A row-major buffer as the memref of a tensor value with as many elements."""
        assert isinstance(value.type, TensorType)
        kind = memref_of(value.type)
        if buffer.type == kind:
            return buffer
        sizes: list[SSAValue | int] = [
            self.size(size) if static == DYNAMIC_INDEX else static
            for static, size in zip(kind.get_shape(), self.sizes.of(value), strict=True)
        ]
        return self.reinterpreted(buffer, sizes, kind)

    def reinterpreted(self, buffer: SSAValue, sizes: Sequence[SSAValue | int], kind: Attribute) -> SSAValue:
        """A row-major buffer under other sizes."""
        strides: list[SSAValue | int] = [1] * len(sizes)
        for axis in range(len(sizes) - 2, -1, -1):
            inner, size = strides[axis + 1], sizes[axis + 1]
            if isinstance(inner, int) and isinstance(size, int):
                strides[axis] = inner * size
            else:
                strides[axis] = self.binary(arith.MuliOp, self.as_index(inner), self.as_index(size))
        return self.add(memref.ReinterpretCastOp.from_dynamic(buffer, [0], sizes, strides, kind))

    def as_index(self, value: SSAValue | int) -> SSAValue:
        """A number as an index value."""
        return self.constant(value) if isinstance(value, int) else value

    def copy(self, source: SSAValue, target: SSAValue) -> None:
        """Copy all elements from one memref to another of the same sizes."""
        assert isinstance(source.type, MemRefType) and isinstance(target.type, MemRefType)
        if source is target or 0 in target.type.get_shape():
            return
        kind: MemRefType[Attribute] = source.type
        if kind.shape != target.type.shape:
            kind = _shaped(kind, target.type)
            source = self.add(memref.CastOp.get(source, kind))
        name = self.copies.kernel(kind, target.type)
        self.add(func.CallOp(name, [source, target], []))

    def cloned(self, buffer: SSAValue) -> SSAValue:
        """The same elements in a new buffer from the heap."""
        assert isinstance(buffer.type, MemRefType)
        kind: MemRefType[Attribute] = MemRefType(buffer.type.element_type, buffer.type.shape)
        sizes = [
            self.add(memref.DimOp(buffer, self.constant(axis)))
            for axis, size in enumerate(kind.get_shape())
            if size == DYNAMIC_INDEX
        ]
        fresh = self.add(host.AllocOp.create(operands=sizes, result_types=[kind]))
        self.copy(buffer, fresh)
        return fresh

    def free(self, buffer: SSAValue) -> None:
        """Give a buffer from the heap back."""
        self.add(host.FreeOp.create(operands=[buffer]))

    def load(self, buffer: SSAValue, indices: Sequence[SSAValue], foreign: bool = False) -> SSAValue:
        """Read one element; all threads do, so nobody may overwrite it before the next fence."""
        value = self.add(memref.LoadOp.get(buffer, indices))
        self.unfenced = self.unfenced or not foreign
        return value


def _shaped(source: MemRefType[Attribute], like: MemRefType[Attribute]) -> MemRefType[Attribute]:
    return MemRefType(source.element_type, like.shape, source.layout, source.memory_space)
