"""Expressions: the same nodes as Python's own parser gives, and clean refusals."""

from __future__ import annotations

import ast

import pytest

from stepwell.compiler.frontends.parser import parse_expression, parse_module
from stepwell.compiler.frontends.parser.expressions import MAX_DEPTH
from stepwell.dialects.diagnostics import CompileError, UnsupportedError

EXPRESSIONS = """
a
(a)
((a))
a.b.c
(a).b(c, )
(obj).m(a, b, )
f()
f(a, b=1, )
f(*xs, 1)
f(a, *xs, k=2)
torch.add(x, torch.mul(y, 2), alpha=3)
a[0]
a[-1]
a[1:2]
a[:]
a[::2]
a[1:]
a[:1]
a[::]
a[1:2:3]
a[0:1, ...]
a[0, 1]
a[0, :, None]
a[i,]
a[b[c[0]]]
(t)[0]
1
0
00
1_000
0x1F
0o17
0b101
1.
.5
1e5
1e-05
1e+30
1.5e3
3.+2.j
2j
9223372036854775807
-9223372036854775808
-1
- -1
~x
+x
not a
not not a
not a == b
-a ** b
a ** -b
a ** b ** c
-a * b
a - b - c
a / b // c % d @ e
a + b * c - d
(a + b) * c
a | b ^ c & d << e >> f
a < b
a < b <= c != d
a is None
a is not None
a in b
a not in b
not a in b
a and b
a and b and c
a or b and c or d
(a and b) and c
a if b else c
a if b else c if d else e
(a if b else c) if d else e
a or b if c and d else not e
()
(a,)
(a, b)
(a, b,)
a, b
a,
[]
[a]
[a, b, ]
[*a, b]
(*a, b)
{}
{a: b}
{"k": 1, "l": [2], }
{a, b}
[x for x in y]
[x * 2 for x in range(n) if x > 1 if y]
[(a, b) for a, b in zip(c, d)]
[x for (x, y) in z]
[a for b in c for d in e]
{k: v for k, v in d.items()}
{x for x in y}
(x for x in y)
sum(x for x in y)
any((x for x in y))
[x for x in (a if b else c)]
"text"
'text'
"a" "b" 'c'
""
"it's"
'say "x"'
"\\n\\t\\\\\\'\\""
"\\101\\x41\\u0041"
'''triple ' quote'''
\"\"\"a "b" c\"\"\"
"é and 語"
True
False
None
...
f(a)(b)[c].d
isinstance(x, (int, str))
annotate(List[int], [])
__torch__.a.___torch_mangle_3.f(x, )
[(a)(b) for c in d]
((a)[0]).b
f((yieldx), (a.b)[c])
a[(b, c)]
a[b:c, (d)]
{(a): (b)}
(a) + (b)
(a)(b)
"x".format(a)
"%d" % (a,)
""".strip().splitlines()


def strip_ends(node: ast.AST) -> ast.AST:
    """Without the end positions, which our nodes do not have."""
    for inner in ast.walk(node):
        inner.__dict__.pop("end_lineno", None)
        inner.__dict__.pop("end_col_offset", None)
    return node


@pytest.mark.parametrize("text", [e.replace("\\\\", "\\") for e in EXPRESSIONS])
def test_same_nodes_as_python(text: str) -> None:
    ours = ast.dump(parse_expression(text), include_attributes=True)
    theirs = ast.dump(strip_ends(ast.parse(text, mode="eval").body), include_attributes=True)
    assert ours == theirs


def test_expressions_across_lines_and_comments() -> None:
    text = "f(a,  # first\n  b,\n\n  [1,\n 2])"
    theirs = ast.dump(strip_ends(ast.parse(text, mode="eval").body), include_attributes=True)
    assert ast.dump(parse_expression(text), include_attributes=True) == theirs


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a +", "expected an expression"),
        ("(a", "expected ')'"),
        ("[a b]", "expected ']'"),
        ("f(a b)", "expected ')'"),
        ("f(a=1, b)", "positional argument follows"),
        ("f(a for a in b, c)", "needs parentheses"),
        ("a b", "unexpected 'b'"),
        ("a not b", "expected an operator"),
        ("a + not b", "expected an expression"),
        ("x[]", "expected an expression"),
        ("9223372036854775808", "64 bits"),
        ("1 - 9223372036854775808", "64 bits"),
        ("-(9223372036854775808)", "64 bits"),
        ("0777", "start with 0"),
        ("'abc", "not closed"),
        ("'a\nb'", "not closed"),
        (r"'\q'", "unknown escape"),
        (r"'\400'", "no byte"),
        ("a ? b", "not part of the language"),
        ("é", "byte 0xc3"),
        ("*a", "needs a tuple"),
        ("[f() for f() in x]", "cannot be assigned"),
    ],
)
def test_refusals_name_the_problem(text: str, says: str) -> None:
    with pytest.raises(CompileError, match=r".*") as raised:
        parse_expression(text)
    assert says in raised.value.message
    assert raised.value.location is not None


@pytest.mark.parametrize("text", ["lambda: 0", "f'{x}'", "b'x'", "f(**x)", "{**x}", "await x", "(yield)"])
def test_python_beyond_the_script_language(text: str) -> None:
    with pytest.raises(UnsupportedError, match="not part of the script language"):
        parse_expression(text)


@pytest.mark.parametrize("opening", ["(", "[", "{", "-", "not ", "f(", "a[", "x if x else ", "a.b(", "x ** "])
def test_depth_is_bounded(opening: str) -> None:
    with pytest.raises(CompileError, match=f"more than {MAX_DEPTH} levels"):
        parse_expression(opening * 100_000)


@pytest.mark.parametrize("link", [".x", "()", "[0]", "+x", "-x", "*x"])
def test_chains_count_as_depth(link: str) -> None:
    parse_expression("x" + link * (MAX_DEPTH - 2))
    with pytest.raises(CompileError, match=f"more than {MAX_DEPTH} levels"):
        parse_expression("x" + link * (MAX_DEPTH + 1))


def test_flat_things_may_be_long() -> None:
    for text in ("x" + " and x" * 5000, "[" + "x," * 5000 + "]", "x" + " < x" * 5000, "f(" + "1," * 5000 + ")"):
        parse_expression(text)


def test_strings_are_bytes_at_heart() -> None:
    def value(text: str | bytes) -> object:
        function = parse_module(b"def f():\n  " + (text.encode() if isinstance(text, str) else text)).body[0]
        assert isinstance(function, ast.FunctionDef)
        statement = function.body[0]
        assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        return statement.value.value

    assert value(r'"\303\251"') == "é"
    assert value('"é"') == "é"
    assert value(rb'"\377"') == "\udcff"
    assert value(b'"\xff"') == "\udcff"
    assert str(value(b'"a\xff"')).encode("utf-8", "surrogateescape") == b"a\xff"
