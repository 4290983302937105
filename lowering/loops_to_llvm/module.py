"""A module of the loops level -> a module of llvm functions: the entry, the kernels, and what they need.

    func.func @forward(%x: memref<?xf32>) -> i64    =>    llvm.func @forward(frame: ptr, tid: i32) -> i32 (status)
    func.func private @k0(%a: memref<?xf32>)        =>    llvm.func @k0(frame, tid, a: ptr, a's size: i64)

A private function that may raise returns its status, 0 for good.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from xdsl.dialects import func, llvm, memref
from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    MemRefType,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    UnitAttr,
    i1,
    i32,
    i64,
)
from xdsl.ir import Attribute, Operation, Region, SSAValue

from stepwell.dialects import host
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.target import Target
from stepwell.dialects.walk import every_op
from stepwell.lowering.loops_to_llvm import arithmetic, control, memory, running, support, vectors
from stepwell.lowering.loops_to_llvm.arithmetic import Handler
from stepwell.lowering.loops_to_llvm.builder import FunctionLowering
from stepwell.lowering.loops_to_llvm.frame import HEADER, SLOT, FrameBuilder
from stepwell.lowering.loops_to_llvm.types import POINTER, Size, TypeTable, dynamic_parts, strides_of

UNIT = UnitAttr()
ADDRESSED: dict[str, Attribute] = {"unnamed_addr": IntegerAttr(0, 64)}
"""What reading a function's text puts into its properties; so that the text reads as the function it came from."""
INPLACE = ("inplace", "host.inplace")
LEAVING = (host.RaiseOp, host.AllocOp, host.ReserveOp)
DTYPES = {
    "i1": "bool", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "index": "int64",
    "f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64",
}  # fmt: skip
"""Names of numpy dtypes by the builtin type, where `host.dtype` (uint8) does not say otherwise."""


