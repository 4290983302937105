"""From the loops level to objects, a function at a time.

The llvm level is several times as large as the loops level, and so is its text. So no module of it is built: each
function is lowered, checked, and printed; it leaves the module, and LLVM compiles what is there already in the
meantime.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from xdsl.dialects import llvm
from xdsl.dialects.builtin import ModuleOp, StringAttr

from stepwell.compiler.backends.jit import CompiledObject
from stepwell.compiler.backends.llvm_text import Texts
from stepwell.compiler.backends.llvm_workers import Workers
from stepwell.compiler.pipeline import Verify
from stepwell.dialects.levels import LLVM, check
from stepwell.dialects.target import Target
from stepwell.dialects.walk import take_apart
from stepwell.lowering.loops_to_llvm.lower_entry import keep_only
from stepwell.lowering.loops_to_llvm.module import ModuleLowering

PART = 1 << 17
"""Characters of text that make an object: LLVM takes about a tenth of a second for them."""


@dataclass
class Emission:
    """Objects that are being made; `seconds` is what Python took for lowering and printing."""

    layout: str = ""
    codes: list[Future[bytes]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def result(self) -> CompiledObject:
        """All of them, once LLVM is done. Raises what it says of a text that it refuses."""
        return CompiledObject(tuple(code.result() for code in self.codes), self.layout)


def emit(module: ModuleOp, entry: str, target: Target, workers: Workers, *, verify: Verify, profile: bool) -> Emission:
    """Lower an entry and the functions that it reaches, and begin to compile them. The module is used up.

    Raises UnsupportedError for what has no native form, LevelError for what is wrong with the compiler.
    """
    keep_only(module, entry)
    lowering = ModuleLowering(target, profile)
    functions = lowering.read(module, entry)
    # The entry calls all others.
    functions.sort(key=lambda op: op.sym_name.data == entry)
    made, spent = Emission(), {"loops-to-llvm": 0.0, "print": 0.0}
    head = ModuleOp([], {"llvm.target_triple": StringAttr(target.triple)})
    texts = Texts(head, lowering.tables, (lowering.declaration(op) for op in functions[:-1]))
    for op in functions:
        started = time.perf_counter()
        lowering.lower_function(op, entry)
        lowered = time.perf_counter()
        take_apart(op.body)
        for function in lowering.functions:
            assert isinstance(function, llvm.FuncOp)
            if verify != "never":
                check(function, LLVM)
            texts.add(function)
            take_apart(function.body)
        lowering.functions.clear()
        if len(texts) >= PART:
            made.codes.append(workers.begin(texts.take()))
        spent["loops-to-llvm"] += lowered - started
        spent["print"] += time.perf_counter() - lowered
    made.layout = lowering.layout(entry)
    if len(texts) or not made.codes:
        made.codes.append(workers.begin(texts.take()))
    made.seconds = spent
    return made
