"""Composite ops become the smaller ops that their declarations expand into, until only core ops are left."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, Region, SSAValue

from stepwell.dialects.torch import operations, types
from stepwell.dialects.torch.builder import TorchBuilder, Value, coerce, facts
from stepwell.dialects.torch.declare import Declaration, ScalarInfo, TensorInfo, declaration_of, raise_if_symbolic
from stepwell.dialects.torch.sizes import Dim, Size, Symbol, replaced
from stepwell.lowering.pass_ import Pass
from stepwell.lowering.torch.walk import LIST_OPS, bound_sizes, infer_assuming, info_of_type

_SCALARS = {types.FLOAT: "float", types.BOOL: "bool", types.STRING: "str"}


@dataclass(frozen=True)
class ExpandComposites(Pass):
    """Rewrites every op that has an expansion, recursively. After: each op of the function has a lowering."""

    name = "expand-composites"

    def apply(self, module: ModuleOp, context: Context) -> None:
        for op in list(module.body.block.ops):
            if isinstance(op, func.FuncOp):
                _Rebuild().function(op)


@dataclass
class _Rebuild:
    """Copies a function block by block into a builder; `values` maps old values to builder-side ones."""

    values: dict[SSAValue, Any] = field(default_factory=dict)
    symbols: dict[SSAValue, Symbol] = field(default_factory=dict)

    def function(self, function: func.FuncOp) -> None:
        old = function.body.block
        new = Block(arg_types=[a.type for a in old.args])
        builder = ExpandingBuilder(new)
        self._arguments(builder, old, new)
        self._block(builder, old)
        function.detach_region(function.body)
        function.add_region(Region([new]))

    def _arguments(self, builder: TorchBuilder, old: Block, new: Block) -> None:
        for before, after in zip(old.args, new.args, strict=True):
            after.name_hint = before.name_hint
            self.values[before] = wrap(builder, after)

    def _block(self, builder: TorchBuilder, block: Block) -> None:
        for op in block.ops:
            builder.location = op.location
            self._operation(builder, op)

    def _operation(self, builder: TorchBuilder, op: Operation) -> None:
        declaration = None if isinstance(op, operations.FormatText) else declaration_of(op)
        if declaration is not None:
            self._declared(builder, op, declaration)
        elif isinstance(op, operations.Constant):
            self.values[op.results[0]] = op.value
        elif isinstance(op, operations.ListConstruct) and _is_plain_list(op):
            self.values[op.results[0]] = [self.values[v] for v in op.operands]
        elif isinstance(op, operations.TupleConstruct):
            self.values[op.results[0]] = tuple(self.values[v] for v in op.operands)
        elif isinstance(op, operations.ListUnpack):
            for result, value in zip(op.results, self.values[op.operands[0]], strict=True):
                self.values[result] = value
        elif isinstance(op, operations.BindSymbolicShape):
            self._bind(builder, op)
        else:
            self._copy(builder, op)

    def _declared(self, builder: TorchBuilder, op: Operation, declaration: Declaration) -> None:
        arguments = [self.values[v] for v in op.operands]
        if any(isinstance(a, SSAValue) for a in arguments):
            self._copy(builder, op)
            return
        formals = declaration.schema.arguments
        result = builder.emit(declaration, [coerce(a, f.type) for a, f in zip(arguments, formals, strict=True)])
        results = result if len(op.results) > 1 else [result]
        for old, new in zip(op.results, results, strict=True):
            self.values[old] = new

    def _bind(self, builder: TorchBuilder, op: operations.BindSymbolicShape) -> None:
        """Facts of an argument, by name: they replace the anonymous symbols that its type gave."""
        value = self.values[op.operands[0]]
        sizes = bound_sizes(op, self.symbols)
        self.values[op.operands[0]] = Value(value.ssa, value.tensor.with_sizes(sizes))
        self._copy(builder, op)

    def _copy(self, builder: TorchBuilder, op: Operation) -> None:
        """The same operation on the new operands; regions are rebuilt."""
        operands = [v if isinstance(v := self.values[o], SSAValue) else _typed(builder, v, o) for o in op.operands]
        regions = [self._region(builder, r) for r in op.regions]
        created = type(op).create(
            operands=operands, result_types=[r.type for r in op.results], properties=op.properties,
            attributes=op.attributes, regions=regions, location=op.location,
        )  # fmt: skip
        builder.block.add_op(created)
        for old, new in zip(op.results, created.results, strict=True):
            self.values[old] = self._wrap_result(builder, op, new)

    def _wrap_result(self, builder: TorchBuilder, op: Operation, new: SSAValue) -> Any:
        if isinstance(op, operations.SymbolicInt):
            symbol = self.symbols[op.results[0]] = self.symbols[new] = Symbol(op.symbol, op.low, op.high)
            builder.define(symbol, new)
            return Dim.of(symbol)
        return wrap(builder, new)

    def _region(self, builder: TorchBuilder, region: Region) -> Region:
        if not region.blocks:
            return Region()
        old = region.block
        new = Block(arg_types=[a.type for a in old.args])
        inner = ExpandingBuilder(new, parent=builder)
        self._arguments(inner, old, new)
        self._block(inner, old)
        return Region([new])


def _is_plain_list(op: operations.ListConstruct) -> bool:
    """Lists that ops take apart; run-time lists (of a loop, with appends) stay operations."""
    return all(declaration_of(u.operation) is not None and not _is_list_op(u.operation) for u in op.results[0].uses)


def _is_list_op(op: Operation) -> bool:
    """Ops on run-time lists: append and what reads them."""
    declaration = declaration_of(op)
    return declaration is not None and declaration.schema.name in LIST_OPS


def _typed(builder: TorchBuilder, value: Any, old: SSAValue) -> SSAValue:
    if isinstance(value, list) and isinstance(old.type, types.ListType):
        operands = [builder.materialize(v) for v in value]
        created = operations.ListConstruct.create(operands=operands, result_types=[old.type])
        return builder.place(created).results[0]
    return builder.materialize(value)


def refined(value: Any, symbol: Symbol, by: Size) -> Any:
    """A builder-side value with a symbol replaced by what it equals."""
    if isinstance(value, Value) and isinstance(value.info, TensorInfo):
        return Value(value.ssa, value.info.with_sizes(replaced(s, symbol, by) for s in value.sizes))
    if isinstance(value, Dim):
        return replaced(value, symbol, by)
    if isinstance(value, list):
        return [refined(v, symbol, by) for v in value]
    return value


def wrap(builder: TorchBuilder, value: SSAValue) -> Any:
    """A value of the contract whose facts are those of its type."""
    type_ = value.type
    if isinstance(type_, types.ValueTensorType):
        info, fresh = info_of_type(type_)
        for dim, symbol in fresh:
            builder.define_lazily(symbol, value, dim)
        return Value(value, info)
    if type_ == types.INT:
        return builder.fresh("i", value)
    if type_ in _SCALARS:
        return Value(value, ScalarInfo(_SCALARS[type_]))
    return value


class ExpandingBuilder(TorchBuilder):
    """A builder that never emits a composite op: it runs its expansion instead.

    The specializer has checked every size that must equal another one, so sizes that a rule asks about are equal.
    """

    def infer(self, declaration: Declaration, arguments: list[Any]) -> tuple[Any, list[Any]]:
        return infer_assuming(declaration, arguments, facts, refined)

    def emit(self, declaration: Declaration, arguments: Any) -> Any:
        if declaration.expand is None:
            return super().emit(declaration, arguments)
        formals = declaration.schema.arguments
        try:
            return declaration.expand(self, *(coerce(a, f.type) for a, f in zip(arguments, formals, strict=True)))
        except TypeError as error:
            raise_if_symbolic(declaration, arguments, error)
            raise
