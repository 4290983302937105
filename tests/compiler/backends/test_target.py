"""Targets: the machine itself, named ones, and objects for machines that this one is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from xdsl.parser import Parser

from stepwell.compiler.backends import jit
from stepwell.compiler.backends.target import cache_sizes, detect, named, vector_units
from stepwell.dialects import context
from stepwell.dialects.target import Target

SCALE = """
func.func @forward(%x: memref<64xf32>, %y: memref<64xf32> {host.kind = "output"}) {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %n = arith.constant 64 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c8) {
    %v = vector.load %x[%i] : memref<64xf32>, vector<8xf32>
    %w = math.exp %v : vector<8xf32>
    %z = vector.fma %w, %v, %v : vector<8xf32>
    vector.store %z, %y[%i] : memref<64xf32>, vector<8xf32>
    scf.reduce
  }
  func.return
}"""


def module() -> object:
    text = SCALE.replace("scf.parallel (%i) = (%c0) to (%n) step (%c8) {",
        '"scf.parallel"(%c0, %n, %c8) <{operandSegmentSizes = array<i32: 1, 1, 1, 0>}> ({ ^bb0(%i: index):'
    ).replace("scf.reduce\n  }", "scf.reduce }) : (index, index, index) -> ()")  # fmt: skip
    return Parser(context(), text).parse_module()


def test_detected_target_is_consistent() -> None:
    target = detect()
    assert target.vector_bits in (128, 256, 512) and target.cores >= 1 and target.l1 >= 8 << 10
    assert target.lanes(32) == target.vector_bits // 32


@pytest.mark.parametrize("name", ["x86-64", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_objects_for_named_targets(name: str) -> None:
    compiled = jit.compile_module(module(), named(name))  # type: ignore[arg-type]
    for code in compiled.codes:
        assert code[:4] in (b"\x7fELF", b"\xcf\xfa\xed\xfe") or code[:2] in (b"\x64\x86", b"\x64\xaa")


@pytest.mark.parametrize("name", ["x86-64", "x86-64-v2", "x86-64-v3"])
def test_lower_levels_run_here_and_agree(name: str) -> None:
    if detect().architecture != "x86_64" or (name == "x86-64-v3" and not detect().has("avx2")):
        pytest.skip("another machine")
    x = np.linspace(-3, 3, 64, dtype=np.float32)
    (y,) = jit.load(jit.compile_module(module(), named(name)))(x)  # type: ignore[arg-type]
    np.testing.assert_allclose(y, np.exp(x) * x + x, rtol=2e-6, atol=1e-7)


def test_a_name_may_leave_winograd_out() -> None:
    assert named("x86-64-v3").winograd and named("host").winograd
    assert named("x86-64-v3,-winograd") == replace(named("x86-64-v3"), winograd=False)
    with pytest.raises(ValueError, match="no target is called 'vax'"):
        named("vax,-winograd")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no target is called 'vax'; there are host, x86-64,"):
        named("vax")


def test_vector_width_follows_the_features() -> None:
    assert vector_units("x86_64-linux", "+avx2,+fma") == (256, 16)
    assert vector_units("x86_64-linux", "+avx2,+avx512f,+avx512vl,+avx512bw,+avx512dq") == (512, 32)
    assert vector_units("x86_64-linux", "+sse2") == (128, 16)
    assert vector_units("arm64-apple-darwin", "+neon") == (128, 32)


def test_caches_are_read_or_guessed(tmp_path: Path) -> None:
    assert cache_sizes(tmp_path) == (32 << 10, 512 << 10, 8 << 20)
    for number, (kind, level, size) in enumerate((("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "2M"))):
        index = tmp_path / f"index{number}"
        index.mkdir()
        for name, text in (("type", kind), ("level", str(level)), ("size", size)):
            (index / name).write_text(text + "\n")
    assert cache_sizes(tmp_path) == (48 << 10, 2 << 20, 8 << 20)


def test_target_knows_its_parts() -> None:
    apple = Target("arm64-apple-darwin", "apple-m1", "+neon", 128, 32)
    assert (apple.architecture, apple.system, apple.has_fma) == ("aarch64", "darwin", True)
    old = Target("x86_64-pc-windows-msvc", "x86-64", "+sse2", 128, 16)
    assert (old.architecture, old.system, old.has_fma, old.has_half_conversion) == ("x86_64", "windows", False, False)
