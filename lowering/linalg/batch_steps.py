"""`batch-steps`: what the steps of a loop multiply by one weight is multiplied for all steps at once.

    for step:                                   xs[T, 1, k] = x's rows; p = xs * w           (one product of T rows)
      p = x[step] * w; q = hidden * v     =>    for step: q = hidden * v; hidden = f(p[step], q); keep hidden
      hidden = f(p, q)                          r = kept * u
      state = g(hidden * u, state)              for step: state = g(r[step], state)

A weight that is multiplied by one row at a time is read once per step, and a step waits for it; a product of all steps
reads it once. A product can be taken out where its row does not depend on its own earlier results. What computes the
row gets a loop of its own, which keeps the rows; the rest of the loop reads the products. This is loop distribution (D.
Kuck et al., "Dependence graphs and compiler optimizations", 1981), as cuDNN does it for recurrent layers by hand (J.
Appleyard et al., "Optimizing performance of recurrent neural networks on GPUs", 2016).

Only loops of a known number of steps that compute tensors and append to lists are divided: nothing in them can fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod

from xdsl.context import Context
from xdsl.dialects import scf, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    DenseArrayBase,
    FixedBitwidthType,
    ModuleOp,
    TensorType,
    i64,
)
from xdsl.dialects.linalg.ops import FillOp, GenericOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap

from stepwell.dialects import host
from stepwell.dialects.quick_ir import segments
from stepwell.lowering.analysis.affine import renumber
from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.blocking import filled
from stepwell.lowering.linalg.control import trips
from stepwell.lowering.linalg.dce import Dce
from stepwell.lowering.linalg.edit import INDEX, Editor, constant_integer, replace
from stepwell.lowering.linalg.generics import PARALLEL, Draft, filled_with
from stepwell.lowering.linalg.hoist_constants import read_outside
from stepwell.lowering.linalg.shapes import integers, is_static, reshaped, shape_of
from stepwell.lowering.pass_ import Pass

PLAIN = ("arith", "math", "linalg", "tensor")
"""Dialects whose ops cannot fail, and change nothing."""

PAYS = 4
"""A weight has to be so many times as large as what one step keeps."""

MOST_BYTES = 64 << 20
"""All that the steps of a loop keep takes no more than this."""


@dataclass
class Part:
    """Ops of a loop's body that some values need, in order, and what they carry from step to step."""

    ops: set[Operation] = field(default_factory=set)
    carried: set[int] = field(default_factory=set)


class Steps:
    """A loop whose steps are looked at one by one."""

    def __init__(self, loop: scf.ForOp, count: int) -> None:
        self.loop, self.count = loop, count
        self.body = loop.body.block
        last = self.body.last_op
        assert last is not None
        self.yielded = list(last._operands)

    def part(self, values: Iterable[SSAValue]) -> Part:
        """What some values need."""
        found, pending = Part(), list(values)
        while pending:
            value = pending.pop()
            if (number := self.carried(value)) is not None:
                if number not in found.carried:
                    found.carried.add(number)
                    pending.append(self.yielded[number])
            elif isinstance(value.owner, Operation) and value.owner.parent is self.body and value.owner not in found.ops:
                found.ops.add(value.owner)
                pending += read_outside(value.owner)
        return found

    def carried(self, value: SSAValue) -> int | None:
        """The number of a carried value; None for every other value, the counter too."""
        return value.index - 1 if value in self.body.args[1:] else None  # type: ignore[attr-defined]

    def is_inside(self, value: SSAValue) -> bool:
        """Whether a value may differ from step to step."""
        owner = value.owner
        return owner is self.body or (isinstance(owner, Operation) and owner.parent is self.body)


def steps_of(loop: scf.ForOp) -> Steps | None:
    """A loop from 0 on in steps of 1 that can be divided; None for any other."""
    count = trips(loop)
    bounds = [constant_integer(value) for value in (loop.lb, loop.step)]
    if count is None or count < 2 or bounds != [0, 1]:
        return None
    ops = list(loop.body.block.ops)[:-1]
    plain = all(op.dialect_name() in PLAIN or isinstance(op, host.ListAppendOp) for op in ops)
    return Steps(loop, count) if plain else None


# What can be taken out -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """A product to be taken out: what its row needs, what else there is, and what that reads of the former."""

    product: GenericOp
    row: SSAValue
    before: Part
    after: Part
    kept: tuple[SSAValue, ...]
    """Values of the part before that are kept for all steps."""


def plan(steps: Steps) -> Plan | None:
    """The first product that is worth it."""
    for op in steps.body.ops:
        found = _plan(steps, op) if isinstance(op, GenericOp) else None
        if found is not None:
            return found
    return None


