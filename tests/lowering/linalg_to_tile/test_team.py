"""Whether threads share a program's work, and that a kernel for one thread is run by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import stepwell
from stepwell.compiler.backends.target import named
from stepwell.runtime import threads

TARGET = replace(named("x86-64-v3"), cores=2)


@pytest.fixture
def two_threads():
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)


def product(x: stepwell.Tensor, w: stepwell.Tensor) -> stepwell.Tensor:
    return (x @ w).relu() @ w


def products(x: stepwell.Tensor, w: stepwell.Tensor) -> stepwell.Tensor:
    for _ in range(400):
        x = (x @ w).tanh()
    return x


def small_then_large(x: stepwell.Tensor, w: stepwell.Tensor) -> stepwell.Tensor:
    head = (x[:64, :64] @ w[:64, :64]).relu() @ w[:64, :64]
    return (x @ w) * head.sum()


@pytest.mark.parametrize(
    ("function", "size", "shared"),
    [(product, 64, False), (product, 512, True), (products, 128, True), (small_then_large, 512, True)],
)
def test_threads_share_what_is_worth_waking_them(function, size, shared, two_threads):
    random = np.random.default_rng(0)
    x, w = (random.standard_normal((size, size), dtype=np.float32) / size**0.5 for _ in range(2))
    scripted = stepwell.compile(function, target=TARGET)
    got = scripted(x, w)
    assert scripted._method.last.native.layout.parallel is shared
    threads.set_num_threads(1)
    assert scripted(x, w).tobytes() == got.tobytes(), "how many threads there are changes no bit"
    want = x.astype(np.float64)
    if function is products:
        for _ in range(400):
            want = np.tanh(want @ w)
    elif function is product:
        want = np.maximum(want @ w, 0) @ w
    else:
        small, v = want[:64, :64], w[:64, :64].astype(np.float64)
        want = (want @ w) * (np.maximum(small @ v, 0) @ v).sum()
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


def test_a_kernel_for_one_thread_stays_with_one_however_many_blocks_it_has(two_threads):
    """Its loop over panels was divided, so that small programs entered the team."""
    scripted = stepwell.compile(product, target=TARGET)
    scripted(np.ones((16, 16), np.float32), np.ones((16, 16), np.float32))
    assert not scripted._method.last.native.layout.parallel
    assert "host.alone" in scripted.stage("loops")
