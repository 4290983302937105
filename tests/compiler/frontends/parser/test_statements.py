"""Statements, functions and classes: the same nodes as Python's own parser, lazily and in bounded time."""

from __future__ import annotations

import ast
import time

import pytest

from stepwell.compiler.frontends.parser import SourceText, definitions, parse_module
from stepwell.dialects.diagnostics import CompileError, UnsupportedError

PROGRAM = '''class Net(Module):
  __parameters__ = ["w", ]
  __annotations__["0"] = __torch__.a.___torch_mangle_3.C
  w : Tensor
  k : Final[int] = 3
  o : Optional[Dict[str, List[int]]]
  def forward(self: __torch__.Net,
    x: Tensor,
    n: int=2,
    *, q: float=1.5, r: str="a") -> Tuple[Tensor, int]:
    """A docstring."""
    a, b, = t
    (c, d) = [e, *f] = g
    self.w = x
    x[0:1, ...] = 5.
    y += 1; z -= 2
    v: int = 3
    (u): int = 3
    self.v: int
    x[0] **= 2
    x //= y
    x @= y
    x <<= 1
    for i in range(10):
      if i == 3:
        continue
      elif i > 7:
        break
      else:
        pass
    for i, (j, k) in enumerate(zip(a, b)): pass
    while True:
      x = x + 1
    else:
      pass
    with torch.no_grad():
      pass
    with a as b, c.d() as (e, f):
      pass
    assert x, "message"
    assert (x,
      y)
    if not x: raise ValueError("bad {}".format(x))
    elif y: raise
    raise A from b
    del x, y[0]
    del (x)
    def __forked_function():
      return f(x, )
    fut = fork(__forked_function)
    return x, n

  def empty(self): return
class Empty:
  pass
class P(NamedTuple):
  x : Tensor
  n : int
def free(a, b: int, /, c=1) -> None:
\tif a:
\t\treturn None

\t# a comment
\treturn \\
      b
'''


def strip_ends(node: ast.AST) -> ast.AST:
    for inner in ast.walk(node):
        inner.__dict__.pop("end_lineno", None)
        inner.__dict__.pop("end_col_offset", None)
    return node


def same(text: str) -> None:
    theirs = ast.dump(strip_ends(ast.parse(text)), include_attributes=True)
    assert ast.dump(parse_module(text), include_attributes=True) == theirs


def test_same_nodes_as_python() -> None:
    same(PROGRAM)


def test_line_ends_and_missing_last_one() -> None:
    same(PROGRAM.replace("\n", "\r\n"))
    same("def f():\n  return 1")
    same("\n\n# only a comment\n\ndef f():\n  x = '''a\nb'''\n  return x\n")
    assert parse_module("").body == []


def test_a_class_without_a_body() -> None:
    first, second = parse_module("class Empty(Module):\nclass Other:\n").body
    assert isinstance(first, ast.ClassDef) and isinstance(second, ast.ClassDef)
    assert isinstance(first.body[0], ast.Pass)


def test_what_old_archives_have_at_the_top() -> None:
    body = parse_module("op_version_set = 1\nimport __torch__\nimport __torch__.a.b\ndef f():\n  pass\n").body
    assert len(body) == 1 and isinstance(body[0], ast.FunctionDef)


def test_definitions_are_parsed_on_demand() -> None:
    broken = "class A:\n  x : int\nclass B:\n  ((((\n"
    source = SourceText("code/__torch__.py", broken.replace("((((", "x = = 2"))
    first, second = definitions(source)
    assert (first.name, second.name, second.line) == ("A", "B", 3)
    assert first.node.name == "A"
    with pytest.raises(CompileError) as raised:
        _ = second.node
    assert str(raised.value).splitlines() == [
        "code/__torch__.py:4:7: expected an expression, found '='",
        "     4 |   x = = 2",
        "       |       ^",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n", "top level"),
        ("import os\n", "top level"),
        ("import __torch__; f()\n", "top level"),
        ("import __torch__.\n\n", "top level"),
        ("op_version_set = f()\n", "top level"),
        ("class A:\n  def f(self):\n  x : int\n", "expected an indented block"),
        ("def f():\n    x\n  y\n", "matches no enclosing block"),
        ("def f():\n  x\n    y\n", "unexpected indentation"),
        ("def f(a=1, b):\n  pass\n", "follows one with a default"),
        ("def f(:\n  pass\n", "as a parameter"),
        ("def f()\n  pass\n", "before the body"),
        ("def f():\n  1 = x\n", "cannot be assigned"),
        ("def f():\n  a, b += 1\n", "augmented assignment"),
        ("def f():\n  a, b: int\n", "can have a type"),
        ("def f():\n  x y\n", "end of the statement"),
        ("def f():\n  if x\n    pass\n", "after the condition"),
        ("def f():\n  for x y:\n    pass\n", "in a for statement"),
        ("class\n", "top level"),
        ("'''docstring'''\n", "top level"),
        ("  def f():\n    pass\n", "unexpected indentation"),
        ("def f(): pass\n    x\n", "unexpected indentation"),
        ('def f():\n  x = """a"\n', "not closed"),
    ],
)
def test_refusals_name_the_problem(text: str, says: str) -> None:
    with pytest.raises(CompileError) as raised:
        parse_module(text, "file.py")
    assert says in raised.value.message
    assert raised.value.location is not None and raised.value.location.file == "file.py"


@pytest.mark.parametrize(
    "line",
    ["import os", "from os import path", "global x", "try:", "class X: pass", "@decorated", "async def g(): pass"],
)
def test_python_beyond_the_script_language(line: str) -> None:
    with pytest.raises(UnsupportedError, match="not part of the script language"):
        parse_module(f"def f():\n  {line}\n")


@pytest.mark.parametrize("parameter", ["*args", "**kwargs"])
def test_open_parameters(parameter: str) -> None:
    with pytest.raises(UnsupportedError, match="any"):
        parse_module(f"def f({parameter}):\n  pass\n")


def test_blocks_nest_to_a_bound() -> None:
    def nest(depth: int) -> str:
        return "def f():\n" + "".join("  " * i + "if x:\n" for i in range(1, depth)) + "  " * depth + "pass\n"

    same(nest(90))
    with pytest.raises(CompileError, match="more than 100 nested blocks"):
        parse_module(nest(150))
    chain = "def f():\n  if x:\n    pass\n" + "  elif y:\n    pass\n" * 80
    same(chain)
    with pytest.raises(CompileError, match="more than 100 nested blocks"):
        parse_module(chain + "  elif y:\n    pass\n" * 80)


def test_location_of_non_ascii_lines() -> None:
    with pytest.raises(CompileError) as raised:
        parse_module('def f():\n  x = "éé" $\n')
    assert raised.value.location is not None
    assert (raised.value.location.column, raised.value.location.text()) == (11, '  x = "éé" $')


def test_long_and_unprintable_lines_are_cut() -> None:
    source = SourceText("f", b"x" * 5000 + b"\n\0\x1b[31m")
    place = source.location(1, 3000)
    assert len(place.text() or "") < 500 and (place.text() or "")[place.column] == "x"
    assert source.line(2) == "\u00b7\u00b7[31m"


def test_speed() -> None:
    body = "    _1 = torch.add(torch.mul(x, 2), (self).method(y, [1, 2, 3], ), alpha=1)\n" * 1000
    text = "class A(Module):\n  def forward(self, x: Tensor) -> Tensor:\n" + body
    begin = time.process_time()
    parse_module(text)
    assert time.process_time() - begin < 1.0  # 80 kB take some 50 ms
