"""Attributes: of tensors, devices, named tuples, enum members, objects, and of names known at compile time."""

from __future__ import annotations

import ast
from typing import Any, NoReturn

from xdsl.dialects.builtin import StringAttr

from stepwell.compiler.frontends.language.bindings import Allocate, Items, Method, Value, constant_of
from stepwell.compiler.frontends.language.lowering import Lowering, expression_rule
from stepwell.compiler.frontends.language.names import Literal, Namespace
from stepwell.compiler.frontends.language.ops import call_op, has_op
from stepwell.compiler.frontends.language.static_types import (
    FLOAT,
    INT,
    NONE,
    STRING,
    Type,
    expression_of,
    type_from_expression,
)
from stepwell.compiler.objects import EnumMember, ScriptClass
from stepwell.dialects.torch import operations

TENSOR_PROPERTIES = {
    "shape": "aten::size", "dtype": "prim::dtype", "device": "prim::device", "ndim": "aten::dim",
    "T": "aten::numpy_T", "mT": "aten::mT", "H": "aten::matrix_H", "mH": "aten::mH", "layout": "prim::layout",
    "requires_grad": "prim::requires_grad", "data": "prim::data", "grad": "prim::grad", "real": "aten::real",
    "imag": "aten::imag", "itemsize": "prim::itemsize", "nbytes": "prim::nbytes", "is_cuda": "prim::is_cuda",
    "is_cpu": "prim::is_cpu", "is_sparse": "prim::is_sparse", "is_quantized": "prim::is_quantized",
    "is_leaf": "aten::is_leaf", "is_mkldnn": "prim::is_mkldnn", "is_meta": "prim::is_meta", "is_mps": "prim::is_mps",
    "is_xla": "prim::is_xla", "is_xpu": "prim::is_xpu", "is_nested": "prim::is_nested", "name": "prim::name",
}  # fmt: skip
"""Attributes of tensors that are ops of one argument."""

_DEVICE_PROPERTIES = {"type": "prim::type", "index": "prim::index"}


@expression_rule(ast.Attribute)
def _attribute(f: Lowering, node: ast.Attribute, want: Type | None) -> Any:
    return attribute(f, f.expression(node.value), node.attr)


def attribute(f: Lowering, owner: Any, name: str) -> Any:
    """`owner.name` as a binding."""
    if isinstance(owner, Namespace):
        found = f.environment.attribute(owner.path, name)
        if found is None:
            _unknown(f, owner.path, name)
        return found
    if isinstance(owner, ScriptClass):
        return _of_class(f, owner, name)
    if isinstance(owner, Items) and name in owner.names:
        return owner.items[owner.names.index(name)]
    if isinstance(owner, Literal) and isinstance(owner.value, EnumMember):
        return Literal(getattr(owner.value, name)) if name in ("name", "value") else _missing(f, "an enum member", name)
    return _of_value(f, f.materialize(owner), name)


def _unknown(f: Lowering, path: str, name: str) -> NoReturn:
    """A module has no such attribute, or one that means nothing in programs (a function of numpy)."""
    module = path.removeprefix("python:")
    help = f"there is an op of that name: stepwell.{name}" if module != "torch" and has_op(f"aten::{name}") else None
    f.unsupported(f"{module}.{name} is not known in scripted code", help=help)


def _missing(f: Lowering, what: str, name: str) -> Any:
    f.refuse(f"{what} has no attribute {name!r}")


def _of_class(f: Lowering, cls: ScriptClass, name: str) -> Any:
    if name == "__new__":
        return Allocate(cls)
    if name in cls.members:
        return Literal(EnumMember(cls, name))
    if name in cls.constants:
        return _class_constant(f, cls, name)
    method = cls.methods.get(name)
    if method is not None:
        return method
    return _missing(f, cls.short_name, name)


def _class_constant(f: Lowering, cls: ScriptClass, name: str) -> Any:
    value = cls.constants[name]
    return f.foreign(cls.environment, value) if isinstance(value, ast.expr) else Literal(value)


def _of_value(f: Lowering, value: Value, name: str) -> Any:
    kind = value.type.kind
    if kind == "Tensor" and name in TENSOR_PROPERTIES:
        return call_op(f, TENSOR_PROPERTIES[name], [value])
    if kind == "Device" and name in _DEVICE_PROPERTIES:
        return call_op(f, _DEVICE_PROPERTIES[name], [value])
    if kind in ("Class", "Interface"):
        return _of_object(f, value, name)
    if kind == "NamedTuple" and name in value.type.script_class.attributes:
        from stepwell.compiler.frontends.language.subscripts import tuple_item

        return tuple_item(f, value, list(value.type.script_class.attributes).index(name))
    if kind == "Enum" and name in ("name", "value"):
        return _of_member(f, value, name)
    if kind == "Optional":
        f.refuse(
            f"a {value.type} has no attribute {name!r}",
            help="it may be None: test `is not None` first (copy an attribute to a local name before the test)",
        )
    return Method(value, name)


