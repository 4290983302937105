"""Modules and scripted functions of torch, where torch is installed: scripted by it, run by us, on its own memory.

torch.jit knows what a `torch.nn.Module` means (parameters, containers, exports, hooks), so the module becomes an
archive in memory, as `torch.jit.save` writes it, and its tensors are put back: parameters and buffers are shared.
Calls that come with torch tensors give torch tensors.
"""

from __future__ import annotations

import io
from typing import Any

from stepwell.compiler.objects import ScriptObject
from stepwell.compiler.signature import numpy_of
from stepwell.dialects.diagnostics import CompileError


def is_of_torch(thing: Any) -> bool:
    """True for objects of torch.nn.Module and of torch.jit's functions, without importing torch."""
    names = {(c.__module__, c.__name__) for c in type(thing).__mro__}
    return bool(names & {("torch.nn.modules.module", "Module"), ("torch.jit", "ScriptFunction"), ("torch._C", "ScriptFunction")})


def module_of_torch(thing: Any) -> Any:
    """The ScriptModule of a module or scripted function. CompileError has torch's words where it cannot be scripted."""
    import torch

    from stepwell.compiler.api import load

    file = io.BytesIO()
    try:
        torch.jit.save(torch.jit.script(thing) if isinstance(thing, torch.nn.Module) else thing, file)
    except Exception as problem:
        raise CompileError(f"torch.jit cannot script this {type(thing).__name__}: {problem}") from problem
    file.seek(0)
    loaded = load(file)
    if isinstance(thing, torch.nn.Module):
        tensors = [*thing.named_parameters(remove_duplicate=False), *thing.named_buffers(remove_duplicate=False)]
        for path, tensor in tensors:
            _share(loaded._object, path, tensor)
    return loaded


def _share(root: ScriptObject, path: str, tensor: Any) -> None:
    """Let an attribute be the memory of a tensor, where that is on the CPU."""
    *steps, name = path.split(".")
    owner = root
    for step in steps:
        inner = owner.attributes.get(step)
        if not isinstance(inner, ScriptObject):
            return
        owner = inner
    if name in owner.attributes and tensor.device.type == "cpu":
        owner.attributes[name] = numpy_of(tensor)
