"""What names of torch, math and stepwell mean inside scripted code. torch itself is never imported.

`torch.X` and `stepwell.X` are aten::X, `F.X` (torch.nn.functional) a function of functional.py, `math.X` an op on
numbers.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from stepwell.compiler.frontends.language.names import Builtin, Literal, Namespace, OpName
from stepwell.dialects import dtypes

FUNCTIONAL = "torch.nn.functional"

_CONSTANTS: dict[str, Any] = {
    "pi": math.pi, "e": math.e, "inf": math.inf, "nan": math.nan, "tau": math.tau, "strided": 0,
    "contiguous_format": 0, "preserve_format": 1, "channels_last": 2, "channels_last_3d": 3, "newaxis": None,
}  # fmt: skip

_NAMESPACES = {
    "nn": "torch.nn", "jit": "torch.jit", "linalg": "torch.linalg", "fft": "torch.fft", "special": "torch.special",
    "ops": "ops", "autograd": "torch.autograd", "functional": FUNCTIONAL, "utils": "torch.utils", "cuda": "torch.cuda",
    "backends": "torch.backends",
}  # fmt: skip

_LANGUAGE = {
    "torch.no_grad": "torch.no_grad", "torch.inference_mode": "torch.no_grad", "torch.enable_grad": "torch.no_grad",
    "torch.set_grad_enabled": "torch.no_grad", "torch.autograd.no_grad": "torch.no_grad",
    "torch.is_tensor": "torch.is_tensor", "torch._assert": "torch._assert", "torch.Size": "torch.Size",
    "torch.jit.annotate": "annotate", "torch.jit.isinstance": "isinstance", "torch.jit.fork": "fork",
    "torch.jit.wait": "wait", "torch.jit.is_scripting": "torch.jit.is_scripting",
    "torch.jit.is_tracing": "torch.jit.is_tracing", "torch.jit._unwrap_optional": "torch.jit._unwrap_optional",
    "torch.compiler.is_compiling": "torch.jit.is_tracing", "torch.cuda.is_available": "torch.jit.is_tracing",
}  # fmt: skip

_PREFIXED = ("linalg", "fft", "special")

_GATHERING = frozenset(
    "einsum meshgrid broadcast_tensors atleast_1d atleast_2d atleast_3d block_diag cartesian_prod".split()
)
"""Functions of torch that take their tensors one by one, while the ops take a list."""


def torch_attribute(namespace: str, name: str) -> Any:
    """The meaning of `namespace.name`, the namespace being torch or one inside it; None where it has none."""
    path = f"{namespace}.{name}"
    if path in _LANGUAGE:
        return Builtin(_LANGUAGE[path])
    if namespace == "torch":
        return _of_torch(name)
    if namespace == "torch.nn":
        return Namespace(FUNCTIONAL) if name == "functional" else None
    if namespace == FUNCTIONAL:
        return functional(name)
    inner = namespace.removeprefix("torch.")
    if inner in _PREFIXED:
        return OpName(f"aten::{inner}_{name}")
    if namespace == "ops":
        return Namespace(f"ops.{name}")
    if namespace.startswith("ops."):
        return OpName(f"{namespace[4:]}::{name}")
    return None


def _of_torch(name: str) -> Any:
    if name in dtypes.BY_NAME:
        return Literal(dtypes.BY_NAME[name])
    if name in _CONSTANTS:
        return Literal(_CONSTANTS[name])
    if name in _NAMESPACES:
        return Namespace(_NAMESPACES[name])
    if name in _GATHERING:
        return Builtin(f"torch.{name}")
    return OpName(f"aten::{name}")


def math_attribute(name: str) -> Any:
    """The meaning of `math.name`."""
    return Literal(_CONSTANTS[name]) if name in ("pi", "e", "inf", "nan", "tau") else OpName(f"aten::{name}")


def functional(name: str) -> Any:
    """A function of torch.nn.functional: in script here, or the op of its name."""
    found = _functional_environment().attribute("__torch__.torch.nn.functional", name)
    return found if not isinstance(found, Namespace) else OpName(f"aten::{name}")


@cache
def _functional_environment() -> Any:
    from stepwell.compiler.frontends.archive import CodeIndex
    from stepwell.compiler.frontends.archive_objects import CURRENT, ArchiveEnvironment
    from stepwell.compiler.frontends.script.functional import SOURCE

    return ArchiveEnvironment(CodeIndex({"code/__torch__/torch/nn/functional.py": SOURCE.encode()}), CURRENT)