class ModuleLowering:
    """What the functions of one module share: types, symbols, raise sites, the frame."""

    def __init__(self, target: Target, profile: bool) -> None:
        self.target = target
        self.profile = profile
        self.types = TypeTable()
        self.frame = FrameBuilder()
        self.functions: list[Operation] = []
        self.handlers: dict[type[Operation], Handler] = HANDLERS
        self.callees: dict[str, func.FuncOp] = {}
        self.leaving: set[str] = set()
        self.inplace: set[str] = set()
        self.tables: list[Operation] = []
        self._symbols: dict[str, SymbolRefAttr] = {}
        self._needed: set[str] = set()
        self._attributes = _target_attributes(target)
        self._exit: tuple[FunctionLowering, Any] | None = None

    def symbol(self, name: str) -> SymbolRefAttr:
        """A reference to a function."""
        found = self._symbols.get(name)
        if found is None:
            found = self._symbols[name] = SymbolRefAttr(name)
        return found

    def need(self, name: str) -> str:
        """Make sure that a function of `support`, or a declaration of one outside, is in the module."""
        if name not in self._needed:
            self._needed.add(name)
            if name in support.SUPPORT:
                support.SUPPORT[name](self)
            else:
                arguments, result = support.EXTERNAL[name]
                kind = llvm.LLVMFunctionType(arguments, result)
                self.functions.append(llvm.FuncOp(name, kind, llvm.LinkageAttr("external"), other_props={**ADDRESSED}))
        return name

    @contextmanager
    def function(
        self,
        name: str,
        arguments: Sequence[Attribute],
        result: Attribute | None,
        linkage: str = "internal",
        argument_attributes: Sequence[DictionaryAttr] | None = None,
    ) -> Iterator[FunctionLowering]:
        """Build one llvm.func; the first arguments are the frame and the thread's number, if there are any."""
        region = Region()
        lower = FunctionLowering(self, region, arguments)
        lower.frame = lower.entry.args[0]
        threads = lower.load(running.slot_pointer(lower, HEADER["threads"]), i64, SLOT)
        lower.thread_total = threads
        lower.thread = lower.entry.args[1]
        yield lower
        lower.finish()
        kind = llvm.LLVMFunctionType(arguments, result)
        properties: dict[str, Attribute | None] = {**ADDRESSED}
        if argument_attributes and any(given.data for given in argument_attributes):
            properties["arg_attrs"] = ArrayAttr(argument_attributes)
        self.functions.append(
            llvm.FuncOp(
                name, kind, llvm.LinkageAttr(linkage), body=region, other_props=properties, extra_attrs=self._attributes
            )
        )

    def zero(self, lower: FunctionLowering, kind: Attribute) -> SSAValue:
        """The value of all bits 0."""
        if isinstance(kind, IntegerType):
            return lower.integer(0, kind)
        return lower.emit(llvm.ZeroOp, (), kind)

    def raise_site(self, exception: str, message: str, kinds: list[str], location: str | None) -> int:
        """The number, from 1, by which a program says where it raised."""
        self.frame.raises.append({"exception": exception, "message": message, "arguments": kinds, "location": location})
        return len(self.frame.raises)

    def leave_function(self, lower: FunctionLowering, status: SSAValue) -> None:
        """Return a status from the function; the current place becomes dead."""
        if self._exit is not None and self._exit[0] is lower:
            lower.branch(self._exit[1], [status])
        else:
            lower.build(llvm.ReturnOp, (status,))
            lower.block = None

    # ------ functions

    def lower(self, module: ModuleOp, entry: str) -> ModuleOp:
        """All functions; the result carries the layout of the frame."""
        functions = self.read(module, entry)
        for op in functions:
            self.lower_function(op, entry)
        return ModuleOp(
            [*self.tables, *self.functions],
            {"llvm.target_triple": StringAttr(self.target.triple), "host.layout": StringAttr(self.layout(entry))},
        )

    def read(self, module: ModuleOp, entry: str) -> list[func.FuncOp]:
        """Take in what is to be known of a module before any of its functions is lowered; gives these. Afterwards
        `tables` has its globals."""
        functions = [op for op in module.body.block.ops if isinstance(op, func.FuncOp)]
        self.callees = {op.sym_name.data: op for op in functions}
        if entry not in self.callees:
            raise UnsupportedError(f"the module has no function @{entry}")
        self.leaving, self.inplace = survey(functions)
        self.tables = [
            memory.lower_global(op, self.types) for op in module.body.block.ops if isinstance(op, memref.GlobalOp)
        ]
        return functions

    def lower_function(self, op: func.FuncOp, entry: str) -> None:
        """Append a function to `functions`, after those of `support` that it is the first to need."""
        if op.sym_name.data == entry:
            self._lower_entry(op)
        elif op.body.blocks:
            self._lower_kernel(op)

    def layout(self, entry: str) -> str:
        """The frame that the functions lowered so far agree upon, as JSON."""
        found = self.callees[entry]
        self.frame.parallel &= host.ALONE not in found.attributes
        arena_bytes = cast("IntegerAttr[IntegerType] | None", found.attributes.get("host.arena_bytes"))
        structure = cast("StringAttr | None", found.attributes.get("host.results"))
        return json.dumps(
            self.frame.layout(
                entry,
                arena_bytes.value.data if arena_bytes is not None else 0,
                structure.data if structure is not None else None,
            )
        )

    def declaration(self, op: func.FuncOp) -> llvm.FuncOp:
        """A private function for those who call it from another object."""
        types = [part for kind in op.function_type.inputs for part in flat_types(self.types, kind)]
        kind = llvm.LLVMFunctionType((POINTER, i32, *types), self._result(op))
        return llvm.FuncOp(op.sym_name.data, kind, llvm.LinkageAttr("external"), other_props={**ADDRESSED})

    def _result(self, op: func.FuncOp) -> Attribute | None:
        """What a private function returns: its number, or its status if it has one."""
        name, outputs = op.sym_name.data, list(op.function_type.outputs)
        returns = i32 if name in self.leaving else None
        if outputs and (returns is not None or len(outputs) > 1 or isinstance(outputs[0], MemRefType)):
            raise UnsupportedError(f"@{name}: a private function returns at most one number, and none if it may raise")
        return self.types.value(outputs[0]) if outputs else returns

    def _lower_kernel(self, op: func.FuncOp) -> None:
        name = op.sym_name.data
        block = op.body.block
        lower_types: list[Attribute] = []
        attributes: list[DictionaryAttr] = [DictionaryAttr({}), DictionaryAttr({})]
        result, inplace = self._result(op), name in self.inplace
        alone = DictionaryAttr({"llvm.noalias": UNIT})
        empty = DictionaryAttr({})
        for argument in block.args:
            parts = flat_types(self.types, argument.type)
            lower_types.extend(parts)
            pointer = isinstance(argument.type, MemRefType) and not inplace
            attributes.extend([alone if pointer else empty, *[empty] * (len(parts) - 1)])
        with self.function(name, (POINTER, i32, *lower_types), result, "internal", attributes) as lower:
            control.define_all(lower, block.args, lower.entry, skip=2)
            control.walk(lower, block)

    def _lower_entry(self, op: func.FuncOp) -> None:
        with self.function(op.sym_name.data, (POINTER, i32), i32, "external") as lower:
            exit_block = lower.new_block([i32])
            started = None
            if self.profile:
                self.frame.kernels.append(op.sym_name.data)
                started = support.ticks(lower, self.target)
            self._exit = (lower, exit_block)
            attributes = op.arg_attrs.data if op.arg_attrs is not None else ()
            for number, argument in enumerate(op.body.block.args):
                given = dict(attributes[number].data) if number < len(attributes) else {}
                self._entry_argument(lower, argument, given, number)
            control.walk(lower, op.body.block)
            lower.start(exit_block)
            lower.raises_in_chunk = False
            if self.frame.parallel:
                running.wait(lower)
            if started is not None:
                _count(lower, op.sym_name.data, started)
            lower.build(llvm.ReturnOp, (exit_block.args[0],))
            self._exit = None

    def _entry_argument(
        self, lower: FunctionLowering, argument: SSAValue, given: dict[str, Attribute], number: int
    ) -> None:
        kind = argument.type
        entry: dict[str, Any] = {
            "name": _text(given.get("host.name"), f"argument {number}"),
            "kind": _text(given.get("host.kind"), "input"),
        }
        self.frame.arguments.append(entry)
        if entry["kind"] == "arena":
            size: Size = running.read_slot(lower, HEADER["arena_bytes"])
            pointer = running.read_slot(lower, HEADER["arena"], POINTER)
            lower.buffers[argument] = lower.buffer(cast("MemRefType[Attribute]", kind), pointer, iter([size]))
            return
        if not isinstance(kind, MemRefType):
            entry |= {"dtype": dtype_name(kind, given), "shape": None, "slot": self.frame.slot()}
            lower.values[argument] = read_scalar(lower, entry["slot"], self.types.value(kind))
            return
        if strides_of(kind) is not None:
            raise UnsupportedError(f"argument {entry['name']}: the entry takes row-major arrays, not {kind}")
        shape = list(kind.get_shape())
        entry |= {
            "dtype": dtype_name(kind.element_type, given),
            "shape": [-1 if size < 0 else size for size in shape],
            "slot": self.frame.slot(),
            "size_slots": [self.frame.slot() for size in shape if size < 0],
        }
        if "host.shape" in given:
            entry["formula"] = _formula(given["host.shape"])
        pointer = running.read_slot(lower, entry["slot"], POINTER)
        sizes: Iterator[Size] = iter([running.read_slot(lower, slot) for slot in entry["size_slots"]])
        lower.buffers[argument] = lower.buffer(kind, pointer, sizes)


