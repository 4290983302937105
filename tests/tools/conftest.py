"""Finding the tools of others. A missing tool skips, with the reason; where STEPWELL_CI is set, it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepwell.compiler.backends.jit import CompiledObject
from stepwell.runtime.abi import FrameLayout, Slot

Tool = Callable[..., str]


def find(name: str, *places: str | Path) -> str | None:
    """The path of a program: in one of the places, or on the PATH."""
    for place in places:
        if (Path(place) / name).is_file():
            return str(Path(place) / name)
    return shutil.which(name)


def needed(name: str, hint: str, *places: str | Path) -> str:
    """The path of a program; the test is skipped, or fails, where there is none."""
    path = find(name, *places)
    if path is None:
        reason = f"{name} is not installed ({hint})"
        if os.environ.get("STEPWELL_CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def tool(name: str, hint: str, *places: str | Path) -> Tool:
    """A function that feeds text to the program and gives what it printed; the test fails where it complains."""
    path = needed(name, hint, *places)

    def run(text: str, *options: str) -> str:
        done = subprocess.run([path, *options], input=text, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{name} {' '.join(options)}:\n{done.stderr[:3000]}"
        return done.stdout

    return run


def called(command: Sequence[str | Path]) -> None:
    """Run a program; the test fails where it does."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}:\n{done.stderr[:3000]}"


LLVM = "/usr/lib/llvm-22/bin"
DEBIAN = "apt-get install mlir-22-tools"


@pytest.fixture(scope="session")
def mlir_opt() -> Tool:
    return tool("mlir-opt", DEBIAN, LLVM)


@pytest.fixture(scope="session")
def mlir_translate() -> Tool:
    return tool("mlir-translate", DEBIAN, LLVM)


@pytest.fixture(scope="session")
def iree_opt() -> Tool:
    return tool("iree-opt", "pip install iree-base-compiler", Path(sys.executable).parent)


ARM = "apt-get install qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
Array = np.ndarray[Any, Any]
Run = Callable[..., list[Array]]


@pytest.fixture(scope="session")
def run_on_arm(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`run(object, inputs, constants, threads)`: call an object for AArch64, under qemu; gives its outputs."""
    gcc, qemu = (needed(name, ARM) for name in ("aarch64-linux-gnu-gcc", "qemu-aarch64"))
    folder, count = tmp_path_factory.mktemp("arm"), 0

    def run(made: CompiledObject, inputs: Sequence[Any], constants: Mapping[str, Array], threads: int) -> list[Array]:
        nonlocal count
        count += 1
        layout = FrameLayout.from_json(made.layout)
        program, given, result = (folder / f"{count}.{kind}" for kind in ("elf", "in", "out"))
        objects = [folder / f"{count}.{part}.o" for part, _ in enumerate(made.codes)]
        for path, code in zip(objects, made.codes, strict=True):
            path.write_bytes(code)
        called([gcc, "-O1", f'-DENTRY="{layout.entry}"', Path(__file__).parent / "call_object.c", *objects,
                "-o", program, "-lpthread", "-lm"])  # fmt: skip
        image, arrays = frame_image(layout, inputs, constants, threads)
        given.write_bytes(image)
        called([qemu, "-L", "/usr/aarch64-linux-gnu", program, given, result])
        words = np.frombuffer(result.read_bytes(), np.int64)
        assert words[0] == 0, layout.raises[words[0] - 1]
        data = words[1 + layout.slots :].view(np.uint8)
        return [data[at : at + slot.nbytes].view(slot.dtype).reshape(slot.shape) for at, slot in arrays]

    return run


def frame_image(
    layout: FrameLayout, inputs: Sequence[Any], constants: Mapping[str, Array], threads: int
) -> tuple[bytes, list[tuple[int, Array]]]:
    """What call_object.c reads; and for each output where it lies in the data, and an array of its kind."""
    words, data = np.zeros(layout.slots, np.int64), bytearray()
    places: list[tuple[int, int]] = []
    outputs: list[tuple[int, Array]] = []
    given = iter(inputs)
    assert not layout.results, "numbers and buffers of the program's own are not read back"

    def put(slot: Slot, array: Array) -> int:
        data.extend(bytes(-len(data) % 64))
        places.append((slot.slot, len(data)))
        data.extend(np.ascontiguousarray(array, slot.numpy_dtype).tobytes())
        return places[-1][1]

    for slot in layout.arguments:
        if slot.kind == "arena":
            continue
        if slot.kind == "output":
            assert slot.shape is not None and min(slot.shape, default=1) >= 0
            array = np.zeros(slot.shape, slot.numpy_dtype)
            outputs.append((put(slot, array), array))
        elif slot.shape is None:
            words[slot.slot : slot.slot + 1].view(slot.numpy_dtype)[0] = next(given)
        else:
            value = constants[slot.name] if slot.kind == "constant" else next(given)
            put(slot, value)
            varying = [size for size, known in zip(value.shape, slot.shape, strict=True) if known < 0]
            words[list(slot.size_slots)] = varying
    data.extend(bytes(-len(data) % 8))
    words[layout.header["threads"]] = threads
    head = [layout.slots, len(data), len(places), threads, *(layout.header[n] for n in ("arena", "arena_bytes", "arena_base")),
            layout.arena_bytes]  # fmt: skip
    parts = (np.array(head, np.int64), np.array(places, np.int64), words)
    return b"".join(part.tobytes() for part in parts) + bytes(data), outputs
