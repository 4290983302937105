"""Control flow under abstract execution: branches that are decided, joined or kept apart, and loops.

A loop is kept as a loop when its carried state can be made to look the same at the head of every iteration:
numbers and sizes that change become symbols, a list that grows becomes a run-time list. Where the first
iteration changes the state's structure (a state tensor that gets its rank), that iteration is peeled off. What
still does not settle is unrolled if the number of trips is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xdsl.ir import Block, Operation, Region

from stepwell.dialects.torch import operations, types
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.sizes import INFINITY, Dim, Iteration, Size, Symbol, bounds, isolate, isolate_divisible
from stepwell.lowering.torch.specialize.join import join_split
from stepwell.lowering.torch.specialize.loop_state import LoopState
from stepwell.lowering.torch.specialize.values import (
    Abstract,
    CannotJoin,
    CannotSpecialize,
    Path,
    Relation,
    Split,
)

Leaf = tuple[Path, list[Abstract]]
RunBlock = Callable[[Block, Path], list[Leaf]]

MOST_PATHS = 64
"""More paths than this at once mean a program whose branches differ too much in structure."""

FEW_TRIPS = 16
"""A loop with at most so many known trips that makes a list is unrolled, so that the list's length is known."""

MOST_TRIPS = 4096
"""Loops with more known trips than this are never unrolled."""


def parted(leaves: list[Leaf], depth: int) -> tuple[Split, tuple[list[Leaf], list[Leaf]]]:
    """The split at a depth that paths have in common, and the paths of each of its branches."""
    sides: tuple[list[Leaf], list[Leaf]] = ([], [])
    for leaf in leaves:
        sides[leaf[0].splits[depth][1]].append(leaf)
    return leaves[0][0].splits[depth][0], sides


