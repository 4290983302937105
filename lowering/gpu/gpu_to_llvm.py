"""gpu -> llvm for nvptx64: a gpu.func becomes a kernel with plain pointers, NVVM's intrinsics for the rest.

    gpu.thread_id, gpu.block_id    llvm.nvvm.read.ptx.sreg.tid.x, .ctaid.x
    gpu.barrier                    llvm.nvvm.barrier.cta.sync.aligned.all
    gpu.shuffle xor                llvm.nvvm.shfl.sync.bfly.i32, 64 bits as two halves
    memref.alloca in space 3       llvm.mlir.global in address space 3

Arithmetic and control flow are those of CPUs (stepwell.lowering.loops_to_llvm). Index arithmetic has 64 bits; a
division of numbers that are known to fit into 32 is made there, where it costs a fraction.
"""

from __future__ import annotations

from typing import cast

from xdsl.dialects import arith, gpu, llvm, memref, scf, vector
from xdsl.dialects.builtin import (
    AnyFloat,
    ArrayAttr,
    DenseArrayBase,
    DictionaryAttr,
    IndexType,
    IntAttr,
    IntegerAttr,
    IntegerType,
    MemRefType,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    UnitAttr,
    i32,
    i64,
)
from xdsl.ir import Attribute, Operation, Region, SSAValue

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.quick_ir import segments
from stepwell.dialects.upstream import core
from stepwell.dialects.upstream import gpu as upstream_gpu
from stepwell.dialects.upstream import llvm as upstream
from stepwell.lowering.gpu import geometry
from stepwell.lowering.gpu.device import Device
from stepwell.lowering.gpu.frame import ALIGNMENT, UNROLL
from stepwell.lowering.gpu.ranges import Ranges
from stepwell.lowering.gpu.tile_to_gpu import functions_of
from stepwell.lowering.loops_to_llvm import arithmetic, control, memory, vectors
from stepwell.lowering.loops_to_llvm.arithmetic import Handler
from stepwell.lowering.loops_to_llvm.builder import NO_BUNDLES, WRAPS, FunctionLowering
from stepwell.lowering.loops_to_llvm.module import ModuleLowering, flat_types
from stepwell.lowering.loops_to_llvm.types import POINTER, byte_size

SHARED_POINTER = llvm.LLVMPointerType(IntAttr(3))
UNIT = UnitAttr()


def lower(module: ModuleOp, device: Device) -> ModuleOp:
    """A new module in the llvm dialect with all kernels of a module of the gpu dialect, which stays as it is.

    Math functions have been expanded. Raises UnsupportedError, which names the op, for what has no lowering.
    """
    lowering = KernelLowering(device)
    for function in functions_of(module):
        lowering.kernel(function)
    return ModuleOp([*lowering.shared, *lowering.functions], {"llvm.target_triple": StringAttr(lowering.target.triple)})


class KernelLowering(ModuleLowering):
    """What the kernels of one module share; there is no frame, and there are no threads but the GPU's."""

    def __init__(self, device: Device) -> None:
        super().__init__(device.target(), False)
        self.handlers = HANDLERS
        self.shared: list[llvm.GlobalOp] = []
        self.name = ""
        self.ranges = Ranges({})

    def kernel(self, function: gpu.FuncOp) -> None:
        """One kernel."""
        self.name = function.sym_name.data
        self.ranges = Ranges.of(function)
        block, written = function.body.block, geometry.results_of(function)
        kinds: list[Attribute] = []
        attributes: list[DictionaryAttr] = []
        for number, argument in enumerate(block.args):
            parts = [POINTER] if isinstance(argument.type, MemRefType) else flat_types(self.types, argument.type)
            kinds += parts
            attributes.append(pointer_attributes(number in written) if parts[0] == POINTER else DictionaryAttr({}))
        region = Region()
        lower = FunctionLowering(self, region, kinds)
        for argument, value in zip(block.args, lower.entry.args, strict=True):
            if isinstance(argument.type, MemRefType):
                # Only its first element's address is used: what follows sees it as one dimension.
                flat = MemRefType(argument.type.element_type, [1])
                lower.buffers[argument] = lower.buffer(flat, value, iter(()))
            else:
                lower.values[argument] = value
        control.walk(lower, block)
        lower.finish()
        made = llvm.FuncOp(
            self.name,
            llvm.LLVMFunctionType(kinds, None),
            llvm.LinkageAttr("external"),
            body=region,
            other_props={"passthrough": ArrayAttr([StringAttr("nounwind")]), "arg_attrs": ArrayAttr(attributes)},
        )
        made.attributes["nvvm.kernel"] = UNIT
        made.attributes["nvvm.reqntid"] = DenseArrayBase.from_list(i32, [geometry.threads_of(function), 1, 1])
        self.functions.append(made)

    def shared_array(self, element: Attribute, count: int) -> str:
        """The name of a new global in the memory that a block's threads share."""
        name = f"{self.name}.shared{len(self.shared)}"
        kind = llvm.LLVMArrayType(IntAttr(count), self.types.memory(element))
        self.shared.append(llvm.GlobalOp(kind, name, "internal", addr_space=3, alignment=ALIGNMENT))
        return name


