"""A kernel's body read as a graph: which op makes each tensor, and which sizes are the same.

Sizes are found by unification: dimension i of a loop nest and axis k of an operand are one size where the
operand's map reads axis k at plain `d_i`. So a dynamic size has one name in the whole kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.dialects import tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerAttr, TensorType
from xdsl.dialects.linalg.ops import FillOp, GenericOp
from xdsl.ir import Block, BlockArgument, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.tile import KernelOp
from stepwell.lowering.linalg.structure import body, is_parallel, maps, parallel_dims, reduction_dims, yielded


@dataclass(frozen=True, eq=False)
class Node:
    """A linalg.generic of the kernel, with what is asked of it again and again."""

    op: GenericOp
    inputs: tuple[SSAValue, ...]
    inits: tuple[SSAValue, ...]
    maps: tuple[AffineMap, ...]
    parallel: tuple[int, ...]
    reduced: tuple[int, ...]
    body: Block
    yielded: tuple[SSAValue, ...]
    reads: tuple[bool, ...]
    """Whether the body reads each operand's argument."""

    @property
    def rank(self) -> int:
        """How many loops there are."""
        return len(self.parallel) + len(self.reduced)

    def result_map(self, number: int) -> AffineMap:
        """Where result `number` of a point goes."""
        return self.maps[len(self.inputs) + number]


def node_of(op: GenericOp) -> Node:
    count = len(op._operands) - len(op.results)
    block = body(op)
    return Node(
        op,
        op._operands[:count],
        op._operands[count:],
        maps(op),
        parallel_dims(op),
        reduction_dims(op),
        block,
        yielded(op),
        tuple(arg.first_use is not None for arg in block.args),
    )


Axis = tuple[object, int]
"""(id of a tensor value, axis) or (id of a generic, loop)."""


class Graph:
    """The body of a kernel."""

    def __init__(self, kernel: KernelOp) -> None:
        self.kernel = kernel
        self.block = kernel.body.block
        self.nodes: dict[Operation, Node] = {}
        self.fills: dict[SSAValue, SSAValue] = {}
        """Tensors that hold one scalar everywhere."""
        self.empties: set[SSAValue] = set()
        self.roots = kernel.results_yielded
        self._parent: dict[Axis, Axis] = {}
        self._static: dict[Axis, int] = {}
        self._sources: dict[Axis, SSAValue | tuple[BlockArgument, int]] = {}
        for argument in self.block.args:
            self._add_tensor(argument)
        for op in self.block.ops:
            self._add_op(op)

    def node(self, value: SSAValue) -> Node | None:
        """The generic that makes a tensor."""
        return self.nodes.get(value.owner) if isinstance(value.owner, Operation) else None

    def _add_op(self, op: Operation) -> None:
        if isinstance(op, GenericOp):
            node = self.nodes[op] = node_of(op)
            for value in op.results:
                self._add_tensor(value)
            for value, init in zip(op.results, node.inits, strict=True):
                self._same_shape(value, init)
            for operand, map_ in zip(op._operands, node.maps, strict=True):
                for axis, expression in enumerate(map_.results):
                    if isinstance(expression, AffineDimExpr):
                        self._unite((id(op), expression.position), (id(operand), axis))
        elif isinstance(op, FillOp):
            result = op.results[0]
            self._add_tensor(result)
            self.fills[result] = op.operands[0]
            self._same_shape(result, op.operands[1])
        elif isinstance(op, tensor.EmptyOp):
            result = op.results[0]
            self._add_tensor(result)
            self.empties.add(result)
            dynamic = iter(op.operands)
            for axis, size in enumerate(result.type.get_shape()):  # type: ignore[attr-defined]
                if size == DYNAMIC_INDEX:
                    self._name((id(result), axis), next(dynamic))

    def _add_tensor(self, value: SSAValue) -> None:
        kind = value.type
        if not isinstance(kind, TensorType):
            return
        for axis, size in enumerate(kind.get_shape()):
            if size != DYNAMIC_INDEX:
                self._static[self._find((id(value), axis))] = size
            elif isinstance(value, BlockArgument):
                self._sources[self._find((id(value), axis))] = (value, axis)

    def _name(self, axis: Axis, size: SSAValue) -> None:
        """A dynamic size given as a value: another tensor's, or a scalar."""
        owner = size.owner
        if isinstance(owner, tensor.DimOp):
            constant = owner.operands[1].owner
            if isinstance(constant, Operation) and isinstance(number := constant.properties.get("value"), IntegerAttr):
                self._unite(axis, (id(owner.operands[0]), number.value.data))
                return
        self._sources.setdefault(self._find(axis), size)

    def _same_shape(self, a: SSAValue, b: SSAValue) -> None:
        if isinstance(a.type, TensorType):
            for axis in range(a.type.get_num_dims()):
                self._unite((id(a), axis), (id(b), axis))

    def _find(self, axis: Axis) -> Axis:
        while (parent := self._parent.get(axis, axis)) != axis:
            axis = parent
        return axis

    def _unite(self, a: Axis, b: Axis) -> None:
        first, second = self._find(a), self._find(b)
        if first == second:
            return
        self._parent[second] = first
        if second in self._static:
            self._static.setdefault(first, self._static.pop(second))
        if second in self._sources:
            self._sources.setdefault(first, self._sources.pop(second))

    def size_class(self, owner: object, axis: int) -> Axis:
        """The name of a size: equal for sizes that are known to be equal."""
        return self._find((id(owner), axis))

    def static_size(self, owner: object, axis: int) -> int | None:
        """The size of an axis of a tensor or a loop of an op, where it is static."""
        return self._static.get(self._find((id(owner), axis)))

    def size_source(self, owner: object, axis: int) -> SSAValue | tuple[BlockArgument, int]:
        """Where a dynamic size comes from: a scalar of the body, or an axis of an argument.

        Raises UnsupportedError where nothing tells it.
        """
        found = self._sources.get(self._find((id(owner), axis)))
        if found is None:
            raise UnsupportedError(f"kernel {self.kernel.sym_name.data}: a loop whose size no operand tells")
        return found

    def is_elementwise(self) -> bool:
        """Whether no op of the kernel reduces."""
        return all(is_parallel(node.op) for node in self.nodes.values())
