"""Subscripts: read, written, updated, deleted; on tensors, lists, strings, dicts, tuples and objects.

A tensor's subscripts become select, slice, unsqueeze and index, one after the other, as TorchScript has them.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stepwell.compiler.frontends.language.bindings import Items, Value, constant_of
from stepwell.compiler.frontends.language.lowering import Lowering, expression_rule
from stepwell.compiler.frontends.language.names import Literal
from stepwell.compiler.frontends.language.ops import call_op
from stepwell.compiler.frontends.language.static_types import (
    BOOL,
    FLOAT,
    INT,
    NONE,
    TENSOR,
    Type,
    is_subtype,
    list_of,
    optional_of,
)
from stepwell.dialects.torch import operations


@expression_rule(ast.Subscript)
def _subscript(f: Lowering, node: ast.Subscript, want: Type | None) -> Any:
    owner = f.expression(node.value)
    if isinstance(owner, Literal) and isinstance(owner.value, (tuple, list)):
        owner = Items([Literal(v) for v in owner.value])
    if isinstance(owner, Items):
        return _of_items(f, owner.items, node.slice)
    value = f.materialize(owner)
    if value.type is TENSOR:
        return index_tensor(f, value, _entries(node.slice))
    if value.type.is_tuple:
        return _of_tuple(f, value, node.slice)
    if value.type.kind == "Class":
        return _of_object(f, value, node.slice)
    return _of_sequence(f, value, node.slice)


def _of_sequence(f: Lowering, value: Value, index: ast.expr) -> Any:
    """Lists, strings and dicts."""
    if isinstance(index, ast.Slice):
        return call_op(f, "aten::slice", [value, *_bounds(f, index)])
    if value.type.kind == "Optional":
        f.refuse(f"a {value.type} has no items", help="test `is not None` first")
    if value.type.kind not in ("List", "Dict", "str"):
        f.refuse(f"a {value.type} has no items")
    return call_op(f, "aten::__getitem__", [value, _key(f, value, index)])


def _key(f: Lowering, value: Value, index: ast.expr) -> Value:
    return f.value(index, value.type.args[0]) if value.type.kind == "Dict" else f.value(index, INT)


def _bounds(f: Lowering, index: ast.Slice) -> list[Value]:
    """start, end and step of a slice."""
    parts = [f.value(e) if e is not None else f.constant(None) for e in (index.lower, index.upper)]
    parts = [_whole(f, p) for p in parts]
    return [*parts, _whole(f, f.value(index.step)) if index.step is not None else f.constant(1)]


def _whole(f: Lowering, value: Value) -> Value:
    return value if value.type is NONE or value.type.kind == "Optional" else f.convert(value, INT)


# ------ tuples


def _of_items(f: Lowering, items: Sequence[Any], index: ast.expr) -> Any:
    if isinstance(index, ast.Slice):
        return Items(list(items[_static_slice(f, index)]))
    position = constant_of(f.value(index))
    if position is None:
        return _of_sequence(f, f.convert(*_homogeneous(f, [f.materialize(i) for i in items])), index)
    return items[_inside(f, position, len(items))]


def _of_tuple(f: Lowering, value: Value, index: ast.expr) -> Any:
    if isinstance(index, ast.Slice):
        return Items(list(f.unpack_tuple(value)[_static_slice(f, index)]))
    position = constant_of(f.value(index))
    if position is None:
        return _of_sequence(f, f.convert(*_homogeneous(f, f.unpack_tuple(value))), index)
    return tuple_item(f, value, _inside(f, position, len(value.type.args)))


def tuple_item(f: Lowering, value: Value, position: int) -> Value:
    """One element of a tuple."""
    owner = value.ssa.owner
    if isinstance(owner, operations.TupleConstruct):
        return Value(owner.operands[position], value.type.args[position])
    return f.make(operations.TupleIndex, [value.ssa, f.constant(position).ssa], value.type.args[position])


def _homogeneous(f: Lowering, parts: Sequence[Value]) -> tuple[Value, Type]:
    """A tuple of equal types as a list, to be indexed by what is known at run time only."""
    if not parts or any(p.type is not parts[0].type for p in parts):
        f.refuse("a tuple of different types is indexed by constants only")
    return f.list_value(parts, parts[0].type), list_of(parts[0].type)


def _inside(f: Lowering, position: Any, length: int) -> int:
    if not isinstance(position, int) or not -length <= position < length:
        f.refuse(f"the index {position} is outside a tuple of {length}")
    return position % length


def _static_slice(f: Lowering, index: ast.Slice) -> slice:
    parts = [constant_of(f.value(e)) if e is not None else None for e in (index.lower, index.upper, index.step)]
    for part, given in zip(parts, (index.lower, index.upper, index.step), strict=True):
        if part is None and given is not None:
            f.refuse("a tuple is sliced by constants only")
    return slice(*parts)


def _of_object(f: Lowering, value: Value, index: ast.expr) -> Any:
    from stepwell.compiler.frontends.language.attributes import container_item
    from stepwell.compiler.frontends.language.functions import call_method

    if "__getitem__" in value.type.script_class.methods:
        return call_method(f, value, "__getitem__", [f.value(index)], {})
    return container_item(f, value, index)


# ------ tensors


def _entries(index: ast.expr) -> list[ast.expr]:
    return list(index.elts) if isinstance(index, ast.Tuple) else [index]


@dataclass
class _Advanced:
    """Tensors that remain after select, slice and unsqueeze: by dimension, from the front or from the end."""

    front: dict[int, Value]
    back: dict[int, Value]


def index_tensor(f: Lowering, tensor: Value, entries: Sequence[ast.expr]) -> Value:
    """`tensor[entries]`."""
    view, advanced = _basic(f, tensor, entries)
    if not advanced.front and not advanced.back:
        return view
    found: Value = call_op(f, "aten::index", [view, _index_list(f, view, advanced)])
    return found


def _basic(f: Lowering, tensor: Value, entries: Sequence[ast.expr]) -> tuple[Value, _Advanced]:
    """Everything but the tensors among the subscripts: a view."""
    indices = [e if isinstance(e, ast.Slice) else _index(f, e) for e in entries]
    advanced = _Advanced({}, {})
    after: int | None = None
    dim = 0
    for position, entry in enumerate(indices):
        if entry is ...:
            if after is not None:
                f.refuse("a subscript has one ... at most")
            after = sum(_consumes(i) for i in indices[position + 1 :])
            continue
        if after is not None:
            after -= _consumes(entry)
            dim = -(after + 1)
        if isinstance(entry, ast.Slice):
            tensor = _slice(f, tensor, dim, entry)
        elif entry.type is NONE:
            tensor = call_op(f, "aten::unsqueeze", [tensor, f.constant(dim)])
        elif entry.type is INT:
            tensor = call_op(f, "aten::select", [tensor, f.constant(dim), entry])
            continue
        elif after is not None:
            advanced.back[dim] = entry
        else:
            advanced.front[dim] = entry
        dim += after is None
    return tensor, advanced


def _consumes(entry: Any) -> int:
    """How many dimensions of the tensor a subscript takes up."""
    return 0 if isinstance(entry, Value) and entry.type is NONE else 1


def _slice(f: Lowering, tensor: Value, dim: int, entry: ast.Slice) -> Value:
    if entry.lower is None and entry.upper is None and entry.step is None:
        return tensor
    return f.materialize(call_op(f, "aten::slice", [tensor, f.constant(dim), *_bounds(f, entry)]))


def _index(f: Lowering, entry: ast.expr) -> Any:
    """A subscript's value: an int, None, a tensor; or the ellipsis."""
    found = f.expression(entry)
    if isinstance(found, Literal) and found.value is ...:
        return ...
    value = f.materialize(found)
    if value.type.kind == "List":
        value = f.materialize(call_op(f, "aten::tensor", [value]))
    if value.type is BOOL:
        f.unsupported("a tensor cannot be indexed by a bool", entry, help="index by a tensor of bools, or by None")
    if value.type.kind == "Enum":
        value = Value(value.ssa, INT)
    if value.type not in (INT, NONE) and not is_subtype(value.type, optional_of(TENSOR)):
        f.refuse(f"a tensor cannot be indexed by a {value.type}", entry)
    return value


