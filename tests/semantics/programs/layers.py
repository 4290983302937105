"""Layers of torch.nn, each by itself, at two batch sizes."""

from collections.abc import Callable

import torch
from stepwell_tests_semantics.table import case, t
from torch import nn


def layer(name: str, make: Callable[[], nn.Module], *calls: list[torch.Tensor], **options: object) -> None:
    """Put a layer into the table."""
    made = type(name, (), {"__new__": lambda cls: make(), "__module__": __name__})
    case(*calls, **{"tolerance": 1e-4, **options})(made)


def _batches(*sizes: int) -> list[list[torch.Tensor]]:
    return [[t(2, *sizes)], [t(3, *sizes)]]


LINE, IMAGE, VOLUME, ROW = _batches(4, 9), _batches(4, 8, 7), _batches(2, 5, 6, 4), _batches(6)

for _name, _make, _inputs in [
    ("Conv1d", lambda: nn.Conv1d(4, 6, 3, padding=1, stride=2), LINE),
    ("Conv2d", lambda: nn.Conv2d(4, 6, (3, 2), dilation=2, groups=2), IMAGE),
    ("Conv3d", lambda: nn.Conv3d(2, 3, 3, padding=1), VOLUME),
    ("ConvTranspose1d", lambda: nn.ConvTranspose1d(4, 3, 3, stride=2, padding=1, output_padding=1), LINE),
    ("ConvTranspose2d", lambda: nn.ConvTranspose2d(4, 2, 3, stride=2, groups=2), IMAGE),
    ("ConvTranspose3d", lambda: nn.ConvTranspose3d(2, 2, 2, stride=2), VOLUME),
    ("MaxPool1d", lambda: nn.MaxPool1d(3, 2), LINE),
    ("MaxPool3d", lambda: nn.MaxPool3d(2, ceil_mode=True), VOLUME),
    ("AvgPool1d", lambda: nn.AvgPool1d(3, 2, 1), LINE),
    ("AvgPool3d", lambda: nn.AvgPool3d(2), VOLUME),
    ("AdaptiveAvgPool1d", lambda: nn.AdaptiveAvgPool1d(4), LINE),
    ("AdaptiveMaxPool2d", lambda: nn.AdaptiveMaxPool2d((3, 2)), IMAGE),
    ("AdaptiveAvgPool3d", lambda: nn.AdaptiveAvgPool3d(2), VOLUME),
    ("BatchNorm1d", lambda: nn.BatchNorm1d(4), LINE),
    ("BatchNorm3d", lambda: nn.BatchNorm3d(2), VOLUME),
    ("GroupNorm", lambda: nn.GroupNorm(2, 4), IMAGE),
    ("InstanceNorm2d", lambda: nn.InstanceNorm2d(4, affine=True), IMAGE),
    ("LayerNorm", lambda: nn.LayerNorm([8, 7]), IMAGE),
    ("RMSNorm", lambda: nn.RMSNorm(6), ROW),
    ("LocalResponseNorm", lambda: nn.LocalResponseNorm(3), IMAGE),
    ("ZeroPad2d", lambda: nn.ZeroPad2d((1, 2, 0, 1)), IMAGE),
    ("ReflectionPad1d", lambda: nn.ReflectionPad1d(2), LINE),
    ("ReplicationPad3d", lambda: nn.ReplicationPad3d(1), VOLUME),
    ("CircularPad2d", lambda: nn.CircularPad2d(2), IMAGE),
    ("Upsample", lambda: nn.Upsample(scale_factor=2.0, mode="bilinear"), IMAGE),
    ("UpsampleNearest", lambda: nn.Upsample(size=(11, 13)), IMAGE),
    ("PixelShuffle", lambda: nn.PixelShuffle(2), IMAGE),
    ("PixelUnshuffle", lambda: nn.PixelUnshuffle(2), _batches(4, 8, 6)),
    ("ChannelShuffle", lambda: nn.ChannelShuffle(2), IMAGE),
    ("Unfold", lambda: nn.Unfold(3, padding=1, stride=2), IMAGE),
    ("Flatten", lambda: nn.Flatten(), IMAGE),
    ("Unflatten", lambda: nn.Unflatten(1, (2, 3)), ROW),
    ("Linear", lambda: nn.Linear(6, 4), ROW),
    ("Dropout", lambda: nn.Dropout(0.5), ROW),
]:
    layer(_name, _make, *_inputs)

for _activation in (
    nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid,
    nn.LogSoftmax, nn.Mish, nn.PReLU, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softmax, nn.Softmin, nn.Softplus,
    nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.GLU, nn.Identity,
):  # fmt: skip
    _keywords = {"dim": -1} if _activation in (nn.LogSoftmax, nn.Softmax, nn.Softmin) else {}
    layer(_activation.__name__, lambda cls=_activation, keywords=_keywords: cls(**keywords), *ROW)



class Around(nn.Module):
    """A recurrent layer inside a module: by itself, torch saves its overloads of forward under other names."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor):
        return self.inner(x)


_SEQUENCES = [[t(5, 2, 4)], [t(5, 3, 4)]]
layer("LSTM", lambda: Around(nn.LSTM(4, 3, 2, bidirectional=True)), *_SEQUENCES)
layer("GRU", lambda: Around(nn.GRU(4, 3, bidirectional=True, batch_first=True)), *_SEQUENCES)
layer("RNN", lambda: Around(nn.RNN(4, 3, nonlinearity="relu")), *_SEQUENCES)
layer("GRUCell", lambda: nn.GRUCell(6, 3), *ROW)
layer("RNNCell", lambda: nn.RNNCell(6, 3), *ROW)
layer("TransformerEncoderLayer", lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), *_SEQUENCES)
layer("TransformerDecoderLayer", lambda: nn.TransformerDecoderLayer(4, 2, 8), [t(5, 2, 4), t(3, 2, 4)], [t(5, 3, 4), t(3, 3, 4)])
layer("MultiheadAttention", lambda: nn.MultiheadAttention(4, 2), [t(5, 2, 4), t(3, 2, 4), t(3, 2, 4)], [t(4, 2, 4)] * 3)
layer("Bilinear", lambda: nn.Bilinear(3, 4, 2), [t(2, 3), t(2, 4)], [t(5, 3), t(5, 4)])
layer("Embedding", lambda: nn.Embedding(9, 3, padding_idx=0), [torch.tensor([1, 0, 8])], [torch.tensor([[1, 2], [3, 0]])])
for _loss in (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.SoftMarginLoss, nn.HingeEmbeddingLoss):
    layer(_loss.__name__, _loss, [t(2, 6), t(2, 6, dtype=torch.float32).sign()], [t(3, 6), t(3, 6).sign()])
layer("CrossEntropyLoss", lambda: nn.CrossEntropyLoss(label_smoothing=0.1), [t(2, 6), torch.tensor([1, 5])])
layer("TripletMarginLoss", nn.TripletMarginLoss, [t(2, 6), t(2, 6) * 2, t(2, 6) + 1], [t(3, 6), t(3, 6) * 2, t(3, 6) + 1])
