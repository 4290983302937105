"""Taking a program down to a level and showing it there: what `stage`, `compile --emit` and `opt` share."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO

from stepwell.dialects.diagnostics import Error

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from stepwell.compiler.program import Program
    from stepwell.dialects.levels import Level
    from stepwell.dialects.target import Target
    from stepwell.lowering.pass_ import Pass

MLIR_LEVELS = ("torch", "linalg", "tile", "loops", "llvm")
"""The levels that are MLIR text, from the contract down; `raw` is above them, ir, asm and obj below."""

GPU_FORMS = ("gpu", "ptx", "cuda")
"""The kernels of the tile level for a GPU, as MLIR, PTX and CUDA C++."""


@dataclass(frozen=True)
class Showing:
    """How levels are shown, and what is shown on the way.

    `print_after`: a pass, or `all`. `target`: a CPU or GPU by name ("": this CPU, or the usual GPU). `locations`:
    with the places of the source, which a text that is taken further needs to name them in errors. `own_generic`:
    as `mlir-opt --allow-unregistered-dialect` reads it. `verify`: as in `pipeline.run`.
    """

    print_after: str = ""
    target: str = ""
    locations: bool = False
    own_generic: bool = False
    verify: Literal["never", "crossings", "each"] = "crossings"

    def text(self, program: Program) -> str:
        return program.text(locations=self.locations, own_generic=self.own_generic)


PLAIN = Showing()


def lower_to(
    program: Program, level: str, target: Target | None = None, showing: Showing = PLAIN, out: TextIO | None = None
) -> None:
    """Take a program down to a level; print after passes where asked. Raises ValueError for a pass that is none."""
    from stepwell.compiler import pipeline
    from stepwell.compiler.backends.target import host

    target = target or host()
    wanted = showing.print_after
    if wanted not in ("", "all"):
        known(wanted, target)

    def after(step: Pass, current: Program) -> None:
        assert out is not None
        if wanted in ("all", step.name):
            out.write(f"// ----- after {step.name}\n{showing.text(current)}")

    last = level if level in MLIR_LEVELS else "tile" if level in GPU_FORMS else None
    pipeline.run(program, target=target, to=last, after=after if wanted else None, verify=showing.verify)


def known(name: str, target: Target) -> Sequence[Pass]:
    """The passes of this name, in the pipeline's order. Raises ValueError, which lists the names."""
    from stepwell.compiler.pipeline import STEPS, Enter, resolve

    passes = [step for step in resolve(STEPS, target) if not isinstance(step, Enter)]
    found = [step for step in passes if step.name == name]
    if not found:
        raise ValueError(f"there is no pass {name!r}; there are {', '.join(dict.fromkeys(p.name for p in passes))}")
    return found


def target_of(level: str, name: str = "", default: Target | None = None) -> Target:
    """The target of a level, by name: of a GPU for GPU_FORMS, else a CPU's. Raises ValueError, which lists the names."""
    from stepwell.compiler.backends.target import host, named

    if level in GPU_FORMS:
        from stepwell.lowering.gpu.device import DEFAULT, device

        return device(name or DEFAULT).target()
    return named(name) if name else default or host()


def render(program: Program, level: str, target: Target | None = None, showing: Showing = PLAIN) -> str | bytes:
    """A program that has come down to a level, as text (or bytes)."""
    if level in MLIR_LEVELS:
        return showing.text(program)
    from stepwell.compiler.backends import jit
    from stepwell.compiler.backends.llvm_text import print_module
    from stepwell.compiler.backends.target import host

    if level in GPU_FORMS:
        from stepwell.compiler.backends import gpu
        from stepwell.lowering.gpu.device import DEFAULT, device

        return gpu.emit(program.module, level, device(target.cpu if target is not None else DEFAULT))
    text = print_module(program.module)
    if level == "ir":
        return text
    if level == "asm":
        return jit.compile_assembly(text, target or host())
    return jit.compile_object(text, target or host())


def continue_from_text(
    text: str, level: str, *, passes: str = "", showing: Showing = PLAIN, name: str = "<text>"
) -> str | bytes:
    """Read a module of any level and take it further: to a level, or through the passes named and no others.

    A text that does not say its level is taken for the highest one that allows what is in it. Raises CompileError for
    what is no module, ValueError for a level or pass that is not on the way, Error for a module that breaks a promise
    of its level.
    """
    from stepwell.compiler.program import Program

    program = Program.from_text(text, name=name)
    if program.level is None:
        program.mark(level_of(program.module))
    out = io.StringIO()
    try:
        if passes:
            _run_passes(program, passes.split(","), showing, out)
            made: str | bytes = showing.text(program)
        else:
            target = target_of(level, showing.target)
            lower_to(program, level, target, showing, out)
            made = render(program, level, target, showing)
    except (Error, ValueError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise Error(f"{name}: the module is valid MLIR, but not what its level promises: {reason}") from error
    return out.getvalue() + made if isinstance(made, str) else made


def _run_passes(program: Program, names: Sequence[str], showing: Showing, out: TextIO) -> None:
    from stepwell.dialects import context

    target = target_of("", showing.target)
    for step in [known(name, target)[0] for name in names]:
        step.apply(program.module, context())
        if showing.print_after in ("all", step.name):
            out.write(f"// ----- after {step.name}\n{showing.text(program)}")


def level_of(module: ModuleOp) -> Level:
    """The highest level below the raw one whose rules a module keeps. Raises Error where it keeps none's."""
    from stepwell.dialects.levels import LADDER, LevelError, check

    reasons = []
    for level in LADDER[1:]:
        try:
            check(module, level)
            return level
        except LevelError as problem:
            reasons.append(f"{level.name}: {problem.op.name}: {problem.reason}")
    raise Error("the module does not say its level (stepwell.level), and fits none:\n    " + "\n    ".join(reasons))
