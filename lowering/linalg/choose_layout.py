"""`choose-layout`: convolutions run on blocked channels, and so does what lies between them.

Lanes want to run along channels: the block [.., b] of output channels is one or two vectors, the filter is read
in order, and one input element is broadcast to all of them. So each convolution whose output channels fill
blocks becomes

    O[n, f/b, y, x, b] += I[n, c/b, y*s + ky, x*s + kx, b] * F[f/b, c/b, ky, kx, b, b]

(with few input channels, as in a first layer, the image stays plain). The block is one for a whole module, so that
tensors meet in one layout: a full vector where nearly all work has channels for it, else half of one, and so on.
Elementwise ops, poolings, spatial
means, paddings and concatenations that read a blocked tensor follow. Every blocked tensor has its plain form
beside it, made by a transpose and a collapse; where nobody needs that, `dce` removes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, ModuleOp, TensorType, i64
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap

from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.blocking import Dims, pack, packed_output, split_loops, split_shape, unpack
from stepwell.lowering.linalg.edit import Editor, replace
from stepwell.lowering.linalg.generics import Draft
from stepwell.lowering.linalg.shapes import integers, shape_of
from stepwell.lowering.pass_ import Pass

CHANNEL = 1
"""The dimension of plain tensors that holds channels."""

Blocked = dict[SSAValue, SSAValue]
"""Plain tensors to their blocked forms."""


NEARLY_ALL = 0.9
"""The share of multiplications that must fit a block for it to be chosen over a smaller one."""

SMALLEST = 4


def output_channels(op: GenericOp, found: structure.Convolution) -> int:
    """How many channels of the result are next to each other in blocks: per group, or all of a depthwise one."""
    loops = found.group if found.is_depthwise else found.out_channels
    sizes = structure.loop_sizes(op)
    return sizes[loops[0]] if len(loops) == 1 else 1


def choose_block(module: ModuleOp, widest: int) -> int:
    """The largest block, from `widest` down by halves, that nearly all convolutions' channels fill."""
    work: dict[int, float] = {}
    for op in module.walk():
        found = structure.convolution(op) if isinstance(op, GenericOp) else None
        if found is not None and isinstance(op, GenericOp):
            steps = 1.0
            for size in structure.loop_sizes(op):
                steps *= max(1, size)
            channels = output_channels(op, found)
            work[channels] = work.get(channels, 0.0) + steps
    block = widest
    usable = sum(w for channels, w in work.items() if channels % SMALLEST == 0)
    while block > SMALLEST:
        if sum(w for channels, w in work.items() if channels % block == 0) >= NEARLY_ALL * usable:
            return block
        block //= 2
    return block


@dataclass(frozen=True)
class ChooseLayout(Pass):
    """Give convolutions and what lies between them blocked channels. After: every convolution whose output
    channels are a multiple of the chosen block, at most `widest`, has them as innermost dimension."""

    name = "choose-layout"
    widest: int = 8

    def apply(self, module: ModuleOp, context: Context) -> None:
        """One walk to choose the block, one to rewrite."""
        rewriter = Rewriter(choose_block(module, self.widest))
        for function in module.ops:
            for region in function.regions:
                for block in region.blocks:
                    rewriter.rewrite(block, {})


