"""How many blocks a kernel is launched with: a formula of its sizes, kept as an affine map on its gpu.func.

    gpu.known_block_size = array<i32: 256, 1, 1>                       threads of a block, always known
    stepwell.grid = [affine_map<()[s0] -> (s0 ceildiv 1024)>]          blocks: the largest of the maps' values
    stepwell.sizes = [[0, 1]]                                          s0 is axis 1 of argument 0

An axis of -1 says that the argument is itself a size, of type index; it is passed only once.

Blocks and threads are numbered in one dimension. A kernel with 0 blocks has nothing to do and is not launched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xdsl.dialects import gpu
from xdsl.dialects.builtin import AffineMapAttr, ArrayAttr, DenseArrayBase, IntegerAttr, IntegerType, i32
from xdsl.ir.affine import AffineConstantExpr, AffineExpr, AffineMap, AffineSymExpr

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.lowering.tile_to_loops.polynomial import Atom, Poly

GRID, SIZES = "stepwell.grid", "stepwell.sizes"
LARGEST_GRID = 2**31 - 1


def expression(poly: Poly, symbols: Mapping[Atom, int]) -> AffineExpr:
    """A size as an affine expression of the symbols."""
    total: AffineExpr = AffineConstantExpr(poly.terms.get((), 0))
    for monomial, factor in poly.terms.items():
        if monomial:
            if any(atom not in symbols for atom in monomial):
                raise UnsupportedError("a kernel with a size that is computed from others by more than products")
            term: AffineExpr = AffineSymExpr(symbols[monomial[0]])
            for atom in monomial[1:]:
                term = term * AffineSymExpr(symbols[atom])
            term = term * factor if factor != 1 else term
            total = term if total == AffineConstantExpr(0) else total + term
    return total


def blocks(counts: Sequence[tuple[Poly, int]], symbols: Mapping[Atom, int]) -> AffineMap:
    """The product of `count ceildiv size` for each pair."""
    total: AffineExpr = AffineConstantExpr(1)
    known = 1
    for count, size in counts:
        if count.constant is not None:
            known *= -(-count.constant // size)
            continue
        term = expression(count, symbols)
        term = term.ceil_div(size) if size != 1 else term
        total = term if total == AffineConstantExpr(1) else total * term
    total = AffineConstantExpr(known) if total == AffineConstantExpr(1) else total * known if known != 1 else total
    return AffineMap(0, len(symbols), (total,))


def set_launch(function: gpu.FuncOp, threads: int, grids: Sequence[AffineMap]) -> None:
    """Write the launch geometry on a function."""
    function.attributes["gpu.known_block_size"] = DenseArrayBase.from_list(i32, [threads, 1, 1])
    function.attributes[GRID] = ArrayAttr([AffineMapAttr(map_) for map_ in grids])
    if all(isinstance(map_.results[0], AffineConstantExpr) for map_ in grids):
        largest = max(map_.eval([], [0] * map_.num_symbols)[0] for map_ in grids)
        if largest <= LARGEST_GRID:
            function.attributes["gpu.known_grid_size"] = DenseArrayBase.from_list(i32, [largest, 1, 1])


def threads_of(function: gpu.FuncOp) -> int:
    """Threads of a block."""
    size = function.known_block_size
    assert size is not None
    return int(size.get_values()[0])


def size_sources(function: gpu.FuncOp) -> list[tuple[int, int]]:
    """For each size argument: the number of the argument that has it, and its axis."""
    given = function.attributes[SIZES]
    assert isinstance(given, ArrayAttr)
    found = []
    for pair in given:
        assert isinstance(pair, ArrayAttr)
        argument, axis = (number.value.data for number in pair if isinstance(number, IntegerAttr))
        found.append((argument, axis))
    return found


def sizes_of(function: gpu.FuncOp, arguments: Sequence[Any]) -> list[int]:
    """The values of the formula's symbols, from arguments that are arrays and numbers. Those from an axis (they
    come first) are passed to the function, after its results."""
    return [
        int(arguments[number]) if axis < 0 else int(arguments[number].shape[axis])
        for number, axis in size_sources(function)
    ]


def grid_of(function: gpu.FuncOp, sizes: Sequence[int]) -> int:
    """How many blocks are launched, from the values of the size arguments."""
    given = function.attributes[GRID]
    assert isinstance(given, ArrayAttr)
    return max(int(map_.data.eval([], list(sizes))[0]) for map_ in given if isinstance(map_, AffineMapAttr))


def results_of(function: gpu.FuncOp) -> range:
    """The numbers of the arguments that are results."""
    written = function.attributes["stepwell.results"]
    assert isinstance(written, DenseArrayBase)
    first, count = (int(number) for number in written.get_values())
    return range(first, first + count)


def source_attribute(sources: Sequence[tuple[int, int]]) -> ArrayAttr[ArrayAttr[IntegerAttr[IntegerType]]]:
    """The attribute `stepwell.sizes`."""
    return ArrayAttr([ArrayAttr([IntegerAttr(argument, i32), IntegerAttr(axis, i32)]) for argument, axis in sources])
