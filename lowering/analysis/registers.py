"""Register tiles: how much of a result the vector registers hold at once.

With R vector registers, an `mr x (v vectors)` tile of accumulators needs `mr * v` registers, v
for a row of B, and one for the broadcast element of A. So mr = (R - v - 1) / v: 6 x 2 vectors with 16 registers,
14 x 2 with 32; with fewer rows than that the tile gets wider. The same for convolutions, where `ow` columns
stand for rows and `cob` channel blocks for vectors.

Rows of A whose distance is a multiple of SET_BYTES fall on the same sets of the first-level cache at every step
of k: a tile must not have more of them than a set has ways, or each row's line is gone before its other elements
are used.
"""

from math import gcd

MOST_VECTORS = 6
"""The widest tile: it is for single rows, where only loads of B count."""


SET_BYTES = 4096
"""Addresses so far apart share a set of the first-level cache: a page, which its sets span on nearly every CPU."""

MOST_ALIASED = 8
"""So many rows on the same sets leave ways for B and the result."""

LINE = 64
"""Bytes that come into a cache together."""

MOST_STREAMS = 8

FEW_ROWS = 8
"""With so few rows a product waits for B: it is read once, and not copied."""


def most_rows(row_bytes: int) -> int | None:
    """The tallest tile for rows of A that lie so far apart; None where any height will do."""
    return MOST_ALIASED if row_bytes and row_bytes % SET_BYTES == 0 else None


def streams(rows: int, depth: int, element_bytes: int) -> int:
    """Into how many parts the steps of a contraction of few rows are cut, one step of each being taken at a time.

    B then comes in as many streams, and a core has more of memory's lines under way than it asks for along one. Each
    part reads lines of A of its own, which must not share sets of the first-level cache.
    """
    for count in (MOST_STREAMS, MOST_STREAMS // 2) if rows <= FEW_ROWS else ():
        apart = depth // count * element_bytes
        places = min(SET_BYTES // gcd(apart, SET_BYTES), SET_BYTES // LINE)
        if depth >= count and rows * count <= MOST_ALIASED * places:
            return count
    return 1


def register_tile(
    rows: int, columns: int, lanes: int, registers: int, exactly: int | None = None, tallest: int | None = None
) -> tuple[int, int]:
    """(rows, vectors) of the tile of accumulators for a `rows x columns` result.

    As many accumulators as fit, wide enough that the loads of B and the broadcasts of A stay below the
    multiply-adds, and with as few idle rows at the end as possible. `exactly` fixes the number of vectors,
    `tallest` limits the rows.
    """
    widest = max(1, -(-columns // lanes))
    preferred = 3 if lanes <= 4 and registers >= 32 else 2
    best = (1, 1)
    best_score = 0.0
    for vectors in (exactly,) if exactly else range(1, min(widest, MOST_VECTORS) + 1):
        limit = max(1, (registers - vectors - 1) // vectors)
        for height in range(1, min(limit, rows, tallest or limit) + 1):
            useful = rows / (-(-rows // height) * height) * (widest / (-(-widest // vectors) * vectors))
            # Each step loads `vectors` and broadcasts `height` for `height * vectors` multiply-adds, two of each
            # a cycle; chains of additions need eight accumulators to be hidden.
            busy = min(1.0, height * vectors / (height + vectors)) * min(1.0, height * vectors / 8)
            score = useful * busy * (1.0 if vectors == preferred else 0.97) * (1 + 0.004 * height * vectors)
            if score > best_score:
                best, best_score = (height, vectors), score
    return best


def convolution_tile(columns: int, blocks: int, vectors: int, registers: int) -> tuple[int, int]:
    """(ow, cob): output columns and channel blocks (of `vectors` vectors) of the tile of accumulators."""
    best, best_score = (1, 1), 0.0
    for count in (1, 2, 3, 4):
        if blocks % count:
            continue
        wide = count * max(1, vectors)
        limit = max(1, (registers - wide - 1) // wide)
        for width in range(1, min(limit, columns) + 1):
            useful = columns / (-(-columns // width) * width)
            busy = min(1.0, width * wide / (width + wide)) * min(1.0, width * wide / 8)
            score = useful * busy * (1 + 0.004 * width * wide)
            if score > best_score:
                best, best_score = (width, count), score
    return best