class Rewriter:
    """Rewrites blocks of ops to one block of channels; a nested block sees the blocked tensors around it."""

    def __init__(self, block: int) -> None:
        self.block = block

    def rewrite(self, block: Block, blocked: Blocked) -> None:
        """One forward walk."""
        op = block.first_op
        while op is not None:
            following = op.next_op
            if isinstance(op, GenericOp):
                self._generic(op, blocked)
            elif isinstance(op, tensor.InsertSliceOp):
                self._insert_slice(op, blocked)
            elif isinstance(op, tensor.ExtractSliceOp):
                self._extract_slice(op, blocked)
            else:
                for region in op.regions:
                    for inner in region.blocks:
                        self.rewrite(inner, dict(blocked))
            op = following

    # ------ generics

    def _generic(self, op: GenericOp, blocked: Blocked) -> None:
        found = structure.convolution(op)
        if found is not None:
            loops = self._convolution_loops(op, found)
        else:
            loops = self._following_loops(op, blocked) if structure.contraction(op) is None else {}
        if loops:
            self._rewrite(op, loops, blocked)

    def _convolution_loops(self, op: GenericOp, found: structure.Convolution) -> dict[int, int]:
        """The channel loops to split: output channels, and input channels where they fill blocks."""
        sizes = structure.loop_sizes(op)
        out = found.group if found.is_depthwise else found.out_channels
        if len(out) != 1 or (found.group and not found.is_depthwise) or len(found.in_channels) > 1:
            return {}
        if not self._fills_blocks(sizes[out[0]]) or not _is_channel(structure.output_map(op), out[0]):
            return {}
        loops = {out[0]: self.block}
        for channel in found.in_channels:
            if self._fills_blocks(sizes[channel]) and _is_channel(op.indexing_maps.data[found.input].data, channel):
                loops[channel] = self.block
        return loops

    def _fills_blocks(self, size: int) -> bool:
        return size != DYNAMIC_INDEX and size >= self.block and size % self.block == 0

    def _following_loops(self, op: GenericOp, blocked: Blocked) -> dict[int, int]:
        """The channel loop of an op that reads a blocked tensor, where more of what it reads is blocked than is
        not."""
        loop: int | None = None
        ours = others = 0
        for operand, attribute in zip(structure.inputs(op), op.indexing_maps.data, strict=False):
            if not isinstance(operand.type, TensorType):
                continue
            results = attribute.data.results
            channel = results[CHANNEL] if len(results) > CHANNEL else None
            if operand in blocked and isinstance(channel, AffineDimExpr):
                if loop is not None and loop != channel.position:
                    return {}
                loop = channel.position
                ours += _elements(operand)
            elif len(results) > 2 and not isinstance(operand.owner, arith.ConstantOp):
                others += _elements(operand)
        if loop is None or others > ours or loop in structure.reduction_dims(op):
            return {}
        out = [structure.output_map(op, r).results for r in range(len(op.results))]
        kept = all(AffineDimExpr(loop) in results for results in out)
        return {loop: self.block} if kept else {}

    def _rewrite(self, op: GenericOp, loops: dict[int, int], blocked: Blocked) -> None:
        """Split the loops; operands are packed where they are not blocked already."""
        split = split_loops(op, loops)
        if split is None:
            return
        edit = Editor(op)
        dims = [split.dims(attribute.data) for attribute in op.indexing_maps.data]
        count = len(op.results)
        operands: list[SSAValue] = []
        for index, (operand, own) in enumerate(zip(op._operands, dims, strict=True)):
            start = packed_output(operand, own, edit) if own and index >= len(op._operands) - count else None
            operands.append(start if start is not None else self._packed(operand, own, blocked, edit))
        draft = Draft.of(op)
        draft.inputs, draft.outputs = operands[:-count], operands[-count:]
        draft.maps = [split.map(attribute.data) for attribute in op.indexing_maps.data]
        draft.iterators = list(split.iterators)
        draft.result_types = [value.type for value in draft.outputs]
        ranks = [len(shape_of(result)) for result in op.results]
        made = draft.build()
        edit.insert(made)
        plain = [
            unpack(result, rank, own, edit) if own else result
            for result, rank, own in zip(made.results, ranks, dims[-count:], strict=True)
        ]
        for value, result, own in zip(plain, made.results, dims[-count:], strict=True):
            if _is_standard(own, len(shape_of(value)), self.block):
                blocked[value] = result
        replace(op, plain)

    def _packed(self, value: SSAValue, dims: Dims, blocked: Blocked, edit: Editor) -> SSAValue:
        """An operand in blocked layout, made at most once where it is the standard one."""
        if not dims:
            return value
        standard = _is_standard(dims, len(shape_of(value)), self.block)
        if standard and value in blocked:
            return blocked[value]
        packed = pack(value, dims, edit)
        if standard:
            blocked[value] = packed
        return packed

    # ------ slices

    def _insert_slice(self, op: tensor.InsertSliceOp, blocked: Blocked) -> None:
        """Paddings and concatenations of blocked tensors, by whole blocks of channels."""
        source, destination = op._operands[:2]
        if source not in blocked and destination not in blocked:
            return
        properties = self._blocked_slice(op, len(shape_of(source)))
        if properties is None or not all(self._fills_blocks(shape_of(t)[CHANNEL]) for t in (source, destination)):
            return
        edit = Editor(op)
        dims: Dims = ((CHANNEL, self.block),)
        into = blocked.get(destination) or packed_output(destination, dims, edit)
        if into is None:
            return
        packed = self._packed(source, dims, blocked, edit)
        value = edit.add(tensor.InsertSliceOp, (packed, into, *op._operands[2:]), into.type, properties)
        plain = unpack(value, len(shape_of(op.results[0])), dims, edit)
        blocked[plain] = value
        replace(op, plain)

    def _extract_slice(self, op: tensor.ExtractSliceOp, blocked: Blocked) -> None:
        """Parts of blocked tensors, by whole blocks of channels."""
        source, result = op._operands[0], op.results[0]
        if source not in blocked:
            return
        properties = self._blocked_slice(op, len(shape_of(result)))
        if properties is None or not self._fills_blocks(shape_of(result)[CHANNEL]):
            return
        edit = Editor(op)
        dims: Dims = ((CHANNEL, self.block),)
        shape, _ = split_shape(shape_of(result), dims)
        assert isinstance(result.type, TensorType)
        kind = TensorType(result.type.element_type, shape)
        value = edit.add(tensor.ExtractSliceOp, (blocked[source], *op._operands[1:]), kind, properties)
        plain = unpack(value, len(shape_of(result)), dims, edit)
        blocked[plain] = value
        replace(op, plain)

    def _blocked_slice(self, op: Operation, rank: int) -> dict[str, DenseArrayBase] | None:
        """The offsets, sizes and strides of a slice for blocked tensors; None where it cuts a block."""
        offsets, sizes, strides = (list(integers(op, f"static_{part}")) for part in ("offsets", "sizes", "strides"))
        whole = len(sizes) == rank and sizes[CHANNEL] != DYNAMIC_INDEX and offsets[CHANNEL] != DYNAMIC_INDEX
        if not whole or offsets[CHANNEL] % self.block or sizes[CHANNEL] % self.block or strides[CHANNEL] != 1:
            return None
        offsets[CHANNEL] //= self.block
        sizes[CHANNEL] //= self.block
        segments = op.properties["operandSegmentSizes"]
        assert isinstance(segments, DenseArrayBase)
        return {
            "static_offsets": DenseArrayBase.from_list(i64, [*offsets, 0]),
            "static_sizes": DenseArrayBase.from_list(i64, [*sizes, self.block]),
            "static_strides": DenseArrayBase.from_list(i64, [*strides, 1]),
            "operandSegmentSizes": segments,
        }


def _is_standard(dims: Dims, rank: int, block: int) -> bool:
    """Whether a tensor is an image with blocked channels: the layout that is kept between ops."""
    return dims == ((CHANNEL, block),) and rank > 2


def _is_channel(map_: AffineMap, loop: int) -> bool:
    """Whether a loop indexes the channel dimension of an image map."""
    return len(map_.results) > CHANNEL and map_.results[CHANNEL] == AffineDimExpr(loop)


def _elements(value: SSAValue) -> int:
    total = 1
    for size in shape_of(value):
        total *= 1 if size == DYNAMIC_INDEX else size
    return total
