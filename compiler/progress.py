"""A line on the terminal while something takes long; nothing where nobody looks at one."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

PATIENCE = 0.7
"""Seconds before anything is said."""


@contextmanager
def progress(what: str, stream: TextIO | None = None, patience: float = PATIENCE) -> Iterator[None]:
    """Show `what` and the seconds that it has taken on the stream (standard error), if that is a terminal."""
    shown_on = stream or sys.stderr
    if not shown_on.isatty():
        yield
        return
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(what, shown_on, patience, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(what: str, stream: TextIO, patience: float, done: threading.Event) -> None:
    started = time.monotonic()
    shown = ""
    wait = patience
    while not done.wait(wait):
        shown = f"{what} ... {time.monotonic() - started:.0f} s"
        stream.write(f"\r{shown}")
        stream.flush()
        wait = 1.0
    if shown:
        stream.write(f"\r{' ' * len(shown)}\r")
        stream.flush()


WIDTH = 30
"""Characters of a full bar."""


@contextmanager
def progress_bar(what: str, stream: TextIO | None = None) -> Iterator[Callable[[str, float], None]]:
    """Gives `report(part, share)`: a bar as long as the share that is done, and the part that was begun, on the stream
    (standard error), if that is a terminal."""
    shown_on = stream or sys.stderr
    if not shown_on.isatty():
        yield lambda part, share: None
        return
    length = 0

    def report(part: str, share: float) -> None:
        nonlocal length
        done = round(WIDTH * min(max(share, 0.0), 1.0))
        line = f"{what} [{'#' * done}{'.' * (WIDTH - done)}] {part}"
        shown_on.write(f"\r{line.ljust(length)}")
        shown_on.flush()
        length = len(line)

    try:
        yield report
    finally:
        shown_on.write(f"\r{' ' * length}\r")
        shown_on.flush()
