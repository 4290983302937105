"""Damaged texts of every level, taken down to assembly: a text or an error in words, nothing else.

Run as a program (by test_hostile_text.py): it prints one JSON line per case that ended otherwise (a signal, too much
time, another exception) and a last one with the totals. Each case has a process of its own, as LLVM may abort it.
Nothing of it is executed: a text may say any address.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import sys
from collections.abc import Iterator

import numpy as np

import stepwell
from stepwell.compiler.descent import continue_from_text
from stepwell.dialects.diagnostics import Error

SECONDS = 30
MEMORY = 2 << 30
ODD = ("0", "-1", "1", "7", "4294967296", "9223372036854775807", "1.5", "true", '"x"', "[]", "@f", "index", "i1", "f64")


@stepwell.script
def model(x: stepwell.Tensor, n: int) -> stepwell.Tensor:
    total = stepwell.softmax(x, -1)
    for _ in range(n):
        if float(total.sum()) > 3.0:
            raise ValueError("too much")
        total = stepwell.relu(total @ x.t()) @ x
    return total


def damaged(text: str, rng: random.Random) -> tuple[str, str]:
    """What is done to a text, and what comes of it."""
    lines = text.splitlines(keepends=True)
    what = rng.choice(("line gone", "line twice", "lines swapped", "word", "number", "names", "cut", "byte"))
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    if what == "line gone":
        del lines[one]
    elif what == "line twice":
        lines.insert(other, lines[one])
    elif what == "lines swapped":
        lines[one], lines[other] = lines[other], lines[one]
    if what.startswith("line"):
        return f"{what} {one} {other}", "".join(lines)
    if what == "cut":
        place = rng.randrange(len(text))
        return f"cut at {place}", text[:place]
    if what == "byte":
        place = rng.randrange(len(text))
        return f"byte at {place}", text[:place] + chr(rng.randrange(256)) + text[place + 1 :]
    pattern = {"word": r"[a-z_]{3,}[\w.]*", "number": r"\b\d+\b", "names": r"%\w+"}[what]
    found = list(re.finditer(pattern, text))
    at = rng.choice(found)
    new = rng.choice(ODD) if what == "number" else rng.choice(found)[0]
    return f"{at[0]} at {at.start()} becomes {new}", text[: at.start()] + new + text[at.end() :]


def cases(count: int) -> Iterator[tuple[str, str]]:
    for level in ("torch", "linalg", "tile", "loops", "llvm"):
        text = model.emit(level, [np.ones((4, 4), np.float32), 2], {})
        assert isinstance(text, str)
        rng = random.Random(level)
        for _ in range(count):
            what, changed = damaged(text, rng)
            yield f"{level}: {what}", changed


def outcome_of(text: str) -> str:
    try:
        continue_from_text(text, "asm")
        return "text"
    except (Error, ValueError) as problem:
        return "error" if str(problem) else f"without words: {problem!r}"
    except RuntimeError as problem:
        # LLVM's own words for IR that it refuses.
        return "error" if str(problem) else f"without words: {problem!r}"


def child(text: str) -> str:
    """The outcome of a case in a process of its own."""
    read, write = os.pipe()
    process = os.fork()
    if not process:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            outcome = outcome_of(text)
        except BaseException as problem:
            outcome = f"{type(problem).__name__}: {problem}"[:300]
        os.write(write, outcome.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        outcome = pipe.read().decode()
    _, status = os.waitpid(process, 0)
    return f"signal {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else outcome


def main() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    totals = {"cases": 0, "text": 0, "error": 0}
    for name, text in cases(int(sys.argv[1])):
        outcome = child(text)
        totals["cases"] += 1
        if outcome in totals:
            totals[outcome] += 1
        else:
            print(json.dumps({"case": name, "got": outcome}), flush=True)
    print(json.dumps(totals))


if __name__ == "__main__":
    main()
