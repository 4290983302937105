"""The arguments of a method: bound by name, held against their declared types, converted as TorchScript converts.

    parameters.bind(arguments, keywords)      values in order, defaults filled in
    parameters.convert(values)                the same as the program takes them

A call whose structure has been seen before is not looked at again: what `convert` would change has another key.
Nothing here imports xDSL.
"""

from __future__ import annotations

import ast
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stepwell.compiler.frontends.parser.types import TypeExpr
from stepwell.compiler.objects import EnumMember, Environment, ScriptClass, ScriptFunction, ScriptObject
from stepwell.compiler.signature import LARGEST, dtype_name, is_torch_tensor, numpy_of
from stepwell.dialects.diagnostics import ArgumentError, Location

_TENSOR = TypeExpr("Tensor")


class Mismatch(Exception):
    """A value that is not of the wanted type; the text says what is wrong beyond that, `help` what to do."""

    def __init__(self, why: str = "", help: str | None = None) -> None:
        super().__init__(why)
        self.help = help


class Parameters:
    """What a function takes, without self where it is bound to an object."""

    def __init__(self, function: ScriptFunction, *, bound: bool) -> None:
        self.function = function
        formals = function.node.args
        skipped = int(bound and not function.is_static)
        listed = [*formals.posonlyargs, *formals.args, *formals.kwonlyargs][skipped:]
        self.names = [a.arg for a in listed]
        self.positional = len(formals.posonlyargs) + len(formals.args) - skipped
        self._nodes = {a.arg: a for a in listed}
        self._defaults = _defaults(function)
        self._types: dict[str, TypeExpr] = {}

    # ------ by name

    def bind(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Any]:
        """Arguments in order with defaults. ArgumentError (a TypeError) in Python's words."""
        if len(arguments) == len(self.names) == self.positional and not keywords:
            return list(arguments)
        if len(arguments) > self.positional:
            self._refuse(f"takes {_count(self.positional)} by position, not {len(arguments)}")
        unknown = next((k for k in keywords if k not in self._nodes), None)
        if unknown is not None:
            self._refuse(f"has no argument {unknown!r}; its arguments: {', '.join(self.names) or 'none'}")
        values, rest = list(arguments), dict(keywords)
        for name in self.names[: len(arguments)]:
            if name in rest:
                self._refuse(f"got its argument {name!r} twice, by position and by name", name)
        for name in self.names[len(arguments) :]:
            if name in rest:
                values.append(rest.pop(name))
            elif name in self._defaults:
                values.append(self._defaults[name])
            else:
                self._refuse(f"needs an argument {name!r}: {self._described(name)}", name)
        return values

    def _described(self, name: str) -> str:
        return described(self.type_of(name))

    def _refuse(self, what: str, name: str | None = None, help: str | None = None) -> None:
        raise ArgumentError(f"{self.function.node.name}() {what}", self.place(name), help=help)

    def place(self, name: str | None = None) -> Location:
        """Where a parameter (or the function) stands in the model's source."""
        return self.function.locate(self._nodes[name] if name is not None else self.function.node)

    # ------ by type

    def type_of(self, name: str) -> TypeExpr:
        """The declared type; tensor where there is none, as in TorchScript."""
        found = self._types.get(name)
        if found is None:
            annotation = self._nodes[name].annotation
            found = _TENSOR if annotation is None else self.function.environment.type_of(annotation)
            self._types[name] = found
        return found

    def convert(self, values: Sequence[Any], conversion: Conversion) -> list[Any]:
        """The values as the program takes them: ints for floats, members of enums, native byte order.

        Raises ArgumentError, which names the argument, what it should be and what it is, and shows its line.
        """
        found = []
        for name, value in zip(self.names, values, strict=True):
            type_ = self.type_of(name)
            try:
                found.append(conversion.to(type_, value))
            except Mismatch as problem:
                why = f" ({problem})" if str(problem) else ""
                untyped = self._nodes[name].annotation is None and not is_tensor_like(value)
                help = f"it has no annotation, so it is a tensor: write {name}: {_spelled(value)}" if untyped else None
                what = f"takes {_with_article(described(type_))} as argument {name!r}, not {shown(value)}{why}"
                self._refuse(what, name, help or problem.help)
        return found


