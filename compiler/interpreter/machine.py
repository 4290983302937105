"""Runs a module: functions are translated at their first call, threads take turns, exceptions get their op."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from xdsl.dialects.builtin import FunctionType, ModuleOp, TensorType
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Attribute, Operation

from stepwell.compiler.interpreter.address_space import AddressSpace
from stepwell.compiler.interpreter.rules import (
    Fault,
    InterpreterError,
    ProgramRaise,
    describe,
    locations,
    unsupported,
)
from stepwell.compiler.interpreter.translate import Writer, translate
from stepwell.compiler.interpreter.values import Array, from_outside, to_outside
from stepwell.dialects.diagnostics import Error

Finish = Callable[[Writer, Operation], None]

CALLABLES: dict[str, Finish] = {}
"""The function-like ops and what their last op returns: `func.func`, `tile.kernel`, `llvm.func`."""


class Machine:
    """One module, ready to run.

    `resources` maps the names of `dense_resource` constants to arrays. `namespace` holds everything that the
    translated code refers to by name, `memory` what pointers of the llvm level point into. Memory of globals
    lives as long as the machine.
    """

    def __init__(self, module: ModuleOp, resources: Mapping[str, Array] | None = None) -> None:
        self.module = module
        self.resources: Mapping[str, Array] = {} if resources is None else resources
        self.namespace: dict[str, Any] = {}
        self.sources: dict[str, list[Operation | None]] = {}
        self.globals: dict[str, Any] = {}
        self.memory = AddressSpace()
        self._functions: dict[str, str] = {}
        self._count = 0
        self.symbols: dict[str, Operation] = {}
        for op in module.ops:
            symbol: Any = op.properties.get("sym_name")
            if symbol is not None:
                self.symbols[symbol.data] = op

    def fresh(self, prefix: str) -> str:
        """A name not used before."""
        self._count += 1
        return f"{prefix}{self._count}"

    def constant(self, value: Any, prefix: str = "k") -> str:
        """Put a Python object where translated code finds it; its name."""
        name = self.fresh(prefix)
        self.namespace[name] = value
        return name

    def symbol(self, name: str) -> Operation:
        """The module's op of that symbol name. Raises InterpreterError where there is none."""
        found = self.symbols.get(name)
        if found is None:
            raise InterpreterError(f"the module has no symbol @{name}")
        return found

    def function(self, symbol: str) -> str:
        """The name, in `namespace`, of a callable op's translation, made now if it was not yet."""
        name = self._functions.get(symbol)
        if name is None:
            op = self.symbol(symbol)
            finish = CALLABLES.get(op.name)
            if finish is None or not op.regions or not op.regions[0].blocks:
                raise unsupported(op, f"@{symbol} has no body to run")
            name = self._functions[symbol] = self.fresh("F_" + "".join(c if c.isalnum() else "_" for c in symbol))
            translate(self, op, op.regions[0], name, finish)
        return name

    def call(
        self,
        entry: str,
        arguments: Sequence[Any],
        *,
        threads: int = 1,
        order: Sequence[int] | None = None,
    ) -> list[Any]:
        """Run a function: numpy arrays and numbers in, a list of the same out (memrefs are arrays, shared).

        With several threads each runs the function with its own id; between barriers they run one after
        another, in `order` (default: by id). The results are thread 0's.
        Raises what the program raises, and InterpreterError for what has no meaning.
        """
        op = self.symbol(entry)
        inputs, outputs = signature(op)
        if len(inputs) != len(arguments):
            raise TypeError(f"@{entry} takes {len(inputs)} arguments, got {len(arguments)}")
        values = [
            self.memory.share(value)
            if isinstance(type, LLVMPointerType) and isinstance(value, np.ndarray)
            else from_outside(value, type)
            for value, type in zip(arguments, inputs, strict=True)
        ]
        function = self.namespace[self.function(entry)]
        team = Team(threads, order)
        results = team.run(lambda thread: self._guarded(function, thread, values))
        out = list(results) if isinstance(results, tuple) else []
        return [
            np.asarray(value) if isinstance(type, TensorType) else to_outside(value)
            for value, type in zip(out, outputs, strict=True)
        ]

    def call_spmd(
        self, entry: str, arguments: Sequence[Any], *, threads: int = 1, order: Sequence[int] | None = None
    ) -> tuple[Any, ...]:
        """Run a function of the llvm level on each thread of a team, its last argument the thread's number.

        Arguments and results are values as they are held here. Returns thread 0's results.
        """
        function = self.namespace[self.function(entry)]
        team = Team(threads, order)
        results = team.run(lambda thread: self._guarded(function, thread, [*arguments, np.int32(thread.id)]))
        return tuple(results)

    def _guarded(self, function: Callable[..., Any], thread: Thread, values: list[Any]) -> Any:
        with np.errstate(all="ignore"):
            try:
                return function(thread, *values)
            except ProgramRaise as raised:
                op = self._operation_of(raised.__traceback__)
                for place in locations(op.location) if op is not None else ():
                    raised.exception.add_note(f"at {place}")
                raise raised.exception from None
            except TeamStopped:
                raise
            except Exception as error:
                op = self._operation_of(error.__traceback__)
                where = describe(op) if op is not None else "the interpreter"
                why = str(error) if isinstance(error, (Fault, Error)) else f"{type(error).__name__}: {error}"
                raise InterpreterError(f"{where}: {why}", op) from error

    def _operation_of(self, traceback: TracebackType | None) -> Operation | None:
        """The op on whose behalf the innermost translated line ran."""
        found: Operation | None = None
        while traceback is not None:
            lines = self.sources.get(traceback.tb_frame.f_code.co_filename)
            if lines is not None and traceback.tb_lineno <= len(lines):
                found = lines[traceback.tb_lineno - 1] or found
            traceback = traceback.tb_next
        return found


