"""Tokens to expression nodes: operator precedence climbing over Python's table.

Every expression is at most MAX_DEPTH nodes deep, counted where brackets nest and where chains such as `a + b + c`
lean to the left, so whoever walks the result may recurse.
"""

from __future__ import annotations

import ast
from types import EllipsisType
from typing import NoReturn

from stepwell.compiler.frontends.parser import literals
from stepwell.compiler.frontends.parser.source import SourceText
from stepwell.compiler.frontends.parser.tokens import (
    END,
    NAME,
    NEWLINE,
    NUMBER,
    STRING,
    Token,
    refuse,
    tokenize,
)
from stepwell.dialects.diagnostics import UnsupportedError

MAX_DEPTH = 100

TERNARY, OR, AND, NOT, COMPARE = 1, 2, 3, 4, 5
UNARY, POWER = 12, 13

_LOAD, _STORE = ast.Load(), ast.Store()

_BINARY: dict[str, tuple[int, ast.operator]] = {
    "|": (6, ast.BitOr()),
    "^": (7, ast.BitXor()),
    "&": (8, ast.BitAnd()),
    "<<": (9, ast.LShift()),
    ">>": (9, ast.RShift()),
    "+": (10, ast.Add()),
    "-": (10, ast.Sub()),
    "*": (11, ast.Mult()),
    "/": (11, ast.Div()),
    "//": (11, ast.FloorDiv()),
    "%": (11, ast.Mod()),
    "@": (11, ast.MatMult()),
    "**": (POWER, ast.Pow()),
}
OPERATORS = {name: node for name, (_, node) in _BINARY.items()}
_UNARY: dict[str, ast.unaryop] = {"-": ast.USub(), "+": ast.UAdd(), "~": ast.Invert()}
_COMPARE: dict[str, ast.cmpop] = {
    "<": ast.Lt(), "<=": ast.LtE(), ">": ast.Gt(), ">=": ast.GtE(), "==": ast.Eq(), "!=": ast.NotEq(),
    "in": ast.In(), "is": ast.Is(),
}  # fmt: skip
_NOT_IN, _IS_NOT = ast.NotIn(), ast.IsNot()
_NAMED_CONSTANTS: dict[str, bool | EllipsisType | None] = {"None": None, "True": True, "False": False, "...": Ellipsis}
_FOREIGN = {
    "lambda": "a lambda", "await": "await", "yield": "yield", "async": "async",
    ":=": "an assignment expression", "**": "unpacking of a dict",
}  # fmt: skip


