"""Random small graphs through all passes give the same numbers."""

import math
import random

import numpy as np
import pytest

from stepwell.lowering.linalg import passes
from stepwell.lowering.linalg_to_tile import FormKernels

SEEDS = 60
UNARY = ("tanh", "erf", "absf", "floor")


def spread(random_, total, rank):
    """A shape of a rank with that many elements."""
    shape = [1] * rank
    for prime in (2, 2, 2, 3, 3, 5, 7):
        if total % prime == 0:
            total //= prime
            shape[random_.randrange(rank)] *= prime
    shape[-1] *= total
    return shape


def step(r, g, pool):
    """One more tensor."""
    b, x = g.builder, r.choice(pool)
    kind = r.choice(["unary", "binary", "binary", "reduce", "transpose", "reshape", "slice", "matmul", "softmax",
                     "concatenate", "expand", "norm", "scalar", "iota", "cheap"])  # fmt: skip
    if kind == "unary":
        name = r.choice(UNARY)
        return b.elementwise(lambda e: e.math(name), x, dtype=x.dtype)
    if kind == "cheap":
        return b.elementwise(lambda e: -e, x, dtype=x.dtype)
    if kind == "scalar" and x.rank:
        value = b.element(b.reshape(x, [math.prod(x.sizes)]), [0])
        return b.elementwise(lambda e, s: e + s, x, value, dtype=x.dtype)
    if kind == "iota":
        sizes = x.sizes if x.rank else (3,)
        place = b.iota(sizes, r.randrange(len(sizes)), x.dtype, lambda i: i.remainder(3))
        return b.elementwise(lambda e, s: e * s, x, place, dtype=x.dtype)
    if kind == "binary":
        others = [y for y in pool if y.sizes == x.sizes or (y.rank and y.sizes == x.sizes[-y.rank :])]
        others += [
            y for y in pool if y.rank == x.rank and all(s in (1, t) for s, t in zip(y.sizes, x.sizes, strict=True))
        ]
        y, first = r.choice(others), r.random() < 0.5
        combine = r.choice([lambda p, q: p + q, lambda p, q: p * q, lambda p, q: p.maximum(q), lambda p, q: p - q])
        return b.elementwise(combine, *((x, y) if first else (y, x)), dtype=x.dtype)
    if x.rank == 0:
        return b.expand(x, [2, 3])
    if kind == "reduce":
        dims = r.sample(range(x.rank), r.randint(1, x.rank))
        return b.reduce(lambda a, e: a + e, 0, x, dims, keep=r.random() < 0.5 and len(dims) < x.rank)
    if kind == "transpose":
        return b.transpose(x, r.sample(range(x.rank), x.rank))
    if kind == "reshape":
        return b.reshape(x, spread(r, math.prod(x.sizes), r.randint(1, 4)))
    if kind == "expand":
        return b.expand(x, [r.choice([2, 3]), *x.sizes])
    if kind == "slice":
        starts = [r.randrange(s) for s in x.sizes]
        steps = [r.choice([1, 1, 2]) for _ in x.sizes]
        sizes = [r.randint(1, (s - a + t - 1) // t) for s, a, t in zip(x.sizes, starts, steps, strict=True)]
        return b.slice(x, starts, sizes, steps)
    if kind == "concatenate":
        d = r.randrange(x.rank)
        return b.concatenate([x, b.elementwise(lambda e: e * 2.0, x, dtype=x.dtype)], d)
    if kind == "softmax" and x.rank > 1:
        return g.softmax(x)
    if kind == "norm" and x.rank > 1:
        return g.layer_norm(x, b.fill(1.5, x.sizes[-1:], x.dtype), b.fill(0.5, x.sizes[-1:], x.dtype))
    k = x.sizes[-1]
    partners = [y for y in pool if y.rank == 2 and k in y.sizes]
    flat = b.reshape(x, [math.prod(x.sizes[:-1]), k])
    if not partners:
        return g.product(flat, flat, "mk,nk->mn")
    y = r.choice(partners)
    return g.product(flat, y, "mk,kn->mn" if y.sizes[0] == k else "mk,nk->mn")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_graph(seed, graph, check, target):
    r = random.Random(seed)
    shapes = {"x": (4, 6), "y": (2, 3, 4), "z": (6,), "w": (4, 1)}
    g = graph(**shapes)
    pool = list(g.inputs.values())
    for _ in range(r.randint(3, 14)):
        made = step(r, g, pool)
        if math.prod(made.sizes) <= 2000:
            pool.append(made)
    results = [pool[-1], *r.sample(pool, 2)]
    arrays = [np.random.default_rng(seed).standard_normal(s).astype(np.float32) for s in shapes.values()]
    check(g.returns(*results), (*passes(target), FormKernels(target)), *arrays, rtol=2e-3, atol=1e-3)
