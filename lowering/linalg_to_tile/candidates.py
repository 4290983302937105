"""What measuring may choose between: for each template, groups of schedule keys and values that are worth a try.

Keys of one group belong together (rows and columns of a register tile share the registers). The values follow from
the target: what can be good has its accumulators in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from xdsl.dialects.builtin import AnyFloat, TensorType

from stepwell.dialects.target import Target
from stepwell.dialects.tile import KernelOp
from stepwell.lowering.linalg_to_tile.schedule import bits

Sizes = dict[str, int]
Group = list[Sizes]

MOST_VECTORS = 4
"""The widest register tile, in vectors."""


def candidates(kernel: KernelOp, target: Target) -> list[Group]:
    """Groups of settings for a kernel, most telling first; empty where its template leaves nothing to choose."""
    make = GROUPS.get(kernel.template)
    return make(kernel, target) if make is not None else []


def _lanes(kernel: KernelOp, target: Target) -> int:
    kinds = [kind.element_type for kind in kernel.function_type.outputs if isinstance(kind, TensorType)]
    widths = [max(32, bits(kind)) for kind in kinds if isinstance(kind, AnyFloat)]
    return target.lanes(max(widths, default=32))


def _alternatives(key: str, values: Iterable[int]) -> Group:
    return [{key: value} for value in values]


def _heights(vectors: int, registers: int) -> list[int]:
    """Rows of register tiles so many vectors wide: as many as fit, and some fewer."""
    most = max(1, (registers - vectors - 1) // vectors)
    return sorted({most, most - 1, most - 2, most * 3 // 4, most // 2} - {0, -1}, reverse=True)


def _matmul(kernel: KernelOp, target: Target) -> list[Group]:
    lanes, registers = _lanes(kernel, target), target.registers
    panels = kernel.size("pack_b") == 0
    widths = [kernel.size("nr") // lanes] if panels else range(1, MOST_VECTORS + 1)
    tiles = [
        {"mr": rows, "nr": vectors * lanes} for vectors in widths if vectors for rows in _heights(vectors, registers)
    ]
    groups = [tiles, _alternatives("k_unroll", (1, 2, 4, 8)), _alternatives("pack_a", (0, 1))]
    groups.append(_alternatives("k_parts", (1, 4, 8)) if panels else _alternatives("pack_b", (0, 1)))
    return groups


def _conv(kernel: KernelOp, target: Target) -> list[Group]:
    tiles = [
        {"cob": count, "ow": width}
        for count in range(1, MOST_VECTORS + 1)
        for width in _heights(count, target.registers)
    ]
    unrolls = _alternatives("ci_unroll", (1, 2, 4, 8, 16))
    widths = [kind.get_shape()[-2] for kind in kernel.function_type.outputs if isinstance(kind, TensorType)]
    # Several rows fit into the registers where they are short.
    short = all(2 * width < target.registers for width in widths)
    return [tiles, _alternatives("rows", (1, 2, 3, 4)), unrolls] if short else [tiles, unrolls]


def _winograd(kernel: KernelOp, target: Target) -> list[Group]:
    rows, blocks = kernel.size("rows"), kernel.size("blocks")
    tiles = [
        {"cob": count, "tiles": height}
        for count in range(1, MOST_VECTORS + 1)
        for height in _heights(count, target.registers)
    ]
    units = [{"rows": r} for r in sorted({1, rows, 2 * rows})]
    return [tiles, units, _alternatives("blocks", sorted({max(1, blocks // 2), blocks, 2 * blocks}))]


GROUPS: dict[str, Callable[[KernelOp, Target], list[Group]]] = {
    "map": lambda kernel, target: [_alternatives("unroll", (1, 2, 4, 8))],
    "rows": lambda kernel, target: [_alternatives("unroll", (1, 2, 4, 8)), _alternatives("keep", (0, 1))],
    "matmul": _matmul,
    "conv": _conv,
    "winograd": _winograd,
    "depthwise": lambda kernel, target: [_alternatives("ow", (1, 2, 3, 4, 6, 7, 8, 12, 14))],
    "nest": lambda kernel, target: [_alternatives("unroll", (1, 2, 4, 8))],
}
"""Per template, groups in the order in which they are decided."""