@dataclass
class Control:
    """Runs prim.If and prim.Loop for the specializer; `strict` as for Joiner."""

    run_block: RunBlock
    strict: bool

    # ------ if

    def run_if(self, op: Operation, path: Path) -> list[Leaf]:
        """The paths after an If, each with the values of its results."""
        condition = path.env[op.operands[0]]
        if isinstance(condition, bool):
            return self.run_block(op.regions[0 if condition else 1].block, path)
        decided = decide(path, condition)
        if decided is not None:
            return self.run_block(op.regions[0 if decided else 1].block, path)
        split = Split(path.builder, condition.ssa, Block(), Block(), op.location)
        sides: list[list[Leaf]] = []
        for which, block in enumerate((split.then, split.otherwise)):
            side = path.fork(TorchBuilder(block, op.location, path.builder), (split, which))
            assume(side, condition, which == 0)
            sides.append(self.run_block(op.regions[which].block, side))
        return self._after(split, sides)

    def _after(self, split: Split, sides: list[list[Leaf]]) -> list[Leaf]:
        leaves = sides[0] + sides[1]
        if len(sides[0]) > 1 or len(sides[1]) > 1:
            return self._limited(leaves)
        try:
            return [self._close(split, sides[0], sides[1])] if leaves else self._dead(split)
        except CannotJoin:
            return self._limited(leaves)

    def _limited(self, leaves: list[Leaf]) -> list[Leaf]:
        if len(leaves) > MOST_PATHS:
            raise CannotSpecialize(f"more than {MOST_PATHS} paths through branches that differ in structure")
        return leaves

    def _close(self, split: Split, then: list[Leaf], otherwise: list[Leaf]) -> Leaf:
        return self.join(split, then[0] if then else None, otherwise[0] if otherwise else None, self.strict)

    def join(self, split: Split, a: Leaf | None, b: Leaf | None, strict: bool) -> Leaf:
        """Close a split whose branches have one end each (None: it raises). Raises CannotJoin."""
        return join_split(
            split, a[0] if a else None, b[0] if b else None, a[1] if a else [], b[1] if b else [], strict
        )

    def _dead(self, split: Split) -> list[Leaf]:
        """Both branches raise: an If without results, and nothing after it is ever reached."""
        for block in (split.then, split.otherwise):
            TorchBuilder(block).place(operations.IfYield.create())
        split.parent.place(
            operations.If.create(operands=[split.condition], regions=[Region([split.then]), Region([split.otherwise])])
        )
        return []

    def close(self, leaves: list[Leaf], depth: int) -> Leaf | None:
        """Join all paths of a region (its splits from `depth` on); None if every path has raised."""
        if not leaves:
            return None
        first = leaves[0][0]
        if len(leaves) == 1 and len(first.splits) == depth:
            return leaves[0]
        split, sides = parted(leaves, depth)
        closed = [self.close(side, depth + 1) for side in sides]
        try:
            return self._close(split, [closed[0]] if closed[0] else [], [closed[1]] if closed[1] else [])
        except CannotJoin as problem:
            raise CannotSpecialize(f"the paths of a branch end with {problem}, which no static type holds") from None

    # ------ loops

    def run_loop(self, op: Operation, path: Path) -> list[Leaf]:
        """The paths after a Loop, each with the final carried values."""
        trips, condition = path.env[op.operands[0]], path.env[op.operands[1]]
        carried = [path.env[v] for v in op.operands[2:]]
        if trips == 0 or condition is False:
            return [(path, carried)]
        if isinstance(trips, int) and trips <= 1:
            return self._unroll(op, path, trips, carried)
        return self._kept(op, path, trips, condition, carried, peeled=0)

    def _kept(
        self, op: Operation, path: Path, trips: Size, condition: Any, carried: list[Abstract], peeled: int
    ) -> list[Leaf]:
        try:
            return [Rolled(self, op, path, trips, condition, carried, peeled).run()]
        except (CannotJoin, CannotSpecialize) as problem:
            reason = problem
        if isinstance(trips, int) and trips <= MOST_TRIPS and condition is True:
            return self._unroll(op, path, trips, carried)
        if peeled < 2:
            return self._peel(op, path, trips, condition, carried, peeled)
        raise CannotSpecialize(f"the state of a loop does not settle: {reason}")

    def _unroll(self, op: Operation, path: Path, trips: int, carried: list[Abstract], start: int = 0) -> list[Leaf]:
        """Iterations one after another; paths that leave by the condition wait at the end."""
        finished: list[Leaf] = []
        running: list[Leaf] = [(path, carried)]
        for number in range(start, trips):
            nxt: list[Leaf] = []
            for at, values in running:
                for after, ends in self._iteration(op, at, number, values):
                    if ends[0] is True:
                        nxt.append((after, ends[1:]))
                    elif ends[0] is False:
                        finished.append((after, ends[1:]))
                    else:
                        raise CannotSpecialize("a loop that is unrolled ends by a condition known at run time only")
            running = nxt
            if not running:
                break
        return finished + running

    def _iteration(self, op: Operation, path: Path, number: Size, carried: list[Abstract]) -> list[Leaf]:
        block = op.regions[0].block
        path.env[block.args[0]] = number
        for argument, value in zip(block.args[1:], carried, strict=True):
            path.env[argument] = value
        return self.run_block(block, path)

    def _peel(
        self, op: Operation, path: Path, trips: Size, condition: Any, carried: list[Abstract], peeled: int
    ) -> list[Leaf]:
        """`if it runs at all: the first iteration, then the loop from there`."""
        runs = _and(path, at_least_one(path, trips - peeled), condition)
        if runs is True:
            return self._peeled(op, path, trips, carried, peeled)
        if runs is False:
            return [(path, carried)]
        split = Split(path.builder, runs.ssa, Block(), Block(), op.location)
        then = path.fork(TorchBuilder(split.then, op.location, path.builder), (split, 0))
        assume(then, runs, True)
        otherwise = path.fork(TorchBuilder(split.otherwise, op.location, path.builder), (split, 1))
        return self._after(split, [self._peeled(op, then, trips, carried, peeled), [(otherwise, carried)]])

    def _peeled(self, op: Operation, path: Path, trips: Size, carried: list[Abstract], peeled: int) -> list[Leaf]:
        result: list[Leaf] = []
        for after, ends in self._iteration(op, path, peeled, carried):
            if ends[0] is False:
                result.append((after, ends[1:]))
            else:
                result += self._kept(op, after, trips, ends[0], ends[1:], peeled + 1)
        return result


