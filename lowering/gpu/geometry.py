"""How a kernel is launched: formulas of its sizes, kept as attributes on its gpu.func.

    gpu.known_block_size = array<i32: 256, 1, 1>                       threads of a block, always known
    stepwell.grid = ["(s0 + 1023) // 1024"]                            blocks: the largest of the formulas' values
    stepwell.sizes = [[0, 1]]                                          s0 is axis 1 of argument 0
    stepwell.results = array<i32: 2, 1>                                the first result's number, and how many

An axis of -1 says that the argument is itself a size, of type index; it is passed only once. Blocks and threads
are numbered in one dimension. A kernel with 0 blocks has nothing to do and is not launched. (Affine maps would not
do: the number of blocks is a product of sizes.)
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xdsl.dialects import arith, gpu
from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, IntegerAttr, StringAttr, i32
from xdsl.ir import Attribute, Operation, SSAValue

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.lowering.tile_to_loops.polynomial import Poly

GRID, SIZES, RESULTS = "stepwell.grid", "stepwell.sizes", "stepwell.results"
DECISIONS = "stepwell.decisions"
LARGEST_GRID = 2**31 - 1

Symbols = Mapping[SSAValue, int]
"""The values that are sizes, each with the number of its symbol in a formula."""

SIGNS: Mapping[type[Operation], str] = {
    arith.AddiOp: "+", arith.SubiOp: "-", arith.MuliOp: "*", arith.RemUIOp: "%",
    arith.DivUIOp: "//", arith.DivSIOp: "//", arith.FloorDivSIOp: "//",
}  # fmt: skip
"""Sizes are never negative, so that all quotients are rounded down."""

OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip


def expression(poly: Poly, symbols: Symbols) -> str:
    """A size as a formula of the symbols. Raises UnsupportedError where it is none."""
    terms = []
    for monomial, factor in poly.terms.items():
        factors = [_of_value(atom.value, symbols) for atom in monomial if atom.value is not None]
        if factor != 1 or not factors:
            factors.append(str(factor))
        terms.append(" * ".join(factors))
    return " + ".join(terms) or "0"


def _of_value(value: SSAValue, symbols: Symbols) -> str:
    """A value of the kernel as a factor: a given size, or what the emitter has computed from some."""
    if value in symbols:
        return f"s{symbols[value]}"
    op = value.owner
    if isinstance(op, arith.ConstantOp) and isinstance(op.value, IntegerAttr):
        return str(op.value.value.data)
    sign = SIGNS.get(type(op)) if isinstance(op, Operation) else None
    if sign is None or not isinstance(op, Operation):
        raise UnsupportedError("a size that no formula of the arguments' sizes gives")
    left, right = (_of_value(operand, symbols) for operand in op.operands)
    return f"({left} {sign} {right})"


def blocks(counts: Sequence[tuple[Poly, int]], symbols: Symbols) -> str:
    """The formula of the product of `count / size`, rounded up, for each pair."""
    known = 1
    factors = []
    for count, size in counts:
        if count.constant is not None:
            known *= -(-count.constant // size)
        elif size == 1:
            factors.append(f"({expression(count, symbols)})")
        else:
            factors.append(f"(({expression(count + (size - 1), symbols)}) // {size})")
    return " * ".join([*factors, *([str(known)] if known != 1 or not factors else [])])


def evaluate(formula: str, sizes: Sequence[int]) -> int:
    """The value of a formula. Raises ValueError for a text that is none."""

    def value(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int() as number):
                return number
            case ast.Name(id=name) if name[0] == "s" and name[1:].isdigit():
                return sizes[int(name[1:])]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](value(left), value(right))
        raise ValueError(f"{ast.unparse(node)} has no place in a formula of sizes")

    return value(ast.parse(formula, mode="eval").body)


def set_launch(
    function: gpu.FuncOp,
    threads: int,
    grids: Sequence[str],
    sources: Sequence[tuple[int, int]],
    results: tuple[int, int],
) -> None:
    """Write on a function how it is launched."""
    function.attributes["gpu.known_block_size"] = DenseArrayBase.from_list(i32, [threads, 1, 1])
    function.attributes[GRID] = ArrayAttr([StringAttr(formula) for formula in grids])
    function.attributes[SIZES] = ArrayAttr([ArrayAttr([IntegerAttr(n, i32) for n in pair]) for pair in sources])
    function.attributes[RESULTS] = DenseArrayBase.from_list(i32, list(results))


def threads_of(function: gpu.FuncOp) -> int:
    """Threads of a block."""
    size = function.known_block_size
    assert size is not None
    return int(size.get_values()[0])


def size_sources(function: gpu.FuncOp) -> list[tuple[int, int]]:
    """For each symbol: the number of the argument that has it, and its axis."""
    given = function.attributes[SIZES]
    assert isinstance(given, ArrayAttr)
    found = []
    for pair in given:
        assert isinstance(pair, ArrayAttr)
        argument, axis = (number.value.data for number in pair if isinstance(number, IntegerAttr))
        found.append((argument, axis))
    return found


def sizes_of(function: gpu.FuncOp, inputs: Sequence[Any]) -> list[int]:
    """The values of the symbols, from inputs that are arrays and numbers."""
    return [
        int(inputs[number]) if axis < 0 else int(inputs[number].shape[axis])
        for number, axis in size_sources(function)
    ]


def passed_sizes(function: gpu.FuncOp, inputs: Sequence[Any]) -> list[int]:
    """The sizes that are arguments of their own: those that are axes of inputs. They come last."""
    axes = sum(axis >= 0 for _, axis in size_sources(function))
    return sizes_of(function, inputs)[:axes]


def grids_of(function: gpu.FuncOp) -> list[str]:
    """The formulas of the number of blocks."""
    return _texts(function.attributes[GRID])


def _texts(given: Attribute) -> list[str]:
    assert isinstance(given, ArrayAttr)
    return [text.data for text in given if isinstance(text, StringAttr)]


def grid_of(function: gpu.FuncOp, sizes: Sequence[int]) -> int:
    """How many blocks are launched, from the values of the symbols. Raises UnsupportedError beyond what a GPU takes."""
    found = max(evaluate(formula, sizes) for formula in grids_of(function))
    if found > LARGEST_GRID:
        raise UnsupportedError(f"kernel {function.sym_name.data} would need {found} blocks, over {LARGEST_GRID}")
    return found


def results_of(function: gpu.FuncOp) -> range:
    """The numbers of the arguments that are results."""
    written = function.attributes[RESULTS]
    assert isinstance(written, DenseArrayBase)
    first, count = (int(number) for number in written.get_values())
    return range(first, first + count)


def decisions_of(function: gpu.FuncOp) -> list[str]:
    """What the schedule decided, in words."""
    return _texts(function.attributes[DECISIONS])
