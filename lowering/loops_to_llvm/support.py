"""Functions that a program brings along when it needs them: barrier, shares and allocator, in the llvm dialect.

The barrier turns a generation number: the last thread to arrive raises it, the others wait for that, shortly
by spinning and then in the kernel (futex on Linux; elsewhere they yield the processor between looks). A short
bounded spin keeps working when there are more threads than free cores. It also sets the counter of shares back to 0.

Buffers of `host.alloc` begin 64 bytes after a header [base for free, next, previous] and form a list whose
head is in the frame, so that the caller can release what a program did not hand out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from xdsl.dialects import llvm
from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, StringAttr, i8, i32, i64
from xdsl.ir import Attribute, Block, SSAValue

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.target import Target
from stepwell.dialects.upstream import llvm as upstream
from stepwell.lowering.loops_to_llvm.builder import FunctionLowering
from stepwell.lowering.loops_to_llvm.frame import HEADER, SLOT
from stepwell.lowering.loops_to_llvm.types import POINTER

if TYPE_CHECKING:
    from stepwell.lowering.loops_to_llvm.module import ModuleLowering

SPINS = 200
"""Looks before a waiting thread sleeps: some 5 microseconds."""

ALIGNMENT = 64
NEXT, PREVIOUS = 8, 16
"""Byte offsets in a buffer's header; the base for free comes first."""

FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98}
"""Number of the futex system call on Linux."""
WAIT_PRIVATE, WAKE_PRIVATE = 128, 129

EXTERNAL: dict[str, tuple[tuple[Attribute, ...], Attribute | None]] = {
    "malloc": ((i64,), POINTER),
    "free": ((POINTER,), None),
    "syscall": ((i64, POINTER, i32, i32, POINTER, POINTER, i32), i64),
    "sched_yield": ((), i32),
    "SwitchToThread": ((), i32),
}
"""What may be called outside: from libc, or the system's own library."""


def call_intrinsic(
    lower: FunctionLowering, name: str, arguments: tuple[SSAValue, ...], result: Attribute | None
) -> SSAValue | None:
    """A call of one of LLVM's own functions; its result, if it has one."""
    op = lower.build(
        llvm.CallIntrinsicOp,
        arguments,
        () if result is None else (result,),
        {
            "intrin": StringAttr(name),
            "fastmathFlags": llvm.FastMathAttr(None),
            "op_bundle_sizes": DenseArrayBase.from_list(i32, ()),
            "operandSegmentSizes": DenseArrayBase.from_list(i32, (len(arguments), 0)),
        },
    )
    return op.results[0] if op.results else None


def pause(lower: FunctionLowering, target: Target) -> None:
    """Tell the core that this is a spin loop."""
    if target.architecture == "x86_64":
        call_intrinsic(lower, "llvm.x86.sse2.pause", (), None)
    elif target.architecture == "aarch64":
        call_intrinsic(lower, "llvm.aarch64.hint", (lower.integer(1, i32),), None)


def ticks(lower: FunctionLowering, target: Target) -> SSAValue:
    """A counter that runs at a constant rate on all cores."""
    name = "llvm.readcyclecounter" if target.architecture == "x86_64" else "llvm.readsteadycounter"
    result = call_intrinsic(lower, name, (), i64)
    assert result is not None
    return result


def _atomic_add(lower: FunctionLowering, pointer: SSAValue, amount: int, ordering: str) -> SSAValue:
    properties = {
        "bin_op": IntegerAttr(upstream.RMW_OPERATIONS["add"], i64),
        "ordering": IntegerAttr(upstream.ORDERINGS[ordering], i64),
    }
    return lower.emit(upstream.AtomicRMWOp, (pointer, lower.integer(amount, i32)), i32, properties)


def _atomic_load(lower: FunctionLowering, pointer: SSAValue, ordering: str) -> SSAValue:
    properties = {
        "alignment": IntegerAttr(4, i64),
        "ordering": IntegerAttr(upstream.ORDERINGS[ordering], i64),
    }
    return lower.emit(llvm.LoadOp, (pointer,), i32, properties)


def _atomic_store(lower: FunctionLowering, value: SSAValue, pointer: SSAValue, ordering: str) -> None:
    properties = {
        "alignment": IntegerAttr(4, i64),
        "ordering": IntegerAttr(upstream.ORDERINGS[ordering], i64),
    }
    lower.build(upstream.StoreOp, (value, pointer), (), properties)


