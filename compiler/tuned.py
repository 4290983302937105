"""Schedules that were found by measuring, as a file: beside the object cache, or wherever the user keeps it.

    {"format": "stepwell schedules 1", "schedules": [
      {"target": "…", "version": "…", "kernel": "…", "template": "matmul", "sizes": {"mr": 6, "nr": 32}, "speedup": 1.21}]}

An entry holds for one kernel (by content, so shapes are in it), on one kind of machine, with one version of Stepwell.
STEPWELL_SCHEDULES names another file than the one beside the cache; 0 turns schedules from files off.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stepwell.compiler import cache
from stepwell.dialects.diagnostics import Error
from stepwell.dialects.target import Target

FORMAT = "stepwell schedules 1"
FILE = "schedules.json"
MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class Entry:
    """One kernel's schedule; `speedup` over the one that the cost model chose, as measured."""

    target: str
    version: str
    kernel: str
    template: str
    sizes: Mapping[str, int]
    speedup: float


class Schedules:
    """The entries of a file, by target and kernel; later ones replace earlier ones."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = {(e.target, e.version, e.kernel): e for e in entries}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def of(self, target: Target) -> dict[str, Mapping[str, int]]:
        """Sizes by kernel, of this version and for a target: what the pass `reschedule` takes."""
        name, version = name_of(target), cache.versions()
        return {e.kernel: e.sizes for e in self._entries.values() if (e.target, e.version) == (name, version)}

    def with_entries(self, entries: Iterable[Entry]) -> Schedules:
        """These and others."""
        return Schedules([*self._entries.values(), *entries])

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        rows = [{**asdict(entry), "sizes": dict(entry.sizes)} for entry in self._entries.values()]
        text = json.dumps({"format": FORMAT, "schedules": rows}, indent=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        with cache.whole_file(path) as file:
            file.write(text.encode() + b"\n")

    @staticmethod
    def load(path: Path) -> Schedules:
        """Read a file. Raises Error, which names it and what is wrong with it; OSError where it cannot be read."""
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise Error(f"{path}: more than {MOST_BYTES} bytes; no file of schedules is so large")
        try:
            rows = json.loads(data)
            if not isinstance(rows, dict) or rows.get("format") != FORMAT:
                raise ValueError(f'expected a file with "format": "{FORMAT}"')
            return Schedules([_entry(row) for row in rows["schedules"]])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Error(f"{path}: this is no file of schedules: {type(error).__name__}: {error}") from error


def _entry(row: Any) -> Entry:
    """One entry. Raises ValueError, TypeError or KeyError for what is none."""
    sizes = {str(key): _whole(value) for key, value in dict(row["sizes"]).items()}
    target, version, kernel, template = (row[name] for name in ("target", "version", "kernel", "template"))
    if not all(isinstance(text, str) for text in (target, version, kernel, template)):
        raise TypeError(f"target, version, kernel and template are texts, in {str(row)[:200]}")
    return Entry(target, version, kernel, template, sizes, float(row["speedup"]))


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= 1 << 20:
        raise ValueError(f"{value!r} is no size of a schedule")
    return value


def name_of(target: Target) -> str:
    """A kind of machine: all that lowering knows of it."""
    return repr(target)


def default_path() -> Path | None:
    """STEPWELL_SCHEDULES, or beside the object cache; None where either is turned off."""
    chosen = os.environ.get("STEPWELL_SCHEDULES", "")
    if chosen:
        return None if chosen.lower() in cache.OFF else Path(chosen)
    directory = cache.default_directory()
    return directory / FILE if directory is not None else None


_known: dict[Path, tuple[tuple[int, int], Schedules]] = {}


def stored() -> Schedules:
    """The schedules of the file, read again only after it has changed; none where there is no file.

    One that cannot be read counts for none, with a warning that names it.
    """
    where = default_path()
    try:
        if where is None:
            return NONE
        state = where.stat()
        stamp = (state.st_mtime_ns, state.st_size)
        if where not in _known or _known[where][0] != stamp:
            _known[where] = stamp, NONE
            _known[where] = stamp, Schedules.load(where)
        return _known[where][1]
    except FileNotFoundError:
        return NONE
    except (OSError, Error) as error:
        warnings.warn(f"schedules are not used: {error}", stacklevel=2)
        return NONE


NONE = Schedules()


def fingerprint(table: Mapping[str, Mapping[str, int]]) -> str:
    """What compiled code depends on: equal for equal tables, "" for an empty one."""
    if not table:
        return ""
    rows = sorted((kernel, sorted(sizes.items())) for kernel, sizes in table.items())
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
