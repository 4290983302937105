"""LLVM's back end for NVIDIA GPUs runs in a process of its own: what ends that one is an error here."""

from __future__ import annotations

import pytest

from stepwell.compiler.backends.nvptx import BackendError, compile_ptx
from stepwell.lowering.gpu import device

KERNEL = """target triple = "nvptx64-nvidia-cuda"
define ptx_kernel void @k(ptr align 16 %p) {{
  %x = load float, ptr %p
  %y = {value}
  store float %y, ptr %p
  ret void
}}
"""


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a", "sm_120"])
def test_a_kernel_becomes_an_entry(arch: str) -> None:
    text = compile_ptx(KERNEL.format(value="fadd float %x, %x"), device(arch))
    assert ".visible .entry k(" in text and f".target {arch}" in text and "add.rn.f32" in text


def test_text_that_is_refused_is_an_error() -> None:
    with pytest.raises(BackendError, match="LLVM has no PTX for sm_90a") as caught:
        compile_ptx(KERNEL.format(value="nonsense"), device())
    assert "nonsense" in caught.value.text


def test_a_back_end_that_ends_its_process_does_not_end_this_one() -> None:
    """LLVM knows no function to call for an exponential on these targets, and aborts."""
    with pytest.raises(BackendError):
        compile_ptx(KERNEL.format(value="call float @llvm.exp.f32(float %x)"), device())
