"""Packed weights on disk: the arrays that were kept, or none; never those of other weights."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.compiler import cache as object_cache
from stepwell.compiler import packed_weights
from stepwell.compiler.cache import Cache, key_of
from stepwell.compiler.packed_weights import PackedWeights

Arrays = dict[str, np.ndarray[Any, Any]]
ARCHIVE = Path(__file__).parents[1] / "archives" / "resnet18.pt"


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_weights, "SMALLEST", 1)


def arrays() -> Arrays:
    random = np.random.default_rng(0)
    return {
        "packed.0": random.standard_normal((3, 1000, 16), dtype=np.float32),
        "packed.1": random.integers(-9, 9, (7,), dtype=np.int8),
        "packed.2": np.zeros((0, 4), np.float64),
    }


def kept(cache: Cache, key: str, given: Arrays, limit: int = packed_weights.LIMIT) -> PackedWeights:
    weights = PackedWeights(cache, key, limit)
    thread = weights.keep(given)
    assert thread is not None
    thread.join()
    return weights


def test_what_was_kept_is_found(tmp_path: Path) -> None:
    cache, given = Cache(tmp_path / "c"), arrays()
    assert PackedWeights(cache, key_of("a")).find() is None
    kept(cache, key_of("a"), given)
    found = PackedWeights(cache, key_of("a")).find()
    assert found is not None and list(found) == list(given)
    for name, array in found.items():
        assert array.dtype == given[name].dtype and np.array_equal(array, given[name])
        assert not array.flags.writeable and array.ctypes.data % 64 == 0
    assert PackedWeights(cache, key_of("b")).find() is None


@pytest.mark.parametrize("damage", ["cut", "table", "page", "empty", "other"])
def test_a_damaged_file_is_removed(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path / "c")
    path = kept(cache, key_of("a"), arrays()).path
    assert path is not None
    data = path.read_bytes()
    if damage == "other":
        path = PackedWeights(cache, key_of("b")).path
        assert path is not None
    path.write_bytes({
        "cut": data[:-4096],
        "table": data[:70] + bytes([data[70] ^ 1]) + data[71:],
        "page": data[:16384] + bytes(4096) + data[20480:],
        "empty": b"",
        "other": data,
    }[damage])  # fmt: skip
    assert PackedWeights(cache, path.name).find() is None
    assert not path.exists()


def test_the_files_used_longest_ago_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    given = {"w": np.zeros(10_000, np.uint8)}
    for number in range(4):
        weights = kept(cache, key_of(str(number)), given, limit=45_000)
        assert weights.path is not None
        os.utime(weights.path, (number, number))
    (tmp_path / "c" / "weights" / ".new-left").write_bytes(b"left by a process that was killed")
    os.utime(tmp_path / "c" / "weights" / ".new-left", (1, 1))
    weights.trim()
    found = [PackedWeights(cache, key_of(str(number))).find() is not None for number in range(4)]
    assert found == [False, False, True, True]
    assert not (tmp_path / "c" / "weights" / ".new-left").exists()


def test_weights_of_few_bytes_or_beyond_the_limit_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, given = Cache(tmp_path / "c"), {"w": np.zeros(10_000, np.uint8)}
    assert PackedWeights(cache, key_of("a"), 9_999).keep(given) is None
    assert PackedWeights(Cache(None), key_of("a")).keep(given) is None
    monkeypatch.setattr(packed_weights, "SMALLEST", 10_001)
    assert PackedWeights(cache, key_of("a")).keep(given) is None


def image() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal((1, 3, 32, 32), dtype=np.float32)


def outcome(path: Path) -> tuple[int, bytes]:
    """How often weights were packed in a fresh load of an archive, and the result of a call."""
    made: list[int] = []
    model = stepwell.load(path)
    keep = PackedWeights.keep

    def counted(self: PackedWeights, given: Arrays) -> None:
        made.append(1)
        thread = keep(self, given)
        assert thread is not None
        thread.join()

    PackedWeights.keep = counted  # type: ignore[assignment,method-assign]
    try:
        result = model(image())
    finally:
        PackedWeights.keep = keep  # type: ignore[method-assign]
    return len(made), result.tobytes()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(object_cache, "_default", Cache(tmp_path / "c"))
    shutil.copyfile(ARCHIVE, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_a_warm_start_packs_nothing_and_gives_the_same_bits(model: Path) -> None:
    packed, first = outcome(model)
    assert packed == 1
    assert outcome(model) == (0, first)


def test_the_weights_of_an_archive_that_was_written_again_are_packed_again(model: Path) -> None:
    _, first = outcome(model)
    data = bytearray(model.read_bytes())
    os.utime(model, ns=(0, 0))
    assert outcome(model) == (1, first)
    assert outcome(model) == (0, first)
    model.unlink()
    model.write_bytes(data)
    assert outcome(model)[1] == first


def test_weights_that_were_set_from_outside_are_packed_anew(model: Path) -> None:
    _, first = outcome(model)
    changed = stepwell.load(model)
    before = changed(image())
    assert before.tobytes() == first
    changed.head.weight = 2 * changed.head.weight
    after = changed(image())
    assert not np.array_equal(before, after)
    assert outcome(model) == (0, first)
