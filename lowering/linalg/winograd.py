"""`winograd`: 3 x 3 convolutions of stride 1 by Winograd's algorithm, where that is faster.

    O[n, f, y, x, b] += I[n, c, y + ky, x + kx, k] * F[f, c, ky, kx, k, b]     with constant filters F

becomes four generics (see winograd_form): filters are transformed once, in `@prepare`; inputs are transformed in
overlapping tiles, multiplied, and the products are transformed back. The cost model (lowering/analysis/winograd_cost)
decides from sizes and target whether that pays and how large the tiles are.

Results differ from the direct convolution's by rounding (see lowering/analysis/winograd for how much), and an Inf or NaN
of the image reaches all results of its tile. A target with `winograd` False leaves all convolutions direct.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    Float32Type,
    ModuleOp,
    TensorType,
)
from xdsl.dialects.linalg.ops import GenericOp, YieldOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects.target import Target
from stepwell.lowering.analysis.affine import positions
from stepwell.lowering.analysis.winograd import WINDOW, Algorithm, algorithm
from stepwell.lowering.analysis.winograd_cost import Problem, choose
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.blocking import filled, inserted
from stepwell.lowering.linalg.edit import Editor, replace
from stepwell.lowering.linalg.generics import generic
from stepwell.lowering.linalg.hoist_constants import Facts, ops_of
from stepwell.lowering.linalg.shapes import shape_of
from stepwell.lowering.linalg.winograd_form import (
    Step,
    border_of,
    coefficients,
    filter_step,
    input_step,
    is_zero,
    output_step,
    product_step,
    transform_body,
)
from stepwell.lowering.pass_ import Pass

F32 = Float32Type()


@dataclass(frozen=True)
class Winograd(Pass):
    """Compute 3 x 3 convolutions of stride 1 with constant filters by Winograd's algorithm where the cost model finds
    it faster. After: such a convolution is a transform of its image, a batch of products, and a transform of these."""

    name = "winograd"
    target: Target

    def apply(self, module: ModuleOp, context: Context) -> None:
        """One walk to find the constants, one over the convolutions."""
        if not self.target.winograd:
            return
        for function in module.ops:
            for region in function.regions:
                for block in region.blocks:
                    facts = Facts()
                    ops = list(ops_of(block))
                    for op in ops:
                        facts.read(op)
                    for op in ops:
                        if isinstance(op, GenericOp):
                            self._generic(op, facts)

    def _generic(self, op: GenericOp, facts: Facts) -> None:
        found = structure.convolution(op)
        if found is None or not is_eligible(op, found):
            return
        filters = op._operands[found.filter].owner
        if not isinstance(filters, Operation) or filters not in facts.weighty:
            return
        chosen = choose(problem_of(op, found), self.target)
        if chosen is not None:
            replace(op, Builder(op, found, algorithm(chosen.m)).results())


def is_eligible(op: GenericOp, found: structure.Convolution) -> bool:
    """Whether a convolution is 3 x 3 of stride 1, in f32, on blocked channels, of static sizes, and starts from 0."""
    if len(found.image) != 2 or set(found.strides + found.dilations) != {1} or found.group:
        return False
    sizes = structure.loop_sizes(op)
    shapes = (len(found.batch), len(found.out_channels), len(found.in_channels))
    if shapes != (1, 2, 2) or any(sizes[d] != WINDOW for d in found.window) or DYNAMIC_INDEX in sizes:
        return False
    (n,), (f, b), (y, x), (c, k), (ky, kx) = (
        found.batch, found.out_channels, found.image, found.in_channels, found.window,
    )  # fmt: skip
    image, filters = op.indexing_maps.data[found.input].data, op.indexing_maps.data[found.filter].data
    loops = positions(structure.output_map(op)), positions(filters)
    plain = [e.used_dims() for e in image.results]
    if loops != ((n, f, y, x, b), (f, c, ky, kx, k, b)) or plain != [{n}, {c}, {y, ky}, {x, kx}, {k}]:
        return False
    kinds = [operand.type for operand in op._operands]
    if any(not isinstance(kind, TensorType) or kind.element_type != F32 for kind in kinds):
        return False
    return sizes[b] == sizes[k] and 0 not in sizes and is_zero(structure.outputs(op)[0])


def problem_of(op: GenericOp, found: structure.Convolution) -> Problem:
    """The sizes of an eligible convolution."""
    sizes = structure.loop_sizes(op)
    (n,), (f, b), (y, x), (c, _) = found.batch, found.out_channels, found.image, found.in_channels
    return Problem(sizes[n], sizes[c], sizes[f], sizes[b], sizes[y], sizes[x])


class Builder:
    """Builds the steps of one convolution."""

    def __init__(self, op: GenericOp, found: structure.Convolution, chosen: Algorithm) -> None:
        self.op, self.algorithm = op, chosen
        self.edit = Editor(op)
        self.image, self.filters = op._operands[found.input], op._operands[found.filter]
        self.problem = problem_of(op, found)
        self.high, self.wide = self.problem.tiles(chosen.m)

    def results(self) -> SSAValue:
        """What the convolution's result is computed by."""
        problem, a, m = self.problem, self.algorithm.a, self.algorithm.m
        block = problem.block
        matrices = self.algorithm.filter, self.algorithm.input, self.algorithm.output
        by_filter, by_input, by_output = (self._constant(coefficients(matrix)) for matrix in matrices)
        filters = self._generic(
            filter_step(), (by_filter, by_filter, self.filters), [a, a, problem.outputs, problem.inputs, block, block]
        )
        batch = [problem.images, problem.inputs, self.high, self.wide, block]
        inputs = self._generic(input_step(m), (by_input, by_input, self._bordered()), [a, a, *batch])
        batch[1] = problem.outputs
        products = self._generic(product_step(), (inputs, filters), [a, a, *batch])
        shape = [problem.images, problem.outputs, problem.height, problem.width, block]
        return self._generic(output_step(m), (by_output, by_output, products), shape)

    def _constant(self, value: Attribute) -> SSAValue:
        return self.edit.constant(value, value.type)  # type: ignore[attr-defined]

    def _zeros(self, shape: list[int]) -> SSAValue:
        return filled(self.edit.add(tensor.EmptyOp, (), TensorType(F32, shape)), self.edit)

    def _generic(self, step: Step, ins: tuple[SSAValue, ...], shape: list[int]) -> SSAValue:
        block = transform_body() if len(ins) == 3 else product_body()
        start = self._zeros(shape)
        op = generic(ins, [start], step.maps, step.iterators, Region(block), [start.type], self.op.location)
        return self.edit.insert(op).results[0]

    def _bordered(self) -> SSAValue:
        """The image with rows and columns for whole tiles. A border of zeros that it has already becomes part of
        the new one."""
        m, problem = self.algorithm.m, self.problem
        shape = [problem.images, problem.inputs, m * self.high + WINDOW - 1, m * self.wide + WINDOW - 1, problem.block]
        border = border_of(self.image)
        image, (row, column) = (self.image, (0, 0)) if border is None else (border.image, border.offsets)
        if list(shape_of(image)) == shape:
            return image
        return inserted(image, self._zeros(shape), (0, 0, row, column, 0), self.edit)


def product_body() -> Block:
    """r += v * u."""
    block = Block(arg_types=[F32] * 3)
    left, right, total = block.args
    term = arith.MulfOp(left, right)
    added = arith.AddfOp(total, term.result)
    block.add_ops([term, added, YieldOp(added.result)])
    return block
