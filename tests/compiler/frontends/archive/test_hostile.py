"""No archive, however it was made, does more than raise an error: in bounded time and memory, executing nothing."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

MEMORY = 1 << 30
ENOUGH = 300


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each case is a process of its own")
def test_what_still_loads_gives_a_result_or_an_exception() -> None:
    """Damaged code, attributes and weights, compiled and called, with bounded memory: no crash, nothing started."""
    program = Path(__file__).with_name("hostile_runs.py")
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "STEPWELL_CACHE": "0"}
    done = subprocess.run(
        [sys.executable, str(program), "6"], capture_output=True, text=True, timeout=600, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *wrong, totals = [json.loads(line) for line in done.stdout.splitlines()]
    assert not wrong, "\n".join(map(str, wrong))
    assert totals["cases"] == 60 and totals["result"] >= 10 and totals["exception"] >= 10, totals


@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory with RLIMIT_DATA as Linux counts it")
def test_every_hostile_archive_is_refused_cleanly() -> None:
    program = Path(__file__).with_name("hostile.py")

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=240,
        preexec_fn=bound,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *wrong, totals = [json.loads(line) for line in done.stdout.splitlines()]
    assert not wrong, "\n".join(map(str, wrong[:20]))
    assert totals["cases"] >= ENOUGH and totals["errors"] >= ENOUGH, totals
