"""Removes what nothing reads from a contract function: operations, results of If and Loop, arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, FunctionType, ModuleOp
from xdsl.ir import Block, Operation, Region, SSAValue

from stepwell.dialects.torch import operations
from stepwell.dialects.torch.declare import declaration_of
from stepwell.lowering.pass_ import Pass

_TERMINATORS = (func.ReturnOp, operations.IfYield, operations.LoopCondition)


@dataclass(frozen=True)
class PruneTorch(Pass):
    """Deletes unused operations and unused results of control flow. After: every result without effect is read."""

    name = "prune-torch"

    def apply(self, module: ModuleOp, context: Context) -> None:
        for op in list(module.body.block.ops):
            if isinstance(op, func.FuncOp) and op.body.blocks:
                while _prune_block(op.body.block):
                    pass


def _prune_block(block: Block) -> bool:
    """One backward sweep; True if something went."""
    changed = False
    for op in reversed(list(block.ops)):
        if isinstance(op, operations.RaiseException):
            continue
        if isinstance(op, operations.If):
            changed |= _prune_if(op)
        elif isinstance(op, operations.Loop):
            changed |= _prune_loop(op)
        elif isinstance(op, operations.BindSymbolicShape):
            if not _read(op.operands[0]) and not _binds_alone(op):
                _erase(op)
                changed = True
        elif not _needed(op):
            _erase(op)
            changed = True
    return changed


def _erase(op: Operation) -> None:
    assert op.parent is not None
    op.parent.erase_op(op)


def _needed(op: Operation) -> bool:
    if isinstance(op, _TERMINATORS) or any(r.uses for r in op.results):
        return True
    declaration = declaration_of(op)
    return declaration is not None and declaration.effects


def has_effects(region: Region) -> bool:
    """True if something in the region raises or must stay."""
    for op in region.walk():
        declaration = declaration_of(op)
        if isinstance(op, operations.RaiseException) or (declaration is not None and declaration.effects):
            return True
    return False


def _prune_if(op: operations.If) -> bool:
    changed = False
    for region in op.regions:
        changed |= _prune_block(region.block)
    used = [i for i, r in enumerate(op.results) if r.uses]
    if not used and not any(has_effects(r) for r in op.regions):
        _erase(op)
        return True
    if len(used) == len(op.results):
        return changed
    for region in op.regions:
        last = region.block.last_op
        assert last is not None
        last.operands = [last.operands[i] for i in used]
    _replace(op, used, op.operands)
    return True


def _prune_loop(op: operations.Loop) -> bool:
    body = op.regions[0].block
    changed = _prune_block(body)
    last = body.last_op
    assert last is not None
    used = _live_carried(op, body, last)
    if not used and not has_effects(op.regions[0]):
        _erase(op)
        return True
    if len(used) == len(op.results):
        return changed
    last.operands = [last.operands[0], *(last.operands[1 + i] for i in used)]
    for i in reversed(range(len(op.results))):
        if i not in used:
            body.erase_arg(body.args[1 + i])
    _replace(op, used, [*op.operands[:2], *(op.operands[2 + i] for i in used)])
    return True


def _live_carried(op: Operation, body: Block, last: Operation) -> list[int]:
    """Carried values that are read after the loop, or in the body by something other than their own way round."""
    live: list[int] = []
    for i, result in enumerate(op.results):
        argument = body.args[1 + i]
        own = all(u.operation is last and u.index == 1 + i for u in argument.uses)
        if bool(result.uses) or not own:
            live.append(i)
    return live


def _replace(op: Operation, used: Sequence[int], operands: Sequence[SSAValue]) -> None:
    """The same control flow with fewer results, in its place."""
    regions = [op.detach_region(r) for r in list(op.regions)]
    new = type(op).create(
        operands=list(operands), result_types=[op.results[i].type for i in used], regions=regions,
        attributes=op.attributes, location=op.location,
    )  # fmt: skip
    block = op.parent
    assert block is not None
    block.insert_op_before(new, op)
    for i, result in zip(used, new.results, strict=True):
        op.results[i].replace_all_uses_with(result)
    _erase(op)


def unused_arguments(function: func.FuncOp) -> list[int]:
    """Drop the arguments that nothing reads (names of their sizes do not count); their positions."""
    block = function.body.block
    gone = [
        i
        for i, a in enumerate(block.args)
        if all(isinstance(u.operation, operations.BindSymbolicShape) for u in a.uses)
        and not any(_binds(u.operation) for u in a.uses)
    ]
    for i in reversed(gone):
        for use in list(block.args[i].uses):
            _erase(use.operation)
        block.erase_arg(block.args[i])
    if gone:
        type_ = FunctionType.from_lists([a.type for a in block.args], list(function.function_type.outputs.data))
        function.properties["function_type"] = type_
        if function.arg_attrs is not None:
            kept = [a for i, a in enumerate(function.arg_attrs.data) if i not in gone]
            function.arg_attrs = ArrayAttr(kept)
    return gone


def _read(value: SSAValue) -> bool:
    """True if something other than names of sizes reads the value."""
    return any(not isinstance(u.operation, operations.BindSymbolicShape) for u in value.uses)


def _binds(op: Operation) -> bool:
    """True if a shape binding gives a symbol that something needs its value."""
    return any(_read(v) for v in op.operands[1:])


def _binds_alone(op: Operation) -> bool:
    """True if a symbol that something needs has its value from this binding only."""
    return any(_read(v) and all(u.operation is op for u in v.uses if _is_binding(u.operation)) for v in op.operands[1:])


def _is_binding(op: Operation) -> bool:
    return isinstance(op, operations.BindSymbolicShape)
