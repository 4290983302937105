"""vector -> llvm vectors (one dimension). Masked accesses become masked intrinsics, shuffles shufflevector."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import cast

from xdsl.dialects import llvm, vector
from xdsl.dialects.builtin import (
    DenseArrayBase,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    VectorType,
    f32,
    f64,
    i1,
    i32,
    i64,
)
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Operation, SSAValue

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.upstream import core
from stepwell.dialects.upstream import llvm as upstream
from stepwell.lowering.loops_to_llvm.arithmetic import (
    STRICT_PROPERTIES,
    Handler,
    bitcast,
    compare,
    elements,
    fused_multiply_add,
    is_integral,
    splat,
)
from stepwell.lowering.loops_to_llvm.builder import DYNAMIC_GEP, GEP_FLAGS, WRAPS, FunctionLowering
from stepwell.lowering.loops_to_llvm.memory import from_memory, load, store, to_memory
from stepwell.lowering.loops_to_llvm.support import call_intrinsic
from stepwell.lowering.loops_to_llvm.types import POINTER, byte_size

TREE = llvm.FastMathAttr([FastMathFlag.REASSOC])
"""A horizontal sum adds as a tree: the order depends on the vector's type only."""


def vector_type(kind: Attribute) -> VectorType[Attribute]:
    """The same, known to be a vector."""
    if not isinstance(kind, VectorType):
        raise UnsupportedError(f"{kind} is no vector")
    return kind


def lanes(kind: Attribute) -> int:
    """Elements of a vector of one dimension."""
    return vector_type(kind).get_shape()[0]


def shuffle_of(lower: FunctionLowering, a: SSAValue, b: SSAValue, mask: list[int]) -> SSAValue:
    """shufflevector; -1 leaves a lane undefined."""
    kind, properties = _shuffle(vector_type(a.type).element_type, tuple(mask))
    return lower.emit(llvm.ShuffleVectorOp, (a, b), kind, properties)


@cache
def _shuffle(element: Attribute, mask: tuple[int, ...]) -> tuple[VectorType[Attribute], Mapping[str, Attribute]]:
    """The result's type and the properties of a shuffle."""
    return VectorType(element, [len(mask)]), {"mask": DenseArrayBase.from_list(i32, mask)}


def poison(lower: FunctionLowering, kind: Attribute) -> SSAValue:
    """A vector whose lanes are all still to be written."""
    return lower.emit(upstream.PoisonOp, (), kind)


def spread(lower: FunctionLowering, value: SSAValue, kind: Attribute) -> SSAValue:
    """All lanes of an llvm vector type equal to a scalar."""
    owner = value.owner
    if isinstance(owner, llvm.ConstantOp) and isinstance(owner.value, (IntegerAttr, FloatAttr)):
        number = owner.value.value.data
        return splat(lower, -number if kind == i1 else number, kind)
    start = lower.emit(
        llvm.InsertElementOp, (lower.once(upstream.PoisonOp, (), kind, key=kind), value, lower.integer(0)), kind
    )
    return shuffle_of(lower, start, start, [0] * lanes(kind))


def broadcast(lower: FunctionLowering, op: Operation) -> None:
    """A scalar, or a vector of one lane, in all lanes."""
    operand, result = op.operands[0], op.results[0]
    kind = lower.types.value(result.type)
    value = lower.value(operand)
    if isinstance(value.type, VectorType):
        have = lanes(value.type)
        same = have == lanes(kind)
        if not same and have != 1:
            raise UnsupportedError(f"vector.broadcast from {value.type} to {kind}")
        lower.values[result] = value if same else shuffle_of(lower, value, value, [0] * lanes(kind))
    else:
        lower.values[result] = spread(lower, value, kind)


def masked_load(lower: FunctionLowering, op: Operation) -> None:
    """Lanes without mask are not touched in memory and come from the pass-through."""
    source, *indices, mask, pass_through = op.operands
    buffer, result = lower.buffers[source], op.results[0]
    kind = lower.types.memory(result.type)
    operands = (
        lower.address(buffer, indices),
        lower.value(mask),
        to_memory(lower, lower.value(pass_through)),
    )
    alignment = IntegerAttr(byte_size(buffer.element), i32)
    loaded = lower.emit(upstream.MaskedLoadOp, operands, kind, {"alignment": alignment})
    lower.values[result] = from_memory(lower, loaded, result.type)


def masked_store(lower: FunctionLowering, op: Operation) -> None:
    """Lanes without mask are not written."""
    target, *indices, mask, value = op.operands
    buffer = lower.buffers[target]
    operands = (to_memory(lower, lower.value(value)), lower.address(buffer, indices), lower.value(mask))
    alignment = IntegerAttr(byte_size(buffer.element), i32)
    lower.build(upstream.MaskedStoreOp, operands, (), {"alignment": alignment})


