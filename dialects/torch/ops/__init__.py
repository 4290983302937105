"""The op declarations, a file per family, in reading order."""

from __future__ import annotations

from importlib import import_module

FAMILIES: tuple[str, ...] = (
    "numbers", "lists", "strings", "attributes", "unary", "binary", "activation", "conversion", "creation", "views",
    "slicing", "joining", "padding", "reductions", "statistics", "linear", "losses", "distances", "convolution",
    "pooling", "normalization", "reparametrization", "indexing", "scattering", "sorting", "resampling", "spectra",
    "recurrent", "attention", "type_tests",
)  # fmt: skip


def declare_all() -> None:
    """Import every family, which registers its ops."""
    for family in FAMILIES:
        import_module(f"{__name__}.{family}")
