"""The object cache: whole entries or none, private, bounded, and what a warm start imports."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stepwell.compiler.cache import Cache, default_directory, key_of


def test_what_was_put_is_got(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    key = key_of("text", b"more")
    assert cache.get(key) is None
    cache.put(key, b"object")
    assert cache.get(key) == b"object"
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700


def test_keys_tell_parts_apart() -> None:
    assert len({key_of("ab", "c"), key_of("a", "bc"), key_of("abc"), key_of("abc", "")}) == 4


def test_a_damaged_entry_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    os.chmod(tmp_path, 0o700)
    key = key_of("x")
    cache.put(key, b"object")
    (entry,) = tmp_path.glob("??/*")
    entry.write_bytes(entry.read_bytes()[:-1])
    assert cache.get(key) is None
    assert not entry.exists()


def test_an_entry_in_the_place_of_another_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    for part in "ab":
        cache.put(key_of(part), part.encode())
    os.replace(cache._path(key_of("a")), cache._path(key_of("b")))
    assert cache.get(key_of("b")) is None and not cache._path(key_of("b")).exists()


def test_a_model_runs_over_a_damaged_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry cut, changed in one bit, emptied, or swapped with another: compiled again, never linked."""
    import numpy as np

    import stepwell
    from stepwell.compiler import cache as module

    root = Path(__file__).parents[2]
    images = np.load(root / "examples" / "digits" / "images.npy")[:2]
    monkeypatch.setattr(module, "_default", Cache(tmp_path / "c"))

    def outcome() -> tuple[object, bytes]:
        method = stepwell.load(root / "examples" / "digits" / "digits.pt").method("forward")
        result = method(images)
        return (method.statistics.cache_hits, method.statistics.compilations), result.tobytes()

    first = outcome()
    assert first[0] == (0, 1) and outcome() == ((1, 0), first[1])
    entries = sorted((tmp_path / "c").glob("??/*"))
    assert len(entries) >= 3
    contents = [entry.read_bytes() for entry in entries]
    for damage in (
        lambda data: data[: len(data) // 2],
        lambda data: data[:-9] + bytes([data[-9] ^ 4]) + data[-8:],
        lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
        lambda data: b"",
    ):
        for entry, data in zip(entries, contents, strict=True):
            entry.write_bytes(damage(data))
        assert outcome() == first
    for entry, data in zip(entries, contents[1:] + contents[:1], strict=True):
        entry.write_bytes(data)
    assert outcome() == first


def test_a_directory_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    cache = Cache(tmp_path)
    cache.put(key_of("x"), b"object")
    assert cache.get(key_of("x")) is None and not list(tmp_path.iterdir())


def test_a_link_in_the_place_of_the_directory_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Cache(tmp_path / "link").directory is None


def test_the_oldest_entries_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", limit=2500)
    for number in range(4):
        key = key_of(str(number))
        cache.put(key, bytes(1000))
        os.utime(cache._path(key), (number, number))
    cache.trim()
    assert [cache.get(key_of(str(number))) is not None for number in range(4)] == [False, False, True, True]


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEPWELL_CACHE_DIR", str(tmp_path))
    assert default_directory() == tmp_path
    monkeypatch.setenv("STEPWELL_CACHE", "0")
    assert default_directory() is None
    assert Cache(None).get(key_of("x")) is None


WARM = """
import sys
from pathlib import Path
from stepwell.compiler.backends import jit
compiled = jit.CompiledObject.from_bytes(Path(sys.argv[1]).read_bytes())
import numpy as np
assert jit.load(compiled)(np.full(4, 2.0))[0].tolist() == [4.0] * 4
assert not [name for name in sys.modules if name.startswith("xdsl")]
"""


def test_a_warm_start_does_not_import_xdsl(tmp_path: Path) -> None:
    from xdsl.parser import Parser

    from stepwell.compiler.backends import jit
    from stepwell.dialects import context

    text = """
    func.func @forward(%x: memref<4xf64>, %y: memref<4xf64> {host.kind = "output"}) {
      %c0 = arith.constant 0 : index
      %v = vector.load %x[%c0] : memref<4xf64>, vector<4xf64>
      %w = arith.addf %v, %v : vector<4xf64>
      vector.store %w, %y[%c0] : memref<4xf64>, vector<4xf64>
      func.return
    }"""
    cache = Cache(tmp_path / "c")
    compiled = jit.compile_module(Parser(context(), text).parse_module(), cache=cache)
    assert jit.compile_module(Parser(context(), text).parse_module(), cache=cache) == compiled
    (tmp_path / "object").write_bytes(compiled.to_bytes())
    done = subprocess.run(
        [sys.executable, "-c", WARM, str(tmp_path / "object")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
