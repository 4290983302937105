"""What a `linalg.generic` is: elementwise, a reduction, a contraction, a convolution, a pooling window.

At the linalg level nothing computational has a name: everything is `linalg.generic`, and the passes, and the
lowering of kernels, recognise what they are good at by iterator types, indexing maps and body. These functions
are that recognition. They are pure: they read one op (or its maps and its body) and answer with loop numbers.

    contraction(op)     matmul and all its kin      C[b, m, n] += A[b, m, k] * B[b, k, n], any dimension order
    convolution(op)     convolutions                O[n, f, x] += I[n, c, x*s + w*d] * F[f, c, w], blocked ones too
    window(op)          poolings                    O[n, c, x] = combine(O, I[n, c, x*s + w*d])
    reduction(op)       row reductions              O[rows] = combine(O, f(inputs[rows, columns]))
    is_elementwise(op)  maps                        O[x] = f(inputs at x, or broadcast)

A loop is named by its number (position in `iterator_types`).
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import StrEnum

from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX, FixedBitwidthType, TensorType
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.dialects.linalg.ops import GenericOp, IndexOp, YieldOp
from xdsl.dialects.tensor import ExtractOp
from xdsl.ir import Block, BlockArgument, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineExpr, AffineMap

from stepwell.dialects.upstream import core
from stepwell.lowering.analysis.affine import (
    broadcast_positions,
    dims_of,
    linear,
    panel,
    positions,
    selected_positions,
    without_panel,
)

DYNAMIC = DYNAMIC_INDEX
"""The size of a loop or dimension that is only known at run time, as in xDSL's shapes."""


class Combiner(StrEnum):
    """What a reduction does with the accumulator and the next value. All are associative and commutative
    (floating addition and multiplication up to rounding)."""

    ADD = "add"
    MUL = "mul"
    MAX = "max"
    MIN = "min"
    AND = "and"
    OR = "or"
    XOR = "xor"


COMBINERS: dict[type[Operation], Combiner] = {
    arith.AddfOp: Combiner.ADD,
    arith.AddiOp: Combiner.ADD,
    arith.MulfOp: Combiner.MUL,
    arith.MuliOp: Combiner.MUL,
    arith.MaximumfOp: Combiner.MAX,
    arith.MaxnumfOp: Combiner.MAX,
    arith.MaxSIOp: Combiner.MAX,
    arith.MaxUIOp: Combiner.MAX,
    arith.MinimumfOp: Combiner.MIN,
    arith.MinnumfOp: Combiner.MIN,
    arith.MinSIOp: Combiner.MIN,
    arith.MinUIOp: Combiner.MIN,
    arith.AndIOp: Combiner.AND,
    arith.OrIOp: Combiner.OR,
    arith.XOrIOp: Combiner.XOR,
}

PRODUCTS = (arith.MulfOp, arith.MuliOp)
WIDENING = (arith.ExtFOp, arith.ExtSIOp, arith.ExtUIOp, core.SIToFPOp, core.UIToFPOp)


# Parts of an op ------------------------------------------------------------------------------------------------


def inputs(op: GenericOp) -> tuple[SSAValue, ...]:
    """The read-only operands (`ins`)."""
    return op._operands[: len(op._operands) - len(op.results)]


def outputs(op: GenericOp) -> tuple[SSAValue, ...]:
    """The operands that hold the initial values of the results (`outs`); as many as results."""
    return op._operands[len(op._operands) - len(op.results) :]


def maps(op: GenericOp) -> tuple[AffineMap, ...]:
    """The indexing map of each operand, inputs first."""
    return tuple(attribute.data for attribute in op.indexing_maps.data)


def output_map(op: GenericOp, result: int = 0) -> AffineMap:
    """The indexing map of a result."""
    return op.indexing_maps.data[len(op._operands) - len(op.results) + result].data


def body(op: GenericOp) -> Block:
    """The scalar computation: one argument per operand, ended by linalg.yield."""
    block = op.regions[0].first_block
    assert block is not None
    return block


def yielded(op: GenericOp) -> tuple[SSAValue, ...]:
    """The scalar that the body yields for each result."""
    last = body(op).last_op
    assert isinstance(last, YieldOp)
    return last._operands


def parallel_dims(op: GenericOp) -> tuple[int, ...]:
    """The loops whose iterations are independent."""
    return tuple(i for i, kind in enumerate(op.iterator_types.data) if kind.data == IteratorType.PARALLEL)


def reduction_dims(op: GenericOp) -> tuple[int, ...]:
    """The loops over which results are accumulated."""
    return tuple(i for i, kind in enumerate(op.iterator_types.data) if kind.data == IteratorType.REDUCTION)


