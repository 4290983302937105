"""The pages of docs/ that show code: it is run, and output is compared with what they show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)


def test_the_levels_page_is_what_the_compiler_prints() -> None:
    command = [sys.executable, str(ROOT / "docs" / "make_levels.py"), "--print"]
    printed = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}
    ).stdout
    assert (ROOT / "docs" / "levels.md").read_text() == printed, "run: python docs/make_levels.py"


USE = """
import numpy as np
import stepwell
from stepwell.dialects.torch import OPS

@stepwell.script
def softmax(x: stepwell.Tensor, dim: int) -> stepwell.Tensor:
    return stepwell.ops.docs.softmax(x, dim)

@stepwell.script
def distance(x: stepwell.Tensor, y: stepwell.Tensor) -> stepwell.Tensor:
    z = x + 0
    stepwell.ops.docs.squared_distance_(z, y)
    return z + stepwell.ops.docs.squared_distance(x, y)

count = 0
for function, name, times in ((softmax, "docs::softmax", 1), (distance, "docs::squared_distance", 2)):
    declaration = OPS.find(name)
    for sample in declaration.samples():
        expected = times * declaration.reference(*sample.arguments)
        np.testing.assert_allclose(function(*sample.arguments), expected, rtol=1e-5)
        assert function.statistics.interpreted_calls == 0
        count += 1
print(count, "samples")
"""


def test_the_ops_of_adding_an_op_are_ops(site: Any) -> None:
    """The page's code, as one module, declared as a plug-in: it runs natively and gives its reference."""
    (site.place / "docs_ops.py").write_text("\n\n".join(blocks("adding_an_op.md", "python")))
    site.install("docs-ops", "1", "docs", "docs_ops")
    (site.place / "use.py").write_text(USE)
    assert "3 samples" in site.python(str(site.place / "use.py"))
    explained = site.python("-m", "stepwell.compiler.cli", "explain", "docs::squared_distance")
    assert "in place     docs::squared_distance_" in explained


def test_what_adding_an_op_says_of_tests_holds() -> None:
    """`pytest tests/dialects/torch -k FAMILY` finds the tests of a family's ops by its name."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/dialects/torch", "-k", "normalization"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "test_rules.py" in done.stdout, done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def _performance() -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location("make_performance", ROOT / "docs" / "make_performance.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_performance_page_has_a_place_for_each_model() -> None:
    made = _performance()
    page = made.PAGE.read_text()
    filled = made.filled(page, [(name, f"of {name}") for name in ("machine", *made.MODELS)])
    for name in made.MODELS:
        assert f"<!-- {name} -->\nof {name}\n<!-- end of {name} -->" in filled
        assert re.search(rf"<!-- {name} -->\nA call takes", page), "run: python docs/make_performance.py FOLDER"
    with pytest.raises(SystemExit, match="0 places for vgg"):
        made.filled(page, [("vgg", "")])


def test_kernels_are_held_against_operations_or_bytes_whichever_take_longer() -> None:
    from stepwell.compiler.peak import Peak
    from stepwell.compiler.profile import KernelRow, Profile
    from stepwell.lowering.analysis.work import Work

    made, peak = _performance(), Peak(flops=100e9, bytes=10e9)
    busy = KernelRow("matmul_0", 2, 2e-3, Work(45_000_000, 1000), "8x8")
    moving = KernelRow("map_0", 1, 1e-3, Work(10, 4_000_000), "4x4")
    assert made.lost(busy, peak) == pytest.approx(1e-3)  # 90 MFLOP at 90 GFLOP/s
    assert made.lost(moving, peak) == pytest.approx(0.6e-3)
    small = KernelRow("map_1", 1, 1e-6, Work(0, 0))
    profile = Profile([KernelRow("forward", 1, 4e-3, None), busy, moving, small])
    lines = list(made.table(profile, peak))
    assert lines[2] == "| `matmul_0` | 8x8 | 2 | 2000 | 50.0% | 45.0 | 45% | 0.0 | 1000 |"
    assert lines[-2].startswith("| 1 others | | | 1 |") and lines[-1].startswith("| between kernels | | | 999 |")
    assert list(made.families(profile, peak))[2] == "| matmul | 50.0% | 45% | 25.0% |"