def _index_list(f: Lowering, tensor: Value, found: _Advanced) -> Value:
    """The list of indices that aten::index takes: one per dimension, None for those left alone."""
    element = optional_of(TENSOR)
    front = _holes(f, found.front, range(max(found.front, default=-1) + 1), bool(found.back))
    if not found.back:
        return front
    back = _holes(f, found.back, range(min(found.back), 0), True)
    rank = call_op(f, "aten::dim", [tensor])
    between = f.overload("aten::sub.int", [rank, f.constant(len(front.ssa.owner.operands) - min(found.back))])  # type: ignore[union-attr]
    none = f.list_value([f.convert(f.constant(None), element)], element)
    hole = f.overload("aten::mul.left_t", [none, between], list_of(element))
    joined = f.overload("aten::add.t", [front, hole], list_of(element))
    return f.overload("aten::add.t", [joined, back], list_of(element))


def _holes(f: Lowering, indices: dict[int, Value], dims: range, optional: bool) -> Value:
    """The indices of these dimensions; a list of optionals where one is missing."""
    parts = [indices.get(d) for d in dims]
    if not optional and all(p is not None and p.type is TENSOR for p in parts):
        return f.list_value([p for p in parts if p is not None], TENSOR)
    element = optional_of(TENSOR)
    return f.list_value([f.convert(p if p is not None else f.constant(None), element) for p in parts], element)


