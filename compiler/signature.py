"""What a call looks like to the compiler: its structure, the values that native code takes, and its sizes.

The first call of a structure compiles for its exact sizes and ints. A later call that differs in its sizes gets a
variant in which what differed is symbolic, so a batch size that varies costs one more compilation, ever. Sizes 0 and 1 stay
exact (they broadcast), bools, strings and None always do, floats are always run-time values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stepwell.compiler.objects import EnumMember

LARGEST = (1 << 63) - 1
"""The largest int of programs."""

SMALLEST_SYMBOLIC = 2
"""A symbolic size is at least this; 0 and 1 have variants of their own."""


MOST_MODES = 3
"""So many combinations of int arguments are compiled for their exact values before ints become symbolic."""

MOST_VARIANTS = 16
"""With so many variants of one structure no more are compiled for exact numbers where symbols will not do."""


@dataclass
class Call:
    """One call, taken apart.

    key: structure, dtypes, ranks and exact values; two calls of equal key differ in `numbers` only.
    leaves: arrays and floats and ints, in order. numbers: sizes of the arrays and ints, in order. sharing: which
    leaves overlap in memory (see `overlaps`), where the method writes some of them.
    """

    key: tuple[Any, ...]
    leaves: list[Any]
    numbers: tuple[int, ...]
    sharing: tuple[tuple[int, int, bool], ...] = ()


class Reader:
    """Takes arguments apart. One per call."""

    def __init__(self) -> None:
        self.leaves: list[Any] = []
        self.numbers: list[int] = []
        self.foreign = False
        """True once a torch tensor was seen: results are given back as torch tensors."""

    def read(self, value: Any) -> Any:
        """The key of a value; arrays and run-time numbers are added to leaves.

        What no program takes has a key that no variant has, and `Parameters.convert` says so.
        """
        kind = type(value)
        if kind is np.ndarray:
            return self._array(value)
        if value is None or kind is bool or kind is str:
            return (kind.__name__, value)
        if kind is int and -LARGEST - 1 <= value <= LARGEST:
            self.leaves.append(value)
            self.numbers.append(value)
            return "int"
        if kind is float:
            self.leaves.append(value)
            return "float"
        return self._other(value)

    def _array(self, value: np.ndarray[Any, Any]) -> Any:
        name = _NAMES.get(value.dtype) or dtype_name(value.dtype)
        if name is None:
            return _unknown(value)
        self.leaves.append(value)
        self.numbers.extend(value.shape)
        return ("tensor", name, value.ndim)

    def _other(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return ("tuple", *(self.read(v) for v in value))
        if isinstance(value, list):
            return ("list", *(self.read(v) for v in value))
        if isinstance(value, dict):
            return ("dict", *((k, self.read(v)) for k, v in value.items()))
        if isinstance(value, EnumMember):
            return ("enum", value.index)
        if isinstance(value, (np.bool_, np.integer, np.floating)):
            return self.read(value.item() if not isinstance(value, np.longdouble) else float(value))
        if is_torch_tensor(value):
            self.foreign = True
            try:
                return self._array(numpy_of(value))
            except (TypeError, RuntimeError):
                return _unknown(value)
        if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
            return self._array(np.asarray(value))
        return _unknown(value)


def _unknown(value: Any) -> Any:
    return ("unknown", type(value).__name__)


_NAMES: dict[np.dtype[Any], str] = {
    np.dtype(name): name
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
}


def dtype_name(dtype: np.dtype[Any]) -> str | None:
    """torch's name of a dtype that programs compute with; None for others, and for another byte order."""
    found = _NAMES.get(dtype)
    if found is None and dtype.name == "bfloat16" and dtype.isnative:
        found = _NAMES[dtype] = "bfloat16"
    return found


