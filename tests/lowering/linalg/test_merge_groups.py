"""merge-groups, and choose-layout within groups: grouped convolutions run on whole vectors of channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from xdsl.dialects.linalg.ops import GenericOp

from stepwell.dialects.tile import KernelOp
from stepwell.lowering.linalg import MergeGroups, passes, structure
from stepwell.lowering.linalg.merge_groups import merged_together
from stepwell.lowering.linalg_to_tile import FormKernels


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network(graph, channels, filters, groups, size=(9, 10), batch=1, stride=1, window=3):
    """A convolution in groups with a bias and relu between two of 1 x 1."""
    g = graph(x=(batch, 8, *size))
    b = g.builder
    x = g.convolution(g["x"], g.weight("p", channels, 8, 1, 1))
    y = g.convolution(x, g.weight("w", filters, channels // groups, window, window), stride, window // 2, groups)
    bias = b.reshape(g.weight("s", filters), [filters, 1, 1])
    y = b.elementwise(lambda e, s: (e + s).maximum(0.0), y, bias, dtype=y.dtype)
    y = g.convolution(y, g.weight("q", 8, filters, 1, 1))
    data = {
        "p": array(channels, 8, 1, 1, seed=4) / 3, "w": array(filters, channels // groups, window, window, seed=1) / 9,
        "s": array(filters, seed=2), "q": array(8, filters, 1, 1, seed=5) / 6,
    }  # fmt: skip
    return g.returns(y), array(2 if batch == "n" else batch, 8, *size, seed=3), data


def groups_of(module):
    """Groups, channels and filters in each, of the convolutions in groups."""
    found = []
    for op in module.walk():
        dims = structure.convolution(op) if isinstance(op, GenericOp) else None
        if dims is not None and dims.group:
            sizes = structure.loop_sizes(op)
            product = [int(np.prod([sizes[d] for d in part])) for part in (dims.group, dims.in_channels, dims.out_channels)]
            found.append(tuple(product))
    return found


@pytest.mark.parametrize("groups, channels, filters, lanes, count", [
    (32, 4, 4, 16, 4), (32, 8, 8, 16, 2), (32, 4, 8, 16, 4), (4, 16, 16, 16, 1), (2, 24, 48, 16, 2), (4, 12, 12, 4, 1),
    (32, 2, 2, 16, 1),  # eight together would do more for nothing than they gain
    (6, 4, 4, 16, 1),  # four do not divide six
])  # fmt: skip
def test_how_many_groups_become_one(groups, channels, filters, lanes, count):
    assert merged_together(groups, channels, filters, lanes) == count


@pytest.mark.parametrize("channels, filters, groups, merged", [
    (32, 32, 8, [(4, 8, 8)]), (16, 32, 4, [(2, 8, 16)]), (32, 32, 4, [(4, 8, 8)]),
    (8, 16, 2, []),  # all of them: no group is left
])  # fmt: skip
def test_groups_are_merged_until_they_fill_vectors(graph, check, channels, filters, groups, merged):
    module, x, data = network(graph, channels, filters, groups)
    assert groups_of(check(module, [MergeGroups(8)], x, resources=data, rtol=1e-4, atol=1e-5)) == merged


def test_a_number_that_is_not_finite_stays_with_the_merged_groups(graph):
    from stepwell import dialects
    from stepwell.compiler.interpreter import interpret

    g = graph(x=(1, 16, 3, 3))
    module = g.returns(g.convolution(g["x"], g.weight("w", 16, 4, 1, 1), groups=4))
    MergeGroups(8).apply(module, dialects.context())
    x = array(1, 16, 3, 3)
    x[0, 0, 1, 1] = np.inf
    (found,) = interpret(module, "f", [x], resources={"w": array(16, 4, 1, 1)})
    finite = np.isfinite(found)
    assert not finite[0, :8, 1, 1].any() and finite[0, 8:].all() and finite[0, :, 0].all()


@pytest.mark.parametrize("options", [
    {"channels": 16, "filters": 16, "groups": 2}, {"channels": 16, "filters": 16, "groups": 4},
    {"channels": 32, "filters": 16, "groups": 2, "stride": 2}, {"channels": 16, "filters": 48, "groups": 2, "size": (5, 7)},
    {"channels": 16, "filters": 16, "groups": 2, "batch": "n"}, {"channels": 16, "filters": 16, "groups": 2, "window": 1},
    {"channels": 16, "filters": 16, "groups": 2, "batch": 3, "window": 5},
])  # fmt: skip
def test_a_network_with_groups_stays_blocked(graph, check, target, options):
    module, x, data = network(graph, **options)
    target = replace(target, winograd=False)
    module = check(module, (*passes(target), FormKernels(target)), x, resources=data, rtol=1e-4, atol=1e-4)
    (f,) = [op for op in module.ops if op.name == "func.func" and op.sym_name.data == "f"]
    kernels = {op.sym_name.data: op.template for op in module.ops if isinstance(op, KernelOp)}
    templates = [kernels[op.kernel.string_value()] for op in f.walk() if op.name == "tile.launch"]
    # The image is packed, one border is filled, the result unpacked; bias and relu are in the convolutions.
    border = ["map"] if options.get("window", 3) > 1 else []
    assert templates == ["map", "conv", *border, "conv", "conv", "map"]


def test_groups_that_fill_no_block_are_computed_one_by_one(graph, check, target):
    module, x, data = network(graph, 30, 30, 6)
    module = check(module, (*passes(target), FormKernels(target)), x, resources=data, rtol=1e-4, atol=1e-4)
    assert "nest" in [op.template for op in module.ops if isinstance(op, KernelOp)]
