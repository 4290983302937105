"""`hoist-constants`: what depends on weights alone is computed once, by `@prepare`, when a model is loaded.

    func.func @forward(%x) {                        func.func @prepare() -> (tensor<8x4xf32> {host.name = "prepared.0"})
      %w = arith.constant dense_resource<w>           %w = arith.constant dense_resource<w>
      %t = linalg.generic transpose %w         ->     %t = linalg.generic transpose %w ; return %t
      ... %t ...                                    func.func @forward(%x, %t {host.kind = "constant",
                                                                               host.name = "prepared.0"})

Weights are recognised inside loops and branches too. Hoisted are packed and transposed weights, folded statistics
of batch norms, masks and tables made of constants.
What would take much more memory than it is made of stays (a broadcast bias).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects import arith, func
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DictionaryAttr,
    FunctionType,
    ModuleOp,
    StringAttr,
    TensorType,
    UnitAttr,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects.diagnostics import Error
from stepwell.lowering.linalg.edit import remove
from stepwell.lowering.linalg.shapes import RESHAPES
from stepwell.lowering.pass_ import Pass

PREPARE = "prepare"
"""The name of the function that computes what is hoisted."""

COMPUTING = frozenset(("linalg.generic", "tensor.insert_slice", "tensor.extract_slice"))
CARRYING = frozenset(("tensor.empty", "linalg.fill", "tensor.cast")) | {op.name for op in RESHAPES}
GROWTH = 4
SMALL = 1 << 16
"""A hoisted tensor may have GROWTH times the elements of the tensors that it is made of, or SMALL elements."""


def ops_of(block: Block) -> Iterator[Operation]:
    """The ops of a block and of the control flow in it, in order; not the bodies of generics."""
    for op in block.ops:
        yield op
        if not op.name.startswith("linalg."):
            for region in op.regions:
                for inner in region.blocks:
                    yield from ops_of(inner)


@dataclass
class Facts:
    """What is known of a function's ops."""

    constant: set[Operation] = field(default_factory=set)
    """Ops that depend on constants only."""
    weighty: set[Operation] = field(default_factory=set)
    """Those that depend on a tensor constant."""
    computed: set[Operation] = field(default_factory=set)
    """Those that more than look at it."""

    def read(self, op: Operation) -> None:
        """Classify the next op, in program order."""
        if isinstance(op, arith.ConstantOp):
            self.constant.add(op)
            if isinstance(op.results[0].type, TensorType):
                self.weighty.add(op)
            return
        scalar = op.name.startswith(("arith.", "math."))
        if not scalar and op.name not in COMPUTING and op.name not in CARRYING:
            return
        sources = read_outside(op)
        owners = [value.owner for value in sources]
        if not all(isinstance(owner, Operation) and owner in self.constant for owner in owners):
            return
        makers = [owner for owner in owners if isinstance(owner, Operation)]
        weighty = any(maker in self.weighty for maker in makers)
        if weighty and op.name in COMPUTING and not _modest(op, sources):
            return
        self.constant.add(op)
        if weighty:
            self.weighty.add(op)
        if op.name in COMPUTING or any(maker in self.computed for maker in makers):
            self.computed.add(op)

    def frontier(self, op: Operation) -> bool:
        """Whether the results of an op are to be handed over: computed from weights here, and read by what stays.
        A view of a computed tensor stays itself, since it costs nothing."""
        if op not in self.weighty or op.name not in COMPUTING:
            return False
        return any(self._stays(use.operation) for result in op.results for use in result.uses)

    def _stays(self, reader: Operation) -> bool:
        if reader not in self.constant:
            return True
        return reader.name not in COMPUTING and any(
            self._stays(use.operation) for result in reader.results for use in result.uses
        )


def read_outside(op: Operation) -> list[SSAValue]:
    """The values that an op reads, also inside its body, that are made outside of it."""
    if not op.regions:
        return list(op._operands)
    inside: set[SSAValue] = set()
    found: dict[SSAValue, None] = {}
    for inner in op.walk():
        for region in inner.regions:
            for block in region.blocks:
                inside.update(block.args)
        for operand in inner._operands:
            if operand not in inside:
                found[operand] = None
        if inner is not op:
            inside.update(inner.results)
    return list(found)


