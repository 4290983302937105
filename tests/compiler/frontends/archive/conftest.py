"""The hand-written archives, for every test of this folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def load_beside(name: str) -> ModuleType:
    """A module of this folder, by path."""
    spec = importlib.util.spec_from_file_location(f"archive_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def writer() -> ModuleType:
    return load_beside("writer")


@pytest.fixture(scope="session")
def silero() -> Path:
    """The archive of the package silero-vad (MIT); nothing of the package is imported."""
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("silero-vad is not installed")
    path = Path(spec.submodule_search_locations[0]) / "data" / "silero_vad.jit"
    if not path.exists():
        pytest.skip("silero-vad comes without its archive")
    return path
