"""Results that are computed where a slice of another tensor lies: paddings without copies, concatenations in place."""

from __future__ import annotations

import random

import numpy as np
import pytest


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


ADD = "arith.addf %a, %b"


def fill(shape: str, value: str = "5.0") -> str:
    """A kernel that puts one number everywhere."""
    return f"""
    tile.kernel @fill() -> tensor<{shape}xf32> attributes {{schedule = {{template = "map"}}}} {{
      %v = arith.constant {value} : f32
      %e = tensor.empty() : tensor<{shape}xf32>
      %f = linalg.fill ins(%v : f32) outs(%e : tensor<{shape}xf32>) -> tensor<{shape}xf32>
      tile.yield %f : tensor<{shape}xf32>
    }}"""


def test_a_padding_costs_its_border_only(bufferize, kernel):
    program = bufferize(
        fill("2x6x7")
        + kernel("small", ADD, "2x3x4")
        + kernel("large", ADD, "2x6x7")
        + """
    func.func @forward(%x: tensor<2x3x4xf32>) -> (tensor<2x6x7xf32>, tensor<2x3x4xf32>) attributes {host.entry} {
      %y = tile.launch @small(%x, %x) : (tensor<2x3x4xf32>, tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
      %p = tile.launch @fill() : () -> tensor<2x6x7xf32>
      %q = tensor.insert_slice %y into %p[0, 1, 2][2, 3, 4][1, 1, 1] : tensor<2x3x4xf32> into tensor<2x6x7xf32>
      %r = tile.launch @large(%q, %q) : (tensor<2x6x7xf32>, tensor<2x6x7xf32>) -> tensor<2x6x7xf32>
      %z = tile.launch @small(%y, %x) : (tensor<2x3x4xf32>, tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
      func.return %r, %z : tensor<2x6x7xf32>, tensor<2x3x4xf32>
    }"""
    )
    program.check(array(2, 3, 4))
    assert program.copies() == 0 and "@fill" not in program.text
    # Before the part is computed; whoever reads it reads it there.
    assert program.text.index("@border_2x6x7xf32") < program.text.index("@small.1(%x")
    assert program.text.count("@small.") == 2


def test_the_border_of_a_copied_part(bufferize):
    """An argument cannot be computed elsewhere."""
    program = bufferize(
        fill("6x7")
        + """
    func.func @forward(%x: tensor<3x4xf32>) -> tensor<6x7xf32> attributes {host.entry} {
      %p = tile.launch @fill() : () -> tensor<6x7xf32>
      %q = tensor.insert_slice %x into %p[3, 0][3, 4][1, 1] : tensor<3x4xf32> into tensor<6x7xf32>
      func.return %q : tensor<6x7xf32>
    }"""
    )
    program.check(array(3, 4))
    assert program.copies() == 1 and "@border_6x7xf32" in program.text


def test_a_large_border_is_shared_among_threads(bufferize, kernel):
    program = bufferize(
        fill("1x8x80x96", "-0.5")
        + kernel("small", ADD, "1x8x3x40")
        + """
    func.func @forward(%x: tensor<1x8x3x40xf32>) -> tensor<1x8x80x96xf32> attributes {host.entry} {
      %y = tile.launch @small(%x, %x) : (tensor<1x8x3x40xf32>, tensor<1x8x3x40xf32>) -> tensor<1x8x3x40xf32>
      %p = tile.launch @fill() : () -> tensor<1x8x80x96xf32>
      %q = tensor.insert_slice %y into %p[0, 0, 70, 37][1, 8, 3, 40][1, 1, 1, 1]
          : tensor<1x8x3x40xf32> into tensor<1x8x80x96xf32>
      func.return %q : tensor<1x8x80x96xf32>
    }"""
    )
    program.check(array(1, 8, 3, 40))
    assert "host.chunk = \"divided\"" in str(program.module)


def test_parts_of_a_concatenation_are_computed_in_place(bufferize, kernel):
    program = bufferize(
        kernel("k", ADD, "2x3")
        + """
    func.func @forward(%x: tensor<2x3xf32>, %y: tensor<2x3xf32>) -> (tensor<2x6xf32>, tensor<4x3xf32>)
        attributes {host.entry} {
      %a = tile.launch @k(%x, %y) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
      %b = tile.launch @k(%a, %y) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
      %e = tensor.empty() : tensor<2x6xf32>
      %f = tensor.insert_slice %a into %e[0, 0][2, 3][1, 1] : tensor<2x3xf32> into tensor<2x6xf32>
      %g = tensor.insert_slice %b into %f[0, 3][2, 3][1, 1] : tensor<2x3xf32> into tensor<2x6xf32>
      %c = tile.launch @k(%x, %b) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
      %d = tile.launch @k(%c, %c) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
      %h = tensor.empty() : tensor<4x3xf32>
      %i = tensor.insert_slice %c into %h[0, 0][2, 3][1, 1] : tensor<2x3xf32> into tensor<4x3xf32>
      %j = tensor.insert_slice %d into %i[2, 0][2, 3][1, 1] : tensor<2x3xf32> into tensor<4x3xf32>
      func.return %g, %j : tensor<2x6xf32>, tensor<4x3xf32>
    }"""
    )
    program.check(array(2, 3), array(2, 3, seed=1))
    assert program.copies() == 0
    # Rows of the second one lie side by side: no strides are needed to write them.
    assert "@k(" in program.text and "@k.1(" in program.text


