"""Writes docs/levels.md: what holds at each level, from the levels' own data, and one function carried down them all.

    python docs/make_levels.py            # --print: to standard output instead

Made for a fixed target, so that the page is the same on every machine; a test keeps it fresh.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import stepwell
from stepwell.compiler.backends.target import named
from stepwell.compiler.pipeline import STEPS, Enter, resolve
from stepwell.dialects.levels import BY_NAME, Level
from stepwell.lowering.pass_ import Pass

TARGET = "x86-64-v3"
LONGEST = 48
"""Lines of a level's text that are shown."""


@stepwell.script
def normalize(x: stepwell.Tensor, scale: float) -> stepwell.Tensor:
    centred = x - x.mean(1, keepdim=True)
    return stepwell.relu(centred * scale)


SOURCE = inspect.getsource(normalize.__wrapped__)

HEAD = f"""# The levels

Made by `python docs/make_levels.py` from the levels' declarations (`dialects/levels.py`), the pipeline
(`compiler/pipeline.py`) and the compiler's own output; a test keeps it fresh.

A program goes down five levels, each of them MLIR text that can be printed, checked, executed, and gone on from. A level is
data: the ops and types that it allows, and rules. The pipeline checks them whenever a level is entered, and names the op
that breaks one and the pass that should have removed it. Here is one function on its way, called with a 4x16 tensor and
compiled for {TARGET}:

```python
{SOURCE}```

The same is had for any model with `stepwell compile model.pt --emit=LEVEL --input ...`, or `m.stage("LEVEL")` after a call;
`stepwell opt` goes on from a text, `--print-after=all` shows the passes in between, and with `--mlir-opt` a text is written
so that `mlir-opt --allow-unregistered-dialect` reads it (upstream's ops in their usual form, ours in generic form).

| level | dialects | text of it is read by |
|---|---|---|
| torch | torch-mlir's `torch`, `func`; `host` | Stepwell, `iree-opt` |
| linalg | `linalg`, `tensor`, `arith`, `math`, `scf`, `func`; `host` | Stepwell, `mlir-opt` |
| tile | the same inside and around `tile` | Stepwell, `mlir-opt` with --mlir-opt |
| loops | `scf`, `memref`, `vector`, `arith`, `math`, `func`; `host` | Stepwell, `mlir-opt` with --mlir-opt |
| llvm | `llvm` | Stepwell, `mlir-opt`, `mlir-translate` |

`host` is Stepwell's own small dialect for what a whole method needs and no upstream dialect has: raising Python's exceptions,
lists that grow, state, memory from the caller, threads. It stands beside the others from torch to loops and is gone in llvm.
"""


def page() -> str:
    """docs/levels.md."""
    import numpy as np

    arguments = [np.ones((4, 16), np.float32), 2.0]
    parts = [HEAD]
    for name in ("raw", "torch", "linalg", "tile", "loops", "llvm"):
        made = normalize.emit(name, arguments, {}, target=TARGET)
        assert isinstance(made, str)
        parts.append("\n".join(section(name, made)) + "\n")
    return "\n".join(parts)


def section(name: str, text: str) -> Iterator[str]:
    """One level: what it says of itself, how a program leaves it, and the function there."""
    level = BY_NAME["torch-raw" if name == "raw" else name]
    yield f"## {name}\n"
    yield f"{level.says}\n"
    rules = [(rule.__doc__ or "").strip() for rule in (*level.type_rules, *level.rules)]
    if rules:
        yield "\n".join(["Checked of every op and type:", "", *(f"- {rule}" for rule in rules), ""])
    if denied := denials(level):
        yield f"Not allowed here though its dialect is: {denied}.\n"
    passes = leaving(name)
    if passes:
        yield "\n".join(["Passes, in order:", "", *(f"- `{p.name}`: {first_sentence(p)}" for p in passes), ""])
    elif name == "raw":
        yield "The specializer, which knows the call's types, sizes and constants, makes the contract of it.\n"
    yield f"```mlir\n{shown(text)}```"


def denials(level: Level) -> str:
    """The single ops that a level takes out of an allowed dialect."""
    return ", ".join(f"`{op}`" for op in sorted(level.denies))


def leaving(name: str) -> list[Pass]:
    """The passes between this level and the next, each once."""
    found: dict[str, Pass] = {}
    inside = False
    for step in resolve(STEPS, named(TARGET)):
        if isinstance(step, Enter):
            inside = step.level.name == name
        elif inside:
            found.setdefault(step.name, step)
    return list(found.values())


def first_sentence(step: Pass) -> str:
    """What a pass says that it does."""
    text = " ".join((type(step).__doc__ or "").split())
    return text.split(". ")[0].rstrip(".") + "."


def shown(text: str) -> str:
    """The text, or its beginning."""
    lines = text.splitlines(keepends=True)
    if len(lines) <= LONGEST:
        return text
    return "".join(lines[:LONGEST]) + f"// ... {len(lines) - LONGEST} more lines\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(page())
    else:
        Path(__file__).with_name("levels.md").write_text(page())
