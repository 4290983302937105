"""Declared ops under abstract execution: evaluated now, or emitted; views, writes and lists by their schemas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from xdsl.ir import SSAValue

from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.builder import Value, coerce, facts
from stepwell.dialects.torch.declare import OPS, Declaration, ScalarInfo, TensorInfo
from stepwell.dialects.torch.schema import Type
from stepwell.dialects.torch.sizes import Dim, Size
from stepwell.lowering.torch.specialize import dynamic_lists, numbers, texts
from stepwell.lowering.torch.specialize.strides import shares_storage
from stepwell.lowering.torch.specialize.tensors import functional, read, resolve, view, write
from stepwell.lowering.torch.specialize.type_tests import is_instance
from stepwell.lowering.torch.specialize.values import (
    UNDEFINED,
    Abstract,
    CannotSpecialize,
    DictRef,
    DynamicList,
    Format,
    ListRef,
    ObjectRef,
    Path,
    Relation,
    TensorRef,
    WritesTensors,
    new_list,
    new_tensor,
)

if TYPE_CHECKING:
    from stepwell.lowering.torch.specialize.execute import Executor


def run_declared(executor: Executor, declaration: Declaration, arguments: list[Abstract], path: Path) -> Any:
    """The abstract result(s) of one call, its arguments in schema order."""
    schema = declaration.schema
    if any(a is UNDEFINED for a in arguments):
        return UNDEFINED if len(schema.returns) == 1 else tuple([UNDEFINED] * len(schema.returns))
    if schema.qualified_name == "prim::isinstance":
        return is_instance(path, arguments[0], arguments[1])
    if any(_is_dynamic_list(path, a) for a in arguments):
        return dynamic_lists.run(declaration, arguments, path)
    if _mutates_container(declaration):
        return _mutate(path, declaration, arguments)
    if schema.mutates:
        return _write(path, declaration, arguments)
    if schema.name == "__getitem__" and isinstance(arguments[0], ListRef) and isinstance(arguments[1], Dim):
        return dynamic_lists.run(declaration, arguments, path)
    if _is_container_op(declaration, arguments):
        return _evaluate(path, declaration, arguments)
    if declaration.evaluate_only and not any(isinstance(a, TensorRef) for a in arguments):
        return _evaluate(path, declaration, arguments)
    if declaration.is_view and isinstance(arguments[0], TensorRef):
        return _view(path, declaration, arguments)
    if declaration.updates is not None:
        return _update(executor, declaration, arguments, path)
    return emit(path, declaration, arguments)


# ------ emission


def emit(path: Path, declaration: Declaration, arguments: Sequence[Abstract]) -> Any:
    """Append the op to the contract (or fold it) and wrap what it gives."""
    formals = declaration.schema.arguments
    plain = [argument(path, a, f.type) for a, f in zip(arguments, formals, strict=True)]
    if declaration.schema.qualified_name in numbers.READERS:
        element = numbers.read(path, declaration, plain[0])
        if element is not None:
            return element
    result = path.builder.emit(declaration, plain)
    note_relation(path, declaration, plain, result)
    numbers.follow(path, declaration, plain, result)
    return wrap(path, result)


def argument(path: Path, value: Abstract, formal: Type) -> Any:
    """An abstract value as the contract builder takes it."""
    if isinstance(value, TensorRef):
        contents = read(path, value)
        return _implicit(path, contents, formal)
    if isinstance(value, ListRef):
        inner = Type(formal.base)
        return [argument(path, v, inner) for v in known_list(path, value)]
    if isinstance(value, tuple):
        inner = Type(formal.base)
        return [argument(path, v, inner) for v in value]
    if isinstance(value, Dim):
        return resolve(path, value)
    if isinstance(value, (DictRef, ObjectRef)):
        raise CannotSpecialize("a dict or an object is passed to a tensor op")
    return value


def _implicit(path: Path, contents: Value, formal: Type) -> Any:
    """A one-element tensor where the schema wants a number (TorchScript's implicit conversions)."""
    conversion = {"int": "aten::IntImplicit", "float": "aten::FloatImplicit", "Scalar": "aten::ScalarImplicit"}
    if formal.base in conversion and not formal.is_list:
        (reader,) = OPS.overloads(conversion[formal.base])
        return emit(path, reader, [contents])
    return contents


def operand(path: Path, value: Abstract) -> SSAValue:
    """An abstract scalar as an SSA value of the contract."""
    if isinstance(value, TensorRef):
        return read(path, value).ssa
    if isinstance(value, Value):
        return value.ssa
    return path.builder.materialize(value)


def wrap(path: Path, result: Any) -> Abstract:
    """What the builder gives, as abstract values: tensors become objects of their own."""
    if isinstance(result, Value) and isinstance(result.info, TensorInfo):
        return new_tensor(path, result)
    if isinstance(result, tuple):
        return tuple(wrap(path, r) for r in result)
    if isinstance(result, list):
        return new_list(path, [wrap(path, r) for r in result])
    return result


_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}


