"""The command line: what each command prints, its exit codes, and errors in words instead of tracebacks."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stepwell.compiler import cli
from stepwell.compiler.progress import progress

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits"
MODEL, IMAGES = str(DIGITS / "digits.pt"), str(DIGITS / "images.npy")
BATCH = "float32[2,1,8,8]"


@pytest.fixture
def stepwell(capsys: pytest.CaptureFixture[str]):
    """Run the command line in this process: (exit code, output, errors)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = cli.main(arguments)
        except SystemExit as left:
            code = left.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


COMMANDS = ("run", "compile", "stages", "opt", "ops", "explain")


def test_help_names_every_command(stepwell) -> None:
    code, out, _ = stepwell("--help")
    assert code == 0 and all(command in out for command in COMMANDS) and "Examples:" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(stepwell, command) -> None:
    code, out, _ = stepwell(command, "--help")
    assert code == 0 and out.startswith(f"usage: stepwell {command}")


def test_run_reports_accuracy_times_and_where_to_look(stepwell, tmp_path) -> None:
    labels, saved = str(DIGITS / "labels.npy"), tmp_path / "out.npy"
    expected = str(DIGITS / "logits.npy")
    code, out, _ = stepwell("run", MODEL, "--input", IMAGES, "--labels", labels, "--expect", expected,
                            "--output", str(saved), "--repeat", "2", "--threads", "1")  # fmt: skip
    assert code == 0
    for word in ("accuracy 0.9", "load ", "first call ", "per call (median of 2, 1 threads)", "largest difference",
                 f"stages: stepwell stages {MODEL}", "--emit=linalg"):  # fmt: skip
        assert word in out
    np.testing.assert_allclose(np.load(saved), np.load(expected), rtol=1e-4, atol=1e-4)


MARKS = {
    "raw": "torch.nn_module {", "torch": 'stepwell.level = "torch"', "linalg": 'stepwell.level = "linalg"',
    "tile": "tile.kernel @", "loops": "memref<", "llvm": "llvm.func @", "ir": "define i32 @", "asm": ".text",
}  # fmt: skip


@pytest.mark.parametrize("level", MARKS)
def test_emit(stepwell, level) -> None:
    code, out, _ = stepwell("compile", MODEL, f"--emit={level}", "--input", BATCH)
    assert code == 0 and MARKS[level] in out and out.endswith("\n")


def test_emit_of_an_object_needs_a_file(stepwell, tmp_path) -> None:
    code, out, err = stepwell("compile", MODEL, "--emit=obj", "--input", BATCH)
    assert code == 2 and not out and "-o FILE" in err
    code, out, _ = stepwell("compile", MODEL, "--emit=obj", "--input", BATCH, "-o", str(tmp_path / "m.o"))
    assert code == 0 and not out and (tmp_path / "m.o").read_bytes().startswith(b"\x7fELF")


def test_print_after(stepwell) -> None:
    code, out, _ = stepwell("compile", MODEL, "--emit=linalg", "--print-after=all", "--input", BATCH)
    assert code == 0 and out.count("// ----- after ") >= 3
    code, out, _ = stepwell("compile", MODEL, "--emit=tile", "--print-after=form-kernels", "--input", BATCH)
    assert code == 0 and out.count("// ----- after form-kernels") == 1 and out.count("// ----- after ") == 1
    code, _, err = stepwell("compile", MODEL, "--print-after=nothing-such", "--input", BATCH)
    assert code == 2 and "there is no pass 'nothing-such'; there are expand-composites" in err


def test_locations_and_text_for_mlir_opt(stepwell) -> None:
    options = ("compile", MODEL, "--emit=loops", "--input", BATCH)
    assert 'loc("' not in stepwell(*options)[1] and 'loc("code/' in stepwell(*options, "--locations")[1]
    assert '"host.' not in stepwell(*options)[1] and '"host.' in stepwell(*options, "--mlir-opt")[1]


