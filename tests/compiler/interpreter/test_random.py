"""Random programs: fast execution against element by element, and before against after every pass down the stair.

A failure prints the least program that still fails, with its seed.
"""

import numpy as np
import pytest

from stepwell.compiler.interpreter import Machine
from stepwell.compiler.interpreter.linalg import Structured
from stepwell.dialects import context
from stepwell.dialects.target import Target
from stepwell.lowering.linalg import passes
from stepwell.lowering.linalg_to_tile import FormKernels

TARGET = Target("x86_64-unknown-linux-gnu", "x86-64-v3", "+avx2,+fma", 256, 16, cores=2)
BATCH = 10


@pytest.fixture
def execute(parse):
    def execute(program):
        return Machine(parse(program.text), program.resources).call("f", program.arguments())

    return execute


@pytest.fixture
def compare(random_linalg, execute):
    """Fail with the least failing program; `check(program, expected)` gives what is wrong with it, or None."""

    def compare(seeds, check, **options):
        def fails(program):
            return check(program, execute(program))

        for seed in seeds:
            program = random_linalg.random_program(seed, **options)
            if fails(program) is not None:
                program, error = random_linalg.shrink(program, fails, execute)
                data = "\n".join(f"{v.name} = {x!r}" for v, x in zip(program.inputs, program.arguments(), strict=True))
                pytest.fail(f"seed {seed}: {error}\n{program.text}\n{data[:2000]}", pytrace=False)

    return compare


def differences(random_linalg, program, found, expected):
    """What differs between two lists of results, as text; None where nothing does."""
    for value, have, want in zip(program.results, found, expected, strict=True):
        if not random_linalg.close(have, want, program.tolerance):
            return f"{value.name} is {np.asarray(have).ravel()[:8]}, not {np.asarray(want).ravel()[:8]}"
    return None


@pytest.mark.parametrize("first", range(0, 60, BATCH))
def test_arrays_and_elements_agree(first, compare, random_linalg, parse, monkeypatch):
    plain = Structured.__init__

    def element_by_element(self, *arguments):
        plain(self, *arguments)
        self.is_vectorisable = False

    def check(program, expected):
        with monkeypatch.context() as patch:
            patch.setattr(Structured, "__init__", element_by_element)
            found = Machine(parse(program.text), program.resources).call("f", program.arguments())
        return differences(random_linalg, program, found, expected)

    compare(range(first, first + BATCH), check)


@pytest.mark.parametrize("first", range(1000, 1060, BATCH))
def test_passes_keep_the_numbers(first, compare, random_linalg, parse):
    def check(program, expected):
        module, known = parse(program.text), context()
        for step in (*passes(TARGET), FormKernels(TARGET)):
            try:
                step.apply(module, known)
                module.verify()
                machine = Machine(module, program.resources)
                prepared = machine.call("prepare", []) if "prepare" in machine.symbols else []
                found = machine.call("f", [*program.arguments(), *prepared])
            except Exception as error:
                return f"{step.name}: {type(error).__name__}: {error}"
            if (difference := differences(random_linalg, program, found, expected)) is not None:
                return f"{step.name}: {difference}"
        return None

    compare(range(first, first + BATCH), check)


@pytest.mark.parametrize("first", range(2000, 2030, BATCH))
def test_native_code_agrees(first, compare, random_linalg, parse):
    driver = pytest.importorskip("stepwell.compiler.driver", exc_type=ImportError)

    def check(program, expected):
        try:
            found = driver.compile_linalg(parse(program.text), program.resources)(*program.arguments())
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return differences(random_linalg, program, found, expected)

    compare(range(first, first + BATCH), check)


def test_a_program_is_the_same_for_its_seed(random_linalg):
    assert random_linalg.random_program(7).text == random_linalg.random_program(7).text


def test_shrinking_keeps_one_step(random_linalg, execute):
    program = next(
        p for p in map(random_linalg.random_program, range(100)) if any(step.kind == "reduce" for step in p.steps[1:])
    )

    def fails(candidate):
        return "reduces" if any(step.kind == "reduce" for step in candidate.steps) else None

    small, error = random_linalg.shrink(program, fails, execute)
    assert error == "reduces" and [step.kind for step in small.steps] == ["reduce"]
    execute(small)
