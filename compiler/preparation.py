"""Weights are packed by groups: those of one group are read, packed, written to the cache's file, and let go.

    arrays = prepared(code, groups, weights.once, file)     # by name: views of the file's map, or in memory

So a model's weights and what they become are never in memory at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stepwell.compiler.backends import jit
from stepwell.runtime.abi import FrameLayout
from stepwell.runtime.function import NativeFunction

if TYPE_CHECKING:
    from stepwell.compiler.packed_weights import Writing

Array = np.ndarray[Any, Any]
Read = Callable[[str], Array]
"""Gives a weight by its name, for one use."""


@dataclass(frozen=True)
class Group:
    """The names of the weights that are read together, and of what they become."""

    constants: tuple[str, ...]
    prepared: tuple[str, ...]


def in_groups(compiled: jit.CompiledObject, groups: Sequence[Group], read: Read) -> Iterator[dict[str, Array]]:
    """What each group becomes, one after the other."""
    layout = FrameLayout.from_json(compiled.layout)
    library, address = jit.link(compiled.codes, layout.entry)
    for number, group in enumerate(groups):
        names = {*group.constants, *group.prepared}
        arguments = tuple(a for a in layout.arguments if a.kind not in ("constant", "output") or a.name in names)
        chosen = (number,) if len(groups) > 1 else ()
        # Nothing of a group has a name here while its successor is made.
        constants = {name: read(name) for name in group.constants}
        native = NativeFunction(address, replace(layout, arguments=arguments), constants, keep=library)
        del constants
        yield {name: np.asarray(made) for name, made in zip(group.prepared, native(*chosen), strict=True)}


def prepared(
    compiled: jit.CompiledObject | None,
    groups: Sequence[Group],
    read: Read,
    file: Writing | None = None,
    others: Sequence[str] = (),
) -> dict[str, Array]:
    """All that the groups become, by name. With a file they are written there, and `others`, weights as they are, too;
    without one, or where the disk fails, they are in memory."""
    if file is not None:
        try:
            for made in in_groups(compiled, groups, read) if compiled is not None else ():
                for name, array in made.items():
                    file.put(name, array)
            for name in others:
                file.put(name, read(name))
            return file.finish()
        except OSError:
            file.abandon()
    found: dict[str, Array] = {}
    for made in in_groups(compiled, groups, read) if compiled is not None else ():
        found.update(made)
    return found


__all__ = ["Group", "Read", "in_groups", "prepared"]
