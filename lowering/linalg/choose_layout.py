"""`choose-layout`: convolutions run on blocked channels, and so does what lies between them.

Lanes want to run along channels: the block [.., b] of output channels is one or two vectors, the filter is read
in order, and one input element is broadcast to all of them. So each convolution whose output channels fill
blocks becomes

    O[n, f/b, y, x, b] += I[n, c/b, y*s + ky, x*s + kx, b] * F[f/b, c/b, ky, kx, b, b]

(with few input channels, as in a first layer, the image stays plain). One in groups does the same within each,
[n, g, c/b, y, x, b], where every group's channels fill whole blocks. The block is one for a whole module, so that
tensors meet in one layout: the one with which the module's convolutions take least time. Channels that do not fill
their last block leave some of it idle (see pad_channels).
Elementwise ops, poolings, spatial means, paddings and concatenations that read a blocked tensor follow. Every blocked
tensor has its plain form beside it, made by a transpose and a collapse; where nobody needs that, `dce` removes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as replaced

from xdsl.context import Context
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, ModuleOp, TensorType, i64
from xdsl.dialects.linalg.ops import FillOp, GenericOp
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap

from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.blocking import Dims, pack, packed_output, split_loops, split_shape, unpack
from stepwell.lowering.linalg.edit import Editor, replace
from stepwell.lowering.linalg.generics import Draft, filled_with
from stepwell.lowering.linalg.pad_channels import Number, masked, results_beyond
from stepwell.lowering.linalg.shapes import integers, reassociation, shape_of
from stepwell.lowering.pass_ import Pass

CHANNEL, OF_GROUP = 1, 2
"""The dimension of plain tensors that holds channels; where there are groups before it, the one that holds each one's."""

@dataclass(frozen=True)
class Packed:
    """A blocked tensor, what lies in it beyond the last channel (None where that is not known), and which dimension of the
    plain one is blocked."""

    value: SSAValue
    beyond: Number = 0
    channel: int = CHANNEL


Blocked = dict[SSAValue, Packed]
"""Plain tensors to their blocked forms."""


MOST_IDLE = 1.5
"""Channels are filled up to whole blocks where that makes them at most so many times more."""

UNBLOCKED = 6.0
"""How many times longer a convolution takes on channels that are not blocked."""

SMALLEST = 4


