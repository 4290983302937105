"""Whole models: every launch of a call gives on a GPU what the kernel means."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("name", ["mlp", "encoder", "lstm", "mobilenet"])
def test_every_kernel_of_an_archive(name: str, archive: Any, checked: Any) -> None:
    model = archive(name)
    run = checked(model.module, model.resources)
    assert not run.kernels.notes
    prepared = run(entry="prepare")
    run(*arguments_of(model, prepared), entry="forward")
    assert {f.sym_name.data for f in run.kernels.functions} == set(run.launched)


def arguments_of(model: Any, prepared: list[Any]) -> list[Any]:
    """The inputs, default values, and what prepare has made."""
    entry = next(op for op in model.module.ops if getattr(op, "sym_name", None) and op.sym_name.data == "forward")
    missing = len(entry.function_type.inputs) - len(model.inputs) - len(prepared)
    return [*model.inputs, *[1.0] * missing, *prepared]
