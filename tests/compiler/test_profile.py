"""What `profile` says of a call: which kernels ran, what they did, and shares of what the threads could do."""

from __future__ import annotations

import numpy as np
import pytest

import stepwell
from stepwell.compiler import peak
from stepwell.compiler.peak import Peak
from stepwell.compiler.profile import KernelRow, Profile
from stepwell.lowering.analysis.work import Work


def test_rows_name_work_and_result() -> None:
    @stepwell.script
    def scores(x: stepwell.Tensor, w: stepwell.Tensor) -> stepwell.Tensor:
        return stepwell.softmax(x @ w, dim=-1)

    x, w = np.ones((8, 16), np.float32), np.ones((16, 4), np.float32)
    profile = scores.profile(x, w)
    whole, *kernels = profile.kernels
    assert whole.name == "forward"
    by_name = {row.name: row for row in kernels}
    product = by_name["matmul_0"]
    assert product.result == "8x4" and product.calls == 1
    assert product.work is not None and product.work.flops == 2 * 8 * 16 * 4
    assert whole.seconds >= sum(row.seconds for row in kernels) > 0
    assert profile.threads == 1  # too small for more


def test_shares_are_of_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.compiler.profile.measured", lambda: Peak(flops=100e9, bytes=10e9))
    rows = [KernelRow("forward", 1, 2e-3, None), KernelRow("matmul_0", 1, 1e-3, Work(100_000_000, 1_000_000), "64x64")]
    (one,) = (line for line in str(Profile(rows, 1)).splitlines() if "matmul_0" in line)
    (two,) = (line for line in str(Profile(rows, 2)).splitlines() if "matmul_0" in line)
    assert "100.0%" in one and one.endswith("64x64") and "50.0%" in one  # half of the call, all of a core
    assert "100.0%" not in two


def test_the_peak_is_that_of_the_best_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "SECONDS", 0.02)
    durations = iter([0.005, 0.001, 0.005, *[0.005] * 100])
    clock = {"now": 0.0}

    def work() -> None:
        clock["now"] += next(durations)

    monkeypatch.setattr(peak.time, "perf_counter", lambda: clock["now"])
    assert peak._best(work) == pytest.approx(0.001)
