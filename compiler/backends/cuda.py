"""gpu level -> CUDA C++, to be read, compiled by NVRTC or nvcc, and compared with the PTX.

One statement per op, named after the op; index arithmetic that is used once stands where it is used. Indices are
`int` where they are known to fit. Math functions are CUDA's own, where PTX has our polynomials.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from xdsl.dialects import arith, gpu, memref, scf, vector
from xdsl.dialects.builtin import DenseArrayBase, IndexType, MemRefType, VectorType
from xdsl.ir import Attribute, Block, Operation, SSAValue

from stepwell.compiler.backends.cuda_expressions import (
    EXPRESSIONS,
    PRELUDE,
    Context,
    constant_of,
    type_name,
)
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.upstream import core
from stepwell.dialects.upstream import gpu as upstream_gpu
from stepwell.lowering.gpu import Device, Note, geometry
from stepwell.lowering.gpu.frame import ALIGNMENT, UNROLL
from stepwell.lowering.gpu.ranges import Ranges
from stepwell.lowering.gpu.tile_to_gpu import describe, places

PRODUCT = re.compile(r"\w+ [*/%] \w+")
"""What needs no parentheses in a sum."""

HEADERS = {"__half": "cuda_fp16.h", "__nv_bfloat16": "cuda_bf16.h"}


def print_cuda(functions: Sequence[gpu.FuncOp], notes: Sequence[Note], device: Device) -> str:
    """The source of some kernels. Raises UnsupportedError for an op or type that has no form in CUDA C++."""
    needs: set[str] = set()
    kernels = [_Kernel(function, needs).text() for function in functions]
    body = "\n".join(kernels)
    head = [
        f"// For {device.name}: nvcc -arch={device.name} -cubin, or NVRTC. Where products are not to be fused with",
        "// the sums that follow (beyond what is written as fma): -fmad=false.",
        *(f"// {note}" for note in notes),
        *(f"#include <{header}>" for name, header in HEADERS.items() if name in body),
    ]
    prelude = [text for name, text in PRELUDE.items() if name in needs]
    return "\n".join([*head, "", *prelude, *([""] if prelude else []), body])


class _Kernel:
    """Writes one kernel."""

    def __init__(self, function: gpu.FuncOp, needs: set[str]) -> None:
        self.function, self.needs = function, needs
        self.ranges = Ranges.of(function)
        self.needed = needed_values(function)
        self.lines: list[str] = []
        self.depth = 1
        self.names: dict[SSAValue, str] = {}
        self.counts: dict[str, int] = {}
        self.here: tuple[str, ...] = ()
        self.loops = 0
        self.carried: set[str] = set()
        """Variables that loops change. One that starts a loop, and is needed for nothing else, goes on in it."""

    def text(self) -> str:
        function = self.function
        written = geometry.results_of(function)
        parameters: list[tuple[str, str]] = []
        for number, argument in enumerate(function.body.block.args):
            name = self._parameter(number, argument, written)
            self.names[argument] = name
            shape = "x".join("?" if n < 0 else str(n) for n in argument.type.get_shape()) if isinstance(
                argument.type, MemRefType) else ""
            parameters.append((self._declared(argument, name, number not in written), shape))
        self.here = places(function.location)
        self.block(function.body.block)
        head = [f"// {line}" for line in describe(function)]
        threads = geometry.threads_of(function)
        head.append(f'extern "C" __global__ void __launch_bounds__({threads}) {function.sym_name.data}(')
        last = len(parameters) - 1
        for number, (text, shape) in enumerate(parameters):
            comment = f"  // {shape}" if shape else ""
            head.append(f"    {text}{',' if number < last else ') {'}{comment}")
        return "\n".join([*head, *self.lines, "}", ""])

    def _parameter(self, number: int, argument: SSAValue, written: range) -> str:
        if number in written:
            return f"result{number - written.start}"
        if number < written.start:
            return f"arg{number}"
        source, axis = geometry.size_sources(self.function)[number - written.stop]
        return f"size{axis}_of_arg{source}"

    def _declared(self, argument: SSAValue, name: str, read_only: bool) -> str:
        kind = argument.type
        if isinstance(kind, MemRefType):
            constant = "const " if read_only else ""
            return f"{constant}{type_name(kind.element_type)}* __restrict__ {name}"
        return f"const {type_name(kind)} {name}"

    # ------ statements

    def line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    @contextmanager
    def braces(self, head: str) -> Iterator[None]:
        """A compound statement."""
        self.line(head + " {")
        self.depth += 1
        yield
        self.depth -= 1
        self.line("}")

    def block(self, block: Block) -> Operation | None:
        """All ops of a block; its terminator."""
        for op in block.ops:
            if isinstance(op, (scf.YieldOp, gpu.ReturnOp)):
                return op
            self._place(op)
            writer = STATEMENTS.get(type(op))
            if writer is not None:
                writer(self, op)
            elif (constant := constant_of(op)) is not None:
                self.names[op.results[0]] = constant
            elif op.results[0] in self.needed:
                self._compute(op)
        return None

    def _place(self, op: Operation) -> None:
        """A comment where what follows is from another place of the model's source."""
        if not isinstance(op.results[0].type if op.results else None, IndexType):
            found = places(op.location)
            if found and found != self.here:
                self.here = found
                self.line(f"// {', '.join(found)}")

    def fresh(self, prefix: str) -> str:
        """A name not used before."""
        count = self.counts[prefix] = self.counts.get(prefix, 0) + 1
        return f"{prefix}{count}"

    def type(self, value: SSAValue) -> str:
        """The type of a value's variable."""
        if isinstance(value.type, IndexType) and self.ranges.fits(value):
            return "int"
        if isinstance(value.type, VectorType):
            self.needs.add("Vector")
            return f"Vector<{type_name(value.type.element_type)}, {value.type.get_shape()[0]}>"
        return type_name(value.type)

    def operand(self, value: SSAValue) -> str:
        """A value as part of an expression."""
        text = self.names[value]
        return f"({text})" if " " in text and not _is_closed(text) else text

    def _compute(self, op: Operation) -> None:
        """An op on numbers: a variable, or for index arithmetic that is used once its text."""
        write = EXPRESSIONS.get(type(op))
        if write is None or len(op.results) != 1:
            raise UnsupportedError(f"{op.name} has no form in CUDA C++")
        result = op.results[0]
        term = isinstance(op, arith.AddiOp) and isinstance(result.type, IndexType)
        operands = [
            self.names[value] if term and PRODUCT.fullmatch(self.names[value]) else self.operand(value)
            for value in op.operands
        ]
        if isinstance(result.type, IndexType) and not self.ranges.fits(result):
            operands = [
                f"(long long){text}" if isinstance(v.type, IndexType) and self.ranges.fits(v) else text
                for text, v in zip(operands, op.operands, strict=True)
            ]
        text = write(Context(op, operands, self.needs)).replace(" + -", " - ")
        if isinstance(result.type, IndexType) and self.ranges.fits(result) and text.startswith("(long long)"):
            text = text.removeprefix("(long long)")
        if isinstance(result.type, IndexType) and result.has_one_use() and len(text) < 60:
            self.names[result] = text
            return
        self.define(result, text, _prefix(op))

    def define(self, value: SSAValue, text: str, prefix: str) -> None:
        """A constant variable."""
        name = self.names[value] = self.fresh(prefix)
        self.line(f"const {self.type(value)} {name} = {text};")

    def assign(self, names: Sequence[str], values: Sequence[str]) -> None:
        """All at once: through copies where a value that is overwritten is still needed."""
        pairs = [(name, value) for name, value in zip(names, values, strict=True) if name != value]
        targets = {name for name, _ in pairs}
        if any(value in targets for _, value in pairs[1:]):
            copies = [self.fresh("next") for _ in pairs]
            for copy, (_, value) in zip(copies, pairs, strict=True):
                self.line(f"const auto {copy} = {value};")
            pairs = [(name, copy) for (name, _), copy in zip(pairs, copies, strict=True)]
        for name, value in pairs:
            self.line(f"{name} = {value};")


