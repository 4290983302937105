"""Tokens to statements: everything that can stand in the body of a function.

Blocks nest at most MAX_INDENTS deep (tokens.py); the branches of an `elif` chain count as nested, which is what
they are in the resulting nodes.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from stepwell.compiler.frontends.parser.expressions import OPERATORS, ExpressionParser
from stepwell.compiler.frontends.parser.tokens import (
    DEDENT,
    END,
    INDENT,
    MAX_INDENTS,
    NAME,
    NEWLINE,
)

_DELETE, _STORE = ast.Del(), ast.Store()
TYPE_PARAMETERS: dict[str, Any] = {"type_params": []} if "type_params" in ast.FunctionDef._fields else {}
_FOREIGN = {
    "import": "`import`", "from": "`import`", "global": "`global`", "nonlocal": "`nonlocal`",
    "try": "`try`", "except": "`except`", "finally": "`finally`", "async": "`async`", "@": "a decorator",
    "class": "a class inside a function or class",
}  # fmt: skip


class StatementParser(ExpressionParser):
    """Adds statements, blocks and function definitions to the expressions."""

    nesting = 0

    def block(self) -> list[ast.stmt]:
        """What follows a colon: simple statements on the same line, or an indented block."""
        self.nesting += 1
        if self.nesting > MAX_INDENTS:
            self.fail(f"more than {MAX_INDENTS} nested blocks")
        body: list[ast.stmt] = []
        if self.accept(NEWLINE):
            if self.kind != INDENT:
                self.fail(f"expected an indented block, found {self.found()}")
            self.advance()
            while self.kind != DEDENT and self.kind != END:
                self.statement(body)
            self.accept(DEDENT)
        else:
            self._simple_line(body)
        self.nesting -= 1
        return body

    def statement(self, into: list[ast.stmt]) -> None:
        """Read one statement, or one line of simple ones, and append it."""
        compound = _COMPOUND.get(self.kind)
        if compound is None:
            self._simple_line(into)
            return
        line, column = self.line, self.column
        node = compound(self)
        node.lineno, node.col_offset = line, column
        into.append(node)

    def _simple_line(self, into: list[ast.stmt]) -> None:
        while True:
            line, column = self.line, self.column
            simple = _SIMPLE.get(self.kind)
            node = simple(self) if simple else self._expression_statement()
            node.lineno, node.col_offset = line, column
            into.append(node)
            if not self.accept(";") or self.kind == NEWLINE:
                break
        if self.kind != NEWLINE:
            self.fail(f"expected the end of the statement, found {self.found()}")
        self.advance()

    # ***** simple statements *****

    def _expression_statement(self) -> ast.stmt:
        """An expression on its own, or an assignment of any form."""
        if self.kind in _FOREIGN:
            self.unsupported(_FOREIGN[self.kind])
        if self.kind in (INDENT, DEDENT):
            self.fail("unexpected indentation")
        parenthesised = self.kind == "("
        value = self.expression_list()
        if self.kind == "=":
            return self._assignment(value)
        if self.kind == ":":
            return self._annotated(value, parenthesised)
        operator = OPERATORS.get(self.kind[:-1]) if self.kind[-1] == "=" else None
        if operator is not None:
            if not isinstance(value, ast.Name | ast.Attribute | ast.Subscript):
                self.fail("the left side of an augmented assignment is one name, attribute or subscript")
            value.ctx = _STORE
            self.advance()
            return ast.AugAssign(value, operator, self.expression_list())
        return ast.Expr(value)

    def _assignment(self, value: ast.expr) -> ast.Assign:
        targets: list[ast.expr] = []
        while self.accept("="):
            targets.append(self.as_target(value))
            value = self.expression_list()
        return ast.Assign(targets, value)

    def _annotated(self, target: ast.expr, parenthesised: bool) -> ast.AnnAssign:
        if not isinstance(target, ast.Name | ast.Attribute | ast.Subscript):
            self.fail("only one name, attribute or subscript can have a type")
        target.ctx = _STORE
        self.advance()
        annotation = self.expression()
        value = self.expression_list() if self.accept("=") else None
        simple = int(isinstance(target, ast.Name) and not parenthesised)
        return ast.AnnAssign(target, annotation, value, simple)

    def _return(self) -> ast.Return:
        self.advance()
        return ast.Return(None if self.kind in (NEWLINE, ";") else self.expression_list())

    def _raise(self) -> ast.Raise:
        self.advance()
        if self.kind in (NEWLINE, ";"):
            return ast.Raise(None, None)
        error = self.expression()
        return ast.Raise(error, self.expression() if self.accept("from") else None)

    def _assert(self) -> ast.Assert:
        self.advance()
        test = self.expression()
        return ast.Assert(test, self.expression() if self.accept(",") else None)

    def _delete(self) -> ast.Delete:
        self.advance()
        target = self.as_target(self.expression_list(starred=False), _DELETE)
        if isinstance(target, ast.Tuple) and target.col_offset == target.elts[0].col_offset:
            return ast.Delete(target.elts)
        return ast.Delete([target])

    def _pass(self) -> ast.Pass:
        self.advance()
        return ast.Pass()

    def _break(self) -> ast.Break:
        self.advance()
        return ast.Break()

    def _continue(self) -> ast.Continue:
        self.advance()
        return ast.Continue()

    # ***** compound statements *****

    def _if(self) -> ast.If:
        branches: list[ast.If] = []
        outer = self.nesting
        while True:
            line, column = self.line, self.column
            self.advance()
            test = self.expression()
            self.expect(":", "after the condition")
            branches.append(ast.If(test, self.block(), [], lineno=line, col_offset=column))
            if self.kind != "elif":
                break
            self.nesting += 1
        orelse = self._else()
        self.nesting = outer
        for branch in reversed(branches):
            branch.orelse = orelse
            orelse = [branch]
        return branches[0]

    def _else(self) -> list[ast.stmt]:
        if not self.accept("else"):
            return []
        self.expect(":", "after 'else'")
        return self.block()

    def _while(self) -> ast.While:
        self.advance()
        test = self.expression()
        self.expect(":", "after the condition")
        return ast.While(test, self.block(), self._else())

    def _for(self) -> ast.For:
        self.advance()
        target = self.target_list()
        self.expect("in", "in a for statement")
        iterable = self.expression_list()
        self.expect(":", "after the iterable")
        return ast.For(target, iterable, self.block(), self._else(), None)

    def _with(self) -> ast.With:
        self.advance()
        items: list[ast.withitem] = []
        while True:
            manager = self.expression()
            target = self.as_target(self.expression()) if self.accept("as") else None
            items.append(ast.withitem(manager, target))
            if not self.accept(","):
                break
        self.expect(":", "after the context managers")
        return ast.With(items, self.block(), None)

    # ***** functions *****

    def function(self) -> ast.FunctionDef:
        """`def name(parameters) -> type:` and its body; the cursor is at `def`."""
        line, column = self.line, self.column
        self.advance()
        name = self.expect_name("after 'def'")
        self.expect("(", "after the name of a function")
        parameters = self._parameters()
        self.expect(")", "after the parameters")
        returns = self.expression() if self.accept("->") else None
        self.expect(":", "before the body of a function")
        body = self.block()
        return ast.FunctionDef(
            name, parameters, body, [], returns, None, **TYPE_PARAMETERS, lineno=line, col_offset=column
        )

    def _parameters(self) -> ast.arguments:
        result = ast.arguments([], [], None, [], [], None, [])
        keyword_only = False
        while self.kind != ")":
            if self.kind == "/" and result.args and not result.posonlyargs and not keyword_only:
                self.advance()
                result.posonlyargs, result.args = result.args, []
            elif self.kind == "*" and not keyword_only:
                self.advance()
                keyword_only = True
                if self.kind == NAME:
                    self.unsupported("a parameter that takes any number of arguments")
            elif self.kind == "**":
                self.unsupported("a parameter that takes any keyword arguments")
            else:
                self._parameter(result, keyword_only)
            if not self.accept(","):
                break
        return result

    def _parameter(self, into: ast.arguments, keyword_only: bool) -> None:
        line, column = self.line, self.column
        name = self.expect_name("as a parameter")
        annotation = self.expression() if self.accept(":") else None
        node = ast.arg(name, annotation, lineno=line, col_offset=column)
        default = self.expression() if self.accept("=") else None
        if keyword_only:
            into.kwonlyargs.append(node)
            into.kw_defaults.append(default)
            return
        into.args.append(node)
        if default is not None:
            into.defaults.append(default)
        elif into.defaults:
            self.fail("a parameter without a default follows one with a default")


_COMPOUND: dict[str, Callable[[StatementParser], ast.stmt]] = {
    "if": StatementParser._if,
    "while": StatementParser._while,
    "for": StatementParser._for,
    "with": StatementParser._with,
    "def": StatementParser.function,
}
_SIMPLE: dict[str, Callable[[StatementParser], ast.stmt]] = {
    "return": StatementParser._return,
    "raise": StatementParser._raise,
    "assert": StatementParser._assert,
    "del": StatementParser._delete,
    "pass": StatementParser._pass,
    "break": StatementParser._break,
    "continue": StatementParser._continue,
}