def _count(number: int) -> str:
    return f"{number} argument" if number == 1 else f"{number} arguments"


def _defaults(function: ScriptFunction) -> dict[str, Any]:
    return {
        name: constant_of(function, value) if isinstance(value, ast.expr) else value
        for name, value in function.defaults.items()
    }


def constant_of(function: ScriptFunction, expression: ast.expr) -> Any:
    """The value of a default that is written as an expression: literals and CONSTANTS.cN."""
    if isinstance(expression, ast.Attribute) and isinstance(expression.value, ast.Name):
        found = function.environment.lookup(expression.value.id)
        inner = function.environment.attribute(getattr(found, "path", expression.value.id), expression.attr)
        return getattr(inner, "value", inner)
    if isinstance(expression, ast.Name):
        found = function.environment.lookup(expression.id)
        return getattr(found, "value", found)
    return ast.literal_eval(expression)


# ------ conversion


class Conversion:
    """Converts the values of one call; an array that comes twice stays one array."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._arrays: dict[int, tuple[Any, Any]] = {}

    def to(self, type_: TypeExpr, value: Any) -> Any:
        """The value as one of the type. Raises Mismatch."""
        rule = _RULES.get(type_.name)
        if rule is not None:
            return rule(self, type_, value)
        cls = self._environment.class_named(type_.name)
        return self._of_class(cls, value) if cls is not None else value

    def _of_class(self, cls: ScriptClass, value: Any) -> Any:
        if cls.kind == "enum":
            return _member(cls, value)
        if cls.kind == "namedtuple":
            return self._named_tuple(cls, value)
        inner = getattr(value, "_object", None)
        what = "pass its parts instead, or make the object inside the function"
        raise Mismatch("objects cannot be passed from outside" if inner is not None or value is not None else "", what)

    def _named_tuple(self, cls: ScriptClass, value: Any) -> Any:
        if not isinstance(value, tuple) or len(value) != len(cls.attributes):
            raise Mismatch(f"it has the fields {', '.join(cls.attributes)}")
        return tuple(self._inside(t, v, f"at .{n}") for (n, t), v in zip(cls.attributes.items(), value, strict=True))

    def _inside(self, type_: TypeExpr, value: Any, where: str) -> Any:
        try:
            return self.to(type_, value)
        except Mismatch as problem:
            inner = f": {problem}" if str(problem) else ""
            needed = _with_article(described(type_))
            raise Mismatch(f"{where} {needed} is needed, not {shown(value)}{inner}", problem.help) from None

    # ------ tensors

    def tensor(self, _: TypeExpr, value: Any) -> Any:
        if isinstance(value, np.ndarray) or is_torch_tensor(value):
            return self._array(value)
        if isinstance(value, np.generic):
            return self._array(np.asarray(value))
        if hasattr(value, "__array__") and not isinstance(value, type):
            return self._array(np.asarray(value))
        if hasattr(value, "__dlpack__") and not isinstance(value, type):
            return self._array(np.from_dlpack(value))
        raise Mismatch("", _help_for_tensor(value))

    def _array(self, value: Any) -> Any:
        if is_torch_tensor(value):
            try:
                numpy_of(value)
            except (TypeError, RuntimeError) as problem:
                raise Mismatch(str(problem), "pass a dense tensor on the CPU: x.cpu().to_dense()") from None
            return value
        if isinstance(value, np.ma.MaskedArray):
            raise Mismatch("a masked array", "its mask would be lost: call x.filled(...) first")
        if dtype_name(value.dtype) is not None:
            return value
        native = value.dtype.newbyteorder("=")
        if dtype_name(native) is None:
            raise Mismatch("that dtype is not supported", f"these are: {', '.join(SUPPORTED)}")
        kept = self._arrays.setdefault(id(value), (value, None))
        if kept[1] is None:
            kept = self._arrays[id(value)] = (value, value.astype(native))
        return kept[1]

    # ------ numbers

    def integer(self, _: TypeExpr, value: Any) -> int:
        value = _item(value)
        code = _dtype_code(value)
        if code is not None:
            return code
        if not isinstance(value, (bool, int, np.integer, np.bool_)):
            raise Mismatch()
        found = int(value)
        if not -LARGEST - 1 <= found <= LARGEST:
            raise Mismatch("it does not fit into 64 bits")
        return found

    def floating(self, _: TypeExpr, value: Any) -> float:
        value = _item(value)
        if not isinstance(value, (bool, int, float, np.number, np.bool_)) or isinstance(value, np.complexfloating):
            raise Mismatch()
        try:
            return float(value)
        except OverflowError:
            raise Mismatch("it is too large for a float") from None

    def boolean(self, _: TypeExpr, value: Any) -> bool:
        value = _item(value)
        if not isinstance(value, (bool, int, np.integer, np.bool_)):
            raise Mismatch()
        return bool(value)

    def number(self, type_: TypeExpr, value: Any) -> Any:
        value = _item(value)
        if isinstance(value, (bool, np.bool_)):
            return bool(value)
        if isinstance(value, (int, np.integer)):
            return self.integer(type_, value)
        return self.floating(type_, value)

    def text(self, _: TypeExpr, value: Any) -> str:
        if not isinstance(value, str):
            raise Mismatch()
        return str(value)

    def device(self, _: TypeExpr, value: Any) -> Any:
        if isinstance(value, str):
            return value
        if type(value).__name__ in ("device", "Device"):
            return getattr(value, "text", None) or str(value)
        raise Mismatch()

    # ------ what holds other values

    def nothing(self, _: TypeExpr, value: Any) -> None:
        if value is not None:
            raise Mismatch()

    def optional(self, type_: TypeExpr, value: Any) -> Any:
        return None if value is None else self.to(type_.args[0], value)

    def union(self, type_: TypeExpr, value: Any) -> Any:
        """A member that the value is of as it stands, else the first that it converts to."""
        reasons: list[Mismatch] = []
        made: list[Any] = []
        for member in type_.args:
            try:
                found = self.to(member, value)
            except Mismatch as problem:
                reasons.append(problem)
                continue
            if found is value or (type(found) is type(value) and not is_tensor_like(value)):
                return found
            made.append(found)
        if made:
            return made[0]
        raise Mismatch("", next((r.help for r in reasons if r.help), None))

    def listed(self, type_: TypeExpr, value: Any) -> Any:
        element = type_.args[0] if type_.args else _TENSOR
        if isinstance(value, np.ndarray) and value.ndim == 1 and element.name in ("int", "float", "bool"):
            value = value.tolist()
        if not isinstance(value, (list, tuple, range)):
            raise Mismatch()
        return _same_or([self._inside(element, v, f"at [{i}]") for i, v in enumerate(value)], value)

    def tupled(self, type_: TypeExpr, value: Any) -> Any:
        if not isinstance(value, (tuple, list)):
            raise Mismatch()
        if len(value) != len(type_.args):
            raise Mismatch(f"it has {len(value)} elements")
        parts = tuple(self._inside(t, v, f"at [{i}]") for i, (t, v) in enumerate(zip(type_.args, value, strict=True)))
        return _same_or(parts, value)

    def mapped(self, type_: TypeExpr, value: Any) -> Any:
        if not isinstance(value, dict):
            raise Mismatch()
        key, element = type_.args if len(type_.args) == 2 else (TypeExpr("str"), _TENSOR)
        made = {self._inside(key, k, "as a key"): self._inside(element, v, f"at [{k!r}]") for k, v in value.items()}
        return value if all(made[k] is v for k, v in value.items() if k in made) and type(value) is dict else made

    def anything(self, _: TypeExpr, value: Any) -> Any:
        """Whatever a program can hold."""
        if is_tensor_like(value):
            return self.tensor(_TENSOR, value)
        if isinstance(value, (list, tuple)):
            return _same_or(type(value)(self._inside(_ANY, v, f"at [{i}]") for i, v in enumerate(value)), value)
        if isinstance(value, dict):
            return {k: self._inside(_ANY, v, f"at [{k!r}]") for k, v in value.items()}
        if isinstance(value, int) and not isinstance(value, bool):
            return self.integer(_ANY, value)
        if value is None or isinstance(value, (bool, float, str, ScriptObject)):
            return value
        raise Mismatch()

    def write_back(self) -> None:
        """Give the caller's arrays what the program wrote into their copies in native byte order."""
        for original, copy in self._arrays.values():
            if copy is not None and original.flags.writeable:
                np.copyto(original, copy)


