"""Results as text: JSON with everything, and a table to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def three_digits(value: float) -> str:
    """A number with the digits that count, never in powers of ten."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table with columns of even width, numbers to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = ["| " + " | ".join(h.ljust(w) for h, w in zip(header, widths, strict=True)) + " |"]
    lines.append("|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|")
    for row in rows:
        cells = [c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine_lines(machine: Mapping[str, str]) -> str:
    """The machine as one paragraph."""
    return "; ".join(f"{name} {value}" for name, value in machine.items())


def write(folder: Path, name: str, data: Mapping[str, Any], text: str) -> None:
    """NAME.json, a line for each element of its lists, and NAME.md in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for key, value in data.items():
        lines = ",\n".join(json.dumps(entry) for entry in value) if isinstance(value, list) else ""
        parts.append(f"{json.dumps(key)}: " + (f"[\n{lines}\n]" if lines else json.dumps(value)))
    (folder / f"{name}.json").write_text("{" + ",\n".join(parts) + "}\n")
    (folder / f"{name}.md").write_text(text + "\n")