def build_barrier(module: ModuleLowering) -> None:
    """`host.barrier(frame, count)`: count threads meet."""
    with module.function("host.barrier", (POINTER, i32), None) as lower:
        frame, count = lower.entry.args
        arrived, generation, sleepers, taken = (
            lower.offset(frame, HEADER[name] * SLOT, i8) for name in ("arrived", "generation", "sleepers", "taken")
        )
        turn = _atomic_load(lower, generation, "acquire")
        before = _atomic_add(lower, arrived, 1, "acq_rel")
        mine = lower.emit(llvm.AddOp, (before, lower.integer(1, i32)), i32)
        last, wait, done = lower.new_block(), lower.new_block([i32]), lower.new_block()
        zero = lower.integer(0, i32)
        lower.branch_if(lower.compare("eq", mine, count), last, wait, (), [zero])
        lower.start(last)
        _atomic_store(lower, zero, arrived, "monotonic")
        _atomic_store(lower, zero, taken, "monotonic")
        following = lower.emit(llvm.AddOp, (turn, lower.integer(1, i32)), i32)
        _atomic_store(lower, following, generation, "seq_cst")
        _wake_sleepers(lower, module.target, generation, sleepers, done)
        _wait_for_turn(lower, module.target, (generation, sleepers, turn), wait, done)
        lower.start(done)
        lower.build(llvm.ReturnOp, ())


def build_next_share(module: ModuleLowering) -> None:
    """`host.next_share(frame, tid)`: the number of one more share."""
    with module.function("host.next_share", (POINTER, i32), i64) as lower:
        taken = lower.offset(lower.entry.args[0], HEADER["taken"] * SLOT, i8)
        number = _atomic_add(lower, taken, 1, "monotonic")
        lower.build(llvm.ReturnOp, (lower.emit(llvm.ZExtOp, (number,), i64),))


def _wake_sleepers(
    lower: FunctionLowering, target: Target, generation: SSAValue, sleepers: SSAValue, done: Block
) -> None:
    if target.system != "linux":
        lower.branch(done)
        return
    asleep = _atomic_load(lower, sleepers, "seq_cst")
    wake = lower.new_block()
    lower.branch_if(lower.compare("ne", asleep, lower.integer(0, i32)), wake, done)
    lower.start(wake)
    _futex(lower, target, generation, WAKE_PRIVATE, lower.integer(2**31 - 1, i32))
    lower.branch(done)


def _wait_for_turn(
    lower: FunctionLowering, target: Target, words: tuple[SSAValue, SSAValue, SSAValue], wait: Block, done: Block
) -> None:
    generation, sleepers, turn = words
    look, spin, sleep, again = wait, lower.new_block(), lower.new_block(), lower.new_block()
    decide = lower.new_block()
    lower.start(look)
    now = _atomic_load(lower, generation, "acquire")
    lower.branch_if(lower.compare("ne", now, turn), done, decide)
    lower.start(decide)
    lower.branch_if(lower.compare("ult", look.args[0], lower.integer(SPINS, i32)), spin, sleep)
    lower.start(spin)
    pause(lower, target)
    lower.branch(again)
    lower.start(sleep)
    if target.system == "linux":
        _atomic_add(lower, sleepers, 1, "seq_cst")
        _futex(lower, target, generation, WAIT_PRIVATE, turn)
        _atomic_add(lower, sleepers, -1, "seq_cst")
    else:
        name = "SwitchToThread" if target.system == "windows" else "sched_yield"
        lower.call(lower.module.need(name), (), i32)
    lower.branch(again)
    lower.start(again)
    lower.branch(look, [lower.emit(llvm.AddOp, (look.args[0], lower.integer(1, i32)), i32)])


def _futex(lower: FunctionLowering, target: Target, word: SSAValue, operation: int, value: SSAValue) -> None:
    number = FUTEX.get(target.architecture)
    if number is None:
        raise UnsupportedError(f"threads on Linux on {target.architecture}: the futex call's number is unknown")
    null = lower.module.zero(lower, POINTER)
    arguments = (
        lower.integer(number), word, lower.integer(operation, i32), value, null, null, lower.integer(0, i32),
    )  # fmt: skip
    lower.call(lower.module.need("syscall"), arguments, i64)


def _meet(lower: FunctionLowering) -> None:
    from stepwell.lowering.loops_to_llvm.running import wait

    wait(lower)


def _by_thread_0(lower: FunctionLowering, work: Callable[[], None]) -> None:
    """All meet, thread 0 works, all meet again."""
    assert lower.thread is not None
    _meet(lower)
    zero, on = lower.new_block(), lower.new_block()
    lower.branch_if(lower.compare("eq", lower.thread, lower.integer(0, i32)), zero, on)
    lower.start(zero)
    with lower.scope():
        work()
        lower.branch(on)
    lower.start(on)
    _meet(lower)


def _aligned_block(lower: FunctionLowering, amount: SSAValue) -> tuple[SSAValue, SSAValue]:
    """malloc with room for a header: (what free wants, the 64-byte aligned memory after the header)."""
    room = lower.size(lower.add(amount, 3 * ALIGNMENT))
    base = lower.call(lower.module.need("malloc"), (room,), POINTER)
    assert base is not None
    number = lower.emit(llvm.PtrToIntOp, (base,), i64)
    number = lower.size(lower.add(number, 2 * ALIGNMENT - 1))
    number = lower.emit(llvm.AndOp, (number, lower.integer(-ALIGNMENT)), i64)
    return base, lower.emit(llvm.IntToPtrOp, (number,), POINTER)


