"""Ops of other packages, found by their entry points; nothing is named here.

A package says in its pyproject.toml which module declares its ops:

    [project.entry-points."stepwell.dialects"]
    mylib = "mylib.ops"

The module is imported with the torch dialect, so `import stepwell` and a start from the cache pay nothing for it;
what they need, the state of the plug-ins for the cache's keys, is read from the files alone. STEPWELL_PLUGINS=0 goes
without them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell.dialects.diagnostics import Error

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from stepwell.dialects.torch.declare import Registry

GROUP = "stepwell.dialects"
HEADING = f"[{GROUP}]".encode()


class PluginError(Error):
    """A package's ops could not be declared. Attributes: `plugin` (the entry point's name), `package`, `reason`."""

    def __init__(self, plugin: str, package: str, reason: str) -> None:
        self.plugin, self.package, self.reason = plugin, package, reason
        super().__init__(
            f"the plug-in {plugin} of the package {package} cannot be used: {reason}\n"
            f"    help: repair or uninstall {package}, or set STEPWELL_PLUGINS=0 to go without plug-ins"
        )


@dataclass(frozen=True)
class Plugin:
    """One entry point: its name, the module it names, and the package (with version) that has it."""

    name: str
    module: str
    package: str


def enabled() -> bool:
    """Whether plug-ins are looked for."""
    return os.environ.get("STEPWELL_PLUGINS", "1").lower() not in ("0", "off", "no", "false")


def load(registry: Registry) -> list[Plugin]:
    """Import the modules of all plug-ins, which declare their ops; the plug-ins found, in order of their names.

    Raises PluginError for the first that fails; what it had declared by then is taken back.
    """
    if not enabled():
        return []
    from importlib.metadata import entry_points

    return [_load(point, registry) for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)]


def _load(point: EntryPoint, registry: Registry) -> Plugin:
    package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "(unknown)"
    before = registry.copy()
    try:
        point.load()
    except Exception as error:
        registry.restore(before)
        sys.modules.pop(point.module, None)
        raise PluginError(point.name, package, f"{type(error).__name__}: {error}") from error
    return Plugin(point.name, point.value, package)


@cache
def fingerprint() -> str:
    """The plug-ins with the sizes and times of their files: what a compiled program may depend on of them.

    Read from the directories of sys.path without importing anything.
    """
    if not enabled():
        return ""
    return repr(sorted(_states()))


def _states() -> Iterator[tuple[str, str, list[tuple[str, int, int]]]]:
    for directory in dict.fromkeys(sys.path):
        try:
            names = [e.name for e in os.scandir(directory or ".") if e.name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue
        for name in names:
            # Opened without pathlib: this is the warm path, and a directory may hold hundreds of packages.
            try:
                with open(f"{directory or '.'}/{name}/entry_points.txt", "rb") as file:
                    data = file.read()
            except OSError:
                continue
            if HEADING in data:
                text = data.decode("utf-8", "replace")
                yield name, text, [state for module in _modules(text) for state in _files(module)]


def _modules(text: str) -> Iterator[str]:
    """The modules that the group of an entry_points.txt names."""
    inside = False
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            inside = line.encode() == HEADING
        elif inside and "=" in line:
            yield line.partition("=")[2].partition(":")[0].strip()


def _files(module: str) -> list[tuple[str, int, int]]:
    """The sources of the module's top package: path, size, time of change."""
    from importlib.util import find_spec

    try:
        spec = find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    if spec.origin and not folders:
        sources = [Path(spec.origin)]
    found = []
    for path in sorted(sources):
        try:
            state = path.stat()
        except OSError:
            continue
        found.append((str(path), state.st_size, state.st_mtime_ns))
    return found
