"""Ints and sizes that a program needs as numbers: variants for exact ones, however many calls came before."""

from __future__ import annotations

import numpy as np
import pytest

import stepwell
from stepwell.compiler.signature import MOST_VARIANTS, Pattern, Variants


@stepwell.script
def pooled(x: stepwell.Tensor, window: int) -> stepwell.Tensor:
    return stepwell.nn.functional.max_pool2d(x, [window, window], [1, 1])


@stepwell.script
def summed(x: stepwell.Tensor, dim: int) -> stepwell.Tensor:
    return x.sum(dim)


@stepwell.script
def pooled_whole(x: stepwell.Tensor) -> stepwell.Tensor:
    return stepwell.nn.functional.avg_pool2d(x, [x.size(2), x.size(3)])


@stepwell.script
def pooled_by_data(x: stepwell.Tensor, window: stepwell.Tensor) -> stepwell.Tensor:
    return stepwell.nn.functional.max_pool2d(x, [int(window.item()), 2], [1, 1])


@stepwell.script
def convolved(x: stepwell.Tensor, weight: stepwell.Tensor) -> stepwell.Tensor:
    return stepwell.nn.functional.conv2d(x, weight, None, [2, 2])


def image(*sizes: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(sizes).astype(np.float32)


def test_the_fourth_window_of_a_pooling_is_compiled_like_the_first() -> None:
    x = image(1, 2, 6, 6)
    for window in range(1, 7):
        assert pooled(x, window).shape == (1, 2, 7 - window, 7 - window)
    np.testing.assert_array_equal(pooled(x, 6)[..., 0, 0], x.max((2, 3)))
    assert pooled._method.statistics.interpreted_calls == 0


def test_the_fourth_dimension_of_a_sum_is_compiled_like_the_first() -> None:
    x = image(2, 3, 4, 5)
    for dim in (0, 1, 2, 3, -1, -2):
        np.testing.assert_allclose(summed(x, dim), x.sum(dim), rtol=1e-5)
    assert summed._method.statistics.interpreted_calls == 0


def test_a_pooling_over_the_whole_image_takes_images_of_any_size() -> None:
    for size in range(3, 8):
        x = image(1, 2, size, size + 1)
        np.testing.assert_allclose(pooled_whole(x)[..., 0, 0], x.mean((2, 3)), rtol=1e-5, atol=1e-6)
    assert pooled_whole._method.statistics.interpreted_calls == 0


def test_a_window_that_data_decides_is_interpreted_and_says_why() -> None:
    x = image(1, 1, 5, 5)
    assert [pooled_by_data(x, np.array(n)).shape for n in (1, 2, 3)] == [(1, 1, 5, 4), (1, 1, 4, 4), (1, 1, 3, 4)]
    (reason,) = pooled_by_data._method.statistics.reasons
    assert "aten::max_pool2d needs numbers that are only known at run time" in reason


def test_a_weight_whose_channels_vary_is_held_against_an_image_whose_channels_do_not() -> None:
    x = image(1, 4, 5, 5)
    wanted = convolved(x, np.ones((4, 4, 3, 3), np.float32))
    for channels in (2, 3):
        with pytest.raises(RuntimeError, match=f"to have {channels} channels, but got 4 channels instead"):
            convolved(x, np.ones((4, channels, 3, 3), np.float32))
    np.testing.assert_allclose(convolved(x, np.ones((4, 4, 3, 3), np.float32)), wanted, rtol=1e-5)


class Made:
    def __init__(self, interpreted: str | None = None) -> None:
        self.interpreted = interpreted


def test_patterns_from_symbols_to_numbers() -> None:
    variants = Variants([True, False])
    for numbers in ((8, 1), (9, 2), (9, 3)):
        variants.add(variants.patterns(numbers)[0], Made())
    symbols, ints, exact = variants.patterns((10, 4))
    assert symbols.parts == ("s0", "s1") and ints.parts == ("s0", 4) and exact.parts == (10, 4)
    variants.unfit.add(symbols)
    variants.unfit.add(ints)
    assert variants.patterns((10, 4)) == [exact]


def test_exact_variants_end_somewhere() -> None:
    many = Variants([True])
    for size in range(2, 2 + MOST_VARIANTS):
        many.patterns((size,))
        many.add(Pattern((size,)), Made())
    assert [p.parts for p in many.patterns((99,))] == [("s0",)]
    interpreted = Variants([True])
    interpreted.patterns((4,))
    interpreted.add(Pattern((4,)), Made("a reason"))
    assert [p.parts for p in interpreted.patterns((5,))] == [("s0",)]


@stepwell.script
def attended(x: stepwell.Tensor) -> stepwell.Tensor:
    return stepwell.nn.functional.scaled_dot_product_attention(x, x, x)


def test_attention_takes_heads_of_any_size() -> None:
    """An embedding size that varied was refused as "known at run time only"."""
    for size in (4, 6, 8):
        x = image(1, 2, 3, size)
        scores = np.exp(x @ x.swapaxes(-1, -2) / np.sqrt(size))
        np.testing.assert_allclose(attended(x), scores / scores.sum(-1, keepdims=True) @ x, rtol=1e-4, atol=1e-5)
    assert attended._method.statistics.interpreted_calls == 0
