"""llvm dialect -> LLVM IR text: one walk, block arguments become phis, constants stand where they are used.

Only intrinsics of a known list are let through: LLVM ends the whole process where a back end meets one that it
cannot select, so anything else is an error here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from xdsl.dialects import llvm
from xdsl.dialects.builtin import (
    ArrayAttr,
    BFloat16Type,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    DictionaryAttr,
    Float16Type,
    Float32Type,
    Float64Type,
    FloatAttr,
    IntAttr,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    VectorType,
)
from xdsl.ir import Attribute, Block, Operation, SSAValue

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.upstream import llvm as upstream

ORDERINGS = {number: keyword for keyword, number in upstream.ORDERINGS.items()}
RMW_OPERATIONS = {number: keyword for keyword, number in upstream.RMW_OPERATIONS.items()}

CALLABLE_INTRINSICS = frozenset((
    "llvm.x86.sse2.pause", "llvm.aarch64.hint", "llvm.readcyclecounter", "llvm.readsteadycounter", "llvm.prefetch",
    "llvm.x86.avx512.mask.scalef.ps.512", "llvm.x86.avx512.mask.scalef.pd.512",
    "llvm.nvvm.read.ptx.sreg.tid.x", "llvm.nvvm.read.ptx.sreg.ctaid.x",
    "llvm.nvvm.barrier.cta.sync.aligned.all", "llvm.nvvm.shfl.sync.bfly.i32",
))  # fmt: skip
"""What `llvm.call_intrinsic` may name."""

ARGUMENT_ATTRIBUTES = {"llvm.noalias": "noalias", "llvm.readonly": "readonly", "llvm.nonnull": "nonnull"}
"""Those that are a word; `llvm.align` has a number."""

KERNEL, THREADS = "nvvm.kernel", "nvvm.reqntid"
"""Marks of a GPU's kernel, and how many threads its blocks have, as MLIR's nvvm dialect has them."""

SHARED_SPACE = 3
"""The address space of what the threads of a GPU's block share."""


def print_module(module: ModuleOp, data_layout: str | None = None) -> str:
    """The text of a module of llvm.func and llvm.mlir.global.

    The attribute `llvm.target_triple` becomes the triple. Raises UnsupportedError for an op, type or
    attribute that has no text here.
    """
    return "".join(_ModuleText().lines(module, data_layout))


class Texts:
    """The texts of functions that come one after the other, of a module that becomes several: each text can be compiled
    alone, and linked with the others.

    `tables` are the globals of the module, `declarations` its functions without their bodies.
    """

    def __init__(self, module: ModuleOp, tables: Iterable[Operation], declarations: Iterable[llvm.FuncOp]) -> None:
        self._spell = _ModuleText()
        self._head = [*self._spell.head(module, None), *map(self._spell.global_, tables)]  # type: ignore[arg-type]
        self._declared = {op.sym_name.data: self._spell.declaration(op) for op in declarations}
        self._defined: dict[str, str] = {}

    def __len__(self) -> int:
        """Characters of the functions since the last text."""
        return sum(map(len, self._defined.values()))

    def add(self, op: llvm.FuncOp) -> None:
        """One more function, which nothing more is needed of. Raises as `print_module`."""
        name = op.sym_name.data
        self._declared[name] = self._spell.declaration(op)
        if op.body.blocks:
            self._defined[name] = "".join(self._spell.function(op, shared=True))

    def take(self) -> str:
        """A text with the functions since the last one."""
        others = (text for name, text in self._declared.items() if name not in self._defined)
        text = "".join([*self._head, *others, *self._defined.values(), *self._spell.groups()])
        self._defined.clear()
        return text


