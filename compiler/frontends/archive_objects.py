"""From archive data to the object model: classes and functions on demand, objects with their values at once.

objects_of(read("model.pt")) -> the root object, and a digest of the archive's code
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from stepwell.compiler.deferred import Attributes, Deferred
from stepwell.compiler.frontends.archive import (
    ArchiveData,
    ClassRecord,
    CodeIndex,
    DeviceData,
    EnumData,
    FunctionRecord,
    ScriptObjectData,
    TensorData,
    upgrade,
)
from stepwell.compiler.frontends.archive.upgraders import definition, old_schemas
from stepwell.compiler.frontends.language.names import Literal, Namespace, OpName
from stepwell.compiler.frontends.parser import TypeExpr, type_from_ast
from stepwell.compiler.objects import Device, EnumMember, Kind, ScriptClass, ScriptFunction, ScriptObject
from stepwell.dialects.diagnostics import Location

Array = np.ndarray[Any, np.dtype[Any]]

_KINDS: dict[str, Kind] = {
    "module": "module", "class": "class", "namedtuple": "namedtuple", "enum": "enum", "interface": "interface",
    "module_interface": "interface",
}  # fmt: skip

CURRENT = 10
"""The version whose operators are today's."""


class ArchiveEnvironment:
    """The names that an archive's code sees: torch, ops, CONSTANTS, __torch__."""

    python = False

    def __init__(self, code: CodeIndex | None, version: int) -> None:
        self.code, self.version = code, version
        self.constants: tuple[Any, ...] = ()
        self._classes: dict[str, ScriptClass] = {}
        self._functions: dict[str, ScriptFunction] = {}

    @property
    def arrays(self) -> Mapping[str, Array]:
        """The tensors among CONSTANTS by name."""
        return {f"CONSTANTS.c{n}": v for n, v in enumerate(self.constants) if isinstance(v, np.ndarray)}

    def lookup(self, name: str) -> Any:
        if name in ("torch", "ops", "CONSTANTS", "__torch__"):
            return Namespace(name)
        return {"inf": Literal(float("inf")), "nan": Literal(float("nan"))}.get(name)

    def attribute(self, namespace: str, name: str) -> Any:
        if namespace == "torch":
            return OpName(f"aten::{name}")
        if namespace == "ops":
            return Namespace(f"ops.{name}")
        if namespace.startswith("ops."):
            return OpName(f"{namespace[4:]}::{name}")
        if namespace == "CONSTANTS":
            return self._constant(name)
        return self._defined(f"{namespace}.{name}")

    def _constant(self, name: str) -> Literal | None:
        number = name[1:]
        if name[:1] != "c" or not number.isdigit() or int(number) >= len(self.constants):
            return None
        return Literal(self.constants[int(number)])

    def _defined(self, path: str) -> Any:
        found = self.code.find(path) if self.code is not None else None
        if isinstance(found, ClassRecord):
            return self.class_of(found)
        if isinstance(found, FunctionRecord):
            return self.function_of(found)
        return Namespace(path)

    def type_of(self, annotation: ast.expr) -> TypeExpr:
        return type_from_ast(annotation)

    def class_named(self, name: str) -> ScriptClass | None:
        found = self._classes.get(name)
        if found is None and self.code is not None:
            record = self.code.find(name)
            found = self.class_of(record) if isinstance(record, ClassRecord) else None
        return found

    def replacement(self, op: str, overload: str) -> ScriptFunction | None:
        if self.version >= CURRENT:
            return None
        if overload == "*":
            old = [u.name for u in old_schemas(op, self.version) if "out" not in u.overload]
            name = old[0] if old else None
        else:
            name = upgrade(op, overload, self.version)
        return self._upgrader(name) if name is not None else None

    def _upgrader(self, name: str) -> ScriptFunction:
        found = self._functions.get(name)
        if found is None:
            node = definition(name)
            found = self._functions[name] = ScriptFunction(
                f"__upgraders__.{name}", node, ArchiveEnvironment(None, CURRENT), _upgrader_place, defaults_of(node)
            )
        return found

    # ------ records

    def class_of(self, record: ClassRecord) -> ScriptClass:
        """The class of a record, made once."""
        found = self._classes.get(record.qualified_name)
        if found is None:
            found = self._classes[record.qualified_name] = ScriptClass(
                record.qualified_name,
                _KINDS[record.kind],
                self,
                dict(record.attributes),
                {name: constant.value for name, constant in record.constants.items()},
                defaults=dict(record.defaults),
                members=dict(record.members),
                properties={
                    name: (p["getter"].node.name, p["setter"].node.name if "setter" in p else None)
                    for name, p in record.properties.items()
                    if "getter" in p
                },
                parameters=record.parameters,
                buffers=record.buffers,
                locate=lambda: record.location,
            )
            for name, method in record.methods.items():
                found.methods[name] = _function(method, self, found)
        return found

    def function_of(self, record: FunctionRecord) -> ScriptFunction:
        """The function of a record, made once."""
        found = self._functions.get(record.qualified_name)
        if found is None:
            found = self._functions[record.qualified_name] = _function(record, self, None)
        return found


