"""What a random program is: steps of text over named tensors, and its data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import ml_dtypes
import numpy as np

DTYPES = {
    "f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "i64": np.int64,
    "i32": np.int32, "i8": np.int8, "i1": np.bool_,
}  # fmt: skip
FLOATS = ("f32", "f64", "f16", "bf16")
HALVES = ("f16", "bf16")
TOLERANCE = {"f32": 1e-3, "f64": 1e-3, "f16": 3e-2, "bf16": 2e-1}
"""Absolute, on numbers near 1; f64 may come from computations in f32."""


@dataclass(frozen=True)
class Value:
    """A tensor: its SSA name, element type, and sizes, each a number or the name of a size argument (`n0`)."""

    name: str
    element: str
    sizes: tuple[int | str, ...]

    @property
    def type(self) -> str:
        return "tensor<" + "".join(f"{s if isinstance(s, int) else '?'}x" for s in self.sizes) + self.element + ">"

    @property
    def rank(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True)
class Step:
    """Lines of text that define `results` and read `operands`."""

    kind: str
    lines: tuple[str, ...]
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    resources: dict = field(default_factory=dict, compare=False, hash=False)


@dataclass(frozen=True)
class Program:
    """A function @f. `actual` gives the numbers that dynamic sizes have in `arguments()`."""

    seed: int
    inputs: tuple[Value, ...]
    steps: tuple[Step, ...]
    results: tuple[Value, ...]
    actual: dict
    given: dict = field(default_factory=dict)
    """Data of inputs that are not random, by name."""

    @property
    def resources(self) -> dict:
        return {name: data for step in self.steps for name, data in step.resources.items()}

    @property
    def tolerance(self) -> float:
        """How far two executions may be apart: as the coarsest type that occurs demands."""
        values = [*self.inputs, *[v for step in self.steps for v in step.results]]
        return max(TOLERANCE.get(v.element, 0) for v in values)

    @property
    def sizes_used(self) -> list[str]:
        """The dynamic sizes, each with an input that has it."""
        return sorted({size for value in self.inputs for size in value.sizes if isinstance(size, str)})

    @property
    def text(self) -> str:
        """The module."""
        parameters = ", ".join(f"{v.name}: {v.type} {{host.kind = \"input\", host.name = \"{v.name[1:]}\"}}"
                               for v in self.inputs)  # fmt: skip
        lines = []
        for size in self.sizes_used:
            source = next(v for v in self.inputs if size in v.sizes)
            lines.append(f"%{size}_at = arith.constant {source.sizes.index(size)} : index")
            lines.append(f"%{size} = tensor.dim {source.name}, %{size}_at : {source.type}")
        lines += [line for step in self.steps for line in step.lines]
        body = "\n".join("  " + part for line in lines for part in line.split("\n"))
        types = ", ".join(v.type for v in self.results)
        names = ", ".join(v.name for v in self.results)
        return (
            f"func.func @f({parameters}) -> ({types}) attributes {{host.entry}} {{\n{body}\n"
            f"  func.return {names} : {types}\n}}\n"
        )

    def shape(self, value: Value) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else self.actual[size] for size in value.sizes)

    def arguments(self) -> list[np.ndarray]:
        """Data for the inputs, the same at every call."""
        made = []
        for place, value in enumerate(self.inputs):
            if value.name in self.given:
                made.append(self.given[value.name].copy())
                continue
            generator = np.random.default_rng((self.seed, place))
            made.append(data(generator, self.shape(value), value.element))
        return made

    def slice(self, results: tuple[Value, ...]) -> Program:
        """The part of the program that `results` need."""
        needed, steps = {value.name for value in results}, []
        for step in reversed(self.steps):
            if any(value.name in needed for value in step.results):
                steps.append(step)
                needed.update(value.name for value in step.operands)
        inputs = tuple(v for v in self.inputs if v.name in needed)
        sizes = {s for step in steps for v in (*step.operands, *step.results) for s in v.sizes if isinstance(s, str)}
        sizes |= {s for v in results for s in v.sizes if isinstance(s, str)}
        for size in sorted(sizes):
            if not any(size in v.sizes for v in inputs):
                inputs += (next(v for v in self.inputs if size in v.sizes),)
        given = self.given | dict(zip([v.name for v in self.inputs], self.arguments(), strict=True))
        return replace(self, inputs=inputs, steps=tuple(reversed(steps)), results=results, given=given)


def data(generator, shape, element):
    """Random numbers of an element type."""
    if element in FLOATS:
        return np.asarray(generator.uniform(-1, 1, shape)).astype(DTYPES[element])
    if element == "i1":
        return np.asarray(generator.integers(0, 2, shape)).astype(np.bool_)
    return np.asarray(generator.integers(-9, 10, shape)).astype(DTYPES[element])
