"""MobileNetV2 (Sandler et al., 2018) and EfficientNet-B0 (Tan and Le, 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from networks.residual import convolution

MOBILENET = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3), (6, 96, 3, 1, 3), (6, 160, 3, 2, 3),
    (6, 320, 1, 1, 3),
)  # fmt: skip
EFFICIENTNET = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)  # fmt: skip
"""Expansion, channels, blocks, stride of the first block, kernel: the papers' tables."""


class SqueezeAndExcitation(nn.Module):
    """x scaled, channel by channel, by what two layers make of its means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = nn.functional.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.expand(nn.functional.silu(self.reduce(means))))


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; `efficient` adds squeeze and excitation, and SiLU for ReLU6."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int, kernel: int, efficient: bool) -> None:
        super().__init__()
        inner = inputs * expand
        activation = nn.SiLU if efficient else nn.ReLU6
        body = [*convolution(inputs, inner, 1), activation()] if expand > 1 else []
        body += [*convolution(inner, inner, kernel, stride, groups=inner), activation()]
        body += [SqueezeAndExcitation(inner, max(1, inputs // 4))] if efficient else []
        self.body = nn.Sequential(*body, *convolution(inner, outputs, 1))
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.skip else self.body(x)


def mobile(efficient: bool, divisor: int = 1, most: int = 7, classes: int = 1000) -> nn.Module:
    """MobileNetV2, or EfficientNet-B0; channels over the divisor, and at most so many stages, for tests."""

    def wide(channels: int) -> int:
        return max(8, channels // divisor)

    activation = nn.SiLU if efficient else nn.ReLU6
    inputs = wide(32)
    layers: list[nn.Module] = [*convolution(3, inputs, 3, 2), activation()]
    for expand, channels, count, stride, kernel in (EFFICIENTNET if efficient else MOBILENET)[:most]:
        for i in range(count):
            block = InvertedResidual(inputs, wide(channels), stride if i == 0 else 1, expand, kernel, efficient)
            layers.append(block)
            inputs = wide(channels)
    last = wide(1280)
    layers += [*convolution(inputs, last, 1), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(last, classes))
