"""The layout of a part of a memref, by the rule that MLIR's verifier applies to memref.subview."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import DYNAMIC_INDEX, IntAttr, MemRefType, NoneAttr, StridedLayoutAttr
from xdsl.ir import Attribute, SSAValue

Size = int | SSAValue
"""A static number (DYNAMIC_INDEX: one that is not known), or the value that holds it."""


def subview_type(
    source: MemRefType[Attribute],
    offsets: Sequence[Size],
    steps: Sequence[Size],
    shape: Sequence[int],
    kept: Sequence[int] | None = None,
) -> MemRefType[Attribute]:
    """The type of a subview of `source`: what is known of its strides and offset is stated, no more and no less.

    `shape`: the sizes of the result. `kept`: the dimensions of the source that the result has (None: all).
    """
    strides = known_strides(source)
    moved = [_product(_static(offset), stride) for offset, stride in zip(offsets, strides, strict=True)]
    start = _sum([_start(source), *moved])
    scaled = [_product(stride, _static(step)) for stride, step in zip(strides, steps, strict=True)]
    places = range(len(strides)) if kept is None else kept
    return MemRefType(source.element_type, shape, StridedLayoutAttr([scaled[axis] for axis in places], start))


def known_strides(kind: MemRefType[Attribute]) -> list[int | None]:
    """Strides by dimension; None for those that only a run knows."""
    if isinstance(kind.layout, StridedLayoutAttr):
        return [_number(stride) for stride in kind.layout.strides]
    strides: list[int | None] = []
    stride: int | None = 1
    for size in reversed(kind.get_shape()):
        strides.insert(0, stride)
        stride = _product(stride, None if size == DYNAMIC_INDEX else size)
    return strides


def _number(known: IntAttr | NoneAttr) -> int | None:
    return known.data if isinstance(known, IntAttr) else None


def _start(kind: MemRefType[Attribute]) -> int | None:
    return _number(kind.layout.offset) if isinstance(kind.layout, StridedLayoutAttr) else 0


def _static(size: Size) -> int | None:
    return size if isinstance(size, int) and size != DYNAMIC_INDEX else None


def _product(left: int | None, right: int | None) -> int | None:
    """Nothing times anything is nothing, known or not."""
    if left == 0 or right == 0:
        return 0
    return None if left is None or right is None else left * right


def _sum(parts: Sequence[int | None]) -> int | None:
    return None if None in parts else sum(part for part in parts if part is not None)
