"""host ops -> llvm: threads, barrier, memory of run-time size, and leaving with an exception.

A raise writes the number of its site and the message's values into the frame and returns. All threads compute
equal scalars, so all of them raise together; only inside a chunk of a parallel loop may one thread raise alone:
it then leaves its chunk, and all agree on it after the barrier that follows (`check_after_chunk`).
"""

from __future__ import annotations

from typing import cast

from xdsl.dialects import llvm
from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseArrayBase,
    FileLineColLoc,
    Float64Type,
    FusedLoc,
    IntegerAttr,
    IntegerType,
    LocationAttr,
    MemRefType,
    NameLoc,
    i1,
    i32,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue

from stepwell.dialects import host
from stepwell.dialects.upstream import llvm as upstream
from stepwell.lowering.loops_to_llvm.arithmetic import Handler
from stepwell.lowering.loops_to_llvm.builder import FunctionLowering
from stepwell.lowering.loops_to_llvm.frame import HEADER, SLOT
from stepwell.lowering.loops_to_llvm.types import POINTER, Size, byte_size

BYTE = IntegerType(8)
OUT_OF_MEMORY = "builtins.MemoryError", "out of memory: {} bytes"


def slot_pointer(lower: FunctionLowering, slot: int) -> SSAValue:
    """The address of a slot of the frame."""
    assert lower.frame is not None
    return lower.offset(lower.frame, slot * SLOT, BYTE)


def read_slot(lower: FunctionLowering, slot: int, kind: Attribute = i64) -> SSAValue:
    """A slot's value now."""
    return lower.load(slot_pointer(lower, slot), kind, SLOT)


def write_slot(lower: FunctionLowering, slot: int, value: SSAValue) -> None:
    """Set a slot."""
    lower.store(value, slot_pointer(lower, slot), SLOT)


def thread_id(lower: FunctionLowering, op: Operation) -> None:
    """host.thread_id: the second argument of every function that runs."""
    lower.values[op.results[0]] = thread_number(lower)


def thread_number(lower: FunctionLowering) -> SSAValue:
    """This thread's number as i64."""
    assert lower.thread is not None
    return lower.once(llvm.SExtOp, (lower.thread,), i64)


def thread_count(lower: FunctionLowering, op: Operation) -> None:
    """host.thread_count."""
    lower.values[op.results[0]] = threads(lower)


def threads(lower: FunctionLowering) -> SSAValue:
    """How many threads run this program, read once where the function begins."""
    assert lower.thread_total is not None
    return lower.thread_total


def next_share(lower: FunctionLowering, op: Operation) -> None:
    """host.next_share: a call, but where one thread runs."""
    assert lower.frame is not None and lower.thread is not None
    together, on = lower.new_block(), lower.new_block([i64])
    alone = lower.compare("eq", threads(lower), lower.integer(1))
    lower.branch_if(alone, on, together, [lower.integer(2**63 - 1)])
    lower.start(together)
    with lower.scope():
        number = lower.call(lower.module.need("host.next_share"), (lower.frame, lower.thread), i64)
        assert number is not None
        lower.branch(on, [number])
    lower.start(on)
    lower.values[op.results[0]] = on.args[0]


def barrier(lower: FunctionLowering, op: Operation) -> None:
    """host.barrier; after chunks that may have raised, all threads look together whether one did."""
    wait(lower)
    if lower.raises_in_chunk:
        lower.raises_in_chunk = False
        status = lower.emit(llvm.TruncOp, (read_slot(lower, HEADER["status"]),), i32)
        wait(lower)
        good, bad = lower.new_block(), lower.new_block()
        lower.branch_if(lower.compare("eq", status, lower.integer(0, i32)), good, bad)
        lower.start(bad)
        with lower.scope():
            lower.module.leave_function(lower, status)
        lower.start(good)


def wait(lower: FunctionLowering) -> None:
    """The barrier itself: nothing but a comparison where one thread runs."""
    assert lower.frame is not None
    together, on = lower.new_block(), lower.new_block()
    lower.branch_if(lower.compare("eq", threads(lower), lower.integer(1)), on, together)
    lower.start(together)
    count = lower.emit(llvm.TruncOp, (threads(lower),), i32)
    lower.call(lower.module.need("host.barrier"), (lower.frame, count))
    lower.branch(on)
    lower.start(on)


def raise_(lower: FunctionLowering, op: Operation) -> None:
    """host.raise: what follows in the block is dead."""
    raise_op = cast("host.RaiseOp", op)
    leave_with(lower, raise_op.exception.data, raise_op.message.data, list(op.operands), op.location)


def leave_with(
    lower: FunctionLowering, exception: str, message: str, values: list[SSAValue], location: LocationAttr | None
) -> None:
    """Store a status and message, and go."""
    kinds = ["float" if isinstance(v.type, Float64Type) else "bool" if v.type == i1 else "int" for v in values]
    number = lower.module.raise_site(exception, message, kinds, describe(location))
    code = lower.integer(number)
    stored = [
        _as_slot(lower, lower.value(value) if value in lower.values or value in lower.known else value)
        for value in values
    ]
    if lower.leave is not None:
        lower.raises_in_chunk = True
        _store_first(lower, code, stored)
        lower.branch(lower.leave)
        return
    for i, value in enumerate(stored):
        write_slot(lower, HEADER["message"] + i, value)
    write_slot(lower, HEADER["status"], code)
    lower.module.leave_function(lower, lower.integer(number, i32))