def position(lower: FunctionLowering, op: Operation, dynamic: tuple[SSAValue, ...]) -> SSAValue:
    """The lane that vector.extract or insert is about."""
    static = cast("DenseArrayBase[IntegerType]", op.properties["static_position"]).get_values()
    if len(static) != 1:
        raise UnsupportedError(f"{op.name} of {len(static)} positions: vectors have one dimension here")
    return lower.value(dynamic[0]) if dynamic else lower.integer(static[0])


def extract(lower: FunctionLowering, op: Operation) -> None:
    """One lane."""
    source, *dynamic = op.operands
    value = lower.value(source)
    lane = position(lower, op, tuple(dynamic))
    element = vector_type(value.type).element_type
    lower.values[op.results[0]] = lower.emit(upstream.ExtractElementOp, (value, lane), element)


def insert(lower: FunctionLowering, op: Operation) -> None:
    """The vector with one lane replaced."""
    value, target, *dynamic = op.operands
    into = lower.value(target)
    operands = (into, lower.value(value), position(lower, op, tuple(dynamic)))
    lower.values[op.results[0]] = lower.emit(llvm.InsertElementOp, operands, into.type)


def shuffle(lower: FunctionLowering, op: Operation) -> None:
    """Lanes of two vectors by number; a shorter one is widened first."""
    left, right = (lower.value(operand) for operand in op.operands)
    mask = list(cast("DenseArrayBase[IntegerType]", op.properties["mask"]).get_values())
    a, b = lanes(left.type), lanes(right.type)
    if a != b:
        wide = max(a, b)
        left, right = (
            v
            if lanes(v.type) == wide
            else shuffle_of(lower, v, v, [*range(lanes(v.type)), *[-1] * (wide - lanes(v.type))])
            for v in (left, right)
        )
        mask = [lane if lane < a else lane - a + wide for lane in mask]
    lower.values[op.results[0]] = shuffle_of(lower, left, right, mask)


def create_mask(lower: FunctionLowering, op: Operation) -> None:
    """The first n lanes set: lane number < n, compared in 32 bits after clamping n to the lanes."""
    if len(op.operands) != 1:
        raise UnsupportedError("vector.create_mask of more than one dimension")
    kind = lower.types.value(op.results[0].type)
    count = lanes(kind)
    known = lower.known.get(op.operands[0])
    if known is not None:
        bits = [int(lane < known) for lane in range(count)]
        value = elements(VectorType(i1, [count]), bits)
        lower.values[op.results[0]] = lower.constant(kind, value, ("mask", *bits))
        return
    bound = lower.emit(upstream.INTRINSICS["llvm.intr.smin"], (lower.value(op.operands[0]), lower.integer(count)), i64)
    bound = lower.emit(upstream.INTRINSICS["llvm.intr.smax"], (bound, lower.integer(0)), i64)
    bound = lower.emit(llvm.TruncOp, (bound,), i32)
    wide = VectorType(i32, [count])
    lower.values[op.results[0]] = compare(lower, "slt", numbers(lower, wide), spread(lower, bound, wide))


def numbers(lower: FunctionLowering, kind: VectorType[IntegerType]) -> SSAValue:
    """0, 1, 2, ..."""
    values = list(range(lanes(kind)))
    return lower.constant(kind, elements(kind, values), ("step", len(values)))


def step(lower: FunctionLowering, op: Operation) -> None:
    """vector.step."""
    kind = lower.types.value(op.results[0].type)
    lower.values[op.results[0]] = numbers(lower, kind)  # type: ignore[arg-type]


_REDUCTIONS = {
    "add": "add", "mul": "mul", "and": "and", "or": "or", "xor": "xor",
    "minui": "umin", "minsi": "smin", "maxui": "umax", "maxsi": "smax",
    "minnumf": "fmin", "maxnumf": "fmax", "minimumf": "fminimum", "maximumf": "fmaximum",
}  # fmt: skip
"""vector.kind -> the suffix of llvm.intr.vector.reduce."""

_COMBINE: dict[str, type[Operation]] = {
    "add": llvm.AddOp, "mul": llvm.MulOp, "and": llvm.AndOp, "or": llvm.OrOp, "xor": llvm.XOrOp,
    "minui": upstream.INTRINSICS["llvm.intr.umin"], "minsi": upstream.INTRINSICS["llvm.intr.smin"],
    "maxui": upstream.INTRINSICS["llvm.intr.umax"], "maxsi": upstream.INTRINSICS["llvm.intr.smax"],
    "minnumf": llvm.VectorFMinOp, "maxnumf": llvm.VectorFMaxOp,
    "minimumf": upstream.INTRINSICS["llvm.intr.minimum"],
    "maximumf": upstream.INTRINSICS["llvm.intr.maximum"],
}  # fmt: skip
"""How the accumulator joins a reduction that does not take it itself."""


