"""U-Net (Ronneberger et al., 2015) with batch norms, padding, and 32 features: that of mateuszbuda/brain-segmentation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from networks.residual import convolution


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*convolution(inputs, outputs, 3), nn.ReLU(), *convolution(outputs, outputs, 3), nn.ReLU())


class UNet(nn.Module):
    """Four halvings and a bottom, and the way back up beside what each step down saw; sides of multiples of 16."""

    def __init__(self, features: int = 32, inputs: int = 3, outputs: int = 1) -> None:
        super().__init__()
        widths = [features << i for i in range(5)]
        self.down = nn.ModuleList(_pair(a, b) for a, b in zip([inputs, *widths[:3]], widths[:4], strict=True))
        self.bottom = _pair(widths[3], widths[4])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in reversed(widths[:4]))
        self.join = nn.ModuleList(_pair(2 * w, w) for w in reversed(widths[:4]))
        self.head = nn.Conv2d(features, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        for down in self.down:
            x = down(x)
            seen.append(x)
            x = nn.functional.max_pool2d(x, 2, 2)
        x = self.bottom(x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat((up(x), seen.pop()), 1))
        return torch.sigmoid(self.head(x))
