"""Schedules from measuring: what is slow is found, what is found is kept in a file and used, and nothing else changes."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.compiler import cache, tuned, tuning
from stepwell.compiler.backends.target import host
from stepwell.compiler.cli import main
from stepwell.compiler.pipeline import run
from stepwell.compiler.program import Program
from stepwell.compiler.progress import progress_bar
from stepwell.compiler.tuned import Entry, Schedules
from stepwell.dialects.diagnostics import Error
from stepwell.dialects.tile import KernelOp
from stepwell.lowering.linalg_to_tile.reschedule import kernel_key, reschedule, sizes_of

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
TARGET = dataclasses.replace(host(), cores=1)


def kernels(program: Program) -> dict[str, KernelOp]:
    return {op.sym_name.data: op for op in program.module.ops if isinstance(op, KernelOp)}


@pytest.fixture
def products(load_model: Any) -> Any:
    """The tile level of a perceptron, with its arguments."""
    model = load_model("mlp")
    specialized, positions = model.specialized(), model.request().positions()
    leaves = model.call().leaves
    run(specialized.program, target=TARGET, to="tile")
    return specialized.program, [leaves[positions[where]] for where in specialized.inputs]


def test_kernels_are_tuned_in_turn_and_the_program_stays(products: Any) -> None:
    program, inputs = products
    name, kernel = next((n, k) for n, k in kernels(program).items() if k.template == "matmul" and k.size("nr") > 16)
    reschedule(kernel, {**sizes_of(kernel), "mr": 1, "k_unroll": 1})
    heard: list[tuple[str, float]] = []
    found = tuning.tune(program, TARGET, lambda native: native(*inputs), seconds=30, report=lambda w, s: heard.append((w, s)))
    choice = next(c for c in found.choices if c.name == name)
    assert choice.tried > 3 and choice.speedup >= 1.0
    assert [share for _, share in heard] == sorted(share for _, share in heard) and heard[-1] == ("done", 1.0)
    assert all(entry.sizes != {} and entry.speedup > 1 for entry in found.entries)
    assert f"{name} " in str(found) and "the whole call" in str(found)
    # The program itself is as it was.
    assert kernels(program)[name].size("mr") == 1


def test_the_fastest_setting_is_chosen_whatever_else_the_machine_does(
    products: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With times that follow from the sizes alone: more columns at once are faster, and so is less unrolling."""
    program, _ = products
    kernel = next(k for k in kernels(program).values() if k.template == "matmul")
    before = sizes_of(kernel)

    def ticks(self: Any, arguments: Any, least: float) -> float:
        assert len(self.native(*arguments)) == 1
        return 1000.0 / (1 + self.sizes.get("nr", 0)) + 10 * self.sizes.get("k_unroll", 4)

    monkeypatch.setattr(tuning._Contender, "run", ticks)
    choice = tuning._tune_kernel(kernel, TARGET, 1, float("inf"))
    assert choice.after["k_unroll"] == 1 and choice.before == before != choice.after
    assert choice.after["nr"] >= before["nr"] and choice.speedup > 1.5
    monkeypatch.setattr(tuning._Contender, "run", lambda self, arguments, least: 100.0)
    same = tuning._tune_kernel(kernel, TARGET, 1, float("inf"))
    assert same.after == before and same.speedup == 1.0


def test_other_numbers_are_a_fault_of_a_lowering(products: Any) -> None:
    kernel = next(iter(kernels(products[0]).values()))
    tuning._check(kernel, {"mr": 2}, [np.array([1.0, np.nan])], [np.array([1.0 + 1e-6, np.nan])])
    with pytest.raises(Error, match=r"the kernel \w+ gives other numbers with the schedule {'mr': 2}"):
        tuning._check(kernel, {"mr": 2}, [np.array([1.0])], [np.array([1.1])])
    with pytest.raises(Error, match="other numbers"):
        tuning._check(kernel, {}, [np.array([1])], [np.array([2])])


def test_equal_kernels_have_equal_keys_whatever_their_names_and_sizes(products: Any) -> None:
    found = list(kernels(products[0]).values())
    other = found[0].clone()
    other.properties["sym_name"] = found[1].sym_name
    reschedule(other, {"unroll": 2} if other.template in ("map", "rows", "nest") else {"mr": 1})
    assert kernel_key(other) == kernel_key(found[0])
    assert len({kernel_key(kernel) for kernel in found}) == len(found)


def entry_for(kernel: KernelOp, **sizes: int) -> Entry:
    return Entry(tuned.name_of(host()), cache.versions(), kernel_key(kernel), kernel.template, sizes, 1.5)