def _function(record: FunctionRecord, environment: ArchiveEnvironment, owner: ScriptClass | None) -> ScriptFunction:
    node = record.node
    static = owner is not None and any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    return ScriptFunction(
        record.qualified_name, node, environment, record.file.location, defaults_of(node), owner, static
    )


def defaults_of(node: ast.FunctionDef) -> dict[str, ast.expr]:
    """The default expressions of a definition by argument."""
    formals = node.args
    positional = [a.arg for a in (*formals.posonlyargs, *formals.args)]
    found = dict(zip(positional[len(positional) - len(formals.defaults) :], formals.defaults, strict=True))
    for argument, default in zip(formals.kwonlyargs, formals.kw_defaults, strict=True):
        if default is not None:
            found[argument.arg] = default
    return found


def _upgrader_place(node: ast.AST) -> Location:
    return Location("<upgraders>", getattr(node, "lineno", 1), getattr(node, "col_offset", 0), "")


# ------ objects


def objects_of(archive: ArchiveData) -> tuple[ScriptObject, str]:
    """The archive's module with everything inside it, and a digest of its code and constants.

    Arrays are read-only views of the archive; what the archive stores once is one object here too.
    """
    environment = ArchiveEnvironment(archive.code, archive.version)
    convert = _Converter(environment)
    root = convert.value(archive.root)
    assert isinstance(root, ScriptObject)
    environment.constants = tuple(convert.value_inside(c) for c in archive.constants)
    return root, _digest(archive, environment)


def _digest(archive: ArchiveData, environment: ArchiveEnvironment) -> str:
    digest = hashlib.sha256(f"archive {archive.version}".encode())
    for record in sorted(archive.code.files):
        digest.update(record.encode())
        digest.update(archive.code.files[record].source.data)
    for constant in environment.constants:
        shown = (
            (constant.dtype.str, constant.shape, constant.tobytes()) if isinstance(constant, np.ndarray) else constant
        )
        digest.update(repr(shown).encode())
    return digest.hexdigest()


class _Converter:
    """Archive values to values of the object model, each once."""

    def __init__(self, environment: ArchiveEnvironment) -> None:
        self._environment = environment
        self._done: dict[int, Any] = {}

    def value(self, value: Any) -> Any:
        rule = _CONVERSIONS.get(type(value))
        if rule is None:
            return value
        found = self._done.get(id(value))
        if found is None:
            found = self._done[id(value)] = rule(self, value)
        return found

    def object(self, data: ScriptObjectData) -> ScriptObject:
        cls = self._environment.class_named(data.qualified_name)
        assert cls is not None, "the archive was checked"
        attributes = {name: self.value(v) for name, v in data.attributes.items()}
        if Deferred in map(type, attributes.values()):
            attributes = Attributes(attributes)
        return ScriptObject(cls, attributes, self.value_inside(data.state), data.has_state)

    def member(self, data: EnumData) -> EnumMember:
        cls = self._environment.class_named(data.qualified_name)
        assert cls is not None and data.name is not None, "the archive was checked"
        return EnumMember(cls, data.name)

    def value_inside(self, value: Any) -> Any:
        """A value in a list, tuple or dict, which has its arrays at once."""
        found = self.value(value)
        return found.array() if type(found) is Deferred else found

    def sequence(self, data: Any) -> Any:
        parts = [self.value_inside(v) for v in data]
        return tuple(parts) if isinstance(data, tuple) else parts


def _rules() -> dict[type, Any]:
    from stepwell.compiler.frontends.archive import DictData, ListData

    return {
        ScriptObjectData: _Converter.object,
        TensorData: lambda c, v: v.array if v.storage.read is None else Deferred(v),
        ListData: _Converter.sequence,
        tuple: _Converter.sequence,
        DictData: lambda c, v: {c.value_inside(k): c.value_inside(x) for k, x in v.items()},
        DeviceData: lambda c, v: Device(v.text),
        EnumData: _Converter.member,
    }


_CONVERSIONS = _rules()
