"""NVIDIA's own assembler and compilers take what is emitted, without spills and without warnings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from stepwell.compiler.backends import nvidia_tools
from stepwell.compiler.backends.gpu import Kernels, kernels_of
from stepwell.compiler.backends.nvidia_tools import ToolError
from stepwell.dialects import dtypes
from stepwell.lowering.gpu import device, matmul, tiles

pytestmark = pytest.mark.tools


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """The extra gpu-tools; skipped without it, but not in CI."""
    try:
        for name in ("ptxas", "nvcc", "libnvrtc.so*", "cuda_fp16.h"):
            nvidia_tools.find(name)
    except ToolError as error:
        if os.environ.get("STEPWELL_CI"):
            raise
        pytest.skip(str(error))
    yield


def assembled(kernels: Kernels) -> None:
    """ptxas takes it, and everything stays in registers."""
    found = nvidia_tools.ptxas(kernels.ptx(), kernels.device.name)
    assert set(found) == {f.sym_name.data for f in kernels.functions}
    for name, taken in found.items():
        assert taken.spilled == 0 and taken.stack == 0, f"{name}: {taken}"
        assert taken.shared <= kernels.device.shared, f"{name}: {taken}"


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("name", ["mlp", "encoder", "lstm", "resnet18"])
def test_archives(name: str, arch: str, archive: Any) -> None:
    kernels = kernels_of(archive(name).module, device(arch))
    assembled(kernels)
    assert nvidia_tools.nvrtc(kernels.cuda(), arch).log == ""


@pytest.mark.parametrize("name", ["mlp", "encoder"])
def test_nvcc_has_no_warnings(name: str, archive: Any) -> None:
    kernels = kernels_of(archive(name).module, device())
    assert nvidia_tools.nvcc(kernels.cuda(), "sm_90a").strip() == ""


@pytest.mark.parametrize("tile", [tiles.LARGE, tiles.MIDDLE, tiles.SMALL, tiles.WIDE], ids=["large", "middle", "small", "wide"])
@pytest.mark.parametrize("sizes", [(4096, 4096, 4096), (130, 141, 37), ("m", "n", "k")])
def test_tiles_stay_in_registers(
    graph: Any, formed: Any, monkeypatch: pytest.MonkeyPatch, tile: Any, sizes: tuple[Any, Any, Any]
) -> None:
    monkeypatch.setattr(matmul, "choose_tile", lambda *_: tile)
    m, n, k = sizes
    g = graph(a=(m, k), b=(k, n))
    kernels = kernels_of(formed(g.returns(g.product(g["a"], g["b"], "mk,kn->mn"))), device())
    assembled(kernels)
    assert nvidia_tools.nvrtc(kernels.cuda(), "sm_90a").log == ""


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64"])
def test_products_of_other_types_stay_in_registers(graph: Any, formed: Any, dtype: str) -> None:
    kind = getattr(dtypes, dtype)
    g = graph(a=((4096, 4096), kind), b=((4096, 4096), kind))
    kernels = kernels_of(formed(g.returns(g.product(g["a"], g["b"], "mk,kn->mn"))), device())
    assembled(kernels)
    assert nvidia_tools.nvrtc(kernels.cuda(), "sm_90a").log == ""


@pytest.mark.parametrize("columns", [32, 1024, 8192, 16384, 50000, "n"])
def test_rows_stay_in_registers(graph: Any, formed: Any, columns: Any) -> None:
    g = graph(x=(256, columns), scale=(columns,), shift=(columns,))
    results = [g.softmax(g["x"])]
    if columns != "n":
        results.append(g.layer_norm(g["x"], g["scale"], g["shift"]))
    kernels = kernels_of(formed(g.returns(*results)), device())
    assembled(kernels)
    assert nvidia_tools.nvrtc(kernels.cuda(), "sm_90a").log == ""


def test_contiguous_elements_are_read_16_bytes_at_a_time(graph: Any, formed: Any) -> None:
    g = graph(x=(1024, 1024), y=(1024, 1024))
    out = g.builder.elementwise(lambda a, b: a * b, g["x"], g["y"], dtype=g["x"].dtype)
    kernels = kernels_of(formed(g.returns(out)), device())
    text = kernels.ptx()
    assert text.count("ld.global.nc.v4.b32") == 2 and text.count("st.global.v4.b32") == 1
    assembled(kernels)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int8", "int32", "int64", "bool_"])
def test_every_type(graph: Any, formed: Any, dtype: str) -> None:
    kind = getattr(dtypes, dtype)
    g = graph(x=((64, 96), kind), y=((64, 96), kind))
    largest = g.builder.elementwise(lambda a, b: a.maximum(b), g["x"], g["y"], dtype=kind)
    of_rows = g.builder.reduce(lambda a, e: a.maximum(e), 0, g["x"], [1])
    kernels = kernels_of(formed(g.returns(largest, of_rows)), device())
    assembled(kernels)
    assert nvidia_tools.nvrtc(kernels.cuda(), "sm_90a").log == ""


def test_math_functions_in_both_languages(graph: Any, formed: Any) -> None:
    names = ("exp", "log", "log1p", "expm1", "sin", "cos", "tan", "tanh", "sinh", "cosh", "asinh", "acosh", "atanh",
             "atan", "asin", "acos", "erf", "rsqrt", "sqrt", "cbrt", "floor", "ceil", "round", "roundeven", "trunc",
             "exp2", "log2", "log10", "absf")  # fmt: skip
    for dtype in (dtypes.float32, dtypes.float64):
        g = graph(x=((1000,), dtype))
        results = [g.builder.elementwise(lambda e, n=n: e.math(n), g["x"], dtype=dtype) for n in names]
        kernels = kernels_of(formed(g.returns(*results)), device())
        assert set(nvidia_tools.ptxas(kernels.ptx(), "sm_90a")) == {f.sym_name.data for f in kernels.functions}
        assert nvidia_tools.nvrtc(kernels.cuda(), "sm_90a").log == ""


def compiled_cuda(kernels: Kernels) -> str:
    """The PTX that NVRTC makes of the CUDA C++."""
    return nvidia_tools.nvrtc(kernels.cuda(), kernels.device.name, "-fmad=false").ptx


@pytest.mark.parametrize("name", ["mlp", "encoder", "lstm"])
def test_cuda_gives_the_same_numbers(name: str, archive: Any, through_ptx: Any) -> None:
    """NVRTC's PTX of our source, interpreted."""
    model = archive(name)
    run = through_ptx(model.module, model.resources, compiled_cuda)
    model.call(run)
    assert {f.sym_name.data for f in run.kernels.functions} == set(run.launched)


