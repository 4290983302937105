"""Whole programs: every function that the entries reach, the classes they use, and the graph of objects.

    lower_program(root, methods) -> RawProgram        an object (or a function) and its entry methods, as one module

The module holds `torch.class_type` ops, one private func.func per function, and the object graph: `torch.nn_module`
with a `torch.slot` for each attribute that some function reads or writes. Tensors are resources beside the IR.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp, StringAttr, SymbolRefAttr, UnitAttr
from xdsl.ir import Attribute, Block, Operation, Region

from stepwell.compiler.deferred import Attributes, Deferred

# The modules below register how each construct is lowered.
from stepwell.compiler.frontends.language import (
    attributes,
    calls,
    conditions,
    displays,
    exits,
    loops,
    operators,
    statements,
    subscripts,
    torch_functions,
)
from stepwell.compiler.frontends.language.bindings import Scope, Value
from stepwell.compiler.frontends.language.functions import Signature, signature_of
from stepwell.compiler.frontends.language.lowering import Lowering
from stepwell.compiler.frontends.language.object_graph import ObjectGraph
from stepwell.compiler.frontends.language.resources import Names, names_of
from stepwell.compiler.frontends.language.static_types import NONE, Type, class_type
from stepwell.compiler.objects import ScriptClass, ScriptFunction, ScriptObject
from stepwell.dialects.diagnostics import CompileError
from stepwell.dialects.torch import operations, ops

Array = np.ndarray[Any, np.dtype[Any]]

_RULES = (attributes, calls, conditions, displays, loops, operators, statements, subscripts, torch_functions)


class Resources(Attributes):
    """The arrays that the program's IR refers to, by name; `known` has the names of all that it could."""

    def __init__(self, known: Names) -> None:
        super().__init__()
        self._names = known

    def name_of(self, array: Array | Deferred, wish: str = "constant") -> str:
        """The name of an array, made from `wish` if it has none yet."""
        found = self._names.name(array, wish)
        self[found] = array
        return found


@dataclass
class Entry:
    """A method that can be called from outside: the symbol of its function, and what it takes and gives."""

    symbol: str
    function: ScriptFunction
    signature: Signature


@dataclass
class RawProgram:
    """Raw IR of the torch level. `entries` by method name ("forward"; of a function its own name)."""

    module: ModuleOp
    resources: dict[str, Array]
    root: ScriptObject | ScriptFunction
    entries: dict[str, Entry]
    classes: dict[str, ScriptClass] = field(default_factory=dict)


@dataclass
class _Use:
    """What functions use of a class."""

    attributes: dict[str, Type] = field(default_factory=dict)
    methods: dict[str, ScriptFunction] = field(default_factory=dict)


class Program:
    """The functions of one program, lowered as they are reached."""

    def __init__(self, root: ScriptObject | ScriptFunction | None = None) -> None:
        self.resources = Resources(names_of(root) if root is not None else Names())
        self.root = root
        self.functions: dict[ScriptFunction, func.FuncOp] = {}
        self.uses_of: dict[ScriptClass, _Use] = {}
        self._signatures: dict[ScriptFunction, Signature] = {}
        self._symbols: dict[str, ScriptFunction] = {}
        self._pending: list[ScriptFunction] = []
        self._open: list[ScriptFunction] = []
        self._interfaces: list[tuple[ScriptClass, str]] = []

    # ------ asked by functions that are being lowered

    def signature(self, function: ScriptFunction) -> Signature:
        """The signature of a function, read once."""
        found = self._signatures.get(function)
        if found is None:
            found = self._signatures[function] = signature_of(function)
        return found

    def returns(self, function: ScriptFunction, caller: Lowering | None = None) -> Type:
        """The type of a function's result; it is lowered now if nothing else tells, else soon."""
        signature = self.signature(function)
        self._name(function)
        if signature.returns is None:
            if function in self._open:
                raise CompileError(
                    f"{function.node.name} calls itself, so its result needs a type",
                    function.location,
                    help=f"annotate it: def {function.node.name}(...) -> Tensor:",
                )
            self.lower(function)
        elif function not in self.functions and function not in self._open:
            self._pending.append(function)
        assert signature.returns is not None
        return signature.returns

    def method_returns(self, cls: ScriptClass, method: ScriptFunction, caller: Lowering | None = None) -> Type:
        """As `returns`, for a method called on an object of a class (or of whatever has that interface)."""
        if cls.kind == "interface":
            if (cls, method.node.name) not in self._interfaces:
                self._interfaces.append((cls, method.node.name))
                for implementing in list(self._classes()):
                    self._implement(cls, method.node.name, implementing)
            self.declare(cls)
            returns = self.signature(method).returns
            assert returns is not None, "methods of interfaces are annotated"
            return returns
        self.declare(cls).methods[method.node.name] = method
        return self.returns(method, caller)

    def uses(self, cls: ScriptClass, name: str, type_: Type) -> None:
        """A function reads or writes an attribute."""
        self.declare(cls).attributes[name] = type_

    def declare(self, cls: ScriptClass) -> _Use:
        """The class occurs in the program."""
        found = self.uses_of.get(cls)
        if found is None:
            found = self.uses_of[cls] = _Use()
            for interface, name in self._interfaces:
                self._implement(interface, name, cls)
        return found

    def _classes(self) -> Iterator[ScriptClass]:
        yield from list(self.uses_of)
        if isinstance(self.root, ScriptObject):
            for value in self.root.walk():
                yield value.cls

    def _implement(self, interface: ScriptClass, name: str, cls: ScriptClass) -> None:
        if cls.kind != "interface" and cls.implements(interface):
            self.uses_of.setdefault(cls, _Use()).methods[name] = cls.methods[name]
            self.returns(cls.methods[name])

    def symbol(self, function: ScriptFunction) -> str:
        """The symbol of a function: its qualified name, numbered where another function has it."""
        return self._name(function)

    def _name(self, function: ScriptFunction) -> str:
        name, number = function.name, 1
        while self._symbols.setdefault(name, function) is not function:
            name, number = f"{function.name}.{number}", number + 1
        return name

    # ------ lowering

    def lower(self, function: ScriptFunction) -> func.FuncOp:
        """One function, unless it has been lowered already."""
        found = self.functions.get(function)
        if found is None:
            self._open.append(function)
            try:
                found = self.functions[function] = _lower_body(self, function)
            finally:
                self._open.remove(function)
        return found

    def finish(self) -> None:
        """All functions that were called."""
        while self._pending:
            self.lower(self._pending.pop())


