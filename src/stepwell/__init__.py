"""Stepwell: a compiler for scripted tensor models.

    m = stepwell.load("model.pt")          a TorchScript archive, without torch
    m(x)                                   compiles at the first call of a signature, natively
    m.stage("linalg")                      any step of the way down, as text

    @stepwell.script
    def f(x: stepwell.Tensor, n: int) -> stepwell.Tensor: ...

    stepwell.relu, stepwell.nn.functional.softmax, stepwell.float32     ops and dtypes, by torch's names

Everything is imported when it is first used: `import stepwell` loads neither numpy, xDSL nor LLVM.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# A checkout whose links were lost (Windows, some zip tools) still finds its four folders at the root.
if not (Path(__file__).parent / "compiler").is_dir():
    __path__.append(str(Path(__file__).parents[2]))

__version__ = "0.1.0"

if TYPE_CHECKING:
    from stepwell.compiler.annotations import Final, Tensor
    from stepwell.compiler.api import compile, load, script, tune
    from stepwell.compiler.module import ScriptedFunction, ScriptModule
    from stepwell.dialects.diagnostics import ArchiveError, ArgumentError, CompileError, Error, UnsupportedError
    from stepwell.runtime.threads import get_num_threads, set_num_threads

_WHERE = {
    "compile": "compiler.api",
    "load": "compiler.api",
    "script": "compiler.api",
    "tune": "compiler.api",
    "ScriptModule": "compiler.module",
    "ScriptedFunction": "compiler.module",
    "Tensor": "compiler.annotations",
    "Final": "compiler.annotations",
    "Error": "dialects.diagnostics",
    "CompileError": "dialects.diagnostics",
    "UnsupportedError": "dialects.diagnostics",
    "ArchiveError": "dialects.diagnostics",
    "ArgumentError": "dialects.diagnostics",
    "get_num_threads": "runtime.threads",
    "set_num_threads": "runtime.threads",
}

__all__ = [
    "ArchiveError", "ArgumentError", "CompileError", "Error", "Final", "ScriptModule", "ScriptedFunction", "Tensor",
    "UnsupportedError", "compile", "get_num_threads", "load", "script", "set_num_threads", "tune",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562); other names are those of ops and dtypes."""
    if name in _WHERE:
        value = getattr(import_module(f"stepwell.{_WHERE[name]}"), name)
    elif name.startswith("_") or name in ("compiler", "dialects", "lowering", "runtime"):
        raise AttributeError(f"module 'stepwell' has no attribute {name!r}")
    else:
        value = import_module("stepwell.compiler.eager").attribute(name)
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