def whole_blocks(size: int, block: int) -> int | None:
    """A number of channels, filled up to whole blocks; None where they are too few or too many are missing."""
    if size == DYNAMIC_INDEX or size < 1:
        return None
    filled = -(-size // block) * block
    return filled if filled <= MOST_IDLE * size else None


def output_channels(op: GenericOp, found: structure.Convolution) -> int:
    """How many channels of the result are next to each other in blocks: per group, or all of a depthwise one."""
    loops = found.group if found.is_depthwise else found.out_channels
    sizes = structure.loop_sizes(op)
    return sizes[loops[0]] if len(loops) == 1 else 1


def choose_block(module: ModuleOp, widest: int) -> int:
    """The block, among `widest` and its halves, with which all convolutions together take the least time."""
    work: dict[int, float] = {}
    for op in module.walk():
        found = structure.convolution(op) if isinstance(op, GenericOp) else None
        if found is not None and isinstance(op, GenericOp):
            steps = 1.0
            for size in structure.loop_sizes(op):
                steps *= max(1, size)
            channels = output_channels(op, found)
            work[channels] = work.get(channels, 0.0) + steps

    def time(block: int) -> float:
        total = 0.0
        for channels, steps in work.items():
            filled = whole_blocks(channels, block)
            total += steps * (UNBLOCKED if filled is None else widest / block * filled / channels)
        return total

    blocks = [widest]
    while blocks[-1] > SMALLEST:
        blocks.append(blocks[-1] // 2)
    return min(blocks, key=time)


@dataclass(frozen=True)
class ChooseLayout(Pass):
    """Give convolutions and what lies between them blocked channels. After: every convolution whose output
    channels fill blocks of the chosen size, at most `widest`, has such a block as innermost dimension."""

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
            elif isinstance(op, (tensor.ExpandShapeOp, tensor.CollapseShapeOp)):
                self._regroup(op, blocked)
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
        if found.group and not found.is_depthwise:
            return self._loops_of_groups(op, found)
        if len(out) != 1 or len(found.in_channels) > 1:
            return {}
        if not self._fills_blocks(sizes[out[0]]) or not _is_channel(structure.output_map(op), out[0]):
            return {}
        loops = {out[0]: self.block}
        read = op.indexing_maps.data[found.input].data
        for channel in found.in_channels:
            enough = sizes[channel] >= self.block and self._fills_blocks(sizes[channel])
            if enough and _is_channel(read, channel):
                loops[channel] = self.block
        return loops

    def _loops_of_groups(self, op: GenericOp, found: structure.Convolution) -> dict[int, int]:
        """The channel loops of each group, where all fill blocks: groups follow each other without a gap."""
        if any(len(part) != 1 for part in (found.group, found.out_channels, found.in_channels)):
            return {}
        loops, sizes = (found.out_channels[0], found.in_channels[0]), structure.loop_sizes(op)
        maps = (structure.output_map(op), op.indexing_maps.data[found.input].data)
        fit = all(
            sizes[loop] > 0 and sizes[loop] % self.block == 0 and _is_channel(map_, loop, OF_GROUP)
            for loop, map_ in zip(loops, maps, strict=True)
        )
        return dict.fromkeys(loops, self.block) if fit else {}

    def _fills_blocks(self, size: int) -> bool:
        return whole_blocks(size, self.block) is not None

    def _following_loops(self, op: GenericOp, blocked: Blocked) -> dict[int, int]:
        """The channel loop of an op that reads a blocked tensor, where more of what it reads is blocked than is
        not."""
        loop: int | None = None
        ours = others = 0
        for operand, attribute in zip(structure.inputs(op), op.indexing_maps.data, strict=False):
            if not isinstance(operand.type, TensorType):
                continue
            results = attribute.data.results
            channel = results[blocked[operand].channel] if operand in blocked else None
            if isinstance(channel, AffineDimExpr):
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
        dims = [split.dims(attribute.data) for attribute in op.indexing_maps.data]
        shapes = [shape_of(operand) for operand in op._operands]
        if any(shape[d] == DYNAMIC_INDEX for shape, own in zip(shapes, dims, strict=True) for d, _ in own):
            return  # one operand's size is known, another's must be the same
        edit = Editor(op)
        count = len(op.results)
        operands: list[Packed] = []
        for index, (operand, own) in enumerate(zip(op._operands, dims, strict=True)):
            start = packed_output(operand, own, edit) if own and index >= len(op._operands) - count else None
            operands.append(Packed(start) if start is not None else self._packed(operand, own, blocked, edit))
        filled_up = self._filled_up(op, loops)
        operands = [self._summed(operand, op, n, filled_up, edit) for n, operand in enumerate(operands)]
        beyond = results_beyond(op, [self._beyond(o, op, n, filled_up) for n, o in enumerate(operands)])
        draft = Draft.of(op)
        values = [operand.value for operand in operands]
        draft.inputs, draft.outputs = values[:-count], values[-count:]
        draft.maps = [split.map(attribute.data) for attribute in op.indexing_maps.data]
        draft.iterators = list(split.iterators)
        draft.result_types = [value.type for value in draft.outputs]
        shapes = [shape_of(result) for result in op.results]
        made = draft.build()
        edit.insert(made)
        plain: list[SSAValue] = []
        for result, shape, own, rest in zip(made.results, shapes, dims[-count:], beyond, strict=True):
            packed = self._finished(Packed(result, rest), shape, own, edit)
            plain.append(unpack(packed.value, shape, own, edit) if own else result)
            if _is_standard(own, len(shape), self.block):
                blocked[plain[-1]] = replaced(packed, channel=own[0][0])
        replace(op, plain)

    def _filled_up(self, op: GenericOp, loops: dict[int, int]) -> list[int]:
        """The split loops whose last block is not full."""
        sizes = structure.loop_sizes(op)
        return [loop for loop, block in loops.items() if sizes[loop] % block]

    def _summed(self, operand: Packed, op: GenericOp, number: int, filled_up: list[int], edit: Editor) -> Packed:
        """An operand of an op that sums over channels up to the end of the last block: zeros where there are none."""
        reduced = [loop for loop in filled_up if loop in structure.reduction_dims(op)]
        read = op.indexing_maps.data[number].data.results
        if operand.beyond == 0 or not any(AffineDimExpr(loop) in read for loop in reduced):
            return operand
        channel = operand.channel
        return Packed(masked(operand.value, channel, shape_of(op._operands[number])[channel], edit))

    def _beyond(self, operand: Packed, op: GenericOp, number: int, filled_up: list[int]) -> Number:
        """What an operand is where the results are beyond the last channel: known where it has those channels too."""
        kept = [loop for loop in filled_up if loop not in structure.reduction_dims(op)]
        read = op.indexing_maps.data[number].data.results
        return operand.beyond if any(AffineDimExpr(loop) in read for loop in kept) else None

    def _finished(self, result: Packed, shape: tuple[int, ...], dims: Dims, edit: Editor) -> Packed:
        """A result whose last block is full, or of which it is known what fills it; else masked, while it is new."""
        if not _is_standard(dims, len(shape), self.block) or shape[dims[0][0]] % self.block == 0:
            return Packed(result.value)
        channel = dims[0][0]
        return result if result.beyond is not None else Packed(masked(result.value, channel, shape[channel], edit))

    def _packed(self, value: SSAValue, dims: Dims, blocked: Blocked, edit: Editor) -> Packed:
        """An operand in blocked layout, made at most once where it is the standard one."""
        if not dims:
            return Packed(value)
        standard = _is_standard(dims, len(shape_of(value)), self.block)
        if standard and value in blocked and blocked[value].channel == dims[0][0]:
            return blocked[value]
        made = self._padded(value, blocked, edit) if standard and dims[0][0] == CHANNEL else None
        packed = made or Packed(pack(value, dims, edit), channel=dims[0][0])
        if standard:
            blocked[value] = packed
        return packed

    def _padded(self, value: SSAValue, blocked: Blocked, edit: Editor) -> Packed | None:
        """A padded image in blocked layout: it is the blocked image that is padded, so that it is copied once."""
        op = value.owner
        if not isinstance(op, tensor.InsertSliceOp) or shape_of(value)[CHANNEL] % self.block:
            return None
        padded = isinstance(op._operands[1].owner, FillOp) and shape_of(op._operands[0])[CHANNEL] == shape_of(value)[CHANNEL]
        return self._inserted(op, blocked, edit) if padded else None

    # ------ groups

    def _regroup(self, op: tensor.ExpandShapeOp | tensor.CollapseShapeOp, blocked: Blocked) -> None:
        """Channels taken apart into groups of whole blocks, or groups put together: the blocked form beside the plain
        one."""
        source, result = op._operands[0], op.results[0]
        taken_apart = isinstance(op, tensor.ExpandShapeOp)
        known, grouped = blocked.get(source), shape_of(result if taken_apart else source)
        together = [tuple(i.value.data for i in group.data) for group in op.reassociation.data]
        rank = len(grouped)
        if known is None or rank <= OF_GROUP + 1 or known.channel != (CHANNEL if taken_apart else OF_GROUP):
            return
        if together != grouping(rank) or grouped[OF_GROUP] == DYNAMIC_INDEX or grouped[OF_GROUP] % self.block:
            return
        edit = Editor(op)
        shape = list(shape_of(result))
        channel = OF_GROUP if taken_apart else CHANNEL
        kind, dims = result.type, ((channel, self.block),)
        assert isinstance(kind, TensorType)
        properties: dict[str, Attribute] = {"reassociation": reassociation(grouping(rank + 1))}
        made, _ = split_shape(shape, dims)
        sizes: list[SSAValue] = []
        if taken_apart:
            properties["static_output_shape"] = DenseArrayBase.from_list(i64, made)
            sizes = list(op._operands[1:])
        value = edit.add(type(op), (known.value, *sizes), TensorType(kind.element_type, made), properties)
        blocked[result] = Packed(value, channel=channel)

    # ------ slices

    def _insert_slice(self, op: tensor.InsertSliceOp, blocked: Blocked) -> None:
        """Paddings and concatenations of blocked tensors, by whole blocks of channels."""
        source, destination = op._operands[:2]
        if source not in blocked and destination not in blocked:
            return
        edit = Editor(op)
        made = self._inserted(op, blocked, edit)
        if made is None:
            return
        shape = shape_of(op.results[0])
        made = self._finished(made, shape, ((CHANNEL, self.block),), edit)
        plain = unpack(made.value, shape, ((CHANNEL, self.block),), edit)
        blocked[plain] = made
        replace(op, plain)

    def _inserted(self, op: tensor.InsertSliceOp, blocked: Blocked, edit: Editor) -> Packed | None:
        """The blocked result of an insertion, where it is by whole blocks and into what is blocked or filled."""
        source, destination = op._operands[:2]
        properties = self._blocked_slice(op, shape_of(source), shape_of(destination))
        if properties is None or not all(self._fills_blocks(shape_of(t)[CHANNEL]) for t in (source, destination)):
            return None
        dims: Dims = ((CHANNEL, self.block),)
        known = blocked.get(destination)
        start = packed_output(destination, dims, edit) if known is None else known.value
        if start is None:
            return None
        into = known or Packed(start, filled_with(destination))
        packed = self._packed(source, dims, blocked, edit)
        operands = (packed.value, into.value, *op._operands[2:])
        value = edit.add(tensor.InsertSliceOp, operands, into.value.type, properties)
        return Packed(value, packed.beyond if packed.beyond == into.beyond else None)

    def _extract_slice(self, op: tensor.ExtractSliceOp, blocked: Blocked) -> None:
        """Parts of blocked tensors, by whole blocks of channels."""
        source, result = op._operands[0], op.results[0]
        if source not in blocked:
            return
        shape = shape_of(result)
        properties = self._blocked_slice(op, shape, shape_of(source))
        if properties is None or not self._fills_blocks(shape[CHANNEL]):
            return
        edit = Editor(op)
        dims: Dims = ((CHANNEL, self.block),)
        assert isinstance(result.type, TensorType)
        kind = TensorType(result.type.element_type, split_shape(shape, dims)[0])
        packed = blocked[source]
        value = edit.add(tensor.ExtractSliceOp, (packed.value, *op._operands[1:]), kind, properties)
        plain = unpack(value, shape, dims, edit)
        blocked[plain] = Packed(value, packed.beyond)
        replace(op, plain)

    def _blocked_slice(
        self, op: Operation, part: tuple[int, ...], whole: tuple[int, ...]
    ) -> dict[str, DenseArrayBase] | None:
        """The offsets, sizes and strides of a slice for blocked tensors; None where it cuts a block, or leaves out
        channels of one that is not full."""
        offsets, sizes, strides = (list(integers(op, f"static_{name}")) for name in ("offsets", "sizes", "strides"))
        if len(sizes) != len(part) or sizes[CHANNEL] == DYNAMIC_INDEX or offsets[CHANNEL] == DYNAMIC_INDEX:
            return None
        everything = sizes[CHANNEL] == whole[CHANNEL]
        if strides[CHANNEL] != 1 or (not everything and (offsets[CHANNEL] % self.block or sizes[CHANNEL] % self.block)):
            return None
        offsets[CHANNEL] //= self.block
        sizes[CHANNEL] = -(-sizes[CHANNEL] // self.block)
        segments = op.properties["operandSegmentSizes"]
        assert isinstance(segments, DenseArrayBase)
        return {
            "static_offsets": DenseArrayBase.from_list(i64, [*offsets, 0]),
            "static_sizes": DenseArrayBase.from_list(i64, [*sizes, self.block]),
            "static_strides": DenseArrayBase.from_list(i64, [*strides, 1]),
            "operandSegmentSizes": segments,
        }


def _is_standard(dims: Dims, rank: int, block: int) -> bool:
    """Whether a tensor is an image with blocked channels, or groups of them: the layouts that are kept between ops."""
    return (dims == ((CHANNEL, block),) and rank > 2) or (dims == ((OF_GROUP, block),) and rank > 3)


def _is_channel(map_: AffineMap, loop: int, dim: int = CHANNEL) -> bool:
    """Whether a loop indexes the channel dimension of an image map."""
    return len(map_.results) > dim and map_.results[dim] == AffineDimExpr(loop)


def grouping(rank: int) -> list[tuple[int, ...]]:
    """The reassociation that puts dimensions CHANNEL and OF_GROUP of so many together."""
    return [(0,), (CHANNEL, OF_GROUP), *((d,) for d in range(OF_GROUP + 1, rank))]


def _elements(value: SSAValue) -> int:
    total = 1
    for size in shape_of(value):
        total *= 1 if size == DYNAMIC_INDEX else size
    return total