def _lower_body(program: Program, function: ScriptFunction) -> func.FuncOp:
    signature = program.signature(function)
    f = Lowering(program, function)
    with f.at(function.node):
        block = Block(arg_types=[t.ir for t in signature.types])
        f.scope = Scope(block)
        f.returns = signature.returns
        for name, type_, argument in zip(signature.names, signature.types, block.args, strict=True):
            argument.name_hint = name if name.isidentifier() else None
            f.bind(name, Value(argument, type_))
        statements.block(f, exits.structured(function.node.body))
        with f.at(function.node.body[-1]):
            result = _result(f, signature)
            f.add(func.ReturnOp(result.ssa))
        name = program.symbol(function)
        created = func.FuncOp(
            name, ([t.ir for t in signature.types], [result.type.ir]), Region(block), visibility="private"
        )
        created.location = f.location()
        return created


def _result(f: Lowering, signature: Signature) -> Value:
    if f.scope.ended:
        signature.returns = signature.returns or NONE
        return f.make(operations.Uninitialized, [], signature.returns)
    result = f.materialize(f.scope.names[exits.RESULT])
    if signature.returns is None:
        signature.returns = result.type
    return f.convert(result, signature.returns)


def lower_function(function: ScriptFunction) -> func.FuncOp:
    """One function alone; the functions that it calls are only named."""
    ops.declare_all()
    return Program(function).lower(function)


def lower_program(root: ScriptObject | ScriptFunction, methods: Sequence[str] = ("forward",)) -> RawProgram:
    """The raw module of an object and its entry methods, or of a function.

    Raises CompileError for what is wrong in the program's source, UnsupportedError for what Stepwell lacks.
    """
    ops.declare_all()
    program = Program(root)
    entries: dict[str, Entry] = {}
    if isinstance(root, ScriptFunction):
        program.returns(root)
        entries[root.node.name] = Entry(program.symbol(root), root, program.signature(root))
    else:
        program.declare(root.cls)
        for name in methods:
            method = root.cls.methods.get(name)
            if method is None:
                raise CompileError(f"{root.cls.short_name} has no method {name!r}", root.cls.location)
            program.method_returns(root.cls, method)
            entries[name] = Entry(program.symbol(method), method, program.signature(method))
    program.finish()
    body = _module_body(program)
    classes = {cls.name: cls for cls in program.uses_of}
    return RawProgram(ModuleOp(body), program.resources, root, entries, classes)


def _module_body(program: Program) -> list[Operation]:
    graph = ObjectGraph(program.uses_of, program.resources)
    if isinstance(program.root, ScriptObject):
        graph.object(program.root, "")
    types = [_class_type(program, cls, use) for cls, use in graph.classes()]
    return [*types, *graph.operations, *program.functions.values()]


def _class_type(program: Program, cls: ScriptClass, use: _Use) -> Operation:
    """`torch.class_type` with what is used of the class."""
    entries: list[Operation] = []
    for name, type_ in use.attributes.items():
        entries.append(operations.ClassAttribute.create(properties=_entry(name, "type", type_.ir)))
    for name, method in use.methods.items():
        symbol = SymbolRefAttr(program.symbol(method))
        entries.append(operations.Method.create(properties=_entry(name, "function", symbol)))
    class_type(cls)
    return operations.ClassType.create(properties={"sym_name": StringAttr(cls.name)}, regions=[Region(Block(entries))])


def _entry(name: str, key: str, value: Attribute) -> dict[str, Attribute]:
    return {"name": StringAttr(name), key: value, "isPrivate": UnitAttr()}
