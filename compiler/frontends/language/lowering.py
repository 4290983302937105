"""The state of one function being lowered, and the primitives that all constructs are lowered with.

Expressions and statements are lowered by functions in the other modules of this package, found by the class of the
node in EXPRESSIONS and STATEMENTS. They take this object first.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn

from xdsl.dialects.builtin import FileLineColLoc, IntAttr, StringAttr, UnknownLoc
from xdsl.ir import Attribute, Block, Operation, SSAValue

from stepwell.compiler.frontends.language import constants
from stepwell.compiler.frontends.language.bindings import (
    Items,
    Method,
    Range,
    Scope,
    Unusable,
    Value,
    is_empty_list,
    made_by,
)
from stepwell.compiler.frontends.language.names import Literal
from stepwell.compiler.frontends.language.static_types import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    NONE,
    TENSOR,
    Type,
    is_subtype,
    list_of,
    tuple_of,
    type_from_expression,
)
from stepwell.compiler.objects import Environment, ScriptClass, ScriptFunction
from stepwell.dialects.diagnostics import CompileError, Location, UnsupportedError
from stepwell.dialects.torch import operations
from stepwell.dialects.torch.declare import OPS, Declaration, operation_class

if TYPE_CHECKING:
    from stepwell.compiler.frontends.language.program import Program

EXPRESSIONS: dict[type[ast.expr], Callable[..., Any]] = {}
STATEMENTS: dict[type[ast.stmt], Callable[..., None]] = {}


def expression_rule(*kinds: type[ast.expr]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the lowering of an expression: `rule(f, node, want) -> binding`; `want` is a type or None."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        EXPRESSIONS.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def statement_rule(*kinds: type[ast.stmt]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers the lowering of a statement: `rule(f, node)`."""

    def register(rule: Callable[..., None]) -> Callable[..., None]:
        STATEMENTS.update(dict.fromkeys(kinds, rule))
        return rule

    return register


