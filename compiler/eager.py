"""Ops called by plain Python: outside scripted code `stepwell.relu(x)` computes with the op's numpy reference.

What a name means is what it means inside scripted code (frontends/script/library.py): an op, a dtype, a constant, a
namespace such as `stepwell.nn.functional`, or a function written in the script language, which is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from xdsl.ir import Attribute

from stepwell.compiler.frontends.language.names import Builtin, Literal, Namespace, OpName
from stepwell.compiler.frontends.script import library
from stepwell.compiler.interpreter.torch import run_declared
from stepwell.compiler.method import to_torch
from stepwell.compiler.objects import ScriptFunction
from stepwell.compiler.signature import is_torch_tensor, numpy_of
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch import ops, types
from stepwell.dialects.torch.declare import OPS, RuntimeFault
from stepwell.dialects.torch.resolve import NoMatch, resolve
from stepwell.runtime.abi import exception_class


def attribute(name: str, namespace: str = "torch") -> Any:
    """What `stepwell.name` (or a name of one of its namespaces) is outside scripted code. AttributeError if nothing."""
    ops.declare_all()
    found = library.torch_attribute(namespace, name)
    if isinstance(found, OpName) and OPS.overloads(found.name):
        return Op(found.name)
    if isinstance(found, Literal):
        return found.value
    if isinstance(found, Namespace):
        return Names(found.path)
    if isinstance(found, ScriptFunction):
        return _compiled(found)
    if isinstance(found, Builtin):
        gathered = f"aten::{found.name.removeprefix('torch.')}"
        if found.name == "torch.no_grad":
            return nullcontext
        if OPS.overloads(gathered):
            return Op(gathered, gathers=1 if gathered == "aten::einsum" else 0)
    raise AttributeError(f"{namespace.replace('torch', 'stepwell', 1)} has no attribute {name!r}")


def _compiled(function: ScriptFunction) -> Any:
    from stepwell.compiler.module import ScriptedFunction
    from stepwell.compiler.session import Session

    session = Session(None)
    return ScriptedFunction(session, session.method(function, None))


class Names:
    """A namespace: `stepwell.nn`, `stepwell.nn.functional`, `stepwell.linalg`."""

    def __init__(self, path: str) -> None:
        self.__stepwell_namespace__ = path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = attribute(name, self.__stepwell_namespace__)
        setattr(self, name, value)
        return value

    def __repr__(self) -> str:
        return f"<namespace {self.__stepwell_namespace__.replace('torch', 'stepwell', 1)}>"


_SIZED = ("zeros", "ones", "empty", "rand", "randn")
"""Ops whose sizes may come one by one."""


class Op:
    """An op of the registry, its overload chosen by the arguments.

    Arrays (or torch tensors) in, arrays (or torch tensors) out. `gathers`: the tensors from that position on may come
    one by one, while the op takes a list. Raises TypeError where no overload takes the arguments, and what torch
    raises for sizes and values that do not fit.
    """

    def __init__(self, name: str, gathers: int | None = None) -> None:
        self.__stepwell_op__ = name
        self.__name__ = name.partition("::")[2]
        self._gathers = gathers

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        overloads = OPS.overloads(self.__stepwell_op__)
        return "\n".join([overloads[0].doc, "", *(str(d.schema) for d in overloads)])

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        foreign = any(map(_has_torch, [*arguments, *keywords.values()]))
        positional = [_plain(a) for a in arguments]
        if self.__name__ in _SIZED and all(type(v) is int for v in positional):
            positional = [positional]
        if self._gathers is not None and not isinstance(positional[self._gathers], list):
            positional = [*positional[: self._gathers], positional[self._gathers :]]
        named = {k: _plain(v) for k, v in keywords.items()}
        result = self._run(positional, named)
        return to_torch(result) if foreign else result

    def _run(self, positional: Sequence[Any], named: Mapping[str, Any]) -> Any:
        try:
            found = resolve(
                self.__stepwell_op__, [type_of(v) for v in positional], {k: type_of(v) for k, v in named.items()}
            )
        except NoMatch as problem:
            raise TypeError(str(problem)) from None
        values = [
            formal.default if source is None else positional[source] if isinstance(source, int) else named[source]
            for formal, source in zip(found.declaration.schema.arguments, found.sources, strict=False)
        ]
        try:
            return run_declared(found.declaration, values, set())
        except RuntimeFault as fault:
            raise exception_class(f"builtins.{fault.exception}")(str(fault)) from None

    def __repr__(self) -> str:
        return f"<op {self.__stepwell_op__}>"


def _plain(value: Any) -> Any:
    if is_torch_tensor(value):
        return numpy_of(value)
    if isinstance(value, DType):
        return value.code
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return np.asarray(value) if isinstance(value, np.generic) else value


def _has_torch(value: Any) -> bool:
    return is_torch_tensor(value) or (isinstance(value, (list, tuple)) and any(map(_has_torch, value)))


_TYPES: dict[type, Attribute] = {
    bool: types.BOOL, int: types.INT, float: types.FLOAT, str: types.STRING, type(None): types.NONE,
    np.ndarray: types.TENSOR,
}  # fmt: skip


def type_of(value: Any) -> Attribute:
    """The static type that a value would have in scripted code. TypeError where it has none."""
    found = _TYPES.get(type(value))
    if found is not None:
        return found
    if isinstance(value, list):
        inner = list(dict.fromkeys(type_of(v) for v in value))
        if set(inner) == {types.INT, types.FLOAT}:
            inner = [types.FLOAT]
        if set(inner) == {types.TENSOR, types.NONE}:
            inner = [types.optional_of(types.TENSOR)]
        return types.list_of(inner[0]) if len(inner) == 1 else types.list_of(types.INT if not inner else types.ANY)
    if isinstance(value, np.ndarray):
        return types.TENSOR
    raise TypeError(f"a {type(value).__name__} is neither a tensor nor a number")
