"""Compiling recurses as deep as the program nests; a thread with a large stack makes that safe. It makes many objects
and no garbage, so the collector rests meanwhile. LLVM runs without the interpreter's lock, so that it can work in a
thread of its own while Python lowers what comes next."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

STACK = 256 << 20
"""Bytes of stack (reserved, not used) for a compilation."""

RECURSION = 60_000
"""Python frames that fit it."""

_one_deep = threading.Lock()
_starting = threading.Lock()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Building IR and syntax trees makes many objects and no garbage: without the collector it is up to twice as fast."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Aside(Generic[T]):
    """Work in a thread of its own with a large stack, begun at once. `result` waits, and gives what the work returns
    or raises."""

    def __init__(self, work: Callable[[], T], name: str) -> None:
        self._work = work
        self._outcome: list[T] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name)
        with _starting:
            previous = threading.stack_size(STACK)
            try:
                self._thread.start()
            finally:
                threading.stack_size(previous)

    def _run(self) -> None:
        try:
            self._outcome.append(self._work())
        except BaseException as error:
            self._failure = error

    def result(self) -> T:
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._outcome[0]


def deep_stack(work: Callable[[], T]) -> T:
    """Run `work` in a thread with a large stack, the collector paused; what it returns or raises."""
    with _one_deep, collector_paused():
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, RECURSION))
        try:
            return Aside(work, "stepwell-compile").result()
        finally:
            sys.setrecursionlimit(limit)
