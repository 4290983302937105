"""Square blocks of vectors, transposed in registers."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import vector
from xdsl.dialects.builtin import DenseArrayBase, VectorType, i64
from xdsl.ir import SSAValue

from stepwell.lowering.tile_to_loops.emit import Emitter


def transposed(emitter: Emitter, rows: Sequence[SSAValue]) -> list[SSAValue]:
    """Vector j of the result holds lane j of every row. As many rows as lanes, a power of two.

    log2(lanes) rounds: round s exchanges, between rows i and i + s, the lanes whose bit s differs (the recursive
    transposition of 2 x 2 blocks).
    """
    values = list(rows)
    count = len(values)
    step = count // 2
    while step:
        low = [lane if not lane & step else lane - step + count for lane in range(count)]
        high = [lane + step if not lane & step else lane + count for lane in range(count)]
        for first in range(count):
            if not first & step:
                a, b = values[first], values[first + step]
                values[first] = _shuffle(emitter, a, b, low)
                values[first + step] = _shuffle(emitter, a, b, high)
        step //= 2
    return values


def _shuffle(emitter: Emitter, a: SSAValue, b: SSAValue, lanes: list[int]) -> SSAValue:
    assert isinstance(a.type, VectorType)
    return emitter.emit(vector.ShuffleOp, (a, b), a.type, {"mask": DenseArrayBase.from_list(i64, lanes)})