def test_schedules_of_a_file_are_used_and_results_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.load(DIGITS / "images.npy")[:8]
    plain = stepwell.load(DIGITS / "digits.pt")
    expected = plain(images)
    program = plain.method("forward")._inspector.program_at("tile", (images,), {})
    kernel = next(k for k in kernels(program).values() if k.template == "matmul")
    sizes = {**sizes_of(kernel), "k_unroll": 1, "mr": 1}
    others = dataclasses.replace(entry_for(kernel, k_unroll=8), version="of another time")
    path = tmp_path / "here" / "schedules.json"
    Schedules([entry_for(kernel, **sizes), others]).save(path)
    monkeypatch.setenv("STEPWELL_SCHEDULES", str(path))
    model = stepwell.load(DIGITS / "digits.pt")
    np.testing.assert_allclose(model(images), expected, rtol=1e-5, atol=1e-6)
    text = model.stage("tile")
    assert "k_unroll = 1 : i64" in text and "k_unroll" not in plain.stage("raw")
    monkeypatch.setenv("STEPWELL_SCHEDULES", "off")
    assert "k_unroll = 1 : i64" not in model.stage("tile")


def test_the_file_is_what_was_saved(tmp_path: Path, products: Any) -> None:
    kernel = next(iter(kernels(products[0]).values()))
    first, path = Schedules([entry_for(kernel, mr=2)]), tmp_path / "s.json"
    first.save(path)
    again = Schedules.load(path)
    assert list(again) == list(first) and len(again.with_entries(again)) == 1
    assert again.of(host()) == {kernel_key(kernel): {"mr": 2}} and again.of(dataclasses.replace(host(), l2=1)) == {}
    assert tuned.fingerprint(again.of(host())) != tuned.fingerprint({}) == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSONDecodeError"),
        ("[]", 'expected a file with "format": "stepwell schedules 1"'),
        ('{"format": "stepwell schedules 1", "schedules": [{"sizes": {}}]}', "KeyError: 'target'"),
        ('{"format": "stepwell schedules 1", "schedules": [{"sizes": {"mr": 1.5}}]}', "1.5 is no size of a schedule"),
        ('{"format": "stepwell schedules 1", "schedules": [{"target": 1, "version": "", "kernel": "", "template": "", '
         '"sizes": {}, "speedup": 1}]}', "are texts"),
        ("[" * 100000, "this is no file of schedules"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str) -> None:
    path = tmp_path / "damaged.json"
    path.write_text(content)
    with pytest.raises(Error, match=r"damaged\.json: this is no file of schedules") as caught:
        Schedules.load(path)
    assert message in str(caught.value)
    monkeypatch.setenv("STEPWELL_SCHEDULES", str(path))
    with pytest.warns(UserWarning, match=r"schedules are not used: .*damaged\.json"):
        assert len(tuned.stored()) == 0


def test_the_command_tunes_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether there is something to gain is the machine's business; a file is written where there is."""
    path = tmp_path / "found.json"
    arguments = ["tune", str(DIGITS / "digits.pt"), "-i", "float32[16,1,8,8]", "--seconds", "3", "-o", str(path)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "speedup" in printed and "the whole call: " in printed
    if path.exists():
        assert json.loads(path.read_text())["format"] == tuned.FORMAT and "schedules stored in" in printed
    else:
        assert "nothing to gain; nothing is stored" in printed
    assert main([*arguments[:-4], "--seconds", "0"]) == 2
    assert main(arguments[:-2]) == 1  # the tests turn the usual file off
    assert "there is no place for schedules: give a path" in capsys.readouterr().err


def test_a_gain_is_stored_and_used_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load_model: Any) -> None:
    path = tmp_path / "s.json"
    monkeypatch.setenv("STEPWELL_SCHEDULES", str(path))
    images = np.load(DIGITS / "images.npy")[:8]
    model = stepwell.load(DIGITS / "digits.pt")
    expected = model(images)
    program = model.method("forward")._inspector.program_at("tile", (images,), {})
    kernel = next(k for k in kernels(program).values() if k.template == "matmul")
    entry = entry_for(kernel, **{**sizes_of(kernel), "k_unroll": 2})
    monkeypatch.setattr(tuning, "tune", lambda *given, **named: tuning.Tuning(host(), [], [entry], 0.5))
    assert stepwell.tune(model, [images]).gains and list(Schedules.load(path)) == [entry]
    np.testing.assert_allclose(model(images), expected, rtol=1e-5, atol=1e-6)
    assert "k_unroll = 2 : i64" in model.stage("tile")


def test_progress_is_a_bar_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    with progress_bar("tuning forward", shown) as report:
        report("matmul_0", 0.5)
        report("rows_0", 1.0)
    text = shown.getvalue()
    assert "tuning forward [###############...............] matmul_0" in text and f"[{'#' * 30}] rows_0" in text
    assert text.split("\r")[-2].isspace() and text.endswith("\r")
    silent = io.StringIO()
    with progress_bar("tuning", silent) as report:
        report("x", 1.0)
    assert silent.getvalue() == ""