def _plan(steps: Steps, op: GenericOp) -> Plan | None:
    dims = structure.contraction(op)
    if dims is None or dims.batch or not dims.n or not dims.k:
        return None
    row, weight, start = op._operands[dims.lhs], op._operands[dims.rhs], structure.outputs(op)[0]
    if steps.is_inside(weight) or not steps.is_inside(row) or filled_with(start) is None:
        return None
    if not all(is_static(value) for value in (row, weight, start)) or not shape_of(row):
        return None
    before = steps.part([row])
    if op in before.ops:
        return None
    after, kept = _rest(steps, op, before)
    if whole_rows(steps, row) is None:
        kept = [row, *(value for value in kept if value is not row)]
    elif before.carried:
        return None
    if not all(isinstance(value.type, TensorType) and is_static(value) and shape_of(value) for value in kept):
        return None
    each = sum(bytes_of(value) for value in (*kept, start))
    if bytes_of(weight) < PAYS * each or each * steps.count > MOST_BYTES:
        return None
    return Plan(op, row, before, after, tuple(kept))


def _rest(steps: Steps, product: GenericOp, before: Part) -> tuple[Part, list[SSAValue]]:
    """What the values need that the part before does not carry, if a product is there already, and what of the part
    before that reads: results of its kernels. Views and numbers are made again."""
    after, kept = Part(), dict[SSAValue, None]()
    after.carried.update(number for number in range(len(steps.yielded)) if number not in before.carried)
    pending = [steps.yielded[number] for number in after.carried]
    while pending:
        value = pending.pop()
        owner, number = value.owner, steps.carried(value)
        if number is not None:
            if number in before.carried:
                kept[value] = None
        elif isinstance(owner, Operation) and owner.parent is steps.body and owner is not product:
            if owner in before.ops and (isinstance(owner, GenericOp) or steps.part([value]).carried):
                kept[value] = None
            elif owner not in after.ops:
                after.ops.add(owner)
                pending += read_outside(owner)
    return after, list(kept)


def bytes_of(value: SSAValue) -> int:
    """The size of a static tensor."""
    kind = value.type
    assert isinstance(kind, TensorType)
    element = kind.element_type
    return prod(kind.get_shape()) * (element.size if isinstance(element, FixedBitwidthType) else 8)


def whole_rows(steps: Steps, row: SSAValue) -> SSAValue | None:
    """The tensor of which step i takes row i as it is; None where the row is anything else."""
    while isinstance(row.owner, (tensor.CollapseShapeOp, tensor.ExpandShapeOp)) and row.owner.parent is steps.body:
        row = row.owner._operands[0]
    op = row.owner
    if not isinstance(op, tensor.ExtractSliceOp) or op.parent is not steps.body or steps.is_inside(op.source):
        return None
    shape = shape_of(op.source)
    offsets, sizes, strides = (integers(op, f"static_{name}") for name in ("offsets", "sizes", "strides"))
    first = offsets[0] == DYNAMIC_INDEX and op._operands[1:] == (steps.body.args[0],)
    plain = not any(offsets[1:]) and set(strides) == {1} and tuple(sizes) == (1, *shape[1:])
    return op.source if first and plain and shape[0] == steps.count else None


# Taking it out -------------------------------------------------------------------------------------------------


def divide(steps: Steps, found: Plan) -> list[scf.ForOp]:
    """Write the loops, and the product between them, in place of a loop; the loops."""
    edit, loops = Editor(steps.loop), list[scf.ForOp]()
    results: dict[int, SSAValue] = {}
    rows: dict[SSAValue, SSAValue] = {}
    if found.kept:
        tables = [_table(steps, value, edit) for value in found.kept]
        made = _loop(steps, found.before, {}, edit, found.kept, tables)
        loops.append(made)
        carried = len(found.before.carried)
        results.update(zip(sorted(found.before.carried), made.results[:carried], strict=True))
        rows.update(zip(found.kept, made.results[carried:], strict=True))
    whole = whole_rows(steps, found.row)
    table = rows[found.row] if whole is None else reshaped(whole, (steps.count, *shape_of(found.row)), edit)
    given = {**rows, found.product.results[0]: _product(steps, found, table, edit)}
    if found.after.carried:
        made = _loop(steps, found.after, given, edit, (), ())
        loops.append(made)
        results.update(zip(sorted(found.after.carried), made.results, strict=True))
    replace(steps.loop, [results[number] for number in range(len(steps.yielded))])
    return loops


def _table(steps: Steps, value: SSAValue, edit: Editor) -> SSAValue:
    """A tensor for a value of every step."""
    assert isinstance(value.type, TensorType)
    return edit.add(tensor.EmptyOp, (), TensorType(value.type.element_type, [steps.count, *shape_of(value)]))


