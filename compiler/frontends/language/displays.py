"""Names, literals, displays of tuples, lists and dicts, comprehensions and formatted strings."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from stepwell.compiler.frontends.language.bindings import Items, Local, Unusable, Value
from stepwell.compiler.frontends.language.builtins import BUILTINS
from stepwell.compiler.frontends.language.conditions import condition
from stepwell.compiler.frontends.language.control import branch
from stepwell.compiler.frontends.language.loops import plan, run
from stepwell.compiler.frontends.language.lowering import Lowering, expression_rule
from stepwell.compiler.frontends.language.names import Builtin, Literal
from stepwell.compiler.frontends.language.ops import call_op
from stepwell.compiler.frontends.language.static_types import (
    FLOAT,
    INT,
    STRING,
    TENSOR,
    Type,
    dict_of,
    join,
    list_of,
    without_none,
)
from stepwell.dialects.torch import operations


@expression_rule(ast.Constant)
def _constant(f: Lowering, node: ast.Constant, want: Type | None) -> Any:
    if isinstance(node.value, (complex, bytes)):
        f.unsupported(f"{type(node.value).__name__} literals are not supported")
    return Literal(node.value)


@expression_rule(ast.Name)
def _name(f: Lowering, node: ast.Name, want: Type | None) -> Any:
    found = f.scope.find(node.id)
    if found is None:
        found = f.environment.lookup(node.id)
    if found is None and node.id in BUILTINS:
        found = Builtin(node.id)
    if found is None:
        f.refuse(f"{node.id} is not defined")
    if isinstance(found, Unusable):
        f.refuse(found.message, help=found.help)
    return found


@expression_rule(ast.NamedExpr)
def _named(f: Lowering, node: ast.NamedExpr, want: Type | None) -> Value:
    value = f.value(node.value, want)
    f.bind(node.target.id, value)
    return value


@expression_rule(ast.Lambda)
def _lambda(f: Lowering, node: ast.Lambda, want: Type | None) -> Local:
    return Local(node)


# ------ displays


@expression_rule(ast.Tuple)
def _tuple(f: Lowering, node: ast.Tuple, want: Type | None) -> Items:
    wanted: Sequence[Type | None] = [None] * len(node.elts)
    if want is not None and want.is_tuple and len(want.args) == len(node.elts):
        wanted = want.args
    return Items(elements(f, node.elts, wanted))


def elements(f: Lowering, nodes: Sequence[ast.expr], wanted: Sequence[Type | None] | None = None) -> list[Any]:
    """The bindings of a list of expressions; starred tuples are spread."""
    found: list[Any] = []
    for position, node in enumerate(nodes):
        if isinstance(node, ast.Starred):
            found.extend(_spread(f, f.expression(node.value)))
        else:
            found.append(f.expression(node, wanted[position] if wanted is not None else None))
    return found


def _spread(f: Lowering, starred: Any) -> list[Any]:
    steps = plan(f, starred)
    if steps.known is None:
        f.unsupported("only tuples and what has a known length can be spread with *")
    return [steps.element(f.constant(n)) for n in range(steps.known)]


@expression_rule(ast.List)
def _list(f: Lowering, node: ast.List, want: Type | None) -> Value:
    inner = _element_type(want)
    parts = [f.materialize(b, inner) for b in elements(f, node.elts, [inner] * len(node.elts))]
    return make_list(f, parts, inner)


def _element_type(want: Type | None) -> Type | None:
    want = without_none(want) if want is not None else None
    return want.element if want is not None and want.kind == "List" else None


def make_list(f: Lowering, parts: Sequence[Value], inner: Type | None = None) -> Value:
    """A new list; without a given element type that of the elements, `[]` being a list of tensors."""
    if inner is None:
        inner = _common(f, parts)
    return f.list_value([f.convert(p, inner) for p in parts], inner)


def _common(f: Lowering, parts: Sequence[Value]) -> Type:
    inner = parts[0].type if parts else TENSOR
    for part in parts[1:]:
        wider = join(inner, part.type)
        if wider is None and {inner, part.type} == {INT, FLOAT}:
            wider = FLOAT
        if wider is None:
            f.refuse(f"the elements of a list have one type; these are {inner} and {part.type}")
        inner = wider
    return inner


@expression_rule(ast.Dict)
def _dict(f: Lowering, node: ast.Dict, want: Type | None) -> Value:
    wanted = without_none(want).args if want is not None and without_none(want).kind == "Dict" else (None, None)
    if None in node.keys:
        f.unsupported("** in a dict display is not supported")
    keys = [f.value(k, wanted[0]) for k in node.keys if k is not None]
    values = [f.value(v, wanted[1]) for v in node.values]
    key = wanted[0] or (keys[0].type if keys else STRING)
    inner = wanted[1] or _common(f, values)
    operands = [f.convert(k, key).ssa for k in keys] + [f.convert(v, inner).ssa for v in values]
    return f.make(operations.DictConstruct, operands, dict_of(key, inner))


# ------ comprehensions


@expression_rule(ast.ListComp, ast.GeneratorExp)
def _list_comprehension(f: Lowering, node: ast.ListComp | ast.GeneratorExp, want: Type | None) -> Value:
    static = _unrolled(f, node, _element_type(want))
    if static is not None:
        return static
    inner = _element_type(want)
    made: list[Value] = []

    def store() -> None:
        element = f.value(node.elt, inner)
        if not made:
            made.append(_at_start(f, outer, list_of(inner or element.type)))
        call_op(f, "aten::append", [made[0], element])

    outer = f.scope
    _generate(f, node.generators, store)
    return made[0] if made else f.list_value([], inner or TENSOR)


def _at_start(f: Lowering, outer: Any, type_: Type) -> Value:
    """An empty list made before the loop in whose body the type of its elements turns out."""
    with f.inside(outer):
        return f.make(operations.ListConstruct, [], type_)


def _unrolled(f: Lowering, node: ast.ListComp | ast.GeneratorExp, inner: Type | None) -> Value | None:
    """A comprehension over what has a known length, without a filter: a list display."""
    if len(node.generators) != 1 or node.generators[0].ifs:
        return None
    generator = node.generators[0]
    steps = plan(f, f.expression(generator.iter))
    if steps.known is None:
        return _looped(f, node, steps, inner)
    from stepwell.compiler.frontends.language.statements import assign

    parts: list[Value] = []
    with _own_names(f) as scope, f.inside(scope):
        for number in range(steps.known):
            assign(f, generator.target, steps.element(f.constant(number)))
            parts.append(f.value(node.elt, inner))
        return make_list(f, parts, inner)


def _looped(f: Lowering, node: Any, steps: Any, inner: Type | None) -> Value:
    from stepwell.compiler.frontends.language.statements import assign

    made: list[Value] = []
    outer = f.scope

    def body(element: Any) -> None:
        assign(f, node.generators[0].target, element)
        value = f.value(node.elt, inner)
        made[:] = [_at_start(f, outer, list_of(inner or value.type))]
        call_op(f, "aten::append", [made[0], value])

    run(f, steps, [], body)
    return made[0]


class _own_names:
    """A scope for the names of a comprehension, in the same block."""

    def __init__(self, f: Lowering) -> None:
        self.f = f

    def __enter__(self) -> Any:
        from stepwell.compiler.frontends.language.bindings import Scope

        return Scope(self.f.scope.block, self.f.scope, constants=self.f.scope.constants)

    def __exit__(self, *problem: object) -> None:
        pass


def _generate(f: Lowering, generators: Sequence[ast.comprehension], store: Callable[[], None]) -> None:
    """The nested loops and filters of a comprehension around `store`."""
    from stepwell.compiler.frontends.language.statements import assign

    if not generators:
        store()
        return
    generator = generators[0]

    def filtered(tests: Sequence[ast.expr]) -> None:
        if tests:
            branch(f, condition(f, tests[0]), lambda: filtered(tests[1:]), lambda: None)
        else:
            _generate(f, generators[1:], store)

    def body(element: Any) -> None:
        assign(f, generator.target, element)
        filtered(generator.ifs)

    with _own_names(f) as scope, f.inside(scope):
        run(f, plan(f, f.expression(generator.iter)), [], body)


@expression_rule(ast.DictComp)
def _dict_comprehension(f: Lowering, node: ast.DictComp, want: Type | None) -> Value:
    made: list[Value] = []
    outer = f.scope

    def store() -> None:
        key, value = f.value(node.key), f.value(node.value)
        if not made:
            with f.inside(outer):
                made.append(f.make(operations.DictConstruct, [], dict_of(key.type, value.type)))
        call_op(f, "aten::_set_item", [made[0], key, value])

    _generate(f, node.generators, store)
    return made[0] if made else f.make(operations.DictConstruct, [], want or dict_of(STRING, TENSOR))


# ------ formatted strings


@expression_rule(ast.JoinedStr)
def _formatted(f: Lowering, node: ast.JoinedStr, want: Type | None) -> Any:
    """`f"{x:.2f} is {y!r}"` is "{:.2f} is {!r}".format(x, y)."""
    template, values = "", []
    for part in node.values:
        if isinstance(part, ast.Constant):
            template += str(part.value).replace("{", "{{").replace("}", "}}")
            continue
        assert isinstance(part, ast.FormattedValue)
        template += "{" + _conversion(part.conversion) + _specification(f, part) + "}"
        values.append(f.value(part.value))
    return call_op(f, "aten::format", [f.constant(template), *values])


def _conversion(code: int) -> str:
    return "" if code < 0 else "!" + chr(code)


def _specification(f: Lowering, part: ast.FormattedValue) -> str:
    if part.format_spec is None:
        return ""
    assert isinstance(part.format_spec, ast.JoinedStr)
    texts = [str(p.value) for p in part.format_spec.values if isinstance(p, ast.Constant)]
    if len(texts) != len(part.format_spec.values):
        f.unsupported("a format specification is a constant", part)
    return ":" + "".join(texts)
