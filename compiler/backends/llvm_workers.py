"""Threads in which LLVM compiles texts as they come, while Python writes the next.

    with Workers(target, cache) as workers:
        first, second = workers.begin(text), workers.begin(other)     # Python goes on
    first.result(), second.result()                                   # the objects

LLVM runs without the interpreter's lock, and without llvmlite's (see `jit.compile_object`).
"""

from __future__ import annotations

import contextlib
import queue
from concurrent.futures import Future

from stepwell.compiler import cache as object_cache
from stepwell.compiler.backends import jit
from stepwell.compiler.threads_of_compilation import Aside
from stepwell.dialects.target import Target

_Task = tuple[str, "Future[bytes]"]


class Workers:
    """As many threads as there are cores beside Python's own, which helps at the end. `cache` keeps objects by the
    content of their text."""

    def __init__(self, target: Target, cache: object_cache.Cache | None = None) -> None:
        self._target, self._cache = target, cache
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._threads: list[Aside[None]] = []

    def begin(self, text: str) -> Future[bytes]:
        """The object of a text, some day; its `result` raises what LLVM says of a text that it refuses."""
        future: Future[bytes] = Future()
        self._tasks.put((text, future))
        if len(self._threads) < max(self._target.cores - 1, 1):
            self._threads.append(Aside(self._work, "stepwell-llvm"))
        return future

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Wait for all texts; where an error ends the compilation, for those that are being compiled."""
        if kind is not None:
            with contextlib.suppress(queue.Empty):  # each may be taken by a thread at any moment
                while True:
                    self._tasks.get_nowait()
        for _sentinel in range(len(self._threads) + 1):
            self._tasks.put(None)
        self._work()
        for thread in self._threads:
            thread.result()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            text, future = task
            try:
                future.set_result(self._object(text))
            except BaseException as error:
                future.set_exception(error)

    def _object(self, text: str) -> bytes:
        if self._cache is None:
            return jit.compile_object(text, self._target)
        key = object_cache.key_of("llvm text", text, repr(self._target))
        found = self._cache.get(key)
        if found is None:
            found = jit.compile_object(text, self._target)
            self._cache.put(key, found)
        return found


__all__ = ["Workers"]
