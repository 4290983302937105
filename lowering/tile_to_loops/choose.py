"""What a template leaves open: the lanes, the axis they run along, which loops are one, what threads share."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from xdsl.dialects.builtin import AnyFloat, BFloat16Type, Float16Type, IntegerType
from xdsl.ir import Attribute

from stepwell.dialects.target import Target
from stepwell.lowering.tile_to_loops.accesses import Accesses, Walk, along_plan
from stepwell.lowering.tile_to_loops.bodies import has_branches
from stepwell.lowering.tile_to_loops.evaluate import Evaluator, maskable
from stepwell.lowering.tile_to_loops.nest import Space
from stepwell.lowering.tile_to_loops.polynomial import Atom, Poly

BLOCKS_PER_CORE = 8
"""How many pieces of work each thread should get where a loop is divided: more balance better, fewer cost less."""

CHUNK = 4096
"""Elements of one piece of work where a single long loop is divided."""

GATHER = 6.0
"""What a vector costs that is gathered, in contiguous ones."""

INSIDE = 8.0
"""How many times an access in a reduction counts."""


def width(element: Attribute) -> int:
    """Bits of an element while it is computed."""
    if isinstance(element, (Float16Type, BFloat16Type)):
        return 32
    if isinstance(element, AnyFloat):
        return int(element.bitwidth)
    return max(8, element.width.data) if isinstance(element, IntegerType) else 64


def lanes_of(elements: Sequence[Attribute], target: Target) -> int:
    """Lanes that suit the types a kernel reads and writes: floats decide where there are any."""
    floats = [width(e) for e in elements if isinstance(e, AnyFloat)]
    return target.lanes(max(floats or [width(e) for e in elements] or [32]))


def fitting_lanes(space: Space, axis: int, lanes: int) -> int:
    """Lanes that a short axis can fill: the next power of two."""
    size = space.sizes[axis].constant
    return min(lanes, 1 << max(0, size - 1).bit_length()) if size else lanes


def accesses_of(evaluator: Evaluator, space: Space) -> tuple[Accesses, list[Atom], Walk]:
    """What the results of a space read and write, with an atom per axis."""
    walk = Walk(evaluator)
    atoms = [Atom() for _ in space.sizes]
    index = [Poly.of(a) for a in atoms]
    for value, _ in space.results:
        walk.value(value, index)
        walk.result.write(value, evaluator.flat(value, index))
    return walk.result, atoms, walk


def can_vectorize(evaluator: Evaluator) -> bool:
    """Whether no body has a branch."""
    return not any(has_branches(node.body) for node in evaluator.graph.nodes.values())


def lane_axis(evaluator: Evaluator, space: Space, found: Accesses, atoms: Sequence[Atom], walk: Walk) -> int | None:
    """The axis along which vectors cost least; None where single elements (or lanes inside the reductions) do."""
    lanes = evaluator.vector_lanes
    if lanes < 2 or not can_vectorize(evaluator):
        return None
    reduced = {atom for group in walk.reduced.values() for atom in group}
    inside = [any(a in reduced for a in access.place.atoms()) for access in found.found]
    nodes = [node for node in evaluator.graph.nodes.values() if node.op in walk.reduced]
    along = [along_plan(evaluator, node) is not None for node in nodes]
    best: int | None = None
    best_cost = sum(
        INSIDE * (1.0 if all(along) else lanes) if within else lanes / 2
        for within in inside
    )
    for axis in reversed(range(space.rank)):
        size = space.sizes[axis].constant
        if size == 1:
            continue
        idle = 1.0 if size is None else -(-size // lanes) * lanes / size
        cost = 0.0
        for access, within in zip(found.found, inside, strict=True):
            stride = access.place.coefficient(atoms[axis])
            price = 0.25 if not stride.terms else 1.0 if stride.constant == 1 else GATHER
            cost += price * (INSIDE if within else 2.0 if access.written else 1.0)
        if cost * idle < best_cost:
            best, best_cost = axis, cost * idle
    return best


def merge_axes(space: Space, found: Accesses, atoms: Sequence[Atom]) -> None:
    """Make one loop of two axes where all accesses step over them as over one. The inner one does all steps."""
    inner = space.rank - 1
    for outer in range(space.rank - 2, -1, -1):
        if space.sizes[outer].constant == 1:
            continue
        size = space.sizes[inner]
        if size.constant != 1 and found.one_loop(atoms[outer], atoms[inner], size):
            space.sizes[inner], space.sizes[outer] = size * space.sizes[outer], Poly.of(1)
        else:
            inner = outer


def all_maskable(target: Target, elements: Sequence[Attribute]) -> bool:
    """Whether all of these can be read and written under masks."""
    return all(maskable(target, e) for e in elements)


def shared_axes(space: Space, order: Sequence[int], target: Target, parallel: bool) -> dict[int, int]:
    """Which axes threads share, one index at a time: the outermost ones, until there is enough for all."""
    if not parallel:
        return {}
    wanted, counts, found = target.cores * BLOCKS_PER_CORE, list[int](), dict[int, int]()
    for axis in order:
        size = space.sizes[axis].constant
        if size == 1:
            continue
        found[axis] = 1
        counts.append(size if size is not None else wanted)
        if prod(counts) >= wanted:
            break
    return found