def pointer_attributes(written: bool) -> DictionaryAttr:
    """What is known of a tensor's address."""
    known: dict[str, Attribute] = {"llvm.noalias": UNIT, "llvm.align": IntegerAttr(ALIGNMENT, i64)}
    if not written:
        known["llvm.readonly"] = UNIT
    return DictionaryAttr(known)


# ------ ops


def intrinsic(
    lower: FunctionLowering, name: str, operands: list[SSAValue], result: Attribute | None
) -> SSAValue | None:
    """A call of an LLVM intrinsic."""
    properties = {
        "intrin": StringAttr(name),
        "op_bundle_sizes": NO_BUNDLES["op_bundle_sizes"],
        "fastmathFlags": NO_BUNDLES["fastmathFlags"],
        "operandSegmentSizes": segments(len(operands), 0),
    }
    op = lower.build(llvm.CallIntrinsicOp, operands, () if result is None else (result,), properties)
    return op.results[0] if result is not None else None


def number(register: str) -> Handler:
    """A thread's or a block's number: 32 bits, never negative."""

    def handle(lower: FunctionLowering, op: Operation) -> None:
        value = intrinsic(lower, f"llvm.nvvm.read.ptx.sreg.{register}.x", [], i32)
        assert value is not None
        lower.values[op.results[0]] = lower.emit(llvm.ZExtOp, (value,), i64)

    return handle


def barrier(lower: FunctionLowering, op: Operation) -> None:
    """All threads of a block meet."""
    intrinsic(lower, "llvm.nvvm.barrier.cta.sync.aligned.all", [lower.integer(0, i32)], None)


def shuffle(lower: FunctionLowering, op: Operation) -> None:
    """Lanes of whole warps exchange; values travel as integers."""
    assert isinstance(op, upstream_gpu.ShuffleOp)
    if op.mode.data != upstream_gpu.ShuffleMode.XOR:
        raise UnsupportedError(f"gpu.shuffle {op.mode.data.value}")
    value, offset = lower.value(op.value), lower.value(op.offset)
    kind = value.type
    bits = byte_size(kind) * 8
    carrier = i32 if bits == 32 else i64
    if isinstance(kind, AnyFloat):
        value = lower.emit(llvm.BitcastOp, (value,), carrier)
    if bits == 32:
        value = _exchange(lower, value, offset)
    else:
        low = lower.emit(llvm.TruncOp, (value,), i32)
        half = lower.integer(32, i64)
        high = lower.emit(llvm.TruncOp, (lower.emit(llvm.LShrOp, (value, half), i64),), i32)
        low, high = (lower.emit(llvm.ZExtOp, (_exchange(lower, part, offset),), i64) for part in (low, high))
        value = lower.emit(llvm.OrOp, (lower.emit(llvm.ShlOp, (high, half), i64, WRAPS), low), i64)
    lower.values[op.shuffle_result] = lower.emit(llvm.BitcastOp, (value,), kind) if isinstance(kind, AnyFloat) else value
    lower.known[op.valid] = 1


def _exchange(lower: FunctionLowering, value: SSAValue, offset: SSAValue) -> SSAValue:
    operands = [lower.integer(-1, i32), value, offset, lower.integer(31, i32)]
    found = intrinsic(lower, "llvm.nvvm.shfl.sync.bfly.i32", operands, i32)
    assert found is not None
    return found


