"""What tests of several folders share."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# What somebody has tuned on this machine is not what the tests describe.
os.environ.setdefault("STEPWELL_SCHEDULES", "off")


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


@dataclass(frozen=True, eq=False)
class StairModel:
    """A method of a real archive with the inputs of one call: what tests carry down the stair."""

    name: str
    bound: Any
    inputs: tuple[Any, ...]

    @property
    def session(self) -> Any:
        return self.bound._session

    def call(self) -> Any:
        """The call, taken apart: its signature and its leaves."""
        method = self.bound._method
        return method._take_apart(method.bind(self.inputs, {}))[0]

    def request(self) -> Any:
        """What the compiler is asked for."""
        from stepwell.compiler.signature import Pattern

        call, method = self.call(), self.bound._method
        return self.session.request(method, call, Pattern(call.numbers), method._state)

    def specialized(self) -> Any:
        """The contract of the call: a fresh program each time, for passes change it in place."""
        from stepwell.compiler.signature import Pattern

        call, method = self.call(), self.bound._method
        return self.session.specialized(method, call, Pattern(call.numbers), method._state)

    def raw(self) -> Any:
        """The raw module."""
        return self.session.raw(self.bound._method).module


@functools.cache
def _silero() -> Path:
    """The archive of the PyPI package silero-vad, none of which is in this repository."""
    found = importlib.util.find_spec("silero_vad")
    if found is None or not found.submodule_search_locations:
        reason = "silero-vad is not installed (pip install --no-deps silero-vad==6.2.3)"
        if os.environ.get("STEPWELL_CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(found.submodule_search_locations[0]) / "data" / "silero_vad.jit"


@pytest.fixture
def silero_archive() -> Path:
    return _silero()


@functools.cache
def stair_model(name: str) -> StairModel:
    import numpy as np

    import stepwell

    root = Path(__file__).parents[1]
    if name == "digits":
        images = np.load(root / "examples" / "digits" / "images.npy")[:4]
        return StairModel(name, stepwell.load(root / "examples" / "digits" / "digits.pt").method("forward"), (images,))
    if name == "silero":
        chunk = (0.1 * np.random.RandomState(0).randn(512)).astype(np.float32)
        return StairModel(name, stepwell.load(_silero()).method("forward"), (chunk, 16000))
    record = np.load(root / "tests" / "archives" / f"{name}.npz")
    inputs = tuple(record[k] for k in record.files if k.startswith("input") and k.endswith("_2"))
    return StairModel(name, stepwell.load(root / "tests" / "archives" / f"{name}.pt").method("forward"), inputs)


STAIR_MODELS = ("digits", "mlp", "lstm", "encoder", "silero")
"""Convolutions; products; state that is carried; attention; an archive that nobody here wrote."""


@pytest.fixture(params=STAIR_MODELS)
def model(request: pytest.FixtureRequest) -> StairModel:
    """Real archives, one after the other."""
    return stair_model(request.param)


@pytest.fixture
def load_model() -> Any:
    """One of STAIR_MODELS by name."""
    return stair_model
