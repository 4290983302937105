"""The program of an archive: classes and functions by qualified name, each parsed when it is asked for.

`__torch__.a.b.C` is the class (or function) `C` in the record `code/__torch__/a/b.py`, and nowhere else: no name of an
archive is ever looked up in Python.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NoReturn

from stepwell.compiler.frontends.archive.debug import SourceRanges
from stepwell.compiler.frontends.parser import Definition, SourceText, TypeExpr, definitions, type_from_ast
from stepwell.dialects.diagnostics import ArchiveError, CompileError, Location, UnsupportedError, render

Kind = Literal["module", "class", "namedtuple", "enum", "interface", "module_interface"]

_KINDS: dict[str | None, Kind] = {
    None: "class", "Module": "module", "NamedTuple": "namedtuple", "Enum": "enum", "Interface": "interface",
    "ModuleInterface": "module_interface",
}  # fmt: skip
_LISTS = {
    "__parameters__": "parameters",
    "__buffers__": "buffers",
    "__forward_hooks__": "forward_hooks",
    "__forward_pre_hooks__": "forward_pre_hooks",
}
_PROPERTY = re.compile(r"__(.+)_(getter|setter)")


class CodeFile:
    """One record of source: its text, its definitions, and where its lines came from."""

    def __init__(self, record: str, data: bytes, debug: bytes | None) -> None:
        self.source = SourceText(record, data)
        self.ranges = SourceRanges(debug, record + ".debug_pkl") if debug else None

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        """Definition by name; ArchiveError when the text is damaged or defines a name twice."""
        found: dict[str, Definition] = {}
        with _as_archive_error():
            for definition in definitions(self.source):
                if definition.name in found:
                    raise CompileError(
                        f"{definition.name!r} is defined twice",
                        self.source.location(definition.line, definition.column),
                    )
                found[definition.name] = definition
        return found

    def archive_location(self, node: ast.AST) -> Location:
        """Where a node stands in the archive's own text."""
        return self.source.location(getattr(node, "lineno", 1), getattr(node, "col_offset", 0))

    def location(self, node: ast.AST) -> Location:
        """Where a node stands in the model's own source if the archive says so, else in the archive's text."""
        if self.ranges is not None and hasattr(node, "lineno") and hasattr(node, "col_offset"):
            found = self.ranges.lookup(self.source.offset(node.lineno, node.col_offset))
            if found is not None:
                return found
        return self.archive_location(node)


@dataclass(eq=False)
class FunctionRecord:
    """A function, or a method of a class: `node` is its definition, `file` gives locations to the nodes inside."""

    qualified_name: str
    node: ast.FunctionDef
    file: CodeFile

    @property
    def location(self) -> Location:
        return self.file.location(self.node)


@dataclass(frozen=True)
class Constant:
    """A `Final` member of a class: its declared type and the expression of its value."""

    type: TypeExpr
    value: ast.expr


@dataclass(eq=False)
class ClassRecord:
    """A class of the archive.

    `attributes` are the stored ones with their declared types (the fields, for a NamedTuple; `defaults` holds the
    expressions of those that have one). `constants` are the `Final` ones, which live in the code. `members` are the
    values of an Enum. The four lists name attributes and methods of a module.
    """

    qualified_name: str
    kind: Kind
    node: ast.ClassDef
    file: CodeFile
    attributes: dict[str, TypeExpr] = field(default_factory=dict)
    defaults: dict[str, ast.expr] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    members: dict[str, int | float | str] = field(default_factory=dict)
    methods: dict[str, FunctionRecord] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    forward_hooks: tuple[str, ...] = ()
    forward_pre_hooks: tuple[str, ...] = ()

    @property
    def location(self) -> Location:
        return self.file.location(self.node)

    @property
    def name(self) -> str:
        """The class's own name, without its path."""
        return self.node.name

    @property
    def has_setstate(self) -> bool:
        """Whether objects are stored through `__getstate__` and restored by `__setstate__`."""
        return "__getstate__" in self.methods and "__setstate__" in self.methods

    @property
    def properties(self) -> dict[str, dict[str, FunctionRecord]]:
        """Property name -> {"getter": method, "setter": method}, as torch prints them (`__name_getter`)."""
        found: dict[str, dict[str, FunctionRecord]] = {}
        for name, method in self.methods.items():
            match = _PROPERTY.fullmatch(name)
            if match:
                found.setdefault(match[1], {})[match[2]] = method
        return found