class _ModuleText:
    """Types and attribute groups, spelled once per module."""

    def __init__(self) -> None:
        self._types: dict[int, tuple[Attribute, str]] = {}
        self._suffixes: dict[int, tuple[Attribute, str]] = {}
        self._groups: dict[str, int] = {}

    def lines(self, module: ModuleOp, data_layout: str | None) -> Iterator[str]:
        yield from self.head(module, data_layout)
        for op in module.body.block.ops:
            if isinstance(op, llvm.FuncOp):
                yield from self.function(op)
            elif isinstance(op, llvm.GlobalOp):
                yield self.global_(op)
            else:
                raise UnsupportedError(f"{op.name} at the top of an llvm module")
        yield from self.groups()

    def head(self, module: ModuleOp, data_layout: str | None) -> Iterator[str]:
        triple = module.attributes.get("llvm.target_triple")
        if isinstance(triple, StringAttr):
            yield f'target triple = "{triple.data}"\n'
        if data_layout:
            yield f'target datalayout = "{data_layout}"\n'

    def groups(self) -> Iterator[str]:
        """The attributes of all functions printed so far."""
        for text, number in self._groups.items():
            yield f"attributes #{number} = {{ {text} }}\n"

    def type(self, kind: Attribute) -> str:
        found = self._types.get(id(kind))
        if found is None:
            found = self._types[id(kind)] = (kind, self._spell(kind))
        return found[1]

    def _spell(self, kind: Attribute) -> str:
        match kind:
            case IntegerType():
                return f"i{kind.width.data}"
            case Float32Type():
                return "float"
            case Float64Type():
                return "double"
            case Float16Type():
                return "half"
            case BFloat16Type():
                return "bfloat"
            case llvm.LLVMPointerType():
                return f"ptr addrspace({kind.addr_space.data})" if isinstance(kind.addr_space, IntAttr) else "ptr"
            case llvm.LLVMVoidType():
                return "void"
            case VectorType():
                return f"<{kind.get_shape()[0]} x {self.type(kind.element_type)}>"
            case llvm.LLVMArrayType():
                return f"[{kind.size.data} x {self.type(kind.type)}]"
            case llvm.LLVMStructType():
                return "{" + ", ".join(self.type(part) for part in kind.types) + "}"
        raise UnsupportedError(f"type {kind} has no LLVM text")

    def suffix(self, kind: Attribute) -> str:
        """How a type is spelled within the name of an intrinsic: v8f32."""
        found = self._suffixes.get(id(kind))
        if found is None:
            if isinstance(kind, VectorType):
                text = f"v{kind.get_shape()[0]}{self.suffix(kind.element_type)}"
            elif isinstance(kind, llvm.LLVMPointerType):
                text = "p0"
            else:
                text = {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16"}.get(
                    self.type(kind), self.type(kind)
                )
            found = self._suffixes[id(kind)] = (kind, text)
        return found[1]

    def group(self, op: llvm.FuncOp) -> str:
        """A function's attributes as a numbered group."""
        parts = []
        # Read from text, it is an attribute; built, a property.
        given = op.passthrough or cast("ArrayAttr[Attribute] | None", op.attributes.get("passthrough"))
        for item in given.data if given is not None else ():
            if isinstance(item, StringAttr):
                parts.append(item.data)
            else:
                key, value = (cast("StringAttr", part).data for part in cast("ArrayAttr[Attribute]", item))
                parts.append(f'"{key}"="{value}"')
        threads = op.attributes.get(THREADS)
        if isinstance(threads, DenseArrayBase):
            parts.append(f'"{THREADS}"="{",".join(map(str, threads.get_values()))}"')
        if not parts:
            return ""
        return f" #{self._groups.setdefault(' '.join(parts), len(self._groups))}"

    def declaration(self, op: llvm.FuncOp) -> str:
        kind = op.function_type
        arguments = ", ".join(self.type(argument) for argument in kind.inputs)
        return f"declare {self.type(kind.output)} @{quoted(op.sym_name.data)}({arguments})\n"

    def function(self, op: llvm.FuncOp, *, shared: bool = False) -> Iterator[str]:
        """The lines of one; `shared` where other objects may call it."""
        kind = op.function_type
        result, name = self.type(kind.output), op.sym_name.data
        if not op.body.blocks:
            yield self.declaration(op)
            return
        attributes = op.arg_attrs.data if op.arg_attrs is not None else (None,) * len(kind.inputs)
        body = _FunctionText(self)
        entry = op.body.blocks[0]
        arguments = ", ".join(
            f"{self.type(argument.type)}{argument_attributes(given)} {body.name(argument)}"
            for argument, given in zip(entry.args, attributes, strict=True)
        )
        linkage = op.linkage.linkage.data
        prefix = "" if shared or linkage == "external" else linkage + " "
        if KERNEL in op.attributes:
            prefix += "ptx_kernel "
        yield f"define {prefix}{result} @{quoted(name)}({arguments}){self.group(op)} {{\n"
        yield from body.blocks(list(op.body.blocks))
        yield "}\n"

    def global_(self, op: llvm.GlobalOp) -> str:
        name, kind = op.sym_name.data, op.global_type
        keyword = "constant" if op.constant is not None else "global"
        alignment = f", align {op.alignment.value.data}" if op.alignment is not None else ""
        space = op.addr_space.value.data
        # What a GPU's block shares holds nothing at first.
        value = "poison" if space == SHARED_SPACE else "zeroinitializer"
        if isinstance(op.value, DenseIntOrFPElementsAttr) and isinstance(kind, llvm.LLVMArrayType):
            element = self.type(kind.type)
            numbers = [number_text(number, kind.type) for number in op.value.get_values()]
            value = "[" + ", ".join(f"{element} {number}" for number in numbers) + "]"
        elif op.value is not None:
            raise UnsupportedError(f"llvm.mlir.global @{name} with the value {op.value}")
        linkage = op.linkage.linkage.data
        where = f"addrspace({space}) " if space else ""
        return f"@{quoted(name)} = {linkage} {where}{keyword} {self.type(kind)} {value}{alignment}\n"


