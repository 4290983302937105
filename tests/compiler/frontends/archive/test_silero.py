"""A real archive with control flow and state: the voice activity detector of the package silero-vad."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import numpy as np

from stepwell.compiler.frontends.archive import ClassRecord, read


def strip_ends(node: ast.AST) -> ast.AST:
    for inner in ast.walk(node):
        inner.__dict__.pop("end_lineno", None)
        inner.__dict__.pop("end_col_offset", None)
    return node


def test_contents(silero: Path) -> None:
    found = read(silero)
    root = found.root.attributes
    assert found.version == 3 and found.root.qualified_name.endswith("VADRNNJITMerge")
    assert root["sample_rates"] == [8000, 16000] and root["_state"].sizes == (0,)
    net = found.code.class_named(root["_model"].qualified_name)
    assert net.kind == "module" and "forward" in net.methods
    weights = [0]
    waiting = [found.root]
    while waiting:
        for value in waiting.pop().attributes.values():
            if hasattr(value, "attributes"):
                waiting.append(value)
            elif hasattr(value, "array"):
                weights.append(value.array.size)
                assert np.isfinite(value.array).all()
    assert sum(weights) > 400_000


def test_every_definition_is_what_python_reads(silero: Path) -> None:
    found = read(silero)
    for file in found.code.files.values():
        theirs = {node.name: node for node in ast.parse(file.source.data.decode()).body}  # type: ignore[attr-defined]
        for name, definition in file.definitions.items():
            ours = ast.dump(definition.node, include_attributes=True)
            assert ours == ast.dump(strip_ends(theirs[name]), include_attributes=True)


def test_errors_can_quote_the_models_own_source(silero: Path) -> None:
    found = read(silero)
    record = found.code.class_named(found.root.qualified_name)
    places = [
        record.file.location(node) for node in ast.walk(record.methods["forward"].node) if hasattr(node, "lineno")
    ]
    assert sum(place.file.endswith("vad_annotator.py") and place.file.startswith("/") for place in places) > 50
    assert any("batch_size = x.shape[0]" in (place.text() or "") for place in places)


def test_speed(silero: Path) -> None:
    begin = time.process_time()
    found = read(silero)
    records = [found.code.find(name) for name in found.code.names()]
    assert time.process_time() - begin < 1.0  # some 35 ms on an idle machine
    assert sum(isinstance(record, ClassRecord) for record in records) > 30
