"""`stepwell.load`, `stepwell.script`, `stepwell.compile`, `stepwell.tune`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from stepwell.compiler.module import BoundMethod, Callable_, ScriptedFunction, ScriptModule
from stepwell.compiler.session import Session
from stepwell.dialects.diagnostics import Error

if TYPE_CHECKING:
    from stepwell.compiler.tuning import Tuning


def load(
    file: str | os.PathLike[str] | BinaryIO,
    map_location: Any = None,
    _extra_files: dict[str, Any] | None = None,
) -> ScriptModule:
    """Load a TorchScript archive (`torch.jit.save`), versions 1 to 10, without torch.

    Nothing in the file is unpickled freely or executed by Python. Weights are read, and their checksums verified, when
    a call or somebody who looks at them needs them; the file must stay as it is until then.
    `_extra_files`, as in torch.jit.load, is filled with the records that it names.
    Raises ArchiveError for a file that is damaged, hostile or no TorchScript archive.
    """
    from stepwell.compiler.frontends.archive import read
    from stepwell.compiler.frontends.archive_objects import objects_of
    from stepwell.compiler.threads_of_compilation import collector_paused

    with collector_paused():
        archive = read(file, map_location=map_location, later=True)
        root, digest = objects_of(archive)
    if _extra_files is not None:
        for name in _extra_files:
            if name in archive.extra_files:
                _extra_files[name] = archive.extra_files[name]
    return ScriptModule(Session(root, digest=digest, weights=archive.identity), root)


def script(obj: Any = None) -> Any:
    """Script a function or class: typed Python that Stepwell compiles. Usable as a decorator.

    Arguments without annotation are tensors. A function gives a ScriptedFunction; a class gives a class whose
    objects are ScriptModules. Raises CompileError at the user's line for what the language does not have.
    """
    from stepwell.compiler.frontends.script import scripted

    return scripted(obj)


def compile(
    obj: Any,
    inputs: Sequence[Any] | None = None,
    *,
    target: Any = None,
    method: str = "forward",
    keywords: Mapping[str, Any] | None = None,
) -> Callable_:
    """The method of a module (or a function), compiled for these inputs now instead of at its first call.

    inputs: arrays, or types such as "float32[1, 3, 224, 224]". Without inputs nothing is compiled yet.
    target: "cpu" (the default), a `Target`, or the name of an x86-64 level ("x86-64-v3"); "cpu,-winograd" keeps 3x3
    convolutions direct: slower, and with half the rounding error.
    """  # fmt: skip
    chosen: Callable_ = (
        obj.method(method) if isinstance(obj, ScriptModule) else obj if isinstance(obj, Callable_) else script(obj)
    )
    if target not in (None, "cpu"):
        from stepwell.compiler.backends.target import named
        from stepwell.dialects.target import Target

        chosen._session.target = target if isinstance(target, Target) else named(target)
        chosen._session.forget()
    if inputs is not None:
        chosen._method.prepare(
            [_example(v) for v in inputs], {name: _example(v) for name, v in (keywords or {}).items()}
        )
    return chosen


def tune(
    obj: Any,
    inputs: Sequence[Any],
    *,
    seconds: float = 60.0,
    path: str | Path | None = None,
    method: str = "forward",
    keywords: Mapping[str, Any] | None = None,
    report: Callable[[str, float], None] = lambda what, share: None,
) -> Tuning:
    """Find faster schedules for the kernels of a call by measuring them on this machine.

    inputs: as in `compile`. seconds: about how long. path: the file that takes what was found, in addition to what it
    holds; by default the one beside the object cache, which every compilation reads. It is written where the whole call
    gains. report: called with what was just begun and the share of the work that is done.
    Raises Error where there is no file to write to, since both the cache and STEPWELL_SCHEDULES are turned off.
    """
    from stepwell.compiler import tuned

    where = Path(path) if path is not None else tuned.default_path()
    if where is None:
        raise Error("the object cache is turned off, so there is no place for schedules: give a path")
    chosen = compile(obj, method=method)
    positional = [_example(v) for v in inputs]
    named = {name: _example(v) for name, v in (keywords or {}).items()}
    found = chosen._inspector.tune(positional, named, seconds, report)
    if found.gains:
        before = tuned.Schedules.load(where) if where.exists() else tuned.NONE
        before.with_entries(found.entries).save(where)
        chosen._session.forget()
    return found


def _example(value: Any) -> Any:
    """A value of a type that is given as text ("float32[1, 3]"); other values as they are."""
    if not (isinstance(value, str) and "[" in value):
        return value
    from stepwell.compiler.commands import Usage, value_of

    try:
        return value_of(value.replace(" ", ""))
    except Usage:
        raise ValueError(f"{value!r} is no type of a tensor: write its dtype and sizes, float32[1, 3]") from None


__all__ = ["BoundMethod", "ScriptModule", "ScriptedFunction", "compile", "load", "script", "tune"]
