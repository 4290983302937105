"""Finding the tools of others. A missing tool skips, with the reason; where STEPWELL_CI is set, it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Tool = Callable[..., str]


def find(name: str, *places: str | Path) -> str | None:
    """The path of a program: in one of the places, or on the PATH."""
    for place in places:
        if (Path(place) / name).is_file():
            return str(Path(place) / name)
    return shutil.which(name)


def tool(name: str, hint: str, *places: str | Path) -> Tool:
    """A function that feeds text to the program and gives what it printed; the test fails where it complains."""
    path = find(name, *places)
    if path is None:
        reason = f"{name} is not installed ({hint})"
        if os.environ.get("STEPWELL_CI"):
            pytest.fail(reason)
        pytest.skip(reason)

    def run(text: str, *options: str) -> str:
        done = subprocess.run([path, *options], input=text, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{name} {' '.join(options)}:\n{done.stderr[:3000]}"
        return done.stdout

    return run


LLVM = "/usr/lib/llvm-22/bin"
DEBIAN = "apt-get install mlir-22-tools"


@pytest.fixture(scope="session")
def mlir_opt() -> Tool:
    return tool("mlir-opt", DEBIAN, LLVM)


@pytest.fixture(scope="session")
def mlir_translate() -> Tool:
    return tool("mlir-translate", DEBIAN, LLVM)


@pytest.fixture(scope="session")
def iree_opt() -> Tool:
    return tool("iree-opt", "pip install iree-base-compiler", Path(sys.executable).parent)
