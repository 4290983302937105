"""Attributes that interpreted methods write: they are found, and archives' arrays become writable without losing aliases."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from stepwell.compiler.interpreter.torch import memory_of
from stepwell.compiler.objects import ScriptObject
from stepwell.compiler.session import written_places
from stepwell.compiler.writable import make_writable


def holding(**attributes: Any) -> ScriptObject:
    made = ScriptObject(SimpleNamespace(name="M"))  # type: ignore[arg-type]
    made.attributes.update(attributes)
    return made


def test_what_was_written_is_found_through_views_and_inside_objects() -> None:
    buffer, other, names = np.zeros(8), np.zeros(8), ["a"]
    inner = holding(half=buffer[4:], quiet=other, names=names, pair=(1, buffer[:2]))
    root = holding(inner=inner, front=buffer[:4])
    assert written_places(root, {memory_of(buffer[5:7])}) == [("inner", "half")]
    assert written_places(root, {memory_of(buffer[1:2]), memory_of(names)}) == [
        ("inner", "names"), ("inner", "pair"), ("front",),
    ]  # fmt: skip
    assert written_places(root, {memory_of(np.zeros(3))}) == []


def test_copies_that_can_be_written_share_memory_as_the_read_only_arrays_did() -> None:
    stored = np.arange(12.0)
    stored.flags.writeable = False
    root = holding(rows=stored[:8].reshape(2, 4), column=stored[1:9:4], tied=[stored[:8].reshape(2, 4)], apart=stored[9:])
    assert make_writable(root)
    given = root.attributes
    given["rows"][0, 1] = -1
    assert given["column"][0] == -1 and given["tied"][0][0, 1] == -1
    np.testing.assert_array_equal(given["apart"], [9, 10, 11])
    assert stored[1] == 1 and not make_writable(root)
