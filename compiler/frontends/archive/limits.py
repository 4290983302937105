"""What a reader of archives is willing to spend on a file that nobody vouches for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on one archive. Real models stay far below; raise one for an archive that you trust."""

    records: int = 200_000
    """Entries in the zip's directory."""
    inflated_bytes: int = 64 << 20
    """Compressed records may inflate to this much together, or to `inflation` times the file, whichever is more."""
    inflation: int = 16
    pickle_bytes: int = 64 << 20
    """Size of one pickle."""
    pickle_steps: int = 1_000_000
    """Instructions that one pickle may execute."""
    value_depth: int = 150
    """How deeply lists, dicts, tuples and objects may nest."""
    source_bytes: int = 128 << 20
    """All source text of an archive together."""
    check_steps: int = 8_000_000
    """Comparisons of a value with its declared type."""
    expanded_elements: int = 1 << 28
    """Elements of a tensor that repeats its storage by strides of 0 (others are bounded by their storage)."""


DEFAULT = Limits()
