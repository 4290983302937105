"""Matrix products: register tiles over packed operands (K. Goto, R. van de Geijn, "Anatomy of high-performance
matrix multiplication", 2008, without its blocking of k: the second-level cache holds whole columns here).

    for each block of nc columns (threads share blocks; a part of the second-level cache holds one)
      pack B: [nc / nr][k][nr]                              where it is neither in panels nor read in place
      for each tile of mr rows
        stage the rows of A: [mr][k + padding]              where too many would share sets of the cache
        for each panel of nr columns: mr * nr accumulators, loop over k, epilogue, store
                                                            asking for a part of the next block, or for rows far apart

All of it is the common nest with stages put in (see `packing`); the loop over k is that of every reduction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod

from xdsl.dialects.builtin import AnyFloat, TensorType
from xdsl.ir import Attribute, SSAValue

from stepwell.dialects.upstream import core
from stepwell.lowering.analysis.affine import panel
from stepwell.lowering.analysis.registers import FEW_ROWS, SET_BYTES, most_rows
from stepwell.lowering.linalg.structure import Contraction, contraction
from stepwell.lowering.tile_to_loops.accesses import Accesses, Walk, symbolic
from stepwell.lowering.tile_to_loops.choose import (
    BLOCKS_PER_CORE,
    accesses_of,
    all_maskable,
    fitting_lanes,
    lanes_of,
    merge_axes,
    shared_axes,
    width,
)
from stepwell.lowering.tile_to_loops.evaluate import Evaluator, Plan
from stepwell.lowering.tile_to_loops.frame import Frame
from stepwell.lowering.tile_to_loops.graph import Node
from stepwell.lowering.tile_to_loops.nest import Nest, Space, Tiling, is_empty, spaces_of
from stepwell.lowering.tile_to_loops.packing import NextPanels, NextRows, PackB, StageA
from stepwell.lowering.tile_to_loops.polynomial import ZERO, Atom, Poly

K_UNROLL = 4

LINE = 64
"""Bytes that come into a cache together."""

FAR = 2048
"""Bytes between rows of B from which on the processor itself does not look ahead."""

MANY_ROWS = 256
"""So many rows pay for a copy of B, where its rows lie far apart."""

PANELS_OF_L2 = 8
"""Which part of the second-level cache holds the panels of B that all rows go over, beside A, the result, and the next
panels on their way."""

MOST_TILES, FEW_TILES = 32, 8
"""With more tiles of rows than that, the first one's waiting for B is not worth looking ahead for; with few, a block
of panels is so much smaller, or the next one would come too late."""

PANEL_BLOCKS_PER_CORE = 4
"""How many blocks of panels each thread should get: the more panels in one, the less often rows are staged."""


@dataclass(eq=False)
class Product:
    """A contraction as its result's axes see it."""

    node: Node
    dims: Contraction
    space: Space
    found: Accesses
    atoms: list[Atom]
    walk: Walk
    axis_of: dict[int, int]
    """Loop of the contraction -> axis of the result."""


def matmul(frame: Frame) -> bool:
    """Writes a kernel that is one contraction and an epilogue; False where it is not, or lanes do not suit."""
    product = recognise(frame.evaluator, frame.outputs)
    if product is None:
        return False
    return Writer(frame, product).write()


def recognise(evaluator: Evaluator, outputs: Sequence[tuple[SSAValue, SSAValue]]) -> Product | None:
    """The one contraction of a kernel whose results (each with its memory) all have one shape."""
    reducing = [node for node in evaluator.graph.nodes.values() if node.reduced]
    spaces = spaces_of(evaluator, outputs)
    if len(reducing) != 1 or len(spaces) != 1 or is_empty(spaces[0]):
        return None
    dims = contraction(reducing[0].op)
    if dims is None:
        return None
    space = spaces[0]
    found, atoms, walk = accesses_of(evaluator, space)
    point = walk.points.get(reducing[0].op)
    if point is None:
        return None
    axis_of: dict[int, int] = {}
    for dim in reducing[0].parallel:
        axes = [axis for axis, atom in enumerate(atoms) if point[dim] == Poly.of(atom)]
        if len(axes) != 1:
            return None
        axis_of[dim] = axes[0]
    merge_axes(space, found, atoms)
    return Product(reducing[0], dims, space, found, atoms, walk, axis_of)


