"""Finding schedules by measuring: every kernel of a call by itself, then the whole call.

The cost model's schedule is the start. One group of keys after the other (see `candidates`) is decided by timing
the kernel with each setting, in turns with the best one so far; the few best are timed again for longer. A setting
must give the numbers of the first, and be clearly faster, to be taken. What is found is kept only where the whole
call gains.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from xdsl.dialects import func
from xdsl.dialects.builtin import DYNAMIC_INDEX, FunctionType, ModuleOp, SymbolRefAttr, TensorType, UnitAttr
from xdsl.ir import Attribute, Block, Region
from xdsl.utils.exceptions import VerifyException

from stepwell.compiler import cache
from stepwell.compiler.driver import NativeProgram, compile_program
from stepwell.compiler.program import Program
from stepwell.compiler.tuned import Entry, name_of
from stepwell.dialects import dtypes
from stepwell.dialects.diagnostics import Error, UnsupportedError
from stepwell.dialects.levels import TILE
from stepwell.dialects.target import Target
from stepwell.dialects.tile import KernelOp, LaunchOp
from stepwell.lowering.host_bufferize.variants import variant_of
from stepwell.lowering.linalg_to_tile.candidates import candidates
from stepwell.lowering.linalg_to_tile.reschedule import Reschedule, kernel_key, reschedule, sizes_of
from stepwell.runtime.profile import Stopwatch

Sizes = dict[str, int]
Array = np.ndarray[Any, Any]

CLEARLY = 0.97
"""The share of the time so far below which a setting is taken."""

WHOLE = 0.99
"""The share of the whole call's time below which what was found is kept."""

SHORT, LONG = 2e-3, 10e-3
"""Seconds of one turn of a kernel, when many settings are compared and when the best few are."""

WARM = 0.3
"""Seconds of calls from which the kernels' shares are taken."""

TURNS = 5
FINALISTS = 3
LEAST_SHARE = 0.01
"""Kernels that take less than this share of a call are left as they are."""

TOLERANCE = 1e-4
"""How far results may differ, for sums in another order, in units of the largest element."""

NUMPY = {known.builtin: known.numpy for known in dtypes.ALL if known is not dtypes.uint8}

Report = Callable[[str, float], None]
"""Told what was just done, and which share of the work is done."""


@dataclass(frozen=True)
class Choice:
    """One kernel: its schedule before and after, how often a call runs it, and the times of one run in seconds."""

    name: str
    calls: int
    before: Sizes
    after: Sizes
    seconds_before: float
    seconds_after: float
    tried: int
    skipped: str = ""

    @property
    def speedup(self) -> float:
        return self.seconds_before / self.seconds_after if self.seconds_after else 1.0


@dataclass
class Tuning:
    """What tuning a call found. `ratio`: the whole call's time with the schedules found, in that without."""

    target: Target
    choices: list[Choice] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    ratio: float = 1.0

    @property
    def gains(self) -> bool:
        """Whether what was found makes the whole call faster."""
        return bool(self.entries) and self.ratio < WHOLE

    def __str__(self) -> str:
        rows = [f"{'kernel':20} {'calls':>5} {'us':>9} {'tuned':>9} {'speedup':>8} {'tried':>6}  schedule"]
        for c in self.choices:
            sizes = " ".join(f"{k}={v}" for k, v in c.after.items() if c.before.get(k) != v)
            note = f"  ({c.skipped})" if c.skipped else f"  {sizes}" if sizes else ""
            rows.append(
                f"{c.name:20} {c.calls:5d} {c.seconds_before * 1e6:9.1f} {c.seconds_after * 1e6:9.1f} "
                f"{c.speedup:8.2f} {c.tried:6d}{note}".rstrip()
            )
        rows.append(f"the whole call: {self.ratio:.3f} of its time before")
        return "\n".join(rows)