def quoted(name: str) -> str:
    """A symbol as LLVM reads it."""
    plain = all(c.isalnum() or c in "._$-" for c in name) and name and not name[0].isdigit()
    return name if plain and name.isascii() else '"' + name.replace("\\", "\\5C").replace('"', "\\22") + '"'


def argument_attributes(given: DictionaryAttr | None) -> str:
    """noalias and the like, each with a space before."""
    if given is None or not given.data:
        return ""
    words = []
    for name, value in given.data.items():
        if name == "llvm.align" and isinstance(value, IntegerAttr):
            words.append(f" align {value.value.data}")
        elif name in ARGUMENT_ATTRIBUTES:
            words.append(f" {ARGUMENT_ATTRIBUTES[name]}")
        else:
            raise UnsupportedError(f"the argument attribute {name} has no LLVM text")
    return "".join(words)


def number_text(value: Any, kind: Attribute) -> str:
    """A scalar constant: integers in decimal, floats as bits."""
    if isinstance(kind, IntegerType):
        if kind.width.data == 1:
            return "true" if value else "false"
        return str(int(value))
    if isinstance(kind, Float16Type):
        return "0xH" + struct.pack(">e", value).hex().upper()
    if isinstance(kind, Float32Type):
        value = struct.unpack("<f", struct.pack("<f", value))[0] if abs(value) < 3.5e38 else value
    return "0x" + struct.pack(">d", value).hex().upper()


def flags_text(op: Operation) -> str:
    """Float flags, each with a space after."""
    flags = op.properties.get("fastmathFlags")
    if not isinstance(flags, llvm.FastMathAttr) or not flags.data:
        return ""
    return "".join(f"{flag.value} " for flag in sorted(flags.data, key=lambda flag: flag.value))


