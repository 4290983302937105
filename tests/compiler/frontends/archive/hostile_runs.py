"""Damaged archives that may still load, compiled and called: a result or an exception, nothing else.

Run as a program (by test_hostile.py): it prints one JSON line per case that ended otherwise (a signal, too much
time, a process that was started) and a last one with the totals. Each case has a process of its own.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[4]
SECONDS = 60
"""Of processor time: a case compiles a whole model."""
MEMORY = 1 << 30
ODD = ("0", "-1", "1", "3", "7", "255", "1000000007", "9223372036854775807", "0.", "True", "None", "[]", "[1, 2]", "x")

Records = dict[str, bytes]


def records_of(path: Path) -> tuple[str, Records]:
    """The folder and the records of an archive."""
    with zipfile.ZipFile(path) as archive:
        found = {info.filename: archive.read(info) for info in archive.infolist()}
    root = next(iter(found)).split("/", 1)[0]
    return root, {name.split("/", 1)[1]: data for name, data in found.items() if not name.endswith(".debug_pkl")}


def packed(root: str, records: Records) -> bytes:
    """An archive whose checksums are right, whatever its records say."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in records.items():
            archive.writestr(f"{root}/{name}", data)
    return buffer.getvalue()


def cases(path: Path, count: int) -> Iterator[tuple[str, bytes]]:
    """Bits of the file, bytes of its pickle and weights, numbers and names of its code, each changed."""
    root, records = records_of(path)
    rng = random.Random(path.name)
    sources = [name for name in records if name.endswith(".py")]
    whole = path.read_bytes()
    for number in range(count):
        data = bytearray(whole)
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
        yield f"bit {number} at {place}", bytes(data)
        name = rng.choice([n for n in records if n.startswith("data/")])
        weights = bytearray(records[name])
        for _ in range(min(40, len(weights))):
            weights[rng.randrange(len(weights))] = rng.randrange(256)
        yield f"weights {number} of {name}", packed(root, {**records, name: bytes(weights)})
        pickle = bytearray(records["data.pkl"])
        # After the names at the front, where sizes, strides and attributes are.
        pickle[rng.randrange(len(pickle) // 4, len(pickle))] = rng.randrange(256)
        yield f"pickle {number}", packed(root, {**records, "data.pkl": bytes(pickle)})
        name = rng.choice(sources)
        text = records[name].decode()
        number_at = rng.choice(list(re.finditer(r"\b\d+\b", text)) or list(re.finditer(r"\b\w+\b", text)))
        odd = rng.choice(ODD)
        changed = text[: number_at.start()] + odd + text[number_at.end() :]
        yield (
            f"{name}: {number_at[0]} becomes {odd} at {number_at.start()}",
            packed(root, {**records, name: changed.encode()}),
        )
        words = list(re.finditer(r"\b[a-z_]\w*\b", text))
        one, other = rng.choice(words), rng.choice(words)
        changed = text[: one.start()] + other[0] + text[one.end() :]
        yield f"{name}: {one[0]} becomes {other[0]} at {one.start()}", packed(root, {**records, name: changed.encode()})


def call(data: bytes, inputs: list[Any]) -> str:
    """Load and call; the kind of outcome."""
    import stepwell

    started: list[str] = []
    watched = ("os.system", "subprocess.", "os.exec", "os.posix_spawn", "os.fork", "socket.", "pickle.", "shutil.")
    sys.addaudithook(lambda event, _: started.append(event) if event.startswith(watched) else None)
    try:
        stepwell.load(BytesIO(data))(*inputs)
        outcome = "result"
    except Exception as problem:
        outcome = "exception" if str(problem) else f"an exception without a text: {problem!r}"
    return f"it did {started}" if started else outcome


def child(data: bytes, inputs: list[Any]) -> str:
    """The outcome of a case in a process of its own."""
    read, write = os.pipe()
    process = os.fork()
    if not process:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        outcome = "it left without an outcome"
        try:
            outcome = call(data, inputs)
        except BaseException as problem:
            outcome = f"{type(problem).__name__}: {problem}"
        os.write(write, outcome.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        outcome = pipe.read().decode()
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
    return outcome


def main() -> None:
    import numpy as np

    import stepwell

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    stepwell.set_num_threads(1)
    digits = ROOT / "examples" / "digits" / "digits.pt"
    mlp = np.load(ROOT / "tests" / "archives" / "mlp.npz")
    models = {
        digits: [np.load(digits.with_name("images.npy"))[:2]],
        ROOT / "tests" / "archives" / "mlp.pt": [mlp["input0_2"] if "input0_2" in mlp else mlp[mlp.files[0]]],
    }
    totals = {"cases": 0, "result": 0, "exception": 0}
    for path, inputs in models.items():
        stepwell.load(path)(*inputs)  # so that every child finds the compiler imported
        for name, data in cases(path, int(sys.argv[1])):
            outcome = child(data, inputs)
            totals["cases"] += 1
            if outcome in totals:
                totals[outcome] += 1
            else:
                print(json.dumps({"model": path.name, "case": name, "got": outcome}))
    print(json.dumps(totals))


if __name__ == "__main__":
    main()