def _of_member(f: Lowering, value: Value, name: str) -> Any:
    """The name or value of an enum member that is known at run time only: looked up in a list."""
    members = value.type.script_class.members
    known = constant_of(Value(value.ssa, INT))
    found = list(members) if name == "name" else list(members.values())
    if known is not None:
        return Literal(found[known])
    element = {int: INT, float: FLOAT, str: STRING}[type(found[0])]
    table = f.list_value([f.constant(v) for v in found], element)
    return call_op(f, "aten::__getitem__", [table, Value(value.ssa, INT)])


# ------ objects


def attribute_type(f: Lowering, cls: ScriptClass, name: str) -> Type | None:
    """The declared type of what objects of a class store under a name."""
    found: Type | None = cls.remembered.get(name)
    if found is None and name not in cls.attributes and cls.environment.python and not _is_of_class(cls, name):
        _look_into_init(f, cls)
        found = cls.remembered.get(name)
    if found is None and name in cls.attributes:
        found = cls.remembered[name] = type_from_expression(cls.attributes[name], cls.environment)
    return found


def _is_of_class(cls: ScriptClass, name: str) -> bool:
    return name in cls.methods or name in cls.properties or name in cls.constants


def _look_into_init(f: Lowering, cls: ScriptClass) -> None:
    """Attributes that nothing declares have the type of what `__init__` assigns: it is lowered first."""
    initialize = cls.methods.get("__init__")
    if initialize is not None and "__init__" not in cls.remembered:
        cls.remembered["__init__"] = initialize
        f.program.lower(initialize)


def _declare(f: Lowering, cls: ScriptClass, name: str, type_: Type) -> Type | None:
    """In `__init__` of scripted Python, the first assignment of an attribute declares it."""
    function = f.function
    if not f.python or function.owner is not cls or function.node.name != "__init__":
        return None
    cls.attributes[name] = expression_of(type_)
    cls.remembered[name] = type_
    return type_


def _of_object(f: Lowering, value: Value, name: str) -> Any:
    cls = value.type.script_class
    type_ = attribute_type(f, cls, name)
    if type_ is not None:
        return get_attribute(f, value, name, type_)
    if name in cls.constants:
        return _class_constant(f, cls, name)
    if name in cls.properties:
        from stepwell.compiler.frontends.language.functions import call_method

        return call_method(f, value, cls.properties[name][0], [], {})
    if name in cls.methods:
        return Method(value, name)
    return _missing(f, cls.short_name, name)


def get_attribute(f: Lowering, value: Value, name: str, type_: Type) -> Value:
    """`torch.prim.GetAttr`."""
    f.program.uses(value.type.script_class, name, type_)
    if type_ is NONE:
        return f.constant(None)
    return f.make(operations.GetAttribute, [value.ssa], type_, {"name": StringAttr(name)})


def set_attribute(f: Lowering, owner: Value, name: str, value: Value) -> None:
    """`torch.prim.SetAttr`, or the setter of a property."""
    if owner.type.kind != "Class":
        f.refuse(f"attributes of a {owner.type} cannot be assigned")
    cls = owner.type.script_class
    if name in cls.properties:
        from stepwell.compiler.frontends.language.functions import call_method

        setter = cls.properties[name][1]
        if setter is None:
            f.refuse(f"{cls.short_name}.{name} has no setter")
        call_method(f, owner, setter, [value], {})
        return
    type_ = attribute_type(f, cls, name) or _declare(f, cls, name, value.type)
    if type_ is None:
        if name in cls.constants:
            f.refuse(f"{cls.short_name}.{name} is a constant")
        f.refuse(
            f"{cls.short_name} has no attribute {name!r}", help="declare it in the class, or assign it in __init__"
        )
    f.program.uses(cls, name, type_)
    stored = f.convert(value, type_)
    if type_ is NONE:
        return
    operation = operations.SetAttribute.create(operands=[owner.ssa, stored.ssa], properties={"name": StringAttr(name)})
    f.add(operation)


# ------ containers of modules


def container_parts(f: Lowering, value: Value) -> list[Any] | None:
    """The submodules of a ModuleList, Sequential or ModuleDict in order; None for other objects."""
    names = container_names(value.type.script_class)
    return None if names is None else [_of_object(f, value, n) for n in names]


def container_names(cls: ScriptClass) -> list[str] | None:
    """The attribute names under which a container holds its parts."""
    if cls.kind != "module" or cls.short_name not in _CONTAINERS:
        return None
    return [n for n, t in cls.attributes.items() if t.is_class]


_CONTAINERS = ("ModuleList", "Sequential", "ModuleDict", "ParameterList", "ParameterDict")


def container_item(f: Lowering, value: Value, index: ast.expr) -> Any:
    """`container[index]`; the index is a constant."""
    names = container_names(value.type.script_class)
    if names is None:
        f.refuse(f"a {value.type} has no items")
    if isinstance(index, ast.Slice):
        bounds = [constant_of(f.value(e)) if e is not None else None for e in (index.lower, index.upper, index.step)]
        return Items([_of_object(f, value, n) for n in names[slice(*bounds)]])
    key = constant_of(f.value(index))
    if isinstance(key, str) and key in names:
        return _of_object(f, value, key)
    if isinstance(key, int) and -len(names) <= key < len(names):
        return _of_object(f, value, names[key])
    f.unsupported("submodules are indexed by constants only", help="iterate over the container, or use if and else")
