"""A kernel's function while it is written: arguments, results, scratch."""

from __future__ import annotations

from xdsl.dialects import func, memref
from xdsl.dialects.builtin import (
    DictionaryAttr,
    FunctionType,
    IndexType,
    MemRefType,
    StridedLayoutAttr,
    TensorType,
    i8,
)
from xdsl.ir import Attribute, Block, Region, SSAValue

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.quick_ir import memref_type
from stepwell.dialects.target import Target
from stepwell.dialects.tile import AUTO, LAYOUTS, SCHEDULES, KernelOp
from stepwell.lowering.tile_to_loops.emit import Emitter
from stepwell.lowering.tile_to_loops.evaluate import Evaluator
from stepwell.lowering.tile_to_loops.graph import Graph
from stepwell.lowering.tile_to_loops.polynomial import ONE

ALIGNMENT = 64


class Frame:
    """A kernel's function while it is written."""

    def __init__(self, kernel: KernelOp, target: Target) -> None:
        self.kernel, self.target = kernel, target
        self.shared = bool(kernel.size("parallel"))
        self.graph = Graph(kernel)
        self.emitter = emitter = Emitter(target)
        types = [*kernel.function_type.inputs, *kernel.function_type.outputs]
        layouts = kernel.attributes.get(LAYOUTS, DictionaryAttr({}))
        assert isinstance(layouts, DictionaryAttr)
        lying = [memory_type(kind, layouts.data.get(str(number))) for number, kind in enumerate(types)]
        self.inputs = lying[: len(kernel.function_type.inputs)]
        self.results = lying[len(self.inputs) :]
        self.block = Block(arg_types=[*self.inputs, *self.results, MemRefType(i8, [0])])
        self.scratch_bytes = 0
        for value in self.block.args:
            emitter.argument(value)
        names, given = self.graph.block.args, self.block.args
        tensors: dict[SSAValue, SSAValue] = {n: g for n, g in zip(names, given, strict=False) if isinstance(n.type, TensorType)}
        scalars: dict[SSAValue, SSAValue] = {n: g for n, g in zip(names, given, strict=False) if not isinstance(n.type, TensorType)}
        self.evaluator = Evaluator(emitter, self.graph, {}, scalars, tensors)
        for name, memory in tensors.items():
            self.evaluator.memories[name] = self._flat(name, memory)
        self.outputs = [
            (value, self._flat(value, memory))
            for value, memory in zip(self.graph.roots, given[len(names) :], strict=False)
        ]

    def _flat(self, tensor: SSAValue, memory: SSAValue) -> SSAValue:
        """A tensor's memref as one dimension, from its first element to its last; its dynamic sizes are read where they
        are needed."""
        assert isinstance(tensor.type, TensorType) and isinstance(memory.type, MemRefType)
        if isinstance(memory.type.layout, StridedLayoutAttr):
            strides = memory.type.get_strides() or ()
            known = [stride for stride in strides if stride is not None]
            assert len(known) == len(strides)
            self.evaluator.lay_out(tensor, known)
            last = sum(max(0, size - 1) * stride for size, stride in zip(tensor.type.get_shape(), known, strict=True))
            return self.emitter.flat(memory, last + 1)
        count = ONE
        for axis in range(tensor.type.get_num_dims()):
            count = count * self.evaluator.size(tensor, axis)
        size = count.constant
        return self.emitter.flat(memory, size if size is not None else self.emitter.scalar(count))

    def scratch(self, element: Attribute, count: int, element_bytes: int) -> SSAValue:
        """Thread-private memory for some elements, 64-byte aligned, with a little room after it."""
        offset = self.scratch_bytes
        size = (count * element_bytes + 2 * ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        self.scratch_bytes = offset + size
        with self.emitter.at(0):
            return self.emitter.emit(
                memref.ViewOp, (self.block.args[-1], self.emitter.index(offset)), MemRefType(element, [count]),
            )

    def setting(self, key: str, default: int) -> int:
        """A schedule key, where the kernel's template has it and it is decided; else the default."""
        found = self.kernel.size(key) if key in SCHEDULES[self.kernel.template] else AUTO
        return default if found == AUTO else found

    def function(self) -> func.FuncOp:
        """The written function."""
        types = [*self.inputs, *self.results]
        last = self.block.args[-1]
        if self.scratch_bytes:
            types.append(MemRefType(i8, [self.scratch_bytes]))
            last.replace_all_uses_with(self.block.insert_arg(types[-1], len(types) - 1))
        self.block.erase_arg(self.block.args[-1])
        self.block.add_ops(self.emitter.scopes[0].ops)
        self.block.add_op(func.ReturnOp())
        return func.FuncOp(
            self.kernel.sym_name.data, FunctionType.from_lists(types, []), Region(self.block), "private"
        )


def memory_type(kind: Attribute, layout: Attribute | None = None) -> Attribute:
    """The type of a kernel's argument as its function takes it; row by row, or in a layout.

    Raises UnsupportedError for what is neither a tensor nor a number.
    """
    if isinstance(kind, TensorType):
        if isinstance(layout, StridedLayoutAttr):
            return MemRefType(kind.element_type, kind.get_shape(), layout)
        return memref_type(kind.element_type, kind.get_shape())
    if isinstance(kind, IndexType) or not hasattr(kind, "shape"):
        return kind
    raise UnsupportedError(f"a kernel argument of type {kind}")
