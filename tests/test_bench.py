"""The benches run: on tiny models, whatever the machine is busy with. How fast is for `.ci/run` and for people."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
pytestmark = pytest.mark.oracle


def bench(script: str, *arguments: str) -> str:
    """What a bench prints. It compares results, and counts calls of the interpreter, by itself."""
    source = str(BENCH.parent / "src")
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, str(BENCH / script), *arguments],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_models_against_their_peers() -> None:
    pytest.importorskip("onnxruntime")
    text = bench("run.py", "--quick", "encoder_small", "digits", "-t", "2")
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert [row.split("|")[1].strip() for row in rows] == ["encoder_small", "digits"]
    for row in rows:
        _, name, _, ours, eager, frozen, onnx, best, *_ = (cell.strip() for cell in row.split("|"))
        assert float(ours) > 0 and float(frozen) > 0 and float(onnx) > 0 and best
        assert eager == "-" if name == "digits" else float(eager) > 0


def test_loops_against_torch_jit() -> None:
    """Results are compared, and nothing may be interpreted."""
    text = bench("loops.py", "--quick")
    assert all(name in text for name in ("newton", "collatz", "greedy"))


def test_starts() -> None:
    """`import stepwell` loads nothing heavy, and a warm start no xDSL: the bench refuses otherwise."""
    pytest.importorskip("silero_vad")
    text = bench("startup.py", "--quick")
    assert all(name in text for name in ("import stepwell", "silero, warm", "ResNet-18, cold"))
