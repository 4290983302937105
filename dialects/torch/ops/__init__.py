"""The op declarations, a file per family, in reading order."""

from __future__ import annotations

from importlib import import_module

FAMILIES = ("pointwise", "normalization")


def declare_all() -> None:
    """Import every family, which registers its ops."""
    for family in FAMILIES:
        import_module(f"{__name__}.{family}")
