"""The torch contract becomes linalg on tensors: each op by its declaration's `lower`, control flow to scf.

torch.prim.If        scf.if, its values yielded
torch.prim.Loop      scf.for where nothing but the trip count ends it, else scf.while
!torch.int           i64 (symbolic ints are index arithmetic, made where a size is needed)
RaiseException       host.raise with the message's run-time fields
run-time lists       host.list_*
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xdsl.context import Context
from xdsl.dialects import arith, func, scf
from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseIntOrFPElementsAttr,
    DenseResourceAttr,
    DictionaryAttr,
    FunctionType,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    TensorType,
    f64,
    i1,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects import dtypes, host
from stepwell.dialects.diagnostics import CompileError, UnsupportedError
from stepwell.dialects.torch import operations, types
from stepwell.dialects.torch.builder import coerce
from stepwell.dialects.torch.declare import Declaration, ScalarInfo, declaration_of, raise_if_symbolic
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor, tensor_type
from stepwell.dialects.torch.scalar import INDEX, Scalar
from stepwell.dialects.torch.sizes import Dim, Size, Symbol, replaced
from stepwell.dialects.upstream import core
from stepwell.lowering.pass_ import Pass
from stepwell.lowering.torch.walk import LIST_OPS, bound_sizes, infer_assuming, info_of_type


@dataclass(frozen=True)
class TorchToLinalg(Pass):
    """Lowers every function of the contract. After: no torch op and no torch type is left."""

    name = "torch-to-linalg"

    def apply(self, module: ModuleOp, context: Context) -> None:
        for op in list(module.body.block.ops):
            if isinstance(op, func.FuncOp):
                _Lowering().function(op)


_SCALARS: dict[Attribute, tuple[Attribute, dtypes.DType]] = {
    types.INT: (i64, dtypes.int64),
    types.FLOAT: (f64, dtypes.float64),
    types.BOOL: (i1, dtypes.bool_),
}


def builtin_type(type_: Attribute) -> Attribute:
    """The type below the torch level of a contract type. TypeError for what has none."""
    if isinstance(type_, types.ValueTensorType):
        return tensor_type(info_of_type(type_)[0].sizes, info_of_type(type_)[0].dtype)
    if isinstance(type_, types.ListType):
        return host.ListType(builtin_type(type_.element))
    if type_ in _SCALARS:
        return _SCALARS[type_][0]
    raise TypeError(f"{type_} has no form below the torch level")


@dataclass(frozen=True, eq=False)
class HostList:
    """A run-time list."""

    value: SSAValue


@dataclass
class _Lowering:
    """One function: `values` maps contract values to what `lower` rules take."""

    values: dict[SSAValue, Any] = field(default_factory=dict)
    symbols: dict[SSAValue, Symbol] = field(default_factory=dict)

    def function(self, function: func.FuncOp) -> None:
        old = function.body.block
        new = Block(arg_types=[builtin_type(a.type) for a in old.args])
        builder = LinalgBuilder(new)
        self._arguments(builder, old, new)
        self._block(builder, old)
        _name_dtypes(function)
        outputs = [builtin_type(t) for t in function.function_type.outputs.data]
        function.properties["function_type"] = FunctionType.from_lists([a.type for a in new.args], outputs)
        function.detach_region(function.body)
        function.add_region(Region([new]))

    def _arguments(self, builder: LinalgBuilder, old: Block, new: Block, skip: int = 0) -> None:
        for before, after in zip(old.args[skip:], new.args[skip:], strict=True):
            after.name_hint = before.name_hint
            self.values[before] = self.wrap(builder, before.type, after)

    def wrap(self, builder: LinalgBuilder, type_: Attribute, value: SSAValue) -> Any:
        """A lowered value of contract type `type_` as rules see it."""
        if isinstance(type_, types.ValueTensorType):
            info, fresh = info_of_type(type_)
            for dim, symbol in fresh:
                builder.define_lazily(symbol, value, dim)
            return Tensor(value, info.sizes, info.dtype)
        if isinstance(type_, types.ListType):
            return HostList(value)
        if type_ == types.INT:
            return builder.symbol_of("i", value, low=-(1 << 62))
        return Scalar(value, _SCALARS[type_][1], builder)

    def _block(self, builder: LinalgBuilder, block: Block) -> None:
        for op in block.ops:
            builder.location = op.location
            handler = _HANDLERS.get(type(op))
            if handler is not None:
                handler(self, builder, op)
                continue
            declaration = declaration_of(op)
            if declaration is None:
                raise UnsupportedError(f"{op.name} has no lowering to linalg")
            self._declared(builder, op, declaration)

    # ------ declared ops

    def _declared(self, builder: LinalgBuilder, op: Operation, declaration: Declaration) -> None:
        arguments = [self.values[v] for v in op.operands]
        if arguments and isinstance(arguments[0], HostList):
            results = _list_operation(self, builder, op, declaration, arguments)
            self.values.update(zip(op.results, results if isinstance(results, tuple) else (results,), strict=True))
            return
        formals = declaration.schema.arguments
        # Operators of a Scalar write where it points to, which for a value from outside is outside.
        arguments = [here(builder, coerce(a, f.type)) for a, f in zip(arguments, formals, strict=True)]
        inferred, arguments = infer_assuming(declaration, arguments, facts, refined)
        if isinstance(inferred, (int, float, str, Dim)) or inferred is None:
            # Known, or a symbolic int: nothing to compute until somebody needs its value.
            self.values[op.results[0]] = inferred
            return
        if declaration.lower is None:
            raise CompileError(f"{declaration.schema.qualified_name} is left at the end of the torch level")
        try:
            result = declaration.lower(builder, inferred, *arguments)
        except TypeError as error:
            raise_if_symbolic(declaration, arguments, error)
            raise
        results = result if len(op.results) > 1 else [result]
        for old, new in zip(op.results, results, strict=True):
            self.values[old] = _number(builder, new) if old.type == types.INT else new

    # ------ operands and regions

    def operand(self, builder: LinalgBuilder, value: SSAValue) -> SSAValue:
        """The lowered SSA value of a contract value."""
        return materialize(builder, self.values[value], value.type)

    def region(self, builder: LinalgBuilder, old: Block, new: Block) -> LinalgBuilder:
        inner = builder.child(new)
        self._block(inner, old)
        return inner


def _name_dtypes(function: func.FuncOp) -> None:
    """`host.dtype` where the lowered type does not say it: uint8 is i8, as int8 is."""
    type_ = function.function_type
    for name, kinds in (("arg_attrs", type_.inputs.data), ("res_attrs", type_.outputs.data)):
        if not any(_is_uint8(kind) for kind in kinds):
            continue
        given = function.properties.get(name)
        known = [dict(d.data) for d in given.data] if isinstance(given, ArrayAttr) else [{} for _ in kinds]
        for attributes, kind in zip(known, kinds, strict=True):
            if _is_uint8(kind):
                attributes["host.dtype"] = StringAttr(dtypes.uint8.name)
        function.properties[name] = ArrayAttr([DictionaryAttr(attributes) for attributes in known])


def _is_uint8(kind: Attribute) -> bool:
    return isinstance(kind, types.ValueTensorType) and info_of_type(kind)[0].dtype == dtypes.uint8


def _number(builder: LinalgBuilder, value: Any) -> Any:
    """A computed int as a symbol, so that sizes may be made of it."""
    return builder.symbol_of("i", value.value, low=-(1 << 62)) if isinstance(value, Scalar) else value


def facts(value: Any) -> Any:
    """What shape rules get to see of a lowered value."""
    if isinstance(value, Tensor):
        return value.info
    if isinstance(value, Scalar):
        return ScalarInfo("bool" if value.dtype is dtypes.bool_ else "float")
    if isinstance(value, list):
        return [facts(v) for v in value]
    return value


def here(builder: LinalgBuilder, value: Any) -> Any:
    """The same value, computing in this block."""
    if isinstance(value, Scalar):
        return Scalar(value.value, value.dtype, builder)
    return [here(builder, v) for v in value] if isinstance(value, list) else value


def refined(value: Any, symbol: Symbol, by: Size) -> Any:
    """A lowered value with a symbol replaced by what it equals."""
    if isinstance(value, Tensor):
        return Tensor(value.value, tuple(replaced(s, symbol, by) for s in value.sizes), value.dtype)
    if isinstance(value, Dim):
        return replaced(value, symbol, by)
    if isinstance(value, list):
        return [refined(v, symbol, by) for v in value]
    return value


def materialize(builder: LinalgBuilder, value: Any, type_: Attribute) -> SSAValue:
    """An SSA value of the lowered form of contract type `type_`."""
    wanted = builtin_type(type_)
    if isinstance(value, Tensor):
        if value.value.type == wanted:
            return value.value
        return _cast_tensor(builder, value.value, wanted)
    if isinstance(value, HostList):
        return value.value
    if isinstance(value, list):
        return _make_list(builder, value, type_).value
    return builder.scalar(value, _SCALARS[type_][1]).value


def _cast_tensor(builder: LinalgBuilder, value: SSAValue, wanted: Attribute) -> SSAValue:
    from xdsl.dialects import tensor

    return builder.op(tensor.CastOp, [value], wanted)


# ------ operations of their own


def _constant(low: _Lowering, builder: LinalgBuilder, op: Any) -> None:
    low.values[op.results[0]] = op.value


def _literal(low: _Lowering, builder: LinalgBuilder, op: Operation) -> None:
    type_ = op.results[0].type
    assert isinstance(type_, types.ValueTensorType)
    info = info_of_type(type_)[0]
    wanted: TensorType[Any] = tensor_type(info.sizes, info.dtype)
    attribute = op.properties["value"]
    if isinstance(attribute, DenseIntOrFPElementsAttr):
        attribute = DenseIntOrFPElementsAttr(wanted, attribute.data)
    elif isinstance(attribute, DenseResourceAttr):
        attribute = DenseResourceAttr(attribute.resource_handle, wanted)
    value = builder.op(arith.ConstantOp, [], wanted, {"value": attribute})
    low.values[op.results[0]] = Tensor(value, info.sizes, info.dtype)


def _sequence(low: _Lowering, builder: LinalgBuilder, op: Operation) -> None:
    elements = [low.values[v] for v in op.operands]
    if isinstance(op, operations.ListConstruct) and _escapes(op):
        low.values[op.results[0]] = _make_list(builder, elements, op.results[0].type)
    else:
        low.values[op.results[0]] = elements if isinstance(op, operations.ListConstruct) else tuple(elements)


def _escapes(op: Operation) -> bool:
    """Lists that a loop carries or that grow are run-time lists; others are arguments of ops."""
    for use in op.results[0].uses:
        declaration = declaration_of(use.operation)
        if declaration is None or declaration.schema.name in LIST_OPS:
            return True
    return False


def _make_list(builder: LinalgBuilder, elements: list[Any], type_: Attribute) -> HostList:
    assert isinstance(type_, types.ListType)
    wanted = builtin_type(type_)
    value = builder.op(host.ListNewOp, [], wanted)
    for element in elements:
        value = builder.op(host.ListAppendOp, [value, materialize(builder, element, type_.element)], wanted)
    return HostList(value)


def _unpack(low: _Lowering, builder: LinalgBuilder, op: Operation) -> None:
    for result, value in zip(op.results, low.values[op.operands[0]], strict=True):
        low.values[result] = value


def _undefined(low: _Lowering, builder: LinalgBuilder, op: Operation) -> None:
    type_ = op.results[0].type
    value = builder.op(host.UndefinedOp, [], builtin_type(type_))
    low.values[op.results[0]] = low.wrap(builder, type_, value)


def _info_cast(low: _Lowering, builder: LinalgBuilder, op: Operation) -> None:
    """Facts are added or forgotten; sizes that get known keep their symbols' values."""
    value, type_ = low.values[op.operands[0]], op.results[0].type
    if not isinstance(value, Tensor) or not isinstance(type_, types.ValueTensorType):
        low.values[op.results[0]] = value
        return
    sizes = tuple(
        new if isinstance(new, int) else old for new, old in zip(info_of_type(type_)[0].sizes, value.sizes, strict=True)
    )
    wanted = tensor_type(sizes, value.dtype)
    ssa = value.value if value.value.type == wanted else _cast_tensor(builder, value.value, wanted)
    low.values[op.results[0]] = Tensor(ssa, sizes, value.dtype)