_ANY = TypeExpr("Any")

_RULES: dict[str, Callable[[Conversion, TypeExpr, Any], Any]] = {
    "Tensor": Conversion.tensor, "int": Conversion.integer, "float": Conversion.floating, "bool": Conversion.boolean,
    "number": Conversion.number, "Scalar": Conversion.number, "str": Conversion.text, "NoneType": Conversion.nothing,
    "Device": Conversion.device, "Optional": Conversion.optional, "Union": Conversion.union, "List": Conversion.listed,
    "Tuple": Conversion.tupled, "Dict": Conversion.mapped, "Any": Conversion.anything,
}  # fmt: skip

SUPPORTED = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64",
)  # fmt: skip
"""The dtypes of arguments."""


def _same_or(made: Any, value: Any) -> Any:
    """The caller's own container where nothing in it was converted."""
    same = type(made) is type(value) and all(a is b for a, b in zip(made, value, strict=True))
    return value if same else made


def _item(value: Any) -> Any:
    """The number in an array or tensor without dimensions."""
    if (isinstance(value, np.ndarray) or is_torch_tensor(value)) and value.ndim == 0:
        return value.item()
    return value


def _dtype_code(value: Any) -> int | None:
    """torch's number of a dtype, which is how the language holds dtypes."""
    if isinstance(value, np.dtype) or type(value).__name__ in ("dtype", "DType"):
        from stepwell.dialects import dtypes

        name = str(value).removeprefix("torch.")
        return dtypes.BY_NAME[name].code if name in dtypes.BY_NAME else None
    return None


