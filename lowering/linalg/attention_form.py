"""What attention looks like as generics, and how it is recognised: softmax(f(q k^T)) v.

    scores   s[b, i, j]  += q[b, i, d] * k[b, j, d]
    between  elementwise ops on the scores: a factor, an additive mask, a choice by a mask or by position
    largest  m[b, i]      = max over j of x,  x = f(s, b, i, j)
    weights  w[b, i, j]   = exp(x - m[b, i])
    total    l[b, i]     += w[b, i, j]
    shares   p[b, i, j]   = w[b, i, j] * g(l[b, i]), or divided by it
    result   o[b, i, e]  += p[b, i, j] * v[b, j, e]

Batches b are any number of loops; operands may lie in any order of dimensions. What f computes is the same in
`largest` and `weights`, wherever fusion has put it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import Float32Type, Float64Type, TensorType
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.ir.affine import AffineConstantExpr, AffineDimExpr, AffineMap

from stepwell.lowering.analysis.affine import compose, is_identity, selected_positions
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.generics import filled_with
from stepwell.lowering.linalg.structure import Combiner, Contraction

INFINITY = float("inf")


@dataclass(frozen=True)
class Attention:
    """The steps of one attention."""

    scores: GenericOp
    between: tuple[GenericOp, ...]
    largest: GenericOp
    weights: GenericOp
    total: GenericOp
    shares: GenericOp
    result: GenericOp
    first: Contraction
    """The loops of `scores`, with q on the left."""
    second: Contraction
    """The loops of `result`, with p on the left."""
    path: AffineMap
    """From the loops of the softmax to an index of the scores."""

    @property
    def steps(self) -> tuple[GenericOp, ...]:
        """All ops."""
        return (
            self.scores, *self.between, self.largest, self.weights, self.total, self.shares, self.result,
        )  # fmt: skip

    @property
    def value(self) -> SSAValue:
        """In the body of `largest`: what the softmax is taken of."""
        found = structure.combining(self.largest)
        assert found is not None
        return found.value

    @property
    def exponential(self) -> math.ExpOp:
        """In the body of `weights`."""
        owner = structure.yielded(self.weights)[0].owner
        assert isinstance(owner, math.ExpOp)
        return owner

    @property
    def query_loop(self) -> int:
        """Of the softmax."""
        read = self.result.indexing_maps.data[self.second.lhs].data
        (found,) = [i for i, e in enumerate(read.results) if _is_loop(e, self.second.m[0])]
        return found

    @property
    def key_loop(self) -> int:
        """Of the softmax."""
        return len(self.largest.iterator_types.data) - 1


def attention(op: Operation) -> Attention | None:
    """The attention whose last step an op is; None for every other op."""
    if not isinstance(op, GenericOp) or (second := _product(op)) is None:
        return None
    shares = _maker(op._operands[second.lhs])
    if shares is None or (parts := _shares(shares)) is None:
        return None
    weights, total = parts
    largest = _largest(weights)
    if largest is None:
        return None
    rank = len(largest.iterator_types.data)
    read = op.indexing_maps.data[second.lhs].data
    if len(read.results) != rank or not _is_loop(read.results[-1], second.k[0]):
        return None
    query = [i for i, e in enumerate(read.results) if _is_loop(e, second.m[0])]
    if len(query) != 1:
        return None
    traced = _trace(largest)
    if traced is None:
        return None
    scores, path, between = traced
    first = _product(scores)
    if first is None:
        return None
    places = structure.output_map(scores).results
    loops = {e.position: path.results[i] for i, e in enumerate(places) if isinstance(e, AffineDimExpr)}
    if _is_loop(loops[first.n[0]], query[0]) and _is_loop(loops[first.m[0]], rank - 1):
        first = Contraction(first.batch, first.n, first.m, first.k, first.rhs, first.lhs)
    if not _is_loop(loops[first.m[0]], query[0]) or not _is_loop(loops[first.n[0]], rank - 1):
        return None
    return Attention(scores, between, largest, weights, total, shares, op, first, second, path)


def _is_loop(expression: object, loop: int) -> bool:
    return isinstance(expression, AffineDimExpr) and expression.position == loop


def _maker(value: SSAValue) -> GenericOp | None:
    """The generic that makes a tensor, and nothing else."""
    owner = value.owner
    return owner if isinstance(owner, GenericOp) and len(owner.results) == 1 else None


def _product(op: GenericOp) -> Contraction | None:
    """A sum of plain products over one loop, from 0, with one loop of its own for each factor."""
    found = structure.contraction(op)
    if found is not None and len(found.m) > 1:
        # Loops of one iteration that nothing reads are in the way of none.
        sizes = structure.loop_sizes(op)
        found = replace(found, m=tuple(loop for loop in found.m if sizes[loop] != 1) or found.m[-1:])
    if found is None or any(len(loops) != 1 for loops in (found.m, found.n, found.k)):
        return None
    kinds = {v.type.element_type for v in op._operands if isinstance(v.type, TensorType)}
    if kinds not in ({Float32Type()}, {Float64Type()}) or filled_with(structure.outputs(op)[0]) != 0:
        return None
    reads = [selected_positions(op.indexing_maps.data[number].data) for number in (0, 1)]
    return found if None not in reads else None


def _shares(op: GenericOp) -> tuple[GenericOp, GenericOp] | None:
    """The weights and their total, where an op scales weights by what only depends on the total."""
    if not structure.is_parallel(op) or not is_identity(structure.output_map(op)) or structure.uses_position(op):
        return None
    scaled = structure.yielded(op)[0].owner
    if not isinstance(scaled, (arith.MulfOp, arith.DivfOp)) or len(structure.inputs(op)) != 2:
        return None
    sides = scaled._operands if isinstance(scaled, arith.MulfOp) else scaled._operands[:1]
    for side in sides:
        if not isinstance(side, BlockArgument) or side.index > 1 or side.uses.get_length() != 1:
            continue
        weights, total = _maker(op._operands[side.index]), _maker(op._operands[1 - side.index])
        if weights is None or total is None or not is_identity(op.indexing_maps.data[side.index].data):
            continue
        found = structure.combining(total)
        if found is None or found.combiner != Combiner.ADD or not _is_statistic(op, 1 - side.index):
            continue
        if total._operands[0] is weights.results[0] and found.value is structure.body(total).args[0]:
            if len(structure.inputs(total)) == 1 and is_identity(total.indexing_maps.data[0].data):
                return (weights, total) if filled_with(structure.outputs(total)[0]) == 0 else None
    return None


def _is_statistic(op: GenericOp, operand: int) -> bool:
    """Whether an operand is a reduction over the last of the loops, which an op with the same loops reads row by row."""
    maker = _maker(op._operands[operand])
    rank = len(op.iterator_types.data)
    if maker is None or structure.reduction_dims(maker) != (rank - 1,) or len(maker.iterator_types.data) != rank:
        return False
    if structure.loop_sizes(maker) != structure.loop_sizes(op):
        return False
    made, read = structure.output_map(maker).results, op.indexing_maps.data[operand].data.results
    sizes = structure.loop_sizes(op)
    return all(
        isinstance(m, AffineDimExpr)
        and (_is_loop(r, m.position) or (isinstance(r, AffineConstantExpr) and sizes[m.position] == 1))
        for m, r in zip(made, read, strict=True)
    )


def _largest(weights: GenericOp) -> GenericOp | None:
    """The row maximum that weights are taken against: `exp(x - m)`, where m is the largest x of each row."""
    if not structure.is_parallel(weights) or not is_identity(structure.output_map(weights)):
        return None
    power = structure.yielded(weights)[0].owner
    difference = power._operands[0].owner if isinstance(power, math.ExpOp) else None
    if not isinstance(difference, arith.SubfOp):
        return None
    value, shift = difference._operands
    if not isinstance(shift, BlockArgument) or not _is_statistic(weights, shift.index):
        return None
    largest = _maker(weights._operands[shift.index])
    assert largest is not None
    found = structure.combining(largest)
    if found is None or found.combiner != Combiner.MAX or not _is_lowest(structure.outputs(largest)[0]):
        return None
    return largest if _tree(largest, found.value, {}) == _tree(weights, value, {}) else None


def _is_lowest(start: SSAValue) -> bool:
    """Whether a maximum starts from minus infinity, or from the lowest finite number: with that a row of minus infinities
    has weights of 0 and not NaN, which its factor of a total of 0 then decides on."""
    number = filled_with(start)
    assert isinstance(start.type, TensorType)
    kind = np.float32 if start.type.element_type == Float32Type() else np.float64
    return number is not None and (number == -INFINITY or kind(number) == np.finfo(kind).min)


def _tree(op: GenericOp, value: SSAValue, known: dict[SSAValue, Hashable]) -> Hashable:
    """What a value in the body of an op is, independent of the op: equal for equal values over equal loops."""
    if value in known:
        return known[value]
    owner = value.owner
    found: Hashable
    if isinstance(value, BlockArgument) and value.block is structure.body(op):
        found = ("element", op._operands[value.index], op.indexing_maps.data[value.index].data)
    elif isinstance(owner, arith.ConstantOp):
        found = ("constant", owner.value)
    elif isinstance(owner, Operation) and owner.parent is structure.body(op):
        operands = tuple(_tree(op, operand, known) for operand in owner._operands)
        found = (owner.name, *sorted(owner.properties.items()), *operands)
    else:
        found = value
    known[value] = found
    return found


Traced = tuple[GenericOp, AffineMap, tuple[GenericOp, ...]]


def _trace(op: GenericOp) -> Traced | None:
    """The scores that an op reads: their op, the map that reads them, and the elementwise ops
    on the way, in order. None where there are none, or several."""
    found: dict[Operation, Traced] = {}
    for argument in structure.body(op).args[: len(structure.inputs(op))]:
        maker = _maker(op._operands[argument.index])
        if maker is None or argument.first_use is None:
            continue
        read = op.indexing_maps.data[argument.index].data
        if structure.contraction(maker) is not None:
            traced: Traced | None = (maker, read, ())
        elif structure.is_parallel(maker) and is_identity(structure.output_map(maker)):
            traced = _trace(maker)
            if traced is not None:
                scores, path, between = traced
                traced = (scores, compose(path, read), (*between, maker))
        else:
            continue
        if traced is not None and found.setdefault(maker, traced) != traced:
            return None
    return next(iter(found.values())) if len(found) == 1 else None
