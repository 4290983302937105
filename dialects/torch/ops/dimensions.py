"""What shape rules share: dimensions counted from the end, broadcasting, sizes that must agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from stepwell.dialects.diagnostics import NeedsNumber
from stepwell.dialects.torch.declare import Array, RuntimeFault, TensorInfo, Undecided
from stepwell.dialects.torch.sizes import Size, bounds


def wrap(dim: Any, rank: int) -> int:
    """A dimension in 0..rank-1 from one that may count from the end; a zero-dimensional tensor has dim 0 too."""
    limit = max(rank, 1)
    if not isinstance(dim, int):
        raise TypeError(f"a dimension must be known at compile time, not {dim}")
    if not -limit <= dim < limit:
        message = f"Dimension out of range (expected to be in range of [{-limit}, {limit - 1}], but got {dim})"
        raise RuntimeFault(message, "IndexError")
    return dim % limit


def wrap_all(dims: Sequence[int] | int | None, rank: int) -> list[int]:
    """The dims of a reduction, in order; None or none given means all."""
    if isinstance(dims, int):
        dims = [dims]
    if not dims:
        return list(range(rank))
    wrapped = [wrap(d, rank) for d in dims]
    for d in wrapped:
        if wrapped.count(d) > 1:
            raise RuntimeFault(f"dim {d} appears multiple times in the list of dims")
    return sorted(wrapped) if rank else []


def differ(a: Size, b: Size) -> bool:
    """True if two sizes are certainly different."""
    if isinstance(a, int) and isinstance(b, int):
        return a != b
    (low, high), (least, most) = bounds(a), bounds(b)
    return high < least or most < low


def broadcast_sizes(*shapes: Sequence[Size]) -> tuple[Size, ...]:
    """The sizes of the broadcast result. RuntimeFault in torch's words where they do not fit.

    Undecided where that depends on two symbolic sizes being equal.
    """
    rank = max((len(s) for s in shapes), default=0)
    result: list[Size] = [1] * rank
    for shape in shapes:
        for back, size in enumerate(reversed(shape), start=1):
            result[rank - back] = _broadcast(result[rank - back], size, rank - back)
    return tuple(result)


def _broadcast(a: Size, b: Size, dim: int) -> Size:
    if a == b or is_one(b):
        return a
    if is_one(a):
        return b
    message = f"The size of tensor a ({a}) must match the size of tensor b ({b}) at non-singleton dimension {dim}"
    if differ(a, b) and differ(a, 1) and differ(b, 1):
        raise RuntimeFault(message)
    if isinstance(a, int) and isinstance(b, int):
        raise RuntimeFault(message)
    raise Undecided(a, b, message)


def is_one(size: Size) -> bool:
    return isinstance(size, int) and size == 1


def reduced(x: TensorInfo, dims: Iterable[int], keep: bool) -> tuple[Size, ...]:
    """Sizes after a reduction over dims."""
    gone = set(dims)
    if keep:
        return tuple(1 if d in gone else s for d, s in enumerate(x.sizes))
    return tuple(s for d, s in enumerate(x.sizes) if d not in gone)


def known(value: Any, what: str) -> Any:
    """A number that the rule itself needs. NeedsNumber where it is only known at run time."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise NeedsNumber(f"{what} that is only known at run time")


def along(dim: int, key: Any) -> Any:
    """numpy's index that applies `key` to one dimension and keeps the others."""
    return (*[slice(None)] * dim, key, ...)


def indexed(x: Array, dim: int, key: Any) -> Array:
    """x indexed by `key` in one dimension: a view, even if it is zero-dimensional."""
    result: Array = x[along(dim, key)]
    return result


def static(sizes: Iterable[Size]) -> tuple[int, ...]:
    """Sizes that are all known, as those of a reference's arrays are."""
    known_sizes = []
    for size in sizes:
        assert isinstance(size, int), f"{size} is not known"
        known_sizes.append(size)
    return tuple(known_sizes)


def require(condition: bool, message: str, exception: str = "RuntimeError") -> None:
    """Refuse a call as torch does."""
    if not condition:
        raise RuntimeFault(message, exception)