def shared_memory(lower: FunctionLowering, op: Operation) -> None:
    """A block's memory, by a generic pointer: the back end finds out that it is shared."""
    module = lower.module
    assert isinstance(module, KernelLowering)
    kind = memory.memref_type(op.results[0])
    (count,) = kind.get_shape()
    name = module.shared_array(kind.element_type, count)
    address = lower.head_op(llvm.AddressOfOp, (), SHARED_POINTER, {"global_name": SymbolRefAttr(name)})
    pointer = lower.head_op(upstream.AddrSpaceCastOp, (address,), POINTER, {})
    lower.buffers[op.results[0]] = lower.buffer(MemRefType(kind.element_type, [count]), pointer, iter(()))


def vector_load(lower: FunctionLowering, op: Operation) -> None:
    """Neighbours at once: they start at a multiple of their size."""
    result = op.results[0]
    pointer = lower.address(lower.buffers[op.operands[0]], op.operands[1:])
    kind = lower.types.memory(result.type)
    lower.values[result] = memory.from_memory(lower, lower.load(pointer, kind, byte_size(kind)), result.type)


def vector_store(lower: FunctionLowering, op: Operation) -> None:
    """The same for writing."""
    value, target, *indices = op.operands
    stored = memory.to_memory(lower, lower.value(value))
    lower.store(stored, lower.address(lower.buffers[target], indices), byte_size(stored.type))


def from_elements(lower: FunctionLowering, op: Operation) -> None:
    """A vector, element by element."""
    kind = lower.types.value(op.results[0].type)
    value = lower.emit(upstream.PoisonOp, (), kind)
    for place, element in enumerate(op.operands):
        value = lower.emit(llvm.InsertElementOp, (value, lower.value(element), lower.integer(place)), kind)
    lower.values[op.results[0]] = value


def lane(lower: FunctionLowering, op: Operation) -> None:
    """One element of a vector."""
    source, result = lower.value(op.operands[0]), op.results[0]
    position = int(cast("DenseArrayBase[IntegerType]", op.properties["static_position"]).get_values()[0])
    operands = (source, lower.integer(position))
    lower.values[result] = lower.emit(upstream.ExtractElementOp, operands, lower.types.value(result.type))


def division(wide: type[Operation], narrow: type[Operation]) -> Handler:
    """Unsigned division of indices, in 32 bits where both are known to fit."""
    plain = arithmetic.HANDLERS[wide]

    def handle(lower: FunctionLowering, op: Operation) -> None:
        module = lower.module
        assert isinstance(module, KernelLowering)
        if not isinstance(op.results[0].type, IndexType) or not all(map(module.ranges.fits, op.operands)):
            plain(lower, op)
            return
        operands = [lower.emit(llvm.TruncOp, (lower.value(operand),), i32) for operand in op.operands]
        found = lower.emit(narrow, operands, i32)
        lower.values[op.results[0]] = lower.emit(llvm.ZExtOp, (found,), i64)

    return handle


def loop(lower: FunctionLowering, op: Operation) -> None:
    """scf.for; one that is to be unrolled is written once for each step, its number known."""
    if UNROLL not in op.attributes:
        control.lower_for(lower, op)
        return
    first, last, step, *carried = op.operands
    induction, *names = op.regions[0].block.args
    for name, value in zip(names, carried, strict=True):
        lower.values[name] = lower.value(value)
    for number in range(lower.known[first], lower.known[last], lower.known[step]):
        lower.values.pop(induction, None)
        lower.known[induction] = number
        end = control.walk(lower, op.regions[0].block)
        assert end is not None
        found = [lower.value(value) for value in end.operands]
        lower.values.update(zip(names, found, strict=True))
    lower.values.update(zip(op.results, (lower.values[name] for name in names), strict=True))


def leave(lower: FunctionLowering, op: Operation) -> None:
    """gpu.return"""
    lower.build(llvm.ReturnOp, ())
    lower.block = None


HANDLERS: dict[type[Operation], Handler] = {
    **arithmetic.HANDLERS,
    **memory.HANDLERS,
    **vectors.HANDLERS,
    **control.HANDLERS,
    scf.ForOp: loop,
    gpu.ThreadIdOp: number("tid"),
    gpu.BlockIdOp: number("ctaid"),
    gpu.BarrierOp: barrier,
    upstream_gpu.ShuffleOp: shuffle,
    memref.AllocaOp: shared_memory,
    vector.LoadOp: vector_load,
    vector.StoreOp: vector_store,
    vector.ExtractOp: lane,
    core.FromElementsOp: from_elements,
    arith.DivUIOp: division(arith.DivUIOp, llvm.UDivOp),
    arith.RemUIOp: division(arith.RemUIOp, llvm.URemOp),
    gpu.ReturnOp: leave,
}
