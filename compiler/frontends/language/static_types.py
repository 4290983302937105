"""Static types of the script language.

They know what the IR's types do not: which class a named tuple or an enum is of. Types are unique objects, so
equality is identity. In the IR a named tuple is a tuple, an enum member its index among the members, a future its
value (forks run at once).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from xdsl.dialects.builtin import ArrayAttr, StringAttr
from xdsl.ir import Attribute

from stepwell.compiler.frontends.parser.types import TypeExpr
from stepwell.compiler.objects import Environment, ScriptClass
from stepwell.dialects.diagnostics import CompileError, UnsupportedError
from stepwell.dialects.torch import types


class Type:
    """One static type: `kind` ("int", "List", "Class", ...), its arguments, and its class if it has one.

    `count` is set of a list of ints for which one int can be given, to be repeated so often.
    """

    __slots__ = ("_ir", "args", "cls", "count", "kind")

    def __init__(self, kind: str, args: tuple[Type, ...], cls: ScriptClass | None) -> None:
        self.kind = kind
        self.args = args
        self.cls = cls
        self.count = 0
        self._ir: Attribute | None = None

    @property
    def ir(self) -> Attribute:
        """The type in the IR; UnsupportedError for one that it cannot express."""
        if self._ir is None:
            self._ir = _to_ir(self)
        return self._ir

    @property
    def element(self) -> Type:
        """Of a list, optional or future: what is inside."""
        return self.args[0]

    @property
    def is_tuple(self) -> bool:
        return self.kind in ("Tuple", "NamedTuple")

    @property
    def script_class(self) -> ScriptClass:
        assert self.cls is not None
        return self.cls

    def walk(self) -> Iterator[Type]:
        """This type and all types inside it."""
        yield self
        for argument in self.args:
            yield from argument.walk()

    def __str__(self) -> str:
        if self.cls is not None:
            return self.cls.short_name
        if self.kind == "Tuple" and not self.args:
            return "Tuple[()]"
        return f"{self.kind}[{', '.join(map(str, self.args))}]" if self.args else self.kind

    def __repr__(self) -> str:
        return f"<{self}>"


_UNIQUE: dict[tuple[str, tuple[Type, ...]], Type] = {}


def _type(kind: str, args: Sequence[Type] = (), cls: ScriptClass | None = None) -> Type:
    unique = _UNIQUE if cls is None else cls.remembered
    key = (kind, tuple(args))
    found: Type | None = unique.get(key)
    if found is None:
        found = unique[key] = Type(kind, key[1], cls)
    return found


TENSOR, INT, FLOAT, BOOL, STRING = (_type(k) for k in ("Tensor", "int", "float", "bool", "str"))
NONE, NUMBER, DEVICE, GENERATOR, ANY = (_type(k) for k in ("NoneType", "number", "Device", "Generator", "Any"))
COMPLEX = _type("complex")

NUMBERS = (INT, FLOAT, BOOL, NUMBER)


def list_of(element: Type) -> Type:
    return _type("List", (element,))


def tuple_of(elements: Sequence[Type]) -> Type:
    return _type("Tuple", elements)


def dict_of(key: Type, value: Type) -> Type:
    return _type("Dict", (key, value))


def future_of(value: Type) -> Type:
    return _type("Future", (value,))


def optional_of(inner: Type) -> Type:
    return inner if inner.kind in ("Optional", "Any") or inner is NONE else _type("Optional", (inner,))


def union_of(members: Sequence[Type]) -> Type:
    """The union; an optional where it is one of two and None."""
    flat: dict[Type, None] = {}
    for member in members:
        parts = member.args if member.kind == "Union" else (*member.args, NONE) if is_optional(member) else (member,)
        flat.update(dict.fromkeys(parts))
    if ANY in flat:
        return ANY
    if {FLOAT, COMPLEX, INT} <= set(flat):
        flat = {NUMBER: None} | {t: None for t in flat if t not in (FLOAT, INT, COMPLEX, BOOL)}
    rest = [t for t in flat if t is not NONE]
    if len(rest) <= 1:
        found = rest[0] if rest else NONE
        return optional_of(found) if NONE in flat else found
    return _type("Union", list(flat))


def is_optional(type_: Type) -> bool:
    return type_.kind == "Optional"


def admits_none(type_: Type) -> bool:
    """Whether None is one of its values."""
    return type_ in (NONE, ANY) or is_optional(type_) or (type_.kind == "Union" and NONE in type_.args)


def without_none(type_: Type) -> Type:
    """What is left of a type after `is not None`."""
    if is_optional(type_):
        return type_.element
    if type_.kind == "Union" and NONE in type_.args:
        return union_of([t for t in type_.args if t is not NONE])
    return type_


# ------ from classes and annotations


def class_type(cls: ScriptClass) -> Type:
    """The type of the objects of a class."""
    if cls.kind == "namedtuple":
        fields = [type_from_expression(t, cls.environment) for t in cls.attributes.values()]
        return _type("NamedTuple", fields, cls)
    kind = {"enum": "Enum", "interface": "Interface"}.get(cls.kind, "Class")
    return _type(kind, (), cls)


_SIMPLE: dict[str, Type] = {
    "Tensor": TENSOR, "int": INT, "float": FLOAT, "bool": BOOL, "str": STRING, "NoneType": NONE, "number": NUMBER,
    "Device": DEVICE, "Generator": GENERATOR, "Any": ANY, "complex": COMPLEX, "Layout": INT, "MemoryFormat": INT,
    "ScalarType": INT, "Size": list_of(INT), "AnyList": ANY, "AnyTuple": ANY, "QScheme": INT, "object": ANY,
    "AnyEnumType": ANY, "Stream": ANY, "Scalar": NUMBER, "dtype": INT, "layout": INT,
}  # fmt: skip

def _broadcasting(count: int) -> Type:
    found = Type("List", (INT,), None)
    found.count = count
    return found


_BROADCASTING = {f"BroadcastingList{n}": _broadcasting(n) for n in range(1, 7)}

_GENERIC: dict[str, Callable[..., Type]] = {
    "List": list_of, "Dict": dict_of, "Optional": optional_of, "Future": future_of, "Await": future_of,
    "Final": lambda t: t,
}  # fmt: skip


def type_from_expression(expression: TypeExpr, environment: Environment) -> Type:
    """The static type that a type expression means; CompileError names what is no type."""
    found = _SIMPLE.get(expression.name)
    if found is not None and not expression.args:
        return found
    if expression.name in ("List", "Dict", "Tuple", "Optional", "Union", "Future", "Await", "Final"):
        return _generic(expression, [type_from_expression(a, environment) for a in expression.args])
    if expression.name in _BROADCASTING:
        return _BROADCASTING[expression.name]
    cls = environment.class_named(expression.name)
    if cls is None:
        raise UnsupportedError(f"{expression} is not a type that Stepwell knows")
    return class_type(cls)


def _generic(expression: TypeExpr, args: list[Type]) -> Type:
    if expression.name == "Tuple":
        return tuple_of(args)
    if expression.name == "Union":
        return union_of(args)
    if not args:
        raise CompileError(f"{expression.name} needs its element type in brackets: {expression.name}[Tensor]")
    return _GENERIC[expression.name](*args)


def expression_of(type_: Type) -> TypeExpr:
    """The type expression of a static type; the opposite of type_from_expression."""
    if type_.cls is not None:
        return TypeExpr(type_.cls.name)
    return TypeExpr(type_.kind, tuple(expression_of(t) for t in type_.args))


# ------ to the IR

_IR: dict[str, Attribute] = {
    "Tensor": types.TENSOR, "int": types.INT, "float": types.FLOAT, "bool": types.BOOL, "str": types.STRING,
    "NoneType": types.NONE, "number": types.NUMBER, "Device": types.DEVICE, "Generator": types.GENERATOR,
    "Any": types.ANY, "Enum": types.INT,
}  # fmt: skip


def _to_ir(type_: Type) -> Attribute:
    simple = _IR.get(type_.kind)
    if simple is not None:
        return simple
    if type_.kind in ("Class", "Interface"):
        return types.ModuleType(StringAttr(type_.script_class.name))
    inner = [t.ir for t in type_.args]
    if type_.kind == "Future":
        return inner[0]
    if type_.kind in _COMPOUND:
        return _COMPOUND[type_.kind](inner)
    raise UnsupportedError(f"values of type {type_} are not supported")


_COMPOUND: dict[str, Callable[[list[Attribute]], Attribute]] = {
    "List": lambda inner: types.list_of(inner[0]),
    "Optional": lambda inner: types.optional_of(inner[0]),
    "Dict": lambda inner: types.dict_of(*inner),
    "Tuple": types.tuple_of,
    "NamedTuple": types.tuple_of,
    "Union": lambda inner: types.UnionType(ArrayAttr(inner)),
}


def type_from_ir(attribute: Attribute) -> Type:
    """The static type of an IR type, for results of ops; classes do not occur there."""
    found = _FROM_IR.get(attribute)
    if found is not None:
        return found
    if isinstance(attribute, types.ListType):
        return list_of(type_from_ir(attribute.element))
    if isinstance(attribute, types.OptionalType):
        return optional_of(type_from_ir(attribute.element))
    if isinstance(attribute, types.TupleType):
        return tuple_of([type_from_ir(t) for t in attribute.elements.data])
    if isinstance(attribute, types.DictType):
        return dict_of(*(type_from_ir(t) for t in attribute.elements.data))
    raise UnsupportedError(f"an op cannot give a {attribute}")


_FROM_IR: dict[Attribute, Type] = {
    t.ir: t for t in (TENSOR, INT, FLOAT, BOOL, STRING, NONE, NUMBER, DEVICE, GENERATOR, ANY)
}


# ------ relations


def is_subtype(type_: Type, wanted: Type) -> bool:
    """Whether a value of the type is one of the wanted type too, without conversion."""
    if type_ is wanted or wanted is ANY:
        return True
    if type_.kind == "Union":
        return all(is_subtype(t, wanted) for t in type_.args)
    if wanted.kind in ("Optional", "Union"):
        if is_optional(type_):
            return admits_none(wanted) and is_subtype(type_.element, wanted)
        members = (*wanted.args, NONE) if is_optional(wanted) else wanted.args
        return any(is_subtype(type_, member) for member in members)
    if wanted is NUMBER:
        return type_ in (INT, FLOAT, BOOL)
    if wanted.kind == "Interface":
        return type_.kind in ("Class", "Interface") and type_.script_class.implements(wanted.script_class)
    if wanted.kind == "Tuple" and type_.is_tuple:
        pairs = zip(type_.args, wanted.args, strict=False)
        return len(type_.args) == len(wanted.args) and all(is_subtype(a, b) for a, b in pairs)
    return False


def join(a: Type, b: Type) -> Type | None:
    """The narrowest type of values that are of one of two types; None where that is more than an optional."""
    if is_subtype(a, b):
        return b
    if is_subtype(b, a):
        return a
    if NONE in (a, b):
        return optional_of(b if a == NONE else a)
    if is_optional(a) or is_optional(b):
        inner = join(without_none(a), without_none(b))
        return optional_of(inner) if inner is not None else None
    if a.is_tuple and b.is_tuple and len(a.args) == len(b.args):
        inner_types = [join(x, y) for x, y in zip(a.args, b.args, strict=True)]
        found = [t for t in inner_types if t is not None]
        return tuple_of(found) if len(found) == len(inner_types) else None
    if "Union" in (a.kind, b.kind):
        return union_of([a, b])
    return None
