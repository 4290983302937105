"""Runs bufferized programs on numpy: kernels are lowered here in the plainest way, element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import pytest
from xdsl.dialects import arith, func, linalg, memref, scf, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, FunctionType, IndexType, IntegerAttr, MemRefType, ModuleOp, TensorType
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineBinaryOpExpr, AffineBinaryOpKind, AffineConstantExpr, AffineDimExpr, AffineExpr
from xdsl.parser import Parser

from stepwell.compiler.backends import jit
from stepwell.compiler.backends.target import host as host_target
from stepwell.compiler.driver import Compiled, NativeProgram, result_order
from stepwell.compiler.interpreter import interpret
from stepwell.dialects import context, host, tile
from stepwell.dialects.levels import LOOPS, TILE
from stepwell.dialects.levels import check as check_level
from stepwell.lowering.cpu.distribute import Distribute
from stepwell.lowering.host_bufferize import BufferizeHost
from stepwell.lowering.host_bufferize.elements import memref_of
from stepwell.lowering.host_bufferize.loop_writer import by_thread_zero
from stepwell.lowering.loops_to_llvm.lower_entry import LoopsToLlvm

INDEX = IndexType()
KINDS = {
    AffineBinaryOpKind.Add: arith.AddiOp,
    AffineBinaryOpKind.Mul: arith.MuliOp,
}


class PlainKernel:
    """One tile.kernel as a function of memrefs that thread 0 runs, one scalar at a time."""

    def __init__(self, kernel: tile.KernelOp) -> None:
        kinds = [*kernel.function_type.inputs, *kernel.function_type.outputs]
        memory = [memref_of(t) if isinstance(t, TensorType) else t for t in kinds]
        layouts = kernel.attributes.get(tile.LAYOUTS)
        for number, layout in layouts.data.items() if layouts is not None else ():
            kind = memory[int(number)]
            memory[int(number)] = MemRefType(kind.element_type, kind.shape, layout)
        types, results = memory[: len(kernel.function_type.inputs)], memory[len(kernel.function_type.inputs) :]
        self.block = Block(arg_types=[*types, *results])
        self.outer: list[Operation] = []
        self.ops = self.outer
        self.values: dict[SSAValue, SSAValue] = dict(zip(kernel.body.block.args, self.block.args, strict=False))
        outputs = self.block.args[len(types) :]
        zero = self.index(0)
        self.ops = inner = []
        for op in kernel.body.block.ops:
            self.lower(op)
        for value, output in zip(kernel.results_yielded, outputs, strict=True):
            self.copy(self.values[value], output)
        self.block.add_ops([*self.outer, *by_thread_zero(inner, zero), host.BarrierOp(), func.ReturnOp()])
        kind = FunctionType.from_lists([*types, *results], [])
        self.function = func.FuncOp(kernel.sym_name.data, kind, Region(self.block), visibility="private")

    def add(self, op: Operation) -> SSAValue:
        self.ops.append(op)
        return op.results[0] if op.results else None

    def index(self, value: int) -> SSAValue:
        op = arith.ConstantOp(IntegerAttr(value, INDEX))
        self.outer.insert(0, op)
        return op.result

    def sizes(self, buffer: SSAValue) -> list[SSAValue]:
        return [
            self.add(memref.DimOp(buffer, self.index(axis))) if size == DYNAMIC_INDEX else self.index(size)
            for axis, size in enumerate(buffer.type.get_shape())
        ]

    def loops(self, sizes: Sequence[SSAValue], body: Callable[[list[SSAValue]], None]) -> None:
        def nest(rest: Sequence[SSAValue], at: list[SSAValue]) -> None:
            if not rest:
                body(at)
                return
            block = Block(arg_types=[INDEX])
            outer, self.ops = self.ops, []
            nest(rest[1:], [*at, block.args[0]])
            block.add_ops([*self.ops, scf.YieldOp()])
            self.ops = outer
            self.add(scf.ForOp(self.index(0), rest[0], self.index(1), [], Region(block)))

        nest(sizes, [])

    def copy(self, source: SSAValue, target: SSAValue) -> None:
        def one(at: list[SSAValue]) -> None:
            self.add(memref.StoreOp.get(self.add(memref.LoadOp.get(source, at)), target, at))

        self.loops(self.sizes(source), one)

    def lower(self, op: Operation) -> None:
        if isinstance(op, tile.YieldOp):
            return
        if isinstance(op, tensor.EmptyOp):
            self.empty(op, [self.values[v] for v in op.dynamic_sizes])
        elif isinstance(op, tensor.DimOp):
            self.values[op.result] = self.add(memref.DimOp(self.values[op.source], self.values[op.index]))
        elif isinstance(op, linalg.ops.FillOp):
            buffer, number = self.values[op.outputs[0]], self.values[op.inputs[0]]
            self.loops(self.sizes(buffer), lambda at: self.add(memref.StoreOp.get(number, buffer, at)))
            self.values[op.results[0]] = buffer
        elif isinstance(op, linalg.ops.GenericOp):
            self.generic(op)
        else:
            clone = op.clone(self.values)
            self.add(clone)
            self.values.update(zip(op.results, clone.results, strict=True))

    def empty(self, op: Operation, sizes: Sequence[SSAValue]) -> None:
        kind = memref_of(op.results[0].type)
        if sizes:
            # Kernels of dynamic sizes have one op here: its destination is that of the kernel.
            self.values[op.results[0]] = self.block.args[-1]
            return
        self.values[op.results[0]] = self.add(memref.AllocaOp.get(kind.element_type, None, kind.shape, sizes))

    def generic(self, op: linalg.ops.GenericOp) -> None:
        inputs = [self.values[v] for v in op.inputs]
        outputs = []
        for value in op.outputs:
            kind = memref_of(value.type)
            source = self.values[value]
            if DYNAMIC_INDEX in kind.get_shape():
                outputs.append(source)
                continue
            dynamic = [s for s, n in zip(self.sizes(source), kind.get_shape(), strict=True) if n == DYNAMIC_INDEX]
            fresh = self.add(memref.AllocaOp.get(kind.element_type, None, kind.shape, dynamic))
            self.copy(source, fresh)
            outputs.append(fresh)
        operands, maps = [*inputs, *outputs], [m.data for m in op.indexing_maps]
        bounds: dict[int, SSAValue] = {}
        for operand, map_ in zip(operands, maps, strict=True):
            for size, expression in zip(self.sizes(operand), map_.results, strict=True):
                if isinstance(expression, AffineDimExpr):
                    bounds.setdefault(expression.position, size)

        def body(at: list[SSAValue]) -> None:
            indices = [[self.expression(e, at) for e in map_.results] for map_ in maps]
            known = dict(self.values)
            for argument, operand, place in zip(op.body.block.args, operands, indices, strict=True):
                known[argument] = self.add(memref.LoadOp.get(operand, place))
            for inner in op.body.block.ops:
                if isinstance(inner, linalg.ops.YieldOp):
                    pairs = zip(inner.operands, outputs, indices[len(inputs) :], strict=True)
                    for value, output, place in pairs:
                        self.add(memref.StoreOp.get(known[value], output, place))
                elif isinstance(inner, linalg.ops.IndexOp):
                    known[inner.result] = at[inner.dim.value.data]
                elif isinstance(inner, tensor.ExtractOp):
                    place = [known[i] for i in inner.indices]
                    known[inner.result] = self.add(memref.LoadOp.get(known[inner.tensor], place))
                else:
                    clone = inner.clone(known)
                    self.add(clone)
                    known.update(zip(inner.results, clone.results, strict=True))

        self.loops([bounds[i] for i in range(len(op.iterator_types))], body)
        self.values.update(zip(op.results, outputs, strict=True))

    def expression(self, e: AffineExpr, at: Sequence[SSAValue]) -> SSAValue:
        if isinstance(e, AffineDimExpr):
            return at[e.position]
        if isinstance(e, AffineConstantExpr):
            return self.index(e.value)
        assert isinstance(e, AffineBinaryOpExpr)
        return self.add(KINDS[e.kind](self.expression(e.lhs, at), self.expression(e.rhs, at)))


def read(text: str) -> ModuleOp:
    module = Parser(context(), text).parse_module()
    module.verify()
    return module


def arguments_of(function: func.FuncOp) -> list[dict[str, Attribute]]:
    count = len(function.body.block.args)
    return [dict(a.data) for a in function.arg_attrs.data] if function.arg_attrs is not None else [{}] * count


class Bufferized:
    """A tile-level module before and after; `check` compares them, interpreted and as machine code."""

    def __init__(self, text: str, resources: dict[str, np.ndarray[Any, Any]] | None = None) -> None:
        self.before, self.module = read(text), read(text)
        self.resources = resources or {}
        check_level(self.before, TILE)
        BufferizeHost().apply(self.module, context())
        for kernel in [op for op in self.module.ops if isinstance(op, tile.KernelOp)]:
            self.module.body.block.insert_op_before(PlainKernel(kernel).function, kernel)
            self.module.body.block.erase_op(kernel)
        self.module.verify()
        check_level(self.module, LOOPS)
        Distribute().apply(self.module, context())

    @property
    def entry(self) -> func.FuncOp:
        return next(op for op in self.module.ops if isinstance(op, func.FuncOp) and "host.entry" in op.attributes)

    @property
    def text(self) -> str:
        return str(self.entry)

    @property
    def arena_bytes(self) -> int:
        return self.entry.attributes["host.arena_bytes"].value.data

    def copies(self) -> int:
        return sum(
            isinstance(op, func.CallOp) and op.callee.string_value().startswith("copy") for op in self.entry.walk()
        )

    def run(self, *inputs: Any, threads: int = 1) -> list[Any]:
        """All results in order, from a call of the new function with buffers as the caller provides them."""
        given, results, outputs = iter(inputs), {}, {}
        arguments: list[Any] = []
        for attributes, kind in zip(arguments_of(self.entry), self.entry.function_type.inputs, strict=True):
            role = attributes["host.kind"].data
            if role in ("input", "state"):
                arguments.append(next(given))
            elif role == "constant":
                arguments.append(self.resources[attributes["host.name"].data])
            elif role == "arena":
                arguments.append(np.full(max(1, self.arena_bytes), 0xA5, np.uint8).view(np.int8))
            else:
                number = attributes["host.result"].value.data
                outputs[number] = self._buffer(kind, attributes, arguments)
                arguments.append(outputs[number])
        returned = interpret(self.module, self.entry.sym_name.data, arguments, threads=threads)
        marks = self.entry.res_attrs.data if self.entry.res_attrs is not None else []
        for mark, value in zip(marks, returned, strict=True):
            results[mark.data["host.result"].value.data] = value
        results.update(outputs)
        return [results[i] for i in sorted(results)]

    def _buffer(self, kind: MemRefType, attributes: dict[str, Attribute], arguments: list[Any]) -> Any:
        shape = list(kind.get_shape())
        for axis, part in enumerate(attributes["host.shape"] if "host.shape" in attributes else ()):
            if shape[axis] == DYNAMIC_INDEX:
                number, dimension = map(int, part.data.split("."))
                shape[axis] = arguments[number].shape[dimension]
        dtype = {"f32": np.float32, "f64": np.float64, "i64": np.int64, "i1": np.bool_, "i32": np.int32}
        return np.full(shape, 77, dtype[str(kind.element_type)])

    def check(self, *inputs: Any) -> list[Any]:
        """The results, which are those of the program of values, with one thread and with three."""
        before = next(op for op in self.before.ops if isinstance(op, func.FuncOp) and "host.entry" in op.attributes)
        expected = interpret(self.before, before.sym_name.data, inputs, resources=self.resources)
        for run in (self.run, partial(self.run, threads=3), self.native):
            found = run(*[np.array(x) if isinstance(x, np.ndarray) else x for x in inputs])
            assert len(found) == len(expected)
            for have, want in zip(found, expected, strict=True):
                np.testing.assert_array_equal(have, want)
        return expected

    @cached_property
    def native(self) -> NativeProgram:
        """The same program as machine code."""
        part = self.module.clone()
        LoopsToLlvm(host_target()).apply(part, context())
        compiled = Compiled(jit.compile_llvm(part, host_target()), result_order(self.entry))
        return compiled.load(self.resources)


MAP = """
tile.kernel @{name}({args}) -> tensor<{shape}xf32> attributes {{schedule = {{template = "map"}}}} {{
  {sizes}
  %e = tensor.empty({dims}) : tensor<{shape}xf32>
  %r = linalg.generic {{indexing_maps = [{maps}], iterator_types = [{loops}]}}
      ins({ins}) outs(%e : tensor<{shape}xf32>) {{
    ^bb0({bodies}, %o: f32):
      %s = {op} : f32
      linalg.yield %s : f32
  }} -> tensor<{shape}xf32>
  tile.yield %r : tensor<{shape}xf32>
}}
"""


def map_kernel(name: str, op: str, shape: str, operands: str = "ab") -> str:
    """A kernel `name` that applies `op` (of %a, %b) to each element of tensors of a shape like "4x?"."""
    sizes = shape.split("x") if shape else []
    loops = ", ".join(f"d{i}" for i in range(len(sizes)))
    map_ = f"affine_map<({loops}) -> ({loops})>"
    dynamic = [i for i, size in enumerate(sizes) if size == "?"]
    kind = f"tensor<{shape}xf32>" if shape else "tensor<f32>"
    text = MAP.format(
        name=name, args=", ".join(f"%t{x}: {kind}" for x in operands), shape=shape,
        sizes="\n".join(f"%i{i} = arith.constant {i} : index\n%n{i} = tensor.dim %t{operands[0]}, %i{i} : {kind}" for i in dynamic),
        dims=", ".join(f"%n{i}" for i in dynamic), maps=", ".join([map_] * (len(operands) + 1)),
        loops=", ".join(['"parallel"'] * len(sizes)),
        ins=", ".join(f"%t{x}" for x in operands) + " : " + ", ".join([kind] * len(operands)),
        bodies=", ".join(f"%{x}: f32" for x in operands), op=op,
    )  # fmt: skip
    return text if shape else text.replace("tensor<xf32>", "tensor<f32>")


@pytest.fixture
def bufferize() -> type[Bufferized]:
    return Bufferized


@pytest.fixture
def kernel() -> Callable[..., str]:
    return map_kernel
