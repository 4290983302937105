"""Habits as tests: sizes, imports, docstrings, generated pages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("dialects", "lowering", "compiler", "runtime")
SOURCES = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))

LONGEST = 800
"""Lines of one file; past 500 needs a reason."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_one_thought(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LONGEST
    assert text.lstrip().startswith(('"""', 'r"""')), "a module says what its place is"
    assert not re.search(r"^\s*from \.", text, re.MULTILINE), "imports are absolute"


def test_importing_stepwell_imports_nothing_heavy() -> None:
    code = "import sys, stepwell; print([m for m in ('numpy', 'xdsl', 'llvmlite', 'torch') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert out.stdout.strip() == "[]"


def test_the_runtime_stands_alone() -> None:
    code = "import sys, pkgutil, importlib, stepwell.runtime as r\n" \
           "for m in pkgutil.walk_packages(r.__path__, 'stepwell.runtime.'): importlib.import_module(m.name)\n" \
           "ours = {n.split('.')[1] for n in sys.modules if n.startswith('stepwell.')}\n" \
           "print(ours, [m for m in ('xdsl', 'llvmlite', 'torch') if m in sys.modules])"  # fmt: skip
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert out.stdout.strip() == "{'runtime'} []"


def test_the_table_of_ops_is_fresh() -> None:
    from stepwell.compiler.explain import ops_table

    assert (ROOT / "docs" / "ops.md").read_text() == ops_table(), "run: stepwell ops > docs/ops.md"


def test_the_project_names_no_machine() -> None:
    own = Path(__file__).resolve()
    pattern = re.compile("/" + "work/|/" + "root/")
    pages = [*SOURCES, *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "tests").rglob("*.py")]
    assert not [str(p) for p in pages if p.resolve() != own and pattern.search(p.read_text())]
