"""Looking at the stair: any level of a method as text, the passes on the way, kernels with their times.

Stages are made when somebody asks: the variant is specialised again and taken down as far as needed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepwell.compiler.descent import MLIR_LEVELS, PLAIN, Showing, lower_to, render, target_of
from stepwell.compiler.executable import Executable, leaf_positions
from stepwell.compiler.method import Method
from stepwell.compiler.signature import Call, Pattern, describe

if TYPE_CHECKING:
    from stepwell.compiler.profile import Profile
    from stepwell.compiler.program import Program
    from stepwell.compiler.session import Session
    from stepwell.compiler.tuning import Tuning
    from stepwell.dialects.target import Target
    from stepwell.dialects.tile import KernelOp

ROUNDS, CALLS = 5, 4
"""A profile takes the fastest of so many rounds of so many calls."""


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
        """Call with timers in the code; the time of every kernel in the fastest of some rounds."""
        from stepwell.compiler.profile import Profile, kernel_row
        from stepwell.compiler.threads_of_compilation import deep_stack
        from stepwell.lowering.host_bufferize.variants import variant_of
        from stepwell.runtime.profile import Stopwatch
        from stepwell.runtime.threads import get_num_threads

        values = self.method.bind(arguments, keywords)
        executable, kernels = self.method.settle(
            values, lambda call: deep_stack(lambda: self._timed(call, self.method._state))
        )
        call, _ = self.method._take_apart(values)
        executable(call.leaves)
        profile, parallel = executable.native.profile, executable.native.layout.parallel
        rounds = []
        for _ in range(ROUNDS):
            with Stopwatch(profile):
                for _ in range(CALLS):
                    executable(call.leaves)
            rounds.append(profile.times())
        fastest = min(rounds, key=lambda times: times[0].seconds)
        rows = [kernel_row(t, CALLS, kernels.get(variant_of(t.name))) for t in fastest]
        return Profile(rows, get_num_threads() if parallel else 1)

    def _timed(self, call: Call, state: Any) -> tuple[Executable, dict[str, KernelOp]]:
        from stepwell.compiler.driver import compile_program
        from stepwell.dialects.tile import KernelOp

        specialized = self.session.specialized(self.method, call, Pattern(call.numbers), state)
        lower_to(specialized.program, "tile", self.session.target)
        # Taken apart from the module: lowering goes on in place.
        kernels = {op.sym_name.data: op.clone() for op in specialized.program.module.ops if isinstance(op, KernelOp)}
        compiled, _ = compile_program(specialized.program, self.session.target, profile=True)
        native = compiled.load(specialized.program.resources).native
        run = native.call
        positions = leaf_positions(call, len(self.method.names), self.method._state)
        selection = tuple(positions[i] for i in specialized.inputs)
        made = Executable(run, selection, specialized.results, specialized.used_state, native=native)
        return made, kernels


def _row(level: str, module: Any, seconds: float) -> str:
    from stepwell.dialects import tile

    count = sum(1 for _ in module.walk())
    kernels = sum(isinstance(op, tile.KernelOp) for op in module.ops)
    return f"  {level:8} {count:10d} {kernels or '':>8} {seconds * 1e3:7.1f} ms"