def is_parallel(op: GenericOp) -> bool:
    """Whether no loop is a reduction."""
    return all(kind.data == IteratorType.PARALLEL for kind in op.iterator_types.data)


def loop_sizes(op: GenericOp) -> tuple[int, ...]:
    """The size of each loop, DYNAMIC where no operand has it statically."""
    sizes = [DYNAMIC] * len(op.iterator_types.data)
    for operand, attribute in zip(op._operands, op.indexing_maps.data, strict=True):
        if isinstance(operand.type, TensorType):
            for expression, size in zip(attribute.data.results, operand.type.get_shape(), strict=True):
                if isinstance(expression, AffineDimExpr) and size != DYNAMIC:
                    sizes[expression.position] = size
    return tuple(sizes)


def uses_position(op: GenericOp) -> bool:
    """Whether the body reads more than its arguments: loop indices or elements of whole tensors (gathers)."""
    return any(isinstance(inner, (IndexOp, ExtractOp)) for inner in body(op).ops)


# Bodies --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reduction:
    """`accumulator = combiner(accumulator, value)` for one result."""

    combiner: Combiner
    op: Operation
    """The combining op in the body."""
    value: SSAValue
    """What is combined into the accumulator: a body argument or the result of a body op."""


def combining(op: GenericOp, result: int = 0) -> Reduction | None:
    """How the body accumulates into a result; None where it does something else with the old value."""
    block = body(op)
    accumulator = block.args[len(block.args) - len(op.results) + result]
    final = yielded(op)[result]
    made_by = final.owner
    if not isinstance(made_by, Operation) or made_by.parent is not block:
        return None
    combiner = COMBINERS.get(type(made_by))
    if combiner is None or accumulator.uses.get_length() != 1 or accumulator not in made_by._operands:
        return None
    left, right = made_by._operands
    return Reduction(combiner, made_by, right if left is accumulator else left)


def reduction(op: GenericOp) -> tuple[Reduction, ...] | None:
    """How each result is accumulated, where the op has reduction loops and each result has a combiner."""
    if is_parallel(op):
        return None
    found = tuple(combining(op, result) for result in range(len(op.results)))
    return None if None in found else tuple(r for r in found if r is not None)


def through_widening(value: SSAValue) -> SSAValue:
    """The value before conversions to a wider type: what a mixed-precision product really multiplies."""
    while isinstance(value.owner, WIDENING):
        value = value.owner._operands[0]
    return value


def factors(op: GenericOp) -> tuple[int, int] | None:
    """Which two inputs the body multiplies and adds: `acc + widen(a) * widen(b)` gives their operand numbers."""
    if len(op.results) != 1:
        return None
    found = combining(op)
    if found is None or found.combiner != Combiner.ADD:
        return None
    product = through_widening(found.value).owner
    if not isinstance(product, PRODUCTS):
        return None
    block = body(op)
    sides = [through_widening(side) for side in product._operands]
    indices = [side.index for side in sides if isinstance(side, BlockArgument) and side.block is block]
    return (indices[0], indices[1]) if len(indices) == 2 and indices[0] != indices[1] else None


# Elementwise ---------------------------------------------------------------------------------------------------


def is_elementwise(op: GenericOp) -> bool:
    """Whether each element of the results comes from the elements of the inputs at the same place (up to a
    permutation or a broadcast), whatever its position: all loops parallel, no indices, no gathers."""
    if not is_parallel(op) or uses_position(op):
        return False
    first_result = len(op._operands) - len(op.results)
    for index, attribute in enumerate(op.indexing_maps.data):
        found = broadcast_positions(attribute.data)
        if found is None or (index >= first_result and len(found) != attribute.data.num_dims):
            return False
    return True


def is_data_movement(op: GenericOp) -> bool:
    """Whether the body yields its inputs unchanged: a transpose, a broadcast, a strided copy."""
    block = body(op)
    return (
        is_parallel(op)
        and isinstance(block.first_op, YieldOp)
        and all(
            isinstance(v, BlockArgument) and v.block is block and v.index < len(block.args) - len(op.results)
            for v in yielded(op)
        )
    )


# Contractions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contraction:
    """Loops of `C[batch, m, n] += A[batch, m, k] * B[batch, k, n]`, each a tuple in the order of C's dimensions
    (k: in A's order). Empty tuples are vectors, outer products, or no batch."""

    batch: tuple[int, ...]
    m: tuple[int, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]
    lhs: int
    """Operand number of A."""
    rhs: int
    """Operand number of B."""