class CodeIndex:
    """All code of one archive.

    `sources` maps a record (`code/__torch__/a.py`) to its text, `debug` to the bytes of its `.debug_pkl`.
    """

    def __init__(self, sources: Mapping[str, bytes], debug: Mapping[str, bytes] | None = None) -> None:
        debug = debug or {}
        self.files = {record: CodeFile(record, data, debug.get(record)) for record, data in sources.items()}
        self._found: dict[str, ClassRecord | FunctionRecord] = {}

    def names(self) -> Iterator[str]:
        """The qualified names of all classes and functions; tokenizes every file."""
        for record, file in self.files.items():
            prefix = record.removeprefix("code/").removesuffix(".py").replace("/", ".")
            for name in file.definitions:
                yield f"{prefix}.{name}"

    def find(self, qualified_name: str) -> ClassRecord | FunctionRecord | None:
        """The class or function of a name, None if there is none; ArchiveError if its text is damaged."""
        known = self._found.get(qualified_name)
        if known is not None:
            return known
        path, _, name = qualified_name.rpartition(".")
        file = self.files.get(f"code/{path.replace('.', '/')}.py")
        definition = file.definitions.get(name) if file and name else None
        if file is None or definition is None:
            return None
        record = self._found[qualified_name] = _record(qualified_name, definition, file)
        return record

    def resolve(self, path: Sequence[str]) -> tuple[ClassRecord | FunctionRecord, tuple[str, ...]] | None:
        """The longest beginning of a dotted path that names a class or function, and what is left of the path.

        `("__torch__", "m", "Color", "RED")` gives the class `__torch__.m.Color` and `("RED",)`.
        """
        for end in range(len(path), 1, -1):
            found = self.find(".".join(path[:end]))
            if found is not None:
                return found, tuple(path[end:])
        return None

    def class_named(self, qualified_name: str) -> ClassRecord:
        """The class of a name; ArchiveError naming it if the archive lacks it."""
        found = self.find(qualified_name)
        if not isinstance(found, ClassRecord):
            self._missing("class", qualified_name, found)
        return found

    def function_named(self, qualified_name: str) -> FunctionRecord:
        """The function of a name; ArchiveError naming it if the archive lacks it."""
        found = self.find(qualified_name)
        if not isinstance(found, FunctionRecord):
            self._missing("function", qualified_name, found)
        return found

    def _missing(self, kind: str, name: str, found: object) -> NoReturn:
        if found is not None:
            raise ArchiveError(f"{name!r} is no {kind}")
        record = f"code/{name.rpartition('.')[0].replace('.', '/')}.py"
        why = "does not define it" if record in self.files else "is missing"
        raise ArchiveError(f"the archive has no {kind} {name!r}: the record {record!r} {why}")


class _as_archive_error:
    """Turn what the parser says about a text into an ArchiveError, as the text belongs to the archive."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, CompileError) and not isinstance(problem, UnsupportedError):
            raise ArchiveError(str(problem)) from None


def _record(qualified_name: str, definition: Definition, file: CodeFile) -> ClassRecord | FunctionRecord:
    with _as_archive_error():
        node = definition.node
        if isinstance(node, ast.FunctionDef):
            return FunctionRecord(qualified_name, node, file)
        return _class(qualified_name, node, file)
    raise AssertionError("unreachable")


def _class(qualified_name: str, node: ast.ClassDef, file: CodeFile) -> ClassRecord:
    base = node.bases[0] if node.bases else None
    name = base.id if isinstance(base, ast.Name) else None
    if len(node.bases) > 1 or (base is not None and name is None) or name not in _KINDS:
        raise CompileError(
            f"the class {qualified_name!r} has a base that archives do not have", file.archive_location(node)
        )
    record = ClassRecord(qualified_name, _KINDS[name], node, file)
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            if statement.name in record.methods:
                _refuse(record, statement, f"defines the method {statement.name!r} twice")
            method = FunctionRecord(f"{qualified_name}.{statement.name}", statement, file)
            record.methods[statement.name] = method
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            _declare(record, statement, statement.target.id, statement.annotation, statement.value)
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            _assign(record, statement, statement.targets[0])
        elif not isinstance(statement, ast.Pass) and not _is_text(statement):
            _refuse(record, statement, "has a statement that is neither an attribute nor a method")
    return record


def _declare(record: ClassRecord, statement: ast.stmt, name: str, annotation: ast.expr, value: ast.expr | None) -> None:
    type = type_from_ast(annotation, record.file.source)
    if name in record.attributes or name in record.constants:
        _refuse(record, statement, f"declares the attribute {name!r} twice")
    if type.name == "Final":
        if value is None:
            _refuse(record, statement, f"gives the constant {name!r} no value")
        record.constants[name] = Constant(type.args[0], value)
        return
    record.attributes[name] = type
    if value is not None:
        record.defaults[name] = value


def _assign(record: ClassRecord, statement: ast.Assign, target: ast.expr) -> None:
    """`__parameters__ = [...]`, `__annotations__["0"] = T`, or a member of an Enum."""
    if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
        key = target.slice
        if target.value.id == "__annotations__" and isinstance(key, ast.Constant) and isinstance(key.value, str):
            _declare(record, statement, key.value, statement.value, None)
            return
    elif isinstance(target, ast.Name):
        if target.id in _LISTS:
            setattr(record, _LISTS[target.id], _names(record, statement))
            return
        if target.id == "__annotations__":
            return
        if record.kind == "enum":
            record.members[target.id] = _member(record, statement)
            return
    _refuse(record, statement, "has an assignment that archives do not have")


def _names(record: ClassRecord, statement: ast.Assign) -> tuple[str, ...]:
    found = statement.value.elts if isinstance(statement.value, ast.List) else [statement.value]
    names = [e.value for e in found if isinstance(e, ast.Constant) and isinstance(e.value, str)]
    if len(names) != len(found):
        _refuse(record, statement, "has a list of names that holds something else")
    return tuple(names)


def _member(record: ClassRecord, statement: ast.Assign) -> int | float | str:
    node, sign = statement.value, 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node, sign = node.operand, -1
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return sign * node.value  # type: ignore[operator,return-value]
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and sign == 1:
        return node.value
    _refuse(record, statement, "has a member that is no number or text")


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _refuse(record: ClassRecord, node: ast.AST, what: str) -> NoReturn:
    raise ArchiveError(
        render(f"the class {record.qualified_name!r} {what}", record.file.archive_location(node), None, None)
    )