def reduction(lower: FunctionLowering, op: Operation) -> None:
    """All lanes combined, with an accumulator if there is one."""
    kind = str(cast("vector.CombiningKindAttr", op.properties["kind"]).data)
    source = lower.value(op.operands[0])
    start = lower.value(op.operands[1]) if len(op.operands) > 1 else None
    element = vector_type(source.type).element_type
    result = op.results[0]
    if kind in ("add", "mul") and not is_integral(element):
        reduce = llvm.VectorReduceFAddOp if kind == "add" else llvm.VectorReduceFMulOp
        first = start if start is not None else lower.number(-0.0 if kind == "add" else 1.0, element)
        lower.values[result] = lower.emit(reduce, (first, source), element, {"fastmathFlags": TREE})
        return
    name = f"llvm.intr.vector.reduce.{_REDUCTIONS[kind]}"
    properties = {} if is_integral(element) else STRICT_PROPERTIES
    value = lower.emit(upstream.INTRINSICS[name], (source,), element, properties)
    if start is not None:
        combine = WRAPS if kind in ("add", "mul") else properties
        value = lower.emit(_COMBINE[kind], (start, value), element, combine)
    lower.values[result] = value


def _lane_pointers(lower: FunctionLowering, op: Operation, offsets: list[SSAValue], indices: SSAValue) -> SSAValue:
    """The vector of addresses of a gather or scatter."""
    buffer = lower.buffers[op.operands[0]]
    base = lower.address(buffer, offsets)
    if buffer.strides and buffer.strides[-1] != 1:
        raise UnsupportedError(f"{op.name} on a memref whose last stride is not 1")
    count = lanes(indices.type)
    return lower.emit(
        upstream.GEPOp,
        (base, lower.value(indices)),
        VectorType(POINTER, [count]),
        {
            "elem_type": lower.types.memory(buffer.element),
            "rawConstantIndices": DYNAMIC_GEP,
            "noWrapFlags": GEP_FLAGS,
        },
    )


def gather(lower: FunctionLowering, op: Operation) -> None:
    """One element per lane from base[offsets + index]."""
    _, *offsets, indices, mask, pass_through = op.operands
    result = op.results[0]
    buffer = lower.buffers[op.operands[0]]
    pointers = _lane_pointers(lower, op, offsets, indices)
    operands = (pointers, lower.value(mask), to_memory(lower, lower.value(pass_through)))
    alignment = IntegerAttr(byte_size(buffer.element), i32)
    loaded = lower.emit(upstream.MaskedGatherOp, operands, lower.types.memory(result.type), {"alignment": alignment})
    lower.values[result] = from_memory(lower, loaded, result.type)


def scatter(lower: FunctionLowering, op: Operation) -> None:
    """One element per lane to base[offsets + index]; where two lanes meet, the later one stays."""
    _, *offsets, indices, mask, value = op.operands
    buffer = lower.buffers[op.operands[0]]
    pointers = _lane_pointers(lower, op, offsets, indices)
    operands = (to_memory(lower, lower.value(value)), pointers, lower.value(mask))
    alignment = IntegerAttr(byte_size(buffer.element), i32)
    lower.build(upstream.MaskedScatterOp, operands, (), {"alignment": alignment})


def scale(lower: FunctionLowering, op: Operation) -> None:
    """AVX-512's own instruction."""
    kind = op.results[0].type
    assert isinstance(kind, VectorType)
    name = {f32: "ps", f64: "pd"}[kind.element_type]
    operands = tuple(lower.value(operand) for operand in op.operands)
    value = call_intrinsic(lower, f"llvm.x86.avx512.mask.scalef.{name}.512", operands, kind)
    assert value is not None
    lower.values[op.results[0]] = value


HANDLERS: dict[type[Operation], Handler] = {
    vector.LoadOp: load,
    vector.StoreOp: store,
    vector.MaskedLoadOp: masked_load,
    vector.MaskedStoreOp: masked_store,
    vector.FMAOp: fused_multiply_add,
    vector.BroadcastOp: broadcast,
    vector.ExtractOp: extract,
    vector.InsertOp: insert,
    vector.ShuffleOp: shuffle,
    vector.CreateMaskOp: create_mask,
    vector.ReductionOp: reduction,
    vector.BitcastOp: bitcast,
    core.StepOp: step,
    core.GatherOp: gather,
    core.ScatterOp: scatter,
    core.ScaleFOp: scale,
}
