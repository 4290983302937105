"""Where memory comes from."""

from __future__ import annotations

from enum import Enum, auto


class Place(Enum):
    """Where the memory of a cell comes from."""

    ARENA = auto()
    OUTPUT = auto()
    """A buffer of the caller's (static size), or one allocated at entry and returned."""
    FOREIGN = auto()
    """Arguments and constants: never written."""
    HEAP = auto()
    """Allocated while the program runs; owned and freed by the block that holds it."""
    WITHIN = auto()
    """A part of another cell (see `parts`)."""
