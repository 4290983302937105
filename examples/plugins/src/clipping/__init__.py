"""Ops of a package of its own. Stepwell finds them by the entry point in pyproject.toml and imports `clipping.ops`."""
