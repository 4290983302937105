"""Executes any level below `torch` on numpy: the oracle of every lowering, and the executor of what has no
native form.

    interpret(module, "forward", [x, 3])        once
    machine = Machine(module, resources)        many calls: functions are translated once
    machine.call("forward", [x, 3])
    interpret_lowered(module, [x, y])           the llvm level, called through its frame

rules.py says how an op is declared, translate.py how functions become Python, values.py what stands for a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xdsl.dialects.builtin import ModuleOp

# Each of these modules declares the ops of its dialect; in the order of the stair.
from stepwell.compiler.interpreter import arith, host, linalg, llvm, math, memref, scf, tensor, vector
from stepwell.compiler.interpreter.frame import interpret_lowered
from stepwell.compiler.interpreter.machine import Machine, source_of
from stepwell.compiler.interpreter.rules import InterpreterError
from stepwell.compiler.interpreter.values import Array, MemRef

DECLARED = (arith, math, scf, tensor, linalg, host, memref, vector, llvm)


def interpret(
    module: ModuleOp,
    entry: str,
    arguments: Sequence[Any],
    *,
    resources: Mapping[str, Array] | None = None,
    threads: int = 1,
) -> list[Any]:
    """Run function `entry` of a module; the list of its results.

    Tensor and memref arguments are numpy arrays of the type's dtype and shape (memrefs are written in place),
    scalars are numbers; at the llvm level an array stands for the pointer to its memory. Tensor and memref
    results are arrays, scalar results Python numbers.
    `resources` gives the data of `dense_resource` constants. Raises what the program raises; InterpreterError
    where the IR has no meaning (out of bounds, division by zero), UnsupportedError for ops without a rule.
    """
    return Machine(module, resources).call(entry, arguments, threads=threads)


__all__ = ["DECLARED", "InterpreterError", "Machine", "MemRef", "interpret", "interpret_lowered", "source_of"]
