"""A line on the terminal while something takes long; nothing where nobody looks at one."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
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
