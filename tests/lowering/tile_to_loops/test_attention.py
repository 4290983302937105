"""The template for attention: every edge, every division of the work, masks, every level; and what becomes one kernel."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.parser import Parser

import stepwell
from stepwell import Tensor
from stepwell.compiler.backends import jit
from stepwell.compiler.backends.target import named
from stepwell.compiler.interpreter import Machine, interpret, interpret_lowered
from stepwell.dialects import context
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.target import Target
from stepwell.dialects.tile import KernelOp, schedule_of
from stepwell.lowering.gpu import device
from stepwell.lowering.host_bufferize import BufferizeHost
from stepwell.lowering.host_bufferize.scratch import AttachScratch
from stepwell.lowering.tile_to_loops import lower_kernels
from stepwell.runtime import threads

ALL = pytest.mark.parametrize("target", ["host", "x86-64-v3", "x86-64"], indirect=True)
Array = np.ndarray[Any, Any]
F = stepwell.nn.functional


@stepwell.script
def plain(q: Tensor, k: Tensor, v: Tensor):
    return F.scaled_dot_product_attention(q, k, v)


@stepwell.script
def causal(q: Tensor, k: Tensor, v: Tensor):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@stepwell.script
def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@stepwell.script
def heads(q: Tensor, k: Tensor, v: Tensor):
    y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), scale=0.3)
    return y.transpose(1, 2)


@stepwell.script
def by_hand(q: Tensor, k: Tensor, v: Tensor, mask: Tensor):
    """As models have it that are older than the function."""
    scores = stepwell.matmul(q, k.transpose(-1, -2)) / 8.0 + mask
    return stepwell.matmul(F.softmax(scores, dim=-1), v)


@stepwell.script
def past(q: Tensor, k: Tensor, v: Tensor):
    """Queries come after keys that were there before them."""
    before = k.size(2) - q.size(2)
    early = stepwell.arange(k.size(2))[None, :] > stepwell.arange(q.size(2))[:, None] + before
    scores = stepwell.matmul(q, k.transpose(-1, -2)).masked_fill(early, float("-inf"))
    return stepwell.matmul(stepwell.softmax(scores, -1), v)


@stepwell.script
def with_weights(q: Tensor, k: Tensor, v: Tensor):
    weights = stepwell.softmax(stepwell.matmul(q, k.transpose(-1, -2)), -1)
    return stepwell.matmul(weights, v), weights


def array(*sizes: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(seed).standard_normal(sizes).astype(dtype)


def operands(q: tuple[int, ...], keys: int, columns: int | None = None, dtype: Any = np.float32) -> list[Array]:
    """q, k and v for queries of a shape [batch, heads, queries, depth]."""
    k, v = (*q[:-2], keys, q[-1]), (*q[:-2], keys, columns or q[-1])
    return [array(*q, seed=1, dtype=dtype), array(*k, seed=2, dtype=dtype), array(*v, seed=3, dtype=dtype)]


def attended(q: Array, k: Array, v: Array, mask: Array | None = None, scale: float | None = None) -> Array:
    """In double precision."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = q @ k.swapaxes(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == np.bool_ else scores + mask
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True) @ v)


def tile_level(function: Any, inputs: list[Array], target: Target, **sizes: int) -> ModuleOp:
    """A function at the tile level, with these sizes in the schedule of its attention."""
    module: ModuleOp = function._inspector.program_at("tile", inputs, {}, target).module
    for op in module.ops:
        if isinstance(op, KernelOp) and op.template == "attention" and sizes:
            op.properties["schedule"] = schedule_of("attention", **sizes)
    return module


def templates(module: ModuleOp) -> list[str]:
    return [op.template for op in module.ops if isinstance(op, KernelOp)]


def lowered(module: ModuleOp, target: Target) -> ModuleOp:
    BufferizeHost().apply(module, context())
    lower_kernels(module, target)
    AttachScratch(target).apply(module, context())
    module.verify()
    return module


