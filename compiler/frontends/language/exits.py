"""Early exits become structured: after this, `return` stands at the end of a function only, `break` nowhere.

What follows an `if` of which one branch leaves goes into the other branch. Where that is not enough (a loop, a
`with`, branches that leave only sometimes), the exit is recorded in variables and the rest is guarded by them:

    $returned, $result   the function has returned, and what
    $leave1, $skip1      the loop numbered 1 is left; the rest of its iteration is skipped

Names that start with `$` cannot clash with the program's. A `$` name without a value on some path gets an
uninitialized one (control.py).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

RESULT, RETURNED = "$result", "$returned"

SMALL = 2
"""So many simple statements after an `if` are written into both its branches rather than guarded."""


class TailIf(ast.If):
    """An `if` at the end of a function; the function's result is that of the branch taken."""


class Leaving(ast.stmt):
    """A loop (`loop`) that stops as soon as the variable `flag` is true."""

    _fields = ("loop", "flag")
    loop: ast.For | ast.While
    flag: str


@dataclass(frozen=True)
class Ways:
    """How statements may leave: through their end (`falls`), by return, or by break or continue."""

    falls: bool = True
    returns: bool = False
    breaks: bool = False
    continues: bool = False

    @property
    def leaves(self) -> bool:
        return self.returns or self.breaks or self.continues


FALLS = Ways()


def ways(statements: Iterable[ast.stmt]) -> Ways:
    """How a list of statements may leave."""
    returns = breaks = continues = False
    for statement in statements:
        found = _ways_of(statement)
        returns, breaks = returns or found.returns, breaks or found.breaks
        continues = continues or found.continues
        if not found.falls:
            return Ways(False, returns, breaks, continues)
    return Ways(True, returns, breaks, continues)


def _ways_of(s: ast.stmt) -> Ways:
    if isinstance(s, ast.Return):
        return Ways(False, returns=True)
    if isinstance(s, ast.Raise) or is_raise_call(s):
        return Ways(False)
    if isinstance(s, ast.Break):
        return Ways(False, breaks=True)
    if isinstance(s, ast.Continue):
        return Ways(False, continues=True)
    if isinstance(s, ast.If):
        a, b = ways(s.body), ways(s.orelse)
        return Ways(a.falls or b.falls, a.returns or b.returns, a.breaks or b.breaks, a.continues or b.continues)
    if isinstance(s, (ast.For, ast.While)):
        inside, after = ways(s.body), ways(s.orelse)
        endless = isinstance(s, ast.While) and is_true(s.test) and not inside.breaks
        return Ways(not endless, inside.returns or after.returns, after.breaks, after.continues)
    if isinstance(s, ast.With):
        return ways(s.body)
    return FALLS


def is_true(test: ast.expr) -> bool:
    return isinstance(test, ast.Constant) and test.value in (True, 1)


def is_raise_call(s: ast.stmt) -> bool:
    """`ops.prim.RaiseException(...)`, as archives print `raise`."""
    return (
        isinstance(s, ast.Expr)
        and isinstance(s.value, ast.Call)
        and isinstance(s.value.func, ast.Attribute)
        and s.value.func.attr == "RaiseException"
    )


