"""Spectra of signals: windows of the signal times a matrix of cosines and sines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from stepwell.dialects import dtypes
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, Sample, TensorInfo, op, sample
from stepwell.dialects.torch.ops.dimensions import require
from stepwell.dialects.torch.ops.samples import normal


def _frequencies(n: int, onesided: bool | None) -> int:
    return n // 2 + 1 if onesided is not False else n


@op(
    "aten::stft(Tensor self, int n_fft, int? hop_length=None, int? win_length=None, Tensor? window=None, bool normalized=False, bool? onesided=None, bool? return_complex=None, bool? align_to_window=None) -> Tensor",  # noqa: E501
    tolerance=1e-4,
)
class Stft:
    """The Fourier transform of every window of a signal: (..., frequencies, windows, 2), real and imaginary parts."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        window = np.hanning(8).astype(np.float32)
        yield sample(normal(2, 20), 8, 4, 8, window, False, True, False)
        yield sample(normal(20), 8, None, None, None, True, None, False)
        yield sample(normal(1, 20), 9, 3, 6, np.ones(6, np.float32), False, False, False)

    @staticmethod
    def infer(
        x: TensorInfo, n: int, hop: int | None, length: int | None, window: TensorInfo | None, normalized: bool,
        onesided: bool | None, complex_: bool | None, *_: Any,
    ) -> TensorInfo:  # fmt: skip
        if complex_ is not False:
            raise UnsupportedError("aten::stft with complex results", help="ask for return_complex=False")
        require(x.rank in (1, 2), f"stft expected a 1D or 2D tensor, but got {x.rank}D")
        size = x.sizes[-1]
        require(n > 0 and not (isinstance(size, int) and size < n), f"stft: expected 0 < n_fft < {size}, but got n_fft={n}")
        step, length = hop or n // 4, length or n
        require(0 < length <= n, f"stft: expected 0 < win_length <= n_fft, but got win_length={length}")
        return x.with_sizes([*x.sizes[:-1], _frequencies(n, onesided), (size - n) // step + 1, 2])

    @staticmethod
    def reference(
        x: Array, n: int, hop: int | None, length: int | None, window: Array | None, normalized: bool,
        onesided: bool | None, complex_: bool | None, *_: Any,
    ) -> Array:  # fmt: skip
        step, length = hop or n // 4, length or n
        weights = np.zeros(n)
        left = (n - length) // 2
        weights[left : left + length] = 1 if window is None else window
        frames = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), n, axis=-1)[..., ::step, :] * weights
        spectrum = np.fft.fft(frames)[..., : _frequencies(n, onesided)] / (math.sqrt(n) if normalized else 1)
        return np.stack([spectrum.real, spectrum.imag], -1).swapaxes(-2, -3).astype(x.dtype)

    @staticmethod
    def expand(
        b: TorchBuilder, x: Value, n: int, hop: int | None, length: int | None, window: Value | None, normalized: bool,
        onesided: bool | None, complex_: bool | None, *_: Any,
    ) -> Value:  # fmt: skip
        step, length = hop or n // 4, length or n
        count = _frequencies(n, onesided)
        # Angles are taken modulo a turn as whole numbers, so that they are exact however long the window is.
        turns = b.remainder(b.outer(b.arange(n), b.arange(count)), n)
        angle = b.mul(b.to(turns, dtypes.float64), 2 * math.pi / n)
        basis = b.cat([b.cos(angle), b.neg(b.sin(angle))], 1)
        if normalized:
            basis = b.mul(basis, 1 / math.sqrt(n))
        left = (n - length) // 2
        if window is not None or length < n:
            weights = b.ones([length], dtype=dtypes.float64) if window is None else b.to(window, dtypes.float64)
            weights = b.constant_pad_nd(weights, [left, n - length - left])
            basis = b.mul(basis, b.view(weights, [n, 1]))
        frames = b.unfold(x, x.rank - 1, n, step)
        parts = b.matmul(frames, b.to(basis, x.dtype))
        parts = b.view(parts, [*frames.sizes[:-1], 2, count])
        lead = list(range(x.rank - 1))
        result: Value = b.permute(parts, [*lead, x.rank + 1, x.rank - 1, x.rank])
        return result
