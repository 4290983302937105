"""A gpu.func while it is written: arguments, sizes, shared memory, who this thread is."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import gpu, memref
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DenseArrayBase,
    FunctionType,
    IntegerAttr,
    MemRefType,
    StringAttr,
    TensorType,
    i32,
    i64,
)
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.ir.affine import AffineMap

from stepwell.dialects.tile import AUTO, SCHEDULES, KernelOp
from stepwell.dialects.upstream import core
from stepwell.lowering.gpu import geometry
from stepwell.lowering.gpu.device import Device
from stepwell.lowering.gpu.reduce import BlockEvaluator
from stepwell.lowering.tile_to_loops.emit import INDEX, Emitter
from stepwell.lowering.tile_to_loops.frame import memory_type
from stepwell.lowering.tile_to_loops.graph import Graph
from stepwell.lowering.tile_to_loops.polynomial import ONE, Atom, Poly

SHARED = IntegerAttr(3, i64)
"""The memory space that a block's threads share, by its number in PTX."""


class Frame:
    """A kernel's function while it is written."""

    def __init__(self, kernel: KernelOp, device: Device) -> None:
        self.kernel, self.device = kernel, device
        self.graph = Graph(kernel)
        self.emitter = emitter = Emitter(device.target())
        emitter.location = kernel.location  # type: ignore[assignment]
        inputs = [memory_type(kind) for kind in kernel.function_type.inputs]
        results = [memory_type(kind) for kind in kernel.function_type.outputs]
        names = self.graph.block.args
        self._sources = self._dynamic_sizes()
        self.block = Block(arg_types=[*inputs, *results, *[i64] * len(self._sources)])
        for value in self.block.args:
            emitter.argument(value)
        given = self.block.args[: len(inputs)]
        tensors = {n: g for n, g in zip(names, given, strict=True) if isinstance(n.type, TensorType)}
        scalars = {n: g for n, g in zip(names, given, strict=True) if not isinstance(n.type, TensorType)}
        self.evaluator = BlockEvaluator(self, scalars, tensors)
        self.symbols: dict[Atom, int] = {}
        for number, (source, value) in enumerate(
            zip(self._sources, self.block.args[len(inputs) + len(results) :], strict=True)
        ):
            size = emitter.atom(emitter.emit(core.IndexCastOp, (value,), INDEX))
            self.evaluator.sizes[source] = size
            self.symbols[next(iter(size.atoms()))] = number
        self._sources += [(name, -1) for name, value in scalars.items() if value.type == INDEX]
        for source, _ in self._sources[len(self.symbols) :]:
            self.symbols[next(iter(emitter.atom(scalars[source]).atoms()))] = len(self.symbols)  # type: ignore[index]
        for name, memory in tensors.items():
            self.evaluator.memories[name] = self._flat(name, memory)
        self.outputs = [
            (value, self._flat(value, memory))
            for value, memory in zip(
                self.graph.roots, self.block.args[len(inputs) : len(inputs) + len(results)], strict=True
            )
        ]
        self.results = (len(inputs), len(results))
        self.threads = 0
        self.grids: list[AffineMap] = []
        self.decisions: list[str] = []

    def _dynamic_sizes(self) -> list[tuple[object, int]]:
        """Where each size that is not static comes from: (argument of the kernel's body, axis), each once."""
        found: dict[tuple[object, int], None] = {}
        for value in (*self.graph.block.args, *self.graph.roots):
            if isinstance(value.type, TensorType):
                for axis, size in enumerate(value.type.get_shape()):
                    if size == DYNAMIC_INDEX and self.graph.static_size(value, axis) is None:
                        source = self.graph.size_source(value, axis)
                        if isinstance(source, tuple):
                            found[source] = None
        return list(found)

    def _flat(self, tensor: SSAValue, memory: SSAValue) -> SSAValue:
        """A tensor's memref as one dimension."""
        assert isinstance(tensor.type, TensorType)
        count = ONE
        for axis in range(tensor.type.get_num_dims()):
            count = count * self.evaluator.size(tensor, axis)
        size = count.constant
        return self.emitter.flat(memory, size if size is not None else self.emitter.scalar(count))

    # ------ threads and memory

    def number(self, op: type[gpu.ThreadIdOp] | type[gpu.BlockIdOp], bound: int | None = None) -> Poly:
        """The number of this thread in its block, or of the block."""
        with self.emitter.at(0):
            value = self.emitter.emit(op, (), INDEX, {"dimension": gpu.DimensionAttr(gpu.DimensionEnum.X)})
        return self.emitter.atom(value, bound)

    def thread(self) -> Poly:
        """The number of this thread in its block; `threads` is set before."""
        return self.number(gpu.ThreadIdOp, self.threads)

    def shared(self, element: Attribute, count: int) -> SSAValue:
        """Memory that the threads of a block share."""
        kind = MemRefType(element, [count], memory_space=SHARED)
        with self.emitter.at(0):
            op = memref.AllocaOp([], [], kind)
            op.properties["alignment"] = IntegerAttr(16, i64)
            self.emitter.scopes[-1].ops.append(op)
            return self.emitter.argument(op.results[0])

    def barrier(self) -> None:
        """All threads of the block meet, and see what each has written."""
        self.emitter.effect(gpu.BarrierOp, ())

    def setting(self, key: str, default: int) -> int:
        """A schedule key, where the kernel's template has it and it is decided; else the default."""
        found = self.kernel.size(key) if key in SCHEDULES[self.kernel.template] else AUTO
        return default if found == AUTO else found

    # ------ what is known about the launch

    def launch(self, threads: int) -> None:
        """How many threads a block has."""
        self.threads = threads

    def blocks(self, counts: Sequence[tuple[Poly, int]]) -> None:
        """How many blocks some results need: the product of `count / size`, rounded up."""
        self.grids.append(geometry.blocks(counts, self.symbols))

    def decide(self, text: str) -> None:
        """One decision of the schedule, in words, for readers of the source."""
        self.decisions.append(text)

    def function(self) -> gpu.FuncOp:
        """The written function."""
        self.block.add_ops(self.emitter.scopes[0].ops)
        self.block.add_op(gpu.ReturnOp([]))
        kind = FunctionType.from_lists(self.block.arg_types, [])
        function = gpu.FuncOp(self.kernel.sym_name.data, kind, Region(self.block), kernel=True)
        function.location = self.kernel.location
        geometry.set_launch(function, self.threads, self.grids)
        places = {argument: number for number, argument in enumerate(self.graph.block.args)}
        function.attributes[geometry.SIZES] = geometry.source_attribute(
            [(places[source], axis) for source, axis in self._sources]  # type: ignore[index]
        )
        function.attributes["stepwell.results"] = DenseArrayBase.from_list(i32, list(self.results))
        function.attributes["stepwell.template"] = StringAttr(self.kernel.template)
        function.attributes["stepwell.decisions"] = ArrayAttr([StringAttr(text) for text in self.decisions])
        return function
