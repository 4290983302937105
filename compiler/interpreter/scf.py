"""`func`, `scf` and `cf`: control flow becomes Python's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from xdsl.dialects import cf, func, scf
from xdsl.dialects.builtin import IndexType, TensorType
from xdsl.ir import Block, Operation, Region, SSAValue

from stepwell.compiler.interpreter.machine import CALLABLES
from stepwell.compiler.interpreter.rules import Fault, emitter, rule
from stepwell.compiler.interpreter.translate import Writer
from stepwell.compiler.interpreter.values import Array, dtype_of, element_of

# Functions.


def finish_function(writer: Writer, op: Operation) -> None:
    """A function's last op gives its results as a tuple."""
    writer.line(f"return ({writer.names(op.operands)})")


CALLABLES["func.func"] = finish_function
emitter("func.return")(finish_function)


def emit_call(writer: Writer, op: Operation, symbol: str) -> None:
    """Call another function of the module with the op's operands."""
    function = writer.machine.function(symbol)
    arguments = ", ".join(["C", *[writer.name(value) for value in op.operands]])
    targets = "".join([f"{writer.define(result)}, " for result in op.results])
    writer.line((f"{targets}= " if targets else "") + f"{function}({arguments})")


@emitter("func.call")
def call(writer: Writer, op: func.CallOp) -> None:
    emit_call(writer, op, op.callee.root_reference.data)


# Structured control flow.


def _define_all(writer: Writer, values: Sequence[SSAValue]) -> list[str]:
    return [writer.define(value) for value in values]


def _names(writer: Writer, values: Sequence[SSAValue]) -> list[str]:
    return [writer.name(value) for value in values]


def _inline(writer: Writer, block: Block, targets: Sequence[str]) -> None:
    """A block in place; what its terminator yields is assigned to `targets`."""
    last = writer.body(block)
    writer.assign(targets, _names(writer, last.operands))


@emitter("scf.if")
def emit_if(writer: Writer, op: scf.IfOp) -> None:
    if writer.vectorised:
        _emit_masked_if(writer, op)
        return
    targets = _define_all(writer, op.results)
    with writer.indented(f"if {writer.name(op.cond)}:"):
        _inline(writer, op.true_region.block, targets)
    if op.false_region.blocks:
        with writer.indented("else:"):
            _inline(writer, op.false_region.block, targets)


@emitter("scf.for")
def emit_for(writer: Writer, op: scf.ForOp) -> None:
    induction, *arguments = op.body.block.args
    carried = [writer.fresh("v") for _ in arguments]
    for argument, result, name in zip(arguments, op.results, carried, strict=True):
        writer.alias(argument, name)
        writer.alias(result, name)
    writer.assign(carried, _names(writer, op.iter_args))
    counter = writer.define(induction)
    bounds = ", ".join(_names(writer, (op.lb, op.ub, op.step)))
    with writer.loop(f"for {counter} in range({bounds}):", carried):
        if not isinstance(induction.type, IndexType):
            writer.line(f"{counter} = {writer.constant(dtype_of(induction.type).type)}({counter})")
        _inline(writer, op.body.block, carried)


@emitter("scf.while")
def emit_while(writer: Writer, op: scf.WhileOp) -> None:
    before, after = op.before_region.block, op.after_region.block
    carried = _define_all(writer, before.args)
    results = _define_all(writer, op.results)
    for argument, name in zip(after.args, results, strict=True):
        writer.alias(argument, name)
    writer.assign(carried, _names(writer, op.arguments))
    if results:
        # The loop may get a function of its own, to which they must be parameters.
        writer.assign(results, ["None"] * len(results))
    with writer.loop("while True:", [*carried, *results]):
        condition = writer.body(before)
        stop, *values = _names(writer, condition.operands)
        writer.assign(results, values)
        writer.line(f"if not {stop}: break")
        _inline(writer, after, carried)


@emitter("scf.execute_region")
def execute_region(writer: Writer, op: scf.ExecuteRegionOp) -> None:
    targets = _define_all(writer, op.results)
    _inline(writer, op.region.block, targets)


@emitter("scf.index_switch")
def index_switch(writer: Writer, op: scf.IndexSwitchOp) -> None:
    targets = _define_all(writer, op.results)
    word = "if"
    for case, region in zip(op.cases.get_values(), op.case_regions, strict=True):
        with writer.indented(f"{word} {writer.name(op.arg)} == {case}:"):
            _inline(writer, region.block, targets)
        word = "elif"
    with writer.indented("else:" if op.case_regions else "if True:"):
        _inline(writer, op.default_region.block, targets)


