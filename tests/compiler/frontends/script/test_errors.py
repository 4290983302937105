"""Wrong programs and what the error says, in errors.txt: message, place, source line, caret, help.

Each entry is `=====`, a name, the program, `-----` and the whole error. STEPWELL_UPDATE=1 writes what is said now.
"""

from __future__ import annotations

import importlib.util
import linecache
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import stepwell

GOLDEN = Path(__file__).with_name("errors.txt")
HEAD = "import math\nfrom typing import *\nimport numpy as np\nimport stepwell\nfrom stepwell import Tensor\n\n\n"
ENTRIES: dict[str, tuple[str, str]] = {}
for _entry in GOLDEN.read_text().split("=====\n# ")[1:]:
    _name, _, _rest = _entry.partition("\n")
    _program, _, _said = _rest.partition("-----\n")
    ENTRIES[_name] = (_program, _said.rstrip("\n"))


def load(folder: Path, program: str) -> Any:
    """The module that a program's text is."""
    path = folder / "model.py"
    path.write_text(HEAD + program)
    linecache.checkcache(str(path))
    spec = importlib.util.spec_from_file_location("model", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules["model"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ENTRIES)
def test_a_wrong_program_is_refused_in_words(name: str, tmp_path: Path) -> None:
    program, wanted = ENTRIES[name]
    module = load(tmp_path, program)
    with pytest.raises(stepwell.Error) as caught:
        stepwell.script(module.f).graph  # noqa: B018
    said = str(caught.value).replace(str(tmp_path / "model.py"), "model.py")
    if os.environ.get("STEPWELL_UPDATE"):
        GOLDEN.write_text(GOLDEN.read_text().replace(f"-----\n{wanted}\n", f"-----\n{said}\n", 1))
        return
    assert said == wanted


def test_every_error_has_a_place() -> None:
    assert len(ENTRIES) > 60
    assert not [name for name, (_, said) in ENTRIES.items() if not said.startswith("model.py:") or " | " not in said]


def test_source_that_cannot_be_had() -> None:
    names: dict[str, Any] = {}
    exec("def f(x):\n    return x", names)
    with pytest.raises(stepwell.CompileError, match="the source of f cannot be had"):
        stepwell.script(names["f"])
