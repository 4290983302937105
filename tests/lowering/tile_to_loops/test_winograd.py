"""The template for Winograd convolutions: every edge, every division of the work, every level, and the error."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.parser import Parser

from stepwell.compiler.backends import jit
from stepwell.compiler.backends.target import named
from stepwell.compiler.interpreter import Machine, interpret, interpret_lowered
from stepwell.dialects import context
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.target import Target
from stepwell.dialects.tile import KernelOp, schedule_of
from stepwell.lowering.analysis.winograd import ERROR, algorithm
from stepwell.lowering.host_bufferize import BufferizeHost
from stepwell.lowering.host_bufferize.scratch import AttachScratch
from stepwell.lowering.linalg import Dce, HoistConstants, structure
from stepwell.lowering.linalg.winograd import Builder
from stepwell.lowering.linalg.winograd_form import input_transform
from stepwell.lowering.linalg_to_tile import FormKernels
from stepwell.lowering.tile_to_loops import lower_kernels
from stepwell.runtime import threads

ALL = pytest.mark.parametrize("target", ["host", "x86-64-v3", "x86-64"], indirect=True)
Array = np.ndarray[Any, Any]


class Case:
    """A convolution on blocked channels with a border, then a residual and relu.

    `sizes`: images, blocks of input and output channels, channels of a block, rows and columns of the image.
    `border`: zeros above, left, below, right.
    """

    def __init__(self, sizes: tuple[int, ...], border: tuple[int, int, int, int] = (1, 1, 1, 1), seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        n, c, f, b, h, w = sizes
        self.sizes, self.border = sizes, border
        above, left, below, right = border
        self.padded = (h + above + below, w + left + right)
        self.shape = (n, f, self.padded[0] - 2, self.padded[1] - 2, b)
        self.image = rng.standard_normal((n, c, h, w, b)).astype(np.float32)
        self.residual = rng.standard_normal(self.shape).astype(np.float32)
        self.filters = rng.standard_normal((f, c, 3, 3, b, b)).astype(np.float32)

    def text(self) -> str:
        n, c, f, b, h, w = self.sizes
        x, r = f"tensor<{n}x{c}x{h}x{w}x{b}xf32>", "x".join(map(str, self.shape))
        p = f"tensor<{n}x{c}x{self.padded[0]}x{self.padded[1]}x{b}xf32>"
        k, r = f"tensor<{f}x{c}x3x3x{b}x{b}xf32>", f"tensor<{r}xf32>"
        loops = "d0, d1, d2, d3, d4, d5, d6, d7, d8"
        same = "affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d3, d4)>"
        kept, summed = ", ".join(['"parallel"'] * 5), ", ".join(['"reduction"'] * 4)
        return f"""func.func @forward(%x: {x}, %s: {r}) -> ({r}) attributes {{host.entry}} {{
          %w = arith.constant dense_resource<w> : {k}
          %z = arith.constant 0.0 : f32
          %pe = tensor.empty() : {p}
          %pf = linalg.fill ins(%z : f32) outs(%pe : {p}) -> {p}
          %p = tensor.insert_slice %x into %pf[0, 0, {self.border[0]}, {self.border[1]}, 0]
            [{n}, {c}, {h}, {w}, {b}] [1, 1, 1, 1, 1] : {x} into {p}
          %e = tensor.empty() : {r}
          %i = linalg.fill ins(%z : f32) outs(%e : {r}) -> {r}
          %o = linalg.generic {{indexing_maps = [
              affine_map<({loops}) -> (d0, d5, d2 + d6, d3 + d7, d8)>,
              affine_map<({loops}) -> (d1, d5, d6, d7, d8, d4)>, affine_map<({loops}) -> (d0, d1, d2, d3, d4)>],
              iterator_types = [{kept}, {summed}]}} ins(%p, %w : {p}, {k}) outs(%i : {r}) {{
          ^bb0(%v: f32, %u: f32, %t: f32):
            %m = arith.mulf %v, %u : f32
            %a = arith.addf %t, %m : f32
            linalg.yield %a : f32
          }} -> {r}
          %y = linalg.generic {{indexing_maps = [{same}, {same}, {same}], iterator_types = [{kept}]}}
              ins(%o, %s : {r}, {r}) outs(%e : {r}) {{
          ^bb0(%v: f32, %u: f32, %t: f32):
            %m = arith.addf %v, %u : f32
            %a = arith.maximumf %m, %z : f32
            linalg.yield %a : f32
          }} -> {r}
          func.return %y : {r}
        }}"""

    def convolved(self) -> Array:
        """The exact convolution."""
        above, left, below, right = self.border
        image = np.pad(self.image.astype(np.float64), ((0, 0), (0, 0), (above, below), (left, right), (0, 0)))
        total = np.zeros(self.shape)
        for ky, kx in np.ndindex(3, 3):
            part = image[:, :, ky : ky + self.shape[2], kx : kx + self.shape[3]]
            total += np.einsum("nchwk,fckb->nfhwb", part, self.filters[:, :, ky, kx].astype(np.float64), optimize=True)
        return total

    def expected(self) -> Array:
        return np.maximum(self.convolved() + self.residual, 0)

    def module(
        self, m: int, target: Target, before: Callable[[ModuleOp], None] | None = None, **sizes: int
    ) -> tuple[ModuleOp, list[Array]]:
        """At the tile level, with these sizes in the schedule; and the inputs. `before` changes the linalg level."""
        module = Parser(context(), self.text()).parse_module()
        (op,) = (o for o in module.walk() if isinstance(o, GenericOp) and structure.convolution(o) is not None)
        found = structure.convolution(op)
        assert found is not None
        op.results[0].replace_all_uses_with(Builder(op, found, algorithm(m)).results())
        if before is not None:
            before(module)
        for step in (Dce(), HoistConstants(), FormKernels(target)):
            step.apply(module, context())
        module.verify()
        (transformed,) = interpret(module, "prepare", [], resources={"w": self.filters})
        for op in list(module.ops):
            if getattr(op, "sym_name", None) is not None and op.sym_name.data == "prepare":
                module.body.block.erase_op(op)
        kernels = [op for op in module.ops if isinstance(op, KernelOp) and op.template == "winograd"]
        assert len(kernels) == (before is None)
        if sizes:
            kernels[0].properties["schedule"] = schedule_of("winograd", **sizes)
        return module, [self.image, self.residual, transformed]


def lowered(module: ModuleOp, target: Target) -> ModuleOp:
    BufferizeHost().apply(module, context())
    lower_kernels(module, target)
    AttachScratch(target).apply(module, context())
    module.verify()
    return module


def run(module: ModuleOp, target: Target, inputs: list[Array]) -> Array:
    """Natively. The transformed filters are a constant of the function."""
    constants = {"prepared.0": inputs[2]}
    return np.asarray(jit.build(lowered(module, target), target, constants=constants)(*inputs[:2])[0])


def close(found: Any, case: Case) -> None:
    # Random images and filters: results have the size of the root of what is summed.
    scale = (9 * case.sizes[1] * case.sizes[3]) ** 0.5
    np.testing.assert_allclose(np.asarray(found) / scale, case.expected() / scale, rtol=2e-5, atol=2e-5)


def check(case: Case, m: int, target: Target, **sizes: int) -> Array:
    """Interpreted as values, and native."""
    module, inputs = case.module(m, target, **sizes)
    (values,) = interpret(module, "forward", inputs)
    close(values, case)
    native = run(module, target, inputs)
    close(native, case)
    return native


@ALL
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(("sizes", "border"), [
    ((1, 2, 2, 8, 12, 12), (1, 1, 1, 1)),
    ((2, 1, 3, 8, 11, 13), (1, 1, 1, 1)),
    ((1, 2, 1, 16, 9, 7), (0, 0, 0, 0)),
    ((1, 1, 2, 8, 5, 6), (2, 2, 2, 2)),
    ((2, 1, 1, 4, 6, 10), (0, 1, 2, 0)),
    ((1, 1, 1, 8, 1, 1), (1, 1, 1, 1)),
    ((1, 1, 2, 8, 3, 26), (0, 2, 0, 1)),
])  # fmt: skip
def test_every_edge(target: Target, m: int, sizes: tuple[int, ...], border: tuple[int, int, int, int]) -> None:
    check(Case(sizes, border), m, target)


@pytest.mark.parametrize("sizes", [
    {"rows": 1, "columns": 2, "blocks": 2, "tiles": 2, "cob": 1},
    {"rows": 1, "columns": 4, "blocks": 4, "tiles": 3, "cob": 2},
    {"rows": 2, "columns": 5, "blocks": 4, "tiles": 4, "cob": 4, "parallel": 1},
    {"rows": 3, "columns": 5, "blocks": 1, "tiles": 7, "cob": 1, "parallel": 1},
    {"rows": 99, "columns": 99, "blocks": 99, "tiles": 99, "cob": 3},
    {},
])  # fmt: skip
def test_every_division(target: Target, sizes: dict[str, int]) -> None:
    check(Case((2, 2, 4, 8, 13, 18)), 4, target, **sizes)


def test_objects_for_another_machine() -> None:
    target = named("aarch64")
    module, _ = Case((1, 2, 2, 4, 9, 10)).module(4, target)
    assert sum(map(len, jit.compile_module(lowered(module, target), target).codes)) > 1000


def test_threads_give_the_same_bits(target: Target) -> None:
    case, found = Case((2, 2, 4, 8, 14, 14)), []
    before = threads.get_num_threads()
    try:
        for count in (1, 2):
            threads.set_num_threads(count)
            found.append(check(case, 4, target, rows=1, columns=4, blocks=2, tiles=4, cob=2, parallel=1))
    finally:
        threads.set_num_threads(before)
    np.testing.assert_array_equal(*found)


def test_lower_levels_are_interpreted(target: Target) -> None:
    case = Case((1, 1, 1, 4, 5, 6))
    module, inputs = case.module(4, target, parallel=1, rows=1, columns=1, blocks=1, tiles=1, cob=1)
    loops = lowered(module, target)
    (entry,) = (op for op in loops.ops if isinstance(op, FuncOp) and op.sym_name.data == "forward")
    size = entry.attributes["host.arena_bytes"].value.data  # type: ignore[attr-defined]
    llvm = jit.lower_module(loops.clone(), target)
    for execute in (
        lambda given: Machine(loops).call("forward", given),
        lambda given: interpret_lowered(llvm, given, threads=2),
    ):
        result = np.zeros(case.shape, np.float32)
        execute([*inputs[:2], result, inputs[2], np.full(size, 0x5A, np.int8)])
        close(result, case)


@pytest.mark.parametrize("seed", range(12))
def test_random_shapes(target: Target, seed: int) -> None:
    r = random.Random(seed)
    sizes = (r.choice([1, 1, 2, 3]), r.randint(1, 3), r.choice([1, 2, 4]), r.choice([4, 8, 16]), r.randint(1, 19), r.randint(1, 19))
    border = tuple(r.choice([0, 1, 1, 2]) for _ in range(4))
    above, left, below, right = border
    if sizes[4] + above + below < 3 or sizes[5] + left + right < 3:
        border = (1, 1, 1, 1)
    keys = {"rows": r.randint(1, 4), "columns": r.randint(1, 4), "tiles": r.randint(1, 9), "parallel": r.randint(0, 1)}
    case = Case(sizes, border, seed)  # type: ignore[arg-type]
    check(case, r.choice([2, 4]), target, **(keys if r.random() < 0.7 else {}))


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("channels", [64, 128, 256, 512])
def test_the_error_is_what_is_stated(target: Target, m: int, channels: int) -> None:
    block = target.lanes(32)
    case = Case((1, channels // block, 1, block, 24, 24))
    case.residual[:] = 0
    module, inputs = case.module(m, target)
    native = run(module, target, inputs)
    exact = case.convolved()
    wanted = np.maximum(exact, 0)  # half of the results, so half of the error
    error = np.sqrt(((native - wanted) ** 2).mean() * 2) / np.sqrt((exact**2).mean())
    assert error < ERROR[m] * channels**0.5
    # The statement is no more careful than it has to be.
    assert error > ERROR[m] * channels**0.5 / 3


def test_a_kernel_that_is_no_winograd_convolution_says_so(target: Target) -> None:
    module, _ = Case((1, 1, 1, 4, 6, 6)).module(4, target)
    text = str(module).replace("1.265625", "1.5")
    changed = Parser(context(), text).parse_module()
    BufferizeHost().apply(changed, context())
    with pytest.raises(UnsupportedError, match="has the template winograd, but is no transform"):
        lower_kernels(changed, target)


@ALL
def test_steps_that_somebody_else_reads_are_kernels_of_their_own(target: Target) -> None:
    case = Case((1, 2, 2, 8, 9, 10))
    module, inputs = case.module(4, target, before=also_return_transformed)
    assert not [op for op in module.ops if isinstance(op, KernelOp) and op.template == "winograd"]
    close(interpret(module, "forward", inputs)[0], case)
    close(run(module, target, inputs), case)


def also_return_transformed(module: ModuleOp) -> None:
    """The entry function also returns the transformed image."""
    (entry,) = (op for op in module.ops if isinstance(op, FuncOp))
    (step,) = (op for op in entry.walk() if input_transform(op) is not None)
    last = entry.body.block.last_op
    assert last is not None
    last.operands = [*last.operands, step.results[0]]
    entry.properties["function_type"] = FunctionType.from_lists(
        [a.type for a in entry.body.block.args], [v.type for v in last.operands]
    )
