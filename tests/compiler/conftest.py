"""Objects go to a folder of this run: neither old ones are found nor the user's cache filled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from stepwell.compiler import cache

    before, kept = pytest.MonkeyPatch(), cache._default
    before.setenv("STEPWELL_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    cache._default = None
    yield
    cache._default = kept
    before.undo()
