"""Symbolic integers: sizes and other ints that are only known at run time.

A `Dim` is a polynomial with integer coefficients over atoms. An atom is a `Symbol` (a size of an argument, a
data-dependent size, any `!torch.int` value) or a floor division, minimum or maximum that did not simplify.
Two Dims that are always equal usually have one canonical form, so `==` decides most questions; intervals
(`bounds`) decide order. Shape rules compute with `Size = int | Dim` and never ask which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

INFINITY = 1 << 62
"""Larger than any size; stands for an unbounded end of an interval."""


@dataclass(frozen=True, eq=False)
class Symbol:
    """A named integer; `low`..`high` bound its value (both inclusive). Identity decides equality."""

    name: str
    low: int = 0
    high: Size = INFINITY

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Iteration(Symbol):
    """The number of a loop's iteration."""


@dataclass(frozen=True)
class Call:
    """An atom `operator(left, right)` that has no polynomial form; operator is floordiv, max or min."""

    operator: str
    left: Dim
    right: Dim

    def __repr__(self) -> str:
        if self.operator == "floordiv":
            return f"({self.left} // {self.right})"
        return f"{self.operator}({self.left}, {self.right})"


Atom: TypeAlias = Symbol | Call
Monomial: TypeAlias = tuple[Atom, ...]


