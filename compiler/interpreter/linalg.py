"""`linalg`: a structured op is executed on whole arrays, in the fastest of four ways its body allows.

    elementwise   no reduction: the body once, on views of the operands over the iteration space
    reduction     each result is `combine(accumulator, term)`: the terms on whole arrays, then numpy's reduction;
                  a sum of products becomes a matrix multiplication (this covers convolutions, as window views)
    scan          any other reduction: the body once per step of the reduction loops, in their order, on whole
                  arrays over the parallel loops
    pointwise     a body that cannot take arrays: element by element

Sums of f32 are accumulated in float64 (products of matrices in f32), those of f16 and bf16 in f32, and rounded
once: the IR leaves the order of a reduction open.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.dialects import linalg
from xdsl.dialects.builtin import IndexType, MemRefType
from xdsl.dialects.linalg.ops import IndexOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.ir.affine import AffineMap

from stepwell.compiler.interpreter.arith import converted, maximum, minimum
from stepwell.compiler.interpreter.iteration import (
    OperandMap,
    contract,
    cut,
    loop_positions,
    loop_sizes,
    points,
)
from stepwell.compiler.interpreter.rules import Fault, emitter, rule
from stepwell.compiler.interpreter.translate import Writer
from stepwell.compiler.interpreter.values import Array, MemRef, dtype_of, element_of

CHUNK = 1 << 24
"""How many elements of the iteration space are computed at once."""

COMBINERS: dict[str, tuple[Any, Any]] = {
    "arith.addf": (np.add, np.add),
    "arith.mulf": (np.multiply, np.multiply),
    "arith.maximumf": (np.maximum, maximum),
    "arith.minimumf": (np.minimum, minimum),
    "arith.maxnumf": (np.fmax, np.fmax),
    "arith.minnumf": (np.fmin, np.fmin),
    "arith.addi": (np.add, np.add),
    "arith.muli": (np.multiply, np.multiply),
    "arith.maxsi": (np.maximum, np.maximum),
    "arith.minsi": (np.minimum, np.minimum),
    "arith.andi": (np.bitwise_and, np.bitwise_and),
    "arith.ori": (np.bitwise_or, np.bitwise_or),
    "arith.xori": (np.bitwise_xor, np.bitwise_xor),
}
"""By combining op: the ufunc that reduces, and the function that adds the accumulator's first value."""
BIT_COMBINERS = {"arith.addi": "arith.xori", "arith.muli": "arith.andi", "arith.maxsi": "arith.andi"} | {
    "arith.minsi": "arith.ori"
}
"""What the integer combiners are on i1, where true counts as -1."""

VECTORISABLE = ("arith", "math", "complex")
VECTORISABLE_OPS = {"linalg.index", "linalg.yield", "tensor.extract", "scf.if", "scf.yield", "host.raise"} | {
    "host.undefined", "tensor.dim"
}  # fmt: skip


@dataclass(frozen=True)
class Term:
    """One result of a body as `combine(accumulator, term)`; a product of two terms is kept apart for `contract`."""

    combiner: str
    values: tuple[SSAValue, ...]


def reduction_term(accumulator: SSAValue, result: SSAValue) -> Term | None:
    """How a body's result combines with its accumulator, None where it is no plain reduction."""
    op = result.owner
    if not isinstance(op, Operation) or len(list(accumulator.uses)) != 1 or len(list(result.uses)) != 1:
        return None
    if op.name == "math.fma" and op.operands[2] is accumulator:
        return Term("arith.addf", (op.operands[0], op.operands[1]))
    if op.name not in COMBINERS or accumulator not in op.operands:
        return None
    term = op.operands[1] if op.operands[0] is accumulator else op.operands[0]
    is_bit = element_of(result.type) == element_of(term.type) and dtype_of(result.type).kind == "b"
    combiner = BIT_COMBINERS.get(op.name, op.name) if is_bit else op.name
    owner = term.owner
    products = {"arith.addf": "arith.mulf", "arith.addi": "arith.muli"}
    if isinstance(owner, Operation) and owner.name == products.get(combiner) and len(list(term.uses)) == 1:
        return Term(combiner, tuple(owner.operands))
    return Term(combiner, (term,))


def slice_of(block: Block, values: Sequence[SSAValue]) -> tuple[list[Operation], set[SSAValue]]:
    """The block's ops that `values` need, in order, and every value that those read (block arguments too)."""
    needed: set[SSAValue] = set(values)
    ops: list[Operation] = []
    for op in reversed(list(block.ops)):
        if any(result in needed for result in op.results):
            ops.append(op)
            for inner in op.walk():
                needed.update(inner.operands)
    return ops[::-1], needed