def _elements(value: SSAValue) -> int:
    kind = value.type
    if not isinstance(kind, TensorType):
        return 1
    total = 1
    for size in kind.get_shape():
        if size == DYNAMIC_INDEX:
            return -1
        total *= size
    return total


def _modest(op: Operation, sources: list[SSAValue]) -> bool:
    """Whether the results have static sizes and are not much larger than what they are made of."""
    made = [_elements(result) for result in op.results]
    if -1 in made:
        return False
    inits = set(op._operands[len(op._operands) - len(op.results) :]) if op.name == "linalg.generic" else set()
    given = sum(_elements(value) for value in sources if value not in inits)
    return sum(made) <= max(SMALL, GROWTH * given)


# Building ------------------------------------------------------------------------------------------------------


def prepare_function(values: list[SSAValue], location: Operation) -> func.FuncOp:
    """A function that computes values from constants."""
    block = Block()
    copies: dict[SSAValue, SSAValue] = {}

    def need(value: SSAValue) -> None:
        owner = value.owner
        if value in copies or not isinstance(owner, Operation):
            return
        for source in read_outside(owner):
            need(source)
        block.add_op(owner.clone(copies))

    for value in values:
        need(value)
    block.add_op(func.ReturnOp(*(copies[value] for value in values)))
    names = [
        DictionaryAttr({"host.kind": StringAttr("output"), "host.name": StringAttr(prepared_name(i))})
        for i in range(len(values))
    ]
    function = func.FuncOp(
        PREPARE,
        FunctionType.from_lists([], [value.type for value in values]),
        Region(block),
        res_attrs=ArrayAttr(names),
    )
    function.attributes["host.entry"] = UnitAttr()
    function.location = location.location
    return function


def prepared_name(index: int) -> str:
    """The name that joins a result of @prepare to an argument of the entry function."""
    return f"prepared.{index}"


def pass_in(function: func.FuncOp, values: list[SSAValue]) -> None:
    """Give a function an argument for each value, and let readers read that."""
    block = function.body.first_block
    assert block is not None
    count = len(block.args)
    attributes: list[Attribute] = (
        list(function.arg_attrs.data) if function.arg_attrs is not None else [DictionaryAttr({})] * count
    )
    for index, value in enumerate(values):
        argument = block.insert_arg(value.type, len(block.args))
        value.replace_all_uses_with(argument)
        named = {"host.kind": StringAttr("constant"), "host.name": StringAttr(prepared_name(index))}
        attributes.append(DictionaryAttr(named))
    function.properties["arg_attrs"] = ArrayAttr(attributes)
    kind = function.function_type
    function.properties["function_type"] = FunctionType.from_lists([a.type for a in block.args], kind.outputs.data)


@dataclass(frozen=True)
class HoistConstants(Pass):
    """Move what depends on constant weights alone out of the entry function into `@prepare`. After: the entry
    function computes nothing that it would compute again at every call, but for what would cost much memory."""

    name = "hoist-constants"

    def apply(self, module: ModuleOp, context: Context) -> None:
        """Raises Error where the module has a `@prepare` already."""
        functions = [op for op in module.ops if isinstance(op, func.FuncOp)]
        for function in functions:
            block = function.body.first_block
            if block is None or "host.entry" not in function.attributes:
                continue
            if function.sym_name.data == PREPARE:
                raise Error("hoist-constants ran already: the module has a @prepare")
            facts = Facts()
            ops = list(ops_of(block))
            for op in ops:
                facts.read(op)
            values: list[SSAValue] = [result for op in ops if facts.frontier(op) for result in op.results]
            if not values:
                continue
            module.body.block.insert_op_before(prepare_function(values, function), function)
            pass_in(function, values)
            for op in reversed(ops):
                if op in facts.constant and all(result.first_use is None for result in op.results):
                    remove(op)
