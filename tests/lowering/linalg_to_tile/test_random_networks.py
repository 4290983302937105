"""Random small convolutional networks through all passes give the same numbers."""

import random

import numpy as np
import pytest

from stepwell.lowering.linalg import passes
from stepwell.lowering.linalg_to_tile import FormKernels

SEEDS = 25


def step(r, g, x, older, count):
    """One more layer on x; older tensors may be joined to it."""
    b = g.builder
    n, c, h, w = x.sizes
    kind = r.choice(["conv", "conv", "conv", "depthwise", "pool", "relu", "norm", "add", "join", "slice", "gate"])
    if kind == "conv" and min(h, w) >= 3:
        size, out = r.choice([1, 3]), r.choice([8, 16, 16, 12])
        padding = r.choice([0, 1]) if size == 3 else 0
        return g.convolution(x, g.weight(f"w{count}", out, c, size, size), r.choice([1, 1, 2]), padding)
    if kind == "depthwise" and min(h, w) >= 3 and c > 1:
        return g.convolution(x, g.weight(f"w{count}", c, 1, 3, 3), 1, r.choice([0, 1]), groups=c)
    if kind == "pool" and min(h, w) >= 3:
        return g.pooling(x, 2, r.choice([1, 2]), r.random() < 0.5)
    if kind == "norm":
        scale = b.reshape(g.weight(f"w{count}", c), [c, 1, 1])
        return b.elementwise(lambda e, s: (e - s) / (s * s + 1e-1).math("sqrt"), x, scale, dtype=x.dtype)
    if kind == "add":
        other = r.choice([y for y in older if y.sizes == x.sizes] or [x])
        return b.elementwise(lambda p, q: p * 0.5 + q, x, other, dtype=x.dtype)
    if kind == "join":
        others = [y for y in older if (y.sizes[0], *y.sizes[2:]) == (n, h, w)] or [x]
        return b.concatenate([x, r.choice(others)], 1)
    if kind == "slice" and c >= 16:
        return b.slice(x, [0, r.choice([0, 8, 4]), 0, 0], [n, 8, h, w], [1, 1, 1, 1])
    if kind == "gate":
        mean = b.reduce(lambda a, e: a + e, 0, x, [2, 3], keep=True)
        return b.elementwise(lambda e, m: e * (m * 0.01).math("tanh"), x, mean, dtype=x.dtype)
    return b.elementwise(lambda e: e.maximum(0.0), x, dtype=x.dtype)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_network(seed, graph, check, target):
    r = random.Random(seed)
    batch, channels = r.choice([1, 2, "n"]), r.choice([3, 8, 16])
    g = graph(x=(batch, channels, 10, 9))
    x = g["x"]
    older = [x]
    for count in range(r.randint(3, 9)):
        x = step(r, g, x, older, count)
        older.append(x)
    results = [x] if r.random() < 0.7 else [x, r.choice(older[1:])]
    module = g.returns(*results)
    values = np.random.default_rng(seed)
    data = {}
    for op in module.walk():
        if op.name == "arith.constant" and "dense_resource" in str(op.properties["value"]):
            shape = op.results[0].type.get_shape()
            fan = max(1, int(np.prod(shape[1:])))
            data[op.properties["value"].resource_handle.data] = (values.standard_normal(shape) / fan**0.5).astype(
                np.float32
            )
    x = values.standard_normal((2 if batch == "n" else batch, channels, 10, 9)).astype(np.float32)
    check(module, (*passes(target), FormKernels(target)), x, resources=data, rtol=2e-3, atol=1e-3)
