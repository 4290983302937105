"""`Device`: what a lowering may know about the GPU that the code is for, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from stepwell.dialects.target import Target

TRIPLE = "nvptx64-nvidia-cuda"

ARCHITECTURES: dict[str, int] = {
    "sm_80": 70, "sm_86": 71, "sm_89": 78, "sm_90": 78, "sm_90a": 80, "sm_100": 86, "sm_120": 87,
}  # fmt: skip
"""LLVM's names of GPUs, with the oldest version of PTX (times ten) that knows them."""


@dataclass(frozen=True)
class Device:
    """A GPU: LLVM's name (`sm_90a`) and version of PTX, threads of a warp and of a block, and the shared memory
    in bytes that a block has without asking for more."""

    name: str
    ptx: int
    warp: int = 32
    block: int = 1024
    shared: int = 48 << 10

    @property
    def capability(self) -> int:
        """Major and minor compute capability as one number: 90."""
        return int(self.name.removeprefix("sm_").rstrip("af"))

    def target(self) -> Target:
        """As the target of the levels above, whose vectors are its warps."""
        return Target(TRIPLE, self.name, f"+ptx{self.ptx}", 32 * self.warp, 32, winograd=False, attention=False)


DEFAULT = "sm_90a"


def device(name: str = DEFAULT) -> Device:
    """A GPU by LLVM's name. Raises ValueError, which lists the names, for any other."""
    if name not in ARCHITECTURES:
        raise ValueError(f"no GPU is called {name!r}; there are {', '.join(ARCHITECTURES)}")
    return Device(name, ARCHITECTURES[name])