def structured(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The body of a function with its exits structured; ends in Return or TailIf unless it raises."""
    return _Rewriter().tail(list(body))


@dataclass
class _Rewriter:
    """Numbers the loops; `levels` are those around the statements being rewritten, None inside a `with`."""

    count: int = 0
    levels: list[int] = field(default_factory=list)

    # ------ at the end of the function, outside loops

    def tail(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        """Statements after which the function ends."""
        done: list[ast.stmt] = []
        for position, s in enumerate(statements):
            found, rest = _ways_of(s), statements[position + 1 :]
            if isinstance(s, ast.Return):
                return [*done, s]
            if not found.returns:
                done += self.inner(s)
                if not found.falls:
                    return done
            elif isinstance(s, ast.If):
                return [*done, *self._tail_if(s, rest)]
            else:
                return [*done, *self._then_tail(self._recorded(s), s, found, rest)]
        end = ast.Return(None)
        return [*done, ast.copy_location(end, done[-1]) if done else end]

    def _tail_if(self, s: ast.If, rest: list[ast.stmt]) -> list[ast.stmt]:
        body_falls, else_falls = ways(s.body).falls, ways(s.orelse).falls
        if body_falls and else_falls and not _is_small(rest):
            found = _ways_of(s)
            guarded = ast.If(s.test, self.flagged(s.body), self.flagged(s.orelse))
            return self._then_tail([_set(RETURNED, False, s), ast.copy_location(guarded, s)], s, found, rest)
        body = self.tail([*s.body, *rest] if body_falls else s.body)
        orelse = self.tail([*s.orelse, *rest] if else_falls else s.orelse)
        return [ast.copy_location(TailIf(s.test, body, orelse), s)]

    def _recorded(self, s: ast.stmt) -> list[ast.stmt]:
        """A loop or `with` that may return, the return being recorded."""
        return [_set(RETURNED, False, s), *self.flagged([s])]

    def _then_tail(self, first: list[ast.stmt], s: ast.stmt, found: Ways, rest: list[ast.stmt]) -> list[ast.stmt]:
        result = ast.copy_location(ast.Return(_name(RESULT, s)), s)
        if not found.falls:
            return [*first, result]
        return [*first, ast.copy_location(TailIf(_name(RETURNED, s), [result], self.tail(rest)), s)]

    # ------ inside loops and withs: exits are recorded

    def inner(self, s: ast.stmt) -> list[ast.stmt]:
        """A statement that does not leave what encloses it, though loops inside may."""
        if isinstance(s, ast.If):
            return [ast.copy_location(ast.If(s.test, self.flagged(s.body), self.flagged(s.orelse)), s)]
        if isinstance(s, (ast.For, ast.While)):
            return self.loop(s)
        if isinstance(s, ast.With):
            return [ast.copy_location(ast.With(s.items, self.flagged(s.body)), s)]
        return [s]

    def flagged(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Statements whose exits set the flags; what an exit skips is guarded."""
        done: list[ast.stmt] = []
        for position, s in enumerate(statements):
            found, rest = _ways_of(s), list(statements[position + 1 :])
            if isinstance(s, (ast.Return, ast.Break, ast.Continue)):
                return [*done, *self._record(s)]
            if not found.leaves:
                done += self.inner(s)
                if not found.falls:
                    return done
                continue
            if isinstance(s, ast.If):
                return [*done, *self._flagged_if(s, rest)]
            if isinstance(s, ast.With):
                done.append(ast.copy_location(ast.With(s.items, self.flagged(s.body)), s))
            elif isinstance(s, (ast.For, ast.While)):
                done += self.loop(s)
            return [*done, *self._guard(s, rest)] if found.falls else done
        return done

    def _flagged_if(self, s: ast.If, rest: list[ast.stmt]) -> list[ast.stmt]:
        body_falls, else_falls = ways(s.body).falls, ways(s.orelse).falls
        if body_falls and else_falls and not _is_small(rest):
            both = ast.If(s.test, self.flagged(s.body), self.flagged(s.orelse))
            return [ast.copy_location(both, s), *self._guard(s, rest)]
        body = self.flagged([*s.body, *rest] if body_falls else s.body)
        orelse = self.flagged([*s.orelse, *rest] if else_falls else s.orelse)
        return [ast.copy_location(ast.If(s.test, body, orelse), s)]

    def _guard(self, s: ast.stmt, rest: list[ast.stmt]) -> list[ast.stmt]:
        """The rest, unless an exit before it was taken."""
        if not rest:
            return []
        flag = f"$skip{self.levels[-1]}" if self.levels else RETURNED
        unless = ast.If(_name(flag, s), [ast.copy_location(ast.Pass(), s)], self.flagged(rest))
        return [ast.copy_location(unless, s)]

    def _record(self, s: ast.Return | ast.Break | ast.Continue) -> list[ast.stmt]:
        done: list[ast.stmt] = []
        if isinstance(s, ast.Return):
            value = s.value if s.value is not None else ast.copy_location(ast.Constant(None), s)
            done += [_assign(RESULT, value, s), _set(RETURNED, True, s)]
            for level in self.levels:
                done += [_set(f"$leave{level}", True, s), _set(f"$skip{level}", True, s)]
            return done
        level = self.levels[-1]
        if isinstance(s, ast.Break):
            done.append(_set(f"$leave{level}", True, s))
        return [*done, _set(f"$skip{level}", True, s)]

    def loop(self, s: ast.For | ast.While) -> list[ast.stmt]:
        """The loop with its own exits recorded, the flags set up before it and its `else` after it."""
        inside = ways(s.body)
        self.count += 1
        level = self.count
        self.levels.append(level)
        body = self.flagged(s.body)
        self.levels.pop()
        leave, skip = f"$leave{level}", f"$skip{level}"
        if inside.leaves:
            body = [_set(skip, False, s), *body]
        rewritten: ast.For | ast.While
        if isinstance(s, ast.For):
            rewritten = ast.For(s.target, s.iter, body, [])
        else:
            rewritten = ast.While(s.test, body, [])
        ast.copy_location(rewritten, s)
        done: list[ast.stmt] = [rewritten]
        if inside.breaks or inside.returns:
            leaving = Leaving()
            leaving.loop, leaving.flag = rewritten, leave
            done = [_set(leave, False, s), ast.copy_location(leaving, s)]
        if s.orelse:
            orelse = self.flagged(s.orelse)
            flag = [_name(leave, s)] if inside.breaks or inside.returns else []
            done += [ast.copy_location(ast.If(flag[0], [], orelse), s)] if flag else orelse
        return done


def _is_small(rest: Sequence[ast.stmt]) -> bool:
    return len(rest) <= SMALL and all(
        isinstance(s, (ast.Return, ast.Assign, ast.Expr, ast.AugAssign, ast.Pass)) for s in rest
    )


def _name(name: str, at: ast.AST) -> ast.Name:
    return ast.copy_location(ast.Name(name, ast.Load()), at)


def _assign(name: str, value: ast.expr, at: ast.AST) -> ast.stmt:
    return ast.copy_location(ast.Assign([ast.copy_location(ast.Name(name, ast.Store()), at)], value), at)


def _set(name: str, value: bool, at: ast.AST) -> ast.stmt:
    return _assign(name, ast.copy_location(ast.Constant(value), at), at)
