"""Programs that somebody got wrong by accident: nodes of valid programs are replaced, removed and exchanged at random.

Whatever comes out is either compiled, or refused by an error of ours at a place in the program; never an internal one.
"""

from __future__ import annotations

import ast
import copy
import importlib.util
import inspect
import itertools
import linecache
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import stepwell

PROGRAMS = Path(__file__).with_name("test_as_python.py")
HEAD = "import math\nfrom typing import *\nimport numpy as np\nimport stepwell\nfrom stepwell import Tensor\n\n\n"
EACH = 6
"""Mutants of each program."""

_numbers = itertools.count()


def programs() -> list[ast.FunctionDef]:
    """The functions of the table of programs, without their decorators."""
    tree = ast.parse(PROGRAMS.read_text())
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.decorator_list]
    for node in found:
        node.decorator_list = []
    return [n for n in found if not n.name.startswith("test_")]


class Mutation(ast.NodeTransformer):
    """Changes one expression or statement, the one that is counted down to."""

    def __init__(self, random_: random.Random, tree: ast.FunctionDef) -> None:
        self.random = random_
        own = [n for s in tree.body for n in ast.walk(s)]
        self.expressions = [n for n in own if isinstance(n, ast.expr) and isinstance(getattr(n, "ctx", None), (ast.Load, type(None)))]
        self.target = random_.choice(own)

    def visit(self, node: ast.AST) -> Any:
        if node is not self.target:
            return self.generic_visit(node)
        if isinstance(node, ast.stmt):
            return self.random.choice([None, [node, copy.deepcopy(node)], ast.Pass(), ast.Break(), ast.Return(None)])
        if isinstance(node, ast.expr) and node in self.expressions:
            return self.expression(node)
        if isinstance(node, ast.operator):
            return self.random.choice([ast.Add(), ast.Pow(), ast.MatMult(), ast.FloorDiv(), ast.LShift(), ast.Mod()])
        if isinstance(node, ast.cmpop):
            return self.random.choice([ast.Is(), ast.In(), ast.NotIn(), ast.Lt(), ast.Eq()])
        return node

    def expression(self, node: ast.expr) -> ast.expr:
        other = copy.deepcopy(self.random.choice(self.expressions))
        constant = ast.Constant(self.random.choice([0, -1, 2.5, "a", None, True, b"b", ..., 1 << 80]))
        made = [
            other, constant, ast.Call(node, [other], []), ast.Subscript(node, other, ast.Load()),
            ast.Attribute(node, "nope", ast.Load()), ast.Tuple([node, other], ast.Load()), ast.List([other, node], ast.Load()),
            ast.UnaryOp(ast.Invert(), node), ast.IfExp(node, other, constant), ast.Name("nowhere", ast.Load()),
            ast.Dict([node], [other]), ast.Starred(node, ast.Load()), ast.BoolOp(ast.Or(), [node, other]),
            ast.NamedExpr(ast.Name("q", ast.Store()), node), ast.Slice(node, other),
        ]  # fmt: skip
        return self.random.choice(made)


def mutants() -> list[tuple[str, str]]:
    """Names and texts of the programs that Python itself can read."""
    found = []
    for program in programs():
        for seed in range(EACH):
            tree = copy.deepcopy(program)
            try:
                changed = Mutation(random.Random(f"{program.name} {seed}"), tree).visit(tree)
                text = ast.unparse(ast.fix_missing_locations(changed))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", SyntaxWarning)
                    compile(text, "mutant", "exec")
            except (SyntaxError, ValueError, TypeError, AttributeError):
                continue
            found.append((f"{program.name}-{seed}", text))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutants")


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the table of programs defines around them."""
    spec = importlib.util.spec_from_file_location("table_of_programs", PROGRAMS)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


@pytest.mark.parametrize(("name", "text"), mutants(), ids=lambda v: v if "\n" not in v else "")
def test_a_mutant_is_compiled_or_refused(name: str, text: str, folder: Path, names: dict[str, Any]) -> None:
    path = folder / f"mutant{next(_numbers)}.py"
    path.write_text(HEAD + text + "\n")
    linecache.checkcache(str(path))
    scope: dict[str, Any] = {**names, "__name__": "mutant", "__file__": str(path)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        exec(compile(path.read_text(), str(path), "exec"), scope)
    function = scope[name.rpartition("-")[0]]
    assert inspect.getsourcefile(function) == str(path)
    try:
        stepwell.script(function).graph  # noqa: B018
    except stepwell.CompileError as error:
        assert error.location is not None and error.message