def needed_values(function: gpu.FuncOp) -> set[SSAValue]:
    """The values that have a place in the source: not the sizes that only memrefs have, pointers do without."""
    needed: set[SSAValue] = set()
    for op in reversed(list(function.walk())):
        if isinstance(op, memref.ReinterpretCastOp):
            needed.add(op.operands[0])
        elif op.regions or not op.results or any(result in needed for result in op.results):
            needed.update(op.operands)
    return needed


def _is_closed(text: str) -> bool:
    """Whether a text is one call or one parenthesis, so that it needs none around it."""
    start = text.find("(")
    if start < 0 or not text.endswith(")") or (start and not text[:start].replace("_", "").isalnum()):
        return False
    depth = 0
    for place, letter in enumerate(text[start:], start):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place == len(text) - 1
    return False


def _prefix(op: Operation) -> str:
    """A name for an op's result."""
    if isinstance(op.results[0].type, IndexType):
        return "at"
    name = op.name.split(".")[1]
    return {"maximumf": "largest", "minimumf": "smallest", "cmpi": "is", "cmpf": "is", "select": "chosen"}.get(
        name, name.rstrip("fi") if name[:-1] in ("add", "sub", "mul", "div", "neg", "abs") else name
    ) + "_"


# ------ ops that are no expressions


def _thread(kernel: _Kernel, op: Operation) -> None:
    kernel.names[op.results[0]] = "thread"
    kernel.line("const int thread = threadIdx.x;")


def _block(kernel: _Kernel, op: Operation) -> None:
    kernel.names[op.results[0]] = "block"
    kernel.line(f"const {kernel.type(op.results[0])} block = blockIdx.x;")


def _barrier(kernel: _Kernel, op: Operation) -> None:
    kernel.line("__syncthreads();")