def tune(
    program: Program,
    target: Target,
    call: Callable[[NativeProgram], Any],
    *,
    seconds: float = 60.0,
    report: Report = lambda what, share: None,
) -> Tuning:
    """Tune a program of the tile level. `call` runs the whole program once, with the user's arguments.

    Stops after about `seconds`, the kernels that take most of the call first. Raises Error where a setting gives
    other numbers than the first, which is a fault of a lowering.
    """
    found, deadline = Tuning(target), time.monotonic() + seconds
    kernels = {op.sym_name.data: op for op in program.module.ops if isinstance(op, KernelOp)}
    shares = _shares(program, target, call)
    ranked = sorted((k for k in kernels if shares.get(k, (0, 0.0))[1] >= LEAST_SHARE), key=lambda k: -shares[k][1])
    for number, name in enumerate(ranked):
        report(name, number / (len(ranked) + 1))
        if time.monotonic() > deadline:
            break
        kernel, calls = kernels[name], shares[name][0]
        choice = _tune_kernel(kernel, target, calls, deadline)
        found.choices.append(choice)
        if choice.after != choice.before:
            found.entries.append(
                Entry(name_of(target), cache.versions(), kernel_key(kernel), kernel.template, choice.after, round(choice.speedup, 3))
            )
    if found.entries:
        report("the whole call", len(ranked) / (len(ranked) + 1))
        found.ratio = _whole_ratio(program, target, call, {e.kernel: e.sizes for e in found.entries})
    report("done", 1.0)
    return found


# ------ the whole call


def _loaded(program: Program, target: Target, profile: bool = False) -> NativeProgram:
    """A copy of a program, compiled and with its weights."""
    compiled, _ = compile_program(program.copy(), target, profile=profile, verify="never")
    return compiled.load(program.resources)


def _shares(program: Program, target: Target, call: Callable[[NativeProgram], Any]) -> dict[str, tuple[int, float]]:
    """For each kernel how often a call runs it, and its share of the call's time."""
    native = _loaded(program, target, profile=True)
    profile = native.native.profile
    assert profile is not None
    call(native)
    with Stopwatch(profile):
        _seconds(lambda: call(native), WARM)
    whole, *parts = profile.times()
    found: dict[str, tuple[int, float]] = {}
    for part in parts:
        calls, share = found.get(variant_of(part.name), (0, 0.0))
        found[variant_of(part.name)] = calls + round(part.calls / whole.calls), share + part.seconds / whole.seconds
    return found


def _whole_ratio(
    program: Program, target: Target, call: Callable[[NativeProgram], Any], table: Mapping[str, Mapping[str, int]]
) -> float:
    from stepwell.dialects import context

    changed = program.copy()
    Reschedule(table).apply(changed.module, context())
    after, before = _loaded(changed, target), _loaded(program, target)
    ratios = [_seconds(lambda: call(after), 5 * LONG) / _seconds(lambda: call(before), 5 * LONG) for _ in range(2 * TURNS)]
    return statistics.median(ratios)


def _seconds(run: Callable[[], Any], least: float) -> float:
    """Seconds of one run: the median of runs for at least so long."""
    times: list[float] = []
    end = time.perf_counter() + least
    while not times or time.perf_counter() < end:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


# ------ one kernel


@dataclass
class _Contender:
    """A kernel with a setting, ready to run."""

    sizes: Sizes
    native: NativeProgram
    ratios: list[float] = field(default_factory=list)

    def run(self, arguments: Sequence[Any], least: float) -> float:
        """Ticks of one run, without what calling it from Python takes: the median of runs for at least so long."""
        assert self.native.native.profile is not None
        counters, times = self.native.native.profile.counters, list[int]()
        end = time.perf_counter() + least
        while not times or time.perf_counter() < end:
            before = int(counters[1])
            self.native(*arguments)
            times.append(int(counters[1]) - before)
        return statistics.median(times)

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def _tune_kernel(kernel: KernelOp, target: Target, calls: int, deadline: float) -> Choice:
    name, before = kernel.sym_name.data, sizes_of(kernel)
    arguments = synthetic_arguments(kernel)
    if arguments is None:
        return Choice(name, calls, before, before, 0.0, 0.0, 0, "sizes are only known at run time")
    best = _contender(kernel, before, target)
    assert best is not None
    expected = best.native(*arguments)
    assert best.native.native.profile is not None
    with Stopwatch(best.native.native.profile) as profile:
        first = best.run(arguments, LONG)
    first *= profile.seconds_per_tick
    tried, gained = 1, 1.0
    for group in candidates(kernel, target):
        rivals: list[_Contender] = []
        for setting in group:
            sizes = {**best.sizes, **setting}
            if sizes == best.sizes or time.monotonic() > deadline:
                continue
            rival = _contender(kernel, sizes, target)
            if rival is not None:
                _check(kernel, sizes, rival.native(*arguments), expected)
                rivals.append(rival)
        tried += len(rivals)
        winner = _winner(best, rivals, arguments)
        if winner is not None:
            gained *= winner.ratio
            best = winner
    return Choice(name, calls, before, best.sizes, first, first * gained, tried)


