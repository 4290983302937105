"""Copying, where values could not share memory: small kernels at the loops level, one per pair of types (and those that
fill borders, see `borders`).

    func.func private @copy_4x8xf32(%from: memref<4x8xf32>, %to: memref<4x8xf32>)

Rows are copied by vectors where both sides have unit stride; the outermost loop (of those with more than one
iteration) is shared among the threads where there is much to copy, else thread 0 does it all and the others wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from xdsl.dialects import arith, func, memref, vector
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    FunctionType,
    MemRefType,
    NoneAttr,
    VectorType,
)
from xdsl.ir import Attribute, Region, SSAValue

from stepwell.lowering.host_bufferize.borders import border_kernel
from stepwell.lowering.host_bufferize.elements import element_bytes
from stepwell.lowering.host_bufferize.loop_writer import LoopWriter
from stepwell.lowering.host_bufferize.parts import Box

VECTOR_BYTES = 32
"""Bytes moved at a time."""

PARALLEL_BYTES = 1 << 18
"""Copies of at least so many bytes are shared among the threads."""

Memory = MemRefType[Attribute]


class Copies:
    """The copy kernels of a module; each is made when first asked for."""

    def __init__(self) -> None:
        self.functions: dict[tuple[Memory, Memory], func.FuncOp] = {}
        self._borders: dict[tuple[Memory, Box, Attribute], func.FuncOp] = {}
        self._names: dict[str, int] = {}

    def kernel(self, source: Memory, target: Memory) -> str:
        """The name of the kernel that copies from a memref of one type to a memref of the other."""
        found = self.functions.get((source, target))
        if found is None:
            block = _CopyKernel(source, target).block
            kind = FunctionType.from_lists([source, target], [])
            found = func.FuncOp(self._name(target), kind, Region(block), visibility="private")
            self.functions[source, target] = found
        return found.sym_name.data

    def border(self, kind: Memory, box: Box, value: Attribute) -> str:
        """The name of the kernel that fills all of a memref but a box."""
        found = self._borders.get((kind, box, value))
        if found is None:
            body = Region(border_kernel(kind, box, value))
            made = func.FuncOp(self._name(kind, "border"), FunctionType.from_lists([kind], []), body, visibility="private")
            found = self._borders[kind, box, value] = made
        return found.sym_name.data

    def all(self) -> list[func.FuncOp]:
        """Every kernel that was asked for."""
        return [*self.functions.values(), *self._borders.values()]

    def _name(self, kind: Memory, what: str = "copy") -> str:
        sizes = ["n" if size == DYNAMIC_INDEX else str(size) for size in kind.get_shape()]
        stem = f"{what}_" + "x".join([*sizes, str(kind.element_type)])
        count = self._names[stem] = self._names.get(stem, 0) + 1
        return stem if count == 1 else f"{stem}_{count}"


class _CopyKernel(LoopWriter):
    """Writes the body of one copy kernel."""

    def __init__(self, source: Memory, target: Memory) -> None:
        super().__init__([source, target])
        self.sizes = [self._size(axis, size) for axis, size in enumerate(target.get_shape())]
        self.from_, self.to = self._flattened(source, target)
        bytes_ = prod(target.get_shape()) * element_bytes(target.element_type)
        extents = target.get_shape() if len(self.sizes) == target.get_num_dims() else [0]
        self.outermost = next((axis for axis, size in enumerate(extents) if size != 1), 0)
        self.shared = bool(self.sizes) and (DYNAMIC_INDEX in target.get_shape() or bytes_ >= PARALLEL_BYTES)
        lanes = max(1, VECTOR_BYTES // element_bytes(target.element_type))
        self.lanes = lanes if all(_unit_stride(side.type) for side in (self.from_, self.to)) else 1
        if self.shared:
            self._nest(0, [])
        else:
            self.by_thread_zero(lambda: self._nest(0, []))
        self.finish()

    def _size(self, axis: int, size: int) -> SSAValue:
        if size != DYNAMIC_INDEX:
            return self.constant(size)
        return self.add(memref.DimOp(self.block.args[1], self.constant(axis)))

    def _flattened(self, source: Memory, target: Memory) -> tuple[SSAValue, SSAValue]:
        """Both sides as rows of one dimension where neither has gaps."""
        if len(self.sizes) < 2 or not all(isinstance(side.layout, NoneAttr) for side in (source, target)):
            return self.block.args[0], self.block.args[1]
        count = prod(target.get_shape()) if DYNAMIC_INDEX not in target.get_shape() else DYNAMIC_INDEX
        total = self.sizes[0]
        if count == DYNAMIC_INDEX:
            for size in self.sizes[1:]:
                total = self.add(arith.MuliOp(total, size))
        else:
            total = self.constant(count)
        kind = MemRefType(target.element_type, [count])
        dynamic = [total] if count == DYNAMIC_INDEX else []
        self.sizes = [total]
        flat = [
            self.add(memref.ReinterpretCastOp(side, [], dynamic, [], [0], [count], [1], kind))
            for side in self.block.args
        ]
        return flat[0], flat[1]

    # ------ loops

    def _nest(self, axis: int, indices: list[SSAValue]) -> None:
        """Loops over the dimensions from `axis` on."""
        if axis == len(self.sizes):
            self._move(indices, 1)
        elif axis < self.outermost:
            self._nest(axis + 1, [*indices, self.constant(0)])
        elif axis == len(self.sizes) - 1 and self.lanes > 1:
            lanes, size = self.constant(self.lanes), self.sizes[axis]
            rest = self.add(arith.RemUIOp(size, lanes))
            whole = self.add(arith.SubiOp(size, rest))

            def tail() -> None:
                self._over(whole, size, 1, lambda i: self._move([*indices, i], 1))

            if self.shared and axis == self.outermost:
                self.guard(tail)
            else:
                tail()
            self._over(self.constant(0), whole, self.lanes, lambda i: self._move([*indices, i], self.lanes), axis)
        else:
            self._over(self.constant(0), self.sizes[axis], 1, lambda i: self._nest(axis + 1, [*indices, i]), axis)

    def _over(
        self, start: SSAValue, stop: SSAValue, step: int, body: Callable[[SSAValue], None], axis: int = -1
    ) -> None:
        """A loop; shared among the threads where it is the outermost and there is much to do."""
        self.loop(start, stop, step, body, self.shared and axis == self.outermost)

    def _move(self, indices: Sequence[SSAValue], lanes: int) -> None:
        """Copy one element, or a vector of them."""
        if lanes == 1:
            value = self.add(memref.LoadOp.get(self.from_, indices))
            self.ops.append(memref.StoreOp.get(value, self.to, indices))
            return
        assert isinstance(self.to.type, MemRefType)
        kind = VectorType(self.to.type.element_type, [lanes])
        value = self.add(vector.LoadOp(self.from_, indices, kind))
        self.ops.append(vector.StoreOp(value, self.to, indices))


def _unit_stride(kind: Attribute) -> bool:
    """Whether elements that differ by one in the last index lie side by side."""
    assert isinstance(kind, MemRefType)
    if isinstance(kind.layout, NoneAttr):
        return True
    strides = kind.get_strides()
    return strides is not None and bool(strides) and strides[-1] == 1


__all__ = ["Copies", "Memory"]
