"""No text makes the compiler more than complain: damaged ones of every level are refused in words, or compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each case is a process of its own")
def test_damaged_texts_are_compiled_or_refused_in_words() -> None:
    program = Path(__file__).with_name("hostile_text.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "STEPWELL_CACHE": "0"}
    done = subprocess.run(
        [sys.executable, str(program), "20"], capture_output=True, text=True, timeout=600, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *wrong, totals = [json.loads(line) for line in done.stdout.splitlines()]
    assert not wrong, "\n".join(map(str, wrong))
    assert totals["cases"] == 100 and totals["error"] >= 50 and totals["text"] >= 3, totals
