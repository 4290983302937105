"""Barriers that nobody needs: between kernels that thread 0 does alone.

A kernel that is not shared is run by thread 0, and the barrier at its end lets the others see what it wrote. Where the
next thing that happens is another such kernel, thread 0 sees its own writes, and the others have nothing to see yet:

    call @a(..)  barrier  call @b(..)  barrier      =>      call @a(..)  call @b(..)  barrier

The barriers of kernels that thread 0 does alone move from their ends to behind their calls, where that shows.
"""

from __future__ import annotations

from xdsl.dialects import arith, func, memref, scf
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from stepwell.dialects import host
from stepwell.dialects.walk import every_op

COLLECTIVE = (host.RaiseOp, host.AllocOp, host.FreeOp, host.ReserveOp, func.CallOp)
"""Ops after which, or at which, all threads must agree."""

QUIET = frozenset(
    (memref.SubviewOp, memref.ViewOp, memref.ReinterpretCastOp, memref.CastOp, memref.ExpandShapeOp,
     memref.CollapseShapeOp, memref.DimOp, memref.GetGlobalOp, host.RebaseOp, host.ThreadIdOp, host.ThreadCountOp)
)  # fmt: skip
"""Ops beside arithmetic that touch no memory that a kernel writes."""


def drop_barriers(module: ModuleOp) -> None:
    """Take out the barriers between consecutive calls of kernels that thread 0 does alone, in place."""
    functions = [op for op in module.ops if isinstance(op, func.FuncOp) and op.body.blocks]
    alone = {f.sym_name.data: barrier for f in functions if (barrier := _only_barrier(f)) is not None}
    if not alone:
        return
    calls = [op for f in functions for op in every_op(f) if type(op) is func.CallOp and _callee(op) in alone]
    for barrier in alone.values():
        block = barrier.parent
        assert block is not None
        block.erase_op(barrier)
    for call in calls:
        if not _followed_by_another(call, alone):
            around = call.parent
            assert around is not None
            around.insert_op_after(host.BarrierOp.create(location=call.location), call)


def _callee(call: func.CallOp) -> str:
    return call.callee.root_reference.data


def _only_barrier(function: func.FuncOp) -> Operation | None:
    """The barrier at the end of a kernel that thread 0 does alone; None for all other functions."""
    last = function.body.blocks[0].last_op
    barrier = last.prev_op if last is not None else None
    if len(function.body.blocks) != 1 or not isinstance(barrier, host.BarrierOp) or "host.entry" in function.attributes:
        return None
    for op in every_op(function):
        shared = type(op) is scf.ForOp and op.attributes.get(host.CHUNK) == host.DIVIDED
        if shared or isinstance(op, COLLECTIVE) or (isinstance(op, host.BarrierOp) and op is not barrier):
            return None
    return barrier


def _followed_by_another(call: func.CallOp, alone: dict[str, Operation]) -> bool:
    """Whether nothing but arithmetic stands between a call and the next call of a kernel for thread 0."""
    op = call.next_op
    while op is not None and (type(op) in QUIET or op.name.partition(".")[0] == arith.Arith.name):
        op = op.next_op
    return type(op) is func.CallOp and _callee(op) in alone