@pytest.mark.parametrize("sizes", [(7, 33), (3, 1000), (2, 5001)])
def test_softmax_in_cuda(graph: Any, formed: Any, through_ptx: Any, sizes: tuple[int, ...]) -> None:
    g = graph(x=sizes)
    run = through_ptx(formed(g.returns(g.softmax(g["x"]))), None, compiled_cuda)
    run(np.random.default_rng(0).standard_normal(sizes).astype(np.float32))


@pytest.mark.parametrize("tile", [tiles.LARGE, tiles.SMALL], ids=["large", "small"])
def test_sizes_at_run_time_in_cuda(
    graph: Any, formed: Any, through_ptx: Any, monkeypatch: pytest.MonkeyPatch, tile: Any
) -> None:
    monkeypatch.setattr(matmul, "choose_tile", lambda *_: tile)
    g = graph(a=("m", "k"), b=("k", "n"))
    run = through_ptx(formed(g.returns(g.product(g["a"], g["b"], "mk,kn->mn"))), None, compiled_cuda)
    rng = np.random.default_rng(0)
    run(rng.random((70, 9), np.float32), rng.random((9, 130), np.float32))


def test_what_a_tool_refuses_is_an_error() -> None:
    with pytest.raises(ToolError, match="ptxas"):
        nvidia_tools.ptxas(".version 8.0\n.target sm_90a\n.address_size 64\nnonsense", "sm_90a")
    with pytest.raises(ToolError, match="nvrtc"):
        nvidia_tools.nvrtc("__global__ void k() { nonsense; }", "sm_90a")
