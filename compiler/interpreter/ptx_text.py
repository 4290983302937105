"""PTX as it is read for the interpreter: the entries of a text, with instructions, labels and shared arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stepwell.dialects.diagnostics import UnsupportedError


@dataclass(frozen=True)
class Instruction:
    """`@!%p1 add.s32 %r1, %r2, 3`: the guard (a register, and whether it is negated), the parts of the name, the
    operands, and the text."""

    guard: str
    negated: bool
    name: tuple[str, ...]
    operands: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Parameter:
    """What a kernel takes: its type (`u64`), and whether it is the address of a tensor."""

    name: str
    type: str
    is_pointer: bool


@dataclass
class Entry:
    """One kernel. `shared` has the place of each array in the memory of a block, `shared_bytes` all of it."""

    name: str
    parameters: list[Parameter]
    threads: int
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    shared: dict[str, int] = field(default_factory=dict)
    shared_bytes: int = 0


COMMENT = re.compile(r"//[^\n]*")
ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)([^{]*)\{")
STATEMENT = re.compile(r"\s*(?:([\w$]+):(?!:)|([^;{}]*(?:\{[^}]*\}[^;{}]*)*);)")
SHARED = re.compile(r"\.shared\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d+)\]")
INSTRUCTION = re.compile(r"(?:@(!?)(%\w+)\s+)?([\w.:]+)\s*(.*)", re.S)


def parse(text: str) -> Mapping[str, Entry]:
    """The entries of a module by name. Raises UnsupportedError for a statement that is none that we know."""
    text = COMMENT.sub("", text)
    outside = [(match[2], int(match[1]), int(match[3])) for match in SHARED.finditer(text)]
    found = {}
    for match in ENTRY.finditer(text):
        words = [part.split() for part in match[2].split(",") if part.strip()]
        parameters = [Parameter(w[-1], w[1].lstrip("."), ".ptr" in w) for w in words]
        threads = re.search(r"\.(?:reqntid|maxntid)\s+(\d+)", match[3])
        if threads is None:
            raise UnsupportedError(f"PTX entry {match[1]} does not say how many threads a block has")
        entry = found[match[1]] = Entry(match[1], parameters, int(threads[1]))
        body = _body(text, match.end())
        for name, alignment, size in outside:
            if re.search(rf"(?<![\w$]){re.escape(name)}(?![\w$])", body):
                start = -(-entry.shared_bytes // alignment) * alignment
                entry.shared[name], entry.shared_bytes = start, start + size
        for label, statement in _statements(body):
            if label:
                entry.labels[label] = len(entry.instructions)
            elif not statement.startswith("."):
                entry.instructions.append(_instruction(statement))
    return found


def _body(text: str, start: int) -> str:
    """Up to the brace that closes the one before `start`."""
    depth = 1
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[start:place]
    raise UnsupportedError("PTX that ends within an entry")


def _statements(body: str) -> Iterator[tuple[str, str]]:
    """(label, "") and ("", statement)."""
    place = 0
    while match := STATEMENT.match(body, place):
        place = match.end()
        yield match[1] or "", (match[2] or "").strip()
    if body[place:].strip():
        raise UnsupportedError(f"PTX that is not read here: {body[place:].strip()[:60]}")


def _instruction(text: str) -> Instruction:
    match = INSTRUCTION.fullmatch(text)
    if match is None:
        raise UnsupportedError(f"PTX that is not read here: {text[:60]}")
    return Instruction(match[2] or "", bool(match[1]), tuple(match[3].split(".")), tuple(_operands(match[4])), text)


def _operands(text: str) -> Sequence[str]:
    """Split at commas outside braces and brackets."""
    found, depth, current = [], 0, ""
    for letter in text:
        depth += (letter in "{[") - (letter in "}]")
        if letter == "," and depth == 0:
            found.append(current.strip())
            current = ""
        else:
            current += letter
    return [*found, current.strip()] if current.strip() else found