class Writer:
    """Writes one product."""

    def __init__(self, frame: Frame, product: Product) -> None:
        self.frame, self.product = frame, product
        self.evaluator, self.emitter = frame.evaluator, frame.emitter
        self.node, self.space = product.node, product.space
        dims = product.dims
        self.m_axes = self._axes(dims.m)
        self.n_axes = self._axes(dims.n)
        self.k_sizes = [self.evaluator.size(self.node.op, d) for d in dims.k]
        self.in_panels = panel(self.node.maps[dims.rhs]) is not None
        """Whether the last panel of B may be filled up, so that one loop runs over all columns."""

    def _axes(self, dims: tuple[int, ...]) -> list[int]:
        """The axes of some loops that still have more than one step, in the result's order."""
        axes = sorted(self.product.axis_of[d] for d in dims)
        return [a for a in axes if self.space.sizes[a].constant != 1]

    def write(self) -> bool:
        """All of it; False where the last axis is none of B's."""
        frame, space, evaluator = self.frame, self.space, self.evaluator
        wide = [a for a in range(space.rank) if space.sizes[a].constant != 1]
        if not wide or not self.n_axes or self.n_axes[-1] != wide[-1]:
            return False
        self.n_axis = self.n_axes[-1]
        elements = self.product.found.elements()
        lanes = fitting_lanes(space, self.n_axis, lanes_of(elements, frame.target))
        evaluator.vector_lanes = evaluator.lanes = lanes
        contiguous = self.in_panels or self._stride(self.product.dims.rhs, self.product.atoms[self.n_axis]) == 1
        rows = self._count(self.m_axes)
        if lanes < 2 or (not contiguous and ((rows is not None and rows < 4) or not self._can_pack())):
            return False
        nr_wanted = frame.setting("nr", 2 * lanes)
        mr, nr = self._tile(rows, lanes, contiguous)
        tiling = Tiling(self.n_axis, masked=all_maskable(frame.target, elements), shared=frame.shared)
        tiling.tile[self.n_axis] = nr // lanes
        if self.m_axes:
            tiling.tile[self.m_axes[-1]] = mr
        columns = space.sizes[self.n_axis].constant
        if columns is not None and columns < nr_wanted and len(self.n_axes) > 1:
            tiling.tile[self.n_axes[-2]] = nr_wanted // columns
        tiling.inside = self.n_axes
        tiling.order = [a for a in range(space.rank) if a != self.n_axis] + [self.n_axis]
        pack = self._packs_b(rows, contiguous)
        self._blocks(tiling, rows, mr, nr, pack)
        parts = frame.setting("k_parts", 1)
        unroll = parts if parts > 1 else frame.setting("k_unroll", K_UNROLL)
        evaluator.plans[self.node.op] = Plan(self.product.dims.k, unroll, apart=parts > 1)
        nest = Nest(evaluator, space, tiling)
        if pack:
            PackB(self, nr, tiling.blocks[self.n_axis], contiguous).attach(nest)
        if self.m_axes and self._stages_a(rows, mr, nr, tiling):
            StageA(self, mr, self.m_axes[-1]).attach(nest)
        elif self.m_axes and not pack:
            self._look_ahead(nest, mr)
        nest.write()
        return True

    # ------ decisions

    def _count(self, axes: list[int]) -> int | None:
        sizes = [self.space.sizes[a].constant for a in axes]
        return None if None in sizes else prod(s for s in sizes if s is not None)

    def _stride(self, operand: int, atom: Atom) -> int | None:
        """The stride with which an operand is read along a loop: 0 where it is not, None where it varies."""
        walk, point = Walk(self.evaluator), self.product.walk.points[self.node.op]
        walk.value(self.node.op._operands[operand], [symbolic(e, point) for e in self.node.maps[operand].results])
        strides = {a.place.coefficient(atom) for a in walk.result.found}
        strides = {s for s in strides if s.terms}
        return strides.pop().constant if len(strides) == 1 else None if strides else 0

    @property
    def k_total(self) -> int | None:
        """Steps of the contraction, where static."""
        sizes = [s.constant for s in self.k_sizes]
        return None if None in sizes else prod(s for s in sizes if s is not None)

    def _can_pack(self) -> bool:
        return self.k_total is not None and self.k_total > 0 and isinstance(self.element(self.product.dims.rhs), AnyFloat)

    def element(self, operand: int) -> Attribute:
        """The element type of an operand of the contraction."""
        kind = self.node.op._operands[operand].type
        assert isinstance(kind, TensorType)
        found: Attribute = kind.element_type
        return found

    def _tile(self, rows: int | None, lanes: int, contiguous: bool) -> tuple[int, int]:
        """Rows and columns of the register tile. Few rows that read B where it is take as many columns as there
        are registers for: then B is read in long stretches."""
        registers = self.frame.target.registers
        columns = self.space.sizes[self.n_axis].constant
        vectors = max(1, self.frame.setting("nr", 2 * lanes) // lanes)
        if rows is not None and rows <= FEW_ROWS and contiguous and not self.in_panels:
            vectors = max(vectors, (registers - 4) // max(1, rows + 1))
        if columns is not None:
            vectors = max(1, min(vectors, -(-columns // lanes)))
        mr = self.frame.setting("mr", (registers - vectors - 1) // vectors)
        return max(1, min(mr, rows or mr)), vectors * lanes

    def _packs_b(self, rows: int | None, contiguous: bool) -> bool:
        """Whether B is copied: always where its rows are not contiguous; else where many rows of the result use
        it and its own lie far apart."""
        if not contiguous or self.in_panels:
            return not contiguous
        wanted = self.frame.setting("pack_b", -1)
        if wanted >= 0 or not self._can_pack():
            return wanted == 1 and self._can_pack()
        apart = self._bytes_apart()
        pays = 6 * FEW_ROWS if most_rows(apart) is not None else MANY_ROWS
        return apart >= FAR and (rows is None or rows >= pays) and (self.k_total or 0) >= 32

    def _bytes_apart(self) -> int:
        """How far apart the rows of B lie; a page, where that is not known."""
        element = width(self.element(self.product.dims.rhs)) // 8
        strides = [self._stride(self.product.dims.rhs, a) for a in self.product.walk.reduced[self.node.op]]
        return max((SET_BYTES if s is None else s * element for s in strides), default=0)

    def _stages_a(self, rows: int | None, mr: int, nr: int, tiling: Tiling) -> bool:
        """Whether rows of A are copied: where many columns use them and too many would share sets of the cache."""
        k = self.k_total
        block = self._columns_at_once(tiling)
        wanted = self.frame.setting("pack_a", -1)
        if k is None or len(self.m_axes) != 1 or wanted == 0:
            return False
        if self._stride(self.product.dims.lhs, self.product.walk.reduced[self.node.op][-1]) != 1:
            return False
        stride = self._stride(self.product.dims.lhs, self.product.atoms[self.m_axes[0]])
        row_bytes = (stride or 0) * width(self.element(self.product.dims.lhs)) // 8
        aliased = mr > (most_rows(row_bytes) or mr)
        return wanted == 1 or (aliased and k >= 256 and block is not None and block >= 4 * nr)

    def _columns_at_once(self, tiling: Tiling) -> int | None:
        """How many columns one block of work has; None where that is not known."""
        total = 1
        for axis in self.n_axes:
            size = self.space.sizes[axis].constant
            block = tiling.blocks.get(axis, size)
            if block is None:
                return None
            total *= block if size is None else min(block, size)
        return total

    def _blocks(self, tiling: Tiling, rows: int | None, mr: int, nr: int, pack: bool) -> None:
        """What threads share: batches first, then blocks of columns, then blocks of rows."""
        frame, space = self.frame, self.space
        columns = space.sizes[self.n_axis].constant
        parallel = frame.shared
        cores = frame.target.cores if parallel else 1
        outer = [a for a in tiling.order if a not in self.m_axes and a != self.n_axis]
        blocks = shared_axes(space, outer, frame.target, parallel)
        shared = prod(space.sizes[a].constant or 1 for a in blocks)
        inside = dict[int, int]()
        if pack:
            assert self.k_total is not None
            # Packing is done once per block: rows are only shared where there are too few columns.
            pieces = -(-2 * cores // shared) if parallel else 1
            nc = self._panels_at_once(nr, mr) * nr
            if columns is not None:
                nc = min(nc, -(-columns // nr) * nr, max(1, columns // pieces // nr) * nr)
            nc = frame.setting("nc", nc)
            inside[self.n_axis] = nc
            shared *= -(-(columns or nc) // nc)
        elif self.in_panels or self._rows_share_b(nr, mr):
            at_once = self._panels_at_once(nr, mr)
            if columns is not None and parallel:
                at_once = min(at_once, columns // nr // (cores * PANEL_BLOCKS_PER_CORE))
            inside[self.n_axis] = max(1, at_once) * nr
            shared *= -(-(columns or nr) // inside[self.n_axis])
        for axis in outer:
            blocks.setdefault(axis, 1)
        panels = self._panels(nr, mr) if not pack else {}
        for axis in blocks:
            blocks[axis] = max(1, tiling.tile.get(axis, 1))
            if axis in panels:
                count = space.sizes[axis].constant or panels[axis] * cores * BLOCKS_PER_CORE
                blocks[axis] = max(blocks[axis], min(panels[axis], count // (cores * PANEL_BLOCKS_PER_CORE)))
                shared = shared // blocks[axis]
        if self.m_axes and parallel and shared < 2 * cores and (rows is None or rows >= 2 * mr):
            pieces = cores if pack else 4 * cores
            mc = frame.setting("mc", max(mr, -(-(rows or 16 * mr) // pieces // mr) * mr))
            for axis in self.m_axes[:-1]:
                blocks.setdefault(axis, 1)
            inside[self.m_axes[-1]] = mc
        elif parallel and not pack and self.n_axis not in inside and shared < cores:
            inside[self.n_axis] = max(nr, -(-(columns or 16 * nr) // (4 * cores) // nr) * nr)
        tiling.blocks = {**blocks, **inside}
        if not pack and not parallel:
            tiling.blocks = inside or panels

    def _rows_share_b(self, nr: int, mr: int) -> bool:
        """Whether B is read in place by several tiles of rows, and is too large to stay near until the next one."""
        columns, rows = self.space.sizes[self.n_axis].constant, self._count(self.m_axes)
        if len(self.n_axes) > 1 or columns is None or (rows is not None and rows <= mr):
            return False
        return columns > self._panels_at_once(nr, mr) * nr

    def _look_ahead(self, nest: Nest, mr: int) -> None:
        """Prefetch rows that are far apart, or the panels of the next block of work, where there is one, and time to do
        it in."""
        value = self.node.op._operands[self.product.dims.rhs]
        row_axis, sizes = self.m_axes[-1], self.space.sizes
        if not self.in_panels and len(self.n_axes) < 2:
            if self._bytes_apart() >= FAR:
                NextRows(self, nest.tiling.tile[self.n_axis] * self.evaluator.vector_lanes).attach()
            return
        axis = self.n_axis if self.in_panels else self.n_axes[-2]
        step, size = nest.tiling.blocks.get(axis, 0), sizes[axis].constant
        if not step or value not in self.evaluator.memories or (size is not None and size <= step):
            return
        rows = nest.tiling.blocks.get(row_axis, sizes[row_axis].constant)
        tiles = -(-rows // mr) if rows is not None else None
        found = panel(self.node.maps[self.product.dims.rhs])
        columns = found[1] if found is not None else sizes[self.n_axis].constant
        if columns is not None and (tiles is None or 1 < tiles <= MOST_TILES):
            last = sizes[axis] - 1 if found is None else self.emitter.quotient(sizes[axis] - 1, columns) * columns
            NextPanels(self, mr, row_axis, axis, step, last, columns).attach(nest, tiles)

    def _panels(self, nr: int, mr: int) -> dict[int, int]:
        """What one thread does at a time of a B whose panels have a loop of their own."""
        panels = [a for a in self.n_axes if a != self.n_axis]
        return {panels[-1]: self._panels_at_once(nr, mr)} if panels and self.k_total else {}

    def _panels_at_once(self, nr: int, mr: int) -> int:
        """As many panels as a part of the second-level cache holds; one of dynamic depth."""
        one = (self.k_total or self.frame.target.l2) * nr * width(self.element(self.product.dims.rhs)) // 8
        rows = self._count(self.m_axes)
        tiles = min(FEW_TILES, -(-rows // mr)) if rows is not None else FEW_TILES
        return max(1, self.frame.target.l2 // PANELS_OF_L2 * tiles // FEW_TILES // one)

    def read(self, operand: int, point: Sequence[Poly]) -> SSAValue:
        """An operand of the contraction at a point of its loops."""
        index = tuple(self.evaluator.affine(e, point) for e in self.node.maps[operand].results)
        return self.evaluator.evaluate(self.node.op._operands[operand], [index])[0]

    def per_line(self, operand: int) -> int:
        """How many elements come into a cache together."""
        return LINE * 8 // width(self.element(operand))

    def inside(self, point: Sequence[Poly], dim: int, column: Poly, count: int) -> list[Poly] | None:
        """A point at a column, or so far before it that `count` columns follow; None where there are fewer, or it is
        not known how many."""
        size = self.space.sizes[self.n_axis].constant
        if size is None or size < count:
            return None
        moved = list(point)
        moved[dim] = self.emitter.minimum(column, Poly.of(size - count))
        return moved

    def prefetch(self, operand: int, point: Sequence[Poly], count: int, locality: int, offset: Poly = ZERO) -> None:
        """Ask for some neighbours of an operand in memory, from a point of the contraction's loops on."""
        value = self.node.op._operands[operand]
        memory = self.evaluator.memories.get(value)
        if memory is None:
            return
        index = [self.evaluator.affine(e, point) for e in self.node.maps[operand].results]
        start = self.evaluator.flat(value, index) + offset
        properties = core.prefetch_properties(False, locality)
        for number in range(0, count, self.per_line(operand)):
            self.emitter.effect(core.PrefetchOp, (memory, self.emitter.scalar(start + number)), (), properties)

    @contextmanager
    def k_loops(self, dims: Sequence[int], point: list[Poly]) -> Iterator[Poly]:
        """Loops over some of the summed dimensions, which are set in `point`; gives the number of the step."""
        total = ZERO
        with ExitStack() as stack:
            for dim in dims:
                size = self.evaluator.size(self.node.op, dim)
                loop = stack.enter_context(self.emitter.loop(ZERO, size))
                point[dim] = self.emitter.atom(loop.variable)
                total = total * size + point[dim]
            yield total

    def k_flat(self, dims: Sequence[Poly]) -> Poly:
        """The number of a step of the contraction."""
        total = ZERO
        for dim, size in zip(self.product.dims.k, self.k_sizes, strict=True):
            total = total * size + dims[dim]
        return total