def _symbolic_int(low: _Lowering, builder: LinalgBuilder, op: operations.SymbolicInt) -> None:
    symbol = low.symbols[op.results[0]] = Symbol(op.symbol, op.low, op.high)
    low.values[op.results[0]] = Dim.of(symbol)


def _bind_shape(low: _Lowering, builder: LinalgBuilder, op: operations.BindSymbolicShape) -> None:
    value = low.values[op.operands[0]]
    sizes = bound_sizes(op, low.symbols)
    for dim, size in enumerate(sizes):
        for symbol in size.symbols() if isinstance(size, Dim) else []:
            if size == Dim.of(symbol) and builder._known(symbol) is None:
                builder.define_lazily(symbol, value.value, dim)
    low.values[op.operands[0]] = Tensor(value.value, sizes, value.dtype)


def _raise(low: _Lowering, builder: LinalgBuilder, op: Operation) -> None:
    message = op.operands[0].owner
    fields: list[SSAValue] = []
    if isinstance(message, operations.FormatText):
        template = str(low.values[message.operands[0]])
        fields = [_field(low, builder, v) for v in message.operands[1:]]
    else:
        template = str(low.values[op.operands[0]]).replace("{", "{{").replace("}", "}}")
    exception = str(low.values[op.operands[1]])
    builder.add(
        host.RaiseOp.create(
            operands=fields, properties={"exception": StringAttr(exception), "message": StringAttr(template)}
        )
    )


