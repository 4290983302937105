"""Filling what surrounds a part of a tensor: a small kernel at the loops level per type, part and number.

    func.func private @border_6x114x114x16xf32(%to: memref<1x6x114x114x16xf32>)

Per dimension that the part does not fill, there is a slab before it and one behind; in each, elements lie side by side
in runs. The outermost dimension is shared among the threads where there is much to fill, else thread 0 does it all.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from xdsl.dialects import arith, memref, vector
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, MemRefType, VectorType
from xdsl.ir import Attribute, Block, SSAValue

from stepwell.lowering.host_bufferize.elements import element_bytes
from stepwell.lowering.host_bufferize.loop_writer import LoopWriter
from stepwell.lowering.host_bufferize.parts import Box

VECTOR_BYTES = 64
"""Bytes written at a time."""

PARALLEL_BYTES = 1 << 17
"""So many bytes are worth sharing among the threads."""

Memory = MemRefType[Attribute]


def border_kernel(kind: Memory, box: Box, value: Attribute) -> Block:
    """The body of a function that takes a memref of this type and fills all but the box."""
    return _Border(kind, box, value).block


class _Border(LoopWriter):
    """Writes one kernel."""

    def __init__(self, kind: Memory, box: Box, value: Attribute) -> None:
        super().__init__([kind])
        self.kind, self.box = kind, box
        self.shape = kind.get_shape()
        self.strides = [prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        count = prod(self.shape)
        flat: Memory = MemRefType(kind.element_type, [count])
        cast = memref.ReinterpretCastOp(self.block.args[0], [], [], [], [0], [count], [1], flat)
        self.to = self.first(cast)
        self.lanes = max(1, VECTOR_BYTES // element_bytes(kind.element_type))
        self.one = self.first(arith.ConstantOp.create(result_types=[kind.element_type], properties={"value": value}))
        wide = VectorType(kind.element_type, [self.lanes])
        splat = DenseIntOrFPElementsAttr.from_list(wide, [value.value.data])  # type: ignore[attr-defined, type-var]
        self.many = self.first(arith.ConstantOp.create(result_types=[wide], properties={"value": splat}))
        self._write()
        self.finish()

    def _write(self) -> None:
        """The outer dimensions, which the part fills, then the slabs of each inner one."""
        whole = [size == own for size, own in zip(self.box.sizes, self.shape, strict=True)]
        first = whole.index(False) if False in whole else len(whole)
        outer = next((axis for axis in range(first) if self.shape[axis] > 1), None)
        bytes_ = (prod(self.shape) - prod(self.box.sizes)) * element_bytes(self.kind.element_type)
        shared = outer if bytes_ >= PARALLEL_BYTES else None
        if shared is None:
            self.by_thread_zero(lambda: self._outer(0, first, self.constant(0), None))
        else:
            self._outer(0, first, self.constant(0), shared)

    def _outer(self, axis: int, first: int, start: SSAValue, shared: int | None) -> None:
        if axis < first:
            self._over(axis, 0, self.shape[axis], start, lambda at: self._outer(axis + 1, first, at, shared), axis == shared)
        else:
            for d in range(first, len(self.shape)):
                self._slabs(d, first, start)

    def _slabs(self, axis: int, first: int, start: SSAValue) -> None:
        """What lies before and behind the part in one dimension, within it in the dimensions before."""
        low, high = self.box.offsets[axis], self.box.offsets[axis] + self.box.sizes[axis]

        def inner(d: int, at: SSAValue) -> None:
            if d < axis:
                begin = self.box.offsets[d]
                self._over(d, begin, begin + self.box.sizes[d], at, lambda there: inner(d + 1, there))
                return
            for begin, end in ((0, low), (high, self.shape[axis])):
                if begin < end:
                    self._run(self._plus(at, begin * self.strides[axis]), (end - begin) * self.strides[axis])

        if low > 0 or high < self.shape[axis]:
            inner(first, start)

    def _over(
        self, axis: int, begin: int, end: int, start: SSAValue, body: Callable[[SSAValue], None], shared: bool = False
    ) -> None:
        """A loop over a dimension; the body gets the place of the first element there."""
        if end - begin == 1:
            body(self._plus(start, begin * self.strides[axis]))
            return

        def step(number: SSAValue) -> None:
            offset = self.add(arith.MuliOp(number, self.constant(self.strides[axis])))
            body(self.add(arith.AddiOp(start, offset)))

        self.loop(self.constant(begin), self.constant(end), 1, step, shared)

    def _run(self, start: SSAValue, count: int) -> None:
        """Elements side by side."""
        whole = count // self.lanes * self.lanes
        stop = self._plus(start, whole)
        if whole:
            self.loop(start, stop, self.lanes, lambda i: self.ops.append(vector.StoreOp(self.many, self.to, [i])))
        if whole < count:
            end = self._plus(start, count)
            self.loop(stop, end, 1, lambda i: self.ops.append(memref.StoreOp.get(self.one, self.to, [i])))

    def _plus(self, value: SSAValue, amount: int) -> SSAValue:
        return self.add(arith.AddiOp(value, self.constant(amount))) if amount else value
