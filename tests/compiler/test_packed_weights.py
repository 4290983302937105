"""Packed weights on disk: the arrays that were kept, or none; never those of other weights."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.compiler import cache as object_cache
from stepwell.compiler import packed_weights
from stepwell.compiler.cache import Cache
from stepwell.compiler.deferred import Attributes, Deferred
from stepwell.compiler.frontends.archive.container import Container
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


def kept(cache: Cache, identity: str, given: Arrays, limit: int = packed_weights.LIMIT) -> PackedWeights:
    weights = PackedWeights(cache, identity, "v", limit)
    thread = weights.keep(given)
    assert thread is not None
    thread.join()
    return weights


def test_what_was_kept_is_found(tmp_path: Path) -> None:
    cache, given = Cache(tmp_path / "c"), arrays()
    assert PackedWeights(cache, "a", "v").find() is None
    kept(cache, "a", given)
    found = PackedWeights(cache, "a", "v").find()
    assert found is not None and list(found) == list(given)
    for name, array in found.items():
        assert array.dtype == given[name].dtype and np.array_equal(array, given[name])
        assert not array.flags.writeable and array.ctypes.data % 64 == 0
    assert PackedWeights(cache, "b", "v").find() is None


@pytest.mark.parametrize("damage", ["cut", "table", "page", "empty", "other"])
def test_a_damaged_file_is_removed(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path / "c")
    path = kept(cache, "a", arrays()).path
    assert path is not None
    data = path.read_bytes()
    if damage == "other":
        path = PackedWeights(cache, "b", "v").path
        assert path is not None
    path.write_bytes({
        "cut": data[:-4096],
        "table": data[:70] + bytes([data[70] ^ 1]) + data[71:],
        "page": data[:16384] + bytes(4096) + data[20480:],
        "empty": b"",
        "other": data,
    }[damage])  # fmt: skip
    assert PackedWeights(cache, "b" if damage == "other" else "a", "v").find() is None
    assert not path.exists()


def test_the_files_used_longest_ago_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    given = {"w": np.zeros(10_000, np.uint8)}
    for number in range(4):
        weights = kept(cache, str(number), given, limit=45_000)
        assert weights.path is not None
        os.utime(weights.path, (number, number))
    (tmp_path / "c" / "weights" / ".new-left").write_bytes(b"left by a process that was killed")
    os.utime(tmp_path / "c" / "weights" / ".new-left", (1, 1))
    weights.trim()
    found = [PackedWeights(cache, str(number), "v").find() is not None for number in range(4)]
    assert found == [False, False, True, True]
    assert not (tmp_path / "c" / "weights" / ".new-left").exists()


def test_weights_of_few_bytes_or_beyond_the_limit_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, given = Cache(tmp_path / "c"), {"w": np.zeros(10_000, np.uint8)}
    assert PackedWeights(cache, "a", "v", 9_999).keep(given) is None
    assert PackedWeights(Cache(None), "a", "v").keep(given) is None
    monkeypatch.setattr(packed_weights, "SMALLEST", 10_001)
    assert PackedWeights(cache, "a", "v").keep(given) is None


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


# ------ the archive's own arrays at a warm start


def records_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the records of arrays that are read from now on."""
    read: list[str] = []
    array = Container.array

    def counted(self: Container, name: str) -> Any:
        read.append(name)
        return array(self, name)

    monkeypatch.setattr(Container, "array", counted)
    return read


def test_a_warm_start_reads_only_what_is_not_packed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = records_read(monkeypatch)
    _, first = outcome(model)
    everything, state = len(read), stepwell.load(model).state_dict()
    read.clear()
    loaded = stepwell.load(model)
    assert not read
    assert loaded(image()).tobytes() == first
    assert len(read) < everything / 3, read
    found = loaded.state_dict()
    assert list(found) == list(state) and all(np.array_equal(found[name], state[name]) for name in state)
    assert len(read) == everything


@pytest.mark.parametrize("size", [0, 1 << 12, None])
def test_what_a_file_lost_after_a_warm_load_is_an_archive_error(model: Path, size: int | None) -> None:
    outcome(model)
    loaded = stepwell.load(model)
    with model.open("r+b") as file:
        if size is None:
            file.write(bytes(model.stat().st_size))
        else:
            file.truncate(size)
    with pytest.raises(stepwell.ArchiveError, match=r"ends too early|or the file was written while it was in use"):
        loaded.state_dict()


class _Tensor:
    def __init__(self) -> None:
        self.array = np.arange(3.0)
        self.numpy_dtype, self.sizes, self.strides = self.array.dtype, (3,), (1,)


@pytest.mark.parametrize(
    "look",
    [
        lambda a: a["w"],
        lambda a: a.get("w"),
        lambda a: dict(a)["w"],
        lambda a: {**a}["w"],
        lambda a: (a | {})["w"],
        lambda a: ({} | a)["w"],
        lambda a: a.copy()["w"],
        lambda a: a.pop("w"),
        lambda a: a.popitem()[1],
        lambda a: a.setdefault("w"),
        lambda a: next(iter(a.values())),
        lambda a: next(iter(a.items()))[1],
        lambda a: copy.copy(a)["w"],
        lambda a: copy.deepcopy(a)["w"],
    ],
)
def test_however_one_looks_at_attributes_there_are_arrays(look: Any) -> None:
    shared = Deferred(_Tensor())
    attributes = Attributes({"w": shared})
    ((name, seen),) = attributes.peek()
    assert name == "w" and seen is shared and seen.strides == (8,)
    array = look(attributes)
    assert isinstance(array, np.ndarray) and array.tolist() == [0.0, 1.0, 2.0]
    assert shared.array() is shared.array()