def _if_set(lower: FunctionLowering, pointer: SSAValue, work: Callable[[], None]) -> None:
    """Where a pointer is not null."""
    number = lower.emit(llvm.PtrToIntOp, (pointer,), i64)
    then, on = lower.new_block(), lower.new_block()
    lower.branch_if(lower.compare("ne", number, lower.integer(0)), then, on)
    lower.start(then)
    with lower.scope():
        work()
        lower.branch(on)
    lower.start(on)


def build_allocate(module: ModuleLowering) -> None:
    """`host.allocate(frame, tid, bytes)`: a new buffer for all threads, or null."""
    with module.function("host.allocate", (POINTER, i32, i64), POINTER) as lower:
        frame, _, amount = lower.entry.args
        head = lower.offset(frame, HEADER["allocations"] * SLOT, i8)
        shared = lower.offset(frame, HEADER["shared"] * SLOT, i8)

        def work() -> None:
            lower.store(lower.module.zero(lower, POINTER), shared, SLOT)
            base, memory = _aligned_block(lower, amount)

            def enlist() -> None:
                header = lower.offset(memory, -ALIGNMENT, i8)
                following = lower.load(head, POINTER, SLOT)
                lower.store(base, header, SLOT)
                lower.store(following, lower.offset(header, NEXT, i8), SLOT)
                lower.store(lower.module.zero(lower, POINTER), lower.offset(header, PREVIOUS, i8), SLOT)
                _if_set(
                    lower,
                    following,
                    lambda: lower.store(memory, lower.offset(following, PREVIOUS - ALIGNMENT, i8), SLOT),
                )
                lower.store(memory, head, SLOT)
                lower.store(memory, shared, SLOT)

            _if_set(lower, base, enlist)

        _by_thread_0(lower, work)
        result = lower.load(shared, POINTER, SLOT)
        _meet(lower)
        lower.build(llvm.ReturnOp, (result,))


def build_release(module: ModuleLowering) -> None:
    """`host.release(frame, tid, memory)`: take a buffer out of the list and free it."""
    with module.function("host.release", (POINTER, i32, POINTER), None) as lower:
        frame, _, memory = lower.entry.args
        head = lower.offset(frame, HEADER["allocations"] * SLOT, i8)

        def work() -> None:
            header = lower.offset(memory, -ALIGNMENT, i8)
            following = lower.load(lower.offset(header, NEXT, i8), POINTER, SLOT)
            previous = lower.load(lower.offset(header, PREVIOUS, i8), POINTER, SLOT)
            number = lower.emit(llvm.PtrToIntOp, (previous,), i64)
            first = lower.compare("eq", number, lower.integer(0))
            before = lower.offset(previous, NEXT - ALIGNMENT, i8)
            target = lower.emit(
                upstream.SelectOp, (first, head, before), POINTER, {"fastmathFlags": llvm.FastMathAttr(None)}
            )
            lower.store(following, target, SLOT)
            _if_set(
                lower,
                following,
                lambda: lower.store(previous, lower.offset(following, PREVIOUS - ALIGNMENT, i8), SLOT),
            )
            lower.call(lower.module.need("free"), (lower.load(header, POINTER, SLOT),))

        _by_thread_0(lower, work)
        lower.build(llvm.ReturnOp, ())


def build_grow(module: ModuleLowering) -> None:
    """`host.grow(frame, tid, bytes)`: a larger arena in the frame; null where there is no memory."""
    with module.function("host.grow", (POINTER, i32, i64), POINTER) as lower:
        frame, _, amount = lower.entry.args
        names = ("arena", "arena_bytes", "arena_base")
        arena, size, base_slot = (lower.offset(frame, HEADER[name] * SLOT, i8) for name in names)

        def work() -> None:
            lower.call(lower.module.need("free"), (lower.load(base_slot, POINTER, SLOT),))
            base, memory = _aligned_block(lower, amount)
            null = lower.module.zero(lower, POINTER)
            for value, slot in ((base, base_slot), (null, arena), (lower.integer(0), size)):
                lower.store(value, slot, SLOT)

            def keep() -> None:
                lower.store(memory, arena, SLOT)
                lower.store(amount, size, SLOT)

            _if_set(lower, base, keep)

        _by_thread_0(lower, work)
        result = lower.load(arena, POINTER, SLOT)
        _meet(lower)
        lower.build(llvm.ReturnOp, (result,))


SUPPORT: dict[str, Callable[[ModuleLowering], None]] = {
    "host.barrier": build_barrier,
    "host.next_share": build_next_share,
    "host.allocate": build_allocate,
    "host.release": build_release,
    "host.grow": build_grow,
}
