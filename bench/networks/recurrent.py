"""An LSTM as people write it who need another cell than torch's: a scripted loop over steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Cell(nn.Module):
    """One step of one layer: input, forget, cell and output gates in torch's order."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.weight_ih = nn.Parameter(torch.empty(4 * width, inputs).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(4 * width, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(4 * width).uniform_(-bound, bound))

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        gates = torch.mm(x, self.weight_ih.t()) + torch.mm(hidden, self.weight_hh.t()) + self.bias
        taken, kept, fresh, shown = gates.chunk(4, 1)
        cell = torch.sigmoid(kept) * cell + torch.sigmoid(taken) * torch.tanh(fresh)
        return torch.sigmoid(shown) * torch.tanh(cell), cell


class CellLoop(nn.Module):
    """Two layers of cells over the steps of [steps, batch, width]; gives the second layer's states."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.width = width
        self.first, self.second = Cell(width, width), Cell(width, width)

    def forward(self, x: Tensor) -> Tensor:
        zero = torch.zeros(x.size(1), self.width, dtype=x.dtype)
        first, first_cell, second, second_cell = zero, zero, zero, zero
        states: list[Tensor] = []
        for step in range(x.size(0)):
            first, first_cell = self.first(x[step], first, first_cell)
            second, second_cell = self.second(first, second, second_cell)
            states.append(second)
        return torch.stack(states)