def _member(cls: ScriptClass, value: Any) -> EnumMember:
    known = type(value) is cls.python if cls.python is not None else type(value).__name__ == cls.short_name
    if isinstance(value, enum.Enum) and known and value.name in cls.members:
        return EnumMember(cls, value.name)
    if isinstance(value, EnumMember) and value.cls is cls:
        return value
    raise Mismatch("", f"give a member of {cls.short_name}: {', '.join(cls.members)}")


# ------ words


def is_tensor_like(value: Any) -> bool:
    """Arrays of any kind: what a tensor can be made of without asking."""
    if isinstance(value, (np.ndarray, np.generic)) or is_torch_tensor(value):
        return True
    return not isinstance(value, type) and (hasattr(value, "__array__") or hasattr(value, "__dlpack__"))


def described(type_: TypeExpr) -> str:
    """A type as a message names it: classes by their own name."""
    if type_.name == "number":
        return "number"
    if type_.name == "Union" and len(type_.args) == 2 and type_.args[1].name == "NoneType":
        return f"Optional[{described(type_.args[0])}]"
    if type_.args:
        return f"{type_.name}[{', '.join(map(described, type_.args))}]"
    return "None" if type_.name == "NoneType" else type_.name.rpartition(".")[2]


def shown(value: Any) -> str:
    """What a message calls a value: `a str`, `a float64[2, 3] array`."""
    if value is None:
        return "None"
    if isinstance(value, np.ndarray) or is_torch_tensor(value):
        dtype = str(value.dtype).removeprefix("torch.")
        kind = "array" if isinstance(value, np.ndarray) else "tensor"
        return _with_article(f"{dtype}[{', '.join(map(str, value.shape))}] {kind}")
    return _with_article(type(value).__name__)


def _with_article(name: str) -> str:
    if name == "None":
        return name
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def _spelled(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind in (bool, int, float, str) else "Optional[Tensor]" if value is None else "..."


def _help_for_tensor(value: Any) -> str | None:
    if isinstance(value, (bool, int, float, list, tuple)):
        return "make it a tensor first: np.asarray(...)"
    return None