class _FunctionText:
    """Names of one function's values, and its lines."""

    def __init__(self, module: _ModuleText) -> None:
        self.module = module
        self.type = module.type
        self.names: dict[SSAValue, str] = {}
        self.labels: dict[Block, str] = {}
        self.out: list[str] = []
        self.count = 0

    def name(self, value: SSAValue) -> str:
        """`%v7`, or the constant itself."""
        found = self.names.get(value)
        if found is None:
            owner = value.owner
            constant = CONSTANTS.get(type(owner)) if isinstance(owner, Operation) else None
            if constant is not None:
                found = constant(self, owner)
            else:
                self.count += 1
                found = f"%v{self.count}"
            self.names[value] = found
        return found

    def typed(self, value: SSAValue) -> str:
        """`float %v7`."""
        return f"{self.type(value.type)} {self.name(value)}"

    def typed_list(self, values: Sequence[SSAValue]) -> str:
        return ", ".join(self.typed(value) for value in values)

    def blocks(self, blocks: list[Block]) -> Iterator[str]:
        for number, block in enumerate(blocks):
            self.labels[block] = f"b{number}"
        edges = self._edges(blocks)
        out = self.out
        for block in blocks:
            out.append(f"{self.labels[block]}:\n")
            if block is not blocks[0]:
                self._phis(block, edges.get(block, []))
            for op in block.ops:
                printer = PRINTERS.get(type(op))
                if printer is None:
                    raise UnsupportedError(f"{op.name} has no LLVM text")
                printer(self, op)
        return iter(out)

    def _edges(self, blocks: list[Block]) -> dict[Block, list[tuple[Block, Sequence[SSAValue]]]]:
        """For each block with arguments: from where, and with which values, it is entered."""
        edges: dict[Block, list[tuple[Block, Sequence[SSAValue]]]] = {}
        for block in blocks:
            last = block.last_op
            if isinstance(last, llvm.BrOp):
                edges.setdefault(last.successors[0], []).append((block, last.operands))
            elif isinstance(last, llvm.CondBrOp):
                targets = last.successors
                if targets[0] is targets[1] and targets[0].args:
                    raise UnsupportedError("llvm.cond_br to one block with arguments on both sides")
                edges.setdefault(targets[0], []).append((block, last.then_arguments))
                edges.setdefault(targets[1], []).append((block, last.else_arguments))
            elif isinstance(last, upstream.SwitchOp):
                for target in dict.fromkeys(last.successors):
                    edges.setdefault(target, []).append((block, ()))
        return edges

    def _phis(self, block: Block, edges: list[tuple[Block, Sequence[SSAValue]]]) -> None:
        for number, argument in enumerate(block.args):
            ways = ", ".join(f"[ {self.name(values[number])}, %{self.labels[source]} ]" for source, values in edges)
            self.out.append(f" {self.name(argument)} = phi {self.type(argument.type)} {ways}\n")

    def define(self, op: Operation, text: str) -> None:
        """A line that gives the op's result its name."""
        self.out.append(f" {self.name(op.results[0])} = {text}\n")


Printer = Callable[[_FunctionText, Any], None]


# ------ constants


def _constant(text: _FunctionText, op: Any) -> str:
    value: Any = op.value
    kind = op.result.type
    if isinstance(value, (IntegerAttr, FloatAttr)):
        return number_text(value.value.data, kind)
    if not isinstance(value, DenseIntOrFPElementsAttr) or not isinstance(kind, VectorType):
        raise UnsupportedError(f"llvm.mlir.constant {value} has no LLVM text")
    element = text.type(kind.element_type)
    if value.is_splat():
        return f"splat ({element} {number_text(next(iter(value.iter_values())), kind.element_type)})"
    numbers = (f"{element} {number_text(number, kind.element_type)}" for number in value.get_values())
    return "<" + ", ".join(numbers) + ">"


def _zero(text: _FunctionText, op: Any) -> str:
    return "null" if isinstance(op.res.type, llvm.LLVMPointerType) else "zeroinitializer"


CONSTANTS: dict[type[Operation], Callable[[_FunctionText, Any], str]] = {
    llvm.ConstantOp: _constant,
    llvm.ZeroOp: _zero,
    llvm.UndefOp: lambda text, op: "undef",
    upstream.PoisonOp: lambda text, op: "poison",
    llvm.AddressOfOp: lambda text, op: f"@{quoted(op.global_name.root_reference.data)}",
}


# ------ instructions


def _binary(keyword: str) -> Printer:
    def emit(text: _FunctionText, op: Operation) -> None:
        left, right = op.operands
        text.define(op, f"{keyword} {text.type(left.type)} {text.name(left)}, {text.name(right)}")

    return emit


