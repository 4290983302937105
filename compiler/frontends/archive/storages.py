"""Storage records to numpy arrays: mapped where the file allows, copied otherwise, shared by key."""

from __future__ import annotations

import re
import sys
from functools import partial

import numpy as np

from stepwell.compiler.frontends.archive.container import Container
from stepwell.compiler.frontends.archive.files import Bytes
from stepwell.compiler.frontends.archive.values import Array, Storage, TensorData, numpy_dtype
from stepwell.dialects.diagnostics import ArchiveError

_KEY = re.compile(r"[A-Za-z0-9_.\-]{1,200}")
MAX_ELEMENTS = 2**62


class Storages:
    """The storages below one folder of the archive (`data/`, `constants/`, `traced_inputs/`).

    `absent` lets a storage have no data, which is how traced inputs are stored. `later` reads the data of a storage
    when it is asked for.
    """

    def __init__(
        self,
        container: Container,
        folder: str,
        map_location: str | None,
        *,
        absent: bool = False,
        later: bool = False,
    ) -> None:
        self.container, self.folder = container, folder
        self.map_location, self.absent, self.later = map_location, absent, later
        self._bytes: dict[str, tuple[Bytes, bool]] = {}
        self._found: dict[tuple[str, str], Storage] = {}

    def get(self, key: str, dtype: str, device: str, numel: int) -> Storage:
        """The storage that a pickle names; ArchiveError when its record is missing or too small."""
        if not _KEY.fullmatch(key) or set(key) == {"."}:
            raise ArchiveError(f"{key[:80]!r} is no name of a storage")
        name = f"{self.folder}/{key}"
        known = self._found.get((name, dtype))
        if known is not None:
            if known.numel != numel:
                raise ArchiveError(f"storage {name!r} is claimed to have {known.numel} and {numel} elements")
            return known
        item = numpy_dtype(dtype).itemsize
        held = self.container.size(name)
        if numel < 0 or numel > MAX_ELEMENTS:
            raise ArchiveError(f"storage {name!r} claims {numel} elements")
        device = self.map_location or device
        if not held and numel and self.absent:
            storage = Storage(name, dtype, numel, device, None)
        elif held < numel * item:
            raise ArchiveError(
                f"storage {name!r} claims {numel} elements of {dtype}, {numel * item} bytes, but its record has {held}"
            )
        elif self.later:
            storage = Storage(name, dtype, numel, device, None, read=partial(self._load, name, dtype, numel))
        else:
            storage = Storage(name, dtype, numel, device, *self._load(name, dtype, numel))
        self._found[name, dtype] = storage
        return storage

    def _load(self, name: str, dtype: str, numel: int, once: bool = False) -> tuple[Array, bool]:
        """The elements, and whether they are mapped from the file; `once` where they are read again the next time."""
        if once and name not in self._bytes:
            raw, mapped = self.container.array(name, copied=True)
        else:
            if name not in self._bytes:
                self._bytes[name] = self.container.array(name)
            raw, mapped = self._bytes[name]
        wanted = numpy_dtype(dtype)
        raw = raw[: numel * wanted.itemsize]
        if raw.__array_interface__["data"][0] % wanted.alignment and numel:
            raw, mapped = raw.copy(), False
        data: Array = raw.view(wanted)
        if dtype == "bool" and numel and raw.max() > 1:
            data, mapped = raw.astype(np.bool_), False
        if self.container.big_endian != (sys.byteorder == "big") and wanted.itemsize > 1:
            data, mapped = data.byteswap(), False
        data.flags.writeable = False
        return data, mapped


def view(
    storage: Storage, offset: int, sizes: tuple[int, ...], strides: tuple[int, ...], requires_grad: bool, expanded: int
) -> TensorData:
    """A tensor on a storage, after checking that every element lies inside; ArchiveError names the storage.

    `expanded` bounds the elements of a view that has more of them than its storage.
    """
    what = f"a tensor on storage {storage.key!r}"
    if len(sizes) != len(strides):
        raise ArchiveError(f"{what} has {len(sizes)} sizes and {len(strides)} strides")
    if len(sizes) > 64:
        raise ArchiveError(f"{what} has {len(sizes)} dimensions, the limit is 64")
    if offset < 0 or min(sizes, default=0) < 0 or min(strides, default=0) < 0:
        raise ArchiveError(f"{what} has a negative offset, size or stride")
    count, last = 1, offset
    for size, stride in zip(sizes, strides, strict=True):
        count *= size
        last += (size - 1) * stride
    if not count:
        if offset > storage.numel or max(sizes) > MAX_ELEMENTS:
            raise ArchiveError(f"{what} starts outside it")
        return TensorData(storage, offset, sizes, _harmless(sizes), requires_grad)
    if last >= storage.numel:
        raise ArchiveError(f"{what} reaches element {last} of {storage.numel}")
    if count > max(storage.numel, expanded):
        raise ArchiveError(f"{what} repeats {storage.numel} elements to {count}, the limit is {expanded}")
    return TensorData(storage, offset, sizes, strides, requires_grad)


def _harmless(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of an empty tensor: those of a contiguous one, sizes of 0 counted as 1, as torch has them."""
    strides: list[int] = []
    step = 1
    for size in reversed(sizes):
        strides.append(step)
        step *= max(size, 1)
    if step > MAX_ELEMENTS:
        raise ArchiveError("an empty tensor has sizes beyond 64 bits")
    return tuple(reversed(strides))