class Rolled:
    """One attempt to keep a loop: dry runs until the head state settles, then the run that counts."""

    def __init__(
        self, control: Control, op: Operation, path: Path, trips: Size, condition: Any, carried: list[Abstract],
        peeled: int,
    ) -> None:  # fmt: skip
        self.control, self.op, self.path = control, op, path
        self.trips = trips - peeled
        self.condition, self.carried, self.peeled = condition, carried, peeled

    def run(self) -> Leaf:
        state = LoopState(self.path, self.carried, self.control.strict)
        for _ in range(12):
            before = state.signature()
            self._body(state, dry=True)
            if state.signature() == before:
                break
        else:
            raise CannotJoin("carried values that keep changing their form")
        if state.grows() and isinstance(self.trips, int) and self.trips <= FEW_TRIPS and self.condition is True:
            raise CannotJoin("a list that grows in so few iterations that its length may as well be known")
        return self._body(state, dry=False)

    def _body(self, state: LoopState, dry: bool) -> Leaf:
        parent = self.path
        block = Block()
        builder = TorchBuilder(block, self.op.location, parent.builder)
        counter = block.insert_arg(types.INT, 0)
        inside = parent.fork(builder)
        inside.splits = ()
        high: Size = self.trips - 1 if bounds(self.trips)[1] < INFINITY or isinstance(self.trips, Dim) else INFINITY
        iteration = Iteration("k", 0, high)
        builder.define(iteration, counter)
        values = state.enter(inside, block)
        leaves = self.control._iteration(self.op, inside, Dim.of(iteration) + self.peeled, values)
        closed = self.control.close(leaves, 0)
        if closed is None:
            raise CannotSpecialize("every way through a loop's body raises")
        end, ends = closed
        if dry:
            state.widen(end, ends[1:])
            return end, ends
        state.leave(end, ends[0], ends[1:])
        return state.emit(self.op.location, builder.block, self.trips, self.condition)


# ------ facts from conditions


def decide(path: Path, condition: Value) -> bool | None:
    """A run-time bool whose value the path's facts already give."""
    from stepwell.lowering.torch.specialize.tensors import resolve

    relation = path.relations.get(condition.ssa)
    if relation is None or relation.operator not in _DECIDERS:
        return None
    return _DECIDERS[relation.operator](resolve(path, relation.left), resolve(path, relation.right))


def _decide_equal(a: Size, b: Size) -> bool | None:
    if a == b:
        return True
    low, high = bounds(a - b)
    return False if low > 0 or high < 0 else None


def _decide_less(a: Size, b: Size, margin: int) -> bool | None:
    low, high = bounds(b - a)
    if low >= margin:
        return True
    return False if high < margin else None


_DECIDERS: dict[str, Callable[[Size, Size], bool | None]] = {
    "eq": _decide_equal,
    "ne": lambda a, b: None if (x := _decide_equal(a, b)) is None else not x,
    "lt": lambda a, b: _decide_less(a, b, 1),
    "le": lambda a, b: _decide_less(a, b, 0),
    "gt": lambda a, b: _decide_less(b, a, 1),
    "ge": lambda a, b: _decide_less(b, a, 0),
}


def assume(path: Path, condition: Value, truth: bool) -> None:
    """Learn from a condition on this path: what is equal, what is bounded."""
    relation = path.relations.get(condition.ssa)
    if relation is None:
        return
    if relation.operator == "not":
        assume(path, relation.left, not truth)
    elif relation.operator == "and" and truth:
        assume(path, relation.left, True)
        assume(path, relation.right, True)
    elif relation.operator == "or" and not truth:
        assume(path, relation.left, False)
        assume(path, relation.right, False)
    elif relation.operator == ("eq" if truth else "ne"):
        learn_equal(path, relation.left, relation.right)


def learn_equal(path: Path, a: Size, b: Size) -> None:
    """Record a == b as a replacement of one symbol, if one can be isolated."""
    from stepwell.lowering.torch.specialize.tensors import resolve

    a, b = resolve(path, a), resolve(path, b)
    found = isolate(a, b)
    if found is not None:
        path.facts[found[0]] = found[1]
        return
    divisible = isolate_divisible(a, b)
    if divisible is not None:
        symbol, divisor, rest = divisible
        whole = Symbol("k", max(0, symbol.low // divisor))
        path.builder.define(whole, path.builder.integer(Dim.of(symbol) // divisor))
        path.facts[symbol] = divisor * Dim.of(whole) + rest


def at_least_one(path: Path, trips: Size) -> bool | Value:
    """Whether a loop of that many trips runs at all."""
    if isinstance(trips, int):
        return trips > 0
    low, high = bounds(trips)
    if low > 0:
        return True
    if high <= 0:
        return False
    result: bool | Value = path.builder.call("aten::gt", trips, 0)
    if isinstance(result, Value):
        path.relations[result.ssa] = Relation("gt", trips, 0)
    return result


def _and(path: Path, a: Any, b: Any) -> Any:
    if a is True:
        return b
    if b is True or a is False:
        return a
    return False if b is False else path.builder.call("aten::__and__", a, b)