def contraction_dims(
    a: AffineMap, b: AffineMap, c: AffineMap, ones: Container[int] = ()
) -> tuple[tuple[int, ...], ...] | None:
    """(batch, m, n, k) of a product's maps; None where a map is no projected permutation (a factor may be one
    slice of a tensor, by a constant index, or lie in panels), or a loop is summed over in one factor only.

    `ones`: loops of one iteration; where neither factor is read by such a loop, it counts as one of m.
    """
    places = selected_positions(without_panel(a)), selected_positions(without_panel(b)), positions(c)
    if places[0] is None or places[1] is None or places[2] is None:
        return None
    in_a, in_b, in_c = places[0], places[1], places[2]
    if set(in_a) ^ set(in_b) != (set(in_a) ^ set(in_b)) & set(in_c):
        return None
    batch = tuple(d for d in in_c if d in in_a and d in in_b)
    m = tuple(d for d in in_c if d not in in_b and (d in in_a or d in ones))
    n = tuple(d for d in in_c if d in in_b and d not in in_a)
    k = tuple(d for d in in_a if d in in_b and d not in in_c)
    if len(batch) + len(m) + len(n) != len(in_c) or len(in_c) + len(k) != c.num_dims:
        return None
    return batch, m, n, k


def contraction(op: GenericOp) -> Contraction | None:
    """The loops of a contraction: exactly two inputs, multiplied and summed; at least one loop is summed over.

    Operands may be permuted in any way (`a @ b.T` needs no transpose). The factor whose own loops come first in
    the result is the left one.
    """
    if len(op._operands) != 3 or is_parallel(op):
        return None
    pair = factors(op)
    if pair is None or uses_position(op):
        return None
    all_maps = maps(op)
    lhs, rhs = 0, 1
    ones = [d for d, size in enumerate(loop_sizes(op)) if size == 1]
    dims = contraction_dims(all_maps[0], all_maps[1], all_maps[2], ones)
    if dims is None:
        return None
    batch, m, n, k = dims
    if set(k) != set(reduction_dims(op)):
        return None
    if n and m:
        order = positions(all_maps[2])
        assert order is not None
        if order.index(n[0]) < order.index(m[0]):
            lhs, rhs, m, n = rhs, lhs, n, m
    return Contraction(batch, m, n, k, lhs, rhs)


def panel_of(op: GenericOp, dims: Contraction) -> int | None:
    """How many columns a panel of B has (see pack-weights); None where B does not lie in panels."""
    read = op.indexing_maps.data[dims.rhs].data
    found = panel(read)
    if found is not None:
        return found[1]
    places = positions(read)
    if places is None or len(dims.n) < 2 or places[0] != dims.n[-2] or places[-1] != dims.n[-1]:
        return None
    return loop_sizes(op)[dims.n[-1]]


def row_bytes(op: GenericOp, dims: Contraction) -> int:
    """How many bytes lie between one row of A and the next; 0 where there is one row, or sizes are dynamic."""
    kind = op._operands[dims.lhs].type
    assert isinstance(kind, TensorType)
    element = kind.element_type
    places = op.indexing_maps.data[dims.lhs].data.results
    sizes, distance = loop_sizes(op), element.size if isinstance(element, FixedBitwidthType) else 8
    rows = {d for d in dims.m if sizes[d] != 1}
    for expression, size in zip(reversed(places), reversed(kind.get_shape()), strict=True):
        if isinstance(expression, AffineDimExpr) and expression.position in rows:
            return distance
        if size == DYNAMIC:
            return 0
        distance *= size
    return 0


# Convolutions and windows --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Convolution:
    """Loops of `O[batch, group, f, x...] += I[batch, group, c, (x*stride + w*dilation)...] * F[group, f, c, w...]`.

    The image loops `x` and window loops `w` are paired in order. In blocked layouts `out_channels` and
    `in_channels` have two loops (block, then within the block). A depthwise convolution has group loops and
    neither in nor out channels.
    """

    batch: tuple[int, ...]
    group: tuple[int, ...]
    out_channels: tuple[int, ...]
    image: tuple[int, ...]
    in_channels: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    input: int
    """Operand number of the image."""
    filter: int
    """Operand number of the weights."""

    @property
    def is_depthwise(self) -> bool:
        """Whether each output channel reads one input channel of its own."""
        return not self.in_channels and not self.out_channels


@dataclass(frozen=True)
class Sliding:
    """The dimensions of an image map of the form `x*stride + w*dilation`, in the order of the image."""

    image: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    plain: tuple[int, ...]
    """Loops that index the other dimensions."""


