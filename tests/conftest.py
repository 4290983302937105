"""What tests of several folders share."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def random_linalg():
    """The generator of random programs of the linalg level: tests/compiler/interpreter/random_linalg/."""
    name = "stepwell_tests_random_linalg"
    if name not in sys.modules:
        place = Path(__file__).parent / "compiler" / "interpreter" / "random_linalg"
        spec = importlib.util.spec_from_file_location(
            name, place / "__init__.py", submodule_search_locations=[str(place)]
        )
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
