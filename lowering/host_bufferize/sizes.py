"""The size of every tensor in a function of values: a number, or an expression that two tensors can share.

Sizes that only depend on the arguments can be computed before anything else runs, so memory for them is
planned. All others depend on data; their tensors are allocated while the program runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from xdsl.dialects import scf, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, ArrayAttr, DenseArrayBase, IntegerAttr, IntegerType, TensorType
from xdsl.dialects.linalg.ops import FillOp, GenericOp
from xdsl.ir import Attribute, Block, BlockArgument, Operation, OpResult, SSAValue

from stepwell.dialects import host, tile
from stepwell.dialects.diagnostics import UnsupportedError


@dataclass(frozen=True)
class SizeOf:
    """The size of a tensor argument, or of a tensor that is allocated while the program runs."""

    value: SSAValue
    axis: int


@dataclass(frozen=True)
class Scalar:
    """A scalar that is no pure expression: an argument, something read from memory or carried by a loop."""

    value: SSAValue


@dataclass(frozen=True)
class Computed:
    """A pure op over sizes. Equal expressions are equal, whichever op they were read from."""

    kind: tuple[object, ...]
    operands: tuple[Size, ...]
    example: Operation = field(compare=False, repr=False)


@dataclass(frozen=True)
class Product:
    """What collapsing several dynamic dimensions into one gives."""

    factors: tuple[Size, ...]


Size: TypeAlias = int | SizeOf | Scalar | Computed | Product

TOTAL = frozenset(
    f"arith.{name}"
    for name in "addi subi muli index_cast index_castui maxsi minsi maxui minui andi ori xori extsi extui "
    "trunci cmpi select shli".split()
)
"""Ops that can be computed early even where the program would not have reached them."""

DIVISIONS = frozenset(f"arith.{name}" for name in "divsi divui remsi remui floordivsi ceildivsi ceildivui".split())
"""These as well, where the divisor is a constant other than 0 and -1."""


Numbers: TypeAlias = DenseArrayBase[IntegerType]


UNKNOWN = (
    host.ListGetOp, host.ListPopOp, host.ListConcatOp, host.ListStackOp, host.ListElementsOp, host.ListTableOp,
    host.UndefinedOp,
)  # fmt: skip
"""Ops whose results have sizes of their own, known once they have run."""


class Sizes:
    """The sizes of all tensors in a function body. `kernels` are the module's, by name."""

    def __init__(self, body: Block, kernels: Mapping[str, tile.KernelOp]) -> None:
        self.body, self.kernels = body, kernels
        self._shapes: dict[SSAValue, tuple[Size, ...]] = {}
        self._numbers: dict[Size, int] = {}
        self._scalars: dict[SSAValue, Size] = {}
        self._varying: set[tuple[SSAValue, int]] = set()
        """Dimensions of loop-carried tensors that change from one iteration to the next."""
        while self._assumption_fails():
            self._shapes.clear()
            self._scalars.clear()

    def of(self, value: SSAValue) -> tuple[Size, ...]:
        """The sizes of a tensor value, one per dimension."""
        found = self._shapes.get(value)
        if found is None:
            assert isinstance(value.type, TensorType), value.type
            static = value.type.get_shape()
            found = tuple(static)
            if DYNAMIC_INDEX in static:
                derived = self._derive(value)
                found = tuple(d if s == DYNAMIC_INDEX else s for s, d in zip(static, derived, strict=True))
            self._shapes[value] = found
        return found

    def scalar(self, value: SSAValue) -> Size:
        """An index or integer value as an expression."""
        found = self._scalars.get(value)
        if found is None:
            found = self._scalars[value] = self._read(value)
        return found

    def at_entry(self, size: Size) -> bool:
        """Whether a size can be computed from the function's arguments alone."""
        if isinstance(size, int):
            return True
        if isinstance(size, (SizeOf, Scalar)):
            return size.value.owner is self.body
        parts = size.operands if isinstance(size, Computed) else size.factors
        return all(self.at_entry(part) for part in parts)

    def number(self, size: Size) -> int:
        """A number by which sizes are put in the same order each time a program is compiled."""
        return self._numbers.setdefault(size, len(self._numbers))

    def planned(self, value: SSAValue) -> bool:
        """Whether memory for a tensor can be set aside before the program runs."""
        return all(self.at_entry(size) for size in self.of(value))

    # ------ scalars

    def _read(self, value: SSAValue) -> Size:
        op = value.owner
        if not isinstance(op, Operation):
            return Scalar(value)
        if op.name == "arith.constant" and isinstance(constant := op.properties["value"], IntegerAttr):
            return constant.value.data
        if isinstance(op, tensor.DimOp):
            axis = self.scalar(op.index)
            return self.of(op.source)[axis] if isinstance(axis, int) else Scalar(value)
        if op.name == "arith.index_cast" and isinstance(inner := self.scalar(op.operands[0]), int):
            return inner
        if op.name in TOTAL or (op.name in DIVISIONS and self._divides_safely(op)):
            kind = (op.name, value.type, *sorted(op.properties.items()))
            return Computed(kind, tuple(self.scalar(operand) for operand in op.operands), op)
        return Scalar(value)

    def _divides_safely(self, op: Operation) -> bool:
        divisor = self.scalar(op.operands[1])
        return isinstance(divisor, int) and divisor not in (0, -1)

    # ------ tensors

    def _derive(self, value: SSAValue) -> Sequence[Size]:
        if isinstance(value, BlockArgument):
            return self._of_argument(value)
        assert isinstance(value, OpResult)
        op, number = value.op, value.index
        if isinstance(op, tensor.EmptyOp):
            return self._filled(value.type, op.dynamic_sizes)
        if isinstance(op, tensor.ExpandShapeOp):
            return self.mixed(op.static_output_shape, op.dynamic_output_shape)
        if isinstance(op, tensor.CollapseShapeOp):
            source = self.of(op.src)
            return [self._product([source[i] for i in group]) for group in groups(op.reassociation)]
        if isinstance(op, tensor.CastOp):
            return self.of(op.source)
        if isinstance(op, tensor.ExtractSliceOp):
            sizes = self.mixed(op.static_sizes, op.sizes)
            return [sizes[i] for i in kept_dimensions(op.static_sizes, op.result.type)]
        if isinstance(op, tensor.InsertSliceOp):
            return self.of(op.dest)
        if isinstance(op, GenericOp):
            return self.of(op.outputs[number])
        if isinstance(op, FillOp):
            return self.of(op.outputs[0])
        if isinstance(op, tile.LaunchOp):
            return self._of_launch(op, number)
        if isinstance(op, scf.ForOp):
            return self._escaping(value, self.of(op.body.block.args[1 + number]))
        if isinstance(op, scf.WhileOp):
            return self._escaping(value, self.of(_condition(op).operands[1 + number]))
        if isinstance(op, scf.IfOp):
            return self._of_branches(op, number)
        if isinstance(op, UNKNOWN):
            return self._unknown(value)
        raise UnsupportedError(f"the size of what {op.name} gives is not known to memory planning")

    def _of_launch(self, op: tile.LaunchOp, index: int) -> Sequence[Size]:
        """What the kernel says of its result, in terms of the operands of this launch."""
        kernel = self.kernels[op.kernel.root_reference.data]
        inside = self.of(kernel.results_yielded[index])
        operands: dict[SSAValue, SSAValue] = dict(zip(kernel.body.block.args, op.operands, strict=True))
        return [self._substituted(size, operands) for size in inside]

    def _substituted(self, size: Size, operands: Mapping[SSAValue, SSAValue]) -> Size:
        if isinstance(size, SizeOf):
            return self.of(operands[size.value])[size.axis]
        if isinstance(size, Scalar):
            return self.scalar(operands[size.value])
        if isinstance(size, Computed):
            return Computed(size.kind, tuple(self._substituted(s, operands) for s in size.operands), size.example)
        if isinstance(size, Product):
            return self._product([self._substituted(s, operands) for s in size.factors])
        return size

    def _of_argument(self, value: BlockArgument) -> Sequence[Size]:
        parent = value.block.parent_op()
        if value.block is self.body or isinstance(parent, tile.KernelOp):
            return self._unknown(value)
        if isinstance(parent, scf.ForOp):
            source = parent.iter_args[value.index - 1]
        elif isinstance(parent, scf.WhileOp) and value.block is parent.before_region.block:
            source = parent.arguments[value.index]
        elif isinstance(parent, scf.WhileOp):
            source = _condition(parent).operands[1 + value.index]
        else:
            raise UnsupportedError(f"a tensor argument of {parent.name if parent else 'a block'}")
        return [
            SizeOf(value, i) if (value, i) in self._varying or not self.at_entry(size) else size
            for i, size in enumerate(self.of(source))
        ]

    def _of_branches(self, op: scf.IfOp, index: int) -> Sequence[Size]:
        result = op.results[index]
        yielded = [terminator(region.block).operands[index] for region in (op.true_region, op.false_region)]
        known = [self.of(value) for value in yielded if not isinstance(value.owner, host.UndefinedOp)]
        if known and all(sizes == known[0] for sizes in known):
            return self._escaping(result, known[0])
        return self._unknown(result)

    def _escaping(self, value: SSAValue, sizes: Sequence[Size]) -> Sequence[Size]:
        """The sizes of what a region gives outside: expressions of values inside it mean nothing there."""
        return [size if self.at_entry(size) else SizeOf(value, i) for i, size in enumerate(sizes)]

    def _unknown(self, value: SSAValue) -> Sequence[Size]:
        assert isinstance(value.type, TensorType)
        return [SizeOf(value, axis) for axis in range(value.type.get_num_dims())]

    def _filled(self, kind: Attribute, dynamic: Sequence[SSAValue]) -> Sequence[Size]:
        assert isinstance(kind, TensorType)
        given = iter(dynamic)
        return [self.scalar(next(given)) if size == DYNAMIC_INDEX else size for size in kind.get_shape()]

    def mixed(self, static: Numbers, dynamic: Sequence[SSAValue]) -> list[Size]:
        """Sizes of which the dynamic ones are operands."""
        given = iter(dynamic)
        values: list[int] = [int(v) for v in static.get_values()]
        return [self.scalar(next(given)) if size == DYNAMIC_INDEX else size for size in values]

    def _product(self, factors: Sequence[Size]) -> Size:
        constant, others = 1, list[Size]()
        for factor in factors:
            if isinstance(factor, int):
                constant *= factor
            else:
                others.append(factor)
        if not others:
            return constant
        if constant != 1:
            others.append(constant)
        return others[0] if len(others) == 1 else Product(tuple(others))

    # ------ what loops carry

    def _assumption_fails(self) -> bool:
        """Find carried dimensions that were taken for constant and are not; whether there was one."""
        before = len(self._varying)
        for op in self.body.walk():
            if isinstance(op, scf.ForOp):
                self._compare(op.body.block.args[1:], terminator(op.body.block).operands)
            elif isinstance(op, scf.WhileOp):
                self._compare(op.before_region.block.args, terminator(op.after_region.block).operands)
        return len(self._varying) > before

    def _compare(self, carried: Sequence[BlockArgument], given: Sequence[SSAValue]) -> None:
        for argument, value in zip(carried, given, strict=True):
            if not isinstance(argument.type, TensorType) or isinstance(value.owner, host.UndefinedOp):
                continue
            for axis, (old, new) in enumerate(zip(self.of(argument), self.of(value), strict=True)):
                if old != new:
                    self._varying.add((argument, axis))


def groups(reassociation: ArrayAttr[ArrayAttr[IntegerAttr]]) -> list[list[int]]:
    """The dimensions that form each collapsed dimension."""
    return [[index.value.data for index in group.data] for group in reassociation.data]


def kept_dimensions(static_sizes: Numbers, result: Attribute) -> list[int]:
    """Which dimensions of a slice its (possibly rank-reduced) type keeps: dropped ones have size 1."""
    assert isinstance(result, TensorType)
    wanted, kept = result.get_shape(), list[int]()
    for axis, size in enumerate(static_sizes.get_values()):
        if len(kept) < len(wanted) and size == wanted[len(kept)]:
            kept.append(axis)
    return kept


def terminator(block: Block) -> Operation:
    last = block.last_op
    assert last is not None
    return last


def _condition(op: scf.WhileOp) -> Operation:
    return terminator(op.before_region.block)