def test_stages(stepwell) -> None:
    code, out, _ = stepwell("stages", MODEL, "--input", BATCH)
    assert code == 0
    for level in ("raw", "torch", "linalg", "tile", "loops", "llvm", "compilations"):
        assert f"\n  {level} " in out


def test_opt_goes_on_from_each_level(stepwell, tmp_path) -> None:
    """Stop at a level, go on from its text: the same LLVM IR as without the stop."""
    straight = stepwell("compile", MODEL, "--emit=ir", "--input", BATCH)[1]
    for level in ("torch", "linalg", "tile", "loops", "llvm"):
        file = tmp_path / f"{level}.mlir"
        assert stepwell("compile", MODEL, f"--emit={level}", "--input", BATCH, "-o", str(file), "--locations")[0] == 0
        code, out, _ = stepwell("opt", str(file), "--to=ir", "--verify=each")
        assert code == 0 and out == straight


def test_opt_runs_single_passes(stepwell, tmp_path) -> None:
    file = tmp_path / "torch.mlir"
    stepwell("compile", MODEL, "--emit=torch", "--input", BATCH, "-o", str(file))
    passes = "expand-composites,prune-torch,torch-to-linalg,canonicalize"
    code, out, _ = stepwell("opt", str(file), f"--passes={passes}", "--print-after=torch-to-linalg")
    assert code == 0 and "linalg.generic" in out and "torch.aten" not in out
    assert out.count("// ----- after torch-to-linalg") == 1
    code, _, err = stepwell("opt", str(file), "--passes=canonicalise")
    assert code == 2 and "there is no pass 'canonicalise'; there are expand-composites" in err


UNMARKED = """
func.func @forward(%x: tensor<4xf32>) -> tensor<4xf32> attributes {host.entry} {
  %e = tensor.empty() : tensor<4xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
      ins(%x : tensor<4xf32>) outs(%e : tensor<4xf32>) {
    ^bb0(%a: f32, %o: f32):
      %r = arith.addf %a, %a : f32
      linalg.yield %r : f32
  } -> tensor<4xf32>
  func.return %y : tensor<4xf32>
}
"""


def test_opt_of_a_text_that_does_not_say_its_level(stepwell, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(UNMARKED.encode())))
    code, out, _ = stepwell("opt", "-", "--to=tile")
    assert code == 0 and "tile.kernel" in out


def test_opt_does_not_go_up(stepwell, tmp_path) -> None:
    (tmp_path / "x.mlir").write_text(UNMARKED)
    code, _, err = stepwell("opt", str(tmp_path / "x.mlir"), "--to=torch")
    assert code == 2 and "there is no torch on the way" in err


GARBAGE = {
    "noise": bytes(range(256)) * 20, "empty": b"", "words": b"this is no module",
    "half": UNMARKED[:200].encode(), "type": UNMARKED.replace("f32", "f33").encode(),
    "deep": b"builtin.module { func.func @f() { " + b"scf.if %x { " * 3000,
    "tuple": b"%0 = \"a.b\"() : () -> " + b"tuple<" * 20_000,
    "brackets": b"#a = " + b"[" * 50_000, "values": UNMARKED.replace("%r :", "%q :").encode(),
    "rank": UNMARKED.replace("(i) -> (i)", "(i, j) -> (i)").encode(), "yield": UNMARKED.replace("yield %r", "yield").encode(),
    "attribute": UNMARKED.replace('"parallel"', "parallel").encode(), "quote": UNMARKED.encode() + b'"',
    "hex": b'module { %0 = arith.constant dense<0xFFFFFFFFFFFF> : vector<4xf32> }',
    "symbol": UNMARKED.replace("host.entry", "host.layout = 3").encode(),
    "no-entry": UNMARKED.replace("{host.entry}", "{}").encode(),
    "level": b'module attributes {stepwell.level = "loops"} { func.func @f(%x: !torch.vtensor) { func.return } }',
}  # fmt: skip


