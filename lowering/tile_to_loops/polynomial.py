"""Index expressions as polynomials: what addresses are made of while loops are written.

An atom is a loop variable, a size, or LANE, the number of the vector lane. Where a flat address has coefficient 1
for LANE it is a contiguous vector, with 0 it is one element for all lanes, with anything else a gather.
`floordiv` and `mod` are resolved where the known bounds of the atoms allow it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from xdsl.ir import SSAValue

_ordinals = itertools.count()


class Atom:
    """One unknown. `value` is its SSA value (None for LANE and for placeholders); it lies in [0, bound)."""

    __slots__ = ("bound", "ordinal", "value")

    def __init__(self, value: SSAValue | None = None, bound: int | None = None) -> None:
        self.value, self.bound = value, bound
        self.ordinal = next(_ordinals)


LANE = Atom()
"""The lane number of the vector that is being computed."""

Monomial = tuple[Atom, ...]


def _ordinal(atom: Atom) -> int:
    return atom.ordinal


class Poly:
    """A sum of integer multiples of products of atoms. Immutable."""

    __slots__ = ("_key", "terms")

    def __init__(self, terms: dict[Monomial, int]) -> None:
        self.terms = terms
        self._key: tuple[object, ...] | None = None

    @staticmethod
    def of(value: int | Atom | Poly) -> Poly:
        """A number or an atom as a polynomial."""
        if isinstance(value, Poly):
            return value
        if isinstance(value, Atom):
            return Poly({(value,): 1})
        return Poly({(): value} if value else {})

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for equal polynomials."""
        if self._key is None:
            self._key = tuple(sorted((tuple(a.ordinal for a in m), c) for m, c in self.terms.items()))
        return self._key

    @property
    def constant(self) -> int | None:
        """The number that this is, if it is one."""
        if not self.terms:
            return 0
        return self.terms.get(()) if len(self.terms) == 1 else None

    def __add__(self, other: Poly | int) -> Poly:
        terms = dict(self.terms)
        for monomial, factor in Poly.of(other).terms.items():
            total = terms.get(monomial, 0) + factor
            if total:
                terms[monomial] = total
            else:
                terms.pop(monomial, None)
        return Poly(terms)

    def __sub__(self, other: Poly | int) -> Poly:
        return self + Poly.of(other) * -1

    def __mul__(self, other: Poly | int) -> Poly:
        if isinstance(other, int):
            if other == 1:
                return self
            return Poly({m: c * other for m, c in self.terms.items()} if other else {})
        terms: dict[Monomial, int] = {}
        for left, a in self.terms.items():
            for right, b in other.terms.items():
                monomial = tuple(sorted(left + right, key=_ordinal)) if left and right else left or right
                terms[monomial] = terms.get(monomial, 0) + a * b
        return Poly({m: c for m, c in terms.items() if c})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(self.key)

    def atoms(self) -> Iterable[Atom]:
        """All atoms, with repetitions."""
        for monomial in self.terms:
            yield from monomial

    def has(self, atom: Atom) -> bool:
        """Whether an atom occurs."""
        return any(atom in monomial for monomial in self.terms)

    def coefficient(self, atom: Atom) -> Poly:
        """What multiplies an atom (which occurs at most linearly)."""
        return Poly({tuple(a for a in m if a is not atom): c for m, c in self.terms.items() if atom in m})

    def without(self, atom: Atom) -> Poly:
        """The terms without an atom."""
        return Poly({m: c for m, c in self.terms.items() if atom not in m})

    def divided(self, divisor: int) -> tuple[Poly, Poly] | None:
        """(self floordiv divisor, self mod divisor); None where the bounds of the atoms do not tell."""
        quotient: dict[Monomial, int] = {}
        rest: dict[Monomial, int] = {}
        largest = 0
        for monomial, factor in self.terms.items():
            whole, part = (factor // divisor, factor % divisor) if not monomial else divmod(factor, divisor)
            if monomial and part:
                if part != factor or len(monomial) != 1 or monomial[0].bound is None:
                    return None
                largest += factor * (monomial[0].bound - 1)
                rest[monomial] = factor
                continue
            if whole:
                quotient[monomial] = whole
            if part:
                rest[monomial] = part
                largest += part
        return (Poly(quotient), Poly(rest)) if largest < divisor else None


ZERO = Poly({})
ONE = Poly({(): 1})
