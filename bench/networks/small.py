"""A perceptron, and torch's own LSTM."""

from __future__ import annotations

from torch import nn


def mlp(width: int) -> nn.Module:
    """Three layers with ReLU, and ten classes."""
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def lstm(width: int) -> nn.Module:
    """Two layers over [steps, batch, width]."""
    return nn.LSTM(width, width, num_layers=2)
