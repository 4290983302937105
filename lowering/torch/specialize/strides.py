"""Where the elements of a tensor object lie in its storage: strides along its chain of views.

`reshape` and its like give a view where the elements allow it and a copy otherwise; a program that writes in place
sees the difference, so it must be decided as torch decides it. Bases are contiguous: a caller's array that is not
is copied on the way in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepwell.dialects.torch.sizes import Size, bounds, product
from stepwell.lowering.torch.specialize.tensors import current, read
from stepwell.lowering.torch.specialize.values import Path, TensorRef

Strides = list[Size]


def strides(path: Path, ref: TensorRef) -> Strides | None:
    """Elements from one position to the next, by dimension; None where a view's strides are not followed."""
    ref = current(path, ref)
    sizes = path.store.tensors[ref.storage].sizes
    found: Strides | None = contiguous_strides(sizes)
    for count, step in enumerate(ref.chain, 1):
        rule = _RULES.get(step.declaration.schema.name)
        after = read(path, TensorRef(ref.storage, ref.chain[:count])).sizes
        if found is None or rule is None:
            return None
        found = rule(sizes, found, after, *step.arguments)
        sizes = after
    return found


def shares_storage(path: Path, ref: TensorRef, wanted: Sequence[Size], name: str) -> bool:
    """Whether `reshape` and its like (`contiguous`, by name) give a view; where that is not certain, a copy."""
    given = strides(path, ref)
    if given is None:
        return False
    sizes = read(path, ref).sizes
    if name == "contiguous":
        return bool(is_contiguous(sizes, given))
    return reshaped(sizes, given, wanted) is not None


def contiguous_strides(sizes: Sequence[Size]) -> Strides:
    """Those of a tensor whose elements lie one after another."""
    return [product(sizes[d + 1 :]) for d in range(len(sizes))]


def is_contiguous(sizes: Sequence[Size], given: Strides) -> bool | None:
    """Whether elements lie one after another; None where that depends on run-time sizes."""
    if any(s == 0 for s in sizes):
        return True
    expected: Size = 1
    unsure = False
    for size, stride in zip(reversed(sizes), reversed(given), strict=True):
        if size != 1 and stride != expected:
            if bounds(size)[0] > 1 and isinstance(stride, int) and isinstance(expected, int):
                return False
            unsure = True
        expected = expected * size
    return None if unsure else True


def reshaped(sizes: Sequence[Size], given: Strides, wanted: Sequence[Size]) -> Strides | None:
    """The strides of a view with the wanted sizes; None where there is none that is certain (ATen's computeStride)."""
    if is_contiguous(sizes, given):
        return contiguous_strides(wanted)
    old = [(s, t) for s, t in zip(sizes, given, strict=True) if s != 1]
    result: Strides = [1] * len(wanted)
    at = len(wanted) - 1
    count: Size = 1
    for position in range(len(old) - 1, -1, -1):
        size, stride = old[position]
        count = count * size
        if position and old[position - 1][1] == stride * size:
            continue
        base = _innermost(old, position, count)
        filled: Size = 1
        while at >= 0 and (filled != count or wanted[at] == 1):
            result[at] = base * filled
            filled = filled * wanted[at]
            at -= 1
        if filled != count:
            return None
        count = 1
    return result if at < 0 else None


def _innermost(old: Sequence[tuple[Size, Size]], position: int, count: Size) -> Size:
    """The stride of the last dimension of the run that begins at `position` and has `count` elements."""
    seen: Size = 1
    for size, stride in old[position:]:
        seen = seen * size
        if seen == count:
            return stride
    return old[-1][1]


# ------ one rule per view op: (sizes before, strides before, sizes after, arguments) -> strides after


def _same(sizes: Sequence[Size], given: Strides, after: Sequence[Size], *_: Any) -> Strides:
    return given


def _view(sizes: Sequence[Size], given: Strides, after: Sequence[Size], *_: Any) -> Strides | None:
    return reshaped(sizes, given, after)


def _select(sizes: Sequence[Size], given: Strides, after: Sequence[Size], dim: int, index: Size) -> Strides:
    d = dim % len(sizes)
    return [*given[:d], *given[d + 1 :]]


def _slice(
    sizes: Sequence[Size], given: Strides, after: Sequence[Size], dim: int, start: Any, end: Any, step: Size = 1
) -> Strides:
    d = dim % len(sizes)
    return [s * step if n == d else s for n, s in enumerate(given)]


def _narrow(sizes: Sequence[Size], given: Strides, after: Sequence[Size], *_: Any) -> Strides:
    return given


def _transpose(sizes: Sequence[Size], given: Strides, after: Sequence[Size], a: int, b: int) -> Strides:
    made = list(given)
    made[a], made[b] = made[b], made[a]
    return made


def _reverse(sizes: Sequence[Size], given: Strides, after: Sequence[Size]) -> Strides:
    return given[::-1]


def _permute(sizes: Sequence[Size], given: Strides, after: Sequence[Size], dims: Sequence[int]) -> Strides:
    return [given[d] for d in dims]


def _unsqueeze(sizes: Sequence[Size], given: Strides, after: Sequence[Size], dim: int) -> Strides:
    d = dim % (len(sizes) + 1)
    stride = given[d] * sizes[d] if d < len(sizes) else 1
    return [*given[:d], stride, *given[d:]]


def _squeeze(sizes: Sequence[Size], given: Strides, after: Sequence[Size], *_: Any) -> Strides | None:
    """Only sizes of 1 go, so the strides of the others stay in order."""
    kept = [t for s, t in zip(sizes, given, strict=True) if s != 1]
    return kept if len(kept) == len(after) else _view(sizes, given, after)


def _expand(sizes: Sequence[Size], given: Strides, after: Sequence[Size], *_: Any) -> Strides:
    extra = len(after) - len(sizes)
    return [0] * extra + [t if a == s else 0 for s, t, a in zip(sizes, given, after[extra:], strict=True)]


Rule = Callable[..., Strides | None]

_RULES: dict[str, Rule] = {
    **dict.fromkeys(("detach", "alias", "to", "type_as", "contiguous", "cpu", "float", "data", "lift_fresh"), _same),
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "_unsafe_view"), _view),
    "select": _select, "slice": _slice, "narrow": _narrow, "transpose": _transpose, "swapaxes": _transpose,
    "t": _reverse, "numpy_T": _reverse, "permute": _permute, "unsqueeze": _unsqueeze, "squeeze": _squeeze,
    "expand": _expand, "expand_as": _expand,
}  # fmt: skip