def read_scalar(lower: FunctionLowering, slot: int, kind: Attribute) -> SSAValue:
    """A number from its slot; i1 lies there as 0 or 1."""
    if kind == i1:
        return lower.emit(llvm.TruncOp, (running.read_slot(lower, slot),), i1)
    return running.read_slot(lower, slot, kind)


def flat_types(types: TypeTable, kind: Attribute) -> list[Attribute]:
    """The llvm types that carry one value into a private function."""
    if not isinstance(kind, MemRefType):
        return [types.value(kind)]
    sizes, strides = dynamic_parts(kind)
    return [POINTER] + [i64] * (len(sizes) + len(strides))


def _text(attribute: Attribute | None, default: str) -> str:
    return attribute.data if isinstance(attribute, StringAttr) else default


def _formula(attribute: Attribute) -> list[Any]:
    """`host.shape` of an output: sizes as numbers, or as "argument.dimension" of another argument."""
    parts = cast("ArrayAttr[Attribute]", attribute).data
    return [
        part.data if isinstance(part, StringAttr) else cast("IntegerAttr[IntegerType]", part).value.data
        for part in parts
    ]


def dtype_name(kind: Attribute, given: dict[str, Attribute]) -> str:
    """The numpy dtype at the boundary."""
    if "host.dtype" in given:
        return _text(given["host.dtype"], "")
    name = "index" if isinstance(kind, IndexType) else str(kind)
    if name not in DTYPES:
        raise UnsupportedError(f"type {kind} cannot pass between Python and native code")
    return DTYPES[name]


def _target_attributes(target: Target) -> dict[str, Attribute]:
    passthrough: list[Attribute] = [StringAttr("nounwind")]
    if target.architecture == "x86_64":
        bits = ArrayAttr([StringAttr("prefer-vector-width"), StringAttr(str(target.vector_bits))])
        passthrough.append(bits)
    return {"passthrough": ArrayAttr(passthrough)}


def called(op: Operation) -> str:
    """The name of a func.call's callee."""
    return cast("SymbolRefAttr", op.properties["callee"]).root_reference.data


