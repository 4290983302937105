"""Builds operations of the torch contract, typed by the ops' own shape rules.

What `expand` rules, the specializer and tests write with: `b.exp(x)`, `b.sum(x, [dim], True)`. A call resolves
the overload, folds where everything is known, runs the shape rule and appends the operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdsl.dialects.builtin import BoolAttr, FloatAttr, IntegerAttr, LocationAttr, StringAttr, f64, i64
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch import operations, types
from stepwell.dialects.torch.declare import (
    OPS,
    Declaration,
    ScalarInfo,
    TensorInfo,
    is_constant,
    operation_class,
    raise_if_symbolic,
)
from stepwell.dialects.torch.resolve import resolve
from stepwell.dialects.torch.schema import Type
from stepwell.dialects.torch.sizes import Call, Dim, Size, Symbol

DYNAMIC = -1


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor, or a float, bool or str unknown at compile time, in the contract: SSA value and facts."""

    ssa: SSAValue
    info: TensorInfo | ScalarInfo

    @property
    def tensor(self) -> TensorInfo:
        assert isinstance(self.info, TensorInfo)
        return self.info

    @property
    def sizes(self) -> tuple[Size, ...]:
        return self.tensor.sizes

    @property
    def dtype(self) -> DType:
        return self.tensor.dtype

    @property
    def rank(self) -> int:
        return len(self.sizes)


_SCALAR_TYPES = {"float": types.FLOAT, "bool": types.BOOL, "str": types.STRING, "int": types.INT}


def static_type(value: Any) -> Attribute:
    """The torch type of a builder-side value, for overload resolution."""
    if isinstance(value, Value):
        return types.VTENSOR if isinstance(value.info, TensorInfo) else _SCALAR_TYPES[value.info.kind]
    if isinstance(value, bool):
        return types.BOOL
    if isinstance(value, (int, Dim, DType)):
        return types.INT
    if isinstance(value, float):
        return types.FLOAT
    if isinstance(value, str):
        return types.STRING
    if value is None:
        return types.NONE
    if isinstance(value, tuple):
        return types.tuple_of([static_type(v) for v in value])
    if isinstance(value, list):
        return _list_type(value)
    raise TypeError(f"no torch type for a {type(value).__name__}")


def _list_type(values: list[Any]) -> Attribute:
    inner = list(dict.fromkeys(static_type(v) for v in values))
    if len(inner) == 2 and types.NONE in inner:
        return types.list_of(types.optional_of(next(t for t in inner if t != types.NONE)))
    if len(inner) == 2 and set(inner) == {types.INT, types.FLOAT}:
        return types.list_of(types.FLOAT)
    # An empty list passes for a list of ints, by far the most frequent meaning.
    return types.list_of(inner[0] if len(inner) == 1 else types.INT)


def vtensor_of(info: TensorInfo) -> types.ValueTensorType:
    return types.vtensor([s if isinstance(s, int) else DYNAMIC for s in info.sizes], info.dtype)