class ExpressionParser:
    """A cursor over tokens that reads expressions.

    `kind` is the kind of the current token; `height` the depth of the node returned last.
    """

    def __init__(self, source: SourceText, tokens: list[Token], start: int = 0) -> None:
        self.source = source
        self.tokens = tokens
        self.index = start
        self.kind, self.text, self.line, self.column = tokens[start]
        self.depth = 0
        self.height = 0
        self._atom_start = start
        self._negated = -1  # the token after a minus sign, where the number 2**63 may stand

    # ***** the cursor *****

    def advance(self) -> None:
        """Go to the next token."""
        self.index += 1
        self.kind, self.text, self.line, self.column = self.tokens[self.index]

    def accept(self, kind: str) -> bool:
        """Go past a token of this kind if it is the current one."""
        if self.kind == kind:
            self.advance()
            return True
        return False

    def expect(self, kind: str, where: str) -> None:
        """Go past a token of this kind, or refuse the text."""
        if self.kind != kind:
            self.fail(f"expected {kind!r} {where}, found {self.found()}")
        self.advance()

    def expect_name(self, where: str) -> str:
        """Go past a name and return it, or refuse the text."""
        name = self.text
        self.expect(NAME, where)
        return name

    def found(self) -> str:
        """The current token, for a message."""
        return {END: "the end of the text", NEWLINE: "the end of the line"}.get(self.kind, repr(self.text or self.kind))

    def fail(self, message: str) -> NoReturn:
        """Refuse the text at the current token."""
        refuse(self.source, self.line, self.column, message)

    def unsupported(self, what: str, instead: str | None = None) -> NoReturn:
        """Refuse a construct that is Python but not the script language."""
        raise UnsupportedError(
            f"{what} is not part of the script language",
            self.source.location(self.line, self.column),
            help=instead,
        )

    def grown(self, height: int) -> None:
        """Record the depth of a new node over its deepest child."""
        if height >= MAX_DEPTH:
            self.fail(f"the expression is more than {MAX_DEPTH} levels deep")
        self.height = height + 1

    # ***** expressions *****

    def expression_list(self, *, starred: bool = True) -> ast.expr:
        """`a`, or `a, b` as a tuple without parentheses (right sides, targets, returns, subscripts)."""
        line, column = self.line, self.column
        first = self.element() if starred else self.expression()
        if self.kind != ",":
            if isinstance(first, ast.Starred):
                self.fail("a starred expression needs a tuple around it")
            return first
        return self._rest_of_tuple(first, line, column, starred)

    def _rest_of_tuple(self, first: ast.expr, line: int, column: int, starred: bool = True) -> ast.Tuple:
        elements, height = [first], self.height
        while self.accept(","):
            if self.kind not in _STARTS:
                break
            elements.append(self.element() if starred else self.expression())
            height = max(height, self.height)
        self.grown(height)
        return ast.Tuple(elements, _LOAD, lineno=line, col_offset=column)

    def element(self) -> ast.expr:
        """An expression, or `*expression` where a sequence may be unpacked."""
        if self.kind != "*":
            return self.expression()
        line, column = self.line, self.column
        self.advance()
        value = self.expression(_BINARY["|"][0])
        self.grown(self.height)
        return ast.Starred(value, _LOAD, lineno=line, col_offset=column)

    def expression(self, floor: int = TERNARY) -> ast.expr:
        """One expression of operators that bind at least as tightly as `floor`."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"the expression is more than {MAX_DEPTH} levels deep")
        line, column = self.line, self.column
        left = self._prefix(floor)
        while True:
            kind = self.kind
            binary = _BINARY.get(kind)
            if binary is not None:
                power, operator = binary
                if power < floor:
                    break
                height = self.height
                self.advance()
                right = self.expression(UNARY if power == POWER else power + 1)
                left = ast.BinOp(left, operator, right)
                self.grown(height if height > self.height else self.height)
            elif kind in _COMPARE or kind == "not":
                if floor > COMPARE:
                    break
                left = self._comparison(left)
            elif kind == "and" or kind == "or":
                if (AND if kind == "and" else OR) < floor:
                    break
                left = self._boolean(left, kind)
            elif kind == "if" and floor <= TERNARY:
                left = self._ternary(left)
            else:
                break
            left.lineno, left.col_offset = line, column
        self.depth -= 1
        return left

    def _prefix(self, floor: int) -> ast.expr:
        kind, line, column = self.kind, self.line, self.column
        if kind in _UNARY:
            self.advance()
            if kind == "-":
                self._negated = self.index
            node: ast.expr = ast.UnaryOp(_UNARY[kind], self.expression(UNARY))
            self.grown(self.height)
        elif kind == "not" and floor <= NOT:
            self.advance()
            node = ast.UnaryOp(ast.Not(), self.expression(NOT))
            self.grown(self.height)
        else:
            return self._postfix(self._atom())
        node.lineno, node.col_offset = line, column
        return node

    def _comparison(self, left: ast.expr) -> ast.expr:
        operators: list[ast.cmpop] = []
        comparators: list[ast.expr] = []
        height = self.height
        while True:
            operator = _COMPARE.get(self.kind)
            if self.kind == "not" and self.tokens[self.index + 1][0] == "in":
                self.advance()
                operator = _NOT_IN
            if operator is None:
                if not operators:
                    self.fail(f"expected an operator, found {self.found()}")
                break
            was_is = self.kind == "is"
            self.advance()
            if was_is and self.accept("not"):
                operator = _IS_NOT
            operators.append(operator)
            comparators.append(self.expression(COMPARE + 1))
            height = max(height, self.height)
        self.grown(height)
        return ast.Compare(left, operators, comparators)

    def _boolean(self, left: ast.expr, kind: str) -> ast.expr:
        values, height = [left], self.height
        while self.accept(kind):
            values.append(self.expression((AND if kind == "and" else OR) + 1))
            height = max(height, self.height)
        self.grown(height)
        return ast.BoolOp(ast.And() if kind == "and" else ast.Or(), values)

    def _ternary(self, body: ast.expr) -> ast.expr:
        height = self.height
        self.advance()
        test = self.expression(OR)
        height = max(height, self.height)
        self.expect("else", "in a conditional expression")
        orelse = self.expression(TERNARY)
        self.grown(max(height, self.height))
        return ast.IfExp(test, body, orelse)

    def _postfix(self, node: ast.expr) -> ast.expr:
        line, column = self.tokens[self._atom_start][2:]
        while True:
            kind = self.kind
            height = self.height
            if kind == ".":
                self.advance()
                node = ast.Attribute(node, self.expect_name("after '.'"), _LOAD, lineno=line, col_offset=column)
            elif kind == "(":
                self.advance()
                node = self._call(node)
                node.lineno, node.col_offset = line, column
                height = max(height, self.height)
            elif kind == "[":
                self.advance()
                index = self._subscript()
                height = max(height, self.height)
                self.expect("]", "after a subscript")
                node = ast.Subscript(node, index, _LOAD, lineno=line, col_offset=column)
            else:
                return node
            self.grown(height)

    def _call(self, function: ast.expr) -> ast.expr:
        arguments: list[ast.expr] = []
        keywords: list[ast.keyword] = []
        height, opening = 0, self.tokens[self.index - 1]
        while self.kind != ")":
            line, column = self.line, self.column
            if self.kind == NAME and self.tokens[self.index + 1][0] == "=":
                name = self.text
                self.advance()
                self.advance()
                keywords.append(ast.keyword(name, self.expression(), lineno=line, col_offset=column))
            elif keywords and self.kind != "*":
                self.fail("a positional argument follows a keyword argument")
            else:
                value = self.element()
                if self.kind == "for":
                    value = self._comprehension(value, opening[2], opening[3])
                    if arguments or keywords or self.kind != ")":
                        self.fail("a generator among other arguments needs parentheses")
                arguments.append(value)
            height = max(height, self.height)
            if not self.accept(","):
                break
        self.expect(")", "after the arguments of a call")
        self.height = height
        return ast.Call(function, arguments, keywords)

    def _subscript(self) -> ast.expr:
        line, column = self.line, self.column
        first = self._slice()
        if self.kind != ",":
            return first
        elements, height = [first], self.height
        while self.accept(","):
            if self.kind == "]":
                break
            elements.append(self._slice())
            height = max(height, self.height)
        self.grown(height)
        return ast.Tuple(elements, _LOAD, lineno=line, col_offset=column)

    def _slice(self) -> ast.expr:
        """One item between the commas of a subscript: an expression or `start:stop:step`."""
        line, column = self.line, self.column
        first: ast.expr | None = None
        height = 0
        if self.kind != ":":
            first, height = self.expression(), self.height
            if self.kind != ":":
                return first
        ends: list[ast.expr | None] = [None, None]
        for place in range(2):
            if self.accept(":") and self.kind not in (":", ",", "]"):
                ends[place] = self.expression()
                height = max(height, self.height)
        self.grown(height)
        return ast.Slice(first, ends[0], ends[1], lineno=line, col_offset=column)

    # ***** atoms *****

    def _atom(self) -> ast.expr:
        kind, text, line, column = self.kind, self.text, self.line, self.column
        self._atom_start = self.index
        node: ast.expr
        if kind == NAME:
            self.advance()
            if self.kind == STRING and self.column == column + len(text) and self.line == line:
                self.unsupported(f"a string with the prefix {text!r}", "use a plain string, and .format()")
            self.height = 1
            return ast.Name(text, _LOAD, lineno=line, col_offset=column)
        if kind == NUMBER:
            self.advance()
            node = ast.Constant(self._number(text, line, column))
        elif kind == STRING:
            node = ast.Constant(self._strings())
        elif kind in _NAMED_CONSTANTS:
            self.advance()
            node = ast.Constant(_NAMED_CONSTANTS[kind])
        elif kind == "(":
            return self._parenthesis(line, column)
        elif kind == "[":
            return self._list(line, column)
        elif kind == "{":
            return self._braces(line, column)
        elif kind in _FOREIGN:
            self.unsupported(_FOREIGN[kind])
        else:
            self.fail(f"expected an expression, found {self.found()}")
        self.height = 1
        node.lineno, node.col_offset = line, column
        return node

    def _number(self, text: str, line: int, column: int) -> int | float | complex:
        try:
            value = literals.number(text)
        except ValueError as problem:
            refuse(self.source, line, column, str(problem))
        if value == literals.MAX_INT and type(value) is int and self._negated != self._atom_start:
            refuse(self.source, line, column, "the integer does not fit 64 bits")
        return value

    def _strings(self) -> str:
        """One string token, or several side by side, which are one string."""
        pieces: list[str] = []
        while self.kind == STRING:
            try:
                pieces.append(literals.string(self.text))
            except ValueError as problem:
                self.fail(str(problem))
            self.advance()
        return "".join(pieces)

    def _parenthesis(self, line: int, column: int) -> ast.expr:
        start = self._atom_start
        self.advance()
        node: ast.expr
        if self.accept(")"):
            node = ast.Tuple([], _LOAD, lineno=line, col_offset=column)
            self.height = 1
        else:
            node = self.element()
            if self.kind == "for":
                node = self._comprehension(node, line, column)
            elif self.kind == ",":
                node = self._rest_of_tuple(node, line, column)
            elif isinstance(node, ast.Starred):
                self.fail("a starred expression needs a tuple around it")
            self.expect(")", "to close the parenthesis")
        self._atom_start = start
        return node

    def _list(self, line: int, column: int) -> ast.expr:
        start = self._atom_start
        self.advance()
        elements: list[ast.expr] = []
        clauses: list[ast.comprehension] = []
        height = 0
        while self.kind != "]":
            elements.append(self.element())
            height = max(height, self.height)
            if self.kind == "for" and len(elements) == 1:
                clauses = self._clauses()
                height = max(height, self.height)
                break
            if not self.accept(","):
                break
        self.expect("]", "to close the list")
        node: ast.expr = ast.ListComp(elements[0], clauses) if clauses else ast.List(elements, _LOAD)
        self.grown(height)
        node.lineno, node.col_offset = line, column
        self._atom_start = start
        return node

    def _braces(self, line: int, column: int) -> ast.expr:
        """A dict, a set, or a comprehension of either."""
        start = self._atom_start
        self.advance()
        keys: list[ast.expr | None] = []
        values: list[ast.expr] = []
        clauses: list[ast.comprehension] | None = None
        is_dict, height = True, 0
        while self.kind != "}":
            if self.kind == "**":
                self.unsupported(_FOREIGN["**"])
            item = self.element()
            height = max(height, self.height)
            if not values:
                is_dict = self.kind == ":"
            if is_dict:
                self.expect(":", "between a key and its value")
                keys.append(item)
                item = self.expression()
                height = max(height, self.height)
            values.append(item)
            if self.kind == "for" and len(values) == 1:
                clauses = self._clauses()
                height = max(height, self.height)
                break
            if not self.accept(","):
                break
        self.expect("}", "to close the braces")
        node = _braced(keys, values, is_dict, clauses)
        self.grown(height)
        node.lineno, node.col_offset = line, column
        self._atom_start = start
        return node

    def _comprehension(self, element: ast.expr, line: int, column: int) -> ast.expr:
        height = self.height
        clauses = self._clauses()
        self.grown(max(height, self.height))
        return ast.GeneratorExp(element, clauses, lineno=line, col_offset=column)

    def _clauses(self) -> list[ast.comprehension]:
        clauses: list[ast.comprehension] = []
        height = 0
        while self.accept("for"):
            target = self.target_list()
            height = max(height, self.height)
            self.expect("in", "in a comprehension")
            iterable = self.expression(OR)
            height = max(height, self.height)
            conditions: list[ast.expr] = []
            while self.accept("if"):
                conditions.append(self.expression(OR))
                height = max(height, self.height)
            clauses.append(ast.comprehension(target, iterable, conditions, 0))
        self.height = height
        return clauses

    # ***** targets *****

    def target_list(self) -> ast.expr:
        """The targets of `for`: names and places, without the operators that `in` would be."""
        line, column = self.line, self.column
        floor = _BINARY["|"][0]
        first = self.element() if self.kind == "*" else self.expression(floor)
        if self.kind == ",":
            elements, height = [first], self.height
            while self.accept(","):
                if self.kind not in _STARTS:
                    break
                elements.append(self.element() if self.kind == "*" else self.expression(floor))
                height = max(height, self.height)
            self.grown(height)
            first = ast.Tuple(elements, _LOAD, lineno=line, col_offset=column)
        return self.as_target(first)

    def as_target(self, node: ast.expr, context: ast.expr_context = _STORE) -> ast.expr:
        """Turn an expression into a place to store to (or delete), in place; refuse what is none."""
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
            node.ctx = context
        elif isinstance(node, ast.Tuple | ast.List):
            node.ctx = context
            for element in node.elts:
                self.as_target(element, context)
        elif isinstance(node, ast.Starred):
            node.ctx = context
            self.as_target(node.value, context)
        else:
            refuse(self.source, node.lineno, node.col_offset, "this cannot be assigned to")
        return node


_STARTS = frozenset(_UNARY) | frozenset(_NAMED_CONSTANTS) | {NAME, NUMBER, STRING, "(", "[", "{", "*", "not", "lambda"}
"""The kinds of tokens with which an element of a sequence can start."""


def _braced(
    keys: list[ast.expr | None], values: list[ast.expr], is_dict: bool, clauses: list[ast.comprehension] | None
) -> ast.expr:
    if clauses is None:
        return ast.Dict(keys, values) if is_dict else ast.Set(values)
    if is_dict and keys[0] is not None:
        return ast.DictComp(keys[0], values[0], clauses)
    return ast.SetComp(values[0], clauses)


def parse_expression(source: SourceText | str) -> ast.expr:
    """The expression that a text is; CompileError with the place where it is none."""
    if isinstance(source, str):
        source = SourceText("<expression>", source)
    parser = ExpressionParser(source, tokenize(source))
    node = parser.expression_list()
    parser.accept(NEWLINE)
    if parser.kind != END:
        parser.fail(f"unexpected {parser.found()} after an expression")
    return node
