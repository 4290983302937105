"""Executes the raw torch level on numpy: what eager TorchScript would do, object by object.

Tensors are numpy arrays, so views alias by themselves and in-place ops write through them. This is the oracle of
the specializer and the fallback for programs that have no static form.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.array_utils import byte_bounds
from xdsl.dialects import func
from xdsl.dialects.builtin import (
    DenseIntOrFPElementsAttr,
    DenseResourceAttr,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    TensorType,
)
from xdsl.ir import Block, Operation, SSAValue

from stepwell.compiler.interpreter.rules import locations
from stepwell.compiler.objects import EnumMember, ScriptObject
from stepwell.dialects import dtypes
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.dtypes import BY_CODE, DType
from stepwell.dialects.torch import operations, types
from stepwell.dialects.torch.declare import OPS, Declaration, RuntimeFault, declaration_of
from stepwell.dialects.torch.exceptions import exception_of
from stepwell.dialects.torch.schema import Type
from stepwell.runtime.abi import exception_class

Written: TypeAlias = tuple[int, int] | int
"""The bytes of an array, from and to; the id of a list or dict."""


def memory_of(value: Any) -> Written:
    """Where a value lies that an op writes."""
    return byte_bounds(value) if isinstance(value, np.ndarray) else id(value)


class RawMachine:
    """The functions and classes of one raw module.

    `create(class_name)` makes a new object of a script class; `resources` holds the data of literals.
    """

    def __init__(
        self, module: ModuleOp, resources: Mapping[str, Any], create: Callable[[str], ScriptObject] | None = None
    ) -> None:
        self.resources = resources
        self.create = create
        self.written: set[Written] = set()
        """What ops have written in place. Places and not values, so that nothing is kept alive by it."""
        self.functions: dict[str, func.FuncOp] = {}
        self.methods: dict[str, dict[str, str]] = {}
        for op in module.body.block.ops:
            if isinstance(op, func.FuncOp):
                self.functions[op.sym_name.data] = op
            elif isinstance(op, operations.ClassType):
                self.methods[_text(op, "sym_name")] = {
                    _text(entry, "name"): _symbol(entry)
                    for entry in op.regions[0].block.ops
                    if isinstance(entry, operations.Method)
                }

    def call(self, function: str, arguments: Sequence[Any]) -> Any:
        """Run a function on Python values: arrays, numbers, lists, objects. Raises what the program raises."""
        body = self.functions[function].body.block
        env: dict[SSAValue, Any] = dict(zip(body.args, arguments, strict=True))
        returned = self._block(body, env)
        return returned[0] if len(returned) == 1 else None if not returned else tuple(returned)

    def _block(self, block: Block, env: dict[SSAValue, Any]) -> list[Any]:
        """Execute a block; the values of its terminator's operands."""
        for op in block.ops:
            handler = _HANDLERS.get(type(op))
            if handler is not None:
                result = handler(self, op, env)
                if result is not None:
                    return result
                continue
            declaration = declaration_of(op)
            if declaration is None:
                raise UnsupportedError(f"the interpreter has no rule for {op.name}")
            values = [env[v] for v in op.operands]
            try:
                results = run_declared(declaration, values, self.written)
            except RuntimeFault as fault:
                raise _located(exception_class(f"builtins.{fault.exception}")(str(fault)), op) from None
            for value, result in zip(op.results, results if len(op.results) > 1 else [results], strict=False):
                env[value] = result
        return []


def run_declared(declaration: Declaration, values: list[Any], written: set[Written]) -> Any:
    """One declared op on Python values; in-place ops write their first argument and give it back.

    What is written is added to `written`.
    """
    formals = declaration.schema.arguments
    written.update(memory_of(value) for value, formal in zip(values, formals, strict=False) if formal.type.written)
    arguments = [convert(v, f.type) for v, f in zip(values, formals, strict=False)] + values[len(formals) :]
    writes = formals and formals[0].type.written
    if writes and isinstance(values[0], np.ndarray):
        return _write(declaration, arguments)
    with np.errstate(all="ignore"):
        result = declaration.reference(*arguments)
        if declaration.updates is not None:
            for position, contents in declaration.updates(None, *arguments).items():
                values[position][...] = contents
                written.add(memory_of(values[position]))
    return _plain(result)


