"""One function: arguments in the order of the native interface, memory for all cells, then its body.

@forward(inputs and states..., outputs..., constants..., %arena) -> scalars and buffers of unforeseen size
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xdsl.dialects import arith, func, memref, scf, tensor
from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseResourceAttr,
    DictionaryAttr,
    FunctionType,
    IntegerAttr,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects import host, tile
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.lowering.host_bufferize import arena, control, joins, lists, straight
from stepwell.lowering.host_bufferize.copies import Copies
from stepwell.lowering.host_bufferize.elements import memref_of
from stepwell.lowering.host_bufferize.emitter import BYTES, INDEX, Emitter
from stepwell.lowering.host_bufferize.globals import Globals
from stepwell.lowering.host_bufferize.ownership import Owners
from stepwell.lowering.host_bufferize.places import Place
from stepwell.lowering.host_bufferize.sizes import Size, SizeOf, Sizes, terminator
from stepwell.lowering.host_bufferize.storage import Cell, Storage
from stepwell.lowering.host_bufferize.variants import Variants

Attributes = dict[str, Attribute]

HANDLERS: dict[type[Operation], Callable[[Emitter, Any], None]] = {
    arith.ConstantOp: straight.constant,
    tile.LaunchOp: straight.launch,
    tensor.EmptyOp: straight.empty,
    tensor.ExpandShapeOp: straight.reshape,
    tensor.CollapseShapeOp: straight.reshape,
    tensor.CastOp: straight.cast,
    tensor.DimOp: straight.dim,
    tensor.ExtractSliceOp: straight.extract_slice,
    tensor.InsertSliceOp: straight.insert_slice,
    tensor.ExtractOp: straight.extract,
    tensor.FromElementsOp: straight.from_elements,
    host.UndefinedOp: straight.undefined,
    host.RaiseOp: straight.scalar_op,
    host.ListNewOp: lists.new,
    host.ListLengthOp: lists.length,
    host.ListAppendOp: lists.append,
    host.ListGetOp: lists.get,
    host.ListSetOp: lists.set_,
    host.ListPopOp: lists.pop,
    host.ListConcatOp: joins.join,
    host.ListStackOp: joins.join,
    host.ListElementsOp: lists.elements,
    host.ListTableOp: lists.table,
    scf.YieldOp: control.yield_,
    scf.ConditionOp: control.condition,
}
"""What each op of the entry function becomes; arith and math ops on numbers are kept."""

REGIONS: dict[type[Operation], Callable[[Emitter, Any, control.Walk], None]] = {
    scf.ForOp: control.for_,
    scf.WhileOp: control.while_,
    scf.IfOp: control.if_,
}

SCALAR_DIALECTS = ("arith", "math")


@dataclass(frozen=True)
class Argument:
    """An argument of the new function: its type, its attributes, and what it stands for in the old one."""

    type: Attribute
    attributes: Attributes
    old: SSAValue | None = None
    """The argument or constant that it stands for."""
    result: int | None = None
    """The result that is written to it."""


class Bufferizer:
    """Rewrites one function of tensors."""

    def __init__(
        self, function: func.FuncOp, kernels: Variants, copies: Copies, constants: Globals
    ) -> None:
        self.function, self.constants = function, constants
        self.body = function.body.block
        self.sizes = Sizes(self.body, kernels.kernels)
        self.storage = Storage(self.body, self.sizes)
        self.emit = Emitter(self.storage, self.sizes, kernels, copies, Owners(self.storage))
        self.returned = list(terminator(self.body).operands)
        self.arguments = [*self._inputs(), *self._outputs(), *self._constants()]
        self.fresh = Block(arg_types=[*(argument.type for argument in self.arguments), BYTES])

    def run(self) -> func.FuncOp:
        """The function of memrefs."""
        emit = self.emit
        self.fresh.args[-1].name_hint = "arena"
        for argument, value in zip(self.arguments, self.fresh.args, strict=False):
            value.name_hint = f"result{argument.result}" if argument.old is None else argument.old.name_hint
            if argument.old is not None:
                known = emit.buffers if isinstance(argument.old.type, TensorType) else emit.scalars
                known[argument.old] = value
        arena_bytes = self._lay_out_memory()
        results, values = self._walk_all()
        self.fresh.add_ops([*emit.head, *emit.out, func.ReturnOp(*values)])
        kind = FunctionType.from_lists([*self.fresh.arg_types], [value.type for value in values])
        attributes = [DictionaryAttr(argument.attributes) for argument in self.arguments]
        made = func.FuncOp(
            self.function.sym_name.data,
            kind,
            Region(self.fresh),
            arg_attrs=ArrayAttr([*attributes, DictionaryAttr({"host.kind": StringAttr("arena")})]),
            res_attrs=ArrayAttr([DictionaryAttr(result) for result in results]) if results else None,
        )
        made.attributes.update(self.function.attributes)
        made.attributes["host.arena_bytes"] = IntegerAttr(arena_bytes, i64)
        made.location = self.function.location
        return made

    # ------ arguments

    def _inputs(self) -> Iterable[Argument]:
        for old, given in zip(self.body.args, _attributes(self.function.arg_attrs, len(self.body.args)), strict=True):
            if _kind(given) != "constant":
                yield Argument(_boundary_type(old.type), {"host.kind": StringAttr("input"), **given}, old)

    def _outputs(self) -> Iterable[Argument]:
        attributes = _attributes(self.function.res_attrs, len(self.returned))
        for index, (value, given) in enumerate(zip(self.returned, attributes, strict=True)):
            shape = self._shape_before_call(value)
            if shape is not None and isinstance(value.type, TensorType):
                extra: Attributes = {"host.kind": StringAttr("output"), "host.result": IntegerAttr(index, i64)}
                if _kind(given) == "state":
                    extra["host.state"] = given.get("host.name", StringAttr(""))
                if any(size < 0 for size in value.type.get_shape()):
                    extra["host.shape"] = ArrayAttr(shape)
                yield Argument(memref_of(value.type), {**given, **extra}, result=index)

    def _shape_before_call(self, value: SSAValue) -> list[Attribute] | None:
        """The sizes of a result as the caller can work them out before the call; None where it cannot."""
        if not isinstance(value.type, TensorType):
            return None
        inputs = [old for old, given in self._old_arguments() if _kind(given) != "constant"]
        shape: list[Attribute] = []
        for size in self.sizes.of(value):
            if isinstance(size, int):
                shape.append(IntegerAttr(size, i64))
            elif isinstance(size, SizeOf) and size.value in inputs:
                shape.append(StringAttr(f"{inputs.index(size.value)}.{size.axis}"))
            else:
                return None
        return shape

    def _old_arguments(self) -> list[tuple[SSAValue, Attributes]]:
        return list(zip(self.body.args, _attributes(self.function.arg_attrs, len(self.body.args)), strict=True))

    def _constants(self) -> Iterable[Argument]:
        for old, given in self._old_arguments():
            if _kind(given) == "constant":
                yield Argument(_boundary_type(old.type), given, old)
        seen: dict[tuple[str, Attribute], SSAValue] = {}
        for op in self.body.walk():
            if not isinstance(op, arith.ConstantOp) or not isinstance(op.result.type, TensorType):
                continue
            if not isinstance(op.value, DenseResourceAttr):
                self.constants.define(op, self.emit)
                continue
            name = op.value.resource_handle.data
            first = seen.setdefault((name, op.result.type), op.result)
            if first is op.result:
                attributes: Attributes = {"host.kind": StringAttr("constant"), "host.name": StringAttr(name)}
                yield Argument(memref_of(op.result.type), attributes, op.result)
        self._shared = seen

    # ------ memory

    def _lay_out_memory(self) -> int:
        """Give every cell its place; the bytes of the arena where they are known now, else 0."""
        emit, storage = self.emit, self.storage
        every = dict.fromkeys([*storage.cells.values(), *storage.aside.values()])
        cells = [cell for cell in every if cell.place is Place.ARENA]
        cells.sort(key=lambda cell: cell.ranges)
        static = [cell for cell in cells if not cell.bytes[1]]
        dynamic = [cell for cell in cells if cell.bytes[1]]
        offsets, total = arena.plan([arena.Piece(tuple(cell.ranges), cell.bytes[0]) for cell in static])
        emit.arena = self.fresh.args[-1]
        emit.offsets = {cell: emit.constant(offset) for cell, offset in zip(static, offsets, strict=True)}
        if dynamic:
            with emit.into(emit.head):
                needed = self._slots(dynamic, total)
                emit.arena = emit.add(host.ReserveOp.create(operands=[needed], result_types=[BYTES]))
            total = 0
        self._place_results()
        return total

    def _slots(self, cells: list[Cell], start: int) -> SSAValue:
        """Offsets for cells whose size is computed at entry, from `start` on; the end of the last."""
        emit = self.emit
        colors = arena.color([cell.ranges for cell in cells], [cell.bytes for cell in cells])
        cursor = emit.constant(start)
        for color in range(max(colors) + 1):
            members = [cell for cell, own in zip(cells, colors, strict=True) if own == color]
            emit.offsets.update(dict.fromkeys(members, cursor))
            largest: SSAValue | None = None
            for bytes_ in dict.fromkeys(cell.bytes for cell in members):
                amount = self._bytes(bytes_)
                largest = amount if largest is None else emit.binary(arith.MaxSIOp, largest, amount)
            assert largest is not None
            cursor = emit.binary(arith.AddiOp, cursor, largest)
        return cursor

    def _bytes(self, amount: tuple[int, frozenset[tuple[Size, int]]]) -> SSAValue:
        """A size in bytes, rounded up to whole lines; sizes that no reached code has may be negative."""
        emit = self.emit
        total = emit.constant(amount[0])
        for size, power in sorted(amount[1], key=lambda factor: self.sizes.number(factor[0])):
            value = emit.size(size)
            if not isinstance(size, SizeOf):
                value = emit.binary(arith.MaxSIOp, value, emit.constant(0))
            for _ in range(power):
                total = emit.binary(arith.MuliOp, total, value)
        padded = emit.binary(arith.AddiOp, total, emit.constant(arena.ALIGNMENT - 1))
        return emit.binary(arith.AndIOp, padded, emit.constant(-arena.ALIGNMENT))

    def _place_results(self) -> None:
        """Cells that are results: the caller's buffers, or buffers allocated now."""
        emit = self.emit
        provided = {argument.result: value for argument, value in zip(self.arguments, self.fresh.args, strict=False)}
        for index, value in self.storage.results.items():
            cell = self.storage.cell(value)
            if index in provided:
                emit.given[cell] = provided[index]
                continue
            with emit.into(emit.head):
                kind = memref_of(value.type)
                sizes = emit.dynamic_sizes(value)
                emit.given[cell] = emit.add(host.AllocOp.create(operands=sizes, result_types=[kind]))

    # ------ the body

    def _walk_all(self) -> tuple[list[Attributes], list[SSAValue]]:
        emit = self.emit
        for op in self.body.walk():
            if isinstance(op, arith.ConstantOp) and isinstance(op.value, DenseResourceAttr):
                emit.buffers[op.result] = emit.buffers[self._shared[op.value.resource_handle.data, op.result.type]]
        walk(emit, self.body)
        last = terminator(self.body)
        outputs = {argument.result: value for argument, value in zip(self.arguments, self.fresh.args, strict=False)}
        attributes: list[Attributes] = []
        values: list[SSAValue] = []
        given = _attributes(self.function.res_attrs, len(self.returned))
        for index, value in enumerate(self.returned):
            if isinstance(value.type, host.ListType):
                raise UnsupportedError("a list as the result of a native function")
            passed = self._result(index, value, last, outputs.get(index))
            if passed is not None:
                values.append(passed)
                attributes.append({"host.result": IntegerAttr(index, i64), **given[index]})
        control.free_left(emit, last)
        return attributes, values

    def _result(self, index: int, value: SSAValue, last: Operation, output: SSAValue | None) -> SSAValue | None:
        """Put one result where the caller finds it: written to its buffer, or passed as a value."""
        emit = self.emit
        if not isinstance(value.type, TensorType):
            return emit.scalars[value]
        computed_there = self.storage.results.get(index) is value
        if output is not None:
            if not computed_there:
                emit.copy(emit.buffers[value], output)
            return None
        if computed_there:
            return emit.given[self.storage.cell(value)]
        return control.taken(emit, value, value, last)


