"""`Target`: what a lowering may know about the machine that the code is for, as plain data.

Detecting the machine that we run on needs LLVM and lives in `stepwell.compiler.backends.target`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A CPU.

    `triple`, `cpu` and `features` (comma-separated, each with + or -) are LLVM's. `vector_bits` is the width
    that vectors should have (a multiple of 64), `registers` how many vector registers there are, `l1`, `l2`
    and `l3` the data cache of one core in bytes (0: none, or unknown), `cores` how many threads make sense.
    `winograd`: whether convolutions may be computed by Winograd's algorithm, which is faster and rounds more.
    `attention`: whether there is a template that makes one kernel of an attention.
    """

    triple: str
    cpu: str
    features: str
    vector_bits: int
    registers: int
    l1: int = 32 << 10
    l2: int = 512 << 10
    l3: int = 8 << 20
    cores: int = 1
    winograd: bool = True
    attention: bool = True

    def lanes(self, element_bits: int) -> int:
        """How many elements of a width one vector holds; at least 1."""
        return max(1, self.vector_bits // element_bits)

    def has(self, feature: str) -> bool:
        """Whether an ISA extension, by LLVM's name for it (`fma`, `avx512f`), may be used."""
        return f"+{feature}" in self.features.split(",")

    @property
    def architecture(self) -> str:
        """The triple's first part, with the spellings of one machine made equal: x86_64, aarch64, ..."""
        name = self.triple.split("-", 1)[0]
        return {"arm64": "aarch64", "amd64": "x86_64"}.get(name, name)

    @property
    def system(self) -> str:
        """linux, darwin, windows, or the triple's word for another system."""
        rest = self.triple.split("-", 1)[-1]
        for name in ("linux", "windows"):
            if name in rest:
                return name
        return "darwin" if "darwin" in rest or "macos" in rest or "apple" in rest else rest

    @property
    def has_fma(self) -> bool:
        """Whether a fused multiply-add is one instruction (else it would be a call to libm)."""
        return self.has("fma") if self.architecture == "x86_64" else True

    @property
    def has_half_conversion(self) -> bool:
        """Whether f16 converts to f32 and back in hardware."""
        return self.has("f16c") if self.architecture == "x86_64" else True