def survey(functions: Sequence[func.FuncOp]) -> tuple[set[str], set[str]]:
    """In one walk: which functions may end with a status, and whose arguments may overlap.

    The first raise or allocate, or call one that does; the second are marked `inplace`, or a call of them is.
    """
    leaving: set[str] = set()
    inplace = {f.sym_name.data for f in functions if any(mark in f.attributes for mark in INPLACE)}
    calls: dict[str, set[str]] = {}
    for function in functions:
        name = function.sym_name.data
        calls[name] = set()
        for op in every_op(function):
            if isinstance(op, func.CallOp):
                calls[name].add(called(op))
                if any(mark in op.attributes for mark in INPLACE):
                    inplace.add(called(op))
            elif isinstance(op, LEAVING):
                leaving.add(name)
    while more := {name for name, callees in calls.items() if callees & leaving} - leaving:
        leaving |= more
    return leaving, inplace


def lower_call(lower: FunctionLowering, op: Operation) -> None:
    """func.call of a private function; a status other than 0 ends this function too."""
    module = lower.module
    name = called(op)
    callee = module.callees.get(name)
    if callee is None or not callee.body.blocks:
        raise UnsupportedError(f"a call of @{name}, which has no body in this module")
    kinds = list(callee.function_type.inputs)
    assert lower.frame is not None and lower.thread is not None
    arguments = [lower.frame, lower.thread, *control.flatten_all(lower, op.operands, kinds)]
    leaves = name in module.leaving
    result = i32 if leaves else module.types.value(op.results[0].type) if op.results else None
    started = support.ticks(lower, module.target) if module.profile else None
    value = lower.call(name, arguments, result)
    if started is not None:
        _count(lower, name, started)
    if not leaves:
        if value is not None:
            lower.values[op.results[0]] = value
        return
    assert value is not None
    good, bad = lower.new_block(), lower.new_block()
    lower.branch_if(lower.compare("eq", value, lower.integer(0, i32)), good, bad)
    lower.start(bad)
    with lower.scope():
        module.leave_function(lower, value)
    lower.start(good)


def _count(lower: FunctionLowering, name: str, started: SSAValue) -> None:
    """Thread 0 adds one call and its ticks to the kernel's pair of counters."""
    kernels = lower.module.frame.kernels
    if name not in kernels:
        kernels.append(name)
    elapsed = lower.size(lower.subtract(support.ticks(lower, lower.module.target), started))
    assert lower.thread is not None
    first, on = lower.new_block(), lower.new_block()
    lower.branch_if(lower.compare("eq", lower.thread, lower.integer(0, i32)), first, on)
    lower.start(first)
    with lower.scope():
        counters = running.read_slot(lower, HEADER["profile"], POINTER)
        for position, amount in ((0, lower.integer(1)), (1, elapsed)):
            pointer = lower.offset(counters, 2 * kernels.index(name) + position, i64)
            total = lower.emit(llvm.AddOp, (lower.load(pointer, i64, SLOT), amount), i64)
            lower.store(total, pointer, SLOT)
        lower.branch(on)
    lower.start(on)


def lower_return(lower: FunctionLowering, op: Operation) -> None:
    """func.return: in the entry, results go to the frame; else a number or a status is returned."""
    module = lower.module
    if module._exit is not None and module._exit[0] is lower:
        for value in op.operands:
            _store_result(lower, value)
        module.leave_function(lower, lower.integer(0, i32))
        return
    function = op.parent_op()
    assert isinstance(function, func.FuncOp)
    if function.sym_name.data in module.leaving:
        module.leave_function(lower, lower.integer(0, i32))
        return
    lower.build(llvm.ReturnOp, [lower.value(value) for value in op.operands])
    lower.block = None


def _store_result(lower: FunctionLowering, value: SSAValue) -> None:
    """A result of the entry: a number, or the address and all sizes of a buffer of host.alloc."""
    frame = lower.module.frame
    entry: dict[str, Any] = {"slot": frame.slot(), "shape": None}
    frame.results.append(entry)
    if isinstance(value.type, MemRefType):
        buffer = lower.buffers[value]
        entry["dtype"] = dtype_name(value.type.element_type, {})
        entry["shape"] = [-1 if size < 0 else size for size in value.type.get_shape()]
        entry["size_slots"] = [frame.slot() for size in entry["shape"] if size < 0]
        running.write_slot(lower, entry["slot"], buffer.pointer)
        dynamic = [size for size, known in zip(buffer.sizes, entry["shape"], strict=True) if known < 0]
        for slot, size in zip(entry["size_slots"], dynamic, strict=True):
            running.write_slot(lower, slot, lower.size(size))
        return
    entry["dtype"] = dtype_name(value.type, {})
    stored = lower.value(value)
    running.write_slot(lower, entry["slot"], lower.emit(llvm.ZExtOp, (stored,), i64) if stored.type == i1 else stored)


HANDLERS: dict[type[Operation], Handler] = {
    **arithmetic.HANDLERS,
    **memory.HANDLERS,
    **vectors.HANDLERS,
    **control.HANDLERS,
    **running.HANDLERS,
    func.CallOp: lower_call,
    func.ReturnOp: lower_return,
}