class TorchBuilder:
    """Appends contract operations to `block`; `define` gives symbols their `!torch.int` values."""

    def __init__(self, block: Block, location: LocationAttr | None = None, parent: TorchBuilder | None = None) -> None:
        self.block = block
        self.location: LocationAttr | None = location if location is not None or parent is None else parent.location
        self.parent = parent
        self._constants: dict[Any, SSAValue] = {}
        self._dims: dict[Dim | Symbol | Call, SSAValue] = {}
        self._lazy: dict[Any, tuple[SSAValue, int]] = {}
        self.views: dict[Any, Value] = {}
        """Views already taken of a value in this block, for those who read the same view again."""
        self.numbers: dict[SSAValue, Any] = {}
        """The numbers that tensors of one element are known to hold in this block."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **keywords: self.call(f"aten::{name}", *arguments, **keywords)

    # ------ calls

    def call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Call an op by name ("aten::add"), choosing the overload by the arguments."""
        found = resolve(name, [static_type(a) for a in arguments], {k: static_type(v) for k, v in keywords.items()})
        formals = found.declaration.schema.arguments
        bound = [
            arguments[s] if isinstance(s, int) else keywords[s] if isinstance(s, str) else formals[n].default
            for n, s in enumerate(found.sources)
        ]
        return self.emit(found.declaration, bound)

    def emit(self, declaration: Declaration, arguments: Sequence[Any]) -> Any:
        """Append one operation of a declaration, its arguments in schema order; gives its result(s)."""
        formals = [a.type for a in declaration.schema.arguments]
        formals += [Type("Any")] * (len(arguments) - len(formals) if declaration.schema.variadic else 0)
        arguments = [coerce(a, t) for a, t in zip(arguments, formals, strict=True)]
        inferred, arguments = self.infer(declaration, arguments)
        if _folds(declaration, inferred):
            return inferred
        operands = [self.materialize(a, t) for a, t in zip(arguments, formals, strict=True)]
        several = isinstance(inferred, tuple)
        infos = list(inferred) if several else [inferred]
        results = self.append(declaration, operands, [self._result_type(i) for i in infos])
        values = [self._wrap(r, i) for r, i in zip(results, infos, strict=True)]
        self._bind_new(values)
        return tuple(values) if several else values[0] if values else None

    def infer(self, declaration: Declaration, arguments: list[Any]) -> tuple[Any, list[Any]]:
        """The shape rule's result, and the arguments that it was run on."""
        try:
            return declaration.infer(*(facts(a) for a in arguments)), arguments
        except TypeError as error:
            raise_if_symbolic(declaration, arguments, error)
            raise

    def _bind_new(self, values: Sequence[Any]) -> None:
        """Sizes that only the op itself knows (of aten::nonzero) are fresh symbols: they stand for its result's size."""
        for value in values:
            if isinstance(value, list):
                self._bind_new(value)
            elif isinstance(value, Value) and isinstance(value.info, TensorInfo):
                for position, size in enumerate(value.sizes):
                    atom = size.terms[0][0][0] if isinstance(size, Dim) and len(size.terms[0][0]) == 1 else None
                    if isinstance(atom, Symbol) and size == Dim.of(atom) and self._known(atom) is None:
                        self.define(atom, self.size_of(value.ssa, position))

    def append(
        self, declaration: Declaration, operands: Sequence[SSAValue], result_types: Sequence[Attribute]
    ) -> Sequence[SSAValue]:
        """Append the operation itself, in the form that torch-mlir has for it."""
        if declaration.torch_mlir:
            created: Operation = operation_class(declaration).create(operands=operands, result_types=result_types)
        else:
            name = StringAttr(declaration.schema.operation_name)
            created = operations.Operator.create(
                operands=operands, result_types=result_types, properties={"name": name}
            )
        return self.place(created).results

    def place(self, operation: Operation) -> Operation:
        if self.location is not None:
            operation.location = self.location
        self.block.add_op(operation)
        return operation

    def _result_type(self, info: Any) -> Attribute:
        if isinstance(info, TensorInfo):
            return vtensor_of(info)
        if isinstance(info, ScalarInfo):
            return _SCALAR_TYPES[info.kind]
        if isinstance(info, list):
            return types.list_of(self._result_type(info[0]))
        return static_type(info)

    def _wrap(self, result: SSAValue, info: Any) -> Any:
        if isinstance(info, ScalarInfo) and info.kind == "int":
            return self.fresh("i", result)
        if isinstance(info, list):
            unpacked = operations.ListUnpack.create(operands=[result], result_types=[vtensor_of(i) for i in info])
            return [Value(r, i) for r, i in zip(self.place(unpacked).results, info, strict=True)]
        if isinstance(info, Dim):
            self._dims.setdefault(info, result)
            return info
        return Value(result, info)

    def fresh(self, name: str, value: SSAValue, low: int = -(1 << 62)) -> Dim:
        """A symbolic int that stands for a `!torch.int` value."""
        symbol = Symbol(name, low)
        self.define(symbol, value)
        return Dim.of(symbol)

    def define(self, symbol: Symbol, value: SSAValue) -> None:
        """Bind a symbol to its `!torch.int` value."""
        self._dims[symbol] = value

    def export_to(self, parent: TorchBuilder, replaced: Mapping[SSAValue, SSAValue]) -> None:
        """Tell the enclosing builder which of its own values now stand for symbols bound in this block."""
        for key, value in self._dims.items():
            if isinstance(key, Symbol) and value in replaced:
                parent.define(key, replaced[value])

    def size_of(self, tensor: SSAValue, dim: int) -> SSAValue:
        """`torch.aten.size.int` of a tensor value, as an operation even where the size is known."""
        return self._arithmetic("aten::size.int", tensor, self.constant(dim))

    def loop(
        self,
        trips: Size,
        carried: Sequence[Value],
        body: Callable[[TorchBuilder, Dim, list[Value]], Sequence[Value]],
    ) -> list[Value]:
        """torch.prim.Loop over `trips` iterations; `body(builder, iteration, values)` gives the new values.

        Carried tensors keep their sizes and dtypes.
        """
        infos = [v.tensor for v in carried]
        block = Block(arg_types=[types.INT, *(vtensor_of(i) for i in infos)])
        inner = type(self)(block, parent=self)
        iteration = Symbol("k", 0, trips - 1)
        inner.define(iteration, block.args[0])
        values = [Value(a, i) for a, i in zip(block.args[1:], infos, strict=True)]
        ends = body(inner, Dim.of(iteration), values)
        inner.place(operations.LoopCondition.create(operands=[inner.constant(True), *(v.ssa for v in ends)]))
        created = operations.Loop.create(
            operands=[self.integer(trips), self.constant(True), *(v.ssa for v in carried)],
            result_types=[vtensor_of(i) for i in infos],
            regions=[Region([block])],
        )
        return [Value(r, i) for r, i in zip(self.place(created).results, infos, strict=True)]

    # ------ operands

    def materialize(self, value: Any, formal: Type | None = None) -> SSAValue:
        """The SSA value of a builder-side value: constants, symbolic ints, lists, tuples."""
        if isinstance(value, Value):
            return value.ssa
        if isinstance(value, Dim):
            return self.integer(value)
        if isinstance(value, (list, tuple)):
            return self._sequence(value, formal)
        if isinstance(value, DType):
            value = value.code
        if formal is not None and formal.base == "Device" and isinstance(value, str):
            return self._constant(operations.ConstantDevice, StringAttr(value), value)
        return self.constant(value)

    def constant(self, value: int | float | bool | str | None) -> SSAValue:
        if isinstance(value, bool):
            return self._constant(operations.ConstantBool, BoolAttr.from_bool(value), value)
        if isinstance(value, int):
            return self._constant(operations.ConstantInt, IntegerAttr(value, i64), value)
        if isinstance(value, float):
            key = repr(value) if not math.isnan(value) else "nan"
            return self._constant(operations.ConstantFloat, FloatAttr(value, f64), key)
        if isinstance(value, str):
            return self._constant(operations.ConstantString, StringAttr(value), value)
        if value is None:
            return self._constant(operations.ConstantNone, None, None)
        raise TypeError(f"a {type(value).__name__} is no constant of the torch level")

    def _constant(self, cls: Any, attribute: Attribute | None, key: Any) -> SSAValue:
        builder: TorchBuilder | None = self
        while builder is not None:
            if (cls, key) in builder._constants:
                return builder._constants[cls, key]
            builder = builder.parent
        properties = {} if attribute is None else {"value": attribute}
        created = self.place(cls.create(result_types=[cls.result_type], properties=properties))
        self._constants[cls, key] = created.results[0]
        return created.results[0]

    def _sequence(self, values: Sequence[Any], formal: Type | None) -> SSAValue:
        element = Type(formal.base, optional=formal.element_optional) if formal and formal.is_list else None
        operands = [self.materialize(v, element) for v in values]
        if isinstance(values, tuple) and element is None:
            type_: Attribute = types.tuple_of([v.type for v in operands])
            return self.place(operations.TupleConstruct.create(operands=operands, result_types=[type_])).results[0]
        type_ = _operand_list_type(operands, element)
        return self.place(operations.ListConstruct.create(operands=operands, result_types=[type_])).results[0]

    # ------ symbolic ints

    def define_lazily(self, symbol: Symbol, tensor: SSAValue, dim: int) -> None:
        """Bind a symbol to a size of a tensor, whose operation appears only where the symbol is needed."""
        self._lazy[symbol] = (tensor, dim)

    def _known(self, key: Dim | Symbol | Call) -> SSAValue | None:
        builder: TorchBuilder | None = self
        while builder is not None:
            if key in builder._dims:
                return builder._dims[key]
            if key in builder._lazy:
                value = self._dims[key] = self.size_of(*builder._lazy[key])
                return value
            builder = builder.parent
        return None

    def integer(self, value: Size) -> SSAValue:
        """A `!torch.int` value of a (symbolic) int, computed where it is not at hand."""
        known = value if isinstance(value, int) else value.constant
        if known is not None:
            return self.constant(known)
        assert isinstance(value, Dim)
        found = self._known(value)
        if found is None:
            found = self._dims[value] = self._polynomial(value)
        return found

    def _polynomial(self, value: Dim) -> SSAValue:
        total: SSAValue | None = None
        for monomial, coefficient in value.terms:
            term: SSAValue | None = None if coefficient == 1 and monomial else self.constant(coefficient)
            for atom in monomial:
                factor = self._atom(atom)
                term = factor if term is None else self._arithmetic("aten::mul.int", term, factor)
            assert term is not None
            total = term if total is None else self._arithmetic("aten::add.int", total, term)
        assert total is not None
        return total

    def _atom(self, atom: Symbol | Call) -> SSAValue:
        found = self._known(atom)
        if found is not None:
            return found
        if isinstance(atom, Symbol):
            raise KeyError(f"the symbol {atom.name} has no value here")
        name = {"floordiv": "aten::floordiv.int", "max": "prim::max.int", "min": "prim::min.int"}[atom.operator]
        value = self._dims[atom] = self._arithmetic(name, self.integer(atom.left), self.integer(atom.right))
        return value

    def _arithmetic(self, name: str, a: SSAValue, b: SSAValue) -> SSAValue:
        declaration = OPS.find(name)
        if declaration is None:
            raise KeyError(f"{name} is not declared")
        return self.append(declaration, [a, b], [types.INT])[0]


