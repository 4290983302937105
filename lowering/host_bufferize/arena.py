"""One arena for all that lives at some time: where each piece lies, so that what lives together is apart.

Pieces of static size are placed by size, largest first, each into the tightest gap that its neighbours in time
leave (greedy by size, best fit): on real networks this reaches the lower bound set by liveness. Pieces whose
size is only known at entry are put into slots: a slot serves pieces that are never alive together and is as
large as the largest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepwell.lowering.analysis.liveness import Range, overlapping

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector."""


@dataclass(frozen=True)
class Piece:
    """What needs memory: the ranges of positions in which it is alive, and its size in bytes."""

    ranges: tuple[Range, ...]
    size: int


def aligned(size: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan(pieces: Sequence[Piece]) -> tuple[list[int], int]:
    """The offset of each piece, and the size of the whole, in bytes; all multiples of ALIGNMENT."""
    offsets = [0] * len(pieces)
    placed: list[int] = []
    for index in sorted(range(len(pieces)), key=lambda i: -pieces[i].size):
        piece = pieces[index]
        if not piece.size:
            continue
        taken = sorted(
            (offsets[other], offsets[other] + pieces[other].size)
            for other in placed
            if overlapping(pieces[other].ranges, piece.ranges)
        )
        offsets[index] = _best_gap(taken, piece.size)
        placed.append(index)
    return offsets, aligned(max((offsets[i] + pieces[i].size for i in placed), default=0))


def _best_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """The start of the smallest gap that fits, or the end of all that is taken."""
    best: tuple[int, int] | None = None
    cursor = 0
    for start, stop in taken:
        if start - cursor >= size and (best is None or start - cursor < best[0]):
            best = (start - cursor, cursor)
        cursor = max(cursor, aligned(stop))
    return best[1] if best is not None else cursor


def color(ranges: Sequence[Sequence[Range]], alike: Sequence[object]) -> list[int]:
    """A slot number for each piece of unknown size; pieces in one slot are never alive together.

    Pieces that are `alike` (of equal size expressions) prefer each other's slots, so that slots waste little.
    """
    slots: list[list[int]] = []
    chosen = [0] * len(ranges)
    for index in sorted(range(len(ranges)), key=lambda i: ranges[i][0]):
        free = [
            number
            for number, members in enumerate(slots)
            if not any(overlapping(ranges[member], ranges[index]) for member in members)
        ]
        same = [number for number in free if any(alike[member] == alike[index] for member in slots[number])]
        if same or free:
            chosen[index] = (same or free)[0]
        else:
            chosen[index] = len(slots)
            slots.append([])
        slots[chosen[index]].append(index)
    return chosen
