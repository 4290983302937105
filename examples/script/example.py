"""Script a function and a class: typed Python becomes one native function, and every step of the way is shown.

    python examples/script/example.py
"""

from __future__ import annotations

import numpy as np

import stepwell


@stepwell.script
def attention(q: stepwell.Tensor, k: stepwell.Tensor, v: stepwell.Tensor, causal: bool = False) -> stepwell.Tensor:
    """softmax(q k^T / sqrt(d)) v"""
    scores = q @ k.transpose(-2, -1) / q.size(-1) ** 0.5
    if causal:
        n = q.size(-2)
        scores = scores.masked_fill(stepwell.ones(n, n).triu(1) > 0, float("-inf"))
    return stepwell.softmax(scores, dim=-1) @ v


@stepwell.script
class RunningMean:
    """Scales rows by the mean of all rows that it has seen. `__init__` is plain Python, the methods are compiled."""

    count: int

    def __init__(self, size: int) -> None:
        self.total = np.zeros(size, np.float32)
        self.count = 0

    def forward(self, x: stepwell.Tensor) -> stepwell.Tensor:
        if x.dim() != 2:
            raise ValueError(f"rows are needed, not {x.dim()} dimensions")
        self.total = self.total + x.sum(0)
        self.count += x.size(0)
        return x * (self.total / self.count)

    def reset(self) -> None:
        self.total = stepwell.zeros_like(self.total)
        self.count = 0


def main() -> None:
    random = np.random.default_rng(0)
    q, k, v = (random.standard_normal((4, 16)).astype(np.float32) for _ in range(3))

    # numpy in, numpy out; the first call of a signature compiles.
    result = attention(q, k, v, causal=True)
    print("attention:", result.shape, result.dtype, "first row is v's:", bool(np.allclose(result[0], v[0], atol=1e-6)))
    for level in ("raw", "torch", "linalg", "tile", "loops", "llvm", "ir", "asm"):
        print(f"  {level:7} {attention.stage(level).count(chr(10)):6d} lines of text")

    # Another size compiles once more, with sizes left open; no third compilation follows.
    for n in (4, 6, 8, 10):
        attention(*(random.standard_normal((n, 16)).astype(np.float32) for _ in range(3)), causal=True)
    print("variants:", *attention.signatures(), sep="\n  ")

    # State lives in the object; exceptions have their Python type.
    mean = RunningMean(16)
    mean(q)
    mean(k)
    print("rows seen:", mean.count)
    try:
        mean(q[0])
    except ValueError as error:
        print("ValueError:", error)
    mean.reset()
    print("after reset:", mean.count)

    # A wrong call names the argument and shows the line.
    try:
        attention(q, k, 3)
    except TypeError as error:
        print(error)


if __name__ == "__main__":
    main()
