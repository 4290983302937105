"""The team: Python threads that stand ready to enter a native function together (SPMD).

One hand-over per call and thread; inside, native code divides the work and meets at barriers, the last one at
its end, so that the caller need not wait for anybody. There is one team; it serves one call at a time, and a
call that finds it busy runs on its own thread alone. Results do not depend on how many threads there are.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

Task = tuple[Callable[[int, int], int], int, object]


class Team:
    """The calling thread and `size - 1` workers, started when first needed."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._queues: list[SimpleQueue[Task | None]] = []

    def try_enter(self) -> bool:
        """Take the team for one call; False where it is busy. `leave` gives it back."""
        return self._lock.acquire(blocking=False)

    def leave(self) -> None:
        """The call is over."""
        self._lock.release()

    def run(self, function: Callable[[int, int], int], address: int, keep: object) -> int:
        """Call `function(address, thread)` in all threads; gives the status. Only between enter and leave.

        A worker may be in the last barrier a moment longer than this takes: it holds on to `keep`, which owns
        the code and the frame, until it is out.
        """
        if len(self._queues) < self.size - 1:
            self._start()
        for queue in self._queues:
            queue.put((function, address, keep))
        return function(address, 0)

    def _start(self) -> None:
        while len(self._queues) < self.size - 1:
            queue: SimpleQueue[Task | None] = SimpleQueue()
            number = len(self._queues) + 1
            self._queues.append(queue)
            threading.Thread(target=_work, args=(queue, number), name=f"stepwell-{number}", daemon=True).start()

    def close(self) -> None:
        """End the workers after what they do now."""
        for queue in self._queues:
            queue.put(None)
        self._queues.clear()


def _work(queue: SimpleQueue[Task | None], number: int) -> None:
    while (task := queue.get()) is not None:
        function, address, keep = task
        function(address, number)
        del task, keep


def default_threads() -> int:
    """STEPWELL_NUM_THREADS, or how many processors this process may use.

    Raises ValueError where the variable is no positive number.
    """
    text = os.environ.get("STEPWELL_NUM_THREADS")
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"STEPWELL_NUM_THREADS must be a positive number, not {text!r}")
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_team: Team | None = None
_guard = threading.Lock()


def team() -> Team:
    """The one team of this process."""
    global _team
    current = _team
    if current is None:
        with _guard:
            if _team is None:
                _team = Team(default_threads())
            current = _team
    return current


def set_num_threads(count: int) -> None:
    """How many threads a call may use from now on. Raises ValueError unless it is positive."""
    global _team
    if count < 1:
        raise ValueError(f"the number of threads must be positive, not {count}")
    with _guard:
        old, _team = _team, Team(count)
    if old is not None:
        with old._lock:
            old.close()


def get_num_threads() -> int:
    """How many threads a call may use."""
    return team().size


def _after_fork() -> None:
    """A child has none of its parent's threads: it gets a team of its own, of the same size."""
    global _team, _guard
    _guard = threading.Lock()
    if _team is not None:
        _team = Team(_team.size)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