@dataclass(frozen=True)
class Dim:
    """A polynomial: sorted (monomial, coefficient) pairs; the empty monomial holds the constant."""

    terms: tuple[tuple[Monomial, int], ...]

    @staticmethod
    def of(value: int | Dim | Symbol) -> Dim:
        if isinstance(value, Dim):
            return value
        if isinstance(value, Symbol):
            return Dim((((value,), 1),))
        return Dim((((), int(value)),)) if value else Dim(())

    @property
    def constant(self) -> int | None:
        """The value if it is known, else None."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and not self.terms[0][0]:
            return self.terms[0][1]
        return None

    def symbols(self) -> list[Symbol]:
        """All symbols in it, in order of first appearance."""
        found: dict[Symbol, None] = {}
        for monomial, _ in self.terms:
            for atom in monomial:
                for symbol in [atom] if isinstance(atom, Symbol) else [*atom.left.symbols(), *atom.right.symbols()]:
                    found.setdefault(symbol)
        return list(found)

    def __add__(self, other: Size) -> Size:
        return _sum(self, Dim.of(other), 1)

    __radd__ = __add__

    def __sub__(self, other: Size) -> Size:
        return _sum(self, Dim.of(other), -1)

    def __rsub__(self, other: Size) -> Size:
        return _sum(Dim.of(other), self, -1)

    def __neg__(self) -> Size:
        return _sum(Dim(()), self, -1)

    def __mul__(self, other: Size) -> Size:
        right = Dim.of(other)
        terms: dict[Monomial, int] = {}
        for a, x in self.terms:
            for b, y in right.terms:
                key = tuple(sorted(a + b, key=_order))
                terms[key] = terms.get(key, 0) + x * y
        return _make(terms)

    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        return _floor_divide(self, Dim.of(other))

    def __rfloordiv__(self, other: Size) -> Size:
        return _floor_divide(Dim.of(other), self)

    def __mod__(self, other: Size) -> Size:
        return self - other * (self // other)

    def __rmod__(self, other: Size) -> Size:
        return other - self * (other // self)

    def __repr__(self) -> str:
        if not self.terms:
            return "0"
        parts = []
        for monomial, coefficient in self.terms:
            body = "*".join(repr(a) for a in monomial)
            if not body:
                parts.append(str(coefficient))
            else:
                parts.append(body if coefficient == 1 else f"{coefficient}*{body}")
        return " + ".join(parts).replace("+ -", "- ")


Size: TypeAlias = int | Dim


def _order(atom: Atom) -> tuple[int, str, int]:
    if isinstance(atom, Symbol):
        return (0, atom.name, id(atom))
    return (1, repr(atom), 0)


def _make(terms: Mapping[Monomial, int]) -> Size:
    kept = {m: c for m, c in terms.items() if c}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    return Dim(tuple(sorted(kept.items(), key=lambda t: (len(t[0]) == 0, [_order(a) for a in t[0]]))))


def _sum(a: Dim, b: Dim, sign: int) -> Size:
    terms = dict(a.terms)
    for monomial, coefficient in b.terms:
        terms[monomial] = terms.get(monomial, 0) + sign * coefficient
    return _make(terms)


def _floor_divide(a: Dim, b: Dim) -> Size:
    divisor, dividend = b.constant, a.constant
    if divisor is not None:
        if divisor == 0:
            raise ZeroDivisionError("division by zero")
        if dividend is not None:
            return dividend // divisor
        # The divisible part comes out exactly: (4*s + r) // 4 = s + r // 4.
        whole = {m: c // divisor for m, c in a.terms if c % divisor == 0}
        rest = {m: c for m, c in a.terms if c % divisor != 0}
        if not rest:
            return _make(whole)
        remainder = _make(rest)
        low, high = bounds(remainder)
        if low > -INFINITY and high < INFINITY and low // divisor == high // divisor:
            return _make(whole) + low // divisor
        if isinstance(remainder, int):
            return _make(whole) + remainder // divisor
        return _make(whole) + _atom("floordiv", remainder, Dim.of(divisor))
    if a == b:
        return 1
    quotient = _exact_quotient(a, b)
    if quotient is not None:
        return quotient
    atom = _atom("floordiv", a, b)
    low, high = bounds(atom)
    return low if low == high else atom


def _exact_quotient(a: Dim, b: Dim) -> Size | None:
    """a / b when b is a single monomial that divides every term of a."""
    if len(b.terms) != 1:
        return None
    monomial, coefficient = b.terms[0]
    result: dict[Monomial, int] = {}
    for term, value in a.terms:
        left = list(term)
        for atom in monomial:
            if atom not in left:
                return None
            left.remove(atom)
        if value % coefficient:
            return None
        result[tuple(left)] = value // coefficient
    return _make(result)


def _atom(operator: str, a: Dim, b: Dim) -> Dim:
    return Dim((((Call(operator, a, b),), 1),))


def bounds(value: Size) -> tuple[int, int]:
    """An interval that certainly holds the value; +-INFINITY where nothing is known."""
    if isinstance(value, int):
        return value, value
    low = high = 0
    for monomial, coefficient in value.terms:
        a, b = 1, 1
        for atom in monomial:
            x, y = _atom_bounds(atom)
            products = [_times(p, q) for p in (a, b) for q in (x, y)]
            a, b = min(products), max(products)
        ends = (_times(a, coefficient), _times(b, coefficient))
        low, high = _plus(low, min(ends)), _plus(high, max(ends))
    return low, high


def _times(a: int, b: int) -> int:
    return max(-INFINITY, min(INFINITY, a * b))


def _plus(a: int, b: int) -> int:
    return max(-INFINITY, min(INFINITY, a + b))


def _atom_bounds(atom: Atom) -> tuple[int, int]:
    if isinstance(atom, Symbol):
        return atom.low, bounds(atom.high)[1]
    (a, b), (c, d) = bounds(atom.left), bounds(atom.right)
    if atom.operator == "max":
        return max(a, c), max(b, d)
    if atom.operator == "min":
        return min(a, c), min(b, d)
    if c > 0:
        low = -INFINITY if a == -INFINITY else min(a // c, a // d)
        return low, INFINITY if b == INFINITY else max(b // c, b // d)
    return -INFINITY, INFINITY


def at_least(a: Size, b: Size) -> bool:
    """True if a >= b is certain; False means "not known", not "less"."""
    difference = a - b
    if bounds(difference)[0] >= 0:
        return True
    # Replace what pulls the difference down by its symbolic upper bound, once each.
    for _ in range(4):
        if isinstance(difference, int):
            return difference >= 0
        for monomial, coefficient in difference.terms:
            atom = monomial[0] if len(monomial) == 1 else None
            bound = _at_least(atom, coefficient) if atom is not None else None
            if bound is not None:
                difference = difference - coefficient * Dim(((monomial, 1),)) + bound
                break
        else:
            return False
        if bounds(difference)[0] >= 0:
            return True
    return False


def _at_least(atom: Atom, coefficient: int) -> Size | None:
    """What coefficient * atom is at least; None where no symbolic bound is known."""
    if isinstance(atom, Symbol):
        return coefficient * atom.high if coefficient < 0 and isinstance(atom.high, Dim) else None
    divisor = atom.right.constant
    if atom.operator != "floordiv" or divisor is None or divisor <= 0:
        return None
    low, high = bounds(atom.left)
    if coefficient > 0:
        # divisor * (a // divisor) > a - divisor, and a // divisor >= a where a is not positive.
        if coefficient % divisor == 0:
            return coefficient // divisor * (atom.left - divisor + 1)
        return coefficient * atom.left if high <= 0 else None
    # divisor * (a // divisor) <= a, and a // divisor <= a where a is not negative.
    if coefficient % divisor == 0:
        return coefficient // divisor * atom.left
    return coefficient * atom.left if low >= 0 else None


def maximum(a: Size, b: Size) -> Size:
    """max(a, b), simplified where the order is known."""
    if at_least(a, b):
        return a
    return b if at_least(b, a) else _atom("max", Dim.of(a), Dim.of(b))


def minimum(a: Size, b: Size) -> Size:
    """min(a, b), simplified where the order is known."""
    if at_least(b, a):
        return a
    return b if at_least(a, b) else _atom("min", Dim.of(a), Dim.of(b))


def product(sizes: Iterable[Size]) -> Size:
    """The number of elements of a tensor of these sizes."""
    result: Size = 1
    for size in sizes:
        result = result * size
    return result


def ceil_divide(a: Size, b: Size) -> Size:
    return -((-a) // b)


def substitute(value: Size, replacement: Mapping[Symbol, Size]) -> Size:
    """The value with symbols replaced, simplified again."""
    return evaluate(value, lambda s: replacement.get(s, Dim.of(s)))


def evaluate(value: Size, of_symbol: Callable[[Symbol], Size]) -> Size:
    """Compute the value from its symbols; ints in give an int out."""
    if isinstance(value, int):
        return value
    total: Size = 0
    for monomial, coefficient in value.terms:
        term: Size = coefficient
        for atom in monomial:
            term = term * _evaluate_atom(atom, of_symbol)
        total = total + term
    return total


def _evaluate_atom(atom: Atom, of_symbol: Callable[[Symbol], Size]) -> Size:
    if isinstance(atom, Symbol):
        return of_symbol(atom)
    left, right = evaluate(atom.left, of_symbol), evaluate(atom.right, of_symbol)
    if atom.operator == "floordiv":
        return left // right
    return maximum(left, right) if atom.operator == "max" else minimum(left, right)


def replaced(value: Size, symbol: Symbol, by: Size) -> Size:
    """The value with a symbol replaced; where `by` has the symbol within a division, only where it stands alone."""
    if isinstance(value, int):
        return value
    if not (isinstance(by, Dim) and symbol in by.symbols()):
        return substitute(value, {symbol: by})
    total: Size = 0
    for monomial, coefficient in value.terms:
        term: Size = coefficient
        for atom in monomial:
            term = term * (by if atom is symbol else Dim((((atom,), 1),)))
        total = total + term
    return total


def isolate(a: Size, b: Size, within: bool = False) -> tuple[Symbol, Size] | None:
    """What a == b says of one symbol: the symbol and what it equals; None where no symbol stands alone.

    `within`: what it equals may have the symbol within a division.
    """
    difference = a - b
    if isinstance(difference, int):
        return None
    for monomial, coefficient in difference.terms:
        if len(monomial) == 1 and isinstance(monomial[0], Symbol) and abs(coefficient) == 1:
            symbol = monomial[0]
            # Without this term only: in `n - 2*(n // 2)` the symbol stands in the rest as well.
            rest = difference - coefficient * Dim.of(symbol)
            alone = not isinstance(rest, Dim) or symbol not in rest.symbols()
            if alone or (within and all(symbol not in m for m, _ in Dim.of(rest).terms)):
                return symbol, -rest if coefficient == 1 else rest
    return None


def isolate_divisible(a: Size, b: Size) -> tuple[Symbol, int, int] | None:
    """The symbol s, c and r such that a == b says that s = c * k + r; None where it says something else."""
    difference = a - b
    if isinstance(difference, int):
        return None
    for monomial, _ in difference.terms:
        for atom in monomial:
            divisor = atom.right.constant if isinstance(atom, Call) and atom.operator == "floordiv" else None
            if not isinstance(atom, Call) or divisor is None or not 2 <= divisor <= 64:
                continue
            for symbol in atom.left.symbols():
                whole = Dim.of(Symbol("k", 0))
                for rest in range(divisor):
                    if substitute(difference, {symbol: divisor * whole + rest}) == 0:
                        return symbol, divisor, rest
    return None


def is_static(sizes: Iterable[Size]) -> bool:
    return all(isinstance(s, int) for s in sizes)