def overlaps(leaves: Sequence[Any]) -> tuple[tuple[int, int, bool], ...]:
    """Pairs of arrays that share memory: their positions, and whether they are the very same elements."""
    arrays = [(n, leaf) for n, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray) and leaf.size]
    found: list[tuple[int, int, bool]] = []
    for count, (n, a) in enumerate(arrays):
        for m, b in arrays[count + 1 :]:
            if np.may_share_memory(a, b):
                found.append((n, m, _layout(a) == _layout(b)))
    return tuple(found)


def _layout(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return array.__array_interface__["data"][0], array.dtype, array.shape, array.strides


def is_torch_tensor(value: Any) -> bool:
    """True for torch.Tensor and its subclasses, without importing torch."""
    return any(c.__module__ == "torch" and c.__name__ == "Tensor" for c in type(value).__mro__)


def numpy_of(tensor: Any) -> np.ndarray[Any, Any]:
    """A torch tensor as an array over the same memory; torch itself gives none of bfloat16."""
    detached = tensor.detach()
    if str(detached.dtype) != "torch.bfloat16":
        array: np.ndarray[Any, Any] = detached.numpy()
        return array
    import ml_dtypes
    import torch

    bits: np.ndarray[Any, Any] = detached.view(torch.int16).numpy()
    return bits.view(ml_dtypes.bfloat16)


def take_apart(values: Sequence[Any]) -> tuple[Call, bool]:
    """The Call of these arguments (and state), and whether results go back as torch tensors."""
    reader = Reader()
    key = tuple(reader.read(v) for v in values)
    return Call(key, reader.leaves, tuple(reader.numbers)), reader.foreign


@dataclass(frozen=True)
class Pattern:
    """Which numbers a variant fixes and which it leaves open: an int, or the name of a symbol."""

    parts: tuple[int | str, ...]

    def fits(self, numbers: Sequence[int], is_size: Sequence[bool]) -> bool:
        """True if a call with these numbers may use the variant: equal symbols have equal values."""
        seen: dict[str, int] = {}
        for part, number, size in zip(self.parts, numbers, is_size, strict=True):
            if isinstance(part, int):
                if part != number:
                    return False
            elif (size and number < SMALLEST_SYMBOLIC) or seen.setdefault(part, number) != number:
                return False
        return True


def generalise(numbers: Sequence[int], is_size: Sequence[bool], earlier: Sequence[tuple[int, ...]]) -> Pattern:
    """The pattern of a new variant: what differed from earlier calls becomes symbolic.

    Positions that have always had equal values share a symbol.
    """
    names: dict[tuple[int, ...], str] = {}
    parts: list[int | str] = []
    for position, number in enumerate(numbers):
        column = (number, *(e[position] for e in earlier))
        exact = all(v == number for v in column) or (is_size[position] and number < SMALLEST_SYMBOLIC)
        parts.append(number if exact else names.setdefault((*column, is_size[position]), f"s{len(names)}"))
    return Pattern(tuple(parts))


def size_flags(key: tuple[Any, ...]) -> list[bool]:
    """For each of a call's numbers whether it is a size (True) or an int argument (False)."""
    flags: list[bool] = []
    _flags(key, flags)
    return flags


def _flags(key: Any, flags: list[bool]) -> None:
    if key == "int":
        flags.append(False)
    elif isinstance(key, tuple):
        if key and key[0] == "tensor":
            flags.extend([True] * key[2])
            return
        if key and key[0] == "dict":
            for _, value in key[1:]:
                _flags(value, flags)
            return
        for part in key:
            if not isinstance(part, str) or part == "int":
                _flags(part, flags)


@dataclass
class Variants:
    """All variants of one structure: patterns with what was compiled for them, and the calls seen."""

    is_size: list[bool]
    compiled: list[tuple[Pattern, Any]] = field(default_factory=list)
    calls: list[tuple[int, ...]] = field(default_factory=list)
    unfit: set[Pattern] = field(default_factory=set)
    """Patterns with symbols where the program needs numbers: the window of a pooling, say."""
    exact: dict[tuple[int, ...], Any] = field(default_factory=dict)

    def find(self, numbers: tuple[int, ...]) -> Any | None:
        """What was compiled for a call with these numbers, or None."""
        found = self.exact.get(numbers)
        if found is not None:
            return found
        for pattern, compiled in self.compiled:
            if pattern.fits(numbers, self.is_size):
                if len(self.exact) > 64:
                    self.exact.clear()
                self.exact[numbers] = compiled
                return compiled
        return None

    def patterns(self, numbers: tuple[int, ...]) -> list[Pattern]:
        """The patterns to compile for a call that no variant fits, until one will do: after the most general one that
        with exact ints, and that with exact sizes too."""
        general = self._general(numbers)
        if len(self.compiled) >= MOST_VARIANTS or any(made.interpreted for _, made in self.compiled):
            return [general]
        ints = Pattern(tuple(p if size else n for p, n, size in zip(general.parts, numbers, self.is_size, strict=True)))
        return [p for p in dict.fromkeys((general, ints, Pattern(numbers))) if p not in self.unfit]

    def _general(self, numbers: tuple[int, ...]) -> Pattern:
        """What differed from earlier calls is symbolic.

        Ints are often modes (a sampling rate), so the first few combinations stay exact, each with sizes of its own.
        """
        modes = {self._ints(c) for c in self.calls}
        if self._ints(numbers) in modes or len(modes) < MOST_MODES:
            alike = [c for c in self.calls if self._ints(c) == self._ints(numbers)]
        else:
            alike = self.calls
        made = generalise(numbers, self.is_size, alike)
        self.calls.append(numbers)
        return made

    def _ints(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(n for n, size in zip(numbers, self.is_size, strict=True) if not size)

    def add(self, pattern: Pattern, compiled: Any) -> None:
        self.compiled.append((pattern, compiled))


def describe(key: tuple[Any, ...], pattern: Pattern) -> str:
    """A signature in words: `(float32[s0, 64], 16000)`."""
    numbers = iter(pattern.parts)
    return f"({', '.join(_describe(k, numbers) for k in key)})"


def _describe(key: Any, numbers: Any) -> str:
    if key == "int":
        return str(next(numbers))
    if key == "float":
        return "float"
    if key[0] == "tensor":
        return f"{key[1]}[{', '.join(str(next(numbers)) for _ in range(key[2]))}]"
    if key[0] in ("tuple", "list"):
        return f"{key[0]}({', '.join(_describe(k, numbers) for k in key[1:])})"
    if key[0] == "enum":
        return f"member {key[1]}"
    if key[0] == "dict":
        return "{" + ", ".join(f"{k!r}: {_describe(v, numbers)}" for k, v in key[1:]) + "}"
    return repr(key[1])


def facts_of(key: tuple[Any, ...], pattern: Pattern, symbol: Mapping[str, Any]) -> list[Any]:
    """The specializer's view of every argument (see `specialize`), with `symbol` giving symbolic ints."""
    numbers = iter(pattern.parts)
    return [_fact(k, numbers, symbol) for k in key]


def _fact(key: Any, numbers: Any, symbol: Mapping[str, Any]) -> Any:
    from stepwell.dialects import dtypes
    from stepwell.dialects.torch.declare import ScalarInfo, TensorInfo

    if key == "int":
        part = next(numbers)
        return part if isinstance(part, int) else ScalarInfo("int")
    if key == "float":
        return ScalarInfo("float")
    if key[0] == "tensor":
        sizes = [next(numbers) for _ in range(key[2])]
        dtype = dtypes.from_numpy(np.dtype(key[1]))
        return TensorInfo(tuple(s if isinstance(s, int) else symbol[s] for s in sizes), dtype)
    if key[0] == "tuple":
        return tuple(_fact(k, numbers, symbol) for k in key[1:])
    if key[0] == "list":
        return [_fact(k, numbers, symbol) for k in key[1:]]
    if key[0] == "dict":
        return {k: _fact(v, numbers, symbol) for k, v in key[1:]}
    return key[1]