class Lowering:
    """One function: its source, its scopes, and where the next operation goes."""

    def __init__(self, program: Program, function: ScriptFunction) -> None:
        self.program = program
        self.function = function
        self.environment = function.environment
        self.scope = Scope(Block())
        self.returns: Type | None = None
        self.calling: list[Any] = []
        self._node: ast.AST | None = None
        self._locations: dict[tuple[int, int], FileLineColLoc] = {}

    # ------ places and errors

    @property
    def python(self) -> bool:
        """True for scripted Python, False for the language of archives."""
        return self.environment.python

    def place(self, node: ast.AST | None = None) -> Location:
        """Where a node (the current one) stands in the user's text."""
        found = node if node is not None and hasattr(node, "lineno") else self._node
        return self.function.locate(found if found is not None else self.function.node)

    def location(self) -> FileLineColLoc | UnknownLoc:
        node = self._node
        if node is None or not hasattr(node, "lineno"):
            node = self.function.node
        key = (node.lineno, node.col_offset)  # type: ignore[attr-defined]
        found = self._locations.get(key)
        if found is None:
            place = self.function.locate(node)
            found = FileLineColLoc(StringAttr(place.file), IntAttr(place.line), IntAttr(place.column + 1))
            self._locations[key] = found
        return found

    def refuse(self, message: str, node: ast.AST | None = None, help: str | None = None) -> NoReturn:
        """The program is wrong."""
        raise CompileError(_AN.sub("an ", message), self.place(node), help=help)

    def unsupported(self, what: str, node: ast.AST | None = None, help: str | None = None) -> NoReturn:
        """The program may be right, but Stepwell does not have this."""
        raise UnsupportedError(what, self.place(node), help=help)

    @contextmanager
    def at(self, node: ast.AST) -> Iterator[None]:
        """Operations made inside are located at a node; so are errors that have no place yet."""
        before, self._node = self._node, node
        try:
            yield
        except CompileError as error:
            raise error.at(self.place(node)) from None
        finally:
            self._node = before

    # ------ operations

    def add(self, operation: Operation) -> Operation:
        operation.location = self.location()
        self.scope.block.add_op(operation)
        return operation

    def make(
        self,
        cls: type[Operation],
        operands: Sequence[SSAValue],
        type_: Type,
        properties: dict[str, Attribute] | None = None,
    ) -> Value:
        """Append an operation with one result."""
        created = cls.create(operands=operands, result_types=[type_.ir], properties=properties or {})
        return Value(self.add(created).results[0], type_)

    def declared(
        self, declaration: Declaration, operands: Sequence[SSAValue], result_types: Sequence[Attribute]
    ) -> Sequence[SSAValue]:
        """Append the operation of a declaration; gives its results."""
        if declaration.schema.qualified_name == "aten::format":
            created: Operation = operations.FormatText.create(operands=operands, result_types=result_types)
        elif declaration.torch_mlir:
            created = operation_class(declaration).create(operands=operands, result_types=result_types)
        else:
            name = StringAttr(declaration.schema.operation_name)
            created = operations.Operator.create(
                operands=operands, result_types=result_types, properties={"name": name}
            )
        return self.add(created).results

    def overload(self, name: str, operands: Sequence[Value], type_: Type | None = None) -> Value:
        """Append a known overload ("aten::__is__"); `type_` where the schema does not tell the result's."""
        declaration = OPS.find(name)
        if declaration is None:
            self.missing_op(name)
        result = type_ if type_ is not None else _RESULTS[declaration.schema.returns[0].base]
        return Value(self.declared(declaration, [v.ssa for v in operands], [result.ir])[0], result)

    def missing_op(self, name: str) -> NoReturn:
        close = get_close_matches(name, OPS.names(), 1)
        asked = f"did you mean {close[0]}? " if close else ""
        advice = "docs/adding_an_op.md shows how to declare one, in a file of your own"
        self.unsupported(f"there is no op {name}", help=f"{asked}{advice}")

    def constant(self, value: Any, want: Type | None = None) -> Value:
        """The value of a Python constant (constants.py says which there are)."""
        return constants.build(self, value, want)

    # ------ expressions

    def expression(self, node: ast.expr, want: Type | None = None) -> Any:
        """The binding that an expression gives."""
        rule = EXPRESSIONS.get(type(node))
        if rule is None:
            self.unsupported(f"{described(node)} is not supported", node)
        before, self._node = self._node, node
        try:
            return rule(self, node, want)
        except CompileError as error:
            raise error.at(self.place(node)) from None
        finally:
            self._node = before

    def value(self, node: ast.expr, want: Type | None = None) -> Value:
        """The run-time value of an expression; of type `want`, where that is given."""
        found = self.expression(node, want)
        if type(found) is not Value:
            with self.at(node):
                found = self.materialize(found, want)
        if want is not None and found.type is not want:
            with self.at(node):
                return self.convert(found, want)
        return found

    def materialize(self, binding: Any, want: Type | None = None) -> Value:
        """The run-time value of a binding; CompileError where it has none."""
        if isinstance(binding, Value):
            return binding
        if isinstance(binding, Literal):
            return self.constant(binding.value, want)
        if isinstance(binding, Items):
            wanted: Sequence[Type | None] = [None] * len(binding.items)
            if want is not None and want.is_tuple and len(want.args) == len(binding.items):
                wanted = want.args
            return self.tuple_value([self.materialize(b, t) for b, t in zip(binding.items, wanted, strict=True)])
        if isinstance(binding, Range):
            listed: Value = self.call_language("list", [binding])
            return listed
        if isinstance(binding, Unusable):
            self.refuse(binding.message, help=binding.help)
        if isinstance(binding, Method):
            if not OPS.overloads(f"aten::{binding.name}") and binding.owner.type.cls is None:
                self.refuse(f"a {binding.owner.type} has no attribute {binding.name!r}")
            self.refuse(f"{binding.name} is a method of {binding.owner.type}: call it")
        if isinstance(binding, (ScriptFunction, ScriptClass)):
            self.refuse(f"{binding.name.rpartition('.')[2]} cannot be used as a value; it can be called")
        kind = _BINDINGS.get(type(binding).__name__, f"this {type(binding).__name__.lower()}")
        self.refuse(f"{kind} cannot be used as a value")

    def call_language(self, name: str, arguments: Sequence[Any]) -> Any:
        """Call one of the language's own functions on bindings."""
        from stepwell.compiler.frontends.language.builtins import call_builtin

        return call_builtin(self, name, list(arguments), {})

    def foreign(self, environment: Environment, node: ast.expr) -> Any:
        """An expression of constants (a default, a class constant) in the environment it was written in."""
        before, self.environment = self.environment, environment
        try:
            with self.inside(Scope(self.scope.block, constants=self.scope.constants)):
                return self.expression(node)
        finally:
            self.environment = before

    # ------ types

    def type_of(self, annotation: ast.expr) -> Type:
        """The static type that an annotation spells."""
        with self.at(annotation):
            return type_from_expression(self.environment.type_of(annotation), self.environment)

    def retype(self, value: Value, type_: Type) -> Value:
        """A narrower view of a value, after a test of it."""
        if value.type.ir == type_.ir:
            return Value(value.ssa, type_)
        if type_ is NONE:
            return self.constant(None)
        return self.make(operations.UncheckedCast, [value.ssa], type_)

    def convert(self, value: Value, wanted: Type) -> Value:
        """The value as one of the wanted type, by TorchScript's implicit conversions; CompileError if there is none."""
        found = self.try_convert(value, wanted)
        if found is None:
            self.refuse(f"a {wanted} is needed here, this is a {value.type}", help=_advice(value.type, wanted))
        return found

    def try_convert(self, value: Value, wanted: Type) -> Value | None:
        """As `convert`, None where it is impossible."""
        type_ = value.type
        if type_ is wanted:
            return value
        if is_subtype(type_, wanted):
            return self._widen(value, wanted)
        if wanted.kind in ("Optional", "Union"):
            for member in wanted.args:
                inner = self.try_convert(value, member)
                if inner is not None:
                    return self._widen(inner, wanted)
            return None
        if wanted.kind == "List":
            return self._convert_list(value, wanted)
        if wanted.kind == "Dict" and type_.kind == "Dict":
            return self._convert_dict(value, wanted)
        if wanted.is_tuple and type_.is_tuple and len(type_.args) == len(wanted.args):
            return self._convert_tuple(value, wanted)
        rule = _IMPLICIT.get((type_, wanted))
        if rule is None:
            return None
        return constants.folded(self, value, wanted) or self.overload(rule, [value], wanted)

    def _widen(self, value: Value, wanted: Type) -> Value | None:
        if value.type.ir == wanted.ir:
            return Value(value.ssa, wanted)
        if value.type.is_tuple and wanted.is_tuple:
            return self._convert_tuple(value, wanted)
        return self.make(operations.Derefine, [value.ssa], wanted)

    def _convert_tuple(self, value: Value, wanted: Type) -> Value | None:
        parts = [self.try_convert(v, t) for v, t in zip(self.unpack_tuple(value), wanted.args, strict=True)]
        found = [v for v in parts if v is not None]
        if len(found) < len(parts):
            return None
        return self.make(operations.TupleConstruct, [v.ssa for v in found], wanted)

    def _convert_list(self, value: Value, wanted: Type) -> Value | None:
        if is_empty_list(value):
            return self.make(operations.ListConstruct, [], wanted)
        if wanted.count and value.type is INT:
            return self.list_value([value] * wanted.count, INT)
        if value.type.is_tuple:
            parts = [self.try_convert(v, wanted.element) for v in self.unpack_tuple(value)]
        elif value.type.kind == "List" and value.type.element.ir == wanted.element.ir:
            return Value(value.ssa, wanted)
        else:
            made = made_by(value, operations.ListConstruct)
            if made is None or value.type.kind != "List":
                return None
            parts = [self.try_convert(Value(v, value.type.element), wanted.element) for v in made.operands]
        found = [v for v in parts if v is not None]
        return self.list_value(found, wanted.element) if len(found) == len(parts) else None

    def _convert_dict(self, value: Value, wanted: Type) -> Value | None:
        made = made_by(value, operations.DictConstruct)
        if made is None or (made.operands and value.type.args[0] is not wanted.args[0]):
            return None
        half = len(made.operands) // 2
        parts = [self.try_convert(Value(v, value.type.args[1]), wanted.args[1]) for v in made.operands[half:]]
        found = [v.ssa for v in parts if v is not None]
        if len(found) < len(parts):
            return None
        return self.make(operations.DictConstruct, [*made.operands[:half], *found], wanted)

    # ------ tuples and lists

    def unpack_tuple(self, value: Value) -> list[Value]:
        """The elements of a tuple."""
        made = made_by(value, operations.TupleConstruct)
        if made is not None:
            return [Value(v, t) for v, t in zip(made.operands, value.type.args, strict=True)]
        created = operations.TupleUnpack.create(operands=[value.ssa], result_types=[t.ir for t in value.type.args])
        return [Value(v, t) for v, t in zip(self.add(created).results, value.type.args, strict=True)]

    def list_value(self, elements: Sequence[Value], element: Type = TENSOR) -> Value:
        """A new list."""
        return self.make(operations.ListConstruct, [v.ssa for v in elements], list_of(element))

    def tuple_value(self, elements: Sequence[Value]) -> Value:
        """A new tuple."""
        return self.make(operations.TupleConstruct, [v.ssa for v in elements], tuple_of([v.type for v in elements]))

    # ------ scopes

    @contextmanager
    def inside(self, scope: Scope) -> Iterator[Scope]:
        """Names and operations go to this scope meanwhile."""
        before, self.scope = self.scope, scope
        try:
            yield scope
        finally:
            self.scope = before

    def nested(self, block: Block | None = None) -> Scope:
        """A new scope inside the current one, to be entered with `inside`."""
        return Scope(block if block is not None else Block(), self.scope)

    def bind(self, name: str, binding: Any) -> None:
        self.scope.names[name] = binding
        self.scope.refined.pop(name, None)

    def refine(self, name: str, type_: Type) -> None:
        """From here on, in this scope, the name is known to hold that type."""
        before = self.scope.find(name)
        if isinstance(before, Value) and before.type is not type_:
            original = self.scope.refined.get(name, (before, before))[0]
            view = self.retype(before, type_)
            self.scope.names[name] = view
            self.scope.refined[name] = (original, view)


