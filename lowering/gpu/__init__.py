"""tile -> gpu -> llvm: each kernel becomes a gpu.func, for NVIDIA GPUs.

    lower_kernels(module, device)      a new module with one gpu.module that holds every tile.kernel of a module
    gpu_to_llvm.lower(module, device)  the same as llvm functions for nvptx64

A kernel's function takes its inputs, then its results (destination passing), then one i64 for each size that is
not static. Tensors are contiguous memrefs in global memory that start at multiples of 16 bytes; none overlaps
another that is written.

What a tensor holds at a point is written by the evaluator that CPU kernels use (stepwell.lowering.tile_to_loops);
here is what differs: how a thread accesses memory (`evaluate`), who computes which point (`pointwise`, `rows`,
`matmul` with `tiles` and `staging`), and how threads add up (`groups`). `frame` is a function while it is written, `geometry` how it is
launched.
"""

from __future__ import annotations

from stepwell.lowering.gpu.device import Device, device
from stepwell.lowering.gpu.tile_to_gpu import Note, functions_of, lower_kernel, lower_kernels

__all__ = ["Device", "Note", "device", "functions_of", "lower_kernel", "lower_kernels"]
