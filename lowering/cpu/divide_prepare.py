"""`divide-prepare`: weights are packed a group at a time, so that few of them are in memory at once.

    func.func @prepare(%packed0, %packed1, .., %w0, %w1, ..) {      func.func @prepare(.., %group: i64) {
      call @pack(%w0, %packed0)                                       scf.if %group == 0 { call @pack(%w0, %packed0) }
      call @pack(%w1, %packed1)                                =>     scf.if %group == 1 { call @pack(%w1, %packed1) }

Calls that share a buffer, weights included, are in one group. Which group fills an output, or reads a weight, is its
attribute host.group: whoever calls with a group's number needs to bring these only. Pieces of the arena may overlap
where they do not live together: they still do not, as the calls of a group keep their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from xdsl.context import Context
from xdsl.dialects import arith, func, memref, scf
from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    FunctionType,
    IntegerAttr,
    MemRefType,
    ModuleOp,
    StringAttr,
    i1,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects import host
from stepwell.dialects.upstream import core
from stepwell.lowering.cpu.barriers import QUIET
from stepwell.lowering.host_bufferize.elements import element_bytes
from stepwell.lowering.linalg.hoist_constants import PREPARE
from stepwell.lowering.pass_ import Pass

GROUP = "host.group"
LIMIT = 32 << 20
"""Bytes of weights and of what they become, together, above which another group begins."""

EQUAL = IntegerAttr(0, i64)


@dataclass(frozen=True)
class DividePrepare(Pass):
    """Let @prepare do a part of its work, which its caller names by a number.
    After: where there are several groups, @prepare has an argument more, and its arguments say their group."""

    name = "divide-prepare"
    limit: int = LIMIT

    def apply(self, module: ModuleOp, context: Context) -> None:
        for op in module.ops:
            if isinstance(op, func.FuncOp) and op.sym_name.data == PREPARE:
                divide(op, self.limit)


def divide(function: func.FuncOp, limit: int) -> None:
    """Put the calls of a function into groups; nothing happens where one is enough, or where it does more than call."""
    block = function.body.block
    calls = [op for op in block.ops if isinstance(op, func.CallOp)]
    if not all(isinstance(op, (func.CallOp, func.ReturnOp, host.ReserveOp)) or _quiet(op) for op in block.ops):
        return
    kinds = _kinds(function)
    shared = {argument for argument, kind in kinds.items() if kind not in ("output", "constant")}
    component = _components(calls, shared)
    sizes = _sizes([a for a in kinds if a not in shared], component)
    group = _groups(calls, component, sizes, limit)
    count = 1 + max(group.values(), default=0)
    if count == 1:
        return
    number = block.insert_arg(i64, len(block.args))
    function.properties["function_type"] = FunctionType.from_lists([a.type for a in block.args], [])
    function.properties["arg_attrs"] = ArrayAttr([*_marked(function, component, group), _asked()])
    last = block.last_op
    assert last is not None
    for which in range(count):
        inside = [op for op in calls if group[component[op]] == which]
        block.insert_ops_before(list(_only_for(number, which, inside)), last)


def _quiet(op: Operation) -> bool:
    return type(op) in QUIET or op.name.partition(".")[0] == arith.Arith.name


def _kinds(function: func.FuncOp) -> dict[SSAValue, str]:
    """What each argument is for."""
    assert function.arg_attrs is not None
    found: dict[SSAValue, str] = {}
    for argument, attributes in zip(function.body.block.args, function.arg_attrs.data, strict=True):
        kind = attributes.data.get("host.kind")
        found[argument] = kind.data if isinstance(kind, StringAttr) else ""
    return found


def _components(calls: Sequence[Operation], shared: set[SSAValue]) -> dict[object, object]:
    """For each call and buffer a representative, the same for all that are connected."""
    parent: dict[object, object] = {}

    def root(item: object) -> object:
        while parent.setdefault(item, item) is not item:
            parent[item] = item = parent[parent[item]]
        return item

    for call in calls:
        for operand in call.operands:
            for buffer in _buffers(operand, shared):
                parent[root(buffer)] = root(call)
    return {item: root(item) for item in list(parent)} | {call: root(call) for call in calls}


def _buffers(value: SSAValue, shared: set[SSAValue]) -> Iterator[SSAValue]:
    """A value of a buffer's type and all that it is a view of, up to what is `shared`: pieces of that are apart."""
    while isinstance(value.type, MemRefType) and value not in shared:
        yield value
        owner = value.owner
        if not isinstance(owner, Operation) or not owner.operands or isinstance(owner, memref.GetGlobalOp):
            return
        value = owner.operands[0]


def _sizes(arguments: Iterable[SSAValue], component: dict[object, object]) -> dict[object, int]:
    """The bytes of the arguments of each component."""
    sizes: dict[object, int] = {}
    for argument in arguments:
        kind = argument.type
        if argument in component and isinstance(kind, MemRefType):
            bytes_ = prod(kind.get_shape()) * element_bytes(kind.element_type)
            sizes[component[argument]] = sizes.get(component[argument], 0) + bytes_
    return sizes


def _groups(
    calls: Sequence[Operation], component: dict[object, object], sizes: dict[object, int], limit: int
) -> dict[object, int]:
    """The number of the group of each component, in the order of their first calls."""
    found: dict[object, int] = {}
    number, filled = 0, 0
    for call in calls:
        which = component[call]
        if which in found:
            continue
        size = sizes.get(which, 0)
        if filled and filled + size > limit:
            number, filled = number + 1, 0
        found[which] = number
        filled += size
    return found


def _marked(function: func.FuncOp, component: dict[object, object], group: dict[object, int]) -> Iterator[Attribute]:
    """The attributes of the arguments, those of a group with its number."""
    assert function.arg_attrs is not None
    for argument, attributes in zip(function.body.block.args, function.arg_attrs.data, strict=False):
        number = group.get(component.get(argument))
        more = {} if number is None else {GROUP: IntegerAttr(number, i64)}
        yield DictionaryAttr({**attributes.data, **more})


def _asked() -> DictionaryAttr:
    """The attributes of the argument that says which group."""
    return DictionaryAttr({"host.kind": StringAttr("input"), "host.name": StringAttr("group")})


def _only_for(number: SSAValue, which: int, inside: Sequence[Operation]) -> Iterator[Operation]:
    """A branch that the calls of a group move into."""
    constant = arith.ConstantOp(IntegerAttr(which, i64))
    test = core.CmpiOp.create(operands=[number, constant.result], result_types=[i1], properties={"predicate": EQUAL})
    for op in inside:
        block = op.parent
        assert block is not None
        block.detach_op(op)
    yield from (constant, test)
    yield scf.IfOp(test.results[0], [], Region(Block([*inside, scf.YieldOp()])))