def _field(low: _Lowering, builder: LinalgBuilder, value: SSAValue) -> SSAValue:
    known = low.values[value]
    if isinstance(known, Tensor):
        known = builder.element(known).cast(dtypes.float64 if known.dtype.is_floating else dtypes.int64)
    return builder.scalar(known).value


def _format(low: _Lowering, builder: LinalgBuilder, op: Operation) -> None:
    low.values[op.results[0]] = None


def _if(low: _Lowering, builder: LinalgBuilder, op: Operation) -> None:
    result_types = [builtin_type(r.type) for r in op.results]
    regions: list[Region] = []
    for region in op.regions:
        block = Block()
        inner = low.region(builder, region.block, block)
        last = region.block.last_op
        assert last is not None
        inner.add(scf.YieldOp.create(operands=[low.operand(inner, v) for v in last.operands]))
        regions.append(Region([block]))
    condition = builder.scalar(low.values[op.operands[0]], dtypes.bool_)
    created = builder.add(scf.IfOp.create(operands=[condition.value], result_types=result_types, regions=regions))
    _bind_results(low, builder, op, list(created.results))


def _bind_results(low: _Lowering, builder: LinalgBuilder, op: Operation, results: list[SSAValue]) -> None:
    for old, new in zip(op.results, results, strict=True):
        low.values[old] = low.wrap(builder, old.type, new)


