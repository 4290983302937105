"""Random programs: loops, branches, slices and lists in any nesting keep their meaning on planned memory."""

from __future__ import annotations

import random

import numpy as np
import pytest

KIND = {4: "tensor<4xf32>", 8: "tensor<8xf32>", 0: "tensor<?xf32>"}
"""Tensor types by size; 0 is a size that varies while the program runs."""


class Writer:
    """Writes a function body; `scope` holds the values that can be used, by size."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.count = 0

    def fresh(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def line(self, text: str) -> None:
        self.lines.append(text)

    def pick(self, scope: dict[int, list[str]], size: int) -> str:
        # Recent values are more likely: older ones then die.
        values = scope[size]
        return values[-1 - min(int(self.random.expovariate(0.6)), len(values) - 1)]

    def statements(self, scope: dict[int, list[str]], depth: int, count: int) -> None:
        for _ in range(count):
            choice = self.random.choice(["launch"] * 4 + ["slice", "insert", "for", "if", "while", "grow", "swap"])
            if depth > 2 and choice in ("for", "if", "while", "swap"):
                choice = "launch"
            getattr(self, choice)(scope, depth)

    def launch(self, scope: dict[int, list[str]], depth: int) -> None:
        size = self.random.choice((4, 8, 8))
        name, result = self.random.choice(("add", "sub")), self.fresh()
        a, b = self.pick(scope, size), self.pick(scope, size)
        self.line(f"{result} = tile.launch @{name}{size}({a}, {b}) : ({KIND[size]}, {KIND[size]}) -> {KIND[size]}")
        scope[size].append(result)

    def slice(self, scope: dict[int, list[str]], depth: int) -> None:
        result, source, start = self.fresh(), self.pick(scope, 8), self.random.randrange(5)
        step = self.random.choice((1, 1, 2)) if start < 2 else 1
        self.line(f"{result} = tensor.extract_slice {source}[{start}][4][{step}] : {KIND[8]} to {KIND[4]}")
        scope[4].append(result)

    def insert(self, scope: dict[int, list[str]], depth: int) -> None:
        result, dest, source = self.fresh(), self.pick(scope, 8), self.pick(scope, 4)
        start = self.random.randrange(5)
        self.line(f"{result} = tensor.insert_slice {source} into {dest}[{start}][4][1] : {KIND[4]} into {KIND[8]}")
        scope[8].append(result)

    def grow(self, scope: dict[int, list[str]], depth: int) -> None:
        """A tensor whose size depends on data: the first of `%n` elements, or twice as many."""
        result, source = self.fresh(), self.pick(scope, 8)
        self.line(f"{result} = tensor.extract_slice {source}[0][%m][1] : {KIND[8]} to {KIND[0]}")
        other = self.fresh()
        self.line(f"{other} = tile.launch @add0({result}, {result}) : ({KIND[0]}, {KIND[0]}) -> {KIND[0]}")
        scope[0] += [result, other]

    def block(self, scope: dict[int, list[str]], depth: int, added: dict[int, list[str]]) -> dict[int, list[str]]:
        inner = {size: [*values, *added.get(size, ())] for size, values in scope.items()}
        self.statements(inner, depth + 1, self.random.randrange(1, 5))
        return inner

    def carried(self) -> list[int]:
        return [self.random.choice((4, 8, 8, 0)) for _ in range(self.random.randrange(1, 4))]

    def results(self, scope: dict[int, list[str]], sizes: list[int]) -> list[str]:
        names = [self.fresh() for _ in sizes]
        for size, name in zip(sizes, names, strict=True):
            scope[size].append(name)
        return names

    def _for(self, scope: dict[int, list[str]], depth: int) -> None:
        sizes = self.carried()
        args, inits = [self.fresh() for _ in sizes], [self.pick(scope, size) for size in sizes]
        types = ", ".join(KIND[size] for size in sizes)
        results, at = [self.fresh() for _ in sizes], len(self.lines)
        added: dict[int, list[str]] = {}
        for size, name in zip(sizes, args, strict=True):
            added.setdefault(size, []).append(name)
        inner = self.block(scope, depth, added)
        pairs = ", ".join(f"{a} = {b}" for a, b in zip(args, inits, strict=True))
        self.lines.insert(
            at, f"{', '.join(results)} = scf.for {self.fresh()} = %c0 to %n step %c1 iter_args({pairs}) -> ({types}) {{"
        )
        self.line(f"scf.yield {', '.join(self.pick(inner, size) for size in sizes)} : {types}")
        self.line("}")
        for size, name in zip(sizes, results, strict=True):
            scope[size].append(name)

    def swap(self, scope: dict[int, list[str]], depth: int) -> None:
        a, b, x, y = self.pick(scope, 8), self.pick(scope, 8), self.fresh(), self.fresh()
        results = self.results(scope, [8, 8])
        self.line(
            f"{', '.join(results)} = scf.for {self.fresh()} = %c0 to %n step %c1 "
            f"iter_args({x} = {a}, {y} = {b}) -> ({KIND[8]}, {KIND[8]}) {{"
        )
        self.line(f"scf.yield {y}, {x} : {KIND[8]}, {KIND[8]}")
        self.line("}")

    def _if(self, scope: dict[int, list[str]], depth: int) -> None:
        sizes = self.carried()
        types = ", ".join(KIND[size] for size in sizes)
        source, value, condition = self.pick(scope, 8), self.fresh(), self.fresh()
        self.line(f"{value} = tensor.extract {source}[%c1] : {KIND[8]}")
        self.line(f"{condition} = arith.cmpf ogt, {value}, %zero : f32")
        results = [self.fresh() for _ in sizes]
        self.line(f"{', '.join(results)} = scf.if {condition} -> ({types}) {{")
        for last in (False, True):
            inner = self.block(scope, depth, {})
            self.line(f"scf.yield {', '.join(self.pick(inner, size) for size in sizes)} : {types}")
            self.line("}" if last else "} else {")
        for size, name in zip(sizes, results, strict=True):
            scope[size].append(name)

    def _while(self, scope: dict[int, list[str]], depth: int) -> None:
        sizes = self.carried()
        types = ", ".join(["index", *(KIND[size] for size in sizes)])
        first = [self.fresh() for _ in range(1 + len(sizes))]
        second = [self.fresh() for _ in range(1 + len(sizes))]
        results = [self.fresh() for _ in range(1 + len(sizes))]
        inits = ["%c0", *(self.pick(scope, size) for size in sizes)]
        pairs = ", ".join(f"{a} = {b}" for a, b in zip(first, inits, strict=True))
        self.line(f"{', '.join(results)} = scf.while ({pairs}) : ({types}) -> ({types}) {{")

        def added(names: list[str]) -> dict[int, list[str]]:
            found: dict[int, list[str]] = {}
            for size, name in zip(sizes, names[1:], strict=True):
                found.setdefault(size, []).append(name)
            return found

        inner = self.block(scope, depth + 1, added(first))
        condition, following = self.fresh(), self.fresh()
        self.line(f"{condition} = arith.cmpi slt, {first[0]}, %n : index")
        passed = ", ".join([first[0], *(self.pick(inner, size) for size in sizes)])
        self.line(f"scf.condition({condition}) {passed} : {types}")
        arguments = ", ".join(f"{a}: {t}" for a, t in zip(second, types.split(", "), strict=True))
        self.line(f"}} do {{ ^bb0({arguments}):")
        inner = self.block(scope, depth + 1, added(second))
        self.line(f"{following} = arith.addi {second[0]}, %c1 : index")
        self.line(f"scf.yield {', '.join([following, *(self.pick(inner, size) for size in sizes)])} : {types}")
        self.line("}")
        for size, name in zip(sizes, results[1:], strict=True):
            scope[size].append(name)


for _name in ("for", "if", "while"):
    setattr(Writer, _name, getattr(Writer, f"_{_name}"))


def body(seed: int) -> tuple[str, str]:
    """A function body and its result types."""
    writer = Writer(seed)
    scope = {4: ["%s"], 8: ["%x", "%y"], 0: ["%d"]}
    writer.statements(scope, 0, 5)
    sizes = [writer.random.choice((4, 8, 0)) for _ in range(3)]
    results = [writer.pick(scope, size) for size in sizes]
    types = ", ".join(KIND[size] for size in sizes)
    return "\n".join([*writer.lines, f"func.return {', '.join(results)} : {types}"]), types


def program(seed: int, kernel) -> str:
    text, types = body(seed)
    kernels = "".join(
        kernel(f"{name}{size}", f"arith.{op} %a, %b", str(size) if size else "?")
        for name, op in (("add", "addf"), ("sub", "subf"))
        for size in (4, 8, 0)
    )
    return (
        kernels
        + f"""
    func.func @forward(%x: tensor<8xf32>, %y: tensor<8xf32>, %s: tensor<4xf32>, %n: index) -> ({types})
        attributes {{host.entry}} {{
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %zero = arith.constant 0.0 : f32
      %head = tensor.extract %y[%c0] : tensor<8xf32>
      %wide = arith.fptosi %head : f32 to i64
      %m = arith.index_cast %wide : i64 to index
      %d = tensor.extract_slice %x[0][%m][1] : tensor<8xf32> to tensor<?xf32>
      {text}
    }}"""
    )


@pytest.mark.parametrize("seed", range(16))
def test_random_programs(bufferize, kernel, seed):
    random_numbers = np.random.default_rng(seed)
    p = bufferize(program(seed, kernel))
    for n in (0, 1, 3):
        x, y, s = (random_numbers.integers(-4, 5, shape).astype(np.float32) for shape in (8, 8, 4))
        y[0] = abs(y[0])
        p.check(x, y, s, n)


def test_equal_programs_become_equal_texts(bufferize, kernel):
    for seed in range(5):
        text = program(seed, kernel)
        assert str(bufferize(text).module) == str(bufferize(text).module)
