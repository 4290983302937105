"""The programs of this folder as a package, and the cache of objects in a folder of its own."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAME = "stepwell_tests_semantics"
TOPICS = sorted(p.stem for p in (Path(__file__).parent / "programs").glob("*.py") if p.stem not in ("__init__", "table"))


def load_programs() -> Any:
    """Import all topics; gives the module `table`."""
    if NAME not in sys.modules:
        place = Path(__file__).parent / "programs"
        spec = importlib.util.spec_from_file_location(
            NAME, place / "__init__.py", submodule_search_locations=[str(place)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[NAME])
        for topic in TOPICS:
            importlib.import_module(f"{NAME}.{topic}")
    return importlib.import_module(f"{NAME}.table")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Objects go to a folder of this run: neither old ones are found nor the user's cache filled."""
    from stepwell.compiler import cache

    before, kept = os.environ.get("STEPWELL_CACHE_DIR"), cache._default
    os.environ["STEPWELL_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    cache._default = None
    yield
    cache._default = kept
    if before is None:
        del os.environ["STEPWELL_CACHE_DIR"]
    else:
        os.environ["STEPWELL_CACHE_DIR"] = before
