"""The benches run: on tiny models, whatever the machine is busy with. How fast is for `.ci/run` and for people."""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

BENCH = Path(__file__).parents[1] / "bench"
PEERS = ("torch", "torch.jit", "onnxruntime")
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


def rows_of(text: str) -> list[list[str]]:
    """The cells of the first table, its header first."""
    lines = [line for line in text[text.index("\n|") :].splitlines() if line]
    table = list(itertools.takewhile(lambda line: line.startswith("|"), lines))
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in (table[0], *table[2:])]


def test_models_against_their_peers() -> None:
    """All results are compared with torch's; who cannot run a model is named with the reason."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("silero_vad")
    text = bench("run.py", "--quick", "gpt2_decode", "silero", "-t", "2", "--peers", *PEERS)
    header, *rows = rows_of(text)
    assert [row[0] for row in rows] == ["gpt2_decode", "silero"]
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        assert all(float(cells[f"{name} ms"]) > 0 for name in ("stepwell", "torch.jit", "onnxruntime"))
        assert cells["best peer"] in PEERS and float(cells["ratio"]) > 0
        assert cells["torch ms"] == "no" if cells["model"] == "silero" else float(cells["torch ms"]) > 0
    assert "silero, torch: CannotRun: there is only an archive" in text


MODELS = (
    "mlp", "mlp_b64", "resnet18", "resnet50", "mobilenetv2", "efficientnet_b0", "convnext_tiny", "unet", "vit_small",
    "bert_base", "minilm", "gpt2_prefill", "gpt2_decode", "lstm", "lstm_cell", "whisper_encoder", "silero",
)  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_compiled_and_right(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny one of the architecture: nothing is interpreted, and the numbers are torch's."""
    monkeypatch.syspath_prepend(str(BENCH))
    cases, models, peer, run = (importlib.import_module(module) for module in ("cases", "models", "peer", "run"))
    if name == models.SILERO:
        pytest.importorskip("silero_vad")
    assert models.MODELS == MODELS
    models.write(name, tmp_path, tiny=True)
    call = peer.stepwell(tmp_path, cases.read_case(tmp_path), cases.read_arguments(tmp_path), 2)
    assert peer.difference(call(), cases.read_expected(tmp_path)) < run.TOLERANCE


def test_kernels_against_their_peers() -> None:
    text = bench("kernels.py", "--quick", "norm", "-t", "1", "--peers", "torch", "onednn")
    header, *rows = rows_of(text)
    assert len(rows) == 2 and {"GFLOP/s", "GB/s", "our share"} <= set(header)
    assert all(float(row[header.index("stepwell us")]) > 0 for row in rows)


class Grows(nn.Module):
    """A list of the module that grows has no static form."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.jit.Attribute([], list[int])

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.size(0))
        return x * len(self.seen)


def test_other_numbers_than_torchs_are_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    cases, run, turns = (importlib.import_module(module) for module in ("cases", "run", "turns"))
    cases.write("wrong", tmp_path, nn.Linear(3, 2).eval(), [np.ones((1, 3), np.float32)], "script")
    with turns.Peer("torch.jit", 1) as peer:
        assert run.load(peer, tmp_path).failure is None
        np.savez(tmp_path / "expected.npz", np.ones((1, 2), np.float32))
        assert "differ from torch's" in run.load(peer, tmp_path).failure


def test_a_call_that_is_interpreted_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    cases, peer = importlib.import_module("cases"), importlib.import_module("peer")
    torch.jit.script(Grows()).save(str(tmp_path / "model.pt"))
    call = peer.stepwell(tmp_path, cases.Case("grows"), [np.ones((2, 2), np.float32)], 1)
    with pytest.raises(peer.CannotRun, match="interpreted"):
        call()


def test_a_busy_moment_does_not_lower_the_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    tables = importlib.import_module("tables")
    rows = [
        {"machine": {"processor": name}, "threads": 1, "peak": {"flops": flops, "bytes": moved}}
        for name, flops, moved in (("a", 2.0, 5.0), ("a", 3.0, 4.0), ("b", 1.0, 1.0))
    ]
    found = [row["peak"] for row in tables.with_best_peaks(rows)]
    assert found == [{"flops": 3.0, "bytes": 5.0}, {"flops": 3.0, "bytes": 5.0}, {"flops": 1.0, "bytes": 1.0}]


def test_loops_against_torch_jit() -> None:
    """Results are compared, and nothing may be interpreted."""
    text = bench("loops.py", "--quick")
    assert all(name in text for name in ("newton", "collatz", "greedy"))


def test_starts() -> None:
    """`import stepwell` loads nothing heavy, and a warm start no xDSL: the bench refuses otherwise."""
    pytest.importorskip("silero_vad")
    text = bench("startup.py", "--quick")
    assert all(name in text for name in ("import stepwell", "silero, warm", "ResNet-50, compiled"))
