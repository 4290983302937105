"""Compiling recurses as deep as the program nests; a thread with a large stack makes that safe. It makes many objects
and no garbage, so the collector rests meanwhile."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

STACK = 256 << 20
"""Bytes of stack (reserved, not used) for a compilation."""

RECURSION = 60_000
"""Python frames that fit it."""

_lock = threading.Lock()


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


def deep_stack(work: Callable[[], T]) -> T:
    """Run `work` in a thread with a large stack, the collector paused; what it returns or raises."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            with collector_paused():
                outcome.append(work())
        except BaseException as error:
            failure.append(error)

    with _lock:
        previous, limit = threading.stack_size(STACK), sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, RECURSION))
        try:
            thread = threading.Thread(target=run, name="stepwell-compile")
            thread.start()
        finally:
            threading.stack_size(previous)
        thread.join()
        sys.setrecursionlimit(limit)
    if failure:
        raise failure[0]
    return outcome[0]