def signature(op: Operation) -> tuple[list[Attribute], list[Attribute]]:
    """Argument and result types of a function-like op. Raises UnsupportedError for any other."""
    type = op.properties.get("function_type")
    if isinstance(type, FunctionType):
        return list(type.inputs), list(type.outputs)
    from_llvm = getattr(type, "output", None)
    if from_llvm is not None:
        outputs = [] if from_llvm.name == "llvm.void" else [from_llvm]
        return list(type.inputs), outputs  # type: ignore[union-attr]
    raise unsupported(op, "it is no function to be called")


class TeamStopped(Exception):
    """Ends a thread because another one failed."""


class Thread:
    """What a running function knows of its thread: `id`, `count`, the barrier and the collective ops."""

    def __init__(self, team: Team, id: int) -> None:
        self.team = team
        self.id = id
        self.count = team.count
        self._collective = 0

    def barrier(self) -> None:
        """Wait for all threads of the team."""
        self.team.pass_turn(self.id, done=False)

    def next_share(self) -> int:
        """How many shares the team has taken since the last barrier, before this one; a lot where one runs alone."""
        if self.count == 1:
            return sys.maxsize
        self.team.taken += 1
        return self.team.taken - 1

    def collective(self, make: Callable[[], Any]) -> Any:
        """The value that the team's first arrival makes at this (n-th) collective op; the same for everyone."""
        shared, at = self.team.shared, self._collective
        self._collective += 1
        if at == len(shared):
            shared.append(make())
        return shared[at]


class Team:
    """Threads that run one at a time: the turn passes at barriers and at the end, so runs are repeatable."""

    def __init__(self, count: int, order: Sequence[int] | None = None) -> None:
        self.count = count
        self.order = list(range(count)) if order is None else list(order)
        if sorted(self.order) != list(range(count)):
            raise ValueError(f"{self.order} is no order of {count} threads")
        self.shared: list[Any] = []
        self.taken = 0
        self._turns = [threading.Semaphore(0) for _ in range(count)]
        self._done = [False] * count
        self._failure: BaseException | None = None

    def run(self, function: Callable[[Thread], Any]) -> Any:
        """Call `function` on every thread; thread 0's result. Raises the first failure."""
        if self.count == 1:
            return function(Thread(self, 0))
        results: list[Any] = [None] * self.count

        def work(id: int) -> None:
            self._turns[id].acquire()
            try:
                if self._failure is None:
                    results[id] = function(Thread(self, id))
            except TeamStopped:
                pass
            except BaseException as error:
                self._failure = self._failure or error
            self.pass_turn(id, done=True)

        workers = [threading.Thread(target=work, args=(id,), daemon=True) for id in range(self.count)]
        for worker in workers:
            worker.start()
        self._turns[self.order[0]].release()
        for worker in workers:
            worker.join()
        if self._failure is not None:
            raise self._failure
        return results[0]

    def pass_turn(self, id: int, *, done: bool) -> None:
        """End this thread's turn, at a barrier or for good; returns when it has the turn again."""
        if self.count == 1:
            return
        self._done[id] = done
        place = self.order.index(id)
        if place == self.count - 1:
            self.taken = 0
        if place == self.count - 1 and self._failure is None and len(set(self._done)) == 2:
            ended = [number for number in range(self.count) if self._done[number]]
            self._failure = InterpreterError(f"threads {ended} ended while the others wait at a barrier")
        waiting = [other for other in self.order[place + 1 :] + self.order[: place + 1] if not self._done[other]]
        if waiting:
            self._turns[waiting[0]].release()
        if not done:
            self._turns[id].acquire()
            if self._failure is not None:
                raise TeamStopped


def source_of(machine: Machine, symbol: str) -> str:
    """The Python source a function is translated to, for reading and debugging."""
    op = machine.symbol(symbol)
    return translate(machine, op, op.regions[0], machine.fresh("F_"), CALLABLES[op.name])


__all__ = ["CALLABLES", "Machine", "Team", "Thread", "signature", "source_of"]