def _terminator(low: _Lowering, builder: LinalgBuilder, op: Operation) -> None:
    """If.yield and Loop.condition are written by whoever lowers the op around them."""


def _loop(low: _Lowering, builder: LinalgBuilder, op: Operation) -> None:
    body = op.regions[0].block
    last = body.last_op
    assert last is not None
    always = low.values[op.operands[1]] is True and _is_true(last.operands[0])
    start = [low.operand(builder, v) for v in op.operands[2:]]
    lower = _for if always else _while
    _bind_results(low, builder, op, lower(low, builder, op, body, start))


def _is_true(value: SSAValue) -> bool:
    return isinstance(value.owner, operations.ConstantBool) and value.owner.value


def _for(low: _Lowering, builder: LinalgBuilder, op: Operation, body: Block, start: list[SSAValue]) -> list[SSAValue]:
    trips = low.values[op.operands[0]]
    limit = builder.index(trips if isinstance(trips, (int, Dim)) else _number(builder, trips))
    block = Block(arg_types=[INDEX, *(v.type for v in start)])
    inner = builder.child(block)
    low.values[body.args[0]] = inner.symbol_of("k", block.args[0])
    low._arguments(inner, body, block, skip=1)
    low._block(inner, body)
    last = body.last_op
    assert last is not None
    inner.add(scf.YieldOp.create(operands=[low.operand(inner, v) for v in last.operands[1:]]))
    bounds = [builder.constant(0, INDEX), limit, builder.constant(1, INDEX)]
    created = scf.ForOp.create(
        operands=[*bounds, *start], result_types=[v.type for v in start], regions=[Region([block])]
    )
    return list(builder.add(created).results)