def _product(steps: Steps, found: Plan, table: SSAValue, edit: Editor) -> SSAValue:
    """The product of all rows, with the loop over steps outside."""
    op, dims = found.product, structure.contraction(found.product)
    assert dims is not None
    start = structure.outputs(op)[0]
    loops = len(op.iterator_types.data)
    shifted = [AffineDimExpr(d + 1) for d in range(loops)]
    draft = Draft.of(op)
    draft.block = op.regions[0].clone().block
    maps = [renumber(map_, shifted, loops + 1) for map_ in draft.maps]
    for number in (dims.lhs, 2):
        maps[number] = AffineMap(loops + 1, 0, (AffineDimExpr(0), *maps[number].results))
    owner = start.owner
    assert isinstance(owner, FillOp)
    draft.maps, draft.iterators = maps, [PARALLEL, *draft.iterators]
    draft.inputs[dims.lhs] = table
    draft.outputs = [filled(_table(steps, start, edit), edit, owner._operands[0])]
    draft.result_types = [draft.outputs[0].type]
    draft.location = op.location
    return edit.insert(draft.build()).results[0]


def _loop(
    steps: Steps,
    part: Part,
    given: dict[SSAValue, SSAValue],
    edit: Editor,
    kept: Sequence[SSAValue],
    tables: Sequence[SSAValue],
) -> scf.ForOp:
    """The loop over a part of the body. `given` are values with a table of all steps to read from; `kept` are put
    into tables, which are the last results."""
    loop, carried = steps.loop, sorted(part.carried)
    starts = [*(loop.iter_args[number] for number in carried), *tables]
    kinds = [value.type for value in starts]
    block = Block(arg_types=[INDEX, *kinds])
    end = scf.YieldOp()
    block.add_op(end)
    inside = Editor(end)
    copies: dict[SSAValue, SSAValue] = {steps.body.args[0]: block.args[0]}
    copies.update(zip((steps.body.args[1 + number] for number in carried), block.args[1:], strict=False))
    for value, table in given.items():
        copies[value] = _read(table, value, block.args[0], inside)
    for op in steps.body.ops:
        if op in part.ops:
            copy = op.clone(copies)
            copy.location = op.location
            inside.insert(copy)
    last = [copies.get(steps.yielded[number], steps.yielded[number]) for number in carried]
    for value, table in zip(kept, block.args[1 + len(carried) :], strict=True):
        last.append(_write(copies[value], table, block.args[0], inside))
    end.operands = last
    made = scf.ForOp.create(
        operands=[loop.lb, loop.ub, loop.step, *starts], result_types=kinds, regions=[Region(block)],
        location=loop.location,
    )  # fmt: skip
    edit.insert(made)
    return made


def _place(shape: Sequence[int], sizes: tuple[int, ...]) -> dict[str, Attribute]:
    """The properties of a slice of a table at a step."""
    parts = {
        "offsets": [DYNAMIC_INDEX] + [0] * len(shape), "sizes": [1, *shape], "strides": [1] * (1 + len(shape)),
    }  # fmt: skip
    found: dict[str, Attribute] = {
        f"static_{name}": DenseArrayBase.from_list(i64, part) for name, part in parts.items()
    }
    return {**found, "operandSegmentSizes": segments(*sizes)}


def _read(table: SSAValue, value: SSAValue, step: SSAValue, edit: Editor) -> SSAValue:
    """A value's row of its table."""
    shape = shape_of(value)
    assert isinstance(value.type, TensorType)
    kind = TensorType(value.type.element_type, [1, *shape])
    row = edit.add(tensor.ExtractSliceOp, (table, step), kind, _place(shape, (1, 1, 0, 0)))
    return reshaped(row, shape, edit)


def _write(value: SSAValue, table: SSAValue, step: SSAValue, edit: Editor) -> SSAValue:
    """A table with a value in a step's row."""
    shape = shape_of(value)
    row = reshaped(value, (1, *shape), edit)
    return edit.add(tensor.InsertSliceOp, (row, table, step), table.type, _place(shape, (1, 1, 1, 0, 0)))


@dataclass(frozen=True)
class BatchSteps(Pass):
    """Take products with outside factors out of loops, where they do not wait for themselves. After: no loop of a
    known number of steps reads a large weight for a row that could have been computed before it."""

    name = "batch-steps"

    def apply(self, module: ModuleOp, context: Context) -> None:
        """The parts of a divided loop are looked at again."""
        pending = [op for op in module.walk() if isinstance(op, scf.ForOp)]
        divided = False
        while pending:
            loop = pending.pop()
            steps = steps_of(loop)
            found = plan(steps) if steps is not None else None
            if steps is not None and found is not None:
                pending += divide(steps, found)
                divided = True
        if divided:
            Dce().apply(module, context)


__all__ = ["BatchSteps"]
