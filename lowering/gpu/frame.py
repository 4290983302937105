"""A gpu.func while it is written: arguments, sizes, shared memory, who this thread is."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import gpu, memref, scf, vector
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DenseArrayBase,
    FunctionType,
    IntegerAttr,
    MemRefType,
    StringAttr,
    TensorType,
    UnitAttr,
    i1,
    i32,
    i64,
)
from xdsl.ir import Attribute, Block, BlockArgument, Region, SSAValue

from stepwell.dialects.tile import KernelOp
from stepwell.dialects.upstream import core
from stepwell.lowering.gpu import geometry
from stepwell.lowering.gpu.device import Device
from stepwell.lowering.gpu.evaluate import ThreadEvaluator
from stepwell.lowering.tile_to_loops.emit import INDEX, SLT, Emitter
from stepwell.lowering.tile_to_loops.frame import memory_type
from stepwell.lowering.tile_to_loops.graph import Graph
from stepwell.lowering.tile_to_loops.polynomial import ONE, Poly

SHARED = IntegerAttr(3, i64)
"""The memory space that a block's threads share, by its number in PTX."""

ALIGNMENT = 16
"""Bytes that every tensor and every shared array is aligned to: one access of a thread."""

UNROLL = "stepwell.unroll"
"""Marks a loop, of few steps, that is written once for each."""

X = {"dimension": gpu.DimensionAttr(gpu.DimensionEnum.X)}
PLAIN_ALLOCA = {
    "operandSegmentSizes": DenseArrayBase.from_list(i32, [0, 0]),
    "alignment": IntegerAttr(ALIGNMENT, i64),
}


class Frame:
    """A kernel's function while it is written."""

    def __init__(self, kernel: KernelOp, device: Device) -> None:
        self.kernel, self.device = kernel, device
        self.graph = Graph(kernel)
        self.emitter = emitter = Emitter(device.target())
        emitter.location = kernel.location
        inputs = [memory_type(kind) for kind in kernel.function_type.inputs]
        results = [memory_type(kind) for kind in kernel.function_type.outputs]
        names = self.graph.block.args
        axes = self._dynamic_axes()
        self.block = Block(arg_types=[*inputs, *results, *[i64] * len(axes)])
        for value in self.block.args:
            emitter.argument(value)
        given = self.block.args[: len(inputs)]
        tensors: dict[SSAValue, SSAValue] = {}
        scalars: dict[SSAValue, SSAValue] = {}
        for name, argument in zip(names, given, strict=True):
            (tensors if isinstance(name.type, TensorType) else scalars)[name] = argument
        self.evaluator = ThreadEvaluator(emitter, self.graph, {}, scalars, tensors)
        self.symbols: dict[SSAValue, int] = {}
        self.sources = [(argument.index, axis) for argument, axis in axes]
        for source, length in zip(axes, self.block.args[len(inputs) + len(results) :], strict=True):
            size = emitter.emit(core.IndexCastOp, (length,), INDEX)
            self.evaluator.sizes[source] = emitter.atom(size)
            self.symbols[size] = len(self.symbols)
        for number, value in enumerate(given):
            if value.type == INDEX:
                self.symbols[value] = len(self.symbols)
                self.sources.append((number, -1))
        for tensor, memory in tensors.items():
            self.evaluator.memories[tensor] = self._flat(tensor, memory)
        outputs = self.block.args[len(inputs) : len(inputs) + len(results)]
        self.outputs = [
            (value, self._flat(value, memory)) for value, memory in zip(self.graph.roots, outputs, strict=True)
        ]
        self._results = (len(inputs), len(results))
        self.threads = 0
        self.grids: list[str] = []
        self.decisions: list[str] = []

    def _dynamic_axes(self) -> list[tuple[BlockArgument, int]]:
        """Where each size that is not static comes from: (argument of the kernel's body, axis), each once."""
        found: dict[tuple[BlockArgument, int], None] = {}
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

    def block_number(self) -> Poly:
        """The number of this block."""
        with self.emitter.at(0):
            return self.emitter.atom(self.emitter.emit(gpu.BlockIdOp, (), INDEX, X))

    def thread(self) -> Poly:
        """The number of this thread in its block; `threads` is set before."""
        with self.emitter.at(0):
            return self.emitter.atom(self.emitter.emit(gpu.ThreadIdOp, (), INDEX, X), self.threads)

    def shared(self, element: Attribute, count: int) -> SSAValue:
        """Memory that the threads of a block share."""
        with self.emitter.at(0):
            op = memref.AllocaOp.create(
                result_types=(MemRefType(element, [count], memory_space=SHARED),), properties=PLAIN_ALLOCA
            )
            self.emitter.scopes[-1].ops.append(op)
            return self.emitter.argument(op.results[0])

    def unroll(self) -> None:
        """Mark the loop that has just been written."""
        self.emitter.scopes[-1].ops[-1].attributes[UNROLL] = UnitAttr()

    def barrier(self) -> None:
        """All threads of the block meet, and see what each has written."""
        self.emitter.effect(gpu.BarrierOp, ())

    # ------ conditions

    def below(self, a: Poly, b: Poly) -> SSAValue:
        """a < b."""
        emitter = self.emitter
        return emitter.emit(core.CmpiOp, (emitter.scalar(a), emitter.scalar(b)), i1, {"predicate": SLT})

    def choose(self, condition: SSAValue, a: SSAValue, b: SSAValue) -> SSAValue:
        """a where the condition holds, else b."""
        return a if a is b else self.emitter.emit(core.SelectOp, (condition, a, b), a.type)

    # ------ what is known about the launch

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
        erase_unused(self.block)
        kind = FunctionType.from_lists(self.block.arg_types, [])
        function = gpu.FuncOp(self.kernel.sym_name.data, kind, Region(self.block), kernel=True)
        function.location = self.kernel.location
        geometry.set_launch(function, self.threads, self.grids, self.sources, self._results)
        function.attributes[geometry.DECISIONS] = ArrayAttr([StringAttr(text) for text in self.decisions])
        return function


EFFECTS = (gpu.BarrierOp, gpu.ReturnOp, memref.StoreOp, vector.StoreOp, scf.ForOp, scf.IfOp, scf.YieldOp)


def erase_unused(block: Block) -> None:
    """Erase what computes or reads something that nobody needs."""
    for op in reversed(list(block.ops)):
        for region in op.regions:
            for inner in region.blocks:
                erase_unused(inner)
        if not isinstance(op, EFFECTS) and all(result.first_use is None for result in op.results):
            block.erase_op(op)