def _as_slot(lower: FunctionLowering, value: SSAValue) -> SSAValue:
    """A message value as 8 bytes."""
    return lower.emit(llvm.ZExtOp, (value,), i64) if value.type == i1 else value


def _store_first(lower: FunctionLowering, code: SSAValue, values: list[SSAValue]) -> None:
    """Of several threads that raise in their chunks, the first one's message stands."""
    pointer = slot_pointer(lower, HEADER["status"])
    pair = llvm.LLVMStructType.from_type_list([i64, i1])
    swapped = lower.emit(
        upstream.CmpXchgOp,
        (pointer, lower.integer(0), code),
        pair,
        {
            "success_ordering": IntegerAttr(upstream.ORDERINGS["acq_rel"], i64),
            "failure_ordering": IntegerAttr(upstream.ORDERINGS["monotonic"], i64),
        },
    )
    mine = lower.emit(llvm.ExtractValueOp, (swapped,), i1, {"position": DenseArrayBase.from_list(i64, [1])})
    write, done = lower.new_block(), lower.new_block()
    lower.branch_if(mine, write, done)
    lower.start(write)
    for i, value in enumerate(values):
        write_slot(lower, HEADER["message"] + i, value)
    lower.branch(done)
    lower.start(done)


def describe(location: LocationAttr | None) -> str | None:
    """`file:line:column` of an op, if it has one."""
    match location:
        case FileLineColLoc():
            return f"{location.filename.data}:{location.line.data}:{location.column.data}"
        case FusedLoc():
            return _first_described(location.locations)
        case NameLoc():
            return describe(location.location) if isinstance(location.location, LocationAttr) else None
    return None


def _first_described(locations: Attribute) -> str | None:
    """The first place that a fused location names."""
    for inner in cast("ArrayAttr[LocationAttr]", locations):
        if (text := describe(inner)) is not None:
            return text
    return None


def undefined(lower: FunctionLowering, op: Operation) -> None:
    """host.undefined: zeros, so that nothing goes wrong where a size is looked at in vain."""
    result = op.results[0]
    parts = [lower.module.zero(lower, kind) for kind in lower.flat_types(result.type)]
    lower.unflatten(result, iter(parts))


def alloc(lower: FunctionLowering, op: Operation) -> None:
    """host.alloc: thread 0 allocates, all get the address; MemoryError where there is none."""
    kind = cast("MemRefType[Attribute]", op.results[0].type)
    dynamic = iter(op.operands)
    sizes: list[Size] = [lower.index(next(dynamic)) if size < 0 else size for size in kind.get_shape()]
    total = lower.size(lower.multiply(lower.product(sizes), byte_size(kind.element_type)))
    pointer = _collective(lower, "host.allocate", total)
    dynamic_sizes = iter([size for size, have in zip(sizes, kind.get_shape(), strict=True) if have < 0])
    lower.buffers[op.results[0]] = lower.buffer(kind, pointer, dynamic_sizes)


def reserve(lower: FunctionLowering, op: Operation) -> None:
    """host.reserve: the arena as it is where it suffices, else a new one."""
    wanted = lower.value(op.operands[0])
    have = read_slot(lower, HEADER["arena_bytes"])
    grow, done = lower.new_block(), lower.new_block([POINTER])
    enough = lower.compare("sle", wanted, have)
    arena = read_slot(lower, HEADER["arena"], POINTER)
    lower.branch_if(enough, done, grow, [arena])
    lower.start(grow)
    with lower.scope():
        lower.branch(done, [_collective(lower, "host.grow", wanted)])
    lower.start(done)
    kind = cast("MemRefType[Attribute]", op.results[0].type)
    lower.buffers[op.results[0]] = lower.buffer(kind, done.args[0], iter([wanted]))


def _collective(lower: FunctionLowering, function: str, amount: SSAValue) -> SSAValue:
    """Call an allocating function in all threads; it gives all of them the same pointer, or null."""
    assert lower.frame is not None and lower.thread is not None
    pointer = lower.call(lower.module.need(function), (lower.frame, lower.thread, amount), POINTER)
    assert pointer is not None
    number = lower.emit(llvm.PtrToIntOp, (pointer,), i64)
    good, bad = lower.new_block(), lower.new_block()
    lower.branch_if(lower.compare("ne", number, lower.integer(0)), good, bad)
    lower.start(bad)
    with lower.scope():
        outer, lower.leave = lower.leave, None
        leave_with(lower, *OUT_OF_MEMORY, [amount], lower.location)
        lower.leave = outer
    lower.start(good)
    return pointer


def free(lower: FunctionLowering, op: Operation) -> None:
    """host.free."""
    assert lower.frame is not None and lower.thread is not None
    pointer = lower.buffers[op.operands[0]].pointer
    lower.call(lower.module.need("host.release"), (lower.frame, lower.thread, pointer))


HANDLERS: dict[type[Operation], Handler] = {
    host.ThreadIdOp: thread_id,
    host.ThreadCountOp: thread_count,
    host.NextShareOp: next_share,
    host.BarrierOp: barrier,
    host.RaiseOp: raise_,
    host.UndefinedOp: undefined,
    host.AllocOp: alloc,
    host.FreeOp: free,
    host.ReserveOp: reserve,
}
