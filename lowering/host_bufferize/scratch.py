"""Scratch memory of kernels: the end of the arena, a slice for each thread.

A lowered kernel that needs scratch takes one argument more than its launch gave, a static `memref<Nxi8>`, last.
Every such call gets its thread's slice, which is as large as the largest of all kernels asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, func, memref
from xdsl.dialects.builtin import IndexType, IntegerAttr, MemRefType, ModuleOp, i8, i64
from xdsl.ir import Attribute, Operation, SSAValue

from stepwell.dialects import host
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.target import Target
from stepwell.dialects.walk import every_op
from stepwell.lowering.host_bufferize.arena import aligned
from stepwell.lowering.host_bufferize.emitter import BYTES
from stepwell.lowering.pass_ import Pass

INDEX = IndexType()


@dataclass(frozen=True)
class AttachScratch(Pass):
    """Give kernels that ask for scratch memory their thread's slice at the end of the arena.
    After: every call passes as many arguments as its callee takes."""

    name = "attach-scratch"
    target: Target

    def apply(self, module: ModuleOp, context: Context) -> None:
        functions = {op.sym_name.data: op for op in module.ops if isinstance(op, func.FuncOp)}
        for function in functions.values():
            calls = list(_calls_without_scratch(function, functions))
            if calls:
                _attach(function, calls, self.target.cores)


def _calls_without_scratch(
    function: func.FuncOp, functions: dict[str, func.FuncOp]
) -> Iterator[tuple[func.CallOp, MemRefType[Attribute]]]:
    """The calls of a function that lack the last argument, and its type."""
    for op in every_op(function):
        if not isinstance(op, func.CallOp):
            continue
        wanted = functions[op.callee.root_reference.data].function_type.inputs.data
        if len(wanted) == len(op.operands):
            continue
        kind = wanted[-1]
        if len(wanted) != len(op.operands) + 1 or not isinstance(kind, MemRefType) or kind.element_type != i8:
            raise UnsupportedError(
                f"@{op.callee.root_reference.data} takes {len(wanted)} arguments, not {len(op.operands)}"
            )
        yield op, kind


def _attach(function: func.FuncOp, calls: list[tuple[func.CallOp, MemRefType[Attribute]]], cores: int) -> None:
    """Reserve room behind the planned arena, and pass a view of it to each call."""
    slice_bytes = max(aligned(kind.get_shape()[0]) for _, kind in calls)
    block = function.body.block
    planned = next((op for op in block.ops if isinstance(op, host.ReserveOp)), None)
    known = function.attributes["host.arena_bytes"]
    assert isinstance(known, IntegerAttr) and block.first_op is not None
    place = planned if planned is not None else block.first_op

    def add(op: Operation) -> SSAValue:
        block.insert_op_before(op, place)
        return op.results[0]

    start = planned.bytes if planned is not None else add(_constant(known.value.data))
    size = add(_constant(slice_bytes))
    count, number = (add(op.create(result_types=[INDEX])) for op in (host.ThreadCountOp, host.ThreadIdOp))
    total = add(arith.AddiOp(start, add(arith.MuliOp(count, size))))
    offset = add(arith.AddiOp(start, add(arith.MuliOp(number, size))))
    arena = add(host.ReserveOp.create(operands=[total], result_types=[BYTES]))
    kinds = dict.fromkeys(kind for _, kind in calls)
    views = {kind: add(memref.ViewOp(arena, offset, [], kind)) for kind in kinds}
    if planned is not None:
        planned.arena.replace_all_uses_with(arena)
        block.erase_op(planned)
    else:
        # The views of the arena that exist are of the one that the reservation may replace.
        block.args[-1].replace_all_uses_with(arena)
        function.attributes["host.arena_bytes"] = IntegerAttr(known.value.data + cores * slice_bytes, i64)
    for call, kind in calls:
        call.operands = [*call.operands, views[kind]]


def _constant(value: int) -> arith.ConstantOp:
    return arith.ConstantOp(IntegerAttr(value, INDEX))