def test_what_is_overwritten_before_its_last_use_is_no_part(bufferize, kernel):
    program = bufferize(
        kernel("k", ADD, "2x2")
        + kernel("m", ADD, "2x4")
        + """
    func.func @forward(%x: tensor<2x2xf32>) -> (tensor<2x4xf32>, tensor<2x2xf32>) attributes {host.entry} {
      %a = tile.launch @k(%x, %x) : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
      %b = tile.launch @k(%a, %x) : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
      %e = tensor.empty() : tensor<2x4xf32>
      %f = tensor.insert_slice %a into %e[0, 0][2, 2][1, 1] : tensor<2x2xf32> into tensor<2x4xf32>
      %g = tensor.insert_slice %b into %f[0, 1][2, 2][1, 1] : tensor<2x2xf32> into tensor<2x4xf32>
      %h = tensor.insert_slice %b into %g[0, 2][2, 2][1, 1] : tensor<2x2xf32> into tensor<2x4xf32>
      %m = tile.launch @m(%h, %h) : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
      %z = tile.launch @k(%a, %b) : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
      func.return %m, %z : tensor<2x4xf32>, tensor<2x2xf32>
    }"""
    )
    program.check(array(2, 2))
    assert program.copies() >= 2


SMALL, LARGE = "tensor<2x2xf32>", "tensor<3x5xf32>"
NAMES = {SMALL: "small", LARGE: "large"}


class Writer:
    """Random programs of paddings, concatenations, parts and loops; recent values are likelier to be used."""

    def __init__(self, seed: int) -> None:
        self.random, self.lines, self.count = random.Random(seed), list[str](), 0

    def value(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"%v{self.count} = {text}")
        return f"%v{self.count}"

    def pick(self, scope: dict[str, list[str]], kind: str) -> str:
        return scope[kind][-1 - min(int(self.random.expovariate(0.5)), len(scope[kind]) - 1)]

    def statements(self, scope: dict[str, list[str]], count: int, depth: int = 0) -> None:
        for _ in range(count):
            choice = self.random.choice(["launch"] * 4 + ["pad", "pad", "join", "insert", "part"] + ["loop"] * (depth < 2))
            getattr(self, choice)(scope, depth)

    def launch(self, scope: dict[str, list[str]], depth: int) -> None:
        kind = self.random.choice((SMALL, SMALL, LARGE))
        a, b = self.pick(scope, kind), self.pick(scope, kind)
        scope[kind].append(self.value(f"tile.launch @{NAMES[kind]}({a}, {b}) : ({kind}, {kind}) -> {kind}"))

    def place(self, scope: dict[str, list[str]], dest: str) -> str:
        row, column = self.random.randrange(2), self.random.randrange(4)
        source = self.pick(scope, SMALL)
        return self.value(f"tensor.insert_slice {source} into {dest}[{row}, {column}][2, 2][1, 1] : {SMALL} into {LARGE}")

    def pad(self, scope: dict[str, list[str]], depth: int) -> None:
        scope[LARGE].append(self.place(scope, self.value(f"tile.launch @fill() : () -> {LARGE}")))

    def join(self, scope: dict[str, list[str]], depth: int) -> None:
        dest = self.value(f"tile.launch @fill() : () -> {LARGE}")
        for _ in range(self.random.randrange(2, 4)):
            dest = self.place(scope, dest)
        scope[LARGE].append(dest)

    def insert(self, scope: dict[str, list[str]], depth: int) -> None:
        scope[LARGE].append(self.place(scope, self.pick(scope, LARGE)))

    def part(self, scope: dict[str, list[str]], depth: int) -> None:
        row, column = self.random.randrange(2), self.random.randrange(4)
        source = self.pick(scope, LARGE)
        scope[SMALL].append(
            self.value(f"tensor.extract_slice {source}[{row}, {column}][2, 2][1, 1] : {LARGE} to {SMALL}")
        )

    def loop(self, scope: dict[str, list[str]], depth: int) -> None:
        kinds = [self.random.choice((SMALL, LARGE)) for _ in range(self.random.randrange(1, 3))]
        inits = [self.pick(scope, kind) for kind in kinds]
        self.count += 1
        number, at = self.count, len(self.lines)
        carried = [f"%c{number}_{i}" for i in range(len(kinds))]
        inner = {kind: [*values, *(c for c, k in zip(carried, kinds, strict=True) if k == kind)] for kind, values in scope.items()}
        self.statements(inner, self.random.randrange(2, 6), depth + 1)
        pairs = ", ".join(f"{c} = {i}" for c, i in zip(carried, inits, strict=True))
        results = [f"%r{number}_{i}" for i in range(len(kinds))]
        types = ", ".join(kinds)
        head = f"{', '.join(results)} = scf.for %i{number} = %c0 to %n step %c1 iter_args({pairs}) -> ({types}) {{"
        self.lines.insert(at, head)
        self.lines.append(f"scf.yield {', '.join(self.pick(inner, kind) for kind in kinds)} : {types} }}")
        for kind, result in zip(kinds, results, strict=True):
            scope[kind].append(result)


@pytest.mark.parametrize("seed", range(60))
def test_random_programs_of_parts_keep_their_meaning(bufferize, kernel, seed):
    writer = Writer(seed)
    scope = {SMALL: ["%x"], LARGE: ["%y"]}
    writer.statements(scope, 14)
    small, large = (writer.pick(scope, kind) for kind in (SMALL, LARGE))
    body = "\n".join(writer.lines)
    program = bufferize(
        fill("3x5")
        + kernel("small", "arith.subf %a, %b", "2x2")
        + kernel("large", ADD, "3x5")
        + f"""
    func.func @forward(%x: {SMALL}, %y: {LARGE}, %n: index) -> ({SMALL}, {LARGE}) attributes {{host.entry}} {{
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      {body}
      func.return {small}, {large} : {SMALL}, {LARGE}
    }}"""
    )
    for n in (0, 1, 3):
        program.check(array(2, 2), array(3, 5, seed=1), n)