def note_relation(path: Path, declaration: Declaration, arguments: Sequence[Any], result: Any) -> None:
    """Remember what a run-time bool compares, for decisions and facts further on."""
    if not (isinstance(result, Value) and isinstance(result.info, ScalarInfo) and result.info.kind == "bool"):
        return
    name = declaration.schema.name
    if name in _COMPARISONS and all(isinstance(a, (int, Dim)) for a in arguments[:2]):
        path.relations[result.ssa] = Relation(name, arguments[0], arguments[1])
    elif name == "__not__" and isinstance(arguments[0], Value):
        path.relations[result.ssa] = Relation("not", arguments[0])
    elif name in ("__and__", "__or__") and all(isinstance(a, Value) for a in arguments[:2]):
        path.relations[result.ssa] = Relation(name.strip("_"), arguments[0], arguments[1])
    elif name == "Bool" and isinstance(arguments[0], Dim):
        path.relations[result.ssa] = Relation("ne", arguments[0], 0)


# ------ views and writes


def _view(path: Path, declaration: Declaration, arguments: list[Abstract]) -> Any:
    """Another way into the same storage, or a copy where torch copies (reshape of a transposed tensor)."""
    ref, rest = arguments[0], arguments[1:]
    formals = declaration.schema.arguments[1:]
    plain = [coerce(argument(path, a, f.type), f.type) for a, f in zip(rest, formals, strict=True)]
    if declaration.schema.returns[0].is_list:
        return _views(path, declaration, ref, plain)
    seen = view(path, declaration, ref, plain)
    if declaration.copies is not None and declaration.copies(*(facts(a) for a in [read(path, ref), *plain])):
        return emit(path, declaration, arguments)
    # Shape rules run now, so that what torch refuses is refused here and not at the first read.
    after = read(path, seen)
    if declaration.if_contiguous and not shares_storage(path, ref, after.sizes, declaration.schema.name):
        return new_tensor(path, after)
    return ref if declaration.schema.name in _ITSELF else seen


_ITSELF = {"to", "type_as", "contiguous", "cpu"}
"""Ops whose result, where it is no copy, is their argument, the same object."""


def _views(path: Path, declaration: Declaration, ref: TensorRef, plain: list[Any]) -> ListRef:
    """Several views at once (split, unbind): what the op expands into, taken of the object instead of its contents."""
    assert declaration.expand is not None
    taken = declaration.expand(_Taken(path, ref), read(path, ref), *plain)
    return new_list(path, list(taken))


@dataclass
class _Taken:
    """Stands for the builder in the expansion of an op that gives several views: its slices are references."""

    path: Path
    ref: TensorRef

    def slice(self, _: Value, dim: int, start: Size, end: Size) -> TensorRef:
        return self._view("aten::slice.Tensor", [dim, start, end, 1])

    def select(self, _: Value, dim: int, index: Size) -> TensorRef:
        return self._view("aten::select.int", [dim, index])

    def _view(self, name: str, arguments: list[Any]) -> TensorRef:
        declaration = OPS.find(name)
        assert declaration is not None
        seen = view(self.path, declaration, self.ref, arguments)
        read(self.path, seen)
        return seen


def _write(path: Path, declaration: Declaration, arguments: list[Abstract]) -> Any:
    """An in-place op: the functional op's result, stored through the first argument."""
    target = arguments[0]
    if not isinstance(target, TensorRef):
        raise CannotSpecialize(f"{declaration.schema.qualified_name} writes something that is no tensor")
    base = functional(declaration)
    if base.is_view:
        return _reshape_in_place(path, base, target, arguments)
    formals = base.schema.arguments
    plain = [argument(path, a, f.type) for a, f in zip(arguments, formals, strict=True)]
    write(path, target, path.builder.emit(base, plain))
    return target


def _reshape_in_place(path: Path, base: Declaration, target: TensorRef, arguments: list[Abstract]) -> TensorRef:
    """The tensor object itself becomes the view: `x.unsqueeze_(0)`."""
    formals = base.schema.arguments
    plain = [coerce(argument(path, a, f.type), f.type) for a, f in zip(arguments[1:], formals[1:], strict=True)]
    seen = view(path, base, target, plain)
    read(path, seen)
    path.store.reshaped[target] = seen.chain
    return target


