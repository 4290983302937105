"""Affine index expressions, read as sums of loops times constants: what indexing maps are made of.

`linear(expression)` is the form in which maps are compared and composed here; expressions with `mod` or
`floordiv` have none and are only ever substituted into, never taken apart.
"""

from collections.abc import Sequence

from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
    AffineMap,
)

Linear = tuple[dict[int, int], int]
"""Coefficient of each loop that occurs (never 0), and the constant."""

ZERO = AffineConstantExpr(0)


def linear(expression: AffineExpr) -> Linear | None:
    """`d0 * 2 + d3 + 5` as `({0: 2, 3: 1}, 5)`; None where it is not of that form."""
    if isinstance(expression, AffineDimExpr):
        return {expression.position: 1}, 0
    if isinstance(expression, AffineConstantExpr):
        return {}, expression.value
    if not isinstance(expression, AffineBinaryOpExpr):
        return None
    left, right = linear(expression.lhs), linear(expression.rhs)
    if left is None or right is None:
        return None
    if expression.kind == AffineBinaryOpKind.Add:
        total = dict(left[0])
        for dim, factor in right[0].items():
            total[dim] = total.get(dim, 0) + factor
        return {dim: factor for dim, factor in total.items() if factor}, left[1] + right[1]
    if expression.kind == AffineBinaryOpKind.Mul:
        if left[0] and right[0]:
            return None
        (terms, constant), factor = (left, right[1]) if not right[0] else (right, left[1])
        return {dim: c * factor for dim, c in terms.items() if c * factor}, constant * factor
    return None


def from_linear(terms: dict[int, int], constant: int = 0) -> AffineExpr:
    """The expression of a linear form, loops in ascending order: equal forms give equal expressions."""
    total: AffineExpr | None = None
    for dim in sorted(terms):
        term: AffineExpr = AffineDimExpr(dim)
        if terms[dim] != 1:
            term = AffineBinaryOpExpr(AffineBinaryOpKind.Mul, term, AffineConstantExpr(terms[dim]))
        total = term if total is None else AffineBinaryOpExpr(AffineBinaryOpKind.Add, total, term)
    if total is None:
        return AffineConstantExpr(constant)
    if constant:
        return AffineBinaryOpExpr(AffineBinaryOpKind.Add, total, AffineConstantExpr(constant))
    return total


def normal(expression: AffineExpr) -> AffineExpr:
    """The same expression in the one spelling that `from_linear` gives, where it is linear."""
    if isinstance(expression, (AffineDimExpr, AffineConstantExpr)):
        return expression
    form = linear(expression)
    return expression if form is None else from_linear(*form)


def substitute(expression: AffineExpr, values: Sequence[AffineExpr]) -> AffineExpr:
    """`expression` with loop i replaced by values[i], normalised."""
    if isinstance(expression, AffineDimExpr):
        return values[expression.position]
    if isinstance(expression, AffineConstantExpr):
        return expression
    return normal(expression.replace_dims_and_symbols(values, ()))


def compose(outer: AffineMap, inner: AffineMap) -> AffineMap:
    """outer after inner: the loops of `inner`, the results of `outer`."""
    return AffineMap(inner.num_dims, 0, tuple(substitute(e, inner.results) for e in outer.results))


def renumber(map_: AffineMap, values: Sequence[AffineExpr], num_dims: int) -> AffineMap:
    """`map_` over a new loop nest of `num_dims` loops in which old loop i is values[i]."""
    return AffineMap(num_dims, 0, tuple(substitute(e, values) for e in map_.results))


def dims_of(map_: AffineMap) -> set[int]:
    """The loops that occur in a map's results."""
    found: set[int] = set()
    for expression in map_.results:
        if isinstance(expression, AffineDimExpr):
            found.add(expression.position)
        elif isinstance(expression, AffineBinaryOpExpr):
            found |= expression.used_dims()
    return found


def positions(map_: AffineMap) -> tuple[int, ...] | None:
    """The loop of each result where all are plain distinct loops (a projected permutation), else None."""
    found = tuple(e.position for e in map_.results if isinstance(e, AffineDimExpr))
    return found if len(found) == len(map_.results) and len(set(found)) == len(found) else None


def selected_positions(map_: AffineMap) -> tuple[int, ...] | None:
    """Like `positions`, of a map that may also select single indices of some dimensions: constants are left out."""
    loops = tuple(e for e in map_.results if not isinstance(e, AffineConstantExpr))
    return positions(AffineMap(map_.num_dims, 0, loops))


def is_identity(map_: AffineMap) -> bool:
    """Whether result i is loop i, for all loops."""
    return len(map_.results) == map_.num_dims and all(
        isinstance(e, AffineDimExpr) and e.position == i for i, e in enumerate(map_.results)
    )


def inverse(map_: AffineMap) -> AffineMap | None:
    """The inverse of a permutation of all loops; None for every other map."""
    found = positions(map_)
    if found is None or len(found) != map_.num_dims:
        return None
    results: list[AffineExpr] = [ZERO] * map_.num_dims
    for result, dim in enumerate(found):
        results[dim] = AffineDimExpr(result)
    return AffineMap(map_.num_dims, 0, tuple(results))


def broadcast_positions(map_: AffineMap) -> tuple[int | None, ...] | None:
    """Like `positions`, but a constant 0 (a broadcast of a size-1 dimension) is allowed and reported as None."""
    found: list[int | None] = []
    for expression in map_.results:
        if isinstance(expression, AffineDimExpr) and expression.position not in found:
            found.append(expression.position)
        elif isinstance(expression, AffineConstantExpr) and expression.value == 0:
            found.append(None)
        else:
            return None
    return tuple(found)


def panel(map_: AffineMap) -> tuple[int, int] | None:
    """(loop, width) of a map `(d floordiv width, ..., d mod width)`: the loop's steps lie in panels, the last of which
    need not be full. None for every other map."""
    if len(map_.results) < 2:
        return None
    outer, inner = map_.results[0], map_.results[-1]
    if not isinstance(outer, AffineBinaryOpExpr) or not isinstance(inner, AffineBinaryOpExpr):
        return None
    if outer.kind != AffineBinaryOpKind.FloorDiv or inner.kind != AffineBinaryOpKind.Mod:
        return None
    if outer.lhs != inner.lhs or outer.rhs != inner.rhs:
        return None
    if not isinstance(outer.lhs, AffineDimExpr) or not isinstance(outer.rhs, AffineConstantExpr):
        return None
    return outer.lhs.position, outer.rhs.value


def in_panels(loop: int, width: int, middle: Sequence[AffineExpr], num_dims: int) -> AffineMap:
    """The map `(d floordiv width, middle..., d mod width)`."""
    dim, size = AffineDimExpr(loop), AffineConstantExpr(width)
    outer = AffineBinaryOpExpr(AffineBinaryOpKind.FloorDiv, dim, size)
    return AffineMap(num_dims, 0, (outer, *middle, AffineBinaryOpExpr(AffineBinaryOpKind.Mod, dim, size)))


def without_panel(map_: AffineMap) -> AffineMap:
    """The map of the same tensor if its panels lay side by side; any other map as it is."""
    found = panel(map_)
    if found is None:
        return map_
    return AffineMap(map_.num_dims, 0, (*map_.results[1:-1], AffineDimExpr(found[0])))
