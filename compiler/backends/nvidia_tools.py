"""NVIDIA's compilers and assembler, where they are installed (extra `gpu-tools`): what they say about our texts.

    ptxas(text, "sm_90a")      registers, spills and shared memory of each kernel
    nvrtc(source, "sm_90a")    CUDA C++ to PTX; nvcc(source, arch) to machine code, with warnings as errors
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from stepwell.dialects.diagnostics import Error

TIME_LIMIT = 300
"""Seconds."""


class ToolError(Error):
    """A tool is missing, or has refused a text."""


@dataclass(frozen=True)
class Resources:
    """What a kernel takes: registers of a thread, bytes that do not fit them, shared memory of a block."""

    registers: int
    spilled: int
    stack: int
    shared: int


def find(pattern: str) -> Path:
    """A file of NVIDIA's wheels. Raises ToolError where there is none."""
    package = importlib.util.find_spec("nvidia")
    places = package.submodule_search_locations if package is not None else None
    for place in places or ():
        for found in sorted(Path(place).glob(f"**/{pattern}")):
            return found
    on_path = shutil.which(pattern)
    if on_path:
        return Path(on_path)
    raise ToolError(f"{pattern} is missing: pip install 'stepwell[gpu-tools]'")


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    if done.returncode:
        raise ToolError(f"{Path(command[0]).name}: {(done.stdout + done.stderr).strip()}")
    return done.stdout + done.stderr


def ptxas(text: str, arch: str) -> dict[str, Resources]:
    """Assemble PTX; what each kernel takes. Raises ToolError with what ptxas says against it."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernels.ptx"
        source.write_text(text)
        said = _run([str(find("ptxas")), "-v", f"-arch={arch}", "-o", f"{folder}/kernels.cubin", str(source)])
    found = {}
    for part in said.split("Compiling entry function ")[1:]:
        name = part.split("'")[1]
        numbers = {word: int(number) for number, word in re.findall(r"(\d+) bytes (stack|spill stores|smem)", part)}
        registers = re.search(r"Used (\d+) registers", part)
        found[name] = Resources(
            int(registers[1]) if registers else 0,
            numbers.get("spill stores", 0),
            numbers.get("stack", 0),
            numbers.get("smem", 0),
        )
    return found


def nvcc(source: str, arch: str) -> str:
    """Compile CUDA C++ with warnings as errors; what nvcc says. Raises ToolError where it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.cu"
        path.write_text(source)
        options = [f"-arch={arch}", "-cubin", "-Werror", "all-warnings", "-o", f"{folder}/kernels.cubin"]
        return _run([str(find("nvcc")), *options, str(path)])


@dataclass(frozen=True)
class Compiled:
    """What NVRTC made of a source: PTX, and its log."""

    ptx: str
    log: str


def nvrtc(source: str, arch: str, *options: str) -> Compiled:
    """Compile CUDA C++ by the library. Raises ToolError where it refuses."""
    # The compiler looks for its built-in functions by name only: having them loaded is enough.
    ctypes.CDLL(str(find("libnvrtc-builtins.so*")))
    library = ctypes.CDLL(str(find("libnvrtc.so*")))
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    headers = find("cuda_fp16.h").parent
    virtual = arch.replace("sm_", "compute_")
    given = [option.encode() for option in (f"--gpu-architecture={virtual}", f"-I{headers}", *options)]
    failed = library.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given))
    log = _text(library, program, "ProgramLog")
    ptx = "" if failed else _text(library, program, "PTX")
    library.nvrtcDestroyProgram(ctypes.byref(program))
    if failed:
        raise ToolError(f"nvrtc: {log}")
    return Compiled(ptx, log)


def _text(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    size = ctypes.c_size_t()
    library[f"nvrtcGet{what}Size"](program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    library[f"nvrtcGet{what}"](program, text)
    return text.value.decode()