def _winner(best: _Contender, rivals: list[_Contender], arguments: Sequence[Any]) -> _Contender | None:
    """The rival that beats the best so far, if one clearly does."""
    for least, kept in ((SHORT, FINALISTS), (LONG, 1)):
        for rival in rivals:
            rival.ratios = []
        for _ in range(TURNS):
            base = best.run(arguments, least)
            for rival in rivals:
                rival.ratios.append(rival.run(arguments, least) / base)
        rivals = sorted(rivals, key=lambda r: r.ratio)[:kept]
        rivals = [rival for rival in rivals if rival.ratio < CLEARLY]
    return rivals[0] if rivals else None


def _contender(kernel: KernelOp, sizes: Sizes, target: Target) -> _Contender | None:
    """The kernel with a setting; None where its template cannot be written so."""
    copy = kernel.clone()
    try:
        reschedule(copy, sizes)
        compiled, _ = compile_program(Program(alone(copy)), target, profile=True, verify="never")
    except (UnsupportedError, VerifyException):
        return None
    return _Contender(sizes, compiled.load({}))


def _check(kernel: KernelOp, sizes: Sizes, found: Sequence[Any], expected: Sequence[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        if other.dtype.kind in "biu":
            same = np.array_equal(one, other)
        else:
            finite = np.isfinite(other)
            scale = float(np.max(np.abs(other[finite]), initial=0.0)) + 1.0
            same = np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE * scale, equal_nan=True)
        if not same:
            raise Error(f"the kernel {kernel.sym_name.data} gives other numbers with the schedule {sizes}: a lowering is at fault")


def alone(kernel: KernelOp) -> ModuleOp:
    """A program of the tile level that is one launch of a kernel; takes the kernel into it."""
    kind = kernel.function_type
    block = Block(arg_types=kind.inputs.data)
    launch = LaunchOp.create(
        operands=block.args, result_types=kind.outputs.data, properties={"kernel": SymbolRefAttr(kernel.sym_name)}
    )
    block.add_ops([launch, func.ReturnOp(*launch.results)])
    function = func.FuncOp("forward", FunctionType.from_lists(kind.inputs.data, kind.outputs.data), Region(block))
    function.attributes["host.entry"] = UnitAttr()
    module = ModuleOp([kernel, function])
    Program(module).mark(TILE)
    return module


def synthetic_arguments(kernel: KernelOp) -> list[Any] | None:
    """Arrays and numbers for a kernel: normal floats, zeros for integers (they may be indices), alternating bools.

    None where sizes are only known at run time.
    """
    random = np.random.default_rng(0)
    made = [_synthetic(kind, random) for kind in kernel.function_type.inputs]
    return None if any(value is None for value in made) else made


def _synthetic(kind: Attribute, random: np.random.Generator) -> Any:
    if not isinstance(kind, TensorType):
        return None
    shape = kind.get_shape()
    if DYNAMIC_INDEX in shape:
        return None
    dtype = NUMPY[kind.element_type]
    if dtype.kind in "iu":
        return np.zeros(shape, dtype)
    if dtype.kind == "b":
        return (np.arange(int(np.prod(shape))) % 2 == 0).reshape(shape)
    return random.standard_normal(shape).astype(dtype)
