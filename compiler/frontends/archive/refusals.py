"""Files that are often handed over as TorchScript archives and are something else: what each is, and what to do."""

from __future__ import annotations

from collections.abc import Collection

from stepwell.compiler.frontends.archive.files import ByteSource
from stepwell.dialects.diagnostics import ArchiveError

_SCRIPT = "load it with torch, then torch.jit.save(torch.jit.script(model), path)"

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a pickle of torch.save in its format before 1.6; " + _SCRIPT),
    (0, b"\x80", "a pickle, not a TorchScript archive; " + _SCRIPT),
    (4, b"PTMF", "a TorchScript flatbuffer for mobile; save the model with torch.jit.save instead"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`"),
    (0, b"\x89HDF", "an HDF5 file, not a TorchScript archive"),
    (0, b"\x1f\x8b", "a gzip file; unpack it first"),
    (0, b"BZh", "a bzip2 file; unpack it first"),
    (0, b"\xfd7zXZ", "an xz file; unpack it first"),
    (0, b"GGUF", "a GGUF file of weights, which has no program in it"),
    (257, b"ustar", "a tar file (torch.save before 0.4, or a packed folder), not a TorchScript archive"),
    (0, b"<!DOCTYPE", "an HTML page; the download went wrong"),
    (0, b"<html", "an HTML page; the download went wrong"),
)


def check_magic(source: ByteSource) -> None:
    """Refuse by name what its first bytes give away; a zip file passes."""
    head = source.read(0, min(source.length, 512))
    if head.startswith(b"PK"):
        return
    for offset, magic, what in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            raise ArchiveError(f"{source.name} is {what}")
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < source.length:
        raise ArchiveError(f"{source.name} is a safetensors file: weights without a program")


def check_root_records(names: Collection[str]) -> None:
    """Refuse zip files whose records lie at the root and say what they are."""
    if "archive_format" in names or "archive_version" in names:
        raise ArchiveError(_PT2)
    if "data.pkl" in names or "version" in names:
        raise ArchiveError("the archive's records lie at the root instead of in one folder: it was packed again")


_PT2 = (
    "this is a torch.export archive (.pt2), not a TorchScript archive; "
    "save the model with torch.jit.save to read it here"
)


def check_records(names: Collection[str]) -> None:
    """Refuse zip files with a root folder that are not TorchScript archives (names below the folder)."""
    if "archive_format" in names or "archive_version" in names:
        raise ArchiveError(_PT2)
    if "model.json" in names:
        raise ArchiveError(
            "this is a TorchScript archive of torch 1.3 or older (model.json); "
            "load and save it once with torch.jit of torch 1.4 to 2.13"
        )
    if ".data/extern_modules" in names:
        raise ArchiveError(
            "this is a torch.package archive: Python code and pickles, which are not executed; "
            "import it with torch.package, then torch.jit.save(torch.jit.script(model), path)"
        )
    if "data.pkl" not in names:
        raise ArchiveError("the archive has no record 'data.pkl': it is no TorchScript archive")
    if "constants.pkl" not in names:
        raise ArchiveError(
            "this is a file of torch.save (a state dict or a pickled model), which holds no program; " + _SCRIPT
        )
