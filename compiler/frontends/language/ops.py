"""Calls of ops: which overload, which operands in which form, which types come back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute, Operation

from stepwell.compiler.frontends.language.bindings import Items, Value, is_empty_list
from stepwell.compiler.frontends.language.lowering import Lowering
from stepwell.compiler.frontends.language.names import Literal
from stepwell.compiler.frontends.language.static_types import (
    ANY,
    BOOL,
    DEVICE,
    FLOAT,
    INT,
    NONE,
    NUMBER,
    STRING,
    TENSOR,
    Type,
    dict_of,
    list_of,
    optional_of,
    tuple_of,
    type_from_ir,
)
from stepwell.dialects.diagnostics import CompileError
from stepwell.dialects.torch import operations
from stepwell.dialects.torch import schema as schemas
from stepwell.dialects.torch.declare import OPS, Declaration
from stepwell.dialects.torch.resolve import Match, NoMatch, formal_type, match, resolve
from stepwell.dialects.torch.schema import Argument, Schema


def call_op(f: Lowering, name: str, arguments: Sequence[Any], keywords: Mapping[str, Any] | None = None) -> Any:
    """Call an op by name ("aten::add"): bindings in, a binding out (a Value, Items for several results, None).

    Raises CompileError where no overload takes the arguments, UnsupportedError where there is no such op.
    """
    values = [f.materialize(a) for a in arguments]
    named = {k: f.materialize(v) for k, v in (keywords or {}).items()}
    values, named = _unwrap_enums(values), {k: _unwrap_enum(v) for k, v in named.items()}
    if name in _STORES and values and values[0].type.kind == "List":
        values = _stored(f, name, values)
    if not OPS.overloads(name) and not f.environment.python:
        return _unknown(f, name, [*values, *named.values()])
    try:
        found = choose(f, name, values, named)
    except CompileError as problem:
        if f.environment.python:
            raise
        return _unknown(f, f"{name}.no_overload", [*values, *named.values()], problem)
    if isinstance(found, Match):
        schema = found.declaration.schema
        replacement = f.environment.replacement(f"{schema.namespace}::{schema.name}", schema.overload)
        if replacement is None:
            return emit(f, found, values, named)
        from stepwell.compiler.frontends.language.functions import call_function

        return call_function(f, replacement, values, named)
    return found


def _unknown(f: Lowering, name: str, values: Sequence[Value], problem: CompileError | None = None) -> Value:
    """An op of an archive that is not declared, or has no such overload: refused where it is reached, as models call
    many that they never reach (nested tensors in transformers). Such an op is taken to give a tensor.
    """
    text = StringAttr(f"torch.{name.replace('::', '.')}")
    made = f.make(operations.Operator, [v.ssa for v in values], TENSOR, {"name": text})
    if problem is not None and isinstance(made.ssa.owner, Operation):
        made.ssa.owner.attributes["problem"] = StringAttr(problem.message)
        made.ssa.owner.attributes["help"] = StringAttr(problem.help or "")
    return made


def choose(f: Lowering, name: str, values: list[Value], named: dict[str, Value]) -> Any:
    """The match for these arguments, or the binding that a retried call gave."""
    if not OPS.overloads(name):
        f.missing_op(name)
    if any(v.type.kind == "Dict" for v in values):
        return _choose_of_dict(f, name, values, named)
    positional = tuple(v.type.ir for v in values)
    keywords = tuple((k, v.type.ir) for k, v in named.items())
    found = _resolved(name, positional, keywords, len(OPS))
    if isinstance(found, Match):
        return found
    retried = _retry(f, name, values, named)
    if retried is not None:
        return retried
    old = f.environment.replacement(name, "*")
    if old is not None:
        from stepwell.compiler.frontends.language.functions import call_function

        return call_function(f, old, values, named)
    raise CompileError(
        f"{name} does not take ({_shown(values, named)})", f.place(), help="these exist:\n" + _overloads(name, found)
    )


_STORES = {"aten::append": 1, "aten::insert": 2, "aten::_set_item": 2, "aten::extend": 1, "aten::add_": 1}
"""Ops that store an argument into a list: which one."""


def _stored(f: Lowering, name: str, values: list[Value]) -> list[Value]:
    """The arguments, the one that is stored being of the list's element type."""
    position, type_ = _STORES[name], values[0].type
    if len(values) <= position:
        return values
    wanted = type_ if name in ("aten::extend", "aten::add_") else type_.element
    return [*values[:position], f.convert(values[position], wanted), *values[position + 1 :]]