def _shuffle(kernel: _Kernel, op: Operation) -> None:
    assert isinstance(op, upstream_gpu.ShuffleOp)
    if op.mode.data != upstream_gpu.ShuffleMode.XOR:
        raise UnsupportedError(f"gpu.shuffle {op.mode.data.value} has no form in CUDA C++")
    value, offset = kernel.operand(op.value), kernel.operand(op.offset)
    kernel.define(op.shuffle_result, f"__shfl_xor_sync(0xffffffffu, {value}, {offset})", "from_lane")


def _shared(kernel: _Kernel, op: Operation) -> None:
    kind = cast("MemRefType[Attribute]", op.results[0].type)
    name = kernel.names[op.results[0]] = kernel.fresh("shared")
    (count,) = kind.get_shape()
    kernel.line(f"__shared__ __align__({ALIGNMENT}) {type_name(kind.element_type)} {name}[{count}];")


def _same(kernel: _Kernel, op: Operation) -> None:
    kernel.names[op.results[0]] = kernel.names[op.operands[0]]


def _element(kernel: _Kernel, memory: SSAValue, index: SSAValue) -> str:
    return f"{kernel.names[memory]}[{kernel.names[index]}]"


def _load(kernel: _Kernel, op: Operation) -> None:
    memory, index = op.operands
    kernel.define(op.results[0], _element(kernel, memory, index), "load_")


def _store(kernel: _Kernel, op: Operation) -> None:
    value, memory, index = op.operands
    kernel.line(f"{_element(kernel, memory, index)} = {kernel.names[value]};")


def _vector_load(kernel: _Kernel, op: Operation) -> None:
    memory, index = op.operands
    kind = kernel.type(op.results[0])
    text = f"*reinterpret_cast<const {kind}*>(&{_element(kernel, memory, index)})"
    kernel.define(op.results[0], text, "load_")


def _vector_store(kernel: _Kernel, op: Operation) -> None:
    value, memory, index = op.operands
    target = f"*reinterpret_cast<{kernel.type(value)}*>(&{_element(kernel, memory, index)})"
    kernel.line(f"{target} = {kernel.names[value]};")


def _lane(kernel: _Kernel, op: Operation) -> None:
    position = cast("DenseArrayBase[Any]", op.properties["static_position"]).get_values()[0]
    kernel.names[op.results[0]] = f"{kernel.names[op.operands[0]]}.at[{position}]"


def _from_elements(kernel: _Kernel, op: Operation) -> None:
    elements = ", ".join(kernel.names[value] for value in op.operands)
    kernel.names[op.results[0]] = f"{kernel.type(op.results[0])}{{{{{elements}}}}}"


def _if(kernel: _Kernel, op: Operation) -> None:
    names = []
    for result in op.results:
        name = kernel.names[result] = kernel.fresh("result_")
        names.append(name)
        kernel.line(f"{kernel.type(result)} {name};")
    heads = (f"if ({kernel.names[op.operands[0]]})", "else")
    for head, region in zip(heads, op.regions, strict=True):
        if region.blocks:
            with kernel.braces(head):
                end = kernel.block(region.block)
                kernel.assign(names, [kernel.names[value] for value in end.operands] if end is not None else [])


def _for(kernel: _Kernel, op: Operation) -> None:
    low, high, step, *carried = (kernel.names[operand] for operand in op.operands)
    induction, *arguments = op.regions[0].block.args
    names = []
    for argument, result, start, start_value in zip(arguments, op.results, carried, op.operands[3:], strict=True):
        goes_on = start in kernel.carried and start_value.has_one_use()
        name = start if goes_on else kernel.fresh("carried")
        kernel.names[argument] = kernel.names[result] = name
        kernel.carried.add(name)
        names.append(name)
        if not goes_on:
            kernel.line(f"{kernel.type(result)} {name} = {start};")
    kernel.loops += 1
    index = kernel.names[induction] = f"i{kernel.loops}"
    if UNROLL in op.attributes:
        kernel.line("#pragma unroll")
    kind = kernel.type(induction)
    advance = f"++{index}" if step == "1" else f"{index} += {step}"
    with kernel.braces(f"for ({kind} {index} = {low}; {index} < {high}; {advance})"):
        end = kernel.block(op.regions[0].block)
        kernel.assign(names, [kernel.names[value] for value in end.operands] if end is not None else [])


STATEMENTS: Mapping[type[Operation], Callable[[_Kernel, Operation], None]] = {
    gpu.ThreadIdOp: _thread, gpu.BlockIdOp: _block, gpu.BarrierOp: _barrier, upstream_gpu.ShuffleOp: _shuffle,
    memref.AllocaOp: _shared, memref.ReinterpretCastOp: _same, memref.LoadOp: _load, memref.StoreOp: _store,
    vector.LoadOp: _vector_load, vector.StoreOp: _vector_store, vector.ExtractOp: _lane,
    core.FromElementsOp: _from_elements, scf.IfOp: _if, scf.ForOp: _for,
}  # fmt: skip
