"""Looking at the stair: any level of a method as text, the passes on the way, kernels with their times.

Stages are made when somebody asks: the variant is specialised again and taken down as far as needed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stepwell.compiler.descent import MLIR_LEVELS, PLAIN, Showing, lower_to, render, target_of
from stepwell.compiler.executable import Executable, leaf_positions
from stepwell.compiler.method import Method
from stepwell.compiler.signature import Call, Pattern, describe

if TYPE_CHECKING:
    from stepwell.compiler.program import Program
    from stepwell.compiler.session import Session
    from stepwell.compiler.tuning import Tuning
    from stepwell.dialects.target import Target
    from stepwell.lowering.analysis.work import Work


class Inspector:
    """Shows the levels of one method."""

    def __init__(self, session: Session, method: Method) -> None:
        self.session, self.method = session, method

    def raw(self) -> str:
        """The raw program: classes, objects and functions as the front end made them."""
        return str(self.session.raw(self.method).module) + "\n"

    def of_last(self, level: str) -> str | bytes:
        """A level of the variant that was called last."""
        if level == "raw":
            return self.raw()
        for key, variants in self.method._variants.items():
            for pattern, compiled in variants.compiled:
                if compiled is self.method.last:
                    call = Call(key, [], tuple(p if isinstance(p, int) else 0 for p in pattern.parts))
                    return self._level(level, call, pattern, PLAIN)
        raise RuntimeError("no call has been made yet: stage() shows the variant that was called last")

    def of_call(
        self,
        level: str,
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
        showing: Showing = PLAIN,
    ) -> str | bytes:
        """A level of the variant that a call with these arguments would compile first."""
        if level == "raw":
            return self.raw()
        values = self.method.bind(arguments, keywords)
        return self.method.settle(values, lambda call: self._level(level, call, Pattern(call.numbers), showing))

    def program_at(
        self, level: str, arguments: Sequence[Any], keywords: Mapping[str, Any], target: Target | None = None
    ) -> Program:
        """The program of that variant, taken down to a level."""
        from stepwell.compiler.threads_of_compilation import deep_stack

        def lowered(call: Call) -> Program:
            program = self._program(call, Pattern(call.numbers))
            lower_to(program, level, target or self.session.target)
            return program

        values = self.method.bind(arguments, keywords)
        return self.method.settle(values, lambda call: deep_stack(lambda: lowered(call)))

    def _level(self, level: str, call: Call, pattern: Pattern, showing: Showing) -> str | bytes:
        from stepwell.compiler.threads_of_compilation import deep_stack

        return deep_stack(lambda: self._make(level, call, pattern, showing))

    def _program(self, call: Call, pattern: Pattern) -> Program:
        return self.session.specialized(self.method, call, pattern, self.method._state).program

    def _make(self, level: str, call: Call, pattern: Pattern, showing: Showing) -> str | bytes:
        program = self._program(call, pattern)
        printed = io.StringIO()
        chosen = target_of(level, showing.target, self.session.target)
        lower_to(program, level, chosen, showing, printed)
        made = render(program, level, chosen, showing)
        return printed.getvalue() + made if isinstance(made, str) else made

    def table(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str:
        """Per level: operations, kernels, and the time to get there."""
        from stepwell.compiler.threads_of_compilation import deep_stack

        values = self.method.bind(arguments, keywords)
        lines = self.method.settle(values, lambda call: deep_stack(lambda: self._rows(call, Pattern(call.numbers))))
        return "\n".join(lines)

    def _rows(self, call: Call, pattern: Pattern) -> list[str]:
        import time

        started = time.perf_counter()
        raw = self.session.raw(self.method)
        rows = [_row("raw", raw.module, time.perf_counter() - started)]
        started = time.perf_counter()
        program = self._program(call, pattern)
        rows.append(_row("torch", program.module, time.perf_counter() - started))
        for level in MLIR_LEVELS[1:]:
            started = time.perf_counter()
            lower_to(program, level, self.session.target)
            rows.append(_row(level, program.module, time.perf_counter() - started))
        statistics = self.method.statistics
        head = f"{self.method.function.node.name}{describe(call.key, pattern)}"
        return [
            head, f"  {'level':8} {'operations':>10} {'kernels':>8} {'time':>10}", *rows,
            f"  compilations {statistics.compilations}, from the cache {statistics.cache_hits}, "
            f"interpreted calls {statistics.interpreted_calls}",
            *(f"  interpreted because: {reason}" for reason in statistics.reasons),
        ]  # fmt: skip

    def tune(
        self, arguments: Sequence[Any], keywords: Mapping[str, Any], seconds: float, report: Callable[[str, float], None]
    ) -> Tuning:
        """Measure schedules for the kernels of a call; nothing is stored, and no state of the model is written."""
        from stepwell.compiler.backends.target import host
        from stepwell.compiler.threads_of_compilation import deep_stack
        from stepwell.compiler.tuning import tune

        target = self.session.target or host()

        def work(call: Call) -> Tuning:
            specialized = self.session.specialized(self.method, call, Pattern(call.numbers), self.method._state)
            lower_to(specialized.program, "tile", target)
            positions = leaf_positions(call, len(self.method.names), self.method._state)
            leaves = [call.leaves[positions[i]] for i in specialized.inputs]
            own = [leaf.copy() if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
            return tune(specialized.program, target, lambda native: native(*own), seconds=seconds, report=report)

        return self.method.settle(self.method.bind(arguments, keywords), lambda call: deep_stack(lambda: work(call)))

    def profile(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Profile:
        """Call with timers in the code; the time of every kernel."""
        from stepwell.compiler.threads_of_compilation import deep_stack
        from stepwell.lowering.host_bufferize.variants import variant_of
        from stepwell.runtime.profile import Stopwatch

        values = self.method.bind(arguments, keywords)
        executable, work = self.method.settle(
            values, lambda call: deep_stack(lambda: self._timed(call, self.method._state))
        )
        call, _ = self.method._take_apart(values)
        executable(call.leaves)
        native = executable.native
        with Stopwatch(native.profile):
            for _ in range(10):
                executable(call.leaves)
        return Profile(
            [
                KernelRow(t.name, t.calls / 10, t.seconds / 10, work.get(variant_of(t.name)))
                for t in native.profile.times()
            ]
        )

    def _timed(self, call: Call, state: Any) -> tuple[Executable, dict[str, Work]]:
        from stepwell.compiler.driver import compile_program
        from stepwell.dialects import tile
        from stepwell.lowering.analysis.work import work_of

        specialized = self.session.specialized(self.method, call, Pattern(call.numbers), state)
        lower_to(specialized.program, "tile", self.session.target)
        kernels = [op for op in specialized.program.module.ops if isinstance(op, tile.KernelOp)]
        work = {k.sym_name.data: work_of(k) for k in kernels}
        compiled, _ = compile_program(specialized.program, self.session.target, profile=True)
        native = compiled.load(specialized.program.resources).native
        run = native.call
        positions = leaf_positions(call, len(self.method.names), self.method._state)
        selection = tuple(positions[i] for i in specialized.inputs)
        made = Executable(run, selection, specialized.results, specialized.used_state, native=native)
        return made, work


@dataclass(frozen=True)
class KernelRow:
    """One kernel in one call of the method: how often it runs, seconds in all, work of one run (None: unknown)."""

    name: str
    calls: float
    seconds: float
    work: Work | None


@dataclass(frozen=True)
class Profile:
    """The kernels of a call; the first row is the whole method. Rates are of one core, shares of its peak."""

    kernels: Sequence[KernelRow]

    def __str__(self) -> str:
        from stepwell.compiler.peak import measured

        peak, whole = measured(), self.kernels[0].seconds or 1e-12
        head = f"{'kernel':28} {'calls':>6} {'us':>10} {'share':>7} {'MB':>8} {'MFLOP':>9} {'GFLOP/s':>8} {'of peak':>8} {'GB/s':>7}"
        rows = [head]
        for row in [self.kernels[0], *sorted(self.kernels[1:], key=lambda k: -k.seconds)]:
            line = f"{row.name:28} {row.calls:6.0f} {row.seconds * 1e6:10.1f} {100 * row.seconds / whole:6.1f}%"
            rows.append((line + _rates(row, peak.flops)).rstrip())
        rows.append(f"peak of one core, measured: {peak.flops / 1e9:.0f} GFLOP/s, {peak.bytes / 1e9:.1f} GB/s (copy)")
        return "\n".join(rows)


def _rates(row: KernelRow, peak: float) -> str:
    if row.work is None or not row.seconds:
        return ""
    text = f" {row.work.bytes * row.calls / 1e6:8.2f}" if row.work.bytes is not None else f" {'':8}"
    if row.work.flops is not None:
        rate = row.work.flops * row.calls / row.seconds
        text += f" {row.work.flops * row.calls / 1e6:9.2f} {rate / 1e9:8.1f} {100 * rate / peak:7.1f}%"
    if row.work.bytes is not None:
        text += f" {row.work.bytes * row.calls / row.seconds / 1e9:7.1f}"
    return text


def _row(level: str, module: Any, seconds: float) -> str:
    from stepwell.dialects import tile

    count = sum(1 for _ in module.walk())
    kernels = sum(isinstance(op, tile.KernelOp) for op in module.ops)
    return f"  {level:8} {count:10d} {kernels or '':>8} {seconds * 1e3:7.1f} ms"
