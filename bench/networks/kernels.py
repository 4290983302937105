"""Modules of one kernel each, for bench/kernels.py."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Function(nn.Module):
    """A function of tensors by its name in FUNCTIONS."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, *arguments: Tensor) -> Tensor:
        return FUNCTIONS[self.name](*arguments)


def chain(x: Tensor, y: Tensor) -> Tensor:
    """Ten operations on the elements of two tensors; none takes an exponential."""
    z = torch.relu(x * y + x)
    return torch.clamp(z * 0.5 - y, -3.0, 3.0) * (x + 2.0) - torch.abs(y) * z


def gates(x: Tensor, y: Tensor) -> Tensor:
    """Ones that do."""
    return torch.sigmoid(x) * torch.tanh(y) + torch.exp(-torch.abs(x))


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "matmul": torch.matmul,
    "matmul_transposed": lambda a, b: torch.matmul(a, b.transpose(-1, -2)),
    "chain": chain,
    "gates": gates,
    "gelu": torch.nn.functional.gelu,
    "softmax": lambda x: torch.softmax(x, -1),
    "layer_norm": lambda x, scale, shift: torch.nn.functional.layer_norm(x, x.shape[-1:], scale, shift),
    "sum": lambda x: x.sum(),
    "sum_rows": lambda x: x.sum(-1),
    "sum_columns": lambda x: x.sum(0),
    "max_rows": lambda x: x.amax(-1),
    "mean_of_images": lambda x: x.mean((2, 3)),
    "transpose": lambda x: x.t().contiguous(),
    "heads_first": lambda x: x.permute(0, 2, 1, 3).contiguous(),
    "channels_last": lambda x: x.permute(0, 2, 3, 1).contiguous(),
    "attention": torch.nn.functional.scaled_dot_product_attention,
    "attention_causal": lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
}


def function(name: str) -> nn.Module:
    """One of FUNCTIONS."""
    return Function(name)


def linear(inputs: int, outputs: int) -> nn.Module:
    """A product with constant weights."""
    return nn.Linear(inputs, outputs, bias=False)


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    """With bias and ReLU, as networks have it once batch norms are folded."""
    made = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups)
    return nn.Sequential(made, nn.ReLU())
