"""Transposed convolutions by phases give what the gradient of a convolution gives, for all that strides can do."""

from __future__ import annotations

import random

import numpy as np
import pytest
from xdsl.dialects.linalg.ops import GenericOp

from stepwell.compiler.interpreter import interpret
from stepwell.dialects.torch.declare import TensorInfo
from stepwell.dialects.torch.ops.convolution import numpy_convolution, output_sizes
from stepwell.dialects.torch.ops.convolution_linalg import lower_convolution
from stepwell.lowering.linalg import structure


def lowered(graph, x, w, stride, padding, extra, groups, dilation=(1,)):
    """The function, and the numpy reference's result."""
    given = ([*stride], [*padding], [*dilation], True, [*extra], groups)
    g = graph(x=x.shape)
    info, weight = TensorInfo(x.shape, g["x"].dtype), g.weight("w", *w.shape)
    rank = len(stride)
    sizes = output_sizes(
        info, TensorInfo(w.shape, info.dtype), stride, padding, [*dilation] * (rank if len(dilation) == 1 else 1), True, extra
    )
    out = TensorInfo((x.shape[0], w.shape[1] * groups, *sizes), info.dtype)
    result = lower_convolution(g.builder, out, g["x"], weight, None, *given)
    return g.returns(result), numpy_convolution(x, w, None, *given)


@pytest.mark.parametrize("seed", range(24))
def test_random_sizes(graph, seed):
    r = random.Random(seed)
    rank, groups = r.choice([1, 2, 2, 3]), r.choice([1, 1, 2])
    window = [r.randint(1, 5) for _ in range(rank)]
    stride = [r.randint(1, 4) for _ in range(rank)]
    padding = [r.randint(0, k - 1) for k in window]
    extra = [r.randint(0, s - 1) for s in stride]
    image = [r.randint(1, 4) + 2 for _ in range(rank)]
    numbers = np.random.default_rng(seed)
    x = numbers.standard_normal((r.choice([1, 2]), groups * r.choice([1, 3]), *image)).astype(np.float32)
    w = numbers.standard_normal((x.shape[1], r.choice([1, 2]), *window)).astype(np.float32)
    module, wanted = lowered(graph, x, w, stride, padding, extra, groups)
    (found,) = interpret(module, "f", [x], resources={"w": w})
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window, stride, taps, channels", [((4, 4), (2, 2), (2, 2), 16), ((3, 5), (2, 3), (2, 2), 24)])
def test_no_zeros_between_pixels_are_multiplied(graph, window, stride, taps, channels):
    x, w = np.ones((1, 2, 3, 3), np.float32), np.ones((2, 4, *window), np.float32)
    module, _ = lowered(graph, x, w, stride, (0, 0), (0, 0), 1)
    ((op, dims),) = [(op, dims) for op in module.walk() if isinstance(op, GenericOp) and (dims := structure.convolution(op))]
    sizes = structure.loop_sizes(op)
    assert tuple(sizes[d] for d in dims.window) == taps and sizes[dims.out_channels[0]] == channels


def test_windows_with_gaps_meet_the_image_with_zeros_between(graph):
    x, w = np.ones((1, 2, 3, 4), np.float32), np.ones((2, 1, 2, 3), np.float32)
    module, wanted = lowered(graph, x, w, (2, 3), (0, 1), (1, 0), 1, dilation=(2, 1))
    (found,) = interpret(module, "f", [x], resources={"w": w})
    np.testing.assert_allclose(found, wanted)
