"""Names for annotations of scripted code, for people without torch: `stepwell.Tensor`, `stepwell.Final`.

`List[int]`, `Optional[Tensor]`, `int | None`, `tuple[Tensor, int]` are typing's and Python's own.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Final", "Tensor"]


class Tensor:
    """Stands for a tensor in the annotations of scripted code. Values are numpy arrays or torch tensors."""

    def __init__(self) -> None:
        raise TypeError("stepwell.Tensor is an annotation; tensors are numpy arrays (or torch tensors)")