def _wrapping(keyword: str) -> Printer:
    spelled = [keyword, f"{keyword} nsw", f"{keyword} nuw", f"{keyword} nuw nsw"]

    def emit(text: _FunctionText, op: Operation) -> None:
        left, right = op.operands
        flags = op.properties.get("overflowFlags")
        word = spelled[flags.value.data] if isinstance(flags, IntegerAttr) else keyword
        text.define(op, f"{word} {text.type(left.type)} {text.name(left)}, {text.name(right)}")

    return emit


def _float(keyword: str) -> Printer:
    def emit(text: _FunctionText, op: Operation) -> None:
        names = ", ".join(text.name(operand) for operand in op.operands)
        text.define(op, f"{keyword} {flags_text(op)}{text.type(op.results[0].type)} {names}")

    return emit


def _cast(keyword: str) -> Printer:
    def emit(text: _FunctionText, op: Operation) -> None:
        text.define(op, f"{keyword} {text.typed(op.operands[0])} to {text.type(op.results[0].type)}")

    return emit


def _intrinsic(name: str, overload: Callable[[Operation], Sequence[Attribute]], extra: str = "") -> Printer:
    """A call of `llvm.name.types`; `extra` is a further argument."""

    def emit(text: _FunctionText, op: Operation) -> None:
        suffix = "".join(f".{text.module.suffix(kind)}" for kind in overload(op))
        result = text.type(op.results[0].type)
        arguments = text.typed_list(op.operands) + extra
        text.define(op, f"call {flags_text(op)}{result} @llvm.{name}{suffix}({arguments})")

    return emit


def _of_result(op: Operation) -> Sequence[Attribute]:
    return (op.results[0].type,)


def _of_last_operand(op: Operation) -> Sequence[Attribute]:
    return (op.operands[-1].type,)


def _compare(text: _FunctionText, op: Operation) -> None:
    left, right = op.operands
    number = cast("IntegerAttr[IntegerType]", op.properties["predicate"]).value.data
    if type(op) is llvm.ICmpOp:
        word = f"icmp {llvm.ALL_ICMP_FLAGS[number].value}"
    else:
        word = f"fcmp {flags_text(op)}{llvm.ALL_FCMP_FLAGS[number].value.lstrip('_')}"
    text.define(op, f"{word} {text.type(left.type)} {text.name(left)}, {text.name(right)}")


def _load(text: _FunctionText, op: Any) -> None:
    ordering = op.ordering.value.data
    atomic, order = ("atomic ", f" {ORDERINGS[ordering]}") if ordering else ("", "")
    kind = text.type(op.results[0].type)
    align = f", align {op.alignment.value.data}" if op.alignment is not None else ""
    text.define(op, f"load {atomic}{kind}, ptr {text.name(op.operands[0])}{order}{align}")


def _store(text: _FunctionText, op: Any) -> None:
    value, pointer = op.operands
    number = op.properties.get("ordering")
    ordering = number.value.data if isinstance(number, IntegerAttr) else 0
    atomic, order = ("atomic ", f" {ORDERINGS[ordering]}") if ordering else ("", "")
    align = f", align {op.alignment.value.data}" if op.alignment is not None else ""
    text.out.append(f" store {atomic}{text.typed(value)}, ptr {text.name(pointer)}{order}{align}\n")


def _address(text: _FunctionText, op: Any) -> None:
    operands = iter(op.operands)
    pointer = next(operands)
    constants = op.properties["rawConstantIndices"].get_values()
    indices = [text.typed(next(operands)) if c == llvm.GEP_USE_SSA_VAL else f"i32 {c}" for c in constants]
    inbounds = "inbounds " if "inbounds" in op.properties else ""
    element = text.type(op.properties["elem_type"])
    text.define(op, f"getelementptr {inbounds}{element}, {text.typed(pointer)}, {', '.join(indices)}")


def _alloca(text: _FunctionText, op: Any) -> None:
    align = f", align {op.alignment.value.data}" if op.alignment is not None else ""
    text.define(op, f"alloca {text.type(op.elem_type)}, {text.typed(op.operands[0])}{align}")


