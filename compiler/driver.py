"""From a module of values to something that can be called: the pipeline, the back end, and weights prepared once.

f = compile_linalg(module, {"weight": w}, target)
y, = f(x)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, IntegerAttr, ModuleOp, StringAttr
from xdsl.ir import Attribute

from stepwell.compiler.backends import jit
from stepwell.compiler.backends.llvm_workers import Workers
from stepwell.compiler.backends.target import host as host_target
from stepwell.compiler.cache import Cache
from stepwell.compiler.emission import Emission, emit
from stepwell.compiler.pipeline import STEPS, Report, Verify, run
from stepwell.compiler.preparation import Group, prepared
from stepwell.compiler.program import Program, Resources
from stepwell.dialects.levels import LINALG, LOOPS
from stepwell.dialects.target import Target
from stepwell.lowering.cpu.divide_prepare import GROUP
from stepwell.lowering.loops_to_llvm.lower_entry import PREPARE, LoopsToLlvm, entry_name, part_of
from stepwell.runtime.function import NativeFunction

Array = np.ndarray[Any, Any]
Value = Array | int | float | bool


@dataclass(frozen=True)
class Compiled:
    """Objects of a program, before they are linked: everything here is bytes and plain data.

    `order`: for each result of the method, its position among what the native function gives (the caller's
    buffers first, then numbers and buffers of the program's own). `groups`: what `prepare` reads and gives, in parts.
    """

    forward: jit.CompiledObject
    order: tuple[int, ...]
    prepare: jit.CompiledObject | None = None
    groups: tuple[Group, ...] = ()

    @property
    def prepared(self) -> tuple[str, ...]:
        """The names of what `prepare` gives."""
        return tuple(name for group in self.groups for name in group.prepared)

    def load(self, resources: Mapping[str, Array]) -> NativeProgram:
        """Link, prepare the weights, and bind the constants. Raises KeyError for a missing resource."""
        constants: dict[str, Array] = dict(resources)
        constants.update(prepared(self.prepare, self.groups, resources.__getitem__))
        return NativeProgram(jit.load(self.forward, constants), self.order)


@dataclass(frozen=True)
class NativeProgram:
    """A compiled method: called with one value per argument, it gives its results in order, then the states."""

    native: NativeFunction
    order: tuple[int, ...]

    def __call__(self, *arguments: Value) -> list[Value]:
        values = self.native(*arguments)
        return [values[i] for i in self.order]


def compile_linalg(
    module: ModuleOp,
    resources: Mapping[str, Array] | None = None,
    target: Target | None = None,
    *,
    profile: bool = False,
    verify: Verify = "crossings",
    cache: Cache | None = None,
) -> NativeProgram:
    """Compile a module of the linalg level (or tile, or loops, if it says so) for this machine, and load it.

    The module is changed on its way down. Raises what `run` raises, and UnsupportedError for what has no
    native form.
    """
    program = Program(module, resources if isinstance(resources, Resources) else Resources(resources))
    if program.level is None:
        program.mark(LINALG)
    compiled, _ = compile_program(program, target, profile=profile, verify=verify, cache=cache)
    return compiled.load(program.resources)


def compile_program(
    program: Program,
    target: Target | None = None,
    *,
    profile: bool = False,
    verify: Verify = "crossings",
    cache: Cache | None = None,
) -> tuple[Compiled, Report]:
    """Compile a program to objects. The program is used up: its module has no ops left."""
    target = target or host_target()
    report = run(program, target=target, to=LOOPS.name, verify=verify)
    functions = {op.sym_name.data: op for op in program.module.ops if isinstance(op, func.FuncOp)}
    entry = entry_name(program.module)
    order = result_order(functions[entry])
    groups: tuple[Group, ...] = ()
    prepare: Emission | None = None
    # LLVM works on the first objects while Python lowers to the others.
    with Workers(target, cache) as workers:
        if PREPARE in functions:
            groups = groups_of(functions[PREPARE])
            part = Program(part_of(program.module, PREPARE, entry), program.resources)
            prepare = _begin(part, PREPARE, target, report, workers, verify=verify, profile=False)
        forward = _begin(program, entry, target, report, workers, verify=verify, profile=profile)
        started = time.perf_counter()
    report.timings.append(("llvm", time.perf_counter() - started))
    return Compiled(forward.result(), order, prepare.result() if prepare is not None else None, groups), report


def _begin(
    program: Program,
    entry: str,
    target: Target,
    report: Report,
    workers: Workers,
    *,
    verify: Verify,
    profile: bool,
) -> Emission:
    """One entry, from the loops level to LLVM texts, of which objects are being made."""
    report.timings += run(program, target=target, steps=STEPS[: STEPS.index(LoopsToLlvm)], verify=verify).timings
    made = emit(program.module, entry, target, workers, verify=verify, profile=profile)
    report.timings += made.seconds.items()
    return made


def result_order(function: func.FuncOp) -> tuple[int, ...]:
    """For each result that the function had as values: where a call of the native function gives it."""
    given = [
        *(a for a in _dictionaries(function.arg_attrs) if a.get("host.kind") == OUTPUT),
        *_dictionaries(function.res_attrs),
    ]
    numbers = [_number(attributes["host.result"]) for attributes in given]
    return tuple(numbers.index(i) for i in range(len(numbers)))


def groups_of(function: func.FuncOp) -> tuple[Group, ...]:
    """What @prepare reads and gives, by groups, each in the order of its arguments."""
    found: dict[int, tuple[list[str], list[str]]] = {}
    for attributes in _dictionaries(function.arg_attrs):
        name = attributes.get("host.name")
        if isinstance(name, StringAttr) and attributes["host.kind"] in (OUTPUT, CONSTANT):
            number = _number(attributes[GROUP]) if GROUP in attributes else 0
            read, made = found.setdefault(number, ([], []))
            (made if attributes["host.kind"] == OUTPUT else read).append(name.data)
    return tuple(Group(tuple(read), tuple(made)) for _, (read, made) in sorted(found.items()))


def _dictionaries(given: ArrayAttr[DictionaryAttr] | None) -> list[Mapping[str, Attribute]]:
    return [item.data for item in given.data] if given is not None else []


def _number(attribute: Attribute) -> int:
    assert isinstance(attribute, IntegerAttr)
    return attribute.value.data


OUTPUT, CONSTANT = StringAttr("output"), StringAttr("constant")
