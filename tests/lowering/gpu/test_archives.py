"""Whole models: every launch of a call gives on a GPU what the kernel means."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("name", ["mlp", "encoder", "lstm", "mobilenet"])
def test_every_kernel_of_an_archive(name: str, archive: Any, checked: Any) -> None:
    model = archive(name)
    run = checked(model.module, model.resources)
    assert not run.kernels.notes
    model.call(run)
    assert {f.sym_name.data for f in run.kernels.functions} == set(run.launched)