def is_vectorisable(block: Block) -> bool:
    """Whether every op of the body takes arrays for scalars."""
    return all(
        op.name.partition(".")[0] in VECTORISABLE or op.name in VECTORISABLE_OPS
        for outer in block.ops
        for op in outer.walk()
    )


class Structured:
    """One structured op, analysed once: maps, loops, the chosen way, and the functions of its body."""

    def __init__(
        self,
        op: Operation,
        maps: Sequence[AffineMap],
        is_reduction: Sequence[bool],
        block: Block,
        inputs: int,
    ) -> None:
        self.maps = [OperandMap(map) for map in maps]
        self.inputs = inputs
        self.block = block
        self.reduced = [loop for loop, reduces in enumerate(is_reduction) if reduces]
        self.kept = [loop for loop, reduces in enumerate(is_reduction) if not reduces]
        self.dtypes = [dtype_of(element_of(value.type)) for value in op.operands[inputs:]]
        last = block.last_op
        assert last is not None
        self.yielded: Sequence[SSAValue] = last.operands
        self.terms = self._terms()
        self.is_vectorisable = is_vectorisable(block)
        self.init_used = [bool(list(argument.uses)) for argument in block.args[inputs:]]

    def _terms(self) -> list[Term] | None:
        accumulators = self.block.args[self.inputs :]
        terms = [
            reduction_term(accumulator, result)
            for accumulator, result in zip(accumulators, self.yielded, strict=True)
        ]
        if not self.reduced or any(term is None for term in terms):
            return None
        found = [term for term in terms if term is not None]
        _, needed = slice_of(self.block, [value for term in found for value in term.values])
        if needed.intersection(accumulators) or any(not op.results for op in self.block.ops if op.next_op):
            return None
        return found

    def emit(self, writer: Writer) -> tuple[str, Any]:
        """Write the body's function; its name, and the method that executes the op with it."""
        if not self.is_vectorisable:
            return self._emit_body(writer, self.yielded, None, vectorised=False), self.pointwise
        if not self.reduced:
            return self._emit_body(writer, self.yielded, None), self.elementwise
        if self.terms is None:
            return self._emit_body(writer, self.yielded, None), self.scan
        values = [value for term in self.terms for value in term.values]
        return self._emit_body(writer, values, slice_of(self.block, values)[0]), self.reduction

    def _emit_body(
        self,
        writer: Writer,
        values: Sequence[SSAValue],
        ops: list[Operation] | None,
        *,
        vectorised: bool = True,
    ) -> str:
        """A function of the body's arguments and the loop positions `I` that returns `values`."""
        name = writer.fresh("body")
        before, writer.vectorised = writer.vectorised, vectorised
        parameters = [writer.define(argument) for argument in self.block.args]
        with writer.function(name, [*parameters, "I"]):
            for op in self.block.ops:
                for inner in op.walk():
                    if isinstance(inner, IndexOp):
                        writer.line(f"{writer.define(inner.result)} = I[{inner.dim.value.data}]")
            for op in list(self.block.ops)[:-1] if ops is None else ops:
                writer.operation(op)
            writer.line(f"return ({writer.names(values)})")
        writer.vectorised = before
        return name

    # Execution.

    def run(self, way: Any, body: Any, *operands: Any) -> tuple[Any, ...]:
        """Execute on operand values (inputs, then initial outputs). Memrefs are written, tensors returned."""
        arrays = [value.array if isinstance(value, MemRef) else value for value in operands]
        sizes = loop_sizes(self.maps, [np.shape(array) for array in arrays])
        views = [
            map.view(array, sizes) if isinstance(array, np.ndarray) else array
            for map, array in zip(self.maps, arrays, strict=True)
        ]
        inits, given = arrays[self.inputs :], operands[self.inputs :]
        targets: list[Array] = []
        for init, value, map, dtype in zip(inits, given, self.maps[self.inputs :], self.dtypes, strict=True):
            if isinstance(value, MemRef):
                targets.append(init)
            else:
                targets.append(np.empty(init.shape, dtype) if self._covers(map, init, sizes) else init.copy())
        outputs = [
            map.view(target, sizes)
            for map, target in zip(self.maps[self.inputs :], targets, strict=True)
        ]
        self._check_targets(outputs, sizes)
        if all(sizes[loop] for loop in self.kept):
            if all(sizes):
                for part_views, part_outputs, positions, part in self._chunks(way, views, outputs, sizes):
                    way(body, part_views, part_outputs, positions, part)
            else:
                for output, view in zip(outputs, views[self.inputs :], strict=True):
                    output[...] = view
        return tuple(targets)

    def _covers(self, map: OperandMap, init: Array, sizes: Sequence[int]) -> bool:
        """Whether the loops write every element of an output."""
        return map.is_permutation or init.size == 1

    def _check_targets(self, outputs: Sequence[Array], sizes: Sequence[int]) -> None:
        for output in outputs:
            for loop in self.kept:
                if output.shape[loop] != sizes[loop] and 0 not in sizes:
                    raise Fault(f"the parallel loop d{loop} does not lead to different elements of an output")
            for loop in self.reduced:
                if output.shape[loop] != 1:
                    raise Fault(f"the reduction loop d{loop} leads to different elements of an output")

    def _chunks(
        self, way: Any, views: list[Any], outputs: list[Array], sizes: list[int]
    ) -> Iterator[tuple[list[Any], list[Array], tuple[Array, ...], list[int]]]:
        """The iteration space in parts along its longest parallel loop, each small enough to compute at once."""
        positions = loop_positions(sizes)
        total = math.prod(sizes)
        if way == self.reduction and self.terms and all(len(term.values) == 2 for term in self.terms):
            total = max(view.size for view in views if isinstance(view, np.ndarray))
        if way == self.scan:
            total = math.prod(sizes[loop] for loop in self.kept)
        if total <= CHUNK or not self.kept:
            yield views, outputs, positions, sizes
            return
        longest = max(self.kept, key=sizes.__getitem__)
        step = max(1, sizes[longest] * CHUNK // total)
        for start in range(0, sizes[longest], step):
            part = slice(start, min(start + step, sizes[longest]))
            part_sizes = list(sizes)
            part_sizes[longest] = part.stop - part.start
            yield (
                [cut(view, longest, part) for view in views],
                [cut(view, longest, part) for view in outputs],
                tuple(cut(position, longest, part) for position in positions),
                part_sizes,
            )

    def elementwise(self, body: Any, views: list[Any], outputs: list[Array], positions: Any, sizes: Any) -> None:
        """No reduction loop: the body once."""
        for output, value in zip(outputs, body(*views, positions), strict=True):
            output[...] = value

    def reduction(self, body: Any, views: list[Any], outputs: list[Array], positions: Any, sizes: Any) -> None:
        """The terms on whole arrays, then one reduction each."""
        assert self.terms is not None
        values = iter(body(*views, positions))
        inits = views[self.inputs :]
        for term, output, init, dtype in zip(self.terms, outputs, inits, self.dtypes, strict=True):
            operands = [next(values) for _ in term.values]
            reduce, combine = COMBINERS[term.combiner]
            if len(operands) == 2:
                total = contract(operands[0], operands[1], sizes, self.reduced)
            else:
                total = self._reduced(reduce, operands[0], sizes, dtype)
            if total.dtype != dtype:
                init = converted(init, total.dtype)
            output[...] = combine(init, total)

    def _reduced(self, reduce: Any, term: Any, sizes: Sequence[int], dtype: np.dtype[Any]) -> Array:
        shape = list(np.shape(term)) if np.ndim(term) else [1] * len(sizes)
        for loop in self.reduced:
            shape[loop] = sizes[loop]
        wide: Any = None
        if reduce in (np.add, np.multiply) and dtype.kind not in "iubc" and dtype != np.float64:
            wide = np.dtype(np.float64) if dtype == np.float32 else np.dtype(np.float32)
        elif reduce in (np.add, np.multiply):
            wide = dtype  # numpy would widen small integers
        terms = np.broadcast_to(term, shape)
        if wide is not None and terms.dtype != wide:
            terms = terms.astype(wide)
        result: Array = reduce.reduce(terms, axis=tuple(self.reduced), keepdims=True, dtype=wide)
        return result

    def scan(self, body: Any, views: list[Any], outputs: list[Array], positions: Any, sizes: Any) -> None:
        """The reduction loops one step after another, whole arrays over the parallel loops."""
        inputs, state = views[: self.inputs], tuple(views[self.inputs :])
        for point in points([sizes[loop] for loop in self.reduced]):
            here, at = list(inputs), list(positions)
            for loop, position in zip(self.reduced, point, strict=True):
                part = slice(position, position + 1)
                here = [cut(view, loop, part) for view in here]
                at = [cut(view, loop, part) for view in at]
            state = body(*here, *state, at)
        for output, value in zip(outputs, state, strict=True):
            output[...] = value

    def pointwise(self, body: Any, views: list[Any], outputs: list[Array], positions: Any, sizes: Any) -> None:
        """Element by element, in loop order."""
        inits = views[self.inputs :]
        for output, init in zip(outputs, inits, strict=True):
            if output is not init:
                output[...] = init
        operands = [*views[: self.inputs], *outputs]
        is_index = [isinstance(argument.type, IndexType) for argument in self.block.args]
        offset = [int(position.flat[0]) for position in positions]
        for point in points(sizes):
            places = [_place(operand, point) for operand in operands]
            values = [
                operand if place is None else int(operand[place]) if index else operand[place]
                for operand, place, index in zip(operands, places, is_index, strict=True)
            ]
            results = body(*values, [start + position for start, position in zip(offset, point, strict=True)])
            for output, place, value in zip(outputs, places[self.inputs :], results, strict=True):
                output[place] = value


def _place(operand: Any, point: tuple[int, ...]) -> tuple[int, ...] | None:
    if not isinstance(operand, np.ndarray):
        return None
    return tuple(0 if size == 1 else at for size, at in zip(operand.shape, point, strict=True))


def emit_structured(writer: Writer, op: Operation, structured: Structured) -> None:
    """Write the call that executes a structured op."""
    body, way = structured.emit(writer)
    run, how = writer.constant(structured.run, "structured"), writer.constant(way, "way")
    arguments = ", ".join([how, body, *[writer.name(value) for value in op.operands]])
    targets = "".join([f"{writer.define(result)}, " for result in op.results])
    writer.line((f"{targets}= " if targets else "") + f"{run}({arguments})")


@emitter("linalg.generic")
def generic(writer: Writer, op: linalg.ops.GenericOp) -> None:
    maps = [attribute.data for attribute in op.indexing_maps]
    is_reduction = [kind.data.value == "reduction" for kind in op.iterator_types]
    emit_structured(writer, op, Structured(op, maps, is_reduction, op.body.block, len(op.inputs)))


@emitter("linalg.index")
def index(writer: Writer, op: IndexOp) -> None:
    """Bound at the start of the body's function."""


@rule("linalg.fill")
def fill(op: linalg.ops.FillOp) -> Any:
    dtype = dtype_of(element_of(op.operands[1].type))
    if isinstance(op.operands[1].type, MemRefType):
        return _store_fill
    return lambda value, init: np.full(init.shape, value, dtype)


def _store_fill(value: Any, target: MemRef) -> None:
    target.array[...] = value


@rule("linalg.copy")
def copy(op: linalg.ops.CopyOp) -> Any:
    if isinstance(op.operands[1].type, MemRefType):
        return lambda source, target: _store_fill(source.array, target)
    return lambda source, init: source


# The named ops that xDSL has beside generic: their body and maps say what they mean.


@emitter(*[f"linalg.{name}" for name in ("add", "sub", "mul", "max", "min", "exp", "log", "sqrt", "select")])
def elementwise(writer: Writer, op: Operation) -> None:
    operands = op.operands
    result: Any = operands[-1].type
    rank = len(result.get_shape())
    maps = [
        AffineMap.identity(rank) if isinstance(value.type, type(result)) else AffineMap(rank, 0, ())
        for value in operands
    ]
    emit_structured(
        writer, op, Structured(op, maps, [False] * rank, op.regions[0].block, len(operands) - len(op.results or (0,)))
    )


@emitter("linalg.matmul")
def matmul(writer: Writer, op: linalg.ops.MatmulOp) -> None:
    maps = [attribute.data for attribute in op.indexing_maps]
    emit_structured(writer, op, Structured(op, maps, [False, False, True], op.body.block, 2))


@rule("linalg.transpose")
def transpose(op: linalg.ops.TransposeOp) -> Any:
    order = op.permutation.get_values()
    return lambda source, init: source.transpose(order)


@rule("linalg.broadcast")
def broadcast(op: linalg.ops.BroadcastOp) -> Any:
    added = op.dimensions.get_values()
    return lambda source, init: np.broadcast_to(np.expand_dims(source, tuple(added)), init.shape)


@emitter("linalg.reduce")
def reduce(writer: Writer, op: linalg.ops.ReduceOp) -> None:
    """One input and one init, reduced over `dimensions`."""
    source: Any = op.input.type
    rank, dimensions = len(source.get_shape()), set(op.dimensions.get_values())
    identity = AffineMap.identity(rank)
    kept = [result for loop, result in enumerate(identity.results) if loop not in dimensions]
    maps = [identity, AffineMap(rank, 0, tuple(kept))]
    is_reduction = [loop in dimensions for loop in range(rank)]
    emit_structured(writer, op, Structured(op, maps, is_reduction, op.region.block, 1))


