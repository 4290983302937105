"""Reading an archive: everything in it as plain data, checked, nothing executed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import IO

from stepwell.compiler.frontends.archive.check import Checker, refuse_root
from stepwell.compiler.frontends.archive.code import CodeIndex
from stepwell.compiler.frontends.archive.container import Container, open_container
from stepwell.compiler.frontends.archive.limits import DEFAULT, Limits
from stepwell.compiler.frontends.archive.storages import Storages
from stepwell.compiler.frontends.archive.unpickle import Unpickler
from stepwell.compiler.frontends.archive.values import DictData, ScriptObjectData, Value
from stepwell.dialects.diagnostics import ArchiveError

_DEVICE = re.compile(r"[a-z][a-z0-9_]{0,31}(?::[0-9]{1,4})?")


@dataclass(eq=False)
class ArchiveData:
    """One TorchScript archive.

    `root` is the module, `constants` what the code calls `CONSTANTS.c0`, `CONSTANTS.c1`, ... (None of it may be
    written to: tensors are read-only views.) `code` finds classes and functions. `version` decides which operators
    have their old meaning (upgraders.py). `name` is the root folder, `file` what errors call the archive.
    `extra_files` are the user's own records. `traced_inputs` maps methods of a traced module to the arguments that
    it was traced with (their tensors usually have no data), or is None. `identity` differs between files with
    different records (None for an archive that is no file).
    """

    file: str
    name: str
    version: int
    root: ScriptObjectData
    constants: tuple[Value, ...]
    code: CodeIndex
    extra_files: dict[str, bytes]
    traced_inputs: DictData | None
    identity: str | None = None


def read(
    file: str | os.PathLike[str] | IO[bytes] | bytes,
    *,
    map_location: object = None,
    extra_files: dict[str, bytes] | None = None,
    mmap: bool | None = None,
    verify: bool = True,
    limits: Limits = DEFAULT,
    later: bool = False,
) -> ArchiveData:
    """Read a TorchScript archive from a path, a file opened in binary mode, or bytes.

    `map_location` ("cpu", "cuda:0", or whatever prints as one) replaces the device of every tensor and device value.
    `extra_files` is filled as torch.jit.load fills it: for each of its keys that the archive holds, the bytes.
    `mmap`: True maps uncompressed tensors from the file, False copies them, None maps where the file cannot change.
    `verify=False` skips the checksums of uncompressed tensors (everything else is always verified). With `later`, the
    data of the root's tensors is read (and verified) when it is asked for, if the archive is a file, which stays open
    for as long.

    Raises ArchiveError (damaged, hostile, too new, or no TorchScript archive), UnsupportedError (quantized or sparse
    tensors and the like, naming the attribute), OSError (the file cannot be read).
    """
    location = _device(map_location)
    with open_container(file, limits=limits, mmap=mmap, verify=verify) as container:
        identity = container.identity()
        container.stays_open = later and identity is not None
        root = _unpickle(container, "data", location, later=container.stays_open)
        constants = _unpickle(container, "constants", location)
        if type(constants) is not tuple:
            raise ArchiveError("the record 'constants.pkl' holds no tuple")
        code = _code(container)
        if type(root) is not ScriptObjectData:
            refuse_root(root)
        Checker(code, limits).check_all((root, *constants))
        if code.class_named(root.qualified_name).kind != "module":
            refuse_root(root)
        extra = {name.removeprefix("extra/"): container.read(name) for name in container.names("extra/")}
        traced = _traced_inputs(container, location)
        name = container.source.name
        result = ArchiveData(name, container.root, container.version, root, constants, code, extra, traced, identity)
    for key in extra_files or ():
        if key in result.extra_files:
            extra_files[key] = result.extra_files[key]  # type: ignore[index]
    return result


def _device(map_location: object) -> str | None:
    if map_location is None:
        return None
    text = str(map_location)
    if not _DEVICE.fullmatch(text):
        raise TypeError(f"map_location is a device such as 'cpu' or 'cuda:0', not {map_location!r}")
    return text


def _unpickle(
    container: Container, name: str, location: str | None, *, absent: bool = False, later: bool = False
) -> Value:
    data = container.read(f"{name}.pkl", container.limits.pickle_bytes)
    storages = Storages(container, name, location, absent=absent, later=later)
    return Unpickler(data, f"{name}.pkl", storages, container.limits).load()


def _traced_inputs(container: Container, location: str | None) -> DictData | None:
    if "traced_inputs.pkl" not in container:
        return None
    traced = _unpickle(container, "traced_inputs", location, absent=True)
    if type(traced) is not DictData:
        raise ArchiveError("the record 'traced_inputs.pkl' holds no dict")
    return traced


def _code(container: Container) -> CodeIndex:
    """The texts of all code records; the records of their origins are read as far as they can be."""
    names = [name for name in container.names("code/") if name.endswith(".py")]
    total = sum(container.size(name) for name in names)
    if total > container.limits.source_bytes:
        raise ArchiveError(f"the archive has {total} bytes of source, the limit is {container.limits.source_bytes}")
    sources = {name: container.read(name) for name in names}
    debug: dict[str, bytes] = {}
    for name in names:
        try:
            if name + ".debug_pkl" in container:
                debug[name] = container.read(name + ".debug_pkl")
        except ArchiveError:  # a courtesy record: without it, errors quote the archive's own text
            continue
    return CodeIndex(sources, debug)
