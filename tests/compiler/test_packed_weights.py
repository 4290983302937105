"""Packed weights on disk: the arrays that were kept, or none; never those of other weights."""

from __future__ import annotations

import copy
import errno
import importlib
import os
import shutil
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.compiler import cache as object_cache
from stepwell.compiler import packed_weights, preparation
from stepwell.compiler.cache import Cache
from stepwell.compiler.deferred import Attributes, Deferred
from stepwell.compiler.frontends.archive.container import Container
from stepwell.compiler.frontends.archive.storages import Storages
from stepwell.compiler.packed_weights import PackedWeights
from stepwell.lowering.cpu.divide_prepare import DividePrepare

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
    file = weights.begin(kinds(given))
    assert file is not None
    for name, array in given.items():
        file.put(name, array)
    mapped = file.finish()
    assert all(np.array_equal(mapped[name], array) for name, array in given.items())
    wait_for_files()
    return weights


def kinds(given: Arrays) -> dict[str, Any]:
    return {name: (array.dtype, array.shape) for name, array in given.items()}


def wait_for_files() -> None:
    """Until files that are written have their names."""
    for thread in threading.enumerate():
        if thread.name == "stepwell-weights":
            thread.join()


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


@pytest.mark.parametrize("damage", ["cut", "table", "pages", "empty", "other"])
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
        "pages": data[:16384] + bytes(len(data) - 16384),
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
    assert PackedWeights(cache, "a", "v", 9_999).begin(kinds(given)) is None
    assert PackedWeights(Cache(None), "a", "v").begin(kinds(given)) is None
    monkeypatch.setattr(packed_weights, "SMALLEST", 10_001)
    assert PackedWeights(cache, "a", "v").begin(kinds(given)) is None


def image() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal((1, 3, 32, 32), dtype=np.float32)


def outcome(path: Path) -> tuple[int, bytes]:
    """How often weights were packed in a fresh load of an archive, and the result of a call."""
    made: list[int] = []
    model = stepwell.load(path)
    begin = PackedWeights.begin

    def counted(self: PackedWeights, kinds: Any) -> Any:
        made.append(1)
        return begin(self, kinds)

    PackedWeights.begin = counted  # type: ignore[method-assign]
    try:
        result = model(image())
    finally:
        PackedWeights.begin = begin  # type: ignore[method-assign]
    wait_for_files()
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

    def counted(self: Container, name: str, **how: bool) -> Any:
        read.append(name)
        return array(self, name, **how)

    monkeypatch.setattr(Container, "array", counted)
    return read


def test_a_warm_start_reads_no_weights_of_the_archive(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = records_read(monkeypatch)
    _, first = outcome(model)
    read.clear()
    state = stepwell.load(model).state_dict()
    everything = len(read)
    read.clear()
    loaded = stepwell.load(model)
    assert loaded(image()).tobytes() == first
    assert not read
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


# ------ a cold start


def cold(path: Path, limit: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, bytes]:
    """Into how many groups the weights of an archive are divided, and the result of a call, all compiled anew."""
    pipeline = importlib.import_module("stepwell.compiler.pipeline")
    steps = tuple(DividePrepare(limit) if isinstance(step, DividePrepare) else step for step in pipeline.STEPS)
    monkeypatch.setattr(pipeline.run, "__kwdefaults__", {**pipeline.run.__kwdefaults__, "steps": steps})
    monkeypatch.setattr(object_cache, "_default", Cache(path.parent / str(limit)))
    counts: list[int] = []
    in_groups = preparation.in_groups

    def counted(code: Any, groups: Any, read: Any) -> Any:
        counts.append(len(groups))
        return in_groups(code, groups, read)

    monkeypatch.setattr(preparation, "in_groups", counted)
    result = stepwell.load(path)(image())
    wait_for_files()
    assert len(counts) == 1
    return counts[0], result.tobytes()


def test_weights_packed_by_groups_give_the_same_bits(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, first = cold(model, 1 << 40, monkeypatch)
    several, second = cold(model, 1 << 18, monkeypatch)
    many, third = cold(model, 1, monkeypatch)
    assert one == 1 < several < many and first == second == third


def test_weights_that_have_been_packed_are_let_go(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Any]] = []
    most: list[int] = []
    load = Storages._load

    def watched(self: Storages, *what: Any) -> Any:
        data, mapped = load(self, *what)
        alive.append(weakref.ref(data))
        most.append(sum(array.nbytes for reference in alive if (array := reference()) is not None))
        return data, mapped

    monkeypatch.setattr(Storages, "_load", watched)
    groups, _ = cold(model, 1 << 18, monkeypatch)
    assert groups > 1 and all(reference() is None for reference in alive)
    assert max(most) < model.stat().st_size / 2


@pytest.mark.parametrize("room", [0, 100_000])
def test_a_full_disk_costs_the_file_and_nothing_else(model: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = outcome(model)
    pwrite = os.pwrite

    def full(descriptor: int, data: Any, offset: int) -> int:
        if offset + len(data) > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(object_cache, "_default", Cache(model.parent / "other"))
    assert outcome(model) == (1, first)
    assert not list((model.parent / "other" / "weights").iterdir())
