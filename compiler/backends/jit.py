"""loops -> native code that runs in this process, and the way back from a cached object.

    build(module, target) = load(compile_module(module, target))

`compile_module` needs xDSL and LLVM; `load` needs llvmlite's linker only. LLVM gets tiled and vectorised code,
so few passes run on it (measured: full -O3 costs ten times as much and gains nothing), and the back end at its
usual level.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from stepwell.compiler import cache as object_cache
from stepwell.compiler.threads_of_compilation import Aside
from stepwell.dialects.target import Target
from stepwell.runtime.abi import FrameLayout
from stepwell.runtime.function import NativeFunction

if TYPE_CHECKING:
    import numpy as np
    from xdsl.dialects.builtin import ModuleOp

CODEGEN_LEVEL = 2
"""LLVM's back end at 0 takes a sixth of the time and gives a third of the speed."""

ENTRY_SYMBOL = "stepwell.entry"


@dataclass(frozen=True)
class CompiledObject:
    """An object file and the JSON text of its frame layout."""

    code: bytes
    layout: str

    @property
    def constants(self) -> list[str]:
        """The names of the arrays that the code takes beside its arguments."""
        return [slot.name for slot in FrameLayout.from_json(self.layout).arguments if slot.kind == "constant"]

    def to_bytes(self) -> bytes:
        """For the cache."""
        text = self.layout.encode()
        return struct.pack("<Q", len(text)) + text + self.code

    @staticmethod
    def from_bytes(data: bytes) -> CompiledObject:
        """The opposite."""
        (length,) = struct.unpack_from("<Q", data)
        return CompiledObject(data[8 + length :], data[8 : 8 + length].decode())


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
    return begin_llvm(module, target, cache=cache).result()


def begin_llvm(module: ModuleOp, target: Target, *, cache: object_cache.Cache | None = None) -> Aside[CompiledObject]:
    """`compile_llvm` in another thread, which needs nothing more of the module: LLVM reads its text."""
    from xdsl.dialects.builtin import StringAttr

    from stepwell.compiler.backends.llvm_text import print_module

    layout = module.attributes["host.layout"]
    assert isinstance(layout, StringAttr)
    text, description = print_module(module), layout.data

    def work() -> CompiledObject:
        key = object_cache.key_of("llvm text", text, repr(target), description)
        stored = cache.get(key) if cache is not None else None
        if stored is not None:
            return CompiledObject.from_bytes(stored)
        result = CompiledObject(compile_object(text, target), description)
        if cache is not None:
            cache.put(key, result.to_bytes())
        return result

    return Aside(work, "stepwell-llvm")


def load(compiled: CompiledObject, constants: Mapping[str, np.ndarray[Any, Any]] | None = None) -> NativeFunction:
    """Link an object into this process. Neither xDSL nor LLVM's optimizer is needed."""
    layout = FrameLayout.from_json(compiled.layout)
    library, address = link(compiled.code, layout.entry)
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


@cache
def _machine(target: Target) -> Any:
    import llvmlite.binding as binding

    native = binding.get_process_triple().split("-")[0] == target.triple.split("-")[0]
    _initialize(not native)
    return binding.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=CODEGEN_LEVEL, reloc="pic", codemodel="default", jit=False
    )


def optimized(text: str, target: Target) -> Any:
    """LLVM's module after the slim pipeline. Raises RuntimeError with LLVM's message for a text it refuses."""
    import llvmlite.binding as binding

    machine = _machine(target)
    module = binding.parse_assembly(text, binding.create_context())
    module.data_layout = str(machine.target_data)
    module.verify()
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(1))
    passes = binding.create_new_module_pass_manager()  # one call: each has to wait for the interpreter's lock
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.run(module, builder)
    return module


def compile_object(text: str, target: Target) -> bytes:
    """LLVM IR text to an object file for a target (any that llvmlite was built with)."""
    return bytes(_machine(target).emit_object(optimized(text, target)))


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


def link(code: bytes, symbol: str) -> tuple[Any, int]:
    """Load an object into this process: (what keeps it there, the address of a symbol)."""
    import llvmlite.binding as binding

    global _linked
    with _linking:
        _linked += 1
        builder = binding.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(symbol)
        library = builder.link(_linker(), f"stepwell.{_linked}")
    return library, int(library[symbol])
