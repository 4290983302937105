"""What tests of the compiler share: a cache of their own, and places to install packages of ops in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Objects go to a folder of this run: neither old ones are found nor the user's cache filled."""
    from stepwell.compiler import cache

    before, kept = pytest.MonkeyPatch(), cache._default
    before.setenv("STEPWELL_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    cache._default = None
    yield
    cache._default = kept
    before.undo()


class Site:
    """A directory of packages as pip leaves them, on the path of the processes that it runs."""

    def __init__(self, place: Path) -> None:
        self.place, self.cache = place / "site", place / "cache"
        self.place.mkdir()

    def install(self, project: str, version: str, entry: str, module: str) -> None:
        """What tells of a package: its name, and its entry point."""
        info = self.place / f"{project.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[stepwell.dialects]\n{entry} = {module}\n")

    def python(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """What a process printed, to both streams."""
        path = os.pathsep.join([str(self.place), str(ROOT / "src")])
        done = subprocess.run(
            [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
            env={**os.environ, "PYTHONPATH": path, "STEPWELL_CACHE_DIR": str(self.cache), **environment},
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)
