"""Memory of results: used again when nobody holds it, never before."""

import gc
import threading
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.runtime.abi import data_pointer
from stepwell.runtime.blocks import Blocks, rounded

FLOAT = np.dtype(np.float32)


def test_a_block_is_used_again_with_its_last_view() -> None:
    blocks = Blocks(2)
    array = blocks.array((300, 100), FLOAT)
    place = data_pointer(array)
    assert place % 64 == 0 and array.shape == (300, 100) and array.flags.writeable
    view = array.reshape(-1)[5:][::7]
    memory = memoryview(view.base)
    del array, view
    assert blocks.waiting == 0, "somebody may still read there"
    del memory
    assert blocks.waiting == 1
    again = blocks.array((300, 100), FLOAT)
    assert data_pointer(again) == place and blocks.waiting == 0


def test_the_base_of_a_result_gives_nothing_back() -> None:
    blocks = Blocks(2)
    array = blocks.array((300, 100), FLOAT)
    part = array.base[:10]
    del part
    assert blocks.waiting == 0
    del array
    assert blocks.waiting == 1


def test_results_that_grow_fit_and_few_blocks_wait() -> None:
    blocks = Blocks(3)
    for length in range(1000, 1100):
        held = [blocks.array((length, 100), FLOAT) for _ in range(5)]
        del held
        assert blocks.waiting == 3
    assert len(blocks._waiting) < 5
    assert all(size <= rounded(size) <= size * 9 // 8 + 1 for size in (1, 7, 64, 1000, 100_000, 123_457_000))


def test_threads_take_and_give() -> None:
    blocks = Blocks(4)

    def work(number: int) -> None:
        for _ in range(200):
            array = blocks.array((20_000,), FLOAT)
            array[:] = number
            assert (array == number).all()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blocks.waiting <= 4


@pytest.mark.parametrize("sizes", [[(200, 200)] * 4, [(200, 200), (201, 200), (202, 200), (260, 200)]])
def test_results_that_are_held_keep_their_contents(sizes: list[tuple[int, int]]) -> None:
    @stepwell.script
    def grown(x: stepwell.Tensor) -> tuple[stepwell.Tensor, stepwell.Tensor]:
        return x + 1.0, x * 2.0

    held: list[tuple[Any, Any]] = []
    for number, size in enumerate(sizes):
        x = np.full(size, number, np.float32)
        more, twice = grown(x)
        again = grown(more)
        del again
        held.append((more[1:], twice))
    gc.collect()
    for number, (more, twice) in enumerate(held):
        assert (more == number + 1).all() and (twice == 2 * number).all()