def _while(low: _Lowering, builder: LinalgBuilder, op: Operation, body: Block, start: list[SSAValue]) -> list[SSAValue]:
    """The counter and the condition are carried along with the rest."""
    limit = low.operand(builder, op.operands[0])
    condition = low.operand(builder, op.operands[1])
    carried = [builder.constant(0, i64), condition, *start]
    kinds = [v.type for v in carried]
    test = Block(arg_types=kinds)
    at = builder.child(test)
    below = at.op(core.CmpiOp, [test.args[0], limit], i1, {"predicate": IntegerAttr(2, 64)})
    go_on = at.op(arith.AndIOp, [below, test.args[1]], i1)
    at.add(scf.ConditionOp.create(operands=[go_on, *test.args]))
    block = Block(arg_types=kinds)
    inner = builder.child(block)
    low.values[body.args[0]] = inner.symbol_of("k", block.args[0])
    for before, after in zip(body.args[1:], block.args[2:], strict=True):
        low.values[before] = low.wrap(inner, before.type, after)
    low._block(inner, body)
    last = body.last_op
    assert last is not None
    one = inner.constant(1, i64)
    flags = {"overflowFlags": arith.IntegerOverflowAttr("none")}
    following = inner.op(arith.AddiOp, [block.args[0], one], i64, flags)
    inner.add(scf.YieldOp.create(operands=[following, *(low.operand(inner, v) for v in last.operands)]))
    created = scf.WhileOp.create(operands=carried, result_types=kinds, regions=[Region([test]), Region([block])])
    return [*builder.add(created).results[2:]]


def _return(low: _Lowering, builder: LinalgBuilder, op: Operation) -> None:
    builder.add(func.ReturnOp.create(operands=[low.operand(builder, v) for v in op.operands]))


def _list_operation(
    low: _Lowering, builder: LinalgBuilder, op: Operation, declaration: Declaration, arguments: list[Any]
) -> Any:
    """Ops on run-time lists."""
    target, type_ = arguments[0].value, op.operands[0].type
    assert isinstance(type_, types.ListType)
    result = op.results[0].type
    name = declaration.schema.name
    if name == "append":
        element = materialize(builder, arguments[1], type_.element)
        return HostList(builder.op(host.ListAppendOp, [target, element], builtin_type(result)))
    if name == "len":
        return builder.symbol_of("n", builder.op(host.ListLengthOp, [target], i64))
    if name == "__getitem__":
        index = builder.scalar(arguments[1], dtypes.int64).value
        return low.wrap(builder, result, builder.op(host.ListGetOp, [target, index], builtin_type(result)))
    if name in ("list_elements", "list_table"):
        reader = host.ListElementsOp if name == "list_elements" else host.ListTableOp
        return low.wrap(builder, result, builder.op(reader, [target], builtin_type(result)))
    if name == "list_set":
        index = builder.scalar(arguments[1], dtypes.int64).value
        element = materialize(builder, arguments[2], type_.element)
        return HostList(builder.op(host.ListSetOp, [target, index, element], builtin_type(result)))
    if name == "list_pop":
        index = builder.scalar(arguments[1], dtypes.int64).value
        kinds = [builtin_type(r.type) for r in op.results]
        popped = builder.add(host.ListPopOp.create(operands=[target, index], result_types=kinds))
        return HostList(popped.results[0]), low.wrap(builder, op.results[1].type, popped.results[1])
    if name in ("cat", "stack"):
        cls = host.ListConcatOp if name == "cat" else host.ListStackOp
        properties: dict[str, Attribute] = {"dim": IntegerAttr(arguments[1], i64)}
        return low.wrap(builder, result, builder.op(cls, [target], builtin_type(result), properties))
    raise UnsupportedError(f"{declaration.schema.qualified_name} on a list whose length is known at run time only")


_HANDLERS: dict[type[Operation], Any] = {
    operations.ConstantInt: _constant,
    operations.ConstantFloat: _constant,
    operations.ConstantBool: _constant,
    operations.ConstantString: _constant,
    operations.ConstantDevice: _constant,
    operations.ConstantNone: _constant,
    operations.ValueTensorLiteral: _literal,
    operations.ListConstruct: _sequence,
    operations.TupleConstruct: _sequence,
    operations.TupleUnpack: _unpack,
    operations.ListUnpack: _unpack,
    operations.Uninitialized: _undefined,
    operations.TensorStaticInfoCast: _info_cast,
    operations.SymbolicInt: _symbolic_int,
    operations.BindSymbolicShape: _bind_shape,
    operations.RaiseException: _raise,
    operations.FormatText: _format,
    operations.If: _if,
    operations.IfYield: _terminator,
    operations.Loop: _loop,
    operations.LoopCondition: _terminator,
    func.ReturnOp: _return,
}

__all__ = ["TorchToLinalg", "builtin_type"]