def _operand_list_type(operands: Sequence[SSAValue], element: Type | None) -> types.ListType:
    distinct = list(dict.fromkeys(v.type for v in operands))
    if len(distinct) == 1:
        return types.list_of(distinct[0])
    if distinct and types.NONE in distinct:
        return types.list_of(types.optional_of(types.VTENSOR))
    if distinct:
        return types.list_of(types.VTENSOR)
    base = element.base if element else "int"
    return types.list_of({"Tensor": types.VTENSOR, "float": types.FLOAT, "bool": types.BOOL}.get(base, types.INT))


def coerce(value: Any, formal: Type) -> Any:
    """Adapts an argument to its schema type: a number to a list of fixed size, an int to a float, tuples to lists."""
    if value is None:
        return None
    if formal.is_list:
        if isinstance(value, tuple):
            return list(value)
        if not isinstance(value, (list, Value)) and formal.list_size:
            return [value] * formal.list_size
        return value
    if formal.base == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if formal.base == "ScalarType" and isinstance(value, int):
        from stepwell.dialects.dtypes import BY_CODE

        return BY_CODE[value]
    return value


def facts(value: Any) -> Any:
    """What shape rules get to see of a builder-side value."""
    if isinstance(value, Value):
        return value.info
    if isinstance(value, list):
        return [facts(v) for v in value]
    return value


def _folds(declaration: Declaration, inferred: Any) -> bool:
    """True if the shape rule has already computed the result: known numbers, strings and symbolic ints."""
    return not declaration.effects and bool(declaration.schema.returns) and _is_known(inferred)


def _is_known(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_known(v) for v in value)
    return isinstance(value, Dim) or is_constant(value)
