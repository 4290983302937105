"""Tensors of one element whose number is known: what torch.jit.trace makes of arithmetic on sizes.

    n = ops.prim.NumToTensor(torch.size(x, 1))      holds the size, a number or a symbol
    m = torch.floor_divide(n, CONSTANTS.c0)         so does this
    y = torch.view(x, [int(m), -1])                 and here it is one again

The tensor ops are written as well (and pruned where nothing needs them): somebody may want them as tensors.
A number that only run time knows is read once, so that the same tensor gives the same symbol wherever it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.dtypes import INTEGER
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Declaration, TensorInfo
from stepwell.dialects.torch.sizes import Dim, bounds
from stepwell.lowering.torch.specialize.values import Path

READERS: dict[str, str | None] = {
    "aten::Int.Tensor": "aten::Int", "aten::Float.Tensor": "aten::Float", "aten::Bool.Tensor": "aten::Bool",
    "aten::IntImplicit": None, "aten::FloatImplicit": None, "aten::ScalarImplicit": None, "aten::item": None,
}  # fmt: skip
"""Ops that give a tensor's element, with the conversion of a number that they make."""

Rule = Callable[..., Any]


def _truncated(b: TorchBuilder, x: Any, y: Any) -> Any:
    """Rounding towards zero is rounding down where nothing is negative."""
    return b.call("aten::floordiv", x, y) if bounds(x)[0] >= 0 and bounds(y)[0] > 0 else None


def _rounded(b: TorchBuilder, x: Any, y: Any, mode: Any) -> Any:
    if mode == "trunc":
        return _truncated(b, x, y)
    return b.call("aten::floordiv", x, y) if mode == "floor" else None


_SYMBOLIC: dict[str, Rule] = {
    "add": lambda b, x, y, alpha=1: b.call("aten::add", x, b.call("aten::mul", y, alpha)),
    "sub": lambda b, x, y, alpha=1: b.call("aten::sub", x, b.call("aten::mul", y, alpha)),
    "rsub": lambda b, x, y, alpha=1: b.call("aten::sub", y, b.call("aten::mul", x, alpha)),
    "mul": lambda b, x, y: b.call("aten::mul", x, y),
    "floor_divide": lambda b, x, y: b.call("aten::floordiv", x, y),
    "remainder": lambda b, x, y: b.call("aten::remainder", x, y),
    "neg": lambda b, x: b.call("aten::neg", x),
    "div": lambda b, x, y, mode=None: _rounded(b, x, y, mode),
}
"""Arithmetic of tensors that holds for symbolic ints: by the scalar ops, which know symbols."""

_SOURCES = ("prim::NumToTensor", "aten::scalar_tensor")


def note(path: Path, value: Value, number: Any) -> None:
    """A tensor holds this number."""
    path.builder.numbers[value.ssa] = number


def known(path: Path, value: Value) -> Any:
    """The number that a tensor of one element holds, None where it is not known here."""
    builder: TorchBuilder | None = path.builder
    while builder is not None:
        if value.ssa in builder.numbers:
            return builder.numbers[value.ssa]
        builder = builder.parent
    return None


def read(path: Path, reader: Declaration, value: Value) -> Any:
    """The element of a tensor, as one of READERS gives it; None where it must be read at run time."""
    number = known(path, value)
    if number is None:
        return None
    conversion = READERS[reader.schema.qualified_name]
    return number if conversion is None else path.builder.call(conversion, number)


def follow(path: Path, declaration: Declaration, arguments: Sequence[Any], result: Any) -> None:
    """After an op has been written: what its result holds, if its arguments tell."""
    name = declaration.schema.qualified_name
    if name in READERS:
        value = arguments[0]
        if isinstance(result, Dim) and value.dtype.category == INTEGER:
            note(path, value, result)
        return
    if not (isinstance(result, Value) and isinstance(result.info, TensorInfo) and not result.sizes):
        return
    if name.partition(".")[0] in _SOURCES:
        if isinstance(arguments[0], (int, float, Dim)) and _exact(result, arguments[0]):
            note(path, result, arguments[0])
        return
    number = _computed(path, declaration, arguments, result)
    if number is not None:
        note(path, result, number)


def _exact(result: Value, number: Any) -> bool:
    """Whether a tensor of this dtype holds the number as it is."""
    if isinstance(number, Dim):
        return result.dtype.name == "int64"
    return bool(np.asarray(number).astype(result.dtype.numpy).item() == number)


def _computed(path: Path, declaration: Declaration, arguments: Sequence[Any], result: Value) -> Any:
    tensors = [a for a in arguments if isinstance(a, Value)]
    if not tensors or declaration.effects or any(isinstance(a, list) for a in arguments):
        return None
    if any(not isinstance(t.info, TensorInfo) or t.sizes for t in tensors):
        return None
    numbers = {id(t): known(path, t) for t in tensors}
    if any(n is None for n in numbers.values()):
        return None
    if not any(isinstance(n, Dim) for n in (*numbers.values(), *arguments)):
        arrays = [np.array(numbers[id(a)], a.dtype.numpy) if isinstance(a, Value) else a for a in arguments]
        return np.asarray(declaration.reference(*arrays)).item()
    rule = _SYMBOLIC.get(declaration.schema.name)
    if rule is None or result.dtype.name != "int64":
        return None
    values = [numbers[id(a)] if isinstance(a, Value) else a for a in arguments]
    if not all(isinstance(v, (int, Dim, str)) or v is None for v in values):
        return None
    return rule(path.builder, *values)
