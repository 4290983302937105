"""`stepwell compile --emit=ptx|cuda|gpu` on the archives of the tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stepwell.compiler.cli import main

ARCHIVES = Path(__file__).parents[1] / "archives"
INPUTS = {"mlp": "float32[2,16]", "encoder": "int64[2,7]"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWELL_CACHE_DIR", str(tmp_path))


def emitted(capsys: pytest.CaptureFixture[str], name: str, form: str, *more: str) -> str:
    code = main(["compile", str(ARCHIVES / f"{name}.pt"), f"--emit={form}", "--input", INPUTS[name], *more])
    text = capsys.readouterr()
    assert code == 0, text.err
    return text.out


@pytest.mark.parametrize("name", ["mlp", "encoder"])
def test_ptx_has_an_entry_for_every_kernel(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = emitted(capsys, name, "ptx", "--target", "sm_80")
    kernels = set(re.findall(r"tile\.kernel @(\w+)", emitted(capsys, name, "tile")))
    assert ".target sm_80" in text
    entries = set(re.findall(r"\.entry (\w+)\(", text))
    assert {re.sub(r"\d", "", k) for k in entries} == {re.sub(r"\d", "", k) for k in kernels}
    for kernel in entries:
        assert re.search(rf"// {kernel}, from .*\n//   launch: ", text), f"{kernel} is not described"


@pytest.mark.parametrize("name", ["mlp", "encoder"])
def test_cuda_is_readable(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = emitted(capsys, name, "cuda")
    assert re.search(r'extern "C" __global__ void __launch_bounds__\(\d+\) matmul_0\(', text)
    assert re.search(r"const float\* __restrict__ arg0,  // \d+x\d+\n", text)
    assert "#pragma unroll" in text and "__syncthreads();" in text and "__shfl_xor_sync" in text
    assert "fmaf(" in text and "expf(" in text


def test_the_gpu_level_is_mlir(capsys: pytest.CaptureFixture[str]) -> None:
    assert '"gpu.func"' in emitted(capsys, "mlp", "gpu")


def test_a_text_of_the_tile_level_goes_on_to_ptx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "tile.mlir"
    text.write_text(emitted(capsys, "mlp", "tile"))
    assert main(["opt", str(text), "--to=ptx"]) == 0
    assert ".entry matmul_0(" in capsys.readouterr().out


def test_a_target_that_is_none_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["compile", str(ARCHIVES / "mlp.pt"), "--emit=ptx", "--input", INPUTS["mlp"], "--target", "sm_1"])
    assert code == 2
    assert "no GPU is called 'sm_1'; there are sm_80" in capsys.readouterr().err