@emitter("scf.parallel")
def parallel(writer: Writer, op: scf.ParallelOp) -> None:
    """The iterations in order. On a team this has no meaning before the loop is divided among the threads."""
    carried = _define_all(writer, op.results)
    writer.assign(carried, _names(writer, op.initVals))
    writer.line(f"{writer.constant(_alone)}(C)")
    block = op.body.block
    with ExitStack() as stack:
        for argument, *bounds in zip(block.args, op.lowerBound, op.upperBound, op.step, strict=True):
            counter = writer.define(argument)
            header = f"for {counter} in range({', '.join(_names(writer, bounds))}):"
            stack.enter_context(writer.loop(header, carried))
        last = writer.body(block)
        for name, value, region in zip(carried, last.operands, last.regions, strict=True):
            combine = region.block
            left, right = _define_all(writer, combine.args)
            writer.assign([left, right], [name, writer.name(value)])
            _inline(writer, combine, [name])


def _alone(thread: Any) -> None:
    if thread.count != 1:
        raise Fault("scf.parallel runs on one thread; divide it among the threads first")


# In the body of a structured op a condition is an array: each branch runs on the lanes that take it.


def _emit_masked_if(writer: Writer, op: scf.IfOp) -> None:
    captured = captured_values(op.true_region, op.false_region)
    names = _names(writer, captured)
    branches = []
    for region in (op.true_region, op.false_region):
        branches.append(
            writer.callable_region(region.block, names)
            if region.blocks
            else writer.constant(lambda *values: (), "nothing")
        )
    by_lane = tuple(not isinstance(value.type, TensorType) for value in captured)
    dtypes = tuple(dtype_of(element_of(result.type)) for result in op.results)
    run = writer.constant(_masked(by_lane, dtypes), "masked")
    targets = "".join(f"{writer.define(result)}, " for result in op.results)
    arguments = ", ".join([writer.name(op.cond), *branches, *names])
    writer.line((f"{targets}= " if targets else "") + f"{run}({arguments})")


def captured_values(*regions: Region) -> list[SSAValue]:
    """The values that regions read and do not define, each once, in order of use."""
    inside: set[SSAValue] = set()
    used: dict[SSAValue, None] = {}
    for region in regions:
        for block in _blocks(region):
            inside.update(block.args)
            for op in block.ops:
                inside.update(op.results)
                used |= dict.fromkeys(op.operands)
    return [value for value in used if value not in inside]


def _blocks(region: Region) -> list[Block]:
    found = []
    for block in region.blocks:
        found.append(block)
        for op in block.ops:
            for inner in op.regions:
                found += _blocks(inner)
    return found


def _masked(by_lane: tuple[bool, ...], dtypes: tuple[np.dtype[Any], ...]) -> Callable[..., Any]:
    def run(condition: Any, then: Any, otherwise: Any, *captured: Any) -> Any:
        if not isinstance(condition, np.ndarray):
            return (then if condition else otherwise)(*captured)
        lanes = [value for value, laned in zip(captured, by_lane, strict=True) if laned]
        shape = np.broadcast_shapes(condition.shape, *[np.shape(value) for value in lanes])
        mask = np.broadcast_to(condition, shape)
        results: list[Array] = [np.empty(shape, dtype) for dtype in dtypes]
        for branch, taken in ((then, mask), (otherwise, ~mask)):
            if not taken.any():
                continue
            values = [
                np.broadcast_to(value, shape)[taken] if laned and isinstance(value, np.ndarray) else value
                for value, laned in zip(captured, by_lane, strict=True)
            ]
            for result, value in zip(results, branch(*values), strict=True):
                result[taken] = value
        return results

    return run


# Unstructured control flow.


@emitter("cf.br")
def branch(writer: Writer, op: cf.BranchOp) -> None:
    writer.jump(op.successors[0], op.operands)


@emitter("cf.cond_br")
def conditional_branch(writer: Writer, op: cf.ConditionalBranchOp) -> None:
    with writer.indented(f"if {writer.name(op.cond)}:"):
        writer.jump(op.successors[0], op.then_arguments)
    with writer.indented("else:"):
        writer.jump(op.successors[1], op.else_arguments)


@rule("cf.assert")
def check(op: cf.AssertOp) -> Callable[..., Any]:
    def assert_(condition: Any) -> None:
        if not condition:
            raise Fault(f"assertion failed: {op.msg.data}")

    return assert_