def _select(text: _FunctionText, op: Operation) -> None:
    text.define(op, f"select {flags_text(op)}{text.typed_list(op.operands)}")


def _extract_element(text: _FunctionText, op: Operation) -> None:
    text.define(op, f"extractelement {text.typed_list(op.operands)}")


def _insert_element(text: _FunctionText, op: Operation) -> None:
    text.define(op, f"insertelement {text.typed_list(op.operands)}")


def _extract_value(text: _FunctionText, op: Any) -> None:
    position = ", ".join(str(number) for number in op.position.get_values())
    text.define(op, f"extractvalue {text.typed(op.operands[0])}, {position}")


def _insert_value(text: _FunctionText, op: Any) -> None:
    position = ", ".join(str(number) for number in op.position.get_values())
    text.define(op, f"insertvalue {text.typed_list(op.operands)}, {position}")


def _shuffle(text: _FunctionText, op: Any) -> None:
    lanes = cast("DenseArrayBase[IntegerType]", op.mask).get_values()
    mask = ", ".join("i32 poison" if lane < 0 else f"i32 {lane}" for lane in lanes)
    text.define(op, f"shufflevector {text.typed_list(op.operands)}, <{len(lanes)} x i32> <{mask}>")


def _freeze(text: _FunctionText, op: Operation) -> None:
    text.define(op, f"freeze {text.typed(op.operands[0])}")


# ------ memory intrinsics and atomics


def _masked_load(text: _FunctionText, op: Any) -> None:
    pointer, mask, pass_through = op.operands
    kind = op.results[0].type
    text.define(
        op,
        f"call {text.type(kind)} @llvm.masked.load.{text.module.suffix(kind)}.p0"
        f"(ptr align {op.alignment.value.data} {text.name(pointer)}, {text.typed(mask)}, {text.typed(pass_through)})",
    )


def _masked_store(text: _FunctionText, op: Any) -> None:
    value, pointer, mask = op.operands
    text.out.append(
        f" call void @llvm.masked.store.{text.module.suffix(value.type)}.p0({text.typed(value)}, "
        f"ptr align {op.alignment.value.data} {text.name(pointer)}, {text.typed(mask)})\n"
    )


def _masked_gather(text: _FunctionText, op: Any) -> None:
    pointers, mask, pass_through = op.operands
    kind = op.results[0].type
    suffix = f"{text.module.suffix(kind)}.{text.module.suffix(pointers.type)}"
    text.define(
        op,
        f"call {text.type(kind)} @llvm.masked.gather.{suffix}({text.type(pointers.type)} align "
        f"{op.alignment.value.data} {text.name(pointers)}, {text.typed(mask)}, {text.typed(pass_through)})",
    )


def _masked_scatter(text: _FunctionText, op: Any) -> None:
    value, pointers, mask = op.operands
    suffix = f"{text.module.suffix(value.type)}.{text.module.suffix(pointers.type)}"
    text.out.append(
        f" call void @llvm.masked.scatter.{suffix}({text.typed(value)}, {text.type(pointers.type)} align "
        f"{op.alignment.value.data} {text.name(pointers)}, {text.typed(mask)})\n"
    )


def _block_of_memory(name: str) -> Printer:
    def emit(text: _FunctionText, op: Any) -> None:
        length = text.module.suffix(op.operands[2].type)
        kinds = f"p0.{length}" if name == "memset" else f"p0.p0.{length}"
        text.out.append(f" call void @llvm.{name}.{kinds}({text.typed_list(op.operands)}, i1 false)\n")

    return emit


def _with_flag(name: str, flag: str) -> Printer:
    def emit(text: _FunctionText, op: Operation) -> None:
        value = cast("IntegerAttr[IntegerType]", op.properties[flag]).value.data
        kind = op.results[0].type
        call = (
            f"@llvm.{name}.{text.module.suffix(kind)}({text.typed(op.operands[0])}, i1 {'true' if value else 'false'})"
        )
        text.define(op, f"call {text.type(kind)} {call}")

    return emit


