"""loops -> native code that runs in this process, and the way back from a cached object.

    build(module, target) = load(compile_module(module, target))

`compile_module` needs xDSL and LLVM; `load` needs llvmlite's linker only. LLVM gets tiled and vectorised code,
so few passes run on it (measured: full -O3 costs ten times as much and gains nothing), and the back end at its
usual level.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping, Sequence
from ctypes import string_at
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from stepwell.compiler import cache as object_cache
from stepwell.dialects.target import Target
from stepwell.runtime.abi import FrameLayout
from stepwell.runtime.function import NativeFunction

if TYPE_CHECKING:
    import numpy as np
    from xdsl.dialects.builtin import ModuleOp

CODEGEN_LEVEL = 2
"""LLVM's back end at 0 takes a sixth of the time and gives a third of the speed."""

@dataclass(frozen=True)
class CompiledObject:
    """Object files that are linked with each other, and the JSON text of their entry's frame layout."""

    codes: tuple[bytes, ...]
    layout: str

    @property
    def constants(self) -> list[str]:
        """The names of the arrays that the code takes beside its arguments."""
        return [slot.name for slot in FrameLayout.from_json(self.layout).arguments if slot.kind == "constant"]

    def to_bytes(self) -> bytes:
        """For the cache."""
        parts = (self.layout.encode(), *self.codes)
        return struct.pack(f"<Q{len(parts)}Q", len(parts), *map(len, parts)) + b"".join(parts)

    @staticmethod
    def from_bytes(data: bytes) -> CompiledObject:
        """The opposite."""
        (count,) = struct.unpack_from("<Q", data)
        parts, start = [], 8 + 8 * count
        for length in struct.unpack_from(f"<{count}Q", data, 8):
            parts.append(data[start : start + length])
            start += length
        return CompiledObject(tuple(parts[1:]), parts[0].decode())


def build(
    module: ModuleOp,
    target: Target | None = None,
    *,
    entry: str = "forward",
    profile: bool = False,
    constants: Mapping[str, np.ndarray[Any, Any]] | None = None,
    cache: object_cache.Cache | None = None,
) -> NativeFunction:
    """Lower a module of the loops level, compile and link it. The module is changed on its way down.

    `constants`: arrays for the arguments of kind constant, by name. `cache` keeps the object by the content of
    the LLVM text. Raises UnsupportedError for what has no native form.
    """
    return load(compile_module(module, target, entry=entry, profile=profile, cache=cache), constants)


def compile_module(
    module: ModuleOp,
    target: Target | None = None,
    *,
    entry: str = "forward",
    profile: bool = False,
    cache: object_cache.Cache | None = None,
) -> CompiledObject:
    """Loops level to object code: expand_math, distribute, loops_to_llvm, text, LLVM."""
    from stepwell.compiler.backends.target import host

    target = target or host()
    lowered = lower_module(module, target, entry=entry, profile=profile)
    return compile_llvm(lowered, target, cache=cache)


def lower_module(module: ModuleOp, target: Target, *, entry: str = "forward", profile: bool = False) -> ModuleOp:
    """Loops level to the llvm level. The module is changed on the way."""
    from stepwell.lowering import loops_to_llvm
    from stepwell.lowering.cpu.distribute import distribute
    from stepwell.lowering.cpu.expand_math import expand_math

    expand_math(module, target)
    distribute(module)
    return loops_to_llvm.lower(module, target, entry=entry, profile=profile)


def compile_llvm(module: ModuleOp, target: Target, *, cache: object_cache.Cache | None = None) -> CompiledObject:
    """The llvm level to object code, by way of the cache where there is one."""
    from xdsl.dialects.builtin import StringAttr

    from stepwell.compiler.backends.llvm_text import print_module
    from stepwell.compiler.backends.llvm_workers import Workers

    layout = module.attributes["host.layout"]
    assert isinstance(layout, StringAttr)
    with Workers(target, cache) as workers:
        code = workers.begin(print_module(module))
    return CompiledObject((code.result(),), layout.data)


def load(compiled: CompiledObject, constants: Mapping[str, np.ndarray[Any, Any]] | None = None) -> NativeFunction:
    """Link an object into this process. Neither xDSL nor LLVM's optimizer is needed."""
    layout = FrameLayout.from_json(compiled.layout)
    library, address = link(compiled.codes, layout.entry)
    return NativeFunction(address, layout, constants, keep=library)


# ------ LLVM


@cache
def _initialize(every_target: bool) -> None:
    import llvmlite.binding as binding

    if every_target:
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
    else:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()


def _machine(target: Target) -> Any:
    """A new one: no two threads may use the same."""
    import llvmlite.binding as binding

    native = binding.get_process_triple().split("-")[0] == target.triple.split("-")[0]
    _initialize(not native)
    return binding.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=CODEGEN_LEVEL, reloc="pic", codemodel="default", jit=False
    )


def _unlocked(function: Any) -> Any:
    """A function of llvmlite's library without the lock that lets in one thread at a time. For calls that take long and
    touch nothing but a context, a module and a machine of their thread's own, as LLVM asks for."""
    return getattr(function, "_cfn", function)


def optimized(text: str, target: Target, machine: Any = None) -> Any:
    """LLVM's module after the slim pipeline. Raises RuntimeError with LLVM's message for a text it refuses."""
    import llvmlite.binding as binding
    from llvmlite.binding import ffi

    machine = machine or _machine(target)
    module = binding.parse_assembly(text, binding.create_context())
    module.data_layout = str(machine.target_data)
    module.verify()
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(1))
    passes = binding.create_new_module_pass_manager()  # one call: each has to wait for the interpreter's lock
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    _unlocked(ffi.lib.LLVMPY_RunNewModulePassManager)(passes, module, builder)
    return module


def compile_object(text: str, target: Target) -> bytes:
    """LLVM IR text to an object file for a target (any that llvmlite was built with)."""
    from llvmlite.binding import ffi

    machine = _machine(target)
    module = optimized(text, target, machine)
    with ffi.OutputString() as error:
        buffer = _unlocked(ffi.lib.LLVMPY_TargetMachineEmitToMemory)(machine, module, 1, error)
        if not buffer:
            raise RuntimeError(str(error))
    try:
        return string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


def compile_assembly(text: str, target: Target) -> str:
    """LLVM IR text to assembly, to be read."""
    return str(_machine(target).emit_assembly(optimized(text, target)))


_linking = threading.Lock()
_linked = 0


@cache
def _linker() -> Any:
    import llvmlite.binding as binding

    _initialize(False)
    machine = binding.Target.from_default_triple().create_target_machine(jit=True)
    return binding.create_lljit_compiler(machine)


def link(codes: Sequence[bytes], symbol: str) -> tuple[Any, int]:
    """Load objects into this process, together: (what keeps them there, the address of a symbol)."""
    import llvmlite.binding as binding

    global _linked
    with _linking:
        _linked += 1
        builder = binding.JITLibraryBuilder().add_current_process().export_symbol(symbol)
        for code in codes:
            builder.add_object_img(code)
        library = builder.link(_linker(), f"stepwell.{_linked}")
    return library, int(library[symbol])
