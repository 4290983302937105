"""Objects that are made of a program's functions as these are lowered."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects import func

import stepwell
from stepwell.compiler import cache as object_cache
from stepwell.compiler import emission
from stepwell.compiler.backends import jit
from stepwell.compiler.backends.llvm_workers import Workers
from stepwell.compiler.backends.target import host
from stepwell.compiler.cache import Cache
from stepwell.dialects.text import parse
from stepwell.dialects.walk import take_apart

ARCHIVE = Path(__file__).parents[2] / "archives" / "resnet18.pt"
GOOD = "define i32 @f() { ret i32 1 }"
REFUSED = "define i32 @f() { ret }"


def outcome(part: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], bytes]:
    """The sizes of the objects of a call, linked together, and its result."""
    monkeypatch.setattr(object_cache, "_default", Cache(folder / str(part)))
    monkeypatch.setattr(emission, "PART", part)
    sizes: list[int] = []
    link = jit.link

    def counted(codes: Any, symbol: str) -> Any:
        sizes.append(len(codes))
        return link(codes, symbol)

    monkeypatch.setattr(jit, "link", counted)
    image = np.random.default_rng(1).standard_normal((1, 3, 32, 32), dtype=np.float32)
    result = stepwell.load(ARCHIVE)(image)
    monkeypatch.setattr(jit, "link", link)
    return sizes, result.tobytes()


def test_a_program_of_many_objects_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, first = outcome(1 << 40, tmp_path, monkeypatch)
    many, second = outcome(1, tmp_path, monkeypatch)
    assert one == [1, 1] and min(many) > 3 and first == second


@stepwell.script
def picked(x: stepwell.Tensor, rows: stepwell.Tensor) -> stepwell.Tensor:
    return stepwell.exp(x[rows] * 2.0).sum(1)


def test_what_a_function_of_another_object_raises_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_cache, "_default", Cache(tmp_path))
    monkeypatch.setattr(emission, "PART", 1)
    x = np.ones((4, 3), np.float32)
    assert np.allclose(picked(x, np.array([0, 3])), 3 * np.exp(np.float32(2)))
    with pytest.raises(IndexError):
        picked(x, np.array([0, 4]))


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_every_text_has_its_object_or_its_error(cores: int) -> None:
    with Workers(replace(host(), cores=cores)) as workers:
        made = [workers.begin(REFUSED if number == 3 else GOOD) for number in range(8)]
    assert len({made[n].result() for n in range(8) if n != 3}) == 1
    with pytest.raises(RuntimeError, match="parsing error"):
        made[3].result()


def test_an_error_while_lowering_ends_the_workers() -> None:
    with pytest.raises(KeyError), Workers(host()) as workers:
        for _ in range(20):
            workers.begin(GOOD)
        raise KeyError
    assert workers._tasks.empty()


def test_objects_are_found_by_the_content_of_their_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    compile_object = jit.compile_object

    def counted(text: str, target: Any) -> bytes:
        compiled.append(text)
        return compile_object(text, target)

    monkeypatch.setattr(jit, "compile_object", counted)
    for _ in range(2):
        with Workers(host(), Cache(tmp_path)) as workers:
            code = workers.begin(GOOD)
        assert code.result()
    assert compiled == [GOOD]


def test_what_is_taken_apart_is_gone_before_the_collector_comes() -> None:
    module = parse("""
func.func @f(%n: index) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  scf.for %i = %zero to %n step %one {
    %two = arith.addi %i, %one : index
  }
  func.return
}""")
    (function,) = module.ops
    assert isinstance(function, func.FuncOp)
    gc.disable()
    try:
        left = [weakref.ref(op) for op in function.body.block.ops if not op.regions]
        take_apart(function.body)
        assert len(left) == 3 and all(reference() is None for reference in left)
    finally:
        gc.enable()