def check(function: Any, inputs: list[Array], expected: Array, target: Target, **sizes: int) -> Array:
    """One kernel, interpreted as values, and native, twice."""
    module = tile_level(function, inputs, target, **sizes)
    assert templates(module) == ["attention"]
    tolerance = 1e-12 if expected.dtype == inputs[0].dtype == np.float64 else 1e-5
    values = interpret(module, "forward", inputs)
    np.testing.assert_allclose(np.asarray(values).reshape(expected.shape), expected, rtol=tolerance, atol=tolerance)
    native = jit.build(lowered(module, target), target)
    result = np.asarray(native(*inputs)[0])
    np.testing.assert_allclose(result.reshape(expected.shape), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(result, np.asarray(native(*inputs)[0]))
    return result


@ALL
@pytest.mark.parametrize(("shape", "keys", "columns"), [
    ((1, 2, 64, 64), 128, 64),
    ((2, 3, 70, 32), 197, 32),
    ((1, 1, 17, 80), 300, 80),
    ((1, 2, 33, 7), 2, 16),
    ((2, 1, 16, 20), 7, 12),
    ((1, 1, 130, 64), 1500, 8),
    ((3, 1, 100, 33), 129, 24),
])  # fmt: skip
def test_every_edge(target: Target, shape: tuple[int, ...], keys: int, columns: int) -> None:
    inputs = operands(shape, keys, columns)
    check(plain, inputs, attended(*inputs), target)


@ALL
def test_doubles(target: Target) -> None:
    inputs = operands((1, 2, 37, 24), 141, dtype=np.float64)
    check(plain, inputs, attended(*inputs), target)


@ALL
@pytest.mark.parametrize("sizes", [
    {"rows": 16, "keys": 5, "parallel": 1},
    {"rows": 32, "keys": 64},
    {"rows": 48, "keys": 197, "parallel": 1},
    {"rows": 128, "keys": 1000},
    {"rows": 1, "keys": 1},
    {},
])  # fmt: skip
@pytest.mark.parametrize("function", [plain, causal])
def test_every_division(target: Target, function: Any, sizes: dict[str, int]) -> None:
    inputs = operands((2, 2, 101, 16), 197, 16)
    mask = np.tril(np.ones((101, 197), bool)) if function is causal else None
    check(function, inputs, attended(*inputs, mask), target, **sizes)


@ALL
@pytest.mark.parametrize(("queries", "keys"), [(512, 512), (64, 64), (50, 70), (70, 50), (100, 2), (65, 300)])
def test_causal(target: Target, queries: int, keys: int) -> None:
    inputs = operands((1, 2, queries, 16), keys)
    check(causal, inputs, attended(*inputs, np.tril(np.ones((queries, keys), bool))), target)


@ALL
def test_causal_after_a_past(target: Target) -> None:
    inputs = operands((1, 2, 40, 16), 97)
    check(past, inputs, attended(*inputs, np.tril(np.ones((40, 97), bool), 57), scale=1.0), target)


def test_keys_out_of_reach_are_not_looked_at(target: Target) -> None:
    """What is skipped: everything after the last query's last key."""
    inputs = operands((1, 1, 16, 16), 300)
    expected = attended(*inputs, np.tril(np.ones((16, 300), bool)))
    inputs[1][:, :, 40:] = inputs[2][:, :, 40:] = np.nan
    result = np.asarray(jit.build(lowered(tile_level(causal, inputs, target), target), target)(*inputs)[0])
    np.testing.assert_allclose(result.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


@ALL
@pytest.mark.parametrize("sizes", [(1, 1, 1, 197), (1, 1, 70, 197), (2, 1, 70, 197), (1, 3, 70, 1), (2, 3, 70, 197)])
@pytest.mark.parametrize("kind", ["added", "chosen"])
def test_masks(target: Target, sizes: tuple[int, ...], kind: str) -> None:
    inputs = operands((2, 3, 70, 16), 197)
    mask = array(*sizes, seed=4) * 3
    mask = mask if kind == "added" else (mask > -2) | (np.arange(sizes[-1]) == 0)
    check(masked, [*inputs, mask], attended(*inputs, mask), target)


@ALL
def test_a_block_of_keys_that_nothing_is_left_of(target: Target) -> None:
    inputs = operands((1, 2, 20, 16), 300)
    mask = np.zeros((1, 1, 20, 300), bool)
    mask[..., 250:] = mask[:, :, 3, :7] = mask[:, :, 4, 140] = True
    mask[:, :, 4, 250:] = False
    check(masked, [*inputs, mask], attended(*inputs, mask), target)


def test_tiny_weights_are_nothing(target: Target) -> None:
    """A mask of -10000, and scores that differ by almost so much that their weights are no normal numbers."""
    inputs = operands((1, 1, 20, 16), 90)
    mask = np.zeros((1, 1, 1, 90), np.float32)
    mask[..., 60:] = -10000
    mask[..., 30:60] = -np.linspace(80, 110, 30)
    check(masked, [*inputs, mask], attended(*inputs, mask), target)


def test_infinities_and_nan_reach_what_they_should(target: Target) -> None:
    inputs = operands((1, 1, 48, 16), 70)
    inputs[0][0, 0, 5, 3], inputs[0][0, 0, 20, :] = np.nan, np.inf
    inputs[2][0, 0, 66, 2] = np.inf
    module = tile_level(plain, inputs, target)
    wanted = np.asarray(interpret(module, "forward", inputs))
    result = np.asarray(jit.build(lowered(module, target), target)(*inputs)[0])
    np.testing.assert_allclose(result.reshape(48, 16), wanted.reshape(48, 16), rtol=1e-5, atol=1e-5)
    assert np.isnan(result.reshape(48, 16)[[5, 20]]).all() and np.isposinf(result.reshape(48, 16)[:5, 2]).all()


@ALL
def test_heads_lie_as_they_did(target: Target) -> None:
    """Nothing is copied into another order before, nor after."""
    q, k, v = (x.swapaxes(1, 2).copy() for x in operands((2, 3, 70, 32), 90))
    expected = attended(*(x.swapaxes(1, 2) for x in (q, k, v)), scale=0.3).swapaxes(1, 2)
    check(heads, [q, k, v], expected, target)


@ALL
def test_written_out_by_hand(target: Target) -> None:
    inputs, mask = operands((1, 2, 40, 64), 50), array(40, 50, seed=5)
    check(by_hand, [*inputs, mask], attended(*inputs, mask, scale=1 / 8), target)


def test_sizes_known_at_run_time() -> None:
    for queries, keys in ((70, 70), (33, 90), (1, 300), (64, 128), (100, 1), (130, 7)):
        inputs = operands((1, 2, queries, 16), keys)
        np.testing.assert_allclose(plain(*inputs), attended(*inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_random_shapes(target: Target, seed: int) -> None:
    r = random.Random(seed)
    shape = (r.randint(1, 2), r.randint(1, 3), r.randint(target.lanes(32), 150), r.randint(1, 70))
    columns = r.choice([4, 8, 12, 16, 20, 32, 48, 64, 80])
    inputs = operands(shape, r.randint(2, 400), columns)
    keys = {"rows": r.randint(1, 130), "keys": r.randint(1, 500), "parallel": r.randint(0, 1)}
    sizes = keys if r.random() < 0.7 else {}
    if r.random() < 0.5:
        mask = np.tril(np.ones((shape[2], inputs[1].shape[2]), bool))
        check(causal, inputs, attended(*inputs, mask), target, **sizes)
    else:
        check(plain, inputs, attended(*inputs), target, **sizes)


def test_threads_give_the_same_bits(target: Target) -> None:
    inputs, found = operands((1, 3, 150, 32), 260), []
    before = threads.get_num_threads()
    try:
        for count in (1, 2):
            threads.set_num_threads(count)
            found.append(check(plain, inputs, attended(*inputs), target, rows=32, keys=100, parallel=1))
    finally:
        threads.set_num_threads(before)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("sizes", [{"rows": 4, "keys": 3, "parallel": 1}, {"rows": 8, "keys": 9, "parallel": 1}])
def test_lower_levels_are_interpreted(sizes: dict[str, int]) -> None:
    target = named("x86-64")
    inputs = operands((1, 1, 6, 5), 7, 4)
    expected = attended(*inputs, np.tril(np.ones((6, 7), bool)))
    loops = lowered(tile_level(causal, inputs, target, **sizes), target)
    (entry,) = (op for op in loops.ops if isinstance(op, FuncOp) and op.sym_name.data == "forward")
    size = entry.attributes["host.arena_bytes"].value.data  # type: ignore[attr-defined]
    llvm = jit.lower_module(loops.clone(), target)
    for execute in (
        lambda given: Machine(loops).call("forward", given),
        lambda given: interpret_lowered(llvm, given, threads=2),
    ):
        result = np.zeros(expected.shape, np.float32)
        execute([*inputs, result, np.full(size, 0x5A, np.int8)])
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_objects_for_another_machine() -> None:
    target, inputs = named("aarch64"), operands((1, 2, 70, 64), 100)
    module = lowered(tile_level(plain, inputs, target), target)
    assert sum(map(len, jit.compile_module(module, target).codes)) > 1000


def test_a_kernel_that_is_no_attention_says_so(target: Target) -> None:
    text = str(tile_level(plain, operands((1, 1, 32, 16), 40), target))
    changed = Parser(context(), text.replace("math.exp ", "math.exp2 ")).parse_module()
    BufferizeHost().apply(changed, context())
    with pytest.raises(UnsupportedError, match="has the template attention, but is not softmax"):
        lower_kernels(changed, target)


def test_weights_that_somebody_else_reads_are_made(target: Target) -> None:
    inputs = operands((1, 2, 32, 16), 40)
    module = tile_level(with_weights, inputs, target)
    assert "attention" not in templates(module)
    result, weights = (np.asarray(x) for x in jit.build(lowered(module, target), target)(*inputs))
    np.testing.assert_allclose(result.reshape(inputs[0].shape), attended(*inputs, scale=1.0), rtol=1e-4, atol=1e-4)
    assert weights.shape == (1, 2, 32, 40)


def test_one_query_is_no_reason_for_lanes_along_queries(target: Target) -> None:
    assert "attention" not in templates(tile_level(plain, operands((1, 2, 1, 16), 40), target))


def test_gpus_have_kernels_for_the_steps() -> None:
    assert "attention" not in templates(tile_level(plain, operands((1, 2, 64, 16), 64), device().target()))


@pytest.mark.parametrize("keys", [5, 700])
def test_queries_that_a_mask_leaves_nothing_are_zero(keys: int) -> None:
    """They were NaN, as a softmax of minus infinities is."""
    q, k, v = operands((1, 2, 20, 64), keys)
    mask = np.random.default_rng(5).random((20, keys)) > 0.4
    mask[[1, 19]], mask[2, : keys // 2] = False, False
    for given in (mask, np.where(mask, 0, -np.inf).astype(np.float32)):
        found = masked(q, k, v, given)
        assert "@attention" in str(masked.stage("tile"))
        assert not found[:, :, [1, 19]].any()
        kept = mask.any(1)
        np.testing.assert_allclose(found[:, :, kept], attended(q, k, v, mask)[:, :, kept], rtol=1e-4, atol=1e-5)