_AN = re.compile(r"\ba (?=(?:int|Any|Optional)\b)")
"""Where a type's name asks for the other article."""

_BINDINGS = {
    "Local": "a function inside a function", "Namespace": "a module", "OpName": "an op", "Builtin": "a built-in function",
}  # fmt: skip

_RESULTS: dict[str, Type] = {"bool": BOOL, "int": INT, "float": FLOAT, "Tensor": TENSOR}


def _implicit() -> dict[tuple[Type, Type], str]:
    from stepwell.compiler.frontends.language.static_types import DEVICE, NUMBER, STRING

    return {
        (TENSOR, INT): "aten::IntImplicit",
        (TENSOR, FLOAT): "aten::FloatImplicit",
        (TENSOR, NUMBER): "aten::ScalarImplicit",
        (INT, FLOAT): "aten::Float.int",
        (BOOL, INT): "aten::Int.bool",
        (BOOL, FLOAT): "aten::Float.bool",
        (NUMBER, FLOAT): "aten::Float.Scalar",
        (NUMBER, INT): "aten::Int.Scalar",
        (STRING, DEVICE): "aten::device",
    }


_IMPLICIT = _implicit()


def _advice(type_: Type, wanted: Type) -> str | None:
    if type_.kind == "Optional" and is_subtype(type_.element, wanted):
        return "it may be None: test `is not None` first (copy an attribute to a local name before the test)"
    if type_ is ANY:
        return "test its type with isinstance first"
    return None


def described(node: ast.AST) -> str:
    """What a message calls a construct."""
    return _NAMES.get(type(node), type(node).__name__.lower())


_NAMES: dict[type[ast.AST], str] = {
    ast.Lambda: "a lambda outside a call", ast.Await: "await", ast.Yield: "yield", ast.YieldFrom: "yield from",
    ast.Set: "a set display", ast.SetComp: "a set comprehension", ast.GeneratorExp: "a generator expression here",
    ast.Try: "try", ast.Match: "match", ast.ClassDef: "a class inside a function", ast.Global: "global",
    ast.Nonlocal: "nonlocal", ast.Import: "an import inside a function",
    ast.ImportFrom: "an import inside a function", ast.AsyncFor: "async for", ast.AsyncWith: "async with",
}  # fmt: skip