@pytest.mark.parametrize("name", GARBAGE)
def test_opt_of_garbage_is_an_error_in_words(stepwell, tmp_path, name) -> None:
    (tmp_path / "x.mlir").write_bytes(GARBAGE[name])
    code, out, err = stepwell("opt", str(tmp_path / "x.mlir"))
    assert (code, out) == (1, "") and err.startswith("stepwell: ") and len(err) < 20_000


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "COMMAND"),
        (("fly",), 2, "invalid choice: 'fly'"),
        (("run", "missing.pt"), 1, "missing.pt"),
        (("run", IMAGES), 1, "digits/images.npy"),
        (("run", MODEL), 1, "forward() needs an argument 'images': Tensor"),
        (("run", MODEL, "--input", "float32[2,64]"), 1, "ValueError: expected a batch of images, but got 2 dimensions"),
        (("run", MODEL, "--input", "hello"), 2, "is no .npy file, type such as float32[1,3]"),
        (("run", MODEL, "--input", "float31[2,64]"), 2, "'float31' is no dtype"),
        (("run", MODEL, "--input", BATCH, "--method", "encode"), 1, "no method 'encode'; it has forward"),
        (("compile", MODEL, "--emit", "cobol"), 2, "invalid choice: 'cobol'"),
        (("compile", MODEL, "--input", BATCH, "--target", "z80"), 2, "z80"),
        (("opt", "missing.mlir"), 1, "missing.mlir"),
        (("explain", "aten::softmx"), 2, "there are aten::softmax"),
    ],
    ids=lambda value: " ".join(map(str, value))[-40:] if isinstance(value, tuple) else "",
)
def test_errors(stepwell, arguments, code, words) -> None:
    got, out, err = stepwell(*arguments)
    assert got == code and words in err and not out


def test_ops_is_the_table_of_the_docs(stepwell) -> None:
    assert stepwell("ops")[1] == (ROOT / "docs" / "ops.md").read_text()


@pytest.mark.parametrize(
    ("op", "words"),
    [
        ("aten::softmax", ("aten::softmax.int(Tensor self, int dim", "normalization.py:", "lowered to linalg by its own")),
        ("aten::logsumexp", ("aten::logsumexp(Tensor self, int[1] dim", "statistics.py:", "aten::amax", "aten::exp")),
        ("relu_", ("aten::relu_(Tensor(a!) self)", "the variant of aten::relu that writes", "lowered to linalg")),
        ("aten::add.Tensor", ("aten::add.Tensor(", "torch.aten.add.Tensor", "in place     aten::add_.Tensor")),
    ],
)  # fmt: skip
def test_explain(stepwell, op, words) -> None:
    code, out, _ = stepwell("explain", op)
    assert code == 0 and all(word in out for word in words)


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m stepwell.compiler.cli ops | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": str(ROOT / "src")})  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "# Ops\n", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_long_work_is_announced_on_a_terminal() -> None:
    shown = Terminal()
    with progress("compiling forward", shown, patience=0.01):
        time.sleep(0.2)
    assert "compiling forward ... 0 s" in shown.getvalue() and shown.getvalue().endswith("\r"), "and wiped away"
    quick, file = Terminal(), io.StringIO()
    with progress("compiling forward", quick, patience=5):
        pass
    with progress("compiling forward", file, patience=0.01):
        time.sleep(0.1)
    assert quick.getvalue() == file.getvalue() == ""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_run_says_that_it_compiles() -> None:
    reader, writer = os.openpty()
    command = [sys.executable, "-m", "stepwell.compiler.cli", "run", MODEL, "--input", BATCH, "--repeat", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "STEPWELL_CACHE": "0"}
    assert (
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=writer, timeout=120, env=environment).returncode == 0
    )
    os.close(writer)
    assert b"compiling forward ..." in os.read(reader, 4096)
    os.close(reader)