# ------ writing


def assign_item(f: Lowering, target: ast.Subscript, value: Value) -> None:
    """`owner[...] = value`."""
    owner = f.value(target.value)
    if owner.type is TENSOR:
        _assign_tensor(f, owner, _entries(target.slice), value)
    elif owner.type.kind == "Class":
        from stepwell.compiler.frontends.language.functions import call_method

        call_method(f, owner, "__setitem__", [f.value(target.slice), value], {})
    elif isinstance(target.slice, ast.Slice):
        f.unsupported("assignment to a slice of a list is not supported")
    elif owner.type.kind == "List":
        call_op(f, "aten::_set_item", [owner, f.value(target.slice, INT), value])
    elif owner.type.kind == "Dict":
        key = f.value(target.slice, owner.type.args[0])
        call_op(f, "aten::_set_item", [owner, key, f.convert(value, owner.type.args[1])])
    else:
        f.refuse(f"items of a {owner.type} cannot be assigned")


def _assign_tensor(f: Lowering, owner: Value, entries: Sequence[ast.expr], value: Value) -> None:
    view, advanced = _basic(f, owner, entries)
    if advanced.front or advanced.back:
        indices = _index_list(f, view, advanced)
        call_op(f, "aten::index_put_", [view, indices, _as_tensor(f, value, view)])
    elif value.type is TENSOR:
        call_op(f, "aten::copy_", [view, value])
    else:
        call_op(f, "aten::fill_", [view, value])


def _as_tensor(f: Lowering, value: Value, like: Value) -> Value:
    if value.type is TENSOR:
        return value
    if value.type not in (INT, FLOAT, BOOL) and value.type.kind != "number":
        f.refuse(f"a {value.type} cannot be stored in a tensor")
    dtype = call_op(f, "prim::dtype", [like])
    return f.materialize(call_op(f, "aten::scalar_tensor", [value], {"dtype": dtype}))


def augment_item(f: Lowering, target: ast.Subscript, operator: type[ast.operator], operand: ast.expr) -> None:
    """`owner[...] op= operand`."""
    from stepwell.compiler.frontends.language.operators import binary, update

    owner = f.value(target.value)
    if owner.type is not TENSOR:
        _augment_entry(f, owner, target, operator, operand)
        return
    view, advanced = _basic(f, owner, _entries(target.slice))
    if not advanced.front and not advanced.back:
        update(f, operator, view, f.expression(operand))
        return
    indices = _index_list(f, view, advanced)
    before = call_op(f, "aten::index", [view, indices])
    after = f.materialize(binary(f, operator, before, f.expression(operand)))
    call_op(f, "aten::index_put_", [view, indices, after])


def _augment_entry(
    f: Lowering, owner: Value, target: ast.Subscript, operator: type[ast.operator], operand: ast.expr
) -> None:
    """Of a list or dict: the key is evaluated once."""
    from stepwell.compiler.frontends.language.operators import update

    if owner.type.kind not in ("List", "Dict") or isinstance(target.slice, ast.Slice):
        f.unsupported(f"items of a {owner.type} cannot be updated in place")
    key = _key(f, owner, target.slice)
    before = call_op(f, "aten::__getitem__", [owner, key])
    after = update(f, operator, before, f.expression(operand))
    if after is not None:
        element = owner.type.args[-1]
        call_op(f, "aten::_set_item", [owner, key, f.convert(f.materialize(after), element)])


def delete_item(f: Lowering, target: ast.Subscript) -> None:
    """`del owner[key]`."""
    owner = f.value(target.value)
    if owner.type.kind not in ("List", "Dict") or isinstance(target.slice, ast.Slice):
        f.unsupported(f"items of a {owner.type} cannot be deleted")
    call_op(f, "aten::Delete", [owner, _key(f, owner, target.slice)])
