"""Folds of control flow: decided branches, loops that run never or once, results that nobody reads."""

from collections.abc import Sequence

from xdsl.dialects import scf
from xdsl.ir import Block, Operation, Region, SSAValue

from stepwell.lowering.linalg.edit import Editor, Fold, Replacement, constant_integer, inline


def first_block(region: Region) -> Block | None:
    """The only block of a region; None where an `scf.if` has no else."""
    return region.first_block


def _yields(block: Block) -> tuple[SSAValue, ...]:
    assert block.last_op is not None
    return block.last_op._operands


def branch(op: Operation, edit: Editor) -> Replacement | None:
    """Fold scf.if: a constant condition, results that are equal on both sides, results without readers."""
    condition = constant_integer(op._operands[0])
    yes, no = (first_block(region) for region in op.regions)
    assert yes is not None
    if condition is not None:
        taken = yes if condition else no
        return () if taken is None else inline(taken, (), op)
    if no is None:
        return () if yes.first_op is yes.last_op and not op.results else None
    if yes.first_op is yes.last_op and no.first_op is no.last_op and not op.results:
        return ()
    return _prune_branch(op, yes, no)


def _prune_branch(op: Operation, yes: Block, no: Block) -> Replacement | None:
    kept: list[int] = []
    for index, (a, b) in enumerate(zip(_yields(yes), _yields(no), strict=True)):
        result = op.results[index]
        if a is b:
            result.replace_all_uses_with(a)
        elif result.first_use is not None:
            kept.append(index)
    if len(kept) == len(op.results):
        return None
    for block in (yes, no):
        _keep_operands(block, kept)
    smaller = scf.IfOp.create(
        operands=op.operands,
        result_types=[op.results[i].type for i in kept],
        regions=[op.detach_region(0), op.detach_region(0)],
        attributes=op.attributes,
        location=op.location,
    )
    return _in_place_of(op, smaller, kept)


def _keep_operands(block: Block, kept: Sequence[int]) -> None:
    terminator = block.last_op
    assert terminator is not None
    terminator.operands = [terminator._operands[i] for i in kept]


def _in_place_of(op: Operation, smaller: Operation, kept: Sequence[int]) -> Replacement:
    """Insert a copy of `op` that has only the kept results; values for all of the op's results."""
    assert op.parent is not None
    op.parent.insert_op_before(smaller, op)
    for position, index in enumerate(kept):
        op.results[index].replace_all_uses_with(smaller.results[position])
    return tuple(op.results)


def trips(op: Operation) -> int | None:
    """How many times an scf.for runs, where its bounds are constants."""
    lower, upper, step = (constant_integer(operand) for operand in op._operands[:3])
    if lower is None or upper is None or step is None or step <= 0:
        return 0 if lower is not None and lower == upper else None
    return max(0, -(-(upper - lower) // step))


def loop(op: Operation, edit: Editor) -> Replacement | None:
    """Fold scf.for: no or one iteration, carried values that never change or that nobody reads."""
    count = trips(op)
    block = first_block(op.regions[0])
    assert block is not None
    if count == 0:
        return op._operands[3:]
    if count == 1:
        return inline(block, (op._operands[0], *op._operands[3:]), op)
    kept: list[int] = []
    for index, yielded in enumerate(_yields(block)):
        carried, initial, result = block.args[1 + index], op._operands[3 + index], op.results[index]
        if yielded is carried or yielded is initial:
            carried.replace_all_uses_with(initial)
            result.replace_all_uses_with(initial)
        elif result.first_use is not None or not _only_feeds_itself(block, index):
            kept.append(index)
    if len(kept) == len(op.results):
        return None
    for index in reversed(range(len(op.results))):
        if index not in kept:
            carried = block.args[1 + index]
            carried.replace_all_uses_with(op._operands[3 + index])
            block.erase_arg(carried)
    _keep_operands(block, kept)
    smaller = scf.ForOp.create(
        operands=[*op._operands[:3], *(op._operands[3 + i] for i in kept)],
        result_types=[op.results[i].type for i in kept],
        regions=[op.detach_region(0)],
        attributes=op.attributes,
        location=op.location,
    )
    return _in_place_of(op, smaller, kept)


def _only_feeds_itself(block: Block, index: int) -> bool:
    """Whether a carried value is read, if at all, only on the way to its own next value (which is removed with
    it): a chain of ops with one reader each, from the argument to the yield."""
    value: SSAValue = block.args[1 + index]
    while value.first_use is not None:
        user = value.first_use.operation
        if any(use.operation is not user for use in value.uses):
            return False
        if user is block.last_op:
            return all(use.index == index for use in value.uses)
        if user.parent is not block or len(user.results) != 1 or user.regions or user.name.startswith("host."):
            return False
        value = user.results[0]
    return True


FOLDS: dict[str, Fold] = {"scf.if": branch, "scf.for": loop}
"""Op name to fold."""