@lru_cache(maxsize=4096)
def _resolved(
    name: str, positional: tuple[Attribute, ...], keywords: tuple[tuple[str, Attribute], ...], known: int
) -> Match | str:
    """The match or why there is none; `known` is the size of the registry, which plug-ins may still extend."""
    try:
        return resolve(name, positional, dict(keywords))
    except NoMatch as problem:
        return str(problem)


def _shown(values: Sequence[Value], named: Mapping[str, Value]) -> str:
    return ", ".join([str(v.type) for v in values] + [f"{k}: {v.type}" for k, v in named.items()])


def _overloads(name: str, reasons: str) -> str:
    lines = [line for line in reasons.splitlines() if line.startswith("  ")]
    more = [f"          and {len(lines) - 6} more"] if len(lines) > 6 else []
    return "\n".join([f"        {line}" for line in lines[:6]] + more)


def _retry(f: Lowering, name: str, values: list[Value], named: dict[str, Value]) -> Any:
    """The call with a bool taken for an int, or with an empty list literal of another element type."""
    for position, value in enumerate(values):
        if is_empty_list(value) and value.type is list_of(TENSOR):
            for element in (INT, FLOAT, BOOL, STRING):
                other = [*values[:position], Value(value.ssa, list_of(element)), *values[position + 1 :]]
                if isinstance(_resolved(name, tuple(v.type.ir for v in other), _keys(named), len(OPS)), Match):
                    other[position] = f.convert(value, list_of(element))
                    return call_op(f, name, other, named)
    if BOOL in (v.type for v in values):
        other = [Value(v.ssa, INT) if v.type is BOOL else v for v in values]
        if isinstance(_resolved(name, tuple(v.type.ir for v in other), _keys(named), len(OPS)), Match):
            return call_op(f, name, [f.convert(v, INT) if v.type is BOOL else v for v in values], named)
    return None


def _keys(named: Mapping[str, Value]) -> tuple[tuple[str, Attribute], ...]:
    return tuple((k, v.type.ir) for k, v in named.items())


def _choose_of_dict(f: Lowering, name: str, values: list[Value], named: dict[str, Value]) -> Match:
    """Overloads on dicts differ in the key only, which the types of schemas do not show: their text does."""
    key = next(v for v in values if v.type.kind == "Dict").type.args[0]
    marker = f"Dict({ {'Enum': 'int'}.get(key.kind, key.kind) },".replace(" ", "")
    types_ = [v.type.ir for v in values]
    for declaration in OPS.overloads(name):
        if marker not in declaration.schema.text:
            continue
        for convert in (False, True):
            found = match(declaration, types_, {k: v.type.ir for k, v in named.items()}, convert)
            if isinstance(found, Match):
                return found
    f.unsupported(f"{name} does not take ({_shown(values, named)})")


def _unwrap_enum(value: Value) -> Value:
    return Value(value.ssa, INT) if value.type.kind == "Enum" else value


def _unwrap_enums(values: list[Value]) -> list[Value]:
    return [_unwrap_enum(v) for v in values]


# ------ the operation


def emit(f: Lowering, found: Match, values: Sequence[Value], named: Mapping[str, Value]) -> Any:
    """Append the operation of a match."""
    schema = found.declaration.schema
    operands: list[Value] = []
    for position, source in enumerate(found.sources):
        if position >= len(schema.arguments):
            assert isinstance(source, int)
            operands.append(values[source])
        elif source is None:
            operands.append(_default(f, schema.arguments[position]))
        else:
            actual = values[source] if isinstance(source, int) else named[source]
            operands.append(operand(f, actual, schema.arguments[position]))
    result_types = returned_types(schema, [v.type for v in operands])
    results = f.declared(found.declaration, [v.ssa for v in operands], [t.ir for t in result_types])
    if len(result_types) == 1:
        return Value(results[0], result_types[0])
    if not result_types:
        return Literal(None)
    return Items([Value(r, t) for r, t in zip(results, result_types, strict=True)], result_names(schema))


def _default(f: Lowering, formal: Argument) -> Value:
    type_ = formal.type
    want = type_from_ir(formal_type(type_)) if type_.is_list else None
    if isinstance(formal.default, str) and type_.base == "Device":
        return f.convert(f.constant(formal.default), DEVICE)
    return f.constant(formal.default, want)


_BASES: dict[str, Type] = {
    "int": INT, "float": FLOAT, "bool": BOOL, "str": STRING, "Tensor": TENSOR, "Scalar": NUMBER, "ScalarType": INT,
    "Layout": INT, "MemoryFormat": INT, "Device": DEVICE, "number": NUMBER,
}  # fmt: skip