def sliding(map_: AffineMap, reduced: Sequence[int]) -> Sliding | None:
    """Take an image map apart. A dimension with a summed and a kept loop is a sliding one; None where some
    dimension is neither that nor a plain loop, or nothing slides."""
    image: list[int] = []
    window: list[int] = []
    strides: list[int] = []
    dilations: list[int] = []
    plain: list[int] = []
    for expression in map_.results:
        if isinstance(expression, AffineDimExpr):
            plain.append(expression.position)
            continue
        pair = _sliding_pair(expression, reduced)
        if pair is None:
            return None
        image.append(pair[0])
        strides.append(pair[1])
        window.append(pair[2])
        dilations.append(pair[3])
    used = image + window + plain
    if not image or len(set(used)) != len(used):
        return None
    return Sliding(tuple(image), tuple(window), tuple(strides), tuple(dilations), tuple(plain))


def _sliding_pair(expression: AffineExpr, reduced: Sequence[int]) -> tuple[int, int, int, int] | None:
    form = linear(expression)
    if form is None or form[1] != 0 or len(form[0]) != 2:
        return None
    (first, a), (second, b) = form[0].items()
    if first in reduced:
        first, a, second, b = second, b, first, a
    if first in reduced or second not in reduced or a <= 0 or b <= 0:
        return None
    return first, a, second, b


def convolution(op: GenericOp) -> Convolution | None:
    """The loops of a convolution; None for everything else, also for contractions (nothing slides there)."""
    if len(op._operands) != 3 or is_parallel(op):
        return None
    pair = factors(op)
    if pair is None or uses_position(op):
        return None
    reduced = reduction_dims(op)
    all_maps = maps(op)
    out = positions(all_maps[2])
    if out is None:
        return None
    for image_operand, filter_operand in ((0, 1), (1, 0)):
        slide = sliding(all_maps[image_operand], reduced)
        weights = positions(all_maps[filter_operand])
        if slide is None or weights is None:
            continue
        if not set(slide.window) <= set(weights) or set(slide.image) & set(weights):
            return None
        convolved = Convolution(
            batch=tuple(d for d in out if d in slide.plain and d not in weights),
            group=tuple(d for d in out if d in slide.plain and d in weights),
            out_channels=tuple(d for d in out if d in weights and d not in slide.plain),
            image=slide.image,
            in_channels=tuple(d for d in slide.plain if d in weights and d in reduced),
            window=slide.window,
            strides=slide.strides,
            dilations=slide.dilations,
            input=image_operand,
            filter=filter_operand,
        )
        named = (
            convolved.batch + convolved.group + convolved.out_channels + convolved.image
            + convolved.in_channels + convolved.window
        )  # fmt: skip
        return convolved if sorted(named) == list(range(all_maps[0].num_dims)) else None
    return None


@dataclass(frozen=True)
class Window:
    """Loops of a pooling `O[kept, x...] = combine(O, I[kept, (x*stride + w*dilation)...])`."""

    kept: tuple[int, ...]
    image: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    input: int
    """Operand number of the image; other inputs only give sizes (their body argument is unused)."""


def window(op: GenericOp) -> Window | None:
    """The loops of a pooling: one input that slides, any other input only there for its shape."""
    if is_parallel(op):
        return None
    reduced = reduction_dims(op)
    block = body(op)
    out = positions(output_map(op))
    read = [i for i in range(len(op._operands) - len(op.results)) if block.args[i].first_use is not None]
    if out is None or len(read) != 1:
        return None
    slide = sliding(op.indexing_maps.data[read[0]].data, reduced)
    if slide is None or set(slide.window) != set(reduced) or set(out) != set(slide.image + slide.plain):
        return None
    kept = tuple(d for d in out if d in slide.plain)
    return Window(kept, slide.image, slide.window, slide.strides, slide.dilations, read[0])


# Rows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """Loops of a plain reduction: kept ones in the order of the result, reduced ones ascending."""

    kept: tuple[int, ...]
    reduced: tuple[int, ...]


def rows(op: GenericOp) -> Rows | None:
    """The loops of a reduction of whole dimensions (sum, max, mean, norm), with any body before the combiner
    and any number of results (argmax); None where an input slides or a result is permuted oddly."""
    if is_parallel(op):
        return None
    reduced = reduction_dims(op)
    places = [positions(output_map(op, result)) for result in range(len(op.results))]
    first = places[0]
    if first is None or any(place != first for place in places) or set(first) & set(reduced):
        return None
    if len(first) + len(reduced) != len(op.iterator_types.data):
        return None
    for index in range(len(op._operands) - len(op.results)):
        if broadcast_positions(op.indexing_maps.data[index].data) is None:
            return None
    return Rows(first, reduced)


def recomputed(op: GenericOp, operand: int) -> int | None:
    """How many times each element of an operand is visited by the loops; None where that is not known."""
    sizes = loop_sizes(op)
    visited = dims_of(op.indexing_maps.data[operand].data)
    times = 1
    for dim, size in enumerate(sizes):
        if dim not in visited:
            if size == DYNAMIC:
                return None
            times *= size
    return times
