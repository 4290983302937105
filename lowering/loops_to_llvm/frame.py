"""The frame: the one block of memory through which native code and its caller speak.

An array of 8-byte slots, 64-byte aligned. The first are the same for every program and lie here; then come
the program's own (pointers, sizes and scalars of its arguments and results). The caller learns all positions
from the layout, a JSON text that the lowered module carries as the attribute `host.layout`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SLOT = 8
"""Bytes of a slot."""

HEADER: dict[str, int] = {
    "status": 0,
    "threads": 1,
    "arena": 2,
    "arena_bytes": 3,
    "arena_base": 4,
    "allocations": 5,
    "shared": 6,
    "profile": 7,
    "message": 8,
    "arrived": 16,
    "generation": 24,
    "sleepers": 32,
    "taken": 40,
}
"""Slot of each fixed entry.

`status`: 0 while all is well, k where the k-th raise site raised. `message`: up to 8 values for its text.
`arena`, `arena_bytes`: scratch memory, 64-byte aligned; `arena_base` is what malloc gave for it.
`allocations`: the newest of the buffers that the program allocated (see `memory_functions`).
`shared`: one value handed from thread 0 to the others. `profile`: address of the kernels' counters, or 0.
`arrived`, `generation`, `sleepers`: the barrier's words; `taken`: how many shares have been taken since the last
barrier. Each is on a cache line of its own.
"""

FIRST_FREE = 48
"""Where the program's own slots begin."""


@dataclass
class FrameBuilder:
    """Hands out slots and collects what the caller must know."""

    next_slot: int = FIRST_FREE
    arguments: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    raises: list[dict[str, Any]] = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)
    parallel: bool = False

    def slot(self) -> int:
        """One more slot."""
        self.next_slot += 1
        return self.next_slot - 1

    def layout(self, entry: str, arena_bytes: int, structure: str | None) -> dict[str, Any]:
        """What `stepwell.runtime.abi.FrameLayout.from_json` reads."""
        return {
            "version": 1,
            "entry": entry,
            "slots": self.next_slot,
            "header": HEADER,
            "arguments": self.arguments,
            "results": self.results,
            "raises": self.raises,
            "kernels": self.kernels,
            "arena_bytes": arena_bytes,
            "parallel": self.parallel,
            "structure": structure,
        }
