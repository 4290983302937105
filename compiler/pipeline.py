"""The pipeline is data: one tuple, which fits on a screen. Running, stopping, resuming, timing, printing and
bisecting are loops over it, and nothing else knows the order.

    run(program, to="tile", target=target)                    # as far as a level, or a pass
    run(program, target=target, after=lambda step, p: ...)     # look at it after each pass
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from xdsl.context import Context
from xdsl.utils.exceptions import VerifyException

from stepwell.compiler.program import Program
from stepwell.compiler.threads_of_compilation import collector_paused
from stepwell.compiler.tuned import stored
from stepwell.dialects import context as all_dialects
from stepwell.dialects.diagnostics import Error
from stepwell.dialects.levels import BY_NAME, LINALG, LLVM, LOOPS, TILE, TORCH, Level, LevelError, check
from stepwell.dialects.target import Target
from stepwell.lowering import linalg
from stepwell.lowering.cpu.distribute import Distribute
from stepwell.lowering.cpu.divide_prepare import DividePrepare
from stepwell.lowering.cpu.expand_math import ExpandMath
from stepwell.lowering.host_bufferize import BufferizeHost
from stepwell.lowering.host_bufferize.scratch import AttachScratch
from stepwell.lowering.linalg_to_tile import FormKernels
from stepwell.lowering.linalg_to_tile.reschedule import Reschedule
from stepwell.lowering.loops_to_llvm.lower_entry import LoopsToLlvm
from stepwell.lowering.pass_ import Pass
from stepwell.lowering.tile_to_loops import LowerKernels
from stepwell.lowering.torch.expand_composites import ExpandComposites
from stepwell.lowering.torch.prune import PruneTorch
from stepwell.lowering.torch_to_linalg import TorchToLinalg


@dataclass(frozen=True)
class Enter:
    """A crossing: from here on the level's rules hold."""

    level: Level


Ready: TypeAlias = Enter | Pass
Step: TypeAlias = Ready | Callable[[Target], Pass | tuple[Pass, ...]]
"""What depends on the target is made for it: a pass that takes it as its first option, or a level's passes."""


def enter(level: Level) -> Enter:
    return Enter(level)


def measured(target: Target) -> Pass:
    """The schedules that were found by measuring on such a machine (`stepwell tune`)."""
    return Reschedule(stored().of(target))


STEPS: tuple[Step, ...] = (
    enter(TORCH),   ExpandComposites(),             # each op is now one that has a lowering
                    PruneTorch(), TorchToLinalg(),  # (above it: the specializer, which needs a call's facts)
    enter(LINALG),  linalg.passes,                  # few fused ops, whatever their names were
                    FormKernels, measured,          # groups of them, each with a schedule for the target
    enter(TILE),    BufferizeHost(),                # memory first: it reads kernels as values
                    LowerKernels, AttachScratch,    # loops and vectors; scratch is known only now
                    DividePrepare(),                # weights are packed a few at a time
    enter(LOOPS),   ExpandMath, Distribute(),       # what LLVM has no good code for; who does which iteration
                    LoopsToLlvm,
    enter(LLVM),
)  # fmt: skip
"""All steps, in order."""

OPEN = ("bufferize-host", "lower-kernels")
"""Passes after which calls and kernels do not fit together yet: the crossing ends with attach-scratch."""

Verify = Literal["never", "crossings", "each"]
After = Callable[[Pass, Program], None]


@dataclass
class Report:
    """What a run did: the passes with their times in seconds, in order."""

    timings: list[tuple[str, float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds in self.timings)

    def __str__(self) -> str:
        width = max((len(name) for name, _ in self.timings), default=0)
        return "\n".join(f"{name:{width}}  {seconds * 1e3:8.2f} ms" for name, seconds in self.timings)


class PassError(Error):
    """An internal error: a pass left an invalid module behind. Attributes: `step` (the pass), `reason`."""

    def __init__(self, step: Pass, reason: str) -> None:
        self.step, self.reason = step, reason
        super().__init__(f"pass {step.name} left an invalid module: {reason}")


def resolve(steps: Sequence[Step], target: Target) -> tuple[Ready, ...]:
    """The steps as they run for a target."""
    found: list[Ready] = []
    for step in steps:
        made = step if isinstance(step, (Enter, Pass)) else step(target)
        found.extend(made if isinstance(made, tuple) else (made,))
    return tuple(found)


def names(steps: Sequence[Ready]) -> list[str]:
    """Steps in words: `enter(linalg)`, `canonicalize`, ..."""
    return [f"enter({step.level.name})" if isinstance(step, Enter) else step.name for step in steps]


def remaining(program: Program, steps: Sequence[Ready]) -> Sequence[Ready]:
    """The steps from the level on that the program says it has reached; all, where it says none."""
    level = program.level
    for position, step in enumerate(steps):
        if isinstance(step, Enter) and step.level is level:
            return steps[position:]
    return steps


def run(
    program: Program,
    *,
    target: Target,
    to: str | None = None,
    steps: Sequence[Step] = STEPS,
    verify: Verify = "crossings",
    after: After | None = None,
) -> Report:
    """Take a program down, in place, from where it stands.

    `to`: the level to enter, or the pass to stop after; None: all the way. `verify`: "crossings" checks the
    rules of each level, "each" also xDSL's verifiers after every pass. `after` is called after each pass.
    Raises LevelError and PassError for what is wrong with the compiler, what the passes raise for what is wrong
    with the program, and ValueError where `to` is not on the way.
    """
    on_the_way = remaining(program, resolve(steps, target))
    if to is not None and to not in names(on_the_way) and f"enter({to})" not in names(on_the_way):
        raise ValueError(f"there is no {to} on the way, which is {', '.join(names(on_the_way))}")
    report, dialects = Report(), all_dialects()
    with collector_paused():
        for ready in on_the_way:
            if isinstance(ready, Enter):
                if verify != "never":
                    check(program.module, ready.level)
                program.mark(ready.level)
                if ready.level.name == to:
                    break
                continue
            started = time.perf_counter()
            ready.apply(program.module, dialects)
            report.timings.append((ready.name, time.perf_counter() - started))
            if verify == "each" and ready.name not in OPEN:
                _verify(program, ready)
            if after is not None:
                after(ready, program)
            if ready.name == to and not _comes_again(ready.name, on_the_way, report):
                break
    return report


def _comes_again(name: str, steps: Sequence[Ready], report: Report) -> bool:
    """Whether a pass that stands several times in the pipeline is to run once more."""
    done = sum(ran == name for ran, _ in report.timings)
    return names(steps).count(name) > done


def _verify(program: Program, step: Pass) -> None:
    try:
        program.module.verify()
    except VerifyException as error:
        raise PassError(step, str(error)) from error


def bisect(
    program: Program, good: Callable[[Program], bool], *, target: Target, steps: Sequence[Step] = STEPS
) -> Pass | None:
    """The first pass after which `good` (of a copy of the program) is false; None where it never is.

    The program itself is left as it is. An exception counts as not good. A copy says which level it is at, so that
    `good` can interpret it (values above loops, buffers below).
    """
    current = program.copy()
    dialects: Context = all_dialects()
    for ready in remaining(program, resolve(steps, target)):
        if isinstance(ready, Enter):
            current.mark(ready.level)
            continue
        try:
            ready.apply(current.module, dialects)
            fine = good(current.copy())
        except Exception:
            fine = False
        if not fine:
            return ready
    return None


__all__ = ["BY_NAME", "STEPS", "Enter", "LevelError", "PassError", "Report", "bisect", "enter", "names", "run"]