def _atomic_rmw(text: _FunctionText, op: Any) -> None:
    pointer, value = op.operands
    word, order = RMW_OPERATIONS[op.bin_op.value.data], ORDERINGS[op.ordering.value.data]
    text.define(op, f"atomicrmw {word} ptr {text.name(pointer)}, {text.typed(value)} {order}")


def _compare_exchange(text: _FunctionText, op: Any) -> None:
    orders = f"{ORDERINGS[op.success_ordering.value.data]} {ORDERINGS[op.failure_ordering.value.data]}"
    text.define(op, f"cmpxchg {text.typed_list(op.operands)} {orders}")


def _fence(text: _FunctionText, op: Any) -> None:
    text.out.append(f" fence {ORDERINGS[op.ordering.value.data]}\n")


# ------ control


def _return(text: _FunctionText, op: Operation) -> None:
    text.out.append(f" ret {text.typed(op.operands[0])}\n" if op.operands else " ret void\n")


def _branch(text: _FunctionText, op: Operation) -> None:
    text.out.append(f" br label %{text.labels[op.successors[0]]}\n")


def _branch_if(text: _FunctionText, op: Operation) -> None:
    then, otherwise = (text.labels[block] for block in op.successors)
    text.out.append(f" br i1 {text.name(op.operands[0])}, label %{then}, label %{otherwise}\n")


def _switch(text: _FunctionText, op: Any) -> None:
    kind = text.type(op.value.type)
    default, *targets = (text.labels[block] for block in op.successors)
    values = op.case_values.get_values() if op.case_values is not None else ()
    cases = " ".join(f"{kind} {value}, label %{target}" for value, target in zip(values, targets, strict=True))
    text.out.append(f" switch {text.typed(op.value)}, label %{default} [ {cases} ]\n")


def _call(text: _FunctionText, op: Any) -> None:
    name = cast("SymbolRefAttr", op.properties["callee"]).root_reference.data
    line = f"@{quoted(name)}({text.typed_list(op.operands)})"
    if op.results:
        text.define(op, f"call {text.type(op.results[0].type)} {line}")
    else:
        text.out.append(f" call void {line}\n")


def _call_intrinsic(text: _FunctionText, op: Any) -> None:
    name = op.intrin.data
    if name not in CALLABLE_INTRINSICS:
        raise UnsupportedError(f"the intrinsic {name} is not one that is known to work")
    line = f"@{name}({text.typed_list(op.operands)})"
    if op.results:
        text.define(op, f"call {text.type(op.results[0].type)} {line}")
    else:
        text.out.append(f" call void {line}\n")


def _nothing(text: _FunctionText, op: Operation) -> None:
    """Constants stand where they are used."""


def _named(words: str) -> dict[str, str]:
    return {f"llvm.intr.{word}": word for word in words.split()}


_ELEMENTWISE = _named("rint nearbyint roundeven trunc maximum minimum smax smin umax umin ctpop")
_REDUCTIONS = _named(" ".join(name.removeprefix("llvm.intr.") for name in upstream.INTRINSICS if "reduce" in name))