def walk(emit: Emitter, block: Block) -> None:
    """Emit the ops of a block, freeing what they use last."""
    control.free_left(emit, block)
    for op in block.ops:
        emit.location = op.location
        if isinstance(op, func.ReturnOp):
            continue
        if (with_regions := REGIONS.get(type(op))) is not None:
            with_regions(emit, op, walk)
        elif (handler := HANDLERS.get(type(op))) is not None:
            handler(emit, op)
        elif op.dialect_name() in SCALAR_DIALECTS and not op.regions:
            straight.scalar_op(emit, op)
        else:
            raise UnsupportedError(f"{op.name} has no form in the entry function at the loops level")
        for value in op.results:
            known = emit.buffers.get(value, emit.scalars.get(value))
            if known is not None and known.name_hint is None:
                known.name_hint = value.name_hint
        if not isinstance(op, (scf.YieldOp, scf.ConditionOp)):
            control.free_left(emit, op)


def _attributes(given: ArrayAttr[DictionaryAttr] | None, count: int) -> list[Attributes]:
    """Argument or result attributes, one dictionary each."""
    return [dict(item.data) for item in given.data] if given is not None else [{} for _ in range(count)]


def _kind(attributes: Mapping[str, Attribute]) -> str | None:
    kind = attributes.get("host.kind")
    return kind.data if isinstance(kind, StringAttr) else None


def _boundary_type(kind: Attribute) -> Attribute:
    if isinstance(kind, host.ListType):
        raise UnsupportedError("a list as the argument of a native function")
    return memref_of(kind) if isinstance(kind, TensorType) else kind


__all__ = ["INDEX", "Bufferizer", "SymbolRefAttr", "memref"]
