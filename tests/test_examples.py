"""Every example runs, in a process of its own that has no torch, and prints what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WITHOUT_TORCH = "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def output(example: str, folder: Path, *arguments: str) -> str:
    """What an example prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "STEPWELL_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-c", WITHOUT_TORCH, str(ROOT / "examples" / example / "example.py"), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    return ran.stdout


def test_script(tmp_path: Path) -> None:
    printed = output("script", tmp_path)
    assert "attention: (4, 16) float32 first row is v's: True" in printed
    assert re.findall(r"^  (\w+) +\d+ lines of text$", printed, re.MULTILINE) == [
        "raw", "torch", "linalg", "tile", "loops", "llvm", "ir", "asm",
    ]  # fmt: skip
    assert "variants:\n  (float32[4, 16], " in printed and printed.count("float32[s0, 16]") == 3
    assert "rows seen: 8\nValueError: rows are needed, not 1 dimensions\nafter reset: 0\n" in printed
    assert "attention() takes a Tensor as argument 'v', not an int" in printed


def test_archive(tmp_path: Path) -> None:
    printed = output("archive", tmp_path)
    accuracy = re.search(r"accuracy on (\d+) held-out images: ([\d.]+)", printed)
    assert accuracy is not None and int(accuracy[1]) >= 300 and float(accuracy[2]) > 0.97
    assert re.search(r"classifier\.weight +float32\[10, 128\]", printed)
    assert "def forward(self" in printed and "(float32[s0, 1, 8, 8])" in printed
    assert re.search(r"^conv_\d+ .*%", printed, re.MULTILINE)


def test_stages(tmp_path: Path) -> None:
    printed = output("stages", tmp_path, "levels")
    files = sorted(p.name for p in (tmp_path / "levels").iterdir())
    assert files == [
        "1-torch.mlir", "2-linalg.mlir", "3-tile.mlir", "4-loops.mlir", "5-llvm.mlir", "6-ir.ll", "7-asm.s",
    ]  # fmt: skip
    assert all(name in printed for name in files) and "kernels" in printed
    assert "torch.aten.conv2d" in (tmp_path / "levels" / "1-torch.mlir").read_text()
    assert "tile.kernel" in (tmp_path / "levels" / "3-tile.mlir").read_text()


@pytest.mark.parametrize("name", ["newton", "collatz"])
def test_loop(tmp_path: Path, name: str) -> None:
    found = re.search(rf"^{name} +\d+ iterations .* (\d+) times faster", output("loop", tmp_path), re.MULTILINE)
    assert found is not None and int(found[1]) > 3