def operand(f: Lowering, value: Value, formal: Argument) -> Value:
    """An argument in the form that the schema asks for."""
    type_, wanted = value.type, formal.type
    base = _BASES.get(wanted.base)
    if type_ is NONE or base is None or type_.kind in ("Optional", "Union"):
        return value
    if wanted.is_list:
        return _list_operand(f, value, base, wanted)
    if type_ is base or (base is NUMBER and type_ in (INT, FLOAT, BOOL)):
        return value
    return f.convert(value, base)


def _list_operand(f: Lowering, value: Value, base: Type, wanted: schemas.Type) -> Value:
    type_ = value.type
    element = optional_of(base) if wanted.element_optional else base
    if type_.is_tuple:
        parts = f.unpack_tuple(value)
        if wanted.element_optional and any(p.type is NONE for p in parts):
            return f.list_value([f.convert(p, element) for p in parts], element)
        return f.list_value([f.convert(p, base) for p in parts], base)
    if type_.kind != "List":
        return f.list_value([f.convert(value, base)] * (wanted.list_size or 1), base)
    inner = type_.element
    if inner is base or inner is element or base is NUMBER or inner.kind in ("Optional", "Class"):
        return value
    return f.convert(value, list_of(base))


# ------ result types


def returned_types(schema: Schema, arguments: Sequence[Type]) -> list[Type]:
    """The static types of the results, with the schema's type variables bound by its arguments."""
    if not schema.returns:
        return []
    simple = _simple_returns(schema)
    if simple is not None:
        return simple
    variables: dict[str, Type] = {}
    for formal, actual in zip(schema.arguments, arguments, strict=False):
        _bind(formal.type, actual, variables)
    return [_instance(t, variables) for t in schema.returns]


@lru_cache(maxsize=4096)
def _plain_returns(text: str, returns: tuple[schemas.Type, ...]) -> list[Type] | None:
    if any(_variable(t.base) or t.base in ("Tuple", "Dict", "Any") for t in returns):
        return None
    return [type_from_ir(formal_type(t)) for t in returns]


def _simple_returns(schema: Schema) -> list[Type] | None:
    return _plain_returns(schema.text, schema.returns)


def _variable(base: str) -> bool:
    return base in ("K", "V", "tVal", "Key") or (base[0] == "t" and (base == "t" or base[1:].isdigit()))


def _bind(formal: schemas.Type, actual: Type, variables: dict[str, Type]) -> None:
    if formal.base == "Dict" and actual.kind == "Dict":
        variables["K"], variables["V"] = actual.args
    elif formal.base == "Tuple" and actual.kind == "List" and actual.element.is_tuple:
        variables["K"], variables["V"] = actual.element.args[0], actual.element.args[-1]
    elif _variable(formal.base):
        if formal.optional and actual.kind == "Optional":
            actual = actual.element
        if formal.is_list and actual.kind == "List":
            actual = actual.element
        variables.setdefault(formal.base, actual)


def _instance(formal: schemas.Type, variables: Mapping[str, Type]) -> Type:
    if formal.base == "Dict":
        result = dict_of(variables["K"], variables["V"]) if "K" in variables else dict_of(STRING, TENSOR)
    elif formal.base == "Tuple":
        result = tuple_of([variables["K"], variables["V"]])
    elif formal.base == "Any":
        result = ANY
    elif _variable(formal.base):
        result = variables["V"] if "V" in variables else variables[formal.base]
    else:
        result = type_from_ir(formal_type(schemas.Type(formal.base)))
    if formal.is_list:
        result = list_of(result)
    return optional_of(result) if formal.optional else result


_RESULT_NAME = re.compile(r"[\w\])?]\s+(\w+)\s*(?=[,)])")


@lru_cache(maxsize=1024)
def _names(text: str) -> tuple[str, ...]:
    return tuple(_RESULT_NAME.findall(text.rpartition("->")[2]))


def result_names(schema: Schema) -> tuple[str, ...]:
    """The names of several results, as far as the schema gives them: ("values", "indices")."""
    found = _names(schema.text)
    return found if len(found) == len(schema.returns) else ()


def has_op(name: str) -> bool:
    """Whether any overload of that name is declared."""
    return bool(OPS.overloads(name))


def declaration(name: str) -> Declaration | None:
    """The declaration of an overload ("aten::add.Tensor"), or None."""
    return OPS.find(name)