def _update(executor: Executor, declaration: Declaration, arguments: list[Abstract], path: Path) -> Any:
    """An op that also writes arguments, though its schema does not say so: running statistics."""
    assert declaration.updates is not None
    formals = declaration.schema.arguments
    plain = [argument(path, a, f.type) for a, f in zip(arguments, formals, strict=True)]
    updates = declaration.updates(path.builder, *plain)
    if updates and not executor.strict:
        raise WritesTensors
    result = emit(path, declaration, arguments)
    for position, value in updates.items():
        write(path, arguments[position], value)
    return result


# ------ containers


def _is_dynamic_list(path: Path, value: Abstract) -> bool:
    return isinstance(value, ListRef) and isinstance(path.store.lists.get(value.number), DynamicList)


def known_list(path: Path, ref: ListRef) -> list[Abstract]:
    """The elements of a list whose length is known."""
    found = path.store.lists[ref.number]
    if isinstance(found, DynamicList):
        raise CannotSpecialize("a list whose length is known at run time only is used where its elements must be known")
    return found


def elements(path: Path, value: Abstract) -> Sequence[Abstract]:
    """The elements of a tuple or known list."""
    return value if isinstance(value, tuple) else known_list(path, value)


def known(value: Abstract, what: str) -> Any:
    """A value that must be known when compiling. CannotSpecialize otherwise."""
    if isinstance(value, (Value, Dim, Format)):
        raise CannotSpecialize(f"{what} is known at run time only")
    return value


def _mutates_container(declaration: Declaration) -> bool:
    return any(
        a.type.written and (a.type.is_list or a.type.base in ("Dict", "t")) for a in declaration.schema.arguments
    )


def _is_container_op(declaration: Declaration, arguments: Sequence[Abstract]) -> bool:
    """Ops on generic lists and dicts (schema variables): computed on the known container."""
    makes_tensor = any(r.base == "Tensor" and not r.is_list for r in declaration.schema.returns)
    return (
        bool(arguments)
        and not makes_tensor
        and isinstance(arguments[0], (ListRef, DictRef))
        and (declaration.schema.arguments[0].type.base in ("t", "Dict", "K") or declaration.lower is None)
        and declaration.expand is None
    )


def _mutate(path: Path, declaration: Declaration, arguments: list[Abstract]) -> Any:
    """append, insert, pop, ...: the declaration's reference works on a Python copy, which replaces the list."""
    target = arguments[0]
    values = [_python(path, a) for a in arguments]
    if any(
        isinstance(v, (Dim, Value))
        for v in values[1:]
        if declaration.schema.name in ("insert", "pop", "_set_item") and v is values[1]
    ):
        return dynamic_lists.run(declaration, arguments, path)
    result = _guarded(declaration, values)
    if isinstance(target, ListRef):
        path.store.lists[target.number] = values[0]
    else:
        path.store.dicts[target.number] = values[0]
    if result is None and declaration.schema.returns:
        return target
    return target if result is values[0] else _abstract(path, result)


def _evaluate(path: Path, declaration: Declaration, arguments: list[Abstract]) -> Any:
    """Compute now: strings, known lists and dicts. A run-time value where the op needs a known one is refused."""
    if texts.takes_text(declaration) and any(texts.is_open(path, a) for a in arguments):
        return texts.run(declaration, arguments, path)
    values = [_python(path, a) for a in arguments]
    return _abstract(path, _guarded(declaration, values))


def _guarded(declaration: Declaration, values: Sequence[Any]) -> Any:
    from stepwell.dialects.torch.declare import RuntimeFault

    formals = declaration.schema.arguments
    values = [
        v if f is None or isinstance(v, (list, dict)) else coerce(v, f.type) for v, f in zip_longest(values, formals)
    ]
    try:
        return declaration.reference(*values)
    except (IndexError, KeyError, ValueError, ZeroDivisionError, OverflowError) as error:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        raise RuntimeFault(text, type(error).__name__) from None
    except TypeError as error:
        raise CannotSpecialize(
            f"{declaration.schema.qualified_name} on values known at run time only: {error}"
        ) from None


def _python(path: Path, value: Abstract) -> Any:
    """Containers as Python's own (their elements stay abstract); everything else as it is."""
    if isinstance(value, ListRef):
        return list(known_list(path, value))
    if isinstance(value, DictRef):
        return dict(path.store.dicts[value.number])
    return value


def _abstract(path: Path, value: Any) -> Abstract:
    if isinstance(value, list):
        return new_list(path, [_abstract(path, v) for v in value])
    if isinstance(value, dict):
        from stepwell.lowering.torch.specialize.values import fresh_number

        number = fresh_number()
        path.store.dicts[number] = dict(value)
        return DictRef(number)
    if isinstance(value, DType):
        return value.code
    return value


def format_text(path: Path, arguments: list[Abstract]) -> Any:
    """str.format: now if all fields are known, else a text with run-time fields."""
    declaration = OPS.find("aten::format")
    assert declaration is not None
    return _evaluate(path, declaration, arguments)
