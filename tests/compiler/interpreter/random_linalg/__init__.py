"""Random programs of the linalg level, reproducible by seed, and a shrinker.

    program = random_program(seed)             program.text, program.arguments(), program.resources
    program = random_program(seed, dynamic=0, types=("f32",), kinds=("map", "reduce"))
    small, error = shrink(program, fails)      fails(program) -> error or None

A program is a list of steps, each of which defines values from earlier ones; so a slice of it is a program again.
Numbers stay near 1, and nothing that jumps (comparison, rounding) is applied to computed floats: results of two
executions may differ by rounding only.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from stepwell_tests_random_linalg.program import Program, Step, Value
from stepwell_tests_random_linalg.steps import Generator


def random_program(seed, **options) -> Program:
    """The program of a seed. Options: `kinds` (of steps), `types` (element types), `steps` (how many), `dynamic`
    (the share of sizes that are `?`, 0 for none), `control` (whether scf.if and scf.for occur), `sizes` (to choose
    from), `largest` (elements of a tensor)."""
    return Generator(seed, **options).program()


def close(found, expected, tolerance) -> bool:
    """Whether two results agree: exactly for integers, within an absolute and relative tolerance for floats."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if found.dtype.kind in "biu":
        return bool(np.array_equal(found, expected))
    return bool(np.allclose(found.astype(float), expected.astype(float), rtol=tolerance, atol=tolerance))


def shrink(program, fails, values_of):
    """The least part of a failing program that still fails: (program, error).

    `fails(program)` gives an error or None; `values_of(program)` the values of its results, with which inputs that
    replace computed operands are filled.
    """
    error = fails(program)
    candidates = [program.slice((value,)) for value in program.results]
    candidates += [program.slice((value,)) for step in program.steps for value in step.results]
    for candidate in sorted(candidates, key=lambda p: len(p.steps)):
        found = fails(candidate)
        if found is not None:
            program, error = candidate, found
            break
    while len(program.steps) > 1:
        # Cut off the first step: what it defines becomes an input.
        first, *rest = program.steps
        made = [v for v in first.results if any(v in step.operands for step in rest) or v in program.results]
        data_of = values_of(replace(program, steps=(first,), results=tuple(made)))
        inputs = (*program.inputs, *made)
        given = program.given | {v.name: np.asarray(x) for v, x in zip(made, data_of, strict=True)}
        smaller = replace(program, inputs=inputs, steps=tuple(rest), given=given).slice(program.results)
        found = fails(smaller)
        if found is None:
            break
        program, error = smaller, found
    return program, error


__all__ = ["Generator", "Program", "Step", "Value", "close", "random_program", "shrink"]
