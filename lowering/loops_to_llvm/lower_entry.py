"""`loops-to-llvm` as a pass: one entry of a module, with the kernels that it calls, becomes the whole module."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import func, memref
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.target import Target
from stepwell.dialects.walk import every_op, take_apart
from stepwell.lowering.loops_to_llvm import lower
from stepwell.lowering.pass_ import Pass

PREPARE = "prepare"
"""The name of the function that folds and packs weights, once per load; its module is lowered by itself."""


@dataclass(frozen=True)
class LoopsToLlvm(Pass):
    """Lower the entry function (or @prepare, where `entry` says so) and what it calls to the llvm dialect.
    After: the module is in the llvm dialect, and `host.layout` describes the entry's frame."""

    name = "loops-to-llvm"
    target: Target
    entry: str = ""
    profile: bool = False

    def apply(self, module: ModuleOp, context: Context) -> None:
        entry = self.entry or entry_name(module)
        keep_only(module, entry)
        lowered = lower(module, self.target, entry=entry, profile=self.profile)
        take_apart(module.detach_region(module.body))
        body = lowered.detach_region(lowered.body)
        module.add_region(body)
        module.attributes.update(lowered.attributes)


def entry_name(module: ModuleOp) -> str:
    """The function that Python calls. Raises UnsupportedError where there is none."""
    for op in module.ops:
        if isinstance(op, func.FuncOp) and "host.entry" in op.attributes and op.sym_name.data != PREPARE:
            return op.sym_name.data
    raise UnsupportedError("the module has no entry function (host.entry)")


def keep_only(module: ModuleOp, entry: str) -> None:
    """Erase the functions and constants that the entry does not reach."""
    symbols = _symbols(module)
    reached = _reached(symbols, entry)
    for name, op in symbols.items():
        if name not in reached:
            module.body.block.erase_op(op, safe_erase=False)


def part_of(module: ModuleOp, entry: str, rest: str | None = None) -> ModuleOp:
    """What an entry reaches, as a module of its own: a copy; but where `rest` names the other entry, what that one
    does not reach leaves the module."""
    symbols = _symbols(module)
    reached = _reached(symbols, entry)
    stays = symbols.keys() if rest is None else _reached(symbols, rest)
    parts: list[Operation] = []
    for name, op in symbols.items():
        if name in reached and name not in stays:
            module.body.block.detach_op(op)
        if name in reached:
            parts.append(op.clone() if name in stays else op)
    return ModuleOp(parts, dict(module.attributes))


def _symbols(module: ModuleOp) -> dict[str, Operation]:
    return {op.sym_name.data: op for op in module.ops if isinstance(op, (func.FuncOp, memref.GlobalOp))}


def _reached(symbols: dict[str, Operation], entry: str) -> set[str]:
    """The symbols that a function uses, it included, through all that it calls."""
    reached: set[str] = set()
    pending = [entry]
    while pending:
        name = pending.pop()
        if name in reached or name not in symbols:
            continue
        reached.add(name)
        for op in every_op(symbols[name]):
            if type(op) is func.CallOp:
                pending.append(op.callee.root_reference.data)
            elif type(op) is memref.GetGlobalOp:
                pending.append(op.name_.root_reference.data)
    return reached


__all__ = ["PREPARE", "LoopsToLlvm", "entry_name", "keep_only", "part_of"]
