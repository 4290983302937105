"""Which overload a call means: schemas against static types, by TorchScript's rules.

Overloads are tried in order of declaration, first without implicit conversions, then with: a Tensor for an
int, float or Scalar (its one element), an int for a float. What matches where: int, float and bool for Scalar,
one int for `int[2]`, a tuple of equal types for a list, a dtype or layout code (int) for ScalarType.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xdsl.ir import Attribute

from stepwell.dialects.torch import types
from stepwell.dialects.torch.declare import OPS, Declaration, Registry
from stepwell.dialects.torch.schema import REQUIRED, Argument, Type

_EXACT: dict[str, tuple[Attribute, ...]] = {
    "int": (types.INT,),
    "float": (types.FLOAT,),
    "bool": (types.BOOL,),
    "str": (types.STRING,),
    "Scalar": (types.INT, types.FLOAT, types.BOOL, types.NUMBER),
    "number": (types.INT, types.FLOAT, types.NUMBER),
    "ScalarType": (types.INT,),
    "Layout": (types.INT,),
    "MemoryFormat": (types.INT,),
    "Device": (types.DEVICE, types.STRING),
    "Generator": (types.GENERATOR,),
    "NoneType": (types.NONE,),
}

_CONVERTED: dict[str, tuple[type[Attribute], ...]] = {
    "int": (types.TensorType, types.ValueTensorType),
    "float": (types.TensorType, types.ValueTensorType, types.IntType),
    "Scalar": (types.TensorType, types.ValueTensorType),
}


def is_tensor(type_: Attribute) -> bool:
    return isinstance(type_, (types.TensorType, types.ValueTensorType))


def accepts(formal: Type, actual: Attribute, convert: bool, variables: dict[str, Attribute]) -> bool:
    """Whether a value of type `actual` can be passed for `formal`; schema variables (t, t1) are bound."""
    if _is_variable(formal.base) and not formal.is_list and not formal.optional:
        return _binds(variables, formal.base, actual)
    if actual == types.NONE:
        return formal.optional or formal.base == "NoneType" or (formal.base == "Any")
    if isinstance(actual, types.OptionalType):
        return formal.optional and accepts(_plain(formal), actual.element, convert, variables)
    if formal.is_list:
        return _accepts_list(formal, actual, convert, variables)
    if formal.base == "Any":
        return True
    if formal.base == "Dict":
        return isinstance(actual, types.DictType)
    if _is_variable(formal.base):
        return _binds(variables, formal.base, actual)
    if formal.base == "Tensor":
        return is_tensor(actual)
    if actual in _EXACT.get(formal.base, ()):
        return True
    return convert and isinstance(actual, _CONVERTED.get(formal.base, ()))


def _is_variable(base: str) -> bool:
    return (base[0] == "t" and (base == "t" or base[1:].isdigit())) or base in ("K", "V")


def _binds(variables: dict[str, Attribute], name: str, actual: Attribute) -> bool:
    """Whether a schema variable is, or may be from now on, that type; an optional one takes its element and None."""
    bound = variables.setdefault(name, actual)
    if isinstance(bound, types.OptionalType):
        return actual in (bound, bound.element, types.NONE)
    return bound == actual


def _plain(formal: Type) -> Type:
    return Type(formal.base, formal.is_list, formal.list_size, False, formal.element_optional)


def _accepts_list(formal: Type, actual: Attribute, convert: bool, variables: dict[str, Attribute]) -> bool:
    element = Type(formal.base, optional=formal.element_optional)
    if isinstance(actual, types.ListType):
        inner = actual.element
        if formal.base == "Tensor" and isinstance(inner, types.OptionalType) and not formal.element_optional:
            return False
        return accepts(element, inner, convert and formal.base == "float", variables)
    if isinstance(actual, types.TupleType):
        return all(accepts(element, t, convert, variables) for t in actual.elements.data)
    # One number stands for a list of fixed size (stride=2 for int[2]).
    return formal.list_size is not None and accepts(element, actual, convert, variables)


@dataclass(frozen=True)
class Match:
    """The chosen overload and, for every formal in schema order, which actual fills it.

    A source is an int (position), a str (keyword) or None (the default).
    """

    declaration: Declaration
    sources: tuple[int | str | None, ...]


def match(
    declaration: Declaration, positional: Sequence[Attribute], keywords: Mapping[str, Attribute], convert: bool
) -> Match | str:
    """The match of one overload, or the reason why it does not fit."""
    formals = declaration.schema.arguments
    sources: list[int | str | None] = []
    variables: dict[str, Attribute] = {}
    used = 0
    for position, formal in enumerate(formals):
        if formal.name in keywords:
            actual, source = keywords[formal.name], formal.name
            used += 1
        elif position < len(positional) and not formal.keyword_only:
            actual, source = positional[position], position  # type: ignore[assignment]
        elif formal.default is not REQUIRED:
            sources.append(None)
            continue
        else:
            return f"argument {formal.name!r} is missing"
        if not accepts(formal.type, actual, convert, variables):
            return f"argument {formal.name!r} is {formal.type}, not {_name(actual)}"
        sources.append(source)
    limit = sum(not f.keyword_only for f in formals)
    if declaration.schema.variadic:
        sources.extend(range(limit, len(positional)))
    elif len(positional) > limit:
        return f"it takes {limit} positional arguments, not {len(positional)}"
    if used < len(keywords):
        unknown = next(k for k in keywords if k not in {f.name for f in formals})
        return f"it has no argument {unknown!r}"
    return Match(declaration, tuple(sources))


def _name(type_: Attribute) -> str:
    return str(type_).removeprefix("!torch.")


class NoMatch(TypeError):
    """No overload takes these arguments; the text lists every overload with its reason."""


def resolve(
    name: str,
    positional: Sequence[Attribute],
    keywords: Mapping[str, Attribute] | None = None,
    registry: Registry = OPS,
) -> Match:
    """The overload of `name` ("aten::add") for these static types. Raises NoMatch."""
    overloads = registry.overloads(name)
    reasons: list[str] = []
    for convert in (False, True):
        reasons = []
        for declaration in overloads:
            found = match(declaration, positional, keywords or {}, convert)
            if isinstance(found, Match):
                return found
            reasons.append(f"  {declaration.schema}: {found}")
    if not overloads:
        raise NoMatch(f"there is no op {name}")
    raise NoMatch(f"no overload of {name} takes these arguments:\n" + "\n".join(reasons))


def formal_type(argument: Argument | Type, value_semantics: bool = False) -> Attribute:
    """The torch type of a schema type, for results and for defaults' operands."""
    type_ = argument.type if isinstance(argument, Argument) else argument
    result = _BASE.get(type_.base, types.ANY)
    if type_.base == "Tensor" and value_semantics:
        result = types.VTENSOR
    if type_.element_optional:
        result = types.optional_of(result)
    if type_.is_list:
        result = types.list_of(result)
    return types.optional_of(result) if type_.optional else result


_BASE: dict[str, Attribute] = {
    "Tensor": types.TENSOR, "int": types.INT, "float": types.FLOAT, "bool": types.BOOL, "str": types.STRING,
    "Scalar": types.NUMBER, "number": types.NUMBER, "ScalarType": types.INT, "Layout": types.INT,
    "MemoryFormat": types.INT, "Device": types.DEVICE, "Generator": types.GENERATOR, "NoneType": types.NONE,
}  # fmt: skip