PRINTERS: dict[type[Operation], Printer] = {
    **{kind: _nothing for kind in CONSTANTS},
    llvm.AddOp: _wrapping("add"),
    llvm.SubOp: _wrapping("sub"),
    llvm.MulOp: _wrapping("mul"),
    llvm.ShlOp: _wrapping("shl"),
    llvm.SDivOp: _binary("sdiv"),
    llvm.UDivOp: _binary("udiv"),
    llvm.SRemOp: _binary("srem"),
    llvm.URemOp: _binary("urem"),
    llvm.AndOp: _binary("and"),
    llvm.OrOp: _binary("or"),
    llvm.XOrOp: _binary("xor"),
    llvm.LShrOp: _binary("lshr"),
    llvm.AShrOp: _binary("ashr"),
    llvm.FAddOp: _float("fadd"),
    llvm.FSubOp: _float("fsub"),
    llvm.FMulOp: _float("fmul"),
    llvm.FDivOp: _float("fdiv"),
    llvm.FRemOp: _float("frem"),
    llvm.FNegOp: _float("fneg"),
    llvm.ICmpOp: _compare,
    upstream.FCmpOp: _compare,
    llvm.FCmpOp: _compare,
    upstream.SelectOp: _select,
    llvm.SelectOp: _select,
    llvm.TruncOp: _cast("trunc"),
    llvm.ZExtOp: _cast("zext"),
    llvm.SExtOp: _cast("sext"),
    llvm.BitcastOp: _cast("bitcast"),
    llvm.SIToFPOp: _cast("sitofp"),
    llvm.FPExtOp: _cast("fpext"),
    llvm.FPTruncOp: _cast("fptrunc"),
    llvm.IntToPtrOp: _cast("inttoptr"),
    llvm.PtrToIntOp: _cast("ptrtoint"),
    upstream.FPToSIOp: _cast("fptosi"),
    upstream.FPToUIOp: _cast("fptoui"),
    upstream.UIToFPOp: _cast("uitofp"),
    upstream.FreezeOp: _freeze,
    upstream.AddrSpaceCastOp: _cast("addrspacecast"),
    llvm.LoadOp: _load,
    upstream.StoreOp: _store,
    llvm.StoreOp: _store,
    upstream.GEPOp: _address,
    llvm.GEPOp: _address,
    llvm.AllocaOp: _alloca,
    upstream.ExtractElementOp: _extract_element,
    llvm.InsertElementOp: _insert_element,
    llvm.ExtractValueOp: _extract_value,
    llvm.InsertValueOp: _insert_value,
    llvm.ShuffleVectorOp: _shuffle,
    llvm.FAbsOp: _intrinsic("fabs", _of_result),
    llvm.FSqrtOp: _intrinsic("sqrt", _of_result),
    llvm.FFloorOp: _intrinsic("floor", _of_result),
    llvm.FCeilOp: _intrinsic("ceil", _of_result),
    llvm.FCopySignOp: _intrinsic("copysign", _of_result),
    llvm.FMAOp: _intrinsic("fma", _of_result),
    llvm.VectorFMaxOp: _intrinsic("maxnum", _of_result),
    llvm.VectorFMinOp: _intrinsic("minnum", _of_result),
    llvm.VectorReduceFAddOp: _intrinsic("vector.reduce.fadd", _of_last_operand),
    llvm.VectorReduceFMulOp: _intrinsic("vector.reduce.fmul", _of_last_operand),
    **{upstream.INTRINSICS[name]: _intrinsic(word, _of_result) for name, word in _ELEMENTWISE.items()},
    **{upstream.INTRINSICS[name]: _intrinsic(word, _of_last_operand) for name, word in _REDUCTIONS.items()},
    upstream.INTRINSICS["llvm.intr.ctlz"]: _with_flag("ctlz", "is_zero_poison"),
    upstream.INTRINSICS["llvm.intr.cttz"]: _with_flag("cttz", "is_zero_poison"),
    upstream.AbsOp: _with_flag("abs", "is_int_min_poison"),
    upstream.MaskedLoadOp: _masked_load,
    upstream.MaskedStoreOp: _masked_store,
    upstream.MaskedGatherOp: _masked_gather,
    upstream.MaskedScatterOp: _masked_scatter,
    upstream.MemcpyOp: _block_of_memory("memcpy"),
    upstream.MemmoveOp: _block_of_memory("memmove"),
    upstream.MemsetOp: _block_of_memory("memset"),
    upstream.AtomicRMWOp: _atomic_rmw,
    upstream.CmpXchgOp: _compare_exchange,
    upstream.FenceOp: _fence,
    llvm.ReturnOp: _return,
    llvm.BrOp: _branch,
    llvm.CondBrOp: _branch_if,
    upstream.SwitchOp: _switch,
    llvm.CallOp: _call,
    llvm.CallIntrinsicOp: _call_intrinsic,
    llvm.UnreachableOp: lambda text, op: text.out.append(" unreachable\n"),
}
