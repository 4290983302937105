"""The kernels of bench/kernels.py, and their files.

    python bench/kernel_cases.py FOLDER [--tiny] [NAME ...]
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cases
import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Kernel:
    """One of networks/kernels.py: its maker and arguments, and the shapes that it is called with."""

    group: str
    maker: str
    arguments: tuple[Any, ...]
    shapes: tuple[Shape, ...]
    numpy: Callable[..., Any] | None = None
    """The same in one call of numpy; a product's weights are its last operand."""

    def numpy_operands(self, folder: Path, arguments: list[Any]) -> list[Any]:
        """What `numpy` is called with."""
        if self.maker != "linear":
            return arguments
        import torch

        return [*arguments, torch.load(folder / "module.pth", weights_only=False).weight.detach().numpy()]

    def tiny(self) -> Kernel:
        """The same for tests: small where sizes are no part of the module."""
        if self.maker != "function":
            return self
        return replace(self, shapes=tuple(tuple(min(size, 8) for size in shape) for shape in self.shapes))


def _products() -> Iterator[tuple[str, Kernel]]:
    squares = [(n, n, n) for n in (256, 512, 1024, 2048)]
    odd = [(333, 777, 555), (1001, 777, 1003)]
    transformers = [(128, 768, 768), (128, 768, 3072), (128, 3072, 768), (197, 384, 1152), (64, 768, 50257)]
    few_rows = [(1, 1024, 4096), (4, 1024, 4096), (16, 1024, 4096), (32, 1024, 4096), (1, 768, 50257)]
    for m, k, n in (*squares, *odd, *transformers, *few_rows):
        kernel = Kernel("linear", "linear", (k, n), ((m, k),), lambda x, w: x @ w.T)
        yield f"linear {m}x{k}x{n}", kernel
    for m, k, n in (*squares, *odd):
        yield f"matmul {m}x{k}x{n}", Kernel("matmul", "function", ("matmul",), ((m, k), (k, n)), np.matmul)
    batched = ((12, 128, 64), (12, 128, 64))
    yield "matmul 12x128x64x128", Kernel("matmul", "function", ("matmul_transposed",), batched)


CONVOLUTIONS: tuple[tuple[int, int, int, int, int, int], ...] = (
    (3, 64, 7, 2, 1, 224),
    (64, 64, 3, 1, 1, 56), (128, 128, 3, 1, 1, 28), (256, 256, 3, 1, 1, 14), (512, 512, 3, 1, 1, 7), (128, 128, 3, 2, 1, 56),
    (64, 256, 1, 1, 1, 56), (256, 64, 1, 1, 1, 56), (1024, 256, 1, 1, 1, 14), (512, 2048, 1, 1, 1, 7), (256, 512, 1, 2, 1, 56),
    (96, 96, 3, 2, 96, 112), (144, 144, 3, 1, 144, 56), (384, 384, 3, 1, 384, 14), (960, 960, 3, 1, 960, 7),
    (96, 96, 7, 1, 96, 56), (240, 240, 5, 1, 240, 28),
)  # fmt: skip
"""Channels in and out, kernel, stride, groups, and the side of the image: of ResNet-50, MobileNetV2, ConvNeXt."""


def _convolutions() -> Iterator[tuple[str, Kernel]]:
    for inputs, outputs, size, stride, groups, side in CONVOLUTIONS:
        kind = "depthwise" if groups > 1 else "conv"
        name = f"{kind} {size}x{size} {inputs}-{outputs} {side}" + (f" stride {stride}" if stride > 1 else "")
        yield name, Kernel(kind, "convolution", (inputs, outputs, size, stride, groups), ((1, inputs, side, side),))


FUNCTIONS: tuple[tuple[str, str, tuple[Shape, ...]], ...] = (
    ("pointwise", "chain", ((16384,), (16384,))),
    ("pointwise", "chain", ((1 << 18,), (1 << 18,))),
    ("pointwise", "chain", ((1 << 24,), (1 << 24,))),
    ("pointwise", "gates", ((1 << 18,), (1 << 18,))),
    ("pointwise", "gelu", ((128, 3072),)),
    ("softmax", "softmax", ((1, 12, 128, 128),)),
    ("softmax", "softmax", ((4096, 1024),)),
    ("softmax", "softmax", ((64, 50257),)),
    ("norm", "layer_norm", ((128, 768), (768,), (768,))),
    ("norm", "layer_norm", ((8192, 1024), (1024,), (1024,))),
    ("reduction", "sum", ((1 << 24,),)),
    ("reduction", "sum_rows", ((4096, 4096),)),
    ("reduction", "sum_columns", ((4096, 4096),)),
    ("reduction", "max_rows", ((512, 1000),)),
    ("reduction", "mean_of_images", ((1, 512, 56, 56),)),
    ("transpose", "transpose", ((2048, 2048),)),
    ("transpose", "heads_first", ((1, 128, 12, 64),)),
    ("transpose", "channels_last", ((1, 96, 56, 56),)),
    ("attention", "attention", ((1, 12, 128, 64),) * 3),
    ("attention", "attention", ((1, 6, 1500, 64),) * 3),
    ("attention", "attention_causal", ((1, 12, 512, 64),) * 3),
    ("attention", "attention", ((1, 12, 1, 64), (1, 12, 512, 64), (1, 12, 512, 64))),
)
"""Group, name in networks/kernels.py, shapes."""


def _functions() -> Iterator[tuple[str, Kernel]]:
    for group, name, shapes in FUNCTIONS:
        told = shapes if len(shapes) < 3 else [shape for shape in shapes if len(shape) > 1]
        label = " ".join("x".join(map(str, shape)) for shape in dict.fromkeys(told))
        yield f"{name} {label}", Kernel(group, "function", (name,), shapes)


KERNELS: dict[str, Kernel] = dict([*_products(), *_convolutions(), *_functions()])
GROUPS = tuple(dict.fromkeys(kernel.group for kernel in KERNELS.values()))


def write(name: str, folder: Path, tiny: bool) -> None:
    """The files of one kernel."""
    import torch

    kernel = KERNELS[name].tiny() if tiny else KERNELS[name]
    torch.manual_seed(0)
    module = getattr(importlib.import_module("networks.kernels"), kernel.maker)(*kernel.arguments).eval()
    random = np.random.default_rng(0)
    arguments = [random.standard_normal(shape, dtype=np.float32) for shape in kernel.shapes]
    cases.write(name, folder, module, arguments, "trace")


if __name__ == "__main__":
    cases.main(__doc__, list(KERNELS), write)
