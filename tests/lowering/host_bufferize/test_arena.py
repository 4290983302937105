"""The planner: nothing alive together overlaps, and the arena is hardly larger than what is alive at once."""

from __future__ import annotations

import random

import pytest

from stepwell.lowering.analysis.liveness import merged, overlapping
from stepwell.lowering.host_bufferize.arena import ALIGNMENT, Piece, aligned, color, plan


def pieces(seed, count=120):
    r = random.Random(seed)
    made = []
    for _ in range(count):
        start = r.randrange(count)
        ranges = [(start, start + r.choice([1, 1, 2, 3, 20]))]
        if r.random() < 0.2:
            ranges.append((start + 30, start + 33))
        made.append(Piece(tuple(merged(ranges)), r.choice([0, 4, 64, 100, 4096, 65536])))
    return made


@pytest.mark.parametrize("seed", range(5))
def test_pieces_that_live_together_are_apart(seed):
    made = pieces(seed)
    offsets, total = plan(made)
    for i, (a, left) in enumerate(zip(made, offsets, strict=True)):
        assert left % ALIGNMENT == 0 and left + a.size <= total
        for b, right in zip(made[:i], offsets[:i], strict=True):
            if overlapping(a.ranges, b.ranges) and a.size and b.size:
                assert left + a.size <= right or right + b.size <= left
    positions = {p for piece in made for first, last in piece.ranges for p in (first, last)}
    alive = [sum(aligned(q.size) for q in made if overlapping(q.ranges, [(p, p)])) for p in positions]
    assert total <= 1.5 * max(alive)


def test_a_chain_needs_two_places():
    made = [Piece(((3 * i, 3 * i + 4),), 1000) for i in range(50)]
    assert plan(made)[1] == 2 * aligned(1000)


def test_slots_of_unknown_size_prefer_their_like():
    ranges = [[(0, 4)], [(0, 4)], [(6, 9)], [(6, 9)]]
    slots = color(ranges, ["a", "b", "b", "a"])
    assert slots[0] == slots[3] and slots[1] == slots[2] and slots[0] != slots[1]