def _write(declaration: Declaration, arguments: list[Any]) -> Any:
    target = arguments[0]
    base = _functional(declaration)
    with np.errstate(all="ignore"):
        value = base.reference(*arguments)
    if base.is_view:
        return _reshape(target, value, declaration)
    target[...] = np.broadcast_to(np.asarray(value), target.shape).astype(target.dtype)
    return target


def _reshape(target: np.ndarray[Any, Any], view: np.ndarray[Any, Any], declaration: Declaration) -> Any:
    """Give an array the sizes and strides of a view of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            target.shape = view.shape
            target.strides = view.strides
    except (AttributeError, ValueError):
        name = declaration.schema.qualified_name
        raise UnsupportedError(f"{name} of a tensor whose elements do not lie side by side, in the interpreter") from None
    return target


def _functional(declaration: Declaration) -> Declaration:
    schema = declaration.schema
    found = getattr(declaration, "functional", None)
    if found is None:
        name = f"{schema.namespace}::{schema.name.removesuffix('_')}"
        found = OPS.find(name + (f".{schema.overload}" if schema.overload else ""))
    if found is None:
        raise UnsupportedError(f"{schema.qualified_name} has no functional form")
    return found


def convert(value: Any, formal: Type) -> Any:
    """A Python value as a reference takes it: codes become dtypes, one-element tensors numbers, tuples lists."""
    if value is None:
        return None
    if formal.base == "ScalarType" and isinstance(value, int):
        return BY_CODE[value]
    if formal.is_list and isinstance(value, tuple):
        return list(value)
    if formal.is_list and formal.list_size and not isinstance(value, list):
        return [value] * formal.list_size
    if isinstance(value, np.ndarray) and not formal.is_list and formal.base in ("int", "float", "Scalar"):
        return value.item()
    if formal.base == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _plain(result: Any) -> Any:
    if isinstance(result, np.generic):
        return np.asarray(result)
    if isinstance(result, DType):
        return result.code
    if isinstance(result, tuple):
        return tuple(_plain(r) for r in result)
    return result


def _located(error: Exception, op: Operation) -> Exception:
    for place in locations(op.location):
        error.add_note(f"at {place}")
    return error


def _text(op: Operation, name: str) -> str:
    attribute = op.properties[name]
    assert isinstance(attribute, StringAttr)
    return attribute.data


def _symbol(op: Operation) -> str:
    attribute = op.properties["function"]
    assert isinstance(attribute, SymbolRefAttr)
    return attribute.root_reference.data


Env = dict[SSAValue, Any]


def _constant(_: RawMachine, op: Any, env: Env) -> None:
    env[op.results[0]] = op.value


def _literal(machine: RawMachine, op: Operation, env: Env) -> None:
    env[op.results[0]] = literal(op, machine.resources)


def literal(op: Operation, resources: Mapping[str, Any]) -> Any:
    """The array of a tensor literal."""
    attribute = op.properties["value"]
    if isinstance(attribute, DenseResourceAttr):
        return resources[attribute.resource_handle.data]
    assert isinstance(attribute, DenseIntOrFPElementsAttr) and isinstance(attribute.type, TensorType)
    dtype = next(d for d in dtypes.ALL if attribute.type.element_type in (d.torch, d.builtin))
    return np.array(attribute.get_values(), dtype=dtype.numpy).reshape(attribute.type.get_shape())


def _list(_: RawMachine, op: Operation, env: Env) -> None:
    env[op.results[0]] = [env[v] for v in op.operands]


def _dict(_: RawMachine, op: Operation, env: Env) -> None:
    half = len(op.operands) // 2
    env[op.results[0]] = {env[k]: env[v] for k, v in zip(op.operands[:half], op.operands[half:], strict=True)}


def _tuple(_: RawMachine, op: Operation, env: Env) -> None:
    env[op.results[0]] = tuple(env[v] for v in op.operands)


def _unpack(_: RawMachine, op: Operation, env: Env) -> None:
    values = env[op.operands[0]]
    if len(values) != len(op.results):
        raise _located(RuntimeError(f"Provided list has {len(values)} elements, expected {len(op.results)}"), op)
    for result, value in zip(op.results, values, strict=True):
        env[result] = value


def _index(_: RawMachine, op: Operation, env: Env) -> None:
    env[op.results[0]] = env[op.operands[0]][env[op.operands[1]]]


def _same(_: RawMachine, op: Operation, env: Env) -> None:
    env[op.results[0]] = env[op.operands[0]]


def _undefined(_: RawMachine, op: Operation, env: Env) -> None:
    env[op.results[0]] = None


def _format(_: RawMachine, op: Operation, env: Env) -> None:
    template, *fields = (env[v] for v in op.operands)
    env[op.results[0]] = template.format(*fields)


def _raise(_: RawMachine, op: Operation, env: Env) -> None:
    name, message = exception_of(env[op.operands[0]], env[op.operands[1]])
    raise _located(exception_class(name)(message), op)


def _if(machine: RawMachine, op: Operation, env: Env) -> None:
    region = op.regions[0 if env[op.operands[0]] else 1]
    for result, value in zip(op.results, machine._block(region.block, env), strict=True):
        env[result] = value


def _loop(machine: RawMachine, op: Operation, env: Env) -> None:
    trips, going = env[op.operands[0]], env[op.operands[1]]
    carried = [env[v] for v in op.operands[2:]]
    body = op.regions[0].block
    number = 0
    while number < trips and going:
        env[body.args[0]] = number
        env.update(zip(body.args[1:], carried, strict=True))
        going, *carried = machine._block(body, env)
        number += 1
    for result, value in zip(op.results, carried, strict=True):
        env[result] = value


def _end(_: RawMachine, op: Operation, env: Env) -> list[Any]:
    return [env[v] for v in op.operands]


def _get(_: RawMachine, op: Operation, env: Env) -> None:
    owner = env[op.operands[0]]
    value = owner.attributes[_text(op, "name")]
    env[op.results[0]] = value.index if isinstance(value, EnumMember) else value


def _set(_: RawMachine, op: Operation, env: Env) -> None:
    env[op.operands[0]].store(_text(op, "name"), env[op.operands[1]])


def _create(machine: RawMachine, op: Operation, env: Env) -> None:
    type_ = op.results[0].type
    assert isinstance(type_, types.ModuleType)
    if machine.create is None:
        raise UnsupportedError(f"an object of {type_.class_name.data} is made, but no class table was given")
    env[op.results[0]] = machine.create(type_.class_name.data)


def _call_method(machine: RawMachine, op: Operation, env: Env) -> None:
    owner = env[op.operands[0]]
    name = machine.methods[owner.cls.name][_text(op, "name")]
    _bind(op, machine.call(name, [env[v] for v in op.operands]), env)


def _call_function(machine: RawMachine, op: func.CallOp, env: Env) -> None:
    _bind(op, machine.call(op.callee.root_reference.data, [env[v] for v in op.operands]), env)


def _bind(op: Operation, value: Any, env: Env) -> None:
    if len(op.results) == 1:
        env[op.results[0]] = value
    elif op.results:
        env.update(zip(op.results, value, strict=True))


_HANDLERS: dict[type[Operation], Callable[[RawMachine, Any, Env], list[Any] | None]] = {
    **dict.fromkeys(
        (operations.ConstantInt, operations.ConstantFloat, operations.ConstantBool, operations.ConstantString,
         operations.ConstantDevice, operations.ConstantNone), _constant,
    ),
    operations.TensorLiteral: _literal,
    operations.ValueTensorLiteral: _literal,
    operations.ListConstruct: _list,
    operations.DictConstruct: _dict,
    operations.TupleConstruct: _tuple,
    operations.TupleUnpack: _unpack,
    operations.ListUnpack: _unpack,
    operations.TupleIndex: _index,
    operations.UncheckedCast: _same,
    operations.Derefine: _same,
    operations.TensorStaticInfoCast: _same,
    operations.Uninitialized: _undefined,
    operations.RaiseException: _raise,
    operations.FormatText: _format,
    operations.If: _if,
    operations.IfYield: _end,
    operations.Loop: _loop,
    operations.LoopCondition: _end,
    operations.GetAttribute: _get,
    operations.SetAttribute: _set,
    operations.CreateObject: _create,
    operations.CallMethod: _call_method,
    func.CallOp: _call_function,
    func.ReturnOp: _end,
}  # fmt: skip
